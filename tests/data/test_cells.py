"""Cells block by block: every row once, whatever the size of a block."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
from scipy import sparse

from vivace import SCVI
from vivace.data import Cells
from vivace.data.schema import read_schema

COUNTS = np.random.default_rng(0).poisson(2, (9, 4)).astype(np.float32) + 1


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("size", [1, 2, 4, 8, 9, 100])
def test_blocks_hold_every_row_once(kind, size: int):
    adata = anndata.AnnData(kind(COUNTS))
    SCVI.setup_anndata(adata)
    cells = Cells(adata, read_schema(adata, "SCVI"))
    rows = np.array([8, 0, 3, 3, 7, 1, 2, 6, 5])
    blocks = [np.asarray(sparse.csr_array(b).todense()) for b in cells.blocks(rows, size)]
    assert {len(b) for b in blocks[:-1]} <= {size}
    np.testing.assert_array_equal(np.concatenate(blocks), COUNTS[rows])
    np.testing.assert_allclose(cells.library_sizes(rows), COUNTS[rows].sum(1))
    np.testing.assert_allclose(cells.library_sizes(), COUNTS.sum(1))
