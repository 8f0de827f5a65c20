"""Where the cells of each sample lie, compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from torch.distributions import MixtureSameFamily

from vivace.analysis import abundance
from vivace.analysis.latent import latent_distribution
from vivace.data.columns import categories_of, column
from vivace.data.loader import ENCODING_BATCH_SIZE
from vivace.models.base import BaseModel
from vivace.models.questions.expression import draw_seed


def get_aggregated_posterior(
    model: BaseModel,
    adata: Any = None,
    indices: Any = None,
    batch_size: int | None = None,
    dof: float | None = 3.0,
) -> MixtureSameFamily:
    """Where cells lie in the latent space, as a distribution: their posteriors, mixed with equal weights.

    Parameters
    ----------
    adata, indices, batch_size
        As in ``get_latent_representation``.
    dof
        Degrees of freedom of Student's t, with each posterior's mean and standard deviation as place
        and width; None for the normal distribution that the posterior is.

    Returns
    -------
    torch distribution of vectors (L,); ``log_prob`` takes (..., L). Of a logistic normal latent space,
    the variable before its softmax.
    """
    batches = model._loader(adata, indices, batch_size or ENCODING_BATCH_SIZE)
    return abundance.mixture_of_posteriors(*latent_distribution(model.module, batches), dof=dof)


def differential_abundance(
    model: BaseModel,
    adata: Any = None,
    sample_key: str | None = None,
    batch_size: int | None = None,
    num_cells_posterior: int | None = None,
    dof: float | None = None,
) -> pd.DataFrame:
    """How dense the cells of each sample are where each cell lies.

    Differences between two columns say where one sample has more of its cells than another.

    Parameters
    ----------
    adata, batch_size
        As in ``get_latent_representation``.
    sample_key
        Column of ``obs`` with the samples.
    num_cells_posterior
        At most this many cells of a sample, chosen at random, stand for it; default all.
    dof
        As in ``get_aggregated_posterior``.

    Returns
    -------
    (N, samples) DataFrame of log densities of each cell's posterior mean under the aggregated posterior
    of each sample. Nothing is written to ``adata``; keep them with
    ``adata.obsm["da_log_probs"] = table``.

    Raises
    ------
    MissingKeyError
        If there is no such column.
    """
    cells = model._cells(adata)
    values = column(cells.obs, sample_key, "sample_key")
    codes, names = categories_of(values, sample_key, "sample_key")
    batches = model._loader(cells, None, batch_size or ENCODING_BATCH_SIZE)
    means, variances = latent_distribution(model.module, batches)
    rng = np.random.default_rng(draw_seed())
    found = {}
    for code, name in enumerate(names):
        rows = np.flatnonzero(codes == code)
        if num_cells_posterior is not None and num_cells_posterior < len(rows):
            rows = rng.choice(rows, num_cells_posterior, replace=False)
        law = abundance.mixture_of_posteriors(means[rows], variances[rows], dof)
        found[name] = abundance.log_densities(law, means)
    return pd.DataFrame(found, index=cells.obs_names)
