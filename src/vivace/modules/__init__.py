"""Generative models as torch modules: inference, generative, loss. They know nothing of AnnData."""

from vivace.modules.base import BaseModule, LossOutput
from vivace.modules.contrastive import ContrastiveVAE
from vivace.modules.joint_embedding import JointEmbeddingVAE
from vivace.modules.mrdeconv import MRDeconv
from vivace.modules.splice import SPLICEVAE
from vivace.modules.sysvae import SysVAE
from vivace.modules.vae import VAE
from vivace.modules.vaec import VAEC

__all__ = [
    "SPLICEVAE",
    "VAE",
    "VAEC",
    "BaseModule",
    "ContrastiveVAE",
    "JointEmbeddingVAE",
    "LossOutput",
    "MRDeconv",
    "SysVAE",
]
