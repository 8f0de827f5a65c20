"""Models that scvi-tools trained, imported: the same latent, decoded means, losses and gradients.

``make parity`` trains them in an environment of their own and then runs these tests.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import anndata
import numpy as np
import pytest
import torch

import vivace
from vivace.data import Loader

sys.path.insert(0, str(Path(__file__).parent))
from probe import probe

REFERENCE = Path(os.environ.get("VIVACE_PARITY", Path(__file__).parent / ".out"))
CASES = sorted(p.stem for p in REFERENCE.glob("*.npz"))
LATENT_TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}  # float32, both ways
FLOAT64_TOLERANCE = {"rtol": 1e-5, "atol": 1e-7}

compared: dict[str, float] = {}


@pytest.fixture(scope="module", autouse=True)
def say_how_much_was_compared() -> Iterator[None]:
    """Print the number of arrays and the largest deviation when all is done."""
    yield
    if compared:
        worst = max(compared, key=compared.get)
        sys.stderr.write(
            f"\nparity: {len(compared)} arrays compared, largest relative deviation "
            f"{compared[worst]:.2e} ({worst})\n"
        )


def agree(name: str, found: np.ndarray, expected: np.ndarray, rtol: float, atol: float) -> None:
    found = np.broadcast_to(found, expected.shape)  # what is per gene there may be shared here
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol, err_msg=name)
    scale = np.abs(expected).max() + atol
    compared[name] = float(np.abs(found - expected).max() / scale)


@pytest.fixture
def cells() -> anndata.AnnData:
    return anndata.read_h5ad(REFERENCE / "cells.h5ad")


def minibatch(model: vivace.models.base.BaseModel) -> dict:
    cells = model._cells()
    return next(iter(Loader(cells, np.arange(cells.n_cells), cells.n_cells)))


def test_the_reference_is_there():
    if not CASES:
        pytest.skip("the models of scvi-tools are missing: run make parity")


@pytest.mark.parametrize("case", CASES)
def test_an_imported_model_gives_its_old_numbers(case: str, cells: anndata.AnnData):
    expected = dict(np.load(REFERENCE / f"{case}.npz"))
    model = vivace.import_model(REFERENCE / case, cells)
    torch.manual_seed(0)
    latent = expected.pop("latent")
    if "logistic" not in case:  # a Monte-Carlo mean, compared below by its parameters
        agree(f"{case}: latent", model.get_latent_representation(), latent, **LATENT_TOLERANCE)
    found = probe(model.module, minibatch(model))
    shared = found.keys() & expected.keys()
    gradients = [name for name in found if name.startswith("gradient.")]
    assert set(gradients) <= shared, set(gradients) - shared
    assert {"loss", "reconstruction_loss", "kl_local"} <= shared
    assert any(name.startswith("generative.") for name in shared)
    assert any(name.startswith("inference.") for name in shared)
    for name in sorted(shared):
        agree(f"{case}: {name}", found[name], expected[name], **FLOAT64_TOLERANCE)
