"""Fast variational inference for single-cell data, tested against its formulas.

Public names are imported when they are first used, so that ``import vivace`` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vivace import datasets, errors, likelihoods, metrics, modules
    from vivace._settings import settings
    from vivace.data.collection import open_cells
    from vivace.models import (
        SCVI,
        SPLICEVI,
        CondSCVI,
        ContrastiveVI,
        DestVI,
        JointEmbeddingSCVI,
        SysVI,
        import_model,
        load,
    )

_LAZY = {
    "CondSCVI": "vivace.models.condscvi",
    "DestVI": "vivace.models.destvi",
    "ContrastiveVI": "vivace.models.contrastivevi",
    "JointEmbeddingSCVI": "vivace.models.joint_embedding",
    "SCVI": "vivace.models.scvi",
    "SPLICEVI": "vivace.models.splicevi",
    "SysVI": "vivace.models.sysvi",
    "import_model": "vivace.models.table",
    "load": "vivace.models.table",
    "open_cells": "vivace.data.collection",
    "settings": "vivace._settings",
    "datasets": "",
    "errors": "",
    "likelihoods": "",
    "metrics": "",
    "modules": "",
}
"""Public name to the module that defines it; "" for submodules."""

__all__ = [
    "SCVI",
    "SPLICEVI",
    "CondSCVI",
    "ContrastiveVI",
    "DestVI",
    "JointEmbeddingSCVI",
    "SysVI",
    "datasets",
    "errors",
    "import_model",
    "likelihoods",
    "load",
    "metrics",
    "modules",
    "open_cells",
    "settings",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("vivace")
    if name not in _LAZY:
        msg = f"module 'vivace' has no attribute {name!r}"
        raise AttributeError(msg)
    home = _LAZY[name]
    value = getattr(import_module(home), name) if home else import_module(f"vivace.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
