"""The guard over the user's AnnData catches what it is there to catch."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from .conftest import same_part, snapshot


def cells() -> anndata.AnnData:
    data = anndata.AnnData(sp.csr_matrix(np.arange(6.0).reshape(3, 2)))
    data.obs["batch"] = ["a", "b", "a"]
    data.obsm["X_pca"] = np.array([[1.0], [np.nan], [2.0]])
    return data


def add_obs(data: anndata.AnnData) -> None:
    data.obs["new"] = 1


def change_count(data: anndata.AnnData) -> None:
    data.X.data[0] = 7


def make_dense(data: anndata.AnnData) -> None:
    data.X = data.X.toarray()


def change_dtype(data: anndata.AnnData) -> None:
    data.obs["batch"] = data.obs["batch"].astype("category")


def add_uns(data: anndata.AnnData) -> None:
    data.uns["other"] = 1


@pytest.mark.parametrize("change", [add_obs, change_count, make_dense, change_dtype, add_uns])
def test_a_change_is_seen(change):
    data = cells()
    before = snapshot(data)
    change(data)
    after = snapshot(data)
    assert any(not same_part(k, before, after) for k in before.keys() | after.keys())


def test_the_key_of_vivace_is_allowed(watch):
    data = watch(cells())
    data.uns["vivace"] = {"version": 1}
