"""Build wheel and sdist, install each into an empty environment, and run ``vivace demo`` from there.

    python packaging/try_install.py          # both, in a folder that is removed
    python packaging/try_install.py wheel    # one of them

Prints size, files and seconds. Downloads what vivace needs, as a user's pip would.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
KINDS = ("wheel", "sdist")


def main() -> None:
    kinds = sys.argv[1:] or list(KINDS)
    with tempfile.TemporaryDirectory() as folder:
        built = build(Path(folder))
        for kind in kinds:
            contents(kind, built[kind])
            try_demo(Path(folder) / kind, built[kind])


def build(folder: Path) -> dict[str, Path]:
    python = environment(folder / "build")
    run([python, "-m", "pip", "install", "--quiet", "hatchling"])
    run([python, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT)
    return {"wheel": next(folder.glob("*.whl")), "sdist": next(folder.glob("*.tar.gz"))}


def contents(kind: str, path: Path) -> None:
    if kind == "wheel":
        names = zipfile.ZipFile(path).namelist()
    else:
        with tarfile.open(path) as archive:
            names = [member.name for member in archive if member.isfile()]
    print(f"{path.name}: {path.stat().st_size / 1024:.0f} kB, {len(names)} files", flush=True)


def try_demo(folder: Path, package: Path) -> None:
    start = time.perf_counter()
    python = environment(folder)
    pins = ["-c", str(ROOT / "constraints.txt")]
    run([python, "-m", "pip", "install", "--quiet", *pins, f"{package}[demo]"])
    installed = time.perf_counter()
    run([str(Path(python).parent / "vivace"), "demo"], cwd=folder)  # away from the sources
    report = folder / "vivace-demo" / "report.html"
    print(
        f"  installed in {installed - start:.0f} s, demo in {time.perf_counter() - installed:.0f} s, "
        f"report of {report.stat().st_size / 1024:.0f} kB",
        flush=True,
    )


def environment(folder: Path) -> str:
    venv.create(folder, with_pip=True)
    return str(folder / "bin" / "python")


def run(words: list[str], cwd: Path | None = None) -> None:
    subprocess.run(words, check=True, cwd=cwd, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
