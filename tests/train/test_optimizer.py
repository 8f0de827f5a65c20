"""Steps of the optimizer are torch's, to the bit."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch

from vivace.train.optimizer import forget_gradients, make_optimizer, take_step
from vivace.train.options import TrainOptions


@pytest.mark.parametrize("kind", ["Adam", "AdamW"])
def test_steps_are_those_of_torch(kind: str):
    """Also where a layer gets no gradient in some steps, and where groups differ in their decay."""
    torch.manual_seed(0)
    ours = torch.nn.ModuleList([torch.nn.Linear(3, 4), torch.nn.Linear(3, 4)])
    theirs = copy.deepcopy(ours)
    options = TrainOptions(optimizer=kind, lr=0.1)
    optimizers = [make_optimizer(with_groups(layers), options) for layers in (ours, theirs)]
    for step in range(5):
        x = torch.randn(6, 3)
        for layers, optimizer in zip((ours, theirs), optimizers, strict=True):
            forget_gradients(optimizer)
            loss = layers[0](x).square().mean()
            (loss + layers[1](x).sum() if step % 2 else loss).backward()
            optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
        take_step(optimizers[0])
        getattr(torch.optim, kind).step(optimizers[1])
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(a, b)
    states = [optimizer.state_dict()["state"] for optimizer in optimizers]
    for a, b in zip(states[0].values(), states[1].values(), strict=True):
        assert all(torch.equal(a[name], b[name]) for name in ("step", "exp_avg", "exp_avg_sq"))


def with_groups(layers: torch.nn.ModuleList) -> SimpleNamespace:
    """A module of two groups of parameters."""
    groups = [{"params": list(layers[i].parameters()), "weight_decay": i * 0.1} for i in (0, 1)]
    return SimpleNamespace(
        parameter_groups=lambda lr, weight_decay: [{**g, "lr": lr} for g in groups]
    )


def test_gradients_are_forgotten():
    layer = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(layer.parameters(), fused=True)
    layer(torch.ones(1, 2)).sum().backward()
    forget_gradients(optimizer)
    assert all(p.grad is None for p in layer.parameters())
