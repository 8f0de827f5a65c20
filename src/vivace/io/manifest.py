"""What ``model.json`` holds: every field of it, in one table."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from vivace.data.sources.normalise import TRANSFORMS
from vivace.errors import ModelFileError
from vivace.io.shapes import (
    FLAG,
    NUMBER,
    SCALAR,
    TEXT,
    WHOLE,
    Rule,
    WrongShapeError,
    all_of,
    anything,
    list_of,
    matching,
    must_be,
    one_of,
    optional,
    record,
    table_of,
)

MOST_BYTES = 64 * 2**20
"""A model.json may be this large: three million gene names are."""
MOST_VALUES = 4_000_000
"""Entries it may have; each takes up to a hundred bytes once it is read."""
MOST_LEVELS = 50
"""How deep tables and lists may be nested in it."""

WEIGHTS_NAME = r"weights-[0-9a-f]{16}\.safetensors"
"""Weights files are named after the start of their checksum."""

KINDS = ("matrix", "categorical", "numeric", "balance", "obsm", "index")
"""Kinds of fields that :class:`vivace.data.Cells` knows how to read."""

EXPECTED = ("whole", "counts", "logged", "numbers")
"""What the values of a matrix were at setup."""


def _one_list_a_column(field: Any) -> bool:
    read_as_codes = field["kind"] in ("categorical", "balance")
    return not read_as_codes or len(field["columns"]) == len(field["categories"])


FIELD: Rule = all_of(
    record(
        key=TEXT,
        kind=one_of(KINDS),
        columns=list_of(SCALAR),
        categories=list_of(list_of(SCALAR)),
        may_have={
            "transform": one_of(TRANSFORMS),
            "expected": one_of(EXPECTED),
            "modality": TEXT,
        },
    ),
    must_be("a field with one list of categories for each column", _one_list_a_column),
)

SCHEMA = record(
    model=TEXT,
    var_names=list_of(TEXT),
    fields=list_of(FIELD),
    setup_args=record(
        may_have={
            "modalities": table_of(TEXT),
            "event_key": TEXT,
            "junc_counts_layer": optional(TEXT),
            "normalize": FLAG,
        }
    ),
    may_have={"integer_counts": FLAG, "version": WHOLE},
)

TRAINING = record(
    may_have={
        "is_trained": FLAG,
        "has_cells": FLAG,
        "query": optional(record(fields=list_of(FIELD), freeze=table_of(FLAG))),
        "recipe": TEXT,
        "seed": WHOLE,
        "options": table_of(anything),
        "loss_options": table_of(anything),
        "epochs": WHOLE,
        "best_epoch": optional(WHOLE),
        "stopped": optional(TEXT),
        "seconds": NUMBER,
        "n_train": WHOLE,
        "n_validation": WHOLE,
        "n_background": WHOLE,
        "conditions": table_of(WHOLE),
        "device": TEXT,
    }
)

MANIFEST = record(
    model=TEXT,
    weights=record(
        file=matching(WEIGHTS_NAME, "the name of a weights file of vivace"),
        sha256=matching("[0-9a-f]{64}", "a checksum"),
    ),
    schema=SCHEMA,
    options=table_of(anything),
    history=table_of(table_of(NUMBER, names=matching("[0-9]{1,9}", "the number of an epoch"))),
    training=TRAINING,
)


def check_manifest(manifest: Any, place: str) -> None:
    """Raise unless all fields of a manifest are as the table says.

    Raises
    ------
    ModelFileError
        Naming the first field that is not.
    """
    try:
        MANIFEST(manifest, "")
    except WrongShapeError as error:
        msg = f"{place} is incomplete or altered: {error}; restore it from a copy"
        raise ModelFileError(msg) from error


def parse_json(blob: bytes) -> Any:
    """JSON, if reading it takes little memory.

    Raises
    ------
    ValueError
        If it is none, or is larger, longer or deeper than any manifest.

    Examples
    --------
    >>> parse_json(b'{"a": [1]}')
    {'a': [1]}
    """
    if len(blob) > MOST_BYTES or sum(map(blob.count, (b",", b"[", b"{"))) > MOST_VALUES:
        msg = f"it is larger than {MOST_BYTES >> 20} MiB or {MOST_VALUES} entries"
        raise ValueError(msg)
    try:
        value = json.loads(blob.decode())
    except (RecursionError, MemoryError) as error:
        raise ValueError(_too_deep()) from error
    _check_levels(value)
    return value


def _check_levels(value: Any) -> None:
    level = [value]
    for _ in range(MOST_LEVELS + 1):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise ValueError(_too_deep())


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _too_deep() -> str:
    return f"tables and lists are nested more than {MOST_LEVELS} deep"
