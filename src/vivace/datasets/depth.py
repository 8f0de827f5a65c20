"""Simulated depth: half of the cells measured deeply, half with 20 to 200 counts."""

from __future__ import annotations

import anndata
import numpy as np
import scipy.sparse as sp

from vivace.datasets._cells import Array, check_positive, codes_to_categories
from vivace.datasets.batches import simulate_batches
from vivace.errors import InvalidArgumentError


def simulate_depth(
    *,
    n_cells: int = 2000,
    n_genes: int = 1000,
    seed: int = 0,
    n_types: int = 6,
    n_latent: int = 8,
    de_fraction: float = 0.5,
    library_median: float = 2000.0,
    shallow_range: tuple[float, float] = (20.0, 200.0),
) -> anndata.AnnData:
    """Cells of one batch, half of them thinned to very few counts.

    Cells come from :func:`~vivace.datasets.batches.simulate_batches` with one batch. A random half
    is thinned binomially to a target total, log-uniform over ``shallow_range``; what they were
    before stays beside them, so that every shallow cell has a deep twin to compare with.

    Parameters
    ----------
    n_cells, n_genes, n_types, n_latent, de_fraction, library_median, seed
        As for ``simulate("batches")``.
    shallow_range
        Lowest and highest expected total of a shallow cell.

    Returns
    -------
    AnnData with raw counts (CSR float32) in ``X`` and, besides the keys of ``simulate("batches")``
    (without batch effects),

    * ``obs["depth"]``: ``deep`` or ``shallow``; ``obs["target_total"]``: expected total of a cell
      in ``X``
    * ``layers["deep"]``: counts before thinning (equal to ``X`` for deep cells)

    Raises
    ------
    InvalidArgumentError
        A size is out of range, or ``shallow_range`` is not 0 < low <= high.

    Examples
    --------
    >>> adata = simulate_depth(n_cells=50, n_genes=20)
    >>> adata.obs["depth"].value_counts().to_dict()
    {'deep': 25, 'shallow': 25}
    """
    low, high = shallow_range
    check_positive(shallow_range=low)
    if high < low:
        msg = f"shallow_range={shallow_range} was given; expected low <= high."
        raise InvalidArgumentError(msg)
    adata = simulate_batches(
        n_cells=n_cells, n_genes=n_genes, seed=seed, n_types=n_types, n_batches=1,
        n_latent=n_latent, de_fraction=de_fraction, batch_effect=0.0, library_median=library_median,
    )  # fmt: skip
    del adata.obs["batch"], adata.varm["batch_effect"]
    rng = np.random.default_rng([seed, 1])  # apart from the stream that drew the cells
    shallow = rng.permutation(n_cells) % 2 == 1
    total = np.asarray(adata.X.sum(axis=1)).ravel()
    target = np.where(shallow, np.exp(rng.uniform(np.log(low), np.log(high), n_cells)), total)
    target = np.minimum(target, total)
    adata.layers["deep"] = adata.X
    adata.X = thin(rng, adata.X, target / np.maximum(total, 1.0))
    adata.obs["depth"] = codes_to_categories(shallow.astype(int), np.array(["deep", "shallow"]))
    adata.obs["target_total"] = target
    return adata


def thin(rng: np.random.Generator, counts: sp.csr_matrix, keep: Array) -> sp.csr_matrix:
    """Keep each count of a cell with probability ``keep`` (N,); work only on the non-zeros."""
    share = np.repeat(keep, np.diff(counts.indptr))
    data = rng.binomial(counts.data.astype(np.int64), share).astype(np.float32)
    out = sp.csr_matrix((data, counts.indices.copy(), counts.indptr.copy()), shape=counts.shape)
    out.eliminate_zeros()
    return out
