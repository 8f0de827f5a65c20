"""Training on cells that stay on the device: what runs without one is tested without one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

import vivace
from vivace.data import Loader, ZippedLoader
from vivace.errors import InvalidArgumentError
from vivace.kernels import csr_tensor
from vivace.modules import VAE
from vivace.modules.base import BaseModule
from vivace.train.cuda import ResidentCells, ResidentRows, check_capturable, fits

CUDA = torch.device("cuda")


def counts(n_cells=9, n_genes=12):
    x = np.random.poisson(0.5, (n_cells, n_genes)).astype(np.float32)
    x[3] = 0
    csr = sparse.csr_array(x)
    return x, csr_tensor(csr.indptr, csr.indices, csr.data, x.shape)


@pytest.mark.parametrize("rows", [[0, 1, 2], [8, 3, 8, 8], [3]])
def test_resident_rows_are_the_rows(rows):
    x, csr = counts()
    np.testing.assert_array_equal(ResidentRows(csr).dense(torch.tensor(rows)), x[rows])


def test_resident_rows_of_an_empty_matrix():
    empty = csr_tensor(
        np.zeros(4, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32), (3, 5)
    )
    assert torch.equal(ResidentRows(empty).dense(torch.tensor([2, 0])), torch.zeros(2, 5))


def test_resident_cells_are_the_minibatch():
    x, csr = counts()
    codes = torch.arange(9).unsqueeze(1)
    cells = ResidentCells({"X": csr, "batch": codes}, torch.device("cpu"))
    found = cells.minibatch(torch.tensor([4, 0]))
    np.testing.assert_array_equal(found["X"], x[[4, 0]])
    assert found["batch"].tolist() == [[4], [0]]


def test_fits_into_half_of_what_is_free():
    tensors = {"X": torch.zeros(10, 10), "S": counts()[1]}
    values = tensors["S"].values()
    size = 400 + values.numel() * 8 + 10 * 4
    assert fits(tensors, 2 * size)
    assert not fits(tensors, 2 * size - 1)


def test_what_cannot_be_captured_is_refused():
    loader, module = Loader(None, np.arange(4)), VAE(5)
    check_capturable(module, loader, CUDA)
    with pytest.raises(InvalidArgumentError, match="needs a CUDA device"):
        check_capturable(module, loader, torch.device("cpu"))
    with pytest.raises(InvalidArgumentError, match="several"):
        check_capturable(module, ZippedLoader({"a": loader}), CUDA)


def test_a_module_that_changes_its_course_is_refused():
    class Changing(VAE):
        def on_step(self, kl_weight: float) -> None:
            self.course = kl_weight

    assert Changing.on_step is not BaseModule.on_step
    with pytest.raises(InvalidArgumentError, match="Changing"):
        check_capturable(Changing(5), Loader(None, np.arange(4)), CUDA)


def test_asked_for_without_a_device():
    adata = vivace.datasets.simulate("batches", n_cells=60, n_genes=20)
    vivace.SCVI.setup_anndata(adata)
    with pytest.raises(InvalidArgumentError, match="cuda_graphs"):
        vivace.SCVI(adata).train(
            max_epochs=1, accelerator="cpu", progress=False, plan_kwargs={"cuda_graphs": True}
        )


@pytest.mark.gpu
def test_captured_training_learns_what_plain_training_does():
    adata = vivace.datasets.simulate("batches", n_cells=600, n_genes=50)
    vivace.SCVI.setup_anndata(adata)
    losses = []
    for cuda_graphs in (False, True):
        model = vivace.SCVI(adata)
        plan = {"cuda_graphs": cuda_graphs}
        model.train(max_epochs=5, accelerator="gpu", progress=False, seed=0, plan_kwargs=plan)
        losses.append(model.history["elbo_train"].to_numpy()[-1, 0])
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
