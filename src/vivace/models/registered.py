"""What a model reads of its data, as a table."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from vivace.data.schema import Field, Schema

SHOWN = 5
"""Names of categories in a row."""


def described(schema: Schema) -> pd.DataFrame:
    """A row for each array or column that a schema reads.

    Returns
    -------
    DataFrame by key of the field: ``where``; ``categories``, how many (0 where there are none); and
    ``names`` of the first few.

    Examples
    --------
    >>> field = Field("batch", "categorical", ("study",), (("a", "b"),))
    >>> table = described(Schema("SCVI", (), (field,), {}))
    >>> table.loc["batch", "where"], table.loc["batch", "names"]
    ('adata.obs["study"]', 'a, b')
    """
    rows = [(field.key, *row) for field in schema.fields for row in _rows(field)]
    table = pd.DataFrame(rows, columns=["field", "where", "categories", "names"])
    return table.set_index("field")


def _rows(field: Field) -> Iterator[tuple[str, int, str]]:
    if field.kind == "index":
        return
    places = _places(field) or ["not given: all cells are one"]
    known = field.categories[: len(places)] if field.kind != "matrix" else ()
    for i, place in enumerate(places):
        names = known[i] if i < len(known) else ()
        more = " ..." if len(names) > SHOWN else ""
        yield place, len(names), ", ".join(names[:SHOWN]) + more


def _places(field: Field) -> list[str]:
    data = f'mdata.mod["{field.modality}"]' if field.modality else "adata"
    if field.kind == "matrix":
        return [f'{data}.layers["{field.columns[0]}"]' if field.columns else f"{data}.X"]
    part = "obsm" if field.kind == "obsm" else "obs"
    return [f'adata.{part}["{name}"]' for name in field.columns]
