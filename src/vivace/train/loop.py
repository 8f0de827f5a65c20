"""The training loop, top to bottom. It knows minibatches and modules, no model and no file format."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch

from vivace._ranks import ALONE, Ranks, minibatches_divided
from vivace._settings import own_session, seeded
from vivace.errors import TrainingError, VivaceError
from vivace.modules.base import BaseModule, LossOutput, to_device
from vivace.train.callbacks import NOBODY, Callback, Told
from vivace.train.checkpoint import Progress, Timer, load_checkpoint, save_checkpoint
from vivace.train.cuda import CapturedStep
from vivace.train.exchange import Exchange, exchanging
from vivace.train.history import EpochMetrics, History
from vivace.train.monitor import check_monitor, check_needs_none_held_out
from vivace.train.norms import batch_norm_momentum, norms_over_all_parts
from vivace.train.optimizer import forget_gradients, limit_gradients, make_optimizer, take_step
from vivace.train.options import TrainOptions
from vivace.train.precision import autocast, warn_of_slow_precision
from vivace.train.progress import Show, progress_bar
from vivace.train.ranks import begin, join, left_on_error, seed_draws
from vivace.train.result import TrainResult
from vivace.train.schedule import FACTORS, reduction
from vivace.train.stopping import BestSoFar, Interrupt
from vivace.train.thinning import cells_thinned

Keep = Callable[[int, int, EpochMetrics], None]
"""Writes a checkpoint: of an epoch, the steps done of it, and its sums so far."""


class Batches(Protocol):
    """A stream of minibatches that can be passed over again and again.

    Where several processes train, ``share(rank, of)`` gives the same stream for one of them.
    """

    n_obs: int

    def __len__(self) -> int: ...

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Any]: ...


@own_session()
def fit(
    module: BaseModule,
    train: Batches,
    validation: Batches | None = None,
    *,
    options: TrainOptions,
    loss_kwargs: dict[str, Any] | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    checkpoint: str | Path | None = None,
    resume: str | Path | None = None,
    history: History | None = None,
    progress: bool = False,
    alone: bool = False,
    callbacks: Sequence[Callback] = (),
) -> TrainResult:
    """Train a module, together with the other processes that a launcher has started.

    Parameters
    ----------
    module
        Trained in place; in evaluation mode afterwards.
    train, validation
        Minibatches; without validation there is no held-out loss.
    options
        See :class:`TrainOptions`.
    loss_kwargs
        Passed on to ``module.loss``.
    device
        Where to train.
    seed
        Of dropout and sampling; torch's global generators are left as they were.
    checkpoint
        File to write a checkpoint to.
    resume
        Checkpoint to go on from; the result is that of a run never interrupted, to the bit on CPU.
    history
        Of earlier training, to be continued.
    progress
        Show a progress bar if the terminal is one.
    alone
        Train by this process only, whatever a launcher says of others.
    callbacks
        Told of steps and epochs, see :class:`vivace.train.Callback`.

    Returns
    -------
    TrainResult

    Raises
    ------
    TrainingError
        If the loss is not finite: the module then has the last good weights. Or if another process
        has ended.
    InvalidArgumentError
        If early stopping lacks held-out cells, or watches a column that no epoch will have; if the
        module cannot thin cells as the options want; if the processes do not meet, have other data or
        options, or are too many for a minibatch.
    """
    if validation is None:
        check_needs_none_held_out(options)
    started = time.perf_counter()
    ranks = join(alone)
    module.to(device)
    loss_kwargs = loss_kwargs or {}
    streams = {"train": train, "validation": validation}
    check_monitor("early_stopping_monitor", options, module, streams, loss_kwargs)
    check_monitor("lr_scheduler_metric", options, module, streams, loss_kwargs)
    warn_of_slow_precision(options.precision, module.device)
    optimizer = make_optimizer(module, options)
    state = Progress(0, History() if history is None else history, BestSoFar())
    stopped = "finished"
    told = Told(callbacks if ranks.writes else ())
    with (
        told,
        left_on_error(ranks),
        batch_norm_momentum(module, options.batch_norm_momentum),
        cells_thinned(module, options.thinned_share),
        seeded(seed),
        Interrupt(ranks) as interrupt,
    ):
        if resume is not None:
            state = load_checkpoint(resume, module, optimizer, options)
        start, history, best = state.next_epoch, state.history, state.best
        n_before = history.n_epochs - start  # of earlier training
        done = (start, state.steps_done)
        facts = {"seed": seed, "loss_kwargs": loss_kwargs, "epochs and steps done": done}
        train, validation = begin(ranks, module, train, validation, options, facts)
        told.start({"options": asdict(options), "seed": seed, "n_train": train.n_obs})

        def keep(epoch: int, steps_done: int = 0, metrics: EpochMetrics | None = None) -> None:
            if checkpoint is not None and ranks.writes:
                now = Progress(epoch, history, best, steps_done, metrics)
                save_checkpoint(checkpoint, module, optimizer, now, options)

        trainer = Trainer(
            module, train, optimizer, options, loss_kwargs, interrupt, ranks, seed, told
        )
        with (
            exchanging(ranks, optimizer) as exchange,
            progress_bar(options.max_epochs, start, show=progress and ranks.writes) as show,
        ):
            trainer.hear(keep, show, exchange)
            for epoch in range(start, options.max_epochs):
                watched = history.since(n_before, options.lr_scheduler_metric)
                trainer.lr_share = reduction(options, epoch, watched)
                metrics = trainer.epoch(epoch, state if epoch == start else None)
                if trainer.stopping:
                    stopped = "interrupted"
                    break
                if validation is not None and (epoch + 1) % options.check_val_every_n_epoch == 0:
                    metrics |= trainer.evaluate(validation, metrics["kl_weight"])
                history.add(n_before + epoch, metrics)
                told.epoch(n_before + epoch, metrics)
                best.update(metrics.get(options.early_stopping_monitor), epoch, module, options)
                show(epoch + 1, metrics)
                if (epoch + 1) % options.checkpoint_every_n_epochs == 0:
                    keep(epoch + 1)
                if best.is_stale(epoch, options):
                    stopped = "early stopping"
                    break
    seconds = time.perf_counter() - started
    return told.end(ended(module, options, history, best, n_before, stopped, seconds))


def ended(
    module: BaseModule,
    options: TrainOptions,
    history: History,
    best: BestSoFar,
    n_before: int,
    stopped: str,
    seconds: float,
) -> TrainResult:
    """Put the weights in that training ends with, and say how it went."""
    best_epoch = None
    if (options.keep_best or stopped != "finished") and best.weights is not None:
        module.load_state_dict(best.weights)
        best_epoch = n_before + best.epoch
    module.eval()
    return TrainResult(history, stopped, history.n_epochs, best_epoch, seconds)


@dataclass
class Trainer:
    """One module with what it takes to pass over its cells."""

    module: BaseModule
    batches: Batches
    optimizer: torch.optim.Optimizer
    options: TrainOptions
    loss_kwargs: dict[str, Any]
    interrupt: Interrupt
    ranks: Ranks = ALONE
    seed: int = 0
    told: Told = NOBODY
    last_finite: float = math.nan
    keep: Keep | None = None
    show: Show | None = None
    exchange: Exchange | None = field(init=False, default=None)
    lr_share: float = field(init=False, default=1.0)

    def __post_init__(self):
        self.device = self.module.device
        every = self.options.checkpoint_every_n_minutes
        self.timer = Timer(every if self.ranks.writes else None)
        self.n_steps = self.options.max_epochs * len(self.batches)
        self.captured = CapturedStep(self) if self.options.cuda_graphs else None

    def hear(self, keep: Keep, show: Show, exchange: Exchange | None) -> None:
        """Tell these of every step; and take the steps of one of several processes."""
        self.keep, self.show, self.exchange = keep, show, exchange
        if exchange is not None:
            self.ranks, self.optimizer = exchange.ranks, exchange.optimizer

    @property
    def stopping(self) -> bool:
        """Whether Ctrl-C was pressed, here or, as all agree, anywhere."""
        return self.interrupt.requested if self.exchange is None else self.exchange.stop

    def epoch(self, epoch: int, under_way: Progress | None = None) -> dict[str, float]:
        """One pass over the training cells, or what is left of one; returns its metrics.

        If the loss stops being finite, cells can no longer be read, or a second Ctrl-C breaks a step,
        the weights of the start of the epoch are put back.
        """
        done = under_way.steps_done if under_way else 0
        metrics = under_way.metrics if under_way and self.ranks.writes else None
        good = [tensor.detach().clone() for tensor in self._state()]
        try:
            if self.exchange is None:
                return self._pass(epoch, done, metrics or EpochMetrics())
            seed_draws(self.ranks, self.seed, epoch, done)
            with norms_over_all_parts(self.module), minibatches_divided(self.ranks):
                return self._pass(epoch, done, metrics or EpochMetrics())
        except (VivaceError, KeyboardInterrupt):
            if self.exchange is not None:
                self.exchange.close()  # what this process puts back is not for others
            for tensor, value in zip(self._state(), good, strict=True):
                tensor.detach().copy_(value)
            self.module.eval()
            raise

    def _state(self) -> list[torch.Tensor]:
        """Weights and buffers as they lie in memory; a state dict turns some of them round."""
        return [*self.module.parameters(), *self.module.buffers()]

    def _pass(self, epoch: int, done: int, metrics: EpochMetrics) -> dict[str, float]:
        self.module.train()
        kl_weight = self.options.max_kl_weight
        first = epoch * len(self.batches)
        for step, batch in enumerate(self._stream(epoch, done), start=first + done):
            if self.stopping:
                break
            kl_weight = self.options.kl_weight(epoch, step, self.n_steps)
            losses = self.step(batch, step, kl_weight)
            if self.exchange is not None:
                self._check_finite(self.exchange.loss, epoch, step)
            elif self.device.type == "cpu":  # elsewhere looking would wait for the device
                self._check_finite(losses.loss.item(), epoch, step)
            metrics.add(losses)
            self.told.step(step + 1, losses)
            if self.show is not None:
                self.show((step + 1) / len(self.batches), None)
            due = self.timer.is_due() if self.exchange is None else self.exchange.due
            if self.keep is not None and due:
                self.keep(epoch, step + 1 - first, metrics.of_all(self.ranks))
        result = metrics.result("train", self.batches.n_obs, self.ranks)
        if result:
            self._check_finite(result["train_loss"], epoch, first + len(self.batches) - 1)
        return {**result, "kl_weight": kl_weight}

    def _stream(self, epoch: int, first: int) -> Iterator[Any]:
        """Minibatches from one on, or only their rows where the cells lie on the device already."""
        if self.captured is None:
            return self.batches.epoch(epoch, first)
        return islice(self.captured.rows_of(epoch), first, None)

    def step(self, batch: Any, step: int, kl_weight: float) -> LossOutput:
        """One step of the schedule on a minibatch, or on its rows."""
        factor = self.lr_share * FACTORS[self.options.lr_schedule](step, self.n_steps)
        if self.captured is not None:
            return self.captured(batch, factor, kl_weight)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        self.module.on_step(kl_weight)
        return self.update(to_device(batch, self.device), kl_weight)

    def update(self, tensors: Any, kl_weight: float | torch.Tensor) -> LossOutput:
        """Forward, backward, update."""
        with autocast(self.options.precision, self.device):
            loss_kwargs = {**self.loss_kwargs, "kl_weight": kl_weight}
            *_, losses = self.module(tensors, loss_kwargs=loss_kwargs)
        forget_gradients(self.optimizer)
        if self.exchange is None:
            losses.loss.backward()
        else:
            self.exchange.backward(losses.loss, self.interrupt.requested, self.timer.is_due())
        if self.options.max_grad_norm is not None:
            in_parts = self.ranks.memory is not None
            limit_gradients(self.optimizer, self.options.max_grad_norm, in_parts)
        take_step(self.optimizer)
        if self.exchange is not None:
            self.exchange.end()
        return losses

    @torch.inference_mode()
    def evaluate(self, batches: Batches, kl_weight: float) -> dict[str, float]:
        """Held-out metrics, with the same random draws every time so that epochs compare."""
        self.module.eval()
        metrics = EpochMetrics()
        loss_kwargs = {**self.loss_kwargs, "kl_weight": kl_weight}
        with seeded(self.ranks.rank), autocast(self.options.precision, self.device):
            for tensors in batches.epoch(0):
                *_, losses = self.module(tensors, loss_kwargs=loss_kwargs)
                metrics.add(losses)
        return metrics.result("validation", self.batches.n_obs, self.ranks)

    def _check_finite(self, loss: float, epoch: int, step: int) -> None:
        if math.isfinite(loss):
            self.last_finite = loss
            return
        msg = (
            f"the loss became {loss} at step {step} (epoch {epoch}); the last finite loss was "
            f"{self.last_finite:g}. The model has the weights of the start of this epoch. Likely "
            "causes: a learning rate that is too high (try a tenth of it), values that are not raw "
            "counts, or cells with extreme counts"
        )
        raise TrainingError(msg)
