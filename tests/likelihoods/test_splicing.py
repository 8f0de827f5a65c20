"""Beta-binomial and Dirichlet-multinomial: pmf, moments, samples, refusals."""

from __future__ import annotations

import pytest
import torch

from vivace.errors import InvalidArgumentError
from vivace.likelihoods import BetaBinomial, DirichletMultinomial

F64 = torch.float64


def test_beta_binomial_sums_to_one_and_has_its_moments():
    n, y = 12, torch.arange(13, dtype=F64)
    law = BetaBinomial(torch.tensor(float(n), dtype=F64), torch.tensor(0.7), torch.tensor(2.1))
    p = law.log_prob(y).double().exp()
    assert p.sum().item() == pytest.approx(1.0, abs=1e-6)
    assert (p * y).sum().item() == pytest.approx(law.mean.item(), abs=1e-4)
    spread = (p * y**2).sum() - (p * y).sum() ** 2
    assert spread.item() == pytest.approx(law.variance.item(), rel=1e-4)


def test_beta_binomial_samples_fit():
    law = BetaBinomial(torch.tensor(8.0), torch.tensor(2.0), torch.tensor(1.0))
    drawn = law.sample((40_000,))
    expected = law.log_prob(torch.arange(9.0)).exp()
    found = torch.bincount(drawn.long(), minlength=9) / len(drawn)
    assert (found - expected).abs().max() < 0.012


def test_beta_binomial_refuses_more_than_the_total():
    law = BetaBinomial(torch.tensor(2.0), torch.tensor(1.0), torch.tensor(1.0), validate_args=True)
    with pytest.raises(ValueError, match="larger than total_count"):
        law.log_prob(torch.tensor(3.0))
    with pytest.raises(ValueError, match="alpha"):
        BetaBinomial(torch.tensor(2.0), torch.tensor(0.0), torch.tensor(1.0), validate_args=True)


INDEX = torch.tensor([0, 1, 0, 1, 1])


def usage(total: list[float], validate_args: bool = False) -> DirichletMultinomial:
    alpha = torch.tensor([0.5, 1.0, 2.0, 0.3, 4.0], dtype=F64)
    return DirichletMultinomial(torch.tensor(total, dtype=F64), alpha, INDEX, validate_args)


def test_dirichlet_multinomial_with_two_junctions_is_beta_binomial():
    alpha = torch.tensor([0.5, 2.0], dtype=F64)
    for y in range(8):
        both = torch.tensor([float(y), 7.0 - y], dtype=F64)
        dm = DirichletMultinomial(torch.tensor([7.0]), alpha, torch.zeros(2, dtype=torch.long))
        bb = BetaBinomial(torch.tensor(7.0), alpha[0], alpha[1])
        assert dm.log_prob(both).item() == pytest.approx(bb.log_prob(both[0]).item(), abs=1e-12)


def test_totals_by_event_and_by_junction_agree():
    value = torch.tensor([1.0, 2.0, 2.0, 0.0, 1.0], dtype=F64)
    by_event, by_junction = usage([3.0, 3.0]), usage([3.0, 3.0, 3.0, 3.0, 3.0])
    assert by_event.log_prob(value) == by_junction.log_prob(value)
    with pytest.raises(InvalidArgumentError, match="differs between junctions"):
        usage([3.0, 3.0, 2.0, 3.0, 3.0])
    with pytest.raises(InvalidArgumentError, match="total_count has 3 columns"):
        usage([3.0, 3.0, 2.0])


def test_an_event_without_reads_adds_nothing():
    one = torch.tensor([1.0, 0.0, 2.0, 0.0, 0.0], dtype=F64)
    alone = DirichletMultinomial(
        torch.tensor([3.0]), usage([3.0, 0.0]).concentration[[0, 2]], torch.tensor([0, 0])
    )
    assert usage([3.0, 0.0]).log_prob(one) == alone.log_prob(one[[0, 2]])


def test_dirichlet_multinomial_samples_keep_totals_and_fit_moments():
    law = usage([6.0, 20.0])
    drawn = law.sample((20_000,))
    assert torch.equal(drawn[:, [0, 2]].sum(1), torch.full((20_000,), 6.0, dtype=F64))
    assert torch.allclose(drawn.mean(0), law.mean, rtol=0.05, atol=0.02)
    assert torch.allclose(drawn.var(0), law.variance, rtol=0.08)


def test_dirichlet_multinomial_refuses_what_does_not_fit():
    law = usage([3.0, 3.0], validate_args=True)
    with pytest.raises(ValueError, match="do not sum"):
        law.log_prob(torch.tensor([1.0, 2.0, 3.0, 0.0, 1.0], dtype=F64))
    with pytest.raises(InvalidArgumentError, match="event_index has shape"):
        DirichletMultinomial(torch.tensor([3.0]), torch.ones(3), torch.tensor([0, 0]))


def test_float32_keeps_four_digits_a_read_at_high_concentration():
    alpha = 1e5 * torch.tensor([0.2, 0.8])
    index = torch.zeros(2, dtype=torch.long)
    y = torch.tensor([300.0, 700.0])
    single = DirichletMultinomial(torch.tensor([1000.0]), alpha, index).log_prob(y)
    double = DirichletMultinomial(torch.tensor([1000.0]).double(), alpha.double(), index)
    assert abs(single.item() - double.log_prob(y.double()).item()) < 1e-4 * 1000
