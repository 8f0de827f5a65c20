"""Sentences about many fits, to be quoted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from vivace.runs.study import NEARLY_ALL, TOO_MUCH

if TYPE_CHECKING:
    from vivace.fits.stability import Stability

TOO_LITTLE = 0.5
"""Share of the possible mixing below which batches are said to stay apart."""


def verdict(found: Stability) -> str:
    """A few sentences on what stands and what does not."""
    parts = [f"{found.n_fits} fits of {found.model} with other seeds."]
    if found.clusters is not None:
        parts.append(of_rows(found.clusters, found.n_fits, "clusters", "cluster"))
    if found.labels is not None:
        parts.append(of_rows(found.labels, found.n_fits, "known kinds of cells", "kind"))
    for table, what in ((found.genes, "marked genes"), (found.salient_genes, "salient genes")):
        if table is not None:
            parts.append(of_genes(table, found.n_fits, what))
    if found.proportions is not None:
        parts.append(of_types(found.proportions))
    if found.correction is not None:
        parts.append(of_correction(found.correction))
    if found.failed:
        failed = len(found.failed)
        parts.append(f"{failed} more fit{'s' * (failed > 1)} failed and do not count.")
    return " ".join(parts)


def stands(table: pd.DataFrame, n_fits: int) -> pd.Series:
    """Rows that nearly all fits find."""
    return table["found_in"] >= NEARLY_ALL * n_fits


def of_rows(table: pd.DataFrame, n_fits: int, what: str, one: str) -> str:
    """How many clusters or kinds stand, and the one that does so least."""
    found = stands(table, n_fits)
    sentence = f"{found.sum()} of {len(table)} {what} stand in at least 90 % of them"
    if found.all():
        return f"{sentence}."
    least = table["stability"].idxmin()
    times = int(table.loc[least, "found_in"])
    return f"{sentence}; least so {one} {least}, in {times} of {n_fits}."


def of_genes(table: pd.DataFrame, n_fits: int, what: str) -> str:
    """How many genes that some fit marks all fits mark."""
    ever = table["found_in"] > 0
    if not ever.any():
        return f"No fit has {what}."
    found = stands(table[ever], n_fits)
    return f"Of {ever.sum():,} {what}, {found.sum():,} ({found.mean():.0%}) are in at least 90 %."


def of_types(table: pd.DataFrame) -> str:
    """How far proportions move."""
    worst = table["correlation"].idxmin()
    return (
        f"Proportions move by {table['spread'].mean():.3f} between fits; "
        f"{worst} agrees least (r = {table.loc[worst, 'correlation']:.2f})."
    )


def of_correction(table: pd.DataFrame) -> str:
    """Whether batches mix, and whether that costs structure inside them."""
    own, shuffled = table.loc["as_asked"], table.loc["shuffled_batch"]
    lost = 1 - own["inner_structure"] / shuffled["inner_structure"]
    reached = (own["mixing"] - 1) / max(own["possible"] - 1, 1e-9)
    text = f"Batches mix to {own['mixing']:.2f} of {own['possible']:.2f} possible"
    text += f" ({table.loc['no_batch', 'mixing']:.2f} uncorrected)"
    if reached < TOO_LITTLE:
        text += "; they still lie apart, by correction too weak or by kinds of their own"
    if lost > TOO_MUCH:
        return (
            f"{text}. The correction removed {lost:.0%} of the structure inside batches: too much."
        )
    return (
        f"{text}, at no cost of structure inside batches that a random correction would not have."
    )
