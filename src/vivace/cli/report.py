"""``vivace report``: the page, and genes that it can be coloured by beside those that tell most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vivace._progress import doing
from vivace.cli.words import say, several
from vivace.errors import InvalidArgumentError, missing_key
from vivace.runs import Run
from vivace.runs.layout import GENES, SUMMARY, TABLES


def run_report(
    run: Path,
    out: Path | None,
    *,
    genes: Sequence[str],
    data: Path | None,
    colour: list[str] | None,
    allow_fractions: bool,
) -> None:
    """Bring the tables or genes that are asked for, then draw the page and say what is being drawn."""
    from vivace.report import write_report

    wanted = [name for text in genes for name in map(str.strip, text.split(",")) if name]
    tables_there = (run / TABLES / SUMMARY).is_file()
    if data is not None and not (wanted and tables_there):
        from vivace.cli.bring import run_tables

        run_tables(run, data, colour or None, allow_fractions=allow_fractions)
    if wanted:
        bring_genes(run, wanted, data)
    with doing("drawing the report"):
        page = write_report(run, out, progress=tell)
    say(f"Wrote {page}")


def tell(done: float, section: str) -> None:
    """How far the page is."""
    say(f"{100 * done:3.0f} %  {section}")


def check_names(run: Run, genes: list[str]) -> None:
    """Refuse what is no gene of the model, where the run says which it has."""
    table = run.table(GENES)
    for name in genes if table is not None else ():
        if name not in table.index:
            raise missing_key("genes", name, "the genes of the model", table.index.astype(str))


def bring_genes(run: Path, wanted: list[str], data: Path | None) -> None:
    """Ask the model for genes that the run does not hold yet.

    Raises
    ------
    MissingKeyError
        One is no gene of the model.
    InvalidArgumentError
        The run does not hold them and there are no cells to ask for.
    """
    folder = Run(run)
    held = folder.expression()
    missing = [name for name in wanted if held is None or name not in held.genes]
    if not missing:
        return
    check_names(folder, missing)
    if data is None:
        n = "no genes" if held is None else several(len(held.genes), "gene")
        msg = (
            f'--genes "{missing[0]}" is not in the run, which holds {n}; add --data FILE, the cells it '
            "was made from, and the model is asked for it"
        )
        raise InvalidArgumentError(msg)
    from vivace.cli.large import read_cells_of
    from vivace.cli.latent import cells_for
    from vivace.models.table import load
    from vivace.tables.more_genes import add_genes

    model = load(run)
    given = cells_for(model, read_cells_of(model, data))
    add_genes(load(run, given), run, missing)
    say(f"Asked the model for {several(len(missing), 'gene')}.")
