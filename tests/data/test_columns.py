"""The door of columns: a stable text for each category, or one sentence."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import vivace
from vivace import SCVI
from vivace.data import Cells
from vivace.data.columns import categories_of, codes_in, numbers_of, read_key, read_keys, text_of
from vivace.data.schema import Field, read_schema
from vivace.errors import InvalidArgumentError, InvalidDataError, VivaceError

N = 12
DAYS = ["2024-02-01", "2024-01-01"] * 6
ISO = ["2024-01-01", "2024-02-01"]
KINDS: dict[str, tuple[Any, list[str]]] = {
    "text": (["b", "a"] * 6, ["a", "b"]),
    "numbers by size": ([10, 9, 100] * 4, ["9", "10", "100"]),
    "whole floats": ([1.0, 0.0] * 6, ["0", "1"]),
    "fractions": ([0.5, 0.25] * 6, ["0.25", "0.5"]),
    "float32": (np.array([0.1, 0.2] * 6, dtype="float32"), ["0.1", "0.2"]),
    "booleans": ([True, False] * 6, ["False", "True"]),
    "mixed": (pd.Series(["pilot", 1] * 6, dtype=object), ["1", "pilot"]),
    "mixed with booleans": (pd.Series([True, 2] * 6, dtype=object), ["True", "2"]),
    "bytes": (pd.Series([b"x", b"y"] * 6, dtype=object), ["x", "y"]),
    "decimals": (pd.Series([Decimal("1.50"), Decimal("1.0")] * 6, dtype=object), ["1", "1.50"]),
    "datetimes": (pd.to_datetime(DAYS), ISO),
    "categorical of datetimes": (pd.Categorical(pd.to_datetime(DAYS)), ISO),
    "dates": (pd.Series([dt.date.fromisoformat(d) for d in DAYS], dtype=object), ISO),
    "moments": (pd.to_datetime([f"{d}T10:30" for d in DAYS]), ["2024-01-01T10:30:00", "2024-02-01T10:30:00"]),
    "periods": (pd.PeriodIndex(DAYS, freq="M"), ["2024-01", "2024-02"]),
    "bins": (pd.cut([1, 2, 3, 4] * 3, [0, 2, 4]), ["(0, 2]", "(2, 4]"]),
    "durations": (pd.to_timedelta([1, 2] * 6, unit="D"), ["1 days 00:00:00", "2 days 00:00:00"]),
    "nullable integers": (pd.array([3, 1] * 6, dtype="Int64"), ["1", "3"]),
    "nullable booleans": (pd.array([True, False] * 6, dtype="boolean"), ["False", "True"]),
    "pandas text": (pd.array(["v", "u"] * 6, dtype="string"), ["u", "v"]),
    "order of a categorical": (pd.Categorical(["b", "a"] * 6, ["c", "b", "a"]), ["b", "a"]),
}  # fmt: skip


def cells(**obs: Any) -> anndata.AnnData:
    counts = np.random.default_rng(0).poisson(2, (N, 5)).astype("float32")
    names = [f"cell_{i}" for i in range(N)]
    adata = anndata.AnnData(sparse.csr_matrix(counts), obs=pd.DataFrame(index=names))
    for name, values in obs.items():
        adata.obs[name] = np.asarray(values) if isinstance(values, pd.Series) else values
    return adata


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_column_gives_the_same_text_at_setup_and_at_a_question(kind: str):
    values, texts = KINDS[kind]
    adata = cells(batch=values)
    SCVI.setup_anndata(adata, batch_key="batch")
    schema = read_schema(adata, "SCVI")
    assert schema.field("batch").categories == (tuple(texts),)
    codes = Cells(adata, schema).columns["batch"][:, 0]
    as_text = cells(batch=[texts[code] for code in codes])
    np.testing.assert_array_equal(Cells(as_text, schema).columns["batch"][:, 0], codes)
    assert len(np.unique(codes)) == len(texts)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_column_comes_back_from_files(kind: str, tmp_path):
    adata = cells(batch=KINDS[kind][0])
    SCVI.setup_anndata(adata, batch_key="batch")
    model = SCVI(adata, n_hidden=8, n_latent=2)
    model.train(max_epochs=1, progress=False)
    loaded = vivace.load(model.save(tmp_path / "run"), adata)
    assert loaded.schema == model.schema
    np.testing.assert_array_equal(
        loaded.get_latent_representation(), model.get_latent_representation()
    )


def test_the_number_of_a_query_meets_that_of_training():
    adata = cells(batch=[0, 1] * 6)
    SCVI.setup_anndata(adata, batch_key="batch")
    model = SCVI(adata, n_hidden=8, n_latent=2)
    model.train(max_epochs=1, progress=False)
    for other in (["0", "1"], [0.0, 1.0], pd.array([0, 1], dtype="Int8")):
        query = cells(batch=np.resize(np.asarray(other, dtype=object), N))
        assert (model._cells(query).columns["batch"][:, 0] == [0, 1] * 6).all()
    expected = model.get_normalized_expression(transform_batch=1, use_mean=True)
    found = model.get_normalized_expression(transform_batch="1", use_mean=True)
    np.testing.assert_array_equal(expected, found)


def test_a_message_shows_types_where_they_differ():
    values = pd.Series([True, False] * 6)
    with pytest.raises(InvalidDataError, match=r"\['False', 'True'\] \(dtype bool\)"):
        codes_in(values, ("0", "1"), "batch", "batch_key")


@pytest.mark.parametrize("values", [[1, "1"], [True, "True"], [Decimal(2), 2]])
def test_values_that_read_the_same_are_refused(values: list):
    with pytest.raises(InvalidDataError, match=r'batch_key="run".*astype\(str\)'):
        categories_of(pd.Series(values, dtype=object), "run", "batch_key")


def test_values_that_are_no_categories_are_refused():
    with pytest.raises(InvalidDataError, match="no categories"):
        categories_of(pd.Series([[1], [2]], dtype=object), "run", "batch_key")


def test_fields_hold_text_whoever_makes_them():
    assert Field("batch", "categorical", ("b",), ((1, 2.0, np.str_("x")),)).categories == (
        ("1", "2", "x"),
    )
    assert text_of(np.int64(3)) == text_of("3") == text_of(3.0)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (pd.Series(pd.to_datetime(DAYS)), "datetime.*count from a day"),
        (pd.Series([dt.date(2024, 1, 1)] * 3), "date"),
        (pd.Series(pd.to_timedelta([1, 2], unit="D")), "timedelta"),
        (pd.Series(["0.5", "1"]), "to_numeric"),
        (pd.Series([1 + 1j]), "complex"),
        (pd.Series([1.0, np.nan]), "missing or infinite values in 1"),
        (pd.Series([1.0, 1e39]), "missing or infinite values in 1"),
        (pd.Series(pd.array([1, None], dtype="Int64")), "missing or infinite values in 1"),
    ],
)
def test_what_is_no_number_is_refused_as_continuous_covariate(values: pd.Series, match: str):
    with pytest.raises(InvalidDataError, match=f'covs="age".*{match}'):
        numbers_of(values, "age", "covs")


@pytest.mark.parametrize(
    "values",
    [[1, 2], [1.0, 2.0], [Decimal(1), Decimal(2)], pd.array([1, 2], dtype="Int8"), pd.Categorical([1, 2])],
)  # fmt: skip
def test_numbers_of_every_kind_are_taken(values: Any):
    assert numbers_of(pd.Series(values), "age", "covs").tolist() == [1.0, 2.0]


def test_a_column_that_exists_twice_is_refused_by_name():
    adata = cells(batch=["a", "b"] * 6)
    adata.obs = pd.concat([adata.obs, adata.obs[["batch"]]], axis=1)
    for setup in ({"batch_key": "batch"}, {"categorical_covariate_keys": ["batch"]}):
        with pytest.raises(InvalidDataError, match=r'"batch": obs has this column twice'):
            SCVI.setup_anndata(adata, **setup)


@pytest.mark.parametrize(
    "value", [["a", "b"], np.eye(2), pd.Series(["a"]), sparse.eye_array(2), {"a": 1}, b"a"]
)
def test_what_is_no_name_is_recognised(value: Any):
    adata = cells(a=["a"] * N)
    for argument in ("batch_key", "labels_key", "size_factor_key", "layer"):
        with pytest.raises(InvalidArgumentError, match=argument):
            SCVI.setup_anndata(adata, **{argument: value})


def test_several_batch_columns_get_the_line_that_joins_them():
    with pytest.raises(InvalidArgumentError) as error:
        read_key("batch_key", ["donor", "site"])
    assert 'obs["donor_site"] = obs["donor"].astype(str) + "_" + obs["site"].astype(str)' in str(
        error.value
    )


@pytest.mark.parametrize("value", ["batch", 3, {"a": 1}, ["a", "a"], ["a", None], [["a"]]])
def test_lists_of_columns_are_lists_of_names(value: Any):
    with pytest.raises(VivaceError, match="keys"):
        read_keys("keys", value)
