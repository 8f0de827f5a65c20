"""Train the reference models with scvi-tools, then compare: what ``make parity`` runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from scvi_env import scvi_python

HERE = Path(__file__).parent


def main() -> int:
    out = HERE / ".out"
    subprocess.run([scvi_python(), HERE / "reference.py", out], check=True)
    tests = [sys.executable, "-m", "pytest", "-q", "-s", HERE / "test_parity.py"]
    return subprocess.run(tests, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
