"""SCVI: embed and denoise counts, correct batches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch

from vivace._types import Keys
from vivace.analysis.importance import ImportanceOptions, importance_scales
from vivace.data.schema import Schema
from vivace.errors import InvalidArgumentError, InvalidDataError
from vivace.models import query
from vivace.models.base import BaseModel
from vivace.models.minify import is_minified, minified
from vivace.models.questions import abundance, expression, groups, latent, quality, setup
from vivace.models.scvi_recipe import SCVI_FAST, SCVI_FAST_BATCHES
from vivace.modules.counts import LIKELIHOODS
from vivace.modules.depth import SCALING
from vivace.modules.vae import VAE


class SCVI(BaseModel):
    """Embed and denoise counts, correct batches (Lopez et al. 2018).

    Parameters
    ----------
    adata
        AnnData that :meth:`setup_anndata` was called on.
    n_hidden, n_latent, n_layers
        Width of hidden layers, latent dimensions, layers of encoder and decoder.
    dropout_rate
        Of the encoders.
    dispersion
        "gene", "gene-batch", "gene-label" or "gene-cell".
    gene_likelihood
        A name in :data:`vivace.modules.counts.LIKELIHOODS`.
    use_observed_lib_size
        False makes the library size a latent variable.
    latent_distribution
        "normal", or "ln" (logistic normal).
    encoder_depth_scaling
        What of a cell's depth the encoder's input is divided by, in [0, 1]: 0, the counts are encoded
        as they are, as published; 1, as if all cells were of one depth. Shallow cells keep to their
        kind with 0.5 and more. The likelihood explains the counts as they are in any case.
    **module_kwargs
        Further options of :class:`vivace.modules.VAE`.

    Raises
    ------
    MissingKeyError
        If the data were not set up.
    InvalidArgumentError
        If an option is not known, or does not fit the data.

    Examples
    --------
    >>> import vivace
    >>> adata = vivace.datasets.simulate("batches", n_cells=200, n_genes=50)
    >>> vivace.SCVI.setup_anndata(adata, batch_key="batch")
    >>> model = vivace.SCVI(adata, n_latent=5)
    >>> model.train(max_epochs=2, progress=False)
    >>> adata.obsm["X_vivace"] = model.get_latent_representation()
    >>> adata.obsm["X_vivace"].shape
    (200, 5)
    """

    module: VAE
    compares_groups: ClassVar[bool] = True
    simulates_counts: ClassVar[bool] = True
    module_class: ClassVar[type[VAE]] = VAE
    likelihoods = tuple(LIKELIHOODS)
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"fast": SCVI_FAST}

    def __init__(
        self,
        adata: Any,
        n_hidden: int = 128,
        n_latent: int = 10,
        n_layers: int = 1,
        dropout_rate: float = 0.1,
        dispersion: str = "gene",
        gene_likelihood: str = "zinb",
        use_observed_lib_size: bool = True,
        latent_distribution: str = "normal",
        encoder_depth_scaling: float = SCALING,
        **module_kwargs,
    ):
        super().__init__(
            adata,
            n_hidden=n_hidden,
            n_latent=n_latent,
            n_layers=n_layers,
            dropout_rate=dropout_rate,
            dispersion=dispersion,
            gene_likelihood=gene_likelihood,
            use_observed_lib_size=use_observed_lib_size,
            latent_distribution=latent_distribution,
            encoder_depth_scaling=encoder_depth_scaling,
            **module_kwargs,
        )

    setup_anndata = classmethod(setup.setup_counts)

    def _build_module(self) -> VAE:
        module = self.module_class(**self._module_arguments())
        module.minified_data_type = _minified_type(self.schema)
        module.can_thin &= self.schema.integer_counts
        return module

    def _recipes(self) -> dict[str, dict[str, Any]]:
        """Batches need more passes to mix than all else needs to be learned."""
        batches = sum(self.schema.n_categories(Keys.BATCH)) > 1
        return {"fast": SCVI_FAST_BATCHES} if batches else SCVI.recipes

    def _module_arguments(self) -> dict[str, Any]:
        """Arguments of the module: what the schema says of the data, then the user's options."""
        schema, options = self.schema, dict(self.options)
        name = options.get("gene_likelihood", "zinb")
        kind = LIKELIHOODS.get(name)
        if kind is not None and kind.whole_numbers and not schema.integer_counts:
            msg = (
                f'gene_likelihood="{name}" needs whole numbers, but the counts are not; name the layer '
                'with raw counts in setup_anndata, or use "nb"'
            )
            raise InvalidDataError(msg)
        return {**self._counts_arguments(options), **options}

    # latent space -------------------------------------------------------------------------------

    def get_latent_representation(
        self,
        adata: Any = None,
        indices: Any = None,
        give_mean: bool = True,
        mc_samples: int = 5000,
        batch_size: int | None = None,
        return_dist: bool = False,
        out: str | Path | None = None,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Latent state of each cell.

        Parameters
        ----------
        adata
            Other cells of the same genes; default those of training.
        indices
            Rows or a mask; default all.
        give_mean
            Posterior mean, or one draw.
        mc_samples
            Draws that a logistic normal mean is averaged over.
        batch_size
            Cells at a time.
        return_dist
            Return the posterior's mean and variance (of the normal variable) instead.
        out
            File (.npy, or .zarr) to write the states to, some cells after others; the array that is
            returned (of numpy, or of zarr) reads from it.

        Returns
        -------
        (n, L) float32, or two of them.

        Raises
        ------
        NotTrainedError
            If the model is not trained.
        InvalidArgumentError
            If ``out`` cannot be written.
        """
        of = (indices, give_mean, batch_size, return_dist, mc_samples, out)
        return latent.state_of(self, adata, *of)

    get_latent_library_size = latent.get_latent_library_size

    def get_batch_representation(
        self, adata: Any = None, indices: Any = None, batch_size: int | None = None
    ) -> np.ndarray:
        """Embedding of each cell's batch, (n, dim); needs ``batch_representation="embedding"``."""
        if self.module.batch_representation != "embedding":
            msg = 'build the model with batch_representation="embedding" to have batch embeddings'
            raise InvalidArgumentError(msg)
        cells = self._loader(adata, indices, batch_size)
        with torch.inference_mode():
            vectors = [self.module.compute_embedding("batch", t[Keys.BATCH]) for t in cells]
        return torch.cat(vectors).cpu().numpy()

    # expression ---------------------------------------------------------------------------------

    def get_normalized_expression(
        self,
        adata: Any = None,
        indices: Any = None,
        transform_batch: Any = None,
        gene_list: Sequence[str] | None = None,
        library_size: float | str = 1,
        n_samples: int = 1,
        n_samples_overall: int | None = None,
        batch_size: int | None = None,
        return_mean: bool = True,
        return_numpy: bool = False,
        use_mean: bool = False,
        weights: str | None = None,
        importance_weighting_kwargs: dict[str, Any] | None = None,
    ) -> pd.DataFrame | np.ndarray:
        """Denoised expression: the decoder's share of each gene in a cell.

        Parameters
        ----------
        adata, indices, batch_size
            As in :meth:`get_latent_representation`.
        transform_batch
            Batch to decode for: a category, or a list of them to average over; default the observed.
        gene_list
            Genes to return, in this order; one name stands for a list of one.
        library_size
            Multiplies the shares; "latent" gives the mean of the counts instead.
        n_samples
            Posterior draws S of z for each cell.
        n_samples_overall
            Instead, draw this many cells with replacement, one posterior draw each.
        return_mean
            Average over the draws.
        return_numpy
            An array instead of a DataFrame.
        use_mean
            Decode the posterior mean of z, which has no noise, instead of draws.
        weights, importance_weighting_kwargs
            As in :meth:`differential_expression`; "importance" needs ``n_samples_overall`` and at most
            one batch to decode for.

        Returns
        -------
        (n, G) DataFrame of cells by genes or array; (S, n, G) array for ``n_samples > 1`` without
        ``return_mean``; (n_samples_overall, G) array.
        """
        cells = self._cells(adata)
        weighing = ImportanceOptions.of(weights, importance_weighting_kwargs)
        rows = expression.drawn_rows(self, cells, indices, n_samples, n_samples_overall)
        if weighing is not None:
            codes, genes = self._batch_codes(transform_batch), self._gene_positions(gene_list)
            if n_samples_overall is None or len(codes) > 1 or library_size == "latent" or use_mean:
                msg = (
                    'weights="importance" draws from a group of cells: it needs n_samples_overall, at most '
                    "one transform_batch, a library_size that is a number, and use_mean=False"
                )
                raise InvalidArgumentError(msg)
            scales = self._weighted_scales(cells, rows, codes[0], batch_size, weighing)
            return float(library_size) * (scales if genes is None else scales[:, genes])
        return expression.denoised(
            self,
            cells,
            rows,
            transform_batch=transform_batch,
            gene_list=gene_list,
            batch_size=batch_size,
            return_mean=return_mean,
            as_array=return_numpy or n_samples_overall is not None,
            library_size=library_size,
            n_samples=n_samples,
            use_mean=use_mean,
        )

    def _weighted_scales(
        self,
        adata: Any,
        rows: np.ndarray,
        batch: int | None,
        batch_size: int | None,
        options: ImportanceOptions,
    ) -> np.ndarray:
        """(R, G) draws of expression from the exact posteriors of the cells in R rows."""
        return importance_scales(
            self.module,
            lambda chosen, size: self._loader(adata, chosen, size or batch_size),
            rows,
            np.random.default_rng(expression.draw_seed()),
            options=options,
            transform_batch=batch,
        )

    get_likelihood_parameters = expression.get_likelihood_parameters
    posterior_predictive_sample = expression.posterior_predictive_sample
    get_feature_correlation_matrix = expression.get_feature_correlation_matrix

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
        weights: str = "uniform",
        filter_outlier_cells: bool = False,
        importance_weighting_kwargs: dict[str, Any] | None = None,
        **kwargs,
    ) -> pd.DataFrame:
        """Which genes differ between groups of cells, and by how much.

        Parameters
        ----------
        adata
            Other cells of the same genes; default those of training.
        groupby
            Column of ``obs`` with the groups.
        group1
            One group or a list; default every group.
        group2
            The group to compare each with; default all other cells ("Rest").
        idx1, idx2
            Cells instead of groups: a mask, row numbers, or a query of ``obs`` as text. ``idx2`` is all
            other cells by default.
        mode
            "change": probability that the log2 fold change is at least ``delta``, and its size.
            "vanilla": probability that one side expresses a gene more.
        delta
            Relevant log2 fold change; None estimates it from the data.
        batch_size
            Cells at a time.
        all_stats
            Add statistics of the raw counts.
        batch_correction
            Decode both sides for the same batches, so that batches make no difference.
        batchid1, batchid2
            Batch categories to decode either side for; default all.
        fdr_target
            Expected share of false discoveries among the genes that change mode marks.
        weights
            "uniform": the encoder's posterior as it is. "importance": its draws weighed by how likely
            they are under the model, which corrects the encoder's approximation; much slower.
        filter_outlier_cells
            Leave out cells that lie apart from their group in the latent space.
        importance_weighting_kwargs
            Fields of :class:`vivace.analysis.importance.ImportanceOptions`.
        **kwargs
            Further fields of :class:`vivace.analysis.differential.DifferentialOptions`.

        Returns
        -------
        One row a gene and comparison, most certain first; columns as in
        :func:`vivace.analysis.differential.differential_expression`.

        Raises
        ------
        InvalidArgumentError
            If an option is out of range or unknown, or nothing says what to compare.
        MissingKeyError
            If ``groupby`` or a group does not exist.
        NotTrainedError
            If the model is not trained.

        Examples
        --------
        >>> import vivace
        >>> adata = vivace.datasets.simulate("batches", n_cells=200, n_genes=50)
        >>> vivace.SCVI.setup_anndata(adata, batch_key="batch")
        >>> model = vivace.SCVI(adata)
        >>> model.train(max_epochs=2, progress=False)
        >>> table = model.differential_expression(groupby="cell_type", mode="change")
        >>> len(table) == 50 * adata.obs["cell_type"].nunique()
        True
        """
        weighing = ImportanceOptions.of(weights, importance_weighting_kwargs)
        cells = self._cells(adata)
        draw_scales = groups.decoder_scales(self, cells, batch_size)
        if weighing is not None:
            draw_scales = partial(
                self._weighted_scales, cells, batch_size=batch_size, options=weighing
            )
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
        )

    get_aggregated_posterior = abundance.get_aggregated_posterior
    differential_abundance = abundance.differential_abundance

    # quality of the fit -------------------------------------------------------------------------

    get_elbo = quality.get_elbo
    get_reconstruction_error = quality.get_reconstruction_error
    get_marginal_ll = quality.get_marginal_ll

    # new cells, smaller data --------------------------------------------------------------------

    load_query_data: Any = classmethod(query.load_query_data)
    prepare_query_anndata = staticmethod(query.prepare_query_anndata)

    @property
    def minified_data_type(self) -> str | None:
        """The word "latent_posterior_parameters" if the cells come without counts, else None."""
        return _minified_type(self.schema)

    def minify_adata(self) -> Any:
        """Keep each cell's posterior and library size instead of its counts.

        From then on the model uses the object without counts. Latent space, denoised expression and
        simulated counts stay as they were; what compares with counts (ELBO, marginal likelihood,
        training, differential expression) then needs ``adata=`` with counts of a model that was not
        minified.

        Returns
        -------
        AnnData without counts, to be saved beside the model and passed to ``load``. The object that
        the model had before is not modified.

        Raises
        ------
        InvalidArgumentError
            If the cells are minified already, or the library size is latent.

        Examples
        --------
        >>> import vivace
        >>> adata = vivace.datasets.simulate("batches", n_cells=100, n_genes=30)
        >>> vivace.SCVI.setup_anndata(adata)
        >>> model = vivace.SCVI(adata)
        >>> model.train(max_epochs=1, progress=False)
        >>> small = model.minify_adata()
        >>> small.X is None, model.get_latent_representation().shape
        (True, (100, 10))
        """
        small, self.schema = minified(self)
        self.adata = small
        self.module.minified_data_type = _minified_type(self.schema)
        return self.adata


def _minified_type(schema: Schema) -> str | None:
    return "latent_posterior_parameters" if is_minified(schema) else None
