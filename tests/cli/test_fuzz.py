"""Whatever is typed: exit code 0 or 2, and never a traceback."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fuzz_cli

WORDS = [
    "fit", "latent", "report", "import", "de", "deconvolve", "scvi", "sysvi", "contrastivevi", "fits",
    "--out", "--batch", "--batch-key", "--seed", "--max-epochs", "--help", "--version", "--overwrite",
    "--recipe", "--groupby", "--background", "--n-latent", "-h", "--", "-1", "0", "nan", "1e400", "",
    "cells.h5ad", "text.h5ad", "empty.h5ad", "folder", "run", "run/", "..", "/dev/null", "condition=",
    "=", "condition=control", "☃", "a b", "%s", "{}", "\\",
]  # fmt: skip


@pytest.fixture(scope="module")
def place() -> Path:
    """A folder with files that are not what they are named."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "text.h5ad").write_text("not an HDF5 file")
        (path / "empty.h5ad").touch()
        (path / "folder").mkdir()
        (path / "run").mkdir()
        (path / "run" / "model.json").write_text("{}")
        yield path


@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(words=st.lists(st.sampled_from(WORDS) | st.text(max_size=6), max_size=7))
def test_any_words_end_with_0_or_2(place: Path, words: list[str]):
    with contextlib.chdir(place):
        code, printed, problem = fuzz_cli.end_of(words)
    assert problem is None, (words, problem)
    assert code in (0, 2)
    assert code == 0 or printed.strip(), "a mistake is said in words"


def test_commands_with_their_own_options_end_with_0_or_2(tmp_path: Path):
    """Nothing is written where it is 2; the long run is python tests/properties/fuzz_cli.py --n 10000."""
    found = fuzz_cli.run(110, seed=0, place=fuzz_cli.make_place(tmp_path / "place"))
    assert not found.wrong, "\n".join(f"{words}\n{what}" for words, what in found.wrong)
    assert set(found.codes) == {0, 2}, "some work, some do not"


def test_the_judge_sees_what_breaks_the_rule(monkeypatch):
    def ends(action):
        monkeypatch.setattr(fuzz_cli, "main", action)
        return fuzz_cli.end_of([])[2]

    def says(text: str, code: int):
        def action(_: list[str]) -> None:
            sys.stderr.write(text)
            raise SystemExit(code)

        return action

    def breaks(_: list[str]) -> None:
        raise ZeroDivisionError

    assert "ZeroDivisionError" in ends(breaks)
    assert "exit code 1" in ends(says("vivace: something went wrong here\n", 1))
    assert "traceback" in ends(says("Traceback (most recent call last)\n", 2))
    assert "not one sentence" in ends(says("", 2))
    assert "not one sentence" in ends(says("vivace: one mistake is here\nvivace: and another\n", 2))
    assert "code 0" in ends(says("vivace: something went wrong here\n", 0))
    assert ends(says("Note: a note\nvivace: something went wrong here\n", 2)) is None
