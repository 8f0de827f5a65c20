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

import vivace
from probe import probe

REFERENCE = Path(os.environ.get("VIVACE_PARITY", Path(__file__).parent / ".out"))
CASES = sorted(p.stem for p in REFERENCE.glob("*.npz"))
LATENT_TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}  # float32, both ways
FLOAT64_TOLERANCE = {"rtol": 1e-4, "atol": 1e-6}  # they add 1e-8 inside logarithms
DESTVI_TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}  # they pass through float32 on the way

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
    scale = np.abs(expected).max() + 1e-12
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol * scale, err_msg=name)
    compared[name] = float(np.abs(found - expected).max() / scale)


def cells_of(case: str) -> anndata.AnnData:
    return anndata.read_h5ad(
        REFERENCE / f"{'logged' if case.startswith('SysVI') else 'cells'}.h5ad"
    )


def minibatch(model: vivace.models.base.BaseModel) -> dict:
    """All cells; of ContrastiveVI the first half against the second."""
    cells = model._cells()
    rows = np.arange(cells.n_cells)
    if type(model).__name__ != "ContrastiveVI":
        return cells.minibatch(rows)
    background, target = np.array_split(rows, 2)
    return {"background": cells.minibatch(background), "target": cells.minibatch(target)}


def answer(model: vivace.models.base.BaseModel, question: str) -> np.ndarray:
    if question == "proportions":
        return model.get_proportions().to_numpy()
    if question in ("background", "salient"):
        return model.get_latent_representation(representation_kind=question)
    return model.get_latent_representation()


def test_the_reference_is_there():
    if not REFERENCE.is_dir():
        pytest.skip("the models of scvi-tools are missing: run make parity")
    assert CASES


@pytest.mark.parametrize("case", CASES)
def test_an_imported_model_gives_its_old_numbers(case: str):
    with np.load(REFERENCE / f"{case}.npz") as file:
        expected = dict(file)
    model = vivace.import_model(REFERENCE / case, cells_of(case))
    questions = {k: expected.pop(k) for k in list(expected) if k.startswith("question.")}
    if "logistic" not in case:  # a Monte-Carlo mean, compared below by its parameters
        for name, old in questions.items():
            found = answer(model, name.removeprefix("question."))
            agree(f"{case}: {name}", found, old, **LATENT_TOLERANCE)
    with_loss = "loss" in expected
    found = probe(model.module, minibatch(model), with_loss=with_loss)
    shared = found.keys() & expected.keys()
    gradients = {name for name in found if name.startswith("gradient.")}
    assert gradients, "no gradient was compared"
    assert gradients <= shared, gradients - shared
    if with_loss:
        assert {"loss", "reconstruction_loss", "kl_local"} <= shared
    assert any(name.startswith("generative.") for name in shared)
    assert any(name.startswith("inference.") for name in shared)
    shared -= {"generative.proportion_modes_logits"}  # of a single mode they say nothing
    tolerance = DESTVI_TOLERANCE if case.startswith("DestVI") else FLOAT64_TOLERANCE
    for name in sorted(shared):
        agree(f"{case}: {name}", found[name], expected[name], **tolerance)
