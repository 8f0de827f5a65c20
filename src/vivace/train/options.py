"""Options of the training loop, each with its meaning and its range."""

from __future__ import annotations

from dataclasses import dataclass, fields

from vivace._arguments import read_option
from vivace.errors import check_choice

SCHEDULES = ("constant", "one_cycle", "plateau", "step")
OPTIMIZERS = ("Adam", "AdamW")


@dataclass(frozen=True)
class TrainOptions:
    """Everything the training loop can be told.

    Attributes
    ----------
    max_epochs
        Passes over the training cells.
    batch_size
        Cells in a minibatch.
    optimizer
        "Adam" (weight decay is added to the gradient) or "AdamW".
    lr
        Learning rate; the peak of a one-cycle schedule.
    lr_schedule
        "constant"; "one_cycle" (warm up over the first 30 % of steps, then anneal to zero); "plateau"
        (smaller whenever ``lr_scheduler_metric`` has not improved for a while) or "step" (smaller after
        every ``lr_step_size`` epochs).
    lr_factor
        What the learning rate is multiplied by each time, in (0, 1).
    lr_scheduler_metric, lr_patience, lr_threshold
        Column of the history that a plateau is one of, lower is better; epochs without improvement that
        are waited for; an improvement must be larger than this.
    lr_min
        The learning rate stays above it.
    lr_step_size
        Epochs between two steps.
    weight_decay
        Strength of weight decay.
    eps
        Adam's epsilon.
    max_grad_norm
        Gradients are clipped to this norm; None leaves them.
    batch_norm_momentum
        Share of the running statistics that batch norms take from each minibatch, in (0, 1]; None for
        the network's own, 0.01.
    thinned_share
        Share of the training cells, chosen anew at every step, of which the encoder sees fewer counts than
        there are: thinned to a total that is log-uniform between 10 and the cell's own. All counts are
        explained as ever. Shallow cells then embed more like deep ones of their kind. For SCVI and
        JointEmbeddingSCVI on whole counts; 0 elsewhere.
    n_epochs_kl_warmup
        Epochs over which the weight of the KL term rises from ``min_kl_weight`` to
        ``max_kl_weight``; None or 0 for none.
    n_steps_kl_warmup
        The same in steps; used only without ``n_epochs_kl_warmup``.
    kl_warmup_fraction
        The same as a fraction of the run; used only without the two above.
    min_kl_weight, max_kl_weight
        Weight of the KL term at the start and from the end of the warm-up on. A start above the end is
        a cool-down.
    early_stopping
        Stop when the held-out loss has not improved for a while.
    early_stopping_monitor
        Column of the history to watch; lower is better. A name that no epoch will have is refused.
    early_stopping_patience
        Epochs without improvement before stopping.
    early_stopping_min_delta
        An improvement must be larger than this.
    early_stopping_warmup_epochs
        Epochs before early stopping begins to watch.
    keep_best
        End with the weights of the epoch with the best held-out loss, rather than the last ones.
    check_val_every_n_epoch
        How often to evaluate the held-out cells.
    checkpoint_every_n_epochs
        How often a checkpoint is written, where a place for it is given.
    checkpoint_every_n_minutes
        How often besides, within an epoch that takes long.
    precision
        "float32", or "bf16" for matrix products in bfloat16, which on a processor is slower but for the
        largest minibatches.
    cuda_graphs
        Keep the cells on the CUDA device and replay the whole step as one graph. Experimental: no device
        has run it yet.

    Raises
    ------
    InvalidArgumentError
        If a value is out of range.

    Examples
    --------
    >>> TrainOptions(max_epochs=10).kl_weight(epoch=0, step=0, n_steps=100)
    1.0
    >>> TrainOptions(max_epochs=400, n_epochs_kl_warmup=400).kl_weight(100, 0, 1000)
    0.25
    """

    max_epochs: int = 400
    batch_size: int = 128
    optimizer: str = "Adam"
    lr: float = 1e-3
    lr_schedule: str = "constant"
    lr_factor: float = 0.6
    lr_scheduler_metric: str = "elbo_validation"
    lr_patience: int = 30
    lr_threshold: float = 0.0
    lr_min: float = 0.0
    lr_step_size: int = 10
    weight_decay: float = 1e-6
    eps: float = 0.01
    max_grad_norm: float | None = None
    batch_norm_momentum: float | None = None
    thinned_share: float = 0.0
    n_epochs_kl_warmup: int | None = None
    n_steps_kl_warmup: int | None = None
    kl_warmup_fraction: float = 0.0
    min_kl_weight: float = 0.0
    max_kl_weight: float = 1.0
    early_stopping: bool = False
    early_stopping_monitor: str = "elbo_validation"
    early_stopping_patience: int = 45
    early_stopping_min_delta: float = 0.0
    early_stopping_warmup_epochs: int = 0
    keep_best: bool = False
    check_val_every_n_epoch: int = 1
    checkpoint_every_n_epochs: int = 1
    checkpoint_every_n_minutes: float | None = None
    precision: str = "float32"
    cuda_graphs: bool = False

    def __post_init__(self):
        check_choice("lr_schedule", self.lr_schedule, SCHEDULES)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_choice("precision", self.precision, ("float32", "bf16"))
        for field in fields(self):
            number = read_option(field.name, getattr(self, field.name), field.default)
            object.__setattr__(self, field.name, number)

    def kl_weight(self, epoch: int, step: int, n_steps: int) -> float:
        """Weight of the KL term at an epoch and a step (both from 0) of ``n_steps`` in all."""
        share = self._warmup_share(epoch, step, n_steps)
        return self.min_kl_weight + (self.max_kl_weight - self.min_kl_weight) * share

    def _warmup_share(self, epoch: int, step: int, n_steps: int) -> float:
        if self.n_epochs_kl_warmup:
            return min(1.0, epoch / self.n_epochs_kl_warmup)
        warmup_steps = self.n_steps_kl_warmup or self.kl_warmup_fraction * n_steps
        return min(1.0, step / warmup_steps) if warmup_steps else 1.0


def option_names() -> list[str]:
    """Names of all options."""
    return [f.name for f in fields(TrainOptions)]
