"""Every benchmark that runs in this environment can be started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "benchmarks"
ELSEWHERE = ("worker", "destvi_scvi", "throughput_step")
"""Run in scvi-tools' environment, or by another benchmark alone."""


def test_all_of_them_import():
    found = sorted(file.stem for file in FOLDER.glob("*.py"))
    here = [name for name in found if not any(part in name for part in ELSEWHERE)]
    command = [sys.executable, "-W", "ignore", "-c", f"import {', '.join(here)}"]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
