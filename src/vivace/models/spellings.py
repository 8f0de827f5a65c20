"""Names that users of scvi-tools have in their fingers: what they are called here, or what to use instead."""

from __future__ import annotations

from collections.abc import Callable, Collection
from numbers import Real
from typing import Any

from vivace.errors import InvalidArgumentError, UnknownAttributeError, UnknownOptionError

Meaning = Callable[[Any], dict[str, Any]]
"""``f(value)``: the options that say the same here."""


def called(name: str) -> Meaning:
    """The same under another name."""
    return lambda value: {name: value}


def left_out(_: Any) -> dict[str, Any]:
    """Makes no difference here."""
    return {}


def instead(what: str) -> Meaning:
    """Can't be had, unless it is switched off; ``what`` says what to do."""

    def refuse(value: Any) -> dict[str, Any]:
        if not value:
            return {}
        raise UnknownOptionError(what)

    return refuse


def only(expected: object, what: str) -> Meaning:
    """One value is how things are here; of any other, ``what`` says what to do."""

    def check(value: Any) -> dict[str, Any]:
        if value == expected:
            return {}
        raise InvalidArgumentError(f"{value!r} cannot be had: {what}")

    return check


FILES = {"dir_path": called("folder")}
TRAINING: dict[str, Meaning] = {
    "enable_progress_bar": called("progress"),
    "gradient_clip_val": called("max_grad_norm"),
    "gradient_clipping_max_norm": called("max_grad_norm"),
    "gradient_clipping": instead("pass max_grad_norm=5.0 to clip gradients to this norm"),
    "early_stopping_mode": only("min", "lower is better for every metric that can be watched"),
    "reduce_lr_on_plateau": lambda value: {"lr_schedule": "plateau"} if value else {},
    "lr_scheduler_type": called("lr_schedule"),
    "step_size": called("lr_step_size"),
    "compile": instead("leave it out: what compiling would fuse is fused already"),
    "optimizer_creator": instead('pass optimizer="Adam" or "AdamW" with lr, weight_decay and eps'),
    "enable_checkpointing": instead('pass checkpoint="a file", and go on from it with resume='),
    "strategy": instead("leave it out: devices=n trains by n processes on this machine"),
    "datamodule": instead(
        "leave it out: vivace.open_cells reads cells that do not fit into memory"
    ),
    **dict.fromkeys(
        ("log_every_n_steps", "enable_model_summary", "load_sparse_tensor", "simple_progress_bar"),
        left_out,
    ),
}
SPELLINGS: dict[str, dict[str, Meaning]] = {
    "save": FILES,
    "load": {**FILES, "backup_url": instead("download the folder, then load it")},
    "train": TRAINING,
    "datasplitter_kwargs": dict.fromkeys(
        ("drop_last", "drop_dataset_tail", "pin_memory"), left_out
    ),
    "differential_expression": {
        "silent": left_out,
        "weights": only("uniform", "only SCVI weighs draws by importance; leave it out"),
    },
    "get_normalized_expression": {
        "library_size": only(
            1,
            "values are log-normalised, of 10,000 counts a cell; numpy.expm1 of them is on that scale",
        )
    },
    "__init__": {
        "stop_gradient_spl_to_expr": instead("leave it out: both modalities train both encoders")
    },
    "load_query_data": {"inplace_subset_query_vars": left_out},
}
"""Verb to the names it has there."""


FACTS = {
    "is_trained_": "is_trained",
    "history_": "history",
    "train_indices_": "train_indices",
    "validation_indices_": "validation_indices",
    "test_indices_": "test_indices",
    "init_params_": "options",
}
"""Name of an attribute there to its name here."""

IN_SCHEMA = "model.schema says what the data look like, model.options what the model was built with"
INSTEAD_OF = {
    "summary_string": "print(model) says what it is, model.view_anndata_setup() what its data look like",
    "summary_stats": "model.view_anndata_setup() counts what was set up",
    "get_var_names": "use model.var_names",
    "trainer": "model.training has the facts of the training, model.history its metrics",
    **dict.fromkeys(
        ("registry", "registry_", "adata_manager", "get_anndata_manager", "get_setup_arg"),
        IN_SCHEMA,
    ),
}
"""Name of an attribute there to what to use here."""


def attribute(model: Any, name: str) -> Any:
    """An attribute under its name there; called for names that a model does not have.

    Raises
    ------
    AttributeError
        Of names that nobody has.
    UnknownAttributeError
        With what to use instead.
    """
    if name in FACTS:
        return getattr(model, FACTS[name])
    owner = type(model).__name__
    if name in INSTEAD_OF:
        msg = f"{owner} has no {name}: {INSTEAD_OF[name]}"
        raise UnknownAttributeError(msg)
    msg = f"{owner!r} object has no attribute {name!r}"
    raise AttributeError(msg, name=name, obj=model)


def learning_rate_second(
    args: tuple[Any, ...], given: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """``train(300, 0.001, ...)``: a number in the second place is the learning rate, nothing else is one.

    Examples
    --------
    >>> learning_rate_second((300, 0.001, "cpu"), {})
    ((300, 'cpu'), {'lr': 0.001})
    """
    if len(args) < 2 or isinstance(args[1], bool) or not isinstance(args[1], Real):
        return args, given
    if "lr" in given:
        msg = f"train: lr={given['lr']!r} and {args[1]!r} in its place are both given; pass one"
        raise UnknownOptionError(msg)
    return (args[0], *args[2:]), {**given, "lr": args[1]}


def spelled(owner: str, verb: str, given: dict[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Options under their names here; what is known as it stands, or not known at all, is left alone.

    Parameters
    ----------
    owner
        Whose options they are, for messages.
    verb
        Which of :data:`SPELLINGS` to read.
    given
        Options by name.
    known
        Names that ``owner`` has.

    Raises
    ------
    UnknownOptionError
        If an option is given under both names, or cannot be had: then with what to use instead.
    InvalidArgumentError
        If its value cannot be had.

    Examples
    --------
    >>> spelled("SCVI.train", "train", {"enable_progress_bar": False}, ["progress"])
    {'progress': False}
    """
    meanings = SPELLINGS.get(verb, {})
    found = {name: value for name, value in given.items() if name in known or name not in meanings}
    for name in given.keys() - found.keys():
        here = _meant(owner, name, meanings[name], given[name])
        for twice in here.keys() & given.keys():
            msg = f'{owner}: "{name}" is called "{twice}" here, and both are given; pass one'
            raise UnknownOptionError(msg)
        # a schedule that is named counts for more than that there is one
        found = here | found if name == "reduce_lr_on_plateau" else found | here
    return found


def _meant(owner: str, name: str, meaning: Meaning, value: Any) -> dict[str, Any]:
    try:
        return meaning(value)
    except InvalidArgumentError as error:
        msg = f'{owner} has no option "{name}" like this; {error}'
        raise type(error)(msg) from None
