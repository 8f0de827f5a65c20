"""Which arrays of the user's object are counts, batch, labels and covariates. Plain data, saved as JSON."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from vivace._types import Keys
from vivace.data.columns import text_of
from vivace.errors import InvalidDataError, MissingKeyError

UNS_KEY = "vivace"
SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Field:
    """One entry of a minibatch and where it comes from.

    Attributes
    ----------
    key
        Key of the minibatch, see :class:`vivace._types.Keys`.
    kind
        "matrix" (the layer's rows), "categorical" (codes of obs columns), "numeric" (obs columns as
        they are), "balance" (weights, 1 on average, that give every category of an obs column the same
        total), "obsm" (an array as it is), or "index" (the row number of the cell).
    columns
        Names of obs columns; of a matrix, its layer, or empty for ``X``; of an array, its key in obsm.
    categories
        Of categorical fields, for each column its categories in the order of their codes, as the text
        that stands for them. Of a matrix with columns of its own (junctions), their names, and the
        groups (events) that they form.
    transform
        Of matrices, what is done to the rows as they are read: "" or "log_normalise".
    expected
        Of matrices, what the values were at setup and have to be at every question: "whole" counts,
        "counts", "logged" values or "numbers", see :func:`vivace.data.matrices.read_matrix`.
    modality
        Of matrices of a MuData, the modality that holds them.
    """

    key: str
    kind: str
    columns: tuple[str, ...] = ()
    categories: tuple[tuple[str, ...], ...] = ()
    transform: str = ""
    expected: str = "counts"
    modality: str = ""

    def __post_init__(self) -> None:
        texts = tuple(tuple(map(text_of, names)) for names in self.categories)
        object.__setattr__(self, "categories", texts)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Field:
        """The field that :func:`dataclasses.asdict` took apart, lists for tuples."""
        categories = tuple(map(tuple, values["categories"]))
        return cls(**{**values, "columns": tuple(values["columns"]), "categories": categories})

    @property
    def n_categories(self) -> tuple[int, ...]:
        return tuple(len(c) for c in self.categories)


@dataclass(frozen=True)
class Schema:
    """What ``setup_anndata`` found: the fields and the gene names.

    Attributes
    ----------
    model
        Class the data were set up for.
    var_names
        Gene names in the model's order.
    fields
        Entries of a minibatch.
    setup_args
        Arguments of ``setup_anndata``, to be shown.
    integer_counts
        Whether the counts are whole numbers.
    version
        Version of this format.

    Examples
    --------
    >>> schema = Schema("SCVI", ("gene_a",), (Field("X", "matrix"),), {}, True)
    >>> Schema.from_json(schema.to_json()) == schema
    True
    """

    model: str
    var_names: tuple[str, ...]
    fields: tuple[Field, ...]
    setup_args: dict[str, Any]
    integer_counts: bool = True
    version: int = SCHEMA_VERSION

    def field(self, key: str) -> Field | None:
        """The field of a minibatch key, or None."""
        return next((f for f in self.fields if f.key == key), None)

    def n_categories(self, key: str) -> tuple[int, ...]:
        """Number of categories of each column of a categorical field; () if there is none."""
        field = self.field(key)
        return () if field is None else field.n_categories

    def with_field(self, field: Field) -> Schema:
        """A copy in which ``field`` replaces the one with its key, or is added."""
        kept = tuple(f for f in self.fields if f.key != field.key)
        return replace(self, fields=(*kept, field))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Schema:
        values = json.loads(text)
        if values.get("version", 1) == 1:
            values["fields"] = [_of_version_1(field, values) for field in values["fields"]]
            values["version"] = SCHEMA_VERSION
        fields = tuple(map(Field.from_dict, values.pop("fields")))
        return cls(fields=fields, var_names=tuple(values.pop("var_names")), **values)


def _of_version_1(field: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A field as this version writes it: the first did not say what values are expected, and where."""
    expected = "whole" if schema.get("integer_counts", True) else "counts"
    if schema["model"] == "SysVI" and not field.get("transform"):
        expected = "logged"
    elif field["key"] == Keys.X_SMOOTHED:
        expected = "counts"
    names = schema.get("setup_args", {}).get("modalities", {})
    held_by = {Keys.X: "rna_layer", Keys.JUNCTIONS: "junc_ratio_layer"}.get(field["key"], "")
    return {"expected": expected, "modality": names.get(held_by, ""), **field}


def write_schema(data: Any, schema: Schema) -> None:
    """Keep the schema under one key of ``.uns``, beside those of other models.

    A view becomes an object of its own by it, as by anything that is written to one; the object that it
    shows stays as it is.

    Raises
    ------
    InvalidDataError
        If it is a view of a file, which cannot become one.
    """
    if getattr(data, "is_view", False) and getattr(data, "isbacked", False):
        msg = "adata is a view of a file; load its cells first: adata = adata.to_memory()"
        raise InvalidDataError(msg)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Trying to modify attribute `._uns` of view")
        warnings.filterwarnings("ignore", r"From 0\.4 \.update\(\) will not pull", FutureWarning)
        data.uns[UNS_KEY] = {**_stored(data), schema.model: schema.to_json()}


def _stored(data: Any) -> dict[str, str]:
    """What models left in ``.uns``, by their names."""
    found = data.uns.get(UNS_KEY, {})
    return dict(found) if isinstance(found, Mapping) else {}


def read_schema(data: Any, model: str, setup: str | None = None) -> Schema:
    """The schema that ``setup_anndata`` of ``model`` left in ``.uns``.

    Parameters
    ----------
    data
        AnnData or MuData.
    model
        Name of the model's class.
    setup
        The call that sets data up for it, for messages.

    Raises
    ------
    InvalidDataError
        If there is no data object.
    MissingKeyError
        If the data were not set up for this model.
    """
    setup = setup or f"{model}.setup_anndata(adata)"
    if not hasattr(data, "uns"):
        msg = f"{model} needs a data object that {setup} was called on, got {type(data).__name__}"
        raise InvalidDataError(msg)
    stored = _stored(data)
    if model not in stored:
        others = f" (it was set up for {', '.join(stored)})" if stored else ""
        msg = f"this data object was not set up for {model}{others}: call {setup} first"
        raise MissingKeyError(msg)
    try:
        return Schema.from_json(stored[model])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f'uns["{UNS_KEY}"] holds something else than {model} left there: call {setup} again'
        raise InvalidDataError(msg) from error
