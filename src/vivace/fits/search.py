"""Which options are tried, and which of them belong to the model and which to training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vivace._arguments import read_option
from vivace.errors import InvalidArgumentError, UnknownOptionError, nearest
from vivace.models.base import BaseModel
from vivace.models.door import constructor_options
from vivace.train.options import option_names

Space = dict[str, list[Any] | tuple[float, float]]
LOG_FROM = 10.0
"""A range whose ends differ by this factor is searched by orders of magnitude."""
DEFAULT_SPACE: Space = {
    "n_latent": [5, 10, 20, 30, 50],
    "n_hidden": [64, 128, 256, 512],
    "n_layers": [1, 2, 3],
    "dropout_rate": [0.0, 0.05, 0.1, 0.2],
    "gene_likelihood": ["zinb", "nb"],
    "lr": (3e-3, 6e-2),
    "batch_size": [32, 64, 128, 256],
    "max_epochs": [10, 20, 40, 80],
}
"""What is tried of a model that has it, unless a search is given."""


def read_search(model: BaseModel, search: Mapping[str, Any] | None) -> Space:
    """The options to try, each a list of values or a (low, high) range.

    Raises
    ------
    UnknownOptionError
        If neither the model nor its training has an option of that name.
    InvalidArgumentError
        If it is neither a list nor a range, is empty, or a value is out of range.
    """
    known = [*constructor_options(type(model)), *option_names()]
    if search is None:
        return {name: values for name, values in DEFAULT_SPACE.items() if name in known}
    for name, values in search.items():
        if name not in known:
            msg = f'search: {type(model).__name__} has no option "{name}". {nearest(name, known)}'
            raise UnknownOptionError(msg)
        check_values(name, values)
    if not search:
        raise InvalidArgumentError("search is empty; leave it out for the usual options")
    return dict(search)


def check_values(name: str, values: Any) -> None:
    """Raise unless these are values that an option may be given."""
    if not isinstance(values, list | tuple) or len(values) == 0:
        msg = f'search["{name}"]={values!r} must be a list of values, or a range (low, high)'
        raise InvalidArgumentError(msg)
    if isinstance(values, tuple) and (len(values) != 2 or not values[0] < values[1]):
        msg = f'search["{name}"]={values!r} must be a range (low, high) with low < high, or a list'
        raise InvalidArgumentError(msg)
    for value in values:
        read_option(name, value, None)


def parts_of(chosen: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of the model, and of its training."""
    of_training = set(option_names())
    own = {name: value for name, value in chosen.items() if name not in of_training}
    return own, {name: value for name, value in chosen.items() if name in of_training}


def suggest(trial: Any, space: Space) -> dict[str, Any]:
    """Values of an optuna trial."""
    return {name: _suggest(trial, name, values) for name, values in space.items()}


def _suggest(trial: Any, name: str, values: list[Any] | tuple[float, float]) -> Any:
    if isinstance(values, list):
        return trial.suggest_categorical(name, values)
    low, high = values
    log = low > 0 and high / low >= LOG_FROM
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=log)
    return trial.suggest_float(name, low, high, log=log)
