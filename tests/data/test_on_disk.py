"""Files that are damaged, changed, or kept in a way that cannot be read by cells."""

from __future__ import annotations

import os
import pickle
import shutil
import tracemalloc
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest
from anndata.io import sparse_dataset
from scipy import sparse

from forms_on_disk import STORED, h5, zarr_csr
from vivace.analysis.genes import variable_genes
from vivace.data import facts
from vivace.data.matrices import look_at, read_matrix
from vivace.data.sources import DiskSource, hold, on_disk, open_source
from vivace.data.sources.disk import Part, joined
from vivace.data.sources.protocol import Rows
from vivace.errors import FractionalCountsWarning, InvalidDataError, VivaceWarning

RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(0.3, (60, 8)).astype(np.float32)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(facts, "_known", {})
    return tmp_path / "cache"


@pytest.fixture(params=STORED)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> DiskSource:
    return open_source(STORED[request.param](COUNTS, tmp_path / "x"))


def all_of(source: DiskSource) -> np.ndarray:
    found = source.read(np.arange(source.shape[0]))
    if found.dense is not None:
        return found.dense
    return sparse.csr_array((found.data, found.indices, found.indptr), found.shape).toarray()


# what a file may hold ---------------------------------------------------------------------------


def test_a_matrix_kept_by_genes_is_refused_with_the_way_out(tmp_path: Path):
    with pytest.raises(InvalidDataError, match=r"kept by genes \(CSC\).*tocsr"):
        open_source(h5(sparse.csc_matrix(COUNTS), tmp_path / "x"))


def test_entries_stored_twice_are_summed_as_in_memory(tmp_path: Path):
    twice = sparse.csr_matrix(
        (np.array([200, 100, 5, 6], "u1"), [1, 1, 2, 0], [0, 2, 4]), shape=(2, 3)
    )
    found = open_source(h5(twice, tmp_path / "x")).read(np.arange(2))
    assert found.data.tolist() == [300, 6, 5]
    assert found.indices.tolist() == [1, 0, 2]
    assert found.indptr.tolist() == [0, 1, 3]


def test_row_pointers_of_64_bits_and_more_values_than_32_bits_count(tmp_path: Path):
    many = 2**31 + 7  # a file of holes: values that were never written take no place
    with h5py.File(tmp_path / "x", "w") as file:
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        group.attrs["shape"] = (3, 9)
        for name, kind in (("data", "f4"), ("indices", "i4")):
            made = group.create_dataset(name, (many,), kind, chunks=(1 << 16,))
            made[-3:] = [1, 2, 3]
        group["indptr"] = np.array([0, many - 3, many - 1, many])
    with h5py.File(tmp_path / "x") as file:
        found = open_source(sparse_dataset(file["X"])).read(np.array([2, 1]))
    assert found.data.tolist() == [3, 1, 2]
    assert found.indptr.tolist() == [0, 1, 3]


def test_a_dense_matrix_larger_than_memory_is_read_some_rows_at_a_time(tmp_path: Path):
    n, genes = 1 << 22, 20_000  # 320 GB, of holes
    with h5py.File(tmp_path / "x", "w") as file:
        made = file.create_dataset("X", (n, genes), "f4", chunks=(16, genes))
        made[n - 1, 7] = 3
    with h5py.File(tmp_path / "x") as file:
        source = open_source(file["X"])
        assert source.layout.pool <= 1024
        tracemalloc.start()
        found = source.read(np.array([n - 1, 5, n // 2]))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (found.indptr.tolist(), found.indices.tolist()) == ([0, 1, 1, 1], [7])
    assert peak < 10 << 20


def test_text_is_refused(tmp_path: Path):
    with h5py.File(tmp_path / "x", "w") as file:
        file["X"] = np.array([[b"a"]])
        with pytest.raises(InvalidDataError, match="numeric"):
            open_source(file["X"])


# damage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("array", ["data", "indices"])
@pytest.mark.parametrize("shards", [None, 4])
def test_missing_chunks_are_an_error_and_not_zeros(tmp_path: Path, array: str, shards: int | None):
    zarr_csr(COUNTS, tmp_path / "x", 3, shards)
    (tmp_path / "x" / "X" / array / "c" / "1").unlink()
    with pytest.raises(InvalidDataError, match=rf"x.*chunks of .*{array} are missing"):
        open_source(sparse_dataset(reopened(tmp_path / "x")["X"]))


def reopened(path: Path):
    import zarr

    return zarr.open_group(path, mode="r")


def test_row_pointers_that_are_no_longer_there_are_an_error(tmp_path: Path):
    zarr_csr(COUNTS, tmp_path / "x", 3)
    (tmp_path / "x" / "X" / "indptr" / "c" / "3").unlink()
    with pytest.raises(InvalidDataError, match="row pointers of /X contradict"):
        open_source(sparse_dataset(reopened(tmp_path / "x")["X"]))


def test_a_column_beyond_the_last_is_an_error(tmp_path: Path):
    h5(sparse.csr_matrix(COUNTS), tmp_path / "x").group.file.close()
    with h5py.File(tmp_path / "x", "r+") as file:
        file["X/indices"][7] = 99
    held = sparse_dataset(h5py.File(tmp_path / "x")["X"])
    with pytest.raises(InvalidDataError, match="beyond its 8"):
        open_source(held).read(np.arange(60))


def test_a_file_that_changes_while_it_is_read_is_named(stored: DiskSource, tmp_path: Path):
    stored.read(np.arange(3))
    for path in [tmp_path / "x", *(tmp_path / "x").rglob("*")]:
        os.utime(path, (1, 1))
    with pytest.raises(InvalidDataError, match=r'x" was changed while it was in use'):
        stored.read(np.arange(3))


def test_a_file_that_is_truncated_or_gone_while_it_is_read_is_named(
    stored: DiskSource, tmp_path: Path
):
    place = tmp_path / "x"
    if place.is_file():
        os.truncate(place, place.stat().st_size // 2)
    else:
        shutil.rmtree(place)
    with pytest.raises(InvalidDataError, match="x"):
        stored.read(np.arange(60))


# reading ----------------------------------------------------------------------------------------


def test_rows_are_read_in_pieces_whatever_lies_between(
    stored: DiskSource, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("vivace.data.sources.disk.VALUES_AT_ONCE", 12)
    rows = np.array([59, 0, 5, 6, 41])
    found = hold(stored, rows)
    np.testing.assert_array_equal(all_of(HeldAsSource(found, rows)), COUNTS[rows])
    np.testing.assert_array_equal(all_of(stored), COUNTS)


class HeldAsSource:
    """Held rows under numbers from 0 on."""

    def __init__(self, held, rows):
        self.held, self.rows, self.shape = held, rows, (len(rows), held.shape[1])

    def read(self, at):
        return self.held.read(self.rows[at])


def test_a_source_is_handed_to_another_process_as_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for kind in ("h5ad csr", "zarr sharded csr", "h5ad dense"):
        path = tmp_path / kind
        path.mkdir()
        monkeypatch.chdir(path)
        source = open_source(STORED[kind](COUNTS, path / "x.h5ad"), np.array([3, 1]))
        handed = pickle.dumps(source)
        assert len(handed) < 2000
        np.testing.assert_array_equal(all_of(pickle.loads(handed)), COUNTS[:, [3, 1]])


def test_rows_that_are_not_held_are_read(stored: DiskSource):
    held = hold(stored, np.array([4, 9]))
    rows = np.array([9, 50])
    np.testing.assert_array_equal(all_of(HeldAsSource(held, rows)), COUNTS[rows])


def test_a_read_takes_no_more_memory_than_what_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("vivace.data.sources.disk.VALUES_AT_ONCE", 1 << 15)
    n = 30_000
    large = sparse.random_array((n, 200), density=0.2, format="csr", dtype=np.float32)
    source = open_source(h5(sparse.csr_matrix(large), tmp_path / "x"), np.arange(2))
    source.read(np.array([0]))
    scattered = np.arange(0, n, 10)
    tracemalloc.start()
    source.read(scattered)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    whole = large.nnz * 8
    assert peak < whole / 4


def test_more_than_an_answer_can_hold_is_a_sentence():
    long = Rows((1, 9), np.empty(0, "f4"), np.empty(0, "i4"), np.array([0, 2**31 - 2]))
    with pytest.raises(InvalidDataError, match="ask for fewer"):
        joined([long, long], (2, 9), dense=False)


# facts ------------------------------------------------------------------------------------------


def backed(values: np.ndarray, folder: Path, name: str = "a") -> anndata.AnnData:
    obs_names = [f"c{i}" for i in range(len(values))]
    adata = anndata.AnnData(sparse.csr_matrix(values))
    adata.obs_names = obs_names
    adata.write_h5ad(folder / f"{name}.h5ad")
    return anndata.read_h5ad(folder / f"{name}.h5ad", backed="r")


def test_the_facts_of_a_file_are_those_of_its_values(stored: DiskSource):
    found = look_at(stored)
    values = COUNTS[COUNTS != 0] if not stored.dense else COUNTS
    assert found.largest == COUNTS.max()
    assert found.whole
    assert found.empty == (COUNTS.sum(1) == 0).sum()
    assert values.size


def test_a_second_look_reads_nothing(stored: DiskSource, monkeypatch: pytest.MonkeyPatch, cache):
    found = look_at(stored)
    assert [*cache.rglob("*.json")]
    monkeypatch.setattr(facts, "_known", {})  # another session
    monkeypatch.setattr(Part, "read", lambda *_: pytest.fail("it was read again"))
    assert look_at(stored) == found


def test_a_file_that_was_written_anew_is_looked_at_again(tmp_path: Path):
    assert look_at(open_source(h5(sparse.csr_matrix(COUNTS), tmp_path / "x"))).whole
    (tmp_path / "x").unlink()
    assert not look_at(open_source(h5(sparse.csr_matrix(COUNTS / 2), tmp_path / "x"))).whole


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_values_that_are_no_counts_are_refused_as_in_memory(tmp_path: Path, value: float):
    bad = COUNTS.copy()
    bad[40, 3] = value
    adata = backed(bad, tmp_path)
    with pytest.raises(InvalidDataError, match=r"NaN|infinite|negative"):
        read_matrix(adata, None, "whole")
    with pytest.raises(InvalidDataError, match=r"NaN|infinite|negative"):
        variable_genes(backed(bad, tmp_path, "b"), 3)


def test_fractions_warn_and_empty_cells_are_counted(tmp_path: Path):
    from vivace import SCVI

    some = COUNTS.copy()
    some[5] = 0
    n_empty = int((some.sum(1) == 0).sum())
    with pytest.warns(VivaceWarning, match=f"{n_empty} cells have no counts"):
        SCVI.setup_anndata(backed(some, tmp_path))
    with pytest.warns(FractionalCountsWarning):
        read_matrix(backed(some / 2, tmp_path, "half"), None, "whole")


def test_genes_are_chosen_as_in_memory_and_in_the_same_pass_as_the_facts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(facts, "ROWS_AT_ONCE", 7)
    adata = backed(COUNTS, tmp_path)
    expected = variable_genes(adata.to_memory(), 3)
    adata = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    np.testing.assert_array_equal(variable_genes(adata, 3), expected)
    monkeypatch.setattr(Part, "read", lambda *_: pytest.fail("it was read again"))
    assert read_matrix(adata, None, "whole")[1].largest == COUNTS.max()


def test_what_is_known_of_some_genes_is_not_taken_for_all(tmp_path: Path):
    import vivace

    backed(COUNTS, tmp_path)
    least = COUNTS.max(axis=0).argmin()
    few = vivace.open_cells(tmp_path / "a.h5ad", genes=[str(least)])
    variable_genes(few, 1)
    assert look_at(vivace.open_cells(tmp_path / "a.h5ad").X.source()).largest == COUNTS.max()


def test_counts_of_raw_are_chosen_by_name_without_reading(tmp_path: Path):
    full = anndata.AnnData(sparse.csr_matrix(COUNTS))
    full.obs_names = [f"c{i}" for i in range(60)]
    few = full[:, ["5", "2"]].copy()
    few.raw = full
    few.write_h5ad(tmp_path / "a.h5ad")
    adata = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    source, _ = read_matrix(adata, "raw", "whole")
    np.testing.assert_array_equal(all_of(source), COUNTS[:, [5, 2]])


def test_memory_is_told_from_disk():
    assert on_disk(COUNTS) is None
    assert on_disk(sparse.csr_matrix(COUNTS)) is None
