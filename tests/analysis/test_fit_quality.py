"""Numbers that say how well a model explains cells, against the terms of its loss."""

from __future__ import annotations

import numpy as np
import torch

from vivace.analysis.fit_quality import cell_elbo, predictive_samples, reconstruction_errors
from vivace.analysis.latent import latent_distribution, latent_mean, latent_sample
from vivace.modules import VAE

N, G = 6, 4


def build(**options: object) -> tuple[VAE, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    tensors = {
        "X": torch.poisson(5 * torch.rand(N, G)).double() + 1,
        "batch": torch.arange(N).remainder(2)[:, None],
        "labels": torch.zeros(N, 1, dtype=torch.long),
    }
    return VAE(G, n_batch=2, n_latent=3, **options).double().eval(), tensors


def halves(tensors: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    return [{k: v[rows] for k, v in tensors.items()} for rows in (slice(0, 4), slice(4, N))]


@torch.no_grad()
def test_the_elbo_of_a_cell_is_its_log_likelihood_less_its_divergence():
    vae, tensors = build()
    torch.manual_seed(1)
    inference, generative, _ = vae(tensors)
    log_likelihood = generative["px"].log_prob(tensors["X"]).sum(1)
    m, s = inference["qz"].loc, inference["qz"].scale
    kl = (0.5 * (m**2 + s**2 - 1) - s.log()).sum(1)
    torch.manual_seed(1)
    found = cell_elbo(vae, [tensors])
    torch.testing.assert_close(found, log_likelihood - kl, rtol=1e-6, atol=1e-6)
    torch.manual_seed(1)
    errors = reconstruction_errors(vae, [tensors])
    torch.testing.assert_close(errors["reconstruction_loss"], -log_likelihood, rtol=1e-6, atol=1e-6)
    assert len(cell_elbo(vae, halves(tensors))) == N


def test_counts_of_several_batches_are_averaged_draw_by_draw():
    vae, tensors = build()

    def drawn(batches: list[int | None], **kwargs: object) -> np.ndarray:
        torch.manual_seed(1)
        found = predictive_samples(vae, [tensors], transform_batch=batches, **kwargs)
        return np.stack([one.toarray() for one in found])

    both = drawn([0, 1], n_samples=3)
    torch.manual_seed(1)
    one, two = (
        vae.sample(tensors, n_samples=3, generative_kwargs={"transform_batch": b}) for b in (0, 1)
    )
    np.testing.assert_allclose(both, ((one + two) / 2).permute(2, 0, 1))
    genes = np.array([3, 1])
    np.testing.assert_array_equal(drawn([None], genes=genes), drawn([None])[..., genes])
    assert [d.shape for d in predictive_samples(vae, halves(tensors))] == [(N, G)]


@torch.no_grad()
def test_latent_positions():
    vae, tensors = build()
    qz = vae.inference(**vae._get_inference_input(tensors))["qz"]
    means, variances = latent_distribution(vae, halves(tensors))
    np.testing.assert_allclose(means, qz.loc, rtol=1e-6)
    np.testing.assert_allclose(variances, qz.scale**2, rtol=1e-6)
    np.testing.assert_allclose(latent_mean(vae, [tensors]), means, rtol=1e-9)
    draws = np.stack([latent_sample(vae, [tensors]) for _ in range(400)])
    np.testing.assert_allclose(draws.mean(0), means, atol=5 * (variances.max() / 400) ** 0.5)


@torch.no_grad()
def test_the_mean_of_a_logistic_normal_state_is_over_draws_of_its_softmax():
    vae, tensors = build(latent_distribution="ln")
    qz = vae.inference(**vae._get_inference_input(tensors))["qz"]
    wanted = torch.softmax(qz.sample((20_000,)), -1).mean(0)
    for n in (5000, 250):  # the last of its chunks of draws is half as large
        found = latent_mean(vae, [tensors], n)
        np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)
        np.testing.assert_allclose(found, wanted, atol=5 * 0.25 / n**0.5)
