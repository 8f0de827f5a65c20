"""Which genes tell the kinds of cells apart? A list for each kind, and a picture of all genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from vivace.report.draw import FIRST, INK, LINE, SECOND, canvas
from vivace.report.packed import packed_text, script_json
from vivace.report.page import Figure, Key, Rows, Section, Table
from vivace.report.words import clipped
from vivace.runs import Run
from vivace.runs.layout import DIFFERENTIAL
from vivace.runs.leading import leading_genes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_GENES = 6
MOST_FIGURES = 4
MOST_ROWS = 5_000
NAMED, LETTERS = 8, 18
TITLES = [
    *("gene", "group", "probability", "log2 change", "± sd", "marked", "share", "share, rest"),
    *("counts", "counts, rest"),
]
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
    return Section(
        "differential",
        "Genes that tell cells apart",
        lead,
        [listing(table), searchable(run, table), *figures],
    )


def searchable(run: Run, table: pd.DataFrame) -> Rows:
    """The rows that say most in every group, as they stand in the file, to be searched and saved."""
    text = run.table(DIFFERENTIAL, as_text=True)
    assert text is not None  # its numbers have been read
    groups = table["group1"].to_numpy()
    sure = (table["found"].astype(float) * 2 + table["proba_de"]).reset_index(drop=True)
    rank = sure.groupby(groups).rank(ascending=False, method="first")
    chosen = (rank <= MOST_ROWS // len(set(groups))).to_numpy()
    lines = text[chosen].to_csv(index_label=DIFFERENTIAL.index, lineterminator="\n")
    words = (
        f"All {len(table):,} rows of tables/{DIFFERENTIAL.file} in the run folder."
        if chosen.all()
        else f"The {chosen.sum():,} surest of {len(table):,} rows; the rest is in "
        f"tables/{DIFFERENTIAL.file} of the run folder."
    )
    content = {
        "caption": "Genes of each group",
        "lines": packed_text(lines),
        "titles": TITLES,
        "group": 1 + list(text.columns).index("group1"),
    }
    return Rows("Genes of each group", words, script_json(content))


def listing(table: pd.DataFrame) -> Table:
    """Leading genes of each group, and how many are marked."""
    rows = []
    for name, part in table.groupby("group1", sort=False):
        rows.append(
            [str(name), ", ".join(leading_genes(part, MOST_GENES)), f"{int(part['found'].sum()):,}"]
        )
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
        name_genes(axes, table)
        axes.set(
            xlabel="change against other cells, log2", ylabel="probability", ylim=(-0.03, 1.05)
        )
    n = int(table["found"].sum())
    genes = ", ".join(leading_genes(table, MOST_GENES))
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


def name_genes(axes: Axes, table: pd.DataFrame) -> None:
    """Names of the leading genes beside their dots, one under the other where dots lie close."""
    named = table.loc[~table.index.duplicated()].loc[leading_genes(table, NAMED)]
    named = named[named["found"].astype(bool)].sort_values("proba_de", ascending=False)
    taken: list[tuple[float, float]] = []
    low, high = table["lfc_median"].min(), table["lfc_median"].max()
    for gene, row in named.iterrows():
        x, y = float(row["lfc_median"]), float(row["proba_de"])
        left = x > low + 0.7 * (high - low)
        height = y
        while any(abs(height - v) < 0.055 and abs(x - u) < 0.3 * (high - low) for u, v in taken):
            height -= 0.055
        taken.append((x, height))
        axes.annotate(
            clipped(gene, LETTERS),
            (x, y),
            (x + (-0.012 if left else 0.012) * (high - low), height),
            fontsize=9,
            color=INK,
            gid="halo",
            va="center",
            ha="right" if left else "left",
            arrowprops={"arrowstyle": "-", "color": INK, "lw": 0.5, "alpha": 0.5},
        )
