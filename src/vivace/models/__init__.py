"""Models as users meet them: thin AnnData faces over a module, the loop and the analysis functions.

This is the one list of them. The package, ``load``, the command line and the laws take it from here, and
each model is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vivace._lazy import first_use

if TYPE_CHECKING:
    from vivace.models.condscvi import CondSCVI
    from vivace.models.contrastivevi import ContrastiveVI
    from vivace.models.destvi import DestVI
    from vivace.models.joint_embedding import JointEmbeddingSCVI
    from vivace.models.scvi import SCVI
    from vivace.models.splicevi import SPLICEVI
    from vivace.models.sysvi import SysVI
    from vivace.models.table import MODELS, import_model, load

HOMES = {
    "SCVI": "vivace.models.scvi",
    "JointEmbeddingSCVI": "vivace.models.joint_embedding",
    "CondSCVI": "vivace.models.condscvi",
    "DestVI": "vivace.models.destvi",
    "ContrastiveVI": "vivace.models.contrastivevi",
    "SysVI": "vivace.models.sysvi",
    "SPLICEVI": "vivace.models.splicevi",
}
"""Class of each model to the module that defines it."""
_LAZY = {**HOMES, **dict.fromkeys(("MODELS", "import_model", "load"), "vivace.models.table")}

__all__ = [
    "MODELS",
    "SCVI",
    "SPLICEVI",
    "CondSCVI",
    "ContrastiveVI",
    "DestVI",
    "JointEmbeddingSCVI",
    "SysVI",
    "import_model",
    "load",
]


def __getattr__(name: str) -> Any:
    return first_use(__name__, _LAZY, name)
