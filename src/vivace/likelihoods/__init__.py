"""Distributions of observed data, each a :class:`torch.distributions.Distribution`.

A distribution is *lazy*: modules build it from decoder logits, and the mean or the normalised
expression is computed only when asked for. The summed log-likelihood (:meth:`log_prob_sum`) goes to
the fused kernels of :mod:`vivace.kernels` without ever forming them.
"""

from vivace.likelihoods.affine_normal import AffineNormal
from vivace.likelihoods.beta_binomial import BetaBinomial
from vivace.likelihoods.dirichlet_multinomial import DirichletMultinomial
from vivace.likelihoods.negative_binomial import NegativeBinomial
from vivace.likelihoods.normal import Normal
from vivace.likelihoods.poisson import Poisson
from vivace.likelihoods.zinb import ZeroInflatedNegativeBinomial

__all__ = [
    "AffineNormal",
    "BetaBinomial",
    "DirichletMultinomial",
    "NegativeBinomial",
    "Normal",
    "Poisson",
    "ZeroInflatedNegativeBinomial",
]
