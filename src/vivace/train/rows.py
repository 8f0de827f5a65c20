"""A question by several processes: each answers for a range of cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from vivace.errors import InvalidArgumentError
from vivace.train.ranks import gather, join, left_on_error


def by_rows(ask: Callable[[np.ndarray], Any], n_cells: int) -> Any:
    """Ask a question of a range of cells in every process, and put the answers together in order.

    Every process of a launcher has to call this; a single one answers for all cells. What is too large
    for the memory of one process is written by ``ask`` itself, which then returns None.

    Parameters
    ----------
    ask
        From (n,) row numbers to an array or a DataFrame with n rows, or to None.
    n_cells
        Number of cells N in all.

    Returns
    -------
    The answer with N rows, in all processes; None if ``ask`` returns None.

    Raises
    ------
    InvalidArgumentError
        If there are fewer cells than processes.
    TrainingError
        If another process has ended.

    Examples
    --------
    >>> import vivace
    >>> from vivace.datasets import simulate
    >>> adata = simulate("batches", n_cells=100, n_genes=20)
    >>> vivace.SCVI.setup_anndata(adata)
    >>> model = vivace.SCVI(adata, n_latent=3)
    >>> model.train(max_epochs=1, progress=False)
    >>> by_rows(lambda rows: model.get_latent_representation(indices=rows), adata.n_obs).shape
    (100, 3)
    """
    ranks = join()
    if n_cells < ranks.size:
        msg = f"{ranks.size} processes cannot share {n_cells} cells; start fewer"
        raise InvalidArgumentError(msg)
    first, last = (n_cells * rank // ranks.size for rank in (ranks.rank, ranks.rank + 1))
    with left_on_error(ranks):
        answers = gather(ranks, ask(np.arange(first, last)))
    if answers[0] is None or len(answers) == 1:
        return answers[0]
    return pd.concat(answers) if isinstance(answers[0], pd.DataFrame) else np.concatenate(answers)
