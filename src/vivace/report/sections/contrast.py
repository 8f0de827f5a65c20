"""Two latent spaces side by side: what all cells share, and what is new in the target cells."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from vivace.report.page import Figure, Section, Table
from vivace.report.run import Run
from vivace.report.sections.latent import maps
from vivace.report.words import number

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
    background, salient = run.table("latent"), run.table("salient")
    if background is None or salient is None:
        return None
    shared, words = maps(run, background)
    new, _ = maps(run, salient)
    blocks: list[Any] = []
    for left, right in zip(shared, new, strict=True):
        blocks += [titled(left, "Background", *SHARED), titled(right, "Salient", *NEW)]
    conditions = run.table("conditions", ("n_cells",))
    if conditions is not None:
        blocks.append(separation(conditions))
    lead = f"Two maps of the same cells: left what all cells share, right what is new. {words}"
    return Section("latent", "The maps of cells", lead, blocks)


def titled(figure: Figure, space: str, text: str, good: str) -> Figure:
    """The figure under the name of its space."""
    title = f"{space}, {figure.title[0].lower()}{figure.title[1:]}"
    return replace(figure, title=title, alt=f"{space} space. {figure.alt}", text=text, good=good)


def separation(conditions: pd.DataFrame) -> Table:
    """How well 15 neighbours tell a target cell from a background cell in each space."""
    names = ["salient_separation", "background_separation"]
    rows = [
        [str(name), number(row["n_cells"]), *(number(row.get(column)) for column in names)]
        for name, row in conditions.iterrows()
    ]
    caption = "Told from background cells by 15 neighbours (0.5 is chance, 1 is always)"
    return Table(caption, ["", "cells", "salient", "background"], rows)
