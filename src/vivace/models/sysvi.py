"""SysVI: integrate systems that are far apart, such as species, protocols, organoids and tissue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from vivace._settings import settings
from vivace._types import Keys
from vivace.analysis import integration
from vivace.analysis.latent import latent_mean
from vivace.data import Cells
from vivace.data.columns import column
from vivace.data.schema import write_schema
from vivace.data.setup import normalised_schema
from vivace.data.sources.normalise import TARGET
from vivace.errors import InvalidArgumentError
from vivace.models import query
from vivace.models.base import BaseModel
from vivace.models.questions import expression, groups, latent, quality
from vivace.modules.sysvae import SysVAE
from vivace.train.recipes import fast_epochs

FAST_STEPS = 3000
"""Steps of the fast recipe: systems go on mixing when the ELBO has nearly settled."""
MOST_EPOCHS = 120
"""Of small data; the weights of the best held-out loss are kept."""


class SysVI(BaseModel):
    """Integrate systems that differ more than batches do (Hrovatin et al. 2023).

    Parameters
    ----------
    adata
        AnnData that :meth:`setup_anndata` was called on.
    prior
        "vamp" (mixture of the posteriors of pseudo-inputs) or "standard_normal".
    n_prior_components
        Number K of pseudo-inputs.
    pseudoinputs_data_indices
        Rows of the K cells that the pseudo-inputs start from; default drawn at random.
    trainable_priors
        Train the pseudo-inputs.
    joint_prior
        One mixture over all latent dimensions, rather than one for each dimension.
    n_latent, n_hidden, n_layers
        Latent dimensions, width of hidden layers, layers of encoder and decoder.
    dropout_rate
        Of encoder and decoder.
    out_var_mode
        "feature": one variance for each gene; "sample_feature": for each cell and gene.
    embed_categorical_covariates
        Further categorical covariates as learned vectors; the system is always a one-hot.
    compat
        "scvi-tools" to compute what that library computes.
    **module_kwargs
        Further options of :class:`vivace.modules.SysVAE`.

    Raises
    ------
    MissingKeyError
        If the data were not set up.
    InvalidArgumentError
        If an option is not known, or does not fit the data.

    References
    ----------
    Hrovatin et al. 2023, Integrating single-cell RNA-seq datasets with substantial batch effects.

    Examples
    --------
    >>> import vivace
    >>> adata = vivace.datasets.simulate("systems", n_cells=200, n_genes=50)
    >>> vivace.SysVI.setup_anndata(adata, batch_key="system")
    >>> model = vivace.SysVI(adata, n_latent=5)
    >>> model.train(max_epochs=2, progress=False)
    >>> model.get_latent_representation().shape
    (200, 5)
    """

    module: SysVAE
    module_class = SysVAE
    compares_groups: ClassVar[bool] = True
    # the ELBO leaves out the cycle, and the loss has no warm-up: epochs compare by the whole loss
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "fast": {
            "early_stopping_monitor": "validation_loss",
            "max_epochs": partial(fast_epochs, n_steps=FAST_STEPS, most=MOST_EPOCHS),
        },
        "classic": {"early_stopping_monitor": "validation_loss", "n_epochs_kl_warmup": None},
    }
    loss_weights = {"fast": {"z_distance_cycle_weight": 5.0}}
    bound_options: ClassVar[dict[str, Any]] = {"z_distance_cycle_weight": 0}

    def __init__(
        self,
        adata: Any,
        prior: str = "vamp",
        n_prior_components: int = 5,
        pseudoinputs_data_indices: Sequence[int] | np.ndarray | None = None,
        *,
        trainable_priors: bool = True,
        joint_prior: bool = False,
        n_latent: int = 15,
        n_hidden: int = 256,
        n_layers: int = 2,
        dropout_rate: float = 0.1,
        out_var_mode: str = "feature",
        embed_categorical_covariates: bool = False,
        compat: str | None = None,
        **module_kwargs,
    ):
        super().__init__(
            adata,
            prior=prior,
            n_prior_components=n_prior_components,
            trainable_priors=trainable_priors,
            joint_prior=joint_prior,
            n_latent=n_latent,
            n_hidden=n_hidden,
            n_layers=n_layers,
            dropout_rate=dropout_rate,
            out_var_mode=out_var_mode,
            embed_categorical_covariates=embed_categorical_covariates,
            compat=compat,
            **module_kwargs,
        )
        if prior == "vamp":
            rows = self._pseudoinput_rows(pseudoinputs_data_indices, n_prior_components)
            self.module.set_pseudoinputs(self._cells().minibatch(rows))

    @classmethod
    def setup_anndata(
        cls,
        adata: Any,
        batch_key: str,
        layer: str | None = None,
        categorical_covariate_keys: Sequence[str] | None = None,
        continuous_covariate_keys: Sequence[str] | None = None,
        weight_batches: bool = False,
        normalize: bool = False,
    ) -> None:
        """Say which parts of an AnnData the model uses; kept under ``adata.uns["vivace"]``.

        Parameters
        ----------
        adata
            Cells by genes, log-normalised values. Nothing but ``.uns["vivace"]`` is written.
        batch_key
            Column of ``adata.obs`` with the system: species, protocol, organoid or tissue.
        layer
            Layer with the values; default ``adata.X``.
        categorical_covariate_keys, continuous_covariate_keys
            Lists of columns of ``adata.obs``, such as the sample within a system.
        weight_batches
            Weigh the cycle term so that every system counts the same, however many cells it has.
        normalize
            The values are raw counts, to be log-normalised inside (``log1p`` of counts per 10,000).

        Raises
        ------
        InvalidDataError
            If there are raw counts and not ``normalize``, values are not finite, a covariate has
            missing values, names repeat, or ``adata`` is a view of a file.
        MissingKeyError
            If a layer or column does not exist.
        """
        schema = normalised_schema(
            adata,
            cls.__name__,
            batch_key=batch_key,
            layer=layer,
            categorical_covariate_keys=categorical_covariate_keys,
            continuous_covariate_keys=continuous_covariate_keys,
            weight_batches=weight_batches,
            normalise=normalize,
        )
        write_schema(adata, schema)

    def _build_module(self) -> SysVAE:
        schema, options = self.schema, dict(self.options)
        n_cont = len(f.columns) if (f := schema.field(Keys.CONT_COVS)) else 0
        cats = list(schema.n_categories(Keys.CAT_COVS))
        k = options["n_prior_components"]
        # placeholders, replaced by cells in the constructor or by what was saved
        pseudoinputs = {Keys.X: torch.zeros(k, self.n_genes), Keys.BATCH: torch.zeros(k, 1).long()}
        if n_cont:
            pseudoinputs[Keys.CONT_COVS] = torch.zeros(k, n_cont)
        if cats:
            pseudoinputs[Keys.CAT_COVS] = torch.zeros(k, len(cats)).long()
        return SysVAE(
            self.n_genes,
            sum(schema.n_categories(Keys.BATCH)),
            n_continuous_cov=n_cont,
            n_cats_per_cov=cats or None,
            pseudoinput_data=pseudoinputs,
            **options,
        )

    def _pseudoinput_rows(self, given: Any, k: int) -> np.ndarray:
        cells = self._cells()
        if given is None:
            rng = np.random.default_rng(settings.seed)
            return rng.choice(cells.n_cells, k, replace=k > cells.n_cells)
        rows = self._rows(cells, given, "pseudoinputs_data_indices")
        if len(rows) != k:
            msg = f"pseudoinputs_data_indices has {len(rows)} rows; expected n_prior_components={k}"
            raise InvalidArgumentError(msg)
        return rows

    # latent space -------------------------------------------------------------------------------

    get_latent_representation = latent.get_latent_representation

    def get_integration_summary(
        self,
        labels_key: str | None = None,
        adata: Any = None,
        indices: Any = None,
        batch_size: int | None = None,
    ) -> pd.DataFrame:
        """Mixing of systems and purity of kinds of cells, before and after integration.

        Before: on 30 principal components of the values; after: on the latent means.

        Parameters
        ----------
        labels_key
            Column of ``obs`` with kinds of cells.
        adata, indices, batch_size
            As in :meth:`get_latent_representation`.

        Returns
        -------
        One row for all cells and one for each kind, see :func:`vivace.analysis.integration.summary`.

        Raises
        ------
        MissingKeyError
            If the column does not exist.
        """
        cells = self._cells(adata)
        batches, rows = self._loader(cells, indices, batch_size), self._rows(cells, indices)
        labels = None if labels_key is None else column(cells.obs, labels_key, "labels_key")
        return integration.summary(
            integration.principal_components(batches),
            latent_mean(self.module, batches),
            cells.obs[self.schema.setup_args["batch_key"]].iloc[rows],
            None if labels is None else labels.iloc[rows],
        )

    # expression ---------------------------------------------------------------------------------

    def get_normalized_expression(
        self,
        adata: Any = None,
        indices: Any = None,
        transform_batch: Any = None,
        gene_list: Sequence[str] | None = None,
        n_samples: int = 1,
        batch_size: int | None = None,
        return_mean: bool = True,
        return_numpy: bool = False,
        use_mean: bool = False,
    ) -> pd.DataFrame | np.ndarray:
        """Denoised expression on the scale of the model: log-normalised values.

        Arguments as in :meth:`vivace.SCVI.get_normalized_expression`; ``transform_batch`` names systems.

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
            n_samples=n_samples,
            use_mean=use_mean,
        )

    get_likelihood_parameters = expression.get_likelihood_parameters

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
        batch_correction: bool = True,
        batchid1: Any = None,
        batchid2: Any = None,
        fdr_target: float = 0.05,
        filter_outlier_cells: bool = False,
        **kwargs,
    ) -> pd.DataFrame:
        """Which genes differ between groups of cells, and by how much, on the normalised scale.

        Decoded values are taken off the log scale first, ``expm1(value) / 10,000``, so that fold changes
        are those of normalised expression; statistics are of raw counts where the model was given them,
        else of normalised ones. Arguments, columns and errors as in
        :meth:`vivace.SCVI.differential_expression`, but by default in change mode and with
        ``batch_correction``: both sides are decoded for all systems, so that the system makes no difference.
        """
        cells = self._cells(adata)
        decoded = groups.decoder_scales(self, cells, batch_size)

        def draw_scales(rows: np.ndarray, batch: int | None) -> np.ndarray:
            return np.expm1(np.maximum(decoded(rows, batch), 0)) / TARGET

        return groups.compare(
            self,
            cells,
            (groupby, group1, group2, idx1, idx2),
            (batch_correction, batchid1, batchid2),
            {
                "mode": mode,
                "delta": delta,
                "all_stats": all_stats,
                "fdr_target": fdr_target,
                **kwargs,
            },
            draw_scales=draw_scales,
            filter_outlier_cells=filter_outlier_cells,
            count_blocks=lambda rows: self._count_blocks(cells, rows),
        )

    def _count_blocks(self, cells: Cells, rows: np.ndarray) -> Iterator[Any]:
        """Raw counts where the model has them, else normalised counts."""
        log_values = not self.schema.setup_args["normalize"]
        for block in cells.blocks(rows):
            if not log_values:
                yield block
            elif sparse.issparse(block):
                yield block.expm1()
            else:
                yield np.expm1(block)

    # quality of the fit -------------------------------------------------------------------------

    get_elbo = quality.get_elbo
    get_reconstruction_error = quality.get_reconstruction_error

    # new cells ----------------------------------------------------------------------------------

    load_query_data: Any = classmethod(query.load_query_data)
    prepare_query_anndata = staticmethod(query.prepare_query_anndata)
