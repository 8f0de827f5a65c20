"""Cells of a background and of targets, split side by side and read in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vivace.data.cells import Cells
from vivace.data.loader import DEFAULT_BATCH_SIZE, Loader, ZippedLoader
from vivace.data.split import Split, split_cells
from vivace.errors import InvalidArgumentError

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class ContrastiveSplit(Split):
    """Training, validation and test rows, and which population each row of them belongs to.

    Attributes
    ----------
    background
        All background rows.
    target
        All target rows.
    condition
        Position of each target row's condition among the names of conditions.
    """

    background: np.ndarray
    target: np.ndarray
    condition: np.ndarray

    def populations(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Background and target rows of one part."""
        rows = getattr(self, part)
        is_background = np.isin(rows, self.background)
        return rows[is_background], rows[~is_background]


def split_populations(
    background: np.ndarray,
    targets: Mapping[str, np.ndarray],
    batch_size: int,
    split_kwargs: Mapping[str, Any],
) -> ContrastiveSplit:
    """Split the background and each target condition on its own, with the same shares.

    Parameters
    ----------
    background, targets
        Rows of the background, and of each condition by its name.
    batch_size, split_kwargs
        Of :func:`vivace.data.split.split_cells`.

    Raises
    ------
    InvalidArgumentError
        If shares are out of range.

    Examples
    --------
    >>> split = split_populations(
    ...     np.arange(10), {"drug": np.arange(10, 30)}, 5, {"train_size": 0.8}
    ... )
    >>> [len(rows) for rows in split.populations("train")]
    [8, 16]
    """
    splits = [
        _split_one(rows, batch_size, split_kwargs) for rows in (background, *targets.values())
    ]
    return ContrastiveSplit(
        **{part: np.concatenate([getattr(s, part) for s in splits]) for part in PARTS},
        background=background,
        target=np.concatenate(list(targets.values())),
        condition=np.repeat(np.arange(len(targets)), [len(r) for r in targets.values()]),
    )


def _split_one(rows: np.ndarray, batch_size: int, split_kwargs: Mapping[str, Any]) -> Split:
    options = dict(split_kwargs)
    parts = options.get("external_indexing")
    if parts is not None:
        options["external_indexing"] = [np.asarray(p)[np.isin(p, rows)] for p in parts]
    return split_cells(rows, batch_size=batch_size, **options)


def check_apart(named: Mapping[str, np.ndarray]) -> None:
    """Refuse populations that share cells."""
    seen: dict[str, np.ndarray] = {}
    for name, rows in named.items():
        for other, taken in seen.items():
            shared = np.intersect1d(rows, taken)
            if len(shared):
                msg = f"{other} and {name} share {len(shared)} cells (such as row {shared[0]})"
                raise InvalidArgumentError(msg)
        seen[name] = rows


def training_pairs(
    cells: Cells, rows: Mapping[str, np.ndarray], batch_size: int, seed: int
) -> ZippedLoader:
    """Shuffled minibatches of every population side by side."""
    return ZippedLoader(
        {  # different seeds, or populations of one size would meet in the same pairs every epoch
            name: Loader(cells, of_one, batch_size, shuffle=True, seed=seed + i)
            for i, (name, of_one) in enumerate(rows.items())
        }
    )


def held_out_pairs(
    cells: Cells, rows: Mapping[str, Sequence[int] | np.ndarray], batch_size: int
) -> ZippedLoader | None:
    """Minibatches of held-out cells side by side; None where a population has none.

    The smaller one repeats as a whole, so that its cells count alike.
    """
    longest = max(map(len, rows.values()))
    if min(map(len, rows.values())) == 0:
        return None
    size = max(batch_size, DEFAULT_BATCH_SIZE)
    return ZippedLoader(
        {
            name: Loader(cells, np.resize(cells.in_reading_order(np.asarray(one)), longest), size)
            for name, one in rows.items()
        }
    )
