"""Denoised expression, and the parameters of the count distribution behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from vivace._types import Minibatches
from vivace.analysis.latent import infer, with_mean_state
from vivace.modules.base import BaseModule, to_device


def decode(
    module: BaseModule, tensors: Any, outputs: dict, transform_batch: int | None = None
) -> dict:
    """Generative outputs of a minibatch whose inference outputs are known."""
    kwargs = {} if transform_batch is None else {"transform_batch": transform_batch}
    tensors = to_device(tensors, module.device)
    return module.generative(**module._get_generative_input(tensors, outputs), **kwargs)


@torch.inference_mode()
def normalized_expression(
    module: BaseModule,
    batches: Minibatches,
    *,
    transform_batch: Sequence[int | None] = (None,),
    genes: np.ndarray | None = None,
    library_size: float | str = 1,
    n_samples: int = 1,
    use_mean: bool = False,
) -> np.ndarray:
    """Decoded expression of each cell.

    Parameters
    ----------
    module
        With ``inference`` and ``generative`` of the VAE kind.
    batches
        Minibatches.
    transform_batch
        Batch codes to decode for (None: the observed one); several are averaged.
    genes
        Columns to keep.
    library_size
        Multiplies the normalised expression; "latent" gives the mean parameter instead.
    n_samples
        Draws S of z for each cell.
    use_mean
        Decode the posterior mean of z instead of draws.

    Returns
    -------
    (N, G), or (S, N, G) if ``n_samples > 1``; float32.
    """
    key, factor = ("mu", 1.0) if library_size == "latent" else ("scale", float(library_size))
    blocks = []
    for tensors in batches:
        outputs = infer(module, tensors, n_samples=n_samples)
        if use_mean:
            outputs = with_mean_state(module, outputs)
        decoded = [
            decode(module, tensors, outputs, batch)["px"].get_normalized(key)
            for batch in transform_batch
        ]
        block = torch.stack(decoded).mean(0) if len(decoded) > 1 else decoded[0]
        blocks.append((factor * (block if genes is None else block[..., genes])).cpu().numpy())
    return np.concatenate(blocks, axis=-2)


@torch.inference_mode()
def likelihood_parameters(
    module: BaseModule, batches: Minibatches, *, n_samples: int = 1, give_mean: bool = False
) -> dict[str, np.ndarray]:
    """Parameters of the distribution of each count.

    Returns
    -------
    dict with ``mean`` (N, G) or (S, N, G) and, where the likelihood has them, ``dispersions`` (inverse
    dispersion, or the standard deviation of a normal likelihood) and ``dropout`` (probability of a
    technical zero).
    """
    found: dict[str, list[torch.Tensor]] = {}
    for tensors in batches:
        outputs = infer(module, tensors, n_samples=n_samples)
        px = decode(module, tensors, outputs)["px"]
        for name, value in px.parameters().items():
            value = value.expand(px.batch_shape)
            if give_mean and n_samples > 1:
                value = value.mean(0)
            found.setdefault(name, []).append(value.cpu())
    return {name: torch.cat(values, dim=-2).numpy() for name, values in found.items()}


@torch.inference_mode()
def latent_library_size(
    module: BaseModule, batches: Minibatches, *, give_mean: bool = True
) -> np.ndarray:
    """Library size of each cell, (N, 1) float32.

    The mean of the log-normal posterior, or (``give_mean=False``) one draw of it, or the observed size
    where it is not latent.
    """
    sizes = []
    for tensors in batches:
        outputs = infer(module, tensors)
        ql = outputs["ql"]
        log_size = outputs["library"]
        if give_mean and ql is not None:
            log_size = ql.loc + ql.scale**2 / 2
        sizes.append(torch.exp(log_size).cpu())
    return torch.cat(sizes).numpy()
