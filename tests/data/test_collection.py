"""Files of cells opened as one object."""

from __future__ import annotations

import hashlib
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import vivace
from vivace.data import facts
from vivace.data.checks import are_unique
from vivace.data.collection import choose_genes
from vivace.data.matrices import read_matrix
from vivace.data.selection import names_digest
from vivace.data.sources import LazyMatrix
from vivace.errors import InvalidArgumentError, InvalidDataError, MissingKeyError, VivaceWarning

RNG = np.random.default_rng(0)
GENES = [f"g{i}" for i in range(6)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(facts, "_known", {})


def cells(n: int, genes: list[str] = GENES, **obs) -> anndata.AnnData:
    counts = sparse.csr_matrix(RNG.poisson(1.0, (n, len(genes))).astype(np.float32))
    names = [f"c{i}" for i in range(n)]
    table = pd.DataFrame({"n": np.arange(n), **obs}, index=names)
    adata = anndata.AnnData(counts, obs=table, var=pd.DataFrame(index=genes))
    adata.layers["twice"] = counts * 2
    adata.obsm["place"] = np.arange(2.0 * n).reshape(n, 2)
    return adata


def opened(folder: Path, *parts: anndata.AnnData, **options):
    folder = folder / str(len([*folder.iterdir()]))  # one that is open cannot be written anew
    folder.mkdir()
    paths = [folder / f"{name}.h5ad" for name in "abc"[: len(parts)]]
    for path, part in zip(paths, parts, strict=True):
        part.write_h5ad(path)
    return vivace.open_cells(paths, **options)


def counts_of(adata, layer=None) -> np.ndarray:
    source, _ = read_matrix(adata, layer, "counts")
    rows = source.read(np.arange(adata.n_obs))
    return sparse.csr_array((rows.data, rows.indices, rows.indptr), rows.shape).toarray()


def test_one_file_is_what_anndata_reads_but_for_the_counts(tmp_path: Path):
    whole = cells(9, kind=pd.Categorical(list("aabbccaab")))
    adata = opened(tmp_path, whole)
    pd.testing.assert_frame_equal(adata.obs, whole.obs)
    pd.testing.assert_frame_equal(adata.var, whole.var)
    np.testing.assert_array_equal(counts_of(adata), whole.X.toarray())
    np.testing.assert_array_equal(counts_of(adata, "twice"), whole.layers["twice"].toarray())
    assert not adata.obsm
    np.testing.assert_array_equal(adata[3:5, [4, 1]].X.toarray(), whole[3:5, [4, 1]].X.toarray())
    mask = whole.obs["kind"] == "a"
    np.testing.assert_array_equal(adata[mask].to_memory().X.toarray(), whole[mask].X.toarray())
    np.testing.assert_array_equal(adata.to_memory().X.toarray(), whole.X.toarray())


@pytest.mark.filterwarnings("ignore:Writing zarr v2")  # of anndata before 0.13
def test_a_zarr_folder_is_opened_too(tmp_path: Path):
    whole = cells(9)
    whole.write_zarr(tmp_path / "a.zarr")
    np.testing.assert_array_equal(
        counts_of(vivace.open_cells(tmp_path / "a.zarr")), whole.X.toarray()
    )


def test_genes_of_several_files_are_matched_by_name(tmp_path: Path):
    one, two = cells(5), cells(4, ["g5", "g2", "new", "g0", "g1"])
    adata = opened(tmp_path, one, two)
    assert [*adata.var_names] == ["g0", "g1", "g2", "g5"]
    expected = [part[:, adata.var_names].X.toarray() for part in (one, two)]
    np.testing.assert_array_equal(counts_of(adata), np.concatenate(expected))
    few = opened(tmp_path, one, two, genes=["g5", "g0"])
    np.testing.assert_array_equal(counts_of(few), np.concatenate(expected)[:, [3, 0]])


def test_tables_of_cells_are_put_under_each_other(tmp_path: Path):
    one = cells(3, kind=pd.Categorical(["a", "b", "a"]))
    two = cells(2, kind=pd.Categorical(["c", "b"]))
    adata = opened(tmp_path, one, two, obsm=["place"])
    assert [*adata.obs["kind"]] == ["a", "b", "a", "c", "b"]
    assert adata.obs["kind"].dtype == "category"
    assert [*adata.obs["file"]] == ["a"] * 3 + ["b"] * 2
    assert [*adata.obs_names] == ["c0-a", "c1-a", "c2-a", "c0-b", "c1-b"]
    assert adata.obs["n"].dtype == one.obs["n"].dtype
    np.testing.assert_array_equal(
        adata.obsm["place"], np.concatenate([one.obsm["place"], two.obsm["place"]])
    )


def test_a_column_that_one_file_lacks_is_left_out_and_named(tmp_path: Path):
    with pytest.warns(VivaceWarning, match=r'"kind" \(not in b\.h5ad\)'):
        adata = opened(tmp_path, cells(3, kind=["a", "b", "a"]), cells(2))
    assert "kind" not in adata.obs
    with pytest.raises(MissingKeyError, match='batch_key="kind"'):
        vivace.SCVI.setup_anndata(adata, batch_key="kind")


def test_genes_are_chosen_without_reading(tmp_path: Path):
    whole = cells(5)
    whole.write_h5ad(tmp_path / "a.h5ad")
    for adata in (
        vivace.open_cells(tmp_path / "a.h5ad"),
        anndata.read_h5ad(tmp_path / "a.h5ad", backed="r"),  # its layers are in memory
    ):
        few = choose_genes(adata, ["g4", "g1"])
        assert isinstance(few.X, LazyMatrix)
        for layer in (None, "twice"):
            expected = whole[:, ["g4", "g1"]].to_df(layer).to_numpy()
            np.testing.assert_array_equal(counts_of(few, layer), expected)
        pd.testing.assert_frame_equal(few.obs, whole.obs)


def test_files_that_share_few_genes_warn_and_those_that_share_none_are_refused(tmp_path: Path):
    with pytest.warns(VivaceWarning, match=r"only 2 of the 6 genes of .*a\.h5ad"):
        opened(tmp_path, cells(3), cells(2, ["g1", "g0"]))
    with pytest.raises(
        InvalidDataError, match=r'a\.h5ad" \(with "g0"\) and .*b\.h5ad" \(with "ENSG1"\)'
    ):
        opened(tmp_path, cells(3), cells(2, ["ENSG1", "ENSG2"]))


def test_counts_of_raw_are_there(tmp_path: Path):
    parts = [cells(5), cells(4)]
    few = []
    for part in parts:
        del part.layers["twice"]
        few.append(part[:, ["g3", "g1"]].copy())
        few[-1].raw = part
    adata = opened(tmp_path, *few)
    expected = np.concatenate([part[:, ["g3", "g1"]].X.toarray() for part in parts])
    np.testing.assert_array_equal(counts_of(adata, "raw"), expected)


@pytest.mark.parametrize(
    ("paths", "error", "match"),
    [
        ([], InvalidArgumentError, "names no file"),
        ("nowhere.h5ad", MissingKeyError, "not found"),
        ("text.h5ad", InvalidDataError, r"text\.h5ad.*complete"),
        (["a.h5ad", "a.h5ad"], InvalidArgumentError, "twice"),
        (["a.h5mu", "a.h5ad"], InvalidArgumentError, "alone"),
        (3, InvalidArgumentError, "not a path"),
    ],
)
def test_mistakes_are_sentences(tmp_path: Path, paths, error, match: str):
    (tmp_path / "text.h5ad").write_text("no file of cells")
    cells(3).write_h5ad(tmp_path / "a.h5ad")
    if isinstance(paths, str):
        paths = tmp_path / paths
    elif isinstance(paths, list):
        paths = [tmp_path / path for path in paths]
    with pytest.raises(error, match=match):
        vivace.open_cells(paths)


def test_a_truncated_file_is_named(tmp_path: Path):
    cells(300).write_h5ad(tmp_path / "a.h5ad")
    contents = (tmp_path / "a.h5ad").read_bytes()
    (tmp_path / "a.h5ad").write_bytes(contents[: len(contents) // 2])
    with pytest.raises(InvalidDataError, match=r"a\.h5ad.*complete"):
        vivace.open_cells(tmp_path / "a.h5ad")


def test_genes_and_arrays_that_are_not_there_are_named(tmp_path: Path):
    with pytest.raises(MissingKeyError, match='genes="nope"'):
        opened(tmp_path, cells(3), genes=["nope"])
    with pytest.raises(MissingKeyError, match='obsm="X_umap"'):
        opened(tmp_path, cells(3), obsm=["X_umap"])


def test_names_are_read_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vivace.data.collection.NAMES_AT_ONCE", 4)
    whole = cells(9)
    whole.obs_names = [f"céll {i}" for i in range(9)]
    whole.obs.index.name = "barcode"
    pd.testing.assert_frame_equal(opened(tmp_path, whole).obs, whole.obs)


@pytest.mark.filterwarnings("ignore:Consolidated metadata", "ignore:Writing zarr v2")  # of anndata
@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
@pytest.mark.usefixtures("unsharded")
def test_cells_need_no_names(tmp_path: Path, ending: str):
    paths = [tmp_path / f"{name}.{ending}" for name in "ab"]
    for path, n in zip(paths, (3, 4), strict=True):
        getattr(cells(n), f"write_{ending}")(path)
    adata = vivace.open_cells(paths, names=False)
    assert adata.obs_names.equals(pd.RangeIndex(7))
    assert adata.obs["file"].tolist() == ["a"] * 3 + ["b"] * 4
    assert adata.obs["n"].tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert adata[2:5].obs["n"].tolist() == [2, 0, 1]
    read_matrix(adata, None, "whole")
    vivace.SCVI.setup_anndata(adata, batch_key="file")


def test_names_of_millions_are_told_apart_without_a_table_of_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vivace.data.checks.NAMES_AT_ONCE", 4)
    monkeypatch.setattr("vivace.data.selection.NAMES_AT_ONCE", 4)
    names = pd.Index([f"c{i}" for i in range(11)])
    assert are_unique(names, keep=False)
    assert not are_unique(names.append(names[:1]), keep=False)
    monkeypatch.setattr(pd.util, "hash_array", lambda part, **_: np.zeros(len(part), np.uint64))
    assert are_unique(names, keep=False)  # two of one number are looked at
    whole = hashlib.blake2b("\n".join(names).encode(), digest_size=8).hexdigest()
    assert names_digest(names) == whole
