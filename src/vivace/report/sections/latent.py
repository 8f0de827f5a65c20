"""The map of cells, once for each way to colour it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd

from vivace.report.colours import Category, categories
from vivace.report.draw import FIRST, INK, RAMP, Canvas, canvas, dot_size
from vivace.report.page import Figure, Section
from vivace.report.plane import to_plane
from vivace.report.words import number, things
from vivace.runs import Run
from vivace.runs.layout import COLOUR, DIMENSION, LATENT, SALIENT

HOW_MADE = {
    "UMAP": "UMAP draws similar cells close together; distances between far-apart groups mean little.",
    "PC": "The first two principal components of the latent space.",
    "latent": "The latent space itself.",
}


def latent(run: Run) -> Section | None:
    """Latent maps; a model with two latent spaces has a section of its own."""
    table = run.table(LATENT)
    if table is None or table.empty or run.has(SALIENT):
        return None
    figures, words = maps(run, table)
    return Section("latent", "The map of cells", words, figures)


def maps(run: Run, table: pd.DataFrame) -> tuple[list[Figure], str]:
    """One map for each column to colour by, and what they are made of."""
    dimensions = [c for c in table.columns if c.startswith(DIMENSION)]
    table = table[np.isfinite(table[dimensions]).all(axis=1)]
    plane, name = to_plane(table[dimensions].to_numpy())
    order = np.random.default_rng(0).permutation(len(table))  # no group hides under the last one
    colours = [c for c in table.columns if c.startswith(COLOUR)]
    figures = [one_map(plane, table[c], order, c.removeprefix(COLOUR), name) for c in colours]
    return figures or [plain_map(plane, name)], lead(run, len(table), dimensions, name)


def lead(run: Run, n: int, dimensions: list[str], name: str) -> str:
    """What the map is made of."""
    total = run.summary["n_cells"]
    cells = f"{n:,} {things(n, 'cells')}" if n == total else f"{n:,} of {total:,} cells"
    return f"Each dot is a cell ({cells}), placed by its {len(dimensions)} latent numbers. {HOW_MADE[name]}"


def one_map(
    plane: np.ndarray, values: pd.Series, order: np.ndarray, column: str, name: str
) -> Figure:
    """Map coloured by one column of ``obs``."""
    if pd.api.types.is_float_dtype(values) or (
        pd.api.types.is_integer_dtype(values) and values.nunique() > 20
    ):
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
    low, high = np.nanquantile(numbers, [0.01, 0.99])
    with map_canvas(name) as sheet:
        dots(sheet, plane, numbers, len(plane), "o", cmap=RAMP, vmin=low, vmax=high)
    return Figure(
        f"Coloured by {column}",
        sheet.svg,
        f"Map of cells coloured by {column}, from {number(low)} to {number(high)}.",
        "From low (dark) to high (bright); the lowest and highest percent of cells share the end colours.",
        ramp=(number(low), number(high)),
    )


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
        half = 0.0115 * len(group.label) * size[0]  # half of the width of the text
        wide = np.subtract(*np.quantile(cells[:, 0], [0.95, 0.05])) > half
        y += 0 if wide else 0.04 * size[1]  # a name would hide a small group
        if any(abs(x - u) < half + w and abs(y - v) < 0.055 * size[1] for u, v, w in taken):
            continue
        taken.append((x, y, half))
        style: Any = {"ha": "center", "va": "center", "fontsize": 10, "color": INK, "gid": "halo"}
        sheet.axes.text(x, y, group.label, **style)


def gathers(plane: np.ndarray, rows: list[int], middle: np.ndarray) -> bool:
    """Whether most of the cells around the middle of a group belong to it."""
    near = np.argsort(((plane - middle) ** 2).sum(axis=1))[:20]
    return bool(np.isin(near, rows).mean() > 0.5 or len(rows) < 20)
