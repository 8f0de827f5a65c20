"""Two populations in one table: cut apart and put together, nothing is lost and little is copied."""

from __future__ import annotations

import pytest
import torch

from vivace.kernels import csr_tensor, rows_between, stack_rows
from vivace.modules.pairs import apart, paired, sum_of_pairs, together


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
    parts = apart(table, n_background, 4 - n_background)
    assert together(**parts) is table
    assert parts["target"].keys() == table.keys()
    assert parts["target"]["nothing"] is None
    assert parts["target"]["theta"] is table["theta"], "one for all cells"
    assert parts["background"]["x"].shape[-2] == n_background
    by_hand = together(*({"x": part["x"]} for part in parts.values()))
    assert torch.equal(as_dense(by_hand["x"]), as_dense(table["x"]))


def test_parts_of_different_tables_make_a_new_one():
    one, other = apart({"z": torch.zeros(4, 1)}, 2), apart({"z": torch.ones(4, 1)}, 2)
    found = together(one["background"], other["target"])["z"]
    assert found.flatten().tolist() == [0, 0, 1, 1]


def test_parts_that_change_places_make_a_new_table():
    parts = apart({"z": torch.tensor([[1.0], [2.0], [3.0]])}, 1, 2)
    found = together(parts["target"], parts["background"])["z"]
    assert found.flatten().tolist() == [2, 3, 1]


def test_an_entry_that_one_population_lacks_is_none():
    full, bare = {"z": torch.ones(1, 1), "y": torch.ones(1, 1)}, {"z": torch.ones(1, 1)}
    assert together(full, bare)["y"] is None
    assert together({**full, "y": None}, full)["y"] is None


def test_dense_counts_below_sparse_ones_are_dense():
    assert torch.equal(stack_rows([X, csr(X)]), torch.cat([X, X]))


def test_pairs_are_cut_to_the_smaller_minibatch():
    pair = {
        "background": {"X": csr(X), "batch": torch.zeros(4, 1)},
        "target": {"X": X[:2], "batch": torch.ones(2, 1)},
    }
    found = paired(pair)
    assert torch.equal(found["background"]["X"].to_dense(), X[:2])
    assert len(found["background"]["batch"]) == len(found["target"]["batch"]) == 2
    assert pair["background"]["X"].shape == (4, 2)


def test_the_sum_of_pairs_adds_each_background_cell_to_its_target():
    of_cells = torch.tensor([[1.0, 2.0, 10.0, 20.0]])
    assert sum_of_pairs(of_cells, 2).tolist() == [[11.0, 22.0]]
