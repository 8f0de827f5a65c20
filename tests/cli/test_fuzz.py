"""Whatever is typed: exit code 0 or 2, and never a traceback."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vivace.cli import main

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
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(place),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main(words)
    assert ended.value.code in (0, 2), words
    assert "Traceback" not in out.getvalue() + err.getvalue()
    if ended.value.code == 2:
        assert err.getvalue().strip(), "a mistake is said in words"
