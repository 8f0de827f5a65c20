"""Checks of the user's object before anything is built on it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

from vivace.data.selection import NAMES_AT_ONCE
from vivace.data.sources import places
from vivace.errors import InvalidDataError, VivaceWarning


def check_object(data: Any, argument: str = "adata") -> None:
    """Refuse what is no AnnData, empty objects and duplicate names.

    Raises
    ------
    InvalidDataError
        Saying which, and what to do.
    """
    if not all(hasattr(data, part) for part in ("X", "obs", "var_names", "layers")):
        msg = f"{argument} must be an AnnData, got {type(data).__name__}" + _instead_of(data)
        raise InvalidDataError(msg)
    if data.n_obs == 0 or data.n_vars == 0:
        msg = (
            f"{argument} has {data.n_obs} cells and {data.n_vars} genes; "
            "at least one of each is needed"
        )
        raise InvalidDataError(msg)
    for names, what, mend in (
        (data.var_names, "gene", "adata.var_names_make_unique()"),
        (data.obs_names, "cell", "adata.obs_names_make_unique()"),
    ):
        if not are_unique(names, keep=not places(data.X)):
            twice = names[names.duplicated()][0]
            msg = f'{argument} has duplicate {what} names (such as "{twice}"); call {mend}'
            raise InvalidDataError(msg)


def are_unique(names: pd.Index, *, keep: bool) -> bool:
    """Whether no name occurs twice; ``keep`` what was found out with the names, which takes as much again."""
    if keep or isinstance(names, pd.RangeIndex):
        return names.is_unique
    values = names.to_numpy(dtype=object)
    parts = np.array_split(values, len(values) // NAMES_AT_ONCE + 1)
    numbers = np.concatenate([pd.util.hash_array(part, categorize=False) for part in parts])
    numbers.sort()
    return not (numbers[1:] == numbers[:-1]).any() or pd.Index(values).is_unique


def _instead_of(data: Any) -> str:
    """What to do with the object that was given in place of an AnnData."""
    if hasattr(data, "mod"):
        return f"; pass one modality, such as mdata.mod[{next(iter(data.mod), 'rna')!r}]"
    if isinstance(data, str) or hasattr(data, "__fspath__"):
        return "; read the file first: anndata.read_h5ad(path)"
    if data is None:
        return ""
    return "; anndata.AnnData(counts, obs, var) makes one"


def warn_of_small_categories(codes: np.ndarray, name: str, categories: tuple[str, ...]) -> None:
    """Warn of categories with fewer than 3 cells, whose effect cannot be learned."""
    sizes = np.bincount(codes, minlength=len(categories))
    small = [c for c, n in zip(categories, sizes, strict=True) if n < 3]
    if small:
        warnings.warn(
            f'"{name}" has categories with fewer than 3 cells ({small[:5]}); '
            "their effect is hardly learned",
            VivaceWarning,
            stacklevel=3,
        )
