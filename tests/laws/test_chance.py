"""One rule of chance for every model, whatever the session and its threads do.

Training takes its seed, and a question draws from ``vivace.settings.seed``: asked twice it has the same
answer, and with another seed other draws. The session's generators are left alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

import vivace
from model_table import CASES, Case
from vivace._settings import default_seed

GROUPS = {"idx1": range(40), "idx2": range(60, 100), "n_samples_overall": 20}
DRAWS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "get_latent_representation": {
        "a draw": lambda m: m.get_latent_representation(give_mean=False),
    },
    "get_normalized_expression": {
        "draws": lambda m: m.get_normalized_expression(n_samples=3),
        "cells drawn": lambda m: m.get_normalized_expression(n_samples_overall=7),
    },
    "get_normalized_splicing": {"draws": lambda m: m.get_normalized_splicing(n_samples=3)},
    "impute_splicing": {"draws": lambda m: m.impute_splicing([0, 1], [2, 3])},
    "get_likelihood_parameters": {"of a draw": lambda m: m.get_likelihood_parameters()["mean"]},
    "posterior_predictive_sample": {"draws": lambda m: m.posterior_predictive_sample()},
    "get_elbo": {"by a draw": lambda m: m.get_elbo(return_mean=False)},
    "get_reconstruction_error": {
        "by a draw": lambda m: m.get_reconstruction_error(return_mean=False)
    },
    "get_marginal_ll": {"by draws": lambda m: m.get_marginal_ll(n_mc_samples=5, return_mean=False)},
    "differential_expression": {"draws": lambda m: m.differential_expression(**GROUPS)},
    "get_feature_correlation_matrix": {
        "draws": lambda m: m.get_feature_correlation_matrix(n_samples=2),
    },
    "differential_abundance": {
        "cells drawn of a sample": lambda m: m.differential_abundance(
            sample_key="batch", num_cells_posterior=5
        ),
    },
    "differential_splicing": {"draws": lambda m: m.differential_splicing(**GROUPS)},
}
"""Questions that ask for draws, of the models that have them."""
NO_SUCH = {
    ("CondSCVI", "cells drawn"),
    ("DestVI", "a draw"),
    ("SysVI", "cells drawn"),
}
MEANS: dict[str, Callable[[Any], Any]] = {
    "get_latent_representation": lambda m: m.get_latent_representation(),
    "get_proportions": lambda m: m.get_proportions(),
    "get_proportion_uncertainty": lambda m: m.get_proportion_uncertainty(n_draws=2),
    "get_gamma": lambda m: m.get_gamma(return_numpy=True),
    "get_scale_for_ct": lambda m: m.get_scale_for_ct(m.cell_type_mapping[0]),
    "get_vamp_prior": lambda m: m.get_vamp_prior(p=3),
    "get_library_size_factors": lambda m: m.get_library_size_factors(),
    "get_normalized_splicing": lambda m: m.get_normalized_splicing(),
}
"""Questions that ask for none."""


def mean_expression(model: Any) -> Any:
    of_mean = {"use_z_mean": True} if type(model).__name__ == "SPLICEVI" else {"use_mean": True}
    return model.get_normalized_expression(**of_mean)


@pytest.fixture(scope="module", params=CASES)
def model(request: pytest.FixtureRequest) -> Any:
    return trained(CASES[request.param])


def trained(case: Case) -> Any:
    model = case.build(case.data())
    model.train(max_epochs=2, progress=False, **case.train)
    return model


def generators() -> list[bytes]:
    _, keys, *rest = np.random.get_state()
    return [
        torch.random.get_rng_state().numpy().tobytes(),
        keys.tobytes() + repr(rest).encode(),
        repr(random.getstate()).encode(),
    ]


def flat(answer: Any) -> np.ndarray:
    """All numbers of an answer in a row."""
    if isinstance(answer, dict):
        return np.concatenate([flat(value) for value in answer.values()])
    if isinstance(answer, tuple | list):
        return np.concatenate([flat(value) for value in answer])
    if sparse.issparse(answer):
        answer = answer.toarray()
    if isinstance(answer, pd.DataFrame):  # by name: tables of genes come sorted by what was found
        answer = answer.sort_index().select_dtypes("number").to_numpy()
    return np.asarray(answer, dtype=float).ravel()


def draws_of(model: Any) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    for question, ways in DRAWS.items():
        for way, ask in ways.items():
            known = (type(model).__name__, way) not in NO_SUCH
            if hasattr(model, question) and known:
                yield f"{question}: {way}", ask


def test_draws_follow_the_seed_and_the_same_question_has_the_same_answer(model: Any):
    for name, ask in draws_of(model):
        first = flat(ask(model))
        before = generators()
        np.testing.assert_array_equal(flat(ask(model)), first, err_msg=name)
        assert generators() == before, name
        with default_seed(1):
            assert not np.array_equal(flat(ask(model)), first), f"{name}: the seed does not matter"


def test_draws_of_one_answer_differ(model: Any):
    if hasattr(model, "get_normalized_expression"):
        draws = model.get_normalized_expression(n_samples=2, return_mean=False)
        draws = draws["salient"] if isinstance(draws, dict) else draws
        assert not np.array_equal(draws[0], draws[1])


def test_means_do_not_depend_on_the_seed(model: Any):
    asked = {name: ask for name, ask in MEANS.items() if hasattr(model, name)}
    if type(model).__name__ == "DestVI":  # whose spots have no state of their own by default
        del asked["get_latent_representation"]
    if hasattr(model, "get_normalized_expression"):
        asked["get_normalized_expression"] = mean_expression
    for name, ask in asked.items():
        before = generators()
        first = flat(ask(model))
        assert generators() == before, name
        with default_seed(1):
            np.testing.assert_array_equal(flat(ask(model)), first, err_msg=name)


# training ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_building_and_training_leave_the_sessions_generators_alone(name: str):
    case = CASES[name]
    data = case.data()
    before = generators()
    model = case.build(data)
    model.train(max_epochs=1, progress=False, **case.train)
    assert generators() == before


@pytest.mark.parametrize("name", ["SCVI", "ContrastiveVI", "SPLICEVI"])
def test_threads_that_train_at_once_end_with_the_weights_of_one_alone(name: str):
    case = CASES[name]

    def weights(seed: int, data: Any) -> dict[str, torch.Tensor]:
        model = case.build(data)
        model.train(max_epochs=2, progress=False, seed=seed, **case.train)
        return model.module.state_dict()

    seeds = [0, 1, 0, 1, 0, 1]
    data = [case.data() for _ in seeds]
    alone = {seed: weights(seed, data[0]) for seed in (0, 1)}
    before = generators()
    with float64_by_default(), ThreadPoolExecutor(4) as pool:
        together = list(pool.map(weights, seeds, data))
        assert torch.get_default_dtype() == torch.float64
    assert generators() == before
    for seed, found in zip(seeds, together, strict=True):
        assert all(torch.equal(value, alone[seed][key]) for key, value in found.items())


# the session ------------------------------------------------------------------------------------


@contextmanager
def float64_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def checked_for_determinism() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def device_by_default() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


SESSIONS: dict[str, Callable[[], Any]] = {
    "default dtype": float64_by_default,
    "default device": device_by_default,
    "device as a context": lambda: torch.device("meta"),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "deterministic algorithms": checked_for_determinism,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


def session() -> tuple[Any, ...]:
    """What of torch's session must be as it was."""
    return (
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_autocast_enabled("cpu"),
    )


def run(case: Case, data: Any, folder: Path) -> np.ndarray:
    """All verbs: building, training, asking, loading, asking again."""
    model = case.build(data)
    model.train(max_epochs=1, progress=False, **case.train)
    latent = case.latent(model)
    loaded = vivace.load(model.save(folder), data)
    np.testing.assert_array_equal(case.latent(loaded), latent)
    return latent


@pytest.mark.parametrize("name", CASES)
def test_what_the_session_has_set_does_not_matter(name: str, tmp_path):
    case = CASES[name]
    data = case.data()
    plain = run(case, data, tmp_path / "plain")
    for how, enter in SESSIONS.items():
        with ExitStack() as stack:
            stack.enter_context(enter())
            before = session()
            found = run(case, data, tmp_path / how)
            assert session() == before, how
        assert found.dtype == plain.dtype, how
        np.testing.assert_array_equal(found, plain, err_msg=how)


def test_the_session_is_as_it_was_after_an_error():
    model = trained(CASES["SCVI"])
    with float64_by_default(), torch.no_grad():
        before = session()
        with pytest.raises(vivace.errors.VivaceError):
            model.get_normalized_expression(gene_list=["none"])
        with pytest.raises(vivace.errors.VivaceError):
            model.train(max_epochs=1, early_stopping=True, train_size=1.0, progress=False)
        assert session() == before
    assert trained(CASES["SCVI"]) is not None  # and the next one finds the door open
