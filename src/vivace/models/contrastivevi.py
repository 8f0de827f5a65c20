"""ContrastiveVI: what the treated cells have that controls have not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from vivace._settings import seeded
from vivace._types import Keys, Minibatch
from vivace.analysis import differential, populations
from vivace.analysis.expression import normalized_expression
from vivace.analysis.groups import Comparison, Plan, make_plan
from vivace.analysis.latent import latent_mean
from vivace.data import Cells, Loader, Split, ZippedLoader
from vivace.data.columns import text_of
from vivace.data.populations import (
    ContrastiveSplit,
    check_apart,
    held_out_pairs,
    split_populations,
    training_pairs,
)
from vivace.errors import InvalidArgumentError, check_choice
from vivace.models import query
from vivace.models.base import BaseModel
from vivace.models.questions import expression, groups, latent, quality, setup
from vivace.models.questions.parts import Part
from vivace.modules.contrastive import ContrastiveVAE
from vivace.modules.counts import OVERDISPERSED
from vivace.modules.pairs import POPULATIONS
from vivace.modules.population import Population
from vivace.train import TrainOptions
from vivace.train.recipes import FAST, fast_epochs

KINDS = ("background", "salient")
ONE_TARGET = "target"
"""Name of the condition when the target is not divided."""


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
        "gene" (the default), "gene-batch" or "gene-label"; labels change it only when asked to.
    compat
        "scvi-tools" to decode for other batches as that library does.
    energy_distance_weight
        Weight of the energy distance between the background states of both populations, which keeps
        the response out of them; >= 0. Default 10 in the fast recipe and 0, as published, in the
        classic one. Give 0 where the populations differ in what they are made of, such as a type of
        cells that only one of them has.

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
    loss_weights: ClassVar[dict[str, dict[str, float]]] = {"fast": {"energy_distance_weight": 10.0}}

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
        energy_distance_weight: float | None = None,
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
            dispersion=dispersion or "gene",
            compat=compat,
            energy_distance_weight=energy_distance_weight,
        )

    setup_anndata = classmethod(setup.setup_counts)

    def _build_module(self) -> ContrastiveVAE:
        options = dict(self.options)
        options.pop("energy_distance_weight", None)  # of the loss, see `_loss_weights`
        if options["dispersion"] is None:  # a model saved when labels chose it unasked
            has_labels = any(self.schema.n_categories(Keys.LABELS))
            options["dispersion"] = "gene-label" if has_labels else "gene"
        return ContrastiveVAE(**self._counts_arguments(options), **options)

    # training -----------------------------------------------------------------------------------

    def _loss_weights(self, recipe: str) -> dict[str, float]:
        own = self.options.get("energy_distance_weight")
        return super()._loss_weights(recipe) if own is None else {"energy_distance_weight": own}

    def train(
        self,
        background_indices: Any,
        target_indices: Any,
        max_epochs: int | None = None,
        accelerator: str = "auto",
        devices: str | int | list[int] = "auto",
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
        accelerator, devices
            As in :meth:`vivace.models.base.BaseModel.train`.
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
        check_apart({"background_indices": background, **targets})
        if max_epochs is None:
            longest = max(len(background), sum(map(len, targets.values())))
            max_epochs = _epochs_of_recipe(longest, train_options)
        split = {
            "options": train_options.pop("datasplitter_kwargs", None),
            "populations": (background, targets),
        }
        super().train(
            max_epochs=max_epochs,
            accelerator=accelerator,
            devices=devices,
            datasplitter_kwargs=split,
            **train_options,
        )
        self.training |= {
            "n_background": len(background),
            "conditions": {name: len(rows) for name, rows in targets.items()},
            "n_validation": len(self.split.validation),
        }

    @staticmethod
    def _splitter_options(given: dict[str, Any] | None) -> dict[str, Any]:
        """What the user says of the split, and the populations that are split, each on its own."""
        assert given is not None  # `train` names the populations
        options = BaseModel._splitter_options(given["options"])
        return {**options, "populations": given["populations"]}

    def _training_batches(
        self, split_kwargs: dict[str, Any], options: TrainOptions
    ) -> tuple[ZippedLoader, ZippedLoader | None]:
        background, targets = split_kwargs.pop("populations")
        self.split = split_populations(background, targets, options.batch_size, split_kwargs)
        train, held_out = (
            dict(zip(POPULATIONS, self.split.populations(part), strict=True))
            for part in ("train", "validation")
        )
        none = [name for name, rows in held_out.items() if len(rows) == 0]
        if options.early_stopping and none:
            msg = (
                f"early_stopping=True needs held-out cells of both populations; {none[0]} has none"
            )
            raise InvalidArgumentError(msg)
        cells, size = self._cells(), options.batch_size
        return (
            training_pairs(cells, train, size, split_kwargs["seed"]),
            held_out_pairs(cells, held_out, size),
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

    def _parts(
        self, adata: Any, indices: Any, batch_size: int | None, population: str | None = None
    ) -> list[Part]:
        cells = self._cells(adata)
        rows = self._rows(cells, indices)
        is_target = self._is_target(cells, rows, population)
        found = []
        for salient in (False, True):
            at = np.flatnonzero(is_target == salient)
            if len(at):
                loader = self._loader(cells, rows[at], batch_size)
                found.append(Part(Population(self.module, salient=salient), loader, at))
        return found

    @property
    def encoder_module(self) -> Population:
        """Background and salient state of any cell, side by side."""
        return Population(self.module, salient=True)

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
        out: str | Path | None = None,
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
        out
            File (.npy, or .zarr) to write the states to, some cells after others; the array that is
            returned (of numpy, or of zarr) reads from it.

        Returns
        -------
        (n, L) float32, or two of them.

        Raises
        ------
        InvalidArgumentError
            If ``representation_kind`` is not known, or ``out`` cannot be written.
        NotTrainedError
            If the model is not trained.
        """
        check_choice("representation_kind", representation_kind, KINDS)
        start = self.module.n_background_latent
        columns = slice(start, None) if representation_kind == "salient" else slice(start)
        return latent.state_of(
            self, adata, indices, give_mean, batch_size, return_dist, out=out, columns=columns
        )

    get_latent_library_size = latent.get_latent_library_size

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
        means = latent_mean(self.encoder_module, self._loader(None, None, batch_size))
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

        Arguments as in :meth:`vivace.SCVI.get_normalized_expression`.

        Returns
        -------
        dict with ``background`` (salient state set to 0) and ``salient`` (kept), of the same cells and,
        for one draw, the same background state; each a (n, G) DataFrame of cells by genes or array;
        (S, n, G) arrays for ``n_samples > 1`` without ``return_mean``; (n_samples_overall, G) arrays.
        """
        cells = self._cells(adata)
        rows = expression.drawn_rows(self, cells, indices, n_samples, n_samples_overall)
        seed = expression.draw_seed()  # both sides from the same background state
        found = {}
        for kind in KINDS:
            with seeded(seed):
                found[kind] = self._expression(
                    kind,
                    cells,
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
        cells = self._cells(adata)
        rows = expression.drawn_rows(self, cells, indices, n_samples, n_samples_overall)
        if expression_type is None:
            salient = self._rows(cells, indices_to_return_salient, "indices_to_return_salient")
            inside = np.isin(self._rows(cells, indices), salient).all()
            expression_type = "salient" if inside else "background"
        check_choice("expression_type", expression_type, KINDS)
        return self._expression(
            expression_type,
            cells,
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

    def _expression(self, kind: str, cells: Cells, rows: np.ndarray, **options: Any) -> Any:
        """Denoised expression with the salient state kept or set to 0."""
        return expression.denoised(self, cells, rows, decode=partial(self._decode, kind), **options)

    def _decode(
        self, kind: str, loader: Loader, *, transform_batch: Sequence[int | None], **options: Any
    ) -> np.ndarray:
        cells = Population(self.module, salient=kind == "salient")
        if not self.module.encodes_other_batch:
            return normalized_expression(cells, loader, transform_batch=transform_batch, **options)
        decoded = [
            normalized_expression(cells, _as_batch(loader, batch), **options)
            for batch in transform_batch
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
        return_numpy: bool = False,
    ) -> sparse.csr_array | list[sparse.csr_array] | np.ndarray:
        """Counts drawn from the fitted model, as :meth:`vivace.SCVI.posterior_predictive_sample`.

        ``population`` is that of :meth:`get_elbo`.
        """
        which = (adata, indices, transform_batch, n_samples, gene_list, batch_size)
        return expression.predictive_of(self, *which, population, return_numpy)

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
        batchid1: Sequence[Any] | None = None,
        batchid2: Sequence[Any] | None = None,
        fdr_target: float = 0.05,
        target_idx: Any = None,
        n_samples: int = 1,
        **kwargs,
    ) -> pd.DataFrame:
        """Which genes differ between groups of cells, and by how much.

        Arguments, columns and errors as in :meth:`vivace.SCVI.differential_expression`, but for:

        Parameters
        ----------
        target_idx
            Target cells (rows, a mask or names): groups that lie among them are decoded with their salient
            state, others with 0. By default all groups keep their salient state.
        n_samples
            Posterior draws that each drawn cell is averaged over.
        """
        cells = self._cells(adata)
        plan = make_plan(cells.obs, groupby, group1, group2, idx1, idx2)
        as_background = np.zeros(len(plan.sets), dtype=bool)
        if target_idx is not None:
            target = self._rows(cells, target_idx, "target_idx")
            as_background = np.array([not np.isin(rows, target).all() for rows in plan.sets])
        options = differential.DifferentialOptions.from_kwargs(
            mode=mode, delta=delta, all_stats=all_stats, fdr_target=fdr_target, **kwargs
        )
        batches = groups.batches_to_decode(self, batch_correction, batchid1, batchid2)
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
        plan = Plan(
            sets + sets,
            [Comparison((i,), (n + i,), (str(c), KINDS[0])) for i, c in enumerate(given)],
        )
        options = differential.DifferentialOptions.from_kwargs(
            mode=mode, delta=delta, all_stats=False, fdr_target=fdr_target, **kwargs
        )
        as_background = np.arange(2 * n) >= n
        return self._compare(cells, plan, as_background, options, ([None], [None]), 1, batch_size)

    def _compare(
        self,
        cells: Cells,
        plan: Plan,
        as_background: np.ndarray,
        options: differential.DifferentialOptions,
        batches: tuple[list[int | None], list[int | None]],
        n_samples: int,
        batch_size: int | None,
    ) -> pd.DataFrame:
        """Differential expression with some sets decoded without their salient state."""
        sets = [_as_kind(rows, not b) for rows, b in zip(plan.sets, as_background, strict=True)]

        def draw_scales(drawn: np.ndarray, batch: int | None) -> np.ndarray:
            kind = KINDS[int(drawn["salient"][0])]  # all cells of a set are decoded alike
            loader = self._loader(cells, drawn["row"], batch_size)
            values = self._decode(kind, loader, transform_batch=[batch], n_samples=n_samples)
            return values.mean(0) if n_samples > 1 else values

        return differential.differential_expression(
            draw_scales,
            lambda drawn: cells.blocks(drawn["row"]),
            self.var_names,
            Plan(sets, plan.comparisons),
            options=options,
            batches1=batches[0],
            batches2=batches[1],
            rng=np.random.default_rng(expression.draw_seed()),
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
        return quality.elbo_of(self, adata, indices, batch_size, return_mean, population)

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

        Arguments as in :meth:`get_elbo`; returns ``{"reconstruction_loss": tensor}``.
        """
        return quality.error_of(self, adata, indices, batch_size, return_mean, population)

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
    ) -> torch.Tensor:
        """Log-likelihood of the counts, as :meth:`vivace.SCVI.get_marginal_ll`.

        ``population`` is that of :meth:`get_elbo`.
        """
        draws = (n_mc_samples, n_mc_samples_per_pass)
        return quality.marginal_of(self, adata, indices, batch_size, return_mean, draws, population)

    # new cells ----------------------------------------------------------------------------------

    load_query_data: Any = classmethod(query.load_query_data)
    prepare_query_anndata = staticmethod(query.prepare_query_anndata)


MOST_EPOCHS = 80
"""A pass over pairs has half the steps that a pass over as many cells in one stream has."""


def _epochs_of_recipe(n_cells: int, train_options: Mapping[str, Any]) -> int | None:
    """Epochs of the fast recipe for so many cells in the larger population, unless others are asked for."""
    plan = train_options.get("plan_kwargs") or {}
    other_recipe = train_options.get("recipe", "fast") != "fast"
    if other_recipe or not isinstance(plan, Mapping) or "max_epochs" in plan:
        return None
    size = train_options.get("batch_size") or plan.get("batch_size") or FAST["batch_size"]
    return fast_epochs(n_cells, size, most=MOST_EPOCHS)


def _as_kind(rows: np.ndarray, salient: bool) -> np.ndarray:
    """Rows beside whether their salient state is kept, a (n,) record array."""
    found = np.empty(len(rows), dtype=[("row", np.int64), ("salient", bool)])
    found["row"], found["salient"] = rows, salient
    return found


def _as_batch(batches: Iterable[Minibatch], code: int | None) -> Iterator[Minibatch]:
    """The same cells, all said to be of one batch."""
    for tensors in batches:
        batch = tensors[Keys.BATCH]
        yield {**tensors, Keys.BATCH: batch if code is None else torch.full_like(batch, code)}
