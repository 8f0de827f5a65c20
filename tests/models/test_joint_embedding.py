"""JointEmbeddingSCVI: SCVI to the bit without the second view, and options that survive saving."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import vivace
from vivace.errors import InvalidArgumentError

METRICS = ["cco_loss", "cco_invariance", "cco_redundancy", "variance_loss"]


@pytest.fixture(scope="module")
def cells():
    return vivace.datasets.simulate("depth", n_cells=150, n_genes=40)


def trained(kind, adata, recipe="fast", **options):
    kind.setup_anndata(adata)
    model = kind(adata, n_hidden=16, **options)
    model.train(max_epochs=3, seed=4, recipe=recipe, progress=False)
    return model


@pytest.mark.parametrize("recipe", ["fast", "classic"])
def test_without_joint_embedding_it_is_scvi_to_the_bit(cells, recipe):
    scvi = trained(vivace.SCVI, cells.copy(), recipe)
    joint = trained(vivace.JointEmbeddingSCVI, cells.copy(), recipe, use_joint_embedding=False)
    ours, theirs = joint.module.state_dict(), scvi.module.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    np.testing.assert_array_equal(
        joint.get_latent_representation(), scvi.get_latent_representation()
    )
    assert not set(joint.history) & {f"{m}_train" for m in METRICS}


def test_the_extra_metrics_are_in_the_history_of_training_alone(cells):
    model = trained(vivace.JointEmbeddingSCVI, cells.copy())
    for name in METRICS:
        assert model.history[f"{name}_train"].notna().all(axis=None)
        assert f"{name}_validation" not in model.history
    assert len(model.history["elbo_validation"]) == 3


def test_options_survive_saving_and_are_shown(cells, tmp_path, watch):
    adata = watch(cells.copy())
    options = {"lambda_off_diag": 0.02, "min_library_size": 5.0, "thinned_batch_norm": "freeze"}
    model = trained(vivace.JointEmbeddingSCVI, adata, **options)
    loaded = vivace.load(model.save(tmp_path / "run"), adata)
    assert type(loaded) is vivace.JointEmbeddingSCVI
    for name, value in options.items():
        assert getattr(loaded.module, name) == value
        assert f"{name}={value!r}" in repr(loaded)
    np.testing.assert_array_equal(
        loaded.get_latent_representation(), model.get_latent_representation()
    )


def test_weights_can_be_given_to_training(cells):
    adata = cells.copy()
    vivace.JointEmbeddingSCVI.setup_anndata(adata)
    states = []
    for plan in (None, {"joint_embedding_weight": 0.0}, {"reconstruction_weight": 0.5}):
        model = vivace.JointEmbeddingSCVI(adata, n_hidden=16)
        model.train(max_epochs=1, progress=False, plan_kwargs=plan)
        states.append(model.module.state_dict()["decoder.px_scale_decoder.0.weight"])
    assert not torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_normal_likelihood_is_refused(cells):
    adata = cells.copy()
    vivace.JointEmbeddingSCVI.setup_anndata(adata)
    with pytest.raises(InvalidArgumentError, match="no counts to thin"):
        vivace.JointEmbeddingSCVI(adata, gene_likelihood="normal")
