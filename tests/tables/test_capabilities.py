"""What a model says of itself is so."""

from __future__ import annotations

import inspect

import pytest

from vivace.models import MODELS


@pytest.mark.parametrize("name", MODELS)
def test_flags_say_which_questions_there_are(name: str):
    model = MODELS[name]
    assert model.compares_groups == hasattr(model, "differential_expression")
    assert model.simulates_counts == hasattr(model, "posterior_predictive_sample")


@pytest.mark.parametrize("name", MODELS)
def test_latent_spaces_are_arguments_of_the_question(name: str):
    model = MODELS[name]
    known = inspect.signature(model.get_latent_representation).parameters
    assert model.latent_spaces
    for space in model.latent_spaces.values():
        assert space.keys() <= known.keys()
    assert ("representation_kind" in known) == (len(model.latent_spaces) > 1)
