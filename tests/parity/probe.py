"""Ask a module the same questions wherever it comes from: every random draw is its mean.

Imported by the tests and, in the environment of scvi-tools, by ``reference.py``; needs torch alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.distributions import Normal

KL_WEIGHT = 0.7


@contextmanager
def no_noise() -> Iterator[None]:
    """Every normal variable is its mean inside."""

    def mean(self: Normal, sample_shape: Any = ()) -> torch.Tensor:
        return self.loc.expand(self._extended_shape(torch.Size(sample_shape)))

    kept = Normal.rsample, Normal.sample, torch.Tensor.float
    Normal.rsample = Normal.sample = mean
    torch.Tensor.float = torch.Tensor.double  # one-hots are cast to float32 in places
    try:
        yield
    finally:
        Normal.rsample, Normal.sample, torch.Tensor.float = kept


def probe(module: Any, tensors: dict, *, with_loss: bool = True) -> dict[str, np.ndarray]:
    """Latent, decoded means, loss terms and the gradient of every parameter, in float64.

    Without the loss, which some modules do not have in evaluation mode, the gradients are those of a
    weighted sum of the decoded rates.
    """
    module = module.double().eval()
    module.zero_grad()
    tensors = as_double(tensors)
    if not with_loss:
        return decoded(module, tensors)
    with no_noise():
        inference, generative, losses = module(tensors, loss_kwargs={"kl_weight": KL_WEIGHT})
    losses.loss.backward()
    found = {"loss": losses.loss}
    for part in ("reconstruction_loss", "kl_local", "kl_global"):
        # terms are named differently here and there; their sum is what counts
        found[part] = sum(getattr(losses, part).values())
    return as_arrays(found | outputs_and_gradients(module, inference, generative))


def decoded(module: Any, tensors: dict) -> dict[str, np.ndarray]:
    """What a module without a loss in evaluation mode says."""
    with no_noise():
        inference, generative = module(tensors, compute_loss=False)
    rate = generative["px_rate"]
    (rate * torch.linspace(-1, 1, rate.numel(), dtype=rate.dtype).view_as(rate)).sum().backward()
    return as_arrays(outputs_and_gradients(module, inference, generative))


def outputs_and_gradients(module: Any, inference: Any, generative: Any) -> dict[str, torch.Tensor]:
    found = {f"inference.{k}": v for k, v in tensors_of(inference)}
    found |= {f"generative.{k}": v for k, v in tensors_of(generative)}
    return found | {f"gradient.{name}": gradient for name, gradient in gradients(module).items()}


def gradients(module: Any) -> dict[str, torch.Tensor]:
    """By the names of a state dict: vivace keeps a layer's weight in two parameters, by input."""
    found = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
    for name in [name for name in found if name.endswith(".of_input")]:
        layer = name.removesuffix(".of_input")
        parts = [found.pop(f"{layer}.{part}", None) for part in ("of_input", "of_covariates")]
        found[f"{layer}.weight"] = torch.cat([part for part in parts if part is not None]).t()
    return found


def as_arrays(found: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy() for name, value in found.items()}


def tensors_of(outputs: Any, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors of nested dicts and of distributions, by a name."""
    if isinstance(outputs, torch.Tensor):
        yield prefix, outputs
    elif isinstance(outputs, Mapping):
        for key, value in outputs.items():
            yield from tensors_of(value, f"{prefix}.{key}" if prefix else key)
    else:
        for name in ("loc", "scale", "mu", "theta", "zi_logits", "rate"):
            value = getattr(outputs, name, None)
            if isinstance(value, torch.Tensor):
                yield f"{prefix}.{name}", value


def as_double(tensors: Any) -> Any:
    """Floating-point tensors of a nested dict in float64, counts dense."""
    if isinstance(tensors, dict):
        return {key: as_double(value) for key, value in tensors.items()}
    if not isinstance(tensors, torch.Tensor):
        return tensors
    dense = tensors if tensors.layout == torch.strided else tensors.to_dense()
    return dense.double() if dense.is_floating_point() else dense
