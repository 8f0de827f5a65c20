"""Usage at single positions: the right cell's, or a sentence."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from vivace.analysis.splicing import read_positions, splicing_at, splicing_blocks
from vivace.errors import InvalidArgumentError
from vivace.modules import SPLICEVAE

N, J = 5, 4
CELLS = {
    "X": torch.arange(N * 6).remainder(4).reshape(N, 6).double(),
    "batch": torch.zeros(N, 1, dtype=torch.long),
    "junc_counts_key": torch.arange(N * J).remainder(3).reshape(N, J).double(),
}


class Stream:
    """The cells in minibatches of two."""

    n_obs = N

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for start in range(0, N, 2):
            yield {key: value[start : start + 2] for key, value in CELLS.items()}


@pytest.fixture
def module() -> SPLICEVAE:
    events = torch.tensor([0, 0, 1, 1])
    return SPLICEVAE(6, J, event_index=events, n_hidden=8, n_latent=2).double().eval()


def test_every_position_has_its_own_cells_value(module: SPLICEVAE):
    whole = np.concatenate(list(splicing_blocks(module, Stream())))
    cells, junctions = np.divmod(np.arange(N * J), J)
    order = np.random.default_rng(0).permutation(N * J)
    for sign in (0, 1):  # negative ones count from the end, of the same cell
        at = cells[order] - N * sign, junctions[order] - J * sign
        found = splicing_at(module, Stream(), *at)["p"]
        np.testing.assert_allclose(found, whole[cells[order], junctions[order]], rtol=1e-12)
    assert splicing_at(module, Stream(), [], [])["p"].shape == (0,)


@pytest.mark.parametrize(
    ("cells", "junctions", "match"),
    [
        ([0, 1], [0, J], f"junctions .* 0 .. {J - 1}; found {J}"),
        ([0, 1], [-J - 1, 0], f"junctions .* found {-J - 1}"),
        ([0, N], [0, 0], f"cells .* 0 .. {N - 1}; found {N}"),
        ([-N - 1], [0], "cells"),
        ([0, 1, 2], [0, 1], "3 cells and 2 junctions"),
        ([0.5], [0], "cells .* whole numbers"),
        ([0], ["junction_1"], "junctions .* whole numbers"),
        ([True, False], [0, 1], "cells .* whole numbers"),
        ([[0, 1]], [[0, 1]], "shape"),
        (0, 0, "a list"),
    ],
)
def test_positions_that_do_not_exist_are_refused(
    module: SPLICEVAE, cells: list, junctions: list, match: str
):
    with pytest.raises(InvalidArgumentError, match=match):
        splicing_at(module, Stream(), cells, junctions)


def test_positions_of_any_whole_type_are_read():
    for dtype in (np.uint8, np.int32, np.uint64, ">i4"):
        rows, columns = read_positions(np.array([4, 0], dtype), np.array([0, 3], dtype), (N, J))
        assert rows.tolist() == [4, 0]
        assert columns.tolist() == [0, 3]
