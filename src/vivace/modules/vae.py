"""The variational autoencoder of counts that all other models build on (scVI)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.distributions import Normal, kl_divergence

from vivace._types import Keys, Minibatch
from vivace.errors import InvalidArgumentError, check_choice
from vivace.kernels import log1p_counts, row_sums
from vivace.likelihoods import Poisson
from vivace.modules.base import BaseModule, LossOutput, to_device
from vivace.modules.counts import DISPERSIONS, LIKELIHOODS, OF_COUNTS, CountHead, log_scale
from vivace.modules.depth import scaled_to_depth
from vivace.modules.library import library_prior, library_prior_tables
from vivace.modules.thinning import thinned_view
from vivace.nn import CountDecoder, Encoder, standard_normal_divergence

NORM_PLACES = ("encoder", "decoder", "none", "both")


class VAE(BaseModule):
    """Variational autoencoder of counts (scVI).

    A cell's latent state ``z`` and library size are decoded, together with its batch and covariates,
    to the parameters of a count distribution of every gene.

    Parameters
    ----------
    n_input
        Number of genes.
    n_batch
        Number of batches; 0 or 1 means no batch effect is modelled.
    n_labels
        Number of labels, for ``dispersion="gene-label"`` only.
    n_hidden, n_latent, n_layers
        Width of hidden layers, latent dimensions, layers of encoder and decoder.
    n_continuous_cov
        Number of continuous covariates.
    n_cats_per_cov
        Number of categories of each further categorical covariate.
    dropout_rate
        Of the encoders; the decoder never drops.
    dispersion
        "gene", "gene-batch", "gene-label" or "gene-cell": what the inverse dispersion depends on.
    log_variational
        Encoders see ``log1p(x)``.
    gene_likelihood
        A name in :data:`vivace.modules.counts.LIKELIHOODS`.
    latent_distribution
        "normal", or "ln" (logistic normal).
    encode_covariates
        Give covariates to the encoders as well.
    deeply_inject_covariates
        Covariates into every layer, not only the first.
    batch_representation
        "one-hot" or "embedding".
    use_batch_norm, use_layer_norm
        "encoder", "decoder", "none" or "both".
    use_size_factor_key
        Scale by the minibatch's "size_factor" instead of the library; the scale is then a softplus.
    use_observed_lib_size
        Use the observed library size; otherwise it is a latent variable with a prior per batch.
    extra_payload_autotune
        Add the tensors z, batch and labels to the loss output's ``extra_metrics``.
    library_log_means, library_log_vars
        (1, n_batch) prior of the log library size; needed if it is latent.
    var_activation
        Maps raw encoder outputs to variances; default ``exp``.
    extra_encoder_kwargs, extra_decoder_kwargs
        To :class:`~vivace.nn.Encoder` and :class:`~vivace.nn.CountDecoder`.
    batch_embedding_kwargs
        E.g. ``{"embedding_dim": 10}``.
    encoder_depth_scaling
        In [0, 1]: the encoder of ``z`` sees counts times ``(100 / library) ** encoder_depth_scaling``. 0: the
        counts as they are, as published. 1: what they would be, were all cells of the same depth. With 1/2
        the sampling noise of a gene is alike at every depth (a Poisson count's deviation grows like
        the square root of the depth), and how deeply a cell was measured, so how much it says, can
        still be seen. With ``gene_likelihood="normal"``, whose values are no counts, not used.

    Raises
    ------
    InvalidArgumentError
        If an option is not known, or the options need what is missing (a prior for a latent library,
        batches for "gene-batch", labels for "gene-label").

    References
    ----------
    Lopez et al. 2018, Deep generative modeling for single-cell transcriptomics, Nat Methods.

    Examples
    --------
    >>> import torch
    >>> vae = VAE(n_input=50, n_batch=2)
    >>> cells = {
    ...     "X": torch.poisson(torch.ones(8, 50)),
    ...     "batch": torch.randint(2, (8, 1)),
    ...     "labels": torch.zeros(8, 1, dtype=torch.long),
    ... }
    >>> inference_outputs, generative_outputs, losses = vae(cells)
    >>> losses.loss.backward()
    >>> inference_outputs["z"].shape
    torch.Size([8, 10])
    """

    library_log_means: torch.Tensor
    library_log_vars: torch.Tensor
    thinned_share: float = 0.0
    """In training, share of the cells of which the encoder of ``z`` sees fewer counts (TrainOptions)."""

    def __init__(
        self,
        n_input: int,
        n_batch: int = 0,
        n_labels: int = 0,
        n_hidden: int = 128,
        n_latent: int = 10,
        n_layers: int = 1,
        n_continuous_cov: int = 0,
        n_cats_per_cov: Sequence[int] | None = None,
        dropout_rate: float = 0.1,
        dispersion: str = "gene",
        log_variational: bool = True,
        gene_likelihood: str = "zinb",
        latent_distribution: str = "normal",
        encode_covariates: bool = False,
        deeply_inject_covariates: bool = True,
        batch_representation: str = "one-hot",
        use_batch_norm: str = "both",
        use_layer_norm: str = "none",
        use_size_factor_key: bool = False,
        use_observed_lib_size: bool = True,
        extra_payload_autotune: bool = False,
        library_log_means: np.ndarray | None = None,
        library_log_vars: np.ndarray | None = None,
        var_activation: Callable[[torch.Tensor], torch.Tensor] | None = None,
        extra_encoder_kwargs: dict | None = None,
        extra_decoder_kwargs: dict | None = None,
        batch_embedding_kwargs: dict | None = None,
        *,
        encoder_depth_scaling: float = 0.0,
    ):
        super().__init__()
        check_choice("dispersion", dispersion, DISPERSIONS)
        check_choice("gene_likelihood", gene_likelihood, LIKELIHOODS)
        check_choice("latent_distribution", latent_distribution, ("normal", "ln"))
        check_choice("batch_representation", batch_representation, ("one-hot", "embedding"))
        check_choice("use_batch_norm", use_batch_norm, NORM_PLACES)
        check_choice("use_layer_norm", use_layer_norm, NORM_PLACES)
        self.n_input = n_input
        self.n_batch = n_batch
        self.n_labels = n_labels
        self.n_hidden = n_hidden
        self.n_latent = n_latent
        self.n_layers = n_layers
        self.dispersion = dispersion
        self.log_variational = log_variational
        of_counts = gene_likelihood in OF_COUNTS
        self.encoder_depth_scaling = encoder_depth_scaling if of_counts else 0.0
        self.gene_likelihood = gene_likelihood
        self.latent_distribution = latent_distribution
        self.encode_covariates = encode_covariates
        self.deeply_inject_covariates = deeply_inject_covariates
        self.batch_representation = batch_representation
        self.use_size_factor_key = use_size_factor_key
        self.use_observed_lib_size = use_size_factor_key or use_observed_lib_size
        self.extra_payload_autotune = extra_payload_autotune
        self.minified_data_type: str | None = None

        if not self.use_observed_lib_size:
            means, variances = library_prior_tables(library_log_means, library_log_vars)
            self.register_buffer("library_log_means", means)
            self.register_buffer("library_log_vars", variances)
        activation = "softplus" if use_size_factor_key else "softmax"
        self.can_thin = of_counts
        self.count_head = CountHead(gene_likelihood, dispersion, activation)
        self.px_r = self.count_head.initial_px_r(n_input, n_batch, n_labels)

        cats = list(n_cats_per_cov or [])
        n_cont, cat_list = n_continuous_cov, [n_batch, *cats]
        if batch_representation == "embedding":
            self.init_embedding("batch", max(n_batch, 1), **(batch_embedding_kwargs or {}))
            n_cont += self.get_embedding("batch").embedding_dim
            cat_list = cats
        encoder_kwargs = {
            "n_cat_list": cat_list if encode_covariates else None,
            "n_hidden": n_hidden,
            "dropout_rate": dropout_rate,
            "inject_covariates": deeply_inject_covariates,
            "use_batch_norm": use_batch_norm in ("encoder", "both"),
            "use_layer_norm": use_layer_norm in ("encoder", "both"),
            "var_activation": var_activation,
            **(extra_encoder_kwargs or {}),
        }
        n_encoder_input = n_input + (n_cont if encode_covariates else 0)
        self.z_encoder = Encoder(
            n_encoder_input,
            n_latent,
            n_layers=n_layers,
            distribution=latent_distribution,
            **encoder_kwargs,
        )
        self.l_encoder = (
            None
            if self.use_observed_lib_size
            else Encoder(n_encoder_input, 1, n_layers=1, **encoder_kwargs)
        )
        self.decoder = CountDecoder(
            n_latent + n_cont,
            n_input,
            n_cat_list=cat_list,
            n_layers=n_layers,
            n_hidden=n_hidden,
            inject_covariates=deeply_inject_covariates,
            use_batch_norm=use_batch_norm in ("decoder", "both"),
            use_layer_norm=use_layer_norm in ("decoder", "both"),
            **self.count_head.decoder_heads,
            **(extra_decoder_kwargs or {}),
        )

    # inference ----------------------------------------------------------------------------------

    def _get_inference_input(self, tensors: Minibatch, full_forward_pass: bool = False) -> dict:
        inputs = {
            "x": tensors.get(Keys.X),
            "batch_index": tensors[Keys.BATCH],
            "cont_covs": tensors.get(Keys.CONT_COVS),
            "cat_covs": tensors.get(Keys.CAT_COVS),
        }
        if Keys.LATENT_MEAN in tensors and not full_forward_pass:
            inputs |= {
                "qzm": tensors[Keys.LATENT_MEAN],
                "qzv": tensors[Keys.LATENT_VAR],
                "observed_lib_size": tensors[Keys.OBSERVED_LIBRARY],
            }
        return inputs

    def inference(
        self,
        x: torch.Tensor,
        batch_index: torch.Tensor,
        cont_covs: torch.Tensor | None = None,
        cat_covs: torch.Tensor | None = None,
        n_samples: int = 1,
        *,
        qzm: torch.Tensor | None = None,
        qzv: torch.Tensor | None = None,
        observed_lib_size: torch.Tensor | None = None,
    ) -> dict:
        """Posterior of the latent variables.

        Parameters
        ----------
        x
            (B, G) counts, dense or CSR.
        batch_index
            (B, 1) batch codes.
        cont_covs, cat_covs
            (B, n_cont) and (B, n_cat) covariates.
        n_samples
            Number S of samples; 1 gives a reparametrised one, more are drawn without gradient.
        qzm, qzv, observed_lib_size
            (B, L), (B, L), (B, 1): of minified data, instead of encoding ``x``.

        Returns
        -------
        dict with ``z`` (B, L) or (S, B, L); ``qz`` Normal with (B, L) parameters; ``ql`` Normal (B, 1)
        or None; ``library`` (B, 1) or (S, B, 1), natural log (-inf for an empty cell).
        """
        if qzm is not None and qzv is not None and observed_lib_size is not None:
            qz = Normal(qzm, qzv.sqrt(), validate_args=False)
            return self._draw(qz, None, None, torch.log(observed_lib_size), n_samples)
        qz, z, ql, log_library = self._encode(x, batch_index, cont_covs, cat_covs)
        return self._draw(qz, z, ql, log_library, n_samples)

    def _encode(self, x, batch_index, cont_covs, cat_covs):
        """Posterior and a sample of z, posterior (None if observed) and a sample of the log library."""
        thinned = self.training and self.thinned_share > 0
        seen = thinned_view(x, self.thinned_share) if thinned else x
        features, cats = self._encoder_input(seen, batch_index, cont_covs, cat_covs)
        qz, z = self.z_encoder(features, *cats)
        if self.l_encoder is None:
            return qz, z, None, torch.log(row_sums(x))
        # how deeply a cell was measured can be told from its counts as they are only
        features, _ = self._encoder_input(x, batch_index, cont_covs, cat_covs, scaling=0.0)
        return qz, z, *self.l_encoder(features, *cats)

    def _encoder_input(self, x, batch_index, cont_covs, cat_covs, scaling: float | None = None):
        """Features (B, G + covariates) and categorical covariates that the encoders see."""
        cats = self._categories(batch_index, cat_covs)
        scaling = self.encoder_depth_scaling if scaling is None else scaling
        seen = scaled_to_depth(x, scaling) if scaling else x
        features = log1p_counts(seen) if self.log_variational else seen
        if self.encode_covariates:
            extra = self._continuous(batch_index, cont_covs)
            if extra is not None:
                dense = features if features.layout == torch.strided else features.to_dense()
                features = torch.cat([dense, extra], dim=-1)
        return features, cats

    def _draw(self, qz, z, ql, log_library, n_samples: int) -> dict:
        """Put outputs together, drawing S samples without gradient where they are wanted."""
        if z is None or n_samples > 1:
            shape = (n_samples,) if n_samples > 1 else ()
            z = self.latent_of(qz.sample(shape))
            log_library = (
                log_library.expand(*shape, *log_library.shape) if ql is None else ql.sample(shape)
            )
        return {"z": z, "qz": qz, "ql": ql, "library": log_library}

    def latent_of(self, u: torch.Tensor) -> torch.Tensor:
        """From the normal variable to the latent one: softmax for "ln", else itself."""
        return self.z_encoder.z_transformation(u)

    def _categories(
        self, batch_index: torch.Tensor, cat_covs: torch.Tensor | None
    ) -> list[torch.Tensor]:
        cats = [] if cat_covs is None else list(torch.split(cat_covs, 1, dim=1))
        return cats if self.batch_representation == "embedding" else [batch_index, *cats]

    def _continuous(
        self, batch_index: torch.Tensor, cont_covs: torch.Tensor | None
    ) -> torch.Tensor | None:
        parts = [] if cont_covs is None else [cont_covs]
        if self.batch_representation == "embedding":
            parts.append(self.compute_embedding("batch", batch_index))
        return torch.cat(parts, dim=-1) if parts else None

    # generative ---------------------------------------------------------------------------------

    def _get_generative_input(self, tensors: Minibatch, inference_outputs: dict) -> dict:
        size_factor = tensors.get(Keys.SIZE_FACTOR)
        return {
            "z": inference_outputs["z"],
            "library": inference_outputs["library"],
            "batch_index": tensors[Keys.BATCH],
            "cont_covs": tensors.get(Keys.CONT_COVS),
            "cat_covs": tensors.get(Keys.CAT_COVS),
            "size_factor": None if size_factor is None else torch.log(size_factor),
            "y": tensors.get(Keys.LABELS),
        }

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
        """Distribution of the counts.

        Parameters
        ----------
        z
            (B, L) or (S, B, L).
        library
            (B, 1) or (S, B, 1), natural log.
        batch_index, cont_covs, cat_covs
            Covariates, (B, .).
        size_factor
            (B, 1) natural log; used only with ``use_size_factor_key``.
        y
            (B, 1) label codes, for ``dispersion="gene-label"``.
        transform_batch
            Batch code that replaces every entry of ``batch_index``.

        Returns
        -------
        dict with ``px`` (shapes (B, G) or (S, B, G)), ``pl`` prior of the library (B, 1) or None,
        ``pz`` N(0, 1) shaped like ``z``.
        """
        if transform_batch is not None:
            batch_index = torch.ones_like(batch_index) * transform_batch
        extra = self._continuous(batch_index, cont_covs)
        decoder_input = z
        if extra is not None:
            decoder_input = torch.cat([z, extra.expand(*z.shape[:-1], -1)], dim=-1)
        heads = self.decoder(decoder_input, *self._categories(batch_index, cat_covs))
        log_library = log_scale(self.use_size_factor_key, library, size_factor)
        px = self.count_head.distribution(heads, log_library, self.px_r, batch_index, y)
        pl = None
        if not self.use_observed_lib_size:
            pl = library_prior(self.library_log_means, self.library_log_vars, batch_index)
        pz = Normal(torch.zeros_like(z), torch.ones_like(z), validate_args=False)
        return {"px": px, "pl": pl, "pz": pz}

    # loss ---------------------------------------------------------------------------------------

    def loss(
        self,
        tensors: Minibatch,
        inference_outputs: dict,
        generative_outputs: dict,
        kl_weight: float | torch.Tensor = 1.0,
    ) -> LossOutput:
        """Negative evidence lower bound, mean over cells, in nats.

        ``mean(R + kl_weight * KL(qz || N(0, I)) + KL(ql || pl))``; the library's divergence is not
        warmed up.

        Parameters
        ----------
        tensors
            Minibatch.
        inference_outputs, generative_outputs
            Of :meth:`inference` and :meth:`generative`.
        kl_weight
            Weight of the divergence of z, >= 0.

        Raises
        ------
        ValueError
            If the counts were minified away.
        """
        counts = self._counts(tensors)
        qz, ql = inference_outputs["qz"], inference_outputs["ql"]
        pl = generative_outputs["pl"]
        kl_z = standard_normal_divergence(qz)
        kl_l = torch.zeros_like(kl_z) if ql is None else kl_divergence(ql, pl).sum(-1)
        reconstruction = -generative_outputs["px"].log_prob_sum(counts)
        payload = {"z": inference_outputs["z"], "batch": tensors[Keys.BATCH]}
        if Keys.LABELS in tensors:
            payload["labels"] = tensors[Keys.LABELS]
        return LossOutput(
            loss=(reconstruction + kl_weight * kl_z + kl_l).mean(),
            reconstruction_loss=reconstruction,
            kl_local={"kl_divergence_l": kl_l, "kl_divergence_z": kl_z},
            extra_metrics=payload if self.extra_payload_autotune else None,
            n_obs_minibatch=qz.loc.shape[0],
        )

    @staticmethod
    def _counts(tensors: Minibatch) -> torch.Tensor:
        if Keys.X not in tensors:
            msg = "this needs counts, but these cells were minified without them"
            raise InvalidArgumentError(msg)
        return tensors[Keys.X]

    # questions ----------------------------------------------------------------------------------

    @torch.inference_mode()
    def sample(
        self,
        tensors: Minibatch,
        n_samples: int = 1,
        max_poisson_rate: float = 1e8,
        generative_kwargs: dict | None = None,
    ) -> torch.Tensor:
        """Posterior predictive counts.

        Parameters
        ----------
        tensors
            Minibatch.
        n_samples
            Number S of draws of z, each giving one draw of counts.
        max_poisson_rate
            Poisson rates are cut here.
        generative_kwargs
            E.g. ``{"transform_batch": 1}``.

        Returns
        -------
        (B, G), or (B, G, S) for S > 1, on the CPU.
        """
        _, generative_outputs = self.forward(
            to_device(tensors, self.device),
            inference_kwargs={"n_samples": n_samples},
            generative_kwargs=generative_kwargs,
            compute_loss=False,
        )
        px = generative_outputs["px"]
        if isinstance(px, Poisson):
            px = Poisson(px.rate.clamp(max=max_poisson_rate))
        counts = px.sample()
        return (counts.permute(1, 2, 0) if n_samples > 1 else counts).cpu()

    @torch.inference_mode()
    def marginal_ll(
        self,
        tensors: Minibatch,
        n_mc_samples: int,
        return_mean: bool = False,
        n_mc_samples_per_pass: int = 1,
    ) -> torch.Tensor | float:
        """Importance-sampled log-likelihood of each cell, in nats.

        Parameters
        ----------
        tensors
            Minibatch.
        n_mc_samples
            Number of samples, rounded up to a whole number of passes.
        return_mean
            Return the mean over cells as a float.
        n_mc_samples_per_pass
            Samples drawn at once; more is faster and takes more memory.

        Returns
        -------
        (B,) on the CPU, or a float.
        """
        tensors = to_device(tensors, self.device)
        if n_mc_samples_per_pass > n_mc_samples:
            warnings.warn(
                f"n_mc_samples_per_pass={n_mc_samples_per_pass} is more than "
                f"n_mc_samples={n_mc_samples}; using the latter",
                RuntimeWarning,
                stacklevel=2,
            )
            n_mc_samples_per_pass = n_mc_samples
        outputs = self.inference(**self._get_inference_input(tensors))
        n_passes = math.ceil(n_mc_samples / n_mc_samples_per_pass)
        log_weights = torch.cat(
            [self._log_weights(tensors, outputs, n_mc_samples_per_pass) for _ in range(n_passes)]
        )
        log_likelihood = torch.logsumexp(log_weights, dim=0) - math.log(len(log_weights))
        return log_likelihood.mean().item() if return_mean else log_likelihood.cpu()

    def _log_weights(self, tensors: Minibatch, outputs: dict, n_samples: int) -> torch.Tensor:
        """(S, B) log of p(x, z, l) / q(z, l | x); z is weighed before its transformation."""
        qz, ql = outputs["qz"], outputs["ql"]
        u = qz.sample((n_samples,))
        log_library = outputs["library"].expand(n_samples, -1, -1)
        if ql is not None:
            log_library = ql.sample((n_samples,))
        drawn = {"z": self.latent_of(u), "library": log_library}
        generative_outputs = self.generative(**self._get_generative_input(tensors, drawn))
        prior = Normal(torch.zeros_like(u), torch.ones_like(u), validate_args=False)
        log_weights = generative_outputs["px"].log_prob_sum(self._counts(tensors))
        log_weights = log_weights + (prior.log_prob(u) - qz.log_prob(u)).sum(-1)
        if ql is not None:
            pl = generative_outputs["pl"]
            log_weights = log_weights + (pl.log_prob(log_library) - ql.log_prob(log_library)).sum(
                -1
            )
        return log_weights
