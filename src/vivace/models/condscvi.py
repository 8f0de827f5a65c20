"""CondSCVI: how the cells of a type differ among themselves, the reference half of DestVI."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from vivace._types import Keys
from vivace.analysis import deconvolution
from vivace.analysis.latent import latent_distribution
from vivace.data.columns import read_names, text_of
from vivace.data.schema import write_schema
from vivace.data.setup import count_schema, partly_known
from vivace.models.base import BaseModel
from vivace.models.questions import expression, groups, kinds, latent, quality
from vivace.modules.vaec import VAEC
from vivace.train.recipes import fast_epochs

CLUSTER_COLUMN = "overclustering_vamp"
"""Column of ``obs`` whose clusters, if it is there, are the components of the prior."""
RARE = 0.05
"""Share below which a type gets no further weight."""
FAST_STEPS = 3000
"""Steps of the fast recipe: rare types take more of them than a latent space of all cells does."""
MOST_EPOCHS = 120
"""The most epochs of the fast recipe. With a reference of 330 cells, DestVI estimated proportions less
accurately after 40 epochs, and after 300 it was less accurate on spots made of other cells."""


class CondSCVI(BaseModel):
    """A model of the cells of each type, to tell states within types apart (Lopez et al. 2022).

    Trained on labelled single cells, it is the reference that :class:`vivace.DestVI` reads spots with.

    Parameters
    ----------
    adata
        AnnData that :meth:`setup_anndata` was called on, with ``labels_key``.
    n_hidden, n_latent, n_layers
        Width of hidden layers, latent dimensions, layers of encoder and decoder.
    weight_obs
        Weigh rare types up in the loss, by the inverse of their share (at least 5 %). The weights have
        mean 1 over cells, so that they change neither learning rate nor balance.
    dropout_rate
        Of encoder and decoder.
    compat
        "scvi-tools" leaves the weights of ``weight_obs`` without normalisation.
    **module_kwargs
        Further options of :class:`vivace.modules.VAEC`, such as ``prior="mog"``.

    Raises
    ------
    MissingKeyError
        If the data were not set up.

    Examples
    --------
    >>> import vivace
    >>> reference, spots = vivace.datasets.simulate("spatial", n_cells=120, n_genes=60, n_spots=20)
    >>> vivace.CondSCVI.setup_anndata(reference, labels_key="cell_type")
    >>> model = vivace.CondSCVI(reference)
    >>> model.train(max_epochs=2, progress=False)
    >>> model.get_latent_representation().shape
    (120, 5)
    """

    module: VAEC
    module_class = VAEC
    compares_groups: ClassVar[bool] = True
    simulates_counts: ClassVar[bool] = True
    default_train_size: ClassVar[float | None] = 1.0
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "fast": {
            "batch_size": 32,
            "lr": 5e-3,
            "kl_warmup_fraction": 0.3,
            "max_epochs": partial(fast_epochs, n_steps=FAST_STEPS, most=MOST_EPOCHS),
        },
        "classic": {"max_epochs": 300},
    }

    def __init__(
        self,
        adata: Any,
        n_hidden: int = 128,
        n_latent: int = 5,
        n_layers: int = 2,
        weight_obs: bool = False,
        dropout_rate: float = 0.05,
        *,
        compat: str | None = None,
        **module_kwargs,
    ):
        super().__init__(
            adata,
            n_hidden=n_hidden,
            n_latent=n_latent,
            n_layers=n_layers,
            weight_obs=weight_obs,
            dropout_rate=dropout_rate,
            compat=compat,
            **module_kwargs,
        )

    @classmethod
    def setup_anndata(
        cls,
        adata: Any,
        batch_key: str | None = None,
        labels_key: str | None = None,
        fine_labels_key: str | None = None,
        layer: str | None = None,
        unlabeled_category: str = "unlabeled",
    ) -> None:
        """Say which parts of an AnnData the model uses; kept under ``adata.uns["vivace"]``.

        Without ``labels_key`` all cells are of one type.

        Parameters
        ----------
        adata
            Cells by genes, raw counts. Nothing but ``.uns["vivace"]`` is written.
        batch_key
            Column of ``adata.obs`` with the batch.
        labels_key
            Column of ``adata.obs`` with the cell types, within which the model tells states apart.
        fine_labels_key
            Column of ``adata.obs`` with sub-types, for a classifier of states.
        layer
            Layer with the raw counts; default ``adata.X``.
        unlabeled_category
            Value of the fine labels that means "not known".

        Raises
        ------
        InvalidDataError, MissingKeyError
            As in :meth:`vivace.SCVI.setup_anndata`.
        """
        schema = count_schema(
            adata, cls.__name__, layer=layer, batch_key=batch_key, labels_key=labels_key
        )
        fine = read_names(fine_labels_key=fine_labels_key)
        if fine_labels_key is not None:
            schema = schema.with_field(
                partly_known(adata.obs, fine_labels_key, unlabeled_category, "fine_labels_key")
            )
        schema.setup_args.update(**fine, unlabeled_category=text_of(unlabeled_category))
        write_schema(adata, schema)

    def _build_module(self) -> VAEC:
        options = dict(self.options)
        compat, weight_obs = options.pop("compat", None), options.pop("weight_obs")
        n_fine = len(self.fine_labels)
        return VAEC(
            self.n_genes,
            n_labels=len(self.labels),
            n_batch=sum(self.schema.n_categories(Keys.BATCH)) or 1,
            n_fine_labels=n_fine or None,
            ct_weight=self._type_weights(compat) if weight_obs else None,
            **options,
        )

    def _type_weights(self, compat: str | None) -> np.ndarray | None:
        if self.adata is None:  # loading: the saved weights hold them
            return None
        codes = self._cells().columns[Keys.LABELS][:, 0]
        share = np.bincount(codes, minlength=len(self.labels)) / len(codes)
        floored = np.maximum(share, RARE)
        weights = floored.sum() / floored
        return weights if compat == "scvi-tools" else weights / (weights * share).sum()

    # facts --------------------------------------------------------------------------------------

    @property
    def labels(self) -> list[str]:
        """Cell types, in the order of their codes."""
        field = self.schema.field(Keys.LABELS)
        return list(field.categories[0]) if field and field.categories else ["all"]

    fine_labels = property(kinds.fine_labels)

    # latent space -------------------------------------------------------------------------------

    get_latent_representation = latent.get_latent_representation

    def get_vamp_prior(self, adata: Any = None, p: int | None = 10) -> dict[str, np.ndarray]:
        """Mixture over the states of each type, the prior that DestVI gives its spots.

        A model with ``prior="mog"`` returns the mixture it learned. Otherwise the posterior means of
        a type's cells are clustered; a component has the mean of a cluster, the mean variance of its
        cells plus the variance of their means, and the cluster's share as weight.

        Parameters
        ----------
        adata
            Cells; default those of training. Their column ``obs["overclustering_vamp"]``, if there is
            one, names the clusters.
        p
            Components P of each type; None or more than a type's cells: every cell is one.

        Returns
        -------
        dict of float32 arrays ``mean_vprior`` (C, P, L), ``var_vprior`` (C, P, L), ``weights_vprior``
        (C, P). Components that are not used have mean 0, variance 1, weight 0.

        Raises
        ------
        InvalidArgumentError
            If the column names more than ``p`` clusters in a type.
        """
        self._loader()  # refuses a model that is not trained
        if self.module.prior == "mog":
            return deconvolution.learned_prior(self.module)
        cells = self._cells(adata)
        means, variances = latent_distribution(self.module, self._loader(cells))
        return deconvolution.vamp_prior(
            means,
            variances,
            cells.columns[Keys.LABELS][:, 0],
            len(self.labels),
            p,
            clusters=cells.obs[CLUSTER_COLUMN].to_numpy() if CLUSTER_COLUMN in cells.obs else None,
        )

    # types --------------------------------------------------------------------------------------

    predict = kinds.predict

    def confusion_coarse_celltypes(
        self, adata: Any = None, indices: Any = None, batch_size: int | None = None
    ) -> dict[str, np.ndarray]:
        """Reconstruction loss of each cell if it were of another type.

        Parameters
        ----------
        adata, indices, batch_size
            As in :meth:`get_latent_representation`.

        Returns
        -------
        dict from each type, and "original", to (n,) nats; lower is a better explanation.
        """
        batches = self._loader(adata, indices, batch_size)
        return deconvolution.losses_by_type(self.module, batches, self.labels)

    # expression ---------------------------------------------------------------------------------

    def get_normalized_expression(
        self,
        adata: Any = None,
        indices: Any = None,
        transform_batch: Any = None,
        gene_list: Sequence[str] | None = None,
        library_size: float | str = 1,
        n_samples: int = 1,
        batch_size: int | None = None,
        return_mean: bool = True,
        return_numpy: bool = False,
        use_mean: bool = False,
    ) -> pd.DataFrame | np.ndarray:
        """Denoised expression: the decoder's share of each gene in a cell of its type.

        Arguments as in :meth:`vivace.SCVI.get_normalized_expression`.

        Returns
        -------
        (n, G) DataFrame of cells by genes or array; (S, n, G) array for ``n_samples > 1`` without
        ``return_mean``.
        """
        return expression.denoised(
            self,
            adata,
            indices,
            transform_batch=transform_batch,
            gene_list=gene_list,
            batch_size=batch_size,
            return_mean=return_mean,
            as_array=return_numpy,
            library_size=library_size,
            n_samples=n_samples,
            use_mean=use_mean,
        )

    get_likelihood_parameters = expression.get_likelihood_parameters
    posterior_predictive_sample = expression.posterior_predictive_sample

    # groups compared ----------------------------------------------------------------------------

    def differential_expression(
        self,
        adata: Any = None,
        groupby: str | None = None,
        group1: Any = None,
        group2: Any = None,
        idx1: Any = None,
        idx2: Any = None,
        mode: str = "change",
        delta: float | None = 0.25,
        batch_size: int | None = None,
        all_stats: bool = True,
        batch_correction: bool = False,
        batchid1: Any = None,
        batchid2: Any = None,
        fdr_target: float = 0.05,
        filter_outlier_cells: bool = False,
        **kwargs,
    ) -> pd.DataFrame:
        """Which genes differ between groups of cells, and by how much.

        Arguments, columns and errors as in :meth:`vivace.SCVI.differential_expression`.
        """
        return groups.compare(
            self,
            self._cells(adata),
            (groupby, group1, group2, idx1, idx2),
            (batch_correction, batchid1, batchid2),
            {
                "mode": mode,
                "delta": delta,
                "all_stats": all_stats,
                "fdr_target": fdr_target,
                **kwargs,
            },
            batch_size=batch_size,
            filter_outlier_cells=filter_outlier_cells,
        )

    # quality of the fit -------------------------------------------------------------------------

    get_elbo = quality.get_elbo
    get_reconstruction_error = quality.get_reconstruction_error
