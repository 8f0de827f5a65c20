"""The linear map of every layer: the same as torch's on joined columns, in numbers and on disk."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vivace.kernels import csr_tensor
from vivace.nn.covariate_linear import CovariateLinear

SHAPES = {
    "alone": ([], 0),
    "continuous": ([], 2),
    "one category each": ([0, 0], 0),
    "two covariates": ([2, 3], 0),
    "all": ([2, 0, 3], 1),
}


def build(n_cats: list[int], n_cont: int, bias: bool = True) -> CovariateLinear:
    torch.manual_seed(0)
    return CovariateLinear(6, 4, n_cats, n_cont, bias=bias)


def inputs(n_cats: list[int], n_cont: int) -> tuple[torch.Tensor, list, torch.Tensor | None]:
    x = torch.randn(5, 6) * (torch.rand(5, 6) < 0.3)
    cats = [torch.randint(max(n, 1), (5, 1)) for n in n_cats]
    return x, cats, torch.randn(5, n_cont) if n_cont else None


def joined(x, cats, cont, n_cats) -> torch.Tensor:
    hot = [F.one_hot(c.flatten(), n).float() for c, n in zip(cats, n_cats, strict=True) if n]
    return torch.cat([x, *([] if cont is None else [cont]), *hot], dim=1)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("n_cats", "n_cont"), SHAPES.values(), ids=SHAPES)
def test_a_state_dict_is_that_of_a_linear_layer(n_cats, n_cont, bias):
    ours = build(n_cats, n_cont, bias)
    torch.manual_seed(0)
    theirs = nn.Linear(ours.in_features, 4, bias=bias)
    mine, wanted = ours.state_dict(), theirs.state_dict()
    assert list(mine) == list(wanted)
    for name, value in wanted.items():
        assert mine[name].is_contiguous()
        assert torch.equal(mine[name], value), "the same start from the same seed"
    other = CovariateLinear(6, 4, n_cats, n_cont, bias=bias)
    other.load_state_dict(wanted)
    assert torch.equal(other.weight, theirs.weight)


@pytest.mark.parametrize(("n_cats", "n_cont"), SHAPES.values(), ids=SHAPES)
def test_values_and_gradients_are_those_of_joined_columns(n_cats, n_cont):
    linear = build(n_cats, n_cont)
    x, cats, cont = inputs(n_cats, n_cont)
    columns = joined(x, cats, cont, n_cats)
    weight = linear.weight.detach().requires_grad_()
    expected = F.linear(columns, weight, linear.bias)
    torch.testing.assert_close(linear(x, cats, cont), expected)
    of_counts = linear(x.to_sparse_csr(), cats, cont)
    torch.testing.assert_close(of_counts, expected)
    direction = torch.randn_like(expected)
    (of_counts * direction).sum().backward()
    by_hand = torch.autograd.grad((expected * direction).sum(), weight)[0]
    ours = [linear.of_input.grad]
    ours += [] if linear.of_covariates is None else [linear.of_covariates.grad]
    torch.testing.assert_close(torch.cat(ours).t(), by_hand)
    assert linear.of_input.grad.is_contiguous(), "fused Adam reads memory, not strides"


def test_gradients_of_counts_lie_as_the_weights_do():
    x = csr_tensor(torch.tensor([0, 1]), torch.tensor([2]), torch.tensor([5.0]), (1, 6))
    linear = build([2], 0)
    linear(x, [torch.tensor([[1]])]).sum().backward()
    assert linear.of_input.grad.stride() == linear.of_input.stride()
    assert linear.of_input.grad[2].tolist() == [5.0] * 4
    assert linear.of_covariates.grad[1].tolist() == [1.0] * 4


@pytest.mark.parametrize("n_cats", [[], [2]])
@pytest.mark.parametrize("width", [5, 9])
def test_weights_of_another_width_are_refused(n_cats, width):
    with pytest.raises(RuntimeError, match="size mismatch"):
        build(n_cats, 0).load_state_dict({"weight": torch.zeros(4, width), "bias": torch.zeros(4)})


def test_missing_weights_are_named():
    with pytest.raises(RuntimeError, match="Missing key"):
        build([], 0).load_state_dict({"bias": torch.zeros(4)})
