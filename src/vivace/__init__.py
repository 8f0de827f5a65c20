"""Fast variational inference for single-cell data, tested against its formulas.

Public names are imported when they are first used, so that ``import vivace`` stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vivace._lazy import first_use
from vivace.models import HOMES

if TYPE_CHECKING:
    from vivace import datasets, errors, likelihoods, metrics, modules, spatial
    from vivace._settings import settings
    from vivace.data.collection import open_cells
    from vivace.fits.stability import stability
    from vivace.fits.tune import tune
    from vivace.models import *  # noqa: F403 - the one list of the models stands there
    from vivace.models import import_model, load

_LAZY = {
    **HOMES,
    "import_model": "vivace.models.table",
    "load": "vivace.models.table",
    "open_cells": "vivace.data.collection",
    "settings": "vivace._settings",
    "stability": "vivace.fits.stability",
    "tune": "vivace.fits.tune",
    "datasets": "",
    "errors": "",
    "likelihoods": "",
    "metrics": "",
    "modules": "",
    "spatial": "",
}
"""Public name to the module that defines it; "" for submodules."""

__all__ = [
    *HOMES,
    "datasets",
    "errors",
    "import_model",
    "likelihoods",
    "load",
    "metrics",
    "modules",
    "open_cells",
    "settings",
    "spatial",
    "stability",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("vivace")
    return first_use(__name__, _LAZY, name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
