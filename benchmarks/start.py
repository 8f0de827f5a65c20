"""How long until the first epoch is over? From ``python -c`` to SCVI trained for one on 700 cells.

    python benchmarks/start.py                          # this tree
    python benchmarks/start.py ../before/src src        # two versions in turn

Seconds of CPU of whole processes on one thread, in units of one that only imports torch and runs beside
it; medians. "Warm": the kernels were compiled before. "Empty": they are compiled now, into a new folder.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

TRAINING = """
import vivace
adata = vivace.datasets.simulate("batches", n_cells=700, n_genes=1000)
vivace.SCVI.setup_anndata(adata, batch_key="batch")
vivace.SCVI(adata).train(max_epochs=1, progress=False)
"""
HELP = "import sys; sys.argv = ['vivace', '--help']; from vivace.cli.app import main; main()"
SOURCE = Path(__file__).parents[1] / "src"


def cpu_seconds(code: str, source: Path, cache: str) -> float:
    """CPU time of a process from its start to its end."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
        "PYTHONPATH": str(source),
        "NUMBA_CACHE_DIR": cache,
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, stdout=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def round_of(source: Path, warm: str) -> dict[str, float]:
    """Each start once, in units of ``import torch``."""
    unit = cpu_seconds("import torch", source, warm)
    with tempfile.TemporaryDirectory() as empty:
        return {
            "warm": cpu_seconds(TRAINING, source, warm) / unit,
            "empty": cpu_seconds(TRAINING, source, empty) / unit,
            "vivace --help": cpu_seconds(HELP, source, warm) / unit,
        }


def main() -> None:
    """Print a row a version and start."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="*", type=Path, default=[SOURCE])
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    found: dict[Path, dict[str, list[float]]] = {s: defaultdict(list) for s in given.sources}
    with tempfile.TemporaryDirectory() as warm:
        for source in found:
            cpu_seconds(TRAINING, source, warm)  # compiles
        for _ in range(given.rounds):
            for source, starts in found.items():
                for name, units in round_of(source, warm).items():
                    starts[name].append(units)
    print("| version | start | × import torch |\n|---|---|---|")
    for source, starts in found.items():
        for name, units in starts.items():
            print(f"| {source} | {name} | {statistics.median(units):.2f} |")


if __name__ == "__main__":
    main()
