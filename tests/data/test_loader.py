"""Minibatches: full, complete, reproducible, zipped."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

from vivace.data import Loader, ZippedLoader
from vivace.data.sources import Layout
from vivace.data.sources.disk import Part, layout_of


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


# on disk ----------------------------------------------------------------------------------------


class CellsOnDisk(FakeCells):
    """Cells that count what is read of them: pools that are held, and rows that are not held."""

    def __init__(self, block: int, pool: int):
        self.layout = Layout(block, pool)
        self.pools: list[np.ndarray] = []

    def held(self, rows: np.ndarray) -> FakeCells:
        self.pools.append(rows)
        return FakeCells()


def order_of(loader: Loader, epoch: int) -> list[int]:
    return list(itertools.chain(*rows_of(loader, epoch)))


@pytest.mark.parametrize("n", [1, 3, 10, 96, 97, 1000])
def test_order_on_disk_covers_all_in_full_minibatches(n: int):
    cells = CellsOnDisk(8, 64)
    loader = Loader(cells, np.arange(n) * 3, 10, shuffle=True)
    batches = rows_of(loader, 2)
    assert {len(batch) for batch in batches} == {min(n, 10)}
    flat = list(itertools.chain(*batches))
    assert sorted(set(flat)) == list(range(0, 3 * n, 3))
    assert sorted(flat[:n]) == list(range(0, 3 * n, 3))
    assert list(itertools.chain(*cells.pools)) == flat  # each row is read in its pool and not again
    assert max(map(len, cells.pools)) <= 60  # whole minibatches


def test_order_on_disk_depends_on_seed_and_epoch_alone_as_well():
    make = lambda seed: Loader(  # noqa: E731
        CellsOnDisk(8, 64), np.random.default_rng(seed).permutation(500), 10, shuffle=True, seed=4
    )
    assert order_of(make(0), 3) == order_of(make(1), 3)  # the order of the rows says nothing
    assert order_of(make(0), 3) != order_of(make(0), 4)
    assert [rows.tolist() for rows in make(0).row_batches(3)] == rows_of(make(0), 3)


def test_neighbours_are_read_together():
    cells = CellsOnDisk(8, 64)
    order_of(Loader(cells, np.arange(3000), 16, shuffle=True), 0)
    jumps = [np.sum(np.diff(np.sort(pool)) > 1) for pool in cells.pools[:-1]]
    assert max(jumps) <= 10  # 8 blocks, of which the pool may cut two; the last one is topped up


def test_minibatches_of_a_sorted_file_are_as_mixed_as_those_of_a_shuffled_one():
    studies = np.repeat(np.arange(20), 5000)

    def n_studies(cells: FakeCells) -> float:
        loader = Loader(cells, np.arange(len(studies)), 128, shuffle=True)
        return np.mean([len(set(studies[rows])) for rows in loader.row_batches(0)])

    shuffled, on_disk = n_studies(FakeCells()), n_studies(CellsOnDisk(64, 1 << 13))
    assert shuffled > 19.5
    assert on_disk > 0.95 * shuffled
    assert n_studies(CellsOnDisk(4096, 1 << 13)) < 0.5 * shuffled  # what large blocks would do


@dataclass
class FakeMatrix:
    """What is known of a file before it is read."""

    per_row: float
    chunk: int


@pytest.mark.parametrize("n_cells", [919, 100_000, 300_000])
@pytest.mark.parametrize(("per_row", "chunk"), [(100, 1), (100, 655), (4000, 20), (30_000, 1)])
def test_studies_in_a_minibatch_of_a_sorted_file_vary_as_in_a_uniform_draw(
    n_cells: int, per_row: float, chunk: int
):
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    studies = np.repeat(np.arange(4), np.ceil(n_cells * shares).astype(int))[:n_cells]
    cells = FakeCells()
    cells.layout = layout_of([Part(FakeMatrix(per_row, chunk), np.arange(40_000), ())])
    loader = Loader(cells, np.arange(n_cells), 128, shuffle=True)
    batches = itertools.islice((b for e in range(4) for b in loader.row_batches(e)), 2000)
    found = np.array([np.bincount(studies[rows], minlength=4) for rows in batches])
    expected = 128 * np.bincount(studies) / n_cells
    # 1 for a uniform draw, by the chi-square law
    dispersion = ((found - expected) ** 2 / expected).sum(1).mean() / 3
    assert dispersion < 1.4


def test_zipped_streams_on_disk_are_those_of_their_own_pools():
    long = Loader(CellsOnDisk(8, 64), np.arange(200), 10, shuffle=True)
    short = Loader(CellsOnDisk(4, 16), np.arange(500, 530), 10, shuffle=True, seed=1)
    zipped = ZippedLoader({"background": long, "target": short})
    second = [*zipped.epoch(0), *zipped.epoch(1)][20:]
    again = list(zipped.epoch(1))
    assert second == again
    assert {r for step in again for r in step["background"]["rows"]} == set(range(200))
