"""``vivace demo``: real cells, end to end."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vivace.cli.fit import outcome
from vivace.cli.words import say
from vivace.errors import MissingDependencyError
from vivace.runs.write import check_new_run

NEEDS = {"scanpy": "scanpy", "matplotlib": "matplotlib", "openTSNE": "openTSNE", "jinja2": "jinja2"}


def run_demo(out: Path, seed: int) -> None:
    """Train SCVI on the cells that come with scanpy and write a report."""
    check_extras()
    check_new_run(out, overwrite=True)
    import vivace
    from vivace.report import write_report
    from vivace.tables import save_run

    say("Reading real cells: peripheral blood, 10x Genomics (Zheng et al. 2017) ...")
    cells = vivace.datasets.pbmc68k()
    note = restoration(cells.uns["restoration"])
    say(f"  {cells.n_obs:,} cells x {cells.n_vars:,} genes. {note}")
    vivace.SCVI.setup_anndata(cells, batch_key="batch")
    model: Any = vivace.SCVI(cells)
    say("Training SCVI: it learns to describe each cell by 10 numbers ...")
    model.train(seed=seed)
    say(f"  {outcome(model.training)}")
    say("Asking the model: where each cell lies, and what counts it would simulate ...")
    source, colours = "PBMC 68k, the 700 cells in scanpy", ["cell_type", "batch"]
    save_run(model, out, source=source, colour_by=colours, notes=[note])
    say("Drawing the report ...")
    page = write_report(out)
    say(f"Done. Open {page} in a browser; the trained model is in {out}/.")


def check_extras() -> None:
    """Say what to install before anything is done."""
    missing = [package for module, package in NEEDS.items() if find_spec(module) is None]
    if missing:
        msg = f'the demo needs {", ".join(missing)}: pip install "vivace[demo]"'
        raise MissingDependencyError(msg)


def restoration(found: dict[str, Any]) -> str:
    """How the counts were restored, in a sentence."""
    left = found["n_left_out"]
    return (
        f"Counts restored from the log-normalised values that scanpy ships, verified cell by cell: "
        f"{found['n_restored']:,} of {found['n_cells_source']:,} cells exactly, "
        f"{left or 'none'} left out."
    )
