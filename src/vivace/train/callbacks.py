"""Callbacks: told when training starts, after steps and epochs, and when it ends."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Protocol

import torch

from vivace.errors import InvalidArgumentError, VivaceError, VivaceWarning
from vivace.modules.base import LossOutput
from vivace.train.result import TrainResult


class Callback(Protocol):
    """What training tells. An object with some of these methods is a callback; the others may be missing.

    Of several processes that train together, the first one tells. What a callback draws at random is not
    drawn from training, whose numbers are the same with and without it. One that raises an error is left
    out from then on, with a warning: it does not cost the model. Weights are theirs to read, not to write.

    Examples
    --------
    >>> import vivace
    >>> class Best:
    ...     value = float("inf")
    ...
    ...     def epoch(self, epoch, metrics):
    ...         self.value = min(self.value, metrics["elbo_validation"])
    >>> adata = vivace.datasets.simulate("batches", n_cells=60, n_genes=20)
    >>> vivace.SCVI.setup_anndata(adata)
    >>> model, best = vivace.SCVI(adata), Best()
    >>> model.train(max_epochs=2, progress=False, callbacks=[best])
    >>> best.value == model.history["elbo_validation"].min().item()
    True
    """

    def start(self, facts: dict[str, Any]) -> None:
        """Training starts: its ``options`` by name, ``seed``, and ``n_train``, the number of cells."""

    def step(self, step: int, losses: LossOutput) -> None:
        """Steps done in all, and the losses of the last minibatch, on the device where they are."""

    def epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """An epoch (from 0) is over: its row of the history."""

    def end(self, result: TrainResult | None) -> None:
        """Training is over; None if it failed."""


METHODS = ("start", "step", "epoch", "end")


def read_callbacks(callbacks: Any = None, logger: Any = None) -> list[Any]:
    """What a user gives as ``callbacks=`` and ``logger=``, as a list of callbacks.

    Raises
    ------
    InvalidArgumentError
        If one is none.
    """
    return [*_read("callbacks", callbacks), *_read("logger", logger)]


def _read(argument: str, given: Any) -> list[Any]:
    if given is None or given is False:
        return []
    found = list(given) if isinstance(given, list | tuple) else [given]
    for each in found:
        if isinstance(each, type) or not any(callable(getattr(each, m, None)) for m in METHODS):
            msg = (
                f"{argument}={each!r} is no callback: pass an object with some of the methods "
                f"{', '.join(METHODS)} (vivace.train.Callback), such as vivace.train.TensorBoard(folder). "
                "Without one, model.history holds every metric once training is over"
            )
            raise InvalidArgumentError(msg)
    return found


def check_importable(callbacks: Iterable[Any], n: int) -> None:
    """Refuse callbacks that other processes, which are started anew, would not find.

    Raises
    ------
    InvalidArgumentError
        With the class.
    """
    for each in callbacks:
        if type(each).__module__ == "__main__":
            msg = (
                f"devices={n} starts other processes, which do not find {type(each).__name__} in this "
                "script: put the class into a module of its own and import it, or leave devices out"
            )
            raise InvalidArgumentError(msg)


class Told:
    """Callbacks while training goes on; one that fails is left out from then on.

    Parameters
    ----------
    callbacks
        None of them in all processes but the first.
    """

    def __init__(self, callbacks: Iterable[Any] = ()):
        self._callbacks = list(callbacks)

    def __enter__(self) -> Told:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._tell("end", None)

    def start(self, facts: dict[str, Any]) -> None:
        self._tell("start", facts)

    def step(self, step: int, losses: LossOutput) -> None:
        self._tell("step", step, losses)

    def epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        self._tell("epoch", epoch, dict(metrics))

    def end(self, result: TrainResult) -> TrainResult:
        """Tell that training is over; returns the result."""
        self._tell("end", result)
        return result

    def _tell(self, method: str, *facts: Any) -> None:
        for each in list(self._callbacks):
            tell = getattr(each, method, None)
            if tell is None:
                continue
            try:
                with torch.random.fork_rng(devices=[]):
                    tell(*facts)
            except Exception as error:  # whatever it is, training is worth more
                self._callbacks.remove(each)
                if method == "start" and isinstance(error, VivaceError):
                    raise  # nothing is lost yet, and it says what to do
                msg = (
                    f"{type(each).__name__} failed in {method}() with {type(error).__name__}: {error}. It "
                    "is left out from here on; training goes on"
                )
                warnings.warn(msg, VivaceWarning, stacklevel=3)


NOBODY = Told()
