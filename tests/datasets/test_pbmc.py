"""The counts restored from scanpy's file, and what happens when they can't be."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from vivace.datasets import pbmc68k
from vivace.datasets.pbmc import restore_counts
from vivace.errors import InvalidDataError, MissingDependencyError

pytest.importorskip("scanpy", reason="the file is inside scanpy")


def test_counts_give_back_every_stored_value_to_its_last_decimal():
    adata = pbmc68k()
    path = Path(importlib.util.find_spec("scanpy").origin).parent / "datasets"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = anndata.read_h5ad(path / "10x_pbmc68k_reduced.h5ad")
    stored = source.raw.X.toarray()
    total = source.obs["n_counts"].to_numpy(np.float64)[:, None]
    again = np.log1p(adata.X.toarray().astype(np.float64) / total * 1e4)
    assert np.abs(again - stored).max() < 0.000501
    assert ((again > 0) == (stored > 0)).all()


def test_object_is_ready_for_a_model():
    adata = pbmc68k()
    assert adata.shape == (700, 765)
    assert adata.X.format == "csr"
    assert adata.X.dtype == np.float32
    assert (adata.X.data == np.round(adata.X.data)).all()
    assert adata.uns["restoration"]["n_cells_source"] == 700
    assert adata.uns["restoration"]["n_restored"] == adata.n_obs
    assert adata.obs["cell_type"].nunique() == 10
    assert adata.obs["batch"].nunique() == 8
    assert not adata.obs.isna().any(axis=None)
    assert (np.asarray(adata.X.sum(1)).ravel() <= adata.obs["n_counts"]).all()


def values_of(counts, total):
    counts = np.asarray(counts, float)
    exact = np.log1p(counts / np.asarray(total)[:, None] * 1e4)
    return sp.csr_matrix(np.round(exact, 3))


def test_a_cell_that_was_not_counts_is_found_out():
    total = np.array([1000.0, 1000.0])
    values = values_of([[1, 5, 30], [1.5, 5, 30]], total)
    _, error, _ = restore_counts(values, total)
    assert error[0] <= 0.0005 + 1e-12
    assert error[1] > 0.1


def test_a_count_too_large_to_be_told_from_its_neighbour_is_found_out():
    total = np.array([20_000.0, 20_000.0, 20_000.0])
    _, _, unique = restore_counts(values_of([[700, 1], [90_000, 1], [0, 0]], total), total)
    assert unique.tolist() == [True, False, True]


def test_missing_scanpy_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"vivace\[demo\]"):
        pbmc68k()


def test_missing_file_is_named(monkeypatch, tmp_path):
    class Spec:
        origin = str(tmp_path / "__init__.py")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: Spec)
    with pytest.raises(InvalidDataError, match=r"10x_pbmc68k_reduced\.h5ad is missing"):
        pbmc68k()
