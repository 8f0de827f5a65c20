"""Weighted sums of softmaxes over genes: the expected expression of a spot that mixes cell types."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def mixture_of_softmaxes(
    h: torch.Tensor,
    weights: torch.Tensor,
    decoder_weight: torch.Tensor,
    type_bias: torch.Tensor,
    gene_bias: torch.Tensor,
) -> torch.Tensor:
    """``sum_c sum_k weights[k, b, c] * softmax(decoder_weight @ h[k, b, c] + type_bias[c] + gene_bias)``.

    Types are worked through one after the other, forward and backward, so that the expression of every
    spot in every type, (K, B, C, G), is never in memory. Differentiable in ``h``, ``weights`` and
    ``gene_bias``; the decoder is frozen.

    Parameters
    ----------
    h
        (K, B, C, H) last hidden layer of each state, spot and type.
    weights
        (K, B, C).
    decoder_weight
        (G, H).
    type_bias
        (C, G).
    gene_bias
        (G,).

    Returns
    -------
    (B, G)

    Examples
    --------
    >>> import torch
    >>> h, weights = torch.randn(1, 4, 3, 8), torch.full((1, 4, 3), 1 / 3)
    >>> out = mixture_of_softmaxes(
    ...     h, weights, torch.randn(20, 8), torch.zeros(3, 20), torch.zeros(20)
    ... )
    >>> out.sum(-1)
    tensor([1.0000, 1.0000, 1.0000, 1.0000])
    """
    return _Mixture.apply(h, weights, decoder_weight, type_bias, gene_bias)


def softmax_of_type(h, decoder_weight, bias):
    """(K, B, G) softmax of one type's logits; ``h`` (K, B, H), ``bias`` (G,)."""
    logits = torch.addmm(bias, h.flatten(0, 1), decoder_weight.t())
    return torch.softmax(logits, dim=-1).unflatten(0, h.shape[:2])


class _Mixture(torch.autograd.Function):
    """Softmaxes are computed again in the backward pass: a product costs less than their memory."""

    @staticmethod
    def forward(ctx, h, weights, decoder_weight, type_bias, gene_bias):
        ctx.save_for_backward(h, weights, decoder_weight, type_bias, gene_bias)
        out = h.new_zeros(h.shape[1], decoder_weight.shape[0])
        for c in range(h.shape[2]):
            scale = softmax_of_type(h[:, :, c], decoder_weight, type_bias[c] + gene_bias)
            for k in range(h.shape[0]):
                out.addcmul_(scale[k], weights[k, :, c, None])
        return out

    @staticmethod
    def backward(ctx, grad):
        h, weights, decoder_weight, type_bias, gene_bias = ctx.saved_tensors
        grad_h, grad_weights = torch.empty_like(h), torch.empty_like(weights)
        grad_gene = torch.zeros_like(gene_bias)
        for c in range(h.shape[2]):
            scale = softmax_of_type(h[:, :, c], decoder_weight, type_bias[c] + gene_bias)
            of_weight = torch.linalg.vecdot(scale, grad.expand_as(scale))  # (K, B)
            grad_weights[:, :, c] = of_weight
            # d softmax: scale * (grad - <grad, scale>), times the weight
            scale.mul_(grad - of_weight.unsqueeze(-1)).mul_(weights[:, :, c, None])
            rows = scale.flatten(0, 1)
            grad_gene += rows.sum(0)
            grad_h[:, :, c] = F.linear(rows, decoder_weight.t()).unflatten(0, scale.shape[:2])
        return grad_h, grad_weights, None, None, grad_gene
