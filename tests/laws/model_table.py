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


def joint_embedding(adata: Any) -> Any:
    vivace.JointEmbeddingSCVI.setup_anndata(adata, batch_key="batch")
    return vivace.JointEmbeddingSCVI(adata, n_hidden=16, n_latent=3)


def contrastivevi(adata: Any) -> Any:
    vivace.ContrastiveVI.setup_anndata(adata)
    return vivace.ContrastiveVI(adata, n_hidden=16, n_background_latent=3, n_salient_latent=2)


def sysvi(adata: Any) -> Any:
    vivace.SysVI.setup_anndata(adata, batch_key="system")
    return vivace.SysVI(adata, n_hidden=16, n_latent=3)


def condscvi(adata: Any) -> Any:
    vivace.CondSCVI.setup_anndata(adata, labels_key="cell_type")
    return vivace.CondSCVI(adata, n_hidden=16, n_latent=3)


def destvi(spots: Any) -> Any:
    reference, _ = simulate("spatial", n_cells=120, n_genes=60, n_spots=80)
    cells = condscvi(reference)
    cells.train(max_epochs=1, progress=False)
    return vivace.DestVI.from_model(spots, cells, vamp_prior_p=3)


def splicevi(mdata: Any) -> Any:
    vivace.SPLICEVI.setup_mudata(mdata)
    return vivace.SPLICEVI(mdata, n_hidden=16, n_latent=3)


CASES: dict[str, Case] = {
    "CondSCVI": Case(lambda: small("spatial")()[0], condscvi),
    "ContrastiveVI": Case(
        small("contrastive"),
        contrastivevi,
        {"background_indices": range(60), "target_indices": range(60, 120)},
    ),
    "DestVI": Case(
        lambda: simulate("spatial", n_cells=120, n_genes=60, n_spots=80)[1],
        destvi,
        latent=lambda model: model.get_proportions().to_numpy(),
    ),
    "JointEmbeddingSCVI": Case(small("batches"), joint_embedding),
    "SCVI": Case(small("batches"), scvi),
    "SPLICEVI": Case(small("splicing", n_events=25, observed=0.3), splicevi),
    "SysVI": Case(small("systems"), sysvi),
}
