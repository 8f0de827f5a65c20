"""What is in a spot and in which state; and the mixtures of states that cells of each type are in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import sparse

from vivace._settings import seeded
from vivace._types import Keys, Minibatches
from vivace.analysis.latent import infer
from vivace.errors import InvalidArgumentError
from vivace.kernels.csr import to_dense
from vivace.modules.base import to_device

MOST_ROUNDS = 100
"""Rounds of k-means at most."""

# the reference: states of cells -----------------------------------------------------------------


def vamp_prior(
    means: np.ndarray,
    variances: np.ndarray,
    codes: np.ndarray,
    n_labels: int,
    p: int | None,
    *,
    clusters: np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Mixture of posteriors for each type.

    Parameters
    ----------
    means, variances
        (N, L) of each cell's posterior.
    codes
        (N,) type of each cell, below ``n_labels``.
    n_labels
        Number C of types.
    p
        Components P of a type; None: as many as the largest type has cells.
    clusters
        (N,) clusters to use instead of k-means.
    seed
        Of k-means.

    Returns
    -------
    dict of float32 ``mean_vprior`` (C, P, L), ``var_vprior`` (C, P, L), ``weights_vprior`` (C, P).

    Raises
    ------
    InvalidArgumentError
        If a type has more than ``p`` of the given clusters.

    Examples
    --------
    >>> import numpy as np
    >>> means, codes = np.array([[0.0], [2.0], [5.0]]), np.array([0, 0, 1])
    >>> prior = vamp_prior(means, np.ones((3, 1)), codes, 2, p=1)
    >>> prior["mean_vprior"].ravel(), prior["var_vprior"].ravel()
    (array([1., 5.], dtype=float32), array([2., 1.], dtype=float32))
    """
    n_components = int(np.bincount(codes).max()) if p is None else p
    n_latent = means.shape[1]
    prior = {
        "mean_vprior": np.zeros((n_labels, n_components, n_latent), np.float32),
        "var_vprior": np.ones((n_labels, n_components, n_latent), np.float32),
        "weights_vprior": np.zeros((n_labels, n_components), np.float32),
    }
    for code in np.unique(codes):
        rows = np.flatnonzero(codes == code)
        given = None if clusters is None else clusters[rows]
        for k, members in enumerate(_members(means[rows], given, n_components, seed)):
            of_component = rows[members]
            prior["mean_vprior"][code, k] = means[of_component].mean(0)
            spread = means[of_component].var(0)
            prior["var_vprior"][code, k] = variances[of_component].mean(0) + spread
            prior["weights_vprior"][code, k] = len(of_component) / len(rows)
    return prior


def _members(
    means: np.ndarray, given: np.ndarray | None, n_components: int, seed: int
) -> list[np.ndarray]:
    """Positions of the cells of each cluster, none of them empty."""
    if given is not None:
        found = np.unique(given.astype(str), return_inverse=True)[1]
        if found.max() >= n_components:
            msg = f"a type has {found.max() + 1} clusters, more than p={n_components}; raise p"
            raise InvalidArgumentError(msg)
    elif len(means) <= n_components:
        found = np.arange(len(means))
    else:
        found = _k_means(means, n_components, np.random.default_rng(seed))
    return [np.flatnonzero(found == k) for k in np.unique(found)]


def _k_means(means: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Cluster of each cell; clusters that lose all their cells are left empty."""
    from scipy.spatial.distance import cdist  # slow to import

    centres, found = _spread_centres(means, n, rng), None
    for _ in range(MOST_ROUNDS):
        nearest = cdist(means, centres).argmin(axis=1)
        if found is not None and (nearest == found).all():
            break
        found = nearest
        for k in np.unique(found):
            centres[k] = means[found == k].mean(axis=0)
    return nearest


def _spread_centres(means: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++ seeds: cells drawn by their squared distance to those drawn before."""
    centres = [means[rng.integers(len(means))]]
    for _ in range(n - 1):
        distance = np.min([((means - c) ** 2).sum(1) for c in centres], axis=0)
        total = distance.sum()
        chances = distance / total if total > 0 else np.full(len(means), 1 / len(means))
        centres.append(means[rng.choice(len(means), p=chances)])
    return np.asarray(centres, dtype=np.float64)


@torch.inference_mode()
def learned_prior(module: Any) -> dict[str, np.ndarray]:
    """The mixtures that a reference model with ``prior="mog"`` learned, as :func:`vamp_prior` gives."""
    return {
        "mean_vprior": module.prior_means.cpu().numpy(),
        "var_vprior": torch.exp(2 * module.prior_log_std).cpu().numpy(),
        "weights_vprior": torch.softmax(module.prior_logits, dim=-1).cpu().numpy(),
    }


@torch.inference_mode()
def fine_probabilities(module: Any, batches: Minibatches, *, use_mean: bool = True) -> np.ndarray:
    """Probability of each sub-type, (N, n_fine_labels), from each cell's state."""
    blocks = []
    for tensors in batches:
        outputs = infer(module, tensors)
        z = outputs["qz"].loc if use_mean else outputs["z"]
        logits = module.classify(z, tensors[Keys.LABELS])
        blocks.append(torch.softmax(logits, dim=-1).cpu().numpy())
    return np.concatenate(blocks)


@torch.inference_mode()
def losses_by_type(
    module: Any, batches: Minibatches, labels: Sequence[str]
) -> dict[str, np.ndarray]:
    """Reconstruction loss of each cell with each type imposed, and with its own ("original")."""
    found: dict[str, list[np.ndarray]] = {}
    for tensors in batches:
        own = tensors[Keys.LABELS]
        imposed = {"original": own} | {n: torch.full_like(own, c) for c, n in enumerate(labels)}
        for name, y in imposed.items():
            _, generative = module({**tensors, Keys.LABELS: y}, compute_loss=False)
            x = to_device(tensors, module.device)[Keys.X]
            loss = -generative["px"].log_prob_sum(x)
            found.setdefault(name, []).append(loss.cpu().numpy())
    return {name: np.concatenate(values) for name, values in found.items()}


# spots: proportions and states ------------------------------------------------------------------


def _encode(module: Any, tensors: Any) -> tuple[torch.Tensor, Any]:
    """Encoder input of the observed spots, (1, B, M), and the minibatch on the module's device."""
    tensors = to_device(tensors, module.device)
    qz = infer(module, tensors)["qz"]
    return qz.loc[:1], tensors  # the mean: answers do not vary


@torch.inference_mode()
def proportions(module: Any, batches: Minibatches) -> np.ndarray:
    """Proportions of types and further programmes in the counts of each spot, (N, C + A)."""
    blocks = []
    for tensors in batches:
        z, tensors = _encode(module, tensors)
        logits = module.proportion_logits(z, tensors[Keys.CELL_INDEX])[0]
        blocks.append(torch.softmax(logits, dim=-1).cpu().numpy())
    return np.concatenate(blocks)


@torch.inference_mode()
def proportion_draws(
    module: Any, batches: Minibatches, n_draws: int, *, seed: int = 0
) -> np.ndarray:
    """Proportions from counts drawn anew, Poisson around the observed ones, (n_draws, N, C + A).

    Their spread is what counting molecules alone makes uncertain.
    """
    blocks = []
    with seeded(seed):
        for tensors in batches:
            rate, drawn = to_dense(tensors[Keys.X]), []
            for _ in range(n_draws):
                z, moved = _encode(module, {**tensors, Keys.X: torch.poisson(rate)})
                logits = module.proportion_logits(z, moved[Keys.CELL_INDEX])[0]
                drawn.append(torch.softmax(logits, dim=-1).cpu().numpy())
            blocks.append(np.stack(drawn))
    return np.concatenate(blocks, axis=1)


@torch.inference_mode()
def states(module: Any, batches: Minibatches) -> np.ndarray:
    """State of each type in each spot, (N, L, C): the mean over its weighted states."""
    blocks = []
    for tensors in batches:
        z, tensors = _encode(module, tensors)
        gamma, logits = module.states(z, tensors[Keys.CELL_INDEX])
        weights = torch.softmax(logits[0], dim=0)  # (K, B, C)
        mean = torch.einsum("kbc,kdcb->bdc", weights, gamma[0])
        blocks.append(mean.cpu().numpy())
    return np.concatenate(blocks)


@torch.inference_mode()
def spot_latent(module: Any, batches: Minibatches) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the latent variable that the encoders share, two (N, M) float32 arrays."""
    posteriors = [infer(module, tensors)["qz"] for tensors in batches]
    means = torch.cat([qz.loc[0] for qz in posteriors])
    variances = torch.cat([qz.scale[0] ** 2 for qz in posteriors])
    return means.cpu().numpy(), variances.cpu().numpy()


@torch.inference_mode()
def type_expression(module: Any, batches: Minibatches, code: int) -> np.ndarray:
    """Normalised expression of one type in each spot, (N, G), rows sum to 1."""
    blocks = []
    for tensors in batches:
        z, tensors = _encode(module, tensors)
        gamma, logits = module.states(z, tensors[Keys.CELL_INDEX])
        modes = torch.softmax(logits[0], dim=0)
        scale = module.expression_of_type(code, gamma[0], modes, tensors[Keys.BATCH])
        blocks.append(scale.cpu().numpy())
    return np.concatenate(blocks)


@torch.inference_mode()
def type_profiles(module: Any) -> np.ndarray:
    """Normalised expression of each type in the reference, (C, G): the mean over its prior's states."""
    n_components = module.mean_vprior.shape[1] if module.has_prior else 1
    c, n_latent = module.n_labels, module.n_latent
    gamma = torch.zeros(n_components, n_latent, c, 1, device=module.device)
    weights = torch.ones(n_components, 1, c, device=module.device)
    if module.has_prior:
        gamma = module.mean_vprior.permute(1, 2, 0).unsqueeze(-1)
        weights = module.mp_vprior.t().unsqueeze(1)
    first_batch = torch.zeros(1, 1, dtype=torch.long, device=module.device)
    return module.type_expression(gamma, weights, first_batch)[0, :c].cpu().numpy()


@torch.inference_mode()
def type_counts(module: Any, batches: Minibatches, code: int) -> sparse.csr_array:
    """Share of the observed counts that is due to one type, (N, G) CSR."""
    blocks = []
    for tensors in batches:
        tensors = to_device(tensors, module.device)
        _, out = module(tensors, compute_loss=False)
        of_type = out["v"][0, :, code, None] * out["px_mu"][0, :, code]
        share = of_type / out["px_scale"][0].clamp(min=torch.finfo(of_type.dtype).tiny)
        blocks.append(sparse.csr_array((to_dense(tensors[Keys.X]) * share).cpu().numpy()))
    return sparse.vstack(blocks, format="csr")


@torch.inference_mode()
def fine_proportions(module: Any, reference: Any, batches: Minibatches) -> np.ndarray:
    """Proportions of sub-types in each spot, (N, n_fine_labels).

    ``sum_c sum_k v_c * pi_ck * softmax(classifier(gamma_ck, c))`` with the classifier of the reference
    module; rows sum to the share of all known types.
    """
    blocks = []
    for tensors in batches:
        z, tensors = _encode(module, tensors)
        ind_x = tensors[Keys.CELL_INDEX]
        v = torch.softmax(module.proportion_logits(z, ind_x)[0], dim=-1)[:, : module.n_labels]
        gamma, logits = module.states(z, ind_x)
        weights = torch.softmax(logits[0], dim=0) * v  # (K, B, C)
        flat = gamma[0].permute(0, 3, 2, 1)  # (K, B, C, L)
        types = torch.arange(module.n_labels, device=v.device).expand(weights.shape)
        fine = torch.softmax(reference.classify(flat.flatten(0, 2), types.flatten()), dim=-1)
        fine = fine.unflatten(0, weights.shape)
        blocks.append(torch.einsum("kbc,kbcf->bf", weights, fine).cpu().numpy())
    return np.concatenate(blocks)


def cell_shares(shares: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Proportions of cells from proportions of counts: (N, C) each divided by the type's depth (C,).

    Examples
    --------
    >>> import numpy as np
    >>> cell_shares(np.array([[0.5, 0.5]]), np.array([1.0, 3.0]))
    array([[0.75, 0.25]])
    """
    cells = shares / depth
    return cells / cells.sum(1, keepdims=True)
