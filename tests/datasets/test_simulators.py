"""Laws that every simulator obeys, then what each one promises of its truth."""

from __future__ import annotations

import mudata
import numpy as np
import pytest
import scipy.sparse as sp

from vivace.datasets import SIMULATORS, simulate
from vivace.datasets._cells import make_genes, sample_counts
from vivace.errors import InvalidArgumentError

SMALL = {"n_cells": 60, "n_genes": 40}


def matrices(data):
    """Every count matrix of whatever ``simulate`` returned."""
    if isinstance(data, tuple):
        return [part.X for part in data]
    if isinstance(data, mudata.MuData):
        return [part.X for part in data.mod.values()]
    return [data.layers.get("counts", data.X)]


@pytest.fixture(params=sorted(SIMULATORS))
def kind(request):
    return request.param


def test_counts_are_sparse_whole_and_not_all_zero(kind):
    for x in matrices(simulate(kind, **SMALL)):
        assert sp.issparse(x)
        assert x.format == "csr"
        assert x.dtype == np.float32
        assert x.nnz > 0
        assert (x.data > 0).all()
        assert (x.data == np.round(x.data)).all()


def test_same_seed_same_data_other_seed_other_data(kind):
    one, two, three = (matrices(simulate(kind, seed=s, **SMALL)) for s in (1, 1, 2))
    for a, b, c in zip(one, two, three, strict=True):
        assert (a != b).nnz == 0
        assert a.shape[0] == c.shape[0]
        assert a.shape != c.shape or (a != c).nnz > 0


def test_one_cell_and_few_genes_work(kind):
    for x in matrices(simulate(kind, n_cells=4, n_genes=3)):
        assert x.shape[0] >= 1


def test_unknown_option_names_the_nearest(kind):
    with pytest.raises(InvalidArgumentError, match='Did you mean "n_cells"'):
        simulate(kind, n_cell=3)


@pytest.mark.parametrize("bad", [0, -1, 2.5, True])
def test_sizes_must_be_positive_whole_numbers(kind, bad):
    with pytest.raises(InvalidArgumentError, match="n_cells"):
        simulate(kind, n_cells=bad)


def test_unknown_kind():
    with pytest.raises(InvalidArgumentError, match="batches"):
        simulate("batch")


def test_global_random_state_is_untouched(kind):
    before = np.random.get_state()[1].copy()
    simulate(kind, **SMALL)
    assert (np.random.get_state()[1] == before).all()


def test_sampled_counts_have_negative_binomial_moments():
    rng = np.random.default_rng(0)
    n, theta = 40_000, np.array([0.5, 4.0, 100.0], np.float32)
    share = np.array([0.1, 0.3, 0.6], np.float32)
    x = sample_counts(
        rng, np.full(n, 20.0, np.float32), lambda rows: np.tile(share, (n, 1))[rows], theta
    ).toarray()
    mean = 20 * share
    variance = mean + mean**2 / theta
    np.testing.assert_allclose(x.mean(0), mean, atol=5 * np.sqrt(variance / n).max())
    np.testing.assert_allclose(x.var(0), variance, rtol=0.1)


def test_genes_outside_the_programme_have_one_share_in_all_cells():
    rng = np.random.default_rng(0)
    genes = make_genes(rng, 50, 3, fraction=0.4)
    profile = genes.profile(rng.normal(size=(30, 3)).astype(np.float32) @ genes.loadings)
    np.testing.assert_allclose(profile.sum(1), 1, rtol=1e-5)
    assert genes.in_programme.sum() == 20
    assert np.ptp(profile[:, ~genes.in_programme], axis=0).max() == 0
    assert np.ptp(profile[:, genes.in_programme], axis=0).min() > 0


class TestBatches:
    def test_fold_changes_are_zero_exactly_where_genes_are_not_de(self):
        adata = simulate("batches", n_cells=300, n_genes=80)
        change = adata.varm["log2_fold_change"]
        assert (change[~adata.var["is_de"]] == 0).all(axis=None)
        assert (change[adata.var["is_de"]] != 0).all(axis=None)
        assert adata.var["is_de"].sum() == 40

    def test_type_expression_is_the_mean_of_the_true_expression(self):
        adata = simulate("batches", n_cells=300, n_genes=80, keep_expression=True)
        truth = adata.layers["true_expression"]
        for name, column in adata.varm["type_expression"].items():
            cells = (adata.obs["cell_type"] == name).to_numpy()
            np.testing.assert_allclose(truth[cells].mean(0), column, rtol=1e-4)

    def test_without_batch_effect_counts_average_to_the_true_expression(self):
        options = {"n_cells": 6000, "n_genes": 30, "n_types": 1, "batch_effect": 0.0}
        adata = simulate("batches", keep_expression=True, **options)
        library = adata.obs["library"].to_numpy()[:, None]
        expected = (library * adata.layers["true_expression"]).mean(0)
        observed = np.asarray(adata.X.mean(0)).ravel()
        sd = np.sqrt(adata.X.toarray().var(0) / adata.n_obs)
        assert (np.abs(observed - expected) < 5 * sd + 1e-3).all()

    def test_one_batch_and_one_type(self):
        adata = simulate("batches", n_cells=20, n_genes=10, n_types=1, n_batches=1)
        assert adata.obs["batch"].nunique() == 1
        assert adata.obs["cell_type"].nunique() == 1
