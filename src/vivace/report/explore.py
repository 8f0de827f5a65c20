"""Maps that people can touch: what the page's script needs to draw cells or spots, packed small."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pandas as pd

from vivace.report.colours import categories, is_number
from vivace.report.graph import placed
from vivace.report.packed import packed, packed_text, script_json
from vivace.report.page import Explorer
from vivace.runs import Run
from vivace.runs.expression import Expression
from vivace.runs.layout import (
    COORDINATES,
    DEPTH,
    PROPORTION_SPREAD,
    PROPORTIONS,
    SUMMARY,
    TABLES,
    TISSUE,
    Table,
)

STEPS = 65_535
THIN = 4
"""Times longer than wide from which a map is stretched."""
FINEST, COARSEST = 64, 8
BASE_BYTES, CELL_BYTES = 250_000, 30
"""What the genes of a page may weigh as text: so much, and so much a cell more."""


def of_cells(run: Run, spaces: dict[str, Table]) -> list[Explorer]:
    """Maps of the cells in one or two latent spaces; none where there is nothing to place."""
    found = {name: placed(run, table) for name, table in spaces.items()}
    first = next(iter(found.values()))
    if first is None or any(c is None or len(c.table) != len(first.table) for c in found.values()):
        return []
    places = [
        place(of.plane[0] * [1, -1], f"{name} {of.plane[1]}".strip())
        for name, of in found.items()
        if of is not None
    ]
    order = along(first.plane[0])
    colours = [colour(name, first.colour(name), order) for name in first.colours]
    shown = first_views(colours, len(places))
    return [explorer(run, first.table.index, order, places, colours, shown, first.kept)]


def first_views(colours: list[dict[str, Any]], n_spaces: int) -> list[dict[str, int]]:
    """Which space and colour the two maps start with."""
    if n_spaces > 1:
        return [{"space": 0, "colour": 0}, {"space": 1, "colour": 0}]
    return [{"space": 0, "colour": 0}, {"space": 0, "colour": min(1, max(len(colours) - 1, 0))}]


def of_spots(run: Run) -> list[Explorer]:
    """Maps of the tissue, coloured by the share of any type; none without coordinates."""
    shares, where = run.table(PROPORTIONS), run.table(COORDINATES)
    if shares is None or where is None or len(shares) != len(where):
        return []
    plane = where[["x", "y"]].to_numpy(dtype=float)
    kept = np.isfinite(plane).all(axis=1)
    shares, plane = shares[kept], plane[kept]
    if not len(plane):
        return []
    order = along(plane)
    by_mean = shares.mean().sort_values(ascending=False).index
    colours = [share(str(name), shares[name], order) for name in by_mean]
    spread = run.table(PROPORTION_SPREAD)
    if spread is not None:
        worst = spread[kept].max(axis=1)
        colours.append({**share("uncertainty of the shares", worst, order), "family": ""})
    views = [{"space": 0, "colour": 0}, {"space": 0, "colour": min(1, len(colours) - 1)}]
    spot_place = {**place(plane, "tissue", spots=True), **tissue(run, plane)}
    return [explorer(run, shares.index, order, [spot_place], colours, views, kept)]


def explorer(
    run: Run,
    names: pd.Index,
    order: np.ndarray,
    places: list[dict[str, Any]],
    colours: list[dict[str, Any]],
    views: list[dict[str, int]],
    kept: np.ndarray,
) -> Explorer:
    """The block of a page, from all of its parts."""
    held = run.expression()
    genes = None if held is None else gene_colours(held, kept, order)
    content = {
        "n": len(order),
        "unit": "spots" if places[0].get("spots") else "cells",
        "names": packed_text("\n".join(str(n).replace("\n", " ") for n in names[order])),
        "spaces": [
            {**of, "x": packed(of["x"][order]), "y": packed(of["y"][order])} for of in places
        ],
        "colours": colours,
        "genes": genes,
        "views": views,
    }
    columns = [one["name"] for one in colours]
    n_genes = 0 if genes is None else len(genes["names"])
    return Explorer(script_json(content), columns, n_genes)


def place(plane: np.ndarray, name: str, *, spots: bool = False) -> dict[str, Any]:
    """Coordinates (N, 2), the second one downwards, on a grid of 65,536 steps.

    A latent space that is thin is stretched; a tissue is what it is.
    """
    low, span = plane.min(axis=0), np.ptp(plane, axis=0)
    if span.min() < span.max() / THIN and not spots:  # each axis for itself, as in a picture
        plane, low, span = (plane - low) / np.maximum(span, 1e-12), np.zeros(2), np.sign(span)
    longest = max(float(span.max()), 1e-12)
    x, y = np.rint((plane - low) / longest * STEPS).astype(np.uint16).T
    return {
        "name": name,
        "spots": spots,
        "x": x,
        "y": y,
        "wide": span[0] / longest,
        "tall": span[1] / longest,
    }


def tissue(run: Run, plane: np.ndarray) -> dict[str, Any]:
    """The picture under the spots and its place in their grid, where the run has one."""
    path, size = run.folder / TABLES / TISSUE, run.json(f"{TABLES}/{SUMMARY}").get("tissue")
    if not size or not path.is_file():
        return {}
    low, longest = plane.min(axis=0), max(float(np.ptp(plane, axis=0).max()), 1e-12)
    box = [-low[0], -low[1], size["width"], size["height"]]
    picture = base64.b64encode(path.read_bytes()).decode("ascii")
    return {"image": f"data:image/jpeg;base64,{picture}", "box": [b / longest for b in box]}


def along(plane: np.ndarray) -> np.ndarray:
    """An order of cells in which neighbours in the map follow each other, so that arrays pack small.

    Examples
    --------
    >>> import numpy as np
    >>> along(np.array([[0.0, 0.0], [1.0, 1.0], [0.1, 0.0]])).tolist()
    [0, 2, 1]
    """
    span = np.maximum(np.ptp(plane, axis=0), 1e-12)
    grid = ((plane - plane.min(axis=0)) / span * 1023).astype(np.int64)
    code = np.zeros(len(plane), dtype=np.int64)
    for bit in range(10):
        for axis in (0, 1):
            code |= (grid[:, axis] >> bit & 1) << (2 * bit + axis)
    return np.argsort(code, kind="stable")


def colour(name: str, values: pd.Series, order: np.ndarray) -> dict[str, Any]:
    """A column of ``obs`` as groups, or as numbers."""
    if is_number(values):
        return numbers(name, values.to_numpy(dtype=float), order)
    groups = categories(values)
    codes = np.zeros(len(values), dtype=np.uint8)
    for i, group in enumerate(groups):
        codes[group.rows] = i
    return {
        "name": name,
        "labels": [group.label for group in groups],
        "fill": [group.colour for group in groups],
        "shape": [group.marker for group in groups],
        "sizes": [len(group.rows) for group in groups],
        "codes": packed(codes[order]),
    }


def numbers(name: str, values: np.ndarray, order: np.ndarray) -> dict[str, Any]:
    """A number a cell on 65,535 steps; the last one means that it is missing."""
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    ends = [float(e) for e in np.quantile(known, [0.01, 0.99])] if len(known) else [0.0, 1.0]
    step = (np.nan_to_num(values, nan=low) - low) / max(high - low, 1e-12) * (STEPS - 1)
    whole = np.rint(np.clip(step, 0, STEPS - 1)).astype(np.uint16)
    whole[~np.isfinite(values)] = STEPS
    return {
        "name": name,
        "low": low,
        "high": high,
        "ends": ends,
        "values": packed(whole[order]),
        "log10": name == DEPTH,
    }


def share(name: str, values: pd.Series, order: np.ndarray) -> dict[str, Any]:
    """The share of a type, from nothing to where 99 in 100 spots lie."""
    found = numbers(name, values.to_numpy(dtype=float), order)
    high = max(float(np.nanquantile(values, 0.99)), 1e-3)
    return {**found, "ends": [0.0, high], "family": "shares", "percent": True}


def gene_colours(genes: Expression, kept: np.ndarray, order: np.ndarray) -> dict[str, Any] | None:
    """Expression of genes in as many steps as the page can bear, and as many genes."""
    if genes.values.shape[1] != len(kept):
        return None
    values = genes.values[:, kept][:, order]
    most = BASE_BYTES + CELL_BYTES * len(order)
    levels = FINEST
    texts = stepped(values, levels)
    while sum(map(len, texts)) > most and levels > COARSEST:
        levels //= 2
        texts = stepped(values, levels)
    sizes = np.cumsum([len(text) for text in texts])
    n = max(1, int((sizes <= most).sum())) if len(texts) else 0
    return {
        "names": genes.genes[:n],
        "unit": genes.unit,
        "levels": levels,
        "values": texts[:n],
        "low": rounded(genes.low[:n]),
        "top": rounded(genes.top[:n]),
    }


def stepped(values: np.ndarray, levels: int) -> list[str]:
    """Each row (one byte a value, 0 to 255) on fewer steps, packed."""
    fewer = np.rint(values.astype(np.float32) / 255 * (levels - 1)).astype(np.uint8)
    return [packed(row) for row in fewer]


def rounded(values: np.ndarray) -> list[float]:
    """Numbers with four digits, which is finer than the steps between them."""
    return [float(f"{value:.4g}") for value in values]
