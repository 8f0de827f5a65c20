"""One command for a card: are the kernels right there, and how fast does every model train?

python benchmarks/gpu.py                          # on a CUDA device, at most 8 minutes
python benchmarks/gpu.py --device cpu --cells 200 --genes 50 --sizes 16 --minutes 1   # does it run at all?

Prints the card, the kernels' errors against the float64 reference, and cells a second of each model at
each size of minibatch: as it is, with the whole step captured as a graph, compiled by torch.compile, and
by scvi-tools where that is installed beside. What there was no time for is a dash; what failed says how.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import time
import warnings
from collections.abc import Callable
from typing import Any

import anndata
import numpy as np
import torch

import vivace
from throughput import simulate
from vivace.kernels import count_log_likelihood, reference
from vivace.train.loop import Trainer

WAYS = {"eager": 0.35, "scvi-tools": 0.5, "compiled": 0.75, "captured": 1.0}
"""Ways to train in turn, and the share of the time at which the next one begins. A capture that fails may
leave the device unusable for the process, so it comes last."""
STEPS, EPOCHS = 12, 3
VALUE_ERROR, GRADIENT_ERROR = 1e-5, 1e-4
ROWS, GENES = 64, 2000


# the kernels -------------------------------------------------------------------------------------


def call(likelihood: str, scale: str, layout: str, dtype: torch.dtype, device: str) -> tuple:
    """Value and gradients of a kernel (float32) or of the reference (float64) on the same arguments."""
    chance = torch.Generator().manual_seed(0)
    shape = (ROWS, GENES)
    x = torch.poisson(torch.rand(shape, generator=chance) * 3, generator=chance)
    arguments = {
        "logits": torch.randn(shape, generator=chance),
        "library": torch.full((ROWS, 1), 1.0),
    }
    if scale == "identity":
        arguments["logits"] = arguments["logits"].exp()
    if likelihood != "poisson":
        size = {"gene": (GENES,), "table": (3, GENES), "cell": shape}[layout]
        arguments["log_theta"] = torch.randn(size, generator=chance)
    if likelihood == "zinb":
        arguments["zi_logits"] = torch.randn(shape, generator=chance)
    leaves = {k: v.to(device, dtype).requires_grad_() for k, v in arguments.items()}
    table = layout == "table" and likelihood != "poisson"
    rows = torch.arange(ROWS, device=device) % 3 if table else None
    function = reference.count_log_likelihood if dtype == torch.float64 else count_log_likelihood
    value = function(x.to(device, dtype), **leaves, scale=scale, theta_rows=rows)
    return value, *torch.autograd.grad(value.sum(), list(leaves.values()))


def check_kernels(device: str) -> bool:
    """Print the largest error of each kernel; whether all are small enough."""
    fine = True
    for likelihood in ("poisson", "nb", "zinb"):
        start, worst = time.perf_counter(), [0.0, 0.0]
        layouts = ("gene",) if likelihood == "poisson" else ("gene", "table", "cell")
        for scale, layout in itertools.product(("softmax", "softplus", "identity"), layouts):
            found = call(likelihood, scale, layout, torch.float32, device)
            exact = call(likelihood, scale, layout, torch.float64, device)
            errors = [
                float(((a.double() - b).abs().max() / b.abs().max()).nan_to_num(torch.inf))
                for a, b in zip(found, exact, strict=True)
            ]
            worst = [max(worst[0], errors[0]), max(worst[1], *errors[1:])]
        right = worst[0] <= VALUE_ERROR and worst[1] <= GRADIENT_ERROR
        fine &= right
        print(
            f"{likelihood:8} error of values {worst[0]:.1e}, of gradients {worst[1]:.1e}: "
            f"{'right' if right else 'WRONG'} ({time.perf_counter() - start:.1f} s with compiling)",
            flush=True,
        )
    return fine


# the models --------------------------------------------------------------------------------------


def counts_model(name: str, likelihood: str | None, **keys: Any) -> Callable[[Any, Any], Any]:
    """Builds a model of counts; ``models`` is vivace or scvi-tools' module of models."""

    def build(models: Any, adata: anndata.AnnData) -> Any:
        if name == "SysVI":
            adata.layers["log"] = adata.X.log1p()
        kind = getattr(models, name)
        kind.setup_anndata(adata, **keys)
        return kind(adata, **({} if likelihood is None else {"gene_likelihood": likelihood}))

    return build


def destvi(models: Any, adata: anndata.AnnData) -> Any:
    """Deconvolution of the same cells as spots, after an epoch on them as reference."""
    models.CondSCVI.setup_anndata(adata, labels_key="label")
    cells = models.CondSCVI(adata)
    cells.train(max_epochs=1, batch_size=adata.n_obs, **quiet(models))
    models.DestVI.setup_anndata(adata)
    return models.DestVI.from_rna_model(adata, cells)


def splicevi(models: Any, adata: anndata.AnnData) -> Any:
    """The cells with as many junctions as ten times their genes beside."""
    from splicevi import paired, sparse_cells

    mdata = paired(*sparse_cells(adata.n_obs, 10 * adata.n_vars, 0.036))
    models.SPLICEVI.setup_mudata(mdata)
    return models.SPLICEVI(mdata)


MODELS = {
    "SCVI zinb": counts_model("SCVI", "zinb", batch_key="batch"),
    "SCVI nb": counts_model("SCVI", "nb", batch_key="batch"),
    "SCVI poisson": counts_model("SCVI", "poisson", batch_key="batch"),
    "JointEmbeddingSCVI": counts_model("JointEmbeddingSCVI", None, batch_key="batch"),
    "CondSCVI": counts_model("CondSCVI", None, labels_key="label"),
    "ContrastiveVI": counts_model("ContrastiveVI", None, batch_key="batch"),
    "SysVI": counts_model("SysVI", None, layer="log", batch_key="batch"),
    "DestVI": destvi,
    "SPLICEVI": splicevi,
}
EPOCH_SECONDS: list[float] = []


def clock(device: str) -> float:
    """Seconds, once the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def watch_vivace(device: str) -> None:
    """Note the seconds of each epoch."""
    epoch = Trainer.epoch

    def timed(self: Trainer, *args: Any) -> Any:
        start = clock(device)
        result = epoch(self, *args)
        EPOCH_SECONDS.append(clock(device) - start)
        return result

    Trainer.epoch = timed  # type: ignore[method-assign]


def scvi_models() -> Any:
    """What scvi-tools calls the models, in one place; None where it is not installed."""
    try:
        import scvi
        from scvi import external, model
    except ImportError:
        return None
    scvi.settings.verbosity = 40
    for name in ("ContrastiveVI", "SysVI"):
        setattr(model, name, getattr(external, name))
    return model


def quiet(models: Any) -> dict[str, Any]:
    """Arguments of ``train`` that keep a library from drawing a bar."""
    if models is vivace:
        return {"progress": False, "recipe": "classic", "early_stopping": False}
    return {"enable_progress_bar": False, "logger": False, "enable_checkpointing": False}


def scvi_watch(device: str) -> Any:
    """A callback that notes the seconds of each epoch of scvi-tools."""
    from lightning.pytorch.callbacks import Callback

    class Watch(Callback):
        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            self.start = clock(device)

        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            EPOCH_SECONDS.append(clock(device) - self.start)

    return Watch()


def rate(name: str, way: str, adata: anndata.AnnData, size: int, device: str) -> float:
    """Cells a second of the fastest epoch after the first, in minibatches of that size."""
    models = scvi_models() if way == "scvi-tools" else vivace
    n = min(adata.n_obs, STEPS * size)
    cells = adata[:n].copy()
    model = MODELS[name](models, cells)
    options = quiet(models) | {"max_epochs": EPOCHS, "batch_size": size}
    options |= {"accelerator": {"cuda": "gpu"}.get(device, device), "train_size": 1.0}
    if name == "ContrastiveVI":
        half = np.arange(n // 2)
        options |= {"background_indices": half, "target_indices": half + n // 2}
    if way == "scvi-tools":
        options["callbacks"] = [scvi_watch(device)]
    if way == "captured":
        options["plan_kwargs"] = {"cuda_graphs": True}
    if way == "compiled":
        model.module.compile(backend="inductor" if device == "cuda" else "eager")
    EPOCH_SECONDS.clear()
    model.train(**options)
    torch._dynamo.reset() if way == "compiled" else None
    return n / min(EPOCH_SECONDS[1:])


def time_models(
    names: list[str], ways: list[str], sizes: list[int], adata: Any, device: str, seconds: float
) -> dict:
    """Rates by (model, way, size), or a word on what failed; ways in turn while there is time."""
    start = time.perf_counter()
    found: dict[tuple, Any] = {}
    for way, name, size in itertools.product(ways, names, sizes):
        if time.perf_counter() - start > WAYS[way] * seconds:
            continue
        if way == "scvi-tools" and (scvi_models() is None or name == "SPLICEVI"):
            continue
        try:
            found[name, way, size] = rate(name, way, adata, size, device)
        except Exception as error:  # noqa: BLE001 - one that fails must not cost the others
            found[name, way, size] = type(error).__name__
            print(f"{name}, {way}, {size}: {type(error).__name__}: {str(error)[:300]}", flush=True)
    return found


def table(found: dict, names: list[str], sizes: list[int]) -> str:
    """Markdown: a row a model and way, a column a size, thousands of cells a second."""
    lines = ["| model | way | " + " | ".join(f"{size:,} cells" for size in sizes) + " |"]
    lines.append("|---" * (len(sizes) + 2) + "|")
    for name, way in itertools.product(names, WAYS):
        cells = [found.get((name, way, size), "–") for size in sizes]
        words = [f"{cell / 1e3:.1f}k" if isinstance(cell, float) else cell for cell in cells]
        lines.append(f"| {name} | {way} | " + " | ".join(words) + " |")
    return "\n".join(lines)


def device_words(device: str) -> str:
    """Name of the card and versions."""
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or "processor"
    return (
        f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}, vivace {vivace.__version__}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--cells", type=int, default=49_152)
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256, 1024, 4096])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--minutes", type=float, default=7.0, help="no run begins after these")
    given = parser.parse_args()
    start = time.perf_counter()
    if given.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch finds no CUDA device here; --device cpu tries the script itself")
    warnings.filterwarnings("ignore")
    print(device_words(given.device), flush=True)
    fine = check_kernels(given.device)
    watch_vivace(given.device)
    adata = simulate(given.cells, given.genes, 0.1)
    seconds = 60 * given.minutes - (time.perf_counter() - start)
    found = time_models(given.models, given.ways, given.sizes, adata, given.device, seconds)
    print(f"\n{device_words(given.device)}; {given.genes:,} genes, 10 % non-zero, cells a second\n")
    print(table(found, given.models, given.sizes))
    print(f"\n{time.perf_counter() - start:.0f} s in all")
    raise SystemExit(0 if fine else "kernels are wrong on this device")


if __name__ == "__main__":
    main()
