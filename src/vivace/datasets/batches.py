"""Simulated batches: cell types, gene-wise batch effects and batch-specific composition."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd

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


def simulate_batches(
    *,
    n_cells: int = 2000,
    n_genes: int = 1000,
    seed: int = 0,
    n_types: int = 6,
    n_batches: int = 3,
    n_latent: int = 8,
    de_fraction: float = 0.5,
    batch_effect: float = 0.4,
    library_median: float = 1000.0,
    keep_expression: bool = False,
) -> anndata.AnnData:
    """Cells of several types measured in several batches.

    latent (type centre + N(0, 0.5²)) → programme genes → share of the total → times exp(batch
    effect per gene) → negative binomial counts with one dispersion a gene and log-normal totals.
    Each batch has its own composition (Dirichlet) and its own median of the total.

    Parameters
    ----------
    n_cells, n_genes, n_types, n_batches, n_latent
        Sizes (N, G, C, number of batches, L).
    seed
        Seed of all draws; the same seed gives the same data.
    de_fraction
        Fraction of genes that differ between types; the others have exactly equal shares in all
        types.
    batch_effect
        Standard deviation of the log effect of a batch on a gene; 0 for none.
    library_median
        Median of the expected total counts of a cell.
    keep_expression
        Whether to add the true normalised expression, without batch effect, as a dense (N, G)
        layer.

    Returns
    -------
    AnnData with raw counts (CSR float32) in ``X`` and the truth in

    * ``obs``: ``cell_type``, ``batch``, ``library`` (expected total)
    * ``obsm["latent"]``: (N, L)
    * ``var``: ``is_de``, ``theta`` (inverse dispersion); ``varm["batch_effect"]``: (G, batches),
      log
    * ``varm["type_expression"]``: (G, C) mean true share of the total per type, without batch
      effect
    * ``varm["log2_fold_change"]``: (G, C) of a type against all other cells, exactly 0 where not
      ``is_de``
    * ``layers["true_expression"]``: (N, G), rows sum to 1, if asked for

    Raises
    ------
    InvalidArgumentError
        A size is not a positive whole number, or an effect is negative.

    Examples
    --------
    >>> adata = simulate_batches(n_cells=50, n_genes=20)
    >>> adata.shape, sorted(adata.obs["batch"].unique())
    ((50, 20), ['batch_0', 'batch_1', 'batch_2'])
    """
    check_at_least(1, n_cells=n_cells, n_genes=n_genes, n_types=n_types, n_latent=n_latent)
    check_at_least(1, n_batches=n_batches)
    check_positive(library_median=library_median, de_fraction=de_fraction)
    rng = np.random.default_rng(seed)
    batch = rng.permutation(np.arange(n_cells) % n_batches)
    labels = _labels_by_batch(rng, batch, n_types)
    genes = make_genes(rng, n_genes, n_latent, fraction=de_fraction)
    _, latent = latent_of_types(rng, labels, n_types, n_latent)
    shift = rng.normal(0.0, 1.0, (n_batches, n_genes)).astype(np.float32) * batch_effect
    library = libraries(rng, n_cells, library_median, 0.35)
    library *= np.exp(rng.normal(0.0, 0.2, n_batches)).astype(np.float32)[batch]

    def profile(rows: slice) -> Array:
        return genes.profile(latent[rows] @ genes.loadings, shift[batch[rows]])

    x = sample_counts(rng, library, profile, genes.theta)
    types = names("type", n_types)
    adata = assemble(
        x,
        {
            "cell_type": codes_to_categories(labels, types),
            "batch": codes_to_categories(batch, names("batch", n_batches)),
            "library": library,
        },
        {"is_de": genes.in_programme, "theta": genes.theta},
    )
    adata.obsm["latent"] = latent
    adata.varm["batch_effect"] = shift.T.copy()
    add_type_truth(adata, genes, latent, labels, types)
    if keep_expression:
        adata.layers["true_expression"] = genes.profile(latent @ genes.loadings)
    return adata


def _labels_by_batch(rng: np.random.Generator, batch: Array, n_types: int) -> Array:
    """(N,) type codes drawn from one Dirichlet composition per batch; every type has a chance."""
    composition = rng.dirichlet(np.full(n_types, 4.0), batch.max() + 1)
    u = rng.random(len(batch))
    edges = composition.cumsum(axis=1)[batch, :-1]
    return np.asarray((u[:, None] > edges).sum(axis=1))


def add_type_truth(
    adata: anndata.AnnData, genes: Genes, latent: Array, labels: Array, types: Array
) -> None:
    """Write the true mean expression and fold changes of types to ``varm`` (see above)."""
    n_types = len(types)
    n_of = np.bincount(labels, minlength=n_types)
    total = np.zeros((n_types, adata.n_vars))
    step = 2000
    for start in range(0, len(labels), step):
        rows = slice(start, start + step)
        one_hot = np.eye(n_types, dtype=np.float32)[labels[rows]]
        total += one_hot.T @ genes.profile(latent[rows] @ genes.loadings)
    with np.errstate(invalid="ignore", divide="ignore"):  # a type without cells has no mean: NaN
        mean = total / n_of[:, None]
        rest = (total.sum(axis=0) - total) / (len(labels) - n_of)[:, None]
        change = np.log2(mean / rest)
    change[:, ~genes.in_programme] = 0.0  # equal by construction; the sums above round
    for key, value in {"type_expression": mean, "log2_fold_change": change}.items():
        adata.varm[key] = pd.DataFrame(value.T, index=adata.var_names, columns=pd.Index(types))
