"""The page about many fits of one model: what stands, and what was the seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from vivace.report.draw import FIRST, RAMP, SECOND, canvas
from vivace.report.page import Cards, Check, Checks, Figure, Key, Section, Table
from vivace.report.plane import to_plane
from vivace.report.sections.latent import dots, map_canvas
from vivace.report.words import clipped, number, percent, things
from vivace.runs.layout import DIMENSION
from vivace.runs.study import NEARLY_ALL, TOO_MUCH, Study

DOT = "M5 1.5a3.5 3.5 0 1 0 0 7a3.5 3.5 0 1 0 0-7z"
MOST_ROWS = 40
GENES_SHOWN = 5
KINDS_OF_FITS = {
    "as_asked": "as asked",
    "no_batch": "without batches",
    "shuffled_batch": "with shuffled batches",
}


def glance(study: Study) -> Section:
    """The verdict, and a check for each thing that was asked."""
    fits = study.table("fits")
    assert fits is not None  # a study has one
    n = len(fits)
    cards = [(f"{n}", f"fits of {study.model} with other seeds")]
    checks = []
    for name, what in (("clusters", "clusters"), ("labels", "known kinds of cells")):
        table = study.table(name)
        if table is not None:
            cards.append((f"{standing(table, n).sum()} of {len(table)}", f"{what} stand"))
            checks.append(check_of(table, n, what))
    cards += [
        (percent(of_ever(table, n).mean()), f"of {what} are in nearly all fits")
        for name, what in (("genes", "marked genes"), ("salient_genes", "salient genes"))
        if (table := study.table(name)) is not None and (table["found_in"] > 0).any()
    ]
    correction = study.table("correction")
    if correction is not None:
        checks.append(check_of_correction(correction))
    blocks: list[Any] = [Cards(cards)]
    if checks:
        blocks.append(Checks(checks))
    return Section("glance", "At a glance", study.verdict, blocks)


def standing(table: pd.DataFrame, n: int) -> pd.Series:
    """Rows that nearly all fits find."""
    return table["found_in"] >= NEARLY_ALL * n


def of_ever(table: pd.DataFrame, n: int) -> pd.Series:
    """Of the genes that some fit marks, those that nearly all do."""
    return standing(table[table["found_in"] > 0], n)


def check_of(table: pd.DataFrame, n: int, what: str) -> Check:
    """Whether the rows of a table stand."""
    lost = table[~standing(table, n)].sort_values("found_in")
    if lost.empty:
        return Check(
            True, f"All {what} stand", f"Each is found in at least {percent(NEARLY_ALL)} of fits."
        )
    names = ", ".join(
        f"{clipped(name)} (in {int(row['found_in'])} of {n})"
        for name, row in lost.head(6).iterrows()
    )
    return Check(
        False,
        f"{len(lost)} of {len(table)} {what} depend on the seed",
        f"{names}{' and others' if len(lost) > 6 else ''}.",
        "Do not build on these from one fit: merge them with what they merge with below, or look at "
        "genes before you give them a name.",
        grave=len(lost) > len(table) / 2,
    )


def check_of_correction(table: pd.DataFrame) -> Check:
    """Whether the correction cost structure inside batches."""
    own, shuffled = table.loc["as_asked"], table.loc["shuffled_batch"]
    lost = 1 - own["inner_structure"] / shuffled["inner_structure"]
    text = (
        f"Of the structure inside batches that a correction for nothing keeps, this one keeps "
        f"{percent(1 - lost)}; batches mix to {number(own['mixing'])} of {number(own['possible'])}, "
        f"{number(table.loc['no_batch', 'mixing'])} without correction."
    )
    if lost <= TOO_MUCH:
        return Check(True, "The correction costs no structure", text)
    return Check(
        False,
        f"The correction changed {percent(lost)} of the structure inside batches",
        text,
        "Look whether known kinds of cells still stand below. If they do, the other batches added "
        "structure; if not, correct less: fewer covariates, or batches that hold the same cells.",
        grave=lost > 0.5,
    )


def clusters(study: Study) -> Section | None:
    """Stability of the consensus clusters."""
    table = study.table("clusters")
    if table is None:
        return None
    n = n_fits(study)
    table.index = [f"cluster {name}" for name in table.index]
    partner = [("" if m < 0 else f"cluster {int(m)}") for m in table["merges_with"]]
    rows = [
        [
            str(name),
            f"{int(row['cells']):,}",
            f"{int(row['found_in'])} of {n}",
            str(int(row["splits_in"])),
            f"{int(row['merges_in'])} {with_}".strip(),
            number(row["stability"]),
        ]
        for (name, row), with_ in zip(table.iterrows(), partner, strict=True)
    ][:MOST_ROWS]
    header = ["cluster", "cells", "found in", "splits in", "merges in", "stability"]
    listed = Table(
        "Clusters of the consensus, largest first", header, rows,
        bars=[100 * v for v in table["stability"].head(MOST_ROWS)],
    )  # fmt: skip
    words = (
        "Each fit was clustered; the consensus clusters are those of the graph that counts in how many "
        "fits two cells are near. Stability is the largest overlap (Jaccard) with a cluster of a fit, "
        "mean over fits; from 0.75 on, the fit has the cluster."
    )
    return Section("clusters", "Clusters", words, [stairs(table, n, "clusters"), listed])


def kinds(study: Study) -> Section | None:
    """Stability of known kinds of cells."""
    table = study.table("labels")
    if table is None:
        return None
    n = n_fits(study)
    rows = [
        [
            clipped(name),
            f"{int(row['cells']):,}",
            f"{int(row['found_in'])} of {n}",
            number(row["lowest"]),
            number(row["stability"]),
        ]
        for name, row in table.head(MOST_ROWS).iterrows()
    ]
    header = ["kind", "cells", "found in", "lowest", "stability"]
    bars = [100 * v for v in table["stability"].head(MOST_ROWS)]
    words = (
        "Each cell is called what most of its 15 neighbours are. Stability is the F1 of that, mean over "
        "fits; from 0.75 on, the fit tells the kind apart."
    )
    listed = Table("Known kinds of cells", header, rows, bars=bars)
    return Section("kinds", "Kinds of cells", words, [stairs(table, n, "kinds"), listed])


def stairs(table: pd.DataFrame, n: int, what: str) -> Figure:
    """One dot a row, from the most to the least stable."""
    ordered = table.sort_values("stability", ascending=True).tail(MOST_ROWS)
    good = standing(ordered, n).to_numpy()
    height = max(2.2, 0.24 * len(ordered) + 0.9)
    with canvas(5.0, height) as sheet:
        at = np.arange(len(ordered))
        values = ordered["stability"].to_numpy()
        colours = [FIRST if stands else SECOND for stands in good]
        sheet.axes.hlines(at, 0, values, colors=colours, lw=2)
        sheet.axes.scatter(values, at, c=colours, s=36, zorder=3)
        sheet.axes.set_yticks(at, [clipped(name, 18) for name in ordered.index])
        sheet.axes.set_xlim(0, 1.03)
        sheet.axes.set_xlabel("stability")
        sheet.axes.grid(axis="y", visible=False)
    told = "; ".join(f"{name}: {number(v)}" for name, v in ordered["stability"].items())
    return Figure(
        f"Which {what} stand",
        sheet.svg,
        f"Stability of {what}: {told}.",
        f"In blue, those that at least {percent(NEARLY_ALL)} of the {n} fits find.",
        "All in blue, near 1.",
        legend=[Key("stands", FIRST, DOT), Key("depends on the seed", SECOND, DOT)],
    )


def cells(study: Study) -> Section | None:
    """The consensus map, coloured by how far fits agree on the neighbours of a cell."""
    table = study.table("cells")
    spaces = [c for c in table if c.startswith(DIMENSION)] if table is not None else []
    if table is None or not spaces:
        return None
    plane, name = to_plane(table[spaces].to_numpy())
    column = next(c for c in table if c.startswith("agreement"))
    values = table[column].to_numpy()
    low, high = np.percentile(values, (1, 99))
    with map_canvas(name) as sheet:
        dots(sheet, plane, values, len(plane), "o", cmap=RAMP, vmin=low, vmax=high)
    figure = Figure(
        "Which cells keep their neighbours",
        sheet.svg,
        f"Map of cells coloured by agreement, from {number(low)} to {number(high)}.",
        "Each cell of the consensus of all fits, coloured by the share of its 15 neighbours that two "
        "fits have in common.",
        "No region much darker than the rest. Cells inside a homogeneous type are interchangeable, so "
        "that low values all over are usual; a dark region between two types is where fits disagree.",
        ramp=(number(low), number(high)),
    )
    n = f"{len(table):,} {things(len(table), 'cells')}"
    words = f"{n}, placed by the mean of all fits, each turned onto the others."
    return Section("cells", "Cells", words, [figure])


def genes(study: Study) -> Section | None:
    """Genes that all fits mark, and those that few do."""
    found = [
        (name, table)
        for name in ("genes", "salient_genes")
        if (table := study.table(name)) is not None and (table["found_in"] > 0).any()
    ]
    if not found:
        return None
    n = n_fits(study)
    blocks: list[Any] = []
    for name, table in found:
        marked = table[table["found_in"] > 0]
        what = "marked genes" if name == "genes" else "genes of the salient state"
        blocks += [histogram(marked, n, what), best(marked, n, what)]
    words = (
        "A gene is marked where its change is sure at an expected false discovery rate of 5 %. What all "
        "fits mark, the cells say; what a few mark, the seed says."
    )
    return Section("genes", "Genes", words, blocks)


def histogram(marked: pd.DataFrame, n: int, what: str) -> Figure:
    """In how many fits genes are marked."""
    counts = np.bincount(marked["found_in"].astype(int), minlength=n + 1)[1:]
    with canvas(5.0, 2.8) as sheet:
        at = np.arange(1, n + 1)
        colours = np.where(at >= NEARLY_ALL * n, FIRST, SECOND)
        sheet.axes.bar(at, counts, color=colours, width=0.85)
        sheet.axes.set_xlabel("fits that mark a gene")
        sheet.axes.set_ylabel("genes and groups")
        sheet.axes.grid(axis="x", visible=False)
    return Figure(
        f"Agreement on {what}",
        sheet.svg,
        f"Of {len(marked):,} {what}, {counts[-1]:,} are in all fits and {counts[0]:,} in one.",
        "Every gene that some fit marks, counted once a group.",
        "Most of them at the right end.",
    )


def best(marked: pd.DataFrame, n: int, what: str) -> Table:
    """The surest genes of each group, with their spread over fits."""
    rows = [
        [
            f"{clipped(group, 18)}: {gene}",
            f"{int(row['found_in'])} of {n}",
            f"{row['rank']:.0f} ± {row['rank_spread'] / 2:.0f}",
            f"{row['fold_change']:+.2f} ± {row['fold_change_spread'] / 2:.2f}",
        ]
        for group, of_group in marked[marked["fold_change"] > 0].groupby("group", sort=False)
        for gene, row in of_group.head(GENES_SHOWN).iterrows()
    ]
    header = ["group: gene", "found in", "rank", "log2 fold change"]
    return Table(
        f"Surest {what} that are higher (median ± half the interquartile range)", header, rows
    )


def correction(study: Study) -> Section | None:
    """Mixing against the structure that is left inside batches."""
    table = study.table("correction")
    if table is None:
        return None
    rows = [
        [KINDS_OF_FITS[str(kind)], number(row["mixing"]), number(row["inner_structure"])]
        for kind, row in table.iterrows()
    ]
    with canvas(5.0, 3.0) as sheet:
        for kind, row in table.iterrows():
            colour = FIRST if kind == "as_asked" else SECOND
            sheet.axes.scatter(row["mixing"], row["inner_structure"], c=colour, s=70, zorder=3)
            sheet.axes.annotate(
                KINDS_OF_FITS[str(kind)],
                (row["mixing"], row["inner_structure"]),
                (6, 6),
                textcoords="offset points",
            )
        sheet.axes.set_xlabel("batches around a cell (iLISI)")
        sheet.axes.set_ylabel("structure inside batches")
        sheet.axes.margins(x=0.35, y=0.25)
    figure = Figure(
        "What the correction costs",
        sheet.svg,
        "; ".join(
            f"{name}: mixing {mixing}, inner structure {inner}" for name, mixing, inner in rows
        ),
        "Structure inside batches: share of a cell's nearest cells of its own batch that a fit has in "
        "common with a fit without batches. Shuffled labels correct for nothing that is there.",
        "As asked far to the right, and no lower than the others.",
    )
    header = ["fits", "mixing", "structure inside batches"]
    words = "Did the correction of batches remove more than a correction for nothing would have?"
    return Section(
        "correction", "Correction of batches", words, [figure, Table("Yardsticks", header, rows)]
    )


def proportions(study: Study) -> Section | None:
    """How far proportions move."""
    table = study.table("proportions")
    if table is None:
        return None
    rows = [
        [clipped(name), number(row["mean"]), number(row["spread"]), number(row["correlation"])]
        for name, row in table.iterrows()
    ]
    header = ["type", "mean", "spread", "correlation"]
    words = (
        "Proportions of each type: mean over spots and fits, standard deviation over fits (mean over "
        "spots), and correlation between two fits over spots."
    )
    return Section("proportions", "Proportions", words, [Table("Types", header, rows)])


def fits(study: Study) -> Section:
    """One row a fit."""
    table = study.table("fits")
    assert table is not None  # a study has one
    rows = [[str(seed), *[number(v, 4) for v in row]] for seed, row in table.iterrows()]
    header = ["seed", *[name.replace("_", "-") for name in table]]
    words = "Every fit with its seed; held-out loss in nats per cell, lower is better."
    return Section("fits", "Fits", words, [Table("Fits", header, rows)])


def n_fits(study: Study) -> int:
    """How many fits the study has."""
    table = study.table("fits")
    return 0 if table is None else len(table)


SECTIONS: list[Callable[[Study], Section | None]] = [
    glance, clusters, kinds, cells, genes, proportions, correction, fits,
]  # fmt: skip
