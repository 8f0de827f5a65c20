"""The benchmark of the first minute still runs; no timing is asserted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "start.py"


def test_one_round():
    if not SCRIPT.exists():
        pytest.skip("the benchmarks do not travel with the package")
    words = [sys.executable, str(SCRIPT), "--rounds", "1"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for start in ("warm", "empty", "vivace --help"):
        assert f"| {start} | " in done.stdout
