"""The thinned view: who is thinned, to what, and what of the loss sees it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vivace.kernels import csr_tensor
from vivace.modules import VAE, JointEmbeddingVAE, vae
from vivace.modules.thinning import binomial_split, thinned_view

G = 40


def counts(n_cells=3000, rate=3.0, *, csr=True):
    torch.manual_seed(1)
    x = torch.poisson(torch.full((n_cells, G), rate))
    if not csr:
        return x, x
    m = x.to_sparse_csr()
    return csr_tensor(m.crow_indices().int(), m.col_indices().int(), m.values(), m.shape), x


def cells(n_cells=64, *, csr=True):
    x, dense = counts(n_cells, csr=csr)
    batch = torch.arange(n_cells).remainder(2).unsqueeze(1)
    return {"X": x, "batch": batch, "labels": torch.zeros_like(batch)}, dense


def module(share=1.0, **options):
    torch.manual_seed(0)
    found = VAE(G, n_batch=2, n_hidden=8, n_latent=3, **options)
    found.thinned_share = share
    return found.train()


def seen_by(encoder, tensors, of):
    """Counts (B, G) that an encoder is given."""
    seen = []
    hook = encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0].to_dense()))
    outputs = of(tensors)
    hook.remove()
    return torch.expm1(seen[0]).round(), outputs


# the view


@pytest.mark.parametrize("csr", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_cells_is_thinned_and_the_others_stay(share, csr):
    x, dense = counts(csr=csr)
    view = thinned_view(x, share)
    assert view.layout == x.layout
    view = view.to_dense()
    assert ((view >= 0) & (view <= dense) & (view == view.round())).all()
    changed = (view != dense).any(1).float().mean().item()
    assert changed == pytest.approx(share, abs=0.04)


@pytest.mark.parametrize("csr", [False, True])
def test_totals_are_log_uniform_between_ten_and_the_cells_own(csr):
    x, dense = counts(20_000, csr=csr)
    kept = thinned_view(x, 1.0).to_dense().sum(1)
    own = dense.sum(1)
    expected = (own - 10) / torch.log(own / 10)  # mean of a log-uniform number
    assert kept.mean().item() == pytest.approx(expected.mean().item(), rel=0.02)
    assert 0.02 < (kept < 10).float().mean() < 0.2, "about ten counts are the fewest"


def test_cells_of_ten_counts_and_fewer_stay():
    x = torch.tensor([[1.0, 9.0], [0.0, 0.0], [0.0, 3.0]])
    assert torch.equal(thinned_view(x, 1.0), x)


def test_genes_are_thinned_alike():
    x, dense = counts(20_000)
    view = thinned_view(x, 1.0).to_dense()
    of_gene = view.sum(0) / dense.sum(0)
    assert of_gene.std() / of_gene.mean() < 0.02


# who sees it


@pytest.mark.parametrize("csr", [False, True])
def test_the_encoder_sees_fewer_counts_and_the_likelihood_explains_all(csr):
    tensors, dense = cells(csr=csr)
    net = module()
    view, (inference, generative, losses) = seen_by(net.z_encoder, tensors, net)
    assert (view <= dense).all()
    assert view.sum() < 0.8 * dense.sum()
    torch.testing.assert_close(inference["library"], torch.log(dense.sum(1, keepdim=True)))
    whole = -generative["px"].log_prob(dense).sum(-1)
    found = losses.reconstruction_loss["reconstruction_loss"]
    torch.testing.assert_close(found, whole, rtol=1e-3, atol=1e-2)


def test_a_latent_library_is_told_from_all_counts():
    options = {
        "use_observed_lib_size": False,
        "library_log_means": np.zeros((1, 2)),
        "library_log_vars": np.ones((1, 2)),
    }
    net = module(**options)
    tensors, dense = cells()
    assert torch.equal(seen_by(net.l_encoder, tensors, net)[0], dense)
    assert seen_by(net.z_encoder, tensors, net)[0].sum() < dense.sum()


def test_in_evaluation_nothing_is_thinned():
    net = module().eval()
    tensors, dense = cells()
    assert torch.equal(seen_by(net.z_encoder, tensors, net)[0], dense)


def test_a_share_of_nothing_draws_nothing(monkeypatch):
    """So that runs without it have the numbers that they had."""
    monkeypatch.setattr(vae, "thinned_view", None)
    assert module(0.0)(cells()[0])[2].loss.isfinite()


def test_the_data_are_left_as_they_are():
    tensors, dense = cells()
    module()(tensors)
    assert torch.equal(tensors["X"].to_dense(), dense)


def test_the_thinned_bound_is_a_bound():
    """E[log p(x, z) - log q(z | fewer)] <= log p(x), whatever q sees."""
    tensors, _ = cells(n_cells=200)
    net = module(n_layers=1, dropout_rate=0.0, use_batch_norm="none")
    with torch.no_grad():
        draws = [net(tensors)[2] for _ in range(40)]
    bound = -torch.stack([d.reconstruction_loss_sum + d.kl_local_sum for d in draws]).mean() / 200
    exact = net.eval().marginal_ll(tensors, n_mc_samples=500, return_mean=True)
    assert bound < exact


@pytest.mark.parametrize("likelihood", ["zinb", "nb", "poisson", "normal"])
def test_only_counts_can_be_thinned(likelihood):
    assert VAE(G, gene_likelihood=likelihood).can_thin == (likelihood != "normal")
    assert JointEmbeddingVAE(G).can_thin


def test_how_cells_are_stored_changes_no_draw():
    """Zeros that are stored, as some files have them, draw nothing."""
    dense = torch.tensor([[3.0, 0.0, 40.0], [0.0, 0.0, 0.0], [0.0, 7.0, 9.0]])
    plain = csr_tensor([0, 2, 2, 4], [0, 2, 1, 2], [3.0, 40.0, 7.0, 9.0], (3, 3))
    values = [3.0, 0.0, 40.0, 0.0, 7.0, 9.0]
    with_zeros = csr_tensor([0, 3, 4, 6], [0, 1, 2, 0, 1, 2], values, (3, 3))
    p = torch.tensor([[0.4], [0.5], [0.7]])
    found = []
    for x in (dense, plain, with_zeros):
        torch.manual_seed(0)
        kept, dropped = binomial_split(x, p)
        found.append(kept if kept.layout == torch.strided else kept.to_dense())
        assert (kept.to_dense() + dropped.to_dense() == dense).all()
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()
