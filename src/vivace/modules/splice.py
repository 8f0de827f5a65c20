"""Expression and splicing in one latent space, on observed splicing alone (SpliceVI)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.distributions import Normal

from vivace._ranks import as_of_all, n_parts
from vivace._types import Keys, Minibatch
from vivace.errors import InvalidArgumentError
from vivace.kernels import log1p_counts, row_sums, splicing
from vivace.kernels.splicing import Entries
from vivace.modules import splice_dense as dense
from vivace.modules import splice_parts as parts
from vivace.modules.base import LossOutput, to_device
from vivace.modules.lazy import LazyOutputs
from vivace.modules.splice_latent import (
    Posterior,
    dimension_weights,
    gaussian_kl,
    jeffreys,
    masked_weights,
    mean_distance,
    mix,
)
from vivace.modules.splice_likelihood import SpliceLikelihood
from vivace.modules.splice_options import refuse_unknown, resolve
from vivace.nn.partial_encoder import Observed

PHI_LR = 1e-2
UNDECAYED = ("log_phi_j", "px_r", "mod_weights", "dim_weights_raw", "feature_embedding")


class SPLICEVAE(SpliceLikelihood):
    """Variational autoencoder of gene counts and of junction counts (SpliceVI).

    Each modality has an encoder; their posteriors are averaged (or put side by side) and decoded to
    gene counts and to the usage of the junctions of every event. Likelihood and partial encoder
    touch observed entries only, so that work and memory grow with these and not with cells times
    junctions.

    Parameters
    ----------
    n_input_genes, n_input_junctions
        Number of genes G and of junctions J, at least 1 each.
    n_batch, n_obs, n_labels
        Number of batches, of training cells (for weights and priors) and of labels.
    n_cats_per_cov, n_continuous_cov
        Categories of each further categorical covariate, number of continuous ones.
    gene_likelihood, gene_dispersion
        Of expression: a name in :data:`vivace.modules.counts.OF_COUNTS`; "gene", "gene-batch",
        "gene-label" or "gene-cell", what the inverse dispersion depends on.
    use_size_factor_key
        Scale expression by the minibatch's "size_factor" (default: its total counts); otherwise the
        library size is encoded.
    splicing_encoder_architecture
        "partial" (observed entries only) or "vanilla" (all ratios, 0 where unobserved).
    splicing_decoder_architecture, expression_architecture
        "vanilla" (hidden layers) or "linear".
    n_hidden, n_latent
        Widths; default ``min(128, isqrt(J))`` and ``isqrt(n_hidden)``.
    n_layers_encoder, n_layers_decoder, dropout_rate, use_batch_norm, use_layer_norm
        Of the networks.
    latent_distribution
        "normal", or "ln" (logistic normal).
    deeply_inject_covariates, encode_covariates
        Covariates, continuous ones as well, into every layer of encoders and decoders, not only the
        first; into encoders too.
    splicing_loss_type
        "dirichlet_multinomial" (events), "beta_binomial" or "binomial" (each junction for itself, so
        that a read counts once a junction).
    splicing_concentration
        Fixes the concentration at this value, > 0; default learned.
    dm_concentration
        Concentration by event ("atse"), or one ("scalar").
    code_dim, h_hidden_dim, encoder_hidden_dim, pool_mode, max_nobs
        See :class:`~vivace.nn.partial_encoder.PartialEncoder`.
    modality_weights
        "equal", "universal", "cell", "per_dimension_weighted_average" or "concatenate".
    modality_penalty
        "Jeffreys", "MMD" (distance of means) or "None": pulls the two posteriors together.
    **model_kwargs
        None are known: any name raises TypeError.
    event_index
        (J,) event of each junction; "dirichlet_multinomial" needs it.
    splicing_loss_weight, modality_penalty_weight
        Of these terms of the loss.
    lambda_prior
        Weight of the prior "l2_log".
    event_dropout
        Share of a cell's observed events hidden from the encoder while training; the likelihood still
        scores them, so that the model learns to predict what it does not see.
    psi_input
        Of the partial encoder: "raw" ratios, or their "deviation" from mean usage.
    variance_mixing
        See :func:`~vivace.modules.splice_latent.mix`.
    phi_floor, phi_prior, phi_prior_shape, phi_prior_rate
        Smallest concentration; its prior: "normal" (log concentration around their centre, sd 1),
        "gamma", "l2_log" or "none".
    phi_init
        Where the parameter of the concentrations starts: "constant" (log 100), "log100" (around it, sd
        0.5, as published) or "prior" (draws of the gamma prior). Default constant, and estimates of
        the data where :meth:`start_from` is given some.
    disable_cross_gate
        Mix the posteriors from the start, even while the divergence is warmed up.
    compat
        "splicevi" sets the numerical choices of the first published model. Each of the options
        ``encoder_output_head``, ``log1p_expression``, ``dm_mean``, ``phi_prior``,
        ``mask_cells_without_splicing``, ``include_normalizer``, ``decoder_covariates`` may be set by
        itself as well. The last is "asked" where decoders do what ``deeply_inject_covariates`` says;
        "published": categorical covariates enter every layer of the splicing decoder whatever it says,
        and continuous ones no layer of a decoder but the first.

    Raises
    ------
    InvalidArgumentError
        If an option is not known or out of range, or events are missing.
    TypeError
        If an unknown name is passed.

    References
    ----------
    Ma et al. 2019, EDDI (partial encoder); Gayoso et al. 2021 and Ashuach et al. 2023 (joint posteriors).

    Examples
    --------
    >>> import torch
    >>> module = SPLICEVAE(20, 6, event_index=torch.tensor([0, 0, 1, 1, 1, 2]), n_hidden=8)
    >>> cells = {
    ...     "X": torch.poisson(torch.ones(4, 20)),
    ...     "junc_counts_key": torch.poisson(torch.ones(4, 6)),
    ...     "batch": torch.zeros(4, 1, dtype=torch.long),
    ... }
    >>> *_, losses = module(cells)
    >>> losses.loss.backward()
    >>> sorted(losses.reconstruction_loss)
    ['reconstruction_loss_expression', 'reconstruction_loss_splicing']
    """

    def __init__(
        self,
        n_input_genes: int = 0,
        n_input_junctions: int = 0,
        n_batch: int = 0,
        n_obs: int = 0,
        n_labels: int = 0,
        n_cats_per_cov: Sequence[int] | None = None,
        n_continuous_cov: int = 0,
        gene_likelihood: str = "zinb",
        gene_dispersion: str = "gene",
        use_size_factor_key: bool = False,
        splicing_encoder_architecture: str = "vanilla",
        splicing_decoder_architecture: str = "vanilla",
        expression_architecture: str = "vanilla",
        n_hidden: int | None = None,
        n_latent: int | None = None,
        n_layers_encoder: int = 2,
        n_layers_decoder: int = 2,
        dropout_rate: float = 0.1,
        use_batch_norm: str = "none",
        use_layer_norm: str = "both",
        latent_distribution: str = "normal",
        deeply_inject_covariates: bool = False,
        encode_covariates: bool = False,
        splicing_loss_type: str = "dirichlet_multinomial",
        splicing_concentration: float | None = None,
        dm_concentration: str = "atse",
        code_dim: int = 16,
        h_hidden_dim: int = 64,
        encoder_hidden_dim: int = 128,
        pool_mode: str = "mean",
        max_nobs: int = -1,
        modality_weights: str = "equal",
        modality_penalty: str | None = "Jeffreys",
        *,
        event_index: torch.Tensor | Sequence[int] | None = None,
        splicing_loss_weight: float = 1.0,
        modality_penalty_weight: float = 1.0,
        lambda_prior: float = 1e-2,
        event_dropout: float = 0.0,
        psi_input: str = "raw",
        variance_mixing: str = "sqrt_weights",
        phi_floor: float = 0.0,
        phi_prior_shape: float = 2.0,
        phi_prior_rate: float = 0.1,
        phi_init: str | None = None,
        disable_cross_gate: bool = False,
        compat: str | None = None,
        encoder_output_head: str | None = None,
        log1p_expression: bool | None = None,
        dm_mean: str | None = None,
        phi_prior: str | None = None,
        mask_cells_without_splicing: bool | None = None,
        include_normalizer: bool | None = None,
        decoder_covariates: str | None = None,
        **model_kwargs: Any,
    ):
        super().__init__()
        refuse_unknown(model_kwargs)
        self.options = resolve(
            n_input_genes=n_input_genes,
            n_input_junctions=n_input_junctions,
            n_batch=n_batch,
            n_obs=n_obs,
            n_labels=n_labels,
            n_cats_per_cov=n_cats_per_cov,
            n_continuous_cov=n_continuous_cov,
            gene_likelihood=gene_likelihood,
            gene_dispersion=gene_dispersion,
            use_size_factor_key=use_size_factor_key,
            splicing_encoder_architecture=splicing_encoder_architecture,
            splicing_decoder_architecture=splicing_decoder_architecture,
            expression_architecture=expression_architecture,
            n_hidden=n_hidden,
            n_latent=n_latent,
            n_layers_encoder=n_layers_encoder,
            n_layers_decoder=n_layers_decoder,
            dropout_rate=dropout_rate,
            use_batch_norm=use_batch_norm,
            use_layer_norm=use_layer_norm,
            latent_distribution=latent_distribution,
            deeply_inject_covariates=deeply_inject_covariates,
            encode_covariates=encode_covariates,
            splicing_loss_type=splicing_loss_type,
            splicing_concentration=splicing_concentration,
            dm_concentration=dm_concentration,
            code_dim=code_dim,
            h_hidden_dim=h_hidden_dim,
            encoder_hidden_dim=encoder_hidden_dim,
            pool_mode=pool_mode,
            max_nobs=max_nobs,
            modality_weights=modality_weights,
            modality_penalty=modality_penalty,
            splicing_loss_weight=splicing_loss_weight,
            modality_penalty_weight=modality_penalty_weight,
            lambda_prior=lambda_prior,
            event_dropout=event_dropout,
            psi_input=psi_input,
            variance_mixing=variance_mixing,
            phi_floor=phi_floor,
            phi_prior_shape=phi_prior_shape,
            phi_prior_rate=phi_prior_rate,
            phi_init=phi_init,
            disable_cross_gate=disable_cross_gate,
            compat=compat,
            encoder_output_head=encoder_output_head,
            log1p_expression=log1p_expression,
            dm_mean=dm_mean,
            phi_prior=phi_prior,
            mask_cells_without_splicing=mask_cells_without_splicing,
            include_normalizer=include_normalizer,
            decoder_covariates=decoder_covariates,
        )
        self._build(event_index)

    # parts --------------------------------------------------------------------------------------

    def _build(self, event_index: Any) -> None:
        """Everything that has weights; the order is that in which initial ones are drawn."""
        options = self.options
        self.n_input_genes = options.n_input_genes
        self.n_input_junctions = options.n_input_junctions
        self.n_batch, self.n_hidden = options.n_batch, options.n_hidden
        self.n_latent, self.latent_distribution = options.n_latent, options.latent_distribution
        index = parts.check_events(event_index, options)
        if index is not None:
            for name, tensor in splicing.event_map(index)._asdict().items():
                self.register_buffer(f"events_{name}", tensor, persistent=False)
        self.z_encoder_expression = parts.ordinary_encoder(options, options.n_input_genes)
        self.l_encoder_expression = parts.library_encoder(options)
        self.z_encoder_splicing = parts.splicing_encoder(options)
        self.z_decoder_expression = parts.expression_decoder(options)
        self.z_decoder_splicing = parts.splicing_decoder(options)
        self.count_head = parts.count_head(options)
        self.px_r = self.count_head.initial_px_r(
            options.n_input_genes, options.n_batch, options.n_labels
        )
        n_events = 0 if index is None else int(index.max()) + 1
        self.log_phi_j, centre = parts.concentration(options, n_events)
        kept = options.phi_prior == "normal"
        self.register_buffer("phi_centre", torch.tensor(centre), persistent=kept)
        self._register_mixing()

    def _register_mixing(self) -> None:
        kind = self.options.modality_weights
        self.register_buffer("cross_gate", torch.zeros(()))
        self._gate = 0.0
        if kind == "cell":
            if self.options.n_obs < 1:
                msg = 'modality_weights="cell" needs n_obs, the number of training cells'
                raise InvalidArgumentError(msg)
            self.mod_weights = nn.Parameter(torch.ones(self.options.n_obs, 2))
        elif kind == "universal":
            self.mod_weights = nn.Parameter(torch.ones(2))
        elif kind == "per_dimension_weighted_average":
            self.dim_weights_raw = nn.Parameter(torch.zeros(self.n_latent))

    def set_cross_gate(self, value: float) -> None:
        """Below 1, each training minibatch uses the posterior of one modality, drawn by a fair coin.

        With "concatenate", the share of a modality's latent variables that the other's decoder sees.
        """
        self._gate = float(value)
        self.cross_gate.fill_(self._gate)

    def on_step(self, kl_weight: float) -> None:
        """Open the gate when the divergence is fully warmed up."""
        self.set_cross_gate(1.0 if self.options.disable_cross_gate or kl_weight >= 0.999 else 0.0)

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict]:
        """Concentrations learn at a rate of their own; they, dispersions and embeddings do not decay."""
        plain: list[nn.Parameter] = []
        free: list[nn.Parameter] = []
        phi: list[nn.Parameter] = []
        for name, p in self.named_parameters():
            if p.requires_grad:
                last = name.rsplit(".", 1)[-1]
                undecayed = last in UNDECAYED or getattr(p, "partly_fixed", False)
                of = phi if last == "log_phi_j" else free if undecayed else plain
                of.append(p)
        groups = [
            {"params": plain, "lr": lr, "weight_decay": weight_decay},
            {"params": free, "lr": lr, "weight_decay": 0.0},
            {"params": phi, "lr": max(lr, PHI_LR), "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]

    @torch.no_grad()
    def start_from(self, psi: torch.Tensor, log_phi: torch.Tensor) -> None:
        """Set the decoder's intercept to mean usage and the concentrations to estimates.

        Parameters
        ----------
        psi
            (J,) mean ratio of each junction.
        log_phi
            (A,) log concentration of each event; those below ``phi_floor`` start just above it.
        """
        logits = psi.clamp(1e-4, 1).log()
        if (
            self.options.splicing_loss_type != "dirichlet_multinomial"
            or self.options.dm_mean == "sigmoid"
        ):
            logits = torch.logit(psi.clamp(1e-4, 1 - 1e-4))
        self.z_decoder_splicing.output.bias.copy_(logits)
        encoder: Any = self.z_encoder_splicing
        if getattr(encoder, "centred", False):
            encoder.population.copy_(psi)
        if self.log_phi_j is None or not self.log_phi_j.requires_grad or self.options.phi_init:
            return
        centre = log_phi.mean()
        if self.options.splicing_loss_type == "beta_binomial":
            log_phi = log_phi[self.event_map.of_junction]  # type: ignore[union-attr]
        values = log_phi if self.log_phi_j.dim() else centre
        values, centre = (
            parts.raw_concentration(t.exp(), self.options, parts.LEAST_EXCESS)
            for t in (values, centre)
        )
        self.log_phi_j.copy_(values)
        self.phi_centre.copy_(centre)

    # inference ----------------------------------------------------------------------------------

    def entries(self, tensors: Minibatch) -> Entries:
        """The observed splicing of a minibatch.

        Junction counts suffice where events are known; dense totals and mask are used if given. Without
        counts the entries are those of the ratios, with 1 for the reads of every event.

        Raises
        ------
        InvalidArgumentError
            If there are neither counts nor ratios, it is not said which of them are observed, or a part
            of an observed event is hidden.
        """
        events = self.event_map
        if Keys.JUNCTIONS not in tensors:
            return dense.ratio_entries(tensors.get(Keys.RATIOS), tensors.get(Keys.PSI_MASK), events)
        counts, totals = tensors[Keys.JUNCTIONS], tensors.get(Keys.EVENT_TOTALS)
        if totals is not None and totals.layout == torch.strided:
            mask = tensors.get(Keys.PSI_MASK)
            whole = counts if counts.layout == torch.strided else counts.to_dense()
            index = None if events is None else events.of_junction
            entries = splicing.dense_entries(whole, totals, totals if mask is None else mask, index)
            dense.check_closed(entries, events)
            return entries
        if events is None:
            msg = f'without event_index the minibatch needs "{Keys.EVENT_TOTALS}", dense (B, J)'
            raise InvalidArgumentError(msg)
        return splicing.observed_entries(counts, events)

    def _get_inference_input(self, tensors: Minibatch) -> dict:
        return {
            "x": tensors[Keys.X],
            "mask": None,
            "batch_index": tensors[Keys.BATCH],
            "cont_covs": tensors.get(Keys.CONT_COVS),
            "cat_covs": tensors.get(Keys.CAT_COVS),
            "label": tensors.get(Keys.LABELS),
            "cell_idx": tensors.get(Keys.CELL_INDEX),
            "size_factor": tensors.get(Keys.SIZE_FACTOR),
            "entries": self.entries(tensors),
        }

    def inference(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None,
        batch_index: torch.Tensor,
        cont_covs: torch.Tensor | None,
        cat_covs: torch.Tensor | None,
        label: torch.Tensor | None,
        cell_idx: torch.Tensor | None,
        size_factor: torch.Tensor | None,
        n_samples: int = 1,
        *,
        entries: Entries | None = None,
    ) -> dict:
        """Posteriors of expression, of splicing, and of both.

        Parameters
        ----------
        x
            (B, G) counts, dense or CSR, beside ``entries``; or (B, G + J), counts and ratios.
        mask
            (B, J) whether a ratio is observed; only without ``entries``.
        batch_index, cont_covs, cat_covs, label
            Covariates, (B, .).
        cell_idx
            (B,) or (B, 1) row of each cell, for ``modality_weights="cell"``.
        size_factor
            (B, 1), default the total counts.
        n_samples
            Number S of draws of z.
        entries
            Observed splicing of the cells.

        Returns
        -------
        dict with ``z``, ``qz_m``, ``qz_v`` (variance), ``qz`` of the joint posterior, the same of each
        modality
        (``z_expr, qzm_expr, qzv_expr, z_spl, qzm_spl, qzv_spl``), ``libsize_expr`` (natural log) and
        ``entries``. Draws are (B, L), or (S, B, L) for S > 1.
        """
        if entries is None:
            x, observed = self._split_input(x, mask)
        else:
            observed = self._hide(entries)
        cats = self._categories(batch_index, cat_covs)
        expression = self._encode_expression(x, cats, cont_covs)
        spliced = self._encode_splicing(observed, cats, cont_covs)
        present = self._present(x, observed)
        joint = self._join(expression, spliced, present, cell_idx)
        log_library = self._log_library(x, size_factor, cats, cont_covs)
        if n_samples > 1:
            log_library = log_library.expand(n_samples, -1, -1)
        qz = Normal(joint.mean, joint.variance.sqrt(), validate_args=False)
        outputs: dict[str, Any] = {
            "qz": qz,
            "entries": entries,
            "present": present,
            "libsize_expr": log_library,
        }
        for names, q in (
            (("z", "qz_m", "qz_v"), joint),
            (("z_expr", "qzm_expr", "qzv_expr"), expression),
            (("z_spl", "qzm_spl", "qzv_spl"), spliced),
        ):
            outputs |= dict(zip(names, (self._draw(q, n_samples), *q), strict=True))
        return outputs

    def _split_input(self, x: torch.Tensor, mask: torch.Tensor | None):
        """Expression and observed ratios from the matrix of both."""
        if x.shape[1] != self.n_input_genes + self.n_input_junctions or mask is None:
            msg = (
                f"x has {x.shape[1]} columns; expected {self.n_input_genes} genes and "
                f"{self.n_input_junctions} junction ratios beside a mask, or genes alone with entries="
            )
            raise InvalidArgumentError(msg)
        ratios = x[:, self.n_input_genes :]
        cell, junction = torch.nonzero(mask > 0, as_tuple=True)
        observed = Observed(cell, junction, ratios[cell, junction], (mask > 0).sum(1))
        return x[:, : self.n_input_genes], observed

    def _hide(self, entries: Entries) -> Observed:
        """What the encoder sees; while training, a part of the events is hidden from it."""
        if self.training and self.options.event_dropout > 0:
            seen = torch.rand(len(entries.total), device=entries.total.device)
            entries = entries.keep(seen >= self.options.event_dropout)
        return Observed(entries.cell, entries.junction, entries.psi, entries.n_observed)

    def _categories(self, batch_index: torch.Tensor, cat_covs: torch.Tensor | None) -> list:
        return [batch_index, *([] if cat_covs is None else cat_covs.split(1, dim=1))]

    def _encode_expression(self, x, cats, cont) -> Posterior:
        features = log1p_counts(x) if self.options.log1p_expression else x
        qz, _ = self.z_encoder_expression(features, *cats, cont=cont)
        return Posterior(qz.loc, qz.scale**2)

    def _encode_splicing(self, observed: Observed, cats, cont) -> Posterior:
        if self.options.splicing_encoder_architecture == "partial":
            qz = self.z_encoder_splicing(observed, *cats, cont=cont)
        else:
            shape = (len(observed.n_observed), self.n_input_junctions)
            psi = splicing.ratio_matrix(*observed[:3], shape)
            qz, _ = self.z_encoder_splicing(psi, *cats, cont=cont)
        return Posterior(qz.loc, qz.scale**2)

    def _present(self, x: torch.Tensor, observed: Observed) -> torch.Tensor:
        """(B, 2) whether a cell has expression and splicing."""
        has_splicing = observed.n_observed > 0
        if not self.options.mask_cells_without_splicing:
            has_splicing = torch.ones_like(has_splicing)
        return torch.stack([row_sums(x).squeeze(-1) > 0, has_splicing], dim=-1)

    def _join(
        self,
        expression: Posterior,
        spliced: Posterior,
        present: torch.Tensor,
        cell_idx: torch.Tensor | None,
    ) -> Posterior:
        kind = self.options.modality_weights
        if kind == "concatenate":
            return Posterior(
                *(torch.cat(pair, dim=-1) for pair in zip(expression, spliced, strict=True))
            )
        if self.training and self._gate < 1:
            return self._one_of(expression, spliced, present)
        if kind == "per_dimension_weighted_average":
            weights = dimension_weights(self.dim_weights_raw, present)
        elif kind == "cell":
            if cell_idx is None or int(cell_idx.max()) >= self.options.n_obs:
                msg = (
                    'modality_weights="cell" has a weight for each training cell and none for others; '
                    'use "universal" to embed new cells'
                )
                raise InvalidArgumentError(msg)
            weights = masked_weights(self.mod_weights[cell_idx.flatten().long()], present)
        else:
            raw = self.mod_weights if kind == "universal" else expression.mean.new_ones(2)
            weights = masked_weights(raw, present)
        return mix(expression, spliced, weights.to(expression.mean), self.options.variance_mixing)

    def _one_of(
        self, expression: Posterior, spliced: Posterior, present: torch.Tensor
    ) -> Posterior:
        """One modality for the whole minibatch; cells that lack it take the other."""
        take_splicing = bool(torch.rand(()) < 0.5)
        use = present[:, 1:] if take_splicing else ~present[:, :1]
        return Posterior(
            *(torch.where(use, s, e) for e, s in zip(expression, spliced, strict=True))
        )

    def _log_library(self, x, size_factor, cats, cont) -> torch.Tensor:
        if self.l_encoder_expression is not None:
            features = log1p_counts(x) if self.options.log1p_expression else x
            return self.l_encoder_expression(features, *cats, cont=cont)
        size = row_sums(x) if size_factor is None else size_factor
        return torch.log(size + 1e-6)

    def _draw(self, q: Posterior, n_samples: int) -> torch.Tensor:
        shape = (n_samples, *q.mean.shape) if n_samples > 1 else q.mean.shape
        u = q.mean + q.variance.sqrt() * torch.randn(
            shape, dtype=q.mean.dtype, device=q.mean.device
        )
        return self.latent_of(u)

    def latent_of(self, u: torch.Tensor) -> torch.Tensor:
        """From the normal variable to the latent one: softmax for "ln", else itself."""
        return torch.softmax(u, dim=-1) if self.latent_distribution == "ln" else u

    # generative ---------------------------------------------------------------------------------

    def _get_generative_input(self, tensors: Minibatch, inference_outputs: dict) -> dict:
        return {
            "z": inference_outputs["z"],
            "qz_m": inference_outputs["qz_m"],
            "batch_index": tensors[Keys.BATCH],
            "cont_covs": tensors.get(Keys.CONT_COVS),
            "cat_covs": tensors.get(Keys.CAT_COVS),
            "libsize_expr": inference_outputs["libsize_expr"],
            "label": tensors.get(Keys.LABELS),
        }

    def generative(
        self,
        z: torch.Tensor,
        qz_m: torch.Tensor,
        batch_index: torch.Tensor,
        cont_covs: torch.Tensor | None = None,
        cat_covs: torch.Tensor | None = None,
        libsize_expr: torch.Tensor | None = None,
        use_z_mean: bool = False,
        label: torch.Tensor | None = None,
        *,
        transform_batch: int | torch.Tensor | None = None,
    ) -> LazyOutputs:
        """Distributions of gene counts and of junction usage.

        Parameters
        ----------
        z, qz_m
            (B, L) or (S, B, L) draw and (B, L) mean of the joint posterior.
        batch_index, cont_covs, cat_covs, label
            Covariates, (B, .).
        libsize_expr
            (B, 1) or (S, B, 1), natural log; default 0.
        use_z_mean
            Decode ``qz_m`` instead of ``z``.
        transform_batch
            Batch code that replaces every entry of ``batch_index``.

        Returns
        -------
        A mapping whose values are computed when asked for: ``p`` (B, J) usage, ``phi`` concentration,
        ``px`` distribution of counts with ``px_scale, px_rate, px_dropout`` (B, G) and ``px_r``, and
        ``logits``, of junctions, as a product.
        """
        if use_z_mean:
            z = self.latent_of(qz_m)
        if transform_batch is not None:
            batch_index = torch.ones_like(batch_index) * transform_batch
        if libsize_expr is None:
            libsize_expr = z.new_zeros(*z.shape[:-1], 1)
        cats = self._categories(batch_index, cat_covs)
        of_expression, of_splicing = self._gated(z)
        logits = self._decode(self.z_decoder_splicing, of_splicing, cats, cont_covs)
        heads = self._decode(self.z_decoder_expression, of_expression, cats, cont_covs)
        px = self.count_head.distribution(heads, libsize_expr, self.px_r, batch_index, label)
        return LazyOutputs(
            logits=lambda: logits,
            p=lambda: self.usage(logits.dense()),
            phi=lambda: None if self.log_phi_j is None else self.log_phi().exp(),
            **self.count_head.outputs(px),
        )

    def _gated(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What each decoder sees; while the gate is closed, "concatenate" hides the other modality."""
        if self.options.modality_weights != "concatenate" or not self.training or self._gate >= 1:
            return z, z
        expression, spliced = z.chunk(2, dim=-1)
        return (
            torch.cat([expression, self._gate * spliced], dim=-1),
            torch.cat([self._gate * expression, spliced], dim=-1),
        )

    def _decode(
        self, decoder: nn.Module, z: torch.Tensor, cats: list, cont: torch.Tensor | None
    ) -> Any:
        if cont is not None and self.options.decoder_covariates == "published":
            z, cont = torch.cat([z, cont.expand(*z.shape[:-1], -1)], dim=-1), None
        return decoder(z, *cats, cont=cont)

    # loss ---------------------------------------------------------------------------------------

    def loss(
        self,
        tensors: Minibatch,
        inference_outputs: dict,
        generative_outputs: LazyOutputs,
        kl_weight: float | torch.Tensor = 1.0,
    ) -> LossOutput:
        """Negative evidence lower bound with the alignment penalty, mean over cells, in nats.

        ``mean(m R_expression + w R_splicing + kl_weight KL + penalty) + prior(phi)``, with m whether a
        cell has expression and w ``splicing_loss_weight``. R_splicing is the negative log-likelihood of
        the junction counts; of a minibatch without counts it is the cross-entropy of the ratios, see
        :meth:`ratio_cross_entropy`. The splicing term is stored with its weight; the means of both terms
        without weights are among the extra metrics.
        """
        options, present = self.options, inference_outputs["present"]
        q = Posterior(inference_outputs["qz_m"], inference_outputs["qz_v"])
        expression = -generative_outputs["px"].log_prob_sum(tensors[Keys.X]) * present[:, 0]
        entries = inference_outputs["entries"]
        entries = self.entries(tensors) if entries is None else entries
        has_counts = Keys.JUNCTIONS in tensors
        logits = generative_outputs["logits"]
        spliced = (
            -self.splicing_log_likelihood(logits, entries)
            if has_counts
            else self.ratio_cross_entropy(logits, entries)
        )
        kl = gaussian_kl(q)
        penalty = options.modality_penalty_weight * self._penalty(inference_outputs)
        weighted = options.splicing_loss_weight * spliced
        per_cell = expression + weighted + kl_weight * kl + penalty
        return LossOutput(
            loss=per_cell.mean() + self._phi_prior(n_parts() * len(kl)),
            reconstruction_loss={
                "reconstruction_loss_expression": expression,
                "reconstruction_loss_splicing": weighted,
            },
            kl_local={"kl_divergence_z": kl, "kl_divergence_paired": penalty},
            extra_metrics={
                "reconstruction_loss_expression": expression.detach().mean(),
                "reconstruction_loss_splicing": spliced.detach().mean(),
            },
            n_obs_minibatch=len(kl),
        )

    def _penalty(self, outputs: dict) -> torch.Tensor:
        """(B,) distance between the posteriors of cells with both modalities."""
        kind = self.options.modality_penalty
        a = Posterior(outputs["qzm_expr"], outputs["qzv_expr"])
        b = Posterior(outputs["qzm_spl"], outputs["qzv_spl"])
        if kind in ("None", None) or self.options.modality_weights == "concatenate":
            return torch.zeros_like(a.mean[:, 0])
        if (
            self.options.compat
        ):  # as published: roots for variances, and the sum over cells for each cell
            a, b = (Posterior(q.mean, q.variance.sqrt()) for q in (a, b))
        each = jeffreys(a, b) if kind == "Jeffreys" else mean_distance(a, b)
        each = each * outputs["present"].all(-1)
        return as_of_all(each.sum()).expand_as(each) if self.options.compat else each

    # questions ----------------------------------------------------------------------------------

    @torch.inference_mode()
    def sample(
        self,
        tensors: Minibatch,
        n_samples: int = 1,
        *,
        generative_kwargs: dict | None = None,
    ) -> torch.Tensor:
        """Posterior predictive gene counts, (B, G), or (B, G, S) for S > 1, on the CPU."""
        _, generative_outputs = self.forward(
            to_device(tensors, self.device),
            inference_kwargs={"n_samples": n_samples},
            generative_kwargs=generative_kwargs,
            compute_loss=False,
        )
        counts = generative_outputs["px"].sample()
        return (counts.permute(1, 2, 0) if n_samples > 1 else counts).cpu()
