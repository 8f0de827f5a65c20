"""Two populations of cells that go through the networks together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from vivace._types import Keys
from vivace.kernels import rows_between, stack_rows

POPULATIONS = ("background", "target")


class Part(Mapping):
    """The cells of one population in a table of both, each entry cut out when asked for.

    The table stays whole for what comes next: to cut all outputs apart, and put them together again,
    takes a fiftieth of a training step.

    Parameters
    ----------
    both
        Entries (..., B, n) of background cells, then target cells; None, or (n,) where it is one for
        all cells.
    rows
        Those of the population.

    Examples
    --------
    >>> parts = apart({"z": torch.tensor([[1.0], [2.0], [3.0]]), "library": None}, 1, 2)
    >>> parts["target"]["z"].tolist(), parts["target"]["library"]
    ([[2.0], [3.0]], None)
    """

    def __init__(self, both: Mapping[str, Any], rows: range):
        self.both = both
        self.rows = rows

    def __getitem__(self, key: str) -> Any:
        value = self.both[key]
        if value is None or value.dim() == 1:
            return value
        return rows_between(value, self.rows.start, self.rows.stop)

    def __iter__(self) -> Iterator[str]:
        return iter(self.both)

    def __len__(self) -> int:
        return len(self.both)

    def follows(self, other: Part) -> bool:
        """Whether its rows come next after those of the other, in the same table."""
        return self.both is other.both and self.rows.start == other.rows.stop


def apart(both: Mapping[str, Any], n_background: int, n_target: int | None = None) -> dict:
    """Each population's part of a table of both; default as many targets as background cells."""
    n_cells = n_background + (n_background if n_target is None else n_target)
    rows = (range(n_background), range(n_background, n_cells))
    return {name: Part(both, of) for name, of in zip(POPULATIONS, rows, strict=True)}


def together(background: Mapping[str, Any], target: Mapping[str, Any]) -> Mapping[str, Any]:
    """The table that was cut into these, or a new one; entries that one of them lacks are None."""
    if isinstance(background, Part) and isinstance(target, Part) and target.follows(background):
        return target.both
    entries = {key: (one, target.get(key)) for key, one in background.items()}
    return {
        key: None if one is None or other is None else stack_rows([one, other])
        for key, (one, other) in entries.items()
    }


def sum_of_pairs(of_cells: torch.Tensor, n_background: int) -> torch.Tensor:
    """Of each background cell and its target: (..., B + T) to (..., min(B, T))."""
    background, target = of_cells[..., :n_background], of_cells[..., n_background:]
    n_pairs = min(background.shape[-1], target.shape[-1])
    return background[..., :n_pairs] + target[..., :n_pairs]


def sizes_of(populations: Mapping[str, Mapping], key: str) -> list[int]:
    """Number of background and of target cells, by an entry (..., B, n)."""
    return [populations[name][key].shape[-2] for name in POPULATIONS]


def paired(
    tensors: Mapping[str, Mapping], sizes: Sequence[int] | None = None
) -> Mapping[str, Mapping]:
    """The first cells of both minibatches, default as many of either; the caller's stay as they are."""
    have = sizes_of(tensors, Keys.BATCH)
    wanted = [min(have)] * 2 if sizes is None else list(sizes)
    if have == wanted:
        return tensors
    return {
        name: {key: rows_between(value, 0, n) for key, value in tensors[name].items()}
        for name, n in zip(POPULATIONS, wanted, strict=True)
    }


def stacked_pairs(
    tensors: Mapping[str, Mapping], sizes: Sequence[int] | None = None
) -> Mapping[str, Any]:
    """Both minibatches in one table, the first cells of each, default as many of either."""
    return together(**paired(tensors, sizes))
