"""The door of the models: every public verb reads its arguments and torch's session in one place."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import fields
from functools import cache, wraps
from typing import Any

from vivace._arguments import check_names, read_option
from vivace._settings import own_session
from vivace.models.spellings import learning_rate_second, spelled
from vivace.train import TrainOptions

NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
BUILDING = ("__init__", "from_model", "from_rna_model")
"""Verbs that pass further options on to the module."""
FROM_DATA = {
    "n_input",
    "n_batch",
    "n_labels",
    "n_continuous_cov",
    "n_cats_per_cov",
    "n_fine_labels",
    "n_spots",
    "n_obs",
    "n_genes",
    "n_input_genes",
    "n_input_junctions",
    "event_index",
    "pseudoinput_data",
    "use_size_factor_key",
    "library_log_means",
    "library_log_vars",
    "ct_weight",
}
"""Arguments of modules that models read from the data, and no user gives."""


def put_door(model: type) -> None:
    """Lead constructor, questions and classmethods of a class through the door, but not its setup."""
    doors: dict[Callable, Callable] = {}  # two names of one verb stay one
    for name, verb in list(vars(model).items()):
        if name.startswith("_") and name != "__init__":
            continue
        if inspect.isfunction(verb):
            setattr(model, name, behind_door(verb))
        elif isinstance(verb, classmethod) and not name.startswith("setup_"):
            function = verb.__func__
            doors[function] = doors.get(function) or behind_door(function)
            setattr(model, name, classmethod(doors[function]))


def behind_door(verb: Callable) -> Callable:
    """``verb`` with its numbers read, unknown names refused, and torch as it starts."""
    parameters = list(inspect.signature(verb).parameters.values())[1:]
    defaults = arguments_of(verb)
    order = [p.name for p in parameters if p.kind is NAMED[0]]
    takes_more = any(p.kind is p.VAR_KEYWORD for p in parameters)

    @wraps(verb)
    def through_door(owner: Any, *args: Any, **kwargs: Any) -> Any:
        model = owner if isinstance(owner, type) else type(owner)
        if verb.__name__ == "train":
            args, kwargs = learning_rate_second(args, kwargs)
        known = (_further(model, verb.__name__) if takes_more else {}) | defaults
        kwargs = spelled(_words(model, verb.__name__), verb.__name__, kwargs, known)
        if known.keys() > defaults.keys() or not takes_more:
            check_names(_words(model, verb.__name__), kwargs, known)
        named = [read_option(n, v, known[n]) for n, v in zip(order, args, strict=False)]
        options = {n: read_option(n, v, known.get(n, ...)) for n, v in kwargs.items()}
        with own_session():
            return verb(owner, *named, *args[len(named) :], **options)

    return through_door


def _words(model: type, verb: str) -> str:
    return model.__name__ if verb == "__init__" else f"{model.__name__}.{verb}"


@cache
def _further(model: Any, verb: str) -> dict[str, Any]:
    """What a verb takes beside the names in its signature, with the defaults; {} if it checks itself."""
    if verb in BUILDING:
        own = arguments_of(model.__init__)
        passed = _passed_on(model.module_class)
        taken = FROM_DATA if verb == "__init__" else FROM_DATA.union(own)
        further = {name: passed[name] for name in passed.keys() - taken}
        return own | further if verb == "__init__" else further
    if verb == "train":
        names = {f.name for f in fields(TrainOptions)}.union(*map(_names_of_train, model.__mro__))
        return dict.fromkeys(names)  # None is an option that was not given
    return {}


def constructor_options(model: type) -> dict[str, Any]:
    """Name of each option that a model's constructor takes, its module's included, to its default.

    Examples
    --------
    >>> import vivace
    >>> constructor_options(vivace.SCVI)["n_latent"]
    10
    """
    return {
        name: default for name, default in _further(model, "__init__").items() if name != "adata"
    }


def further_options(model: Any) -> dict[str, Any]:
    """Options that the constructor passes on to the module, with their defaults."""
    taken = arguments_of(model.__init__)
    return {n: v for n, v in _further(model, "__init__").items() if n not in taken}


def _names_of_train(model: type) -> Iterable[str]:
    return arguments_of(vars(model)["train"]) if "train" in vars(model) else ()


def _passed_on(module: type) -> dict[str, Any]:
    """Arguments of a class and, where it passes further ones on, of its base."""
    found: dict[str, Any] = {}
    for base in (c for c in module.__mro__ if "__init__" in vars(c)):
        initialise = vars(base)["__init__"]
        found = arguments_of(initialise) | found
        kinds = [p.kind for p in inspect.signature(initialise).parameters.values()]
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return found


def arguments_of(function: Callable) -> dict[str, Any]:
    """Name of each argument of a function but the first, ``self``, to its default.

    Examples
    --------
    >>> arguments_of(lambda self, a, b=1: None)["b"]
    1
    """
    parameters = list(inspect.signature(function).parameters.values())[1:]
    return {p.name: p.default for p in parameters if p.kind in NAMED}
