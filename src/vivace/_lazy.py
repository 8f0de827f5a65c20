"""Public names that are imported when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any


def first_use(package: str, homes: Mapping[str, str], name: str) -> Any:
    """What ``__getattr__`` of a package answers; from then on the package has the name itself.

    Parameters
    ----------
    package
        Its dotted name.
    homes
        Public name to the module that defines it; "" for submodules.
    name
        What is asked for.

    Raises
    ------
    AttributeError
        If the package has no such name.
    """
    if name not in homes:
        msg = f"module '{package}' has no attribute {name!r}"
        raise AttributeError(msg)
    home = homes[name]
    value = getattr(import_module(home), name) if home else import_module(f"{package}.{name}")
    setattr(sys.modules[package], name, value)
    return value
