"""Read the pickle inside a ``model.pt`` without running anything that is not known to be harmless.

torch's weights-only reader interprets the pickle itself and refuses every name that is not on a list.
The list here holds what rebuilds numpy arrays, pandas tables and plain containers, and nothing that
calls, imports or opens.
"""

from __future__ import annotations

import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy._core import multiarray
from pandas._libs.internals import _unpickle_block
from pandas.core.indexes.base import _new_Index
from pandas.core.internals.managers import BlockManager

from vivace.errors import ModelFileError


def _plain_dict(factory: object = None) -> dict:
    """A ``defaultdict`` read as a dict: its factory is not needed, and the reader fills only dicts."""
    return {}


def harmless() -> list[Any]:
    """Everything the reader may rebuild: objects, or (object, name it has in the file)."""
    dtypes = [type(np.dtype(code)) for code in "?bBhHiIlLqQefdOUSM"]
    named: list[tuple[Callable, str]] = [
        (_plain_dict, "collections.defaultdict"),
        (multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
        (multiarray._reconstruct, "numpy._core.multiarray._reconstruct"),
        (multiarray.scalar, "numpy.core.multiarray.scalar"),
        (multiarray.scalar, "numpy._core.multiarray.scalar"),
        *((kind, f"__builtin__.{kind.__name__}") for kind in (bytes, dict, list, set, slice)),
        *((kind, f"builtins.{kind.__name__}") for kind in (bytes, dict, list, set, slice)),
        (_unpickle_block, "pandas._libs.internals._unpickle_block"),
        (pd.Index, "pandas.core.indexes.base.Index"),
        (pd.Index, "pandas.core.indexes.numeric.Int64Index"),
    ]
    classes = [
        np.ndarray,
        np.dtype,
        *dict.fromkeys(dtypes),
        OrderedDict,
        pd.DataFrame,
        pd.Series,
        pd.Index,
        pd.RangeIndex,
        pd.Categorical,
        pd.CategoricalDtype,
        _new_Index,
        BlockManager,
    ]
    return [*classes, *named]


def read_pickle(path: str | Path) -> Any:
    """Contents of a file that ``torch.save`` wrote.

    Raises
    ------
    ModelFileError
        If the file is damaged, or names anything that is not known to be harmless; that is not run.
    """
    try:
        with torch.serialization.safe_globals(harmless()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of other protocols before refusing them
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        msg = f"{path} is missing"
        raise ModelFileError(msg) from error
    except pickle.UnpicklingError as error:
        names = _refused(path)
        if not names:
            msg = f"{path} is damaged: {str(error).splitlines()[0]}"
            raise ModelFileError(msg) from error
        msg = (
            f"{path} was not read: its pickle names {', '.join(names)}, which could run code. Nothing of "
            "it was executed. A folder saved by scvi-tools holds no such thing; do not trust this file"
        )
        raise ModelFileError(msg) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, IndexError) as error:
        first_line = next(iter(str(error).splitlines()), "")
        msg = f"{path} is damaged: {type(error).__name__} {first_line}".rstrip()
        raise ModelFileError(msg) from error


def _refused(path: str | Path) -> list[str]:
    try:
        with torch.serialization.safe_globals(harmless()):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except Exception:  # noqa: BLE001 - the file is refused either way; this only names why
        return []
