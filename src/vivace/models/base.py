"""What every model has: a schema, a module, a history; training, saving and loading."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from inspect import Parameter
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch

from vivace._arguments import check_names, read_options
from vivace._progress import doing
from vivace._ranks import is_first
from vivace._settings import seeded, settings
from vivace._types import Keys
from vivace.data import Cells, Loader, Schema, Split, split_cells
from vivace.data.columns import text_of
from vivace.data.loader import DEFAULT_BATCH_SIZE
from vivace.data.schema import read_schema
from vivace.data.selection import cell_rows, name_positions
from vivace.errors import (
    InvalidArgumentError,
    ModelFileError,
    NotTrainedError,
    missing_key,
    nearest,
)
from vivace.io import SavedModel, blamed_on, limited
from vivace.models import files, spellings
from vivace.models.device import pick_device, processes_of
from vivace.models.door import FROM_DATA, arguments_of, behind_door, put_door
from vivace.models.launch import fit_in_processes, to_start
from vivace.models.query import freeze_again
from vivace.models.questions.parts import Part
from vivace.models.registered import described
from vivace.modules.base import BaseModule
from vivace.train import TrainOptions, fit
from vivace.train.callbacks import check_importable, read_callbacks
from vivace.train.history import History
from vivace.train.loop import Batches
from vivace.train.options import option_names
from vivace.train.recipes import make_options

SPLIT_OPTIONS = ("external_indexing",)


class BaseModel(ABC):
    """Base of the models: from a data object that was set up to a trained module and back to files.

    A leaf names its constructor's options, builds its module from a schema (:meth:`_build_module`),
    and answers questions with functions of :mod:`vivace.analysis`.
    """

    module_class: ClassVar[type[BaseModule]]
    """The module it is made of, whose further options its constructor passes on."""
    recipes: ClassVar[dict[str, dict[str, Any]]] = {}
    """Training options of this model for each recipe, where they differ from the common ones."""
    loss_weights: ClassVar[dict[str, dict[str, float]]] = {}
    """Arguments of the module's loss for each recipe, where they differ from its defaults."""
    bound_options: ClassVar[dict[str, Any]] = {}
    """Arguments of the module's loss that leave out what does not belong to the likelihood's bound."""
    default_train_size: ClassVar[float | None] = None
    """Share of training cells if none is given; None means the common 0.9."""
    likelihoods: ClassVar[tuple[str, ...]] = ()
    """Names that ``gene_likelihood`` may have, where it is an option."""
    split_type: ClassVar[type[Split]] = Split
    """What the rows of a split are kept as; a model with more to keep of them has its own."""
    cells_type: ClassVar[type[Cells]] = Cells
    """What reads the data object."""
    latent_spaces: ClassVar[Mapping[str, dict[str, str]]] = {"latent": {}}
    """Name of each latent space to the arguments that choose it in ``get_latent_representation``."""
    compares_groups: ClassVar[bool] = False
    """Whether the model has ``differential_expression``."""
    simulates_counts: ClassVar[bool] = False
    """Whether the model has ``posterior_predictive_sample``."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        put_door(cls)

    def __init__(self, adata: Any, **options):
        self._assemble(read_schema(adata, type(self).__name__), options, adata)

    def _assemble(self, schema: Schema, options: dict[str, Any], adata: Any) -> None:
        self.schema = schema
        self.options = options
        self._adata = adata
        self.is_trained = False
        self.split: Split | None = None
        self.training: dict[str, Any] = {}
        self.query: dict[str, Any] | None = None  # of a query model: what of its reference is fixed
        self._history = History()
        self._cells_seen: Cells | None = None
        with seeded(settings.seed):
            self.module = self._build_module()
        self.module.eval()

    @abstractmethod
    def _build_module(self) -> BaseModule:
        """Build the module from ``self.schema`` and ``self.options``; ``self.adata`` may be None."""

    # facts --------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        return spellings.attribute(self, name)

    @property
    def adata(self) -> Any:
        """Data that questions are asked of by default; others are checked as they are set."""
        return self._adata

    @adata.setter
    def adata(self, data: Any) -> None:
        if data is not None:
            self._cells(data)
        self._adata = data

    def view_anndata_setup(self) -> pd.DataFrame:
        """What was set up: where it lies in the data, and its categories.

        Returns
        -------
        DataFrame with a row for each field, named by its key: ``where``; ``categories``, how many; and
        ``names`` of the first few.

        Examples
        --------
        >>> import vivace
        >>> adata = vivace.datasets.simulate("batches", n_cells=60, n_genes=30)
        >>> vivace.SCVI.setup_anndata(adata, batch_key="batch")
        >>> vivace.SCVI(adata).view_anndata_setup().loc["batch", "where"]
        'adata.obs["batch"]'
        """
        return described(self.schema)

    @property
    def var_names(self) -> pd.Index:
        """Genes of the model, in its order."""
        return pd.Index(self.schema.var_names)

    @property
    def n_genes(self) -> int:
        return len(self.schema.var_names)

    @property
    def history(self) -> dict[str, pd.DataFrame]:
        """Metric name to a one-column DataFrame by epoch; losses in nats per cell, lower is better."""
        return self._history.frames()

    @property
    def train_indices(self) -> np.ndarray | None:
        """Rows the model was trained on."""
        return None if self.split is None else self.split.train

    @property
    def validation_indices(self) -> np.ndarray | None:
        """Rows held out to watch training."""
        return None if self.split is None else self.split.validation

    @property
    def test_indices(self) -> np.ndarray | None:
        """Rows used for neither."""
        return None if self.split is None else self.split.test

    @property
    def device(self) -> torch.device:
        return self.module.device

    def to_device(self, device: str | torch.device) -> None:
        """Move the module."""
        self.module.to(device)

    def untrained(self, adata: Any = None, **options) -> Self:
        """A new model of the same kind and options that has learned nothing.

        Its initial weights are drawn from ``vivace.settings.seed``.

        Parameters
        ----------
        adata
            Data that were set up for it; default those of this model.
        **options
            Options of the model that are to be others.

        Examples
        --------
        >>> import vivace
        >>> adata = vivace.datasets.simulate("batches", n_cells=60, n_genes=30)
        >>> vivace.SCVI.setup_anndata(adata)
        >>> vivace.SCVI(adata, n_latent=4).untrained()
        SCVI(30 genes; ...n_latent=4...): not trained
        """
        own = {name: value for name, value in self.options.items() if name not in FROM_DATA}
        return type(self)(self.adata if adata is None else adata, **{**own, **options})

    def __repr__(self) -> str:
        options = ", ".join(f"{k}={v!r}" for k, v in self.options.items())
        state = "trained" if self.is_trained else "not trained"
        return f"{type(self).__name__}({self.n_genes} genes; {options}): {state}"

    # cells --------------------------------------------------------------------------------------

    def _cells(self, adata: Any = None) -> Cells:
        """The cells of ``adata``, or of the model's own data, as the schema sees them now.

        A question asks for them once and passes them on in place of ``adata``, so that all of its
        answer is of one state of the data.
        """
        if isinstance(adata, Cells):
            return adata
        data = self.adata if adata is None else adata
        if data is None:
            msg = "this model was loaded without data: pass adata="
            raise InvalidArgumentError(msg)
        if self._cells_seen is None or not self._cells_seen.still_hold(data):
            self._cells_seen = self.cells_type(data, self.schema)
        return self._cells_seen

    def _rows(self, cells: Cells, indices: Any, argument: str = "indices") -> np.ndarray:
        """Row numbers of chosen cells, see :func:`vivace.data.selection.cell_rows`."""
        return cell_rows(indices, cells.obs_names, argument)

    def _are_those_of_training(self, cells: Cells) -> bool:
        """Whether row numbers kept in training mean these cells."""
        return cells.data is self.adata and self.training.get("cells") in (None, cells.digest)

    def _loader(self, adata: Any = None, indices: Any = None, batch_size: int | None = None):
        """Minibatches of cells in order, to ask questions of."""
        if not self.is_trained:
            msg = f"this {type(self).__name__} is not trained yet: call model.train() first"
            raise NotTrainedError(msg)
        cells = self._cells(adata)
        return Loader(cells, self._rows(cells, indices), batch_size or DEFAULT_BATCH_SIZE)

    def _parts(
        self, adata: Any, indices: Any, batch_size: int | None, population: str | None = None
    ) -> list[Part]:
        """What answers for the cells: one module for all of them, or one for each population."""
        loader = self._loader(adata, indices, batch_size)
        return [Part(self.module, loader, np.arange(loader.n_obs))]

    @property
    def encoder_module(self) -> BaseModule:
        """The module that encodes any cell, whatever its population."""
        return self.module

    def _batch_codes(self, transform_batch: Any) -> list[int | None]:
        """Codes of one or several batch categories; None stays the observed batch."""
        if transform_batch is None:
            return [None]
        several = isinstance(transform_batch, Sequence | np.ndarray | pd.Index)
        several = several and not isinstance(transform_batch, str | bytes)
        names = [
            None if name is None else text_of(name)
            for name in (transform_batch if several else [transform_batch])
        ]
        field = self.schema.field(Keys.BATCH)
        known = list(field.categories[0]) if field and field.categories else []
        unknown = [n for n in names if n is not None and n not in known]
        if unknown:
            msg = f"transform_batch={unknown[0]!r} is not a batch category. {nearest(unknown[0], known)}"
            raise InvalidArgumentError(msg)
        return [None if n is None else known.index(n) for n in names]

    def _gene_positions(self, gene_list: Any) -> np.ndarray | None:
        """Positions of genes in the order asked for; unknown genes raise."""
        return name_positions(gene_list, self.var_names, "gene_list", "gene")

    def _counts_arguments(self, options: dict[str, Any]) -> dict[str, Any]:
        """Arguments of a module of counts that the data say."""
        schema = self.schema
        has_size_factor = schema.field(Keys.SIZE_FACTOR) is not None
        n_batch = sum(schema.n_categories(Keys.BATCH)) or 1
        arguments: dict[str, Any] = {
            "n_input": self.n_genes,
            "n_batch": n_batch,
            "n_labels": sum(schema.n_categories(Keys.LABELS)) or 1,
            "n_continuous_cov": len(f.columns) if (f := schema.field(Keys.CONT_COVS)) else 0,
            "n_cats_per_cov": list(schema.n_categories(Keys.CAT_COVS)) or None,
            "use_size_factor_key": has_size_factor,
        }
        if not options.get("use_observed_lib_size", True) and not has_size_factor:
            means, variances = self._library_prior(n_batch)
            arguments |= {"library_log_means": means, "library_log_vars": variances}
        return arguments

    def _library_prior(self, n_batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the log library size in each batch, two (1, n_batch) arrays."""
        means, variances = np.zeros((1, n_batch)), np.ones((1, n_batch))
        if self.adata is None:  # loading: the saved weights hold the prior
            return means, variances
        cells = self._cells()
        log_sizes = np.log(np.maximum(cells.library_sizes(), 1))  # an empty cell counts as 0
        codes = cells.columns[Keys.BATCH][:, 0]
        for code in np.unique(codes):
            of_batch = log_sizes[codes == code]
            means[0, code], variances[0, code] = of_batch.mean(), of_batch.var()
        return means, variances

    # training -----------------------------------------------------------------------------------

    @behind_door
    def train(
        self,
        max_epochs: int | None = None,
        accelerator: str = "auto",
        devices: str | int | list[int] = "auto",
        train_size: float | None = None,
        validation_size: float | None = None,
        shuffle_set_split: bool = True,
        batch_size: int | None = None,
        early_stopping: bool | None = None,
        seed: int | None = None,
        recipe: str = "fast",
        plan_kwargs: dict[str, Any] | None = None,
        datasplitter_kwargs: dict[str, Any] | None = None,
        checkpoint: str | Path | None = None,
        resume: str | Path | None = None,
        progress: bool = True,
        callbacks: Any = None,
        logger: Any = None,
        **train_options,
    ) -> None:
        """Train the model; Ctrl-C ends training with the best weights so far.

        Parameters
        ----------
        max_epochs
            Passes over the training cells; default what the recipe finds right for this many.
        accelerator, devices
            "auto", "cpu", "gpu"; the number of a device as ``[n]``, or a number of processes that train
            together on this machine, each on a device of its own. Processes that ``torchrun`` or
            another launcher has started train together by themselves, unless ``devices=1``.
        train_size, validation_size
            Shares of training cells, in (0, 1], and of held-out cells, in [0, 1).
        shuffle_set_split
            Choose them at random.
        batch_size
            Cells in a minibatch.
        early_stopping
            Stop when the held-out loss no longer improves.
        seed
            Of split, order of cells, dropout and sampling; default ``vivace.settings.seed``. On the CPU
            of one machine, with the same versions and number of threads (``torch.get_num_threads()``),
            the same seed gives the same weights to the bit. The session's generators stay as they are.
        recipe
            "fast", or "classic": constant learning rate and 400 epochs, as published.
        plan_kwargs
            Further training options (``lr``, ``n_epochs_kl_warmup`` ..., see
            :class:`vivace.train.TrainOptions`); other names are passed to the module's loss.
            ``{"kl_weight": w}`` keeps the weight of the KL term at ``w``.
        datasplitter_kwargs
            ``{"external_indexing": [train, validation, test]}``: row numbers, masks or names of cells.
        checkpoint
            File that the state of training is written to, by default after every epoch.
        resume
            Checkpoint to go on from, with the options of the run that wrote it.
        progress
            Show a progress bar; where errors do not go to a terminal, a line every few seconds.
        callbacks, logger
            Told of steps and epochs, one or a list: :class:`vivace.train.TensorBoard`,
            :class:`vivace.train.MLflow`, :class:`vivace.train.WeightsAndBiases`, or objects of your own
            (:class:`vivace.train.Callback`).
        **train_options
            Any field of :class:`vivace.train.TrainOptions`.

        Raises
        ------
        InvalidArgumentError
            If an option is out of range, or early stopping lacks held-out cells.
        TrainingError
            If the loss is not finite; the model then has the last good weights. Or if one of several
            processes has ended.
        """
        split_kwargs = {
            "train_size": self.default_train_size if train_size is None else train_size,
            "validation_size": validation_size,
            "shuffle": shuffle_set_split,
            "seed": settings.seed if seed is None else seed,
            **self._splitter_options(datasplitter_kwargs),
        }
        if split_kwargs.get("external_indexing") is not None:
            split_kwargs["external_indexing"] = self._parts_as_rows(
                split_kwargs["external_indexing"]
            )
        given = {
            "max_epochs": max_epochs,
            "batch_size": batch_size,
            "early_stopping": early_stopping,
            **train_options,
        }
        options, loss_kwargs = self._training_options(
            recipe, self._cells().n_cells, given, read_options("plan_kwargs", plan_kwargs)
        )
        train, validation = self._training_batches(split_kwargs, options)
        self._run_training(
            train,
            validation,
            options,
            loss_kwargs,
            device=pick_device(accelerator, devices),
            processes=processes_of(devices),
            seed=split_kwargs["seed"],
            recipe=recipe,
            checkpoint=checkpoint,
            resume=resume,
            progress=progress,
            callbacks=read_callbacks(callbacks, logger),
        )

    def _recipes(self) -> dict[str, dict[str, Any]]:
        """Training options of this model for each recipe; a leaf may fit them to its data."""
        return self.recipes

    def _training_options(
        self, recipe: str, n_cells: int, given: dict[str, Any], plan_kwargs: dict[str, Any] | None
    ) -> tuple[TrainOptions, dict[str, Any]]:
        """Split what the user gave into options of the loop and arguments of the loss."""
        known = [*option_names(), "kl_weight", *loss_options(self.module)]
        plan = spellings.spelled("plan_kwargs", "train", plan_kwargs or {}, known)
        check_names("plan_kwargs", plan, known)
        if "kl_weight" in plan:
            weight = plan.pop("kl_weight")
            plan |= {"max_kl_weight": weight, "min_kl_weight": weight}
        loop = {k: v for k, v in plan.items() if k in option_names()}
        options = make_options(recipe, n_cells, {**loop, **_given(given)}, self._recipes())
        loss_kwargs = {k: v for k, v in plan.items() if k not in option_names()}
        return options, {**self._loss_weights(recipe), **loss_kwargs}

    def _loss_weights(self, recipe: str) -> dict[str, float]:
        """Arguments of the loss for a recipe; a leaf may let its own options say them."""
        return self.loss_weights.get(recipe, {})

    @staticmethod
    def _splitter_options(given: dict[str, Any] | None) -> dict[str, Any]:
        what = "datasplitter_kwargs"
        options = spellings.spelled(what, what, read_options(what, given), SPLIT_OPTIONS)
        for name in options.keys() - set(SPLIT_OPTIONS):
            raise missing_key("datasplitter_kwargs", name, "the known options", SPLIT_OPTIONS)
        return options

    def _parts_as_rows(self, parts: Sequence[Any]) -> list[np.ndarray]:
        """Row numbers of each part of a split that a user chose; a part may be empty."""
        cells = self._cells()
        return [
            np.empty(0, dtype=np.int64)
            if part is None or len(part) == 0
            else self._rows(cells, part, "external_indexing")
            for part in parts
        ]

    def _training_batches(
        self, split_kwargs: dict[str, Any], options: TrainOptions
    ) -> tuple[Batches, Batches | None]:
        """Training and held-out minibatches; sets ``self.split``."""
        cells = self._cells()
        self.split = split_cells(
            np.arange(cells.n_cells), batch_size=options.batch_size, **split_kwargs
        )
        train = Loader(
            cells, self.split.train, options.batch_size, shuffle=True, seed=split_kwargs["seed"]
        )
        if len(self.split.validation) == 0:
            return train, None
        held_out = cells.in_reading_order(self.split.validation)
        return train, Loader(cells, held_out, max(options.batch_size, DEFAULT_BATCH_SIZE))

    def _run_training(
        self,
        train: Batches,
        validation: Batches | None,
        options: TrainOptions,
        loss_kwargs: dict[str, Any],
        *,
        seed: int,
        recipe: str,
        processes: int | None = None,
        **fit_kwargs,
    ) -> None:
        n = to_start(processes)
        if n:
            check_importable(fit_kwargs["callbacks"], n)
        run = partial(fit_in_processes, self, n) if n else partial(fit, self.module)
        with doing("" if n else "training"):  # several processes say themselves where they are
            result = run(
                train,
                validation,
                options=options,
                loss_kwargs=loss_kwargs,
                seed=seed,
                history=self._history,
                alone=processes == 1,
                **fit_kwargs,
            )
        self._history = result.history
        self.is_trained = True
        self.training = {
            "recipe": recipe,
            "seed": seed,
            "options": asdict(options),
            "loss_options": loss_kwargs,
            "epochs": result.epochs,
            "best_epoch": result.best_epoch,
            "stopped": result.stopped,
            "seconds": round(result.seconds, 3),
            "n_train": train.n_obs,
            "n_validation": 0 if validation is None else validation.n_obs,
            "device": str(self.device),
            "cells": self._cells().digest,
        }

    # files --------------------------------------------------------------------------------------

    @behind_door
    def save(
        self,
        folder: str | Path,
        *,
        prefix: str = "",
        overwrite: bool = False,
        save_anndata: bool = False,
    ) -> Path:
        """Save the model as safetensors and JSON. Of several processes that train it, the first does.

        Parameters
        ----------
        folder
            Made if needed; ``~`` is the home folder. Other files in it stay as they are.
        prefix
            Name of a folder in ``folder`` to save to instead, for several models beside each other.
        overwrite
            Replace a model that is there. Until the new one is whole, the old one stays.
        save_anndata
            Write the data beside the model as well, where :meth:`load` finds them.

        Returns
        -------
        The folder of the model.

        Raises
        ------
        InvalidArgumentError
            If there is a model already and ``overwrite`` is false.
        ModelFileError
            If the folder cannot be written to, or an option could not be loaded again.
        InvalidDataError
            If the data cannot be written.
        """
        folder = files.place_of(folder, prefix)
        if not is_first():
            return folder
        return files.save_model(folder, self._to_save(), self.adata, overwrite, save_anndata)

    def _to_save(self) -> SavedModel:
        """All that is saved of the model."""
        return SavedModel(
            model=type(self).__name__,
            schema=self.schema,
            options=self.options,
            weights=self.module.state_dict(),
            arrays={}
            if self.split is None
            else {f"split.{k}": v for k, v in asdict(self.split).items()},
            history=self._history.records,
            training={**self.training, "is_trained": self.is_trained, "query": self.query},
        )

    @classmethod
    @behind_door
    def load(
        cls,
        folder: str | Path,
        adata: Any = None,
        accelerator: str = "cpu",
        device: str | int = "auto",
        prefix: str = "",
    ) -> Self:
        """Load a model of this class.

        Parameters
        ----------
        folder
            Written by :meth:`save`.
        adata
            Data that later questions are asked of by default; None for those that were saved beside the
            model, if they were, and False for none.
        accelerator, device
            Where the model is put: "cpu", "gpu" or "auto", and the number of the device.
        prefix
            As in :meth:`save`.

        Raises
        ------
        ModelFileError
            If the folder is incomplete, altered, of a newer version, of another model, or asks for a
            module far larger than its weights.
        """
        parts, adata = files.read_model(folder, adata, prefix)
        return files.placed(cls.from_parts(parts, adata), accelerator, device)

    @classmethod
    @behind_door
    def from_parts(
        cls, parts: SavedModel, adata: Any = None, may_be_unused: tuple[str, ...] = ()
    ) -> Self:
        """Put a model together from what was saved of it.

        Saved weights whose names start with one of ``may_be_unused`` are left out where the module
        has no place for them.
        """
        if parts.model != cls.__name__:
            msg = f"the folder holds a {parts.model}, not a {cls.__name__}: use vivace.load"
            raise ModelFileError(msg)
        model = cls.__new__(cls)
        misfit = "the saved weights and options do not fit each other"
        with blamed_on(misfit), limited(parts.weights, parts.options):
            model._assemble(parts.schema, parts.options, adata)
            model._take(parts, may_be_unused)
        if adata is not None:
            model._cells(adata)  # say now, not at the first question, if the data do not fit
        return model

    def _take(self, parts: SavedModel, may_be_unused: tuple[str, ...]) -> None:
        """Take over weights and facts of what was saved."""
        known = self.module.state_dict()
        weights = {
            name: value
            for name, value in parts.weights.items()
            if name in known or not name.startswith(may_be_unused)
        }
        self.module.load_state_dict(weights)
        arrays = {k.removeprefix("split."): v for k, v in parts.arrays.items()}
        self.split = self.split_type(**arrays) if arrays else None
        self.training = dict(parts.training)
        self.is_trained = self.training.pop("is_trained", True)
        query = self.training.pop("query", None)
        if query is not None:
            freeze_again(self, query)
        self._history = History(parts.history)


def loss_options(module: BaseModule) -> list[str]:
    """Arguments of a module's loss that are numbers to choose, not what the verbs before it answered."""
    return [
        name
        for name, default in arguments_of(type(module).loss).items()
        if default is not Parameter.empty
    ]


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in options.items() if v is not None}
