"""Decoded expression and parameters of the counts, against what the distribution itself says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vivace.analysis.expression import likelihood_parameters
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
