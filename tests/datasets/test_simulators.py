"""Laws that every simulator obeys, then what each one promises of its truth."""

from __future__ import annotations

import mudata
import numpy as np
import pytest
import scipy.sparse as sp

from vivace.datasets import SIMULATORS, simulate
from vivace.datasets._cells import make_genes, sample_counts
from vivace.datasets.spatial import expression_at
from vivace.datasets.systems import Bend
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


class TestDepth:
    def test_shallow_cells_are_thinned_deep_ones(self):
        adata = simulate("depth", n_cells=400, n_genes=200)
        shallow = (adata.obs["depth"] == "shallow").to_numpy()
        total = np.asarray(adata.X.sum(axis=1)).ravel()
        assert (adata.layers["deep"] - adata.X).min() == 0
        assert (adata.X[~shallow] != adata.layers["deep"][~shallow]).nnz == 0
        assert shallow.sum() == 200
        target = adata.obs["target_total"].to_numpy()
        assert 20 <= target[shallow].min() < 30
        assert 150 < target[shallow].max() <= 200
        assert (np.abs(total - target) <= 6 * np.sqrt(target)).all()

    def test_range_must_be_in_order(self):
        with pytest.raises(InvalidArgumentError, match="low <= high"):
            simulate("depth", shallow_range=(50.0, 20.0))

    def test_a_target_above_the_total_keeps_the_cell(self):
        adata = simulate("depth", n_cells=30, n_genes=20, shallow_range=(1e6, 2e6))
        assert (adata.layers["deep"] != adata.X).nnz == 0


class TestContrastive:
    def test_controls_have_no_salient_position(self):
        adata = simulate("contrastive", **SMALL)
        control = (adata.obs["condition"] == "control").to_numpy()
        assert (adata.obsm["salient_truth"][control] == 0).all()
        assert (adata.obsm["salient_truth"][~control] != 0).all()
        assert set(adata.obs["response"][control]) == {"none"}

    def test_treatment_is_independent_of_the_cell_type(self):
        adata = simulate("contrastive", n_cells=4000, n_genes=5)
        share = (adata.obs["condition"] == "treated").groupby(adata.obs["cell_type"], observed=True)
        assert (share.mean() - 0.5).abs().max() < 0.08

    def test_only_salient_genes_change_with_treatment(self):
        adata = simulate(
            "contrastive", n_cells=8000, n_genes=60, n_types=1, n_latent=1, library_median=5000.0
        )
        x = adata.X.toarray()
        x /= x.sum(axis=1, keepdims=True)
        treated = (adata.obs["condition"] == "treated").to_numpy()
        a, b = x[treated], x[~treated]
        z = (a.mean(0) - b.mean(0)) / np.sqrt(a.var(0) / len(a) + b.var(0) / len(b))
        inside = adata.var["is_salient"] | adata.var["is_background"]
        assert np.abs(z[~inside]).max() < 4
        assert np.median(np.abs(z[adata.var["is_salient"]])) > 8
        assert adata.var["is_salient"].sum() == 12

    def test_strength_zero_is_no_treatment(self):
        adata = simulate("contrastive", salient_strength=0.0, **SMALL)
        assert not adata.var["is_salient"].any()


class TestSpatial:
    def test_proportions_come_from_whole_cells(self):
        _, spots = simulate("spatial", n_spots=50, cells_per_spot=4, **SMALL)
        proportions = spots.obsm["proportions"].to_numpy()
        np.testing.assert_allclose(proportions.sum(1), 1)
        np.testing.assert_allclose(proportions * 4, np.round(proportions * 4), atol=1e-12)
        assert (np.abs(spots.obsm["state"]) <= 2).all(axis=None)

    def test_spots_average_to_the_mix_of_true_expression(self):
        options = {"n_spots": 4000, "n_genes": 30, "n_cells": 60, "technology_effect": 0.0}
        reference, spots = simulate("spatial", **options)
        mix = sum(
            spots.obsm["proportions"][[k]].to_numpy()
            * expression_at(reference, k, spots.obsm["state"][k])
            for k in spots.obsm["proportions"]
        )
        library = spots.obs["library"].to_numpy()[:, None]
        expected, x = library * mix, spots.X.toarray()
        sd = (x - expected).std(0) / np.sqrt(len(x))
        assert (np.abs((x - expected).mean(0)) < 5 * sd).all()

    def test_neighbouring_spots_resemble_each_other(self):
        _, spots = simulate("spatial", n_spots=300, **SMALL)
        where, mix = spots.obsm["spatial"], spots.obsm["proportions"].to_numpy()
        gap = np.linalg.norm(where[:, None] - where[None], axis=-1)
        far = np.abs(mix[:, None] - mix[None]).sum(-1)
        assert far[(gap < 0.05) & (gap > 0)].mean() < 0.8 * far[gap > 0.3].mean()

    def test_both_objects_share_genes(self):
        reference, spots = simulate("spatial", **SMALL)
        assert list(reference.var_names) == list(spots.var_names)


class TestSystems:
    def test_private_types_live_in_one_system(self):
        adata = simulate("systems", n_cells=600, n_genes=20, n_systems=3, n_private=2)
        of_type = adata.obs.groupby("cell_type", observed=True)
        assert (of_type["is_private"].nunique() == 1).all()
        systems = of_type["system"].nunique()
        private = of_type["is_private"].first()
        assert (systems[private] == 1).all()
        assert (systems[~private] == 3).all()
        for system, types in adata.uns["private_types"].items():
            cells = adata.obs["cell_type"].isin(types)
            assert set(adata.obs["system"][cells]) == {system}

    def test_x_is_log_normalised_counts(self):
        adata = simulate("systems", **SMALL)
        counts = adata.layers["counts"].toarray()
        expected = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
        np.testing.assert_allclose(adata.X.toarray(), expected, rtol=1e-5)

    def test_bend_depends_on_the_latent_and_vanishes_at_strength_zero(self):
        rng = np.random.default_rng(0)
        latent = rng.normal(size=(20, 3)).astype(np.float32)
        system = np.arange(20) % 2
        bend = Bend.draw(rng, 2, 3, 10, 1.0)
        beyond_shift = bend.effect(latent, system) - bend.shift[system]
        assert beyond_shift.std(axis=0).min() > 0.05
        assert not Bend.draw(rng, 2, 3, 10, 0.0).effect(latent, system).any()

    def test_at_least_one_type(self):
        with pytest.raises(InvalidArgumentError, match="both 0"):
            simulate("systems", n_shared=0, n_private=0)


class TestSplicing:
    def test_totals_are_the_sum_of_their_event(self):
        splicing = simulate("splicing", n_cells=200, n_genes=50, n_events=80)["splicing"]
        event = splicing.var["event_id"].astype("category").cat.codes.to_numpy()
        member = np.eye(event.max() + 1)[event]
        y, n = splicing.X.toarray(), splicing.layers["cell_by_cluster_matrix"].toarray()
        np.testing.assert_array_equal(y @ member @ member.T, n)
        sizes = np.bincount(event)
        assert sizes.min() == 2
        assert sizes.max() <= 8

    def test_coverage_is_as_sparse_as_asked(self):
        splicing = simulate("splicing")["splicing"]
        n = splicing.layers["cell_by_cluster_matrix"]
        assert 0.03 < n.nnz / np.prod(n.shape) < 0.05
        assert n.data.mean() == pytest.approx(5.0, rel=0.05)

    def test_usage_sums_to_one_and_differs_only_in_differential_events(self):
        splicing = simulate("splicing", **SMALL, n_events=100)["splicing"]
        psi, var = splicing.varm["psi_truth"], splicing.var
        np.testing.assert_allclose(psi.groupby(var["event_id"].to_numpy()).sum(), 1)
        spread = np.ptp(psi.to_numpy(), axis=1)
        assert (spread[~var["is_differential"]] == 0).all()
        assert (spread[var["is_differential"]] > 0).all()

    def test_reads_average_to_the_usage_of_the_group(self):
        mdata = simulate(
            "splicing", n_cells=9000, n_genes=5, n_events=3, observed=0.9, concentration=200.0
        )
        splicing, group = mdata["splicing"], mdata.obs["splice_group"].to_numpy()
        for name, psi in splicing.varm["psi_truth"].items():
            cells = group == name
            y = np.asarray(splicing.X[cells].sum(axis=0)).ravel()
            n = np.asarray(splicing.layers["cell_by_cluster_matrix"][cells].sum(axis=0)).ravel()
            np.testing.assert_allclose(y / n, psi, atol=0.03)

    def test_cell_types_and_groups_are_independent(self):
        mdata = simulate("splicing", n_cells=6000, n_genes=5, n_events=3)
        table = mdata.obs.groupby(["cell_type", "splice_group"], observed=True).size().unstack()
        share = table.div(table.sum(axis=1), axis=0)
        assert (share - 1 / 3).abs().max(axis=None) < 0.06
        assert list(mdata.obs_names) == list(mdata["splicing"].obs_names)

    @pytest.mark.parametrize("bad", [{"observed": 1.0}, {"reads": 0.5}])
    def test_coverage_out_of_range(self, bad):
        with pytest.raises(InvalidArgumentError, match="observed < 1 <= reads"):
            simulate("splicing", **bad)
