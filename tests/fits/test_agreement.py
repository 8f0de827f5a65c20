"""What many fits agree on, against counts made by hand."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from vivace.fits import agreement

RNG = np.random.default_rng(0)


def random_neighbours(n: int, k: int, fits: int) -> list[np.ndarray]:
    return [
        np.array([RNG.choice(np.delete(np.arange(n), i), k, replace=False) for i in range(n)])
        for _ in range(fits)
    ]


class TestNeighbours:
    def test_agreement_is_the_mean_overlap_of_pairs_of_fits(self):
        nearest = random_neighbours(30, 5, 4)
        pairs = [
            [len(np.intersect1d(a[i], b[i])) / 5 for i in range(30)]
            for a, b in combinations(nearest, 2)
        ]
        found = agreement.neighbour_agreement(agreement.shared_neighbours(nearest), 4)
        np.testing.assert_allclose(found, np.mean(pairs, axis=0), rtol=1e-12)

    def test_equal_fits_agree_wholly_and_random_ones_by_chance(self):
        same = random_neighbours(200, 10, 1) * 3
        assert agreement.overlap(*same[:2]) == pytest.approx(1)
        chance = agreement.overlap(*random_neighbours(200, 10, 2))
        assert chance == pytest.approx(10 / 199, abs=0.02)

    def test_nearest_cells_leave_the_cell_out_and_are_cut_to_what_there_is(self):
        latent = np.arange(4.0)[:, None]
        assert agreement.nearest_cells(latent, 9).shape == (4, 3)
        assert agreement.nearest_cells(latent, 1)[3] == 2

    def test_inside_groups_neighbours_are_of_the_same_group(self):
        groups = np.array(list("aabbbab"))
        found = agreement.within_groups(RNG.normal(size=(7, 2)), groups, 5)
        assert found.shape == (7, 2)  # the smallest group has three
        assert (groups[found] == groups[:, None]).all()


class TestClusters:
    CONSENSUS = np.repeat([0, 1, 2], [10, 6, 4])

    def row(self, *fits: np.ndarray, cluster: int = 0) -> dict:
        return agreement.cluster_table(self.CONSENSUS, fits).loc[cluster].to_dict()

    def test_the_same_clusters_under_other_numbers_are_stable(self):
        table = agreement.cluster_table(self.CONSENSUS, [2 - self.CONSENSUS] * 3)
        assert (table["stability"] == 1).all()
        assert (table["found_in"] == 3).all()
        assert (table[["splits_in", "merges_in"]] == 0).all().all()
        assert (table["merges_with"] == -1).all()

    def test_a_cluster_in_three_parts_is_split(self):
        parts = self.CONSENSUS.copy()
        parts[:10] = np.array([0, 0, 0, 0, 3, 3, 3, 4, 4, 4])
        row = self.row(parts)
        assert row["stability"] == pytest.approx(0.4)
        assert (row["found_in"], row["splits_in"], row["merges_in"]) == (0, 1, 0)

    def test_a_small_cluster_inside_a_large_one_is_merged_with_it(self):
        merged = np.where(self.CONSENSUS == 2, 0, self.CONSENSUS)
        row = self.row(merged, merged, self.CONSENSUS, cluster=2)
        assert row["stability"] == pytest.approx((4 / 14 + 4 / 14 + 1) / 3)
        assert (row["found_in"], row["splits_in"], row["merges_in"]) == (1, 0, 2)
        assert row["merges_with"] == 0

    def test_together_counts_pairs(self):
        fits = [RNG.integers(0, 3, 20) for _ in range(3)]
        found = agreement.together(self.CONSENSUS, fits)
        of_one = np.flatnonzero(self.CONSENSUS == 0)
        of_two = np.flatnonzero(self.CONSENSUS == 1)
        within = np.mean([[f[a] == f[b] for a, b in combinations(of_one, 2)] for f in fits])
        between = np.mean([[f[a] == f[b] for a in of_one for b in of_two] for f in fits])
        assert found[0, 0] == pytest.approx(within)
        assert found[0, 1] == found[1, 0] == pytest.approx(between)

    def test_a_cluster_of_one_cell_has_no_pair(self):
        found = agreement.together(np.array([0, 0, 1]), [np.array([0, 0, 0])])
        assert found[1, 1] == 0
        assert found[0, 1] == 1

    def test_consensus_finds_blobs_that_single_fits_shuffle(self):
        pytest.importorskip("igraph")
        latent = np.repeat([[0.0, 0], [9, 0], [0, 9]], [30, 20, 10], axis=0)
        fits = [agreement.nearest_cells(latent + RNG.normal(size=latent.shape)) for _ in range(3)]
        found = agreement.consensus_clusters(agreement.shared_neighbours(fits), 0, 0.5)
        assert found.tolist() == np.repeat([0, 1, 2], [30, 20, 10]).tolist()


class TestKinds:
    def test_planted_kinds_stand_and_a_kind_split_at_random_does_not(self):
        latent = np.repeat(np.eye(3) * 20, 60, axis=0)
        planted = np.repeat([0, 1, 2], 60)
        halves = np.where(planted == 2, RNG.integers(2, 4, 180), planted)
        nearest = [agreement.nearest_cells(latent + RNG.normal(size=(180, 3))) for _ in range(4)]
        real = agreement.label_table(nearest, planted, list("abc"))
        assert (real["found_in"] == 4).all()
        assert (real["stability"] > 0.99).all()
        noise = agreement.label_table(nearest, halves, list("abcd"))
        assert noise["found_in"].tolist() == [4, 4, 0, 0]

    def test_cells_of_no_known_kind_do_not_count_but_may_lie_around(self):
        nearest = [np.array([[1], [0], [0], [2]])]
        table = agreement.label_table(nearest, np.array([0, 0, -1, -1]), ["a"])
        assert table.loc["a", "cells"] == 2
        assert table.loc["a", "stability"] == pytest.approx(2 * 2 / (2 + 3))


class TestGenes:
    def test_ranks_and_shares_are_those_of_the_lists(self):
        probability = np.array([[0.9, 0.5, 0.1], [0.8, 0.8, 0.2]])
        change = np.array([[1.0, 1.0, 0.0], [1.0, -2.0, 0.0]])
        table = agreement.gene_table(probability, change, probability > 0.7, list("xyz"))
        assert table["found_in"].to_dict() == {"x": 2, "y": 1, "z": 0}
        assert table["rank"].to_dict() == {"x": 1.5, "y": 1.5, "z": 3}  # ties: the larger change
        assert table["probability"].round(2).to_dict() == {"x": 0.85, "y": 0.65, "z": 0.15}
        assert table.loc["x", "fold_change_spread"] == 0


class TestConsensus:
    def test_turned_copies_have_the_original_as_consensus(self):
        latent = RNG.normal(size=(40, 3))
        turns = [np.linalg.qr(RNG.normal(size=(3, 3)))[0] for _ in range(4)]
        found = agreement.consensus_latent([latent @ t + i for i, t in enumerate(turns)])
        assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(latent - latent.mean(0)))
        distances = np.linalg.norm(found[:, None] - found, axis=-1)
        expected = np.linalg.norm(latent[:, None] - latent, axis=-1)
        np.testing.assert_allclose(distances, expected, atol=1e-6)
