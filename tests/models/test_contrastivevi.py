"""ContrastiveVI: what it says of populations, and what it found in data with known truth."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
import torch

import vivace
from vivace.data import Loader, ZippedLoader
from vivace.datasets import simulate
from vivace.errors import InvalidArgumentError
from vivace.metrics import ilisi
from vivace.models.contrastivevi import ContrastiveVI
from vivace.train import TrainOptions

N, G = 120, 30
BACKGROUND, TARGET = np.arange(0, 50), np.arange(50, 110)
"""The last ten cells belong to neither."""


def cells(**options):
    adata = simulate("contrastive", n_cells=N, n_genes=G, **options)
    rng = np.random.default_rng(0)
    adata.obs["batch"] = rng.choice(["x", "y"], N)
    adata.obs["donor"] = rng.choice(["p", "q", "r"], N)
    adata.obs["age"] = rng.normal(size=N)
    adata.obs["factor"] = rng.uniform(0.5, 2, N)
    return adata


def build(adata, setup=None, **options) -> ContrastiveVI:
    ContrastiveVI.setup_anndata(adata, **(setup or {"batch_key": "batch"}))
    sizes = {"n_hidden": 16, "n_background_latent": 3, "n_salient_latent": 2}
    return ContrastiveVI(adata, **sizes | options)


def train(model: ContrastiveVI, background=BACKGROUND, target=TARGET, **options) -> ContrastiveVI:
    model.train(background, target, **{"max_epochs": 2, "progress": False, "seed": 0} | options)
    return model


@pytest.fixture(scope="module")
def model() -> ContrastiveVI:
    return train(build(cells()), target={"drug_a": TARGET[:30], "drug_b": TARGET[30:]})


# training ---------------------------------------------------------------------------------------


def test_both_populations_are_split_alike_and_every_condition_on_its_own(model: ContrastiveVI):
    split = model.split
    for rows in (BACKGROUND, TARGET[:30], TARGET[30:]):
        assert np.isin(rows, split.train).sum() == 0.9 * len(rows)
        assert np.isin(rows, split.validation).sum() == 0.1 * len(rows)
    assert not np.isin(np.arange(110, N), [*split.train, *split.validation, *split.test]).any()
    assert model.training["n_train"] == 99
    assert model.training["n_validation"] == 11
    assert model.training["conditions"] == {"drug_a": 30, "drug_b": 30}
    np.testing.assert_array_equal(model.conditions["drug_b"], TARGET[30:])


def pairs(model: ContrastiveVI, epoch: int) -> set[tuple[bytes, bytes]]:
    found = set()
    for step in model._zipped.epoch(epoch):
        both = [step[name]["X"].to_dense().numpy() for name in ("background", "target")]
        found |= {(b.tobytes(), t.tobytes()) for b, t in zip(*both, strict=True)}
    return found


@pytest.mark.parametrize("n_target", [30, 50])
def test_every_cell_is_seen_every_pass_and_pairs_change(n_target: int):
    model = build(cells(library_median=1e4))
    kwargs = {"train_size": 1.0, "validation_size": None, "shuffle": True, "seed": 0}
    kwargs |= {"populations": (BACKGROUND[:40], {"target": TARGET[:n_target]})}
    loader, validation = model._training_batches(kwargs, TrainOptions(batch_size=16))
    assert validation is None
    assert isinstance(loader, ZippedLoader)
    model._zipped = loader
    epochs = [pairs(model, e) for e in range(3)]
    for found in epochs:
        assert len({b for b, _ in found}) == 40 or n_target > 40
        assert len({t for _, t in found}) == n_target or n_target < 40
    for a, b in ((0, 1), (1, 2), (0, 2)):
        assert len(epochs[a] & epochs[b]) < 0.2 * len(epochs[a])


def test_a_population_smaller_than_a_minibatch_leaves_out_no_cell_of_the_other():
    model = train(build(cells()), BACKGROUND[:10], TARGET, batch_size=64, train_size=1.0)
    assert model.history["train_loss"].notna().all(axis=None)
    loader, _ = model._training_batches(
        {
            "train_size": 1.0,
            "validation_size": None,
            "shuffle": True,
            "seed": 0,
            "populations": (BACKGROUND[:10], {"target": TARGET}),
        },
        TrainOptions(batch_size=64),
    )
    step = next(loader.epoch(0))
    assert {name: len(t["batch"]) for name, t in step.items()} == {"background": 60, "target": 60}


def test_early_stopping_watches_both_populations():
    model = build(cells())
    only_targets = {"external_indexing": [np.arange(104), np.arange(104, 110)]}
    with pytest.raises(InvalidArgumentError, match="background has none"):
        train(model, early_stopping=True, datasplitter_kwargs=only_targets)
    train(model, early_stopping=True, early_stopping_patience=1, max_epochs=3)
    assert "elbo_validation" in model.history


def test_held_out_loss_counts_every_cell_of_both_populations():
    model = train(build(cells()), train_size=0.5, max_epochs=1)
    held_out = [np.intersect1d(rows, model.validation_indices) for rows in (BACKGROUND, TARGET)]
    assert [len(rows) for rows in held_out] == [25, 30]
    bounds = [float(model.get_elbo(indices=rows)) for rows in held_out]
    loss = model.history["elbo_validation"]["elbo_validation"].iloc[-1]
    assert -sum(bounds) == pytest.approx(loss, rel=0.02)


def test_given_indices_are_split_by_population():
    parts = [np.arange(0, 100), np.arange(100, 110)]
    model = train(build(cells()), datasplitter_kwargs={"external_indexing": parts})
    assert set(model.train_indices) == set(range(100))
    assert set(model.validation_indices) == set(range(100, 110))


def test_masks_ranges_and_rows_name_the_same_cells():
    mask = np.isin(np.arange(N), BACKGROUND)
    one = train(build(cells()), mask, range(50, 110))
    other = train(build(cells()))
    for name, value in one.module.state_dict().items():
        assert torch.equal(value, other.module.state_dict()[name])


@pytest.mark.parametrize(
    ("background", "target", "match"),
    [
        ([], TARGET, "no cells"),
        (BACKGROUND, np.arange(40, 60), "share 10 cells"),
        (BACKGROUND, {"a": TARGET[:20], "b": TARGET[10:]}, "a and b share 10"),
        (BACKGROUND, [500], "indices"),
        (None, TARGET, "background_indices"),
    ],
)
def test_populations_that_cannot_be_are_refused(background, target, match: str):
    with pytest.raises(InvalidArgumentError, match=match):
        train(build(cells()), background, target)


# everything that was registered is used ---------------------------------------------------------

SETUPS = {
    "batch": {"batch_key": "batch"},
    "categorical covariate": {"categorical_covariate_keys": ["donor"]},
    "continuous covariate": {"continuous_covariate_keys": ["age"]},
    "labels": {"labels_key": "cell_type"},
    "size factor": {"size_factor_key": "factor"},
}


@pytest.mark.parametrize("setup", SETUPS)
def test_what_is_registered_changes_the_model(setup: str):
    keys = SETUPS[setup]
    column = next(v if isinstance(v, str) else v[0] for v in keys.values())
    adata = cells()
    asked = {"dispersion": "gene-label"} if setup == "labels" else {}
    model = train(build(adata, keys, **asked))
    before = model.get_elbo(return_mean=False)
    other = adata.copy()
    values = other.obs[column].to_numpy()
    other.obs[column] = np.roll(values, 1) if values.dtype.kind == "f" else values[::-1]
    torch.manual_seed(0)
    is_background = np.isin(np.arange(N), BACKGROUND)
    after = torch.empty(N)
    for population, rows in (("background", is_background), ("target", ~is_background)):
        at = np.flatnonzero(rows)
        after[at] = model.get_elbo(other, at, population=population, return_mean=False)
    changed = (before - after).abs() > 1e-2
    assert changed.float().mean() > 0.4


@pytest.mark.parametrize("unasked", [{}, {"dispersion": None}])
def test_labels_give_each_label_a_dispersion_only_when_asked(unasked: dict):
    labels = {"labels_key": "cell_type"}
    assert build(cells(), labels, dispersion="gene-label").module.px_r.shape == (G, 5)
    with_labels, without = build(cells(), labels, **unasked), build(cells(), {"layer": None})
    for name, weight in without.module.state_dict().items():
        assert torch.equal(with_labels.module.state_dict()[name], weight), name


def test_a_model_saved_when_labels_chose_the_dispersion_still_loads(tmp_path):
    adata = cells()
    model = train(build(adata, {"labels_key": "cell_type"}, dispersion="gene-label"))
    expected = model.get_elbo(indices=TARGET)
    model.options["dispersion"] = None  # as it was written then
    model.save(tmp_path / "old")
    found = ContrastiveVI.load(tmp_path / "old", adata)
    assert found.module.px_r.shape == (G, 5)
    torch.testing.assert_close(found.get_elbo(indices=TARGET), expected, rtol=0.02, atol=0)


def test_nb_and_a_latent_library(tmp_path):
    adata = cells()
    model = train(build(adata, use_observed_lib_size=False, gene_likelihood="nb"))
    loaded = vivace.load(model.save(tmp_path / "run"), adata)
    mean = loaded.get_latent_library_size()
    assert mean.shape == (N, 1)
    outputs = loaded.module.eval()._generic_inference(
        torch.from_numpy(adata.X.toarray()),
        torch.from_numpy((adata.obs["batch"] == "y").to_numpy().astype(np.int64)[:, None]),
    )
    expected = torch.exp(outputs["ql_m"] + outputs["ql_v"] / 2)  # variance, not its square
    np.testing.assert_allclose(mean, expected.detach().numpy(), rtol=1e-4)
    assert (loaded.get_latent_library_size(give_mean=False) > 0).all()
    with pytest.raises(InvalidArgumentError, match="give_mean=False"):
        train(build(adata)).get_latent_library_size()


# the energy distance ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "option", "plan", "weight"),
    [
        ("fast", {}, {}, 10),
        ("classic", {}, {}, None),
        ("fast", {"energy_distance_weight": 0}, {}, 0),
        ("classic", {"energy_distance_weight": 2}, {}, 2),
        ("fast", {"energy_distance_weight": 2}, {"energy_distance_weight": 3}, 3),
    ],
)
def test_the_weight_is_the_recipe_s_then_the_model_s_then_the_run_s(
    recipe: str, option: dict, plan: dict, weight: float | None
):
    model = train(build(cells(), **option), recipe=recipe, plan_kwargs=plan)
    assert model.training["loss_options"].get("energy_distance_weight") == weight
    assert ("energy_distance_train" in model.history) == bool(weight)


def test_a_loaded_model_trains_on_with_its_own_weight(tmp_path):
    model = train(build(cells(), energy_distance_weight=2))
    loaded = ContrastiveVI.load(model.save(tmp_path / "run"), cells())
    assert train(loaded).training["loss_options"] == {"energy_distance_weight": 2}


def test_a_negative_weight_is_refused():
    with pytest.raises(InvalidArgumentError, match="energy_distance_weight"):
        build(cells(), energy_distance_weight=-1)


@pytest.mark.shared_data
def test_less_of_a_real_response_stays_in_the_background_states(shared_data):
    adata = anndata.read_h5ad(shared_data("pbmc_ifnb.h5ad"))[::4, :1000].copy()
    ContrastiveVI.setup_anndata(adata)
    stimulated = (adata.obs["condition"] == "stim").to_numpy()
    mixing = []
    for weight in (0, None):
        model = ContrastiveVI(adata, n_hidden=64, energy_distance_weight=weight)
        model.train(~stimulated, stimulated, max_epochs=25, seed=0, progress=False)
        shared = model.get_latent_representation(representation_kind="background")
        mixing.append(ilisi(shared, stimulated))
    assert mixing[1] > mixing[0] + 0.1, mixing


# questions --------------------------------------------------------------------------------------


def test_both_latent_spaces(model: ContrastiveVI):
    assert model.get_latent_representation().shape == (N, 2)
    shared = model.get_latent_representation(representation_kind="background")
    assert shared.shape == (N, 3)
    mean, variance = model.get_latent_representation(return_dist=True, indices=TARGET)
    np.testing.assert_array_equal(mean, model.get_latent_representation(indices=TARGET))
    assert (variance > 0).all()
    assert (model.get_latent_representation(give_mean=False) != mean[0]).all()
    with pytest.raises(InvalidArgumentError, match='"salient"'):
        model.get_latent_representation(representation_kind="target")


def test_expression_with_and_without_the_salient_state(model: ContrastiveVI):
    both = model.get_normalized_expression(indices=TARGET, use_mean=True)
    assert both.keys() == {"background", "salient"}
    for frame in both.values():
        assert frame.shape == (60, G)
        np.testing.assert_allclose(frame.sum(axis=1), 1, rtol=1e-4)
    assert not np.allclose(both["salient"], both["background"])
    salient = model.get_salient_normalized_expression(indices=TARGET, use_mean=True)
    np.testing.assert_array_equal(salient, both["salient"])
    draws = model.get_normalized_expression(n_samples=3, return_mean=False)["salient"]
    assert draws.shape == (3, N, G)
    assert (draws[0] != draws[1]).any()
    assert model.get_normalized_expression(n_samples_overall=7)["background"].shape == (7, G)


def test_expression_differs_by_the_salient_state_alone():
    """The same background state goes into both, so that their difference is no noise."""
    model = train(build(cells()))
    with torch.no_grad():
        model.module.decoder.px_decoder.fc_layers["Layer 0"]["0"].of_input[3:5] = 0
    both = model.get_normalized_expression(indices=TARGET)
    np.testing.assert_allclose(both["salient"], both["background"], rtol=1e-5)


def test_specific_expression_by_kind_or_by_cells(model: ContrastiveVI):
    ask = model.get_specific_normalized_expression
    kinds = {k: ask(expression_type=k, use_mean=True) for k in ("background", "salient")}
    inside = ask(indices_to_return_salient=np.arange(N), use_mean=True)
    np.testing.assert_array_equal(inside, kinds["salient"])
    outside = ask(indices_to_return_salient=TARGET, use_mean=True)
    np.testing.assert_array_equal(outside, kinds["background"])
    with pytest.raises(InvalidArgumentError, match="either"):
        ask()
    with pytest.raises(InvalidArgumentError, match="either"):
        ask(expression_type="salient", indices_to_return_salient=TARGET)


def test_compat_lets_other_batches_reach_the_encoders():
    adata = cells()
    ours, theirs = (train(build(adata, compat=c)) for c in (None, "scvi-tools"))
    as_x = adata.copy()
    as_x.obs["batch"] = "x"
    there = ours.get_normalized_expression(as_x, use_mean=True)["salient"]
    for model, equal in ((ours, False), (theirs, True)):
        moved = model.get_normalized_expression(transform_batch="x", use_mean=True)["salient"]
        assert np.allclose(moved, there, rtol=1e-4) == equal


def test_bounds_depend_on_the_population(model: ContrastiveVI):
    values = {}
    for population in (None, "background", "target"):
        torch.manual_seed(0)
        values[population] = model.get_marginal_ll(
            n_mc_samples=400, return_mean=False, population=population, n_mc_samples_per_pass=100
        )
    assert (values["background"] - values["target"]).abs().max() > 0.05
    near = {name: (values[None] - v).abs() for name, v in values.items() if name is not None}
    closer = near["background"] < near["target"]
    assert closer[BACKGROUND].float().mean() > 0.6
    assert (~closer)[TARGET].float().mean() > 0.6
    elbo = model.get_elbo(return_mean=False)
    assert elbo.mean() < values[None].mean()
    torch.testing.assert_close(model.get_elbo(), elbo.mean(), rtol=0.02, atol=0)
    errors = model.get_reconstruction_error(return_mean=False)["reconstruction_loss"]
    assert errors.shape == (N,)
    assert 0 < errors.mean() < -elbo.mean()


def test_cells_are_answered_in_the_order_they_were_asked_in(model: ContrastiveVI):
    order = np.random.default_rng(0).permutation(N)
    n = {"n_mc_samples": 300, "n_mc_samples_per_pass": 100, "return_mean": False}
    one, other = model.get_marginal_ll(**n), model.get_marginal_ll(indices=order, **n)
    assert (one[order] - other).abs().median() < 1
    assert (one - one[order]).abs().median() > 5
    draws = model.posterior_predictive_sample(indices=order, n_samples=5)  # one alone is noisy
    drawn, observed = (np.asarray(x.sum(1)).ravel() for x in (sum(draws), model.adata.X))
    assert np.corrcoef(drawn, observed[order])[0, 1] > 0.7


def test_other_cells_must_be_said_to_be_background_or_target(model: ContrastiveVI):
    other = cells(seed=1)
    with pytest.raises(InvalidArgumentError, match="population"):
        model.get_elbo(other)
    assert model.get_elbo(other, population="background", return_mean=False).shape == (N,)
    with pytest.raises(InvalidArgumentError, match="indices"):
        model.salient_differential_expression(other)
    assert model.posterior_predictive_sample(other, population="target").shape == (N, G)


def test_salient_differences_are_with_the_salient_state_over_without_it(
    model: ContrastiveVI, monkeypatch: pytest.MonkeyPatch
):
    asked = []

    def twice_as_much(kind: str, loader: Loader, *_: object, **__: object) -> np.ndarray:
        asked.append((kind, set(loader.rows)))
        return np.full((loader.n_obs, G), 0.2 if kind == "salient" else 0.1, dtype=np.float32)

    monkeypatch.setattr(model, "_decode", twice_as_much)
    some = TARGET[:5]
    table = model.salient_differential_expression(indices=some, n_samples_overall=50)
    np.testing.assert_allclose(table["lfc_mean"], 1, atol=0.01)
    assert {kind for kind, _ in asked} == {"salient", "background"}
    assert all(rows <= set(some) for _, rows in asked), "the same cells on both sides"


def test_epochs_may_be_said_where_the_plan_is():
    model = train(
        build(cells()), BACKGROUND, TARGET, max_epochs=None, plan_kwargs={"max_epochs": 2}
    )
    assert model.training["epochs"] == 2
    model = train(build(cells()), BACKGROUND, TARGET, plan_kwargs={"max_epochs": 2}, max_epochs=1)
    assert model.training["epochs"] == 1


def test_salient_differences_are_told_for_every_condition(model: ContrastiveVI):
    table = model.salient_differential_expression(n_samples_overall=200)
    assert table["comparison"].unique().tolist() == ["drug_a vs background", "drug_b vs background"]
    assert len(table) == 2 * G
    one = model.salient_differential_expression(indices=TARGET[:5], n_samples_overall=200)
    assert one["group1"].unique().tolist() == ["target"]
    with pytest.raises(InvalidArgumentError, match=r'indices\["none"\] chooses no cells'):
        model.salient_differential_expression(indices={"none": []})


def test_groups_outside_the_target_lose_their_salient_state():
    """A salient state that raises one gene is seen only in groups that may have one."""
    model = train(build(cells(), {}))
    with torch.no_grad():
        fc = model.module.decoder.px_decoder.fc_layers["Layer 0"]["0"].of_input
        fc[:3], fc[3:5] = 0, 5.0
        model.module.s_encoder.mean_encoder.bias.fill_(3.0)
    options = {"idx1": TARGET, "idx2": BACKGROUND, "n_samples_overall": 300}
    alike = model.differential_expression(**options)
    apart = model.differential_expression(target_idx=TARGET, n_samples=2, **options)
    assert apart["proba_de"].max() > alike["proba_de"].max() + 0.3
    shifted = model.salient_differential_expression(n_samples_overall=300)
    assert shifted.index[0] == apart.index[0]
    assert list(alike.columns[:3]) == ["proba_de", "proba_not_de", "bayes_factor"]
    assert "raw_mean1" in alike


def test_summary_has_a_row_for_each_condition(model: ContrastiveVI):
    table = model.get_condition_summary()
    assert table.index.tolist() == ["background", "drug_a", "drug_b"]
    assert table["n_cells"].tolist() == [50, 30, 30]
    assert table["n_held_out"].tolist() == [5, 3, 3]
    assert table["elbo"].between(-1000, 0).all()
    assert table["salient_separation"][1:].between(0, 1).all()
    assert np.isnan(table["salient_separation"].iloc[0])


def test_query_cells_of_a_new_batch_are_mapped_and_the_reference_stays():
    adata = cells()
    reference = train(build(adata[: N - 10].copy()), max_epochs=3)
    new = cells(seed=1)
    new.obs["batch"] = "z"
    model = ContrastiveVI.load_query_data(new, reference)
    train(model, max_epochs=3)
    old = reference.module.state_dict()
    for name, value in model.module.state_dict().items():
        if value.shape == old[name].shape:
            assert torch.equal(value, old[name]), name
    start = model.module.z_encoder.encoder.fc_layers["Layer 0"]["0"].weight
    known = reference.module.z_encoder.encoder.fc_layers["Layer 0"]["0"].weight
    assert torch.equal(start[:, : G + 2], known)
    assert (start[:, G + 2] != known[:, G:].mean(1)).any()
    asked = adata[:60].copy()
    for kind in ("background", "salient"):
        np.testing.assert_allclose(
            model.get_latent_representation(asked, representation_kind=kind),
            reference.get_latent_representation(asked, representation_kind=kind),
            rtol=1e-4,
            atol=1e-5,
        )
    prepared = ContrastiveVI.prepare_query_anndata(new[:, ::-1].copy(), reference)
    assert list(prepared.var_names) == list(reference.var_names)


# truth ------------------------------------------------------------------------------------------


def explained(latent: np.ndarray, truth: np.ndarray) -> float:
    """Share of the variance of the truth that a linear map of the latent explains, 5-fold."""
    fold = np.random.default_rng(0).permutation(len(latent)) % 5
    design = np.column_stack([latent, np.ones(len(latent))])
    left = np.empty_like(truth)
    for k in range(5):
        weights, *_ = np.linalg.lstsq(design[fold != k], truth[fold != k], rcond=None)
        left[fold == k] = truth[fold == k] - design[fold == k] @ weights
    return float(1 - (left**2).sum() / ((truth - truth.mean(0)) ** 2).sum())


def test_the_salient_state_finds_the_programme_that_only_targets_have():
    adata = simulate("contrastive", n_cells=1200, n_genes=300, seed=0)
    ContrastiveVI.setup_anndata(adata)
    model = ContrastiveVI(adata)
    treated = (adata.obs["condition"] == "treated").to_numpy()
    model.train(~treated, treated, progress=False)
    truth = adata.obsm["salient_truth"][treated]
    salient = model.get_latent_representation(indices=treated)
    shared = model.get_latent_representation(indices=treated, representation_kind="background")
    assert explained(salient, truth) >= 0.8
    assert explained(shared, truth) <= 0.2
    assert explained(shared, adata.obsm["background_truth"][treated]) >= 0.6
