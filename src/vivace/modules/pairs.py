"""Two populations of cells in one table, which goes through the networks as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias

import torch

from vivace._types import Keys
from vivace.kernels import rows_between, stack_rows
from vivace.modules.lazy import LazyOutputs

POPULATIONS = ("background", "target")
WHOLE = ("px",)
"""Entries of a table that are of all its cells together, and of which no population has a part."""

Populations: TypeAlias = Mapping[str, Mapping[str, Any]]
Sizes: TypeAlias = tuple[int, int]


class Pair(Mapping):
    """Background cells, then target cells, in one table; asked for a population, it cuts out its part.

    Parameters
    ----------
    table
        Entries (..., B + T, n) of all cells; None, or (n,) where it is one for all.
    sizes
        B and T.

    Examples
    --------
    >>> pair = Pair({"z": torch.tensor([[1.0], [2.0], [3.0]]), "library": None}, (1, 2))
    >>> pair["target"]["z"].tolist(), pair["target"]["library"]
    ([[2.0], [3.0]], None)
    """

    def __init__(self, table: Mapping[str, Any], sizes: Sizes):
        self.table = table
        self.sizes = sizes

    def __getitem__(self, population: str) -> LazyOutputs:
        n_background, n_target = self.sizes
        rows = {
            "background": (0, n_background),
            "target": (n_background, n_background + n_target),
        }[population]
        kept = (key for key in self.table if key not in WHOLE)
        return LazyOutputs(**{key: partial(self._part, key, *rows) for key in kept})

    def _part(self, key: str, first: int, last: int) -> Any:
        value = self.table[key]
        return value if value is None or value.dim() == 1 else rows_between(value, first, last)

    def __iter__(self) -> Iterator[str]:
        return iter(POPULATIONS)

    def __len__(self) -> int:
        return len(POPULATIONS)


def sizes_of(populations: Populations, key: str) -> Sizes:
    """Number of background and of target cells, by an entry (..., B, n) that both have."""
    if isinstance(populations, Pair):
        return populations.sizes
    return populations["background"][key].shape[-2], populations["target"][key].shape[-2]


def stacked(populations: Populations, sizes: Sizes) -> Pair:
    """The first cells of both populations in one table; entries that one of them lacks are None."""
    if isinstance(populations, Pair) and populations.sizes == sizes:
        return populations
    background, target = populations["background"], populations["target"]
    table = {key: _stack(one, target.get(key), sizes) for key, one in background.items()}
    return Pair(table, sizes)


def _stack(one: torch.Tensor | None, other: torch.Tensor | None, sizes: Sizes) -> Any:
    if one is None or other is None or one.dim() == 1:
        return None if other is None else one
    if (one.shape[-2], other.shape[-2]) != sizes:
        one, other = rows_between(one, 0, sizes[0]), rows_between(other, 0, sizes[1])
    if one.layout == other.layout == torch.strided:
        return torch.cat([one, other], dim=-2)
    return stack_rows([one, other])


def paired(tensors: Populations) -> Pair:
    """Both minibatches in one table, cut to the size of the smaller one; the caller's stay as they are."""
    n = min(sizes_of(tensors, Keys.BATCH))
    return stacked(tensors, (n, n))


def sum_of_pairs(of_cells: torch.Tensor, n_background: int) -> torch.Tensor:
    """Of each background cell and its target: (..., B + T) to (..., min(B, T))."""
    background, target = of_cells[..., :n_background], of_cells[..., n_background:]
    n_pairs = min(background.shape[-1], target.shape[-1])
    return background[..., :n_pairs] + target[..., :n_pairs]
