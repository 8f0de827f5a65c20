"""SysVI from AnnData to answers."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

import vivace
from vivace import SysVI
from vivace.analysis.integration import principal_components
from vivace.datasets import simulate
from vivace.errors import InvalidArgumentError, NotTrainedError, VivaceError


def make(**options: object) -> anndata.AnnData:
    return simulate("systems", n_cells=150, n_genes=30, **options)


def build(adata: anndata.AnnData, *, setup: dict | None = None, **options: object) -> SysVI:
    SysVI.setup_anndata(adata, batch_key="system", **(setup or {}))
    return SysVI(adata, n_latent=4, n_hidden=16, **options)


@pytest.fixture(scope="module")
def adata() -> anndata.AnnData:
    return make()


@pytest.fixture(scope="module")
def model(adata: anndata.AnnData) -> SysVI:
    model = build(adata)
    model.train(max_epochs=3, progress=False)
    return model


def test_the_users_data_stay_as_they_are(watch):
    data = make()
    data.X = data.layers["counts"].copy()
    data = watch(data)
    model = build(data, setup={"normalize": True, "weight_batches": True})
    model.train(max_epochs=1, progress=False)
    model.get_normalized_expression(n_samples=2)


def test_normalising_inside_trains_the_same_model(adata: anndata.AnnData):
    raw = anndata.AnnData(adata.layers["counts"].copy(), obs=adata.obs, var=adata.var)
    one, other = build(make()), build(raw, setup={"normalize": True})
    for each in (one, other):
        each.train(max_epochs=2, progress=False)
    np.testing.assert_allclose(
        one.get_latent_representation(), other.get_latent_representation(), rtol=1e-3, atol=1e-4
    )


def test_latent_space(model: SysVI):
    latent = model.get_latent_representation()
    assert latent.shape == (150, 4)
    mean, variance = model.get_latent_representation(return_dist=True)
    np.testing.assert_array_equal(mean, latent)
    assert (variance > 0).all()
    assert not np.allclose(model.get_latent_representation(give_mean=False), latent)


def test_transform_batch_and_samples_do_what_they_say(model: SysVI, adata: anndata.AnnData):
    """scvi-tools 1.4 returns the observed system whatever is asked for, and fails for samples."""
    in_one = (adata.obs["system"] == "system_1").to_numpy()
    observed = model.get_normalized_expression(use_mean=True)
    as_one = model.get_normalized_expression(transform_batch="system_1", use_mean=True)
    pd.testing.assert_frame_equal(as_one[in_one], observed[in_one])
    assert (abs(as_one[~in_one] - observed[~in_one]).max(axis=1) > 1e-4).all()
    both = model.get_normalized_expression(
        transform_batch=["system_0", "system_1"], use_mean=True, return_numpy=True
    )
    as_zero = model.get_normalized_expression(transform_batch="system_0", use_mean=True)
    np.testing.assert_allclose(both, (as_one + as_zero) / 2, rtol=1e-4, atol=1e-5)
    draws = model.get_normalized_expression(n_samples=3, return_mean=False, gene_list=["gene_2"])
    assert draws.shape == (3, 150, 1)
    assert not np.allclose(draws[0], draws[1])
    assert model.get_normalized_expression(n_samples=3).shape == (150, 30)


def test_likelihood_parameters(model: SysVI):
    found = model.get_likelihood_parameters(n_samples=2, give_mean=True)
    assert found["mean"].shape == found["dispersions"].shape == (150, 30)
    assert (found["dispersions"] > 0).all()


def test_elbo_and_reconstruction(model: SysVI):
    errors = model.get_reconstruction_error(return_mean=False)["reconstruction_loss"]
    assert errors.shape == (150,)
    elbo = model.get_elbo(return_mean=False)
    assert (elbo < -errors + 50).all()
    assert torch.isfinite(model.get_elbo())


def test_differential_expression_is_on_the_normalised_scale():
    data = simulate("systems", n_cells=300, n_genes=60, system_effect=0.3, n_private=0)
    SysVI.setup_anndata(data, batch_key="system")
    model = SysVI(data, n_latent=8, n_hidden=32)
    model.train(max_epochs=40, progress=False)
    table = model.differential_expression(
        groupby="cell_type", group1="type_0", n_samples_overall=1000
    )
    normalised = np.expm1(data.X.toarray())
    one = (data.obs["cell_type"] == "type_0").to_numpy()
    means = pd.Series(normalised[one].mean(0), data.var_names)
    np.testing.assert_allclose(table["raw_mean1"], means[table.index], rtol=1e-4)
    rest = pd.Series(normalised[~one].mean(0), data.var_names)
    change = np.log2(means / rest)[table.index]
    assert np.corrcoef(np.log(table["scale1"]), np.log(means[table.index]))[0, 1] > 0.9
    assert np.corrcoef(table["lfc_mean"], change)[0, 1] > 0.6
    assert (table["proba_de"] >= 0).all()
    assert (table["proba_de"] <= 1).all()


def test_pseudo_inputs_are_cells(adata: anndata.AnnData):
    model = build(make(), pseudoinputs_data_indices=[3, 1, 4, 1, 5])
    np.testing.assert_array_equal(model.module.prior.u.detach(), adata.X[[3, 1, 4, 1, 5]].toarray())
    codes = adata.obs["system"].cat.codes.to_numpy()[[3, 1, 4, 1, 5]]
    np.testing.assert_array_equal(model.module.prior.codes[:, 0], codes)
    for wrong in ([1, 2], [1, 2, 3, 4, 150]):
        with pytest.raises(InvalidArgumentError):
            build(make(), pseudoinputs_data_indices=wrong)


def test_a_loaded_model_keeps_its_trained_pseudo_inputs(model: SysVI, tmp_path):
    few = make()[:3].copy()
    folder = model.save(tmp_path / "run")
    for data in (None, few):
        loaded = vivace.load(folder, data)
        assert torch.equal(loaded.module.prior.u, model.module.prior.u)
        assert torch.equal(loaded.module.prior.codes, model.module.prior.codes)
    assert loaded.get_latent_representation().shape == (3, 4)


def test_the_kl_weight_of_the_plan_is_honoured(adata: anndata.AnnData):
    """scvi-tools overwrites it with 1."""
    model = build(make())
    model.train(max_epochs=1, progress=False, plan_kwargs={"kl_weight": 7.0})
    assert model.history["kl_weight"].iloc[-1, 0] == 7.0


def test_cycle_weight_reaches_the_loss():
    model = build(make())
    model.train(max_epochs=1, progress=False, plan_kwargs={"z_distance_cycle_weight": 0})
    assert model.history["cycle_loss_train"].iloc[-1, 0] == 0


def test_one_system_trains_and_answers_without_the_cycle():
    model = build(make(n_systems=1))
    with pytest.raises(VivaceError, match="at least 2 systems"):
        model.train(max_epochs=1, progress=False)
    model.train(max_epochs=1, progress=False, plan_kwargs={"z_distance_cycle_weight": 0})
    assert torch.isfinite(model.get_elbo())


@pytest.mark.parametrize(
    "options",
    [
        {"prior": "standard_normal"},
        {"joint_prior": True},
        {"out_var_mode": "sample_feature"},
        {"compat": "scvi-tools"},
        {"embed_categorical_covariates": True},
        {"encoder_decoder_kwargs": {"use_layer_norm": True}},
    ],
    ids=str,
)
def test_options(options: dict, tmp_path):
    data = make()
    data.obs["sample"] = pd.Categorical(np.arange(150) % 3)
    data.obs["age"] = np.linspace(0, 1, 150)
    covariates = {
        "categorical_covariate_keys": ["sample"],
        "continuous_covariate_keys": ["age"],
    }
    model = build(data, setup=covariates, **options)
    model.train(max_epochs=1, progress=False)
    latent = model.get_latent_representation()
    loaded = vivace.load(model.save(tmp_path / "run"), data)
    np.testing.assert_array_equal(loaded.get_latent_representation(), latent)


def test_import_changes_no_global_switch():
    assert torch.backends.cudnn.benchmark is False


def test_questions_need_a_trained_model(adata: anndata.AnnData):
    with pytest.raises(NotTrainedError):
        build(make()).get_normalized_expression()


def test_integration_summary(model: SysVI, adata: anndata.AnnData):
    table = model.get_integration_summary("cell_type")
    assert list(table.index[:1]) == ["all cells"]
    assert set(table.index[1:]) <= set(adata.obs["cell_type"])
    private = table.loc[[name for name in table.index if name.startswith("private")]]
    assert (private["n_systems"] == 1).all()
    assert table["systems_after"].between(1, 2).all()
    assert (table.filter(like="kinds") >= 1).all(axis=None)
    values = adata.X.toarray() - adata.X.toarray().mean(0)
    expected = np.linalg.svd(values, compute_uv=False)[:5]
    found = principal_components(model._loader(), 5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), expected, rtol=1e-3)
    assert "kinds_before" not in model.get_integration_summary()
    with pytest.raises(KeyError, match="labels_key"):
        model.get_integration_summary("kind")


def test_a_query_brings_a_new_system_and_leaves_the_reference_as_it_was():
    data = make(n_systems=3)
    new = (data.obs["system"] == "system_2").to_numpy()
    reference = build(data[~new].copy())
    reference.train(max_epochs=3, progress=False)
    known = reference.get_latent_representation()
    model = SysVI.load_query_data(data[new].copy(), reference)
    model.train(max_epochs=3, progress=False)
    assert model.module.n_batch == 3
    assert model.get_latent_representation().shape == (new.sum(), 4)
    np.testing.assert_array_equal(model.get_latent_representation(data[~new].copy()), known)
