"""Two populations in one table: cut apart and put together, nothing is lost and little is copied."""

from __future__ import annotations

import pytest
import torch

from vivace.kernels import csr_tensor, rows_between, stack_rows
from vivace.modules.pairs import Pair, paired, sizes_of, stacked, sum_of_pairs


def csr(x: torch.Tensor) -> torch.Tensor:
    stored = x.to_sparse_csr()
    return csr_tensor(stored.crow_indices(), stored.col_indices(), stored.values(), x.shape)


def as_dense(x: torch.Tensor) -> torch.Tensor:
    return x if x.layout == torch.strided else x.to_dense()


X = torch.tensor([[0.0, 1.0], [0.0, 0.0], [2.0, 3.0], [0.0, 4.0]])
LAYOUTS = {"dense": lambda x: x, "csr": csr, "samples": lambda x: torch.stack([x, x + 1])}


@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize("rows", [(0, 0), (0, 2), (1, 2), (1, 4), (2, 9), (4, 4), (0, 4)])
def test_rows_between_are_those_of_a_slice(layout: str, rows: tuple[int, int]):
    found = rows_between(LAYOUTS[layout](X), *rows)
    assert found.layout == LAYOUTS[layout](X).layout
    assert torch.equal(as_dense(found), X[slice(*rows)])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("n_background", [1, 2, 3])
def test_parts_put_together_are_the_table(layout: str, n_background: int):
    table = {"x": LAYOUTS[layout](X), "theta": torch.ones(2), "nothing": None}
    sizes = (n_background, 4 - n_background)
    pair = Pair(table, sizes)
    assert list(pair) == ["background", "target"]
    assert sizes_of(pair, "x") == sizes
    assert stacked(pair, sizes) is pair
    assert pair["target"].keys() == table.keys()
    assert pair["target"]["nothing"] is None
    assert pair["target"]["theta"] is table["theta"], "one for all cells"
    assert pair["background"]["x"].shape[-2] == n_background
    by_hand = {name: dict(part) for name, part in pair.items()}
    assert sizes_of(by_hand, "x") == sizes
    again = stacked(by_hand, sizes).table
    assert torch.equal(as_dense(again["x"]), as_dense(table["x"]))
    assert again["theta"] is table["theta"]
    assert again["nothing"] is None


def test_parts_are_those_of_their_population_and_cut_when_asked_for():
    pair = Pair({"z": torch.tensor([[1.0], [2.0], [3.0]]), "px": object()}, (1, 2))
    assert pair["background"]["z"].tolist() == [[1]]
    assert pair["target"]["z"].tolist() == [[2], [3]]
    assert list(pair["target"]) == ["z"], "what is of all cells together has no part"
    with pytest.raises(KeyError):
        pair["both"]


def test_parts_of_different_tables_make_a_new_one():
    one, other = Pair({"z": torch.zeros(4, 1)}, (2, 2)), Pair({"z": torch.ones(4, 1)}, (2, 2))
    given = {"background": one["background"], "target": other["target"]}
    assert stacked(given, (2, 2)).table["z"].flatten().tolist() == [0, 0, 1, 1]


def test_parts_that_change_places_make_a_new_table():
    pair = Pair({"z": torch.tensor([[1.0], [2.0], [3.0]])}, (1, 2))
    given = {"background": pair["target"], "target": pair["background"]}
    assert stacked(given, (2, 1)).table["z"].flatten().tolist() == [2, 3, 1]


def test_an_entry_that_one_population_lacks_is_none():
    full, bare = {"z": torch.ones(1, 1), "y": torch.ones(1, 1)}, {"z": torch.ones(1, 1)}
    for background, target in ((full, bare), ({**full, "y": None}, full)):
        table = stacked({"background": background, "target": target}, (1, 1)).table
        assert table["y"] is None
        assert table["z"].shape == (2, 1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_first_cells_of_either_may_be_taken_from_a_pair_too(layout: str):
    for given in (Pair({"x": LAYOUTS[layout](X)}, (3, 1)), Pair({"x": LAYOUTS[layout](X)}, (1, 3))):
        found = as_dense(stacked(given, (1, 1)).table["x"])
        rows = X[[0, given.sizes[0]]]
        assert torch.equal(found, rows if layout != "samples" else torch.stack([rows, rows + 1]))


def test_dense_counts_below_sparse_ones_are_dense():
    assert torch.equal(stack_rows([X, csr(X)]), torch.cat([X, X]))


def test_pairs_are_cut_to_the_smaller_minibatch():
    pair = {
        "background": {"X": csr(X), "batch": torch.zeros(4, 1)},
        "target": {"X": X[:2], "batch": torch.ones(2, 1)},
    }
    found = paired(pair)
    assert torch.equal(as_dense(found["background"]["X"]), X[:2])
    assert len(found["background"]["batch"]) == len(found["target"]["batch"]) == 2
    assert pair["background"]["X"].shape == (4, 2)


def test_the_sum_of_pairs_adds_each_background_cell_to_its_target():
    of_cells = torch.tensor([[1.0, 2.0, 10.0, 20.0]])
    assert sum_of_pairs(of_cells, 2).tolist() == [[11.0, 22.0]]
