"""SPLICEVI: gene expression and alternative splicing in one latent space."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from vivace._settings import settings
from vivace._types import Keys
from vivace.analysis import differential_splicing, latent, splicing, splicing_start
from vivace.analysis.groups import make_plan
from vivace.data import Cells
from vivace.data.paired import PairedCells
from vivace.data.schema import write_schema
from vivace.data.selection import name_positions
from vivace.data.setup_mudata import event_totals, splicing_schema
from vivace.errors import InvalidArgumentError, UnsupportedError, check_choice
from vivace.models import query
from vivace.models.base import BaseModel
from vivace.models.files import placed
from vivace.models.questions import expression, groups, quality
from vivace.models.questions.ranges import to_file
from vivace.modules.counts import OF_COUNTS
from vivace.modules.splice import SPLICEVAE

MODALITIES = {"joint": "qz_m", "expression": "qzm_expr", "splicing": "qzm_spl"}
DRAWS = {"joint": "z", "expression": "z_expr", "splicing": "z_spl"}
MODES = ("decoder", "dm_posterior_mean")

PASSES = (10, 400)
"""Fewest and most epochs of the fast recipe."""
STEPS = 1200
"""Steps that even small data need: until then usage may not have left the mean of each junction."""


def splicing_epochs(n_cells: int, batch_size: int) -> int:
    """Epochs of the fast recipe.

    Examples
    --------
    >>> [splicing_epochs(n_cells, 32) for n_cells in (50, 360, 6400, 10**5)]
    [400, 100, 10, 10]
    """
    fewest, most = PASSES
    return min(most, max(fewest, math.ceil(STEPS / math.ceil(n_cells / batch_size))))


CELLS_TO_START_FROM = 50_000
"""Cells on disk that usage and concentrations are first taken from."""


class SPLICEVI(BaseModel):
    """Gene expression and alternative splicing in one latent space (SpliceVI).

    Parameters
    ----------
    adata
        MuData that :meth:`setup_mudata` was called on.
    n_genes, n_junctions
        Only checked against the data.
    dispersion
        "gene", "gene-batch", "gene-label" or "gene-cell", of expression.
    splicing_encoder_architecture, splicing_decoder_architecture, expression_architecture, \
splicing_loss_type, dm_concentration, modality_weights, modality_penalty, n_hidden, n_latent, \
event_dropout, psi_input
        See :class:`vivace.modules.SPLICEVAE`. The partial encoder looks at observed junctions only.
    initialize_embeddings_from_pca
        Start the junctions' embeddings from singular vectors of the ratios.
    decoder_intercept_init
        "population": start the decoder from mean usage and the concentrations from estimates;
        "default": from random weights.
    fully_paired
        Every cell has both modalities, and latent spaces of one alone are refused.
    **module_kwargs
        Further options of :class:`vivace.modules.SPLICEVAE`.

    Raises
    ------
    MissingKeyError
        If the data were not set up.
    InvalidArgumentError
        If an option is not known, or does not fit the data.

    Examples
    --------
    >>> import vivace
    >>> mdata = vivace.datasets.simulate("splicing", n_cells=120, n_genes=40, n_events=30, observed=0.3)
    >>> vivace.SPLICEVI.setup_mudata(mdata)
    >>> model = vivace.SPLICEVI(mdata, n_hidden=16, n_latent=4)
    >>> model.train(max_epochs=2, progress=False)
    >>> model.get_latent_representation(modality="splicing").shape
    (120, 4)
    """

    module: SPLICEVAE
    cells_type: ClassVar[type[Cells]] = PairedCells
    module_class = SPLICEVAE
    compares_groups = True
    likelihoods = OF_COUNTS

    recipes = {
        "fast": {
            "batch_size": 32,
            "max_epochs": splicing_epochs,
            "kl_warmup_fraction": 0.8,
            "eps": 1e-8,
        },
        "classic": {
            "optimizer": "AdamW",
            "lr": 1e-4,
            "weight_decay": 1e-3,
            "eps": 1e-8,
            "max_epochs": 500,
            "early_stopping": True,
            "early_stopping_patience": 50,
            "early_stopping_warmup_epochs": 50,
            "early_stopping_monitor": "reconstruction_loss_validation",
            "n_epochs_kl_warmup": 50,
            "max_grad_norm": 5.0,
        },
    }

    def __init__(
        self,
        adata: Any,
        n_genes: int | None = None,
        n_junctions: int | None = None,
        gene_likelihood: str = "zinb",
        dispersion: str = "gene",
        splicing_encoder_architecture: str = "partial",
        splicing_decoder_architecture: str = "vanilla",
        expression_architecture: str = "vanilla",
        n_hidden: int | None = None,
        n_latent: int | None = None,
        splicing_loss_type: str = "dirichlet_multinomial",
        dm_concentration: str = "atse",
        modality_weights: str = "equal",
        modality_penalty: str | None = "None",
        event_dropout: float = 0.3,
        psi_input: str = "deviation",
        initialize_embeddings_from_pca: bool = True,
        decoder_intercept_init: str = "population",
        fully_paired: bool = False,
        **module_kwargs,
    ):
        check_choice("decoder_intercept_init", decoder_intercept_init, ("population", "default"))
        super().__init__(
            adata,
            gene_likelihood=gene_likelihood,
            dispersion=dispersion,
            splicing_encoder_architecture=splicing_encoder_architecture,
            splicing_decoder_architecture=splicing_decoder_architecture,
            expression_architecture=expression_architecture,
            n_hidden=n_hidden,
            n_latent=n_latent,
            splicing_loss_type=splicing_loss_type,
            dm_concentration=dm_concentration,
            modality_weights=modality_weights,
            modality_penalty=modality_penalty,
            event_dropout=event_dropout,
            psi_input=psi_input,
            initialize_embeddings_from_pca=initialize_embeddings_from_pca,
            decoder_intercept_init=decoder_intercept_init,
            fully_paired=fully_paired,
            **{"decoder_covariates": None, **module_kwargs},
        )
        for name, asked, found in (
            ("n_genes", n_genes, self.n_genes),
            ("n_junctions", n_junctions, self.n_junctions),
        ):
            if asked is not None and asked != found:
                msg = f"{name}={asked} disagrees with the data, which have {found}; leave it out"
                raise InvalidArgumentError(msg)
        self._start()

    @classmethod
    def setup_mudata(
        cls,
        mdata: Any,
        rna_layer: str | None = None,
        junc_ratio_layer: str | None = None,
        atse_counts_layer: str | None = None,
        junc_counts_layer: str | None = None,
        psi_mask_layer: str | None = None,
        batch_key: str | None = None,
        size_factor_key: str | None = None,
        categorical_covariate_keys: Sequence[str] | None = None,
        continuous_covariate_keys: Sequence[str] | None = None,
        modalities: Mapping[str, str] | None = None,
        *,
        labels_key: str | None = None,
        event_key: str = "event_id",
        drop_singletons: bool = False,
    ) -> None:
        """Say which parts of a MuData the model uses; kept under ``mdata.uns["vivace"]``.

        Junction counts and the event of each junction suffice; event totals, ratios and mask follow
        from them. Where layers with these exist they are checked. A cell may lack a modality.

        Parameters
        ----------
        mdata
            MuData with a modality of genes and one of junctions. Nothing but ``.uns["vivace"]`` is
            written.
        rna_layer
            Layer with gene counts; default ``X``.
        junc_counts_layer
            Layer with junction counts; default ``cell_by_junction_matrix`` if there, else ``X``.
        junc_ratio_layer, atse_counts_layer, psi_mask_layer
            Layers to check: ratios, event totals (default ``cell_by_cluster_matrix``), mask (default
            ``psi_mask`` or ``mask``).
        batch_key, labels_key, categorical_covariate_keys, continuous_covariate_keys
            Columns of ``mdata.obs``.
        size_factor_key
            Of ``mdata.obsm`` or ``mdata.obs``; default the total gene counts.
        modalities
            Names of the modalities; default ``{"rna_layer": "rna", "junc_ratio_layer": "splicing"}``.
        event_key
            Column of the junctions' ``var`` with the event (ATSE) of each.
        drop_singletons
            Leave out events with one junction, whose ratio is always 1.

        Raises
        ------
        InvalidDataError
            If counts are negative or not finite, an event is missing, names repeat, or a layer
            contradicts the junction counts.
        MissingKeyError
            If a modality, layer or column does not exist.
        """
        schema = splicing_schema(
            mdata,
            cls.__name__,
            rna_layer=rna_layer,
            junc_ratio_layer=junc_ratio_layer,
            atse_counts_layer=atse_counts_layer,
            junc_counts_layer=junc_counts_layer,
            psi_mask_layer=psi_mask_layer,
            batch_key=batch_key,
            size_factor_key=size_factor_key,
            categorical_covariate_keys=categorical_covariate_keys,
            continuous_covariate_keys=continuous_covariate_keys,
            modalities=modalities,
            labels_key=labels_key,
            event_key=event_key,
            drop_singletons=drop_singletons,
        )
        write_schema(mdata, schema)

    @classmethod
    def setup_anndata(cls, adata: Any, **_: Any) -> NoReturn:
        """Raise: two matrices need a MuData, and :meth:`setup_mudata`."""
        msg = (
            "SPLICEVI needs gene and junction counts side by side: put them into "
            'mudata.MuData({"rna": ..., "splicing": ...}) and call SPLICEVI.setup_mudata'
        )
        raise UnsupportedError(msg)

    # facts --------------------------------------------------------------------------------------

    @property
    def junction_names(self) -> pd.Index:
        """Junctions of the model, in its order."""
        return pd.Index(self._junction_field.categories[0])

    @property
    def event_names(self) -> pd.Index:
        """Event of each junction."""
        return pd.Index(self._junction_field.categories[1])

    @property
    def n_junctions(self) -> int:
        return len(self._junction_field.categories[0])

    @property
    def _junction_field(self):
        field = self.schema.field(Keys.JUNCTIONS)
        assert field is not None
        return field

    def _build_module(self) -> SPLICEVAE:
        schema, options = self.schema, dict(self.options)
        for name in ("initialize_embeddings_from_pca", "decoder_intercept_init", "fully_paired"):
            options.pop(name)
        # models saved before this was an option, and published ones
        options.setdefault("decoder_covariates", "published")
        codes = np.unique(np.asarray(self._junction_field.categories[1]), return_inverse=True)[1]
        continuous = schema.field(Keys.CONT_COVS)
        n_obs = options.pop("n_obs", None)
        if n_obs is None:
            n_obs = self._cells().n_cells
        self.options["n_obs"] = n_obs  # weights and priors of a saved model keep their size
        return SPLICEVAE(
            n_input_genes=self.n_genes,
            n_input_junctions=self.n_junctions,
            n_batch=sum(schema.n_categories(Keys.BATCH)) or 1,
            n_obs=n_obs,
            n_labels=sum(schema.n_categories(Keys.LABELS)) or 1,
            n_cats_per_cov=list(schema.n_categories(Keys.CAT_COVS)),
            n_continuous_cov=0 if continuous is None else len(continuous.columns),
            gene_dispersion=options.pop("dispersion"),
            use_size_factor_key=options.pop("use_size_factor_key", True),
            event_index=torch.from_numpy(codes),
            **options,
        )

    def _start(self) -> None:
        """Set intercepts, concentrations and embeddings from the data."""
        options = self.options
        partial = options["splicing_encoder_architecture"] == "partial"
        from_pca = options["initialize_embeddings_from_pca"] and partial
        if options["decoder_intercept_init"] == "default" and not from_pca:
            return
        counts, codes = self._counts_to_start_from(), self.event_codes
        totals, usage = event_totals(counts, codes), splicing_start.mean_usage(counts, codes)
        if options["decoder_intercept_init"] == "population":
            log_phi = splicing_start.concentrations(counts, totals, codes, usage)
            self.module.start_from(
                torch.from_numpy(usage).float(), torch.from_numpy(log_phi).float()
            )
        if from_pca:
            table: Any = self.module.z_encoder_splicing.feature_embedding
            vectors = splicing_start.junction_directions(
                counts, codes, usage, table.shape[1], settings.seed
            )
            with torch.no_grad():
                table.copy_(torch.from_numpy(vectors))

    @property
    def event_codes(self) -> np.ndarray:
        """(J,) number of each junction's event, events in sorted order."""
        events = self.module.event_map
        assert events is not None
        return events.of_junction.cpu().numpy()

    def _counts_to_start_from(self) -> sparse.csr_array:
        """Junction counts of all cells in memory, or of some at random that are on disk."""
        cells = self._cells()
        if cells.layout is None or cells.n_cells <= CELLS_TO_START_FROM:
            return self.get_junction_counts()
        chance = np.random.default_rng(settings.seed)
        drawn = chance.choice(cells.n_cells, CELLS_TO_START_FROM, replace=False)
        return self.get_junction_counts(indices=np.sort(drawn))

    def _reads(self, cells: Cells) -> Callable[[np.ndarray], sparse.csr_array]:
        """``f(rows)``: reads of junctions of cells; in memory, all are converted once."""
        if cells.layout is not None:
            return lambda rows: self.get_junction_counts(cells, rows)
        counts = self.get_junction_counts(cells)
        return lambda rows: counts[rows]

    def get_junction_counts(self, adata: Any = None, indices: Any = None) -> sparse.csr_array:
        """Reads of junctions as the model sees them, (n, J) CSR float64, of all cells or some."""
        cells = self._cells(adata)
        rows = cells.sources[Keys.JUNCTIONS].read(self._rows(cells, indices))
        if rows.dense is not None:
            return sparse.csr_array(rows.dense, dtype=np.float64)
        arrays = (rows.data.astype(np.float64), rows.indices, rows.indptr)
        return sparse.csr_array(arrays, shape=rows.shape)

    # latent space -------------------------------------------------------------------------------

    def get_latent_representation(
        self,
        adata: Any = None,
        modality: str = "joint",
        indices: Any = None,
        give_mean: bool = True,
        batch_size: int | None = None,
        *,
        out: str | Path | None = None,
    ) -> np.ndarray:
        """Latent state of each cell.

        Parameters
        ----------
        adata
            Other cells of the same genes and junctions; default those of training.
        modality
            "joint", "expression" or "splicing": the posterior to take. A cell without observed events
            has the same splicing state as every other such cell.
        indices
            Rows or a mask; default all.
        give_mean
            Posterior mean (for a logistic normal latent space, its softmax), or one draw.
        batch_size
            Cells at a time.
        out
            File (.npy, or .zarr) to write the states to, some cells after others; the array that is
            returned (of numpy, or of zarr) reads from it.

        Returns
        -------
        (n, L) float32; (n, 2 L) for the joint space of ``modality_weights="concatenate"``.

        Raises
        ------
        NotTrainedError
            If the model is not trained.
        InvalidArgumentError
            If the modality is not known, one alone is asked of a model with ``fully_paired=True``, or
            ``out`` cannot be written.
        """
        check_choice("modality", modality, MODALITIES)
        if self.options["fully_paired"] and modality != "joint":
            msg = f'modality="{modality}" was asked of a model with fully_paired=True; use "joint"'
            raise InvalidArgumentError(msg)
        ask = partial(self._states, modality, give_mean, batch_size)
        return ask(adata, indices) if out is None else to_file(self, ask, adata, indices, out)

    def _states(
        self, modality: str, give_mean: bool, batch_size: int | None, adata: Any, indices: Any
    ) -> np.ndarray:
        found = []
        with torch.inference_mode():
            for tensors in self._loader(adata, indices, batch_size):
                outputs = latent.infer(self.module, tensors)
                if give_mean:
                    found.append(self.module.latent_of(outputs[MODALITIES[modality]]))
                else:
                    found.append(outputs[DRAWS[modality]])
        return torch.cat(found).cpu().numpy()

    def get_library_size_factors(
        self, adata: Any = None, indices: Any = None, batch_size: int | None = None
    ) -> dict[str, np.ndarray]:
        """``{"expression": (n,)}``: natural log of the library size of each cell."""
        with torch.inference_mode():
            found = [
                latent.infer(self.module, tensors)["libsize_expr"][:, 0]
                for tensors in self._loader(adata, indices, batch_size)
            ]
        return {"expression": torch.cat(found).cpu().numpy()}

    # expression ---------------------------------------------------------------------------------

    def get_normalized_expression(
        self,
        adata: Any = None,
        indices: Any = None,
        n_samples_overall: int | None = None,
        transform_batch: Any = None,
        gene_list: Sequence[str] | None = None,
        use_z_mean: bool = True,
        n_samples: int = 1,
        batch_size: int | None = None,
        return_mean: bool = True,
        return_numpy: bool = False,
    ) -> pd.DataFrame | np.ndarray:
        """Denoised expression: the decoder's share of each gene in a cell.

        Arguments as in :meth:`vivace.SCVI.get_normalized_expression`; ``use_z_mean`` is its ``use_mean``, and
        the default.

        Returns
        -------
        (n, G) DataFrame or array; (S, n, G) array for S > 1 without ``return_mean``.
        """
        cells = self._cells(adata)
        return expression.denoised(
            self,
            cells,
            self._drawn_rows(cells, indices, n_samples_overall),
            transform_batch=transform_batch,
            gene_list=gene_list,
            batch_size=batch_size,
            return_mean=return_mean,
            as_array=return_numpy,
            n_samples=n_samples,
            use_mean=use_z_mean and n_samples == 1,
        )

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
        **kwargs,
    ) -> pd.DataFrame:
        """Which genes differ between groups of cells: log2 fold change of group 1 over group 2.

        Arguments and columns as in :meth:`vivace.SCVI.differential_expression`.
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
        )

    # splicing -----------------------------------------------------------------------------------

    def get_normalized_splicing(
        self,
        adata: Any = None,
        indices: Any = None,
        n_samples_overall: int | None = None,
        transform_batch: Any = None,
        junction_list: Sequence[str] | None = None,
        use_z_mean: bool = True,
        n_samples: int = 1,
        batch_size: int | None = None,
        return_mean: bool = True,
        return_numpy: bool = False,
        *,
        mode: str = "decoder",
        entries: tuple[np.ndarray, np.ndarray] | None = None,
        observed_only: bool = False,
        out: str | Path | None = None,
    ) -> pd.DataFrame | np.ndarray | sparse.csr_array:
        """Usage (PSI) of each junction in each cell.

        Parameters
        ----------
        adata, indices, n_samples_overall, transform_batch, use_z_mean, n_samples, batch_size, \
return_mean, return_numpy
            As in :meth:`get_normalized_expression`.
        junction_list
            Junctions to return, in this order; one name stands for a list of one. Not with ``entries``,
            which say it themselves.
        mode
            "decoder": usage the model expects of such a cell; "dm_posterior_mean": that, updated with
            the cell's own reads, (phi p + y) / (phi + n).
        entries
            Positions ``(cells, junctions)``, row numbers among ``indices`` and column numbers: only
            these are decoded. Draws are averaged.
        observed_only
            Only observed entries, as CSR; for data with many junctions. Draws are averaged.
        out
            A ``.npy`` file to write the matrix to, cell by cell; the mapped file is returned.

        Returns
        -------
        (n, J) DataFrame or array; (S, n, J) array for S > 1 without ``return_mean``; (M,) array for
        ``entries``; (n, J) CSR for ``observed_only``. Values in [0, 1].

        Raises
        ------
        InvalidArgumentError
            If the binomial likelihood, which has no concentration, is asked for posterior means; if
            a position does not exist; if arguments contradict each other: two of ``entries``,
            ``observed_only`` and ``out``, ``entries`` and ``junction_list``, or single draws
            (``return_mean=False``) of what has no axis for them.
        """
        check_choice("mode", mode, MODES)
        draws = (n_samples,) if n_samples > 1 and not return_mean else ()
        _check_together(entries, observed_only, out, junction_list, apart=bool(draws))
        if mode == "dm_posterior_mean":
            splicing.junction_phi(self.module)
        adata = self._cells(adata)
        rows = self._drawn_rows(adata, indices, n_samples_overall)
        loader = self._loader(adata, rows, batch_size)
        shared: dict[str, Any] = {
            "transform_batch": self._batch_codes(transform_batch),
            "n_samples": n_samples,
            "use_mean": use_z_mean and n_samples == 1,
        }
        columns = self._junction_positions(junction_list)
        if entries is not None:
            found = splicing.splicing_at(self.module, loader, *entries, **shared)
            return found["p" if mode == "decoder" else "psi"]
        if observed_only:
            psi = splicing.observed_splicing(self.module, loader, mode=mode, **shared)
            return psi if columns is None else sparse.csr_array(psi[:, columns])
        blocks = splicing.splicing_blocks(
            self.module, loader, mode=mode, junctions=columns, **shared
        )
        if n_samples > 1 and return_mean:
            blocks = (block.mean(0) for block in blocks)
        n_columns = self.n_junctions if columns is None else len(columns)
        values = splicing.collect(blocks, (*draws, loader.n_obs, n_columns), out)
        if out is not None:
            return values
        names = self.junction_names if columns is None else self.junction_names[columns]
        return expression.cells_table(
            values, adata.obs_names[rows], names, average=False, as_array=return_numpy
        )

    def get_normalized_splicing_DM(self, *args: Any, **kwargs: Any) -> Any:
        """:meth:`get_normalized_splicing` with ``mode="dm_posterior_mean"``."""
        return self.get_normalized_splicing(*args, **kwargs, mode="dm_posterior_mean")

    def impute_splicing(
        self,
        cells: np.ndarray,
        junctions: np.ndarray,
        adata: Any = None,
        *,
        n_samples: int = 25,
        level: float = 0.9,
        transform_batch: Any = None,
        batch_size: int | None = None,
    ) -> pd.DataFrame:
        """Usage at single positions, with its uncertainty.

        Parameters
        ----------
        cells, junctions
            (M,) row and column numbers, observed or not; negative ones count from the end.
        adata
            Other cells; default those of training.
        n_samples
            Draws of z.
        level
            Probability of the interval, in (0, 1).
        transform_batch, batch_size
            As in :meth:`get_normalized_expression`.

        Returns
        -------
        DataFrame with ``cell``, ``junction``, ``psi`` (posterior mean given what is read in the cell),
        ``std``, ``lower`` and ``upper``: of a beta distribution with the posterior's mean and variance,
        over draws of z and the Dirichlet of the event.

        Raises
        ------
        InvalidArgumentError
            If a position does not exist, or ``level`` is out of range.
        """
        shape = (self._cells(adata).n_cells, self.n_junctions)
        cells, junctions = splicing.read_positions(cells, junctions, shape)
        rows, where = np.unique(cells, return_inverse=True)
        found = splicing.splicing_at(
            self.module,
            self._loader(adata, rows, batch_size),
            where,
            junctions,
            n_samples=n_samples,
            use_mean=False,
            transform_batch=self._batch_codes(transform_batch),
        )
        lower, upper = splicing.beta_interval(found["psi"], found["variance"], level)
        return pd.DataFrame(
            {
                "cell": self._cells(adata).obs_names[cells],
                "junction": self.junction_names[junctions],
                "psi": found["psi"],
                "std": np.sqrt(found["variance"]),
                "lower": lower,
                "upper": upper,
            }
        )

    def differential_splicing(
        self,
        adata: Any = None,
        groupby: str | None = None,
        group1: Any = None,
        group2: Any = None,
        idx1: Any = None,
        idx2: Any = None,
        mode: str = "change",
        delta: float = 0.10,
        norm_splicing_function: str = "dm_posterior_mean",
        batch_size: int | None = None,
        fdr_target: float = 0.05,
        *,
        n_samples_overall: int = 5000,
        test_mode: str = "three",
        transform_batch: Any = None,
    ) -> pd.DataFrame:
        """Which junctions are used differently, as difference of usage: group 2 minus group 1.

        Parameters
        ----------
        adata, groupby, group1, group2, idx1, idx2
            As in :meth:`vivace.SCVI.differential_expression`: default every group against the rest.
        mode, delta, norm_splicing_function, fdr_target, n_samples_overall, test_mode
            See :class:`vivace.analysis.differential_splicing.SplicingOptions`.
        batch_size
            Cells at a time.
        transform_batch
            Batch to decode both sides for; default the observed ones.

        Returns
        -------
        Columns as in :func:`vivace.analysis.differential_splicing.differential_splicing`.
        """
        options = differential_splicing.SplicingOptions(
            mode=mode,
            delta=delta,
            fdr_target=fdr_target,
            n_samples_overall=n_samples_overall,
            norm_splicing_function=norm_splicing_function,
            test_mode=test_mode,
        )
        adata = self._cells(adata)
        plan = make_plan(adata.obs, groupby, group1, group2, idx1, idx2)
        var = pd.DataFrame({"event_id": self.event_names}, index=self.junction_names)
        known = adata.data.mod[self.schema.setup_args["modalities"]["junc_ratio_layer"]].var
        gene = next((name for name in ("gene_name", "gene") if name in known), None)
        if gene is not None:
            var["gene_name"] = known.loc[self.junction_names, gene].to_numpy()
        return differential_splicing.differential_splicing(
            self.module,
            lambda rows: self._loader(adata, rows, batch_size),
            self._reads(adata),
            var,
            plan,
            options=options,
            batch=self._batch_codes(transform_batch)[0],
            rng=np.random.default_rng(expression.draw_seed()),
        )

    # quality of the fit -------------------------------------------------------------------------

    get_elbo = quality.get_elbo
    get_reconstruction_error = quality.get_reconstruction_error

    # new cells ----------------------------------------------------------------------------------

    @classmethod
    def load_query_data(
        cls,
        mdata: Any,
        reference_model: Any,
        accelerator: str = "cpu",
        device: str | int = "auto",
        **freeze: bool,
    ) -> Self:
        """A model of new cells that learns their batches and keeps what the reference learned.

        As :meth:`vivace.SCVI.load_query_data`; ``freeze`` are fields of
        :class:`vivace.modules.transfer.Freeze`.

        Raises
        ------
        InvalidDataError
            If genes or junctions are missing, or junctions form other events.
        InvalidArgumentError
            If the reference is another kind of model, the cells have no new batch, or
            ``modality_weights="cell"``, whose weights belong to the reference's cells.
        """
        reference = (
            reference_model
            if hasattr(reference_model, "module")
            else cls.load(reference_model, adata=False)
        )
        if reference.options.get("modality_weights") == "cell":
            msg = (
                'modality_weights="cell" has a weight for each training cell and none for others; map '
                'new cells onto a reference with "universal" or "equal"'
            )
            raise InvalidArgumentError(msg)
        model = query.map_cells(cls, mdata, reference, query.Freeze(**freeze))
        return placed(model, accelerator, device)

    # helpers ------------------------------------------------------------------------------------

    def _drawn_rows(self, adata: Any, indices: Any, n_samples_overall: int | None) -> np.ndarray:
        return expression.drawn_rows(self, self._cells(adata), indices, 1, n_samples_overall)

    def _junction_positions(self, junction_list: Sequence[str] | None) -> np.ndarray | None:
        return name_positions(junction_list, self.junction_names, "junction_list", "junction")


def _check_together(
    entries: Any, observed_only: bool, out: Any, junction_list: Any, *, apart: bool
) -> None:
    """Refuse answers that would leave out what was asked for."""
    given = {"entries": entries is not None, "observed_only": observed_only, "out": out is not None}
    forms = [name for name, asked in given.items() if asked]
    what = None
    if len(forms) > 1:
        what = f"{forms[0]} and {forms[1]} are different forms of the answer: give one of them"
    elif entries is not None and junction_list is not None:
        what = "entries say themselves which junctions to decode: leave junction_list out"
    elif apart and (entries is not None or observed_only):
        what = (
            f"return_mean=False with n_samples > 1 needs an axis for the draws, which the answer to "
            f"{forms[0]} has not: leave return_mean=True, or ask without {forms[0]}"
        )
    if what is not None:
        raise InvalidArgumentError(what)
