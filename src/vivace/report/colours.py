"""Colours and symbols that stay apart for colour-blind readers, on white and on black.

Up to ten categories differ by colour (M. Petroff, Accessible color sequences for data visualization,
2021); beyond that the colours repeat with another symbol, so that colour is never asked to do more.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from vivace.report.page import Key

COLOURS = [
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
    "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
]  # fmt: skip
SYMBOLS = [  # (matplotlib marker, SVG path in a 10 x 10 box)
    ("o", "M5 1a4 4 0 1 0 .001 0z"),
    ("^", "M5 1L9.2 8.6H.8z"),
    ("s", "M1.5 1.5h7v7h-7z"),
    ("D", "M5 .6L9.4 5L5 9.4L.6 5z"),
]
MOST = len(COLOURS) * len(SYMBOLS)
REST = "#9aa0a6"


@dataclass(frozen=True)
class Category:
    """One category of cells: how it is drawn, and which cells it holds (positions)."""

    label: str
    colour: str
    marker: str
    path: str
    rows: list[int]

    @property
    def key(self) -> Key:
        """Entry of the legend."""
        return Key(self.label, self.colour, self.path, f"{len(self.rows):,}")


def is_number(values: pd.Series) -> bool:
    """Whether a column is shown on a scale: numbers, unless they are a few whole ones."""
    if pd.api.types.is_bool_dtype(values):
        return False
    if pd.api.types.is_float_dtype(values):
        return True
    return bool(pd.api.types.is_integer_dtype(values) and values.nunique() > 20)


def categories(values: pd.Series) -> list[Category]:
    """Categories from the most to the least frequent; those beyond ``MOST`` are one grey rest.

    Missing values are a category of their own.
    """
    text = values.astype("string").fillna("missing").to_numpy()
    rows = pd.Series(range(len(text))).groupby(text).apply(list)
    ordered = sorted(rows.items(), key=lambda item: (-len(item[1]), str(item[0])))
    shown = ordered if len(ordered) <= MOST else ordered[: MOST - 1]
    result = [style(i, str(name), members) for i, (name, members) in enumerate(shown)]
    if len(shown) < len(ordered):
        rest = [row for _, members in ordered[len(shown) :] for row in members]
        label = f"{len(ordered) - len(shown)} other categories"
        result.append(Category(label, REST, *SYMBOLS[0], rest))
    return result


def style(position: int, label: str, rows: list[int]) -> Category:
    """Colour first, then symbol."""
    symbol = SYMBOLS[position // len(COLOURS) % len(SYMBOLS)]
    return Category(label, COLOURS[position % len(COLOURS)], *symbol, rows)
