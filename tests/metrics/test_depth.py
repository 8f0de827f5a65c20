"""Cells measured less deeply: what thinning keeps, what carries over, what is left inside a type."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from vivace import metrics
from vivace.errors import InvalidArgumentError


def counts(n_cells=400, n_genes=60, seed=0):
    rng = np.random.default_rng(seed)
    size = rng.uniform(2, 20, n_cells)[:, None]
    return sp.csr_matrix(rng.poisson(size, (n_cells, n_genes)).astype(np.float32))


def totals(x):
    return np.asarray(x.sum(axis=1)).ravel()


# thinning


def test_the_median_total_is_the_depth_and_cells_keep_their_differences():
    x = counts()
    thin = metrics.thin_to_depth(x, 40)
    assert np.median(totals(thin)) == pytest.approx(40, abs=3)
    assert np.corrcoef(totals(x), totals(thin))[0, 1] > 0.85


def test_thinned_counts_are_whole_no_more_than_before_and_in_proportion():
    x = counts()
    thin = metrics.thin_to_depth(x, 40)
    assert thin.dtype == x.dtype
    assert ((x - thin).toarray() >= 0).all()
    assert (thin.data == np.floor(thin.data)).all()
    assert (thin.data > 0).all(), "no stored zeros"
    share = 40 / np.median(totals(x))
    of_gene = np.asarray(thin.sum(axis=0) / x.sum(axis=0)).ravel()
    assert of_gene == pytest.approx(share, abs=0.02)
    variance = np.var(thin.toarray() - share * x.toarray())
    assert variance == pytest.approx(share * (1 - share) * x.mean(), rel=0.05), "binomial"


@pytest.mark.parametrize("cells", [np.arange(400) < 100, np.arange(100)], ids=["mask", "rows"])
def test_other_cells_stay_and_do_not_count(cells):
    x = counts()
    x[:100] *= 3  # whose median is not that of all
    thin = metrics.thin_to_depth(x, 40, cells=cells)
    assert (thin[100:] != x[100:]).nnz == 0
    assert np.median(totals(thin[:100])) == pytest.approx(40, abs=4)


def test_the_seed_decides_and_the_input_stays():
    x = counts()
    before = x.copy()
    once, again, other = (metrics.thin_to_depth(x, 40, seed=seed) for seed in (1, 1, 2))
    assert (once != again).nnz == 0
    assert (once != other).nnz > 0
    assert (x != before).nnz == 0
    assert (metrics.thin_to_depth(x.toarray(), 40, seed=1) != once).nnz == 0, "dense like sparse"


def test_what_is_not_deeper_or_empty_stays():
    x = counts()
    assert (metrics.thin_to_depth(x, 1e6) != x).nnz == 0
    assert (metrics.thin_to_depth(x, 1, cells=np.zeros(400, dtype=bool)) != x).nnz == 0
    assert metrics.thin_to_depth(np.zeros((3, 2)), 5).nnz == 0


@pytest.mark.parametrize("depth", [0, -3, np.nan])
def test_a_depth_of_nothing_is_refused(depth):
    with pytest.raises(InvalidArgumentError, match="depth="):
        metrics.thin_to_depth(counts(), depth)


@pytest.mark.parametrize("value", [-1.0, 0.5, np.nan])
def test_what_is_no_count_is_refused(value):
    with pytest.raises(InvalidArgumentError, match="whole numbers"):
        metrics.thin_to_depth(np.array([[value, 1.0]]), 5)


# transfer


def test_labels_come_from_deep_cells_alone():
    latent = np.array([[0.0], [0.1], [9.0], [9.1], [4.0]])
    labels = ["a", "b", "b", "a", "b"]
    shallow = np.array([False, True, False, True, True])
    found = metrics.depth_transfer(latent, labels, shallow, k=1)
    assert found == {"accuracy": 0.0, "balanced_accuracy": 0.0}


def test_it_is_label_transfer_of_the_two_halves():
    rng = np.random.default_rng(0)
    latent, labels = rng.normal(size=(90, 3)), rng.integers(3, size=90)
    shallow = rng.random(90) < 0.4
    there, away = ~shallow, shallow
    assert metrics.depth_transfer(latent, labels, shallow) == metrics.label_transfer(
        latent[there], labels[there], latent[away], labels[away]
    )


@pytest.mark.parametrize(
    "shallow", [[True, True], [False, False], [True], [0, 1]], ids=["all", "none", "few", "numbers"]
)
def test_a_mask_with_both_depths_is_needed(shallow):
    with pytest.raises(InvalidArgumentError, match="shallow"):
        metrics.depth_transfer([[0.0], [1.0]], ["a", "b"], shallow)


# inside a type


def states(n=120, n_genes=30, noise=0.5, seed=0):
    """Types a and b that differ by much, each with a gradient along the first axis."""
    rng = np.random.default_rng(seed)
    state, label = rng.uniform(-1, 1, (n, 1)), np.arange(n) % 2
    expression = state * rng.normal(size=(1, n_genes)) + 5 * label[:, None]
    return state, expression + noise * rng.normal(size=(n, n_genes)), label


def test_a_latent_space_with_the_gradient_beats_one_without():
    state, expression, label = states()
    kept = metrics.within_type_agreement(state, expression, label)
    rng = np.random.default_rng(1)
    lost = [
        metrics.within_type_agreement(rng.permutation(state), expression, label) for _ in range(30)
    ]
    assert kept > 0.5
    assert abs(np.mean(lost)) < 0.1, "by chance nothing, though the types differ"


@pytest.mark.parametrize("n", [3, 4, 8, 60])
def test_chance_is_zero_however_small_the_type(n):
    rng = np.random.default_rng(0)
    found = [
        metrics.within_type_agreement(rng.normal(size=(n, 2)), rng.normal(size=(n, 40)), ["a"] * n)
        for _ in range(60)
    ]
    assert np.mean(found) == pytest.approx(0, abs=0.05)


def test_more_neighbours_than_a_small_type_has_are_half_of_it():
    state, expression, _ = states(n=9, noise=0.1)
    found = metrics.within_type_agreement(state, expression, ["a"] * 9, k=15)
    assert found == metrics.within_type_agreement(state, expression, ["a"] * 9, k=4)
    assert found > 0.3


def test_sparse_expression_and_shifted_types_change_nothing():
    state, expression, label = states()
    found = metrics.within_type_agreement(state, expression, label)
    sparse = metrics.within_type_agreement(state, sp.csr_matrix(expression), label)
    moved = metrics.within_type_agreement(state, expression + 7 * label[:, None], label)
    assert (sparse, moved) == (pytest.approx(found), pytest.approx(found))


def test_types_count_alike_and_tiny_ones_not():
    state, expression, label = states()
    rows = np.r_[np.flatnonzero(label == 0), np.flatnonzero(label == 1)[:20]]
    both = metrics.within_type_agreement(state[rows], expression[rows], label[rows])
    each = [
        metrics.within_type_agreement(state[r], expression[r], label[r])
        for r in (rows[label[rows] == c] for c in (0, 1))
    ]
    assert both == pytest.approx(np.mean(each))
    named = np.array(["a"] * len(rows), dtype=object)
    rest = metrics.within_type_agreement(state[rows], expression[rows], named)
    named, extra = np.r_[named, ["b", "b"]], np.r_[rows, [0, 1]]
    assert metrics.within_type_agreement(state[extra], expression[extra], named) == rest


def test_cells_that_all_agree_give_zero_and_not_nan():
    assert metrics.within_type_agreement(np.zeros((5, 1)), np.ones((5, 4)), ["a"] * 5) == 0.0


@pytest.mark.parametrize(
    ("expression", "labels", "match"),
    [(np.zeros((2, 4)), "abc", "expression has 2 cells"), (np.zeros((3, 4)), "aab", "three cells")],
)
def test_too_little_to_compare_is_refused(expression, labels, match):
    with pytest.raises(InvalidArgumentError, match=match):
        metrics.within_type_agreement(np.zeros((3, 1)), expression, list(labels))


def test_missing_expression_is_refused():
    with pytest.raises(InvalidArgumentError, match="missing"):
        metrics.within_type_agreement(np.eye(4), np.full((4, 2), np.nan), ["a"] * 4)


def test_real_cells_by_their_own_principal_components(shared_data):
    """Components of whole counts know kinds better than those of counts thinned to 30."""
    from sklearn.decomposition import TruncatedSVD

    cells = anndata.read_h5ad(shared_data("worm_neuron_lowdepth.h5ad"))[:800]
    label = cells.obs["cell_type"].to_numpy().astype(str)
    shallow = np.arange(800) % 2 == 1

    def found(depth):
        x = metrics.thin_to_depth(cells.X, depth, cells=shallow).astype(np.float64)
        x.data = np.log1p(x.data * np.repeat(1e4 / np.maximum(totals(x), 1), np.diff(x.indptr)))
        latent = TruncatedSVD(20, random_state=0).fit_transform(x)
        return metrics.depth_transfer(latent, label, shallow)["accuracy"]

    assert found(30) < found(100) < found(1e6)
