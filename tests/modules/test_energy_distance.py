"""The energy distance against its formula, at its corners, and over the parts of a minibatch."""

from __future__ import annotations

import math

import pytest
import torch

from vivace.modules.energy_distance import energy_distance


def of_formula(x: torch.Tensor, y: torch.Tensor) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'| by loops, over pairs of different points within a sample."""
    x, y = x.tolist(), y.tolist()
    n = len(x)
    between = sum(math.dist(a, b) for a in x for b in y) / n**2
    within = [sum(math.dist(a, b) for a in s for b in s) / (n * (n - 1)) for s in (x, y)]
    return 2 * between - sum(within)


def normal(*shape: int, shift: float = 0.0) -> torch.Tensor:
    return (
        torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + shift
    )


@pytest.mark.parametrize("shape", [(2, 1), (7, 3), (40, 10)])
def test_it_is_the_formula(shape: tuple[int, int]):
    both = normal(2 * shape[0], shape[1])
    x, y = both.chunk(2)
    assert energy_distance(x, 1.5 * y + 1).item() == pytest.approx(of_formula(x, 1.5 * y + 1))


def test_its_gradient_is_that_of_its_values():
    both = normal(10, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda b: energy_distance(*b.chunk(2)), both)


def test_points_that_coincide_have_a_gradient():
    x = torch.zeros(4, 2, requires_grad=True)
    energy_distance(x, torch.zeros(4, 2)).backward()
    assert torch.equal(x.grad, torch.zeros(4, 2))


def test_it_is_unbiased_where_both_are_one_distribution():
    values = torch.stack(
        [energy_distance(*normal(2000, 8, 3)[i : i + 2]) for i in range(0, 2000, 2)]
    )
    assert values.mean().abs() < 4 * values.std() / math.sqrt(len(values))
    assert (values < 0).any()


def test_spread_counts_as_well_as_place():
    x = normal(500, 3)
    assert energy_distance(x, 2 * normal(500, 3).flip(0)) > 0.1


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_points_are_no_sample(n: int):
    assert energy_distance(normal(n, 3), normal(n, 3, shift=5.0)).item() == 0


def test_leading_axes_are_of_separate_samples():
    x, y = normal(3, 6, 2), normal(3, 6, 2, shift=1.0)
    each = torch.stack([energy_distance(a, b) for a, b in zip(x, y, strict=True)])
    torch.testing.assert_close(energy_distance(x, y), each)
