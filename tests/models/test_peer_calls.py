"""Calls that users of scvi-tools have in their fingers: each works as they expect, or says what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

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

    def epoch(self: Any, number: int) -> dict[str, float]:
        metrics = whole(self, number)
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
    import torch

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

        def breaks(self: Any, number: int) -> dict[str, float]:
            if number == 4:
                raise vivace.errors.TrainingError
            return epoch(self, number)

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
    assert vivace.SCVI.prepare_query_anndata(new, folder, inplace=True) is None
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
