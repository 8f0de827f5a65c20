"""SPLICEVI from MuData to answers."""

from __future__ import annotations

import warnings

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

import vivace
from vivace import SPLICEVI
from vivace._mudata import columns_stay
from vivace._settings import default_seed
from vivace.datasets import simulate
from vivace.errors import (
    InvalidArgumentError,
    InvalidDataError,
    MissingKeyError,
    NotTrainedError,
    UnsupportedError,
    VivaceWarning,
)
from vivace.metrics import psi_imputation, silhouette


def make(**options: object) -> mudata.MuData:
    given = {"n_cells": 150, "n_genes": 30, "n_events": 40, "observed": 0.3, **options}
    return simulate("splicing", **given)


@pytest.fixture(scope="module")
def mdata() -> mudata.MuData:
    return make()


@pytest.fixture(scope="module")
def model(mdata: mudata.MuData) -> SPLICEVI:
    SPLICEVI.setup_mudata(mdata)
    model = SPLICEVI(mdata, n_hidden=16, n_latent=4)
    model.train(max_epochs=2, progress=False)
    return model


def fields(mdata: mudata.MuData) -> tuple:
    schema = vivace.data.schema.read_schema(mdata, "SPLICEVI")
    return schema.fields, schema.var_names


# setting up -------------------------------------------------------------------------------------


def with_all_layers() -> mudata.MuData:
    """As published: counts, totals, ratios and mask, each a layer."""
    mdata = make()
    junctions = mdata["splicing"]
    totals = junctions.layers["cell_by_cluster_matrix"].toarray()
    counts = junctions.X.toarray()
    junctions.layers["cell_by_junction_matrix"] = junctions.X.copy()
    ratio = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    junctions.layers["junc_ratio"] = sparse.csr_matrix(ratio)
    junctions.layers["psi_mask"] = sparse.csr_matrix((totals > 0).astype(np.float32))
    junctions.X = junctions.layers["junc_ratio"].copy()
    return mdata


def test_junction_counts_and_events_suffice(watch):
    plain, full = make(), watch(with_all_layers())
    del plain["splicing"].layers["cell_by_cluster_matrix"]
    plain = watch(plain)
    SPLICEVI.setup_mudata(plain)
    SPLICEVI.setup_mudata(full, junc_ratio_layer="junc_ratio")
    assert fields(plain)[1] == fields(full)[1]
    a, b = (SPLICEVI(m, n_hidden=16, n_latent=4) for m in (plain, full))
    assert (a.get_junction_counts() != b.get_junction_counts()).nnz == 0
    for m in (a, b):
        m.train(max_epochs=1, progress=False)
    np.testing.assert_array_equal(a.get_latent_representation(), b.get_latent_representation())


def broken(change: str) -> mudata.MuData:
    """Data with one thing wrong."""
    mdata = with_all_layers()
    junctions = mdata["splicing"]
    layers = junctions.layers
    first = layers["cell_by_junction_matrix"].nonzero()
    row, column = first[0][0], first[1][0]

    def put(name: str, value: float, at: tuple | None = None) -> None:
        matrix = layers[name].tolil()
        matrix[at or (row, column)] = value
        layers[name] = matrix.tocsr()

    if change == "negative":
        put("cell_by_junction_matrix", -1)
    elif change == "nan":
        put("cell_by_junction_matrix", np.nan)
    elif change == "more than total":
        put("cell_by_cluster_matrix", 0.5)
    elif change == "no sum":
        put("cell_by_cluster_matrix", 1000)
    elif change == "mask value":
        put("psi_mask", 0.5)
    elif change == "mask open":
        put("psi_mask", 0)
    elif change == "mask too wide":
        empty = np.argwhere(layers["cell_by_cluster_matrix"].toarray() == 0)[0]
        put("psi_mask", 1, tuple(empty))
    elif change == "ratio":
        put("junc_ratio", 5)
    elif change == "no event":
        junctions.var["event_id"] = junctions.var["event_id"].where(
            junctions.var.index != "junction_3"
        )
    elif change == "names":
        names = junctions.var_names.to_list()
        junctions.var_names = [names[1], *names[1:]]
    elif change == "size factor":
        mdata.obsm["X_library_size"] = np.zeros((mdata.n_obs, 1))
    return mdata


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
@pytest.mark.filterwarnings("ignore:var_names are not unique")
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ("negative", "negative"),
        ("nan", "NaN"),
        ("more than total", "more reads than its event"),
        ("no sum", "sum of the reads"),
        ("mask value", "0 and 1"),
        ("mask open", "observed as a whole"),
        ("mask too wide", "whose event has no reads"),
        ("ratio", "over those of its event"),
        ("no event", "is missing for 1 junctions"),
        ("names", "duplicate"),
        ("size factor", "> 0"),
    ],
)
def test_contradictions_are_refused(change: str, match: str):
    key = {"size_factor_key": "X_library_size"} if change == "size factor" else {}
    with pytest.raises(InvalidDataError, match=match):
        SPLICEVI.setup_mudata(broken(change), junc_ratio_layer="junc_ratio", **key)


@pytest.mark.parametrize(
    ("argument", "match"),
    [
        ({"rna_layer": "raw"}, 'rna_layer="raw"'),
        ({"junc_counts_layer": "cell_by_junction"}, "junc_counts_layer"),
        ({"psi_mask_layer": "maks"}, "psi_mask_layer"),
        ({"event_key": "evnt_id"}, 'Did you mean "event_id"'),
        ({"modalities": {"rna_layer": "gene"}}, "mdata.mod"),
        ({"size_factor_key": "depth"}, "mdata.obsm and mdata.obs"),
        ({"batch_key": "donor"}, "donor"),
    ],
)
def test_missing_names_are_named(mdata: mudata.MuData, argument: dict, match: str):
    with pytest.raises(MissingKeyError, match=match):
        SPLICEVI.setup_mudata(mdata, **argument)


def test_one_matrix_is_not_enough(mdata: mudata.MuData):
    with pytest.raises(UnsupportedError, match="setup_mudata"):
        SPLICEVI.setup_anndata(mdata["rna"])
    with pytest.raises(InvalidDataError, match="MuData"):
        SPLICEVI.setup_mudata(mdata["rna"])
    with pytest.raises(MissingKeyError, match="setup"):
        SPLICEVI(make())


def test_weak_data_are_warned_of():
    mdata = make()
    junctions = mdata["splicing"]
    del junctions.layers["cell_by_cluster_matrix"]
    junctions.var["event_id"] = [
        f"e{max(i, 1)}" if i != 5 else "alone" for i in range(junctions.n_vars)
    ]
    matrix = junctions.X.tolil()
    matrix[0], matrix[:, 7] = 0, 0
    junctions.X = matrix.tocsr()
    with pytest.warns(VivaceWarning) as caught:
        SPLICEVI.setup_mudata(mdata)
    text = " ".join(str(w.message) for w in caught)
    for words in ("single junction", "no observed event", "never observed"):
        assert words in text
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        two = make()
        two["splicing"].var["event_id"] = np.where(
            np.arange(two["splicing"].n_vars) < 2, "pair", "rest"
        )
        del two["splicing"].layers["cell_by_cluster_matrix"]
        two["splicing"].var.iloc[-1, two["splicing"].var.columns.get_loc("event_id")] = "single"
        SPLICEVI.setup_mudata(two, drop_singletons=True)
    model = SPLICEVI(two, n_hidden=8, n_latent=2)
    assert model.n_junctions == two["splicing"].n_vars - 1
    model.train(max_epochs=1, progress=False)


def test_cells_may_lack_a_modality(mdata: mudata.MuData):
    genes = mdata["rna"][:120].copy()
    junctions = mdata["splicing"][30:].copy()
    with columns_stay():
        partial = mudata.MuData({"rna": genes, "splicing": junctions})
    SPLICEVI.setup_mudata(partial)
    model = SPLICEVI(partial, n_hidden=16, n_latent=4)
    assert model._cells().n_cells == 150
    model.train(max_epochs=2, progress=False)
    joint = pd.DataFrame(model.get_latent_representation(), partial.obs_names)
    alone = {
        k: pd.DataFrame(model.get_latent_representation(modality=k), partial.obs_names)
        for k in ("expression", "splicing")
    }
    no_genes = partial.obs_names.difference(genes.obs_names)
    no_junctions = partial.obs_names.difference(junctions.obs_names)
    assert len(no_genes) == len(no_junctions) == 30
    np.testing.assert_allclose(joint.loc[no_genes], alone["splicing"].loc[no_genes], rtol=1e-5)
    np.testing.assert_allclose(
        joint.loc[no_junctions], alone["expression"].loc[no_junctions], rtol=1e-5
    )
    by_name = model.get_junction_counts()[partial.obs_names.get_indexer(junctions.obs_names)]
    assert (by_name != junctions.X).nnz == 0


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_other_events_are_refused_later(model: SPLICEVI, mdata: mudata.MuData):
    other = mdata.copy()
    names = other["splicing"].var["event_id"].to_numpy().copy()
    names[[0, -1]] = names[[-1, 0]]
    other["splicing"].var["event_id"] = names
    with pytest.raises(InvalidDataError, match="other events"):
        model.get_latent_representation(other)
    with columns_stay():
        fewer = mudata.MuData({"rna": mdata["rna"], "splicing": mdata["splicing"][:, 3:].copy()})
        fewer.obs = mdata.obs
    with pytest.raises(InvalidDataError, match="are not in the splicing modality"):
        model.get_latent_representation(fewer)


def test_wrong_sizes_and_untrained_models_say_so(mdata: mudata.MuData):
    with pytest.raises(InvalidArgumentError, match="n_junctions=7"):
        SPLICEVI(mdata, n_junctions=7)
    with pytest.raises(NotTrainedError):
        SPLICEVI(mdata, n_hidden=8).get_latent_representation()


# questions --------------------------------------------------------------------------------------


def test_shapes_and_ranges_of_answers(model: SPLICEVI):
    for modality in ("joint", "expression", "splicing"):
        assert model.get_latent_representation(modality=modality).shape == (150, 4)
    assert model.get_library_size_factors(indices=[3])["expression"].shape == (1,)
    expression = model.get_normalized_expression(indices=[1, 2])
    assert expression.shape == (2, 30)
    np.testing.assert_allclose(expression.sum(axis=1), 1, rtol=1e-5)
    torch.manual_seed(0)
    several = model.get_normalized_splicing(n_samples=3, return_mean=False, indices=[0, 5])
    assert several.shape == (3, 2, model.n_junctions)
    torch.manual_seed(0)  # the same draws of z
    np.testing.assert_allclose(
        model.get_normalized_splicing(n_samples=3, indices=[0, 5]), several.mean(0), rtol=1e-5
    )
    chosen = list(model.junction_names[[4, 2]])
    found = model.get_normalized_splicing(junction_list=chosen)
    assert list(found.columns) == chosen
    assert ((found >= 0) & (found <= 1)).all(axis=None)
    with pytest.raises(InvalidArgumentError, match="modality"):
        model.get_latent_representation(modality="both")
    assert model.get_elbo(return_mean=False).shape == (150,)
    assert set(model.get_reconstruction_error()) == {
        "reconstruction_loss_expression",
        "reconstruction_loss_splicing",
    }


def test_usage_updated_with_reads(model: SPLICEVI, tmp_path):
    p = model.get_normalized_splicing(return_numpy=True)
    psi = model.get_normalized_splicing_DM(return_numpy=True)
    counts = model.get_junction_counts().toarray()
    codes = model.event_codes
    totals = np.stack([np.bincount(codes, row) for row in counts])[:, codes]
    phi = model.module.log_phi().exp().detach().numpy()[codes]
    np.testing.assert_allclose(psi, (phi * p + counts) / (phi + totals), rtol=2e-4)
    np.testing.assert_allclose(psi[totals == 0], p[totals == 0], rtol=1e-5)
    np.testing.assert_allclose(np.stack([np.bincount(codes, row) for row in psi]), 1, rtol=1e-4)
    sparse_psi = model.get_normalized_splicing(observed_only=True, mode="dm_posterior_mean")
    assert sparse_psi.nnz == (totals > 0).sum()
    np.testing.assert_allclose(sparse_psi.toarray()[totals > 0], psi[totals > 0], rtol=1e-4)
    mapped = model.get_normalized_splicing(out=tmp_path / "psi.npy")
    np.testing.assert_array_equal(mapped, p)
    rng = np.random.default_rng(0)
    at = rng.integers(0, 150, 40), rng.integers(0, model.n_junctions, 40)
    for mode, full in (("decoder", p), ("dm_posterior_mean", psi)):
        found = model.get_normalized_splicing(entries=at, mode=mode)
        np.testing.assert_allclose(found, full[at], rtol=2e-4, atol=1e-6)
    imputed = model.impute_splicing(*at)
    assert (
        (imputed["lower"] <= imputed["psi"]) & (imputed["psi"] <= imputed["upper"])
    ).mean() > 0.9
    assert (imputed["std"] > 0).all()


def test_every_form_of_the_answer_honours_draws_and_junctions(model: SPLICEVI, tmp_path):
    """The same question has the same answer, in memory, on disk, at observed entries and at single ones."""
    for mode in ("decoder", "dm_posterior_mean"):
        ask = {"mode": mode, "n_samples": 4, "indices": range(20, 60), "batch_size": 16}
        whole = model.get_normalized_splicing(**ask, return_numpy=True)
        state = model.get_normalized_splicing(**(ask | {"n_samples": 1}), return_numpy=True)
        assert np.abs(whole - state).max() > 1e-4, "draws differ from the mean state"
        mapped = model.get_normalized_splicing(**ask, out=tmp_path / "psi.npy")
        np.testing.assert_array_equal(mapped, whole)
        seen = model.get_normalized_splicing(**ask, observed_only=True)
        at = seen.nonzero()
        np.testing.assert_allclose(seen.toarray()[at], whole[at], rtol=1e-4)
        single = model.get_normalized_splicing(**ask, entries=at)
        np.testing.assert_allclose(single, whole[at], rtol=1e-4)
        some = list(model.junction_names[[7, 3]])
        columns = model.junction_names.get_indexer(
            model.get_normalized_splicing(junction_list=some, indices=[0]).columns
        )
        chosen = model.get_normalized_splicing(**ask, observed_only=True, junction_list=some)
        np.testing.assert_allclose(chosen.toarray(), seen.toarray()[:, columns], rtol=1e-6)
        assert isinstance(chosen, sparse.csr_array)
        mapped = model.get_normalized_splicing(
            **ask, out=tmp_path / "psi.npy", junction_list=some, return_mean=False
        )
        assert mapped.shape == (4, 40, 2)
        np.testing.assert_allclose(mapped.mean(0), whole[:, columns], rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"entries": ([0], [0]), "observed_only": True}, "entries and observed_only"),
        ({"observed_only": True, "out": "psi.npy"}, "observed_only and out"),
        ({"entries": ([0], [0]), "out": "psi.npy"}, "entries and out"),
        ({"entries": ([0], [0]), "junction_list": ["junction_1"]}, "leave junction_list out"),
        (
            {"entries": ([0], [0]), "n_samples": 2, "return_mean": False},
            "return_mean=False .* entries",
        ),
        (
            {"observed_only": True, "n_samples": 2, "return_mean": False},
            "return_mean=False .* observed_only",
        ),
        ({"entries": ([0], [10_000])}, "junctions of positions"),
        ({"entries": ([150], [0])}, "cells of positions"),
        ({"entries": ([1], [0]), "indices": [4]}, "cells of positions .* 0 .. 0"),
    ],
)
def test_what_an_answer_would_leave_out_is_refused(
    model: SPLICEVI, tmp_path, monkeypatch, arguments: dict, match: str
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidArgumentError, match=match):
        model.get_normalized_splicing(**arguments)
    assert not list(tmp_path.iterdir())


def test_imputation_of_positions_that_do_not_exist_is_refused(model: SPLICEVI):
    for at in (([0], [model.n_junctions]), ([150], [0]), ([0, 1], [0])):
        with pytest.raises(InvalidArgumentError, match="position"):
            model.impute_splicing(*at)
    last = model.impute_splicing([-1, 149], [-1, model.n_junctions - 1])
    assert last.iloc[0].equals(last.iloc[1])


def test_many_reads_outweigh_what_the_model_expects(model: SPLICEVI):
    """(phi p + n psi) / (phi + n) is at most phi / (phi + n) away from the observed psi."""
    reads, codes = sparse.csr_matrix(make()["splicing"].X), model.event_codes
    totals = np.stack([np.bincount(codes, row) for row in reads.toarray()])[:, codes]
    psi = reads.toarray()[totals > 0] / totals[totals > 0]
    phi = np.broadcast_to(model.module.log_phi().exp().detach()[codes], totals.shape)[totals > 0]
    away = []
    for times in (1.0, 1e3, 1e9):
        mdata = make()
        mdata["splicing"].X = reads * np.float32(times)
        usage = model.get_normalized_splicing(
            mdata, mode="dm_posterior_mean", observed_only=True
        ).toarray()
        away.append(np.abs(usage[totals > 0] - psi))
        assert (away[-1] <= phi / (phi + times * totals[totals > 0]) + 1e-5).all()
    assert away[0].max() > 0.05
    assert away[2].max() < 1e-4


def test_binomial_has_no_posterior_mean(mdata: mudata.MuData):
    model = SPLICEVI(mdata, n_hidden=8, n_latent=2, splicing_loss_type="binomial")
    model.train(max_epochs=1, progress=False)
    with pytest.raises(InvalidArgumentError, match="no concentration"):
        model.get_normalized_splicing(mode="dm_posterior_mean")


def test_saved_models_answer_alike(model: SPLICEVI, mdata: mudata.MuData, tmp_path):
    loaded = vivace.load(model.save(tmp_path / "run"), mdata)
    np.testing.assert_array_equal(
        loaded.get_normalized_splicing(return_numpy=True),
        model.get_normalized_splicing(return_numpy=True),
    )
    assert loaded.event_names.equals(model.event_names)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_models_saved_before_covariates_could_be_kept_out_of_a_decoder_answer_as_they_did(tmp_path):
    """They have no entry for it, and batches in every layer of the splicing decoder."""
    mdata, _ = two_halves()
    SPLICEVI.setup_mudata(mdata, batch_key="batch")
    options = {"n_hidden": 16, "n_latent": 4}
    before = SPLICEVI(mdata, decoder_covariates="published", **options)
    before.train(max_epochs=1, progress=False)
    del before.options["decoder_covariates"]
    loaded = vivace.load(before.save(tmp_path / "before"), mdata)
    wanted = before.get_normalized_splicing(return_numpy=True)
    for again in (loaded, vivace.load(loaded.save(tmp_path / "again"), mdata)):
        found = again.get_normalized_splicing(return_numpy=True)
        np.testing.assert_array_equal(found, wanted)
    now = SPLICEVI(mdata, **options)
    now.train(max_epochs=1, progress=False)
    layer = "z_decoder_splicing.ps_hidden.fc_layers.Layer 1.0.weight"
    assert [m.module.state_dict()[layer].shape[1] for m in (before, now)] == [18, 16]
    loaded = vivace.load(now.save(tmp_path / "now"), mdata)
    found = loaded.get_normalized_splicing(return_numpy=True)
    np.testing.assert_array_equal(found, now.get_normalized_splicing(return_numpy=True))


def test_embeddings_can_start_from_singular_vectors(mdata: mudata.MuData):
    model = SPLICEVI(mdata, n_hidden=8, n_latent=2, initialize_embeddings_from_pca=True)
    table = model.module.z_encoder_splicing.feature_embedding
    assert (table.norm(dim=1) > 0).all()
    assert not np.allclose(table.detach().numpy().std(), 1, atol=0.1)


# query mapping ------------------------------------------------------------------------------------


def two_halves() -> tuple[mudata.MuData, mudata.MuData]:
    """Cells of batches a and b, and cells of a batch c that the first half does not know."""
    mdata = make()
    mdata.obs["batch"] = np.where(
        np.arange(150) < 50, "a", np.where(np.arange(150) < 100, "b", "c")
    )
    mdata.obs["chemistry"] = np.where(np.arange(150) % 2, "v2", "v3")
    return mdata[:100].copy(), mdata[100:].copy()


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("decoder", ["vanilla", "linear", "deep"])
def test_new_batches_are_learned_and_old_answers_stay(decoder: str, tmp_path):
    old, new = two_halves()
    covariates = {"categorical_covariate_keys": ["chemistry"]}
    options = {"splicing_decoder_architecture": decoder, "encode_covariates": True}
    if decoder == "deep":
        for mdata in (old, new):
            mdata.obs["age"] = np.linspace(0, 1, mdata.n_obs)
        covariates["continuous_covariate_keys"] = ["age"]
        options |= {"splicing_decoder_architecture": "vanilla", "deeply_inject_covariates": True}
    SPLICEVI.setup_mudata(old, batch_key="batch", **covariates)
    reference = SPLICEVI(old, n_hidden=16, n_latent=4, **options)
    reference.train(max_epochs=2, progress=False)
    before = reference.get_latent_representation(), reference.get_normalized_splicing()
    model = SPLICEVI.load_query_data(new, reference.save(tmp_path / "reference"))
    start = {k: v.clone() for k, v in model.module.state_dict().items()}
    model.train(max_epochs=2, progress=False)
    np.testing.assert_array_equal(model.get_latent_representation(old), before[0])
    np.testing.assert_array_equal(model.get_normalized_splicing(old), before[1])
    changed = [k for k, v in model.module.state_dict().items() if not torch.equal(v, start[k])]
    assert any(k.startswith("z_decoder_splicing") for k in changed)
    assert not any("h_layer" in k or "embedding" in k or k == "log_phi_j" for k in changed)
    assert model.get_latent_representation().shape == (50, 4)
    again = vivace.load(model.save(tmp_path / "query"), new)
    np.testing.assert_array_equal(again.get_latent_representation(old), before[0])


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_queries_that_cannot_be_mapped_say_why(model: SPLICEVI, mdata: mudata.MuData):
    with pytest.raises(InvalidArgumentError, match="no batch that the reference does not know"):
        SPLICEVI.load_query_data(mdata, model)
    old, new = two_halves()
    SPLICEVI.setup_mudata(old, batch_key="batch")
    by_cell = SPLICEVI(old, n_hidden=8, n_latent=2, modality_weights="cell")
    with pytest.raises(InvalidArgumentError, match="universal"):
        SPLICEVI.load_query_data(new, by_cell)
    with columns_stay():
        fewer = mudata.MuData({"rna": new["rna"], "splicing": new["splicing"][:, 3:].copy()})
        fewer.obs = new.obs
    with pytest.raises(InvalidDataError, match="are not in the splicing modality"):
        SPLICEVI.load_query_data(fewer, SPLICEVI(old, n_hidden=8, n_latent=2))


# what it is for ---------------------------------------------------------------------------------


def trained_on_groups(seed: int) -> tuple[mudata.MuData, SPLICEVI]:
    """Three groups that differ in splicing only, across two types that differ in expression only."""
    mdata = simulate(
        "splicing", n_cells=400, n_genes=40, n_events=60, observed=0.5, n_groups=3, n_types=2
    )
    SPLICEVI.setup_mudata(mdata)
    with default_seed(seed):
        model = SPLICEVI(mdata, n_hidden=32, n_latent=6)
        model.train(progress=False)
    return mdata, model


@pytest.fixture(scope="module")
def groups() -> tuple[mudata.MuData, SPLICEVI]:
    return trained_on_groups(seed=0)


def test_groups_that_differ_in_splicing_only_are_told_apart(groups):
    mdata, model = groups
    labels = mdata.obs["splice_group"]
    spliced = silhouette(model.get_latent_representation(modality="splicing"), labels)
    expressed = silhouette(model.get_latent_representation(modality="expression"), labels)
    assert spliced > 0.3
    assert spliced > expressed + 0.2


def test_imputation_gets_worse_as_more_is_hidden_and_beats_the_mean(groups):
    """Holds for ``trained_on_groups(seed)`` of every seed from 0 to 4."""
    _, model = groups
    found = {
        f: psi_imputation(model, fraction=f, indices=np.arange(400), groupby="splice_group")
        for f in (0.25, 0.75, 0.95)
    }
    for table in found.values():
        ours, mean = table.loc["model"], table.loc["junction mean"]
        assert ours["mae"] < mean["mae"]
        assert ours["log_likelihood"] > mean["log_likelihood"]
        assert ours["log_likelihood_read"] > mean["log_likelihood_read"]
        assert ours["within_junction"] > 0.2
    for name in ("log_likelihood", "log_likelihood_read", "within_junction"):
        few, more, most = (table.loc["model", name] for table in found.values())
        assert few > more > most, name


def test_draws_of_the_latent_state_keep_predictions_modest_where_little_is_seen(groups):
    _, model = groups
    hidden = {"fraction": 0.95, "indices": np.arange(400)}
    averaged, decoded = (psi_imputation(model, n_samples=n, **hidden) for n in (25, 1))
    assert averaged.loc["model", "log_likelihood"] > decoded.loc["model", "log_likelihood"]


def test_differential_splicing_finds_what_was_planted(groups):
    mdata, model = groups
    table = model.differential_splicing(groupby="splice_group", n_samples_overall=1000, delta=0.1)
    assert table["comparison"].nunique() == 3
    truth = mdata["splicing"].varm["psi_truth"]
    wrong, n_called = 0, 0
    for name in truth.columns:
        here = table[table["group1"] == name]
        assert list(here.index) == list(mdata["splicing"].var_names)
        change = truth.drop(columns=name).mean(axis=1) - truth[name]  # group 2 minus group 1
        assert np.corrcoef(change, here["effect_size"])[0, 1] > 0.9
        assert (here["effect_size"] == here["est_prob2"] - here["est_prob1"]).all()
        called = here["is_ds_fdr"].to_numpy()
        wrong += (change[called].abs() < 0.1).sum()
        n_called += called.sum()
    assert n_called > 50
    assert wrong < 0.1 * n_called  # 0.05 is asked for; some 90 calls tell it from 0.1
    pair = model.differential_splicing(
        groupby="splice_group", group1="group_0", group2="group_1", n_samples_overall=300
    )
    swapped = model.differential_splicing(
        groupby="splice_group", group1="group_1", group2="group_0", n_samples_overall=300
    )
    np.testing.assert_allclose(pair["emp_effect"], -swapped["emp_effect"])
    assert np.corrcoef(pair["effect_size"], -swapped["effect_size"])[0, 1] > 0.9
    for options in ({"mode": "vanilla"}, {"norm_splicing_function": "decoder"}):
        other = model.differential_splicing(
            idx1=[0, 1, 2], idx2=[5, 6], n_samples_overall=50, **options
        )
        assert "group1" not in other
        assert other["emp_prob2"].isna().any()
    with pytest.raises(InvalidArgumentError, match="norm_splicing_function"):
        model.differential_splicing(groupby="splice_group", norm_splicing_function="dm")


def test_differential_expression(groups):
    _, model = groups
    table = model.differential_expression(groupby="cell_type", n_samples_overall=200)
    assert len(table) == 2 * 40
    assert {"lfc_mean", "proba_de", "is_de_fdr_0.05"} <= set(table.columns)


def test_differential_splicing_goes_block_by_block(groups, monkeypatch):
    _, model = groups
    from vivace.analysis import differential_splicing as ds

    torch.manual_seed(0)
    whole = model.differential_splicing(idx1=range(50), n_samples_overall=100)
    sizes = []
    usage = ds.block_usage

    def watched(module, drawn, block, counts, mode):
        sizes.append(len(block) * len(drawn.rows))
        return usage(module, drawn, block, counts, mode)

    monkeypatch.setattr(ds, "BLOCK", 2000)
    monkeypatch.setattr(ds, "block_usage", watched)
    torch.manual_seed(0)  # the same draws
    blocks = model.differential_splicing(idx1=range(50), n_samples_overall=100)
    pd.testing.assert_frame_equal(whole, blocks, rtol=1e-4)
    assert max(sizes) <= 2000
    assert len(sizes) > 10


# real cells -------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", ["gastrulation_splicing", "cardio_10x_splicing", "lung_splicing"])
def test_real_cells_end_to_end(shared_data, name: str, watch):
    mdata = mudata.read_h5mu(shared_data(f"{name}.h5mu"))
    label = mdata.obs.columns[-1] if name != "lung_splicing" else "compartment"
    if name == "lung_splicing":
        mdata = mdata[:600].copy()
    mdata = watch(mdata)
    if name == "cardio_10x_splicing":
        with pytest.warns(VivaceWarning, match="16 events have a single junction"):
            SPLICEVI.setup_mudata(mdata)
    else:
        SPLICEVI.setup_mudata(mdata)
    model = SPLICEVI(mdata, n_hidden=16, n_latent=4)
    model.train(max_epochs=2, progress=False)
    assert np.isfinite(model.get_latent_representation()).all()
    imputed = model.impute_splicing([0, 0, 1], [0, 1, 0])
    assert imputed["psi"].between(imputed["lower"] - 1e-6, imputed["upper"] + 1e-6).all()
    table = psi_imputation(model, groupby=label)
    assert table.notna().loc["model", "mae"]
    found = model.differential_splicing(groupby=label, n_samples_overall=50)
    assert found["proba_ds"].between(0, 1).all()
    if name == "cardio_10x_splicing":
        alone = ~model.event_names.duplicated(keep=False)
        assert (model.get_normalized_splicing(return_numpy=True)[:, alone] == 1).all()


def test_a_mudata_with_one_gene_and_one_event():
    obs = pd.DataFrame(index=[f"c{i}" for i in range(12)])
    ones = np.ones((12, 1), np.float32)
    reads = sparse.csr_matrix(np.tile([[2.0, 1.0]], (12, 1)).astype(np.float32))
    junctions = anndata.AnnData(
        reads, obs.copy(), pd.DataFrame({"event_id": ["e", "e"]}, ["a", "b"])
    )
    genes = anndata.AnnData(ones, obs, pd.DataFrame(index=["g"]))
    with columns_stay():
        tiny = mudata.MuData({"rna": genes, "splicing": junctions})
    SPLICEVI.setup_mudata(tiny)
    model = SPLICEVI(tiny, n_hidden=4, n_latent=2)
    model.train(max_epochs=2, progress=False)
    assert model.get_normalized_splicing().shape == (12, 2)
