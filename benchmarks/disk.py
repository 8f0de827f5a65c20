"""Cells on disk: peak memory at any number of cells, and time against the same cells in memory.

    python benchmarks/disk.py --cells 250000 1000000 3000000 --formats h5ad zarr
    python benchmarks/disk.py --memory --cells 250000 1000000 3000000
    python benchmarks/disk.py --smoke

Files are made in ``--folder`` (2,000 genes, 5 % of values not zero, sorted by study) and kept for the
next run; three million cells take 2.5 GB as .h5ad. Every number comes from a process of its own, with
one thread. Files are warm: read once before. ``--memory`` measures peak memory alone, of as many steps as
need a second pool of cells, and of latent means of all cells that are written to a file.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

N_GENES, N_STORED, N_STUDIES = 2000, 100, 20
MADE_AT_ONCE = 50_000
SMOKE = 3000
STEPS = 1100
"""Of 128 cells: into the second pool of 131,072."""
CHUNK, SHARD = 1 << 16, 1 << 23
"""Values of a chunk and of a shard of zarr: 655 cells and 84,000."""
FORMATS = ("h5ad", "zarr", "sharded.zarr")
IN_MEMORY_AT_MOST = 1_000_000


def main() -> None:
    """Make files, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", nargs="+", type=int, default=[250_000, 1_000_000, 3_000_000])
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "vivace_disk")
    parser.add_argument("--smoke", action="store_true", help="few cells, to see that it runs")
    parser.add_argument("--memory", action="store_true", help="peak memory alone, of h5ad")
    parser.add_argument("--worker", nargs=2, metavar=("TASK", "FILE"))
    args = parser.parse_args()
    if args.worker:
        task, path = args.worker
        print(json.dumps(measure(task, path) if task in ("memory", "disk") else peaks(task, path)))
        return
    sizes = [SMOKE] if args.smoke else args.cells
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.memory:
        show_peaks(sizes, args.folder)
        return
    print(
        "| cells | where | epoch, s | against memory | reader, cells/s | latent, cells/s | peak, MB |"
    )
    print("|---|---|---|---|---|---|---|")
    for n in sizes:
        for row in rows_of(n, args.formats, args.folder):
            print("| " + " | ".join(row) + " |", flush=True)


def rows_of(n: int, formats: list[str], folder: Path) -> Iterator[list[str]]:
    """Cells of the table for one number of cells."""
    in_memory = None
    if n <= IN_MEMORY_AT_MOST:
        found = in_a_process("memory", make(n, "h5ad", folder))
        in_memory = found["epoch"]
        yield row(n, "memory", found, None)
    for kind in formats:
        yield row(n, kind, in_a_process("disk", make(n, kind, folder)), in_memory)


def row(n: int, where: str, found: dict[str, float], in_memory: float | None) -> list[str]:
    against = "" if in_memory is None else f"{found['epoch'] / in_memory:.2f}"
    reader = f"{found['reader']:,.0f}" if "reader" in found else ""
    numbers = [f"{found['epoch']:.1f}", against, reader, f"{found['latent']:,.0f}"]
    return [f"{n:,}", where, *numbers, f"{found['peak']:.0f}"]


def in_a_process(task: str, path: Path) -> dict[str, float]:
    """What a worker prints."""
    threads = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--worker", task, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads})
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


# measuring --------------------------------------------------------------------------------------


def measure(task: str, path: str) -> dict[str, float]:
    """Time of an epoch, cells a second of the reader and of latent means, and peak memory."""
    import resource

    import vivace
    from vivace.data import Cells, Loader

    adata = vivace.open_cells(path)
    if task == "memory":
        adata = adata.to_memory()
    vivace.SCVI.setup_anndata(adata, batch_key="study")
    model = vivace.SCVI(adata, gene_likelihood="nb")
    model.train(max_epochs=1, train_size=1.0, progress=False)  # compiles, and warms the file
    found = {"epoch": seconds(lambda: model.train(max_epochs=1, train_size=1.0, progress=False))}
    n = adata.n_obs
    found["latent"] = n / seconds(model.get_latent_representation)
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if task == "disk":
        loader = Loader(Cells(adata, model.schema), np.arange(n), 128, shuffle=True)
        found["reader"] = n / seconds(lambda: sum(1 for _ in loader.epoch(1)))
    return found


def show_peaks(sizes: list[int], folder: Path) -> None:
    """A table of peak memory."""
    print("| cells | names | opened, MB | trained, MB | latent means, MB |\n|---|---|---|---|---|")
    for n in sizes:
        for names in ("named", "nameless"):
            found = in_a_process(names, make(n, "h5ad", folder))
            peak = " | ".join(f"{found[name]:.0f}" for name in ("open", "train", "latent"))
            print(f"| {n:,} | {'yes' if names == 'named' else 'no'} | {peak} |", flush=True)


def peaks(names: str, path: str) -> dict[str, float]:
    """Peak memory in MB after each step, with names of cells ("named") or without."""
    import resource

    import vivace

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    cells = vivace.open_cells(path, names=names == "named")
    vivace.SCVI.setup_anndata(cells, batch_key="study")
    found = {"open": peak()}
    model = vivace.SCVI(cells, gene_likelihood="nb")
    interrupt_after(model, STEPS)
    model.train(max_epochs=1, progress=False, batch_size=128)
    found["train"] = peak()
    with tempfile.TemporaryDirectory() as folder:
        model.get_latent_representation(out=Path(folder) / "latent.npy")
    return {**found, "latent": peak()}


def interrupt_after(model: Any, steps: int) -> None:
    """Press Ctrl-C for the user, who keeps what was learned so far."""
    step, taken = model.module.on_step, itertools.count()

    def first_count(kl_weight: float) -> None:
        if next(taken) == steps:
            signal.raise_signal(signal.SIGINT)
        step(kl_weight)

    model.module.on_step = first_count


def seconds(act: Callable[[], Any]) -> float:
    """How long something takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


# files ------------------------------------------------------------------------------------------


def make(n: int, kind: str, folder: Path) -> Path:
    """A file of ``n`` cells, made if it is not there."""
    path = folder / f"{n}.{kind}"
    if not path.exists():
        beside = folder / f".{n}.{kind}"
        write(n, kind, beside)
        beside.rename(path)
    return path


def write(n: int, kind: str, path: Path) -> None:
    """Write counts block by block, so that no file has to fit into memory."""
    import h5py
    import pandas as pd
    import zarr
    from anndata.io import write_elem

    root = h5py.File(path, "w") if kind == "h5ad" else zarr.open_group(path, mode="w")
    root.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    studies = np.sort(np.arange(n) % N_STUDIES)
    obs = {"study": pd.Categorical.from_codes(studies, [f"s{i}" for i in range(N_STUDIES)])}
    write_elem(root, "obs", pd.DataFrame(obs, index=[f"c{i}" for i in range(n)]))
    write_elem(root, "var", pd.DataFrame(index=[f"g{i}" for i in range(N_GENES)]))
    group = root.create_group("X")
    group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
    group.attrs["shape"] = [n, N_GENES]
    options = {"chunks": (min(CHUNK, n * N_STORED),)}
    if kind == "sharded.zarr":
        options["shards"] = (min(SHARD, n * N_STORED // CHUNK * CHUNK or CHUNK),)
    create = group.create_dataset if kind == "h5ad" else group.create_array
    data = create("data", shape=(n * N_STORED,), dtype="f4", **options)
    indices = create("indices", shape=(n * N_STORED,), dtype="i4", **options)
    pointers = create("indptr", shape=(n + 1,), dtype="i8")
    pointers[:] = np.arange(n + 1) * N_STORED
    for start in range(0, n, MADE_AT_ONCE):
        block = counts(studies[start : start + MADE_AT_ONCE])
        stored = slice(start * N_STORED, start * N_STORED + block.nnz)
        data[stored], indices[stored] = block.data, block.indices
    if kind == "h5ad":
        root.close()


def counts(studies: np.ndarray) -> sparse.csr_array:
    """Cells with as many genes each, which ones depends on the study."""
    rng = np.random.default_rng(int(studies[0]) + len(studies))
    width = N_GENES // N_STORED
    genes = np.arange(N_STORED) * width + (
        rng.binomial(width - 1, (1 + studies[:, None]) / (N_STUDIES + 1), (len(studies), N_STORED))
    )
    values = 1 + rng.geometric(0.4, genes.size).astype(np.float32)
    pointers = np.arange(len(studies) + 1) * N_STORED
    return sparse.csr_array(
        (values, genes.ravel().astype(np.int32), pointers), (len(studies), N_GENES)
    )


if __name__ == "__main__":
    main()
