"""The Gaussian log-likelihood is the formula, whichever way it is computed."""

from __future__ import annotations

import math

import pytest
import torch

from vivace.kernels import csr_tensor, sparse_linear
from vivace.kernels.affine import Affine, affine_linear
from vivace.kernels.gaussian import MIN_VARIANCE, Gram, expanded_nll, gaussian_nll
from vivace.likelihoods import AffineNormal

G, H = 11, 4


def cells(b: int) -> torch.Tensor:
    return (torch.rand(b, G) * (torch.rand(b, G) < 0.4)).double()


def affine(b: int, *leading: int) -> Affine:
    shapes = ((*leading, b, H), (G, H), (G,))
    return Affine(*(torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes))


def csr(x: torch.Tensor) -> torch.Tensor:
    s = x.to_sparse_csr()
    return csr_tensor(s.crow_indices(), s.col_indices(), s.values(), s.shape)


def written_out(x: torch.Tensor, mean: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return (0.5 * (torch.log(v) + (x - mean) ** 2 / v)).sum(-1)


@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize("b", [1, 3, H, 9])  # below and above the number of hidden units
@pytest.mark.parametrize("per_cell", [False, True])
def test_value_and_gradient_are_those_of_the_formula(layout: str, b: int, per_cell: bool):
    x, mean = cells(b), affine(b)
    v = (torch.rand((b, G) if per_cell else (G,)).double() + 0.1).requires_grad_()
    inputs = (*mean, v)
    expected = written_out(x, mean.dense(), v)
    wanted = torch.autograd.grad((expected * torch.arange(1, b + 1)).sum(), inputs)
    found = gaussian_nll(csr(x) if layout == "csr" else x, mean, v)
    got = torch.autograd.grad((found * torch.arange(1, b + 1)).sum(), inputs)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_samples_in_front_give_one_value_each():
    x, mean = cells(3), affine(3, 2)
    v = torch.rand(G).double() + 0.1
    torch.testing.assert_close(gaussian_nll(x, mean, v), written_out(x, mean.dense(), v))


def test_small_variances_are_floored_in_the_value_but_keep_their_gradient():
    x, mean = torch.tensor([[1.0]]), torch.tensor([[0.0]])
    v = torch.tensor([1e-9], requires_grad=True)
    nll = gaussian_nll(x, mean, v)
    floor = torch.tensor(MIN_VARIANCE)
    torch.testing.assert_close(nll[0], 0.5 * (floor.log() + 1 / floor))
    (gradient,) = torch.autograd.grad(nll.sum(), v)
    torch.testing.assert_close(gradient[0], 0.5 * (1 / floor - 1 / floor**2))


def test_multiplied_out_in_float32_agrees_with_float64():
    mean = affine(20)
    x, v = mean.dense().detach() + 0.1 * torch.randn(20, G), torch.full((G,), 0.01)
    exact = written_out(x, mean.dense(), v.double())
    single = Affine(*(part.detach().float() for part in mean))
    found = expanded_nll(x.float(), single, v)
    torch.testing.assert_close(found.double(), exact, rtol=1e-3, atol=0.05)


def test_nearly_constant_genes_keep_the_gradient_of_their_variance():
    """Multiplied out in float32 the squares of such a gene cancel, and its variance would run to zero."""
    h, weight, bias = torch.randn(20, H), 1e-4 * torch.randn(G, H), torch.full((G,), 30.0)
    x = 30 + 1e-3 * torch.randn(20, G)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        v = torch.full((G,), 2e-6, dtype=dtype, requires_grad=True)
        mean = Affine(h.to(dtype), weight.to(dtype), bias.to(dtype))
        gradients.append(torch.autograd.grad(gaussian_nll(x.to(dtype), mean, v).sum(), v)[0])
    torch.testing.assert_close(gradients[0].double(), gradients[1], rtol=0.01, atol=1e5)


def test_gradient_of_the_shared_quadratic_form():
    weight = torch.randn(G, H, dtype=torch.float64, requires_grad=True)
    precision = torch.rand(G, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w, p: Gram.apply(w, p).square(), (weight, precision))


@pytest.mark.parametrize("b", [2, 9])
def test_a_product_goes_through_a_linear_map_as_the_matrix_does(b: int):
    x, weight = affine(b), torch.randn(3, G, dtype=torch.float64)
    bias = torch.randn(3, dtype=torch.float64)
    expected = x.dense() @ weight.t() + bias
    torch.testing.assert_close(affine_linear(x, weight, bias), expected)
    torch.testing.assert_close(sparse_linear(x, weight, bias), expected)
    torch.testing.assert_close(sparse_linear(x, weight), expected - bias)


def test_affine_normal_is_a_normal():
    mean, v = affine(3), torch.rand(G).double() + 0.1
    px, plain = AffineNormal(mean, v), torch.distributions.Normal(mean.dense(), v.sqrt())
    x = cells(3)
    torch.testing.assert_close(px.log_prob(x), plain.log_prob(x))
    torch.testing.assert_close(px.log_prob_sum(x), plain.log_prob(x).sum(-1))
    torch.testing.assert_close(px.mean, plain.mean)
    torch.testing.assert_close(px.variance, plain.variance)
    assert px.get_normalized("scale") is px.get_normalized("mu")
    assert px.sample().shape == (3, G)
    constant = G * math.log(2 * math.pi) / 2
    torch.testing.assert_close(-px.log_prob_sum(x) - constant, gaussian_nll(x, mean, v))


def test_published_vector():
    mean, x, v = torch.tensor([1.0, 2]), torch.tensor([0.5, 2.5]), torch.tensor([0.5, 2])
    each = gaussian_nll(x.unsqueeze(1), mean.unsqueeze(1), v.unsqueeze(1))
    torch.testing.assert_close(each, torch.tensor([-0.0965736, 0.4090736]))
