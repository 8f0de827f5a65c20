"""``vivace import``: a model that another library trained."""

from __future__ import annotations

from pathlib import Path

from vivace.cli.files import read_any_cells
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
    if isinstance(model, DestVI):
        say(f'Wrote {out}; use it in Python: vivace.load("{out}", spots).get_proportions()')
    else:
        ending = ".h5mu" if "modalities" in model.schema.setup_args else ".h5ad"
        say(f"Wrote {out}; use it with vivace latent {out} CELLS{ending} --out FILE{ending}")
