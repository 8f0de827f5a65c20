"""Counts in files: where they lie, and that they are whole numbers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vivace.cli.words import in_words
from vivace.errors import FractionalCountsWarning, InvalidDataError

if TYPE_CHECKING:
    from anndata import AnnData


@contextmanager
def whole_counts(*, allow_fractions: bool) -> Iterator[list[str]]:
    """Make counts that are no whole numbers a mistake, unless they are allowed.

    Yields
    ------
    Sentences about fractions that were allowed, for the report.

    Raises
    ------
    InvalidDataError
        What was found, and the option that allows it.
    """
    found: list[str] = []
    with warnings.catch_warnings():
        show = warnings.showwarning

        def keep(message: Warning | str, *rest: Any, **more: Any) -> None:
            if isinstance(message, FractionalCountsWarning):
                sentence = in_words(str(message))
                if sentence in found:
                    return
                found.append(sentence)
            show(message, *rest, **more)

        warnings.showwarning = keep
        if not allow_fractions:
            warnings.simplefilter("error", FractionalCountsWarning)
        try:
            yield found
        except FractionalCountsWarning as warning:
            msg = f"{warning}; --allow-fractions goes on with these values"
            raise InvalidDataError(msg) from warning


def counted(cells: AnnData, layer: str | None) -> AnnData:
    """The cells with the genes that were counted: those of ``raw``, where the counts lie there."""
    if not in_raw(cells, layer):
        return cells
    full = cells.raw.to_adata()
    full.raw = full
    return full


def with_genes(cells: AnnData, genes: Any, layer: str | None) -> AnnData:
    """The cells with some genes, by name or mask, in this order; of :func:`counted` cells."""
    from vivace.data.collection import choose_genes

    chosen = choose_genes(cells, genes)
    if in_raw(cells, layer):
        chosen.raw = chosen
    return chosen


def in_raw(cells: AnnData, layer: str | None) -> bool:
    """Whether a layer means the counts of ``raw``."""
    from vivace.data.matrices import RAW  # which brings torch, and help does without

    return layer == RAW and RAW not in cells.layers and cells.raw is not None
