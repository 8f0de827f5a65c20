"""What the sections conclude from the tables, in corner cases first."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vivace.report.colours import COLOURS, MOST, SYMBOLS, categories
from vivace.report.plane import to_plane
from vivace.report.sections.contrast import contrast
from vivace.report.sections.differential import differential
from vivace.report.sections.glance import (
    generalises,
    glance,
    predictive_checks,
    settled,
    training_checks,
)
from vivace.report.sections.latent import latent, one_map
from vivace.report.sections.predictive import typical_ratio
from vivace.report.sections.training import training
from vivace.runs import Run


def series(values) -> pd.Series:
    return pd.Series(np.asarray(values, dtype=float))


@pytest.mark.parametrize(
    ("loss", "good"),
    [
        pytest.param(np.r_[np.linspace(20, 10, 50), np.full(50, 10.0)], True, id="flat at the end"),
        pytest.param(np.linspace(20, 10, 100), False, id="still falling"),
        pytest.param(np.linspace(10, 20, 100), True, id="rising is not improving"),
        pytest.param(np.linspace(-10, -20, 100), False, id="falling below zero"),
    ],
)
def test_settled(loss, good):
    check = settled(series(loss))
    assert check is not None
    assert check.good is good


def test_settled_looks_at_cells_kept_aside(make_run):
    """The training loss goes on falling while the model learns by heart: that is no reason to go on."""
    run = make_run()
    falling, flat = np.linspace(20, 10, 100), np.r_[np.linspace(20, 10, 50), np.full(50, 10.0)]
    epochs = pd.RangeIndex(100, name="epoch")
    table = pd.DataFrame({"elbo_train": falling, "elbo_validation": flat}, index=epochs)
    for columns, good in ((["elbo_train", "elbo_validation"], True), (["elbo_train"], False)):
        table[columns].to_csv(run / "tables" / "history.csv")
        check = training_checks(Run(run))[0]
        assert check.good is good
        assert ("kept aside" in check.text) is good


def test_a_loss_that_rose_did_not_fall():
    check = settled(series(range(100, 140)))
    assert check is not None
    assert check.text == "The loss did not fall over the last tenth of the epochs."


def test_one_of_a_thing_has_no_s(make_run):
    run = Run(make_run(n_cells=1, n_epochs=1))
    cards = glance(run).blocks[0].items
    assert cards[:2] == [("1", "cell"), ("50", "genes")]
    assert "training cells 1 time." in training(run).lead
    assert "(1 cell)" in latent(run).lead


def test_settled_says_nothing_about_a_few_epochs():
    assert settled(series([3, 2, 1])) is None


@pytest.mark.parametrize(
    ("loss", "good"),
    [
        pytest.param([12, 11, 10, 10.05], True, id="within one percent of the best"),
        pytest.param([12, 10, 11, 12], False, id="rose again"),
        pytest.param([-8, -10, -9], False, id="rose again below zero"),
        pytest.param([10, 10], True, id="flat"),
    ],
)
def test_generalises(loss, good):
    assert generalises(series(loss)).good is good


def test_predictive_checks_see_a_bad_model(make_run):
    run = make_run(n_genes=200)
    assert [check.good for check in predictive_checks(Run(run))] == [True, True, True]
    table = pd.read_csv(run / "tables" / "genes.csv", index_col=0)
    table["model_mean"] *= 2
    table["model_variance"] *= 3
    table["model_zero_fraction"] -= 0.1
    table.to_csv(run / "tables" / "genes.csv")
    assert [check.good for check in predictive_checks(Run(run))] == [False, False, False]


def test_the_typical_ratio_is_not_moved_by_a_gene_the_model_never_makes():
    assert typical_ratio(series([1, 1, 1, 1, 1]), series([1, 1, 1.2, 1.2, 0])) == 1


@pytest.mark.parametrize("n", [1, 2, 10, 11, MOST, MOST + 1, 100])
def test_categories_can_be_told_apart(n):
    values = pd.Series(np.repeat([f"type {i}" for i in range(n)], 2))
    groups = categories(values)
    looks = {(group.colour, group.marker) for group in groups}
    assert len(groups) == len(looks) == min(n, MOST)
    assert sorted(row for group in groups for row in group.rows) == list(range(2 * n))


def test_categories_are_ordered_by_size_and_missing_is_one_of_them():
    groups = categories(pd.Series(["b", "a", "a", None, "a", "b", np.nan, np.nan]))
    assert [(g.label, len(g.rows)) for g in groups] == [("a", 3), ("missing", 3), ("b", 2)]
    assert [g.colour for g in groups] == COLOURS[:3]
    assert {g.marker for g in groups} == {SYMBOLS[0][0]}


@pytest.mark.parametrize(
    ("shape", "name"),
    [((1, 3), "PC"), ((2, 5), "PC"), ((14, 3), "PC"), ((4, 2), "latent"), ((4, 1), "latent")],
)
def test_small_planes(shape, name):
    coordinates, found = to_plane(np.random.default_rng(0).normal(size=shape))
    assert found == name
    assert coordinates.shape == (shape[0], 2)
    assert np.isfinite(coordinates).all()


def test_the_map_keeps_groups_apart_and_is_reproducible():
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1], 20)
    points = rng.normal(size=(40, 5)) + 20 * groups[:, None]
    plane, name = to_plane(points)
    assert name == "t-SNE"
    assert np.array_equal(plane, to_plane(points)[0])
    centres = np.array([plane[groups == g].mean(axis=0) for g in (0, 1)])
    nearest = ((plane[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    assert np.array_equal(nearest, groups)


@pytest.mark.parametrize(
    ("values", "legend", "ramp"),
    [
        (["a", "b", "a", None], 3, False),
        ([1, 2, 1, 2], 2, False),
        ([0.5, 1.5, np.nan, 2.5], 0, True),
        ([True, False, True, True], 2, False),
    ],
)
def test_a_map_is_coloured_by_what_the_column_holds(values, legend, ramp):
    plane = np.random.default_rng(0).normal(size=(4, 2))
    figure = one_map(plane, pd.Series(values), np.arange(4), "column", "PC")
    assert len(figure.legend) == legend
    assert (figure.ramp is not None) is ramp


def test_cells_without_finite_latent_are_left_out_and_said_so(make_run):
    run = make_run(n_cells=10)
    table = pd.read_csv(run / "tables" / "latent.csv", index_col=0)
    table.loc["cell_0", "latent_0"] = np.nan
    table.to_csv(run / "tables" / "latent.csv")
    section = latent(Run(run))
    assert section is not None
    assert "9 of 10 cells" in section.lead


def test_two_latent_spaces_stand_side_by_side(make_run):
    run = make_run(n_cells=10)
    (run / "tables" / "salient.csv").write_bytes((run / "tables" / "latent.csv").read_bytes())
    conditions = "condition,n_cells,salient_separation,background_separation\n"
    (run / "tables" / "conditions.csv").write_text(
        f"{conditions}background,5,,\ntreated,5,0.9,0.5\n"
    )
    assert latent(Run(run)) is None
    section = contrast(Run(run))
    assert section is not None
    titles = [block.title for block in section.blocks if block.kind == "figure"]
    assert titles[:2] == ["Background, coloured by cell_type", "Salient, coloured by cell_type"]
    assert section.blocks[-1].rows == [["treated from background", "0.9", "0.5"]]
    (run / "tables" / "kinds.csv").write_text("column,background,salient\ncell_type,0.8,0.3\n")
    genes = "gene,group1,lfc_mean,proba_de\ngene_1,treated,1.5,0.99\ngene_2,treated,-0.5,0.6\n"
    (run / "tables" / "salient_genes.csv").write_text(genes)
    section = contrast(Run(run))
    assert section is not None
    both, treated = section.blocks[-2:]
    assert both.rows[-1] == ["cell_type", "0.3", "0.8"]
    assert "treated" in treated.caption
    assert treated.rows[0] == ["gene_1", "+1.50", "99 %"]
    assert treated.bars == [99.0, 60.0]


def test_training_without_held_out_cells_and_with_one_epoch(make_run):
    run = make_run(n_epochs=1)
    path = run / "tables" / "history.csv"
    table = pd.read_csv(path, index_col=0)
    table.drop(columns=[c for c in table if c.endswith("validation")]).to_csv(path)
    section = training(Run(run))
    assert section is not None
    assert [len(figure.legend) for figure in section.blocks] == [1, 1, 1]


def differential_run(make_run, **columns) -> Run:
    """Two groups; in "a" gene_2 changes most, gene_1 in few cells, gene_3 is down; "b" has none marked."""
    folder = make_run()
    table = pd.DataFrame(
        {
            "group1": ["a"] * 4 + ["b"] * 4,
            "proba_de": [1.0, 0.9, 0.9, 1.0, 0.2, 0.2, 0.1, 0.1],
            "lfc_median": [2.0, 2.5, 3.0, -5.0, 0.1, -0.1, 0.0, 0.2],
            "lfc_std": [0.5, 2.0, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0],
            "found": [True, True, True, True, False, False, False, False],
        },
        index=pd.Index([f"gene_{i % 4}" for i in range(8)], name="gene"),
    )
    table.assign(**columns).to_csv(folder / "tables" / "differential.csv")
    return Run(folder)


def test_genes_of_a_group_are_those_that_are_up_marked_ones_by_what_most_cells_reach(make_run):
    section = differential(differential_run(make_run))
    listing, _, first, second = section.blocks
    assert listing.rows == [["a", "gene_2, gene_0, gene_1", "4"], ["b", "gene_0, gene_3", "0"]]
    assert listing.bars == [100, 0]
    assert [first.title, second.title] == ["a against the rest", "b against the rest"]
    assert "4 of 4 genes are marked" in first.text


def test_no_table_no_section_and_nothing_found_is_fine(make_run):
    assert differential(Run(make_run())) is None
    section = differential(differential_run(make_run, found=False))
    assert section.blocks[0].bars == [0, 0]
