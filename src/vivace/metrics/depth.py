"""Whether cells measured less deeply stay with their kind, and whether a type keeps its structure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy import sparse

from vivace.errors import InvalidArgumentError
from vivace.metrics._neighbours import Array, as_codes, as_latent, check_k, neighbours
from vivace.metrics.transfer import label_transfer


def thin_to_depth(
    counts: Any, depth: float, *, cells: Any = None, seed: int = 0
) -> sparse.csr_matrix:
    """The same cells measured less deeply: every count is kept with one probability.

    The probability is ``depth`` over the median total of the cells to be thinned, so that totals go on
    differing from cell to cell as they did; a cell's counts x become Binomial(x, probability).

    Parameters
    ----------
    counts
        (N, G) raw counts, whole numbers, dense or sparse; not modified.
    depth
        Median total of the thinned cells afterwards, in expectation; > 0. Cells whose median is not
        above it stay as they are.
    cells
        (N,) mask or row numbers of the cells to thin; default all.
    seed
        Seed of the draw.

    Returns
    -------
    (N, G) CSR matrix of the dtype of ``counts``.

    Raises
    ------
    InvalidArgumentError
        ``depth`` is not positive, or the counts are no whole numbers >= 0.

    Examples
    --------
    >>> import numpy as np
    >>> counts = np.full((100, 50), 10.0)
    >>> thin = thin_to_depth(counts, 25, cells=np.arange(100) < 50)
    >>> totals = np.asarray(thin.sum(axis=1)).ravel()
    >>> bool(abs(np.median(totals[:50]) - 25) < 4), float(totals[50:].min())
    (True, 500.0)
    """
    from vivace.datasets.depth import thin  # anndata, which the other measures do without

    out = sparse.csr_matrix(counts)
    if not depth > 0:
        msg = f"depth={depth} was given; expected a median total > 0."
        raise InvalidArgumentError(msg)
    if (out.data < 0).any() or (out.data != np.floor(out.data)).any():
        msg = "counts has values that are not whole numbers >= 0; pass the raw counts."
        raise InvalidArgumentError(msg)
    chosen = np.zeros(out.shape[0], dtype=bool)
    chosen[slice(None) if cells is None else np.asarray(cells)] = True
    keep = np.ones(out.shape[0])
    if chosen.any():
        median = np.median(np.asarray(out.sum(axis=1)).ravel()[chosen])
        keep[chosen] = min(1.0, depth / max(median, 1e-12))
    return thin(np.random.default_rng(seed), out, keep).astype(out.dtype)


def depth_transfer(
    latent: Any, labels: Iterable[Any], shallow: Any, *, k: int = 15
) -> dict[str, float]:
    """How well labels carry over from deep cells to shallow ones of the same kinds.

    :func:`label_transfer` with the deep cells as reference. Thin some cells with
    :func:`thin_to_depth`, train on all of them without labels, and ask this of the latent space.

    Parameters
    ----------
    latent
        (N, L).
    labels
        (N,).
    shallow
        (N,) mask of the shallow cells; the others are the deep ones.
    k
        Deep neighbours that vote.

    Returns
    -------
    ``{"accuracy", "balanced_accuracy"}`` of the shallow cells, both in [0, 1], higher is better.

    Raises
    ------
    InvalidArgumentError
        A wrong shape, missing values, or no cell of either depth.

    Examples
    --------
    >>> latent = [[0.0], [9.0], [1.0], [4.0]]
    >>> depth_transfer(latent, ["a", "b", "a", "b"], [False, False, True, True], k=1)
    {'accuracy': 0.5, 'balanced_accuracy': 0.5}
    """
    latent = as_latent(latent)
    names = np.asarray(labels, dtype=object).ravel()
    as_codes(names, len(latent))
    mask = np.asarray(shallow)
    if mask.dtype != bool or mask.shape != (len(latent),) or mask.all() or not mask.any():
        msg = (
            f"shallow is {mask.dtype} of shape {mask.shape} with {int(mask.astype(bool).sum())} cells set; "
            f"expected a mask of {len(latent)} cells, some shallow and some not."
        )
        raise InvalidArgumentError(msg)
    return label_transfer(latent[~mask], names[~mask], latent[mask], names[mask], k=k)


def within_type_agreement(
    latent: Any, expression: Any, labels: Iterable[Any], *, k: int = 15
) -> float:
    """Whether neighbours inside a type also resemble each other in what they express.

    Label measures cannot see whether a type has kept its states and gradients. Here the expression of a
    cell is correlated (Pearson, over genes) with the mean of its k nearest neighbours of the same type,
    after the mean of all other cells of that type was taken from both. Cells are averaged within a
    type, then types.

    Parameters
    ----------
    latent
        (N, L).
    expression
        (N, G), dense or sparse, e.g. log-normalised counts. To judge shallow cells, give what was
        measured before they were thinned.
    labels
        (N,); types of fewer than three cells say nothing and are left out.
    k
        Neighbours; at most half of the other cells of the type.

    Returns
    -------
    In [-1, 1], higher is better; 0 on average by chance. How high it can be depends on the noise of the
    data: compare models on the same cells.

    Raises
    ------
    InvalidArgumentError
        A wrong shape, missing values, or no type of three cells or more.

    Examples
    --------
    >>> import numpy as np
    >>> states = np.linspace(0, 1, 60)[:, None]
    >>> expression = states * [1.0, -1.0, 2.0]
    >>> round(within_type_agreement(states, expression, ["a"] * 60), 2) > 0.9
    True
    """
    latent = as_latent(latent)
    codes, _ = as_codes(labels, len(latent))
    check_k(k)
    if expression.shape[0] != len(latent):
        msg = (
            f"expression has {expression.shape[0]} cells; expected those of latent, {len(latent)}."
        )
        raise InvalidArgumentError(msg)
    if not np.isfinite(expression.data if sparse.issparse(expression) else expression).all():
        msg = "expression has missing or infinite values; drop those cells or genes."
        raise InvalidArgumentError(msg)
    types = [np.flatnonzero(codes == c) for c in range(codes.max() + 1)]
    found = [_agreement(latent[t], expression[t], k) for t in types if len(t) >= 3]
    if not found:
        msg = "No label has three cells; this measure compares cells inside a label."
        raise InvalidArgumentError(msg)
    return float(np.mean(found))


def _agreement(latent: Array, expression: Any, k: int) -> float:
    """Mean over the cells of one type."""
    _, index = neighbours(latent, None, min(k, (len(latent) - 1) // 2))
    values = expression.toarray() if sparse.issparse(expression) else np.asarray(expression)
    rest = (values.sum(axis=0) - values) / (len(values) - 1)  # a cell's own noise must not be in it
    near = sum(values[column] for column in index.T) / index.shape[1]
    own, near = (x - x.mean(axis=1, keepdims=True) for x in (values - rest, near - rest))
    norm = np.linalg.norm(own, axis=1) * np.linalg.norm(near, axis=1)
    return float(np.divide((own * near).sum(axis=1), norm, where=norm > 0, out=0 * norm).mean())
