"""The first layer from CSR gives the numbers of the dense product, and the same ones on any thread."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from vivace.kernels import csr_tensor, sparse_linear
from vivace.kernels import linear as linear_module


def counts(n_cells=37, n_genes=50, density=0.1, index_type=torch.int32):
    x = torch.rand(n_cells, n_genes) * (torch.rand(n_cells, n_genes) < density)
    x[n_cells // 2] = 0
    rows, columns = x.nonzero(as_tuple=True)
    indptr = torch.zeros(n_cells + 1, dtype=torch.long)
    indptr[1:] = torch.bincount(rows, minlength=n_cells).cumsum(0)
    csr = csr_tensor(indptr.to(index_type), columns.to(index_type), x[rows, columns], x.shape)
    return x, csr


def value_and_gradients(x, weight, bias):
    weight = weight.detach().clone().requires_grad_()
    bias = None if bias is None else bias.detach().clone().requires_grad_()
    out = sparse_linear(x, weight, bias)
    (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
    return [out.detach(), weight.grad, *([] if bias is None else [bias.grad])]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("index_type", [torch.int32, torch.int64])
@pytest.mark.parametrize("density", [0.0, 0.02, 0.1, 0.6])
def test_csr_is_dense(density, index_type, bias):
    dense, csr = counts(density=density, index_type=index_type)
    weight, b = torch.randn(19, 50), torch.randn(19) if bias else None
    for a, c in zip(
        value_and_gradients(csr, weight, b), value_and_gradients(dense, weight, b), strict=True
    ):
        torch.testing.assert_close(a, c, rtol=1e-5, atol=1e-5)


def test_counts_changed_in_place_have_another_gradient():
    _, csr = counts()
    weight = torch.randn(8, 50)
    _, before = value_and_gradients(csr, weight, None)
    csr.values().mul_(2)
    _, after = value_and_gradients(csr, weight, None)
    assert before.any()
    assert torch.equal(after, 2 * before)


def test_counts_made_in_inference_mode_have_a_gradient():
    """Also after changes in place, which torch does not count there."""
    dense, csr = counts()
    weight = torch.randn(8, 50)
    with torch.inference_mode():
        csr = csr.clone()
    for times in (1, 2):
        _, found = value_and_gradients(csr, weight, None)
        _, expected = value_and_gradients(times * dense, weight, None)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        with torch.inference_mode():
            csr.values().mul_(2)


def test_part_of_a_wider_weight():
    dense, csr = counts()
    wide = torch.randn(8, 60, requires_grad=True)
    sparse_linear(csr, wide[:, :50]).sum().backward()
    expected = F.linear(dense, torch.ones(8, 50)).new_zeros(8, 60)
    expected[:, :50] = dense.sum(0)
    torch.testing.assert_close(wide.grad, expected)


def test_the_crossover_decides(monkeypatch):
    _, csr = counts(density=0.1)
    weight = torch.randn(4, 50)
    assert linear_module.csr_is_faster(csr, weight)
    assert not linear_module.csr_is_faster(csr, weight.double())
    monkeypatch.setattr(linear_module, "SPARSE_BELOW", 0.0)
    assert not linear_module.csr_is_faster(csr, weight)


def test_one_cell():
    dense, csr = counts(n_cells=1)
    torch.testing.assert_close(
        sparse_linear(csr, torch.ones(2, 50)), F.linear(dense, torch.ones(2, 50))
    )


def test_threads_do_not_change_a_bit():
    _, csr = counts(n_cells=100, n_genes=40)
    weight, bias, before, results = (
        torch.randn(64, 40),
        torch.randn(64),
        torch.get_num_threads(),
        [],
    )
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            results.append(value_and_gradients(csr, weight, bias)[:2])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
