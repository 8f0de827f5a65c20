"""Files of cells as one data object: tables in memory, counts on disk."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vivace._files import user_path
from vivace._mudata import columns_stay
from vivace.data.checks import are_unique
from vivace.data.selection import NAMES_AT_ONCE, name_positions
from vivace.data.sources import LazyMatrix
from vivace.data.sources.lazy import accepted_by_anndata
from vivace.data.sources.open import on_disk
from vivace.data.sources.stored import Place
from vivace.data.sources.stored import opened as opened_file
from vivace.errors import InvalidArgumentError, InvalidDataError, MissingKeyError, VivaceWarning

FEW_SHARED = 0.5
"""Share of a file's genes below which the others are likely named otherwise."""
FILE = "file"
"""Column of obs that says which file a cell comes from."""
PAIRED = ".h5mu"


def open_cells(
    paths: Any, *, genes: Any = None, obsm: Sequence[str] = (), names: bool = True
) -> Any:
    """Open files of cells without reading their counts.

    ``obs`` and ``var`` are read; ``X``, layers and ``raw`` stay on disk and are read as they are
    needed, a few tens of thousands of cells at a time. Every model takes the object as it takes one in
    memory. Do not write to a file while it is in use.

    Parameters
    ----------
    paths
        An .h5ad file or .zarr folder, or several whose cells are put under each other; or one .h5mu
        file. Matrices must be kept by cells (CSR or dense).
    genes
        Names of genes, or a mask of those that the files share, to keep; default all that every file
        has, in the order of the first.
    obsm
        Names of arrays of ``obsm`` to read into memory; default none, as they can be large.
    names
        Read the names of cells, which take some 75 bytes of memory each. Without, cells are numbered
        from 0 on, in the order of the files; not for .h5mu.

    Returns
    -------
    AnnData (of an .h5mu file, MuData). Of several files, ``obs`` has the columns that all have, and
    ``file`` besides; names of cells get the name of their file where two files share one.

    Raises
    ------
    MissingKeyError
        If a file, a gene or an array is not there.
    InvalidDataError
        If a file is damaged or not what its name says, files share no genes, or a matrix is kept by
        genes (CSC).

    Examples
    --------
    >>> import tempfile, vivace
    >>> path = tempfile.mkdtemp() + "/cells.h5ad"
    >>> vivace.datasets.simulate("batches", n_cells=60, n_genes=9).write_h5ad(path)
    >>> adata = vivace.open_cells(path)
    >>> adata.shape, adata.X.shape
    ((60, 9), (60, 9))
    >>> vivace.SCVI.setup_anndata(adata, batch_key="batch")
    """
    listed = (
        [paths] if isinstance(paths, str | Path) or not hasattr(paths, "__iter__") else [*paths]
    )
    if not listed:
        msg = "paths names no file; give one or several .h5ad or .zarr"
        raise InvalidArgumentError(msg)
    files = [user_path(path, "paths") for path in listed]
    accepted_by_anndata()
    if files[0].suffix == PAIRED:
        return _open_paired(files)
    opened = [_open(file, names=names) for file in files]
    cells = put_together(opened, genes, obsm, names=names)
    if not names:
        cells.obs.index = pd.RangeIndex(cells.n_obs)
    return cells


def choose_genes(adata: Any, genes: Any) -> Any:
    """An AnnData of some genes, by name or mask, whose matrices stay on disk where they are there."""
    lazy = {layer: on_disk(m) for layer, m in [(None, adata.X), *adata.layers.items()]}
    if all(matrix is None for matrix in lazy.values()):
        return adata[:, genes].copy()
    import anndata

    at = name_positions(genes, adata.var_names, "genes", "gene")
    assert at is not None
    chosen = {
        layer: (adata.X if layer is None else adata.layers[layer])[:, at]
        if matrix is None
        else matrix.choose(at)
        for layer, matrix in lazy.items()
    }
    return anndata.AnnData(
        chosen.pop(None, None),
        obs=adata.obs,
        var=adata.var.iloc[at],
        layers=chosen,
        obsm=dict(adata.obsm),
    )


@dataclass(frozen=True)
class Opened:
    """What is in a file: tables in memory, matrices on disk.

    Attributes
    ----------
    matrices
        Layer (None for ``X``) to matrix.
    raw
        Names and matrix of ``raw``, if the file has one.
    obsm
        ``f(name)`` reads an array of ``obsm``.
    """

    path: Path
    obs: pd.DataFrame
    var: pd.DataFrame
    matrices: dict[str | None, LazyMatrix]
    raw: tuple[pd.DataFrame, LazyMatrix] | None
    obsm: Callable[[str], np.ndarray]


def put_together(
    opened: Sequence[Opened], genes: Any = None, obsm: Sequence[str] = (), *, names: bool = True
) -> Any:
    """One AnnData of several files."""
    import anndata

    shared = shared_genes([file.var.index for file in opened], [file.path for file in opened])
    chosen = name_positions(genes, shared, "genes", "gene")
    kept = shared if chosen is None else shared[chosen]
    layers = reduce(lambda a, b: [k for k in a if k in b], [[*f.matrices] for f in opened])
    found = {layer: _under(opened, layer, kept) for layer in layers}
    arrays = {key: np.concatenate([file.obsm(key) for file in opened]) for key in obsm}
    obs, raw = joined_obs(opened, names=names), _joined_raw(opened)
    # names that occur twice are for the models to say; a table of them takes more than the names
    with anndata.settings.override(check_uniqueness=False):
        return anndata.AnnData(
            found.pop(None, None),
            obs=obs,
            var=opened[0].var.loc[kept] if len(kept) < len(opened[0].var) else opened[0].var,
            layers=found,
            obsm=arrays,
            raw=raw,
        )


def _under(opened: Sequence[Opened], layer: str | None, names: pd.Index) -> LazyMatrix:
    parts = [aligned(file.matrices[layer], file.var.index, names) for file in opened]
    return LazyMatrix([part for matrix in parts for part in matrix.parts])


def _joined_raw(opened: Sequence[Opened]) -> dict[str, Any] | None:
    raw = [file.raw for file in opened if file.raw is not None]
    if len(raw) < len(opened):
        return None
    names = shared_genes([var.index for var, _ in raw], [file.path for file in opened])
    parts = [p for var, matrix in raw for p in aligned(matrix, var.index, names).parts]
    return {"X": LazyMatrix(parts), "var": raw[0][0].loc[names]}


def aligned(matrix: LazyMatrix, have: pd.Index, want: pd.Index) -> LazyMatrix:
    """The columns of these names."""
    return matrix if have.equals(want) else matrix.choose(have.get_indexer(want))


def shared_genes(names: Sequence[pd.Index], paths: Sequence[Path]) -> pd.Index:
    """Names that all files have, in the order of the first.

    Raises
    ------
    InvalidDataError
        If there are none, or one file has a name twice.
    """
    if len(names) == 1:
        return names[0]
    for index, path in zip(names, paths, strict=True):
        if not index.is_unique:
            twice = index[index.duplicated()][0]
            msg = f'"{path}" has duplicate gene names (such as "{twice}"), so that genes cannot be matched'
            raise InvalidDataError(msg)
    shared = reduce(lambda a, b: a[a.isin(b)], names)
    if len(shared) == 0:
        other = next((i for i, n in enumerate(names) if not n.isin(names[0]).any()), 1)
        msg = (
            f'no gene is in every file: do "{paths[0]}" (with "{names[0][0]}") and "{paths[other]}" '
            f'(with "{names[other][0]}") use the same names?'
        )
        raise InvalidDataError(msg)
    for index, path in zip(names, paths, strict=True):
        if len(shared) < FEW_SHARED * len(index):
            msg = (
                f'only {len(shared)} of the {len(index)} genes of "{path}" are in every file; '
                "the others are left out"
            )
            warnings.warn(msg, VivaceWarning, stacklevel=4)
    return shared


def joined_obs(opened: Sequence[Opened], *, names: bool = True) -> pd.DataFrame:
    """Tables of cells under each other, with the columns that all have and one of the files."""
    if len(opened) == 1:
        return opened[0].obs
    columns = reduce(
        lambda a, b: [c for c in a if c in b], [[*file.obs.columns] for file in opened]
    )
    _warn_of_lost_columns(opened, columns)
    labels = labels_of([file.path for file in opened])
    sizes = [len(file.obs) for file in opened]
    index = opened[0].obs.index.append([file.obs.index for file in opened[1:]])
    if names and not are_unique(index, keep=False):
        suffix = np.repeat(np.array(labels, dtype=object), sizes)
        index = pd.Index(index.to_numpy(dtype=object) + "-" + suffix)
    values = {column: under_each_other([file.obs[column] for file in opened]) for column in columns}
    values[FILE] = pd.Categorical.from_codes(np.repeat(np.arange(len(sizes)), sizes), labels)
    return pd.DataFrame(values, index=index)


def _warn_of_lost_columns(opened: Sequence[Opened], kept: Sequence[str]) -> None:
    lost = {c: None for file in opened for c in file.obs.columns if c not in kept}
    without = [
        f'"{c}" (not in {next(f.path.name for f in opened if c not in f.obs)})' for c in lost
    ]
    if without:
        msg = f"columns of obs that not every file has are left out: {', '.join(without[:10])}"
        warnings.warn(msg, VivaceWarning, stacklevel=5)


def under_each_other(columns: Sequence[pd.Series]) -> Any:
    """Values of a column of several tables; categories that differ are put together."""
    if all(isinstance(column.dtype, pd.CategoricalDtype) for column in columns):
        return pd.api.types.union_categoricals(columns, ignore_order=True)
    return pd.concat(columns, ignore_index=True).array


def labels_of(paths: Sequence[Path]) -> list[str]:
    """A short name of each file, none twice.

    Examples
    --------
    >>> (
    ...     labels_of([Path("a/x.h5ad"), Path("b.zarr")]),
    ...     labels_of([Path("a/x.zarr"), Path("b/x.zarr")]),
    ... )
    (['x', 'b'], ['a/x.zarr', 'b/x.zarr'])
    """
    short = [path.stem for path in paths]
    if len(set(short)) == len(short):
        return short
    full = [str(path) for path in paths]
    if len(set(full)) < len(full):
        twice = next(name for name in full if full.count(name) > 1)
        msg = f'paths names "{twice}" twice'
        raise InvalidArgumentError(msg)
    return full


# one file ---------------------------------------------------------------------------------------


def _open(path: Path, *, names: bool = True) -> Opened:
    if not path.exists():
        msg = f'the file "{path}" was not found'
        raise MissingKeyError(msg)
    with _blamed(path):
        return _contents(opened_file(path), path, names=names)


def _blamed(path: Path) -> Any:
    return Place(str(path), "its tables").blamed()


def _contents(group: Any, path: Path, *, names: bool = True) -> Opened:
    from anndata.io import read_elem

    missing = [name for name in ("obs", "var") if name not in group]
    if missing:
        msg = (
            f'"{path}" has no "{missing[0]}"; save your cells with AnnData.write_h5ad or write_zarr'
        )
        raise InvalidDataError(msg)

    def array(name: str) -> np.ndarray:
        if f"obsm/{name}" not in group:
            msg = f'obsm="{name}" is not in "{path}"'
            raise MissingKeyError(msg)
        return np.asarray(read_elem(group[f"obsm/{name}"]))

    places: dict[str | None, str] = {None: "X"} if "X" in group else {}
    places |= {name: f"layers/{name}" for name in group.get("layers", ())}
    raw = None
    if "raw" in group and "X" in group["raw"]:
        raw = read_elem(group["raw/var"]), _matrix(group["raw/X"])
    return Opened(
        path,
        table_of_cells(group["obs"], names=names),
        read_elem(group["var"]),
        {layer: _matrix(group[place]) for layer, place in places.items()},
        raw,
        array,
    )


def table_of_cells(stored: Any, *, names: bool) -> pd.DataFrame:
    """``obs``, whose names are read some at a time, or stay where they are."""
    from anndata.io import read_elem

    if stored.attrs.get("encoding-version") != "0.2.0":  # of older releases of anndata
        table = read_elem(stored)
        return table if names else table.set_axis(nameless(len(table)))
    key = stored.attrs["_index"]
    own: Any = names_of(stored[key]) if names or not hasattr(stored[key], "shape") else stored[key]
    columns = {name: read_elem(stored[name]) for name in stored.attrs["column-order"]}
    index = (
        pd.Index(own, name=None if key == "_index" else key) if names else nameless(own.shape[0])
    )
    return pd.DataFrame(columns, index=index, columns=[*columns] or None)


def nameless(n: int) -> pd.Index:
    """One empty text for all, which anndata accepts as names where it would make texts of numbers."""
    return pd.Index(np.full(n, "", dtype=object))


def names_of(stored: Any) -> Any:
    """Names as Python's text; those of HDF5 some at a time, as they are bytes of as many before."""
    from anndata.io import read_elem

    if not (hasattr(stored, "asstr") and stored.dtype == object):
        return read_elem(stored)
    texts, found = stored.asstr(), np.empty(len(stored), dtype=object)
    for start in range(0, len(found), NAMES_AT_ONCE):
        found[start : start + NAMES_AT_ONCE] = texts[start : start + NAMES_AT_ONCE]
    return found


def _matrix(stored: Any) -> LazyMatrix:
    from anndata.io import sparse_dataset

    found = on_disk(sparse_dataset(stored) if hasattr(stored, "keys") else stored)
    assert found is not None
    return found


# several modalities -----------------------------------------------------------------------------


def _open_paired(files: Sequence[Path]) -> Any:
    if len(files) > 1:
        msg = f"paths names {len(files)} files; an {PAIRED} file is opened alone"
        raise InvalidArgumentError(msg)
    import mudata
    from anndata.io import read_elem

    path = files[0]
    if not path.exists():
        msg = f'the file "{path}" was not found'
        raise MissingKeyError(msg)
    with _blamed(path), ExitStack() as quiet:
        group = opened_file(path)
        parts = {name: put_together([_contents(group["mod"][name], path)]) for name in group["mod"]}
        quiet.enter_context(columns_stay())
        mdata = mudata.MuData(parts)
        obs = read_elem(group["obs"])
        if obs.index.equals(mdata.obs_names):
            mdata.obs = obs
        return mdata
