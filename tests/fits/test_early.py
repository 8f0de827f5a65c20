"""Trials that are ended before their training is over: when, which, and that nothing else ends them."""

from __future__ import annotations

import pickle
import time

import pytest

import vivace
from model_table import CASES
from vivace.fits import tune as tuning
from vivace.fits.early import FIRST_LOOK, PARTS, EndedEarlyError, Watch, median_rule

optuna = pytest.importorskip("optuna")


@pytest.fixture
def scvi():
    case = CASES["SCVI"]
    return case.build(case.data())


def study_with(losses: list[float], path=None):
    """A study with trials that had one loss in all parts."""
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    storage = None if path is None else JournalStorage(JournalFileBackend(str(path)))
    study = optuna.create_study(storage=storage, pruner=median_rule())
    for loss in losses:
        trial = study.ask()
        for part in range(1, PARTS + 1):
            trial.report(loss, part)
        study.tell(trial, loss)
    return study


def share_trained(model, watch: Watch, n_epochs: int = 10) -> float:
    """Share of its epochs that a watched model is trained for."""
    try:
        model.train(max_epochs=n_epochs, progress=False, callbacks=[watch])
    except EndedEarlyError as early:
        return early.share
    return 1.0


class TestWorseThanOthers:
    def test_a_plainly_worse_trial_ends_at_the_first_look(self, scvi):
        trial = study_with([1.0] * 5).ask()
        assert share_trained(scvi, Watch(trial=trial)) == FIRST_LOOK / PARTS

    def test_a_better_trial_goes_on(self, scvi):
        trial = study_with([1e9] * 5).ask()
        assert share_trained(scvi, Watch(trial=trial)) == 1.0

    def test_few_others_end_nothing(self, scvi):
        trial = study_with([1.0] * 4).ask()
        assert share_trained(scvi, Watch(trial=trial)) == 1.0

    @pytest.mark.parametrize(("n_epochs", "share"), [(1, 1.0), (3, 2 / 3), (25, 0.4)])
    def test_trials_of_any_length_compare_by_the_part(self, scvi, n_epochs, share):
        trial = study_with([1.0] * 5).ask()
        assert share_trained(scvi, Watch(trial=trial), n_epochs) == pytest.approx(share)

    def test_each_part_is_told_once(self, scvi):
        study = study_with([])
        share_trained(scvi, Watch(trial=study.ask()), n_epochs=25)
        assert sorted(study.trials[0].intermediate_values) == list(range(1, PARTS))

    def test_without_a_held_out_loss_nothing_is_told(self, scvi):
        study = study_with([1.0] * 5)
        watch = Watch(trial=study.ask())
        scvi.train(max_epochs=2, train_size=1.0, progress=False, callbacks=[watch])
        assert study.trials[-1].intermediate_values == {}

    def test_another_process_sees_the_same_study(self, scvi, tmp_path):
        study = study_with([1.0] * 5, tmp_path / "trials.log")
        watch = pickle.loads(pickle.dumps(Watch(trial=study.ask())))
        assert share_trained(scvi, watch) == FIRST_LOOK / PARTS
        assert max(study.trials[-1].intermediate_values) == FIRST_LOOK


class TestTime:
    def test_training_ends_with_it(self, scvi):
        assert share_trained(scvi, Watch(ends=time.monotonic())) == 0.1

    def test_a_trial_that_cannot_be_over_in_time_is_not_waited_for(self, scvi):
        watch = Watch(ends=time.monotonic() + 60)
        assert share_trained(scvi, watch, n_epochs=10**6) < 1e-4

    def test_a_training_that_is_over_is_not_ended(self, scvi):
        assert share_trained(scvi, Watch(ends=time.monotonic()), n_epochs=1) == 1.0


class TestClock:
    @pytest.mark.parametrize("processes", [1, 2, 16])
    def test_a_trial_that_becomes_the_best_leaves_the_time_to_fit_it_again(self, processes):
        """Trial + comparison = all of the time: t + 3 (each + t) / processes, of 6 fits at most 6 at once."""
        now, each = time.monotonic(), 10.0
        clock = tuning.Clock(now + 100, each, processes)
        trial = clock.last_trial(study_with([])) - now
        comparison = tuning.REPEATS * (each + trial) / min(processes, 6)
        assert trial + comparison == pytest.approx(100, abs=0.1)

    def test_the_best_so_far_is_reserved_for(self):
        study, now = study_with([]), time.monotonic()
        trial = study.ask()
        trial.set_user_attr(tuning.SECONDS, 50.0)
        study.tell(trial, 1.0)
        assert tuning.Clock(now + 100, 10.0, 2).last_trial(study) - now == pytest.approx(
            100 - 1.5 * (10 + 50), abs=0.1
        )


class TestTuning:
    def tune(self, scvi, **options):
        given = {"minutes": 5, "n_processes": 1, "progress": False, **options}
        return vivace.tune(scvi, **given)

    def test_what_is_worse_ends_early_is_told_and_is_not_taken(self, scvi, tmp_path):
        options = {"search": {"lr": [1e-6, 1e-2]}, "train_kwargs": {"max_epochs": 10}}
        options["out"] = tmp_path / "search"
        found = self.tune(scvi, n_trials=10, **options)
        early = found.trials["trained"] < 1
        assert 0 < early.sum() < 6
        assert (found.trials["lr"][early] == 1e-6).all()
        assert found.trials["score"].isna().equals(early)
        assert found.trials["score"].dropna().is_monotonic_increasing
        assert "10 trials" in found.verdict
        more = self.tune(scvi, n_trials=1, **options)
        assert len(more.trials) == 11
        assert (more.trials["trained"] < 1).sum() >= early.sum()

    def test_a_trial_of_more_than_the_time_is_ended(self, scvi):
        started = time.monotonic()
        found = self.tune(
            scvi, minutes=0.05, search={"max_epochs": [10**6]}, train_kwargs={"max_epochs": 1}
        )
        assert time.monotonic() - started < 30  # a million epochs take days
        assert (found.trials["trained"] < 1).all()
        assert "give more minutes" in found.verdict
        assert found.train_kwargs == {}

    def test_another_measure_is_not_judged_by_the_loss(self, scvi):
        options = {"search": {"lr": [1e-6, 1e-2]}, "train_kwargs": {"max_epochs": 10}}
        found = self.tune(scvi, n_trials=10, measure="mixing", **options)
        assert (found.trials["trained"] == 1).all()
