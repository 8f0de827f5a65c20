"""``vivace deconvolve``: from a labelled reference and spots to the cell types in each spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vivace.cli.files import read_cells
from vivace.cli.fit import outcome
from vivace.cli.words import say
from vivace.errors import InvalidDataError, missing_key
from vivace.runs.write import check_new_run

FEWEST_GENES = 50


def run_deconvolve(
    reference: Path,
    spots: Path,
    out: Path,
    *,
    labels: str,
    batch: str | None,
    layer: str | None,
    spots_layer: str | None,
    n_top_genes: int,
    recipe: str,
    overwrite: bool,
) -> None:
    """Train both models on the genes that reference and spots share, and write the run folder."""
    check_new_run(out, overwrite=overwrite)
    import vivace
    from vivace.tables import save_run

    cells, tissue = read_cells(reference), read_cells(spots)
    if labels not in cells.obs:
        raise missing_key("labels_key", labels, "adata.obs", cells.obs.columns)
    cells = chosen_genes(cells, tissue, n_top_genes, layer)
    vivace.CondSCVI.setup_anndata(cells, labels_key=labels, batch_key=batch, layer=layer)
    states: Any = vivace.CondSCVI(cells)
    say(f"Learning how cells differ within {len(states.labels)} types ({cells.n_obs:,} cells).")
    states.train(recipe=recipe)
    say(outcome(states.training))
    model: Any = vivace.DestVI.from_model(
        tissue, states, anndata_setup_kwargs={"layer": spots_layer}
    )
    say(f"Reading {tissue.n_obs:,} spots.")
    model.train(recipe=recipe)
    say(outcome(model.training))
    notes = [f"Reference: {reference.name}, {cells.n_obs:,} cells, labels {labels}."]
    save_run(model, out, reference=states, source=spots.name, notes=notes)
    say(
        f"Wrote {out}/; proportions are in {out / 'tables' / 'proportions.csv'}.\n"
        f"Next: vivace report {out}"
    )


def chosen_genes(cells: Any, tissue: Any, n_top: int, layer: str | None) -> Any:
    """The reference's most variable genes among those that the spots have as well."""
    from vivace.analysis.genes import variable_genes

    shared = cells.var_names.isin(tissue.var_names)
    say(
        f"{shared.sum():,} genes are in both (reference {cells.n_vars:,}, spots {tissue.n_vars:,})."
    )
    if shared.sum() < FEWEST_GENES:
        msg = (
            f"only {shared.sum()} genes are in both, at least {FEWEST_GENES} are needed; names look "
            f'like "{cells.var_names[0]}" in the reference and "{tissue.var_names[0]}" in the spots: '
            "use the same kind of names in both"
        )
        raise InvalidDataError(msg)
    cells = cells[:, shared].copy()
    if 0 < n_top < cells.n_vars:
        cells = cells[:, variable_genes(cells, n_top, layer=layer)].copy()
        say(f"Kept the {n_top:,} most variable of them (--n-top-genes 0 keeps all).")
    return cells
