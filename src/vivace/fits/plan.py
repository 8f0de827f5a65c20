"""What is fitted many times: a model without its chance, and the seeds to fit it with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from vivace._settings import settings
from vivace.io import SavedModel
from vivace.models.base import BaseModel
from vivace.models.contrastivevi import ContrastiveVI

Kind = Literal["as_asked", "no_batch", "shuffled_batch"]
KINDS: tuple[Kind, ...] = ("as_asked", "no_batch", "shuffled_batch")
"""The model as it was given; without its batches; and with batch labels that are dealt out at random."""


@dataclass(frozen=True)
class Fit:
    """One of many fits.

    Attributes
    ----------
    number
        From 0 among those of its kind.
    seed
        Of all its chance.
    kind
        One of :data:`KINDS`; all but the first are yardsticks for the correction of batches.
    """

    number: int
    seed: int
    kind: Kind = "as_asked"

    @property
    def name(self) -> str:
        """What its file is called.

        Examples
        --------
        >>> Fit(3, 103).name
        'as_asked-003'
        """
        return f"{self.kind}-{self.number:03d}"


@dataclass(frozen=True)
class Plan:
    """All that a fit needs beside its seed.

    Attributes
    ----------
    kind
        Class of the model.
    parts, adata
        The model as it would be saved, and its data.
    train
        Arguments of ``train``.
    questions
        What each fit is asked.
    labels_key, groupby
        Columns of ``obs`` with kinds of cells, and with the groups that are compared.
    rows
        Cells whose neighbours and clusters are looked at.
    share
        Share of the cells that each fit learns from; None for the model's own split.
    """

    kind: type[BaseModel]
    parts: SavedModel
    adata: Any
    train: dict[str, Any]
    questions: tuple[str, ...]
    labels_key: str | None
    groupby: str | None
    rows: np.ndarray = field(repr=False)
    share: float | None = None

    def model(self) -> BaseModel:
        """The model as it was given."""
        return self.kind.from_parts(self.parts, self.adata)

    def facts(self) -> dict[str, Any]:
        """What must be the same for fits to be of one plan: plain text and numbers."""
        cells = self.model()._cells()
        counts = hashlib.blake2b(cells.library_sizes().tobytes(), digest_size=8).hexdigest()
        return {
            "model": self.kind.__name__,
            "options": repr(sorted(self.parts.options.items())),
            "setup": repr(sorted(self.parts.schema.setup_args.items())),
            "cells": cells.digest,
            "counts": counts,
            "training": _digest(self.train),
            "questions": list(self.questions),
            "labels": self.labels_key,
            "groupby": self.groupby,
            "share": self.share,
        }


def _digest(train: dict[str, Any]) -> str:
    with np.printoptions(threshold=2**31):
        text = repr(sorted((k, v) for k, v in train.items() if k != "progress"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def seeds(n: int, kind: Kind = "as_asked", start: int | None = None) -> list[Fit]:
    """So many fits, of seeds that follow each other.

    Examples
    --------
    >>> [fit.seed for fit in seeds(3, start=10)]
    [10, 11, 12]
    """
    first = settings.seed if start is None else start
    return [Fit(i, (first + i) % 2**32, kind) for i in range(n)]


def training_of(model: BaseModel) -> dict[str, Any]:
    """Arguments of ``train`` that repeat how a trained model was trained, but for the seed."""
    if not model.is_trained or model.split is None:
        return {}
    done = model.training
    return {
        "recipe": done["recipe"],
        **done["options"],
        "plan_kwargs": done.get("loss_options") or None,
        **populations_of(model),
    }


def populations_of(model: BaseModel) -> dict[str, Any]:
    """Arguments that name the populations of a trained ContrastiveVI; none of another model."""
    if not isinstance(model, ContrastiveVI) or model.split is None:
        return {}
    return {"background_indices": model.split.background, "target_indices": model.conditions}
