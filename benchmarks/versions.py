"""Is this tree as fast as that one? Steps and latent spaces of two versions of vivace, in turn.

    python benchmarks/versions.py ../before/src src

Each tree runs in a process of its own on one thread. A round is one epoch of training, or one latent
space, of each; which tree begins alternates. The ratio is of CPU times, new over old: below 1 is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODELS = ("SCVI", "ContrastiveVI", "SysVI", "SPLICEVI")


class Tree:
    """A version in a process of its own, told what to time."""

    def __init__(self, source: Path):
        threads = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        environment = {
            **os.environ,
            **threads,
            "PYTHONPATH": str(source),
            "PYTHONWARNINGS": "ignore",
        }
        command = [sys.executable, __file__, "--worker"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=environment, **pipes)

    def ask(self, *words: str) -> float:
        """Seconds of CPU that one round took."""
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def prepared(name: str, n_cells: int) -> tuple[Any, dict[str, Any]]:
    """An untrained model on simulated cells, and what its training needs."""
    import vivace

    kinds = {
        "SCVI": "batches",
        "ContrastiveVI": "contrastive",
        "SysVI": "systems",
        "SPLICEVI": "splicing",
    }
    model = getattr(vivace, name)
    if name == "SPLICEVI":
        data = vivace.datasets.simulate(kinds[name], n_cells=n_cells // 4)
        model.setup_mudata(data)
        return model(data), {}
    data = vivace.datasets.simulate(kinds[name], n_cells=n_cells, n_genes=2000)
    if name == "SysVI":
        model.setup_anndata(data, batch_key="system")
        return model(data), {}
    model.setup_anndata(data)
    half = range(n_cells // 2), range(n_cells // 2, n_cells)
    populations = dict(zip(("background_indices", "target_indices"), half, strict=True))
    return model(data), populations if name == "ContrastiveVI" else {}


def work(n_cells: int = 3000) -> None:
    """Answer rounds until there are no more."""
    ready: dict[str, tuple[Any, dict[str, Any]]] = {}
    for line in sys.stdin:
        name, what = json.loads(line)
        if name not in ready:
            ready[name] = prepared(name, n_cells)
            round_of(*ready[name], "train")  # compiles
            round_of(*ready[name], "latent")
        sys.stdout.write(json.dumps(round_of(*ready[name], what)) + "\n")
        sys.stdout.flush()


def round_of(model: Any, populations: dict[str, Any], what: str) -> float:
    ask: Callable[[], Any] = model.get_latent_representation
    if what == "train":
        options = {"max_epochs": 1, "train_size": 1.0, "batch_size": 128, "progress": False}
        options |= {"early_stopping": False}

        def ask() -> None:
            model.train(**populations, **options)

    start = time.process_time()
    ask()
    return time.process_time() - start


def main(old: Path, new: Path, rounds: int) -> None:
    """Print one row a model: median ratio, quartiles, and the ratio of the best rounds."""
    trees = {"old": Tree(old), "new": Tree(new)}
    print("| model | what | rounds | median new / old | quartiles | best new / best old |")
    print("|---|---|---|---|---|---|")
    for name in MODELS:
        for what in ("train", "latent"):
            times: dict[str, list[float]] = {"old": [], "new": []}
            for i in range(rounds):
                for which in list(trees)[:: 1 if i % 2 else -1]:
                    times[which].append(trees[which].ask(name, what))
            ratios = [b / a for a, b in zip(times["old"], times["new"], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            best = min(times["new"]) / min(times["old"])
            print(
                f"| {name} | {what} | {rounds} | {middle:.3f} | {low:.3f} - {high:.3f} | {best:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    if sys.argv[1:] == ["--worker"]:
        work()
    else:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("old", type=Path)
        parser.add_argument("new", type=Path)
        parser.add_argument("--rounds", type=int, default=20)
        given = parser.parse_args()
        main(given.old.resolve(), given.new.resolve(), given.rounds)
