"""Calls that users of scvi-tools have in their fingers: each works as they expect, or says what to do."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import vivace
from model_table import CASES
from vivace.datasets import simulate


def cells(**options: Any) -> Any:
    return simulate("batches", n_cells=60, n_genes=20, **options)


def trained(adata: Any = None, *, epochs: int = 1, **options: Any) -> Any:
    adata = cells() if adata is None else adata
    vivace.SCVI.setup_anndata(adata, batch_key="batch")
    model = vivace.SCVI(adata, n_hidden=8, n_latent=2, **options)
    model.train(max_epochs=epochs, progress=False)
    return model


@pytest.fixture(scope="module")
def model() -> Any:
    return trained()


# views ------------------------------------------------------------------------------------------

QUESTIONS = {
    "latent": lambda m, a: m.get_latent_representation(a),
    "elbo": lambda m, a: m.get_reconstruction_error(a)["reconstruction_loss"].shape,
    "expression": lambda m, a: m.get_normalized_expression(a, use_mean=True).to_numpy(),
    "differences": lambda m, a: m.differential_expression(a, groupby="batch")[
        ["raw_mean1", "raw_mean2"]
    ].to_numpy(),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_1_a_view_is_answered_as_its_copy_and_only_read(model, watch, question: str):
    adata = watch(model.adata)
    view = adata[np.arange(60) % 2 == 0]
    found = QUESTIONS[question](model, view)
    assert view.is_view
    np.testing.assert_array_equal(found, QUESTIONS[question](model, view.copy()))


@pytest.mark.parametrize("name", CASES)
def test_1_a_view_is_set_up_and_trained_on(name: str, watch):
    case = CASES[name]
    whole = watch(case.data())
    view = whole[np.arange(whole.n_obs) < 90] if name != "ContrastiveVI" else whole[:]
    model = case.build(view)
    model.train(max_epochs=1, progress=False, **case.train)
    assert "vivace" not in whole.uns
    assert len(case.latent(model)) == view.n_obs


def test_1_a_view_of_changed_cells_is_read_anew(model):
    adata = model.adata.copy()
    view = adata[:20]
    before = model.get_latent_representation(view)
    adata.X.data[:] += 3
    assert not np.array_equal(model.get_latent_representation(view), before)


def test_1_a_view_of_a_file_is_answered_and_says_how_to_set_it_up(model, tmp_path):
    import anndata

    cells().write_h5ad(tmp_path / "a.h5ad")
    adata = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    z = model.get_latent_representation(adata[:20])
    np.testing.assert_array_equal(z, model.get_latent_representation(cells()[:20].copy()))
    with pytest.raises(vivace.errors.InvalidDataError, match="to_memory"):
        vivace.SCVI.setup_anndata(adata[:20])
    adata.file.close()


# save and load ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_2_data_are_saved_beside_the_model_and_found_again(name: str, tmp_path, watch):
    case = CASES[name]
    model = case.build(watch(case.data()))
    model.train(max_epochs=1, progress=False, **case.train)
    folder = model.save(tmp_path, save_anndata=True, prefix="run1_")
    for loaded in (vivace.load(folder), type(model).load(tmp_path, prefix="run1_")):
        assert list(loaded.adata.obs_names) == list(model.adata.obs_names)
        np.testing.assert_array_equal(case.latent(loaded), case.latent(model))
    assert vivace.load(tmp_path, prefix="run1_", adata=False).adata is None


@pytest.mark.parametrize("name", ["SCVI", "SPLICEVI"])
def test_2_text_stays_text_in_the_data_that_are_saved(name: str, tmp_path, watch):
    case = CASES[name]
    data = case.data()
    for part in getattr(data, "mod", {"": data}).values():
        part.obs["free text"] = [f"cell {i % 7}" for i in range(data.n_obs)]
    case.build(watch(data)).save(tmp_path, save_anndata=True)


def test_2_a_model_saved_anew_without_data_does_not_find_the_old_ones(model, tmp_path):
    model.save(tmp_path, save_anndata=True)
    model.save(tmp_path, overwrite=True)
    assert vivace.load(tmp_path).adata is None


def test_2_what_fails_leaves_no_data_behind(model, tmp_path):
    model.save(tmp_path)
    with pytest.raises(vivace.errors.InvalidArgumentError, match="overwrite=True"):
        model.save(tmp_path, save_anndata=True)
    assert not [p.name for p in tmp_path.iterdir() if "adata" in p.name]
    strange = model.adata.copy()
    strange.uns["strange"] = object()
    with_strange = vivace.load(tmp_path, strange)
    with pytest.raises(vivace.errors.InvalidDataError, match="cannot be written"):
        with_strange.save(tmp_path, save_anndata=True, overwrite=True)
    with pytest.raises(vivace.errors.InvalidDataError, match="loaded without data"):
        vivace.load(tmp_path).save(tmp_path / "b", save_anndata=True)
    assert not (tmp_path / "b").exists()


def test_2_data_that_are_gone_are_said_to_be(model, tmp_path):
    model.save(tmp_path, save_anndata=True)
    (tmp_path / "adata.h5ad").unlink()
    with pytest.raises(vivace.errors.ModelFileError, match="pass the data as adata="):
        vivace.load(tmp_path)
    assert vivace.load(tmp_path, model.adata).adata is model.adata


def test_2_a_prefix_is_a_plain_name(model, tmp_path):
    with pytest.raises(vivace.errors.InvalidArgumentError, match="plain name"):
        model.save(tmp_path, prefix="../other")


def test_3_load_takes_a_device_and_the_name_dir_path(model, tmp_path):
    model.save(dir_path=tmp_path)
    loaded = vivace.SCVI.load(dir_path=tmp_path, adata=model.adata, accelerator="cpu", device=0)
    assert loaded.device.type == "cpu"
    assert vivace.SCVI.load(tmp_path, model.adata, "cpu", "auto").device.type == "cpu"
    with pytest.raises(vivace.errors.InvalidArgumentError, match="accelerator"):
        vivace.load(tmp_path, accelerator="abacus")


def test_4_a_model_without_data_says_what_it_needs(model, tmp_path):
    model.save(tmp_path)
    loaded = vivace.SCVI.load(tmp_path, adata=False)
    with pytest.raises(vivace.errors.InvalidArgumentError, match="pass adata="):
        loaded.get_latent_representation()
    assert loaded.get_latent_representation(model.adata).shape == (60, 2)


@pytest.mark.parametrize("name", [name for name in CASES if name != "DestVI"])
def test_4_a_model_cannot_be_built_of_nothing(name: str):
    with pytest.raises(vivace.errors.VivaceError, match="needs a"):
        getattr(vivace, name)(None)


# training ---------------------------------------------------------------------------------------


def rates_of(**options: Any) -> list[float]:
    """Learning rate of each epoch."""
    from vivace.train import loop

    rates: list[float] = []
    whole = loop.Trainer.epoch

    def epoch(self: Any, *args: Any) -> dict[str, float]:
        metrics = whole(self, *args)
        rates.append(self.optimizer.param_groups[0]["lr"])
        return metrics

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Trainer, "epoch", epoch)
        untrained().train(progress=False, seed=0, **options)
    return rates


def untrained() -> Any:
    adata = cells()
    vivace.SCVI.setup_anndata(adata, batch_key="batch")
    return vivace.SCVI(adata, n_hidden=8, n_latent=2)


def test_8_trainer_options_are_known_under_their_names(capsys):
    model = untrained()
    model.train(
        1,
        enable_progress_bar=False,
        callbacks=None,
        logger=False,
        log_every_n_steps=5,
        enable_checkpointing=False,
        gradient_clip_val=2.0,
        early_stopping_mode="min",
        load_sparse_tensor=True,
    )
    assert model.training["options"]["max_grad_norm"] == 2.0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"callbacks": [print]}, "model.history"),
        ({"logger": True}, "model.history"),
        ({"enable_checkpointing": True}, "resume="),
        ({"early_stopping_mode": "max"}, "lower is better"),
        ({"gradient_clip_val": 1, "max_grad_norm": 1}, "both are given"),
        ({"plan_kwargs": {"compile": True}}, "fused already"),
        ({"plan_kwargs": {"optimizer": "Custom"}}, "expected one of 'Adam', 'AdamW'"),
    ],
)
def test_8_10_what_cannot_be_had_says_what_to_do(options: dict[str, Any], match: str):
    with pytest.raises(vivace.errors.InvalidArgumentError, match=match):
        untrained().train(1, progress=False, **options)


PLATEAU = {
    "reduce_lr_on_plateau": True,
    "lr_factor": 0.5,
    "lr_patience": 1,
    "lr_threshold": 1e9,
    "lr_scheduler_metric": "elbo_validation",
    "lr_min": 0.0003,
    "lr": 0.001,
}


def test_9_the_learning_rate_falls_on_a_plateau():
    # the first epoch is the best; then every second one without an improvement halves it
    rates = rates_of(max_epochs=7, plan_kwargs=PLATEAU)
    np.testing.assert_allclose(rates, [1e-3, 1e-3, 1e-3, 5e-4, 5e-4, 3e-4, 3e-4])


def test_9_as_torch_has_it():

    from vivace.train.schedule import n_plateaus

    values = np.random.default_rng(0).normal(size=200).cumsum()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    peer = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=4, threshold=0.3, threshold_mode="abs", eps=0
    )
    for i, value in enumerate(values, start=1):
        peer.step(value)
        times = n_plateaus(values[:i], patience=4, threshold=0.3)
        assert optimizer.param_groups[0]["lr"] == 0.5**times
    assert times > 5


def test_9_the_learning_rate_falls_in_steps():
    options = {"lr_scheduler_type": "step", "step_size": 2, "lr_factor": 0.1, "lr": 0.1}
    rates = rates_of(max_epochs=5, **options)
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01, 0.01, 0.001])
    both = {"reduce_lr_on_plateau": True, **options}
    np.testing.assert_allclose(rates_of(max_epochs=5, plan_kwargs=both), rates)


def test_9_a_resumed_run_finds_its_learning_rate_again(tmp_path):
    whole, parts = untrained(), untrained()
    whole.train(6, plan_kwargs=PLATEAU, progress=False)
    file = tmp_path / "state"
    with pytest.MonkeyPatch.context() as patch:
        from vivace.train import loop

        epoch = loop.Trainer.epoch

        def breaks(self: Any, number: int, *args: Any) -> dict[str, float]:
            if number == 4:
                raise vivace.errors.TrainingError
            return epoch(self, number, *args)

        patch.setattr(loop.Trainer, "epoch", breaks)
        with pytest.raises(vivace.errors.TrainingError):
            parts.train(6, plan_kwargs=PLATEAU, progress=False, checkpoint=file)
    parts.train(6, plan_kwargs=PLATEAU, progress=False, resume=file)
    for name, value in whole.module.state_dict().items():
        np.testing.assert_array_equal(value, parts.module.state_dict()[name])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"lr_scheduler_metric": "nonsense"}, "lr_scheduler_metric='nonsense' is not known"),
        ({"lr_schedule": "plateau", "train_size": 1.0}, 'lr_scheduler_metric="elbo_train"'),
        ({"lr_factor": 1.0}, "lr_factor=1.0"),
    ],
)
def test_9_a_plateau_that_cannot_be_seen_is_refused(options: dict[str, Any], match: str):
    with pytest.raises(vivace.errors.InvalidArgumentError, match=match):
        untrained().train(1, progress=False, **options)


def test_10_the_optimizer_has_a_name():
    model = untrained()
    plan = {"optimizer": "AdamW", "weight_decay": 0.1, "eps": 1e-8, "compile": False}
    model.train(1, plan_kwargs=plan, progress=False)
    found = model.training["options"]
    assert (found["optimizer"], found["weight_decay"], found["eps"]) == ("AdamW", 0.1, 1e-8)


def test_24_a_column_to_watch_that_is_not_there_is_refused():
    with pytest.raises(vivace.errors.InvalidArgumentError, match="elbo_validation"):
        untrained().train(1, progress=False, early_stopping_monitor="nonsense")


# query mapping ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def halves() -> tuple[Any, Any, Any]:
    """A reference, its cells, and new cells of another batch."""
    adata = cells()
    new = (adata.obs["batch"] == "batch_2").to_numpy()
    known = adata[~new].copy()
    return trained(known), known, adata[new].copy()


def test_5_a_query_is_brought_into_order_in_place(halves, tmp_path):
    reference, known, new = halves
    new = new[:, [*range(3, 20)]][:, ::-1].copy()
    new.layers["twice"] = new.X * 2
    new.var["n"], new.varm["two"], new.obsm["place"] = (
        np.arange(17),
        np.ones((17, 2)),
        np.arange(new.n_obs)[:, None],
    )
    new.raw = new
    before = new.copy()
    folder = reference.save(tmp_path)
    names = vivace.SCVI.prepare_query_anndata(new, str(folder), return_reference_var_names=True)
    assert names.equals(known.var_names)
    assert new.n_vars == 17
    with pytest.warns(vivace.errors.VivaceWarning, match="only 17 of the reference's 20 genes"):
        assert vivace.SCVI.prepare_query_anndata(new, folder, inplace=True) is None
    assert vivace.SCVI.prepare_query_anndata(new, folder, inplace=True) is None  # now in order
    assert new.var_names.equals(known.var_names)
    shared = before.var_names
    for found, was in (
        (new[:, shared].X, before.X),
        (new[:, shared].layers["twice"], before.X * 2),
    ):
        np.testing.assert_array_equal(found.toarray(), was.toarray())
    assert new.X[:, :3].nnz == 0
    assert list(new[:, shared].var["n"]) == list(before.var["n"])
    assert np.isnan(new.varm["two"][:3]).all()
    assert np.isfinite(new.varm["two"][3:]).all()
    np.testing.assert_array_equal(new.obsm["place"], before.obsm["place"])
    assert new.X.dtype == before.X.dtype
    assert new.raw.n_vars == 17
    model = vivace.SCVI.load_query_data(new, folder, accelerator="cpu", device="auto")
    model.train(max_epochs=1, progress=False)
    assert model.get_latent_representation().shape == (new.n_obs, 2)


def test_5_what_cannot_be_read_is_left_as_it_is(halves):
    reference, _, new = halves
    spoiled = new[:, ::-1].copy()
    spoiled.X.data[0] = -1
    names = spoiled.var_names
    with pytest.raises(vivace.errors.InvalidDataError, match="negative"):
        vivace.SCVI.prepare_query_anndata(spoiled, reference, inplace=True)
    assert spoiled.var_names.equals(names)


def test_6_a_query_model_takes_the_peers_options(halves, watch):
    reference, _, new = halves
    new = watch(new.copy())
    model = vivace.SCVI.load_query_data(
        new, reference, inplace_subset_query_vars=True, accelerator="cpu"
    )
    assert model.device.type == "cpu"


# looking at a model -----------------------------------------------------------------------------

ANSWERED = {
    "is_trained_": "is_trained",
    "history_": "history",
    "train_indices_": "train_indices",
    "validation_indices_": "validation_indices",
    "test_indices_": "test_indices",
    "init_params_": "options",
}


@pytest.mark.parametrize("name", ANSWERED)
def test_13_facts_answer_under_their_names(model, name: str):
    found, wanted = getattr(model, name), getattr(model, ANSWERED[name])
    assert str(found) == str(wanted)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("summary_string", "print"),
        ("get_var_names", "model.var_names"),
        ("registry", "model.schema"),
        ("registry_", "model.schema"),
        ("summary_stats", "model.view_anndata_setup"),
        ("adata_manager", "model.schema"),
        ("get_anndata_manager", "model.schema"),
        ("trainer", "model.history"),
    ],
)
def test_13_what_is_not_there_names_ours(model, name: str, match: str):
    assert not hasattr(model, name)
    with pytest.raises(vivace.errors.VivaceError, match=match) as found:
        getattr(model, name)
    assert isinstance(found.value, AttributeError)


def test_13_other_names_are_plainly_not_there(model):
    with pytest.raises(AttributeError, match="'SCVI' object has no attribute 'nonsense'"):
        model.nonsense  # noqa: B018


@pytest.mark.parametrize("name", CASES)
def test_7_what_was_set_up_is_a_table(name: str):
    case = CASES[name]
    table = case.build(case.data()).view_anndata_setup()
    assert list(table.columns) == ["where", "categories", "names"]
    assert "X" in table.index


def test_7_the_table_says_where_and_how_many():
    adata = cells()
    adata.layers["counts"] = adata.X
    adata.obs["depth"] = 1.0
    vivace.SCVI.setup_anndata(
        adata, layer="counts", batch_key="batch", continuous_covariate_keys=["depth"]
    )
    table = vivace.SCVI(adata).view_anndata_setup()
    assert table.loc["X", "where"] == 'adata.layers["counts"]'
    assert table.loc["batch", "where"] == 'adata.obs["batch"]'
    assert table.loc["batch", "categories"] == adata.obs["batch"].nunique()
    assert table.loc["batch", "names"].startswith("batch_0, batch_1")
    assert 'adata.obs["depth"]' in list(table["where"])


def test_21_other_data_are_checked_at_once(model):
    loaded_with = model.adata
    with pytest.raises(vivace.errors.InvalidDataError, match="genes are not in"):
        model.adata = loaded_with[:, :5].copy()
    assert model.adata is loaded_with
    other = loaded_with[:30].copy()
    try:
        model.adata = other
        assert len(model.get_latent_representation()) == 30
    finally:
        model.adata = loaded_with


def test_20_a_minified_model_says_of_what_kind_it_is():
    model = trained()
    assert model.minified_data_type is None
    model.minify_adata()
    assert model.minified_data_type == "latent_posterior_parameters"


# arguments in their places ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked() -> Callable[[str], Any]:
    """A trained model by its name."""

    @cache
    def make(name: str) -> Any:
        case = CASES[name]
        model = case.build(case.data())
        model.train(max_epochs=1, progress=False, **case.train)
        return model

    return make


def test_11_masks_choose_the_parts_of_a_split(model):
    train = np.arange(60) % 3 > 0
    one, other = untrained(), untrained()
    masks = {"external_indexing": [train, ~train, []], "drop_last": True}
    one.train(1, progress=False, seed=0, datasplitter_kwargs=masks)
    np.testing.assert_array_equal(one.train_indices, np.flatnonzero(train))
    np.testing.assert_array_equal(one.validation_indices, np.flatnonzero(~train))
    rows = {"external_indexing": [np.flatnonzero(train), np.flatnonzero(~train)]}
    other.train(1, progress=False, seed=0, datasplitter_kwargs=rows)
    assert one.history["elbo_train"].equals(other.history["elbo_train"])


def test_12_the_learning_rate_may_come_second():
    adata = simulate("spatial", n_cells=60, n_genes=20)[0]
    vivace.CondSCVI.setup_anndata(adata, labels_key="cell_type")
    model = vivace.CondSCVI(adata, n_hidden=8)
    model.train(1, 0.002, "cpu", progress=False)
    assert model.training["options"]["lr"] == 0.002
    with pytest.raises(vivace.errors.InvalidArgumentError, match="both given"):
        model.train(1, 0.002, lr=0.1)


def test_12_contrastivevi_takes_four_places():
    adata = simulate("contrastive", n_cells=60, n_genes=20)
    vivace.ContrastiveVI.setup_anndata(adata)
    model = vivace.ContrastiveVI(adata, n_hidden=8)
    model.train(range(30), range(30, 60), 1, "cpu", progress=False)
    assert model.training["epochs"] == 1


# questions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SCVI", "CondSCVI", "ContrastiveVI"])
def test_16_simulated_counts_are_an_array_on_request(asked, name: str):
    model = asked(name)
    torch.manual_seed(0)
    draws = model.posterior_predictive_sample(n_samples=3)
    torch.manual_seed(0)
    dense = model.posterior_predictive_sample(n_samples=3, return_numpy=True)
    assert dense.shape == (120, 30, 3)
    np.testing.assert_array_equal(dense[..., 2], draws[2].toarray())
    assert model.posterior_predictive_sample(return_numpy=True).shape == (120, 30)


def test_17_each_number_is_a_tensor(model):
    found = [
        model.get_elbo(),
        model.get_marginal_ll(n_mc_samples=2),
        model.get_reconstruction_error()["reconstruction_loss"],
    ]
    assert all(isinstance(value, torch.Tensor) and value.shape == () for value in found)
    each = model.get_marginal_ll(n_mc_samples=2, return_mean=False)
    assert each.shape == (60,)


@pytest.mark.parametrize("name", ["SCVI", "CondSCVI", "SysVI"])
def test_18_differences_as_people_ask_for_them(asked, name: str):
    model = asked(name)
    first = model.adata.obs.columns[0]
    level = model.adata.obs[first].iloc[0]
    table = model.differential_expression(
        idx1=f"{first} == {level!r}",
        idx2=(model.adata.obs[first] != level).to_numpy(),
        silent=True,
        weights="uniform",
        filter_outlier_cells=True,
    )
    assert len(table) == 30
    if name != "SCVI":
        with pytest.raises(vivace.errors.InvalidArgumentError, match="only SCVI weighs"):
            model.differential_expression(groupby=first, weights="importance")


def test_18_a_pseudocount_may_be_nothing_and_no_less(model):
    how = {"groupby": "batch", "mode": "change", "n_samples_overall": 50}
    table = model.differential_expression(**how, pseudocounts=0.0)
    assert (table["pseudocounts"] == 0).all()
    assert np.isfinite(table["lfc_mean"]).all()
    with pytest.raises(vivace.errors.InvalidArgumentError, match="pseudocounts=-1"):
        model.differential_expression(**how, pseudocounts=-1.0)


def test_19_sysvi_says_why_it_has_no_library_size(asked):
    model = asked("SysVI")
    with pytest.raises(vivace.errors.InvalidArgumentError, match="log-normalised"):
        model.get_normalized_expression(library_size=1e4)
    assert model.get_normalized_expression(library_size=1).shape == (120, 30)


def test_22_beta_binomial_by_mean_and_correlation():
    from vivace.likelihoods import BetaBinomial

    f64 = torch.float64
    n, mu, gamma = torch.tensor(7.0, dtype=f64), torch.tensor(0.3, dtype=f64), 0.2
    law = BetaBinomial(n, mu=mu, gamma=torch.tensor(gamma, dtype=f64))
    torch.testing.assert_close(law.mean, n * mu)
    # a sum of n correlated trials: n p (1 - p) (1 + (n - 1) gamma)
    torch.testing.assert_close(law.variance, n * mu * (1 - mu) * (1 + (n - 1) * gamma))
    with pytest.raises(vivace.errors.InvalidArgumentError, match="either alpha and beta"):
        BetaBinomial(n, mu=mu)
    with pytest.raises(vivace.errors.InvalidArgumentError, match="either alpha and beta"):
        BetaBinomial(n, mu, mu, mu=mu, gamma=mu)


def test_23_gene_selection_names_scanpys():
    from vivace import data

    with pytest.raises(vivace.errors.VivaceError, match="highly_variable_genes"):
        data.poisson_gene_selection  # noqa: B018
    with pytest.raises(AttributeError, match="nonsense"):
        data.nonsense  # noqa: B018


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"psi_input": "centred"}, "'raw', 'deviation'"),
        ({"pool_mode": "precision"}, "'mean', 'sum'"),
        ({"stop_gradient_spl_to_expr": True}, "leave it out"),
    ],
)
def test_25_options_of_splicevi_that_are_not_there(options: dict[str, Any], match: str):
    mdata = CASES["SPLICEVI"].data()
    vivace.SPLICEVI.setup_mudata(mdata)
    with pytest.raises(vivace.errors.InvalidArgumentError, match=match):
        vivace.SPLICEVI(mdata, **options)


def test_26_contrastivevi_is_not_asked_before_training():
    case = CASES["ContrastiveVI"]
    with pytest.raises(vivace.errors.NotTrainedError, match="train"):
        case.build(case.data()).get_latent_representation(representation_kind="salient")


def test_14_correlations_of_genes_are_those_of_the_draws(model):
    from scipy.stats import spearmanr

    from vivace.analysis.correlation import correlations, expression_draws

    values = np.random.default_rng(0).normal(size=(50, 6)) @ np.ones((6, 6)).cumsum(0)
    values[:, 2] = values[:, 2].round()  # with ties
    np.testing.assert_allclose(correlations(values, "spearman"), spearmanr(values).statistic)
    np.testing.assert_allclose(correlations(values, "pearson"), np.corrcoef(values.T))

    batches = model._loader(None, np.arange(4).repeat(3000))
    draws = expression_draws(model.module, batches, np.random.default_rng(0), total=100.0)
    assert draws.sum(1).mean() == pytest.approx(100, rel=0.02)


def test_14_the_matrix_is_symmetric_and_named(model):
    batches = list(model.adata.obs["batch"].unique()[:2])
    options = {"n_samples": 2, "rna_size_factor": 500}
    for kind in ("spearman", "pearson"):
        table = model.get_feature_correlation_matrix(
            correlation_type=kind, transform_batch=batches, **options
        )
        assert table.index.equals(model.var_names)
        assert table.columns.equals(model.var_names)
        np.testing.assert_allclose(table, table.T)
        np.testing.assert_allclose(np.diag(table), 1)
    with pytest.raises(vivace.errors.InvalidArgumentError, match="correlation_type"):
        model.get_feature_correlation_matrix(correlation_type="kendall")


@pytest.mark.parametrize("dof", [None, 3.0])
def test_15_the_aggregated_posterior_is_the_mean_of_densities(model, dof):
    from scipy import stats

    rows = [3, 8, 40]
    means, variances = model.get_latent_representation(indices=rows, return_dist=True)
    point = np.array([0.3, -0.2], dtype=np.float32)
    law = model.get_aggregated_posterior(indices=rows, dof=dof)
    one = stats.norm if dof is None else stats.t(dof)
    width = np.sqrt(variances)
    logs = (one.logpdf((point - means) / width) - np.log(width)).sum(1)
    wanted = np.log(np.exp(logs).mean())
    assert law.log_prob(torch.from_numpy(point)).item() == pytest.approx(wanted, rel=1e-4)


def test_15_densities_of_cells_under_each_sample(model, watch):
    adata = watch(model.adata)
    table = model.differential_abundance(sample_key="batch")
    assert list(table.index) == list(adata.obs_names)
    of_one = model.get_aggregated_posterior(indices=adata.obs["batch"] == "batch_1", dof=None)
    z = torch.from_numpy(model.get_latent_representation())
    np.testing.assert_allclose(table["batch_1"], of_one.log_prob(z), rtol=1e-5)
    few = model.differential_abundance(sample_key="batch", num_cells_posterior=4, dof=3)
    assert few.shape == table.shape
    with pytest.raises(vivace.errors.MissingKeyError, match="sample_key"):
        model.differential_abundance(sample_key="nothing")
    with pytest.raises(vivace.errors.VivaceError, match="sample_key"):
        model.differential_abundance()


@pytest.mark.parametrize("law", ["NegativeBinomial", "ZeroInflatedNegativeBinomial"])
def test_22_values_that_are_no_counts_are_told_of_where_checks_are_asked_for(law: str):
    from vivace import likelihoods

    mu, theta = torch.tensor([2.0]), torch.tensor([1.0])
    more = {} if law == "NegativeBinomial" else {"zi_logits": torch.tensor([0.0])}
    make = getattr(likelihoods, law)
    checked = make(mu, theta, **more, validate_args=True)
    with pytest.warns(vivace.errors.FractionalCountsWarning, match="not whole numbers"):
        checked.log_prob(torch.tensor([0.5]))
    with pytest.raises(ValueError, match="support"):
        checked.log_prob(torch.tensor([-1.0]))
    make(mu, theta, **more).log_prob(torch.tensor([0.5]))
    assert checked.log_prob(torch.tensor([3.0])).isfinite().all()


# the minor ones of part B ------------------------------------------------------------------------


def test_a_reference_without_its_cells_says_how_to_load_it(tmp_path):
    case = CASES["CondSCVI"]
    reference = case.build(case.data())
    reference.train(max_epochs=1, progress=False)
    alone = vivace.load(reference.save(tmp_path))
    with pytest.raises(vivace.errors.InvalidArgumentError, match=r"vivace.load\(folder, cells\)"):
        vivace.DestVI.from_model(cells(), alone)


def test_a_callback_is_taken_by_every_model():
    class Epochs:
        n = 0

        def epoch(self, epoch, metrics):
            self.n += 1

    for name in ("SCVI", "ContrastiveVI", "CondSCVI"):
        case, seen = CASES[name], [Epochs(), Epochs()]
        model = case.build(case.data())
        model.train(max_epochs=2, progress=False, callbacks=seen[:1], logger=seen[1], **case.train)
        assert [each.n for each in seen] == [2, 2]
