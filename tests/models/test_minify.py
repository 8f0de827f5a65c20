"""Minified cells: the same answers without counts, and clear words where counts are needed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import vivace
from vivace.errors import InvalidArgumentError, InvalidDataError, MissingKeyError


@pytest.fixture
def model():
    adata = vivace.datasets.simulate("batches", n_cells=90, n_genes=30)
    vivace.SCVI.setup_anndata(adata, batch_key="batch")
    model = vivace.SCVI(adata, n_hidden=16)
    model.train(max_epochs=2, progress=False)
    return model


def answers(model, *args) -> list[np.ndarray]:
    torch.manual_seed(0)
    return [
        model.get_latent_representation(*args),
        *model.get_latent_representation(*args, return_dist=True),
        model.get_latent_library_size(*args, give_mean=False),
        model.get_normalized_expression(
            *args,
            library_size="latent",
            use_mean=True,
            return_numpy=True,
            transform_batch="batch_1",
        ),
        model.get_likelihood_parameters(*args)["dispersions"],
    ]


def test_answers_stay(model, watch):
    before = watch(model.adata)
    wanted = answers(model)
    small = model.minify_adata()
    assert small is model.adata
    assert small is not before
    assert small.X is None
    assert before.X is not None
    for found, value in zip(answers(model), wanted, strict=True):
        np.testing.assert_allclose(found, value, rtol=2e-4, atol=1e-6)
    assert model.posterior_predictive_sample().shape == (90, 30)
    assert model.module.minified_data_type == "latent_posterior_parameters"


def test_saved_and_loaded_with_the_small_cells(model, tmp_path):
    full = model.adata
    wanted = answers(model)
    small = model.minify_adata()
    loaded = vivace.load(model.save(tmp_path / "run"), small)
    assert loaded.module.minified_data_type == "latent_posterior_parameters"
    for found, value in zip(answers(loaded), wanted, strict=True):
        np.testing.assert_allclose(found, value, rtol=2e-4, atol=1e-6)
    with pytest.raises(MissingKeyError, match="vivace_latent_mean"):
        vivace.load(tmp_path / "run", full)


@pytest.mark.parametrize(
    "question",
    [
        lambda m: m.get_elbo(),
        lambda m: m.get_reconstruction_error(),
        lambda m: m.get_marginal_ll(n_mc_samples=2),
        lambda m: m.differential_expression(groupby="cell_type"),
        lambda m: m.train(max_epochs=1, progress=False),
        lambda m: m.minify_adata(),
    ],
    ids=["elbo", "reconstruction", "marginal", "differential", "train", "again"],
)
def test_what_needs_counts_says_so(model, question):
    model.minify_adata()
    with pytest.raises((InvalidArgumentError, InvalidDataError), match="minified"):
        question(model)


def test_a_latent_library_needs_its_counts():
    adata = vivace.datasets.simulate("batches", n_cells=60, n_genes=20)
    vivace.SCVI.setup_anndata(adata)
    model = vivace.SCVI(adata, use_observed_lib_size=False)
    model.train(max_epochs=1, progress=False)
    with pytest.raises(InvalidArgumentError, match="use_observed_lib_size=True"):
        model.minify_adata()


def test_minifying_twice_is_said_to_be_done_already(model):
    model.minify_adata()
    with pytest.raises(InvalidArgumentError, match="minified already"):
        model.minify_adata()
