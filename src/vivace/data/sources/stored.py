"""One matrix in one file: rows of an .h5ad or .zarr, sparse or dense, read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy import sparse

from vivace.data.gather import columns_state, pick_columns
from vivace.data.sources.protocol import Rows
from vivace.errors import InvalidDataError
from vivace.kernels.linear import SPARSE_BELOW

SAMPLE = 1024
"""Rows that tell whether the zeros of a dense matrix are worth skipping."""
IN_ORDER, OUT_OF_ORDER, OUT_OF_RANGE = 0, 1, 2


@dataclass(frozen=True)
class Place:
    """Where a matrix lies.

    Attributes
    ----------
    file
        The .h5ad or .zarr.
    name
        Of the matrix in it.
    looked_at
        Files and folders that change when the matrix does.
    """

    file: str
    name: str
    looked_at: tuple[str, ...] = ()

    def stamp(self) -> tuple[Any, ...]:
        """What tells that the matrix is as it was: sizes and times of its files; () far away."""
        try:
            found = [Path(path).stat() for path in self.looked_at]
        except OSError as error:
            msg = f'"{self.file}" is gone or cannot be read: {error.strerror}'
            raise InvalidDataError(msg) from error
        return tuple((each.st_size, each.st_mtime_ns, each.st_ino) for each in found)

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Turn what the reader of another library says into a sentence that names the file."""
        try:
            yield
        except InvalidDataError:
            raise
        except Exception as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            msg = f'"{self.file}" cannot be read at {self.name}; is it complete? ({first})'
            raise InvalidDataError(msg) from error


class Stored(Protocol):
    """A matrix in a file."""

    @property
    def place(self) -> Place:
        """Where it lies."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        ...

    @property
    def per_row(self) -> float:
        """Values that are stored of a row, on average."""
        ...

    @property
    def chunk(self) -> int:
        """Rows that are decoded together."""
        ...

    @property
    def dense(self) -> bool:
        """Whether its rows are answered as dense arrays."""
        ...

    def rows(self, start: int, stop: int, columns: np.ndarray | None) -> Rows:
        """Neighbouring rows; ``columns`` holds the stored column of each that is wanted, or -1."""
        ...


def open_stored(matrix: Any) -> Stored | None:
    """The reader of a matrix on disk, or None for one in memory.

    Parameters
    ----------
    matrix
        A sparse dataset of anndata, an h5py dataset or a zarr array.

    Raises
    ------
    InvalidDataError
        If the matrix is stored by columns, is no table of numbers, or its file is damaged.
    """
    place = place_of(matrix)
    if place is None:
        return None
    return StoredCsr(matrix, place) if is_sparse(matrix) else StoredDense(matrix, place)


def reopened(place: Place) -> Stored:
    """The reader of a matrix in a process that it was handed to."""
    from anndata.io import sparse_dataset

    with place.blamed():
        found = opened(Path(place.file))[place.name.strip("/")]
    stored = open_stored(sparse_dataset(found) if hasattr(found, "keys") else found)
    assert stored is not None
    return stored


def opened(path: Path) -> Any:
    """What is in an .h5ad file or a .zarr folder, to be read."""
    if path.is_dir():
        import zarr

        return zarr.open_group(path, mode="r")
    import h5py

    return h5py.File(path, "r")


def place_of(matrix: Any) -> Place | None:
    """Where a matrix lies, found without reading it; None in memory."""
    if is_sparse(matrix):
        return place_of_array(matrix.group["data"], matrix.group.name)
    on_disk = type(matrix).__module__.startswith(("h5py", "zarr"))
    return place_of_array(matrix, matrix.name) if on_disk else None


def is_sparse(matrix: Any) -> bool:
    """Whether this is a sparse dataset of anndata."""
    return hasattr(matrix, "group") and hasattr(matrix, "format")


class StoredCsr:
    """A sparse matrix kept by rows, as anndata writes it; its row pointers are held in memory.

    Parameters
    ----------
    dataset
        ``anndata.abc.CSRDataset``.
    place
        Where it lies.

    Raises
    ------
    InvalidDataError
        If it is kept by columns, or its three arrays contradict each other.
    """

    dense = False

    def __init__(self, dataset: Any, place: Place):
        group = dataset.group
        self.place = place
        self.shape: tuple[int, int] = dataset.shape
        if dataset.format != "csr":
            msg = (
                f"{self.place.name} of {self.place.file} is kept by genes (CSC), so that every cell "
                "would take a pass over the file; write it by cells once: "
                "adata.X = adata.X.tocsr(); adata.write_h5ad(...)"
            )
            raise InvalidDataError(msg)
        with self.place.blamed():
            self._data, self._indices = group["data"], group["indices"]
            self._indptr = group["indptr"][...].astype(np.int64, copy=False)
        self._check()
        self.per_row = int(self._indptr[-1]) / max(self.shape[0], 1)
        self.chunk = int(chunk_of(self._data) / max(self.per_row, 1)) or 1

    def __reduce__(self) -> Any:
        return reopened, (self.place,)

    def _check(self) -> None:
        n = int(self._indptr[-1]) if len(self._indptr) else -1
        fits = len(self._indptr) == self.shape[0] + 1 and self._indptr[0] == 0
        fits = fits and bool((np.diff(self._indptr) >= 0).all())
        if not (fits and self._data.shape == self._indices.shape == (n,)):
            msg = (
                f'"{self.place.file}": the row pointers of {self.place.name} contradict its '
                f"{self._data.shape[0]} values; is the file complete?"
            )
            raise InvalidDataError(msg)
        check_numbers(self._data.dtype, self.place)
        for array in (self._data, self._indices):
            check_chunks(array, self.place)

    def rows(self, start: int, stop: int, columns: np.ndarray | None) -> Rows:
        indptr = self._indptr[start : stop + 1]
        stored = slice(int(indptr[0]), int(indptr[-1]))
        with self.place.blamed():
            data = self._data[stored].astype(np.float32, copy=False)
            indices = self._indices[stored]
        indptr = (indptr - indptr[0]).astype(np.int32)
        data, indices, indptr = self._in_order(data, indices, indptr)
        shape = (stop - start, self.shape[1])
        if columns is not None:
            shape = (stop - start, len(columns))
            data, indices, indptr = pick_columns(data, indices, indptr, columns, self.shape[1])
        return Rows(shape, data, indices.astype(np.int32, copy=False), indptr)

    def _in_order(
        self, data: np.ndarray, indices: np.ndarray, indptr: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Each entry once, as in memory."""
        state = columns_state()(indices, indptr, self.shape[1])
        if state == IN_ORDER:
            return data, indices, indptr
        if state == OUT_OF_RANGE:
            msg = (
                f'"{self.place.file}": {self.place.name} has values in columns beyond its '
                f"{self.shape[1]}; the file is damaged"
            )
            raise InvalidDataError(msg)
        shape = (len(indptr) - 1, self.shape[1])
        summed = sparse.csr_array((data.astype(np.float64), indices, indptr), shape=shape)
        summed.sum_duplicates()
        return summed.data.astype(np.float32), summed.indices, summed.indptr.astype(np.int32)


class StoredDense:
    """A dense matrix; where few of its values are not zero, its rows are answered as CSR.

    Parameters
    ----------
    array
        Two-dimensional h5py dataset or zarr array.
    place
        Where it lies.
    """

    def __init__(self, array: Any, place: Place):
        self.place = place
        if len(array.shape) != 2:
            msg = f"{self.place.name} must have two dimensions; found shape {tuple(array.shape)}"
            raise InvalidDataError(msg)
        check_numbers(array.dtype, self.place)
        self._array, self.shape = array, (int(array.shape[0]), int(array.shape[1]))
        self.per_row = float(self.shape[1])
        self.chunk = int(array.chunks[0]) if array.chunks else 1
        with self.place.blamed():
            sample = self._array[:SAMPLE]
        self.dense = bool(np.count_nonzero(sample) > SPARSE_BELOW * sample.size)

    def __reduce__(self) -> Any:
        return reopened, (self.place,)

    def rows(self, start: int, stop: int, columns: np.ndarray | None) -> Rows:
        with self.place.blamed(), np.errstate(over="ignore"):
            values = self._array[start:stop].astype(np.float32, copy=False)
        if columns is not None:
            there = columns >= 0
            chosen = np.zeros((len(values), len(columns)), dtype=np.float32)
            chosen[:, there] = values[:, columns[there]]
            values = chosen
        return Rows(values.shape, dense=values) if self.dense else as_csr(values)


def as_csr(values: np.ndarray) -> Rows:
    """Dense rows as CSR."""
    found = sparse.csr_array(values)
    return Rows(values.shape, found.data, found.indices, found.indptr)


def check_numbers(dtype: np.dtype, place: Place) -> None:
    """Refuse text and objects."""
    if dtype.kind not in "biuf":
        msg = f"{place.name} of {place.file} must be numeric; found dtype {dtype}"
        raise InvalidDataError(msg)


def check_chunks(array: Any, place: Place) -> None:
    """Refuse a sparse zarr array that lacks chunks, which would be read as zeros."""
    if not hasattr(array, "nchunks_initialized"):
        return
    with place.blamed():
        there, wanted = array.nchunks_initialized, array.nchunks
    if there < wanted:
        msg = (
            f'"{place.file}": {wanted - there} of {wanted} chunks of {array.name} are missing; '
            "the copy is not complete"
        )
        raise InvalidDataError(msg)


def chunk_of(array: Any) -> int:
    """Values of a one-dimensional array that are decoded together."""
    return int(array.chunks[0]) if array.chunks else 1


def place_of_array(array: Any, name: str) -> Place:
    """Where an h5py or zarr array lies."""
    if type(array).__module__.startswith("h5py"):
        return Place(array.file.filename, name, (array.file.filename,))
    root = getattr(array.store, "root", None)
    if root is None:  # not a folder of this machine
        return Place(str(array.store), name)
    folder = Path(root) / array.path
    names = [folder, folder / "c", folder / "zarr.json", folder / ".zarray"]
    return Place(str(root), name, tuple(str(path) for path in names if path.exists()))
