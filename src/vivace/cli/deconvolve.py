"""``vivace deconvolve``: from a labelled reference and spots to the cell types in each spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vivace.cli.columns import check_columns, check_needed
from vivace.cli.counts import counted, whole_counts, with_genes
from vivace.cli.files import read_cells
from vivace.cli.fit import PROMISE, outcome
from vivace.cli.keep import check_room, keep_run
from vivace.cli.large import read_files
from vivace.cli.words import say, several
from vivace.errors import InvalidDataError
from vivace.runs.layout import PROPORTIONS, TABLES
from vivace.runs.write import check_new_run

FEWEST_GENES = 50


def run_deconvolve(
    reference: Path,
    spots: Path,
    out: Path,
    *,
    labels: str | None,
    batch: str | None,
    layer: str | None,
    spots_layer: str | None,
    n_top_genes: int,
    overwrite: bool,
    allow_fractions: bool,
    **train: Any,
) -> None:
    """Train both models on the genes that reference and spots share, and write the run folder."""
    check_new_run(out, overwrite=overwrite)
    import vivace

    cells = counted(read_files([reference]), layer)
    tissue = counted(read_cells(spots), spots_layer)
    check_needed({"labels": labels}, cells.obs)
    check_columns("labels_key", [str(labels)], cells.obs)
    with whole_counts(allow_fractions=allow_fractions) as fractions:
        cells = chosen_genes(cells, tissue, n_top_genes, layer)
        tissue = with_genes(tissue, cells.var_names, spots_layer)
        vivace.CondSCVI.setup_anndata(cells, labels_key=labels, batch_key=batch, layer=layer)
        states: Any = vivace.CondSCVI(cells)
        kinds, of = several(len(states.labels), "type"), several(cells.n_obs, "cell")
        check_room(states, out)
        say(f"Learning how cells differ within {kinds} ({of}). {PROMISE}")
        states.train(**train)
        say(outcome(states.training))
        model: Any = vivace.DestVI.from_model(
            tissue, states, anndata_setup_kwargs={"layer": spots_layer}
        )
        say(f"Reading {several(tissue.n_obs, 'spot')}.")
        model.train(**train)
        say(outcome(model.training))
        notes = [f"Reference: {reference.name}, {of}, labels {labels}.", *fractions]
        keep_run(model, out, reference=states, source=spots.name, notes=notes)
    say(
        f"Wrote {out}/; proportions are in {out / TABLES / PROPORTIONS.file}.\n"
        f"Next: vivace report {out}"
    )


def chosen_genes(cells: Any, tissue: Any, n_top: int, layer: str | None) -> Any:
    """The reference's most variable genes among those that the spots have as well."""
    from vivace.analysis.genes import variable_genes

    shared = cells.var_names.isin(tissue.var_names)
    n = int(shared.sum())
    say(f"{n:,} genes are in both (reference {cells.n_vars:,}, spots {tissue.n_vars:,}).")
    if n < FEWEST_GENES:
        msg = (
            f"only {several(n, 'gene')} {'is' if n == 1 else 'are'} in both, at least {FEWEST_GENES} are "
            f"needed; names look like {example(cells)} in the reference and {example(tissue)} in the "
            "spots: use the same kind of names in both"
        )
        raise InvalidDataError(msg)
    cells = with_genes(cells, shared, layer)
    if 0 < n_top < cells.n_vars:
        kept = variable_genes(cells, n_top, layer=layer)
        cells = with_genes(cells, kept, layer)
        say(f"Kept the {n_top:,} most variable of them (--n-top-genes 0 keeps all).")
    return cells


def example(cells: Any) -> str:
    """The name of a gene."""
    return f'"{cells.var_names[0]}"' if cells.n_vars else "nothing"
