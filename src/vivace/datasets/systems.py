"""Simulated systems: species, protocols or tissues whose profiles differ far more than batches
do.
"""

from __future__ import annotations

from itertools import chain

import anndata
import numpy as np
import scipy.sparse as sp

from vivace.datasets._cells import (
    Array,
    assemble,
    check_at_least,
    check_positive,
    codes_to_categories,
    latent_of_types,
    libraries,
    make_genes,
    names,
    sample_counts,
)
from vivace.errors import InvalidArgumentError


def simulate_systems(
    *,
    n_cells: int = 2000,
    n_genes: int = 1000,
    seed: int = 0,
    n_systems: int = 2,
    n_shared: int = 5,
    n_private: int = 1,
    n_latent: int = 8,
    system_effect: float = 1.0,
    library_median: float = 2000.0,
) -> anndata.AnnData:
    """Cells of several systems that share some types and have private ones.

    Each system sees the shared latent space through its own bent map: log expression gets
    ``system_effect * (tanh(z A_s) B_s + shift_s)``, with one ``A_s``, ``B_s``, ``shift_s`` a
    system, so that the same type differs between systems by a change that depends on the type.
    Systems also differ in the median of the total (each half of the one before).

    Parameters
    ----------
    n_cells, n_genes, n_systems, n_shared, n_private, n_latent
        Sizes: cells N over all systems, genes G, systems, types in all systems, further types
        that only one system has (for each system), dimensions of the latent space.
    seed
        Seed of all draws.
    system_effect
        Strength of the system's bend and shift; 0 for none.
    library_median
        Median of the expected total counts of a cell in the first system.

    Returns
    -------
    AnnData with log-normalised values (log1p of counts per 10 000, CSR float32) in ``X``, raw
    counts in ``layers["counts"]``, and the truth in

    * ``obs``: ``system``, ``cell_type``, ``is_private`` (type of one system only), ``library``
    * ``obsm["latent"]``: (N, L), free of the system
    * ``varm["system_shift"]``: (G, systems) shift of log expression
    * ``uns["private_types"]``: system → names of its private types

    Raises
    ------
    InvalidArgumentError
        A size is not a whole number in its range, or the median is not positive.

    Examples
    --------
    >>> adata = simulate_systems(n_cells=60, n_genes=20)
    >>> adata.uns["private_types"]
    {'system_0': ['private_0_0'], 'system_1': ['private_1_0']}
    """
    check_at_least(1, n_cells=n_cells, n_genes=n_genes, n_systems=n_systems, n_latent=n_latent)
    check_at_least(0, n_shared=n_shared, n_private=n_private)
    check_positive(library_median=library_median)
    if n_shared + n_private == 0:
        msg = "n_shared and n_private are both 0; expected at least one cell type."
        raise InvalidArgumentError(msg)
    rng = np.random.default_rng(seed)
    system = rng.permutation(np.arange(n_cells) % n_systems)
    own = rng.integers(n_shared + n_private, size=n_cells)  # type, counted within the system
    labels = np.where(own < n_shared, own, own + system * n_private)
    private = [[f"private_{s}_{i}" for i in range(n_private)] for s in range(n_systems)]
    types = np.array([*names("type", n_shared), *chain.from_iterable(private)], dtype=object)
    genes = make_genes(rng, n_genes, n_latent, fraction=1.0)
    _, latent = latent_of_types(rng, labels, len(types), n_latent, separation=0.9)
    bend = Bend.draw(rng, n_systems, n_latent, n_genes, system_effect)
    library = libraries(rng, n_cells, library_median, 0.35) * 0.5 ** system.astype(np.float32)

    def profile(rows: slice) -> Array:
        effect = latent[rows] @ genes.loadings + bend.effect(latent[rows], system[rows])
        return genes.profile(effect)

    counts = sample_counts(rng, library, profile, genes.theta)
    systems = names("system", n_systems)
    adata = assemble(
        log_normalise(counts),
        {
            "system": codes_to_categories(system, systems),
            "cell_type": codes_to_categories(labels, types),
            "is_private": own >= n_shared,
            "library": library,
        },
        {"theta": genes.theta},
    )
    adata.layers["counts"] = counts
    adata.obsm["latent"] = latent
    adata.varm["system_shift"] = bend.shift.T.copy()
    adata.uns["private_types"] = dict(zip(systems.tolist(), private, strict=True))
    return adata


class Bend:
    """Non-linear effect of each system on log expression."""

    def __init__(self, inner: Array, outer: Array, shift: Array) -> None:
        self.inner = inner  # (systems, L, H)
        self.outer = outer  # (systems, H, G)
        self.shift = shift  # (systems, G)

    @classmethod
    def draw(
        cls, rng: np.random.Generator, n_systems: int, n_latent: int, n_genes: int, size: float
    ) -> Bend:
        """Draw one bend a system; 16 hidden units."""
        hidden = 16
        inner = rng.normal(0.0, 1.0 / np.sqrt(n_latent), (n_systems, n_latent, hidden))
        outer = rng.normal(0.0, 1.0 / np.sqrt(hidden), (n_systems, hidden, n_genes))
        shift = rng.normal(0.0, 1.2, (n_systems, n_genes))
        return cls(
            inner.astype(np.float32),
            (size * outer).astype(np.float32),
            (size * shift).astype(np.float32),
        )

    def effect(self, latent: Array, system: Array) -> Array:
        """(B, G) change of log expression of cells at ``latent`` (B, L) in ``system`` (B,)."""
        out = self.shift[system]
        for s in np.unique(system):
            rows = system == s
            out[rows] += np.tanh(latent[rows] @ self.inner[s]) @ self.outer[s]
        return np.asarray(out)


def log_normalise(counts: sp.csr_matrix) -> sp.csr_matrix:
    """log1p of counts per 10 000; an empty cell stays empty."""
    total = np.asarray(counts.sum(axis=1)).ravel()
    scale = 1e4 / np.maximum(total, 1.0)
    out = counts.copy()
    out.data = np.log1p(counts.data * np.repeat(scale, np.diff(counts.indptr))).astype(np.float32)
    return out
