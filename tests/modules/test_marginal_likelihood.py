"""The importance-sampled likelihood of a cell against the integral over its latent state, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal

from vivace.modules import VAE

N, G = 3, 4


def build(**options: object) -> tuple[VAE, dict[str, torch.Tensor]]:
    """A latent state that matters to the decoder, and an encoder that is not the prior."""
    torch.manual_seed(3)
    vae = VAE(G, n_hidden=8, gene_likelihood="poisson", **options).double().eval()
    with torch.no_grad():
        for layer in (vae.z_encoder.mean_encoder, vae.z_encoder.var_encoder):
            layer.weight.zero_()
        vae.z_encoder.mean_encoder.bias.copy_(torch.tensor([0.9, -0.6])[: vae.n_latent])
        vae.z_encoder.var_encoder.bias.fill_(math.log(3.0))  # wide: weights stay bounded
        for parameter in vae.decoder.parameters():
            parameter.mul_(1.4)
    tensors = {
        "X": torch.poisson(4 * torch.rand(N, G)).double() + 1,
        "batch": torch.zeros(N, 1, dtype=torch.long),
        "labels": torch.zeros(N, 1, dtype=torch.long),
    }
    return vae, tensors


def integral(vae: VAE, tensors: dict[str, torch.Tensor], step: float = 0.1) -> torch.Tensor:
    """(N,) log of the integral of N(u; 0, 1) p(x | T(u)) over a square grid of u, T softmax for "ln"."""
    axis = torch.arange(-6, 6 + step, step, dtype=torch.float64)
    u = torch.cartesian_prod(axis, axis)
    z = torch.softmax(u, -1) if vae.latent_distribution == "ln" else u
    log_prior = -0.5 * (u**2).sum(-1) - math.log(2 * math.pi)
    drawn = {
        "z": z[:, None].expand(-1, N, -1),
        "library": tensors["X"].sum(1, keepdim=True).log().expand(len(u), -1, -1),
    }
    px = vae.generative(**vae._get_generative_input(tensors, drawn))["px"]
    log_joint = px.log_prob(tensors["X"]).sum(-1) + log_prior[:, None]
    return torch.logsumexp(log_joint, 0) + 2 * math.log(step)


@pytest.mark.parametrize("latent_distribution", ["normal", "ln"])
@torch.no_grad()
def test_it_is_the_integral_where_the_encoder_is_not_the_prior(latent_distribution: str):
    vae, tensors = build(n_latent=2, latent_distribution=latent_distribution)
    found = vae.marginal_ll(tensors, 20_000, n_mc_samples_per_pass=20_000)
    torch.testing.assert_close(found, integral(vae, tensors), rtol=0, atol=0.06)


@torch.no_grad()
def test_a_latent_library_size_is_integrated_too():
    """Over l ~ N(mean, variance) of the batch beside u, with an encoder of l that is wider."""
    mean, variance, step = 2.2, 0.3, 0.04
    vae, tensors = build(
        n_latent=1,
        use_observed_lib_size=False,
        library_log_means=[[mean]],
        library_log_vars=[[variance]],
    )
    for layer in (vae.l_encoder.mean_encoder, vae.l_encoder.var_encoder):
        layer.weight.zero_()
    vae.l_encoder.mean_encoder.bias.fill_(mean + 0.3)
    vae.l_encoder.var_encoder.bias.fill_(math.log(0.6))
    u, size = torch.meshgrid(
        torch.arange(-6, 6, 0.1).double(), torch.arange(0, 4.5, step).double(), indexing="ij"
    )
    u, size = u.reshape(-1, 1), size.reshape(-1, 1)
    log_prior = Normal(0, 1).log_prob(u) + Normal(mean, variance**0.5).log_prob(size)
    drawn = {
        "z": u[:, None].expand(-1, N, -1),
        "library": size[:, None].expand(-1, N, -1),
    }
    px = vae.generative(**vae._get_generative_input(tensors, drawn))["px"]
    log_joint = px.log_prob(tensors["X"]).sum(-1) + log_prior
    wanted = torch.logsumexp(log_joint, 0) + math.log(0.1 * step)
    found = vae.marginal_ll(tensors, 20_000, n_mc_samples_per_pass=20_000)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.06)


@torch.no_grad()
def test_passes_that_draw_more_than_asked_are_averaged_over_what_they_drew(monkeypatch):
    vae, tensors = build(n_latent=2)
    monkeypatch.setattr(vae, "_log_weights", lambda _cells, _of, n: torch.zeros(n, N))
    found = vae.marginal_ll(tensors, 3, n_mc_samples_per_pass=2)  # four draws
    torch.testing.assert_close(found, torch.zeros(N))
