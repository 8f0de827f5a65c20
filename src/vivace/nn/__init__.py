"""Building blocks of the modules: tensors in, tensors out."""

from vivace.nn.decoder import CountDecoder, DecoderOutput
from vivace.nn.embedding import Embedding
from vivace.nn.encoder import Encoder
from vivace.nn.fc import FCLayers
from vivace.nn.gaussian import GaussianLayers
from vivace.nn.priors import StandardPrior, VampPrior, standard_normal_divergence

__all__ = [
    "CountDecoder",
    "DecoderOutput",
    "Embedding",
    "Encoder",
    "FCLayers",
    "GaussianLayers",
    "StandardPrior",
    "VampPrior",
    "standard_normal_divergence",
]
