"""Numbers and names as arguments: right, or refused in one sentence, by every verb of every model."""

from __future__ import annotations

import copy
import inspect
import json
from typing import Any

import numpy as np
import pytest
import torch

import vivace
from model_table import CASES
from vivace._arguments import RULES, Range, read_number, read_option
from vivace.errors import InvalidArgumentError, UnknownOptionError, VivaceError
from vivace.models import MODELS

# the reader -------------------------------------------------------------------------------------

NO_NUMBERS = [True, np.True_, "10", "", [10], np.array([10]), b"1", 1j, object(), {}, (1,)]


@pytest.mark.parametrize(
    "value", [*NO_NUMBERS, None, 10.5, float("nan"), float("inf"), 0, -3, 10**400]
)
def test_a_size_is_a_whole_number_above_zero(value: Any):
    with pytest.raises(InvalidArgumentError, match=r"n_latent=.* must be (a whole number )?> 0"):
        read_option("n_latent", value)


@pytest.mark.parametrize(
    "value", [10, 10.0, np.int8(10), np.uint64(10), np.float16(10), np.array(10), torch.tensor(10)]
)
def test_numbers_of_every_library_are_whole_numbers(value: Any):
    read = read_option("n_latent", value)
    assert type(read) is int
    assert read == 10


def test_no_option_takes_what_is_no_number():
    for name, rule in RULES.items():
        for value in [*NO_NUMBERS, float("nan"), float("-inf"), float("inf"), "latents"]:
            with pytest.raises(InvalidArgumentError, match=f"^{name}=.* must be a") as told:
                read_option(name, value)
            assert str(rule) in str(told.value)


@pytest.mark.parametrize(
    ("rule", "inside", "outside"),
    [
        (Range(0, 1), [0, 1, 0.5], [-1e-9, 1 + 1e-9]),
        (Range(0, 1, above=True), [1e-9, 1], [0, 2]),
        (Range(0, 1, below=True), [0, 0.999], [1, -1]),
        (Range(0), [0, 1e300 * 0, 5], [-1e-300]),
        (Range(0, above=True), [1e-300], [0, -0.0]),
        (Range(0, 3, whole=True), [0, 3], [4, 0.5]),
    ],
)
def test_ends_of_ranges(rule: Range, inside: list[float], outside: list[float]):
    for value in inside:
        assert read_number("x", value, rule) == value
    for value in outside:
        with pytest.raises(InvalidArgumentError):
            read_number("x", value, rule)


def test_words_and_none_where_they_mean_something():
    assert read_option("library_size", "latent") == "latent"
    assert read_option("delta", None) is None
    assert read_option("max_grad_norm", None, default=None) is None
    with pytest.raises(InvalidArgumentError, match="or 'latent'"):
        read_option("library_size", "Latent")


@pytest.mark.parametrize("value", [True, np.True_, 1, np.int64(1)])
def test_flags(value: Any):
    assert read_option("use_observed_lib_size", value, default=False) is True
    for wrong in ("False", None, 2, 0.5, []):
        with pytest.raises(InvalidArgumentError, match="must be True or False"):
            read_option("use_observed_lib_size", wrong, default=False)


# the verbs --------------------------------------------------------------------------------------


def numeric_options() -> list[tuple[str, str]]:
    """Every number that a constructor takes, of the models that are built from data alone."""
    return [
        (name, option)
        for name, model in MODELS.items()
        if name != "DestVI"
        for option in inspect.signature(model).parameters
        if option in RULES
    ]


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    return {name: case.build(case.data()) for name, case in CASES.items()}


@pytest.mark.parametrize(("name", "option"), numeric_options())
def test_constructors_refuse_what_is_out_of_range(models: dict[str, Any], name: str, option: str):
    for value in (-3, float("nan"), "3", 10.5 if RULES[option].whole else 10**400):
        with pytest.raises(InvalidArgumentError, match=rf"^{option}="):
            MODELS[name](models[name].adata, **{option: value})


@pytest.mark.parametrize("name", [n for n in CASES if n != "DestVI"])
def test_numbers_of_a_tuner_are_saved_and_come_back(models: dict[str, Any], name: str, tmp_path):
    options = {
        "n_hidden": np.int64(8),
        "dropout_rate": np.float32(0.25),
        "n_layers_encoder" if name == "SPLICEVI" else "n_layers": np.float32(1),
    }
    data = models[name].adata
    model = MODELS[name](data, **options)
    train = {
        "max_epochs": np.int32(1),
        "lr": np.float64(1e-3),
        "batch_size": 32.0,
        "seed": np.uint8(3),
    }
    model.train(progress=False, **train, **CASES[name].train)
    loaded = vivace.load(model.save(tmp_path / "run"), data)
    assert loaded.options == model.options
    assert all(type(v) in (int, float, str, bool, type(None)) for v in model.options.values())
    assert json.loads(json.dumps(model.training)) == model.training


@pytest.mark.parametrize("name", CASES)
def test_an_unknown_option_names_the_models_class_and_the_nearest_name(
    models: dict[str, Any], name: str
):
    model = models[name]
    build = MODELS[name]
    if name == "DestVI":
        build = lambda data, **options: MODELS[name].from_model(data, None, **options)  # noqa: E731
    near = "dropout_rat" if name != "DestVI" else "n_states_per_labl"
    for wrong in (near, "n_batch" if name != "DestVI" else "n_spots", "nonsense"):
        with pytest.raises(UnknownOptionError, match=f'^{name}.* has no option "{wrong}"') as told:
            build(model.adata, **{wrong: 1})
        assert wrong != near or f'Did you mean "{near[:-1]}' in str(told.value)
        assert '"self"' not in str(told.value)
    with pytest.raises(TypeError, match=f"^{name}"):  # as Python itself has it
        build(model.adata, nonsense=1)


@pytest.mark.parametrize("name", CASES)
def test_training_refuses_what_it_does_not_know(models: dict[str, Any], name: str):
    model = models[name]
    before = copy.deepcopy(model.module.state_dict())
    for wrong, words in (
        ({"max_epoch": 3}, '"max_epochs"'),
        ({"train_sizes": 0.5}, '"train_size"'),
        ({"plan_kwargs": {"kl_weights": 1}}, 'plan_kwargs has no option "kl_weights".*"kl_weight"'),
        ({"plan_kwargs": {"tensors": 1}}, 'no option "tensors"'),
        ({"plan_kwargs": {"lr": "fast"}}, "lr='fast'"),
        ({"plan_kwargs": ["lr"]}, "must be a dict"),
        ({"datasplitter_kwargs": {"external": 1}}, '"external_indexing"'),
        ({"datasplitter_kwargs": 5}, "must be a dict"),
        ({"lr": float("nan")}, "lr=nan"),
        ({"seed": -1}, "seed=-1 must be in"),
        ({"seed": 2**40}, "seed="),
        ({"max_epochs": 0}, "max_epochs=0"),
        ({"train_size": "0.9"}, "train_size="),
        ({"early_stopping_patience": -1}, "early_stopping_patience=-1"),
        ({"shuffle_set_split": "no"}, "must be True or False"),
        ({"early_stopping_monitor": "elbo_valid"}, 'Did you mean "elbo_validation"'),
        ({"devices": 0}, "devices=0"),
        ({"devices": [-1]}, "devices=-1"),
        ({"accelerator": "CPU"}, 'Did you mean "cpu"'),
    ):
        with pytest.raises(VivaceError, match=words):
            model.train(**{"max_epochs": 1, "progress": False, **CASES[name].train, **wrong})
    assert not model.is_trained
    assert all(torch.equal(value, before[key]) for key, value in model.module.state_dict().items())


def test_every_argument_of_the_loss_can_be_given_in_plan_kwargs(models: dict[str, Any]):
    model = models["SysVI"]
    model.train(
        max_epochs=1, progress=False, plan_kwargs={"z_distance_cycle_weight": np.float32(1)}
    )
    assert model.training["loss_options"] == {"z_distance_cycle_weight": 1.0}


def test_a_term_that_only_one_model_has_can_be_watched(models: dict[str, Any]):
    model = copy.deepcopy(models["JointEmbeddingSCVI"])
    model.train(max_epochs=1, progress=False, early_stopping_monitor="cco_loss_train")
    plain = copy.deepcopy(models["JointEmbeddingSCVI"])
    plain.train(max_epochs=1, progress=False)
    weights = plain.module.state_dict()  # trying a minibatch out has changed nothing
    assert all(torch.equal(v, weights[k]) for k, v in model.module.state_dict().items())
    for wrong in ("cco_loss_validation", "cco_los_train"):  # held-out cells have no second view
        with pytest.raises(InvalidArgumentError, match="'cco_loss_train'"):
            plain.train(max_epochs=1, progress=False, early_stopping_monitor=wrong)


def test_questions_read_their_numbers(models: dict[str, Any]):
    model = models["SCVI"]
    model.train(max_epochs=1, progress=False)
    assert model.get_normalized_expression(n_samples=2.0, return_mean=False).shape == (2, 120, 30)
    for wrong, words in (
        ({"n_samples": 0}, "n_samples=0 must be > 0"),
        ({"batch_size": -1}, "batch_size=-1"),
        ({"library_size": "latents"}, "library_size="),
        ({"return_numpy": "no"}, "must be True or False"),
        ({"n_sample": 3}, 'no option "n_sample". Did you mean "n_samples"'),
    ):
        with pytest.raises(InvalidArgumentError, match=words):
            model.get_normalized_expression(**wrong)


@pytest.mark.parametrize(
    ("given", "nearest"), [("NB", "nb"), ("ZINB", "zinb"), ("Poisson", "poisson")]
)
def test_a_choice_is_found_whatever_its_case(models: dict[str, Any], given: str, nearest: str):
    with pytest.raises(InvalidArgumentError, match=f'Did you mean "{nearest}"'):
        vivace.SCVI(models["SCVI"].adata, gene_likelihood=given)


def test_verbs_keep_their_signatures_and_words():
    assert "n_latent" in inspect.signature(vivace.SCVI).parameters
    assert next(iter(inspect.signature(vivace.ContrastiveVI.train).parameters)) == "self"
    assert "Parameters" in (vivace.SCVI.get_latent_representation.__doc__ or "")
    assert vivace.SCVI.load.__self__ is vivace.SCVI


# settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [-1, 2**40, 1.5, "3", None, True, float("nan")])
def test_settings_refuse_a_seed_that_is_none(seed: Any):
    with pytest.raises(InvalidArgumentError, match="seed="):
        vivace.settings.seed = seed
    assert vivace.settings.seed == 0


def test_settings_know_their_names():
    with pytest.raises(
        VivaceError, match=r'vivace\.settings has no option "sed"\. Did you mean "seed"'
    ):
        vivace.settings.sed = 1
    assert not hasattr(vivace.settings, "sed")
    vivace.settings.seed = np.int64(7)
    try:
        assert type(vivace.settings.seed) is int
    finally:
        vivace.settings.seed = 0
