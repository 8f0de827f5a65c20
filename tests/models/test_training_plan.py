"""What a user tells training reaches the loop and the loss, whatever the recipe says."""

from __future__ import annotations

import anndata
import numpy as np
import pytest

from vivace import SCVI, JointEmbeddingSCVI
from vivace.datasets import simulate
from vivace.models import base


@pytest.fixture(scope="module")
def adata() -> anndata.AnnData:
    return simulate("batches", n_cells=90, n_genes=10, n_batches=2)


@pytest.mark.parametrize("recipe", ["fast", "classic"])
@pytest.mark.parametrize("kind", [SCVI, JointEmbeddingSCVI])
def test_a_fixed_weight_is_the_smallest_and_the_largest(adata, kind, recipe):
    """SCVI's recipe for batches runs from 2 to 1, and the classic one from 0 to 1."""
    kind.setup_anndata(adata, batch_key="batch")
    model = kind(adata, n_hidden=8)
    plan = {"kl_weight": 1.5}
    model.train(max_epochs=3, recipe=recipe, plan_kwargs=plan, progress=False)
    assert model.history["kl_weight"].iloc[:, 0].tolist() == [1.5] * 3
    used = model.training["options"]
    assert used["min_kl_weight"] == used["max_kl_weight"] == 1.5
    assert plan == {"kl_weight": 1.5}


def test_an_argument_wins_over_the_plan_and_the_loss_gets_the_rest(adata):
    SCVI.setup_anndata(adata)
    model = SCVI(adata, n_hidden=8)
    model.train(
        max_epochs=1, progress=False, lr=1e-4, plan_kwargs={"lr": 1e-2, "weight_decay": 0.5}
    )
    used = model.training["options"]
    assert (used["lr"], used["weight_decay"]) == (1e-4, 0.5)
    assert model.training["loss_options"] == {}
    kind = JointEmbeddingSCVI
    kind.setup_anndata(adata)
    model = kind(adata, n_hidden=8)
    model.train(max_epochs=1, progress=False, plan_kwargs={"joint_embedding_weight": 0.25})
    assert model.training["loss_options"]["joint_embedding_weight"] == 0.25


def test_the_seed_decides_the_order_of_cells_too(adata, monkeypatch):
    """With the same cells in training and no other chance before the first step."""
    SCVI.setup_anndata(adata)
    orders = []

    def watched(module, train, validation, **kwargs):
        orders.append(np.concatenate(list(train.row_batches(0))).tolist())
        return fit(module, train, validation, **kwargs)

    fit = base.fit
    monkeypatch.setattr(base, "fit", watched)
    for seed in (0, 0, 1):
        model = SCVI(adata, n_hidden=8)
        model.train(max_epochs=1, shuffle_set_split=False, seed=seed, progress=False)
    assert orders[0] == orders[1]
    assert set(orders[0]) == set(orders[2])
    assert orders[0] != orders[2]
