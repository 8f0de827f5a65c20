"""The model's own question: each with a run that passes and the same run with a planted failure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vivace.report.page import Check, Checks
from vivace.report.questions import answers
from vivace.report.questions.cells import best_mixing
from vivace.report.questions.data import data_checks
from vivace.report.sections.glance import close, glance
from vivace.report.sections.latent import WITHIN_GOOD, latent
from vivace.runs import Run

MakeRun = Callable[..., Path]


def edit(run: Path, name: str, **values: Any) -> None:
    """Change entries of a JSON file of a run."""
    path = run / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def levels(run: Path) -> dict[str, str]:
    return {check.title: check.level for check in answers(Run(run))}


def only(run: Path) -> Check:
    (check,) = answers(Run(run))
    return check


def advised(check: Check) -> bool:
    return check.good or len(check.advice) > 20


@pytest.mark.parametrize(
    ("salient", "background", "expected"),
    [
        (0.9, 0.55, ["good", "good"]),
        (0.9, 0.92, ["good", "bad"]),
        (0.9, 0.7, ["good", "look"]),
        (0.55, 0.55, ["bad", "good"]),
    ],
)
def test_contrastivevi_the_condition_is_salient_and_not_shared(
    make_run: MakeRun, salient: float, background: float, expected: list[str]
):
    run = make_run()
    (run / "tables" / "conditions.csv").write_text(
        "condition,n_cells,salient_separation,background_separation\n"
        f"background,5,,\nweak drug,5,0.99,0.5\ndrug,5,{salient},{background}\n"
    )
    checks = answers(Run(run))
    assert [check.level for check in checks] == expected
    assert all(map(advised, checks))
    edit(run, "tables/summary.json", groups=[])
    calm = glance(Run(run)).lead == "Nothing in this run asks for your attention."
    assert calm is (expected == ["good", "good"])


def test_a_run_that_fails_its_question_says_so_first(make_run: MakeRun):
    run = make_run()
    (run / "tables" / "conditions.csv").write_text(
        "condition,salient_separation,background_separation\ndrug,0.9,0.92\n"
    )
    section = glance(Run(run))
    assert "First of all: the background state still tells the condition." in section.lead
    _, own, other = section.blocks
    assert isinstance(own, Checks)
    assert isinstance(other, Checks)
    assert own.title == "What the model is for"


def kinds_run(make_run: MakeRun, share: float, before: float | None, **changes: Any) -> Path:
    run = make_run(n_cells=60, n_latent=2)
    found = {"key": "kinds", "column": "cell_type", "name": "of cells", "value": share}
    edit(run, "tables/summary.json", metrics=[{**found, "before": before}], **changes)
    return run


@pytest.mark.parametrize(
    ("share", "before", "level", "words"),
    [
        (0.9, 0.9, "good", "components of the data 90 %"),
        (0.9, None, "good", "chance gives"),
        (0.1, None, "bad", "10 % of cells"),
        (0.1, 0.12, "bad", "hardly tell them either"),
        (0.5, 0.5, "look", "hardly tell them either"),
        (0.75, 0.95, "look", "tell them better than the model"),
    ],
)
def test_kinds_are_found_or_a_word_says_what_to_do(make_run, share, before, level, words):
    check = only(kinds_run(make_run, share, before))
    assert check.level == level
    assert words in check.text + check.advice
    assert advised(check)


def test_figures_of_runs_before_they_had_keys_are_judged_too(make_run: MakeRun):
    run = make_run(n_cells=60, n_latent=2)
    name = "of cells have the cell_type of most of their 15 neighbours (mean over its groups)"
    edit(run, "tables/summary.json", metrics=[{"name": name, "value": 0.1, "share": True}])
    assert only(run).level == "bad"


@pytest.mark.parametrize(("value", "level"), [(2.9, "good"), (1.6, "look"), (1.1, "bad")])
def test_scvi_batches_mix(make_run: MakeRun, value: float, level: str):
    run = make_run(n_cells=300, n_latent=2)
    found = {"key": "mixing", "column": "batch", "name": "batch groups", "value": value}
    edit(run, "tables/summary.json", metrics=[found])
    assert only(run).level == level
    assert advised(only(run))


def test_batches_that_share_no_kind_are_not_asked_to_mix(make_run: MakeRun):
    run = make_run(n_cells=60, n_latent=2)
    path = run / "tables" / "latent.csv"
    table = pd.read_csv(path, index_col=0)
    table["obs:batch"] = "batch of " + table["obs:cell_type"]
    table.to_csv(path)
    found = [
        {"key": "kinds", "column": "cell_type", "name": "of cells", "value": 1.0},
        {"key": "mixing", "column": "batch", "name": "batch groups", "value": 1.0},
    ]
    edit(run, "tables/summary.json", metrics=found)
    assert levels(run) == {"Kinds of cells stay apart": "good"}


def test_best_mixing_weighs_unequal_batches():
    batch = pd.Series(["a"] * 30 + ["b"] * 10)
    assert best_mixing(batch, None) == pytest.approx(1 / (0.75**2 + 0.25**2))


def depth_run(make_run: MakeRun, moved: float) -> Path:
    run = make_run(n_cells=300, n_latent=3, names=["one kind", "other"])
    path = run / "tables" / "latent.csv"
    table = pd.read_csv(path, index_col=0)
    rng = np.random.default_rng(0)
    depth = rng.normal(3, 0.3, len(table))
    table["obs:counts per cell, log10"] = depth
    table["latent_0"] += moved * (depth - 3)
    table.to_csv(path)
    edit(run, "model.json", model="JointEmbeddingSCVI")
    found = {"key": "kinds", "column": "cell_type", "name": "of cells", "value": 1.0}
    edit(run, "tables/summary.json", metrics=[found])
    return run


@pytest.mark.parametrize(
    ("invariance", "level"), [(0.01, "good"), (0.2, "look"), (2.9, "bad"), (None, None)]
)
def test_joint_embedding_a_cell_keeps_its_place_when_it_is_thinned(make_run, invariance, level):
    run = depth_run(make_run, 0)
    path = run / "tables" / "history.csv"
    history = pd.read_csv(path, index_col=0)
    if invariance is not None:
        history["cco_invariance_train"] = invariance
    history.to_csv(path)
    found = [check for check in answers(Run(run)) if "thinned" in check.text]
    assert [check.level for check in found] == ([] if level is None else [level])
    assert all(map(advised, found))


@pytest.mark.parametrize(("moved", "level"), [(0, "good"), (30, "look")])
def test_joint_embedding_depth_does_not_move_cells(make_run: MakeRun, moved: float, level: str):
    checks = answers(Run(depth_run(make_run, moved)))
    assert checks[0].level == level
    assert "depth" in checks[0].text
    assert advised(checks[0])


def states_run(make_run: MakeRun, scale: float, depth: bool = False) -> Path:
    run = make_run(n_cells=200, n_latent=3, names=["T", "B"])
    path = run / "tables" / "latent.csv"
    table = pd.read_csv(path, index_col=0)
    states = scale * np.random.default_rng(0).normal(size=(len(table), 3))
    table[["latent_0", "latent_1", "latent_2"]] = states
    noise = np.random.default_rng(1).normal(size=len(table))
    table["obs:counts per cell, log10"] = states[:, 0] if depth else noise
    table.to_csv(path)
    edit(run, "model.json", model="CondSCVI")
    summary = json.loads((run / "tables" / "summary.json").read_text())
    settings = {**summary["settings"], "data": {"labels_key": "cell_type"}}
    edit(run, "tables/summary.json", settings=settings)
    return run


@pytest.mark.parametrize(
    ("scale", "depth", "expected"),
    [(1, False, ["good", "good"]), (0.01, False, ["bad", "good"]), (1, True, ["good", "look"])],
)
def test_condscvi_states_live_within_kinds(make_run, scale, depth, expected):
    checks = answers(Run(states_run(make_run, scale, depth)))
    assert [check.level for check in checks] == expected
    assert all(map(advised, checks))


def test_condscvi_has_captions_of_its_own(make_run: MakeRun):
    section = latent(Run(states_run(make_run, 1)))
    assert section is not None
    assert "within a kind" in section.lead
    maps = [block for block in section.blocks if block.kind == "figure" and block.ramp is None]
    assert {block.good for block in maps} == {WITHIN_GOOD}


SYSTEMS = "kind,n_cells,n_systems,systems_before,systems_after,kinds_before,kinds_after\n"


@pytest.mark.parametrize(
    ("after", "kinds", "expected"),
    [
        (1.7, 1.1, ["good", "good"]),
        (1.3, 1.1, ["look", "good"]),
        (1.02, 1.1, ["bad", "good"]),
        (1.7, 1.9, ["good", "bad"]),
    ],
)
def test_sysvi_mixing_is_judged_against_structure(make_run, after, kinds, expected):
    run = make_run()
    rows = f"all cells,90,2,1.0,{after},1.1,{kinds}\nT,60,2,1.0,{after},1.1,{kinds}\n"
    (run / "tables" / "integration.csv").write_text(SYSTEMS + rows)
    checks = answers(Run(run))
    assert [check.level for check in checks] == expected
    assert all(map(advised, checks))


BASELINES = "prediction,mae,log_likelihood_read\n"
USAGE = "row,event,junction,group,usage,observed,reads\n"


@pytest.mark.parametrize(
    ("junction", "group", "level"),
    [(-0.6, -0.5, "good"), (-0.6, -0.2, "look"), (-0.1, -0.1, "bad")],
)
def test_splicevi_beats_means(make_run: MakeRun, junction: float, group: float, level: str):
    run = make_run()
    rows = f"model,0.1,-0.3\njunction mean,0.2,{junction}\ngroup mean,0.2,{group}\n"
    (run / "tables" / "splicing_baselines.csv").write_text(BASELINES + rows)
    assert only(run).level == level
    assert advised(only(run))


@pytest.mark.parametrize(("observed", "level"), [(0.42, "good"), (0.6, "look"), (0.9, "bad")])
def test_splicevi_usage_lies_on_the_observed_ratios(make_run, observed: float, level: str):
    run = make_run()
    rows = f"0,e,j1,T,0.4,{observed},90\n1,e,j2,T,0.6,{1 - observed},90\n2,e,j1,B,0.9,,0\n"
    (run / "tables" / "splicing_usage.csv").write_text(USAGE + rows)
    assert only(run).level == level
    assert advised(only(run))


def test_destvi_most_types_without_support_are_grave(make_run: MakeRun):
    run = make_run()
    shares = pd.DataFrame({"B": [0.5, 0.5], "T": [0.5, 0.5]}, index=["s1", "s2"])
    shares.to_csv(run / "tables" / "proportions.csv", index_label="spot")
    for together, level in (([0.7, 0.6], "good"), ([0.7, 0.0], "look"), ([-0.1, 0.0], "bad")):
        markers = pd.DataFrame({"type": ["B", "T"], "gene": ["a", "b"], "together": together})
        markers.to_csv(run / "tables" / "markers.csv", index=False)
        assert only(run).level == level
        assert advised(only(run))


@pytest.mark.parametrize(("gap", "level"), [(0.02, "good"), (0.07, "look"), (0.3, "bad")])
def test_a_gap_of_seven_percent_is_not_close(gap: float, level: str):
    train = pd.Series([120.0, 100.0, 100.0])
    check = close(train, (1 + gap) * train)
    assert check is not None
    assert check.level == level


def test_facts_of_the_data_that_matter_are_said(make_run: MakeRun):
    run = make_run()
    edit(run, "tables/summary.json", groups=[{"key": "kind", "cells": {"T": 90, "B": 40}}])
    assert data_checks(Run(run)) == []
    groups = [{"key": "kind", "cells": {"T": 90, "B <&>": 3}}]
    edit(run, "tables/summary.json", groups=groups, fractions=0.97)
    whole, few = data_checks(Run(run))
    assert "no whole numbers" in whole.text
    assert "B <&> of kind (3 cells)" in few.text
    logs = {"counts_per_cell": {"median": 900}, "genes_per_cell": {"median": 611}}
    edit(run, "tables/summary.json", **logs)
    assert data_checks(Run(run))[0].level == "bad"
    edit(run, "model.json", model="SysVI")
    assert len(data_checks(Run(run))) == 1
