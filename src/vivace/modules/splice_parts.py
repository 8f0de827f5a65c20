"""Encoders, decoders and parameters of SPLICEVAE, from its options."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.distributions import Gamma

from vivace.errors import InvalidArgumentError
from vivace.modules.counts import CountHead
from vivace.modules.splice_options import SpliceOptions
from vivace.nn import CountDecoder, Encoder
from vivace.nn.partial_encoder import PartialEncoder
from vivace.nn.splicing_decoder import (
    LibraryEncoder,
    LinearCountDecoder,
    LinearSplicingDecoder,
    SplicingDecoder,
)

INITIAL_LOG_PHI = math.log(100.0)
LEAST_EXCESS = 1e-3
"""Concentrations that are drawn or estimated start at least this much above their floor."""


def norms_of(options: SpliceOptions, place: str) -> dict[str, Any]:
    """Which normalisations the encoders or the decoders have."""
    return {
        "use_batch_norm": options.use_batch_norm in (place, "both"),
        "use_layer_norm": options.use_layer_norm in (place, "both"),
    }


def encoder_covariates(options: SpliceOptions) -> dict[str, Any]:
    """Depth and covariates, alike in all encoders."""
    return {
        "n_cat_list": options.cat_list if options.encode_covariates else None,
        "n_cont": options.n_continuous_cov if options.encode_covariates else 0,
        "n_layers": options.n_layers_encoder,
        "inject_covariates": options.deeply_inject_covariates,
    }


def ordinary_encoder(options: SpliceOptions, n_input: int) -> Encoder:
    """Encoder of all genes, or of all ratios."""
    return Encoder(
        n_input,
        options.n_latent,
        n_hidden=options.n_hidden,
        dropout_rate=options.dropout_rate,
        var_eps=0.0,
        activation_fn=nn.LeakyReLU,
        **norms_of(options, "encoder"),
        **encoder_covariates(options),
    )


def library_encoder(options: SpliceOptions) -> LibraryEncoder | None:
    """Encoder of the library size, where it is not observed."""
    if options.use_size_factor_key:
        return None
    return LibraryEncoder(
        options.n_input_genes,
        options.n_hidden,
        **norms_of(options, "encoder"),
        **encoder_covariates(options),
    )


def splicing_encoder(options: SpliceOptions) -> nn.Module:
    """Encoder of splicing ratios."""
    if options.splicing_encoder_architecture == "vanilla":
        return ordinary_encoder(options, options.n_input_junctions)
    return PartialEncoder(
        options.n_input_junctions,
        options.n_latent,
        code_dim=options.code_dim,
        h_hidden_dim=options.h_hidden_dim,
        encoder_hidden_dim=options.encoder_hidden_dim,
        dropout_rate=options.dropout_rate,
        pool_mode=options.pool_mode,
        max_nobs=options.max_nobs,
        centred=options.psi_input == "deviation",
        linear_head=options.encoder_output_head == "linear",
        **encoder_covariates(options),
    )


def decoder_input(options: SpliceOptions) -> dict[str, Any]:
    """Joint latent dimensions and covariates; as published, continuous ones are part of the former."""
    n_latent = options.n_latent * (2 if options.modality_weights == "concatenate" else 1)
    as_latent = options.n_continuous_cov if options.decoder_covariates == "published" else 0
    return {
        "n_input": n_latent + as_latent,
        "n_cont": options.n_continuous_cov - as_latent,
        "n_cat_list": options.cat_list,
    }


def count_head(options: SpliceOptions) -> CountHead:
    """From the logits of gene counts to their distribution."""
    # as published: a softplus beside size factors, but for the linear decoder
    soft = options.compat == "splicevi" and options.use_size_factor_key
    activation = "softplus" if soft and options.expression_architecture == "vanilla" else "softmax"
    return CountHead(
        options.gene_likelihood, options.gene_dispersion, activation, "gene_dispersion"
    )


def expression_decoder(options: SpliceOptions) -> nn.Module:
    """Decoder to the logits of gene counts."""
    heads = count_head(options).decoder_heads
    if options.expression_architecture == "vanilla":
        return CountDecoder(
            n_output=options.n_input_genes,
            n_layers=options.n_layers_decoder,
            n_hidden=options.n_hidden,
            inject_covariates=options.deeply_inject_covariates,
            dispersion_head=heads["dispersion_head"],
            dropout_head=heads["dropout_head"],
            **decoder_input(options),
            **norms_of(options, "decoder"),
        )
    if heads["dispersion_head"]:
        msg = 'gene_dispersion="gene-cell" needs expression_architecture="vanilla"'
        raise InvalidArgumentError(msg)
    # normalised logits have the same spread in every cell, whatever the weights
    norms = norms_of(options, "decoder") if options.compat else {}
    return LinearCountDecoder(
        n_output=options.n_input_genes,
        dropout_head=heads["dropout_head"],
        **decoder_input(options),
        **norms,
    )


def splicing_decoder(options: SpliceOptions) -> SplicingDecoder | LinearSplicingDecoder:
    """Decoder to the logits of junctions."""
    if options.splicing_decoder_architecture == "linear":
        return LinearSplicingDecoder(
            n_junctions=options.n_input_junctions, **decoder_input(options)
        )
    return SplicingDecoder(
        n_junctions=options.n_input_junctions,
        n_layers=options.n_layers_decoder,
        n_hidden=options.n_hidden,
        dropout_rate=options.dropout_rate,
        inject_covariates=options.deeply_inject_covariates
        or options.decoder_covariates == "published",
        **decoder_input(options),
        **norms_of(options, "decoder"),
    )


def concentration(options: SpliceOptions, n_events: int) -> tuple[nn.Parameter | None, float]:
    """Log concentrations (with ``compat`` their inverse softplus) and the value they start from."""
    if options.splicing_loss_type == "binomial":
        return None, 0.0
    shape: tuple[int, ...] = (options.n_input_junctions,)
    if options.splicing_loss_type == "dirichlet_multinomial":
        shape = (n_events,) if options.dm_concentration == "atse" else ()
    if options.splicing_concentration is not None:
        start = float(raw_concentration(torch.tensor(options.splicing_concentration), options))
        return nn.Parameter(torch.full(shape, start), requires_grad=False), start
    if options.phi_init == "prior":
        prior = Gamma(options.phi_prior_shape, options.phi_prior_rate).sample(shape)
        return nn.Parameter(raw_concentration(prior, options, LEAST_EXCESS)), INITIAL_LOG_PHI
    spread = 0.5 if options.phi_init == "log100" else 0.0
    return nn.Parameter(INITIAL_LOG_PHI + spread * torch.randn(shape)), INITIAL_LOG_PHI


def raw_concentration(
    phi: torch.Tensor, options: SpliceOptions, least: float = 0.0
) -> torch.Tensor:
    """The parameter that stands for a concentration: the log, or inverse softplus, of its excess.

    The excess is what it has above ``phi_floor``; one smaller than ``least`` is taken as that.
    """
    excess = (phi - options.phi_floor).clamp(min=least)
    return excess + torch.log(-torch.expm1(-excess)) if options.compat else excess.log()


def check_events(index: Any, options: SpliceOptions) -> torch.Tensor | None:
    """Event codes as a long tensor, or None where the likelihood does without."""
    if index is None:
        if options.splicing_loss_type == "dirichlet_multinomial":
            msg = (
                'splicing_loss_type="dirichlet_multinomial" needs event_index, the event of each '
                "junction (J,); or use beta_binomial or binomial"
            )
            raise InvalidArgumentError(msg)
        return None
    index = torch.as_tensor(index).long()
    if index.shape != (options.n_input_junctions,) or index.min() < 0:
        msg = (
            f"event_index must hold one event code >= 0 for each of {options.n_input_junctions} junctions; "
            f"found shape {tuple(index.shape)}"
        )
        raise InvalidArgumentError(msg)
    return index
