"""The throughput benchmark still runs; no timing is asserted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "throughput.py"


def test_smoke():
    if not SCRIPT.exists():
        pytest.skip("the benchmarks do not travel with the package")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--smoke"], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    rows = ("training zinb |", "training zinb, bf16 |", "latent zinb |", "a step on one thread |")
    for row in (*rows, "step over bare"):
        assert f"| {row}" in done.stdout or f"**{row}" in done.stdout, row
    assert "Peak resident memory" in done.stdout
