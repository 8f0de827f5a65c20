"""Observed entries, their logits and their likelihoods: compiled loops, torch twins and the laws."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from vivace.kernels import csr_tensor
from vivace.kernels import splicing as sp
from vivace.kernels.splicing import dense_entries, entry_logits, event_map, observed_entries
from vivace.kernels.splicing_rows import digamma, rise

F64 = torch.float64
EVENTS = torch.tensor([2, 0, 0, 1, 2, 2, 3, 0])  # events of 3, 1, 3 and 1 junctions, mixed up


def some_counts(n_cells: int = 6, seed: int = 0, scale: int = 6) -> torch.Tensor:
    """Counts with empty cells and unobserved events."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, scale, (n_cells, len(EVENTS))) * (rng.random((n_cells, 1)) < 0.8)
    counts *= (rng.random((n_cells, 4)) < 0.6)[:, EVENTS.numpy()]
    return torch.from_numpy(counts).double()


def totals_of(counts: torch.Tensor) -> torch.Tensor:
    return counts.new_zeros(len(counts), 4).index_add(1, EVENTS, counts)[:, EVENTS]


def urn(counts: list[int], alpha: list[float]) -> float:
    """Log-probability of counts drawn one by one from a Polya urn."""
    whole, drawn, value = sum(alpha), 0, math.lgamma(sum(counts) + 1)
    for y, a in zip(counts, alpha, strict=True):
        value -= math.lgamma(y + 1)
        for t in range(y):
            value += math.log((a + t) / (whole + drawn))
            drawn += 1
    return value


def one_event(counts: list[int], dtype: torch.dtype = F64) -> sp.Entries:
    k = len(counts)
    x = torch.tensor([counts], dtype=dtype)
    total = torch.full((1, k), float(sum(counts)), dtype=dtype)
    return dense_entries(x, total, torch.ones(1, k), torch.zeros(k, dtype=torch.long))


# entries ----------------------------------------------------------------------------------------


def assert_same(a: sp.Entries, b: sp.Entries) -> None:
    assert a.shape == b.shape
    for left, right in zip(a[1:], b[1:], strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize("seed", range(5))
def test_entries_of_counts_agree_between_the_three_ways(seed: int):
    counts, events = some_counts(seed=seed), event_map(EVENTS)
    compiled = observed_entries(counts, events)
    totals = totals_of(counts)
    assert_same(compiled, sp.reference_entries(counts.to_sparse_csr(), events))
    assert_same(compiled, dense_entries(counts, totals, totals > 0, EVENTS))
    dense = torch.zeros_like(counts)
    dense[compiled.cell, compiled.junction] = compiled.reads
    assert torch.equal(dense, counts)
    assert compiled.n_observed.tolist() == (totals > 0).sum(1).tolist()


def test_example_of_one_event():
    entries = observed_entries(torch.tensor([[3.0, 0.0, 1.0]]), event_map(torch.zeros(3).long()))
    assert entries.psi.tolist() == [0.75, 0.0, 0.25]
    assert entries.total.tolist() == [4.0]


def test_stored_zeros_are_not_observed():
    x = csr_tensor(torch.tensor([0, 2]), torch.tensor([0, 3]), torch.tensor([0.0, 2.0]), (1, 8))
    assert observed_entries(x, event_map(EVENTS)).junction.tolist() == [3]


def test_nothing_observed_and_no_cells():
    for n in (3, 0):
        entries = observed_entries(torch.zeros(n, 8).to_sparse_csr(), event_map(EVENTS))
        assert len(entries.cell) == 0
        assert entries.sum_cells(sp.binomial(torch.zeros(0), entries)).tolist() == [0.0] * n


def test_keep_drops_whole_pairs():
    entries = observed_entries(some_counts(), event_map(EVENTS))
    kept = entries.keep(entries.pair_event != 2)
    counts = some_counts()
    counts[:, EVENTS == 2] = 0
    assert_same(kept, observed_entries(counts, event_map(EVENTS)))


def test_psi_matrix_holds_the_positive_ratios():
    counts = some_counts()
    entries = observed_entries(counts, event_map(EVENTS))
    psi = sp.ratio_matrix(entries.cell, entries.junction, entries.psi, entries.shape).to_dense()
    assert torch.allclose(psi, counts / totals_of(counts).clamp(min=1))


# special functions ------------------------------------------------------------------------------


@pytest.mark.parametrize("z", [1e-3, 0.5, 1.0, 3.7, 8.0, 50.0, 1e6])
def test_digamma(z: float):
    assert digamma(z) == pytest.approx(torch.digamma(torch.tensor(z, dtype=F64)).item(), rel=1e-12)


@pytest.mark.parametrize("x", [1.0, 2.0, 5.0, 16.0, 17.0, 2.5, 300.0])
@pytest.mark.parametrize("a", [1e-12, 0.01, 1.0, 7.9, 8.1, 100.0, 1e4])
def test_rise_is_the_difference_of_log_gammas(a: float, x: float):
    value, slope = rise(a, math.log(a), x)
    exact = math.lgamma(a + x) - math.lgamma(a) - x * math.log(a)
    cancelled = 1e-15 * (math.lgamma(a + x) + x * abs(math.log(a)))
    assert value == pytest.approx(exact, rel=1e-11, abs=1e-12 + 10 * cancelled)
    ends = torch.digamma(torch.tensor([a + x, a], dtype=F64))
    assert slope == pytest.approx(a * (ends[0] - ends[1]).item(), rel=1e-10)


# likelihoods ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("phi", [1e-2, 0.3, 4.6, 100.0, 1e3, 1e5, 1e7])
def test_dirichlet_multinomial_is_polyas_urn(phi: float, dtype: torch.dtype):
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 50, 2000):
        for k in range(1, 9):
            logits = torch.from_numpy(rng.normal(0, 2, k)).to(dtype)
            p = torch.softmax(logits.double(), 0).numpy()
            counts = rng.multinomial(n, rng.dirichlet(np.full(k, 0.5))).tolist()
            log_phi = torch.tensor(math.log(phi), dtype=dtype)
            value = sp.dirichlet_multinomial(logits, log_phi, one_event(counts, dtype)).item()
            exact = urn(counts, (math.exp(log_phi.double().item()) * p).tolist())
            assert abs(value - exact) <= (1e-5 if dtype == torch.float32 else 1e-9) * max(1, n)


def test_dirichlet_multinomial_sums_to_one_and_does_not_mind_order():
    logits, log_phi = torch.tensor([0.3, -1.0, 2.0], dtype=F64), torch.tensor(0.7, dtype=F64)
    mass = 0.0
    for y in itertools.product(range(6), repeat=3):
        if sum(y) == 5:
            value = sp.dirichlet_multinomial(logits, log_phi, one_event(list(y)))
            turned = sp.dirichlet_multinomial(logits.flip(0), log_phi, one_event(list(y)[::-1]))
            assert value.item() == pytest.approx(turned.item(), abs=1e-12)
            mass += value.exp().item()
    assert mass == pytest.approx(1.0, abs=1e-12)


def test_one_junction_says_nothing_and_large_concentration_is_multinomial():
    alone = sp.dirichlet_multinomial(
        torch.tensor([3.0], dtype=F64), torch.tensor(1.0, dtype=F64), one_event([9])
    )
    assert alone.item() == 0.0
    logits, counts = torch.tensor([0.3, -1.0, 2.0], dtype=F64), [2, 0, 5]
    value = sp.dirichlet_multinomial(
        logits, torch.tensor(math.log(1e12), dtype=F64), one_event(counts)
    )
    multinomial = torch.distributions.Multinomial(7, logits=logits).log_prob(
        torch.tensor(counts, dtype=F64)
    )
    assert value.item() == pytest.approx(multinomial.item(), abs=1e-9)


def dense_loss(kind: str, logits, log_phi, counts, totals) -> torch.Tensor:
    """The same likelihoods on whole matrices, in the textbook form."""
    seen = totals > 0
    lg = torch.lgamma
    if kind == "dirichlet_multinomial":
        spread = torch.full((len(EVENTS), 4), -math.inf, dtype=F64)
        spread[torch.arange(len(EVENTS)), EVENTS] = 0.0
        log_mass = torch.logsumexp(logits.unsqueeze(-1) + spread, 1)[:, EVENTS]
        phi = log_phi.exp().expand(4)
        alpha = (logits - log_mass).exp() * phi[EVENTS]
        first = torch.tensor([list(EVENTS).index(g) for g in range(4)])
        n = totals[:, first]
        events = lg(n + 1) + lg(phi) - lg(n + phi)
        junctions = lg(alpha + counts) - lg(alpha) - lg(counts + 1)
        return torch.where(n > 0, events, 0).sum(1) + torch.where(seen, junctions, 0).sum(1)
    choose = lg(totals + 1) - lg(counts + 1) - lg(totals - counts + 1)
    p = torch.sigmoid(logits)
    if kind == "binomial":
        each = choose + counts * p.log() + (totals - counts) * (1 - p).log()
    else:
        phi = log_phi.exp()
        a, b = p * phi, (1 - p) * phi
        each = choose + lg(a + counts) + lg(b + totals - counts) - lg(phi + totals)
        each = each - lg(a) - lg(b) + lg(phi)
    return torch.where(seen, each, 0).sum(1)


def entry_loss(kind: str, logits, log_phi, entries) -> torch.Tensor:
    if kind == "binomial":
        return entries.sum_cells(sp.binomial(logits, entries))
    return entries.sum_cells(getattr(sp, kind)(logits, log_phi, entries))


@pytest.mark.parametrize("by_unit", [True, False], ids=["own_phi", "scalar_phi"])
@pytest.mark.parametrize("kind", ["dirichlet_multinomial", "beta_binomial", "binomial"])
def test_entries_give_the_dense_loss_and_its_gradients(kind: str, by_unit: bool):
    counts = some_counts(n_cells=9, scale=40)
    entries, totals = observed_entries(counts, event_map(EVENTS)), totals_of(counts)
    h = torch.randn(9, 5, dtype=F64, requires_grad=True)
    weight = torch.randn(8, 5, dtype=F64, requires_grad=True)
    bias = torch.randn(8, dtype=F64, requires_grad=True)
    units = 4 if kind == "dirichlet_multinomial" else 8
    log_phi = torch.randn((units,) if by_unit else (), dtype=F64, requires_grad=True)
    leaves = [h, weight, bias] + ([log_phi] if kind != "binomial" else [])
    weights = torch.randn(9, dtype=F64)
    dense = dense_loss(kind, h @ weight.t() + bias, log_phi, counts, totals)
    sparse = entry_loss(kind, entry_logits(h, weight, bias, entries), log_phi, entries)
    assert torch.allclose(dense, sparse, rtol=1e-12, atol=1e-11)
    wanted = torch.autograd.grad((dense * weights).sum(), leaves)
    found = torch.autograd.grad((sparse * weights).sum(), leaves)
    for a, b in zip(wanted, found, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("kind", ["dirichlet_multinomial", "beta_binomial", "binomial"])
def test_twin_in_torch_agrees_with_the_compiled_loop(kind: str):
    entries = observed_entries(some_counts(scale=60), event_map(EVENTS))
    logits = torch.randn(len(entries.cell), dtype=F64, requires_grad=True)
    units = entries.total if kind == "dirichlet_multinomial" else entries.reads
    log_phi = torch.randn(len(units), dtype=F64, requires_grad=True)
    twin = getattr(sp, f"reference_{kind}")
    if kind == "binomial":
        leaves, values = [logits], twin(logits, entries)
    else:
        leaves, values = [logits, log_phi], twin(logits, log_phi, entries)
    if kind == "dirichlet_multinomial":
        compiled = sp._Pairs.apply(logits, log_phi, entries)
    elif kind == "beta_binomial":
        compiled = sp._BetaBinomial.apply(logits, log_phi, entries)
    else:
        compiled = sp._Binomial.apply(logits, entries)
    assert torch.allclose(values, compiled, rtol=1e-12, atol=1e-11)
    for a, b in zip(
        torch.autograd.grad(values.sum(), leaves),
        torch.autograd.grad(compiled.sum(), leaves),
        strict=True,
    ):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", ["dirichlet_multinomial", "beta_binomial", "binomial"])
def test_gradients_are_finite_differences(kind: str):
    entries = observed_entries(some_counts(), event_map(EVENTS))
    logits = torch.randn(len(entries.cell), dtype=F64, requires_grad=True)
    log_phi = torch.randn(4 if kind[0] == "d" else 8, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: entry_loss(kind, a, b, entries), (logits, log_phi))
    h, w, b = (torch.randn(*s, dtype=F64, requires_grad=True) for s in ((6, 3), (8, 3), (8,)))
    assert torch.autograd.gradcheck(lambda *t: entry_logits(*t, entries), (h, w, b))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("kind", ["dirichlet_multinomial", "beta_binomial", "binomial"])
def test_saturated_logits_stay_finite(kind: str, dtype: torch.dtype):
    entries = observed_entries(some_counts(scale=50).to(dtype), event_map(EVENTS))
    signs = torch.where(torch.arange(len(entries.cell)) % 2 == 0, 1e4, -1e4).to(dtype)
    logits = signs.requires_grad_()
    log_phi = torch.full((4 if kind[0] == "d" else 8,), 9.0, dtype=dtype, requires_grad=True)
    loss = entry_loss(kind, logits, log_phi, entries).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert loss < 0
    assert torch.isfinite(logits.grad).all()
    assert log_phi.grad is None or torch.isfinite(log_phi.grad).all()


def test_usage_as_small_as_e_to_minus_30_is_exact():
    logits = torch.tensor([0.0, -30.0], dtype=torch.float32)
    value = sp.dirichlet_multinomial(logits, torch.tensor(2.0), one_event([1, 4], torch.float32))
    p = math.exp(-30.0)
    exact = urn([1, 4], [math.exp(2.0) * (1 - p), math.exp(2.0) * p])
    assert value.item() == pytest.approx(exact, rel=1e-5)


def test_sigmoid_variant_is_an_urn_too():
    logits, log_phi = torch.tensor([0.3, -1.0, 2.0], dtype=F64), torch.tensor(0.7, dtype=F64)
    alpha = (log_phi.exp() * torch.sigmoid(logits)).tolist()
    value = sp.sigmoid_dirichlet_multinomial(logits, log_phi, one_event([2, 0, 5]))
    assert value.item() == pytest.approx(urn([2, 0, 5], alpha), abs=1e-12)
