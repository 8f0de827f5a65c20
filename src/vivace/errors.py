"""Every error vivace raises on purpose.

One root, few leaves; each leaf is also the built-in error that scverse users already catch. A message
names the argument, what was found, what was expected and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class VivaceError(Exception):
    """Root of all errors that vivace raises on purpose.

    Examples
    --------
    >>> from vivace.errors import InvalidArgumentError, VivaceError
    >>> issubclass(InvalidArgumentError, VivaceError) and issubclass(
    ...     InvalidArgumentError, ValueError
    ... )
    True
    """

    def __str__(self) -> str:  # KeyError would print the repr of its message
        return str(self.args[0]) if self.args else ""


class InvalidArgumentError(VivaceError, ValueError):
    """An argument has a value the model cannot work with."""


class UnknownOptionError(InvalidArgumentError, TypeError):
    """An option was named that is not there."""


class InvalidDataError(VivaceError, ValueError):
    """The data hold values the model cannot work with (negative, missing, infinite counts ...)."""


class MissingPseudoinputsError(InvalidArgumentError, AssertionError):
    """A VampPrior lacks the cells it starts from, or they do not fit."""


class MissingKeyError(VivaceError, KeyError):
    """A name was not found in the object it was looked up in."""


class UnknownAttributeError(VivaceError, AttributeError):
    """A model has another name for what was asked of it."""


class NotTrainedError(VivaceError, RuntimeError):
    """The question needs a trained model."""


class TrainingError(VivaceError, RuntimeError):
    """Training cannot go on: the loss is not finite, or a checkpoint does not fit."""


class ModelFileError(VivaceError, ValueError):
    """A saved model is missing, incomplete, altered, or of a newer version."""


class MissingDependencyError(VivaceError, ImportError):
    """An optional dependency is needed for this and is not installed."""


class UnsupportedError(VivaceError, NotImplementedError):
    """The model has no meaningful answer to this question."""


def nearest(name: str, have: Iterable[str]) -> str:
    """Sentence that lists the closest valid names, for the end of a message.

    Examples
    --------
    >>> nearest("batchs", ["batch", "cell_type"])
    'Did you mean "batch"?'
    >>> nearest("x", ["batch", "cell_type"])
    'Available: "batch", "cell_type".'
    """
    names = [str(n) for n in have]
    by_small = {n.lower(): n for n in reversed(names)}  # "NB" is near "nb"
    close = [by_small[n] for n in get_close_matches(str(name).lower(), by_small, n=2)]
    if close:
        return "Did you mean " + " or ".join(f'"{n}"' for n in close) + "?"
    if not names:
        return "There are none."
    shown = ", ".join(f'"{n}"' for n in names[:10])
    return f"Available: {shown}{' ...' if len(names) > 10 else '.'}"


def missing_key(argument: str, name: str, where: str, have: Iterable[str]) -> MissingKeyError:
    """Build the error for a name that is not in ``where``.

    Examples
    --------
    >>> str(missing_key("batch_key", "batchs", "adata.obs", ["batch"]))
    'batch_key="batchs" was not found in adata.obs. Did you mean "batch"?'
    """
    return MissingKeyError(f'{argument}="{name}" was not found in {where}. {nearest(name, have)}')


def check_choice(argument: str, value: object, choices: Iterable[object]) -> None:
    """Raise unless ``value`` is one of ``choices``.

    Examples
    --------
    >>> check_choice("recipe", "fast", ["fast", "classic"])
    """
    options = list(choices)
    if not any(isinstance(value, type(option)) and value == option for option in options):
        hint = nearest(str(value), [str(o) for o in options])
        listed = ", ".join(repr(o) for o in options)
        msg = f"{argument}={value!r} is not known; expected one of {listed}. {hint}"
        raise InvalidArgumentError(msg)


def require(module: str, extra: str) -> MissingDependencyError:
    """Build the error for an optional dependency that is not installed.

    Examples
    --------
    >>> str(require("umap", "report"))
    'This needs the package "umap", which is not installed: pip install "vivace[report]"'
    """
    return MissingDependencyError(
        f'This needs the package "{module}", which is not installed: pip install "vivace[{extra}]"'
    )


class VivaceWarning(UserWarning):
    """Something about the data or the options that the user should know; the run goes on."""


class FractionalCountsWarning(VivaceWarning):
    """Counts are no whole numbers, as normalised or corrected ones are not; the run goes on."""
