"""The door of choices: row numbers, masks and names of cells, names of genes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import vivace
from vivace.data.selection import cell_rows, name_positions
from vivace.errors import InvalidArgumentError, MissingKeyError, VivaceError

NAMES = pd.Index(["4", "3", "2", "1", "0"])  # names that look like numbers are names all the same
MASK = [False, True, False, True, False]

CHOICES: dict[str, tuple[Any, list[int]]] = {
    "all": (None, [0, 1, 2, 3, 4]),
    "numbers": ([3, 1], [3, 1]),
    "one number": (3, [3]),
    "from the end": ([-1, -5], [4, 0]),
    "repeats": ([1, 1], [1, 1]),
    "range": (range(1, 3), [1, 2]),
    "slice": (slice(None, None, 2), [0, 2, 4]),
    "generator": ((i for i in (2, 0)), [2, 0]),
    "whole floats": ([3.0, 1.0], [3, 1]),
    "decimals": ([Decimal(3)], [3]),
    "numbers as objects": (np.array([3, 1], dtype=object), [3, 1]),
    "unsigned": (np.array([3, 1], dtype="uint8"), [3, 1]),
    "tensor": (torch.tensor([3, 1]), [3, 1]),
    "column of numbers": (np.array([[3], [1]]), [3, 1]),
    "mask": (MASK, [1, 3]),
    "mask of objects": (np.array(MASK, dtype=object), [1, 3]),
    "mask of numbers": ([0, 1, 0, 1, 0], [1, 3]),
    "mask of floats": ([0.0, 1.0, 0.0, 1.0, 0.0], [1, 3]),
    "nullable mask": (pd.array(MASK, dtype="boolean"), [1, 3]),
    "series of a mask": (pd.Series(MASK, index=NAMES), [1, 3]),
    "series in another order": (pd.Series(MASK, index=NAMES)[::-1], [1, 3]),
    "series by position": (pd.Series(MASK), [1, 3]),
    "names": (["3", "0"], [1, 4]),
    "index of names": (NAMES[[2, 0]], [2, 0]),
    "names as objects": (np.array(["1"], dtype=object), [3]),
    "names as bytes": (np.array([b"1"]), [3]),
    "one name": ("2", [2]),
}

REFUSED: dict[str, tuple[Any, str]] = {
    "fractions": ([0.0, 1.7], "found 1.7"),
    "missing": ([0.0, np.nan], "found nan"),
    "empty": ([], "chooses no cells"),
    "empty mask": ([False] * 5, "chooses no cells"),
    "short mask": ([True, False], "mask of 2 values for 5"),
    "too large": ([5], "0 .. 4; found 5"),
    "too small": ([-6], "found -6"),
    "beyond 64 bits": ([2**70], "0 .. 4"),
    "unknown name": (["3", "x"], 'choice="x"'),
    "one unknown name": ("x", 'choice="x"'),
    "mixed": ([1, "a"], "row numbers, a mask or names"),
    "missing in a mask": (pd.array([True, None, True, True, True], dtype="boolean"), "names"),
    "of other cells": (pd.Series(MASK, index=list("abcde")), "names other cells"),
    "dates": (np.array(["2024-01-01"], dtype="datetime64[D]"), "datetime64"),
    "table": (np.zeros((5, 2)), r"shape \(5, 2\)"),
    "ragged": ([[1], [1, 2]], "several lengths"),
    "mapping": ({"a": 1}, "dict"),
    "set": ({1, 2}, "set"),
    "flag": (True, "bool"),
    "none inside": ([None, 1], "names"),
}


@pytest.mark.parametrize("name", CHOICES)
def test_cells_are_chosen_in_every_way(name: str):
    choice, rows = CHOICES[name]
    assert cell_rows(choice, NAMES, "choice").tolist() == rows


@pytest.mark.parametrize("name", REFUSED)
def test_what_chooses_nothing_that_exists_is_refused(name: str):
    choice, match = REFUSED[name]
    with pytest.raises(VivaceError, match=match) as error:
        cell_rows(choice, NAMES, "choice")
    assert "choice" in str(error.value)


def test_two_rows_of_two_cells_are_numbers():
    assert cell_rows([1, 0], pd.Index(["a", "b"])).tolist() == [1, 0]


def test_genes_come_in_the_order_asked_for():
    assert name_positions(["1", "3"], NAMES, "gene_list", "gene").tolist() == [3, 1]
    assert name_positions("1", NAMES, "gene_list", "gene").tolist() == [3]
    assert name_positions(np.array(MASK), NAMES, "gene_list", "gene").tolist() == [1, 3]
    assert name_positions(None, NAMES, "gene_list", "gene") is None


@pytest.mark.parametrize("bad", [[1, 2], [], [b"\xff"], [1.5], {"a"}, [["1"], ["3", "2"]]])
def test_genes_are_never_numbers(bad: Any):
    with pytest.raises(VivaceError, match="gene_list"):
        name_positions(bad, NAMES, "gene_list", "gene")


def test_an_unknown_gene_is_named():
    with pytest.raises(MissingKeyError, match='gene_list="x"'):
        name_positions(["1", "x"], NAMES, "gene_list", "gene")


def test_a_model_reads_choices_through_this_door():
    adata = vivace.datasets.simulate("batches", n_cells=20, n_genes=10)
    vivace.SCVI.setup_anndata(adata)
    model = vivace.SCVI(adata, n_hidden=8, n_latent=2)
    model.train(max_epochs=1, progress=False)
    everything = model.get_latent_representation()
    names = adata.obs_names[[7, 2]]
    np.testing.assert_allclose(
        model.get_latent_representation(indices=names), everything[[7, 2]], atol=1e-6
    )
    frame = model.get_normalized_expression(gene_list="gene_3", indices=names)
    assert list(frame.columns) == ["gene_3"]
    assert list(frame.index) == list(names)
    for indices in ([], [0.5], ["nobody"]):
        with pytest.raises((InvalidArgumentError, MissingKeyError), match="indices"):
            model.get_elbo(indices=indices)
