"""Metrics against values written out by hand, other programs, invariances and corner cases."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from vivace import metrics
from vivace.errors import InvalidArgumentError, MissingDependencyError

LABELLED = {
    "silhouette": metrics.silhouette,
    "lisi": lambda z, y: metrics.lisi(z, y).mean(),
    "ilisi": metrics.ilisi,
    "clisi": metrics.clisi,
    "knn_accuracy": metrics.knn_accuracy,
    "knn_balanced_accuracy": metrics.knn_balanced_accuracy,
    "nmi": lambda z, y: metrics.nmi_ari(z, y)["nmi"],
    "ari": lambda z, y: metrics.nmi_ari(z, y)["ari"],
}
FOLDED = ("knn_accuracy", "knn_balanced_accuracy")


@pytest.fixture(params=sorted(LABELLED))
def name(request):
    return request.param


def blobs(n=240, n_labels=3, gap=4.0, n_latent=4, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_labels
    return rng.normal(size=(n, n_latent)) + gap * np.eye(n_labels, n_latent)[labels], labels


# laws of all measures of a labelled latent space


def test_order_of_cells_does_not_matter(name):
    z, y = blobs(gap=8.0 if name in FOLDED else 3.0)  # folds depend on the order: separable there
    order = np.random.default_rng(1).permutation(len(y))
    assert LABELLED[name](z[order], y[order]) == pytest.approx(LABELLED[name](z, y), abs=1e-3)


def test_names_of_labels_do_not_matter(name):
    z, y = blobs(gap=1.5)
    renamed = np.array(["zz", "m", "a"])[y]
    assert LABELLED[name](z, renamed) == pytest.approx(LABELLED[name](z, y), abs=1e-12)


def test_shift_rotation_and_scale_do_not_matter(name):
    z, y = blobs(gap=1.5)
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(4, 4)))
    assert LABELLED[name](7 * z @ turn + 3, y) == pytest.approx(LABELLED[name](z, y), abs=1e-9)


def test_float32_and_lists_are_fine(name):
    z, y = blobs(gap=3.0)
    one = LABELLED[name](z.astype(np.float32), list(y))
    assert one == pytest.approx(LABELLED[name](z, y), abs=1e-3)


def test_well_separated_labels_reach_the_best_value(name):
    z, y = blobs(gap=1000.0)
    best = {"lisi": 1, "ilisi": 1, "clisi": 1}.get(name, 1)
    assert LABELLED[name](z, y) == pytest.approx(best, abs=0.01)


def test_identical_cells_are_finite(name):
    assert np.isfinite(LABELLED[name](np.zeros((30, 2)), np.arange(30) % 2))


def test_two_cells_two_labels_are_finite(name):
    assert np.isfinite(LABELLED[name]([[0.0], [1.0]], ["a", "b"]))


@pytest.mark.parametrize(
    ("z", "y", "message"),
    [
        (np.zeros((3, 2)), [0, 1], "2 values for 3 cells"),
        (np.zeros(3), [0, 1, 0], "shape"),
        (np.zeros((3, 0)), [0, 1, 0], "shape"),
        (np.zeros((0, 2)), [], "shape"),
        ([[0.0], [np.nan], [1.0]], [0, 1, 0], "missing or infinite values in 1 of 3"),
        ([[0.0], [np.inf], [1.0]], [0, 1, 0], "missing or infinite"),
        (np.zeros((3, 2)), [0, None, 1], "missing for 1 cells"),
        (np.zeros((3, 2)), [0, np.nan, 1], "missing for 1 cells"),
        (np.zeros((1, 2)), [0], "at least 2"),
    ],
)
def test_bad_input_is_named(name, z, y, message):
    with pytest.raises(InvalidArgumentError, match=message):
        LABELLED[name](z, y)


@pytest.mark.parametrize("one_label", ["silhouette", "ilisi", "clisi", "knn_accuracy"])
def test_one_label_is_refused_where_it_means_nothing(one_label):
    with pytest.raises(InvalidArgumentError, match="Found 1"):
        LABELLED[one_label](np.random.default_rng(0).normal(size=(9, 2)), ["a"] * 9)


class TestSilhouette:
    def test_by_hand(self):
        # cells at 0 and 1 (label a), 4 (label b, alone): s = 1 - 1/4, 1 - 1/3, 0
        value = metrics.silhouette([[0.0], [1.0], [4.0]], ["a", "a", "b"])
        assert value == pytest.approx((3 / 4 + 2 / 3 + 0) / 3)

    def test_agrees_with_scikit_learn(self):
        from sklearn.metrics import silhouette_score

        z, y = blobs(gap=1.0, n=301)
        assert metrics.silhouette(z, y) == pytest.approx(silhouette_score(z, y), abs=1e-12)

    def test_blocks_give_the_same_as_one_pass(self):
        from sklearn.metrics import silhouette_score

        z, y = blobs(n=2500)  # 2,500² entries are more than one block
        assert metrics.silhouette(z, y) == pytest.approx(silhouette_score(z, y), abs=1e-12)

    def test_against_the_formula_cell_by_cell(self):
        z, y = blobs(n=60, gap=1.0)
        z, y = np.vstack([z, z[:1]]) + 1e6, np.append(y, 3)  # far away, and one cell alone
        widths = []
        for i in range(60):
            to = {label: np.linalg.norm(z[y == label] - z[i], axis=1) for label in range(4)}
            a = to[y[i]].sum() / (len(to[y[i]]) - 1)
            b = min(d.mean() for label, d in to.items() if label != y[i])
            widths.append((b - a) / max(a, b))
        assert metrics.silhouette(z, y) == pytest.approx(np.mean([*widths, 0]), abs=1e-12)

    def test_cells_that_lie_together_have_none(self):
        z = np.tile(np.random.default_rng(0).normal(size=5), (40, 1))
        assert metrics.silhouette(z, np.arange(40) % 2) == 0

    def test_subset_is_seeded_and_close(self):
        z, y = blobs(n=3000, gap=2.0)
        one, again, other = (metrics.silhouette(z, y, max_cells=500, seed=s) for s in (0, 0, 1))
        assert one == again != other
        assert one == pytest.approx(metrics.silhouette(z, y), abs=0.03)


class TestLisi:
    def test_even_neighbourhood_counts_labels(self):
        # one point at the centre, all others at distance 1: weights are equal
        z = np.vstack([np.zeros(90), np.eye(90)])
        y = np.array([0, *(np.arange(90) % 3)])
        assert metrics.lisi(z, y)[0] == pytest.approx(3.0)

    def test_by_hand_with_two_neighbours(self):
        # fewer than 3 * 30 others: both are neighbours, perplexity max(1, 2 / 3) = 1: the nearest counts
        index = metrics.lisi([[0.0], [1.0], [3.0]], ["a", "b", "a"])
        np.testing.assert_allclose(index, 1.0, atol=1e-6)

    def test_weights_have_the_perplexity_and_the_exponential_shape(self):
        from vivace.metrics.mixing import _weights

        d = np.sort(np.random.default_rng(0).exponential(size=(5, 90)), axis=1)
        p = _weights(d, 30.0)
        np.testing.assert_allclose(np.exp(-(p * np.log(p)).sum(1)), 30.0, rtol=1e-8)
        slope = np.diff(np.log(p), axis=1) / np.diff(d, axis=1)  # constant: log p is linear in d
        np.testing.assert_allclose(slope, slope[:, :1].repeat(89, axis=1), rtol=1e-5)

    def test_against_the_formula_cell_by_cell(self):
        from scipy.optimize import brentq

        z, y = blobs(n=150, gap=1.0)
        got = metrics.lisi(z, y, perplexity=10)
        for cell in (0, 77):
            d = np.linalg.norm(z - z[cell], axis=1)
            near = np.argsort(d)[1:31]

            def share(beta, d=d[near]):
                p = np.exp(-beta * d)
                return p / p.sum()

            beta = brentq(
                lambda b, share=share: -(share(b) * np.log(share(b))).sum() - np.log(10), 1e-6, 30.0
            )
            of_label = np.bincount(y[near], share(beta), minlength=3)
            assert got[cell] == pytest.approx(1 / (of_label**2).sum(), rel=1e-6)

    def test_random_labels_mix_and_scaled_ends_are_0_and_1(self):
        z = np.random.default_rng(0).normal(size=(2000, 3))
        y = np.arange(2000) % 4
        assert metrics.ilisi(z, y) > 3.2
        assert metrics.ilisi(z, y, scaled=True) == pytest.approx((metrics.ilisi(z, y) - 1) / 3)
        assert metrics.clisi(z, y, scaled=True) == pytest.approx((4 - metrics.clisi(z, y)) / 3)
        apart, y = blobs(gap=1000.0, n=600)
        assert metrics.ilisi(apart, y, scaled=True) == pytest.approx(0, abs=1e-9)
        assert metrics.clisi(apart, y, scaled=True) == pytest.approx(1, abs=1e-9)

    def test_perplexity_must_be_positive(self):
        with pytest.raises(InvalidArgumentError, match="perplexity"):
            metrics.lisi(*blobs(), perplexity=0)


class TestTransfer:
    def test_by_hand(self):
        got = metrics.label_transfer(
            [[0.0], [1.0], [2.0], [10.0]], list("aaab"), [[1.0], [9.0], [9.5]], list("abb"), k=1
        )
        assert got == {"accuracy": 1.0, "balanced_accuracy": 1.0}
        got = metrics.label_transfer(
            [[0.0], [1.0], [2.0], [10.0]], list("aaab"), [[1.0], [9.0], [3.0]], list("abb"), k=3
        )
        assert got == {"accuracy": pytest.approx(1 / 3), "balanced_accuracy": 0.5}

    def test_tie_goes_to_the_nearer_label_whatever_its_name(self):
        for first, second in ["ab", "ba"]:
            got = metrics.predict_labels([[0.0], [3.0]], [first, second], [[1.0], [2.0]], k=2)
            assert got.tolist() == [first, second]

    def test_k_beyond_the_reference_uses_all_of_it(self):
        got = metrics.predict_labels([[0.0], [1.0], [9.0]], list("aab"), [[9.0]], k=100)
        assert got.tolist() == ["a"]

    def test_label_unknown_to_the_reference_is_missed(self):
        got = metrics.label_transfer([[0.0]], ["a"], [[0.0], [0.0]], ["a", "new"])
        assert got == {"accuracy": 0.5, "balanced_accuracy": 0.5}

    def test_agrees_with_scikit_learn(self):
        from sklearn.neighbors import KNeighborsClassifier

        z, y = blobs(gap=1.0, n=300)
        model = KNeighborsClassifier(7, weights="uniform").fit(z[:200], y[:200])
        chance = model.predict_proba(z[200:])
        clear = (chance == chance.max(1, keepdims=True)).sum(1) == 1
        got = metrics.predict_labels(z[:200], y[:200], z[200:], k=7)
        assert (got[clear] == model.predict(z[200:])[clear]).all()

    def test_balanced_accuracy_weighs_labels_equally(self):
        rng = np.random.default_rng(0)
        z = rng.normal(size=(1000, 2))
        y = (np.arange(1000) < 30).astype(int)  # a rare label at random: never the majority
        assert metrics.knn_accuracy(z, y) == pytest.approx(0.97)
        assert metrics.knn_balanced_accuracy(z, y) == pytest.approx(0.5)

    def test_folds_are_stratified_and_even(self):
        from vivace.metrics.transfer import _deal

        codes = np.repeat([0, 1], [50, 10])
        fold = _deal(codes, 5, seed=3)
        assert (np.bincount(fold) == 12).all()
        assert (np.bincount(fold[codes == 1]) == 2).all()

    def test_labels_of_fewer_cells_than_folds(self):
        z, _ = blobs(n=12, n_labels=4)
        y = np.array([0] * 3 + [1] * 3 + [2] * 5 + [3])  # every other cell is elsewhere
        near = np.eye(4)[y] * 1000 + z
        assert metrics.knn_accuracy(near, y, k=1) == pytest.approx(11 / 12)
        assert metrics.knn_balanced_accuracy(near, y, k=1) == pytest.approx(3 / 4)
        assert metrics.knn_accuracy(z, np.arange(12), k=1) == 0

    def test_balanced_accuracy_is_the_mean_over_labels(self):
        z, y = blobs(gap=0.5, n=90)
        y = np.where(np.arange(90) < 60, y, 0)
        truth = np.where(y == 2, 5, y)  # no reference cell has the label 5, no query cell 2
        found = metrics.predict_labels(z, y, z)
        got = metrics.label_transfer(z, y, z, truth)["balanced_accuracy"]
        assert got == pytest.approx(np.mean([(found == t)[truth == t].mean() for t in (0, 1, 5)]))

    @pytest.mark.parametrize(
        ("options", "message"),
        [({"k": 0}, "k=0"), ({"folds": 1}, "1 folds"), ({"k": 1.5}, "k=1.5")],
    )
    def test_bad_options(self, options, message):
        with pytest.raises(InvalidArgumentError, match=message):
            metrics.knn_accuracy(*blobs(), **options)

    def test_dimensions_must_agree(self):
        with pytest.raises(InvalidArgumentError, match="2 dimensions"):
            metrics.predict_labels(np.zeros((3, 1)), [0, 0, 1], np.zeros((2, 2)))


class TestClusters:
    def test_by_hand(self):
        one, two = list("aaabbb"), [0, 0, 1, 1, 1, 1]
        # pairs together: both 1 + 3 = 4, first 6, second 1 + 6 = 7, all 15; expected 2.8
        assert metrics.ari(one, two) == pytest.approx((4 - 2.8) / (6.5 - 2.8))
        h1, h2 = np.log(2), -(np.log(1 / 3) / 3 + 2 * np.log(2 / 3) / 3)
        joint = -(np.log(1 / 3) / 3 + np.log(1 / 6) / 6 + np.log(1 / 2) / 2)
        assert metrics.nmi(one, two) == pytest.approx(2 * (h1 + h2 - joint) / (h1 + h2))

    def test_agrees_with_scikit_learn(self):
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

        rng = np.random.default_rng(0)
        one, two = rng.integers(5, size=200), rng.integers(3, size=200)
        two = np.where(rng.random(200) < 0.5, one % 3, two)
        assert metrics.ari(one, two) == pytest.approx(adjusted_rand_score(one, two))
        assert metrics.nmi(one, two) == pytest.approx(normalized_mutual_info_score(one, two))

    def test_against_the_formulas(self):
        rng = np.random.default_rng(1)
        one, two = rng.integers(4, size=50), rng.integers(3, size=50)
        p = np.array([[((one == a) & (two == b)).mean() for b in range(3)] for a in range(4)])

        def entropy(p):
            return -(p[p > 0] * np.log(p[p > 0])).sum()

        h = entropy(p.sum(0)) + entropy(p.sum(1))
        assert metrics.nmi(one, two) == pytest.approx(2 * (h - entropy(p)) / h, abs=1e-12)
        both, first, second, every = (
            (n * (n - 1) / 2).sum() for n in (50 * p, 50 * p.sum(1), 50 * p.sum(0), np.array(50))
        )
        by_chance = first * second / every
        expected = (both - by_chance) / ((first + second) / 2 - by_chance)
        assert metrics.ari(one, two) == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize(("one", "two"), [([0, 0, 0], [1, 1, 1]), ([0], [0]), ([0, 1], [1, 0])])
    def test_trivial_labellings_agree_fully(self, one, two):
        assert metrics.ari(one, two) == 1
        assert metrics.nmi(one, two) == 1

    def test_one_group_against_many_is_no_agreement(self):
        assert metrics.nmi([0] * 4, range(4)) == 0
        assert metrics.ari([0] * 4, range(4)) == 0

    def test_seed_is_used_and_unknown_method_named(self):
        z, y = blobs(gap=1.0)
        assert metrics.nmi_ari(z, y, seed=1) == metrics.nmi_ari(z, y, seed=1)
        with pytest.raises(InvalidArgumentError, match="kmeans"):
            metrics.nmi_ari(z, y, method="kmean")

    def test_leiden_without_igraph_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "igraph", None)
        with pytest.raises(MissingDependencyError, match=r"vivace\[clusters\]"):
            metrics.nmi_ari(*blobs(), method="leiden")

    def test_leiden_finds_blobs(self):
        got = metrics.nmi_ari(*blobs(gap=30.0), method="leiden", resolution=0.1)
        assert got == {"nmi": 1.0, "ari": 1.0}
