"""What a second process brings, and that one may be killed at any moment.

Cells a second of one process with one thread, one with two threads, and two with one thread each, in turn:
SCVI, ContrastiveVI and SysVI at 256 cells a process and at the recipe's minibatch, and latent extraction.
Then two processes of which one is killed: how long the other goes on, and whether the checkpoint is whole.

    python benchmarks/processes.py [--cells 20000] [--genes 2000] [--rounds 3] [--kills 50] [--smoke]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from throughput import simulate

HERE = Path(__file__).parent
WORKER = HERE / "processes_worker.py"
SETTINGS = {"1 process, 1 thread": (1, 1), "1 process, 2 threads": (1, 2), "2 processes": (2, 1)}
LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")
LONGEST = 30.0
"""Seconds after which processes that still run are taken to hang."""


def command(processes: int, *words: object) -> list[str]:
    """The worker in this many processes."""
    start = [sys.executable] if processes == 1 else [sys.executable, *LAUNCHER, str(processes)]
    return [*start, str(WORKER), *map(str, words)]


def environment(threads: int) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}


def answer(processes: int, threads: int, *words: object) -> dict[str, float]:
    """What the worker's first process prints."""
    done = subprocess.run(
        command(processes, *words), env=environment(threads), capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def measure(cells: Path, rounds: int, what: str) -> dict[str, dict[str, list[float]]]:
    """Figure to setting to its rates, one a round; the settings take turns."""
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for setting, (processes, threads) in SETTINGS.items():
            rates = answer(processes, threads, cells, what, threads)
            for name, rate in rates.items():
                found.setdefault(name, {}).setdefault(setting, []).append(rate)
    return found


def table(found: dict[str, dict[str, list[float]]]) -> str:
    """Medians over the rounds, and the ratio of the first setting to the others within a round."""
    first, two_threads, two = SETTINGS
    rows = [
        f"| cells/s | {first} | {two_threads} | {two} | two threads | two processes |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, rates in found.items():
        medians = [f"{np.median(rates[setting]):,.0f}" for setting in SETTINGS]
        base = np.array(rates[first])
        ratios = [f"{np.median(np.array(rates[s]) / base):.2f} ×" for s in (two_threads, two)]
        rows.append(f"| {name} | {' | '.join([*medians, *ratios])} |")
    return "\n".join(rows)


def kill_one(cells: Path, checkpoint: Path, epochs: int, rng: random.Random) -> tuple[float, str]:
    """Seconds that the others go on after one of two processes is killed, and what the run was at."""
    run = subprocess.Popen(
        command(2, cells, "train", 1, checkpoint, epochs),
        env=environment(1),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        workers = _until_two(run)
        time.sleep(rng.uniform(0, 12))
        if run.poll() is not None:
            return 0.0, "finished before"
        os.kill(rng.choice(workers), signal.SIGKILL)
        start = time.perf_counter()
        try:
            run.wait(LONGEST)
        except subprocess.TimeoutExpired:
            return LONGEST, "HANGS"
        return time.perf_counter() - start, "ended"
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)


def _until_two(run: subprocess.Popen) -> list[int]:
    """Numbers of the two processes that the launcher has started."""
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
    while run.poll() is None:
        found = [int(number) for number in children.read_text().split()]
        if len(found) >= 2:
            return found[:2]
        time.sleep(0.05)
    raise SystemExit("the launcher ended before it had started two processes")


def kills(cells: Path, folder: Path, n: int, epochs: int) -> str:
    """Kill one of two processes at n random moments, then finish the run from its checkpoint."""
    rng, checkpoint = random.Random(0), folder / "run.ckpt"
    ends, whole = [], 0
    for _ in range(n):
        seconds, how = kill_one(cells, checkpoint, epochs, rng)
        ends.append((seconds, how))
        done = answer(1, 1, cells, "train", 1, checkpoint, epochs)
        whole += done["epochs"] == epochs
        checkpoint.unlink()
        left = [path.name for path in folder.iterdir() if path.name != cells.name]
        for name in left:  # a partial file may stay of a process that was killed while it wrote
            (folder / name).unlink()
    hangs = sum(how == "HANGS" for _, how in ends)
    slowest = max(seconds for seconds, how in ends)
    return (
        f"{n} kills: {hangs} hang, the slowest end {slowest:.1f} s after the kill, {whole} of {n} runs "
        "went on from their checkpoint to the end"
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cells", type=int, default=20_000)
    options.add_argument("--genes", type=int, default=2000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--kills", type=int, default=50)
    options.add_argument(
        "--smoke", action="store_true", help="Small and fast; figures mean nothing."
    )
    given = options.parse_args()
    if given.smoke:
        given.cells, given.genes, given.rounds, given.kills = 600, 50, 1, 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cells = folder / "cells.h5ad"
        simulate(given.cells, given.genes, 0.1).write_h5ad(cells)
        what = "rates-smoke" if given.smoke else "rates"
        print(table(measure(cells, given.rounds, what)), flush=True)
        simulate(2000, 200, 0.1).write_h5ad(cells)
        if given.kills:
            print(kills(cells, folder, given.kills, 4 if given.smoke else 30))


if __name__ == "__main__":
    main()
