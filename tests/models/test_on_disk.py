"""Every model works with cells on disk as with those in memory."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from scipy import sparse

import vivace
from model_table import CASES
from vivace._mudata import columns_stay
from vivace.analysis.splicing import collect
from vivace.data import Cells, Loader, facts
from vivace.data.schema import read_schema
from vivace.errors import InvalidArgumentError, InvalidDataError, ModelFileError

ALONE = [name for name in CASES if name != "SPLICEVI"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(facts, "_known", {})


@pytest.fixture
def whole_is_never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrices on disk are not loaded by the way."""
    from vivace.data.sources import LazyMatrix

    refuse = lambda *_: pytest.fail("the whole matrix was asked for")  # noqa: E731
    monkeypatch.setattr(LazyMatrix, "__getitem__", refuse)
    monkeypatch.setattr(LazyMatrix, "__array__", refuse, raising=False)


def on_disk(data: Any, folder: Path, how: str) -> Any:
    data.write_h5ad(folder / "cells.h5ad")
    if how == "backed":
        return anndata.read_h5ad(folder / "cells.h5ad", backed="r")
    return vivace.open_cells(folder / "cells.h5ad")


@pytest.mark.parametrize("how", ["backed", "opened"])
@pytest.mark.parametrize("name", ALONE)
def test_a_model_answers_from_disk_what_it_answers_from_memory(
    name: str, how: str, tmp_path: Path, whole_is_never_read: None
):
    case = CASES[name]
    data = case.data()
    stored = on_disk(data, tmp_path, how)
    model = case.build(stored)
    model.train(max_epochs=2, progress=False, **case.train)
    model.save(tmp_path / "model")
    of_memory = vivace.load(tmp_path / "model", data)
    np.testing.assert_allclose(case.latent(model), case.latent(of_memory), rtol=1e-5, atol=1e-6)
    again = case.build(stored)
    again.train(max_epochs=2, progress=False, **case.train)
    np.testing.assert_array_equal(case.latent(again), case.latent(model))


def scvi_of(adata: Any) -> Any:
    vivace.SCVI.setup_anndata(adata, batch_key="batch")
    return vivace.SCVI(adata, n_hidden=16, n_latent=3)


def sorted_cells(n: int = 600) -> anndata.AnnData:
    adata = vivace.datasets.simulate("batches", n_cells=n, n_genes=30, n_batches=6)
    order = np.argsort(adata.obs["batch"].cat.codes.to_numpy(), kind="stable")
    return adata[order].copy()


class Stop(Exception):
    """Somebody pulled the plug."""


def on_steps(model: Any, act: Callable[[int], None]) -> Any:
    """The model, which calls ``act(number)`` before each of its steps."""
    step, taken = model.module.on_step, itertools.count()

    def first_act(kl_weight: float) -> None:
        act(next(taken))
        step(kl_weight)

    model.module.on_step = first_act
    return model


TRAIN = {"progress": False, "batch_size": 50}  # 540 training cells: 11 steps an epoch


@pytest.fixture
def small_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three minibatches a pool."""
    monkeypatch.setattr("vivace.data.sources.disk.POOL", (128, 128))
    monkeypatch.setattr("vivace.data.sources.disk.BLOCK", (8, 8))
    monkeypatch.setattr("vivace.data.sources.protocol.BLOCKS_IN_POOL", 16)


@pytest.mark.parametrize("minutes", [None, 1e-9])
def test_training_that_was_killed_goes_on_to_the_same_bits(
    tmp_path: Path, small_pools: None, minutes: float | None
):
    plan = {**TRAIN, "checkpoint_every_n_minutes": minutes}
    stored = on_disk(sorted_cells(), tmp_path, "opened")
    whole = scvi_of(stored)
    whole.train(max_epochs=4, **plan)

    def stop(step: int) -> None:
        if step == 27:
            raise Stop

    with pytest.raises(Stop):
        on_steps(scvi_of(stored), stop).train(max_epochs=4, checkpoint=tmp_path / "now", **plan)
    resumed = scvi_of(stored)
    resumed.train(max_epochs=4, resume=tmp_path / "now", **plan)
    for name, value in whole.module.state_dict().items():
        np.testing.assert_array_equal(value, resumed.module.state_dict()[name])


def test_a_file_that_changes_in_training_leaves_the_last_good_weights(
    tmp_path: Path, small_pools: None
):
    stored = on_disk(sorted_cells(), tmp_path, "opened")
    model, kept = scvi_of(stored), []

    def act(step: int) -> None:
        if step == 11:
            kept.append({k: v.clone() for k, v in model.module.state_dict().items()})
        if step == 13:
            path = tmp_path / "cells.h5ad"
            path.write_bytes(path.read_bytes())

    with pytest.raises(InvalidDataError, match=r"cells\.h5ad.* was changed while"):
        on_steps(model, act).train(max_epochs=5, **TRAIN)
    assert not model.module.training
    for name, value in model.module.state_dict().items():
        np.testing.assert_array_equal(value, kept[0][name])


def test_cells_of_several_files_train_as_one(tmp_path: Path, whole_is_never_read: None):
    adata = sorted_cells()
    paths = [tmp_path / "one.h5ad", tmp_path / "two.h5ad"]
    for path, part in zip(paths, (adata[:200], adata[200:]), strict=True):
        part.copy().write_h5ad(path)
    model = scvi_of(vivace.open_cells(paths))
    model.train(max_epochs=1, progress=False)
    of_memory = scvi_of(adata)
    of_memory.module.load_state_dict(model.module.state_dict())
    of_memory.is_trained = True
    np.testing.assert_allclose(
        model.get_latent_representation(), of_memory.get_latent_representation(), atol=1e-6
    )


def test_a_question_looks_at_the_file_but_does_not_open_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = scvi_of(on_disk(sorted_cells(200), tmp_path, "backed"))
    model.train(max_epochs=1, progress=False)
    refuse = lambda *_: pytest.fail("it was opened again")  # noqa: E731
    monkeypatch.setattr("vivace.data.sources.open.open_stored", refuse)
    model.get_latent_representation()


def test_questions_stream(tmp_path: Path, whole_is_never_read: None):
    adata = sorted_cells(200)
    stored = on_disk(adata, tmp_path, "opened")
    model = scvi_of(stored)
    model.train(max_epochs=1, progress=False)
    model.save(tmp_path / "model")
    same = vivace.load(tmp_path / "model", adata)
    for ask in (
        lambda m: m.get_normalized_expression(library_size=1e4).to_numpy(),
        lambda m: np.float64(m.get_elbo()),
        lambda m: m.differential_expression(groupby="batch", mode="vanilla")["raw_mean1"],
        lambda m: m.get_latent_representation(indices=[7, 199, 7]),
    ):
        answers = []
        for each in (model, same):
            torch.manual_seed(0)
            answers.append(np.asarray(ask(each)))
        np.testing.assert_allclose(*answers, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("how", ["backed", "opened"])
def test_splicing_is_learned_from_disk_as_from_memory(
    tmp_path: Path, how: str, whole_is_never_read: None
):
    case = CASES["SPLICEVI"]
    data = case.data()
    with columns_stay():
        data.write_h5mu(tmp_path / "cells.h5mu")
        if how == "backed":
            stored = mudata.read_h5mu(tmp_path / "cells.h5mu", backed="r")
    if how == "opened":
        stored = vivace.open_cells(tmp_path / "cells.h5mu")
    model = case.build(stored)
    model.train(max_epochs=2, progress=False)
    model.save(tmp_path / "model")
    same = vivace.load(tmp_path / "model", data)
    assert [*stored.obs_names] == [*data.obs_names]
    np.testing.assert_allclose(case.latent(model), case.latent(same), rtol=1e-5, atol=1e-6)
    pd.testing.assert_frame_equal(
        *(
            m.differential_splicing(
                idx1=range(40), n_samples_overall=50, norm_splicing_function="dm_posterior_mean"
            )
            for m in (model, same)
        ),
        rtol=1e-4,
    )
    some = [5, 2]
    np.testing.assert_array_equal(
        model.get_junction_counts(indices=some).toarray(),
        same.get_junction_counts()[some].toarray(),
    )


def test_layers_of_splicing_are_checked_block_by_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("vivace.data.setup_mudata.ROWS_AT_ONCE", 50)
    data = CASES["SPLICEVI"].data()
    junctions = data.mod["splicing"]
    ratios = sparse.csr_matrix(junctions.X, dtype=np.float32)
    ratios.data[-1] = 17
    junctions.layers["ratios"] = ratios
    with columns_stay():
        data.write_h5mu(tmp_path / "cells.h5mu")
    stored = vivace.open_cells(tmp_path / "cells.h5mu")
    with pytest.raises(InvalidDataError, match='layer "ratios" is not the reads'):
        vivace.SPLICEVI.setup_mudata(stored, junc_ratio_layer="ratios")


def test_held_out_cells_are_drawn_from_everywhere_and_passed_over_in_the_order_of_the_file(
    tmp_path: Path,
):
    adata = sorted_cells()
    model, of_memory = scvi_of(on_disk(adata, tmp_path, "opened")), scvi_of(adata)
    for each in (model, of_memory):
        each.train(max_epochs=1, progress=False)
    np.testing.assert_array_equal(model.validation_indices, of_memory.validation_indices)
    studies = adata.obs["batch"].iloc[model.validation_indices]
    assert studies.nunique() == adata.obs["batch"].nunique()
    rows = np.array([5, 2, 9])
    assert model._cells().in_reading_order(rows).tolist() == [2, 5, 9]
    assert of_memory._cells().in_reading_order(rows) is rows


def test_new_cells_on_disk_are_mapped_as_those_in_memory(tmp_path: Path, whole_is_never_read: None):
    adata = sorted_cells(300)
    reference = scvi_of(adata[:200].copy())
    reference.train(max_epochs=2, progress=False)
    new = adata[200:].copy()[:, [*range(29, 4, -1)]].copy()  # another order, and five genes less
    found = []
    for query in (new, on_disk(new, tmp_path, "opened")):
        prepared = vivace.SCVI.prepare_query_anndata(query, reference)
        mapped = vivace.SCVI.load_query_data(prepared, reference)
        mapped.train(max_epochs=1, progress=False)
        mapped.module.load_state_dict((found[0] if found else mapped).module.state_dict())
        found.append(mapped)
    np.testing.assert_allclose(*(m.get_latent_representation() for m in found), atol=1e-6)


def test_cells_on_disk_are_minified(tmp_path: Path, whole_is_never_read: None):
    model = scvi_of(on_disk(sorted_cells(200), tmp_path, "opened"))
    model.train(max_epochs=1, progress=False)
    latent = model.get_latent_representation()
    model.minify_adata()
    np.testing.assert_allclose(model.get_latent_representation(), latent, atol=1e-6)


def test_a_pass_over_a_file_holds_a_pool_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    n = 30_000
    counts = sparse.random_array((n, 100), density=0.2, format="csr", dtype=np.float32)
    counts.data[:] = 1
    stored = on_disk(anndata.AnnData(sparse.csr_matrix(counts)), tmp_path, "opened")
    monkeypatch.setattr("vivace.data.sources.disk.POOL", (1024, 1024))
    monkeypatch.setattr("vivace.data.sources.disk.VALUES_AT_ONCE", 1 << 14)
    vivace.SCVI.setup_anndata(stored)
    loader = Loader(Cells(stored, read_schema(stored, "SCVI")), np.arange(n), 128, shuffle=True)
    next(loader.epoch(0))
    tracemalloc.start()
    n_cells = sum(len(batch["X"]) for batch in loader.epoch(1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n_cells == 30_080  # full minibatches
    assert peak < counts.nnz * 8 / 3


@pytest.mark.parametrize("how", ["memory", "opened"])
def test_states_go_to_a_file_range_by_range(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
):
    adata = sorted_cells(300)
    model = scvi_of(adata if how == "memory" else on_disk(adata, tmp_path, how))
    model.train(max_epochs=1, progress=False)
    ranges, out = [], tmp_path / "latent.npy"
    ask = model._loader
    monkeypatch.setattr("vivace.models.questions.ranges.CELLS_AT_ONCE", 128)
    monkeypatch.setattr(model, "_loader", lambda *a: (ranges.append(len(a[1])), ask(*a))[1])
    for options in ({}, {"give_mean": False}, {"indices": np.arange(299, 99, -1)}):
        with monkeypatch.context() as plain:
            plain.setattr(model, "_loader", ask)
            expected = model.get_latent_representation(**options, batch_size=64)
        ranges.clear()
        found = model.get_latent_representation(**options, batch_size=64, out=out)
        assert max(ranges) == 128
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(np.load(out), found)


def test_a_file_of_states_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = scvi_of(sorted_cells(300))
    model.train(max_epochs=1, progress=False)
    out = tmp_path / "latent.npy"
    out.write_text("what was there")
    monkeypatch.setattr("vivace.models.questions.ranges.CELLS_AT_ONCE", 100)
    asked, ask = itertools.count(), model._loader

    def fail_later(*words: Any) -> Any:
        if next(asked) == 2:
            raise OSError(28, "No space left on device")
        return ask(*words)

    monkeypatch.setattr(model, "_loader", fail_later)
    with pytest.raises(ModelFileError, match=r"latent\.npy: No space left"):
        model.get_latent_representation(out=out)
    assert [path.read_text() for path in tmp_path.glob("*latent*")] == ["what was there"]
    for wrong in ("latent.csv", 3, ""):
        with pytest.raises(InvalidArgumentError, match="out="):
            model.get_latent_representation(out=wrong)
    with pytest.raises(InvalidArgumentError, match="return_dist"):
        model.get_latent_representation(out=out, return_dist=True)


@pytest.mark.parametrize("ending", ["npy", "zarr"])
@pytest.mark.parametrize(
    ("name", "which"),
    [
        ("SCVI", {}),
        ("SysVI", {}),
        ("ContrastiveVI", {"representation_kind": "salient"}),
        ("ContrastiveVI", {"representation_kind": "background"}),
        ("SPLICEVI", {"modality": "joint"}),
        ("SPLICEVI", {"modality": "splicing"}),
    ],
)
def test_every_latent_space_goes_to_either_kind_of_file(
    name: str, which: dict, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("vivace.models.questions.ranges.CELLS_AT_ONCE", 50)
    model = CASES[name].build(CASES[name].data())
    model.is_trained = True
    model.module.eval()
    out = tmp_path / f"latent.{ending}"
    expected = model.get_latent_representation(**which)
    for _ in range(2):  # the second takes the place of the first
        found = model.get_latent_representation(**which, out=out)
        np.testing.assert_allclose(found[:], expected, rtol=1e-5, atol=1e-6)
    some = model.get_latent_representation(**which, indices=[7, 3], out=out)
    np.testing.assert_allclose(some[:], expected[[7, 3]], rtol=1e-5, atol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_folder_of_states_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("vivace.models.questions.ranges.CELLS_AT_ONCE", 50)
    model, out = scvi_of(sorted_cells(200)), tmp_path / "latent.zarr"
    model.is_trained = True
    kept = model.get_latent_representation(out=out)[:]
    asked, ask = itertools.count(), model._loader

    def fail_later(*words: Any) -> Any:
        if next(asked) == 2:
            raise OSError(28, "No space left on device")
        return ask(*words)

    monkeypatch.setattr(model, "_loader", fail_later)
    with pytest.raises(ModelFileError, match=r"latent\.zarr: No space left"):
        model.get_latent_representation(out=out)
    assert [path.name for path in tmp_path.iterdir()] == ["latent.zarr"]
    np.testing.assert_array_equal(zarr.open_array(out, mode="r")[:], kept)
    (tmp_path / "mine.zarr").mkdir()
    with pytest.raises(InvalidArgumentError, match=r"mine\.zarr.*is no zarr array"):
        model.get_latent_representation(out=tmp_path / "mine.zarr")


def test_splicing_is_written_whole_or_not_at_all(tmp_path: Path):
    out = tmp_path / "psi.npy"
    out.write_text("what was there")

    def blocks():
        yield np.zeros((2, 3), np.float32)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        collect(blocks(), (4, 3), out)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["what was there"]


def test_cells_without_names_train_and_answer_as_those_with(tmp_path: Path):
    sorted_cells(200).write_h5ad(tmp_path / "cells.h5ad")
    models = [scvi_of(vivace.open_cells(tmp_path / "cells.h5ad", names=n)) for n in (True, False)]
    for model in models:
        model.train(max_epochs=1, progress=False)
    np.testing.assert_array_equal(*(m.get_latent_representation() for m in models))
    tables = [m.get_normalized_expression(indices=[5, 2]) for m in models]
    assert tables[1].index.tolist() == [5, 2]
    np.testing.assert_array_equal(*tables)
