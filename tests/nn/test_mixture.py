"""The sum of softmaxes that never holds them all."""

from __future__ import annotations

import torch

from vivace.nn.mixture import mixture_of_softmaxes


def arguments(k: int = 2, b: int = 3, c: int = 4, h: int = 5, g: int = 6) -> list[torch.Tensor]:
    shapes = [(k, b, c, h), (k, b, c), (g, h), (c, g), (g,)]
    return [
        torch.randn(s, dtype=torch.float64).requires_grad_(s not in shapes[2:4]) for s in shapes
    ]


def plain(h, weights, decoder, type_bias, gene_bias) -> torch.Tensor:
    logits = h @ decoder.t() + type_bias + gene_bias
    return (weights.unsqueeze(-1) * torch.softmax(logits, dim=-1)).sum((0, 2))


def test_value():
    args = arguments()
    torch.testing.assert_close(mixture_of_softmaxes(*args), plain(*args))


def test_gradient():
    assert torch.autograd.gradcheck(mixture_of_softmaxes, arguments())


def test_one_of_everything():
    args = arguments(k=1, b=1, c=1, g=1)
    torch.testing.assert_close(mixture_of_softmaxes(*args), args[1].reshape(1, 1))


def test_huge_logits_are_finite():
    args = arguments()
    with torch.no_grad():
        args[0].mul_(1e4)
    out = mixture_of_softmaxes(*args)
    out.sum().backward()
    assert all(torch.isfinite(t).all() for t in (out, args[0].grad, args[1].grad))
