"""Calls that users of scvi-tools have in their fingers: each works as they expect, or says what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from model_table import CASES

import vivace
from vivace.datasets import simulate


def cells(**options: Any) -> Any:
    return simulate("batches", n_cells=60, n_genes=20, **options)


def trained(adata: Any = None, *, epochs: int = 1, **options: Any) -> Any:
    adata = cells() if adata is None else adata
    vivace.SCVI.setup_anndata(adata, batch_key="batch")
    model = vivace.SCVI(adata, n_hidden=8, n_latent=2, **options)
    model.train(max_epochs=epochs, progress=False)
    return model


@pytest.fixture(scope="module")
def model() -> Any:
    return trained()


# views ------------------------------------------------------------------------------------------

QUESTIONS = {
    "latent": lambda m, a: m.get_latent_representation(a),
    "elbo": lambda m, a: m.get_reconstruction_error(a)["reconstruction_loss"].shape,
    "expression": lambda m, a: m.get_normalized_expression(a, use_mean=True).to_numpy(),
    "differences": lambda m, a: m.differential_expression(a, groupby="batch")[
        ["raw_mean1", "raw_mean2"]
    ].to_numpy(),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_1_a_view_is_answered_as_its_copy_and_only_read(model, watch, question: str):
    adata = watch(model.adata)
    view = adata[np.arange(60) % 2 == 0]
    found = QUESTIONS[question](model, view)
    assert view.is_view
    np.testing.assert_array_equal(found, QUESTIONS[question](model, view.copy()))


@pytest.mark.parametrize("name", CASES)
def test_1_a_view_is_set_up_and_trained_on(name: str, watch):
    case = CASES[name]
    whole = watch(case.data())
    view = whole[np.arange(whole.n_obs) < 90] if name not in ("ContrastiveVI",) else whole[:]
    model = case.build(view)
    model.train(max_epochs=1, progress=False, **case.train)
    assert "vivace" not in whole.uns
    assert len(case.latent(model)) == view.n_obs


def test_1_a_view_of_changed_cells_is_read_anew(model):
    adata = model.adata.copy()
    view = adata[:20]
    before = model.get_latent_representation(view)
    adata.X.data[:] += 3
    assert not np.array_equal(model.get_latent_representation(view), before)


def test_1_a_view_of_a_file_is_answered_and_says_how_to_set_it_up(model, tmp_path):
    import anndata

    cells().write_h5ad(tmp_path / "a.h5ad")
    adata = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    z = model.get_latent_representation(adata[:20])
    np.testing.assert_array_equal(z, model.get_latent_representation(cells()[:20].copy()))
    with pytest.raises(vivace.errors.InvalidDataError, match="to_memory"):
        vivace.SCVI.setup_anndata(adata[:20])
    adata.file.close()
