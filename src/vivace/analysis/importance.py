"""Draws of expression that follow the exact posterior of a group of cells, by importance weights.

The encoder only approximates the posterior of a cell's latent state. Draws from it are weighed by how much
likelier they are under the model itself, and drawn again by these weights. Spec models.md, 11.4; Boyeau et
al. 2019, Deep generative models for detecting differential expression in single cells.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch.distributions import Normal

from vivace._types import Minibatches
from vivace.analysis.expression import decode
from vivace.analysis.latent import infer
from vivace.errors import InvalidArgumentError, VivaceWarning, check_choice, nearest
from vivace.modules.base import to_device

WEIGHTS = ("uniform", "importance")
ANCHORS_AT_ONCE = 32
PAIRS_AT_ONCE = 2048
"""Pairs of a draw and a cell decoded at a time: bounds memory."""
FEWEST_EFFECTIVE = 50
"""Effective draws below which the weights say little about the group."""

BatchesOf = Callable[[np.ndarray, int | None], Minibatches]
"""(rows, cells at a time or None for the default) to minibatches."""


@dataclass(frozen=True)
class ImportanceOptions:
    """How draws are weighed.

    Attributes
    ----------
    max_cells
        At most this many cells, chosen at random, stand for a group; the work grows with cells times
        draws.
    truncation
        Cap weights at ``sqrt(R)`` times their mean (Ionides 2008, Truncated importance sampling): less
        variance, some bias towards the encoder's posterior.
    n_mc_samples, n_mc_samples_per_pass
        Draws for the marginal likelihood of each cell, in all and at a time.

    Raises
    ------
    InvalidArgumentError
        If a number is not positive.
    """

    max_cells: int = 1024
    truncation: bool = False
    n_mc_samples: int = 500
    n_mc_samples_per_pass: int = 250

    def __post_init__(self):
        for name in ("max_cells", "n_mc_samples", "n_mc_samples_per_pass"):
            if getattr(self, name) < 1:
                msg = f"importance_weighting_kwargs: {name}={getattr(self, name)} must be >= 1"
                raise InvalidArgumentError(msg)

    @classmethod
    def of(cls, weights: str | None, given: dict[str, Any] | None) -> ImportanceOptions | None:
        """Options for ``weights="importance"``, None for uniform weights.

        Raises
        ------
        InvalidArgumentError
            If ``weights`` or an option is not known, or options are given for uniform weights.
        """
        check_choice("weights", weights or "uniform", WEIGHTS)
        if weights != "importance":
            if given:
                msg = 'importance_weighting_kwargs needs weights="importance"'
                raise InvalidArgumentError(msg)
            return None
        known = [f.name for f in fields(cls)]
        for name in given or {}:
            if name not in known:
                msg = f'importance_weighting_kwargs has no option "{name}". {nearest(name, known)}'
                raise InvalidArgumentError(msg)
        return cls(**(given or {}))


def log_importance_weights(
    log_prior: torch.Tensor,
    log_likelihood: torch.Tensor,
    log_marginal: torch.Tensor,
    log_posterior: torch.Tensor,
) -> torch.Tensor:
    """Log weight of each draw under the mean of the cells' exact posteriors, up to a constant.

    ``logsumexp_a(log p(z_r) + log p(x_a | z_r) - log p(x_a)) - logsumexp_a(log q(z_r | x_a))``.

    Parameters
    ----------
    log_prior
        (R,) log p(z_r).
    log_likelihood
        (R, A) log p(x_a | z_r).
    log_marginal
        (A,) log p(x_a).
    log_posterior
        (R, A) log q(z_r | x_a); the draws come from the mean of these.

    Returns
    -------
    (R,)

    Examples
    --------
    An encoder that is exact gives every draw the same weight:

    >>> import torch
    >>> exact = torch.tensor([[-1.0, -3.0], [-2.0, -0.5]])
    >>> prior, marginal = torch.tensor([-0.7, -0.2]), torch.tensor([-5.0, -4.0])
    >>> likelihood = exact - prior[:, None] + marginal
    >>> log_importance_weights(prior, likelihood, marginal, exact).abs() < 1e-5
    tensor([True, True])
    """
    target = log_prior + torch.logsumexp(log_likelihood - log_marginal, dim=1)
    return target - torch.logsumexp(log_posterior, dim=1)


def normalised_weights(log_weights: torch.Tensor, *, truncation: bool = False) -> torch.Tensor:
    """Weights that sum to 1, (R,), capped at ``sqrt(R)`` times their mean if asked for.

    Examples
    --------
    >>> import torch
    >>> log_weights = torch.tensor([0.0, 0.0, 3.0, 0.0])
    >>> normalised_weights(log_weights)
    tensor([0.0433, 0.0433, 0.8700, 0.0433])
    >>> normalised_weights(log_weights, truncation=True)  # at most twice the mean before
    tensor([0.0688, 0.0688, 0.7937, 0.0688])
    """
    if truncation:
        n = len(log_weights)
        mean = torch.logsumexp(log_weights, dim=0) - math.log(n)
        log_weights = log_weights.clamp(max=mean + 0.5 * math.log(n))
    return torch.softmax(log_weights, dim=0)


@torch.inference_mode()
def importance_scales(
    module: Any,
    batches_of: BatchesOf,
    rows: np.ndarray,
    rng: np.random.Generator,
    *,
    options: ImportanceOptions,
    transform_batch: int | None = None,
) -> np.ndarray:
    """Normalised expression of draws from the mean of the exact posteriors of some cells.

    Parameters
    ----------
    module
        Of the VAE kind, with ``marginal_ll``.
    batches_of
        ``f(rows, cells at a time)``: minibatches of the rows.
    rows
        (R,) a row for each draw, repeats allowed; with more than ``max_cells`` different ones, as many
        rows are drawn from a random choice of these.
    rng
        Chooses cells and draws.
    options
        How to weigh.
    transform_batch
        Batch code to decode for; None for the observed one.

    Returns
    -------
    (R, G), in random order.
    """
    anchors = np.unique(rows)
    if len(anchors) > options.max_cells:
        anchors = np.sort(rng.choice(anchors, options.max_cells, replace=False))
        rows = np.sort(rng.choice(anchors, len(rows)))
    u, scales = _propose(module, batches_of(rows, None), transform_batch)
    terms = _terms(module, batches_of(anchors, ANCHORS_AT_ONCE), u, options)
    prior = Normal(torch.zeros_like(u), torch.ones_like(u), validate_args=False)
    log_prior = prior.log_prob(u).sum(-1).cpu().double()
    weights = normalised_weights(
        log_importance_weights(log_prior, *terms), truncation=options.truncation
    )
    _warn_of_few(weights)
    p = weights.numpy()
    return scales[rng.choice(len(p), len(p), p=p / p.sum())]


def _propose(
    module: Any, batches: Minibatches, transform_batch: int | None
) -> tuple[torch.Tensor, np.ndarray]:
    """A draw of each row's latent state (R, L), before its transformation, and its expression (R, G)."""
    states, scales = [], []
    for tensors in batches:
        outputs = infer(module, tensors)
        u = outputs["qz"].sample()
        drawn = {**outputs, "z": module.z_encoder.z_transformation(u)}
        decoded = decode(module, tensors, drawn, transform_batch)
        states.append(u)
        scales.append(decoded["px"].get_normalized("scale").cpu().numpy())
    return torch.cat(states), np.concatenate(scales)


def _terms(
    module: Any, batches: Minibatches, u: torch.Tensor, options: ImportanceOptions
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Likelihood of each pair (R, A), marginal (A,) and posterior density (R, A); logs, float64."""
    likelihoods, marginals, posteriors = [], [], []
    for tensors in batches:
        tensors = to_device(tensors, module.device)
        outputs = infer(module, tensors)
        n, n_mc = options.n_mc_samples, options.n_mc_samples_per_pass
        marginals.append(module.marginal_ll(tensors, n, n_mc_samples_per_pass=min(n, n_mc)))
        posteriors.append(outputs["qz"].log_prob(u[:, None]).sum(-1).cpu())
        likelihoods.append(_pair_likelihoods(module, tensors, outputs, u).cpu())
    return (
        torch.cat(likelihoods, dim=1).double(),
        torch.cat(marginals).double(),
        torch.cat(posteriors, dim=1).double(),
    )


def _pair_likelihoods(module: Any, tensors: Any, outputs: dict, u: torch.Tensor) -> torch.Tensor:
    """(R, B) log-likelihood of each cell of a minibatch under each draw, at the cell's own library."""
    library = outputs["library"]
    n_cells = len(library)
    counts = module._counts(tensors)
    found = []
    for part in torch.split(module.z_encoder.z_transformation(u), max(1, PAIRS_AT_ONCE // n_cells)):
        drawn = {
            "z": part[:, None].expand(-1, n_cells, -1),
            "library": library.expand(len(part), -1, -1),
        }
        found.append(decode(module, tensors, drawn)["px"].log_prob_sum(counts))
    return torch.cat(found)


def _warn_of_few(weights: torch.Tensor) -> None:
    effective = 1 / float((weights**2).sum())
    if effective < FEWEST_EFFECTIVE:
        msg = (
            f"importance weights: {len(weights)} draws are worth {effective:.0f}: the encoder's posterior is "
            "far from the model's. Draw more (n_samples_overall), cap the weights "
            '(importance_weighting_kwargs={"truncation": True}), or use weights="uniform"'
        )
        warnings.warn(msg, VivaceWarning, stacklevel=6)
