"""What the commands say, on standard output, and what went wrong, on standard error."""

from __future__ import annotations

import re
import sys

FLAGS = {
    "batch_key": "--batch",
    "labels_key": "--labels",
    "size_factor_key": "--size-factor",
    "categorical_covariate_keys": "--categorical-covariate",
    "continuous_covariate_keys": "--continuous-covariate",
}
"""Arguments in Python to options in the shell, where they are called otherwise."""


def say(message: str) -> None:
    """Tell the user what happened."""
    print(message, flush=True)  # noqa: T201


def note(message: str) -> None:
    """Tell the user about something to look at."""
    print(message, file=sys.stderr, flush=True)  # noqa: T201


def flag(name: str) -> str:
    """Name of the option for an argument in Python.

    Examples
    --------
    >>> flag("batch_key"), flag("max_epochs")
    ('--batch', '--max-epochs')
    """
    return FLAGS.get(name, "--" + name.replace("_", "-"))


def in_words(message: str) -> str:
    """Say in words of the shell what an error says in words of Python.

    Examples
    --------
    >>> in_words('batch_key="batchs" was not found in adata.obs. Did you mean "batch"?')
    '--batch "batchs" was not found in obs. Did you mean "batch"?'
    >>> in_words("max_epochs=0 must be > 0"), in_words("pass normalize=True")
    ('--max-epochs 0 must be > 0', 'pass --normalize')
    """
    message = re.sub(r"\b([a-z][a-z_]+)=True\b", lambda m: flag(m[1]), message)
    message = re.sub(r"\b([a-z][a-z_]+)=(?=[\w\"'.-])", lambda m: f"{flag(m[1])} ", message)
    return re.sub(r"\badata\b", "the data", message.replace("adata.", ""))
