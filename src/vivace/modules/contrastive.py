"""What target cells have that background cells have not: two latent spaces, one of them for targets only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.distributions import Normal, kl_divergence

from vivace._ranks import as_of_all
from vivace._types import Keys
from vivace.errors import InvalidArgumentError, check_choice
from vivace.kernels import log1p_counts, row_sums
from vivace.likelihoods import ZeroInflatedNegativeBinomial
from vivace.modules.base import BaseModule, LossOutput, to_device
from vivace.modules.counts import DISPERSIONS, OVERDISPERSED, CountHead, log_scale
from vivace.modules.energy_distance import energy_distance
from vivace.modules.lazy import LazyOutputs
from vivace.modules.library import library_prior, library_prior_tables
from vivace.modules.pairs import (
    POPULATIONS,
    Pair,
    Populations,
    paired,
    sizes_of,
    stacked,
    sum_of_pairs,
)
from vivace.nn import CountDecoder, Encoder

TYPICAL_LIBRARY = 1e4
"""Expected total counts of cells drawn from the prior, where library sizes are observed."""

Outputs = dict[str, Any]


class ContrastiveVAE(BaseModule):
    """Variational autoencoder of background and target cells (contrastiveVI).

    Every cell has a background state ``z``, which both populations share; target cells also have a
    salient state ``s``, which is exactly 0 in background cells. Both are decoded together, so that
    ``s`` takes up what is new in the target. A minibatch is a pair ``{"background": tensors, "target":
    tensors}``.

    Parameters
    ----------
    n_input
        Number of genes.
    n_batch
        Number of batches; 0 or 1 means no batch effect is modelled.
    n_hidden
        Width of hidden layers.
    n_background_latent, n_salient_latent
        Dimensions of z and of s.
    n_layers
        Layers of encoders and decoder.
    dropout_rate
        Of the encoders; the decoder never drops.
    use_observed_lib_size
        Use the observed library size; otherwise it is a latent variable with a prior per batch.
    library_log_means, library_log_vars
        (1, n_batch) prior of the log library size; needed if it is latent.
    wasserstein_penalty
        Weight of the squared 2-Wasserstein distance between the salient posterior of background cells
        and a point mass at 0.
    n_labels
        Number of labels, for ``dispersion="gene-label"`` only.
    n_continuous_cov
        Number of continuous covariates.
    n_cats_per_cov
        Number of categories of each further categorical covariate.
    gene_likelihood
        A name in :data:`vivace.modules.counts.OVERDISPERSED`.
    dispersion
        "gene", "gene-batch" or "gene-label": what the inverse dispersion depends on.
    use_size_factor_key
        Scale by the minibatch's "size_factor" instead of the library; the scale is then a softplus.
    compat
        "scvi-tools" to answer as that library does: its other batches (``transform_batch``) reach the
        encoders too (:attr:`encodes_other_batch`).

    Raises
    ------
    InvalidArgumentError
        If an option is not known, or the options need what is missing (a prior for a latent library,
        batches for "gene-batch", labels for "gene-label").

    References
    ----------
    Weinberger, Lin & Lee 2023, Isolating salient variations of interest in single-cell data with
    contrastiveVI, Nat Methods.

    Examples
    --------
    >>> import torch
    >>> vae = ContrastiveVAE(n_input=50, n_batch=2)
    >>> pair = {
    ...     name: {
    ...         "X": torch.poisson(torch.ones(8, 50)),
    ...         "batch": torch.randint(2, (8, 1)),
    ...     }
    ...     for name in ("background", "target")
    ... }
    >>> inference_outputs, generative_outputs, losses = vae(pair)
    >>> losses.loss.backward()
    >>> inference_outputs["target"]["s"].shape
    torch.Size([8, 10])
    >>> bool((inference_outputs["background"]["s"] == 0).all())
    True
    """

    latent_distribution = "normal"

    def __init__(
        self,
        n_input: int,
        n_batch: int = 0,
        n_hidden: int = 128,
        n_background_latent: int = 10,
        n_salient_latent: int = 10,
        n_layers: int = 1,
        dropout_rate: float = 0.1,
        use_observed_lib_size: bool = True,
        library_log_means: np.ndarray | None = None,
        library_log_vars: np.ndarray | None = None,
        wasserstein_penalty: float = 0,
        *,
        n_labels: int = 0,
        n_continuous_cov: int = 0,
        n_cats_per_cov: Sequence[int] | None = None,
        gene_likelihood: str = "zinb",
        dispersion: str = "gene",
        use_size_factor_key: bool = False,
        compat: str | None = None,
    ):
        super().__init__()
        check_choice("gene_likelihood", gene_likelihood, OVERDISPERSED)
        check_choice("dispersion", dispersion, [d for d in DISPERSIONS if d != "gene-cell"])
        check_choice("compat", compat, (None, "scvi-tools"))
        self.n_input = n_input
        self.n_batch = n_batch
        self.n_hidden = n_hidden
        self.n_background_latent = n_background_latent
        self.n_salient_latent = n_salient_latent
        self.n_layers = n_layers
        self.dropout_rate = dropout_rate
        self.use_observed_lib_size = use_size_factor_key or use_observed_lib_size
        self.wasserstein_penalty = wasserstein_penalty
        self.n_labels = n_labels
        self.n_continuous_cov = n_continuous_cov
        self.n_cats_per_cov = list(n_cats_per_cov or [])
        self.gene_likelihood = gene_likelihood
        self.dispersion = dispersion
        self.use_size_factor_key = use_size_factor_key
        self.encodes_other_batch = compat == "scvi-tools"

        self.register_buffer("library_log_means", None)
        self.register_buffer("library_log_vars", None)
        if not self.use_observed_lib_size:
            self.library_log_means, self.library_log_vars = library_prior_tables(
                library_log_means, library_log_vars
            )
        activation = "softplus" if use_size_factor_key else "softmax"
        self.count_head = CountHead(gene_likelihood, dispersion, activation)
        self.px_r = self.count_head.initial_px_r(n_input, n_batch, n_labels)

        cat_list = [n_batch, *self.n_cats_per_cov]
        shared: dict[str, Any] = {
            "n_cat_list": cat_list,
            "n_hidden": n_hidden,
            "dropout_rate": dropout_rate,
            "n_cont": n_continuous_cov,
        }
        self.z_encoder = Encoder(n_input, n_background_latent, n_layers=n_layers, **shared)
        self.s_encoder = Encoder(n_input, n_salient_latent, n_layers=n_layers, **shared)
        self.l_encoder = (
            None if self.use_observed_lib_size else Encoder(n_input, 1, n_layers=1, **shared)
        )
        self.decoder = CountDecoder(
            n_background_latent + n_salient_latent + n_continuous_cov,
            n_input,
            n_cat_list=cat_list,
            n_layers=n_layers,
            n_hidden=n_hidden,
            use_batch_norm=True,
            **self.count_head.decoder_heads,
        )

    def forward(
        self,
        tensors: Populations,
        get_inference_input_kwargs: dict | None = None,
        get_generative_input_kwargs: dict | None = None,
        inference_kwargs: dict | None = None,
        generative_kwargs: dict | None = None,
        loss_kwargs: dict | None = None,
        compute_loss: bool = True,
    ) -> tuple:
        """Inference, generative and, if asked, loss of one pair of minibatches.

        As :meth:`BaseModule.forward`, on one table of both populations from the first step to the last.
        """
        if not self.training:
            tensors = to_device(tensors, self.device)
        cells = paired(tensors)
        inputs = self._encoder_inputs(cells.table, **(get_inference_input_kwargs or {}))
        outputs = self._infer(cells.sizes[0], **inputs, **(inference_kwargs or {}))
        inputs = self._decoder_inputs(cells.table, outputs, **(get_generative_input_kwargs or {}))
        decoded = self._decode(**inputs, **(generative_kwargs or {}))
        found = Pair(outputs, cells.sizes), Pair(decoded, cells.sizes)
        if not compute_loss:
            return found
        losses = self._loss(cells, outputs, decoded["px"], **(loss_kwargs or {}))
        return *found, losses

    # inference ----------------------------------------------------------------------------------

    def _get_inference_input(self, tensors: Populations) -> Pair:
        cells = paired(tensors)
        return Pair(self._encoder_inputs(cells.table), cells.sizes)

    @staticmethod
    def _encoder_inputs(tensors: Mapping[str, Any]) -> dict:
        return {
            "x": tensors[Keys.X],
            "batch_index": tensors[Keys.BATCH],
            "cont_covs": tensors.get(Keys.CONT_COVS),
            "cat_covs": tensors.get(Keys.CAT_COVS),
        }

    def inference(
        self,
        background: Mapping[str, torch.Tensor],
        target: Mapping[str, torch.Tensor],
        n_samples: int = 1,
    ) -> Pair:
        """Posterior of the latent variables of both populations.

        Parameters
        ----------
        background, target
            ``x`` (B, G) counts, dense or CSR; ``batch_index`` (B, 1); optionally ``cont_covs``
            (B, n_cont) and ``cat_covs`` (B, n_cat).
        n_samples
            Number S of samples; 1 gives a reparametrised one, more are drawn without gradient and give
            every output a leading axis.

        Returns
        -------
        For each population a mapping with ``z`` (B, L), ``qz_m``, ``qz_v`` (mean and variance of its
        posterior), ``s``, ``qs_m``, ``qs_v`` alike, ``library`` (B, 1) natural log, ``ql_m``, ``ql_v``
        (None unless the library is latent). The background's ``s`` is exactly 0; its posterior is kept
        for the penalty.
        """
        given = {"background": background, "target": target}
        cells = stacked(given, sizes_of(given, "batch_index"))
        outputs = self._infer(cells.sizes[0], **cells.table, n_samples=n_samples)
        return Pair(outputs, cells.sizes)

    def _infer(self, n_background: int, **inputs: Any) -> Outputs:
        """Inference of one table; the salient state of its first ``n_background`` cells is 0."""
        outputs = self._generic_inference(**inputs)
        s = outputs["s"]
        none = torch.zeros_like(s[..., :n_background, :])
        outputs["s"] = torch.cat([none, s[..., n_background:, :]], dim=-2)
        return outputs

    def _generic_inference(
        self,
        x: torch.Tensor,
        batch_index: torch.Tensor,
        n_samples: int = 1,
        cont_covs: torch.Tensor | None = None,
        cat_covs: torch.Tensor | None = None,
    ) -> Outputs:
        """Inference of cells of any population; ``s`` is that of the encoder."""
        (qz, z), (qs, s), (ql, log_library) = self._encode(x, batch_index, cont_covs, cat_covs)
        shape = (n_samples,) if n_samples > 1 else ()
        if shape:
            z, s = qz.sample(shape), qs.sample(shape)
            log_library = (
                log_library.expand(*shape, *log_library.shape) if ql is None else ql.sample(shape)
            )
        outputs = {"z": z, "s": s, "library": log_library}
        for name, q in (("z", qz), ("s", qs), ("l", ql)):
            outputs[f"q{name}_m"] = None if q is None else q.loc.expand(*shape, *q.loc.shape)
            outputs[f"q{name}_v"] = None if q is None else (q.scale**2).expand(*shape, *q.loc.shape)
        return outputs

    def _encode(self, x, batch_index, cont_covs, cat_covs):
        """Posterior and one sample of z, of s and of the log library (posterior None if observed)."""
        features, cats = log1p_counts(x), categories(batch_index, cat_covs)
        of_library = (
            (None, torch.log(row_sums(x)))
            if self.l_encoder is None
            else self.l_encoder(features, *cats, cont=cont_covs)
        )
        return (
            self.z_encoder(features, *cats, cont=cont_covs),
            self.s_encoder(features, *cats, cont=cont_covs),
            of_library,
        )

    # generative ---------------------------------------------------------------------------------

    def _get_generative_input(self, tensors: Populations, inference_outputs: Populations) -> Pair:
        sizes = sizes_of(inference_outputs, "z")
        cells, outputs = stacked(tensors, sizes), stacked(inference_outputs, sizes)
        return Pair(self._decoder_inputs(cells.table, outputs.table), sizes)

    @staticmethod
    def _decoder_inputs(tensors: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict:
        size_factor = tensors.get(Keys.SIZE_FACTOR)
        return {
            "z": outputs["z"],
            "s": outputs["s"],
            "library": outputs["library"],
            "batch_index": tensors[Keys.BATCH],
            "cont_covs": tensors.get(Keys.CONT_COVS),
            "cat_covs": tensors.get(Keys.CAT_COVS),
            "size_factor": None if size_factor is None else torch.log(size_factor),
            "y": tensors.get(Keys.LABELS),
        }

    def generative(
        self,
        background: Mapping[str, torch.Tensor],
        target: Mapping[str, torch.Tensor],
        *,
        transform_batch: int | None = None,
    ) -> Pair:
        """Parameters of the count distributions of both populations.

        Parameters
        ----------
        background, target
            ``z`` (B, L), ``s``, ``library`` (B, 1), each with or without a leading S; ``batch_index``
            (B, 1); optionally ``cont_covs``, ``cat_covs``, ``size_factor`` (B, 1) natural log, ``y``
            (B, 1) label codes.
        transform_batch
            Batch code that replaces every entry of ``batch_index``.

        Returns
        -------
        For each population a mapping with ``px_scale``, ``px_rate``, ``px_dropout`` (B, G) or
        (S, B, G), and ``px_r``, (G,) where it is one for all cells; computed when asked for, as the loss
        needs only the distribution that they are of.
        """
        given = {"background": background, "target": target}
        cells = stacked(given, sizes_of(given, "batch_index"))
        return Pair(self._decode(**cells.table, transform_batch=transform_batch), cells.sizes)

    def _decode(self, *, transform_batch: int | None = None, **inputs: Any) -> LazyOutputs:
        """What :meth:`generative` says of one table, and ``px``, the distribution of all its counts."""
        if transform_batch is not None:
            inputs["batch_index"] = torch.full_like(inputs["batch_index"], transform_batch)
        return LazyOutputs(**self.count_head.outputs(self._generic_generative(**inputs)))

    def _generic_generative(
        self,
        z: torch.Tensor,
        s: torch.Tensor,
        library: torch.Tensor,
        batch_index: torch.Tensor,
        cont_covs: torch.Tensor | None = None,
        cat_covs: torch.Tensor | None = None,
        size_factor: torch.Tensor | None = None,
        y: torch.Tensor | None = None,
    ) -> Any:
        """Distribution of the counts of cells of any population."""
        latent = [z, s]
        if cont_covs is not None:
            latent.append(cont_covs.expand(*z.shape[:-1], -1))
        heads = self.decoder(torch.cat(latent, dim=-1), *categories(batch_index, cat_covs))
        log_library = log_scale(self.use_size_factor_key, library, size_factor)
        return self.count_head.distribution(heads, log_library, self.px_r, batch_index, y)

    # loss ---------------------------------------------------------------------------------------

    @staticmethod
    def reconstruction_loss(
        x: torch.Tensor, px_rate: torch.Tensor, px_r: torch.Tensor, px_dropout: torch.Tensor
    ) -> torch.Tensor:
        """Negative log-likelihood of zero-inflated negative binomial counts.

        Parameters
        ----------
        x
            (B, G) counts, dense or CSR.
        px_rate, px_r, px_dropout
            Mean, inverse dispersion and log-odds of a technical zero; (B, G) or (S, B, G), ``px_r``
            also (G,).

        Returns
        -------
        (B,) or (S, B), nats.
        """
        return -ZeroInflatedNegativeBinomial(
            px_rate, px_r, px_dropout, validate_args=False
        ).log_prob_sum(x)

    @staticmethod
    def latent_kl_divergence(
        variational_mean: torch.Tensor,
        variational_var: torch.Tensor | float,
        prior_mean: torch.Tensor | float,
        prior_var: torch.Tensor | float,
    ) -> torch.Tensor:
        """Divergence of normal variables from their priors, summed over the last axis.

        Parameters
        ----------
        variational_mean, prior_mean
            (..., B, L), or numbers.
        variational_var, prior_var
            Variances, > 0, likewise.

        Returns
        -------
        (..., B), nats.

        Examples
        --------
        >>> import torch
        >>> ContrastiveVAE.latent_kl_divergence(torch.tensor([[0.0, 1.0]]), 0.25, 0, 1)
        tensor([1.1363])
        """
        zeros = torch.zeros_like(variational_mean)  # numbers become tensors where the others lie
        ratio = (zeros + variational_var) / prior_var
        distance = (variational_mean - prior_mean) ** 2 / prior_var
        return 0.5 * (ratio + distance - 1 - torch.log(ratio)).sum(-1)

    def library_kl_divergence(
        self,
        batch_index: torch.Tensor,
        variational_library_mean: torch.Tensor | None,
        variational_library_var: torch.Tensor | None,
        library: torch.Tensor,
    ) -> torch.Tensor:
        """Divergence of the log library from its prior; 0 where the library is observed.

        Parameters
        ----------
        batch_index
            (B, 1) batch codes.
        variational_library_mean, variational_library_var
            (B, 1) or (S, B, 1), mean and variance; unused if the library is observed.
        library
            (B, 1) or (S, B, 1), log library.

        Returns
        -------
        (B,) or (S, B), nats.
        """
        if variational_library_mean is None or variational_library_var is None:
            return torch.zeros_like(library).sum(-1)
        q = Normal(variational_library_mean, variational_library_var.sqrt(), validate_args=False)
        return kl_divergence(q, self._library_prior(batch_index)).sum(-1)

    def _library_prior(self, batch_index: torch.Tensor) -> Normal:
        return library_prior(self.library_log_means, self.library_log_vars, batch_index)

    def loss(
        self,
        concat_tensors: Populations,
        inference_outputs: Populations,
        generative_outputs: Populations,
        kl_weight: float | torch.Tensor = 1.0,
        *,
        energy_distance_weight: float = 0.0,
    ) -> LossOutput:
        """Negative evidence lower bound of a pair of a background and a target cell, mean over pairs.

        ``mean(R + kl_weight * (wasserstein_penalty * W + KL_z + KL_s) + KL_library) +
        energy_distance_weight * D`` in nats, where R, KL_z and KL_library are sums over the two cells,
        KL_s is the target's, and ``W = |mean|^2 + sum(variance)`` of the background's salient
        posterior. The penalty is warmed up with the KL terms. Its sum over the minibatch is the metric
        "wasserstein_loss_sum". D, the metric "energy_distance" where it has a weight, is the
        :func:`~vivace.modules.energy_distance.energy_distance` of the drawn background states of
        background cells from those of target cells: it keeps out of them what tells the populations
        apart, which is the salient state's to say.

        Parameters
        ----------
        concat_tensors
            The pair of minibatches; not modified. The larger one counts up to the size of the other.
        inference_outputs, generative_outputs
            Of :meth:`inference` and :meth:`generative`, of these cells or of the pairs among them.
        kl_weight
            Weight of the divergences of z and s and of the penalty, >= 0.
        energy_distance_weight
            Weight of D, >= 0; no part of the published loss, which 0 gives.
        """
        sizes = sizes_of(inference_outputs, "z")
        decoded = stacked(generative_outputs, sizes).table
        px = decoded.get("px")
        if px is None:  # of parameters that were put together by hand
            parameters = (decoded[key] for key in ("px_rate", "px_r", "px_dropout"))
            px = self.count_head.likelihood.of_means(*parameters)
        outputs = stacked(inference_outputs, sizes).table
        cells = stacked(concat_tensors, sizes)
        return self._loss(cells, outputs, px, kl_weight, energy_distance_weight)

    def _loss(
        self,
        cells: Pair,
        outputs: Mapping[str, Any],
        px: Any,
        kl_weight: float | torch.Tensor = 1.0,
        energy_distance_weight: float = 0.0,
    ) -> LossOutput:
        """:meth:`loss` of one table."""
        both, n, n_pairs = cells.table, cells.sizes[0], min(cells.sizes)
        reconstruction = -sum_of_pairs(px.log_prob_sum(both[Keys.X]), n)
        kl_z = sum_of_pairs(self.latent_kl_divergence(outputs["qz_m"], outputs["qz_v"], 0, 1), n)
        of_library = [outputs[key] for key in ("ql_m", "ql_v", "library")]
        kl_l = sum_of_pairs(self.library_kl_divergence(both[Keys.BATCH], *of_library), n)
        mean, variance, target = outputs["qs_m"], outputs["qs_v"], slice(n, n + n_pairs)
        kl_s = self.latent_kl_divergence(mean[..., target, :], variance[..., target, :], 0, 1)
        wasserstein = (mean[..., :n_pairs, :] ** 2 + variance[..., :n_pairs, :]).sum(-1)
        warmed_up = self.wasserstein_penalty * wasserstein + kl_z + kl_s
        loss = (reconstruction + kl_weight * warmed_up + kl_l).mean()
        metrics = {"wasserstein_loss_sum": as_of_all(wasserstein.sum())}
        if energy_distance_weight > 0:
            z = outputs["z"]
            distance = energy_distance(z[..., :n_pairs, :], z[..., target, :]).mean()
            loss = loss + energy_distance_weight * distance
            metrics["energy_distance"] = distance
        return LossOutput(
            loss=loss,
            reconstruction_loss=reconstruction,
            kl_local={"kl_divergence_l": kl_l, "kl_divergence_z": kl_z, "kl_divergence_s": kl_s},
            extra_metrics=metrics,
            n_obs_minibatch=reconstruction.shape[-1],
        )

    # questions ----------------------------------------------------------------------------------

    @torch.inference_mode()
    def sample(
        self,
        *,
        tensors: Populations | None = None,
        n_samples: int = 1,
        library_size: float | None = None,
    ) -> dict[str, torch.Tensor]:
        """Posterior predictive counts of both populations, or counts of cells drawn from the prior.

        Parameters
        ----------
        tensors
            The pair of minibatches; None to draw cells from the prior.
        n_samples
            Number S of draws of the latent state, each giving one draw of counts; without ``tensors``
            the number of cells of either population.
        library_size
            Of cells drawn from the prior, > 0: their expected total counts where the library size is
            observed, which then has no prior (default 10,000), or their size factor (default 1).

        Returns
        -------
        For each population (B, G), or (B, G, S) for S > 1, on the CPU; without ``tensors`` (S, G).

        Raises
        ------
        InvalidArgumentError
            If ``library_size`` is not above 0, or given where it is not used.

        Examples
        --------
        >>> vae = ContrastiveVAE(20, n_background_latent=3, n_salient_latent=2)
        >>> vae.sample(n_samples=5)["target"].shape
        torch.Size([5, 20])
        """
        if tensors is None:
            counts = self._generic_generative(**self._prior_cells(n_samples, library_size)).sample()
            return dict(zip(POPULATIONS, counts.cpu().chunk(2), strict=True))
        if library_size is not None:
            msg = "library_size is of cells drawn from the prior: leave it out beside tensors"
            raise InvalidArgumentError(msg)
        _, decoded = self.forward(
            to_device(tensors, self.device),
            inference_kwargs={"n_samples": n_samples},
            compute_loss=False,
        )
        counts = decoded.table["px"].sample()
        counts = (counts.permute(1, 2, 0) if n_samples > 1 else counts).cpu()
        return dict(zip(POPULATIONS, counts.chunk(2), strict=True))

    def _prior_cells(self, n: int, library_size: float | None) -> dict:
        """Inputs of the decoder for n background and n target cells drawn from the prior.

        Batches and labels are any, each as likely; further covariates are 0.
        """
        like = next(self.decoder.parameters())
        z = torch.randn(2 * n, self.n_background_latent).to(like)
        s = torch.cat(
            [torch.zeros(n, self.n_salient_latent), torch.randn(n, self.n_salient_latent)]
        )
        batch, label = (
            torch.randint(max(k, 1), (2 * n, 1)).to(like.device)
            for k in (self.n_batch, self.n_labels)
        )
        n_cont, n_cats = self.n_continuous_cov, len(self.n_cats_per_cov)
        log_library = self._prior_log_library(batch, library_size)
        return {
            "z": z,
            "s": s.to(like),
            "library": log_library,
            "batch_index": batch,
            "cont_covs": z.new_zeros(2 * n, n_cont) if n_cont else None,
            "cat_covs": batch.new_zeros(2 * n, n_cats) if n_cats else None,
            "size_factor": log_library,
            "y": label,
        }

    def _prior_log_library(self, batch: torch.Tensor, library_size: float | None) -> torch.Tensor:
        """(B, 1) log library, or log size factor, of cells drawn from the prior."""
        if not self.use_observed_lib_size:
            if library_size is None:
                return self._library_prior(batch).sample()
            msg = "library_size: the library size is latent in this model and drawn from its prior"
            raise InvalidArgumentError(msg)
        default = 1.0 if self.use_size_factor_key else TYPICAL_LIBRARY
        size = default if library_size is None else library_size
        if not 0 < size < math.inf:
            msg = f"library_size={library_size} must be above 0 and finite"
            raise InvalidArgumentError(msg)
        return torch.full(batch.shape, math.log(size)).to(next(self.decoder.parameters()))


def categories(batch_index: torch.Tensor, cat_covs: torch.Tensor | None) -> list[torch.Tensor]:
    """Codes as the layers take them, each (B, 1)."""
    return [batch_index, *([] if cat_covs is None else torch.split(cat_covs, 1, dim=1))]
