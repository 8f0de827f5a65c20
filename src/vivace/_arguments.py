"""Numbers and names as arguments: one reader, and one table of what each number may be.

An option means the same wherever it is an argument, so that its range stands here once, by its name.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

from vivace.errors import InvalidArgumentError, UnknownOptionError, nearest

LARGEST = 2**63
"""Numbers are smaller than this, so that every library can hold them."""


@dataclass(frozen=True)
class Range:
    """Numbers that an argument may be.

    Attributes
    ----------
    low, high
        Smallest and largest; only finite numbers that fit into 64 bits, whatever they are.
    above, below
        ``low`` and ``high`` themselves are out of range.
    whole
        Whole numbers; ``10.0`` is one.
    words
        Words that may stand in place of a number.
    none
        None may, whatever the default is.

    Examples
    --------
    >>> print(Range(0, 1, below=True))
    a number in [0, 1)
    """

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False
    whole: bool = False
    words: tuple[str, ...] = ()
    none: bool = False

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        others = [repr(word) for word in self.words] + ["None"] * self.none
        return " or ".join([f"{kind} {self.ends}", *others])

    @property
    def ends(self) -> str:
        """The range in signs."""
        if self.high == math.inf:
            return f"{'>' if self.above else '>='} {self.low}"
        return f"in {'(' if self.above else '['}{self.low}, {self.high}{')' if self.below else ']'}"

    def fits(self, value: Any) -> bool:
        """Whether it is a number of the kind wanted, in range or not."""
        if isinstance(value, bool) or not isinstance(value, Real) or not abs(value) < LARGEST:
            return False
        return not self.whole or float(value).is_integer()

    def holds(self, value: float) -> bool:
        """Whether a number is in range."""
        over = value > self.low if self.above else value >= self.low
        return over and (value < self.high if self.below else value <= self.high)


COUNT = Range(0, above=True, whole=True)
COUNT_OR_NONE = Range(0, above=True, whole=True, none=True)
FROM_ZERO = Range(0, whole=True)
WEIGHT = Range(0)
POSITIVE = Range(0, above=True)
DROPOUT = Range(0, 1, below=True)
LEVEL = Range(0, 1, above=True, below=True)
SEED = Range(0, 2**32 - 1, whole=True)
"""What torch, numpy and scikit-learn all take."""


def _each(names: str, rule: Range) -> dict[str, Range]:
    return dict.fromkeys(names.split(), rule)


RULES: dict[str, Range] = {
    # sizes of networks
    **_each(
        "n_hidden n_latent n_layers n_background_latent n_salient_latent n_layers_encoder "
        "n_layers_decoder n_latent_amortization code_dim h_hidden_dim encoder_hidden_dim "
        "n_prior_components num_classes_mog n_states_per_label n_samples_augmentation "
        "n_genes n_junctions",
        COUNT,
    ),
    **_each("add_celltypes", FROM_ZERO),
    **_each("max_nobs", Range(-1, whole=True)),
    **_each("dropout_rate dropout_decoder dropout_amortization event_dropout", DROPOUT),
    # terms of a loss
    **_each(
        "wasserstein_penalty energy_distance_weight joint_embedding_weight lambda_off_diag "
        "reconstruction_weight "
        "variance_weight splicing_loss_weight modality_penalty_weight lambda_prior phi_floor "
        "kl_weight min_kl_weight max_kl_weight classification_ratio z_distance_cycle_weight "
        "ct_sparsity_weight weighting_augmentation weighting_smoothing eta_reg beta_reg "
        "weighting_kl_latent reconst_weight",
        WEIGHT,
    ),
    **_each(
        "min_library_size phi_prior_shape phi_prior_rate splicing_concentration eps_v", POSITIVE
    ),
    # training
    **_each(
        "max_epochs batch_size check_val_every_n_epoch checkpoint_every_n_epochs lr_step_size",
        COUNT,
    ),
    **_each(
        "n_epochs_kl_warmup n_steps_kl_warmup early_stopping_patience early_stopping_warmup_epochs "
        "lr_patience",
        FROM_ZERO,
    ),
    **_each("lr eps max_grad_norm checkpoint_every_n_minutes rna_size_factor", POSITIVE),
    **_each("weight_decay early_stopping_min_delta lr_threshold lr_min", WEIGHT),
    **_each("kl_warmup_fraction thinned_share encoder_depth_scaling", Range(0, 1)),
    **_each("batch_norm_momentum train_size", Range(0, 1, above=True)),
    **_each("validation_size", Range(0, 1, below=True)),
    **_each("seed", SEED),
    # questions
    **_each(
        "n_samples mc_samples n_mc_samples n_mc_samples_per_pass n_samples_overall n_draws "
        "m_permutation",
        COUNT,
    ),
    **_each("p vamp_prior_p num_cells_posterior", COUNT_OR_NONE),
    **_each("dof", Range(0, above=True, none=True)),
    **_each("delta pseudocounts", Range(0, none=True)),
    **_each("threshold_counts", WEIGHT),
    **_each("fdr_target level lr_factor share", LEVEL),
    # many fits
    **_each("n_fits", Range(2, whole=True)),
    **_each("n_processes n_trials", COUNT),
    **_each("minutes", POSITIVE),
    **_each("library_size", Range(0, above=True, words=("latent",))),
}
"""Name of an argument to what it may be."""


def read_number(argument: str, value: Any, rule: Range) -> Any:
    """``value`` as a number of Python's that is in range.

    Numbers of numpy, of torch and of a tuner are fine, and whole numbers written as ``10.0``.

    Parameters
    ----------
    argument
        Its name, for the message.
    value
        What was given.
    rule
        What it may be.

    Returns
    -------
    int if the rule is of whole numbers, else int or float; or one of the rule's words, or None.

    Raises
    ------
    InvalidArgumentError
        If it is no number, or out of range.

    Examples
    --------
    >>> import numpy as np
    >>> read_number("n_latent", np.float32(10), COUNT), read_number("lr", 0.5, POSITIVE)
    (10, 0.5)
    """
    if (value is None and rule.none) or (isinstance(value, str) and value in rule.words):
        return value
    number = _plain(value)
    if not rule.fits(number):
        raise _refused(argument, value, rule)
    if not rule.holds(number):
        raise _refused(argument, value, rule.ends)
    return int(number) if rule.whole or isinstance(number, int) else float(number)


def _plain(value: Any) -> Any:
    """A scalar of numpy or torch as Python's own; anything else as it is."""
    is_scalar = getattr(value, "ndim", None) == 0 and hasattr(value, "item")
    return value.item() if is_scalar else value


def _refused(argument: str, value: Any, rule: Range | str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{argument}={reprlib.repr(value)} must be {rule}")


def whole_number(argument: str, value: Any, at_least: int = 1, at_most: float = math.inf) -> int:
    """A whole number in a range of one's own.

    Examples
    --------
    >>> whole_number("level", 3.0, at_most=5)
    3
    """
    return read_number(argument, value, Range(at_least, at_most, whole=True))


def read_option(argument: str, value: Any, default: Any = ...) -> Any:
    """``value`` as the table knows it by its name; what it does not know is returned as it is.

    None is fine where the argument's ``default`` is None, and an argument whose default is True or False
    is one of the two.

    Raises
    ------
    InvalidArgumentError
        If it is a number that is out of range, or none.

    Examples
    --------
    >>> read_option("n_latent", 10.0), read_option("progress", True)
    (10, True)
    """
    if isinstance(default, bool):
        return _flag(argument, value)
    if argument not in RULES or (value is None and default is None):
        return value
    return read_number(argument, value, RULES[argument])


def _flag(argument: str, value: Any) -> bool:
    plain = _plain(value)
    if not isinstance(plain, int) or plain not in (0, 1):
        raise _refused(argument, value, "True or False")
    return bool(plain)


def read_options(argument: str, given: Any) -> dict[str, Any]:
    """A dict of options, each as :func:`read_option` reads it; None stays None.

    Raises
    ------
    InvalidArgumentError
        If ``argument`` is no dict, or one of the numbers in it is none or out of range.

    Examples
    --------
    >>> read_options("plan_kwargs", {"lr": 0.5})
    {'lr': 0.5}
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise _refused(argument, given, "a dict of options by name")
    return {name: read_option(name, value, None) for name, value in given.items()}


def check_names(owner: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse an argument that ``owner`` does not have.

    Raises
    ------
    UnknownOptionError
        With the nearest name.

    Examples
    --------
    >>> check_names("SCVI", ["n_latent"], ["n_hidden", "n_latent"])
    """
    names = list(known)
    for name in given:
        if name not in names:
            msg = f'{owner} has no option "{name}". {nearest(name, names)}'
            raise UnknownOptionError(msg)
