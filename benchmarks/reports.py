"""Reports of all seven models, to be looked at: real cells where there are some, simulated ones otherwise.

    make reports                   # all seven into reports/
    make reports ARGS="scvi sysvi --max-epochs 5"

A run that is there is not trained again; its page is drawn again. Prints seconds and size of each page.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
DATA = Path(os.environ.get("VIVACE_SHARED_DATA", HERE.parent.parent / "shared" / "data"))
VIVACE = [sys.executable, "-c", "from vivace.cli import main; main()"]
REAL = {
    "scvi": (
        "fit scvi {pbmc_three_studies.h5ad} --batch study --labels cell_type",
        "batches",
    ),
    "jointembedding": (
        "fit jointembedding {worm_neuron_lowdepth.h5ad} --labels cell_type",
        "depth",
    ),
    "condscvi": ("fit condscvi {lymphnode_sc_reference.h5ad} --labels cell_type", "spatial"),
    "destvi": (
        "deconvolve {lymphnode_sc_reference.h5ad} {lymphnode_visium.h5ad} --labels cell_type",
        "spatial",
    ),
    "sysvi": (
        "fit sysvi {celllines_multitech.h5ad} --batch technology --normalize "
        "--colour cell_type --colour technology",
        "systems",
    ),
    "contrastivevi": (
        "fit contrastivevi {pbmc_ifnb.h5ad} --background condition=ctrl --target condition=stim "
        "--colour cell_type_pred --colour condition",
        "contrastive",
    ),
    "splicevi": ("fit splicevi {lung_splicing.h5mu} --labels cell_type", "splicing"),
}
SIMULATED = {
    "scvi": "fit scvi {} --batch batch --labels cell_type",
    "jointembedding": "fit jointembedding {} --labels cell_type",
    "condscvi": "fit condscvi {} --labels cell_type",
    "destvi": "deconvolve {} {} --labels cell_type",
    "sysvi": "fit sysvi {} --batch system --colour cell_type --normalize",
    "contrastivevi": "fit contrastivevi {} --background condition=background --target condition=treated",
    "splicevi": "fit splicevi {} --labels splice_group",
}


def words_of(model: str, out: Path) -> list[str]:
    """The command that fits a model: on real cells, or on simulated ones that are written first."""
    command, kind = REAL[model]
    words = [str(DATA / w[1:-1]) if w.startswith("{") else w for w in command.split()]
    if all(Path(w).exists() for w in words if w.endswith((".h5ad", ".h5mu"))):
        return words
    files = iter(simulated(kind, out))
    return [str(next(files)) if w == "{}" else w for w in SIMULATED[model].split()]


def simulated(kind: str, out: Path) -> list[Path]:
    """Files with simulated cells, and spots for the spatial kind."""
    import vivace

    found = vivace.datasets.simulate(kind)
    parts = found if isinstance(found, tuple) else (found,)
    out.mkdir(parents=True, exist_ok=True)
    end = "h5mu" if hasattr(parts[0], "mod") else "h5ad"
    files = [out / f"{kind}_{i}.{end}" for i in range(len(parts))]
    for part, file in zip(parts, files, strict=True):
        part.write(file)
    return files


def seconds_of_children() -> float:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", help=", ".join(REAL))
    parser.add_argument("--out", type=Path, default=HERE.parent / "reports")
    parser.add_argument("--max-epochs", help="default: the recipe's")
    options = parser.parse_args()
    epochs = ["--max-epochs", options.max_epochs] if options.max_epochs else []
    for model in options.models or REAL:
        run = options.out / model
        if not (run / "tables" / "summary.json").exists():
            fit = [*words_of(model, options.out), "--out", str(run), "--seed", "0", "--overwrite"]
            subprocess.run([*VIVACE, *fit, *epochs], check=True)
        before, start = seconds_of_children(), time.monotonic()
        done = subprocess.run([*VIVACE, "report", str(run)], check=True, stdout=subprocess.DEVNULL)
        assert done.returncode == 0
        used, size = seconds_of_children() - before, (run / "report.html").stat().st_size
        wall = time.monotonic() - start
        print(f"{model:15s} {used:5.1f} s of processor, {wall:5.1f} s, {size / 1e6:.2f} MB  {run}")


if __name__ == "__main__":
    main()
