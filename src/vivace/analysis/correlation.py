"""How genes vary together in expression that the model believes in, free of counting noise."""

from __future__ import annotations

import numpy as np
import torch

from vivace._types import Minibatches
from vivace.analysis.expression import decode
from vivace.analysis.latent import infer
from vivace.modules.base import BaseModule


@torch.inference_mode()
def expression_draws(
    module: BaseModule,
    batches: Minibatches,
    rng: np.random.Generator,
    *,
    total: float,
    n_samples: int = 1,
    transform_batch: int | None = None,
) -> np.ndarray:
    """Expression of each cell, drawn from the gamma distribution that counts are Poisson of.

    Parameters
    ----------
    module, batches
        Of the VAE kind, and minibatches of N cells.
    rng
        Draws.
    total
        Library size of every cell.
    n_samples
        Draws S of each cell's state, with one of expression each.
    transform_batch
        Batch code to decode for; None for the observed one.

    Returns
    -------
    (S N, G) float32: ``Gamma(shape theta, rate theta / (total * scale))``, or ``total * scale`` where
    the likelihood has no dispersion.
    """
    blocks = []
    for tensors in batches:
        outputs = infer(module, tensors, n_samples=n_samples)
        px = decode(module, tensors, outputs, transform_batch)["px"]
        rate = (total * px.get_normalized("scale")).cpu().numpy()
        theta = px.parameters().get("dispersions")
        if theta is not None:
            shape = theta.expand(rate.shape).cpu().numpy()
            rate = rng.gamma(shape, rate / shape)
        blocks.append(rate.reshape(-1, rate.shape[-1]).astype(np.float32))
    return np.concatenate(blocks)


def correlations(values: np.ndarray, kind: str) -> np.ndarray:
    """Correlation of each two columns, (G, G) float64; NaN of a column that does not vary.

    Parameters
    ----------
    values
        (N, G).
    kind
        "pearson", or "spearman" for that of the ranks.

    Examples
    --------
    >>> values = np.array([[1.0, 1.0], [2.0, 4.0], [3.0, 100.0]])
    >>> float(correlations(values, "spearman")[0, 1].round(6))
    1.0
    """
    if kind == "spearman":
        from scipy.stats import rankdata

        values = rankdata(values, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.corrcoef(values, rowvar=False, dtype=np.float64)
