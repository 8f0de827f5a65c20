"""A VAE whose embedding of a cell agrees with that of the same cell measured less deeply."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import overload

import torch
from torch import nn

from vivace._ranks import mean_of_parts, n_parts, variance_of_cells
from vivace._types import Keys, Minibatch
from vivace.errors import InvalidArgumentError, check_choice
from vivace.modules.base import LossOutput
from vivace.modules.counts import OF_COUNTS
from vivace.modules.thinning import binomial_split, sample_thinning_probs
from vivace.modules.vae import VAE

EPS = 1e-8


class JointEmbeddingVAE(VAE):
    """VAE with a second view of every cell, thinned to fewer counts, that must embed alike.

    The loss adds to the negative ELBO a term that pulls the cross-correlation matrix of the two
    embeddings towards the identity (Zbontar et al. 2021, Barlow Twins), so that what a latent
    dimension says of a cell does not depend on how deeply it was sequenced.

    Parameters
    ----------
    n_input
        Number of genes.
    *args, **kwargs
        To :class:`~vivace.modules.VAE`.
    joint_embedding_weight
        Weight of the cross-correlation term.
    lambda_off_diag
        Weight of its redundancy part.
    min_library_size
        Cells are thinned to a total between this and their own, log-uniform; > 0.
    reconstruction_weight
        Weight of the reconstruction error in the loss.
    variance_weight
        Weight of a term that keeps each latent dimension's standard deviation above 1.
    use_joint_embedding
        False leaves the VAE as it is.
    thinned_batch_norm
        How the encoder's batch norms treat the thinned view. "update": like the cells as they are, with
        the minibatch's statistics, which the running ones learn from; "freeze": with the running
        statistics, as it would be in evaluation mode, and these learn from the cells as they are.

    Raises
    ------
    InvalidArgumentError
        If ``min_library_size`` is not positive, or the likelihood is of no counts, which there would be
        nothing to thin of.

    Examples
    --------
    >>> import torch
    >>> vae = JointEmbeddingVAE(n_input=50, n_latent=4)
    >>> cells = {
    ...     "X": torch.poisson(torch.ones(8, 50)),
    ...     "batch": torch.zeros(8, 1, dtype=torch.long),
    ...     "labels": torch.zeros(8, 1, dtype=torch.long),
    ... }
    >>> *_, losses = vae(cells)
    >>> sorted(losses.extra_metrics)
    ['cco_invariance', 'cco_loss', 'cco_redundancy', 'variance_loss']
    """

    def __init__(
        self,
        n_input: int,
        *args,
        joint_embedding_weight: float = 100.0,
        lambda_off_diag: float = 0.01,
        min_library_size: float = 10.0,
        reconstruction_weight: float = 1.0,
        variance_weight: float = 0.0,
        use_joint_embedding: bool = True,
        thinned_batch_norm: str = "update",
        **kwargs,
    ):
        super().__init__(n_input, *args, **kwargs)
        check_choice("thinned_batch_norm", thinned_batch_norm, ("update", "freeze"))
        if min_library_size <= 0:
            msg = f"min_library_size={min_library_size} must be > 0"
            raise InvalidArgumentError(msg)
        if use_joint_embedding and self.gene_likelihood not in OF_COUNTS:
            known = ", ".join(f'"{name}"' for name in OF_COUNTS)
            msg = (
                f'gene_likelihood="{self.gene_likelihood}" has no counts to thin: choose one of {known}, '
                "or use_joint_embedding=False"
            )
            raise InvalidArgumentError(msg)
        self.joint_embedding_weight = joint_embedding_weight
        self.lambda_off_diag = lambda_off_diag
        self.min_library_size = min_library_size
        self.reconstruction_weight = reconstruction_weight
        self.variance_weight = variance_weight
        self.use_joint_embedding = use_joint_embedding
        self.thinned_batch_norm = thinned_batch_norm

    def loss(
        self,
        tensors: Minibatch,
        inference_outputs: dict,
        generative_outputs: dict,
        kl_weight: float | torch.Tensor = 1.0,
        joint_embedding_weight: float | None = None,
        reconstruction_weight: float | None = None,
    ) -> LossOutput:
        """Negative ELBO plus, in training, the terms that tie the two views; nats, mean over cells.

        ``mean(wR * R + kl_weight * KL_z + KL_l) + wJ * cross_correlation + wV * variance``. In
        evaluation mode, with fewer than two cells, or without joint embedding, only the first part.

        Parameters
        ----------
        tensors, inference_outputs, generative_outputs, kl_weight
            As in :meth:`VAE.loss`.
        joint_embedding_weight, reconstruction_weight
            In place of the module's.

        Returns
        -------
        LossOutput
            ``extra_metrics`` has ``cco_loss, cco_invariance, cco_redundancy, variance_loss`` where
            these were computed.
        """
        losses = super().loss(tensors, inference_outputs, generative_outputs, kl_weight)
        weight = _default(reconstruction_weight, self.reconstruction_weight)
        kl = losses.kl_local
        cost = weight * losses.reconstruction_loss["reconstruction_loss"]
        cost = cost + kl_weight * kl["kl_divergence_z"] + kl["kl_divergence_l"]
        losses.loss = cost.mean()
        z = inference_outputs["z"]
        if not (self.use_joint_embedding and self.training) or z.shape[-2] < 2:
            return losses
        z_full = z[0] if z.dim() == 3 else z
        z_thin = self._encode_thinned(tensors)
        cco = cross_correlation_loss(z_thin, z_full, self.lambda_off_diag, return_components=True)
        variance = (variance_loss(z_full) + variance_loss(z_thin)) / 2
        weight = _default(joint_embedding_weight, self.joint_embedding_weight)
        losses.loss = losses.loss + weight * cco["total"] + self.variance_weight * variance
        losses.extra_metrics |= {
            "cco_loss": cco["total"].detach(),
            "cco_invariance": cco["invariance"].detach(),
            "cco_redundancy": cco["redundancy"].detach(),
            "variance_loss": variance.detach(),
        }
        return losses

    def _encode_thinned(self, tensors: Minibatch) -> torch.Tensor:
        """One sample (B, L) of the latent state of thinned cells."""
        x = tensors[Keys.X]
        thinned, _ = binomial_split(x, sample_thinning_probs(x, self.min_library_size))
        inputs = self._get_inference_input({**tensors, Keys.X: thinned}, full_forward_pass=True)
        features, cats = self._encoder_input(**inputs)
        if self.thinned_batch_norm == "update":
            return self.z_encoder(features, *cats)[1]
        with _running_statistics(self.z_encoder):
            return self.z_encoder(features, *cats)[1]


def _default(given: float | None, own: float) -> float:
    return own if given is None else given


@contextmanager
def _running_statistics(module: nn.Module) -> Iterator[None]:
    """Batch norms use their running statistics inside, and do not change them."""
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm1d) and m.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


@overload
def cross_correlation_loss(
    z1: torch.Tensor, z2: torch.Tensor, lambda_off_diag: float = ...
) -> torch.Tensor: ...
@overload
def cross_correlation_loss(
    z1: torch.Tensor, z2: torch.Tensor, lambda_off_diag: float = ..., *, return_components: bool
) -> dict[str, torch.Tensor]: ...


def cross_correlation_loss(z1, z2, lambda_off_diag=0.01, return_components=False):
    """How far the cross-correlation matrix of two embeddings is from the identity.

    Parameters
    ----------
    z1, z2
        (B, L) embeddings of the same cells.
    lambda_off_diag
        Weight of the off-diagonal part.
    return_components
        Return a dict instead of the scalar.

    Returns
    -------
    ``invariance + lambda_off_diag * redundancy``, 0-d, or a dict ``total, invariance, redundancy``:
    sums over dimensions of ``(1 - M_ii)^2`` and over pairs of ``M_ij^2``.

    References
    ----------
    Zbontar et al. 2021, Barlow Twins: self-supervised learning via redundancy reduction.

    Examples
    --------
    >>> import torch
    >>> z1 = torch.tensor([[0.0, 1.0], [1.0, 3.0], [2.0, 2.0]])
    >>> z2 = torch.tensor([[0.5, 1.0], [1.0, 2.0], [3.0, 2.0]])
    >>> cross_correlation_loss(z1, z2)
    tensor(0.0288)
    """
    m = mean_of_parts(_standardised(z1).T @ _standardised(z2) / z1.shape[0])
    diagonal = m.diagonal()
    invariance = ((1 - diagonal) ** 2).sum()
    redundancy = (m**2).sum() - (diagonal**2).sum()
    total = invariance + lambda_off_diag * redundancy
    if not return_components:
        return total
    return {"total": total, "invariance": invariance, "redundancy": redundancy}


def _standardised(z: torch.Tensor) -> torch.Tensor:
    return (z - mean_of_parts(z.mean(0))) / (_spread(z) + EPS)


def _spread(z: torch.Tensor) -> torch.Tensor:
    """(L,) standard deviation over all cells of a minibatch, biased."""
    return z.std(0, correction=0) if n_parts() == 1 else variance_of_cells(z).squeeze(0).sqrt()


def variance_loss(z: torch.Tensor, target_std: float = 1.0) -> torch.Tensor:
    """How far the standard deviations of an embedding fall below a target, mean over dimensions.

    Parameters
    ----------
    z
        (B, L).
    target_std
        Standard deviation (over cells, biased) that costs nothing.

    References
    ----------
    Bardes et al. 2022, VICReg: variance-invariance-covariance regularization.

    Examples
    --------
    >>> import torch
    >>> variance_loss(torch.tensor([[0.0, 0.5], [0.5, 1.5], [1.0, 1.0]]))
    tensor(0.5918)
    """
    return torch.relu(target_std - _spread(z)).mean()
