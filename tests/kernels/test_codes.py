"""Sums of the codes of observed entries: compiled loops against plain torch and finite differences."""

from __future__ import annotations

import pytest
import torch

from vivace.kernels import codes
from vivace.kernels.codes import Floors, Network, can_be_summed, entry_codes, summed_codes

FLOORS = Floors(1e-6, 1e-5, 1e-5)


def problem(dtype=torch.float64, n=23, n_cells=4, n_junctions=6, n_in=3, width=5, n_out=4):
    """Entries of some cells, one of which has none, and a network whose units are on and off."""
    cell = torch.randint(n_cells - 1, (n,)).sort().values
    junction, value = torch.randint(n_junctions - 1, (n,)), torch.randn(n, dtype=dtype)
    shapes = [(width, 1 + n_in), *[(width,)] * 3, (n_out, width), *[(n_out,)] * 3]
    vectors = torch.randn(n_junctions, n_in, dtype=dtype)
    network = Network(*(torch.randn(shape, dtype=dtype) for shape in shapes))
    return (cell, junction, value), torch.randn(n_out, dtype=dtype), vectors, network


def plain(entries, base, n_cells, vectors, network):
    cell, junction, value = entries
    of_entries = entry_codes(junction, value, vectors, network, FLOORS) - base
    return of_entries.new_zeros(n_cells, len(base)).index_add(0, cell, of_entries)


def gradients(function, base, vectors, network):
    leaves = [t.clone().requires_grad_() for t in (base, vectors, *network)]
    value = function(leaves[0], leaves[1], Network(*leaves[2:]))
    weights = torch.linspace(-1, 2, value.numel(), dtype=value.dtype).view(value.shape)
    return [value.detach(), *torch.autograd.grad((value * weights).sum(), leaves)]


@pytest.mark.parametrize("at_once", [1, 7, 23, 4096])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 2e-4)])
def test_value_and_gradients_are_those_of_plain_torch(monkeypatch, dtype, error, at_once):
    monkeypatch.setattr(codes, "AT_ONCE", at_once)
    entries, *rest = problem()
    exact = gradients(lambda b, v, net: plain(entries, b, 4, v, net), *rest)
    entries = (*entries[:2], entries[2].to(dtype))
    rest = [rest[0].to(dtype), rest[1].to(dtype), Network(*(w.to(dtype) for w in rest[2]))]
    found = gradients(lambda b, v, net: summed_codes(*entries, b, 4, v, net, FLOORS), *rest)
    for one, other in zip(found, exact, strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one.double(), other, rtol=error, atol=error)


def test_gradients_are_finite_differences():
    entries, base, vectors, network = problem(n=5, width=3)
    leaves = [t.requires_grad_() for t in (base, vectors, *network)]
    assert torch.autograd.gradcheck(
        lambda b, v, *net: summed_codes(*entries, b, 4, v, Network(*net), FLOORS), leaves
    )


def test_no_entries_and_zero_vectors():
    entries, base, vectors, network = problem(n=0)
    value, *by = gradients(
        lambda b, v, net: summed_codes(*entries, b, 4, v, net, FLOORS), base, vectors, network
    )
    assert not value.any()
    assert not any(g.any() for g in by)
    entries, base, vectors, network = problem()
    results = gradients(
        lambda b, v, net: summed_codes(*entries, b, 4, v, net, FLOORS), base, vectors * 0, network
    )
    assert all(r.isfinite().all() for r in results)


def test_nan_shows_in_its_cell_alone():
    (cell, junction, value), base, vectors, network = problem()
    value[0] = torch.nan
    sums = summed_codes(cell, junction, value, base, 4, vectors, network, FLOORS)
    assert sums.isnan().any(1).tolist() == [i == cell[0] for i in range(4)]


def test_other_types_and_half_precision_go_through_plain_torch():
    value, vectors = torch.ones(2), torch.ones(2, 2)
    assert can_be_summed(value, vectors)
    assert not can_be_summed(value.double(), vectors)
    assert not can_be_summed(value.half(), vectors.half())
    with torch.autocast("cpu", torch.bfloat16):
        assert not can_be_summed(value, vectors)
