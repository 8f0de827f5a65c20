"""Whatever goes wrong with what a file says is said of the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vivace.errors import ModelFileError, VivaceError

WHAT_WRONG_VALUES_RAISE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


@contextmanager
def blamed_on(what: str) -> Iterator[None]:
    """Let errors that values of another kind than expected lead to be a :class:`ModelFileError`.

    Examples
    --------
    >>> with blamed_on("model.pt is damaged"):
    ...     {}["var_names"]
    Traceback (most recent call last):
    vivace.errors.ModelFileError: model.pt is damaged: KeyError 'var_names'
    """
    try:
        yield
    except VivaceError:
        raise
    except WHAT_WRONG_VALUES_RAISE as error:
        first_line = next(iter(str(error).splitlines()), "")[:200]
        msg = f"{what}: {type(error).__name__} {first_line}".rstrip()
        raise ModelFileError(msg) from error
