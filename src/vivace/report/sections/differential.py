"""Which genes tell the kinds of cells apart? A list for each kind, and a picture of all genes."""

from __future__ import annotations

import pandas as pd

from vivace.report.draw import FIRST, LINE, SECOND, canvas
from vivace.report.page import Figure, Key, Section, Table
from vivace.runs import Run
from vivace.runs.layout import DIFFERENTIAL

MOST_GENES = 6
MOST_FIGURES = 4
DOT = "M5 1.5a3.5 3.5 0 1 0 0 7a3.5 3.5 0 1 0 0-7z"


def differential(run: Run) -> Section | None:
    """Genes of each group, and volcano plots of the groups that differ most."""
    table = run.table(DIFFERENTIAL)
    if table is None or table.empty:
        return None
    lead = (
        "Each kind of cell against all others. The model compares expression without technical "
        "noise and says, gene by gene, how probable a relevant change is (a fold change of at least "
        "1.2)."
    )
    by_found = table.groupby("group1")["found"].sum().sort_values(ascending=False, kind="stable")
    shown = list(by_found.index[:MOST_FIGURES])
    figures = [volcano(table[table["group1"] == name], str(name)) for name in shown]
    return Section("differential", "Genes that tell cells apart", lead, [listing(table), *figures])


def top_genes(table: pd.DataFrame, n: int = MOST_GENES) -> list[str]:
    """Genes that are up in a group: those that are marked, by size, then the others by certainty.

    Probabilities of marked genes all lie near 1, so that their order among them says little. The size
    is one that most cells reach: the median less a standard deviation.
    """
    up = table[table["lfc_median"] > 0]
    up = up.assign(reached=up["lfc_median"] - up["lfc_std"])
    marked = up[up["found"].astype(bool)].sort_values("reached", ascending=False)
    others = up[~up["found"].astype(bool)].sort_values(["proba_de", "reached"], ascending=False)
    return [str(g) for g in [*marked.index, *others.index][:n]]


def listing(table: pd.DataFrame) -> Table:
    """Leading genes of each group, and how many are marked."""
    rows = []
    for name, part in table.groupby("group1", sort=False):
        rows.append([str(name), ", ".join(top_genes(part)), f"{int(part['found'].sum()):,}"])
    rows.sort(key=lambda row: row[0])
    counts = [int(row[-1].replace(",", "")) for row in rows]
    bars = [100 * n / max(*counts, 1) for n in counts]
    return Table(
        "Genes that are up, by the change that most cells reach",
        ["group", "genes", "found"],
        rows,
        bars,
    )


def volcano(table: pd.DataFrame, name: str) -> Figure:
    """Size of the change against its probability, one dot a gene."""
    with canvas(5.0, 3.8) as sheet:
        axes = sheet.axes
        axes.axvline(0, color=LINE, linewidth=1)
        for marked, colour in ((False, FIRST), (True, SECOND)):
            part = table[table["found"] == marked]
            axes.scatter(
                part["lfc_median"], part["proba_de"], s=9, color=colour, alpha=0.6,
                linewidths=0, rasterized=True,
            )  # fmt: skip
        axes.set(
            xlabel="change against other cells, log2", ylabel="probability", ylim=(-0.03, 1.05)
        )
    n = int(table["found"].sum())
    genes = ", ".join(top_genes(table))
    text = (
        f"{n:,} of {len(table):,} genes are marked: among them, one in twenty is expected to be wrong. "
        f"Leading up: {genes}."
    )
    return Figure(
        f"{name} against the rest",
        sheet.svg,
        f"Probability of a change against its size for {name}. {text}",
        text,
        "Known markers of the group high on the right. A wall of dots at one side says that the group "
        "differs in depth or quality rather than in kind.",
        legend=[Key("marked", SECOND, DOT, f"{n:,}"), Key("not marked", FIRST, DOT)],
    )
