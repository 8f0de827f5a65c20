"""The benchmark for cards runs on the processor, so that it has no silly faults when there is a card."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def test_smoke():
    if not SCRIPT.exists():
        pytest.skip("the benchmarks do not travel with the package")
    few = ("--device", "cpu", "--cells", "64", "--genes", "20", "--sizes", "8", "--minutes", "1")
    models = ("--models", "SCVI nb", "ContrastiveVI", "--ways", "eager", "captured")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *few, *models],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "TRITON_INTERPRET": "0"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": right (") == 3
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    rates = {(row[0][2:], row[1]): row[2].rstrip(" |") for row in rows[1:]}
    assert rates["SCVI nb", "eager"].endswith("k")
    assert rates["ContrastiveVI", "eager"].endswith("k")
    assert rates["SCVI nb", "captured"] == "InvalidArgumentError"  # which needs a device
    assert "needs a CUDA device" in done.stdout
