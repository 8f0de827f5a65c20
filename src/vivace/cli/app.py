"""What becomes of a command and its errors: exit code 2 and one sentence, never a traceback."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import typer

from vivace._progress import no_silence
from vivace.cli.commands import app
from vivace.cli.words import INTERRUPTED, in_words, note, still
from vivace.errors import VivaceError, VivaceWarning


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and end the process.

    Parameters
    ----------
    arguments
        Words after ``vivace``; those of the process when not given.

    Raises
    ------
    SystemExit
        With code 0 on success, 2 on a mistake of the user's, 130 when interrupted.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", VivaceWarning)
            warnings.showwarning = show_warning
            with no_silence(still):
                code = app(arguments, prog_name="vivace", standalone_mode=False)
    except typer.TyperException as error:
        if not error.format_message():  # a command without arguments has shown its help
            sys.exit(0)
        fail(f"{sentence(error.format_message())} {usage(error)}")
    except VivaceError as error:
        fail(in_words(str(error)))
    except BrokenPipeError:  # whoever was reading what is printed has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        place = "" if error.filename is None else f'"{error.filename}": '
        fail(in_words(f"{place}{error.strerror or error}"))
    except MemoryError as error:
        fail(f"there is not enough memory for this ({str(error) or 'none is left'})")
    if code == INTERRUPTED:
        note("Interrupted; nothing was written.")
    sys.exit(code if isinstance(code, int) else 0)


def fail(message: str) -> None:
    """Say what was wrong and end with code 2."""
    note(f"vivace: {message}")
    sys.exit(2)


def sentence(message: str) -> str:
    """The message with a full stop, unless it ends with a mark of its own.

    Examples
    --------
    >>> sentence("No such option: --x"), sentence("Did you mean --y?")
    ('No such option: --x.', 'Did you mean --y?')
    """
    return message if message.endswith((".", "?", "!")) else f"{message}."


def usage(error: typer.TyperException) -> str:
    """Where to read about the command that was called wrongly."""
    context: Any = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "vivace"
    return f'See "{path} --help".'


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning of vivace as a sentence, without the line of code it came from."""
    note(f"Note: {in_words(str(message))}")
