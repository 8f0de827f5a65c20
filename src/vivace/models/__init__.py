"""Models as users meet them: thin AnnData faces over a module, the loop and the analysis functions."""

from vivace.models.contrastivevi import ContrastiveVI
from vivace.models.joint_embedding import JointEmbeddingSCVI
from vivace.models.scvi import SCVI
from vivace.models.table import MODELS, import_model, load

__all__ = ["MODELS", "SCVI", "ContrastiveVI", "JointEmbeddingSCVI", "import_model", "load"]
