"""Options of SPLICEVAE: which values they take, and which of them the published model had otherwise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
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
WIDEST = 128
"""Hidden layers are as wide as the root of the number of junctions, but no wider than this."""


@dataclass(frozen=True)
class SpliceOptions:
    """Options of :class:`~vivace.modules.SPLICEVAE`, which says what each means, as they hold.

    Nothing is left to choose: what depends on ``compat`` or on the data has its value.
    """

    n_input_genes: int
    n_input_junctions: int
    n_batch: int
    n_obs: int
    n_labels: int
    n_cats_per_cov: Sequence[int] | None
    n_continuous_cov: int
    gene_likelihood: str
    gene_dispersion: str
    use_size_factor_key: bool
    splicing_encoder_architecture: str
    splicing_decoder_architecture: str
    expression_architecture: str
    n_hidden: int
    n_latent: int
    n_layers_encoder: int
    n_layers_decoder: int
    dropout_rate: float
    use_batch_norm: str
    use_layer_norm: str
    latent_distribution: str
    deeply_inject_covariates: bool
    encode_covariates: bool
    splicing_loss_type: str
    splicing_concentration: float | None
    dm_concentration: str
    code_dim: int
    h_hidden_dim: int
    encoder_hidden_dim: int
    pool_mode: str
    max_nobs: int
    modality_weights: str
    modality_penalty: str | None
    splicing_loss_weight: float
    modality_penalty_weight: float
    lambda_prior: float
    event_dropout: float
    psi_input: str
    variance_mixing: str
    phi_floor: float
    phi_prior: str
    phi_prior_shape: float
    phi_prior_rate: float
    phi_init: str | None
    disable_cross_gate: bool
    compat: str | None
    encoder_output_head: str
    log1p_expression: bool
    dm_mean: str
    mask_cells_without_splicing: bool
    include_normalizer: bool
    decoder_covariates: str

    def __post_init__(self):
        for name, known in CHOICES.items():
            check_choice(name, getattr(self, name), known)
        concentration = self.splicing_concentration
        for name, good in (
            ("n_input_genes", self.n_input_genes >= 1),
            ("n_input_junctions", self.n_input_junctions >= 1),
            ("event_dropout", 0 <= self.event_dropout < 1),
            ("phi_floor", self.phi_floor >= 0),
            ("phi_prior_shape", self.phi_prior_shape > 0),
            ("phi_prior_rate", self.phi_prior_rate > 0),
            ("splicing_concentration", concentration is None or concentration > self.phi_floor),
            ("splicing_loss_weight", self.splicing_loss_weight >= 0),
            ("modality_penalty_weight", self.modality_penalty_weight >= 0),
        ):
            if not good:
                msg = f"{name}={getattr(self, name)!r} is out of range"
                raise InvalidArgumentError(msg)

    @property
    def cat_list(self) -> list[int]:
        """Number of batches, and of categories of each further covariate."""
        return [self.n_batch, *(self.n_cats_per_cov or [])]


def resolve(**given: Any) -> SpliceOptions:
    """Options from the arguments of SPLICEVAE; those left at None take their value.

    Raises
    ------
    InvalidArgumentError
        If a value is not known or out of range.
    """
    check_choice("compat", given["compat"], CHOICES["compat"])
    for name, value in BY_COMPAT[given["compat"]].items():
        given[name] = value if given[name] is None else given[name]
    given["n_batch"] = max(given["n_batch"], 1)
    junctions = max(given["n_input_junctions"], 0)
    given["n_hidden"] = given["n_hidden"] or min(WIDEST, math.isqrt(junctions))
    given["n_latent"] = given["n_latent"] or math.isqrt(given["n_hidden"])
    return SpliceOptions(**given)


def refuse_unknown(names: Iterable[str]) -> None:
    """Raise TypeError for an option that SPLICEVAE does not have."""
    for name in names:
        hint = nearest(name, [*(f.name for f in fields(SpliceOptions)), "event_index"])
        msg = f'SPLICEVAE() got an option "{name}" that is not known. {hint}'
        raise TypeError(msg)
