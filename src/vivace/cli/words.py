"""What the commands say, on standard output, and what went wrong, on standard error."""

from __future__ import annotations

import os
import re
import sys

from vivace._progress import said

INTERRUPTED = 130
"""Exit code after Ctrl-C."""
FLAGS = {
    "batch_key": "--batch",
    "labels_key": "--labels",
    "size_factor_key": "--size-factor",
    "categorical_covariate_keys": "--categorical-covariate",
    "continuous_covariate_keys": "--continuous-covariate",
    "gene_list": "--gene",
    "n_fits": "--fits",
    "n_trials": "--trials",
    "n_processes": "--processes",
}
"""Arguments in Python to options in the shell, where they are called otherwise."""
CODE = re.compile(r"([\w.]+\([^()]*=[^()]*\))")
"""A call with arguments by name, which is meant to be typed in Python as it is."""


def say(message: str) -> None:
    """Tell the user what happened; of several processes that do the same, the first one does."""
    if os.environ.get("RANK", "0") != "0":
        return
    print(message, flush=True)  # noqa: T201
    said()


def note(message: str) -> None:
    """Tell the user about something to look at."""
    print(message, file=sys.stderr, flush=True)  # noqa: T201
    said()


def still(message: str) -> None:
    """Tell the user what takes so long; of several processes, the first one does."""
    if os.environ.get("RANK", "0") == "0":
        note(message)


def several(n: int, thing: str) -> str:
    """A number of things.

    Examples
    --------
    >>> several(1, "cell"), several(1200, "cell")
    ('1 cell', '1,200 cells')
    """
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def flag(name: str) -> str:
    """Name of the option for an argument in Python.

    Examples
    --------
    >>> flag("batch_key"), flag("max_epochs")
    ('--batch', '--max-epochs')
    """
    return FLAGS.get(name, "--" + name.replace("_", "-"))


def in_words(message: str) -> str:
    r"""Say in words of the shell what an error says in words of Python.

    Examples
    --------
    >>> in_words('batch_key="batchs" was not found in adata.obs. Did you mean "batch"?')
    '--batch "batchs" was not found in obs. Did you mean "batch"?'
    >>> in_words("run\n  normalize_total(adata, target_sum=1e4)\nfirst")
    'run normalize_total(adata, target_sum=1e4) first'
    >>> in_words("max_epochs=0 must be > 0"), in_words("pass normalize=True")
    ('--max-epochs 0 must be > 0', 'pass --normalize')
    """
    parts = CODE.split(" ".join(message.split()))  # every second part is code
    return "".join(part if i % 2 else shell_words(part) for i, part in enumerate(parts))


def shell_words(text: str) -> str:
    """Text without code in words of the shell."""
    text = re.sub(r"\b([a-z][a-z_0-9]+)=True\b", lambda m: flag(m[1]), text)
    text = re.sub(r"\b([a-z][a-z_0-9]+)=(?=[\w\"'.-])", lambda m: f"{flag(m[1])} ", text)
    text = text.replace("adata.", "").replace("with load_query_data", "with vivace map")
    return re.sub(r"\badata\b", "the data", text)
