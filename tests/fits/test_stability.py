"""Many fits of each model: what is asked, what is kept, and what becomes of mishaps."""

from __future__ import annotations

import numpy as np
import pytest

import vivace
from model_table import CASES
from vivace.errors import (
    InvalidArgumentError,
    MissingKeyError,
    ModelFileError,
    TrainingError,
    UnsupportedError,
)
from vivace.fits import side_by_side
from vivace.fits.one import run_fit
from vivace.fits.plan import seeds
from vivace.fits.verdict import of_correction


def built(name: str):
    case = CASES[name]
    return case.build(case.data()), {**case.train, "max_epochs": 1}


def quick(model, train, **options):
    given = {"n_fits": 2, "train_kwargs": train, "n_processes": 1, "progress": False, **options}
    return vivace.stability(model, **given)


@pytest.fixture
def scvi():
    return built("SCVI")


@pytest.mark.parametrize("name", CASES)
def test_every_model_has_a_verdict_and_stays_as_it_is(name: str):
    model, train = built(name)
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    data = model.adata
    columns = set(data.obs.columns)
    found = quick(model, train)
    assert found.n_fits == 2
    assert found.verdict.startswith(f"2 fits of {name}")
    assert {"fits"} < found.tables().keys()
    assert found.fits.index.tolist() == [0, 1]
    assert not model.is_trained
    assert all((model.module.state_dict()[k] == v).all() for k, v in before.items())
    assert set(data.obs.columns) == columns


def test_a_trained_model_is_fitted_again_as_it_was():
    model, train = built("ContrastiveVI")
    model.train(**train, batch_size=30, progress=False)
    found = vivace.stability(model, n_fits=2, n_processes=1, progress=False)
    assert found.fits["epochs"].tolist() == [1, 1]
    assert found.salient_genes is not None
    # the seed of the model is one of them, so that one of the fits is this one
    assert found.fits.loc[0, "held_out"] == pytest.approx(
        model.history["elbo_validation"].iloc[-1, 0], rel=1e-6
    )


def test_fits_differ_by_their_seeds_and_are_the_same_again(scvi):
    model, train = scvi
    one, two = (quick(model, train, questions=["neighbours"], seed=5) for _ in range(2))
    assert one.fits["held_out"].nunique() == 2
    assert one.fits["held_out"].tolist() == two.fits["held_out"].tolist()
    np.testing.assert_array_equal(one.latent, two.latent)


def test_processes_change_no_number(scvi, tmp_path):
    model, train = scvi
    alone = quick(model, train, questions=["neighbours"])
    beside = quick(model, train, questions=["neighbours"], n_processes=2)
    np.testing.assert_allclose(alone.fits["held_out"], beside.fits["held_out"], rtol=1e-6)


def test_yardsticks_have_no_batches_or_shuffled_ones(scvi):
    model, train = scvi
    found = quick(model, train, questions=["mixing", "correction"])
    assert found.correction.index.tolist() == ["as_asked", "no_batch", "shuffled_batch"]
    assert found.n_fits == 2
    assert found.correction["inner_structure"].between(0, 1).all()


def test_what_is_there_is_not_made_again(scvi, tmp_path, monkeypatch):
    model, train = scvi
    options = {"questions": ["neighbours"], "out": tmp_path / "study"}
    first = quick(model, train, **options)
    made = []

    def counting(plan, fit):
        made.append(fit.seed)
        return run_fit(plan, fit)

    monkeypatch.setattr("vivace.fits.one.run_fit", counting)
    more = quick(model, train, n_fits=4, **options)
    assert made == [2, 3]
    assert more.fits["held_out"].tolist()[:2] == first.fits["held_out"].tolist()


def test_a_study_that_was_stopped_goes_on(scvi, tmp_path, monkeypatch):
    model, train = scvi
    options = {"questions": ["neighbours"], "out": tmp_path / "study", "n_fits": 3}
    made = []

    def stopping(plan, fit):
        if len(made) == 1:
            raise KeyboardInterrupt
        made.append(fit.seed)
        return run_fit(plan, fit)

    monkeypatch.setattr("vivace.fits.one.run_fit", stopping)
    with pytest.raises(KeyboardInterrupt):
        quick(model, train, **options)
    monkeypatch.setattr(
        "vivace.fits.one.run_fit", lambda p, f: made.append(f.seed) or run_fit(p, f)
    )
    assert quick(model, train, **options).n_fits == 3
    assert made == [0, 1, 2]


def test_a_damaged_answer_is_made_again(scvi, tmp_path):
    model, train = scvi
    options = {"questions": ["neighbours"], "out": tmp_path / "study"}
    first = quick(model, train, **options)
    (tmp_path / "study/fits/as_asked-000-seed-0.npz").write_bytes(b"PK\x03\x04 cut short")
    assert quick(model, train, **options).fits["held_out"].equals(first.fits["held_out"])


def test_fits_of_something_else_are_not_mixed_in(scvi, tmp_path):
    model, train = scvi
    options = {"questions": ["neighbours"], "out": tmp_path / "study"}
    quick(model, train, **options)
    with pytest.raises(InvalidArgumentError, match="their training"):
        quick(model, {**train, "lr": 0.1}, **options)
    model.adata.X.data[0] += 1
    with pytest.raises(InvalidArgumentError, match="their counts"):
        quick(model, train, **options)
    (tmp_path / "study/plan.json").write_text("{")
    with pytest.raises(ModelFileError, match="cannot be read"):
        quick(model, train, **options)


def test_a_folder_of_something_else_is_left_alone(scvi, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InvalidArgumentError, match="something else"):
        quick(*scvi, out=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_fit_that_fails_is_told_and_the_others_count(scvi, monkeypatch):
    model, train = scvi

    def failing(plan, fit):
        if fit.seed == 1:
            raise TrainingError("the loss is not finite")
        return run_fit(plan, fit)

    monkeypatch.setattr("vivace.fits.one.run_fit", failing)
    found = quick(model, train, n_fits=3, questions=["neighbours"])
    assert found.n_fits == 2
    assert found.failed == {1: "TrainingError: the loss is not finite"}
    assert "1 more fit" in found.verdict
    with pytest.raises(TrainingError, match=r"1 of the fits.*the loss is not finite"):
        quick(model, train, n_fits=2, questions=["neighbours"])


def test_a_process_that_is_killed_costs_no_fit(scvi, monkeypatch):
    model, train = scvi
    monkeypatch.setattr(side_by_side, "_parallel", lambda plan, fits, n: iter(()))
    assert quick(model, train, n_processes=2, questions=["neighbours"]).n_fits == 2


def test_all_fits_are_made_side_by_side(scvi, monkeypatch):
    """Fits are handed out as others end, and none is left over to be made alone at the end."""

    def handed_out_one_by_one(plan, fits, n):
        for fit in fits:
            yield fit, {"side by side": True}, ""

    monkeypatch.setattr(side_by_side, "_parallel", handed_out_one_by_one)
    fits = seeds(6, start=0)
    outcomes = list(side_by_side.side_by_side(None, fits, 2))
    assert [fit for fit, _, _ in outcomes] == fits
    assert all(answers == {"side by side": True} for _, answers, _ in outcomes)


def test_no_more_processes_than_memory_allows(scvi, monkeypatch):
    monkeypatch.setattr(side_by_side, "free_memory", lambda: 10**6)
    plan = type("Plan", (), {"adata": scvi[0].adata})
    assert side_by_side.how_many(plan) == 1


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"n_fits": 1}, InvalidArgumentError, "n_fits=1"),
        ({"n_fits": 2.5}, InvalidArgumentError, "n_fits=2.5"),
        ({"share": 1.0}, InvalidArgumentError, "share=1.0"),
        ({"labels_key": "typ"}, MissingKeyError, 'labels_key="typ"'),
        ({"groupby": "typ"}, MissingKeyError, 'groupby="typ"'),
        ({"questions": ["genes"]}, InvalidArgumentError, "questions='genes'"),
        ({"questions": ["proportions"]}, UnsupportedError, "proportions"),
        ({"questions": []}, InvalidArgumentError, "questions is empty"),
        ({"train_kwargs": {"seed": 1}}, InvalidArgumentError, '"seed" belongs to one fit.*seed='),
        ({"train_kwargs": {"resume": "a.ckpt"}}, InvalidArgumentError, '"resume" belongs to one'),
    ],
)
def test_mistakes_are_said_before_anything_is_fitted(scvi, options, error, words):
    with pytest.raises(error, match=words):
        quick(*scvi, **options)


def test_a_model_without_data_needs_them(scvi, tmp_path):
    model, train = scvi
    model.save(tmp_path / "model")
    alone = vivace.load(tmp_path / "model")
    with pytest.raises(InvalidArgumentError, match="pass adata="):
        quick(alone, train)
    assert quick(alone, train, adata=model.adata, questions=["neighbours"]).n_fits == 2


def test_each_fit_of_a_share_learns_from_other_cells(scvi):
    model, train = scvi
    found = quick(model, train, share=0.5, questions=["neighbours"])
    assert len(found.cells) == model.adata.n_obs
    spots, spot_train = built("DestVI")
    with pytest.raises(UnsupportedError, match="share"):
        quick(spots, spot_train, share=0.5)


def test_rare_and_missing_kinds(scvi):
    model, train = scvi
    kinds = np.array(["common"] * 117 + ["rare"] * 2 + [None], dtype=object)
    model.adata.obs["kind"] = kinds
    found = quick(model, train, labels_key="kind", questions=["labels", "differential"])
    assert found.labels["cells"].to_dict() == {"common": 117, "rare": 2}
    assert found.genes is None or set(found.genes["group"]) <= {"common"}


def test_the_correction_is_judged_in_words():
    import pandas as pd

    def table(mixing: float, inner: float) -> pd.DataFrame:
        kinds = ["as_asked", "no_batch", "shuffled_batch"]
        return pd.DataFrame(
            {"mixing": [mixing, 1.1, 1.1], "possible": 3.0, "inner_structure": [inner, 0.5, 0.4]},
            index=kinds,
        )

    assert "at no cost" in of_correction(table(2.5, 0.4))
    assert "removed 50%" in of_correction(table(2.5, 0.2))
    assert "still lie apart" in of_correction(table(1.3, 0.4))
