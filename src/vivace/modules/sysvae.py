"""Integration of systems that are far apart: VampPrior and latent cycle consistency (SysVI)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.distributions import Normal
from torch.nn import functional as F

from vivace._ranks import mean_of_parts, sum_of_parts, variance_of_cells
from vivace._types import Keys, Minibatch
from vivace.errors import (
    InvalidArgumentError,
    MissingPseudoinputsError,
    UnsupportedError,
    check_choice,
)
from vivace.kernels.gaussian import gaussian_nll
from vivace.likelihoods import AffineNormal
from vivace.modules.base import BaseModule, LossOutput, _as_dict, to_device
from vivace.nn import GaussianLayers, StandardPrior, VampPrior

PRIORS = ("vamp", "standard_normal")
COMPAT = (None, "scvi-tools")
CYCLE_WEIGHT = 2.0
"""Weight of the cycle term if none is given."""
SMALLEST_VARIANCE = 1e-16
"""Added to the variance that cycle distances are measured in: a constant dimension counts as 0."""


class SysVAE(BaseModule):
    """Variational autoencoder that integrates systems such as species, protocols or organoids (SysVI).

    A cell is encoded with its system to a latent state; decoded for *another* system and encoded
    again, it should come back to the same place. A mixture prior keeps biology that the systems do
    not share. Values are log-normalised; nothing is log-transformed here.

    Parameters
    ----------
    n_input
        Number of genes.
    n_batch
        Number of systems; the cycle needs at least 2.
    n_continuous_cov
        Number of continuous covariates.
    n_cats_per_cov
        Number of categories of each further categorical covariate.
    embed_categorical_covariates
        Further categorical covariates as learned vectors, not one-hots; the system is always a
        one-hot.
    prior
        "vamp" (mixture of the posteriors of pseudo-inputs) or "standard_normal".
    n_prior_components
        Number K of pseudo-inputs.
    trainable_priors
        Train the pseudo-inputs; the weights of the mixture always are.
    pseudoinput_data
        Minibatch of K cells the pseudo-inputs start from; "vamp" needs it.
    n_latent, n_hidden, n_layers, dropout_rate
        Latent dimensions, width of hidden layers, layers of encoder and decoder, dropout of both.
    out_var_mode
        "feature": one variance for each gene; "sample_feature": for each cell and gene.
    encoder_decoder_kwargs
        Further options of :class:`~vivace.nn.GaussianLayers`, the same for encoder and decoder.
    embedding_kwargs
        E.g. ``{"embedding_dim": 10}``.
    joint_prior
        One mixture over all latent dimensions, rather than one for each dimension.
    compat
        "scvi-tools" computes what scvi-tools does: standard deviations where variances belong, in the
        reconstruction and in the prior, a cycle that encodes the cell as decoded for its *own*
        system, and cycle distances in units of the spread over all systems.

    Raises
    ------
    InvalidArgumentError
        If an option is not known, or there are no pseudo-inputs for "vamp" or not K of them.

    References
    ----------
    Hrovatin et al. 2023, Integrating single-cell RNA-seq datasets with substantial batch effects.

    Examples
    --------
    >>> import torch
    >>> cells = {"X": torch.rand(8, 50), "batch": torch.arange(8).remainder(2).unsqueeze(1)}
    >>> sysvae = SysVAE(50, n_batch=2, pseudoinput_data={k: v[:5] for k, v in cells.items()})
    >>> inference_outputs, generative_outputs, losses = sysvae(cells)
    >>> losses.loss.backward()
    >>> inference_outputs["z"].shape
    torch.Size([8, 15])
    """

    def __init__(
        self,
        n_input: int,
        n_batch: int,
        n_continuous_cov: int = 0,
        n_cats_per_cov: Sequence[int] | None = None,
        embed_categorical_covariates: bool = False,
        prior: str = "vamp",
        n_prior_components: int = 5,
        trainable_priors: bool = True,
        pseudoinput_data: Minibatch | None = None,
        n_latent: int = 15,
        n_hidden: int = 256,
        n_layers: int = 2,
        dropout_rate: float = 0.1,
        out_var_mode: str = "feature",
        encoder_decoder_kwargs: dict | None = None,
        embedding_kwargs: dict | None = None,
        *,
        joint_prior: bool = False,
        compat: str | None = None,
    ):
        super().__init__()
        check_choice("prior", prior, PRIORS)
        check_choice("compat", compat, COMPAT)
        self.n_batch = n_batch
        self.embed_categorical_covariates = embed_categorical_covariates
        as_published = compat == "scvi-tools"
        self.cycle_from = "px" if as_published else "px_cycle"
        self.std_as_variance = as_published
        self.pools_systems = as_published

        cats, n_cont = list(n_cats_per_cov or []), n_continuous_cov
        if embed_categorical_covariates:
            for i, n in enumerate(cats):
                self.init_embedding(f"cov{i}", n, **(embedding_kwargs or {}))
                n_cont += self.get_embedding(f"cov{i}").embedding_dim
            cats = []
        layers = {
            "n_cat_list": [n_batch, *cats],
            "n_cont": n_cont,
            "n_hidden": n_hidden,
            "n_layers": n_layers,
            "dropout_rate": dropout_rate,
            **(encoder_decoder_kwargs or {}),
        }
        self.encoder = GaussianLayers(n_input, n_latent, var_mode="sample_feature", **layers)
        self.decoder = GaussianLayers(n_latent, n_input, var_mode=out_var_mode, **layers)
        self.prior: StandardPrior | VampPrior = StandardPrior()
        if prior == "vamp":
            inputs = self._prior_inputs(pseudoinput_data, n_prior_components)
            self.prior = VampPrior(
                self.encoder,
                *inputs,
                trainable=trainable_priors,
                joint=joint_prior,
                std_as_variance=self.std_as_variance,
            )

    # prior --------------------------------------------------------------------------------------

    def _prior_inputs(self, cells: Minibatch | None, n_components: int) -> tuple:
        """Pseudo-inputs, codes and continuous covariates that the prior starts from."""
        if cells is None:
            msg = (
                'prior="vamp" starts from cells: pass pseudoinput_data, a minibatch of '
                f'{n_components} cells, or use prior="standard_normal"'
            )
            raise MissingPseudoinputsError(msg)
        sizes = {key: value.shape[0] for key, value in cells.items() if value is not None}
        wrong = [f"{key}: {n}" for key, n in sizes.items() if n != n_components]
        if wrong:
            msg = (
                f"pseudoinput_data must have n_prior_components={n_components} rows; found {wrong}"
            )
            raise MissingPseudoinputsError(msg)
        cont, cats = self._covariates(cells)
        codes = torch.cat([cells[Keys.BATCH], *cats], dim=1).long()
        return cells[Keys.X], codes, None if cont is None else cont.detach()

    def set_pseudoinputs(self, cells: Minibatch) -> None:
        """Let the VampPrior start from other cells; (K, .) tensors of a minibatch."""
        if isinstance(self.prior, VampPrior):
            self.prior.set_inputs(*self._prior_inputs(cells, len(self.prior.u)))

    # inference ----------------------------------------------------------------------------------

    def _covariates(self, tensors: Minibatch) -> tuple[torch.Tensor | None, list[torch.Tensor]]:
        """Continuous covariates with embedded categorical ones (B, n), and codes, (B, 1) each."""
        cats = tensors.get(Keys.CAT_COVS)
        columns = [] if cats is None else list(cats.split(1, dim=1))
        parts = [c for c in (tensors.get(Keys.CONT_COVS),) if c is not None]
        if self.embed_categorical_covariates:
            parts += [self.compute_embedding(f"cov{i}", c) for i, c in enumerate(columns)]
            columns = []
        return (torch.cat(parts, dim=1) if parts else None), columns

    def _get_inference_input(self, tensors: Minibatch) -> dict:
        cont, cats = self._covariates(tensors)
        return {
            "x": tensors[Keys.X],
            "batch_index": tensors[Keys.BATCH],
            "cont_covs": cont,
            "cat_covs": cats,
        }

    def inference(
        self,
        x: torch.Tensor,
        batch_index: torch.Tensor,
        cont_covs: torch.Tensor | None = None,
        cat_covs: Sequence[torch.Tensor] | torch.Tensor | None = None,
        n_samples: int = 1,
    ) -> dict:
        """Posterior of the latent state.

        Parameters
        ----------
        x
            (B, G) log-normalised values, dense or CSR.
        batch_index
            (B, 1) system codes.
        cont_covs
            (B, n) continuous covariates, followed by those that were embedded.
        cat_covs
            (B, n_cat) codes of the others, or their columns.
        n_samples
            Number S of samples; 1 gives a reparametrised one, more are drawn without gradient.

        Returns
        -------
        dict with ``z`` (B, L) or (S, B, L), and ``qz`` Normal with (B, L) parameters.
        """
        qz = self.encoder(x, batch_index, *_columns(cat_covs), cont=cont_covs)
        return {"z": qz.rsample() if n_samples == 1 else qz.sample((n_samples,)), "qz": qz}

    # generative ---------------------------------------------------------------------------------

    def _get_generative_input(self, tensors: Minibatch, inference_outputs: dict) -> dict:
        cont, cats = self._covariates(tensors)
        return {
            "z": inference_outputs["z"],
            "batch_index": tensors[Keys.BATCH],
            "cont_covs": cont,
            "cat_covs": cats,
        }

    def generative(
        self,
        z: torch.Tensor,
        batch_index: torch.Tensor,
        cont_covs: torch.Tensor | None = None,
        cat_covs: Sequence[torch.Tensor] | torch.Tensor | None = None,
        cycle_batch: torch.Tensor | None = None,
        compute_original: bool = True,
        compute_cycle: bool = True,
        y: torch.Tensor | None = None,
        transform_batch: int | torch.Tensor | None = None,
    ) -> dict:
        """Distribution of the values, for the cell's own system and for another one.

        Parameters
        ----------
        z
            (B, L) or (S, B, L).
        batch_index, cont_covs, cat_covs
            As for :meth:`inference`.
        cycle_batch
            (B, 1) codes of the other system; without it there is no ``px_cycle``.
        compute_original, compute_cycle
            Which of the two to compute.
        y
            Not used.
        transform_batch
            System code that replaces every entry of ``batch_index``.

        Returns
        -------
        dict with ``px`` and ``px_cycle``, normal, (B, G) or (S, B, G).
        """
        if transform_batch is not None:
            batch_index = torch.ones_like(batch_index) * transform_batch
        cats, outputs = _columns(cat_covs), {}
        if compute_original:
            outputs["px"] = self.decoder(z, batch_index, *cats, cont=cont_covs)
        if compute_cycle and cycle_batch is not None:
            outputs["px_cycle"] = self.decoder(z, cycle_batch, *cats, cont=cont_covs)
        return outputs

    # cycle --------------------------------------------------------------------------------------

    def random_select_batch(self, batch: torch.Tensor) -> torch.Tensor:
        """Another system for each cell, all others equally likely; (B, 1) codes to (B, 1).

        Raises
        ------
        InvalidArgumentError
            If there is only one system.
        """
        if self.n_batch < 2:
            msg = (
                f"the cycle needs at least 2 systems, found n_batch={self.n_batch}; "
                "use z_distance_cycle_weight=0"
            )
            raise InvalidArgumentError(msg)
        return (batch + torch.randint_like(batch, 1, self.n_batch)) % self.n_batch

    def _encode_cycle(self, inputs: dict, generative_outputs: dict, batch: torch.Tensor) -> Normal:
        """Posterior of cells that were decoded for another system, encoded as cells of that system."""
        decoded: AffineNormal = generative_outputs[self.cycle_from]
        return self.encoder(
            decoded.affine, batch, *_columns(inputs["cat_covs"]), cont=inputs["cont_covs"]
        )

    def cycle_distance(
        self, qz: Normal, qz_cycle: Normal, batch_index: torch.Tensor
    ) -> torch.Tensor:
        """Squared distance of the two means, each dimension in units of its spread inside systems.

        Inside: of both means of all cells, around the centre of the cell's system. In the published form
        (:meth:`latent_cycle_consistency`) the unit is the spread over all cells, so that pulling the
        systems apart makes distances small, and the term that should bring them together keeps
        them separate. In both forms the gradient passes through the unit: the loss does not change
        if a dimension is stretched, and so does not shrink the latent space.

        Parameters
        ----------
        qz
            Posterior with (B, L) parameters.
        qz_cycle
            With (B, L) or (S, B, L) parameters.
        batch_index
            (B, 1) system codes.

        Returns
        -------
        (B,) or (S, B), without a unit.
        """
        system = F.one_hot(batch_index.flatten().long().repeat(2), self.n_batch)
        return _distance(qz, qz_cycle, lambda means: _variance_inside(means, system))

    @staticmethod
    def latent_cycle_consistency(qz: Normal, qz_cycle: Normal) -> torch.Tensor:
        """Squared distance of the two means in units of the spread over all of them, as published.

        Parameters
        ----------
        qz
            Posterior with (B, L) parameters.
        qz_cycle
            With (B, L) or (S, B, L) parameters.

        Returns
        -------
        (B,) or (S, B); the gradient passes through the unit, too.
        """
        return _distance(qz, qz_cycle, partial(variance_of_cells, correction=1))

    def forward(
        self,
        tensors: Minibatch,
        get_inference_input_kwargs: dict | None = None,
        get_generative_input_kwargs: dict | None = None,
        inference_kwargs: dict | None = None,
        generative_kwargs: dict | None = None,
        loss_kwargs: dict | None = None,
        compute_loss: bool = True,
    ) -> tuple:
        """Inference, generative, cycle (unless its weight is 0) and, if asked, loss of one minibatch.

        Parameters are those of :meth:`BaseModule.forward`.
        """
        if not self.training:
            tensors = to_device(tensors, self.device)
        weight = _as_dict(loss_kwargs).get("z_distance_cycle_weight", CYCLE_WEIGHT)
        inputs = self._get_inference_input(tensors, **_as_dict(get_inference_input_kwargs))
        inference_outputs = self.inference(**inputs, **_as_dict(inference_kwargs))
        other = self.random_select_batch(tensors[Keys.BATCH]) if weight > 0 else None
        generative_inputs = self._get_generative_input(
            tensors, inference_outputs, **_as_dict(get_generative_input_kwargs)
        )
        generative_outputs = self.generative(
            **generative_inputs, cycle_batch=other, **_as_dict(generative_kwargs)
        )
        if other is not None:
            inference_outputs["qz_cycle"] = self._encode_cycle(inputs, generative_outputs, other)
        if not compute_loss:
            return inference_outputs, generative_outputs
        losses = self.loss(tensors, inference_outputs, generative_outputs, **_as_dict(loss_kwargs))
        return inference_outputs, generative_outputs, losses

    # loss ---------------------------------------------------------------------------------------

    def loss(
        self,
        tensors: Minibatch,
        inference_outputs: dict,
        generative_outputs: dict,
        kl_weight: float | torch.Tensor = 1.0,
        reconstruction_weight: float = 1.0,
        z_distance_cycle_weight: float = CYCLE_WEIGHT,
        compute_cycle: bool = True,
    ) -> LossOutput:
        """``mean(reconstruction_weight * R + kl_weight * KL + z_distance_cycle_weight * Z)``.

        R is the Gaussian negative log-likelihood without its constant ``G log(2π) / 2``, KL the
        divergence from the prior (one sample for "vamp"), Z the cycle distance.

        Parameters
        ----------
        tensors
            Minibatch.
        inference_outputs, generative_outputs
            Of :meth:`forward`.
        kl_weight, reconstruction_weight, z_distance_cycle_weight
            Weights, >= 0.
        compute_cycle
            Not used: the cycle is computed where its weight is not 0.
        """
        qz = inference_outputs["qz"]
        reconstruction = self._reconstruction(tensors[Keys.X], generative_outputs["px"])
        kl = self.prior.kl(qz, inference_outputs["z"])
        cycle = torch.zeros_like(kl)
        if z_distance_cycle_weight > 0:
            cycle = self._cycle_term(qz, inference_outputs["qz_cycle"], tensors[Keys.BATCH])
            if Keys.BATCH_WEIGHTS in tensors:
                cycle = cycle * tensors[Keys.BATCH_WEIGHTS].flatten()
        return LossOutput(
            loss=(
                reconstruction_weight * reconstruction
                + kl_weight * kl
                + z_distance_cycle_weight * cycle
            ).mean(),
            reconstruction_loss=reconstruction,
            kl_local=kl,
            extra_metrics={"cycle_loss": cycle.mean()},
            n_obs_minibatch=qz.loc.shape[0],
        )

    def _cycle_term(self, qz: Normal, qz_cycle: Normal, batch: torch.Tensor) -> torch.Tensor:
        if self.pools_systems:
            return self.latent_cycle_consistency(qz, qz_cycle)
        return self.cycle_distance(qz, qz_cycle, batch)

    def _reconstruction(self, x: torch.Tensor, px: Normal) -> torch.Tensor:
        """(B,) or (S, B) Gaussian negative log-likelihood without its constant, nats."""
        if isinstance(px, AffineNormal):  # whose means need not be formed
            variance = px.gene_variance.sqrt() if self.std_as_variance else px.gene_variance
            return gaussian_nll(x, px.affine, variance)
        return gaussian_nll(x, px.loc, px.scale if self.std_as_variance else px.variance)

    def sample(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Not available: log-normalised values are described, not counts.

        Raises
        ------
        NotImplementedError
            Always.
        """
        msg = "SysVAE does not draw cells: its Gaussian describes normalised values, not counts"
        raise UnsupportedError(msg)


def _distance(
    qz: Normal, qz_cycle: Normal, variance: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """(..., B) squared distance of the two means, in units of a variance of all (..., 2B, L) of them."""
    cycle = qz_cycle.loc
    unit = variance(torch.cat([qz.loc.expand_as(cycle), cycle], dim=-2)) + SMALLEST_VARIANCE
    return ((qz.loc - cycle) ** 2 / unit).sum(-1)


def _variance_inside(means: torch.Tensor, system: torch.Tensor) -> torch.Tensor:
    """(..., 1, L) mean square of means (..., B, L) around the centre of their system, one-hot (B, n)."""
    system = system.to(means.dtype)
    sizes = sum_of_parts(system.sum(0)).clamp(min=1).unsqueeze(1)
    centres = sum_of_parts(system.t() @ means) / sizes
    return mean_of_parts((means - system @ centres).square().mean(-2, keepdim=True))


def _columns(cat_covs: Sequence[torch.Tensor] | torch.Tensor | None) -> list[torch.Tensor]:
    if cat_covs is None:
        return []
    return list(cat_covs.split(1, dim=1) if isinstance(cat_covs, torch.Tensor) else cat_covs)
