"""A matrix in a file, in each way that files keep one; and what may go wrong with it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr
from anndata.io import sparse_dataset, write_elem
from scipy import sparse

CHUNK = 5
"""Values of a chunk: rows begin and end inside one."""


def h5(matrix: Any, path: Path) -> Any:
    with h5py.File(path, "w") as file:
        write_elem(file, "X", matrix)
    return lazily(h5py.File(path, "r")["X"])


def zarr_csr(matrix: np.ndarray, path: Path, version: int, shards: int | None = None) -> Any:
    csr = sparse.csr_matrix(matrix)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group = zarr.open_group(path, mode="w", zarr_format=version).create_group("X")
    encoding = {"encoding-type": "csr_matrix", "encoding-version": "0.1.0"}
    group.attrs.update({**encoding, "shape": list(csr.shape)})
    for name in ("data", "indices", "indptr"):
        values = getattr(csr, name)
        chunks, whole = (CHUNK,), None if shards is None else (CHUNK * shards,)
        made = group.create_array(
            name, shape=values.shape, dtype=values.dtype, chunks=chunks, shards=whole
        )
        made[:] = values
    return sparse_dataset(group)


def zarr_dense(matrix: np.ndarray, path: Path) -> Any:
    return zarr.create_array(path, data=np.ascontiguousarray(matrix), chunks=(CHUNK, 3))


def lazily(stored: Any) -> Any:
    return sparse_dataset(stored) if hasattr(stored, "keys") else stored


STORED: dict[str, Callable[[np.ndarray, Path], Any]] = {
    "h5ad csr": lambda matrix, path: h5(sparse.csr_matrix(matrix), path),
    "h5ad dense": lambda matrix, path: h5(np.ascontiguousarray(matrix), path),
    "zarr v2 csr": lambda matrix, path: zarr_csr(matrix, path, 2),
    "zarr v3 csr": lambda matrix, path: zarr_csr(matrix, path, 3),
    "zarr sharded csr": lambda matrix, path: zarr_csr(matrix, path, 3, shards=4),
    "zarr dense": zarr_dense,
}
