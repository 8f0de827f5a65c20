"""Two latent spaces side by side: what all cells share, and what is new in the target cells."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from vivace.report.explore import of_cells
from vivace.report.graph import placed
from vivace.report.page import Figure, Section, Table
from vivace.report.sections.latent import maps, touched
from vivace.report.words import number, percent
from vivace.runs import Run
from vivace.runs.layout import CONDITIONS, KINDS, LATENT, SALIENT, SALIENT_GENES

SHARED = (
    "Background space: what all cells share.",
    "Kinds of cells apart, conditions mixed.",
)
NEW = (
    "Salient space: what only target cells have.",
    "Target cells apart from background cells; kinds of cells mixed where they respond alike.",
)


def contrast(run: Run) -> Section | None:
    """Maps of both latent spaces in pairs, and how well each tells the conditions apart."""
    background, salient = placed(run, LATENT), placed(run, SALIENT)
    if background is None or salient is None:
        return None
    shared, words = maps(run, background)
    new, _ = maps(run, salient)
    stills = []
    for left, right in zip(shared, new, strict=True):
        stills += [titled(left, "Background", *SHARED), titled(right, "Salient", *NEW)]
    live = of_cells(run, {"Background": LATENT, "Salient": SALIENT})
    blocks: list[Any] = touched(live, stills)
    conditions = run.table(CONDITIONS)
    if conditions is not None:
        blocks.append(separation(conditions, run.table(KINDS)))
    genes = run.table(SALIENT_GENES)
    if genes is not None:
        blocks += [genes_of(str(name), own) for name, own in genes.groupby("group1", sort=False)]
    lead = f"Two maps of the same cells: left what all cells share, right what is new. {words}"
    return Section("latent", "The maps of cells", lead, blocks)


def titled(figure: Figure, space: str, text: str, good: str) -> Figure:
    """The figure under the name of its space."""
    title = f"{space}, {figure.title[0].lower()}{figure.title[1:]}"
    return replace(figure, title=title, alt=f"{space} space. {figure.alt}", text=text, good=good)


def separation(conditions: pd.DataFrame, kinds: pd.DataFrame | None) -> Table:
    """How well 15 neighbours tell conditions from the background, and kinds of cells, in each space."""
    rows = [
        [
            f"{name} from background",
            number(row["salient_separation"]),
            number(row["background_separation"]),
        ]
        for name, row in conditions.iloc[1:].iterrows()
    ]
    for name, row in () if kinds is None else kinds.iterrows():
        rows.append([f"{name}", number(row["salient"]), number(row["background"])])
    caption = (
        "Told right by 15 neighbours, mean over groups (1 is always; for two groups 0.5 is chance)"
    )
    return Table(caption, ["", "salient space", "background space"], rows)


def genes_of(condition: str, genes: pd.DataFrame) -> Table:
    """Genes that the salient state changes, the surest first."""
    rows = [
        [str(gene), f"{row['lfc_mean']:+.2f}", percent(row["proba_de"])]
        for gene, row in genes.iterrows()
    ]
    bars = [100 * float(p) for p in genes["proba_de"]]
    caption = f"What is new in {condition}: its cells with and without their salient state"
    return Table(caption, ["Gene", "log2 fold change", "probability of change"], rows, bars)
