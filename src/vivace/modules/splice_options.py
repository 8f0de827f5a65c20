"""Options of SPLICEVAE: which values they take, and which of them the published model had otherwise."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from vivace.errors import InvalidArgumentError, check_choice, nearest
from vivace.modules.counts import DISPERSIONS, OF_COUNTS

PLACES = ("encoder", "decoder", "none", "both")
CHOICES: dict[str, tuple[Any, ...]] = {
    "gene_likelihood": OF_COUNTS,
    "gene_dispersion": DISPERSIONS,
    "splicing_encoder_architecture": ("vanilla", "partial"),
    "splicing_decoder_architecture": ("vanilla", "linear"),
    "expression_architecture": ("vanilla", "linear"),
    "use_batch_norm": PLACES,
    "use_layer_norm": PLACES,
    "latent_distribution": ("normal", "ln"),
    "splicing_loss_type": ("binomial", "beta_binomial", "dirichlet_multinomial"),
    "dm_concentration": ("atse", "scalar"),
    "modality_weights": (
        "equal",
        "cell",
        "universal",
        "concatenate",
        "per_dimension_weighted_average",
    ),
    "modality_penalty": ("Jeffreys", "MMD", "None", None),
    "compat": (None, "splicevi"),
    "encoder_output_head": ("linear", "fclayer"),
    "dm_mean": ("softmax", "sigmoid"),
    "psi_input": ("raw", "deviation"),
    "variance_mixing": ("sqrt_weights", "linear", "squared"),
    "phi_prior": ("normal", "l2_log", "gamma", "none"),
    "phi_init": (None, "constant", "log100", "prior"),
    "decoder_covariates": ("asked", "published"),
}
BY_COMPAT: dict[str | None, dict[str, Any]] = {
    None: {
        "encoder_output_head": "linear",
        "log1p_expression": True,
        "dm_mean": "softmax",
        "phi_prior": "normal",
        "mask_cells_without_splicing": True,
        "include_normalizer": True,
        "decoder_covariates": "asked",
    },
    "splicevi": {
        "encoder_output_head": "fclayer",
        "log1p_expression": False,
        "dm_mean": "sigmoid",
        "phi_prior": "l2_log",
        "mask_cells_without_splicing": False,
        "include_normalizer": False,
        "decoder_covariates": "published",
    },
}
"""Options whose default depends on ``compat``."""


def resolve(given: dict[str, Any]) -> SimpleNamespace:
    """Check options; those left at None take the value that ``compat`` stands for.

    Raises
    ------
    InvalidArgumentError
        If a value is not known or out of range.
    TypeError
        If ``model_kwargs`` holds anything.
    """
    for name in given.pop("model_kwargs"):
        msg = f'SPLICEVAE() got an option "{name}" that is not known. {nearest(name, given)}'
        raise TypeError(msg)
    check_choice("compat", given["compat"], CHOICES["compat"])
    defaults = BY_COMPAT[given["compat"]]
    chosen = {k: defaults.get(k) if v is None else v for k, v in given.items()}
    for name in CHOICES.keys() & chosen.keys():
        check_choice(name, chosen[name], CHOICES[name])
    _check_ranges(chosen)
    return SimpleNamespace(**chosen)


def _check_ranges(o: dict[str, Any]) -> None:
    concentration, floor = o["splicing_concentration"], o["phi_floor"]
    for name, good in (
        ("n_input_genes", o["n_input_genes"] >= 1),
        ("n_input_junctions", o["n_input_junctions"] >= 1),
        ("event_dropout", 0 <= o["event_dropout"] < 1),
        ("phi_floor", floor >= 0),
        ("phi_prior_shape", o["phi_prior_shape"] > 0),
        ("phi_prior_rate", o["phi_prior_rate"] > 0),
        ("splicing_concentration", concentration is None or concentration > floor),
        ("splicing_loss_weight", o["splicing_loss_weight"] >= 0),
        ("modality_penalty_weight", o["modality_penalty_weight"] >= 0),
    ):
        if not good:
            msg = f"{name}={o[name]!r} is out of range"
            raise InvalidArgumentError(msg)
