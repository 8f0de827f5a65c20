"""Importance weights: against float64 formulas, against integrals over a grid, and through a model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import Normal

import vivace
from vivace._types import Keys
from vivace.analysis.importance import (
    ImportanceOptions,
    _terms,
    _warn_of_few,
    importance_scales,
    log_importance_weights,
    normalised_weights,
)
from vivace.errors import InvalidArgumentError, VivaceWarning
from vivace.modules import VAE

LIKELIHOODS = ("zinb", "nb", "poisson")


def normal(loc, scale: float) -> Normal:
    """In float64 throughout."""
    return Normal(
        torch.as_tensor(loc, dtype=torch.float64), torch.tensor(scale, dtype=torch.float64)
    )


def test_draws_of_an_exact_encoder_weigh_the_same():
    """A Gaussian model, whose posterior is known: x | z ~ N(z, s^2), z ~ N(0, 1); float64."""
    torch.manual_seed(0)
    x, s = torch.randn(7, dtype=torch.float64), 0.8
    posterior = normal(x / (1 + s**2), s / (1 + s**2) ** 0.5)
    z = posterior.sample((50,)).reshape(-1, 1)
    weights = log_importance_weights(
        normal(0.0, 1.0).log_prob(z[:, 0]),
        normal(z, s).log_prob(x),
        normal(0.0, (1 + s**2) ** 0.5).log_prob(x),
        posterior.log_prob(z),
    )
    torch.testing.assert_close(weights, torch.zeros_like(weights), atol=1e-12, rtol=0)


def test_weights_turn_draws_of_a_wrong_encoder_into_the_posterior():
    torch.manual_seed(0)
    x, s = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64), 0.7
    exact, s_exact = x / (1 + s**2), s / (1 + s**2) ** 0.5
    wrong = normal(exact + 0.3, 1.3 * s_exact)
    z = wrong.sample((20_000,)).reshape(-1, 1)
    log_weights = log_importance_weights(
        normal(0.0, 1.0).log_prob(z[:, 0]),
        normal(z, s).log_prob(x),
        normal(0.0, (1 + s**2) ** 0.5).log_prob(x),
        wrong.log_prob(z),
    )
    weights = normalised_weights(log_weights)
    mean = (weights * z[:, 0]).sum()
    second = (weights * z[:, 0] ** 2).sum()
    assert mean == pytest.approx(exact.mean().item(), abs=0.02)
    assert second == pytest.approx((exact**2 + s_exact**2).mean().item(), abs=0.02)
    assert z.mean() - exact.mean() > 0.25  # unweighted draws are off


def test_truncation_caps_the_largest_weight_at_root_n_times_the_mean():
    log_weights = torch.tensor([0.0, 0.0, 0.0, 3.0], dtype=torch.float64)
    w = log_weights.exp()
    capped = np.minimum(w.numpy(), 2.0 * w.mean().item())  # sqrt(4) = 2
    found = normalised_weights(log_weights, truncation=True).numpy()
    np.testing.assert_allclose(found, capped / capped.sum(), rtol=1e-12)
    np.testing.assert_allclose(
        normalised_weights(log_weights).numpy(), w.numpy() / w.sum().item(), rtol=1e-12
    )


def toy(likelihood: str, n_latent: int = 2, n_genes: int = 5, n_cells: int = 6, **options: str):
    torch.manual_seed(1)
    options |= {"gene_likelihood": likelihood}
    vae = VAE(n_genes, n_batch=2, n_latent=n_latent, n_hidden=8, **options).eval()
    cells = {
        Keys.X: torch.poisson(3 * torch.rand(n_cells, n_genes)) + torch.eye(n_cells, n_genes),
        Keys.BATCH: torch.arange(n_cells)[:, None] % 2,
        Keys.LABELS: torch.zeros(n_cells, 1, dtype=torch.long),
    }
    return vae, cells


@pytest.mark.parametrize("latent_distribution", ["normal", "ln"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_terms_are_those_of_the_formula_in_float64(likelihood, latent_distribution):
    """Every pair of a draw and a cell on its own, at the cell's batch and library.

    Densities are of the normal variable; with "ln" its softmax is decoded.
    """
    vae, cells = toy(likelihood, latent_distribution=latent_distribution)
    decoded = (lambda u: u) if latent_distribution == "normal" else lambda u: torch.softmax(u, -1)
    u = torch.randn(9, 2)
    with torch.inference_mode():
        found, _, posterior = _terms(vae, [cells], u, ImportanceOptions(n_mc_samples=5))
    vae, cells[Keys.X] = vae.double(), cells[Keys.X].double()
    qz = vae.inference(**vae._get_inference_input(cells))["qz"]
    for r in range(len(u)):
        for a in range(len(cells[Keys.X])):
            x = cells[Keys.X][a : a + 1]
            drawn = {"z": decoded(u[r : r + 1].double()), "library": x.sum(1, keepdim=True).log()}
            one = {k: v[a : a + 1] for k, v in cells.items()}
            px = vae.generative(**vae._get_generative_input(one, drawn))["px"]
            assert found[r, a].item() == pytest.approx(px.log_prob(x).sum().item(), rel=2e-5)
            log_q = Normal(qz.loc[a], qz.scale[a]).log_prob(u[r].double()).sum()
            assert posterior[r, a].item() == pytest.approx(log_q.item(), rel=2e-5)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_weighted_expression_is_the_mean_over_exact_posteriors(likelihood):
    """One latent dimension, so that posteriors are integrals over a grid, in float64."""
    vae, cells = toy(likelihood, n_latent=1)
    with torch.no_grad():
        for parameter in vae.decoder.parameters():
            parameter.mul_(2)  # z matters
    exact = exact_scales(vae, cells)
    vae = vae.float()
    cells[Keys.X] = cells[Keys.X].float()
    rows = np.repeat(np.arange(6), 1500)
    torch.manual_seed(2)
    found = importance_scales(
        vae,
        lambda chosen, _: [{k: v[torch.from_numpy(chosen)] for k, v in cells.items()}],
        rows,
        np.random.default_rng(0),
        options=ImportanceOptions(n_mc_samples=4000, n_mc_samples_per_pass=1000),
        transform_batch=0,
    )
    outputs = vae.inference(**vae._get_inference_input(cells), n_samples=1500)
    px = vae.generative(**vae._get_generative_input(cells, outputs), transform_batch=0)["px"]
    uniform = px.get_normalized("scale").mean((0, 1)).detach().numpy()
    off = np.abs(found.mean(0) - exact).max()
    assert off < 0.006
    assert np.abs(uniform - exact).max() > 3 * off


def exact_scales(vae: VAE, cells: dict) -> np.ndarray:
    """(G,) mean over cells of the posterior mean of the normalised expression in batch 0."""
    vae, cells = vae.double(), {**cells, Keys.X: cells[Keys.X].double()}
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
    n_cells = len(cells[Keys.X])
    drawn = {
        "z": z[:, None].expand(-1, n_cells, -1),
        "library": cells[Keys.X].sum(1, keepdim=True).log().expand(len(z), -1, -1),
    }
    with torch.no_grad():
        inputs = vae._get_generative_input(cells, drawn)
        likelihood = vae.generative(**inputs)["px"].log_prob(cells[Keys.X]).sum(-1)
        scales = vae.generative(**inputs, transform_batch=0)["px"].get_normalized("scale")
        density = torch.softmax(likelihood + normal(0.0, 1.0).log_prob(z), dim=0)
        return (density[..., None] * scales).sum(0).mean(0).numpy()


# through a model --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    adata = vivace.datasets.simulate("batches", n_cells=200, n_genes=20, n_types=2, seed=1)
    vivace.SCVI.setup_anndata(adata, batch_key="batch")
    model = vivace.SCVI(adata, n_hidden=16, n_latent=2)
    model.train(max_epochs=5, progress=False)
    return model


FEW = {"n_mc_samples": 20, "n_mc_samples_per_pass": 20, "max_cells": 30}


@pytest.mark.filterwarnings("ignore::vivace.errors.VivaceWarning")
def test_a_model_compares_weighted_draws(model, watch):
    watch(model.adata)
    options = {"groupby": "cell_type", "mode": "change", "n_samples_overall": 200}
    options |= {"weights": "importance", "importance_weighting_kwargs": FEW}
    tables = []
    for _ in range(2):
        torch.manual_seed(3)
        tables.append(model.differential_expression(**options, batch_correction=True))
    assert tables[0].equals(tables[1])
    torch.manual_seed(3)
    plain = model.differential_expression(
        **{k: v for k, v in options.items() if "weight" not in k}, batch_correction=True
    )
    assert list(plain.columns) == list(tables[0].columns)
    assert not plain["lfc_mean"].equals(tables[0]["lfc_mean"])


@pytest.mark.filterwarnings("ignore::vivace.errors.VivaceWarning")
def test_a_model_draws_weighted_expression(model):
    options = {"weights": "importance", "importance_weighting_kwargs": FEW}
    genes = list(model.var_names[[3, 7]])
    drawn = model.get_normalized_expression(n_samples_overall=50, gene_list=genes, **options)
    assert drawn.shape == (50, 2)
    assert ((drawn > 0) & (drawn < 1)).all()
    for wrong in ({}, {"n_samples_overall": 5, "transform_batch": ["batch_0", "batch_1"]}):
        with pytest.raises(InvalidArgumentError, match="one transform_batch"):
            model.get_normalized_expression(**wrong, **options)


def test_options_that_do_not_exist_are_named(model):
    for wrong, match in (
        ({"weights": "importanc"}, "importance"),
        ({"weights": "importance", "importance_weighting_kwargs": {"max_cell": 3}}, "max_cells"),
        ({"weights": "importance", "importance_weighting_kwargs": {"max_cells": 0}}, ">= 1"),
        ({"importance_weighting_kwargs": {"max_cells": 3}}, 'needs weights="importance"'),
    ):
        with pytest.raises(InvalidArgumentError, match=match):
            model.differential_expression(groupby="cell_type", **wrong)


def test_too_few_effective_draws_are_told(model):
    with pytest.warns(VivaceWarning, match="20 draws are worth"):
        model.differential_expression(
            groupby="cell_type",
            n_samples_overall=20,
            weights="importance",
            importance_weighting_kwargs=FEW,
        )


def test_weights_are_worth_as_many_draws_as_their_squares_tell(recwarn):
    """1 / sum w^2: two of a hundred that share all the weight are worth two."""
    _warn_of_few(torch.full((100,), 0.01, dtype=torch.float64))
    assert not recwarn
    weights = torch.zeros(100, dtype=torch.float64)
    weights[[3, 70]] = 0.5
    with pytest.warns(VivaceWarning, match="100 draws are worth 2:"):
        _warn_of_few(weights)
