"""Every likelihood obeys the same laws."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch.distributions import Distribution

from vivace.kernels import csr_tensor
from vivace.likelihoods import NegativeBinomial, Normal, Poisson, ZeroInflatedNegativeBinomial

F64 = torch.float64


@dataclass(frozen=True)
class Law:
    """A way to make the distribution from means, and from logits, for (B, G) parameters."""

    explicit: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Distribution]
    lazy: Callable[..., Distribution] | None
    formula: Callable[..., float]


def lgamma(x: float) -> float:
    return math.lgamma(x)


def nb_formula(x: float, mu: float, theta: float, pi: float) -> float:
    """Log-probability written out from its definition."""
    value = lgamma(x + theta) - lgamma(theta) - lgamma(x + 1)
    value += theta * math.log(theta / (theta + mu))
    return value + (x * math.log(mu / (theta + mu)) if x else 0.0)


def zinb_formula(x: float, mu: float, theta: float, pi: float) -> float:
    dropout = 1 / (1 + math.exp(-pi))
    counts = (1 - dropout) * math.exp(nb_formula(x, mu, theta, pi))
    return math.log(dropout + counts) if x == 0 else math.log(counts)


def poisson_formula(x: float, mu: float, theta: float, pi: float) -> float:
    return x * math.log(mu) - mu - lgamma(x + 1)


TABLE = {
    "nb": Law(
        lambda mu, theta, pi: NegativeBinomial(mu, theta),
        lambda logits, library, log_theta, pi, **kw: NegativeBinomial.from_logits(
            logits, library, log_theta, **kw
        ),
        nb_formula,
    ),
    "zinb": Law(
        lambda mu, theta, pi: ZeroInflatedNegativeBinomial(mu, theta, pi),
        lambda logits, library, log_theta, pi, **kw: ZeroInflatedNegativeBinomial.from_logits(
            logits, library, log_theta, pi, **kw
        ),
        zinb_formula,
    ),
    "poisson": Law(
        lambda mu, theta, pi: Poisson(mu),
        lambda logits, library, log_theta, pi, **kw: Poisson.from_logits(logits, library, **kw),
        poisson_formula,
    ),
}


@pytest.fixture(params=TABLE)
def law(request: pytest.FixtureRequest) -> Law:
    return TABLE[request.param]


def parameters(b: int = 4, g: int = 6) -> tuple[torch.Tensor, ...]:
    mu = torch.rand(b, g, dtype=F64) * 5 + 0.1
    theta = torch.rand(b, g, dtype=F64) * 5 + 0.1
    pi = torch.randn(b, g, dtype=F64)
    x = torch.poisson(torch.rand(b, g, dtype=F64) * 3)
    return x, mu, theta, pi


def test_log_prob_is_the_formula(law: Law):
    x, mu, theta, pi = parameters()
    found = law.explicit(mu, theta, pi).log_prob(x)
    for i, j in torch.cartesian_prod(torch.arange(4), torch.arange(6)).tolist():
        args = (t[i, j].item() for t in (x, mu, theta, pi))
        assert found[i, j].item() == pytest.approx(law.formula(*args), rel=1e-12)


def test_probabilities_sum_to_one(law: Law):
    mu, theta, pi = (torch.tensor([v], dtype=F64) for v in (3.0, 0.8, -0.5))
    support = torch.arange(2000, dtype=F64).unsqueeze(1)
    assert law.explicit(mu, theta, pi).log_prob(support).exp().sum().item() == pytest.approx(1)


def test_mean_and_variance_are_those_of_the_probabilities(law: Law):
    mu, theta, pi = (torch.tensor([v], dtype=F64) for v in (3.0, 1.7, -0.5))
    x = torch.arange(3000, dtype=F64).unsqueeze(1)
    distribution = law.explicit(mu, theta, pi)
    p = distribution.log_prob(x).exp()
    mean = (p * x).sum()
    assert distribution.mean.item() == pytest.approx(mean.item(), rel=1e-9)
    variance = (p * (x - mean) ** 2).sum()
    assert distribution.variance.item() == pytest.approx(variance.item(), rel=1e-9)


def test_gradient_is_the_finite_difference(law: Law):
    x, mu, theta, pi = parameters(2, 3)
    inputs = [t.requires_grad_() for t in (mu, theta, pi)]
    assert torch.autograd.gradcheck(
        lambda m, t, p: law.explicit(m, t, p).log_prob(x), inputs, atol=1e-6
    )


@pytest.mark.parametrize("activation", ["softmax", "softplus"])
@pytest.mark.parametrize("sparse", [False, True])
def test_sum_from_logits_is_the_sum_of_elements(law: Law, activation: str, sparse: bool):
    x, logits, log_theta, pi = parameters()
    library = torch.log(x.sum(1, keepdim=True) + 1)
    lazy = law.lazy(logits, library, log_theta.log(), pi, activation=activation)
    value = x
    if sparse:
        csr = x.to_sparse_csr()
        value = csr_tensor(csr.crow_indices(), csr.col_indices(), csr.values(), x.shape)
    torch.testing.assert_close(
        lazy.log_prob_sum(value), lazy.log_prob(x).sum(1), rtol=1e-10, atol=1e-10
    )


def test_dispersion_table_rows_are_the_cells_rows():
    x, logits, _, pi = parameters()
    table, rows = torch.randn(3, 6, dtype=F64), torch.tensor([2, 0, 0, 1])
    library = torch.zeros(4, 1, dtype=F64)
    for law in (TABLE["nb"], TABLE["zinb"]):
        by_row = law.lazy(logits, library, table, pi, theta_rows=rows)
        direct = law.lazy(logits, library, table[rows], pi)
        torch.testing.assert_close(by_row.log_prob_sum(x), direct.log_prob_sum(x))
        torch.testing.assert_close(
            by_row.variance if law is TABLE["nb"] else by_row.theta,
            direct.variance if law is TABLE["nb"] else direct.theta,
        )


def test_samples_follow_the_probabilities(law: Law):
    mu, theta, pi = (torch.tensor([v]) for v in (2.0, 1.5, -1.0))
    distribution = law.explicit(mu, theta, pi)
    draws = distribution.sample((20_000,)).flatten()
    counted = torch.bincount(draws.long(), minlength=8)[:8] / len(draws)
    expected = distribution.log_prob(torch.arange(8.0).unsqueeze(1)).exp().flatten()
    # five standard errors of a share
    assert ((counted - expected).abs() < 5 * (expected / len(draws)).sqrt() + 1e-3).all()


def test_sample_shape(law: Law):
    x, mu, theta, pi = parameters()
    distribution = law.explicit(mu, theta, pi)
    assert distribution.sample().shape == x.shape
    assert distribution.sample((3,)).shape == (3, *x.shape)


def test_empty_cell_is_finite_in_value_and_gradient(law: Law):
    logits = torch.randn(2, 5, requires_grad=True)
    library = torch.tensor([[-math.inf], [1.0]])
    log_theta, pi = torch.zeros(5, requires_grad=True), torch.zeros(2, 5, requires_grad=True)
    value = law.lazy(logits, library, log_theta, pi).log_prob_sum(torch.zeros(2, 5))
    assert torch.isfinite(value).all()
    value.sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_get_normalized(law: Law):
    _, logits, theta, pi = parameters()
    library = torch.full((4, 1), 2.0, dtype=F64)
    lazy = law.lazy(logits, library, theta.log(), pi)
    torch.testing.assert_close(lazy.get_normalized("scale"), torch.softmax(logits, -1))
    torch.testing.assert_close(lazy.get_normalized("mu"), math.exp(2) * torch.softmax(logits, -1))
    with pytest.raises(ValueError, match="expected"):
        lazy.get_normalized("rate")


def test_explicit_scale_is_the_share_of_the_mean(law: Law):
    _, mu, theta, pi = parameters()
    distribution = law.explicit(mu, theta, pi)
    torch.testing.assert_close(
        distribution.get_normalized("scale").sum(1), torch.ones(4, dtype=F64)
    )


def test_published_vectors():
    x, mu = torch.tensor([0.0, 1, 5]), torch.tensor([0.5, 2, 3])
    theta, pi = torch.tensor([1.0, 2, 0.5]), torch.tensor([0.3, -1, 2])
    nb, zinb = NegativeBinomial(mu, theta), ZeroInflatedNegativeBinomial(mu, theta, pi)
    torch.testing.assert_close(nb.log_prob(x), torch.tensor([-0.4054651, -1.3862944, -3.1457515]))
    torch.testing.assert_close(zinb.log_prob(x), torch.tensor([-0.1529793, -1.6995559, -5.2726798]))
    torch.testing.assert_close(zinb.mean, torch.tensor([0.2127787, 1.4621172, 0.3576089]))
    torch.testing.assert_close(zinb.variance, torch.tensor([0.3802827, 3.7106822, 3.4482050]))


def test_poisson_refuses_what_is_no_count():
    with pytest.raises(ValueError, match="support"):
        Poisson(torch.ones(2)).log_prob(torch.tensor([0.5, 1.0]))
    with pytest.raises(ValueError, match="support"):
        Poisson(torch.ones(2)).log_prob(torch.tensor([-1.0, 1.0]))


def test_real_valued_counts_are_accepted_by_the_negative_binomial():
    value = NegativeBinomial(torch.ones(1), torch.ones(1)).log_prob(torch.tensor([0.5]))
    assert torch.isfinite(value).all()


def test_normal_sums_and_normalizes():
    loc, x = torch.randn(3, 4), torch.randn(3, 4)
    normal = Normal(loc, torch.ones(3, 4), normal_mu=loc * 2)
    torch.testing.assert_close(normal.log_prob_sum(x), normal.log_prob(x).sum(1))
    torch.testing.assert_close(normal.log_prob_sum(x.to_sparse_csr()), normal.log_prob(x).sum(1))
    assert (normal.get_normalized("scale") == loc * 2).all()
    assert (normal.get_normalized("mu") == loc).all()
