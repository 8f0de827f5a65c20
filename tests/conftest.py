"""What every test may use: fixed seeds, the real data sets, and a guard over the user's AnnData."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

import vivace

ROOT = Path(__file__).parents[1]

if not torch.cuda.is_available():  # before Triton is imported: it then runs kernels line by line
    os.environ["TRITON_INTERPRET"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that read real data, and skip those of GPUs and of Triton where there is none."""
    for item in items:
        if "shared_data" in getattr(item, "fixturenames", ()):
            item.add_marker("shared_data")
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
        if "triton" in item.keywords and find_spec("triton") is None:
            item.add_marker(pytest.mark.skip(reason="needs Triton (make test-kernels)"))


@pytest.fixture(autouse=True)
def fixed_seed() -> Iterator[None]:
    """Give every test the same random numbers, whatever ran before it, and let none change the default."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    yield
    assert vivace.settings.seed == 0, "the test left another vivace.settings.seed behind"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow machine too, nothing is said of what takes long."""
    monkeypatch.setattr("vivace._progress.SILENCE", 3600.0)


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Path of a real data set: ``shared_data("pbmc_facs.h5ad")``, or a skip with the reason."""
    folder = Path(os.environ.get("VIVACE_SHARED_DATA", ROOT.parent / "shared" / "data"))

    def path(name: str) -> Path:
        if not (folder / name).is_file():
            pytest.skip(f"{name} is not in {folder} (set VIVACE_SHARED_DATA to the folder with it)")
        return folder / name

    return path


@pytest.fixture
def watch() -> Iterator[Callable[[Any], Any]]:
    """``adata = watch(adata)``: the test fails if it changes more than vivace's one key in .uns."""
    watched: list[tuple[Any, dict[str, Any]]] = []

    def start(data: Any) -> Any:
        watched.append((data, snapshot(data)))
        return data

    yield start
    for data, before in watched:
        after = snapshot(data)
        changed = sorted(k for k in before.keys() | after.keys() if not same_part(k, before, after))
        assert not changed, f"the test changed the user's object: {', '.join(changed)}"


def snapshot(data: Any) -> dict[str, Any]:
    """Copy of every part of an AnnData or MuData under a name a reader understands."""
    parts: dict[str, Any] = {"obs": data.obs.copy(), "var": data.var.copy()}
    for slot in ("layers", "obsm", "varm", "obsp", "varp", "uns"):
        for key, value in (getattr(data, slot, None) or {}).items():
            if not (slot == "uns" and key == "vivace"):
                parts[f"{slot}[{key!r}]"] = deep_copy(value)
    for name, modality in getattr(data, "mod", {}).items():
        parts.update({f"mod[{name!r}].{k}": v for k, v in snapshot(modality).items()})
    if not hasattr(data, "mod"):
        parts["X"] = data.X[:] if data.isbacked else deep_copy(data.X)
    return parts


def deep_copy(value: Any) -> Any:
    """Copy arrays, tables and nested dictionaries."""
    if isinstance(value, Mapping):
        return {k: deep_copy(v) for k, v in value.items()}
    return value.copy() if hasattr(value, "copy") else value


def same_part(key: str, before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether one part is there in both and equal in type, values and names."""
    return key in before and key in after and same(before[key], after[key])


def same(a: Any, b: Any) -> bool:
    """Exact equality with missing values equal to themselves."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (pd.DataFrame, pd.Series)):
        return a.equals(b) and a.index.equals(b.index)
    if sp.issparse(a):
        fields = ("shape", "dtype", "data", "indices", "indptr")
        return all(np.array_equal(getattr(a, f), getattr(b, f)) for f in fields)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
    return bool(np.all(a == b))


@pytest.fixture
def unsharded():
    """Zarr files without shards: releases of anndata that would shard some day warn until they are told."""
    known = hasattr(anndata.settings, "auto_shard_zarr_v3")
    with anndata.settings.override(**({"auto_shard_zarr_v3": False} if known else {})):
        yield
