"""How fast vivace trains beside scvi-tools: one call, both libraries in turn, ratios within the run.

``make bench`` runs it and rewrites the table in benchmarks/README.md. On one thread the figure is CPU
time, which other programs on the machine disturb least; with all threads it is wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anndata
import numpy as np
import scipy.sparse as sp

HERE = Path(__file__).parent
README = HERE / "README.md"
BEGIN, END = "<!-- throughput: written by throughput.py -->", "<!-- end of throughput -->"
COUNT_MODELS = ("zinb", "nb", "poisson")
OTHER_MODELS = ("CondSCVI", "ContrastiveVI", "SysVI")
TYPICAL = 0.1
"""Share of non-zeros at which everything is measured; only the count likelihoods at the others."""


def simulate(n_cells: int, n_genes: int, density: float, seed: int = 0) -> anndata.AnnData:
    """Counts with that share of non-zeros, two batches and three labels; built as CSR, in blocks."""
    rng = np.random.default_rng(seed)
    per_gene = rng.beta(0.5, 0.5 / density - 0.5, n_genes)
    blocks = []
    for start in range(0, n_cells, 5000):
        size = (min(5000, n_cells - start), n_genes)
        seen = sp.csr_matrix(rng.random(size, dtype=np.float32) < per_gene.astype(np.float32))
        blocks.append(seen.astype(np.float32))
        blocks[-1].data += rng.poisson(1.0, blocks[-1].nnz).astype(np.float32)
    adata = anndata.AnnData(sp.vstack(blocks, format="csr"))
    adata.obs["batch"] = np.array(["a", "b"])[np.arange(n_cells) % 2]
    adata.obs["label"] = np.array(["x", "y", "z"])[np.arange(n_cells) % 3]
    return adata


class Worker:
    """A library in a process of its own, told what to time."""

    def __init__(self, library: str, python: str | Path, cells: Path):
        environment = dict(os.environ, PYTHONWARNINGS="ignore", PYTHONPATH=str(HERE))
        environment.pop("OMP_NUM_THREADS", None)
        self.process = subprocess.Popen(
            [python, str(HERE / "throughput_worker.py"), library, str(cells)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __call__(self, do: str, **arguments):
        self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"the worker died at {do} {arguments}")
        return json.loads(answer)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def rates_in_turn(workers: dict, rounds: int, threads: int, do: str, **arguments) -> dict:
    """Cells a second of each library in every round; the libraries take turns."""
    rates: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            n_cells, wall, cpu = worker(do, threads=threads, **arguments)
            rates[name].append(n_cells / (cpu if threads == 1 else wall))
    return rates


def row(what: str, density: float, threads: int, rates: dict, in_turn: bool = True) -> str:
    """The best of all rounds, and how the ratios of single rounds spread where turns were taken."""
    ours, theirs = rates["vivace"], rates.get("scvi")
    shown, ratio, spread = "–", "–", ""
    if theirs:
        shown, ratio = f"{max(theirs):,.0f}", f"{max(ours) / max(theirs):.1f} ×"
    if theirs and in_turn:
        low, middle, high = np.quantile(np.divide(ours, theirs), [0.25, 0.5, 0.75])
        spread = f"{middle:.1f} × ({low:.1f} – {high:.1f})"
    line = (
        f"| {what} | {density:.0%} | {threads} | {max(ours):,.0f} | {shown} | {ratio} | {spread} |"
    )
    print(line, flush=True)
    return line


def training_rows(
    workers: dict, density: float, threads: int, args
) -> tuple[list[str], dict[str, dict]]:
    """One row a model and precision, and the rates in float32."""
    models = COUNT_MODELS + (OTHER_MODELS if density == TYPICAL else ())
    models = [m for m in models if not args.models or m in args.models]
    rows, float32 = [], {}
    for model in models:
        common = {"model": model, "cells": args.train_cells}
        rates = rates_in_turn(workers, args.rounds, threads, "train", **common)
        float32[model] = {name: max(of_rounds) for name, of_rounds in rates.items()}
        rows.append(row(f"training {model}", density, threads, rates))
        ours = {"vivace": workers["vivace"]}
        half = rates_in_turn(ours, args.bf16_rounds, threads, "train", precision="bf16", **common)
        rows.append(row(f"training {model}, bf16", density, threads, rates | half, in_turn=False))
    return rows, float32


def bound_lines(worker: Worker, float32: dict[str, dict]) -> list[str]:
    """What a step's dense products alone take where this processor multiplies fastest."""
    lines = [
        "| a step on one thread | products, MFLOP | ms at best | vivace, ms | scvi-tools, ms |"
    ]
    lines.append("|---|---|---|---|---|")
    for model, rates in float32.items():
        flops, speed = worker("products", model=model)
        cells = 256 if model == "ContrastiveVI" else 128  # a minibatch of either population
        steps = [f"{1e3 * cells / rates[n]:.1f}" if n in rates else "–" for n in ("vivace", "scvi")]
        numbers = f"{flops / 1e6:,.0f} | {1e3 * flops / speed:.1f} | {' | '.join(steps)}"
        lines.append(f"| {model} | {numbers} |")
    print("\n".join(lines), flush=True)
    return lines


def curve_lines(workers: dict, args) -> list[str]:
    """How far apart the loss curves of the two libraries lie, and those of two seeds of one."""
    common = {"cells": args.train_cells, "epochs": args.curve_epochs}
    curves = {"vivace, seed 0": workers["vivace"]("curve", seed=0, **common)}
    curves["vivace, seed 1"] = workers["vivace"]("curve", seed=1, **common)
    curves["vivace in bf16"] = workers["vivace"]("curve", seed=0, precision="bf16", **common)
    if "scvi" in workers:
        curves["scvi-tools, seed 0"] = workers["scvi"]("curve", seed=0, **common)
        curves["scvi-tools, seed 1"] = workers["scvi"]("curve", seed=1, **common)
    reference = np.array(list(curves.values())[-1])
    lines = ["| negative ELBO of training cells | first epoch | middle | last | largest distance |"]
    lines.append("|---|---|---|---|---|")
    for name, values in curves.items():
        apart = np.abs(np.array(values) / reference - 1).max()
        shown = [values[0], values[len(values) // 2], values[-1]]
        lines.append(f"| {name} | {' | '.join(f'{v:.2f}' for v in shown)} | {apart:.2%} |")
        print(lines[-1], flush=True)
    return lines


def step_lines(worker: Worker, args) -> list[str]:
    """The roofline: a step over its bare matrix products, and what the rest is."""
    parts = {p: worker("step", precision=p, repeats=args.repeats) for p in ("float32", "bf16")}
    lines = ["| part of a step, ms of CPU time | float32 | bf16 |", "|---|---|---|"]
    for name in parts["float32"]:
        cells = " | ".join(f"{parts[p][name]:.2f}" for p in parts)
        lines.append(f"| {name} | {cells} |")
    ratios = [p["whole step"] / p["bare matrix products"] for p in parts.values()]
    lines.append(f"| **step over bare products** | {' | '.join(f'{r:.2f} ×' for r in ratios)} |")
    print("\n".join(lines), flush=True)
    return lines


def memory_line(args, folder: Path) -> str:
    """Peak memory of training on many cells, in a process that does nothing else."""
    adata = simulate(args.memory_cells, args.genes, TYPICAL)
    megabytes = sum(a.nbytes for a in (adata.X.data, adata.X.indices, adata.X.indptr)) / 2**20
    adata.write_h5ad(folder / "many.h5ad")
    del adata
    worker = Worker("vivace", sys.executable, folder / "many.h5ad")
    worker("train", model="zinb", cells=args.train_cells, epochs=1)
    peak = worker("memory")
    worker.close()
    return (
        f"Peak resident memory of the process that trains on {args.memory_cells:,} cells × "
        f"{args.genes:,} genes at 10 %: {peak:.0f} MB, of which the CSR matrix is {megabytes:.0f} MB "
        f"and all else, the interpreter and torch included, {peak - megabytes:.0f} MB."
    )


def write(lines: list[str]) -> None:
    """Put the tables between their marks in the README, which keeps the rest."""
    text = README.read_text() if README.exists() else f"# Benchmarks\n\n{BEGIN}\n{END}\n"
    if BEGIN not in text:
        text += f"\n{BEGIN}\n{END}\n"
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    README.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + after)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny, vivace alone, nothing written")
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--train-cells", type=int, default=4_000, help="cells of an epoch")
    parser.add_argument("--memory-cells", type=int, default=200_000)
    parser.add_argument("--densities", type=float, nargs="+", default=[0.02, 0.1, 0.3])
    parser.add_argument("--models", nargs="+", default=None)
    parser.add_argument("--threads", type=int, nargs="+", default=None, help="default: 1 and all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bf16-rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--curve-epochs", type=int, default=20)
    args = parser.parse_args()
    if args.smoke:
        args.cells = args.train_cells = args.memory_cells = 300
        args.genes, args.densities, args.threads = 50, [TYPICAL], [1]
        args.rounds = args.bf16_rounds = 1
        args.repeats, args.curve_epochs = 2, 2
        args.models = args.models or ["zinb"]
    return args


def main() -> None:
    args = parse()
    pythons = {"vivace": sys.executable}
    if not args.smoke:
        from scvi_env import scvi_python

        pythons["scvi"] = str(scvi_python())
    threads = args.threads or sorted({1, os.cpu_count() or 1})
    table = [
        "| what | non-zeros | threads | vivace, cells/s | scvi-tools 1.4.2, cells/s | ratio | of "
        "single rounds: median (quartiles) |"
    ]
    table.append("|---|---|---|---|---|---|---|")
    extra: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for density in args.densities:
            simulate(args.cells, args.genes, density).write_h5ad(folder / "cells.h5ad")
            workers = {
                library: Worker(library, python, folder / "cells.h5ad")
                for library, python in pythons.items()
            }
            for n in threads:
                rows, float32 = training_rows(workers, density, n, args)
                table += rows
                if n == 1 and density == TYPICAL:
                    extra += ["", *bound_lines(workers["vivace"], float32)]
                rates = rates_in_turn(workers, args.rounds, n, "latent", model="zinb")
                table.append(row("latent zinb", density, n, rates))
            if density == TYPICAL:
                extra += ["", *step_lines(workers["vivace"], args), "", *curve_lines(workers, args)]
                seconds = {library: worker("imports")[0] for library, worker in workers.items()}
                extra += ["", f"Import, seconds: {seconds}."]
            for worker in workers.values():
                worker.close()
        extra += ["", memory_line(args, folder)]
    about = f"{time.strftime('%Y-%m-%d')}, {platform.processor() or platform.machine()}, "
    about += (
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {args.cells:,} × {args.genes:,} "
    )
    about += "counts, minibatches of 128, default architectures."
    lines = [about, "", *table, *extra]
    if args.smoke:
        print("\n".join(lines))
    else:
        write(lines)


if __name__ == "__main__":
    main()
