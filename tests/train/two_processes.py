"""What the tests of several processes run in each of them: ``python two_processes.py FOLDER``.

A launcher's variables are in the environment. Every task answers a dict, which is written to
FOLDER/<task>.<rank>.pt; the last one does not come back on all ranks.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.distributions import Normal

import vivace
from model_table import CASES
from vivace.datasets import simulate
from vivace.errors import VivaceError
from vivace.train import by_rows, shared
from vivace.train.ranks import gather, join
from vivace.train.shared import shared_memory

RANK = int(os.environ.get("RANK", "0"))
LAW = {"max_epochs": 10, "batch_size": 64, "lr": 3e-3, "progress": False, "seed": 1}
EIGHT = {"checkpoint_every_n_epochs": 8, "keep_best": False}  # of ten
LAW |= {"eps": 0.1}  # a gradient that is 0 but for rounding then moves nothing
FOUR = {**LAW, "batch_size": 32, "keep_best": False}  # steps an epoch


SENT = ("none", "full", "other")


@contextmanager
def no_draws() -> Iterator[None]:
    """Inside, whatever is drawn is what it is on average, so that processes draw alike."""

    def mean(self: Normal, shape: Any = ()) -> torch.Tensor:
        return self.loc.expand(self._extended_shape(torch.Size(shape))).clone()

    def zeros(*shape: Any, **options: Any) -> torch.Tensor:
        return torch.zeros(*shape, **options)

    with (
        patch.object(Normal, "rsample", mean),
        patch.object(Normal, "sample", mean),
        patch.object(torch, "randn", zeros),
        patch.object(torch, "rand", lambda *s, **o: torch.full(_shape(s), 0.4, **o)),
        patch.object(torch, "rand_like", lambda x: torch.full_like(x, 0.4)),
        patch.object(torch, "randint_like", lambda x, low, high: torch.full_like(x, low)),
        patch.object(torch, "binomial", lambda n, p: n * p),
    ):
        yield


def _shape(given: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(given[0]) if given and not isinstance(given[0], int) else given


def build(name: str, *, draws: bool) -> Any:
    """A model of the table; without draws, nothing is dropped and no spot simulated."""
    case = CASES[name]
    with patch.dict(os.environ, {"WORLD_SIZE": "1"}):  # a model that others are made from
        model = case.build(case.data())
    if not draws:
        for module in model.module.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        model.module.augmentation = False
    return model


def fine_labels(**options: Any) -> dict[str, Any]:
    """CondSCVI with a classifier, whose term is a mean over the cells with a known label."""
    adata = CASES["CondSCVI"].data()
    states = ["low" if state < 1 else "high" for state in adata.obs["state"]]
    adata.obs["fine"] = [name if i % 3 else "unlabeled" for i, name in enumerate(states)]
    vivace.CondSCVI.setup_anndata(adata, labels_key="cell_type", fine_labels_key="fine")
    model = vivace.CondSCVI(adata, n_hidden=16, n_latent=3, dropout_rate=0.0)
    with no_draws():
        model.train(**{**LAW, **options})
    return state_of(model)


def destvi_with_batch_norms() -> dict[str, Any]:
    """Of a decoder with batch norms and a slide of three spots, which one part of them lacks at times."""
    reference, spots = simulate("spatial", n_cells=120, n_genes=60, n_spots=80)
    for adata in (reference, spots):
        adata.obs["slide"] = ["rare" if i % 30 == 3 else "frequent" for i in range(adata.n_obs)]
    norms = {"use_batch_norm": True, "use_layer_norm": False}
    given = {"max_epochs": 2, "batch_size": 8, "progress": False}
    vivace.CondSCVI.setup_anndata(reference, labels_key="cell_type", batch_key="slide")
    cells = vivace.CondSCVI(reference, n_hidden=16, n_latent=3, extra_decoder_kwargs=norms)
    cells.train(**given)
    vivace.DestVI.setup_anndata(spots, batch_key="slide")
    model = vivace.DestVI.from_model(spots, cells, vamp_prior_p=3, extra_decoder_kwargs=norms)
    model.train(**given)
    return state_of(model)


def sums() -> dict[str, Any]:
    """Many sums in shared memory, of numbers that every process knows of the others."""
    rng = np.random.default_rng(0)
    numbers = [torch.from_numpy(rng.integers(0, 1000, 160_000)).double() for _ in range(2)]
    with patch.object(shared, "SLOT", 64), shared_memory(join(), 0) as memory:
        assert memory is not None
        found = memory.add_up(numbers[RANK].clone())  # 8 at a time
        table = memory.of_all(torch.full((2, 3), float(RANK)))
    return {"equal": torch.equal(found, sum(numbers)), "n": memory._meetings, "table": table}


def without_memory(where: str) -> dict[str, Any]:
    """A run of processes that share no memory: there is none, no room in it, or it is another machine's."""
    patches = {
        "none": patch.object(shared, "PLACE", Path("/nowhere")),
        "full": patch.object(os, "posix_fallocate", side_effect=OSError(28, "No space left")),
        "other": patch.object(shared, "Memory", side_effect=FileNotFoundError),
    }
    with patches[where] if where != "other" or RANK == 1 else nullcontext():
        return follow("SCVI", max_grad_norm=1.0)


def emptied() -> dict[str, Any]:
    """The first process empties its trained model, which is not that of the second."""
    model = scvi()
    if RANK == 0:
        for parameter in model.module.parameters():
            parameter.data.zero_()
    gather(join(), None)
    return state_of(model)


def state_of(model: Any) -> dict[str, Any]:
    """Weights, losses and facts of a trained model."""
    history = {name: frame.iloc[:, 0].tolist() for name, frame in model.history.items()}
    weights = {k: v.clone() for k, v in model.module.state_dict().items()}
    return {"weights": weights, "history": history, "training": model.training}


def follow(name: str, *, draws: bool = False, **options: Any) -> dict[str, Any]:
    """Train a model of the table."""
    model = build(name, draws=draws)
    given = {**CASES[name].train, **LAW, **options}
    if draws:
        model.train(**given)
    else:
        with no_draws():
            model.train(**given)
    return state_of(model)


def scvi(**options: Any) -> Any:
    model = build("SCVI", draws=False)
    with no_draws():
        model.train(**{**LAW, **options})
    return model


def error_of(call: Callable[[], Any]) -> dict[str, Any]:
    """Type and text of the error that a call ends in."""
    try:
        call()
    except VivaceError as error:
        return {"type": type(error).__name__, "text": str(error)}
    return {"type": "", "text": "no error"}


def at_step(model: Any, number: int, do: Callable[[], Any]) -> Any:
    """Let a model do something before one of its steps."""
    steps = iter(range(10**6))
    plain = model.module.on_step

    def on_step(kl_weight: float) -> None:
        plain(kl_weight)
        if next(steps) == number:
            do()

    model.module.on_step = on_step
    return model


def interrupted() -> dict[str, Any]:
    """Ctrl-C in the second process only."""
    model = build("SCVI", draws=True)
    if RANK == 1:
        at_step(model, 3, lambda: os.kill(os.getpid(), signal.SIGINT))
    model.train(**LAW)
    return state_of(model)


def within_an_epoch(folder: Path) -> dict[str, Any]:
    """Two of four steps of the second epoch, kept in a checkpoint, and the rest of the run."""
    model = build("SCVI", draws=False)
    if RANK == 1:
        at_step(model, 5, lambda: os.kill(os.getpid(), signal.SIGINT))
    path = folder / "within.ckpt"
    with no_draws():
        model.train(**FOUR, checkpoint=path, checkpoint_every_n_minutes=1e-9)
    return follow("SCVI", **FOUR, resume=path)


def on_disk(folder: Path) -> dict[str, Any]:
    """SCVI of cells in a file."""
    model = CASES["SCVI"].build(vivace.open_cells(folder / "cells.h5ad"))
    for module in model.module.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    with no_draws():
        model.train(**LAW)
    return state_of(model)


def not_finite() -> dict[str, Any]:
    """A loss that is not a number, in the second process only."""
    model = build("SCVI", draws=True)
    if RANK == 1:
        at_step(model, 3, lambda: model.module.px_r.data.fill_(float("nan")))
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    error = error_of(lambda: model.train(**LAW))
    after = model.module.state_dict()
    unlike = [k for k in before if not torch.equal(before[k], after[k])]
    return {**error, "unlike": unlike, "weights": after}


def other_data() -> dict[str, Any]:
    case = CASES["SCVI"]
    adata = case.data()
    if RANK == 1:
        adata.X = adata.X * 2
    return error_of(lambda: case.build(adata).train(**LAW))


def in_order() -> dict[str, Any]:
    """A question by ranges of rows, as an array, a table and nothing."""
    asked: list[np.ndarray] = []

    def ask(rows: np.ndarray) -> np.ndarray:
        asked.append(rows)
        return rows[:, None] * 2

    return {
        "whole": by_rows(ask, 7),
        "asked": asked[0],
        "table": by_rows(lambda rows: pd.DataFrame({"row": rows}, index=rows.astype(str)), 5),
        "nothing": by_rows(lambda rows: None, 5),
        **error_of(lambda: by_rows(ask, 1)),
    }


def killed(folder: Path) -> dict[str, Any]:
    """The second process is gone in the middle of an epoch."""
    model = build("SCVI", draws=True)
    if RANK == 1:
        at_step(model, 9, lambda: os.kill(os.getpid(), signal.SIGKILL))
    return error_of(lambda: model.train(**LAW, checkpoint=folder / "killed.ckpt"))


def tasks(folder: Path) -> dict[str, Callable[[], dict[str, Any]]]:
    return {
        **{f"law.{name}": lambda name=name: follow(name) for name in CASES},
        "law.fine": fine_labels,
        "law.clipped": lambda: follow("SCVI", max_grad_norm=1.0),
        **{f"sent.{where}": lambda where=where: without_memory(where) for where in SENT},
        "sums": sums,
        "emptied": emptied,
        "norms": destvi_with_batch_norms,
        "rows": in_order,
        "law.odd": lambda: follow("SCVI", batch_size=33),
        "law.few": lambda: follow("SCVI", batch_size=256),
        "draws.SCVI": lambda: follow("SCVI", draws=True),
        "draws.again": lambda: follow("SCVI", draws=True),
        "draws.ContrastiveVI": lambda: follow("ContrastiveVI", draws=True),
        "stopping": lambda: follow(
            "SCVI", draws=True, max_epochs=60, lr=0.1, early_stopping=True,
            early_stopping_patience=2,
        ),
        "alone": lambda: follow("SCVI", devices=1, seed=RANK),
        "kept": lambda: follow("SCVI", checkpoint=folder / "two.ckpt", **EIGHT),
        "resumed": lambda: follow("SCVI", resume=folder / "one.ckpt", **EIGHT),
        "within": lambda: within_an_epoch(folder),
        "disk": lambda: on_disk(folder),
        "interrupted": interrupted,
        "not finite": not_finite,
        "other option": lambda: error_of(lambda: scvi(lr=0.01 * (1 + RANK))),
        "other data": other_data,
        "other seed": lambda: error_of(lambda: scvi(seed=RANK)),
        "too many": lambda: error_of(lambda: scvi(batch_size=3)),
        "captured": lambda: error_of(lambda: scvi(cuda_graphs=True)),
        "killed": lambda: killed(folder),
        "after": lambda: error_of(lambda: scvi()),
    }  # fmt: skip


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    # what pandas 3.1 says of anndata 0.13, as in pyproject.toml
    warnings.filterwarnings("ignore", "The inplace keyword", DeprecationWarning)
    for name, task in tasks(folder).items():
        torch.save(task(), folder / f"{name}.{RANK}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
