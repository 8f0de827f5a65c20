"""The choice of variable genes: against a dense formula, and where batches mislead."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from vivace.analysis.genes import variable_genes
from vivace.errors import InvalidArgumentError, MissingKeyError


def counts(n: int = 60, g: int = 20) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.poisson(rng.gamma(1.0, 2.0, size=(1, g)), size=(n, g)).astype(np.float32)


def dense_spread(x: np.ndarray) -> np.ndarray:
    total = x.sum(1, keepdims=True, dtype=float)
    return np.log1p(x / np.where(total > 0, total, 1) * 1e4).var(axis=0)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array])
def test_agrees_with_the_formula(form, watch):
    x = counts()
    x[3] = 0  # an empty cell
    adata = watch(anndata.AnnData(form(x)))
    kept = variable_genes(adata, 7)
    assert set(np.flatnonzero(kept)) == set(np.argsort(-dense_spread(x))[:7])


def test_a_gene_that_only_differs_between_batches_is_not_chosen():
    x = np.full((40, 200), 10, dtype=np.float32)
    x[:20, 0] = 50  # batch effect, constant inside
    x[::2, 1] = 20  # varies inside
    adata = anndata.AnnData(x, obs=pd.DataFrame({"b": ["u"] * 20 + ["v"] * 20}).rename(index=str))
    assert np.flatnonzero(variable_genes(adata, 1, batch_key="b")).tolist() == [1]
    assert np.flatnonzero(variable_genes(adata, 1)).tolist() == [0]


def test_a_batch_counts_by_its_cells():
    """Gene 0 varies much in a batch of 4 cells, gene 1 less, but in one of 40."""
    x = np.full((44, 200), 10, dtype=np.float32)
    x[:2, 0] = 60
    x[4::2, 1] = 20
    adata = anndata.AnnData(x, obs=pd.DataFrame({"b": ["u"] * 4 + ["v"] * 40}).rename(index=str))
    small, large = dense_spread(x[:4]), dense_spread(x[4:])
    assert small[0] > large[1]
    assert 4 * small[0] < 40 * large[1]
    assert np.flatnonzero(variable_genes(adata, 1, batch_key="b")).tolist() == [1]


def test_corners():
    adata = anndata.AnnData(counts(1, 4), layers={"raw": np.zeros((1, 4))})
    assert variable_genes(adata, 2).tolist() == [True, True, False, False]  # no spread: the first
    assert variable_genes(adata, 9, layer="raw").all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_top": 0}, InvalidArgumentError, "must be >= 1"),
        ({"layer": "rw"}, MissingKeyError, 'Did you mean "raw"?'),
        ({"batch_key": "btch"}, MissingKeyError, 'Did you mean "batch"?'),
    ],
)
def test_mistakes(options, error, message):
    adata = anndata.AnnData(counts(), layers={"raw": counts()})
    adata.obs["batch"] = "a"
    with pytest.raises(error) as caught:
        variable_genes(adata, **options)
    assert message in str(caught.value)
