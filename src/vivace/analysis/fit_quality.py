"""How well the model explains cells: ELBO, reconstruction error, marginal likelihood, predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import sparse

from vivace._types import Minibatches
from vivace.modules.base import BaseModule, LossOutput


@torch.inference_mode()
def cell_elbo(
    module: BaseModule, batches: Minibatches, loss_kwargs: dict[str, Any] | None = None
) -> torch.Tensor:
    """Evidence lower bound of each cell, (N,), nats, higher is better; KL terms unweighted.

    ``loss_kwargs`` are passed to the module's loss, such as to leave out terms that do not count here.
    """
    elbos = []
    for tensors in batches:
        *_, losses = module(tensors, loss_kwargs=loss_kwargs)
        cost = LossOutput.dict_sum(losses.reconstruction_loss) + LossOutput.dict_sum(
            losses.kl_local
        )
        elbos.append(-cost.cpu())
    return torch.cat(elbos)


@torch.inference_mode()
def reconstruction_errors(
    module: BaseModule, batches: Minibatches, loss_kwargs: dict[str, Any] | None = None
) -> dict[str, torch.Tensor]:
    """Negative log-likelihood of each cell, (N,) per term, nats, lower is better."""
    errors: dict[str, list[torch.Tensor]] = {}
    for tensors in batches:
        *_, losses = module(tensors, loss_kwargs=loss_kwargs)
        for name, value in losses.reconstruction_loss.items():
            errors.setdefault(name, []).append(value.cpu())
    return {name: torch.cat(values) for name, values in errors.items()}


def marginal_log_likelihood(
    module: Any, batches: Minibatches, n_mc_samples: int, n_mc_samples_per_pass: int
) -> torch.Tensor:
    """Importance-sampled log-likelihood of each cell, (N,), nats, higher is better."""
    return torch.cat(
        [
            module.marginal_ll(tensors, n_mc_samples, n_mc_samples_per_pass=n_mc_samples_per_pass)
            for tensors in batches
        ]
    )


def predictive_samples(
    module: BaseModule,
    batches: Minibatches,
    *,
    n_samples: int = 1,
    transform_batch: Sequence[int | None] = (None,),
    genes: np.ndarray | None = None,
) -> list[sparse.csr_array]:
    """S draws of the counts of all cells, each an (N, G) CSR array; several batches are averaged."""
    draws: list[list[sparse.csr_array]] = [[] for _ in range(n_samples)]
    for tensors in batches:
        blocks = [
            module.sample(
                tensors,
                n_samples=n_samples,
                generative_kwargs={} if b is None else {"transform_batch": b},
            )
            for b in transform_batch
        ]
        block = torch.stack(blocks).mean(0) if len(blocks) > 1 else blocks[0]
        block = block.unsqueeze(-1) if n_samples == 1 else block
        for s in range(n_samples):
            one = block[..., s].numpy()
            draws[s].append(sparse.csr_array(one if genes is None else one[:, genes]))
    return [sparse.vstack(parts, format="csr") for parts in draws]
