"""A checkpoint from which a killed run goes on as if nothing had happened. One file, one rename."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from vivace._files import open_regular, save_tensors, user_path
from vivace.errors import ModelFileError, TrainingError
from vivace.train.history import EpochMetrics, History
from vivace.train.options import TrainOptions
from vivace.train.stopping import BestSoFar

CHECKPOINT_VERSION = 2
"""1 wherever nothing new is in the file: a version that is older reads it."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes
    ----------
    next_epoch
        The epoch that comes next, or that is under way.
    steps_done, metrics
        Of that epoch, and its sums so far.
    """

    next_epoch: int
    history: History
    best: BestSoFar
    steps_done: int = 0
    metrics: EpochMetrics | None = None


class Timer:
    """Tells when some minutes have passed; never, for None."""

    def __init__(self, minutes: float | None):
        self._seconds = math.inf if minutes is None else 60 * minutes
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Whether they have, since it was last due."""
        if time.monotonic() - self._last < self._seconds:
            return False
        self._last = time.monotonic()
        return True


def save_checkpoint(
    path: str | Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    options: TrainOptions,
) -> None:
    """Write weights, optimizer state, random state, best weights and history to one file."""
    tensors = {f"module.{k}": v for k, v in module.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in (progress.best.weights or {}).items()}
    state = optimizer.state_dict()["state"]
    tensors |= {f"optimizer.{i}.{k}": v for i, s in state.items() for k, v in s.items()}
    tensors["rng.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["rng.cuda"] = torch.cuda.get_rng_state()
    meta = {
        "version": CHECKPOINT_VERSION if progress.steps_done else 1,
        "next_epoch": progress.next_epoch,
        "history": progress.history.records,
        "best": [_finite(progress.best.value), progress.best.epoch],
        "options": asdict(options),
    }
    if progress.metrics is not None:
        tensors["epoch.sums"], meta["epoch"] = progress.metrics.state()
        meta["steps_done"] = progress.steps_done
    save_tensors(tensors, path, {"vivace": json.dumps(meta)})


def load_checkpoint(
    path: str | Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    options: TrainOptions,
) -> Progress:
    """Put everything back as it was when the checkpoint was written.

    Raises
    ------
    TrainingError
        If the file is missing or damaged, or was written by a run with other options.
    """
    tensors, meta = _read(path)
    _check_options(meta["options"], asdict(options), path)
    try:
        module.load_state_dict(_part(tensors, "module."))
    except RuntimeError as error:
        msg = f"checkpoint {path} is of another model: {error}"
        raise TrainingError(msg) from error
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in _part(tensors, "optimizer.").items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    torch.set_rng_state(tensors["rng.cpu"])
    if "rng.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["rng.cuda"])
    value, epoch = meta["best"]
    best = BestSoFar(math.inf if value is None else value, epoch, _part(tensors, "best.") or None)
    metrics = None
    if "epoch" in meta:
        metrics = EpochMetrics.of(tensors["epoch.sums"], meta["epoch"], module)
    history = History(meta["history"])
    return Progress(meta["next_epoch"], history, best, meta.get("steps_done", 0), metrics)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _read(path: str | Path) -> tuple[dict[str, torch.Tensor], dict]:
    place = user_path(path, "resume")
    try:
        open_regular(place).close()
        with safe_open(str(place), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            meta = json.loads((file.metadata() or {})["vivace"])
        newer = meta["version"] > CHECKPOINT_VERSION
    except (OSError, SafetensorError, ModelFileError, KeyError, TypeError, ValueError) as error:
        msg = f"resume={str(path)!r} is not a readable checkpoint: {error}"
        raise TrainingError(msg) from error
    if newer:
        msg = f"checkpoint {path} was written by a newer vivace; upgrade vivace to resume it"
        raise TrainingError(msg)
    return tensors, meta


def _check_options(saved: dict, now: dict, path: str | Path) -> None:
    free = ("checkpoint_every_n_epochs", "checkpoint_every_n_minutes")
    saved = asdict(TrainOptions()) | saved  # an older checkpoint lacks options that came since
    differ = [k for k in now if k not in free and saved.get(k) != now[k]]
    if differ:
        k = differ[0]
        msg = (
            f"checkpoint {path} was written with {k}={saved.get(k)!r}, but this run has {now[k]!r}; "
            "resume with the options of the run that wrote it"
        )
        raise TrainingError(msg)
