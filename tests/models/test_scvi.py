"""SCVI as a user meets it."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

import vivace
from vivace import SCVI
from vivace._settings import default_seed
from vivace.errors import InvalidArgumentError, InvalidDataError, MissingKeyError, NotTrainedError

N, G = 150, 25


@pytest.fixture(scope="module")
def adata() -> anndata.AnnData:
    adata = vivace.datasets.simulate("batches", n_cells=N, n_genes=G)
    rng = np.random.default_rng(0)
    adata.obs["age"] = rng.normal(size=N)
    adata.obs["sex"] = pd.Categorical(rng.choice(["f", "m"], N))
    adata.obs["size"] = rng.uniform(0.5, 2, N)
    return adata


@pytest.fixture(scope="module")
def model(adata) -> SCVI:
    SCVI.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    model = SCVI(adata, n_latent=4, n_hidden=32)
    model.train(max_epochs=3, progress=False)
    return model


def test_the_batch_is_known(model, adata):
    assert model.module.n_batch == adata.obs["batch"].nunique()
    assert "trained" in repr(model)


def test_the_users_object_stays_as_it_was(adata, watch):
    watch(adata)
    SCVI.setup_anndata(adata, batch_key="batch")
    model = SCVI(adata, n_latent=4, n_hidden=32)
    model.train(max_epochs=1, progress=False)
    model.get_latent_representation()
    model.get_normalized_expression()
    model.posterior_predictive_sample()
    model.get_marginal_ll(n_mc_samples=2)


def test_latent_representation(model):
    mean = model.get_latent_representation()
    assert mean.shape == (N, 4)
    assert mean.dtype == np.float32
    again = model.get_latent_representation(batch_size=7)  # sums in another order: rounding only
    np.testing.assert_allclose(again, mean, atol=1e-5)
    loc, variance = model.get_latent_representation(return_dist=True)
    assert (loc == mean).all()
    assert (variance > 0).all()
    draws = []
    for seed in range(200):
        with default_seed(seed):
            draws.append(model.get_latent_representation(give_mean=False))
    draws = np.stack(draws)
    assert np.abs(draws.mean(0) - mean).max() < 6 * np.sqrt(variance.max() / 200)


def test_indices_are_rows_or_a_mask(model):
    whole = model.get_latent_representation()
    mask = np.zeros(N, dtype=bool)
    mask[[3, 10]] = True
    for indices in ([3, 10], mask, np.array([3, 10]), pd.Index([3, 10])):
        found = model.get_latent_representation(indices=indices)
        np.testing.assert_allclose(found, whole[[3, 10]], rtol=1e-4, atol=1e-5)
    with pytest.raises(InvalidArgumentError, match="indices must lie"):
        model.get_latent_representation(indices=[N])
    with pytest.raises(InvalidArgumentError, match="mask of 3"):
        model.get_latent_representation(indices=[True, False, True])


def test_normalized_expression(model, adata):
    frame = model.get_normalized_expression()
    assert frame.shape == (N, G)
    assert list(frame.index) == list(adata.obs_names)
    assert list(frame.columns) == list(adata.var_names)
    np.testing.assert_allclose(frame.sum(axis=1), 1, rtol=1e-4)
    scaled = model.get_normalized_expression(library_size=1e4, use_mean=True)
    np.testing.assert_allclose(scaled.sum(axis=1), 1e4, rtol=1e-4)
    mu = model.get_normalized_expression(library_size="latent")
    np.testing.assert_allclose(mu.sum(axis=1), np.asarray(adata.X.sum(1)).ravel(), rtol=1e-3)


def test_normalized_expression_of_genes_samples_and_cells(model, adata):
    genes = [adata.var_names[3], adata.var_names[1]]
    frame = model.get_normalized_expression(gene_list=genes, indices=[5, 2])
    assert list(frame.columns) == genes
    assert list(frame.index) == [adata.obs_names[5], adata.obs_names[2]]
    assert model.get_normalized_expression(n_samples=3, return_mean=False).shape == (3, N, G)
    assert model.get_normalized_expression(n_samples=3).shape == (N, G)
    assert model.get_normalized_expression(n_samples_overall=40).shape == (40, G)
    assert isinstance(model.get_normalized_expression(return_numpy=True), np.ndarray)
    with pytest.raises(MissingKeyError, match="gene_list"):
        model.get_normalized_expression(gene_list=["nothing"])
    with pytest.raises(InvalidArgumentError, match="not both"):
        model.get_normalized_expression(n_samples=2, n_samples_overall=3)


def test_transform_batch_decodes_every_cell_as_of_that_batch(model, adata):
    batches = list(adata.obs["batch"].cat.categories)
    kwargs = {"use_mean": True, "return_numpy": True}
    first = model.get_normalized_expression(transform_batch=batches[0], **kwargs)
    second = model.get_normalized_expression(transform_batch=batches[1], **kwargs)
    observed = model.get_normalized_expression(**kwargs)
    of_first = (adata.obs["batch"] == batches[0]).to_numpy()
    np.testing.assert_allclose(observed[of_first], first[of_first], rtol=1e-5)
    assert not np.allclose(first, second)
    both = model.get_normalized_expression(transform_batch=batches[:2], **kwargs)
    np.testing.assert_allclose(both, (first + second) / 2, rtol=1e-4)
    with pytest.raises(InvalidArgumentError, match="transform_batch"):
        model.get_normalized_expression(transform_batch="nothing")


def test_quality_of_the_fit(model):
    torch.manual_seed(0)
    elbo = model.get_elbo(return_mean=False)
    torch.manual_seed(0)  # the same draws of z
    error = model.get_reconstruction_error(return_mean=False)["reconstruction_loss"]
    assert elbo.shape == error.shape == (N,)
    assert (-elbo > error).all()  # by the divergence of z
    torch.manual_seed(0)
    assert model.get_elbo().item() == pytest.approx(elbo.mean().item())
    few = model.get_marginal_ll(n_mc_samples=50, n_mc_samples_per_pass=25)
    assert type(few) is type(model.get_elbo())
    assert few.shape == ()
    assert few > elbo.mean().item()  # the bound is below the likelihood


def test_marginal_likelihood_weighs_cells_alike_whatever_the_minibatch(model):
    torch.manual_seed(0)
    mean = model.get_marginal_ll(n_mc_samples=3, batch_size=100)
    torch.manual_seed(0)
    each = model.get_marginal_ll(n_mc_samples=3, batch_size=100, return_mean=False)
    assert mean == pytest.approx(each.mean().item())


def test_posterior_predictive(model, adata):
    draw = model.posterior_predictive_sample()
    assert draw.shape == (N, G)
    assert draw.format == "csr"
    assert (draw.data == np.rint(draw.data)).all()
    several = model.posterior_predictive_sample(n_samples=20, gene_list=list(adata.var_names[:3]))
    assert len(several) == 20
    assert several[0].shape == (N, 3)


@pytest.mark.parametrize("likelihood", ["zinb", "nb", "poisson", "normal"])
def test_likelihood_parameters(adata, likelihood):
    SCVI.setup_anndata(adata)
    model = SCVI(adata, n_hidden=16, n_latent=2, gene_likelihood=likelihood)
    model.train(max_epochs=1, progress=False)
    found = model.get_likelihood_parameters()
    expected = {"zinb": 3, "nb": 2, "poisson": 1, "normal": 2}[likelihood]
    assert len(found) == expected
    assert all(v.shape == (N, G) for v in found.values())
    assert model.get_likelihood_parameters(n_samples=2)["mean"].shape == (2, N, G)
    assert model.get_likelihood_parameters(n_samples=2, give_mean=True)["mean"].shape == (N, G)


OPTIONS = {
    "nb gene-batch": {"gene_likelihood": "nb", "dispersion": "gene-batch"},
    "gene-label": {"dispersion": "gene-label"},
    "gene-cell": {"dispersion": "gene-cell"},
    "latent library": {"use_observed_lib_size": False},
    "ln": {"latent_distribution": "ln"},
    "embedding": {"batch_representation": "embedding"},
    "encode covariates": {"encode_covariates": True, "n_layers": 2},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_trains_saves_and_answers(adata, name, tmp_path):
    SCVI.setup_anndata(
        adata,
        batch_key="batch",
        labels_key="cell_type",
        categorical_covariate_keys=["sex"],
        continuous_covariate_keys=["age"],
    )
    model = SCVI(adata, n_hidden=16, n_latent=3, **OPTIONS[name])
    model.train(max_epochs=1, progress=False)
    assert np.isfinite(model.get_latent_representation(mc_samples=50)).all()
    assert np.isfinite(model.get_normalized_expression(n_samples=2)).all(axis=None)
    loaded = vivace.load(model.save(tmp_path), adata)
    np.testing.assert_array_equal(
        loaded.get_latent_representation(return_dist=True),
        model.get_latent_representation(return_dist=True),
    )


def test_size_factor(adata):
    SCVI.setup_anndata(adata, size_factor_key="size")
    model = SCVI(adata, n_hidden=16, n_latent=2)
    assert model.module.use_size_factor_key
    model.train(max_epochs=1, progress=False)
    share = model.get_normalized_expression(use_mean=True, return_numpy=True)
    mean = model.get_normalized_expression(use_mean=True, library_size="latent", return_numpy=True)
    np.testing.assert_allclose(mean, share * adata.obs[["size"]].to_numpy(), rtol=1e-4)


def test_library_size(adata, model):
    with pytest.raises(InvalidArgumentError, match="observed"):
        model.get_latent_library_size()
    observed = model.get_latent_library_size(give_mean=False)
    np.testing.assert_allclose(observed.ravel(), np.asarray(adata.X.sum(1)).ravel(), rtol=1e-4)


def test_the_library_prior_is_that_of_each_batch(adata):
    SCVI.setup_anndata(adata, batch_key="batch")
    module = SCVI(adata, n_hidden=8, use_observed_lib_size=False).module
    log_size = np.log(np.asarray(adata.X.sum(1)).ravel())
    for code, batch in enumerate(adata.obs["batch"].cat.categories):
        of_batch = log_size[adata.obs["batch"] == batch]
        assert module.library_log_means[0, code].item() == pytest.approx(of_batch.mean(), rel=1e-4)
        assert module.library_log_vars[0, code].item() == pytest.approx(of_batch.var(), rel=1e-3)


def test_batch_representation(adata, model):
    with pytest.raises(InvalidArgumentError, match="embedding"):
        model.get_batch_representation()
    SCVI.setup_anndata(adata, batch_key="batch")
    embedded = SCVI(adata, n_hidden=8, batch_representation="embedding")
    embedded.train(max_epochs=1, progress=False)
    assert embedded.get_batch_representation().shape == (N, 5)


# training ---------------------------------------------------------------------------------------


def test_an_untrained_model_says_so(adata):
    SCVI.setup_anndata(adata)
    with pytest.raises(NotTrainedError, match=r"model\.train"):
        SCVI(adata).get_latent_representation()


def test_the_same_seed_gives_the_same_model_to_the_bit(adata):
    SCVI.setup_anndata(adata, batch_key="batch")
    models = []
    for seed in (0, 0, 1):
        model = SCVI(adata, n_hidden=16, n_latent=2)
        torch.rand(3)  # the user's own draws change nothing
        model.train(max_epochs=2, seed=seed, progress=False)
        models.append(model.get_latent_representation())
    assert (models[0] == models[1]).all()
    assert not (models[0] == models[2]).all()


def test_options_of_the_plan(adata):
    SCVI.setup_anndata(adata)
    model = SCVI(adata, n_hidden=8)
    model.train(max_epochs=2, progress=False, plan_kwargs={"kl_weight": 0.3, "lr": 1e-4})
    assert (model.history["kl_weight"] == 0.3).all(axis=None)
    assert model.training["options"]["lr"] == 1e-4
    with pytest.raises(TypeError, match="nonsense"):
        model.train(max_epochs=1, progress=False, plan_kwargs={"nonsense": 1})
    with pytest.raises(InvalidArgumentError, match='Did you mean "batch_size"'):
        model.train(max_epochs=1, progress=False, batchsize=3)


def test_split_is_remembered(adata, tmp_path):
    SCVI.setup_anndata(adata)
    model = SCVI(adata, n_hidden=8)
    rows = [np.arange(100), np.arange(100, 130), np.arange(130, N)]
    model.train(max_epochs=1, progress=False, datasplitter_kwargs={"external_indexing": rows})
    assert model.test_indices.tolist() == rows[2].tolist()
    loaded = vivace.load(model.save(tmp_path), adata)
    assert loaded.train_indices.tolist() == rows[0].tolist()
    with pytest.raises(MissingKeyError, match="datasplitter_kwargs"):
        model.train(datasplitter_kwargs={"external": rows})


def test_classic_recipe(adata):
    SCVI.setup_anndata(adata)
    model = SCVI(adata, n_hidden=8)
    model.train(max_epochs=2, recipe="classic", progress=False)
    assert model.training["options"]["lr"] == 1e-3
    assert model.history["kl_weight"].iloc[:, 0].tolist() == [0, 1 / 400]


def test_accelerators_that_are_not_there_are_refused(adata):
    SCVI.setup_anndata(adata)
    model = SCVI(adata, n_hidden=8)
    if not torch.cuda.is_available():
        with pytest.raises(InvalidArgumentError, match="finds no such device"):
            model.train(max_epochs=1, accelerator="gpu")
    with pytest.raises(InvalidArgumentError, match='Did you mean "gpu"'):
        model.train(max_epochs=1, accelerator="gpus")


# a second data set, files -----------------------------------------------------------------------


def test_other_cells_with_genes_in_another_order(model, adata):
    other = adata[:20, ::-1].copy()
    np.testing.assert_allclose(
        model.get_latent_representation(other),
        model.get_latent_representation(indices=np.arange(20)),
        rtol=1e-4,
        atol=1e-5,
    )


def test_an_unseen_batch_is_an_error(model, adata):
    other = adata.copy()
    other.obs["batch"] = "new"
    with pytest.raises(InvalidDataError, match="load_query_data"):
        model.get_latent_representation(other)


def test_load_without_data_asks_for_them(model, tmp_path, adata):
    loaded = SCVI.load(model.save(tmp_path))
    with pytest.raises(InvalidArgumentError, match="pass adata="):
        loaded.get_latent_representation()
    assert loaded.get_latent_representation(adata).shape == (N, 4)
    assert loaded.history.keys() == model.history.keys()
    assert loaded.training == model.training


# real cells -------------------------------------------------------------------------------------


def test_real_batches_mix_and_types_stay(shared_data):
    adata = anndata.read_h5ad(shared_data("pbmc_three_studies.h5ad"))[::3].copy()
    SCVI.setup_anndata(adata, batch_key="study")
    model = SCVI(adata)
    model.train(progress=False)
    latent = model.get_latent_representation()
    from sklearn.decomposition import PCA

    logged = np.log1p(adata.X / adata.X.sum(1) * 1e4)
    pca = PCA(10, random_state=0).fit_transform(np.asarray(logged.todense()))
    study, kind = adata.obs["study"].to_numpy(), adata.obs["cell_type"].to_numpy()
    ilisi = vivace.metrics.ilisi
    assert np.mean(ilisi(latent, study)) > np.mean(ilisi(pca, study)) + 0.2
    assert vivace.metrics.knn_balanced_accuracy(latent, kind) > 0.6
