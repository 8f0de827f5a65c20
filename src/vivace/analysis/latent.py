"""Where cells lie in the latent space."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.distributions import Normal

from vivace._types import Minibatches
from vivace.modules.base import BaseModule, to_device


def infer(module: BaseModule, tensors: Any, **kwargs) -> dict:
    """Inference outputs of a minibatch, on the module's device."""
    tensors = to_device(tensors, module.device)
    return module.inference(**module._get_inference_input(tensors), **kwargs)


def with_mean_state(module: BaseModule, outputs: dict) -> dict:
    """Inference outputs whose ``z`` is the state of the posterior mean instead of a draw.

    For a logistic normal latent space that is the softmax of the mean.
    """
    mean = module.latent_of(outputs["qz"].loc)
    return {**outputs, "z": mean.expand_as(outputs["z"])}


@torch.inference_mode()
def latent_distribution(module: BaseModule, batches: Minibatches) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each cell's posterior, two (N, L) float32 arrays.

    For a logistic normal latent space, those of the normal variable before its softmax.
    """
    posteriors = [infer(module, tensors)["qz"] for tensors in batches]
    means = torch.cat([qz.loc for qz in posteriors])
    variances = torch.cat([qz.scale**2 for qz in posteriors])
    return means.cpu().numpy(), variances.cpu().numpy()


@torch.inference_mode()
def latent_mean(module: BaseModule, batches: Minibatches, mc_samples: int = 5000) -> np.ndarray:
    """Posterior mean of each cell, (N, L) float32.

    For a logistic normal latent space, the average over ``mc_samples`` draws.
    """
    if getattr(module, "latent_distribution", "normal") == "normal":
        means = [infer(module, tensors)["qz"].loc for tensors in batches]
        return torch.cat(means).cpu().numpy()
    means = [_softmax_mean(infer(module, t)["qz"], mc_samples) for t in batches]
    return torch.cat(means).cpu().numpy()


@torch.inference_mode()
def latent_sample(module: BaseModule, batches: Minibatches) -> np.ndarray:
    """One draw from each cell's posterior, (N, L) float32."""
    return torch.cat([infer(module, tensors)["z"] for tensors in batches]).cpu().numpy()


def _softmax_mean(qz: Normal, mc_samples: int, chunk: int = 100) -> torch.Tensor:
    total = torch.zeros_like(qz.loc)
    for start in range(0, mc_samples, chunk):
        draws = qz.sample((min(chunk, mc_samples - start),))
        total += torch.softmax(draws, dim=-1).sum(0)
    return total / mc_samples
