"""Checks of the user's object before anything is built on it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy import sparse

from vivace.errors import InvalidDataError, VivaceWarning, missing_key


def check_object(data: Any) -> None:
    """Refuse views, backed objects, empty objects and duplicate names.

    Raises
    ------
    InvalidDataError
        Saying which, and what to do.
    """
    if getattr(data, "is_view", False):
        msg = "adata is a view of another object; make it an object of its own with adata.copy()"
        raise InvalidDataError(msg)
    if getattr(data, "isbacked", False):
        msg = "adata is backed by a file; load it with adata.to_memory()"
        raise InvalidDataError(msg)
    if data.n_obs == 0 or data.n_vars == 0:
        msg = (
            f"adata has {data.n_obs} cells and {data.n_vars} genes; at least one of each is needed"
        )
        raise InvalidDataError(msg)
    for names, what, mend in (
        (data.var_names, "gene", "adata.var_names_make_unique()"),
        (data.obs_names, "cell", "adata.obs_names_make_unique()"),
    ):
        if not names.is_unique:
            twice = names[names.duplicated()][0]
            msg = f'adata has duplicate {what} names (such as "{twice}"); call {mend}'
            raise InvalidDataError(msg)


def get_matrix(adata: Any, layer: str | None, argument: str = "layer") -> Any:
    """``X`` or a layer, as it is stored."""
    if layer is None:
        if adata.X is None:
            msg = f"adata.X is empty; name the {argument} that holds the counts"
            raise InvalidDataError(msg)
        return adata.X
    if layer not in adata.layers:
        raise missing_key(argument, layer, "adata.layers", adata.layers.keys())
    return adata.layers[layer]


def stored_values(matrix: Any) -> np.ndarray:
    """The values that may differ from zero, flat."""
    return matrix.data if sparse.issparse(matrix) else np.asarray(matrix).ravel()


def check_finite(matrix: Any, where: str, *, nonnegative: bool = True) -> None:
    """Refuse NaN, infinite and (for counts) negative values."""
    values = stored_values(matrix)
    if values.dtype.kind not in "fiub":
        msg = f"{where} must be numeric; found dtype {values.dtype}"
        raise InvalidDataError(msg)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        found = "NaN" if np.isnan(values).any() else "infinite values"
        msg = f"{where} holds {found}; counts must be finite and >= 0"
        raise InvalidDataError(msg)
    if nonnegative and values.size and values.min() < 0:
        msg = (
            f"{where} holds negative values (smallest {values.min():g}); raw counts are needed, "
            "not scaled data: name the layer that holds them"
        )
        raise InvalidDataError(msg)


def is_integer(matrix: Any) -> bool:
    """Whether every value is a whole number."""
    values = stored_values(matrix)
    return values.dtype.kind in "iub" or bool((values == np.rint(values)).all())


def check_counts(adata: Any, layer: str | None) -> bool:
    """Check counts; warn of non-integers and empty cells. Returns whether all are whole numbers."""
    matrix = get_matrix(adata, layer)
    where = "adata.X" if layer is None else f'adata.layers["{layer}"]'
    check_finite(matrix, where)
    integer = is_integer(matrix)
    if not integer:
        others = [f'layer="{n}"' for n, m in adata.layers.items() if n != layer and is_integer(m)]
        if layer is not None and is_integer(adata.X):
            others.append("layer=None")
        hint = f"use {' or '.join(others)}" if others else "no layer holds whole numbers"
        warnings.warn(
            f"{where} holds values that are not whole numbers; count models expect raw counts, not "
            f"normalised or log-transformed ones ({hint})",
            VivaceWarning,
            stacklevel=3,
        )
    n_empty = int((np.asarray(matrix.sum(axis=1)).ravel() == 0).sum())
    if n_empty:
        warnings.warn(
            f"{n_empty} cells have no counts; they train, but their latent state says nothing",
            VivaceWarning,
            stacklevel=3,
        )
    return integer


LARGEST_LOG = 20.0
"""Log-normalised values are smaller: exp(20) is 5e8."""
LARGEST_TRAINABLE = 1000.0
"""Beyond it the statistics of batch normalisation cannot follow, and training ends in NaN for some seeds."""


def check_log_normalised(adata: Any, layer: str | None) -> None:
    """Refuse raw counts where log-normalised values are expected; warn of values not on a log scale.

    Raises
    ------
    InvalidDataError
        If all values are whole numbers >= 0, or values are not finite or beyond 1000.
    """
    matrix = get_matrix(adata, layer)
    where = "adata.X" if layer is None else f'adata.layers["{layer}"]'
    check_finite(matrix, where, nonnegative=False)
    values = stored_values(matrix)
    largest = float(np.abs(values).max()) if values.size else 0.0
    if is_integer(matrix) and (values.size == 0 or values.min() >= 0):
        msg = (
            f"{where} holds raw counts, but log-normalised values are expected. Run\n"
            "    scanpy.pp.normalize_total(adata, target_sum=1e4)\n"
            "    scanpy.pp.log1p(adata)\n"
            "first, or pass normalize=True, which does the same inside and leaves adata as it is"
        )
        raise InvalidDataError(msg)
    if largest > LARGEST_TRAINABLE:
        msg = (
            f"{where} holds values up to {largest:g}, but log-normalised values, which are below "
            f"{LARGEST_LOG:g}, are expected; run scanpy.pp.log1p(adata) on normalised counts first, or "
            "name the layer that holds log-normalised values"
        )
        raise InvalidDataError(msg)
    if largest > LARGEST_LOG:
        warnings.warn(
            f"{where} holds values up to {largest:g}, which do not look log-transformed; "
            "log-normalised values are expected",
            VivaceWarning,
            stacklevel=4,
        )


def warn_of_small_categories(codes: np.ndarray, name: str, categories: tuple) -> None:
    """Warn of categories with fewer than 3 cells, whose effect cannot be learned."""
    sizes = np.bincount(codes, minlength=len(categories))
    small = [str(c) for c, n in zip(categories, sizes, strict=True) if n < 3]
    if small:
        warnings.warn(
            f'"{name}" has categories with fewer than 3 cells ({small[:5]}); '
            "their effect is hardly learned",
            VivaceWarning,
            stacklevel=3,
        )
