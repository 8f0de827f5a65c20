"""JointEmbeddingVAE: terms against formulas in float64, thinning, and the corners."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import kl_divergence

from vivace.errors import InvalidArgumentError
from vivace.kernels import csr_tensor
from vivace.modules import VAE, JointEmbeddingVAE
from vivace.modules.joint_embedding import (
    binomial_split,
    cross_correlation_loss,
    sample_thinning_probs,
    variance_loss,
)

METRICS = {"cco_loss", "cco_invariance", "cco_redundancy", "variance_loss"}


def minibatch(n_cells=12, n_genes=30, *, csr=False, rate=2.0, dtype=torch.float32):
    torch.manual_seed(1)
    x = torch.poisson(torch.full((n_cells, n_genes), rate)).to(dtype)
    dense = x
    if csr:
        m = x.to_sparse_csr()
        x = csr_tensor(m.crow_indices().int(), m.col_indices().int(), m.values(), m.shape)
    tensors = {
        "X": x,
        "batch": torch.arange(n_cells).remainder(2).unsqueeze(1),
        "labels": torch.zeros(n_cells, 1, dtype=torch.long),
    }
    return tensors, dense


def small(**options):
    torch.manual_seed(0)
    return JointEmbeddingVAE(30, n_batch=2, n_hidden=16, n_latent=4, **options)


# helper functions -------------------------------------------------------------------------------


def test_vectors_of_the_reference():
    z1 = torch.tensor([[0.0, 1.0], [1.0, 3.0], [2.0, 2.0]], dtype=torch.float64)
    z2 = torch.tensor([[0.5, 1.0], [1.0, 2.0], [3.0, 2.0]], dtype=torch.float64)
    found = cross_correlation_loss(z1, z2, 0.01, return_components=True)
    assert found["total"].item() == pytest.approx(0.0288411, abs=1e-7)
    assert found["invariance"].item() == pytest.approx(0.0209840, abs=1e-7)
    assert found["redundancy"].item() == pytest.approx(0.7857143, abs=1e-7)
    assert cross_correlation_loss(z1, z2).item() == found["total"].item()
    assert variance_loss(0.5 * z1).item() == pytest.approx(0.5917517, abs=1e-7)


def test_cross_correlation_against_its_formula_and_its_gradient():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(20, 5)), rng.normal(size=(20, 5))

    def formula(a, b, weight):
        a = (a - a.mean(0)) / (a.std(0) + 1e-8)
        b = (b - b.mean(0)) / (b.std(0) + 1e-8)
        m = a.T @ b / len(a)
        total = 0.0
        for i in range(5):
            for j in range(5):
                total += (1 - m[i, i]) ** 2 if i == j else weight * m[i, j] ** 2
        return total

    za, zb = (torch.tensor(z, requires_grad=True) for z in (a, b))
    loss = cross_correlation_loss(za, zb, 0.3)
    assert loss.item() == pytest.approx(formula(a, b, 0.3), rel=1e-12)
    assert torch.autograd.gradcheck(lambda u, v: cross_correlation_loss(u, v, 0.3), (za, zb))


def test_constant_dimensions_give_finite_gradients():
    z = torch.zeros(4, 3, requires_grad=True)
    (cross_correlation_loss(z, z + 1.0) + variance_loss(z)).backward()
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("csr", [False, True])
def test_thinning_probabilities(csr):
    tensors, dense = minibatch(2000, 30, csr=csr, rate=4.0)
    p = sample_thinning_probs(tensors["X"], 10.0)
    assert p.shape == (2000, 1)
    totals = dense.sum(1)
    kept = p[:, 0] * totals
    assert (kept >= 10 - 1e-3).all()
    assert (kept <= totals + 1e-3).all()
    # the target is log-uniform: its place between log 10 and log n is uniform
    place = torch.log(kept / 10) / torch.log(totals / 10)
    assert place.mean().item() == pytest.approx(0.5, abs=0.03)
    assert place.var().item() == pytest.approx(1 / 12, abs=0.01)


def test_small_and_empty_cells_are_not_thinned():
    x = torch.tensor([[1.0, 2.0], [0.0, 0.0], [4.0, 6.0]])
    assert torch.equal(sample_thinning_probs(x, 10.0), torch.ones(3, 1))


@pytest.mark.parametrize("csr", [False, True])
def test_split_deals_every_count(csr):
    tensors, dense = minibatch(csr=csr)
    x1, x2 = binomial_split(tensors["X"], sample_thinning_probs(tensors["X"]))
    assert x1.layout == tensors["X"].layout
    x1, x2 = (x.to_dense() if csr else x for x in (x1, x2))
    assert torch.equal(x1 + x2, dense)
    assert (x1 >= 0).all()
    assert (x2 >= 0).all()
    assert torch.equal(x1, x1.round())


def test_split_rounds_and_cuts():
    x1, x2 = binomial_split(torch.tensor([[1.6, -3.0, 0.4]]))
    assert torch.equal(x1 + x2, torch.tensor([[2.0, 0.0, 0.0]]))


@pytest.mark.parametrize("csr", [False, True])
def test_split_is_binomial_with_the_probability_of_the_row(csr):
    counts = torch.tensor([[8.0, 0.0, 3.0], [5.0, 40.0, 0.0]])
    x = counts
    if csr:
        m = counts.to_sparse_csr()
        x = csr_tensor(m.crow_indices(), m.col_indices(), m.values(), m.shape)
    p = torch.tensor([[0.2], [0.7]])
    draws = torch.stack([binomial_split(x, p)[0].to_dense() for _ in range(4000)])
    torch.testing.assert_close(draws.mean(0), counts * p, atol=0.15, rtol=0)
    torch.testing.assert_close(draws.var(0), counts * p * (1 - p), atol=0.45, rtol=0)


def test_split_follows_the_torch_seed():
    x = torch.full((3, 4), 9.0)
    torch.manual_seed(5)
    first, _ = binomial_split(x)
    torch.manual_seed(5)
    assert torch.equal(binomial_split(x)[0], first)
    assert not torch.equal(binomial_split(x)[0], first)


# loss -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("csr", [False, True])
def test_loss_in_float64(csr):
    """All terms written out; the thinned view is drawn again from the same seed."""
    module = small(
        dropout_rate=0.0, use_observed_lib_size=False, lambda_off_diag=0.03, variance_weight=7.0,
        joint_embedding_weight=11.0, reconstruction_weight=0.5,
        library_log_means=np.zeros((1, 2)), library_log_vars=np.ones((1, 2)),
    ).double()  # fmt: skip
    tensors, dense = minibatch(csr=csr, dtype=torch.float64)
    inference, generative = module(tensors, compute_loss=False)
    torch.manual_seed(3)
    losses = module.loss(tensors, inference, generative, kl_weight=0.4)

    torch.manual_seed(3)
    thinned = binomial_split(tensors["X"], sample_thinning_probs(tensors["X"]))[0]
    qz = module.z_encoder(torch.log1p(thinned.to_dense()))[0]
    torch.manual_seed(3)
    binomial_split(tensors["X"], sample_thinning_probs(tensors["X"]))
    z_thin = qz.loc + qz.scale * torch.randn_like(qz.loc)
    z_full = inference["z"]
    r = -generative["px"].log_prob(dense).sum(-1)
    kl_z = kl_divergence(inference["qz"], generative["pz"]).sum(-1)
    kl_l = kl_divergence(inference["ql"], generative["pl"]).sum(-1)
    elbo = (0.5 * r + 0.4 * kl_z + kl_l).mean()
    cco = cross_correlation_loss(z_thin, z_full, 0.03)
    spread = [
        torch.relu(1 - (z - z.mean(0)).square().mean(0).sqrt()).mean() for z in (z_thin, z_full)
    ]
    wanted = elbo + 11.0 * cco + 7.0 * (spread[0] + spread[1]) / 2
    assert losses.loss.item() == pytest.approx(wanted.item(), rel=1e-9)
    torch.testing.assert_close(losses.reconstruction_loss["reconstruction_loss"], r)
    assert losses.extra_metrics["cco_loss"].item() == pytest.approx(cco.item(), rel=1e-9)
    assert losses.n_obs_minibatch == 12


def test_weights_given_to_the_loss_win():
    module = small(dropout_rate=0.0)
    tensors, _ = minibatch()
    outputs = module(tensors, compute_loss=False)
    values = []
    for weight in (0.0, 1.0, 2.0):
        torch.manual_seed(0)
        losses = module.loss(tensors, *outputs, joint_embedding_weight=weight)
        values.append(losses.loss.item())
    torch.manual_seed(0)
    no_reconstruction = module.loss(
        tensors, *outputs, joint_embedding_weight=0.0, reconstruction_weight=0.0
    )
    cco = losses.extra_metrics["cco_loss"].item()
    assert values[1] - values[0] == pytest.approx(cco, rel=1e-3)
    assert values[2] - values[0] == pytest.approx(2 * cco, rel=1e-3)
    assert no_reconstruction.loss.item() == pytest.approx(
        losses.kl_local["kl_divergence_z"].mean().item(), rel=1e-5
    )


def test_gradients_flow_through_both_views():
    module = small(joint_embedding_weight=1.0, reconstruction_weight=0.0)
    tensors, _ = minibatch()
    *outputs, losses = module(tensors, loss_kwargs={"kl_weight": 0.0})
    z = outputs[0]["z"]
    full_only = torch.autograd.grad(losses.loss, z, retain_graph=True)[0]
    weight = module.z_encoder.mean_encoder.weight
    total = torch.autograd.grad(losses.loss, weight, retain_graph=True)[0]
    through_full = torch.autograd.grad(z, weight, full_only)[0]
    assert full_only.abs().sum() > 0
    assert (total - through_full).abs().sum() > 1e-6


@pytest.mark.parametrize("likelihood", ["zinb", "nb", "poisson"])
@pytest.mark.parametrize("csr", [False, True])
def test_without_joint_embedding_it_is_the_vae_to_the_bit(likelihood, csr):
    tensors, _ = minibatch(csr=csr)
    losses, gradients = [], []
    for kind, options in ((VAE, {}), (JointEmbeddingVAE, {"use_joint_embedding": False})):
        torch.manual_seed(0)
        module = kind(30, n_batch=2, gene_likelihood=likelihood, **options)
        out = module(tensors, loss_kwargs={"kl_weight": 0.3})[-1]
        out.loss.backward()
        losses.append(out.loss)
        gradients.append([p.grad for p in module.parameters()])
    assert torch.equal(*losses)
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert not out.extra_metrics


def test_evaluation_has_no_second_view():
    module = small().eval()
    tensors, _ = minibatch()
    assert not METRICS & set(module(tensors)[-1].extra_metrics)
    assert set(module.train()(tensors)[-1].extra_metrics) >= METRICS


def test_one_cell_without_batch_norm_falls_back_to_the_elbo():
    module = small(use_batch_norm="none")
    tensors, _ = minibatch(1)
    losses = module(tensors)[-1]
    assert not losses.extra_metrics
    assert math.isfinite(losses.loss.item())


def test_more_samples_use_the_first():
    module = small()
    tensors, _ = minibatch()
    losses = module(tensors, inference_kwargs={"n_samples": 3})[-1]
    assert set(losses.extra_metrics) >= METRICS
    assert losses.n_obs_minibatch == 12


@pytest.mark.parametrize("latent", ["normal", "ln"])
def test_empty_and_tiny_cells_train(latent):
    module = small(latent_distribution=latent)
    tensors, _ = minibatch()
    tensors["X"][:3] = 0
    losses = module(tensors)[-1]
    losses.loss.backward()
    assert torch.isfinite(losses.loss)
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


def test_covariates_reach_the_second_view():
    """With encode_covariates the thinned cells are encoded with their own batch."""
    module = small(encode_covariates=True, dropout_rate=0.0)
    tensors, _ = minibatch()
    values = []
    for batch in (tensors["batch"], 1 - tensors["batch"]):
        torch.manual_seed(2)
        values.append(module._encode_thinned({**tensors, "batch": batch}))
    assert not torch.equal(*values)


def running_means(module):
    return module.z_encoder.encoder.fc_layers["Layer 0"]["1"].running_mean.clone()


def test_batch_norm_of_the_thinned_view():
    tensors, _ = minibatch()
    updates = {}
    for choice in ("update", "freeze"):
        module = small(thinned_batch_norm=choice)
        module(tensors, compute_loss=False)
        one_view = running_means(module)
        module._encode_thinned(tensors)
        updates[choice] = not torch.equal(running_means(module), one_view)
        assert all(m.training for m in module.modules())
    assert updates == {"update": True, "freeze": False}


# mistakes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_library_size": 0.0}, "min_library_size"),
        ({"min_library_size": -1.0}, "min_library_size"),
        ({"gene_likelihood": "normal"}, "no counts to thin"),
        ({"thinned_batch_norm": "frozen"}, '"freeze"'),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        small(**options)


def test_normal_likelihood_is_fine_without_thinning():
    module = small(gene_likelihood="normal", use_joint_embedding=False)
    assert module.gene_likelihood == "normal"
    assert not module.use_joint_embedding
