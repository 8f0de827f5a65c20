"""Minibatches: full, complete, reproducible, zipped."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from vivace.data import Loader, ZippedLoader


class FakeCells:
    """Cells whose minibatch is the row numbers."""

    layout = None

    def minibatch(self, rows: np.ndarray) -> dict:
        return {"rows": rows.tolist()}


def rows_of(loader: Loader, epoch: int) -> list[list[int]]:
    return [batch["rows"] for batch in loader.epoch(epoch)]


@pytest.mark.parametrize(
    ("n", "size", "sizes"),
    [
        (10, 4, [4, 4, 4]),
        (9, 4, [4, 4, 4]),
        (11, 4, [4, 4, 4]),
        (8, 4, [4, 4]),
        (3, 4, [3]),
        (1, 4, [1]),
        (4, 4, [4]),
    ],
)
def test_training_minibatches_are_full_and_cover_all(n, size, sizes):
    loader = Loader(FakeCells(), np.arange(n) + 100, size, shuffle=True)
    batches = rows_of(loader, 0)
    assert [len(b) for b in batches] == sizes
    assert len(loader) == len(sizes)
    flat = list(itertools.chain(*batches))
    assert set(flat) == set(range(100, 100 + n))
    assert flat[n:] == flat[: len(flat) - n]  # topped up from the start of the order


def test_order_depends_on_seed_and_epoch_alone():
    make = lambda seed: Loader(FakeCells(), np.arange(20), 6, shuffle=True, seed=seed)  # noqa: E731
    assert rows_of(make(0), 3) == rows_of(make(0), 3)
    assert rows_of(make(0), 3) != rows_of(make(0), 4)
    assert rows_of(make(0), 3) != rows_of(make(1), 3)


def test_unshuffled_keeps_order_and_the_short_last_minibatch():
    loader = Loader(FakeCells(), np.array([5, 3, 9]), 2)
    assert [b["rows"] for b in loader] == [[5, 3], [9]]


def test_zipped_streams_drop_nothing_and_never_pair_alike():
    long = Loader(FakeCells(), np.arange(20), 4, shuffle=True)
    short = Loader(FakeCells(), np.arange(100, 106), 3, shuffle=True, seed=1)
    zipped = ZippedLoader({"background": long, "target": short})
    assert len(zipped) == 5
    assert zipped.n_obs == 26
    epochs = [list(zipped.epoch(e)) for e in range(4)]
    for epoch in epochs:
        assert {r for step in epoch for r in step["background"]["rows"]} == set(range(20))
    seen = [tuple(step["target"]["rows"]) for epoch in epochs for step in epoch]
    # 20 steps are 10 whole passes over the short stream, each of them complete
    for i in range(0, 20, 2):
        assert set(seen[i]) | set(seen[i + 1]) == set(range(100, 106))
    assert len(set(seen)) > 10
    assert [list(zipped.epoch(2))] == [epochs[2]]
