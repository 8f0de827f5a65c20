"""The benchmark of several processes still runs; no timing is asserted."""

from __future__ import annotations

import random
import runpy
import sys
from pathlib import Path

import anndata
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "processes.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict:
    if not SCRIPT.exists():
        pytest.skip("the benchmarks do not travel with the package")
    monkeypatch.syspath_prepend(SCRIPT.parent)
    return runpy.run_path(str(SCRIPT))


@pytest.fixture
def cells(tmp_path: Path, script: dict) -> Path:
    path = tmp_path / "cells.h5ad"
    script["simulate"](120, 30, 0.1).write_h5ad(path)
    return path


def test_two_processes_answer(script: dict, cells: Path):
    """One of them prints; the other's rates are the same run's."""
    done = script["answer"](2, 1, cells, "train", 1, cells.with_name("run.ckpt"), 2)
    assert done == {"epochs": 2}


def test_what_is_timed_runs(monkeypatch: pytest.MonkeyPatch, script: dict, cells: Path):
    worker = runpy.run_path(str(script["WORKER"]))
    names = worker["rates"].__globals__
    monkeypatch.setitem(names, "watch_epochs", lambda: None)  # of all that the session trains
    monkeypatch.setitem(names, "rate", lambda name, *_: len(name))
    found = worker["rates"](anndata.read_h5ad(cells), 1)
    assert len(found) == 7
    assert found["SCVI, latent extraction"] > 0


def test_ratios_are_those_within_a_round(monkeypatch: pytest.MonkeyPatch, script: dict):
    rates = iter([10.0, 11.0, 20.0, 30.0, 30.0, 45.0, 5.0, 6.0, 9.0])
    monkeypatch.setitem(script["measure"].__globals__, "answer", lambda *_: {"SCVI": next(rates)})
    table = script["table"](script["measure"](Path("cells"), 3, "rates"))
    assert table.splitlines()[-1] == "| SCVI | 10 | 11 | 20 | 1.10 × | 1.80 × |"


def test_one_of_two_is_killed(monkeypatch: pytest.MonkeyPatch, script: dict, cells: Path):
    """By a launcher that starts two processes which end together, without torch."""
    start = "import subprocess; a, b = (subprocess.Popen(['sleep', '9']) for _ in '12')"
    two = f"{start}; a.wait(); b.kill(); b.wait()"
    names = script["kill_one"].__globals__
    monkeypatch.setitem(names, "command", lambda *_: [sys.executable, "-c", two])
    rng = random.Random(3)
    monkeypatch.setattr(rng, "uniform", lambda *_: 0.1)
    monkeypatch.setattr(rng, "choice", lambda workers: workers[0])
    seconds, how = script["kill_one"](cells, cells.with_name("run.ckpt"), 2, rng)
    assert how == "ended"
    assert 0 < seconds < 9
