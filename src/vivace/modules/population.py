"""One population of a contrastive model as an ordinary VAE, so that it answers what any VAE answers."""

from __future__ import annotations

import torch
from torch.distributions import Normal
from torch.nn import functional as F

from vivace.modules.base import BaseModule
from vivace.modules.contrastive import ContrastiveVAE
from vivace.modules.vae import VAE


class Population(VAE):
    """Background or target cells under a :class:`~vivace.modules.ContrastiveVAE`.

    The latent state of a target cell is ``z`` and ``s`` side by side, (B, L_z + L_s); that of a
    background cell is ``z`` alone, (B, L_z), and is decoded with ``s = 0``. Loss, marginal likelihood
    and predictive samples are then those of the VAE. The networks are those of the contrastive model,
    not copies.

    Parameters
    ----------
    whole
        The contrastive model.
    salient
        True for target cells, False for background cells.

    Examples
    --------
    >>> import torch
    >>> vae = Population(
    ...     ContrastiveVAE(20, n_background_latent=3, n_salient_latent=2), salient=True
    ... )
    >>> cells = {"X": torch.poisson(torch.ones(4, 20)), "batch": torch.zeros(4, 1).long()}
    >>> vae.eval().marginal_ll(cells, n_mc_samples=2).shape
    torch.Size([4])
    """

    def __init__(self, whole: ContrastiveVAE, *, salient: bool):
        BaseModule.__init__(self)  # builds no networks of its own
        self.whole = whole
        self.salient = salient
        self.z_encoder = whole.z_encoder
        self.use_observed_lib_size = whole.use_observed_lib_size
        self.latent_distribution = whole.latent_distribution
        self.extra_payload_autotune = False
        self.train(whole.training)

    def _encode(self, x, batch_index, cont_covs, cat_covs):
        (qz, z), (qs, s), (ql, log_library) = self.whole._encode(
            x, batch_index, cont_covs, cat_covs
        )
        if self.salient:
            loc, scale = torch.cat([qz.loc, qs.loc], -1), torch.cat([qz.scale, qs.scale], -1)
            qz, z = Normal(loc, scale, validate_args=False), torch.cat([z, s], -1)
        return qz, z, ql, log_library

    def generative(
        self,
        z: torch.Tensor,
        library: torch.Tensor,
        batch_index: torch.Tensor,
        cont_covs: torch.Tensor | None = None,
        cat_covs: torch.Tensor | None = None,
        size_factor: torch.Tensor | None = None,
        y: torch.Tensor | None = None,
        transform_batch: int | torch.Tensor | None = None,
    ) -> dict:
        """Distribution of the counts; see :meth:`VAE.generative`."""
        if transform_batch is not None:
            batch_index = torch.ones_like(batch_index) * transform_batch
        whole = self.whole
        background, salient = (
            z[..., : whole.n_background_latent],
            z[..., whole.n_background_latent :],
        )
        if not self.salient:
            salient = F.pad(salient, (0, whole.n_salient_latent))
        px = whole._generic_generative(
            background, salient, library, batch_index, cont_covs, cat_covs, size_factor, y
        )
        pl = None if self.use_observed_lib_size else whole._library_prior(batch_index)
        pz = Normal(torch.zeros_like(z), torch.ones_like(z), validate_args=False)
        return {"px": px, "pl": pl, "pz": pz}
