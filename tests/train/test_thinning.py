"""Cells thinned for the encoder as an option of training: off, on, refused, resumed, from disk."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
import torch

import vivace
from toy import Line, Stream
from vivace.datasets import simulate
from vivace.errors import InvalidArgumentError
from vivace.train import TrainOptions, fit
from vivace.train.thinning import cells_thinned

SHORT = {"max_epochs": 3, "batch_size": 32, "progress": False, "accelerator": "cpu", "seed": 0}


def scvi(adata=None, **options):
    adata = simulate("batches", n_cells=150, n_genes=30, seed=0) if adata is None else adata
    vivace.SCVI.setup_anndata(adata, batch_key="batch")
    return vivace.SCVI(adata, n_hidden=8, n_latent=3, **options)


def weights(model):
    return torch.cat([value.flatten().float() for value in model.module.state_dict().values()])


def trained(share, adata=None, **training):
    model = scvi(adata)
    model.train(**SHORT, thinned_share=share, **training)
    return weights(model)


def test_a_share_changes_training_and_none_does_not():
    assert torch.equal(trained(0.0), trained(0.0))
    assert torch.equal(trained(0.5), trained(0.5)), "the seed decides"
    assert not torch.equal(trained(0.5), trained(0.0))


def test_the_module_is_left_as_it_was():
    model = scvi()
    hook = model.module.register_forward_pre_hook(
        lambda module, _: 1 / (0.5 - module.thinned_share)
    )
    with pytest.raises(ZeroDivisionError):
        model.train(**SHORT, thinned_share=0.5)
    hook.remove()
    assert model.module.thinned_share == 0


def test_held_out_cells_are_not_thinned():
    """Their loss does not depend on the option, given the weights."""
    model = scvi()
    model.train(**SHORT)
    cells = model._loader(None, None, None)
    found = []
    for share in (0.0, 1.0):
        with cells_thinned(model.module.eval(), share):
            torch.manual_seed(0)
            found.append(sum(model.module(t)[2].loss.item() for t in cells))
    assert found[0] == found[1]


def test_a_resumed_run_thins_as_one_never_stopped(tmp_path):
    training = {**SHORT, "thinned_share": 0.5}
    whole, first, second = scvi(), scvi(), scvi()
    whole.train(**training)

    calls = []

    def stop(_):
        calls.append(1)
        if len(calls) == 7:  # in the second epoch
            raise KeyboardInterrupt

    hook = first.module.register_forward_pre_hook(lambda m, _: stop(_) if m.training else None)
    with pytest.raises(KeyboardInterrupt):
        first.train(**training, checkpoint=tmp_path / "state")
    hook.remove()
    second.train(**training, resume=tmp_path / "state")
    assert torch.equal(weights(second), weights(whole))


def test_cells_on_disk_are_thinned_alike_each_time(tmp_path):
    """Their order is another one than in memory, with or without the option."""
    simulate("batches", n_cells=150, n_genes=30, seed=0).write_h5ad(tmp_path / "cells.h5ad")
    found = [
        trained(share, anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r"))
        for share in (0.5, 0.5, 0.0)
    ]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("share", [-0.1, 1.1, np.nan, "half"])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(InvalidArgumentError, match="thinned_share"):
        TrainOptions(thinned_share=share)


def test_a_module_that_cannot_thin_says_so_and_keeps_its_weights():
    module = Line()
    with pytest.raises(InvalidArgumentError, match=r"thinned_share=0\.5.*Line.*leave it at 0"):
        fit(module, Stream(), options=TrainOptions(max_epochs=1, thinned_share=0.5))
    assert module.value.item() == 5.0


def test_values_that_are_no_whole_counts_are_not_thinned():
    """Neither by the recipe, which does without, nor because a user asks."""
    adata = simulate("batches", n_cells=150, n_genes=30, seed=0)
    adata.X = adata.X * 0.5
    with pytest.warns(UserWarning, match="whole"):
        model = scvi(adata, gene_likelihood="nb")
    model.train(**SHORT)
    assert model.training["options"]["thinned_share"] == 0
    with pytest.raises(InvalidArgumentError, match="no whole counts"):
        model.train(**SHORT, thinned_share=0.5)
