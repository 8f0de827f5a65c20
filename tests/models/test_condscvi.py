"""CondSCVI: labels, priors and the questions one asks of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import vivace
from vivace.datasets import simulate
from vivace.errors import InvalidArgumentError, NotTrainedError, UnsupportedError
from vivace.models.query import extended_schema


def cells(n: int = 90, **columns):
    adata, _ = simulate("spatial", n_cells=n, n_genes=60, n_spots=5, n_types=3)
    adata.obs["donor"] = np.where(np.arange(n) % 2, "x", "y")
    for name, values in columns.items():
        adata.obs[name] = values
    return adata


def fitted(adata=None, setup=None, **options):
    adata = cells() if adata is None else adata
    keys = {"labels_key": "cell_type", "batch_key": "donor", **(setup or {})}
    vivace.CondSCVI.setup_anndata(adata, **keys)
    model = vivace.CondSCVI(adata, n_hidden=8, n_latent=2, **options)
    model.train(max_epochs=2, progress=False)
    return model


@pytest.fixture(scope="module")
def model():
    return fitted()


def fine(adata) -> np.ndarray:
    return np.where(
        np.arange(adata.n_obs) % 3 == 0, "unlabeled", adata.obs["cell_type"].astype(str)
    )


def test_answers_have_the_shapes_they_say(model):
    n, g = 90, 60
    assert model.get_latent_representation(indices=[3, 1]).shape == (2, 2)
    mean, variance = model.get_latent_representation(return_dist=True)
    assert (variance > 0).all()
    assert mean.shape == (n, 2)
    expression = model.get_normalized_expression(transform_batch="x", indices=[5, 4])
    assert list(expression.index) == ["cell_5", "cell_4"]
    np.testing.assert_allclose(expression.sum(axis=1), 1, rtol=1e-5)
    assert model.get_normalized_expression(n_samples=3, return_mean=False).shape == (3, n, g)
    assert model.get_likelihood_parameters()["dispersions"].shape == (n, g)
    assert model.get_elbo() < 0
    assert model.get_reconstruction_error()["reconstruction_loss"] > 0
    assert not hasattr(model, "get_latent_library_size")


def test_the_posterior_predictive_keeps_the_depth(model):
    drawn = model.posterior_predictive_sample(n_samples=2)
    assert len(drawn) == 2
    assert 0.8 < drawn[0].sum() / model.adata.X.sum() < 1.25


def test_the_decoded_batch_can_be_another(model):
    x, y = (
        model.get_normalized_expression(transform_batch=b, use_mean=True, return_numpy=True)
        for b in "xy"
    )
    own = model.get_normalized_expression(use_mean=True, return_numpy=True)
    is_x = (model.adata.obs["donor"] == "x").to_numpy()
    np.testing.assert_allclose(own[is_x], x[is_x], rtol=1e-5)
    assert np.abs(x - y).max() > 1e-6


def test_each_type_can_be_imposed(model):
    losses = model.confusion_coarse_celltypes(indices=np.arange(10))
    assert set(losses) == {"original", "type_0", "type_1", "type_2"}
    assert all(v.shape == (10,) for v in losses.values())
    own = model.adata.obs["cell_type"].to_numpy()[:10]
    chosen = [losses[t][i] for i, t in enumerate(own)]
    # z is drawn, so that both agree on average only
    np.testing.assert_allclose(np.mean(chosen), losses["original"].mean(), rtol=0.05)


def test_an_imposed_type_is_decoded_as_that_type():
    model = fitted()
    with torch.no_grad():
        model.module.per_ct_bias[1, :30] = -20.0  # a type that cannot explain half of the genes
    losses = model.confusion_coarse_celltypes()
    assert (losses["type_1"] > 2 * losses["type_0"]).all()
    own = (model.adata.obs["cell_type"] == "type_1").to_numpy()
    assert losses["original"][own].min() > losses["original"][~own].max()


def test_imposed_types_do_not_mind_a_smaller_last_minibatch(model):
    whole = model.confusion_coarse_celltypes(indices=np.arange(10))
    parts = model.confusion_coarse_celltypes(indices=np.arange(10), batch_size=4)
    assert {k: v.shape for k, v in parts.items()} == {k: v.shape for k, v in whole.items()}
    for name, losses in parts.items():
        np.testing.assert_allclose(losses.mean(), whole[name].mean(), rtol=0.05)


def test_differential_expression_can_correct_for_batches(model):
    table = model.differential_expression(
        groupby="cell_type", group1="type_0", mode="change", batch_correction=True
    )
    assert len(table) == 60
    assert table["proba_de"].between(0, 1).all()


# priors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"prior": "mog", "num_classes_mog": 4}], ids=["vamp", "mog"]
)
def test_priors_come_as_one_kind_of_array(options: dict):
    prior = fitted(**options).get_vamp_prior(p=4)
    assert {k: v.shape for k, v in prior.items()} == {
        "mean_vprior": (3, 4, 2),
        "var_vprior": (3, 4, 2),
        "weights_vprior": (3, 4),
    }
    assert all(v.dtype == np.float32 for v in prior.values())
    np.testing.assert_allclose(prior["weights_vprior"].sum(1), 1, rtol=1e-5)


def test_prior_has_the_moments_of_its_cells(model):
    prior = model.get_vamp_prior(p=5)
    means, variances = model.get_latent_representation(return_dist=True)
    codes = model.adata.obs["cell_type"].cat.codes.to_numpy()
    weights = prior["weights_vprior"][..., None]
    mean = (weights * prior["mean_vprior"]).sum(1)
    second = (weights * (prior["var_vprior"] + prior["mean_vprior"] ** 2)).sum(1)
    for c in range(3):
        of_type = codes == c
        np.testing.assert_allclose(mean[c], means[of_type].mean(0), atol=1e-5)
        expected = (variances + means**2)[of_type].mean(0)
        np.testing.assert_allclose(second[c], expected, rtol=1e-4)


def test_the_same_prior_twice(model):
    first, second = model.get_vamp_prior(p=5), model.get_vamp_prior(p=5)
    assert all(np.array_equal(first[k], second[k]) for k in first)


def test_every_cell_may_be_a_component(model):
    prior = model.get_vamp_prior(p=None)
    assert prior["mean_vprior"].shape == (3, 30, 2)
    np.testing.assert_allclose(prior["weights_vprior"], 1 / 30, rtol=1e-5)


def test_given_clusters_are_the_components():
    adata = cells()
    adata.obs["overclustering_vamp"] = np.arange(90) % 2
    model = fitted(adata)
    used = (model.get_vamp_prior(p=4)["weights_vprior"] > 0).sum(1)
    assert (used == 2).all()
    with pytest.raises(InvalidArgumentError, match="clusters, more than p=1"):
        model.get_vamp_prior(p=1)


# fine labels ------------------------------------------------------------------------------------


def test_fine_labels_leave_the_unlabelled_out():
    adata = cells()
    adata.obs["fine"] = fine(adata)
    model = fitted(adata, {"fine_labels_key": "fine"})
    assert model.fine_labels == ["type_0", "type_1", "type_2"]
    assert model.module.classifier.classifier[0].out_features == 3
    shares = model.predict(soft=True)
    assert list(shares.columns) == model.fine_labels
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    assert set(model.predict()) <= set(model.fine_labels)


def test_fine_labels_without_an_unlabelled_cell():
    adata = cells()
    adata.obs["fine"] = adata.obs["cell_type"].astype(str)
    model = fitted(adata, {"fine_labels_key": "fine"})
    assert len(model.fine_labels) == 3


def test_history_shows_how_the_classifier_learns():
    adata = cells()
    adata.obs["fine"] = fine(adata)
    model = fitted(adata, {"fine_labels_key": "fine"})
    model.train(max_epochs=1, progress=False, plan_kwargs={"kl_weight": 1.0})
    last = {name: frame.iloc[-1, 0] for name, frame in model.history.items()}
    assert last["classification_loss_train"] > 0
    of_cells = last["elbo_train"] + last["classification_loss_train"]
    np.testing.assert_allclose(last["train_loss"], of_cells, rtol=1e-5)
    assert "classification_loss_train" not in fitted().history


def test_labels_that_new_cells_add_are_none_to_predict():
    adata = cells()
    adata.obs["fine"] = fine(adata)
    model = fitted(adata, {"fine_labels_key": "fine"})
    adata.obs["fine"] = "never seen"
    model.schema = extended_schema(model.schema, adata.obs)
    assert model.schema.field("fine_labels").categories[0][-2:] == ("unlabeled", "never seen")
    assert model.fine_labels == ["type_0", "type_1", "type_2"]


def test_there_is_nothing_to_predict_without_fine_labels(model):
    with pytest.raises(UnsupportedError, match="fine_labels_key"):
        model.predict()


# weights and the user's data --------------------------------------------------------------------


def test_rare_types_weigh_more_without_changing_the_mean():
    adata = cells()
    adata = adata[np.r_[0:90][(adata.obs["cell_type"] != "type_2") | (np.arange(90) < 15)]].copy()
    model = fitted(adata, weight_obs=True)
    share = adata.obs["cell_type"].value_counts(normalize=True).reindex(model.labels).to_numpy()
    weights = model.module.ct_weight.numpy()
    assert weights.argmax() == share.argmin()
    np.testing.assert_allclose((weights * share).sum(), 1, rtol=1e-5)
    published = fitted(adata, weight_obs=True, compat="scvi-tools").module.ct_weight.numpy()
    np.testing.assert_allclose(published, 1 / np.maximum(share, 0.05), rtol=1e-4)


def test_the_fast_recipe_gives_a_number_of_steps_within_bounds(model):
    epochs = [
        model._training_options("fast", n, {}, None)[0].max_epochs for n in (330, 2774, 10**5)
    ]
    assert epochs == [120, 35, 10]
    chosen, _ = model._training_options("fast", 2774, {"max_epochs": 3}, None)
    assert chosen.max_epochs == 3


def test_the_users_data_are_left_alone(watch):
    fitted(watch(cells()))


def test_all_cells_of_one_type_without_labels():
    adata = cells()
    vivace.CondSCVI.setup_anndata(adata)
    model = vivace.CondSCVI(adata, n_hidden=8)
    model.train(max_epochs=1, progress=False)
    assert model.labels == ["all"]
    assert model.get_vamp_prior(p=2)["mean_vprior"].shape == (1, 2, 5)


def test_untrained_models_have_no_prior():
    adata = cells()
    vivace.CondSCVI.setup_anndata(adata, labels_key="cell_type")
    with pytest.raises(NotTrainedError):
        vivace.CondSCVI(adata).get_vamp_prior()


def test_a_loaded_model_predicts_the_same(tmp_path):
    adata = cells()
    adata.obs["fine"] = fine(adata)
    model = fitted(adata, {"fine_labels_key": "fine"}, weight_obs=True)
    loaded = vivace.load(model.save(tmp_path / "run"), adata)
    pd.testing.assert_frame_equal(loaded.predict(soft=True), model.predict(soft=True))
    np.testing.assert_array_equal(loaded.module.ct_weight, model.module.ct_weight)
