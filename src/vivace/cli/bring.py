"""``vivace import``: a model that another library trained."""

from __future__ import annotations

from pathlib import Path

from vivace._progress import doing
from vivace.cli.counts import whole_counts
from vivace.cli.files import read_any_cells
from vivace.cli.fit import size
from vivace.cli.large import read_cells_of
from vivace.cli.latent import cells_for
from vivace.cli.words import say
from vivace.runs.write import check_new_run, new_run


def run_import(folder: Path, out: Path, data: Path | None, prefix: str, *, overwrite: bool) -> None:
    """Read the folder, write the run folder, and say what can be done with it."""
    check_new_run(out, overwrite=overwrite)
    from vivace.models.destvi import DestVI
    from vivace.models.table import import_model

    cells = None if data is None else read_any_cells(data)
    model = import_model(folder, cells, prefix)
    with new_run(out) as beside:
        model.save(beside)
    say(f"Imported {model!r}")
    ending = ".h5mu" if "modalities" in model.schema.setup_args else ".h5ad"
    what, more = f"CELLS{ending}", f"vivace latent {out} CELLS{ending} --out FILE{ending}"
    if isinstance(model, DestVI):
        what, more = "SPOTS.h5ad", f"vivace states {out} SPOTS.h5ad --out FILE.csv"
    say(f"Wrote {out}/\nNext: vivace report {out} --data {what}\n      {more}")


def run_tables(run: Path, data: Path, colour: list[str] | None, *, allow_fractions: bool) -> None:
    """Write the tables that a report is drawn from, of a model that was imported or saved alone."""
    from vivace.models.table import load
    from vivace.tables import write_tables

    model = load(run)
    with whole_counts(allow_fractions=allow_fractions) as notes:
        model.adata = cells_for(model, read_cells_of(model, data))
        say(f"Read {size(model.adata)} from {data.name}. Asking the model ...")
        with doing("asking the model for the tables of the report"):
            write_tables(model, run, source=data.name, colour_by=colour, notes=notes)
