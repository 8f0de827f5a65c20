"""What all simulators share: cell types in a latent space, gene programmes, sparse counts.

Every simulator draws a latent position per cell, turns it into a normalised expression profile
through :class:`Genes` and samples negative binomial counts around ``library * profile``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

from vivace.errors import InvalidArgumentError

Array = np.ndarray[Any, Any]

CHUNK_ENTRIES = 4_000_000  # cells are drawn in chunks: memory stays at tens of MB whatever n_cells


@dataclass(frozen=True)
class Genes:
    """Genes of which a part follows the latent space (the programme) and the rest never changes.

    Expression is normalised inside each part on its own, so that a gene outside the programme has
    exactly the same share of the total in every cell: the truth for differential expression is
    then exact.

    Attributes
    ----------
    log_base
        (G,) log expression where the latent is 0.
    loadings
        (L, G) change of log expression per unit of latent; a column of zeros is a gene outside the
        programme.
    theta
        (G,) inverse dispersion of the counts.
    """

    log_base: Array
    loadings: Array
    theta: Array

    @property
    def in_programme(self) -> Array:
        """(G,) whether the gene follows the latent space."""
        return np.asarray(self.loadings.any(axis=0))

    def profile(self, effect: Array, shift: Array | float = 0.0) -> Array:
        """Normalised expression.

        Parameters
        ----------
        effect
            (B, G) change of log expression, zero outside the programme.
        shift
            (G,) or (B, G) further change of log expression on any gene (batch, technology).

        Returns
        -------
        (B, G) positive, rows sum to 1.
        """
        inside = self.in_programme
        mass = _softmax(self.log_base[None])[0, inside].sum()
        log = self.log_base + effect + shift
        out = np.empty(log.shape, np.float32)
        out[:, inside] = mass * _softmax(log[:, inside])
        out[:, ~inside] = (1 - mass) * _softmax(log[:, ~inside])
        return out


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def make_genes(
    rng: np.random.Generator, n_genes: int, n_latent: int, *, fraction: float = 0.5
) -> Genes:
    """Draw genes: log-normal abundance, loadings on a ``fraction`` of them, log-normal dispersions.

    Each programme gene follows about a third of the latent dimensions. At least one gene is inside.
    """
    base = rng.normal(0.0, 1.8, n_genes)
    loadings = rng.normal(0.0, 0.3, (n_latent, n_genes)) * (rng.random((n_latent, n_genes)) < 0.3)
    outside = rng.permutation(n_genes)[max(1, round(fraction * n_genes)) :]
    own = rng.integers(
        n_latent, size=n_genes
    )  # every programme gene follows at least one dimension
    loadings[own, np.arange(n_genes)] = rng.normal(0.0, 0.3, n_genes)
    loadings[:, outside] = 0.0
    theta = np.exp(rng.normal(np.log(4.0), 0.6, n_genes))
    return Genes(base.astype(np.float32), loadings.astype(np.float32), theta.astype(np.float32))


def latent_of_types(
    rng: np.random.Generator, labels: Array, n_types: int, n_latent: int, *, separation: float = 1.2
) -> tuple[Array, Array]:
    """Type centres (C, L) and cells around them (N, L), standard deviation 0.5 within a type."""
    centres = rng.normal(0.0, separation, (n_types, n_latent))
    cells = centres[labels] + rng.normal(0.0, 0.5, (len(labels), n_latent))
    return centres.astype(np.float32), cells.astype(np.float32)


def libraries(rng: np.random.Generator, n: int, median: float, spread: float) -> Array:
    """(N,) log-normal expected totals with the given median and standard deviation of the log."""
    return np.exp(rng.normal(np.log(median), spread, n)).astype(np.float32)


def sample_counts(
    rng: np.random.Generator, library: Array, profile: Callable[[slice], Array], theta: Array
) -> sp.csr_matrix:
    """Draw x ~ NB(mean = library * profile, inverse dispersion = theta), chunk by chunk.

    Parameters
    ----------
    library
        (N,) expected totals.
    profile
        Gives the (rows, G) normalised expression of a slice of cells.
    theta
        (G,) inverse dispersion.

    Returns
    -------
    (N, G) CSR float32 of whole numbers.
    """
    step = max(1, CHUNK_ENTRIES // max(1, len(theta)))
    blocks = []
    for start in range(0, len(library), step):
        rows = slice(start, start + step)
        mean = library[rows, None] * profile(rows)
        gamma = rng.standard_gamma(np.broadcast_to(theta, mean.shape), dtype=np.float32)
        blocks.append(sp.csr_matrix(rng.poisson(gamma * (mean / theta)).astype(np.float32)))
    return sp.csr_matrix(sp.vstack(blocks, format="csr", dtype=np.float32))


def names(prefix: str, n: int) -> Array:
    """``prefix_0 ... prefix_(n-1)`` as an object array."""
    return np.array([f"{prefix}_{i}" for i in range(n)], dtype=object)


def codes_to_categories(codes: Array, categories: Array) -> pd.Categorical:
    """Category column with all ``categories`` in order."""
    return pd.Categorical.from_codes(codes, categories=[str(c) for c in categories])


def assemble(x: Any, obs: Mapping[str, Any], var: Mapping[str, Any]) -> anndata.AnnData:
    """AnnData of counts with names ``cell_i`` and ``gene_j``."""
    n, g = x.shape
    return anndata.AnnData(
        x,
        obs=pd.DataFrame(dict(obs), index=pd.Index(names("cell", n))),
        var=pd.DataFrame(dict(var), index=pd.Index(names("gene", g))),
    )


def check_positive(**values: int | float) -> None:
    """Raise unless every named value is a number above 0."""
    for name, value in values.items():
        if not value > 0:
            msg = f"{name}={value!r} is too small; expected a number above 0."
            raise InvalidArgumentError(msg)


def check_at_least(minimum: int, **values: int) -> None:
    """Raise unless every named value is a whole number of at least ``minimum``."""
    for name, value in values.items():
        if isinstance(value, bool) or int(value) != value or value < minimum:
            msg = f"{name}={value!r} was given; expected a whole number >= {minimum}."
            raise InvalidArgumentError(msg)
