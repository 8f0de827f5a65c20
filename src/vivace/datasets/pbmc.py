"""Real cells without a download: the small PBMC file inside the scanpy package, as counts again."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

from vivace.errors import InvalidDataError, require

Array = np.ndarray[Any, Any]

TARGET = 1e4  # counts per cell after normalisation in the file
DECIMALS = 3  # the file stores log values rounded to three decimals
TOLERANCE = 0.5 * 10.0**-DECIMALS + 1e-6  # rounding, and float32


def pbmc68k() -> anndata.AnnData:
    """700 real blood cells with integer counts, from the file that scanpy ships (Zheng et al. 2017).

    scanpy's ``pbmc68k_reduced`` keeps log1p(count / total * 10 000), rounded to three decimals, for 765
    variable genes. Counts are restored from it, and each cell is verified: every value is reproduced
    to the last stored decimal by its count and by no other whole number. Cells that fail are left out.

    Returns
    -------
    AnnData (N, 765) with counts (CSR float32) in ``X``, and

    * ``obs``: the columns of the file, among them ``bulk_labels`` (labels by similarity to sorted
      populations); ``cell_type`` (the same); ``batch`` (10x channel, from the end of the barcode)
    * ``uns["restoration"]``: ``n_cells_source``, ``n_restored``, ``n_left_out``, ``max_error`` (largest
      difference between a stored value and the one its count gives, in log units)

    Raises
    ------
    MissingDependencyError
        scanpy is not installed.
    InvalidDataError
        The file inside the installed scanpy is not the one expected.

    Examples
    --------
    >>> adata = pbmc68k()
    >>> adata.shape
    (700, 765)
    >>> adata.uns["restoration"]["n_left_out"]
    0
    """
    source = _read(_path())
    values = sp.csr_matrix(source.raw.X).astype(np.float64)
    total = source.obs["n_counts"].to_numpy(np.float64)
    counts, error, unique = restore_counts(values, total)
    good = (error <= TOLERANCE) & unique
    obs = source.obs[good].copy()
    obs["cell_type"] = obs["bulk_labels"]
    channel = [f"channel_{name.rsplit('-', 1)[-1]}" for name in obs.index]
    obs["batch"] = pd.Categorical(channel)
    adata = anndata.AnnData(counts[good], obs=obs, var=pd.DataFrame(index=source.raw.var_names))
    adata.uns["restoration"] = {
        "n_cells_source": len(good),
        "n_restored": int(good.sum()),
        "n_left_out": int((~good).sum()),
        "max_error": float(error[good].max(initial=0.0)),
    }
    return adata


def restore_counts(values: sp.csr_matrix, total: Array) -> tuple[sp.csr_matrix, Array, Array]:
    """Whole numbers c with log1p(c / total * 10 000) ≈ value, and how well each cell is met.

    Parameters
    ----------
    values
        (N, G) CSR float64, log-normalised, zeros not stored.
    total
        (N,) counts of each cell before normalisation.

    Returns
    -------
    counts
        (N, G) CSR float32.
    error
        (N,) largest absolute difference between a value and the one its count gives.
    unique
        (N,) whether, for every value, one count more or less would be off by more than the rounding.

    Examples
    --------
    >>> values = sp.csr_matrix(np.log1p(np.array([[2.0, 0.0, 1.0]]) / 500 * 1e4))
    >>> counts, error, unique = restore_counts(values, np.array([500.0]))
    >>> counts.toarray().tolist(), bool(error[0] < 1e-12), bool(unique[0])
    ([[2.0, 0.0, 1.0]], True, True)
    """
    unit = np.repeat(TARGET / total, np.diff(values.indptr))
    data = np.maximum(np.round(np.expm1(values.data) / unit), 1.0)  # a stored value is no zero
    off = np.abs(np.log1p(data * unit) - values.data)
    off_next = np.abs(np.log1p((data + 1) * unit) - values.data)  # the step below is even larger
    counts = sp.csr_matrix((data.astype(np.float32), values.indices, values.indptr), values.shape)
    return counts, _max_of_rows(off, values), -_max_of_rows(-off_next, values, -np.inf) > TOLERANCE


def _max_of_rows(entries: Array, like: sp.csr_matrix, empty: float = 0.0) -> Array:
    """(N,) largest entry of each row of a CSR matrix, ``empty`` where it has none."""
    out = np.full(like.shape[0], empty)
    np.maximum.at(out, np.repeat(np.arange(like.shape[0]), np.diff(like.indptr)), entries)
    return out


def _path() -> Path:
    """Path of the file inside the installed scanpy, found without importing it (seconds)."""
    spec = importlib.util.find_spec("scanpy")
    if spec is None or spec.origin is None:
        raise require("scanpy", "demo")
    path = Path(spec.origin).parent / "datasets" / "10x_pbmc68k_reduced.h5ad"
    if not path.is_file():
        msg = f"{path} is missing from the installed scanpy; install scanpy>=1.10 again."
        raise InvalidDataError(msg)
    return path


def _read(path: Path) -> anndata.AnnData:
    with warnings.catch_warnings():  # the file is in an old format: nothing a user can act on
        warnings.simplefilter("ignore", anndata.OldFormatWarning)
        warnings.filterwarnings("ignore", "Moving element from", FutureWarning)
        adata = anndata.read_h5ad(path)
    missing = {"n_counts", "bulk_labels"} - set(adata.obs)
    if adata.raw is None or missing:
        msg = f"{path} lacks raw values or the columns {sorted(missing)} it is known for."
        raise InvalidDataError(msg)
    return adata
