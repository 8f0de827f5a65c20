"""Denoised expression at the mean state, against the decoder asked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vivace.analysis.expression import normalized_expression
from vivace.analysis.latent import infer
from vivace.modules import SPLICEVAE, VAE
from vivace.modules.joint_embedding import JointEmbeddingVAE

B, G = 6, 9


def module_of(name: str, latent_distribution: str) -> torch.nn.Module:
    options = {"n_hidden": 8, "n_latent": 3, "latent_distribution": latent_distribution}
    if name == "SPLICEVAE":
        events = torch.tensor([0, 0, 1, 1])
        return SPLICEVAE(G, 4, event_index=events, use_size_factor_key=True, **options)
    return {"VAE": VAE, "JointEmbeddingVAE": JointEmbeddingVAE}[name](G, **options)


@pytest.mark.parametrize("latent_distribution", ["normal", "ln"])
@pytest.mark.parametrize("name", ["VAE", "JointEmbeddingVAE", "SPLICEVAE"])
@pytest.mark.parametrize("n_samples", [1, 3])
def test_the_mean_state_is_decoded_as_a_latent_state(
    name: str, latent_distribution: str, n_samples: int
):
    """Of a logistic normal, the softmax of the mean: a point of the simplex, as all draws are."""
    module = module_of(name, latent_distribution).double().eval()
    cells = {
        "X": torch.poisson(torch.full((B, G), 2.0)).double(),
        "batch": torch.zeros(B, 1, dtype=torch.long),
        "junc_counts_key": torch.poisson(torch.full((B, 4), 2.0)).double(),
    }
    with torch.inference_mode():
        outputs = infer(module, cells)
        mean = outputs["qz"].loc
        z = torch.softmax(mean, dim=-1) if latent_distribution == "ln" else mean
        inputs = module._get_generative_input(cells, {**outputs, "z": z})
        wanted = module.generative(**inputs)["px"].get_normalized("scale").numpy()
    found = normalized_expression(module, [cells], use_mean=True, n_samples=n_samples)
    np.testing.assert_allclose(found, np.broadcast_to(wanted, found.shape), rtol=1e-12)
