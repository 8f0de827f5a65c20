"""Metrics of training: running sums without waiting for the device, one row an epoch."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pandas as pd
import torch
from torch import nn

from vivace._ranks import ALONE, Ranks, n_parts
from vivace.modules.base import LossOutput
from vivace.train.ranks import gather


class EpochMetrics:
    """Sums of the loss terms over the minibatches of one epoch."""

    def __init__(self):
        self._names: list[str] = []
        self._sums: torch.Tensor | float = 0.0
        self._n_obs = 0
        self._n_batches = 0.0

    def state(self) -> tuple[torch.Tensor, dict[str, Any]]:
        """The sums, and what they are of; at least one minibatch was added."""
        assert isinstance(self._sums, torch.Tensor)
        facts = {"names": self._names, "n_obs": self._n_obs, "n_batches": self._n_batches}
        return self._sums, facts

    @classmethod
    def of(cls, sums: torch.Tensor, facts: dict[str, Any], module: nn.Module) -> EpochMetrics:
        """Go on from what :meth:`state` answered, where the module lies."""
        metrics = cls()
        metrics._sums = sums.to(next(module.parameters()).device)
        metrics._names = list(facts["names"])
        metrics._n_obs, metrics._n_batches = int(facts["n_obs"]), float(facts["n_batches"])
        return metrics

    @torch.no_grad()
    def add(self, losses: LossOutput) -> None:
        """Add a minibatch, with the same terms as all others; stays on the device."""
        n = losses.n_obs_minibatch
        self._n_obs += n
        loss, kl_global, share = losses.loss, losses.kl_global_sum, 1 / n_parts()
        self._n_batches += share
        if share < 1:  # all parts together count as one
            loss, kl_global = share * loss, share * kl_global
        terms = {
            "loss": loss,
            "reconstruction_loss": losses.reconstruction_loss_sum,
            "kl_local": losses.kl_local_sum,
            "kl_global": kl_global,
        }
        extra = dict(losses.extra_metrics)
        if losses.classification_loss is not None:
            extra["classification_loss"] = losses.classification_loss
        for name, value in extra.items():
            if value.dim() == 0:
                terms[f"extra:{name}"] = value * n
        self._names = list(terms)
        self._sums = self._sums + torch.stack(list(terms.values()))

    def result(self, mode: str, n_train: int, ranks: Ranks = ALONE) -> dict[str, float]:
        """Metrics of the epoch, named ``<metric>_<mode>``; per cell, nats, lower is better.

        Of the minibatches of all processes, for which all of them have to ask.
        """
        if ranks.size > 1:
            return self.of_all(ranks).result(mode, n_train)
        if not isinstance(self._sums, torch.Tensor):  # no minibatch
            return {}
        sums = dict(zip(self._names, self._sums.tolist(), strict=True))  # the one sync
        reconstruction = sums["reconstruction_loss"] / self._n_obs
        kl_local = sums["kl_local"] / self._n_obs
        kl_global = sums["kl_global"] / self._n_batches
        metrics = {
            f"elbo_{mode}": reconstruction + kl_local + kl_global / n_train,
            f"reconstruction_loss_{mode}": reconstruction,
            f"kl_local_{mode}": kl_local,
            f"kl_global_{mode}": kl_global,
        }
        loss_name = "train_loss" if mode == "train" else f"{mode}_loss"
        metrics[loss_name] = sums["loss"] / self._n_batches
        for name, value in sums.items():
            if name.startswith("extra:"):
                metrics[f"{name.removeprefix('extra:')}_{mode}"] = value / self._n_obs
        return metrics

    def of_all(self, ranks: Ranks) -> EpochMetrics:
        """The sums of all processes; one that had no minibatch takes part. A collective call."""
        if ranks.size == 1:
            return self
        own = self._sums.double().cpu() if isinstance(self._sums, torch.Tensor) else None
        found = gather(ranks, (self._names, own, self._n_obs, self._n_batches))
        with_cells = [one for one in found if one[1] is not None]
        whole = EpochMetrics()
        if with_cells:
            names, sums, n_obs, n_batches = zip(*with_cells, strict=True)
            whole._names, whole._sums = names[0], torch.stack(sums).sum(0)
            whole._n_obs, whole._n_batches = sum(n_obs), sum(n_batches)
        return whole


class History:
    """Metric name to its value at each epoch."""

    def __init__(self, records: dict[str, dict[int, float]] | None = None):
        self.records: dict[str, dict[int, float]] = defaultdict(dict)
        for name, values in (records or {}).items():
            self.records[name] = {int(epoch): value for epoch, value in values.items()}

    def add(self, epoch: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self.records[name][epoch] = value

    def last(self, name: str) -> float | None:
        values = self.records.get(name)
        return values[max(values)] if values else None

    def since(self, epoch: int, name: str) -> list[float]:
        """Values of a metric from an epoch on."""
        return [value for at, value in self.records.get(name, {}).items() if at >= epoch]

    @property
    def n_epochs(self) -> int:
        """Number of the next epoch."""
        return 1 + max((max(v) for v in self.records.values() if v), default=-1)

    def frames(self) -> dict[str, pd.DataFrame]:
        """One-column DataFrames with the epoch as index."""
        return {
            name: pd.DataFrame({name: values}).rename_axis("epoch")
            for name, values in self.records.items()
        }
