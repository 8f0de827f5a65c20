"""Every model obeys the same laws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import vivace
from model_table import CASES, Case
from vivace.errors import InvalidArgumentError, NotTrainedError
from vivace.models import MODELS


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def train(case: Case, model: Any, **options: Any) -> Any:
    model.train(**{"max_epochs": 2, "progress": False, "seed": 0, **case.train, **options})
    return model


def test_every_model_has_a_row():
    assert set(CASES) == set(MODELS)


def test_set_up_train_save_load_same_latent(case: Case, watch, tmp_path):
    data = watch(case.data())
    model = train(case, case.build(data))
    latent = case.latent(model)
    assert np.isfinite(latent).all()
    loaded = vivace.load(model.save(tmp_path / "run"), data)
    assert type(loaded) is type(model)
    np.testing.assert_array_equal(case.latent(loaded), latent)
    assert loaded.training == model.training
    assert {k: v.to_dict() for k, v in loaded.history.items()} == {
        k: v.to_dict() for k, v in model.history.items()
    }


def test_the_same_seed_gives_the_same_weights_to_the_bit(case: Case):
    states = []
    for _ in range(2):
        torch.rand(1)  # the user's own draws change nothing
        states.append(train(case, case.build(case.data())).module.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_history_has_the_losses(case: Case):
    model = train(case, case.build(case.data()))
    for name in ("train_loss", "elbo_train", "reconstruction_loss_train", "kl_local_train"):
        assert len(model.history[name]) == 2
        assert np.isfinite(model.history[name]).all(axis=None)


def test_an_untrained_model_says_so(case: Case):
    with pytest.raises(NotTrainedError, match="train"):
        case.latent(case.build(case.data()))


def test_unknown_training_options_are_refused(case: Case):
    model = case.build(case.data())
    with pytest.raises(InvalidArgumentError, match='Did you mean "max_grad_norm"'):
        train(case, model, max_gradnorm=1.0)
    with pytest.raises(InvalidArgumentError, match="recipe"):
        train(case, model, recipe="slow")


def test_the_module_is_moved_and_asked_in_evaluation_mode(case: Case):
    model = train(case, case.build(case.data()))
    assert not model.module.training
    model.to_device("cpu")
    assert model.device == torch.device("cpu")


def test_training_twice_goes_on_and_appends(case: Case):
    model = train(case, case.build(case.data()))
    train(case, model)
    assert len(model.history["train_loss"]) == 4
