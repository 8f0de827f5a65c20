"""The map of cells, once for each way to colour it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from vivace.report.colours import Category, categories, is_number
from vivace.report.draw import FIRST, INK, RAMP, Canvas, canvas, dot_size
from vivace.report.explore import of_cells
from vivace.report.graph import Placed, placed
from vivace.report.page import Explorer, Figure, Section
from vivace.report.questions.cells import STATES
from vivace.report.words import clipped, number, things
from vivace.runs import Run
from vivace.runs.layout import LATENT, SALIENT

HOW_MADE = {
    "t-SNE": "t-SNE draws similar cells close together; distances between far-apart groups mean little.",
    "PC": "The first two principal components of the latent space.",
    "latent": "The latent space itself.",
}


def latent(run: Run) -> Section | None:
    """Latent maps; a model with two latent spaces has a section of its own."""
    cells = placed(run, LATENT)
    if cells is None or run.has(SALIENT):
        return None
    figures, words = maps(run, cells)
    if run.model.get("model") == STATES:
        figures, words = [of_states(one) for one in figures], f"{words} {WITHIN}"
    return Section(
        "latent", "The map of cells", words, touched(of_cells(run, {"": LATENT}), figures)
    )


def touched(live: list[Explorer], stills: list[Figure]) -> list[Explorer | Figure]:
    """Maps to touch, if there are some, then the pictures that stand for them without scripts."""
    return [*live, *(replace(figure, still=bool(live)) for figure in stills)]


WITHIN = (
    "The model is given the kind of each cell and keeps only how it differs from others of its kind, so "
    "that kinds lie on each other: what differs within a kind is what to look for."
)
WITHIN_GOOD = (
    "All kinds of cells around the same middle; within a kind, a gradient or clouds that a gene or a "
    "condition explains. A kind that lies apart was not described by its own mean."
)


def of_states(figure: Figure) -> Figure:
    """The figure with the words of a space of states within kinds."""
    if figure.ramp is not None:
        return figure
    text = "States within kinds of cells; the model was given the kinds."
    return replace(figure, text=text, good=WITHIN_GOOD)


def maps(run: Run, cells: Placed) -> tuple[list[Figure], str]:
    """One map for each column to colour by, and what they are made of."""
    plane, name = cells.plane
    order = np.random.default_rng(0).permutation(len(plane))  # no group hides under the last one
    figures = [one_map(plane, cells.colour(c), order, c, name) for c in cells.colours]
    words = lead(run, len(plane), cells.dimensions, name)
    return figures or [plain_map(plane, name)], words


def lead(run: Run, n: int, dimensions: list[str], name: str) -> str:
    """What the map is made of."""
    total = run.summary["n_cells"]
    cells = f"{n:,} {things(n, 'cells')}" if n == total else f"{n:,} of {total:,} cells"
    return f"Each dot is a cell ({cells}), placed by its {len(dimensions)} latent numbers. {HOW_MADE[name]}"


def one_map(
    plane: np.ndarray, values: pd.Series, order: np.ndarray, column: str, name: str
) -> Figure:
    """Map coloured by one column of ``obs``."""
    if is_number(values):
        return ramp_map(plane, values, column, name)
    return group_map(plane, values, order, column, name)


def group_map(
    plane: np.ndarray, values: pd.Series, order: np.ndarray, column: str, name: str
) -> Figure:
    """Map coloured by categories, with the names of groups where they fit."""
    groups = categories(values)
    rank = np.empty(len(order), dtype=int)
    rank[order] = np.arange(len(order))
    with map_canvas(name) as sheet:
        chunks = 8  # groups are drawn in turns, so that none covers the others
        for turn in range(chunks):
            for group in groups:
                rows = np.array(group.rows)
                rows = rows[rank[rows] * chunks // len(order) == turn]
                dots(sheet, plane[rows], group.colour, len(order), group.marker)
        if len(groups) > 1:
            name_groups(sheet, plane, groups)
    listed = ", ".join(f"{g.label} ({len(g.rows)})" for g in groups[:12])
    return Figure(
        f"Coloured by {column}",
        sheet.svg,
        f"Map of cells coloured by {column}: {listed}{' and others' if len(groups) > 12 else ''}.",
        *reading(column),
        legend=[group.key for group in groups],
    )


def reading(column: str) -> tuple[str, str]:
    """How to read a map coloured by ``column``, and what good looks like."""
    if any(
        word in column.lower() for word in ("batch", "study", "donor", "sample", "tech", "system")
    ):
        text = "Where cells of one source gather, differences between sources are still there."
        return text, "Colours mixed wherever the sources hold the same kinds of cells."
    text = "Names stand at the middle of their group. The model was not shown them unless you gave them."
    return text, "Known groups of cells stay together and apart from the others."


def ramp_map(plane: np.ndarray, values: pd.Series, column: str, name: str) -> Figure:
    """Map coloured by a number."""
    numbers = values.to_numpy(dtype=float)
    low, high = ends(numbers)
    with map_canvas(name) as sheet:
        dots(sheet, plane, numbers, len(plane), "o", cmap=RAMP, vmin=low, vmax=high)
    return Figure(
        f"Coloured by {column}",
        sheet.svg,
        f"Map of cells coloured by {column}, from {number(low)} to {number(high)}.",
        "From low (dark) to high (bright); the lowest and highest percent of cells share the end colours.",
        ramp=(number(low), number(high)),
    )


def ends(numbers: np.ndarray) -> tuple[float, float]:
    """Values of the end colours: all but the lowest and highest percent lie between; 0 and 1 of nothing."""
    known = numbers[np.isfinite(numbers)]
    if not len(known):
        return 0.0, 1.0
    low, high = np.quantile(known, [0.01, 0.99])
    return float(low), float(high)


def plain_map(plane: np.ndarray, name: str) -> Figure:
    """Map without colours, when no column was given."""
    with map_canvas(name) as sheet:
        dots(sheet, plane, FIRST, len(plane), "o")
    return Figure(
        "All cells",
        sheet.svg,
        f"Map of {len(plane)} cells.",
        "Cells of one kind form a cloud.",
        "Several clouds, where the sample holds several kinds of cells.",
    )


@contextmanager
def map_canvas(name: str) -> Iterator[Canvas]:
    """Canvas of a map: the axes carry names and no numbers, for the numbers mean nothing."""
    with canvas(5.0, 4.6) as sheet:
        sheet.axes.set(xticks=[], yticks=[])
        sheet.axes.grid(visible=False)
        sheet.axes.spines[:].set_visible(False)
        sheet.axes.set_xlabel(f"{name} 1", loc="left")
        sheet.axes.set_ylabel(f"{name} 2", loc="bottom")
        yield sheet


def dots(
    sheet: Canvas, plane: np.ndarray, colour: Any, n: int, marker: str, **colour_scale: Any
) -> None:
    """Cells as one picture, so that the page stays small however many there are."""
    sheet.axes.scatter(
        plane[:, 0],
        plane[:, 1],
        c=colour,
        s=dot_size(n),
        marker=marker,
        alpha=0.85,
        linewidths=0,
        rasterized=True,
        **colour_scale,
    )


def name_groups(sheet: Canvas, plane: np.ndarray, groups: list[Category]) -> None:
    """Names at the middle of groups that have one, largest first, left out where they overlap."""
    taken: list[tuple[float, float, float]] = []
    size = np.ptp(plane, axis=0)
    for group in groups:
        cells = plane[group.rows]
        x, y = cells[np.abs(cells - np.median(cells, axis=0)).sum(axis=1).argmin()]
        if not gathers(plane, group.rows, np.array([x, y])):
            continue
        label = clipped(group.label)
        half = 0.0115 * len(label) * size[0]  # half of the width of the text
        wide = np.subtract(*np.quantile(cells[:, 0], [0.95, 0.05])) > half
        y += 0 if wide else 0.04 * size[1]  # a name would hide a small group
        if any(abs(x - u) < half + w and abs(y - v) < 0.055 * size[1] for u, v, w in taken):
            continue
        taken.append((x, y, half))
        style: Any = {"ha": "center", "va": "center", "fontsize": 10, "color": INK, "gid": "halo"}
        sheet.axes.text(x, y, label, **style)


def gathers(plane: np.ndarray, rows: list[int], middle: np.ndarray) -> bool:
    """Whether most of the cells around the middle of a group belong to it."""
    near = np.argsort(((plane - middle) ** 2).sum(axis=1))[:20]
    return bool(np.isin(near, rows).mean() > 0.5 or len(rows) < 20)
