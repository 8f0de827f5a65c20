"""Encoders, decoders and parameters of SPLICEVAE, from its options."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.distributions import Gamma

from vivace.errors import InvalidArgumentError
from vivace.modules.counts import CountHead
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


def norms_of(o: SimpleNamespace, place: str) -> dict[str, Any]:
    """Which normalisations the encoders or the decoders have."""
    return {
        "use_batch_norm": o.use_batch_norm in (place, "both"),
        "use_layer_norm": o.use_layer_norm in (place, "both"),
    }


def encoder_covariates(o: SimpleNamespace) -> dict[str, Any]:
    """Depth and covariates, alike in all encoders."""
    return {
        "n_cat_list": o.cat_list if o.encode_covariates else None,
        "n_cont": o.n_continuous_cov if o.encode_covariates else 0,
        "n_layers": o.n_layers_encoder,
        "inject_covariates": o.deeply_inject_covariates,
    }


def ordinary_encoder(o: SimpleNamespace, n_input: int) -> Encoder:
    """Encoder of all genes, or of all ratios."""
    return Encoder(
        n_input,
        o.n_latent,
        n_hidden=o.n_hidden,
        dropout_rate=o.dropout_rate,
        var_eps=0.0,
        activation_fn=nn.LeakyReLU,
        **norms_of(o, "encoder"),
        **encoder_covariates(o),
    )


def library_encoder(o: SimpleNamespace) -> LibraryEncoder | None:
    """Encoder of the library size, where it is not observed."""
    if o.use_size_factor_key:
        return None
    return LibraryEncoder(
        o.n_input_genes, o.n_hidden, **norms_of(o, "encoder"), **encoder_covariates(o)
    )


def splicing_encoder(o: SimpleNamespace) -> nn.Module:
    """Encoder of splicing ratios."""
    if o.splicing_encoder_architecture == "vanilla":
        return ordinary_encoder(o, o.n_input_junctions)
    return PartialEncoder(
        o.n_input_junctions,
        o.n_latent,
        code_dim=o.code_dim,
        h_hidden_dim=o.h_hidden_dim,
        encoder_hidden_dim=o.encoder_hidden_dim,
        dropout_rate=o.dropout_rate,
        pool_mode=o.pool_mode,
        max_nobs=o.max_nobs,
        centred=o.psi_input == "deviation",
        linear_head=o.encoder_output_head == "linear",
        **encoder_covariates(o),
    )


def decoder_input(o: SimpleNamespace) -> dict[str, Any]:
    """Joint latent dimensions and covariates; as published, continuous ones are part of the former."""
    n_latent = o.n_latent * (2 if o.modality_weights == "concatenate" else 1)
    as_latent = o.n_continuous_cov if o.decoder_covariates == "published" else 0
    return {
        "n_input": n_latent + as_latent,
        "n_cont": o.n_continuous_cov - as_latent,
        "n_cat_list": o.cat_list,
    }


def count_head(o: SimpleNamespace) -> CountHead:
    """From the logits of gene counts to their distribution."""
    # as published: a softplus beside size factors, but for the linear decoder
    soft = o.compat == "splicevi" and o.use_size_factor_key
    activation = "softplus" if soft and o.expression_architecture == "vanilla" else "softmax"
    return CountHead(o.gene_likelihood, o.gene_dispersion, activation, "gene_dispersion")


def expression_decoder(o: SimpleNamespace) -> nn.Module:
    """Decoder to the logits of gene counts."""
    heads = count_head(o).decoder_heads
    if o.expression_architecture == "vanilla":
        return CountDecoder(
            n_output=o.n_input_genes,
            n_layers=o.n_layers_decoder,
            n_hidden=o.n_hidden,
            inject_covariates=o.deeply_inject_covariates,
            dispersion_head=heads["dispersion_head"],
            dropout_head=heads["dropout_head"],
            **decoder_input(o),
            **norms_of(o, "decoder"),
        )
    if heads["dispersion_head"]:
        msg = 'gene_dispersion="gene-cell" needs expression_architecture="vanilla"'
        raise InvalidArgumentError(msg)
    # normalised logits have the same spread in every cell, whatever the weights
    norms = norms_of(o, "decoder") if o.compat else {}
    return LinearCountDecoder(
        n_output=o.n_input_genes,
        dropout_head=heads["dropout_head"],
        **decoder_input(o),
        **norms,
    )


def splicing_decoder(o: SimpleNamespace) -> SplicingDecoder | LinearSplicingDecoder:
    """Decoder to the logits of junctions."""
    if o.splicing_decoder_architecture == "linear":
        return LinearSplicingDecoder(n_junctions=o.n_input_junctions, **decoder_input(o))
    return SplicingDecoder(
        n_junctions=o.n_input_junctions,
        n_layers=o.n_layers_decoder,
        n_hidden=o.n_hidden,
        dropout_rate=o.dropout_rate,
        inject_covariates=o.deeply_inject_covariates or o.decoder_covariates == "published",
        **decoder_input(o),
        **norms_of(o, "decoder"),
    )


def concentration(o: SimpleNamespace, n_events: int) -> tuple[nn.Parameter | None, float]:
    """Log concentrations (with ``compat`` their inverse softplus) and the value they start from."""
    if o.splicing_loss_type == "binomial":
        return None, 0.0
    shape: tuple[int, ...] = (o.n_input_junctions,)
    if o.splicing_loss_type == "dirichlet_multinomial":
        shape = (n_events,) if o.dm_concentration == "atse" else ()
    if o.splicing_concentration is not None:
        start = float(raw_concentration(torch.tensor(o.splicing_concentration), o))
        return nn.Parameter(torch.full(shape, start), requires_grad=False), start
    if o.phi_init == "prior":
        prior = Gamma(o.phi_prior_shape, o.phi_prior_rate).sample(shape)
        return nn.Parameter(raw_concentration(prior, o, LEAST_EXCESS)), INITIAL_LOG_PHI
    spread = 0.5 if o.phi_init == "log100" else 0.0
    return nn.Parameter(INITIAL_LOG_PHI + spread * torch.randn(shape)), INITIAL_LOG_PHI


def raw_concentration(phi: torch.Tensor, o: SimpleNamespace, least: float = 0.0) -> torch.Tensor:
    """The parameter that stands for a concentration: the log, or inverse softplus, of its excess.

    The excess is what it has above ``phi_floor``; one smaller than ``least`` is taken as that.
    """
    excess = (phi - o.phi_floor).clamp(min=least)
    return excess + torch.log(-torch.expm1(-excess)) if o.compat else excess.log()


def check_events(index: Any, o: SimpleNamespace) -> torch.Tensor | None:
    """Event codes as a long tensor, or None where the likelihood does without."""
    if index is None:
        if o.splicing_loss_type == "dirichlet_multinomial":
            msg = (
                'splicing_loss_type="dirichlet_multinomial" needs event_index, the event of each '
                "junction (J,); or use beta_binomial or binomial"
            )
            raise InvalidArgumentError(msg)
        return None
    index = torch.as_tensor(index).long()
    if index.shape != (o.n_input_junctions,) or index.min() < 0:
        msg = (
            f"event_index must hold one event code >= 0 for each of {o.n_input_junctions} junctions; "
            f"found shape {tuple(index.shape)}"
        )
        raise InvalidArgumentError(msg)
    return index
