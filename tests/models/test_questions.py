"""What several models answer alike: which draws are asked for, and the tables users get."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from vivace import SCVI
from vivace.datasets import simulate
from vivace.models.questions.expression import cells_table, draw_seed
from vivace.models.questions.groups import compare


@pytest.fixture(scope="module")
def model() -> SCVI:
    adata = simulate("batches", n_cells=60, n_genes=8, n_batches=2)
    SCVI.setup_anndata(adata, batch_key="batch")
    model = SCVI(adata, n_hidden=8)
    model.train(max_epochs=1, progress=False)
    return model


def test_each_side_is_decoded_for_its_own_batches(model: SCVI):
    asked = []

    def draw(rows: np.ndarray, batch: int | None) -> np.ndarray:
        asked.append((set(rows) <= set(range(30)), batch))
        return np.ones((len(rows), 8), dtype=np.float32)

    which = (None, None, None, range(30), range(30, 60))
    batches = (True, *([name] for name in model.schema.field("batch").categories[0]))
    options = {"n_samples_overall": 50, "mode": "vanilla"}
    compare(model, model._cells(), which, batches, options, draw_scales=draw)
    assert asked == [(True, 0), (False, 1)]


def test_draws_are_averaged_cell_by_cell_if_asked_for(model: SCVI):
    draws = np.random.default_rng(0).random((3, 4, 8))
    cells, names = model.adata.obs_names[[7, 3, 5, 1]], model.var_names
    table = cells_table(draws, cells, names, average=True, as_array=False)
    wanted = pd.DataFrame(draws.mean(0), cells, names)
    pd.testing.assert_frame_equal(table, wanted)
    whole = cells_table(draws, cells, names, average=False, as_array=False)
    np.testing.assert_array_equal(whole, draws)
    array = cells_table(draws[0], cells, names, average=True, as_array=True)
    np.testing.assert_array_equal(array, draws[0])


def test_torchs_generator_decides_the_seed_of_what_numpy_draws():
    found = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        found.append((draw_seed(), draw_seed()))
    assert found[0] == found[1] != found[2]
    assert found[0][0] != found[0][1]
