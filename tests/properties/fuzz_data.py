"""Data and arguments at random, for every model: the right answer, or one sentence of ours.

    python tests/properties/fuzz_data.py --n 2000

Each input takes the cells of a model's row in the table of models, stores their counts in another way,
spoils a few, replaces the batch column by one of another kind, and then asks with arguments that people
bring. Whatever is answered has to be what plain CSR of float32 gives.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

sys.path.insert(0, str(Path(__file__).parents[1] / "laws"))
sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
import vivace
from forms import DTYPES, STORED, stored
from model_table import CASES
from vivace.errors import VivaceError

Chance = np.random.Generator
FORMS = [name for name in STORED if name != "coo"]  # which AnnData takes in no place
SPOILT = (*[None] * 12, np.nan, np.inf, -1.0, 0.5, 1e300)
"""A value put among the counts; mostly none."""
COLUMNS: dict[str, Callable[[int], Any]] = {
    "text": lambda n: ["a", "b"] * n,
    "numbers": lambda n: [0, 1] * n,
    "floats": lambda n: [0.0, 1.0] * n,
    "booleans": lambda n: [True, False] * n,
    "mixed": lambda n: np.array(["pilot", 1] * n, dtype=object),
    "dates": lambda n: pd.to_datetime(["2024-01-01", "2024-02-01"] * n),
    "bins": lambda n: pd.cut([0.0, 1.0] * n, [-1, 0.5, 2]),
    "periods": lambda n: pd.PeriodIndex(["2024-01", "2024-02"] * n, freq="M"),
    "bytes": lambda n: np.array([b"x", b"y"] * n, dtype=object),
    "nullable": lambda n: pd.array([1, 2] * n, dtype="Int64"),
    "missing": lambda n: np.array(["a", None] * n, dtype=object),
    "lists": lambda n: pd.Series([[1], [2]] * n, dtype=object).to_numpy(),
    "one and its text": lambda n: np.array([1, "1"] * n, dtype=object),
    "complex": lambda n: [1j, 2j] * n,
}
NUMBERS = (1, 2, 3.0, np.int64(2), np.float32(1), 0, -1, 1.5, np.nan, "2", None, True)
CELLS = (
    None, [0, 3], [True, False] * 60, np.array([True, False] * 60, dtype=object), [0.0, 2.0], [0.5],
    [], ["cell_3"], ["nobody"], slice(3), -1, 10**6, [[1, 2], [3]], {"a": 1}, "cell_1", np.arange(120) % 2,
    pd.Series([True, False] * 60), [np.nan], [None, 1],
)  # fmt: skip
GENES = (
    None,
    "gene_1",
    ["gene_3", "gene_1"],
    [],
    ["nothing"],
    [1],
    np.array([True] * 30),
    {"gene_1"},
)
QUESTIONS: dict[str, dict[str, tuple]] = {
    "get_latent_representation": {
        "indices": CELLS, "batch_size": (*NUMBERS, 2**40), "mc_samples": (50, *NUMBERS[5:]),
    },
    "get_normalized_expression": {
        "indices": CELLS, "gene_list": GENES, "n_samples": NUMBERS, "transform_batch": (None, 0, "a", "zz"),
        "library_size": (1, "latent", 1e4, "x", -1), "n_samples_overall": (None, *NUMBERS),
    },
    "get_normalized_splicing": {"indices": CELLS, "junction_list": GENES, "n_samples": NUMBERS},
    "differential_expression": {
        "groupby": ("kind", "nothing", ["kind"], None), "group1": (None, "x", 0, ["x", "y"], "zz"),
        "idx1": (None, *CELLS), "idx2": (None, *CELLS), "delta": (None, *NUMBERS),
        "mode": ("change", "vanilla", "odd"),
    },
    "get_elbo": {"indices": CELLS, "batch_size": NUMBERS, "population": (None, "target", "both")},
    "get_proportions": {"indices": CELLS, "of": ("counts", "cells", "x")},
    "get_marginal_ll": {"indices": CELLS, "n_mc_samples": NUMBERS},
    "posterior_predictive_sample": {"indices": CELLS, "gene_list": GENES, "n_samples": NUMBERS},
}  # fmt: skip
"""Questions, and what is asked of each of their arguments at random."""


def parts_of(data: Any) -> list[Any]:
    return list(data.mod.values()) if hasattr(data, "mod") else [data]


def restored(data: Any, change: Callable[[np.ndarray], Any]) -> Any:
    """The data with their counts stored anew; layers that follow from them are left out."""
    other = data.copy()
    for part in parts_of(other):
        counts = part.X.toarray() if sparse.issparse(part.X) else np.asarray(part.X)
        for layer in filter(None, list(part.layers)):
            del part.layers[layer]
        part.X = change(counts)
    return other


def with_columns(data: Any, chance: Chance) -> str:
    """Replace the column of batches by one of another kind; its name."""
    name = str(chance.choice(list(COLUMNS)))
    values = COLUMNS[name](data.n_obs)
    key = next((k for k in ("batch", "system", "cell_type") if k in data.obs), "batch")
    data.obs[key] = values[: data.n_obs]
    data.obs["kind"] = (["x", "y", "y"] * data.n_obs)[: data.n_obs]
    return name


def one(model_name: str, chance: Chance) -> str:
    """How one input ended: "right", "refused", or what is wrong with it."""
    case = CASES[model_name]
    plain = case.data()
    if chance.random() < 0.5:
        with_columns(plain, chance)
    form, dtype = str(chance.choice(FORMS)), str(chance.choice(DTYPES))
    spoil = SPOILT[chance.integers(len(SPOILT))]
    log = model_name == "SysVI"

    def values(counts: np.ndarray) -> np.ndarray:
        counts = counts.copy() if log else counts.astype(dtype).astype("float64")
        if spoil is not None:
            counts[1, 1] = spoil
        return counts

    kept = "float64" if log or spoil is not None else dtype
    brought = restored(plain, lambda counts: stored(values(counts), form, kept))
    truth = restored(plain, lambda c: sparse.csr_matrix(values(c).astype("float32")))
    before = [copy.deepcopy(part.X) for part in parts_of(brought)]
    try:
        model = fitted(model_name, brought)
    except VivaceError:
        return "refused"
    latent = case.latent(model)
    if not np.isfinite(latent).all():
        return "wrong: the latent state is not finite"
    if not np.allclose(latent, case.latent(fitted(model_name, truth)), rtol=1e-3, atol=1e-3):
        return f"wrong: {form} of {dtype} is another latent state than plain counts"
    for x, part in zip(before, parts_of(brought), strict=True):
        if not _same(x, part.X):
            return "wrong: the user's counts were changed"
    return asked(model, chance)


def _same(a: Any, b: Any) -> bool:
    if sparse.issparse(a):
        return all(
            np.array_equal(getattr(a, n), getattr(b, n)) for n in ("data", "indices", "indptr")
        )
    return bool(np.array_equal(np.asarray(a), np.asarray(b)))


def fitted(name: str, data: Any) -> Any:
    case = CASES[name]
    model = case.build(data)
    model.train(**{**case.train, "max_epochs": 1, "progress": False})
    return model


def asked(model: Any, chance: Chance) -> str:
    """Ask three questions at random, map the cells as of another batch, and save and load."""
    names = [name for name in QUESTIONS if hasattr(model, name)]
    for name in chance.choice(names, 3):
        arguments = {
            key: choices[chance.integers(len(choices))]
            for key, choices in QUESTIONS[name].items()
            if chance.random() < 0.5
        }
        with contextlib.suppress(VivaceError):
            getattr(model, name)(**arguments)
    if hasattr(model, "load_query_data") and not mapped_well(model):
        return "wrong: the query model lacks genes"
    with tempfile.TemporaryDirectory() as folder:
        loaded = vivace.load(model.save(folder), model.adata)
        if loaded.schema != model.schema:
            return "wrong: the schema that was loaded is another one"
    return "right"


def mapped_well(model: Any) -> bool:
    """Whether the model's cells, said to be of another batch, are mapped onto it, or refused."""
    try:
        query = model.adata.copy()
    except ValueError:  # scipy stores numbers of this type, but does not copy them
        return True
    for name in {"batch", "system"} & set(query.obs):
        query.obs[name] = "another"
    try:
        return set(model.var_names) <= set(type(model).load_query_data(query, model).var_names)
    except VivaceError:
        return True


def run(n: int, seed: int = 0) -> dict[str, int]:
    """Counts of how ``n`` inputs ended; reasons of faults go to standard error."""
    counts: Counter[str] = Counter({"right": 0, "refused": 0})
    for i in range(n):
        name = list(CASES)[i % len(CASES)]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                end = one(name, np.random.default_rng((seed, i)))
        except Exception:  # noqa: BLE001 - what should not happen is counted
            end = "wrong: " + traceback.format_exc(limit=-2).strip().splitlines()[-1]
            sys.stderr.write(f"input {i} ({name}): {traceback.format_exc(limit=-4)}\n")
        if end.startswith("wrong"):
            sys.stderr.write(f"input {i} ({name}): {end}\n")
            end = "wrong"
        counts[end] += 1
    return dict(counts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = run(given.n, given.seed)
    sys.stdout.write(", ".join(f"{n} {end}" for end, n in found.items()) + "\n")
    sys.exit(int(found.get("wrong", 0) > 0))
