"""Simulated treatment: a programme that all cells share and one that only treated cells have."""

from __future__ import annotations

import anndata
import numpy as np

from vivace.datasets._cells import (
    Array,
    Genes,
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


def simulate_contrastive(
    *,
    n_cells: int = 2000,
    n_genes: int = 1000,
    seed: int = 0,
    n_types: int = 5,
    n_latent: int = 8,
    n_salient: int = 2,
    salient_fraction: float = 0.2,
    salient_strength: float = 1.0,
    library_median: float = 1000.0,
) -> anndata.AnnData:
    """Control cells and treated cells; treated ones answer with a programme of their own.

    Every cell has a background position (cell type + scatter). Treated cells also have a salient
    position, independent of the cell type: a group of response (none, or strong along one of the
    ``n_salient`` axes) plus scatter; controls sit at exactly 0. Both act on log expression
    additively, the salient one on its own subset of genes.

    Parameters
    ----------
    n_cells, n_genes, n_types, n_latent, n_salient
        Sizes (N, G, C, dimensions of the shared and of the target-only programme).
    seed
        Seed of all draws.
    salient_fraction
        Fraction of genes in the target-only programme.
    salient_strength
        Multiplies the target-only change of log expression.
    library_median
        Median of the expected total counts of a cell.

    Returns
    -------
    AnnData with raw counts (CSR float32) in ``X`` and the truth in

    * ``obs``: ``condition`` (``control``, ``treated``; half each), ``cell_type``, ``response``
      (``none``, ``axis_0`` …; ``none`` for controls), ``library``
    * ``obsm["background_truth"]``: (N, L); ``obsm["salient_truth"]``: (N, n_salient), 0 for
      controls
    * ``var``: ``is_background``, ``is_salient``, ``theta``;
      ``varm["salient_loadings"]``: (G, n_salient), change of log expression per unit

    Raises
    ------
    InvalidArgumentError
        A size is not a positive whole number, or a number that must be positive is not.

    Examples
    --------
    >>> adata = simulate_contrastive(n_cells=50, n_genes=20)
    >>> adata.obs["condition"].value_counts().to_dict()
    {'control': 25, 'treated': 25}
    """
    check_at_least(1, n_cells=n_cells, n_genes=n_genes, n_types=n_types, n_latent=n_latent)
    check_at_least(1, n_salient=n_salient)
    check_positive(salient_fraction=salient_fraction, library_median=library_median)
    rng = np.random.default_rng(seed)
    labels = rng.integers(n_types, size=n_cells)
    treated = rng.permutation(n_cells) % 2 == 1
    genes = make_genes(rng, n_genes, n_latent)
    _, latent = latent_of_types(rng, labels, n_types, n_latent)
    response = np.where(treated, rng.integers(n_salient + 1, size=n_cells), 0)
    salient = _salient_positions(rng, treated, response, n_salient)
    weights = _salient_loadings(rng, n_genes, n_salient, salient_fraction) * salient_strength
    library = libraries(rng, n_cells, library_median, 0.35)
    every = Genes(genes.log_base, np.vstack([genes.loadings, weights]), genes.theta)
    position = np.hstack([latent, salient])

    def profile(rows: slice) -> Array:
        return every.profile(position[rows] @ every.loadings)

    x = sample_counts(rng, library, profile, genes.theta)
    axes = ["none", *names("axis", n_salient)]
    adata = assemble(
        x,
        {
            "condition": codes_to_categories(treated.astype(int), np.array(["control", "treated"])),
            "cell_type": codes_to_categories(labels, names("type", n_types)),
            "response": codes_to_categories(response, np.array(axes, dtype=object)),
            "library": library,
        },
        {
            "is_background": genes.in_programme,
            "is_salient": weights.any(axis=0),
            "theta": genes.theta,
        },
    )
    adata.obsm["background_truth"] = latent
    adata.obsm["salient_truth"] = salient
    adata.varm["salient_loadings"] = weights.T.copy()
    return adata


def _salient_positions(
    rng: np.random.Generator, treated: Array, response: Array, n_salient: int
) -> Array:
    """(N, n_salient): 3 along the axis of the response, scatter 0.5, exactly 0 for controls."""
    group = np.vstack([np.zeros(n_salient), 3 * np.eye(n_salient)])[response]
    scatter = rng.normal(0.0, 0.5, group.shape)
    return np.where(treated[:, None], group + scatter, 0.0).astype(np.float32)


def _salient_loadings(
    rng: np.random.Generator, n_genes: int, n_salient: int, fraction: float
) -> Array:
    """(n_salient, G): every gene of the programme follows one axis, up or down."""
    chosen = rng.permutation(n_genes)[: max(n_salient, round(fraction * n_genes))]
    weights = np.zeros((n_salient, n_genes), np.float32)
    size = rng.uniform(0.2, 0.6, len(chosen)) * rng.choice([-1.0, 1.0], len(chosen))
    weights[np.arange(len(chosen)) % n_salient, chosen] = size
    return weights
