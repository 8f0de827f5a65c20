"""Models as users meet them: thin AnnData faces over a module, the loop and the analysis functions."""

from vivace.models.condscvi import CondSCVI
from vivace.models.contrastivevi import ContrastiveVI
from vivace.models.destvi import DestVI
from vivace.models.joint_embedding import JointEmbeddingSCVI
from vivace.models.scvi import SCVI
from vivace.models.splicevi import SPLICEVI
from vivace.models.sysvi import SysVI
from vivace.models.table import MODELS, import_model, load

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
