"""A weight of the KL term that a user fixes is the weight of every step, whatever the recipe."""

from __future__ import annotations

import anndata
import pytest

from vivace import SCVI, JointEmbeddingSCVI
from vivace.datasets import simulate


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
