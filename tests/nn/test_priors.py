"""Priors: densities in float64, what is trained, what is not, and old state dicts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch.distributions import Normal

from vivace.nn import GaussianLayers, StandardPrior, VampPrior

K, G, L = 3, 7, 2


def vamp(**options) -> VampPrior:
    encoder = GaussianLayers(G, L, n_cat_list=[2], n_cont=1, n_hidden=8)
    prior = VampPrior(
        encoder, torch.rand(K, G), torch.tensor([[0], [1], [0]]), torch.rand(K, 1), **options
    )
    torch.nn.init.normal_(prior.w)
    prior._encoder[0].double()
    return prior.double()


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("std_as_variance", [False, True])
def test_density_is_the_formula(joint: bool, std_as_variance: bool):
    prior = vamp(joint=joint, std_as_variance=std_as_variance)
    encoder = prior._encoder[0].eval()
    posterior = encoder(prior.u, prior.codes, cont=prior.u_cont)
    m, s = posterior.loc.detach().numpy(), posterior.scale.detach().numpy()
    s = np.sqrt(s) if std_as_variance else s
    w = torch.softmax(prior.w.flatten(), 0).detach().numpy()
    z = torch.randn(5, L, dtype=torch.float64)
    density = norm.pdf(z.numpy()[:, None, :], m, s)  # (B, K, L)
    if joint:
        expected = np.log((w * density.prod(-1)).sum(-1))
    else:
        expected = np.log((w[:, None] * density).sum(1)).sum(-1)
    np.testing.assert_allclose(prior.log_prob(z).detach(), expected, rtol=1e-9)
    qz = Normal(torch.zeros(5, L).double(), torch.ones(5, L).double())
    kl = norm.logpdf(z.numpy()).sum(-1) - expected
    np.testing.assert_allclose(prior.kl(qz, z).detach(), kl, rtol=1e-9)


def test_the_mixture_integrates_to_one():
    prior = vamp(joint=True)
    grid = torch.linspace(-40, 40, 801, dtype=torch.float64)
    plane = torch.cartesian_prod(grid, grid)
    total = prior.log_prob(plane).exp().sum() * 0.1**2
    torch.testing.assert_close(total, torch.ones((), dtype=torch.float64), rtol=1e-3, atol=1e-3)


def test_components_leave_the_encoder_as_it_was():
    prior = vamp()
    encoder = prior._encoder[0].train()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    first, second = prior.components(), prior.components()
    assert encoder.training
    assert torch.equal(first.loc, second.loc), "no dropout in the components"
    after = encoder.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())


@pytest.mark.parametrize("trainable", [True, False])
def test_what_is_trained(trainable: bool):
    prior = vamp(trainable=trainable)
    prior.log_prob(torch.zeros(1, L).double()).sum().backward()
    got = {name for name, p in prior.named_parameters() if p.grad is not None}
    assert got == ({"u", "u_cont", "w"} if trainable else {"w"})
    assert {name for name, p in prior.named_parameters() if p.requires_grad} == got


def test_state_dict_holds_no_second_encoder_and_reads_old_ones():
    prior = vamp()
    kept = prior.state_dict()
    assert set(kept) == {"u", "u_cont", "w", "codes"}
    old = {k: v for k, v in kept.items() if k != "codes"}
    old["u_cat.0"] = torch.eye(2)[[1, 1, 0]]
    old |= {f"encoder.{k}": v for k, v in prior._encoder[0].state_dict().items()}
    prior.load_state_dict(old)
    assert prior.codes.flatten().tolist() == [1, 1, 0]


def test_standard_prior_is_the_closed_form():
    qz = Normal(torch.tensor([[0.3, -1.0]]).double(), torch.tensor([[0.5, 2.0]]).double())
    m, s = qz.loc, qz.scale
    expected = (0.5 * (s**2 + m**2 - 1) - s.log()).sum(-1)
    torch.testing.assert_close(StandardPrior().kl(qz, m), expected)
    torch.testing.assert_close(
        StandardPrior().log_prob(m), torch.from_numpy(norm.logpdf(m.numpy()).sum(-1))
    )
