"""Differential splicing where usage is known: many reads and little concentration show the reads."""

from __future__ import annotations

import mudata
import numpy as np
import pytest
from scipy import sparse

from vivace import SPLICEVI
from vivace.datasets import simulate

SIZES = {"a": 20, "b": 20, "c": 160}
SHARE = {"a": 0.5, "b": 0.9, "c": 0.1}
"""Of the first junction of every event; the others share the rest."""
READS = {"a": 100, "b": 300, "c": 100}
"""Of every event in a cell."""


@pytest.fixture(scope="module")
def model() -> SPLICEVI:
    mdata = simulate("splicing", n_cells=200, n_genes=10, n_events=6, observed=0.5)
    junctions = mdata["splicing"]
    group = np.repeat(list(SIZES), list(SIZES.values()))  # in the order of the rows
    mdata.obs["kind"] = group
    events = junctions.var["event_id"].astype(str).to_numpy()
    first = np.array([e not in events[:i] for i, e in enumerate(events)])
    others = np.array([(events == e).sum() - 1 for e in events])
    share = np.array([SHARE[g] for g in group])[:, None]
    reads = np.array([READS[g] for g in group])[:, None]
    usage = np.where(first, share, (1 - share) / others)
    junctions.X = sparse.csr_matrix(usage * reads, dtype="f4")
    for layer in filter(None, list(junctions.layers)):
        del junctions.layers[layer]
    junctions.var["is_first"] = first
    SPLICEVI.setup_mudata(mdata)
    model = SPLICEVI(mdata, n_hidden=8, n_latent=2, splicing_concentration=1.0)
    model.train(max_epochs=1, progress=False)
    return model


def firsts(model: SPLICEVI) -> np.ndarray:
    data: mudata.MuData = model.adata
    return data["splicing"].var["is_first"].to_numpy()


@pytest.mark.filterwarnings("ignore::vivace.errors.VivaceWarning")
def test_the_rest_counts_its_cells_alike(model: SPLICEVI):
    """Expected usage of "Rest" is the mean over its cells, not over its groups."""
    table = model.differential_splicing(groupby="kind", n_samples_overall=4000)
    usage = model.get_normalized_splicing_DM(return_numpy=True)
    kind = model.adata.obs["kind"].to_numpy()
    for name in SIZES:
        here = table[table["group1"] == name]
        np.testing.assert_allclose(here["est_prob1"], usage[kind == name].mean(0), atol=0.01)
        np.testing.assert_allclose(here["est_prob2"], usage[kind != name].mean(0), atol=0.03)
        ratio = model.get_junction_counts().toarray() / [[READS[k]] for k in kind]
        np.testing.assert_allclose(here["emp_prob2"], ratio[kind != name].mean(0), rtol=1e-5)
    assert (table["n_obs_group1"] == table["group1"].map(SIZES)).all()
    assert (table["n_obs_group2"] == 200 - table["group1"].map(SIZES)).all()
    rest = table[table["group1"] == "a"].loc[firsts(model), "est_prob2"]
    by_cells = (20 * SHARE["b"] + 160 * SHARE["c"]) / 180
    np.testing.assert_allclose(rest, by_cells, atol=0.05)  # by groups it would be 0.5


@pytest.mark.parametrize(("one", "two", "more"), [("b", "c", 0.0), ("c", "b", 1.0)])
def test_vanilla_is_the_probability_that_the_second_group_uses_a_junction_more(
    model: SPLICEVI, one: str, two: str, more: float
):
    table = model.differential_splicing(
        groupby="kind", group1=one, group2=two, mode="vanilla", n_samples_overall=200
    )
    first = firsts(model)
    np.testing.assert_allclose(table.loc[first, "proba_ds"], more)
    np.testing.assert_allclose(table.loc[~first, "proba_ds"], 1 - more)
    assert (np.sign(table["effect_size"]) == np.where(first == bool(more), 1, -1)).all()


def test_draws_of_both_sides_are_paired_at_random(model: SPLICEVI):
    """Two halves of a group: of two cells drawn at random, usage differs by as much as in 1 of 10."""
    kind = model.adata.obs["kind"].to_numpy()
    mixed = np.flatnonzero(kind != "a")  # 20 of one usage, 160 of the other
    table = model.differential_splicing(
        idx1=mixed[::2], idx2=mixed[1::2], n_samples_overall=4000, delta=0.5
    )
    share = 20 / 180
    one_way = share * (1 - share)  # the likelier of up and down
    found = table.loc[firsts(model), "proba_ds"]
    np.testing.assert_allclose(found, one_way, atol=0.03)


def test_effects_are_of_the_second_group_less_the_first(model: SPLICEVI):
    """Of ratios that cells weigh in alike, or by their reads: 300 in a cell of b, 100 in others."""
    kind = model.adata.obs["kind"].to_numpy()
    mixed = np.flatnonzero(kind != "a")
    table = model.differential_splicing(idx1=kind == "a", idx2=mixed, n_samples_overall=50)
    here = table[firsts(model)]
    by_cells = (20 * SHARE["b"] + 160 * SHARE["c"]) / 180
    by_reads = (20 * 300 * SHARE["b"] + 160 * 100 * SHARE["c"]) / (20 * 300 + 160 * 100)
    np.testing.assert_allclose(here["emp_prob1"], SHARE["a"], rtol=1e-5)
    np.testing.assert_allclose(here["emp_prob2"], by_cells, rtol=1e-5)
    np.testing.assert_allclose(here["emp_effect"], by_cells - SHARE["a"], rtol=1e-5)
    np.testing.assert_allclose(here["read_effect"], by_reads - SHARE["a"], rtol=1e-5)
    np.testing.assert_allclose(table["effect_size"], table["est_prob2"] - table["est_prob1"])


def test_an_event_changes_where_any_of_its_junctions_does(model: SPLICEVI):
    """From 0.9 to 0.1 of the first junction; each of several others takes up less than 0.5."""
    table = model.differential_splicing(
        groupby="kind", group1="b", group2="c", delta=0.5, n_samples_overall=100
    )
    first = firsts(model)
    several = table.groupby("event_id")["event_id"].transform("size").to_numpy() > 2
    assert (several & ~first).any()
    np.testing.assert_allclose(table.loc[first, "proba_ds"], 1.0)
    np.testing.assert_allclose(table.loc[several & ~first, "proba_ds"], 0.0)
    np.testing.assert_allclose(table["event_proba"], 1.0)
    largest = table.loc[first, "effect_size"].set_axis(table.loc[first, "event_id"])
    wanted = -largest.loc[table["event_id"]]
    np.testing.assert_allclose(table["event_effect"], wanted, rtol=1e-5)
