"""precision="bf16" multiplies in bfloat16 and keeps everything else, and what is learned."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import vivace
from vivace._types import Keys
from vivace.data import Cells, Loader
from vivace.modules import VAE
from vivace.train import TrainOptions, fit
from vivace.train.loop import Trainer
from vivace.train.optimizer import make_optimizer
from vivace.train.precision import warn_of_slow_precision
from vivace.train.stopping import Interrupt

LIKELIHOODS = ("zinb", "nb", "poisson")


@pytest.fixture(scope="module")
def cells():
    adata = vivace.datasets.simulate("batches", n_cells=256, n_genes=60)
    vivace.SCVI.setup_anndata(adata)
    return vivace.SCVI(adata)._cells()


def gradients(cells: Cells, likelihood: str, precision: str, seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    module = VAE(60, gene_likelihood=likelihood)
    options = TrainOptions(max_epochs=1, precision=precision)
    loader = Loader(cells, torch.arange(128).numpy())
    optimizer = make_optimizer(module, options)
    trainer = Trainer(module.train(), loader, optimizer, options, {}, Interrupt())
    trainer.step(cells.minibatch(torch.arange(128).numpy()), 0, 1.0)
    return {name: p.grad for name, p in module.named_parameters()}


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_gradients_are_those_of_float32_to_bfloat16_digits(cells, likelihood):
    worst = [worst_error(cells, likelihood, seed) for seed in range(5)]
    assert np.median(worst) < 0.1, worst  # a seed in ten has a parameter beyond it


def worst_error(cells: Cells, likelihood: str, seed: int) -> float:
    """The largest of all parameters: 8 bits, and a few units that turn on or off."""
    exact, half = (gradients(cells, likelihood, p, seed) for p in ("float32", "bf16"))
    assert all(gradient.dtype == torch.float32 for gradient in half.values())
    # a bias before batch normalisation has no gradient but rounding
    names = [name for name, gradient in exact.items() if gradient.norm() >= 1e-3]
    return max(float((half[n] - exact[n]).norm() / exact[n].norm()) for n in names)


@pytest.mark.filterwarnings("ignore:precision=.bf16. is slower")  # where these tests happen to run
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_learns_as_much(cells, likelihood):
    elbos = {}
    for precision in ("float32", "bf16"):
        torch.manual_seed(0)
        module = VAE(60, gene_likelihood=likelihood)
        loader = Loader(cells, torch.arange(256).numpy(), 64, shuffle=True)
        options = TrainOptions(max_epochs=8, precision=precision)
        result = fit(module, loader, options=options, seed=0)
        assert all(p.dtype == torch.float32 for p in module.parameters())
        elbos[precision] = result.history.last("elbo_train")
    assert elbos["bf16"] == pytest.approx(elbos["float32"], rel=5e-3)


def test_questions_are_answered_in_float32(cells):
    module = VAE(60).eval()
    tensors = cells.minibatch(torch.arange(8).numpy())
    assert tensors[Keys.X].dtype == torch.float32
    assert module.inference(**module._get_inference_input(tensors))["z"].dtype == torch.float32


@pytest.mark.parametrize("has", [{"avx512_bf16": True}, {"amx_bf16": True}, {}])
def test_warns_where_bfloat16_is_emulated(monkeypatch, has):
    processor = {"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False, **has}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        warn_of_slow_precision("float32", torch.device("cpu"))
        warn_of_slow_precision("bf16", torch.device("cuda"))
        warn_of_slow_precision("bf16", torch.device("cpu"))
    assert len(heard) == (not has)
