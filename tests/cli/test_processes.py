"""Commands in several processes: how they are asked for, and that one of them prints and writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vivace.cli.words import say
from vivace.models import base

FIT = ("--max-epochs", "1", "--n-top-genes", "0", "--n-hidden", "4", "--n-latent", "2")


def test_devices_starts_processes(folder: Path, tmp_path: Path, run, monkeypatch):
    asked: list[int] = []

    def started(model: Any, n: int, *given: Any, **more: Any) -> None:
        asked.append(n)
        raise KeyboardInterrupt

    monkeypatch.setattr(base, "fit_in_processes", started)
    words = ["fit", "scvi", folder / "cells.h5ad", "--out", tmp_path / "run", *FIT]
    run(*words, "--devices", 3)
    assert asked == [3]
    assert run(*words, "--devices", 0).code == 2


def test_another_process_than_the_first_prints_and_writes_nothing(
    folder: Path, tmp_path: Path, run, monkeypatch
):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("vivace.tables.run.is_first", lambda: False)
    done = run("fit", "scvi", folder / "cells.h5ad", "--out", tmp_path / "run", *FIT)
    assert done.code == 0
    assert done.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("rank", "out"), [("0", "done\n"), ("2", "")])
def test_the_first_process_speaks(rank: str, out: str, monkeypatch, capsys):
    monkeypatch.setenv("RANK", rank)
    say("done")
    assert capsys.readouterr().out == out
