"""The schema as a record: kept beside those of other models, changed in copies, read back whole."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

from vivace import SCVI, CondSCVI, SysVI
from vivace.data.cells import balance
from vivace.data.schema import Field, Schema, read_schema
from vivace.errors import InvalidDataError, MissingKeyError

FIELDS = (
    Field("X", "matrix", ("counts",), transform="log_normalise"),
    Field("batch", "categorical", ("study",), (("a", "b"),)),
    Field("labels", "categorical"),
)


def make(**obs: object) -> anndata.AnnData:
    counts = np.random.default_rng(0).poisson(2, (8, 3)).astype(np.float32)
    table = pd.DataFrame({"kind": list("aabb") * 2, **obs}, index=[f"cell_{i}" for i in range(8)])
    return anndata.AnnData(counts, obs=table)


def test_a_field_takes_the_place_of_the_one_with_its_key():
    schema = Schema("SCVI", ("g",), FIELDS, {})
    other = Field("batch", "categorical", ("donor",), (("x", "y", "z"),))
    changed = schema.with_field(other)
    assert {f.key: f for f in changed.fields} == {f.key: f for f in (FIELDS[0], FIELDS[2], other)}
    assert len(changed.fields) == 3
    assert len(schema.with_field(Field("size", "numeric", ("s",))).fields) == 4
    assert schema.fields == FIELDS


def test_every_part_of_a_field_survives_json():
    schema = Schema("SysVI", ("g", "h"), FIELDS, {"layer": "counts"}, integer_counts=False)
    assert Schema.from_json(schema.to_json()) == schema


def test_models_keep_their_schemas_side_by_side():
    adata = make()
    SCVI.setup_anndata(adata)
    with pytest.raises(MissingKeyError, match="not set up for CondSCVI"):
        read_schema(adata, "CondSCVI")
    CondSCVI.setup_anndata(adata, labels_key="kind")
    SysVI.setup_anndata(adata, batch_key="kind", normalize=True)
    assert read_schema(adata, "SCVI").field("labels").columns == ()
    assert read_schema(adata, "CondSCVI").field("labels").columns == ("kind",)
    assert read_schema(adata, "SysVI").field("X").transform == "log_normalise"


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_an_infinite_covariate_is_refused(value: float):
    adata = make(age=[value, *range(7)])
    with pytest.raises(InvalidDataError, match="infinite"):
        SCVI.setup_anndata(adata, continuous_covariate_keys=["age"])


def test_every_category_that_occurs_weighs_the_same_and_a_cell_one_on_average():
    """A category that no cell has takes no share."""
    weights = balance(np.array([0, 0, 0, 3, 1, 1])).astype(float)
    np.testing.assert_allclose(weights, [2 / 3, 2 / 3, 2 / 3, 2, 1, 1], rtol=1e-6)
