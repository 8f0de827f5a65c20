"""One row a model: how to make data for it, build it, and ask it where cells lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import vivace
from vivace.datasets import simulate


@dataclass(frozen=True)
class Case:
    """What the laws need to know of a model.

    Attributes
    ----------
    data
        Makes a small data object.
    build
        Sets it up and builds an untrained model.
    train
        Further arguments of ``train``.
    latent
        Answers an array with a row a cell.
    """

    data: Callable[[], Any]
    build: Callable[[Any], Any]
    train: dict[str, Any] = field(default_factory=dict)
    latent: Callable[[Any], np.ndarray] = lambda model: model.get_latent_representation()


def small(kind: str, **options: Any) -> Callable[[], Any]:
    return lambda: simulate(kind, n_cells=120, n_genes=30, **options)


def scvi(adata: Any) -> Any:
    vivace.SCVI.setup_anndata(adata, batch_key="batch")
    return vivace.SCVI(adata, n_hidden=16, n_latent=3)


def contrastivevi(adata: Any) -> Any:
    vivace.ContrastiveVI.setup_anndata(adata)
    return vivace.ContrastiveVI(adata, n_hidden=16, n_background_latent=3, n_salient_latent=2)


CASES: dict[str, Case] = {
    "ContrastiveVI": Case(
        small("contrastive"),
        contrastivevi,
        {"background_indices": range(60), "target_indices": range(60, 120)},
    ),
    "SCVI": Case(small("batches"), scvi),
}
