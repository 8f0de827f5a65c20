"""What a step, a look at held-out cells and early stopping do, each against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from toy import Line, Stream
from vivace.modules.base import LossOutput
from vivace.train.loop import fit
from vivace.train.options import TrainOptions
from vivace.train.schedule import FACTORS
from vivace.train.stopping import BestSoFar, snapshot


class Slope(Line):
    """Its gradient is 1 at every step, so that each step of Adam is as long as the learning rate."""

    def __init__(self):
        super().__init__(start=0.0)
        self.values: list[float] = []

    def loss(self, tensors, inference_outputs, generative_outputs, kl_weight=1.0):
        self.values.append(self.value.item())
        zero = torch.zeros(len(tensors["X"]))
        return LossOutput(loss=1.0 * self.value, reconstruction_loss=zero, kl_local=zero)


@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
def test_every_step_has_the_learning_rate_of_its_schedule(schedule: str):
    module = Slope()
    options = TrainOptions(max_epochs=4, lr=0.1, lr_schedule=schedule, weight_decay=0.0, eps=1e-12)
    fit(module, Stream(), options=options)
    steps = -np.diff([*module.values, module.value.item()])
    wanted = [0.1 * FACTORS[schedule](step, 12) for step in range(12)]
    np.testing.assert_allclose(steps, wanted, rtol=1e-4, atol=1e-6)


def test_held_out_cells_are_looked_at_every_so_many_epochs_and_without_dropout():
    still = {"lr": 1e-9, "weight_decay": 0.0}
    held_out = Stream(8, 4, centre=2.0)
    for every, epochs in ((1, [0, 1, 2, 3, 4]), (2, [1, 3]), (5, [4])):
        options = TrainOptions(max_epochs=5, check_val_every_n_epoch=every, **still)
        frames = fit(Line(5.0), Stream(), held_out, options=options).history.frames()
        found = frames["reconstruction_loss_validation"].iloc[:, 0]
        assert list(found.index) == epochs
        np.testing.assert_allclose(found, ((held_out.x - 5) ** 2).mean(), rtol=1e-5)


def test_weights_that_were_kept_do_not_move_with_the_module():
    module = Line(5.0)
    kept = snapshot(module)
    with torch.no_grad():
        module.value.add_(1)
    assert kept["value"].item() == 5.0


def best_of(losses: list[float | None], **options: object) -> BestSoFar:
    best = BestSoFar()
    for epoch, loss in enumerate(losses):
        best.update(loss, epoch, Line(), TrainOptions(**options))
    return best


def test_an_improvement_is_larger_than_the_least_that_counts():
    losses = [5.0, 4.9, None, 4.6, 4.1, float("nan"), 4.0]
    assert best_of(losses).epoch == 6
    assert best_of(losses, early_stopping_min_delta=0.3).epoch == 4
    assert best_of([5.0, 4.5, 4.5], early_stopping_min_delta=0.5).epoch == 0
    assert best_of([5.0, 5.0]).epoch == 0


@pytest.mark.parametrize(("warmup", "stops"), [(0, 6), (3, 6), (5, 7), (10, 12)])
def test_patience_begins_with_the_best_epoch_and_not_before_the_warm_up(warmup: int, stops: int):
    """The best epoch is 3. Three epochs without a better one, of those that are watched, end it."""
    options = TrainOptions(
        early_stopping=True, early_stopping_patience=3, early_stopping_warmup_epochs=warmup
    )
    best = best_of([9.0, 8.0, 7.0, 1.0])
    assert [best.is_stale(epoch, options) for epoch in range(3, 15)].index(True) + 3 == stops
    assert not best.is_stale(100, TrainOptions(early_stopping=False))
