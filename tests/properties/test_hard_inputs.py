"""Inputs that are known to break such models train 50 steps with finite losses, or are refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from model_table import CASES
from vivace.errors import VivaceError, VivaceWarning


def nearly_empty(counts: np.ndarray) -> np.ndarray:
    counts[::2] = 0
    counts[::2, 0] = 1
    counts[0] = 0
    return counts


def huge(counts: np.ndarray) -> np.ndarray:
    return counts * 10_000_000


def one_huge_count(counts: np.ndarray) -> np.ndarray:
    counts[3, 2] = 1e9
    return counts


def dominant_gene(counts: np.ndarray) -> np.ndarray:
    counts[:, 0] = 1_000_000
    return counts


def silent_gene(counts: np.ndarray) -> np.ndarray:
    counts[:, 1] = 0
    return counts


def logged(counts: np.ndarray) -> np.ndarray:
    return np.log1p(counts / np.maximum(counts.sum(1, keepdims=True), 1) * 1e4)


INPUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    f.__name__: f for f in (nearly_empty, huge, one_huge_count, dominant_gene, silent_gene, logged)
}
STEPS = {"max_epochs": 25, "batch_size": 64, "progress": False, "train_size": 1.0}


def harden(data: Any, hard: str) -> None:
    """Replace the counts, of every modality if there are several."""
    for part in data.mod.values() if hasattr(data, "mod") else [data]:
        dense = part.X.toarray() if sparse.issparse(part.X) else np.asarray(part.X)
        part.X = sparse.csr_matrix(INPUTS[hard](dense.astype("float32")))
        for layer in filter(None, list(part.layers)):  # event totals follow from the counts
            del part.layers[layer]


def fifty_steps(name: str, data: Any, log_theta: float | None = None) -> None:
    """Train, or be refused by an error of ours before the first step."""
    case = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VivaceWarning)
        try:
            model = case.build(data)
        except VivaceError:
            return
        if log_theta is not None and hasattr(model.module, "px_r"):
            with torch.no_grad():
                model.module.px_r.fill_(log_theta)
        model.train(**{**case.train, **STEPS})
    assert np.isfinite(model.history["train_loss"]).all(axis=None)
    assert all(torch.isfinite(p).all() for p in model.module.parameters())
    assert np.isfinite(case.latent(model)).all()


@pytest.mark.parametrize("hard", INPUTS)
@pytest.mark.parametrize("name", CASES)
def test_hard_counts(name: str, hard: str):
    data = CASES[name].data()
    harden(data, hard)
    fifty_steps(name, data)


@pytest.mark.parametrize("log_theta", [-11.5, 11.5])
@pytest.mark.parametrize("name", CASES)
def test_dispersion_at_its_ends(name: str, log_theta: float):
    fifty_steps(name, CASES[name].data(), log_theta)
