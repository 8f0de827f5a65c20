"""Training on cells that stay on the device: what runs without one is tested without one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse
from torch.nn import functional as F
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

import vivace
from model_table import CASES
from vivace.data import Loader, ZippedLoader
from vivace.errors import InvalidArgumentError
from vivace.kernels import csr_tensor, dispatch, gaussian, linear
from vivace.kernels.affine import dense
from vivace.kernels.csr import is_csr, row_of_value, to_dense
from vivace.modules import VAE, thinning
from vivace.modules.base import BaseModule
from vivace.nn import dropout
from vivace.train import TrainOptions, cuda, fit
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
    check_capturable(module, ZippedLoader({"a": loader}), CUDA)
    with pytest.raises(InvalidArgumentError, match="told by their rows"):
        check_capturable(module, [loader], CUDA)


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


# the captured step on the processor, where a recording takes the place of a graph --------------------

HOLDS_UP = {
    "aten._local_scalar_dense": "reads a number from the device",
    "aten.nonzero": "asks the device how large a result is",
    "aten.masked_select": "asks the device how large a result is",
    "aten._unique2": "asks the device how large a result is",
    "aten.lift_fresh": "takes a number from the host",
}


class Recording(TorchDispatchMode):
    """All operations of torch on tensors, in order; they can be done again where they were done."""

    def __init__(self):
        super().__init__()
        self.done: list = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function).rsplit(".", 1)[0]
        assert name not in HOLDS_UP, f"{name} {HOLDS_UP.get(name)}, which no graph can"
        if name.startswith("aten.index"):
            masks = [t for t in args[1] or () if t is not None] if len(args) > 1 else ()
            assert all(t.dtype != torch.bool for t in masks if isinstance(t, torch.Tensor))
        out = function(*args, **(kwargs or {}))
        self.done.append((function, args, kwargs or {}, out))
        return out


class RecordedGraph:
    """What :class:`vivace.train.cuda.Graph` does, by doing each recorded operation again into its result."""

    def capture(self, work):
        chance = torch.get_rng_state()
        work()
        self.recording = Recording()
        with self.recording:
            answer = work()
        torch.set_rng_state(chance)  # so that the first replay draws what the first step would
        return answer

    @torch.no_grad()
    def replay(self):
        for function, args, kwargs, out in self.recording.done:
            again = function(*args, **kwargs)
            for old, new in zip(pytree.tree_leaves(out), pytree.tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def dense_log_likelihood(
    x, logits, library, log_theta=None, zi_logits=None, *, scale="softmax", theta_rows=None
):
    """What kernels compute, of whole matrices: torch sees it, and no size depends on the counts."""
    x, logits = to_dense(x), dense(logits)
    scales = {"softmax": lambda h: h.softmax(-1), "softplus": F.softplus, "identity": lambda h: h}
    mu = (library.exp() * scales[scale](logits)).clamp(min=1e-8)
    if log_theta is None:
        return (x * mu.log() - mu - torch.lgamma(x + 1)).sum(-1)
    theta = (log_theta if theta_rows is None else log_theta[theta_rows]).exp()
    value = theta * (theta / (theta + mu)).log() + x * (mu / (theta + mu)).log()
    value = value + torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1)
    if zi_logits is not None:
        pi = dense(zi_logits)
        value = torch.where(x == 0, torch.logaddexp(pi, value), value) - F.softplus(pi)
    return value.sum(-1)


def one_hot(codes, n):
    """As on a device, where torch does not look at the codes."""
    return (codes.unsqueeze(-1) == torch.arange(n)).long()


def dense_thinned(x, p):
    """As of a dense matrix, which is what a captured step has."""
    drawn = torch.binomial(to_dense(x), p.expand(x.shape))
    return drawn[row_of_value(x), x.col_indices().long()] if is_csr(x) else drawn


@pytest.fixture
def recorded(monkeypatch):
    """Captured steps run on the processor, with twins of its kernels that torch sees."""
    monkeypatch.setattr(cuda, "DEVICE", "cpu")
    monkeypatch.setattr(cuda, "Graph", RecordedGraph)
    monkeypatch.setattr(cuda, "free_bytes", lambda device: 10**9)
    monkeypatch.setattr(dispatch, "fused_for", lambda *about: dense_log_likelihood)
    monkeypatch.setattr(F, "one_hot", one_hot)
    monkeypatch.setattr(thinning, "draw_thinned", dense_thinned)
    monkeypatch.setattr(linear, "csr_is_faster", lambda *about: False)
    monkeypatch.setattr(gaussian, "_keeps_digits", lambda *about: False)
    monkeypatch.setattr(dropout, "LEVELS", 0)


CHANGE_COURSE = {"SPLICEVI", "DestVI"}


@pytest.mark.parametrize("name", sorted(CHANGE_COURSE))
def test_models_that_change_their_course_are_refused(name, recorded):
    case = CASES[name]
    with pytest.raises(InvalidArgumentError, match="depends on the minibatch or the step"):
        case.build(case.data()).train(max_epochs=1, plan_kwargs={"cuda_graphs": True})


@pytest.mark.parametrize("name", sorted(set(CASES) - CHANGE_COURSE))
def test_captured_training_learns_what_plain_training_does_on_the_processor(name, recorded):
    """From the same weights, minibatches and random numbers: only rounding differs."""
    case = CASES[name]
    losses = []
    for cuda_graphs in (False, True):
        model = case.build(case.data())
        model.train(
            **(
                {"max_epochs": 8, "batch_size": 32, "progress": False, "accelerator": "cpu"}
                | case.train
            ),
            plan_kwargs={"cuda_graphs": cuda_graphs},
        )
        losses.append(model.history["train_loss"].to_numpy()[:, 0])
    assert losses[1][-1] < losses[1][0]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)


def test_a_resumed_run_goes_on_from_its_moments(recorded, tmp_path):
    """What the capture tried out is undone: weights, running means and the optimizer's moments."""
    file, weights = tmp_path / "run.ckpt", []
    options = TrainOptions(
        max_epochs=4, batch_size=32, cuda_graphs=True, checkpoint_every_n_epochs=3
    )
    for resume in (None, file):
        model = CASES["SCVI"].build(CASES["SCVI"].data())
        loader = Loader(model._cells(), np.arange(96), 32, shuffle=True)
        fit(model.module, loader, options=options, checkpoint=file, resume=resume)
        weights.append(model.module.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, msg=name)


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
