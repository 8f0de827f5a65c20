"""The benchmark of the first minute still runs; no timing is asserted."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "start.py"


@pytest.fixture
def script() -> dict:
    if not SCRIPT.exists():
        pytest.skip("the benchmarks do not travel with the package")
    return runpy.run_path(str(SCRIPT))


def test_medians_of_units(script, monkeypatch, capsys):
    """Without the processes, which would compile all kernels twice."""
    seconds = iter([9.0, *[2.0, 4.0, 12.0, 0.5], *[1.0, 3.0, 8.0, 0.5], *[1.0, 9.0, 7.0, 0.1]])
    monkeypatch.setitem(script["main"].__globals__, "cpu_seconds", lambda *_: next(seconds))
    monkeypatch.setattr(sys, "argv", ["start.py", "--rounds", "3"])
    script["main"]()
    rows = capsys.readouterr().out.splitlines()[2:]
    ends = ["warm | 3.00 |", "empty | 7.00 |", "vivace --help | 0.25 |"]
    assert [row.split(" | ", 1)[1] for row in rows] == ends


def test_what_is_timed_runs(script):
    names: dict = {}
    exec(script["TRAINING"], names)  # noqa: S102 - the benchmark's own lines
    assert names["adata"].n_obs == 700


def test_a_process_takes_time(script, tmp_path):
    assert script["cpu_seconds"]("sum(range(10**6))", SCRIPT.parents[1] / "src", str(tmp_path)) > 0
