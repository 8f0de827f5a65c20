"""scvi-tools in an environment of its own, so that it never meets ours."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

VERSION = "1.4.2"
FOLDER = Path(__file__).parent / ".envs" / f"scvi-tools-{VERSION}"


def scvi_python() -> Path:
    """Interpreter with scvi-tools installed; made on the first call (minutes, some GB)."""
    python = FOLDER / "bin" / "python"
    if not python.exists():
        print(f"making {FOLDER} with scvi-tools {VERSION}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(FOLDER)], check=True)
        torch_version = version("torch").split("+")[0]  # ours, so that both run on the same kernels
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, f"torch=={torch_version}"], check=True)
        subprocess.run([*pip, f"scvi-tools=={VERSION}"], check=True)
    return python
