"""SCVI: embed and denoise counts, correct batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from vivace._types import Keys
from vivace.analysis import differential, expression, fit_quality, importance, latent
from vivace.data.loader import ENCODING_BATCH_SIZE
from vivace.data.schema import Schema, write_schema
from vivace.data.setup import count_schema
from vivace.errors import InvalidArgumentError, InvalidDataError
from vivace.models import answers, query
from vivace.models.base import BaseModel
from vivace.models.minify import is_minified, minified
from vivace.modules.counts import LIKELIHOODS
from vivace.modules.vae import VAE
from vivace.train.recipes import SCVI_FAST, SCVI_FAST_BATCHES


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
            **module_kwargs,
        )

    @classmethod
    def setup_anndata(
        cls,
        adata: Any,
        layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        size_factor_key: str | None = None,
        categorical_covariate_keys: Sequence[str] | None = None,
        continuous_covariate_keys: Sequence[str] | None = None,
    ) -> None:
        """Say which parts of an AnnData the model uses; kept under ``adata.uns["vivace"]``.

        Parameters
        ----------
        adata
            Cells by genes, raw counts. Nothing but ``.uns["vivace"]`` is written.
        layer
            Layer with the raw counts; default ``adata.X``.
        batch_key, labels_key
            Columns of ``adata.obs``.
        size_factor_key
            Column of ``adata.obs``, > 0, to be used instead of the library size.
        categorical_covariate_keys, continuous_covariate_keys
            Lists of columns of ``adata.obs``.

        Raises
        ------
        InvalidDataError
            If counts are negative or not finite, a covariate has missing values, names repeat, there
            are no cells or genes, or ``adata`` is a view or backed by a file.
        MissingKeyError
            If a layer or column does not exist.
        """
        schema = count_schema(
            adata,
            cls.__name__,
            layer=layer,
            batch_key=batch_key,
            labels_key=labels_key,
            size_factor_key=size_factor_key,
            categorical_covariate_keys=categorical_covariate_keys,
            continuous_covariate_keys=continuous_covariate_keys,
        )
        write_schema(adata, schema)

    def _build_module(self) -> VAE:
        module = self.module_class(**self._module_arguments())
        module.minified_data_type = _minified_type(self.schema)
        return module

    def _recipes(self) -> dict[str, dict[str, Any]]:
        """Batches need more passes to mix than all else needs to be learned."""
        batches = sum(self.schema.n_categories(Keys.BATCH)) > 1
        return {"fast": SCVI_FAST_BATCHES} if batches else SCVI.recipes

    def _module_arguments(self) -> dict[str, Any]:
        """Arguments of the module: what the schema says of the data, then the user's options."""
        schema, options = self.schema, dict(self.options)
        name = options["gene_likelihood"]
        kind = LIKELIHOODS.get(name)
        if kind is not None and kind.whole_numbers and not schema.integer_counts:
            msg = (
                f'gene_likelihood="{name}" needs whole numbers, but the counts are not; name the layer '
                'with raw counts in setup_anndata, or use "nb"'
            )
            raise InvalidDataError(msg)
        has_size_factor = schema.field(Keys.SIZE_FACTOR) is not None
        n_batch = sum(schema.n_categories(Keys.BATCH)) or 1
        arguments = {
            "n_input": self.n_genes,
            "n_batch": n_batch,
            "n_labels": sum(schema.n_categories(Keys.LABELS)) or 1,
            "n_continuous_cov": len(f.columns) if (f := schema.field(Keys.CONT_COVS)) else 0,
            "n_cats_per_cov": list(schema.n_categories(Keys.CAT_COVS)) or None,
            "use_size_factor_key": has_size_factor,
            **options,
        }
        if not options.get("use_observed_lib_size", True) and not has_size_factor:
            means, variances = self._library_prior(n_batch)
            arguments |= {"library_log_means": means, "library_log_vars": variances}
        return arguments

    # latent space -------------------------------------------------------------------------------

    def get_latent_representation(
        self,
        adata: Any = None,
        indices: Any = None,
        give_mean: bool = True,
        mc_samples: int = 5000,
        batch_size: int | None = None,
        return_dist: bool = False,
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

        Returns
        -------
        (n, L) float32, or two of them.

        Raises
        ------
        NotTrainedError
            If the model is not trained.
        """
        batches = self._loader(adata, indices, batch_size or ENCODING_BATCH_SIZE)
        if return_dist:
            return latent.latent_distribution(self.module, batches)
        if give_mean:
            return latent.latent_mean(self.module, batches, mc_samples)
        return latent.latent_sample(self.module, batches)

    def get_latent_library_size(
        self,
        adata: Any = None,
        indices: Any = None,
        give_mean: bool = True,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Library size of each cell, (n, 1).

        Parameters
        ----------
        adata, indices, batch_size
            As in :meth:`get_latent_representation`.
        give_mean
            Mean of the posterior; False gives one draw, or the observed size if it is not latent.

        Raises
        ------
        InvalidArgumentError
            If a mean is asked for and the library size is not latent.
        """
        if give_mean and self.module.use_observed_lib_size:
            msg = (
                "the library size is observed, not latent: pass give_mean=False for the observed size, "
                "or build the model with use_observed_lib_size=False"
            )
            raise InvalidArgumentError(msg)
        batches = self._loader(adata, indices, batch_size)
        return expression.latent_library_size(self.module, batches, give_mean=give_mean)

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
        if n_samples_overall is not None:
            if n_samples != 1:
                msg = "give n_samples or n_samples_overall, not both"
                raise InvalidArgumentError(msg)
            rows = self._rows(cells, indices)
            indices = np.random.default_rng(answers.draw_seed()).choice(rows, n_samples_overall)
        genes = self._gene_positions(gene_list)
        weighing = importance.ImportanceOptions.of(weights, importance_weighting_kwargs)
        if weighing is not None:
            codes = self._batch_codes(transform_batch)
            if n_samples_overall is None or len(codes) > 1 or library_size == "latent" or use_mean:
                msg = (
                    'weights="importance" draws from a group of cells: it needs n_samples_overall, at most '
                    "one transform_batch, a library_size that is a number, and use_mean=False"
                )
                raise InvalidArgumentError(msg)
            scales = self._weighted_scales(cells, indices, codes[0], batch_size, weighing)
            return float(library_size) * (scales if genes is None else scales[:, genes])
        values = expression.normalized_expression(
            self.module,
            self._loader(cells, indices, batch_size),
            transform_batch=self._batch_codes(transform_batch),
            genes=genes,
            library_size=library_size,
            n_samples=n_samples,
            use_mean=use_mean,
        )
        names = self.var_names if genes is None else self.var_names[genes]
        as_array = return_numpy or n_samples_overall is not None
        return answers.cells_table(
            self, values, cells, indices, names, average=return_mean, as_array=as_array
        )

    def _weighted_scales(
        self,
        adata: Any,
        rows: np.ndarray,
        batch: int | None,
        batch_size: int | None,
        options: importance.ImportanceOptions,
    ) -> np.ndarray:
        """(R, G) draws of expression from the exact posteriors of the cells in R rows."""
        return importance.importance_scales(
            self.module,
            lambda chosen, size: self._loader(adata, chosen, size or batch_size),
            rows,
            np.random.default_rng(answers.draw_seed()),
            options=options,
            transform_batch=batch,
        )

    def get_likelihood_parameters(
        self,
        adata: Any = None,
        indices: Any = None,
        n_samples: int = 1,
        give_mean: bool = False,
        batch_size: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Parameters of the distribution of each count.

        Parameters
        ----------
        adata, indices, batch_size
            As in :meth:`get_latent_representation`.
        n_samples
            Posterior draws S of z.
        give_mean
            Average over the draws.

        Returns
        -------
        dict with ``mean`` (n, G) or (S, n, G) and, where the likelihood has them, ``dispersions``,
        inverse dispersion, or the standard deviation of "normal"; ``dropout``, the probability of a
        technical zero.
        """
        batches = self._loader(adata, indices, batch_size)
        return expression.likelihood_parameters(
            self.module, batches, n_samples=n_samples, give_mean=give_mean
        )

    def posterior_predictive_sample(
        self,
        adata: Any = None,
        indices: Any = None,
        transform_batch: Any = None,
        n_samples: int = 1,
        gene_list: Sequence[str] | None = None,
        batch_size: int | None = None,
    ) -> sparse.csr_array | list[sparse.csr_array]:
        """Counts drawn from the fitted model.

        Parameters
        ----------
        adata, indices, batch_size, transform_batch, gene_list
            As in :meth:`get_normalized_expression`.
        n_samples
            Number S of draws.

        Returns
        -------
        (n, G) CSR array, or a list of S of them.
        """
        draws = fit_quality.predictive_samples(
            self.module,
            self._loader(adata, indices, batch_size),
            n_samples=n_samples,
            transform_batch=self._batch_codes(transform_batch),
            genes=self._gene_positions(gene_list),
        )
        return draws[0] if n_samples == 1 else draws

    # query mapping ------------------------------------------------------------------------------

    @classmethod
    def load_query_data(
        cls,
        adata: Any,
        reference_model: Any,
        freeze_dropout: bool = False,
        freeze_expression: bool = True,
        freeze_decoder_first_layer: bool = True,
        freeze_batchnorm_encoder: bool = True,
        freeze_batchnorm_decoder: bool = True,
        unfrozen: bool = False,
    ) -> Self:
        """A model of new cells that learns their batches and keeps what the reference learned.

        Train it, then ask it: its latent space is the reference's. What the reference knows, it
        still answers as before, to the bit.

        Parameters
        ----------
        adata
            New cells, with the obs columns that the reference was set up with; not modified.
        reference_model
            Trained model, or the folder it was saved to.
        freeze_dropout, freeze_expression, freeze_decoder_first_layer
            No dropout; gene weights of the encoders and latent weights of the decoder stay.
        freeze_batchnorm_encoder, freeze_batchnorm_decoder
            Batch norms stay, and use their running statistics in training too.
        unfrozen
            Train everything, starting from the reference.

        Returns
        -------
        A model that is to be trained.

        Raises
        ------
        InvalidDataError
            If genes are missing; :meth:`prepare_query_anndata` fills them in.
        InvalidArgumentError
            If the reference is another kind of model, or the cells have no new batch.

        Examples
        --------
        >>> import vivace
        >>> adata = vivace.datasets.simulate("batches", n_cells=300, n_genes=50)
        >>> new = adata.obs["batch"] == "batch_2"
        >>> reference_cells, new_cells = adata[~new].copy(), adata[new].copy()
        >>> vivace.SCVI.setup_anndata(reference_cells, batch_key="batch")
        >>> reference = vivace.SCVI(reference_cells)
        >>> reference.train(max_epochs=2, progress=False)
        >>> model = vivace.SCVI.load_query_data(new_cells, reference)
        >>> model.train(max_epochs=2, progress=False)
        >>> model.get_latent_representation().shape == (new_cells.n_obs, 10)
        True
        """
        freeze = query.Freeze(
            freeze_dropout,
            freeze_expression,
            freeze_decoder_first_layer,
            freeze_batchnorm_encoder,
            freeze_batchnorm_decoder,
            unfrozen,
        )
        return query.load_query_data(cls, adata, reference_model, freeze)

    @staticmethod
    def prepare_query_anndata(adata: Any, reference_model: BaseModel) -> Any:
        """A copy of new cells with the reference's genes, zeros where they are missing.

        See :func:`vivace.models.query.prepare_query_anndata`.
        """
        return query.prepare_query_anndata(adata, reference_model)

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
        self.adata, self.schema = minified(self)
        self.module.minified_data_type = _minified_type(self.schema)
        return self.adata

    # differential expression --------------------------------------------------------------------

    def differential_expression(
        self,
        adata: Any = None,
        groupby: str | None = None,
        group1: Any = None,
        group2: Any = None,
        idx1: Any = None,
        idx2: Any = None,
        mode: str = "vanilla",
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
            "vanilla": probability that one side expresses a gene more. "change": probability that
            the log2 fold change is at least ``delta``, and its size.
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
        options = differential.DifferentialOptions.from_kwargs(
            mode=mode, delta=delta, all_stats=all_stats, fdr_target=fdr_target, **kwargs
        )
        weighing = importance.ImportanceOptions.of(weights, importance_weighting_kwargs)
        cells = self._cells(adata)

        def draw_scales(rows: np.ndarray, batch: int | None) -> np.ndarray:
            if weighing is not None:
                return self._weighted_scales(cells, rows, batch, batch_size, weighing)
            loader = self._loader(cells, rows, batch_size)
            return expression.normalized_expression(self.module, loader, transform_batch=[batch])

        return answers.compare_groups(
            self,
            cells,
            draw_scales,
            (groupby, group1, group2, idx1, idx2),
            answers.batches_to_decode(self, batch_correction, batchid1, batchid2),
            options,
            filter_outlier_cells=filter_outlier_cells,
        )

    # quality of the fit -------------------------------------------------------------------------

    def get_elbo(
        self,
        adata: Any = None,
        indices: Any = None,
        batch_size: int | None = None,
        return_mean: bool = True,
    ) -> torch.Tensor:
        """Evidence lower bound, nats, higher is better.

        Parameters
        ----------
        adata, indices, batch_size
            As in :meth:`get_latent_representation`.
        return_mean
            Mean over cells (0-d), or one value a cell (n,).
        """
        elbo = fit_quality.cell_elbo(self.module, self._loader(adata, indices, batch_size))
        return elbo.mean() if return_mean else elbo

    def get_reconstruction_error(
        self,
        adata: Any = None,
        indices: Any = None,
        batch_size: int | None = None,
        return_mean: bool = True,
    ) -> dict[str, torch.Tensor]:
        """Negative log-likelihood of the counts given z, nats, lower is better.

        Parameters
        ----------
        adata, indices, batch_size
            As in :meth:`get_latent_representation`.
        return_mean
            Mean over cells (0-d), or one value a cell (n,).

        Returns
        -------
        ``{"reconstruction_loss": tensor}``
        """
        errors = fit_quality.reconstruction_errors(
            self.module, self._loader(adata, indices, batch_size)
        )
        return {k: v.mean() if return_mean else v for k, v in errors.items()}

    def get_marginal_ll(
        self,
        adata: Any = None,
        indices: Any = None,
        n_mc_samples: int = 1000,
        batch_size: int | None = None,
        return_mean: bool = True,
        n_mc_samples_per_pass: int = 1,
    ) -> float | torch.Tensor:
        """Log-likelihood of the counts by importance sampling, nats, higher is better.

        Parameters
        ----------
        adata, indices, batch_size
            As in :meth:`get_latent_representation`.
        n_mc_samples
            Draws of z for each cell.
        return_mean
            Mean over cells as a float, or one value a cell (n,).
        n_mc_samples_per_pass
            Draws at a time; more is faster and takes more memory.
        """
        values = fit_quality.marginal_log_likelihood(
            self.module,
            self._loader(adata, indices, batch_size),
            n_mc_samples,
            n_mc_samples_per_pass,
        )
        return values.mean().item() if return_mean else values


def _minified_type(schema: Schema) -> str | None:
    return "latent_posterior_parameters" if is_minified(schema) else None
