"""Which options suit these data: trials within a time, and an honest comparison with the defaults."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from vivace._arguments import read_option
from vivace._settings import default_seed, settings
from vivace._types import Keys
from vivace.errors import (
    InvalidArgumentError,
    TrainingError,
    UnsupportedError,
    VivaceError,
    check_choice,
    require,
)
from vivace.fits.early import EndedEarlyError, Watch, median_rule
from vivace.fits.folder import kept_in, open_folder
from vivace.fits.one import first_space
from vivace.fits.plan import Plan
from vivace.fits.progress import Tell, fits_bar
from vivace.fits.search import Space, parts_of, read_search, suggest
from vivace.fits.side_by_side import Report, as_they_end, how_many
from vivace.fits.stability import make_plan
from vivace.metrics import ilisi, knn_balanced_accuracy
from vivace.models.base import BaseModel
from vivace.models.destvi import DestVI
from vivace.tables.capabilities import HasBound
from vivace.tables.cells import column_of
from vivace.train.callbacks import read_callbacks

MEASURES = ("elbo", "kinds", "mixing")
SHARES = (0.8, 0.1, 0.1)
"""Of cells that are learned from, that trials are judged by, and that only the last comparison sees."""
REPEATS = 3
"""Seeds of the last comparison."""
CLEARLY = 2.0
"""Standard errors by which a choice must be better than the defaults to be taken."""
TRIALS_FILE = "trials.log"
TRAINED = "trained"
"""Column of trials: the share of its epochs that each was trained for."""
SECONDS = "seconds"
"""Column of trials: what each took."""


@dataclass(frozen=True)
class Tuned:
    """What trials of other options came to.

    Attributes
    ----------
    model_kwargs, train_kwargs
        Options to give; empty if nothing was clearly better than the defaults.
    trials
        One row a trial, best first: the options, ``score``, ``trained`` and ``seconds``. One that was
        plainly worse than the others, or for which there was no more time, was ended after the share
        ``trained`` of its epochs and has no score.
    importance
        Share of the variance of the score that each option explains, largest first.
    comparison
        Rows "defaults" and "best": ``validation`` and ``test``, means over three seeds, and the standard
        errors of both, ``validation_se`` and ``test_se``.
    measure
        What is compared; of "elbo" lower is better (nats per cell), of the others higher.
    verdict
        What was found, in a sentence or two.
    """

    model_kwargs: dict[str, Any]
    train_kwargs: dict[str, Any]
    trials: pd.DataFrame
    importance: pd.Series
    comparison: pd.DataFrame
    measure: str
    verdict: str

    def code(self, model: str = "Model") -> str:
        """Lines to paste."""
        return (
            f"model = vivace.{model}(adata, **{self.model_kwargs})\n"
            f"model.train(**{self.train_kwargs})"
        )


@dataclass(frozen=True)
class Trials:
    """A plan, and what its trials share: which cells each part holds, and the measure."""

    plan: Plan
    parts: tuple[np.ndarray, np.ndarray, np.ndarray] = field(repr=False)
    measure: str
    seed: int

    @property
    def sign(self) -> float:
        """Turns the measure into one of which lower is better."""
        return 1.0 if self.measure == "elbo" else -1.0


def tune(
    model: BaseModel | type[BaseModel],
    adata: Any = None,
    *,
    minutes: float = 10.0,
    n_trials: int | None = None,
    search: Mapping[str, Any] | None = None,
    measure: str = "elbo",
    labels_key: str | None = None,
    train_kwargs: Mapping[str, Any] | None = None,
    seed: int | None = None,
    n_processes: int | None = None,
    out: str | Path | None = None,
    progress: bool = True,
    tell: Tell | None = None,
) -> Tuned:
    """Try other options of a model and its training on these data, within a time.

    A tenth of the cells judges the trials, and another tenth is looked at once, at the end. The best
    trial and the defaults are then fitted with three new seeds each, and the options of the trial are
    recommended only if they are better on the judging cells by two standard errors; the comparison on
    cells that nothing was chosen by is told beside it. Trials that are plainly worse than the others, or
    that cannot be over in time, are ended early. Needs ``vivace[tune]`` (optuna: a tree of Parzen
    estimators, Bergstra et al. 2011).

    Parameters
    ----------
    model, adata
        As in :func:`vivace.stability`.
    minutes
        Time for all of it; the defaults are fitted whatever it is.
    n_trials
        Stop after so many; default when the time is over.
    search
        Option of the model or of ``train`` to a list of values or a (low, high) range; default width,
        depth, latent dimensions, dropout, likelihood, learning rate, minibatch and epochs.
    measure
        "elbo", the held-out loss in nats per cell, lower is better; "kinds", the mean over kinds of cells
        of the share whose 15 neighbours name it; "mixing", the iLISI of the batches.
    labels_key
        Column of ``obs`` with kinds of cells; default the one that was set up.
    train_kwargs
        Arguments of ``train`` for all trials.
    seed
        Of parts and trials; default ``vivace.settings.seed``.
    n_processes
        Trials at once; default as many as cores and memory allow.
    out
        Folder to keep the trials in; called again with it, a search goes on.
    progress
        Show a progress bar, if the terminal is one.
    tell
        Where it is none, called with a line after each.

    Raises
    ------
    InvalidArgumentError, UnknownOptionError
        If an argument is out of range, or an option is not there.
    UnsupportedError
        For DestVI, which holds out no spots, and measures without the column they need.
    MissingDependencyError
        If optuna is not installed.
    TrainingError
        If the defaults cannot be fitted.

    Examples
    --------
    >>> import vivace
    >>> adata = vivace.datasets.simulate("batches", n_cells=200, n_genes=30)
    >>> vivace.SCVI.setup_anndata(adata)
    >>> found = vivace.tune(vivace.SCVI, adata, minutes=5)  # doctest: +SKIP
    >>> print(found.verdict)  # doctest: +SKIP
    """
    started = time.monotonic()
    optuna_or_refuse()
    minutes = read_option("minutes", minutes)
    n_trials = read_option("n_trials", n_trials, None)
    plan = make_plan(model, adata, ("neighbours",), labels_key, None, None, None, train_kwargs)
    trials = prepare(plan, measure, settings.seed if seed is None else read_option("seed", seed))
    space = read_search(plan.model(), search)
    processes = read_option("n_processes", n_processes, None) or how_many(plan)
    with kept_in(out) as folder:
        open_folder(folder, plan)
        began = time.monotonic()
        scores(trials, Job())  # refuses what cannot be fitted, and says how long it takes
        each = time.monotonic() - began
        clock = Clock(started + 60 * minutes, each, processes)
        bar = fits_bar(show=progress, words="Trials", tell=tell)
        study = run_trials(trials, space, folder, clock, n_trials, bar)
        return conclude(trials, study, processes)


def optuna_or_refuse() -> Any:
    """The module optuna, quiet."""
    try:
        import optuna
    except ImportError as error:
        raise require("optuna", "tune") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


@dataclass(frozen=True)
class Clock:
    """How long trials may go on, so that the last comparison is over when all of the time is.

    Parameters
    ----------
    ends
        When the time is over, of ``time.monotonic()``.
    each
        Seconds of a fit with the defaults.
    processes
        Fits at once.
    """

    ends: float
    each: float
    processes: int

    def last_trial(self, study: Any) -> float:
        """When a trial that begins now must be over, of ``time.monotonic()``.

        Were it the best, the comparison would fit it, as the defaults, ``REPEATS`` times.
        """
        times = REPEATS / min(self.processes, 2 * REPEATS)
        best = best_of(study)
        of_best = self.each if best is None else best.user_attrs.get(SECONDS, self.each)
        now = time.monotonic()
        left = self.ends - now - times * self.each
        return now + min(left - times * of_best, left / (1 + times))


def prepare(plan: Plan, measure: str, seed: int) -> Trials:
    """Deal the cells to the parts, and look whether the measure can be taken."""
    check_choice("measure", measure, MEASURES)
    model = plan.model()
    if isinstance(model, DestVI):
        msg = "tune: DestVI learns numbers of each spot, so that there is no held-out spot to judge by"
        raise UnsupportedError(msg)
    if measure == "kinds" and plan.labels_key is None:
        raise InvalidArgumentError(
            'measure="kinds" needs a column with kinds of cells: labels_key="cell_type"'
        )
    if measure == "mixing" and column_of(model, Keys.BATCH) is None:
        raise InvalidArgumentError(
            'measure="mixing" needs data that were set up with a batch: batch_key="batch"'
        )
    n = model._cells().n_cells
    order = np.random.default_rng(seed).permutation(n)
    first, second = round(SHARES[0] * n), round((SHARES[0] + SHARES[1]) * n)
    if min(first, second - first, n - second) < 2:
        raise InvalidArgumentError(f"{n} cells are too few to learn from some and judge by others")
    learned, judging, last = np.split(order, [first, second])
    return Trials(plan, (np.sort(learned), np.sort(judging), np.sort(last)), measure, seed)


@dataclass(frozen=True)
class Job:
    """A fit: its number, the options that differ from the defaults, its seed, and who may end it."""

    number: int = 0
    chosen: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    watch: Watch | None = None


def fitted(trials: Trials, job: Job) -> BaseModel:
    """The model with some options, trained on the cells that are learned from."""
    plan = trials.plan
    own, of_training = parts_of(job.chosen)
    options = {**plan.train, **of_training}
    options["datasplitter_kwargs"] = {"external_indexing": list(trials.parts)}
    if job.watch is not None:
        options["callbacks"] = [*read_callbacks(options.get("callbacks")), job.watch]
    with default_seed(trials.seed if job.seed is None else job.seed):
        model = plan.model().untrained(**own)
        model.train(**{**options, "progress": False})
    if model.training["stopped"] == "interrupted":
        raise KeyboardInterrupt
    return model


def scores(trials: Trials, job: Job) -> tuple[float, float]:
    """The measure on the judging cells and on the last ones, lower is better."""
    model = fitted(trials, job)
    with default_seed(trials.seed):
        return (
            measured(trials, model, trials.parts[1]) * trials.sign,
            measured(trials, model, trials.parts[2]) * trials.sign,
        )


def measured(trials: Trials, model: BaseModel, rows: np.ndarray) -> float:
    """The measure on some cells."""
    if trials.measure == "elbo":
        return -float(cast("HasBound", model).get_elbo(indices=rows))
    obs = trials.plan.adata.obs.iloc[rows]
    latent = first_space(model, rows)
    if trials.measure == "mixing":
        return ilisi(latent, obs[column_of(model, Keys.BATCH)])
    known = obs[trials.plan.labels_key].notna().to_numpy()
    return knn_balanced_accuracy(latent[known], obs[trials.plan.labels_key][known])


# trials -----------------------------------------------------------------------------------------


def run_trials(
    trials: Trials,
    space: Space,
    folder: Path,
    clock: Clock,
    n_trials: int | None,
    bar: AbstractContextManager[Report],
) -> Any:
    """An optuna study with the trials of a folder and those that the time allows."""
    study = study_of(folder, trials.seed)
    wanted = len(study.trials) + (math.inf if n_trials is None else n_trials)
    asked: dict[int, Any] = {}

    def jobs() -> Iterator[Job]:
        """The next trial, whenever a process is free."""
        while len(study.trials) < wanted and time.monotonic() < (ends := clock.last_trial(study)):
            trial = study.ask()
            asked[trial.number] = trial
            yield Job(trial.number, suggest(trial, space), watch=watch_of(trials, trial, ends))

    with bar as report:
        for done, (job, outcome, seconds) in enumerate(several(trials, jobs(), clock.processes), 1):
            tell(study, asked.pop(job.number), outcome, seconds)
            report(done, n_trials, clock.last_trial(study) - time.monotonic())
    for trial in asked.values():
        tell(study, trial, "its process was ended from outside", 0.0)
    return study


def watch_of(trials: Trials, trial: Any, ends: float) -> Watch:
    """Who ends a trial early: only by the held-out loss if that is what is asked for."""
    return Watch(ends, trial if trials.measure == "elbo" else None)


def study_of(folder: Path, seed: int) -> Any:
    """The study that is kept in a folder."""
    optuna = optuna_or_refuse()
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    study = optuna.create_study(
        study_name="vivace",
        storage=JournalStorage(JournalFileBackend(str(folder / TRIALS_FILE))),
        pruner=median_rule(),
        load_if_exists=True,
    )
    # another seed than of the trials that are there: a search that goes on would repeat them
    fresh = (seed + len(study.trials)) % 2**32
    with warnings.catch_warnings():  # of releases in which trials side by side were new
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.sampler = optuna.samplers.TPESampler(seed=fresh, constant_liar=True)
    return study


Outcome = tuple[float, float] | EndedEarlyError | str
"""Scores of a fit; that it was ended early; or why there are none."""


def tell(study: Any, trial: Any, outcome: Outcome, seconds: float) -> None:
    """Keep what a trial came to; of one that was ended early, when; of one that failed, why."""
    from optuna.trial import TrialState

    trial.set_user_attr(SECONDS, seconds)
    if isinstance(outcome, tuple):
        study.tell(trial, outcome[0])
    elif isinstance(outcome, EndedEarlyError):
        trial.set_user_attr(TRAINED, outcome.share)
        study.tell(trial, state=TrialState.PRUNED)
    else:
        trial.set_user_attr("error", outcome)
        study.tell(trial, state=TrialState.FAIL)


def several(
    trials: Trials, jobs: Iterable[Job], processes: int
) -> Iterator[tuple[Job, Outcome, float]]:
    """What several fits came to and how many seconds they took, in the order in which they end."""
    if processes == 1:
        return (timed(trials, job) for job in jobs)
    return as_they_end(timed, trials, jobs, processes)


def timed(trials: Trials, job: Job) -> tuple[Job, Outcome, float]:
    """What a fit came to, and how many seconds it took."""
    began = time.monotonic()
    outcome = attempt(trials, job)
    return job, outcome, time.monotonic() - began


def attempt(trials: Trials, job: Job) -> Outcome:
    """What a fit came to."""
    try:
        found = scores(trials, job)
    except EndedEarlyError as early:
        return early
    except (VivaceError, MemoryError, ArithmeticError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return found if all(map(math.isfinite, found)) else "the score is not finite"


# what came of them ------------------------------------------------------------------------------


def conclude(trials: Trials, study: Any, processes: int) -> Tuned:
    """Compare the best trial with the defaults, and say what is recommended."""
    table = trial_table(study, trials.sign)
    trial = best_of(study)
    best: dict[str, Any] = {} if trial is None else dict(trial.params)
    options = [{}, best] if best else [{}]
    jobs = [
        Job(at * REPEATS + i, chosen, trials.seed + 1 + i)
        for at, chosen in enumerate(options)
        for i in range(REPEATS)
    ]
    ended = {job.number: outcome for job, outcome, _ in several(trials, jobs, processes)}
    found = [ended.get(job.number, "its process was ended from outside") for job in jobs]
    wrong = next((each for each in found if isinstance(each, str)), None)
    if wrong is not None:
        raise TrainingError(f"the last comparison failed: {wrong}")
    values = np.array(found).reshape(len(options), REPEATS, 2)
    comparison = comparison_table(values, trials.sign)
    better = bool(best) and clearly_better(values[:, :, 0])
    own, of_training = parts_of(best if better else {})
    return Tuned(
        model_kwargs=own,
        train_kwargs=of_training,
        trials=table,
        importance=importance(study, table),
        comparison=comparison,
        measure=trials.measure,
        verdict=verdict(comparison, trials.measure, table, better=better),
    )


def best_of(study: Any) -> Any:
    """The best trial that was trained to its end; None if there is none."""
    try:
        return study.best_trial
    except ValueError:
        return None


def trial_table(study: Any, sign: float) -> pd.DataFrame:
    """One row a trial that did not fail, best first, those that were ended early last."""
    from optuna.trial import TrialState

    rows = [
        {
            **trial.params,
            "score": sign * trial.value if trial.state == TrialState.COMPLETE else math.nan,
            TRAINED: trial.user_attrs.get(TRAINED, 1.0),
            SECONDS: trial.user_attrs.get(SECONDS, math.nan),
        }
        for trial in study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
    ]
    table = pd.DataFrame(rows, columns=None if rows else ["score", TRAINED, SECONDS])
    table = table.sort_values("score", ascending=sign > 0, kind="stable", ignore_index=True)
    return table.rename_axis("place")


def comparison_table(values: np.ndarray, sign: float) -> pd.DataFrame:
    """Means and standard errors over seeds, from (options, seeds, parts) scores."""
    mean, error = values.mean(axis=1) * sign, values.std(axis=1, ddof=1) / math.sqrt(REPEATS)
    return pd.DataFrame(
        {
            "validation": mean[:, 0],
            "validation_se": error[:, 0],
            "test": mean[:, 1],
            "test_se": error[:, 1],
        },
        index=["defaults", "best"][: len(values)],
    )


def clearly_better(values: np.ndarray) -> bool:
    """Whether the second of two rows of scores is lower, by two standard errors of the difference.

    Examples
    --------
    >>> clearly_better(np.array([[3.0, 3.1, 2.9], [2.0, 2.1, 1.9]]))
    True
    >>> clearly_better(np.array([[3.0, 3.1, 2.9], [2.9, 3.1, 2.9]]))
    False
    """
    gain = values[0].mean() - values[1].mean()
    error = math.sqrt((values.var(axis=1, ddof=1) / values.shape[1]).sum())
    return bool(gain > CLEARLY * error)


def importance(study: Any, table: pd.DataFrame) -> pd.Series:
    """What mattered: share of the variance of the score (fANOVA, Hutter et al. 2014)."""
    if table["score"].count() < 4 or table["score"].nunique() < 2:
        return pd.Series(dtype=float, name="importance")
    optuna = optuna_or_refuse()
    found = optuna.importance.get_param_importances(study)
    return pd.Series(found, name="importance").sort_values(ascending=False)


def verdict(comparison: pd.DataFrame, measure: str, table: pd.DataFrame, *, better: bool) -> str:
    """What was found, in words."""
    unit = {"elbo": "held-out loss, nats per cell", "kinds": "accuracy", "mixing": "iLISI"}[measure]
    if len(comparison) == 1:
        return "The time was over before a trial of other options ended; give more minutes."
    first, second = comparison.loc["defaults"], comparison.loc["best"]
    told = (
        f"{unit} on cells that nothing was chosen by: {first['test']:.4g} with the defaults, "
        f"{second['test']:.4g} with the best of {len(table)} trials "
        f"(standard errors {first['test_se']:.2g} and {second['test_se']:.2g} over {REPEATS} seeds)."
    )
    if better:
        return f"Other options are clearly better. {told}"
    return f"The defaults are best: no trial was clearly better. {told}"
