"""A module and a stream of minibatches small enough to reason about."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from vivace.modules.base import BaseModule, LossOutput


class Line(BaseModule):
    """Fits one number to the minibatches; the loss is the mean squared distance plus a KL stand-in."""

    def __init__(self, start: float = 5.0):
        super().__init__()
        self.value = torch.nn.Parameter(torch.tensor(start))
        self.dropout = torch.nn.Dropout(0.5)
        self.kl_weights: list[float] = []
        self.fail_at: int | None = None

    def _get_inference_input(self, tensors):
        return {"x": tensors["X"]}

    def _get_generative_input(self, tensors, inference_outputs):
        return {}

    def inference(self, x):
        return {"x": self.dropout(torch.ones_like(x))}

    def generative(self):
        return {}

    def loss(self, tensors, inference_outputs, generative_outputs, kl_weight=1.0, scale=1.0):
        if self.training:
            self.kl_weights.append(float(kl_weight))
        distance = (tensors["X"] - self.value).square().mean(1)
        if self.training:
            distance = distance * inference_outputs["x"].mean(1)
        loss = scale * distance.mean()
        if self.fail_at is not None and len(self.kl_weights) > self.fail_at:
            loss = loss * float("nan")
        return LossOutput(
            loss=loss,
            reconstruction_loss=distance,
            kl_local=torch.ones(len(distance)),
            kl_global=torch.tensor(3.0),
            extra_metrics={"value": self.value.detach()},
        )

    def sample(self):
        raise NotImplementedError


class Stream:
    """``n`` numbers around ``centre`` in minibatches of ``size``, in an order set by the epoch."""

    def __init__(self, n: int = 12, size: int = 4, centre: float = 0.0):
        self.x = torch.from_numpy(np.random.default_rng(0).normal(centre, 1, (n, 3))).float()
        self.size, self.n_obs = size, n

    def __len__(self) -> int:
        return -(-self.n_obs // self.size)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[dict]:
        order = np.random.default_rng(epoch).permutation(self.n_obs)
        for start in range(first * self.size, self.n_obs, self.size):
            yield {"X": self.x[order[start : start + self.size]]}
