"""ContrastiveVI: what the treated cells have that controls have not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from vivace._settings import seeded
from vivace._types import Keys, Minibatch
from vivace.analysis import differential, expression, fit_quality, groups, latent, populations
from vivace.data import Cells, Loader, Split, ZippedLoader, split_cells
from vivace.data.columns import text_of
from vivace.data.loader import ENCODING_BATCH_SIZE
from vivace.data.schema import write_schema
from vivace.data.setup import count_schema
from vivace.errors import InvalidArgumentError, check_choice
from vivace.models import answers, query
from vivace.models.base import BaseModel
from vivace.modules.contrastive import ContrastiveVAE
from vivace.modules.counts import OVERDISPERSED
from vivace.modules.pairs import POPULATIONS
from vivace.modules.population import Population
from vivace.train import TrainOptions
from vivace.train.recipes import FAST, fast_epochs

KINDS = ("background", "salient")
ONE_TARGET = "target"
"""Name of the condition when the target is not divided."""


@dataclass(frozen=True)
class ContrastiveSplit(Split):
    """Training, validation and test rows, and which population each row of them belongs to.

    Attributes
    ----------
    background
        All background rows.
    target
        All target rows.
    condition
        Position of each target row's condition among the names of conditions.
    """

    background: np.ndarray
    target: np.ndarray
    condition: np.ndarray


class ContrastiveVI(BaseModel):
    """What target cells have that background cells have not (Weinberger et al. 2023).

    Parameters
    ----------
    adata
        AnnData that :meth:`setup_anndata` was called on.
    n_hidden
        Width of hidden layers.
    n_background_latent, n_salient_latent
        Dimensions of what all cells share, and of what is new in the target.
    n_layers
        Layers of encoders and decoder.
    dropout_rate
        Of the encoders.
    use_observed_lib_size
        False makes the library size a latent variable.
    wasserstein_penalty
        Weight of a penalty that draws the salient posterior of background cells to 0.
    gene_likelihood
        A name in :data:`vivace.modules.counts.OVERDISPERSED`.
    dispersion
        "gene", "gene-batch" or "gene-label"; default "gene-label" if labels were registered.
    compat
        "scvi-tools" to decode for other batches as that library does.

    Raises
    ------
    MissingKeyError
        If the data were not set up.
    InvalidArgumentError
        If an option is not known, or does not fit the data.

    References
    ----------
    Weinberger, Lin & Lee 2023, Isolating salient variations of interest in single-cell data with
    contrastiveVI, Nat Methods.

    Examples
    --------
    >>> import vivace
    >>> adata = vivace.datasets.simulate("contrastive", n_cells=200, n_genes=50)
    >>> vivace.ContrastiveVI.setup_anndata(adata)
    >>> model = vivace.ContrastiveVI(adata, n_salient_latent=2)
    >>> treated = (adata.obs["condition"] == "treated").to_numpy()
    >>> model.train(~treated, treated, max_epochs=2, progress=False)
    >>> model.get_latent_representation(indices=treated, representation_kind="salient").shape
    (100, 2)
    """

    module: ContrastiveVAE
    module_class = ContrastiveVAE
    split: ContrastiveSplit | None
    likelihoods = OVERDISPERSED
    split_type: ClassVar[type[Split]] = ContrastiveSplit
    latent_spaces: ClassVar[dict[str, dict[str, str]]] = {
        name: {"representation_kind": name} for name in ("background", "salient")
    }
    compares_groups: ClassVar[bool] = True
    simulates_counts: ClassVar[bool] = True

    def __init__(
        self,
        adata: Any,
        n_hidden: int = 128,
        n_background_latent: int = 10,
        n_salient_latent: int = 10,
        n_layers: int = 1,
        dropout_rate: float = 0.1,
        use_observed_lib_size: bool = True,
        wasserstein_penalty: float = 0,
        *,
        gene_likelihood: str = "zinb",
        dispersion: str | None = None,
        compat: str | None = None,
    ):
        super().__init__(
            adata,
            n_hidden=n_hidden,
            n_background_latent=n_background_latent,
            n_salient_latent=n_salient_latent,
            n_layers=n_layers,
            dropout_rate=dropout_rate,
            use_observed_lib_size=use_observed_lib_size,
            wasserstein_penalty=wasserstein_penalty,
            gene_likelihood=gene_likelihood,
            dispersion=dispersion,
            compat=compat,
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
        batch_key
            Column of ``adata.obs`` whose effect is removed; not the condition itself.
        labels_key
            Column of ``adata.obs`` that the dispersion of genes depends on.
        size_factor_key
            Column of ``adata.obs``, > 0, to be used instead of the library size.
        categorical_covariate_keys, continuous_covariate_keys
            Lists of columns of ``adata.obs`` whose effects are removed, like the batch's.

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

    def _build_module(self) -> ContrastiveVAE:
        schema, options = self.schema, dict(self.options)
        n_batch = sum(schema.n_categories(Keys.BATCH)) or 1
        n_labels = sum(schema.n_categories(Keys.LABELS))
        if options["dispersion"] is None:
            options["dispersion"] = "gene-label" if n_labels else "gene"
        has_size_factor = schema.field(Keys.SIZE_FACTOR) is not None
        if not options["use_observed_lib_size"] and not has_size_factor:
            means, variances = self._library_prior(n_batch)
            options |= {"library_log_means": means, "library_log_vars": variances}
        return ContrastiveVAE(
            n_input=self.n_genes,
            n_batch=n_batch,
            n_labels=n_labels,
            n_continuous_cov=len(f.columns) if (f := schema.field(Keys.CONT_COVS)) else 0,
            n_cats_per_cov=schema.n_categories(Keys.CAT_COVS),
            use_size_factor_key=has_size_factor,
            **options,
        )

    # training -----------------------------------------------------------------------------------

    def train(
        self,
        background_indices: Any,
        target_indices: Any,
        max_epochs: int | None = None,
        **train_options,
    ) -> None:
        """Train on pairs of minibatches, one of background and one of target cells.

        Both populations are split into training and held-out cells with the same shares, and both are
        shuffled anew in every pass; the smaller one starts again until the larger one is through, which
        makes an epoch. Losses in the history are those of a pair (one background and one target cell).

        Parameters
        ----------
        background_indices
            Rows or a mask of the background (control) cells.
        target_indices
            Rows or a mask of the target (treated) cells, or a dict of them by the name of the
            condition: all conditions then share one salient space, each is split on its own, and
            :meth:`get_condition_summary` and :meth:`salient_differential_expression` answer for each.
        max_epochs
            Passes over the larger population; default what the recipe finds right for all cells.
        **train_options
            Further arguments of :meth:`vivace.models.base.BaseModel.train`.

        Raises
        ------
        InvalidArgumentError
            If a population is empty, two of them share cells, an option is out of range, or early
            stopping lacks held-out cells of either population.
        TrainingError
            If the loss is not finite; the model then has the last good weights.

        Examples
        --------
        >>> import vivace
        >>> adata = vivace.datasets.simulate("contrastive", n_cells=120, n_genes=30)
        >>> vivace.ContrastiveVI.setup_anndata(adata)
        >>> model = vivace.ContrastiveVI(adata)
        >>> drugs = {"drug_a": range(60, 90), "drug_b": range(90, 120)}
        >>> model.train(range(60), drugs, max_epochs=1, progress=False)
        >>> list(model.conditions)
        ['drug_a', 'drug_b']
        """
        given = (
            target_indices if isinstance(target_indices, Mapping) else {ONE_TARGET: target_indices}
        )
        cells = self._cells()
        background = self._population(cells, background_indices, "background_indices")
        targets = {
            text_of(name): self._population(cells, rows, "target_indices")
            for name, rows in given.items()
        }
        _check_apart({"background_indices": background, **targets})
        self._to_train = (background, targets)
        super().train(max_epochs=max_epochs, **train_options)
        self.training |= {
            "n_background": len(background),
            "conditions": {name: len(rows) for name, rows in targets.items()},
            "n_validation": len(self.split.validation),
        }

    def _training_options(
        self, recipe: str, n_cells: int, given: dict[str, Any], plan_kwargs: dict[str, Any] | None
    ) -> tuple[TrainOptions, dict[str, Any]]:
        plan = dict(plan_kwargs or {})
        if recipe == "fast":
            background, targets = self._to_train
            longest = max(len(background), sum(map(len, targets.values())))
            size = given["batch_size"] or plan.get("batch_size") or FAST["batch_size"]
            plan.setdefault("max_epochs", fast_epochs(longest, size, most=MOST_EPOCHS))
        return super()._training_options(recipe, n_cells, given, plan)

    def _training_batches(
        self, split_kwargs: dict[str, Any], options: TrainOptions
    ) -> tuple[ZippedLoader, ZippedLoader | None]:
        background, targets = self._to_train
        of_background, *of_targets = (
            _split_population(rows, split_kwargs, options.batch_size)
            for rows in (background, *targets.values())
        )
        of_target = {part: np.concatenate([getattr(s, part) for s in of_targets]) for part in PARTS}
        self.split = ContrastiveSplit(
            **{p: np.concatenate([getattr(of_background, p), of_target[p]]) for p in PARTS},
            background=background,
            target=np.concatenate(list(targets.values())),
            condition=np.repeat(np.arange(len(targets)), [len(r) for r in targets.values()]),
        )
        held_out = (of_background.validation, of_target["validation"])
        if options.early_stopping and min(map(len, held_out)) == 0:
            name = POPULATIONS[int(len(held_out[0]) > 0)]
            msg = f"early_stopping=True needs held-out cells of both populations; {name} has none"
            raise InvalidArgumentError(msg)
        cells, seed = self._cells(), split_kwargs["seed"]
        train = ZippedLoader(
            {  # different seeds, or populations of one size would meet in the same pairs every epoch
                name: Loader(cells, rows, options.batch_size, shuffle=True, seed=seed + i)
                for i, (name, rows) in enumerate(
                    zip(POPULATIONS, (of_background.train, of_target["train"]), strict=True)
                )
            }
        )
        longest = max(map(len, held_out))
        if min(map(len, held_out)) == 0:
            return train, None
        return train, ZippedLoader(
            {  # the smaller one repeats as a whole, so that its cells count alike
                name: Loader(
                    cells,
                    np.resize(cells.in_reading_order(rows), longest),
                    max(options.batch_size, 256),
                )
                for name, rows in zip(POPULATIONS, held_out, strict=True)
            }
        )

    @property
    def conditions(self) -> dict[str, np.ndarray]:
        """Name of each target condition to its rows of the training data."""
        if self.split is None:
            return {}
        return {
            name: self.split.target[self.split.condition == i]
            for i, name in enumerate(self.training.get("conditions", {}))
        }

    # populations --------------------------------------------------------------------------------

    def _population(self, cells: Cells, rows: Any, argument: str) -> np.ndarray:
        """Rows of a population, which has to be named."""
        if rows is None:
            msg = f"{argument} is needed: rows, a mask or names of the cells of each population"
            raise InvalidArgumentError(msg)
        return self._rows(cells, rows, argument)

    def _is_target(self, cells: Cells, rows: np.ndarray, population: str | None) -> np.ndarray:
        """Which of these rows have a salient state, (n,) bool."""
        check_choice("population", population, (None, *POPULATIONS))
        if population is not None:
            return np.full(len(rows), population == "target")
        if self.split is None or not self._are_those_of_training(cells):
            msg = 'say what these cells are: population="background" or population="target"'
            raise InvalidArgumentError(msg)
        return ~np.isin(rows, self.split.background)

    def _by_population(
        self,
        adata: Any,
        indices: Any,
        population: str | None,
        batch_size: int | None,
        ask: Callable[[Population, Loader], Any],
    ) -> tuple[list[Any], np.ndarray]:
        """Answers for the cells of each population, and the order that puts all of them in place."""
        cells = self._cells(adata)
        rows = self._rows(cells, indices)
        is_target = self._is_target(cells, rows, population)
        found, places = [], []
        for salient in (False, True):
            at = np.flatnonzero(is_target == salient)
            if len(at):
                loader = self._loader(cells, rows[at], batch_size)
                found.append(ask(Population(self.module, salient=salient), loader))
                places.append(at)
        return found, np.argsort(np.concatenate([*places, np.empty(0, dtype=np.int64)]))

    # latent spaces ------------------------------------------------------------------------------

    def get_latent_representation(
        self,
        adata: Any = None,
        indices: Any = None,
        give_mean: bool = True,
        batch_size: int | None = None,
        representation_kind: str = "salient",
        *,
        return_dist: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Background or salient state of each cell, of whichever population.

        Parameters
        ----------
        adata
            Other cells of the same genes; default those of training.
        indices
            Rows or a mask; default all.
        give_mean
            Posterior mean, or one draw.
        batch_size
            Cells at a time.
        representation_kind
            "salient": what is new in the target (cells of the background are encoded as well, although
            the model takes their salient state to be 0); "background": what all cells share.
        return_dist
            Return the posterior's mean and variance instead.

        Returns
        -------
        (n, L) float32, or two of them.

        Raises
        ------
        InvalidArgumentError
            If ``representation_kind`` is not known.
        NotTrainedError
            If the model is not trained.
        """
        check_choice("representation_kind", representation_kind, KINDS)
        start = self.module.n_background_latent
        columns = slice(start, None) if representation_kind == "salient" else slice(start)
        everything = Population(self.module, salient=True)
        batches = self._loader(adata, indices, batch_size or ENCODING_BATCH_SIZE)
        if return_dist:
            mean, variance = latent.latent_distribution(everything, batches)
            return mean[:, columns], variance[:, columns]
        read = latent.latent_mean if give_mean else latent.latent_sample
        return read(everything, batches)[:, columns]

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
            Mean of the log-normal posterior; False gives one draw, or the observed size if it is not
            latent.

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
        cells = Population(self.module, salient=False)
        return expression.latent_library_size(cells, batches, give_mean=give_mean)

    def get_condition_summary(self, batch_size: int | None = None) -> pd.DataFrame:
        """Size, fit and separation of the background and of each target condition, one row each.

        Parameters
        ----------
        batch_size
            Cells at a time.

        Returns
        -------
        DataFrame with ``n_cells``, ``n_held_out``, ``elbo`` (held-out cells, or all where none were
        held out; nats per cell, higher is better), ``salient_norm`` (mean length of the salient state)
        and, for conditions, ``salient_separation`` and ``background_separation``: the balanced accuracy
        of predicting from its 15 nearest neighbours in that latent space whether a cell is of the
        condition or of the background (0.5 is chance).
        """
        means = latent.latent_mean(
            Population(self.module, salient=True), self._loader(None, None, batch_size)
        )
        assert self.split is not None  # a trained model has one
        return populations.summary(
            {"background": self.split.background, **self.conditions},
            held_out=self.split.validation,
            shared=means[:, : self.module.n_background_latent],
            salient=means[:, self.module.n_background_latent :],
            elbo=lambda rows: self.get_elbo(
                indices=rows, batch_size=batch_size, return_mean=False
            ).numpy(),
        )

    # expression ---------------------------------------------------------------------------------

    def get_normalized_expression(
        self,
        adata: Any = None,
        indices: Any = None,
        transform_batch: Any = None,
        gene_list: Sequence[str] | None = None,
        library_size: float | str = 1.0,
        n_samples: int = 1,
        n_samples_overall: int | None = None,
        batch_size: int | None = None,
        return_mean: bool = True,
        return_numpy: bool = False,
        *,
        use_mean: bool = False,
    ) -> dict[str, pd.DataFrame | np.ndarray]:
        """Denoised expression with and without what is new in the target.

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
            Posterior draws S for each cell.
        n_samples_overall
            Instead, draw this many cells with replacement, one posterior draw each.
        return_mean
            Average over the draws.
        return_numpy
            Arrays instead of DataFrames.
        use_mean
            Decode posterior means, which have no noise, instead of draws.

        Returns
        -------
        dict with ``background`` (salient state set to 0) and ``salient`` (kept), of the same cells and,
        for one draw, the same background state; each a (n, G) DataFrame of cells by genes or array;
        (S, n, G) arrays for ``n_samples > 1`` without ``return_mean``; (n_samples_overall, G) arrays.
        """
        adata = self._cells(adata)
        rows = self._drawn_rows(adata, indices, n_samples, n_samples_overall)
        seed = answers.draw_seed()  # both sides from the same background state
        found = {}
        for kind in KINDS:
            with seeded(seed):
                found[kind] = self._expression(
                    kind,
                    adata,
                    rows,
                    transform_batch=transform_batch,
                    gene_list=gene_list,
                    library_size=library_size,
                    n_samples=n_samples,
                    batch_size=batch_size,
                    return_mean=return_mean,
                    as_array=return_numpy or n_samples_overall is not None,
                    use_mean=use_mean,
                )
        return found

    def get_salient_normalized_expression(
        self,
        adata: Any = None,
        indices: Any = None,
        transform_batch: Any = None,
        gene_list: Sequence[str] | None = None,
        library_size: float | str = 1.0,
        n_samples: int = 1,
        n_samples_overall: int | None = None,
        batch_size: int | None = None,
        return_mean: bool = True,
        return_numpy: bool = False,
        *,
        use_mean: bool = False,
    ) -> pd.DataFrame | np.ndarray:
        """The ``salient`` entry of :meth:`get_normalized_expression`, whose arguments it takes."""
        return self.get_specific_normalized_expression(
            adata,
            indices,
            transform_batch,
            gene_list,
            library_size,
            n_samples,
            n_samples_overall,
            batch_size,
            return_mean,
            return_numpy,
            expression_type="salient",
            use_mean=use_mean,
        )

    def get_specific_normalized_expression(
        self,
        adata: Any = None,
        indices: Any = None,
        transform_batch: Any = None,
        gene_list: Sequence[str] | None = None,
        library_size: float | str = 1.0,
        n_samples: int = 1,
        n_samples_overall: int | None = None,
        batch_size: int | None = None,
        return_mean: bool = True,
        return_numpy: bool = False,
        expression_type: str | None = None,
        indices_to_return_salient: Any = None,
        *,
        use_mean: bool = False,
    ) -> pd.DataFrame | np.ndarray:
        """One of the two entries of :meth:`get_normalized_expression`.

        Parameters
        ----------
        adata, indices, transform_batch, gene_list, library_size, n_samples, n_samples_overall, \
batch_size, return_mean, return_numpy, use_mean
            As in :meth:`get_normalized_expression`.
        expression_type
            "background" or "salient".
        indices_to_return_salient
            Instead of it: rows or a mask; "salient" if all of ``indices`` are among them, else
            "background".

        Raises
        ------
        InvalidArgumentError
            Unless exactly one of the last two is given.
        """
        if (expression_type is None) == (indices_to_return_salient is None):
            msg = "give either expression_type or indices_to_return_salient, and not both"
            raise InvalidArgumentError(msg)
        adata = self._cells(adata)
        rows = self._drawn_rows(adata, indices, n_samples, n_samples_overall)
        if expression_type is None:
            salient = self._rows(adata, indices_to_return_salient, "indices_to_return_salient")
            inside = np.isin(self._rows(adata, indices), salient).all()
            expression_type = "salient" if inside else "background"
        check_choice("expression_type", expression_type, KINDS)
        return self._expression(
            expression_type,
            adata,
            rows,
            transform_batch=transform_batch,
            gene_list=gene_list,
            library_size=library_size,
            n_samples=n_samples,
            batch_size=batch_size,
            return_mean=return_mean,
            as_array=return_numpy or n_samples_overall is not None,
            use_mean=use_mean,
        )

    def _drawn_rows(
        self, adata: Any, indices: Any, n_samples: int, n_samples_overall: int | None
    ) -> np.ndarray:
        rows = self._rows(self._cells(adata), indices)
        if n_samples_overall is None:
            return rows
        if n_samples != 1:
            msg = "give n_samples or n_samples_overall, not both"
            raise InvalidArgumentError(msg)
        return np.random.default_rng(answers.draw_seed()).choice(rows, n_samples_overall)

    def _expression(
        self,
        kind: str,
        adata: Any,
        rows: np.ndarray,
        *,
        transform_batch: Any,
        gene_list: Sequence[str] | None,
        library_size: float | str,
        n_samples: int,
        batch_size: int | None,
        return_mean: bool,
        as_array: bool,
        use_mean: bool,
    ) -> pd.DataFrame | np.ndarray:
        genes = self._gene_positions(gene_list)
        values = self._decode(
            kind,
            self._loader(adata, rows, batch_size),
            self._batch_codes(transform_batch),
            genes=genes,
            library_size=library_size,
            n_samples=n_samples,
            use_mean=use_mean,
        )
        names = self.var_names if genes is None else self.var_names[genes]
        return answers.cells_table(
            self, values, adata, rows, names, average=return_mean, as_array=as_array
        )

    def _decode(
        self, kind: str, loader: Loader, batches: Sequence[int | None], **options
    ) -> np.ndarray:
        """Normalised expression with the salient state kept or set to 0."""
        cells = Population(self.module, salient=kind == "salient")
        if not self.module.encodes_other_batch:
            return expression.normalized_expression(
                cells, loader, transform_batch=batches, **options
            )
        decoded = [
            expression.normalized_expression(cells, _as_batch(loader, batch), **options)
            for batch in batches
        ]
        return np.mean(decoded, axis=0)

    def posterior_predictive_sample(
        self,
        adata: Any = None,
        indices: Any = None,
        transform_batch: Any = None,
        n_samples: int = 1,
        gene_list: Sequence[str] | None = None,
        batch_size: int | None = None,
        *,
        population: str | None = None,
    ) -> sparse.csr_array | list[sparse.csr_array]:
        """Counts drawn from the fitted model.

        Parameters
        ----------
        adata, indices, batch_size, transform_batch, gene_list
            As in :meth:`get_normalized_expression`.
        n_samples
            Number S of draws.
        population
            As in :meth:`get_elbo`.

        Returns
        -------
        (n, G) CSR array, or a list of S of them.
        """

        def ask(cells: Population, loader: Loader) -> list[sparse.csr_array]:
            return fit_quality.predictive_samples(
                cells,
                loader,
                n_samples=n_samples,
                transform_batch=self._batch_codes(transform_batch),
                genes=self._gene_positions(gene_list),
            )

        found, order = self._by_population(adata, indices, population, batch_size, ask)
        draws = [
            sparse.csr_array(sparse.vstack(parts, format="csr")[order])
            for parts in zip(*found, strict=True)
        ]
        return draws[0] if n_samples == 1 else draws

    # new cells ----------------------------------------------------------------------------------

    @classmethod
    def load_query_data(cls, adata: Any, reference_model: Any, **freeze: bool) -> Self:
        """A model of new cells that learns their batches and keeps what the reference learned.

        Train it on the background and target cells of the new batches, then ask it: both latent spaces
        are the reference's. Cells of batches that the reference knows need no such model.

        Parameters
        ----------
        adata
            New cells, with the obs columns that the reference was set up with; not modified.
        reference_model
            Trained model, or the folder it was saved to.
        **freeze
            Fields of :class:`vivace.models.query.Freeze`, such as ``unfrozen=True``.

        Returns
        -------
        A model that is to be trained.

        Raises
        ------
        InvalidDataError
            If genes are missing; :meth:`prepare_query_anndata` fills them in.
        InvalidArgumentError
            If the reference is another kind of model, or the cells have no new batch.
        """
        return query.load_query_data(cls, adata, reference_model, query.Freeze(**freeze))

    @staticmethod
    def prepare_query_anndata(adata: Any, reference_model: BaseModel) -> Any:
        """A copy of new cells with the reference's genes, zeros where they are missing.

        See :func:`vivace.models.query.prepare_query_anndata`.
        """
        return query.prepare_query_anndata(adata, reference_model)

    # differential expression --------------------------------------------------------------------

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
        batchid1: Sequence[Any] | None = None,
        batchid2: Sequence[Any] | None = None,
        fdr_target: float = 0.05,
        target_idx: Any = None,
        n_samples: int = 1,
        **kwargs,
    ) -> pd.DataFrame:
        """Genes whose expression differs between groups of cells.

        Parameters
        ----------
        adata
            Other cells of the same genes; default those of training.
        groupby, group1, group2, idx1, idx2
            What to compare, see :func:`vivace.analysis.groups.make_plan`.
        mode, delta, all_stats, fdr_target
            How, see :class:`vivace.analysis.differential.DifferentialOptions`.
        batch_size
            Cells at a time.
        batch_correction, batchid1, batchid2
            Decode both groups for the same batches (default all of them).
        target_idx
            Rows or a mask of the target cells: groups that lie among them are decoded with their
            salient state, others with 0. By default all groups keep their salient state.
        n_samples
            Posterior draws that each drawn cell is averaged over.
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
        """
        cells = self._cells(adata)
        plan = groups.make_plan(cells.obs, groupby, group1, group2, idx1, idx2)
        as_background = np.zeros(len(plan.sets), dtype=bool)
        if target_idx is not None:
            target = self._rows(cells, target_idx, "target_idx")
            as_background = np.array([not np.isin(rows, target).all() for rows in plan.sets])
        options = differential.DifferentialOptions.from_kwargs(
            mode=mode, delta=delta, all_stats=all_stats, fdr_target=fdr_target, **kwargs
        )
        batches = answers.batches_to_decode(self, batch_correction, batchid1, batchid2)
        return self._compare(cells, plan, as_background, options, batches, n_samples, batch_size)

    def salient_differential_expression(
        self,
        adata: Any = None,
        indices: Any = None,
        mode: str = "change",
        delta: float | None = 0.25,
        batch_size: int | None = None,
        fdr_target: float = 0.05,
        **kwargs,
    ) -> pd.DataFrame:
        """Genes that the salient state changes: target cells against themselves without it.

        Parameters
        ----------
        adata
            Other cells of the same genes; default those of training.
        indices
            Rows or a mask of target cells, or a dict of them by name; default each condition of
            training.
        mode, delta, fdr_target, **kwargs
            As in :meth:`differential_expression`.
        batch_size
            Cells at a time.

        Returns
        -------
        As :meth:`differential_expression`; ``group1`` is the condition, ``group2`` is "background",
        the same cells with their salient state set to 0.

        Raises
        ------
        InvalidArgumentError
            If other cells are given without saying which, or a set of cells is empty.
        """
        cells = self._cells(adata)
        if indices is None and not self._are_those_of_training(cells):
            msg = "indices: say which cells of adata are target cells"
            raise InvalidArgumentError(msg)
        given = self.conditions if indices is None else indices
        if not isinstance(given, Mapping):
            given = {ONE_TARGET: given}
        sets = [self._rows(cells, rows, f'indices["{name}"]') for name, rows in given.items()]
        n = len(sets)
        plan = groups.Plan(
            sets + sets,
            [groups.Comparison((i,), (n + i,), (str(c), KINDS[0])) for i, c in enumerate(given)],
        )
        options = differential.DifferentialOptions.from_kwargs(
            mode=mode, delta=delta, all_stats=False, fdr_target=fdr_target, **kwargs
        )
        as_background = np.arange(2 * n) >= n
        return self._compare(cells, plan, as_background, options, ([None], [None]), 1, batch_size)

    def _compare(
        self,
        cells: Cells,
        plan: groups.Plan,
        as_background: np.ndarray,
        options: differential.DifferentialOptions,
        batches: tuple[list[int | None], list[int | None]],
        n_samples: int,
        batch_size: int | None,
    ) -> pd.DataFrame:
        """Differential expression with some sets decoded without their salient state."""
        shift = cells.n_cells  # a row of such a set is marked by the number of cells added to it
        sets = [rows + shift * b for rows, b in zip(plan.sets, as_background, strict=True)]

        def draw_scales(rows: np.ndarray, batch: int | None) -> np.ndarray:
            kind = KINDS[0] if rows[0] >= shift else KINDS[1]
            loader = self._loader(cells, rows % shift, batch_size)
            values = self._decode(kind, loader, [batch], n_samples=n_samples)
            return values.mean(0) if n_samples > 1 else values

        return differential.differential_expression(
            draw_scales,
            lambda rows: cells.blocks(rows % shift),
            self.var_names,
            groups.Plan(sets, plan.comparisons),
            options=options,
            batches1=batches[0],
            batches2=batches[1],
            rng=np.random.default_rng(answers.draw_seed()),
        )

    # quality of the fit -------------------------------------------------------------------------

    def get_elbo(
        self,
        adata: Any = None,
        indices: Any = None,
        batch_size: int | None = None,
        return_mean: bool = True,
        *,
        population: str | None = None,
    ) -> torch.Tensor:
        """Evidence lower bound, nats, higher is better.

        Parameters
        ----------
        adata, indices, batch_size
            As in :meth:`get_latent_representation`.
        return_mean
            Mean over cells (0-d), or one value a cell (n,).
        population
            What the cells are: "background" (salient state 0) or "target". By default each cell of
            the training data is what it was trained as (those in neither population: target).

        Raises
        ------
        InvalidArgumentError
            If ``population`` is needed, for other cells than those of training, and not given.
        """
        found, order = self._by_population(
            adata, indices, population, batch_size, fit_quality.cell_elbo
        )
        elbo = torch.cat(found)[order]
        return elbo.mean() if return_mean else elbo

    def get_reconstruction_error(
        self,
        adata: Any = None,
        indices: Any = None,
        batch_size: int | None = None,
        return_mean: bool = True,
        *,
        population: str | None = None,
    ) -> dict[str, torch.Tensor]:
        """Negative log-likelihood of the counts given the latent state, nats, lower is better.

        Parameters
        ----------
        adata, indices, batch_size, return_mean, population
            As in :meth:`get_elbo`.

        Returns
        -------
        ``{"reconstruction_loss": tensor}``
        """
        found, order = self._by_population(
            adata,
            indices,
            population,
            batch_size,
            lambda cells, loader: fit_quality.reconstruction_errors(cells, loader)[LOSS],
        )
        errors = torch.cat(found)[order]
        return {LOSS: errors.mean() if return_mean else errors}

    def get_marginal_ll(
        self,
        adata: Any = None,
        indices: Any = None,
        n_mc_samples: int = 1000,
        batch_size: int | None = None,
        return_mean: bool = True,
        n_mc_samples_per_pass: int = 1,
        *,
        population: str | None = None,
    ) -> float | torch.Tensor:
        """Log-likelihood of the counts by importance sampling, nats, higher is better.

        Parameters
        ----------
        adata, indices, batch_size, population
            As in :meth:`get_elbo`.
        n_mc_samples
            Draws of the latent state for each cell.
        return_mean
            Mean over cells as a float, or one value a cell (n,).
        n_mc_samples_per_pass
            Draws at a time; more is faster and takes more memory.
        """
        found, order = self._by_population(
            adata,
            indices,
            population,
            batch_size,
            lambda cells, loader: fit_quality.marginal_log_likelihood(
                cells, loader, n_mc_samples, n_mc_samples_per_pass
            ),
        )
        values = torch.cat(found)[order]
        return values.mean().item() if return_mean else values


MOST_EPOCHS = 80
"""A pass over pairs has half the steps that a pass over as many cells in one stream has."""

PARTS = ("train", "validation", "test")
LOSS = "reconstruction_loss"


def _check_apart(named: dict[str, np.ndarray]) -> None:
    """Refuse populations that share cells."""
    seen: dict[str, np.ndarray] = {}
    for name, rows in named.items():
        for other, taken in seen.items():
            shared = np.intersect1d(rows, taken)
            if len(shared):
                msg = f"{other} and {name} share {len(shared)} cells (such as row {shared[0]})"
                raise InvalidArgumentError(msg)
        seen[name] = rows


def _split_population(rows: np.ndarray, split_kwargs: dict[str, Any], batch_size: int) -> Split:
    parts = split_kwargs.get("external_indexing")
    if parts is not None:
        own = [np.asarray(part)[np.isin(part, rows)] for part in parts]
        split_kwargs = {**split_kwargs, "external_indexing": own}
    return split_cells(rows, batch_size=batch_size, **split_kwargs)


def _as_batch(batches: Iterable[Minibatch], code: int | None) -> Iterator[Minibatch]:
    """The same cells, all said to be of one batch."""
    for tensors in batches:
        batch = tensors[Keys.BATCH]
        yield {**tensors, Keys.BATCH: batch if code is None else torch.full_like(batch, code)}
