"""The benchmark of cells on disk still runs; no timing is asserted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "disk.py"


def test_smoke(tmp_path: Path):
    if not SCRIPT.exists():
        pytest.skip("the benchmarks do not travel with the package")
    words = [sys.executable, str(SCRIPT), "--smoke", "--folder", str(tmp_path / "files")]
    done = subprocess.run(
        [*words, "--formats", "sharded.zarr"],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
    )
    assert done.returncode == 0, done.stderr
    for where in ("memory", "sharded.zarr"):
        assert f"| 3,000 | {where} |" in done.stdout
