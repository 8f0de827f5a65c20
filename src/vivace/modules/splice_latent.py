"""How the posteriors of two modalities become one, and what holds them together."""

from __future__ import annotations

from typing import NamedTuple

import torch

ABSENT = 1e-30
MIN_VARIANCE = 1e-6


class Posterior(NamedTuple):
    """Mean and variance of normal posteriors, each (B, L)."""

    mean: torch.Tensor
    variance: torch.Tensor


def masked_weights(raw: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Softmax of two raw weights over the modalities that a cell has.

    Parameters
    ----------
    raw
        (2,), (1, 2) or (B, 2).
    present
        (B, 2) bool.

    Returns
    -------
    (B, 2), sums to 1.

    Examples
    --------
    >>> import torch
    >>> masked_weights(torch.ones(2), torch.tensor([[True, True], [False, True]]))
    tensor([[5.0000e-01, 5.0000e-01],
            [3.6788e-31, 1.0000e+00]])
    """
    e = torch.where(present, raw.expand(len(present), 2).exp(), ABSENT)
    return e / (e.sum(-1, keepdim=True) + ABSENT)


def dimension_weights(raw: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Weights of each latent dimension, (B, 2, L), that average to one half over dimensions.

    Parameters
    ----------
    raw
        (L,) learned.
    present
        (B, 2) bool; a cell with one modality gives it all the weight.
    """
    s = torch.sigmoid(raw)
    splicing = (s - s.mean() + 0.5).clamp(1e-4, 1 - 1e-4)
    both = torch.stack([1 - splicing, splicing]).expand(len(present), 2, -1)
    alone = present.to(raw.dtype).unsqueeze(-1)
    return torch.where(present[:, :1, None] == present[:, 1:, None], both, alone)


def mix(expression: Posterior, splicing: Posterior, weights: torch.Tensor, rule: str) -> Posterior:
    """Weighted mean of two posteriors.

    Parameters
    ----------
    expression, splicing
        Posteriors of the same cells.
    weights
        (B, 2), or (B, 2, L) of each dimension; expression first.
    rule
        Variance: "squared" of a weighted mean of independent variables, sum w^2 v; "linear", sum w v;
        "sqrt_weights", sum sqrt(w) v, or (sum w sqrt(v))^2 with weights of each dimension.

    Returns
    -------
    Posterior, variance at least 1e-6.
    """
    by_dimension = weights.dim() == 3
    w_e, w_s = (weights[:, i] if by_dimension else weights[:, i : i + 1] for i in (0, 1))
    v_e, v_s = expression.variance, splicing.variance
    mean = w_e * expression.mean + w_s * splicing.mean
    if rule == "squared":
        variance = w_e**2 * v_e + w_s**2 * v_s
    elif rule == "linear":
        variance = w_e * v_e + w_s * v_s
    elif by_dimension:
        variance = (w_e * v_e.sqrt() + w_s * v_s.sqrt()) ** 2
    else:
        variance = w_e.sqrt() * v_e + w_s.sqrt() * v_s
    return Posterior(mean, variance.clamp(min=MIN_VARIANCE))


def jeffreys(a: Posterior, b: Posterior) -> torch.Tensor:
    """Symmetric divergence KL(a | b) + KL(b | a) of each cell, (B,), nats.

    Examples
    --------
    >>> import torch
    >>> one = torch.ones(1, 1)
    >>> jeffreys(Posterior(one, one), Posterior(0 * one, one))
    tensor([1.])
    """
    square = (a.mean - b.mean) ** 2
    ratios = (a.variance + square) / b.variance + (b.variance + square) / a.variance
    return (ratios / 2 - 1).sum(-1)


def mean_distance(a: Posterior, b: Posterior) -> torch.Tensor:
    """Euclidean distance of the means of each cell, (B,); what the option "MMD" stands for."""
    return ((a.mean - b.mean).square().sum(-1) + 1e-12).sqrt()


def gaussian_kl(q: Posterior) -> torch.Tensor:
    """Divergence from N(0, I) of each cell, (B,), nats."""
    return (q.variance + q.mean**2 - 1 - q.variance.log()).sum(-1) / 2
