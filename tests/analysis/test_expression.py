"""Decoded expression and parameters of the counts, against what the distribution itself says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vivace.analysis.expression import (
    latent_library_size,
    likelihood_parameters,
    normalized_expression,
)
from vivace.modules import VAE, SysVAE

N, G = 5, 4


def cells() -> dict[str, torch.Tensor]:
    return {
        "X": torch.poisson(3 * torch.rand(N, G)).double() + 1,
        "batch": torch.arange(N).remainder(2)[:, None],
        "labels": torch.zeros(N, 1, dtype=torch.long),
    }


def spread_of(module: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """(N, G) standard deviation of a normal variable whose density at its mean is known."""
    _, generative = module(tensors, compute_loss=False)
    px = generative["px"]
    return torch.exp(-px.log_prob(px.loc)) / math.sqrt(2 * math.pi)


def modules() -> dict[str, torch.nn.Module]:
    sysvae = SysVAE(G, n_batch=2, n_hidden=8, prior="standard_normal")
    with torch.no_grad():
        for parameter in sysvae.decoder.var_encoder.parameters():
            parameter.copy_(torch.randn(G))  # it starts at 1, which is its own square
    return {"VAE": VAE(G, n_batch=2, gene_likelihood="normal"), "SysVAE": sysvae}


@pytest.mark.parametrize("name", ["VAE", "SysVAE"])
@torch.no_grad()
def test_dispersion_of_a_normal_likelihood_is_its_standard_deviation(name: str):
    module, tensors = modules()[name].double().eval(), cells()
    torch.manual_seed(0)
    wanted = spread_of(module, tensors).numpy()
    torch.manual_seed(0)
    found = likelihood_parameters(module, [tensors])["dispersions"]
    np.testing.assert_allclose(found, np.broadcast_to(wanted, found.shape), rtol=1e-5)
    assert np.abs(wanted - 1).max() > 0.1
    if name == "VAE":
        np.testing.assert_allclose(found, module.px_r.exp().expand(N, G), rtol=1e-6)


def at_seed(function, *args, **kwargs) -> np.ndarray:
    torch.manual_seed(0)
    return function(*args, **kwargs)


def test_expression_of_several_batches_is_their_mean_and_scales_with_the_library():
    module, tensors = VAE(G, n_batch=2, n_latent=2).double().eval(), cells()
    with torch.no_grad():
        for parameter in module.decoder.parameters():
            parameter.mul_(3)  # batches differ
    ask = lambda **kwargs: at_seed(normalized_expression, module, [tensors], **kwargs)  # noqa: E731
    one, two = (ask(transform_batch=[b]) for b in (0, 1))
    assert np.abs(one - two).max() > 0.05
    np.testing.assert_allclose(ask(transform_batch=[0, 1]), (one + two) / 2, rtol=1e-6)
    shares = ask()
    np.testing.assert_allclose(shares, np.where(tensors["batch"] == 0, one, two), rtol=1e-6)
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(ask(library_size=1e4), 1e4 * shares, rtol=1e-6)
    totals = tensors["X"].sum(1, keepdim=True).numpy()
    np.testing.assert_allclose(ask(library_size="latent"), totals * shares, rtol=1e-6)
    genes = np.array([3, 0])
    np.testing.assert_array_equal(ask(genes=genes, library_size=7), 7 * shares[:, genes])
    draws = ask(n_samples=3)
    assert draws.shape == (3, N, G)
    assert np.abs(draws[0] - draws[1]).max() > 0.01
    means = ask(n_samples=3, use_mean=True)
    np.testing.assert_array_equal(means[0], means[1])
    outputs = module.inference(**module._get_inference_input(tensors))
    drawn = {**outputs, "z": outputs["qz"].loc}
    px = module.generative(**module._get_generative_input(tensors, drawn))["px"]
    np.testing.assert_allclose(means[0], px.get_normalized("scale").detach(), rtol=1e-6)


def test_a_mean_over_draws_is_taken_only_if_asked_for():
    module, tensors = VAE(G, n_batch=2, n_latent=2).double().eval(), cells()
    draws = at_seed(likelihood_parameters, module, [tensors], n_samples=4)["mean"]
    mean = at_seed(likelihood_parameters, module, [tensors], n_samples=4, give_mean=True)["mean"]
    assert draws.shape == (4, N, G)
    np.testing.assert_allclose(mean, draws.mean(0), rtol=1e-6)


def test_a_latent_library_size_is_the_mean_of_its_log_normal_posterior():
    prior = {"library_log_means": np.full((1, 2), 2.0), "library_log_vars": np.full((1, 2), 0.5)}
    module = VAE(G, n_batch=2, use_observed_lib_size=False, **prior).double().eval()
    tensors = cells()
    ql = module.inference(**module._get_inference_input(tensors))["ql"]
    wanted = torch.distributions.LogNormal(ql.loc, ql.scale).mean
    found = latent_library_size(module, [tensors])
    np.testing.assert_allclose(found, wanted.detach(), rtol=1e-6)
    draws = [latent_library_size(module, [tensors], give_mean=False) for _ in range(2)]
    assert np.abs(draws[0] - draws[1]).max() > 0.01
    observed = latent_library_size(VAE(G, n_batch=2).double(), [tensors], give_mean=False)
    np.testing.assert_allclose(observed, tensors["X"].sum(1, keepdim=True), rtol=1e-6)
