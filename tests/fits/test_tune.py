"""Trials of other options: what is searched, what is recommended, and what is refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import vivace
from model_table import CASES
from vivace.errors import (
    InvalidArgumentError,
    MissingDependencyError,
    TrainingError,
    UnknownOptionError,
    UnsupportedError,
)
from vivace.fits import tune as tuning
from vivace.fits.search import DEFAULT_SPACE, read_search


@pytest.fixture
def scvi():
    case = CASES["SCVI"]
    return case.build(case.data())


def quick(model, **options):
    given = {
        "minutes": 5,
        "n_trials": 2,
        "n_processes": 1,
        "progress": False,
        "search": {"n_latent": [2, 3], "lr": (1e-3, 1e-1)},
        "train_kwargs": {"max_epochs": 1},
        **options,
    }
    return vivace.tune(model, **given)


class TestSearch:
    @pytest.mark.parametrize("name", [n for n in CASES if n != "DestVI"])
    def test_every_model_has_something_to_search(self, name):
        case = CASES[name]
        space = read_search(case.build(case.data()), None)
        assert {"lr", "batch_size", "max_epochs"} <= space.keys() <= DEFAULT_SPACE.keys()
        assert ("gene_likelihood" in space) == (name not in ("SysVI", "CondSCVI"))

    @pytest.mark.parametrize(
        ("search", "error", "words"),
        [
            ({"n_latents": [2]}, UnknownOptionError, "n_latent"),
            ({"n_latent": [0]}, InvalidArgumentError, "n_latent=0"),
            ({"n_latent": 3}, InvalidArgumentError, "list of values"),
            ({"lr": (0.1, 0.01)}, InvalidArgumentError, "low < high"),
            ({"n_latent": []}, InvalidArgumentError, "list of values"),
            ({}, InvalidArgumentError, "search is empty"),
        ],
    )
    def test_mistakes(self, scvi, search, error, words):
        with pytest.raises(error, match=words):
            read_search(scvi, search)


class TestRecommendation:
    def test_a_clear_gain_is_needed(self):
        assert tuning.clearly_better(np.array([[3.0, 3.1, 2.9], [2.5, 2.6, 2.4]]))
        assert not tuning.clearly_better(np.array([[3.0, 3.5, 2.5], [2.9, 3.3, 2.5]]))
        assert not tuning.clearly_better(np.array([[3.0, 3.0, 3.0], [3.0, 3.0, 3.0]]))


class TestTuning:
    pytest.importorskip("optuna")

    def test_bad_defaults_are_found_out(self, scvi):
        """Training that hardly moves is worse than one that learns, and that is recommended."""
        found = quick(scvi, search={"max_epochs": [1, 20]}, train_kwargs=None, n_trials=4)
        found_bad = quick(
            scvi,
            search={"lr": [1e-6, 1e-2]},
            train_kwargs={"max_epochs": 10, "lr": 1e-6},
            n_trials=4,
        )
        assert found_bad.train_kwargs == {"lr": 1e-2}
        assert "clearly better" in found_bad.verdict
        assert (
            found_bad.comparison.loc["best", "test"] < found_bad.comparison.loc["defaults", "test"]
        )
        assert found.trials["score"].is_monotonic_increasing

    def test_good_defaults_stay(self, scvi):
        found = quick(scvi, search={"lr": [1e-6, 2e-6]})
        assert found.model_kwargs == found.train_kwargs == {}
        assert "The defaults are best" in found.verdict

    def test_a_search_goes_on_where_it_was(self, scvi, tmp_path):
        first = quick(scvi, out=tmp_path / "search")
        more = quick(scvi, out=tmp_path / "search", n_trials=1)
        assert len(first.trials) == 2
        assert len(more.trials) == 3
        assert more.trials["lr"].nunique() == 3  # none is tried again

    def test_no_time_is_said(self, scvi):
        found = quick(scvi, minutes=1e-9, n_trials=None)
        assert "give more minutes" in found.verdict
        assert found.comparison.index.tolist() == ["defaults"]
        assert found.model_kwargs == {}

    def test_a_trial_that_fails_does_not_count(self, scvi, monkeypatch):
        whole = tuning.scores

        def scores(trials, job):
            if job.chosen.get("n_latent") == 2:
                raise TrainingError("the loss is not finite")
            return whole(trials, job)

        monkeypatch.setattr(tuning, "scores", scores)
        found = quick(scvi, search={"n_latent": [2, 3]}, n_trials=6)
        assert set(found.trials["n_latent"]) == {3}

    def test_higher_is_better_where_it_is(self, scvi):
        scvi.adata.obs["kind"] = scvi.adata.obs["cell_type"]
        found = quick(scvi, measure="kinds", labels_key="kind", search={"n_latent": [2, 3]})
        assert found.trials["score"].is_monotonic_decreasing
        assert found.trials["score"].between(0, 1).all()
        assert quick(scvi, measure="mixing").comparison["test"].between(1, 3).all()

    def test_parts_do_not_overlap_and_hold_all_cells(self, scvi):
        plan = tuning.make_plan(scvi, None, ("neighbours",), None, None, None, None, None)
        parts = tuning.prepare(plan, "elbo", 0).parts
        assert sorted(np.concatenate(parts)) == list(range(scvi.adata.n_obs))

    def test_refusals(self, scvi):
        with pytest.raises(InvalidArgumentError, match="labels_key"):
            quick(scvi, measure="kinds")
        with pytest.raises(InvalidArgumentError, match="measure='loss'"):
            quick(scvi, measure="loss")
        with pytest.raises(InvalidArgumentError, match="minutes=0"):
            quick(scvi, minutes=0)
        spots = CASES["DestVI"]
        with pytest.raises(UnsupportedError, match="DestVI"):
            quick(spots.build(spots.data()))


def test_without_optuna_it_says_what_to_install(scvi, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingDependencyError, match=r"vivace\[tune\]"):
        quick(scvi)
