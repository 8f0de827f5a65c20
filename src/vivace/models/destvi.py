"""DestVI: which cell types are in each spot, in what proportion and in which state."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from vivace._types import Keys
from vivace.analysis import deconvolution
from vivace.data.matrices import read_matrix
from vivace.data.schema import UNS_KEY, Field, read_schema, write_schema
from vivace.data.setup import count_schema
from vivace.errors import (
    InvalidArgumentError,
    InvalidDataError,
    UnsupportedError,
    VivaceWarning,
    check_choice,
    missing_key,
)
from vivace.models.base import BaseModel
from vivace.models.condscvi import CondSCVI
from vivace.modules.mrdeconv import MRDeconv
from vivace.modules.vaec import VAEC

FEWEST_GENES = 50
"""Genes that reference and spots must share at least."""
FEW_SHARED = 0.5
"""Share of the reference's genes below which a warning is given."""
DEFAULTS: dict[str, Any] = {"n_samples_augmentation": 8, "n_states_per_label": 1}
"""Options of the module that :meth:`DestVI.from_model` chooses unless told otherwise."""
FROM_REFERENCE = ("px_r", "per_ct_bias", "mean_vprior", "var_vprior", "mp_vprior")
"""Arrays of the module that a reference gives, beside its decoder and the vectors of its batches."""
FAST_STEPS = 1000
"""Steps of the fast recipe, whatever the number of spots."""


class DestVI(BaseModel):
    """Cell types of spatial spots, their proportions and their states (Lopez et al. 2022).

    Made from a trained :class:`vivace.CondSCVI` by :meth:`from_model`.

    Parameters
    ----------
    st_adata
        Spots that :meth:`setup_anndata` was called on.
    cell_type_mapping
        (C,) names of the types.
    decoder_state_dict, px_decoder_state_dict, px_r, per_ct_bias
        Of the reference's module, for the genes of ``st_adata``.
    n_hidden, n_latent, n_layers, dropout_decoder
        Of the reference.
    type_depth
        (C,) mean counts of a reference cell of each type, to turn proportions of counts into those of
        cells.
    **module_kwargs
        Further options of :class:`vivace.modules.MRDeconv`.

    Raises
    ------
    MissingKeyError
        If the spots were not set up.

    Examples
    --------
    >>> import vivace
    >>> reference, spots = vivace.datasets.simulate("spatial", n_cells=120, n_genes=60, n_spots=20)
    >>> vivace.CondSCVI.setup_anndata(reference, labels_key="cell_type")
    >>> cells = vivace.CondSCVI(reference)
    >>> cells.train(max_epochs=2, progress=False)
    >>> model = vivace.DestVI.from_model(spots, cells)
    >>> model.train(max_epochs=2, progress=False)
    >>> model.get_proportions().shape
    (20, 6)
    """

    module: MRDeconv
    module_class = MRDeconv
    default_train_size: ClassVar[float | None] = 1.0
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "fast": {
            "batch_size": 32,
            "lr": 6e-3,
            "kl_warmup_fraction": 0.1,
            "max_epochs": lambda n, batch_size: math.ceil(FAST_STEPS / math.ceil(n / batch_size)),
        },
        "classic": {"max_epochs": 2000, "lr": 3e-3, "n_epochs_kl_warmup": 200},
    }
    loss_weights = {
        "fast": {
            "reconst_weight": 1.0,
            "weighting_augmentation": 500.0,
            "ct_sparsity_weight": 0.0,
        },
    }

    def __init__(
        self,
        st_adata: Any,
        cell_type_mapping: Sequence[str],
        decoder_state_dict: Mapping[str, torch.Tensor],
        px_decoder_state_dict: Mapping[str, torch.Tensor],
        px_r: torch.Tensor,
        per_ct_bias: torch.Tensor,
        n_hidden: int,
        n_latent: int,
        n_layers: int,
        dropout_decoder: float,
        *,
        type_depth: Sequence[float] | None = None,
        **module_kwargs,
    ):
        arrays = {
            name: module_kwargs.pop(name, None)
            for name in ("mean_vprior", "var_vprior", "mp_vprior", "batch_embedding")
        }
        self._fitted = {
            "decoder_state_dict": decoder_state_dict,
            "px_decoder_state_dict": px_decoder_state_dict,
            "px_r": px_r,
            "per_ct_bias": per_ct_bias,
            **arrays,
        }
        prior = arrays["mean_vprior"]
        super().__init__(
            st_adata,
            cell_type_mapping=[str(name) for name in cell_type_mapping],
            n_spots=int(st_adata.n_obs),
            n_hidden=n_hidden,
            n_latent=n_latent,
            n_layers=n_layers,
            dropout_decoder=dropout_decoder,
            type_depth=None if type_depth is None else [float(d) for d in type_depth],
            n_prior_components=None if prior is None else int(np.shape(prior)[1]),
            **module_kwargs,
        )

    @classmethod
    def setup_anndata(
        cls,
        adata: Any,
        layer: str | None = None,
        smoothed_layer: str | None = None,
        batch_key: str | None = None,
    ) -> None:
        """Say which parts of an AnnData of spots the model uses; kept under ``adata.uns["vivace"]``.

        Parameters
        ----------
        adata
            Spots by genes, raw counts. Nothing but ``.uns["vivace"]`` is written.
        layer
            Layer with the raw counts; default ``adata.X``.
        smoothed_layer
            Layer with counts averaged over neighbouring spots; the proportions of a spot are then
            drawn to those of its neighbourhood.
        batch_key
            Column of ``adata.obs``, such as the slide.

        Raises
        ------
        InvalidDataError, MissingKeyError
            As in :meth:`vivace.SCVI.setup_anndata`.
        """
        schema = count_schema(adata, cls.__name__, layer=layer, batch_key=batch_key)
        schema = schema.with_field(Field(Keys.CELL_INDEX, "index"))
        if smoothed_layer is not None:
            read_matrix(adata, smoothed_layer, "counts", argument="smoothed_layer")
            schema = schema.with_field(Field(Keys.X_SMOOTHED, "matrix", (smoothed_layer,)))
        schema.setup_args.update(smoothed_layer=smoothed_layer)
        write_schema(adata, schema)

    @classmethod
    def from_model(
        cls,
        st_adata: Any,
        sc_model: CondSCVI,
        vamp_prior_p: int | None = 15,
        anndata_setup_kwargs: dict[str, Any] | None = None,
        **module_kwargs,
    ) -> Self:
        """Build the spatial model of some spots from a trained reference.

        Genes are matched by name. Where spots lack genes of the reference, the decoder is restricted
        to the genes that both have: a softmax over fewer genes is the same model given those genes, so
        that the reference needs no new training. Further genes of the spots are ignored.

        Parameters
        ----------
        st_adata
            Spots by genes, raw counts; set up here unless :meth:`setup_anndata` was called before.
        sc_model
            Trained :class:`vivace.CondSCVI`.
        vamp_prior_p
            Components of the prior of each type's states; None: a standard normal prior. A reference
            with ``prior="mog"`` gives the mixture it learned.
        anndata_setup_kwargs
            Arguments of :meth:`setup_anndata`.
        **module_kwargs
            Options of :class:`vivace.modules.MRDeconv`.

        Raises
        ------
        InvalidDataError
            If fewer than 50 genes are shared.
        InvalidArgumentError
            If the reference was loaded without its cells.
        NotTrainedError
            If the reference is not trained.
        """
        if sc_model.adata is None:
            msg = (
                "the reference was loaded without its cells, from which the prior of states and the depth "
                "of types are read: load it with them, vivace.load(folder, cells), or save it with "
                "save_anndata=True"
            )
            raise InvalidArgumentError(msg)
        sc_model._loader()  # refuses a model that is not trained
        if anndata_setup_kwargs is not None or cls.__name__ not in st_adata.uns.get(UNS_KEY, {}):
            cls.setup_anndata(st_adata, **(anndata_setup_kwargs or {}))
        shared, positions = shared_genes(st_adata.var_names, sc_model.var_names)
        schema = replace(read_schema(st_adata, cls.__name__), var_names=tuple(shared))
        write_schema(st_adata, schema)
        module = sc_model.module
        weights = {k: v[positions] for k, v in module.px_decoder.state_dict().items()}
        prior = {} if vamp_prior_p is None else sc_model.get_vamp_prior(p=vamp_prior_p)
        batches = schema.field(Keys.BATCH)
        if module_kwargs.get("compat") is None:
            module_kwargs = {**DEFAULTS, **module_kwargs}
        return cls(
            st_adata,
            sc_model.labels,
            module.decoder.state_dict(),
            weights,
            module.px_r[positions],
            module.per_ct_bias[:, positions],
            module.n_hidden,
            module.n_latent,
            module.n_layers,
            module.dropout_rate,
            type_depth=reference_depth(sc_model, positions),
            mean_vprior=prior.get("mean_vprior"),
            var_vprior=prior.get("var_vprior"),
            mp_vprior=prior.get("weights_vprior"),
            batch_embedding=batch_vectors(
                sc_model, batches.categories[0] if batches and batches.categories else ()
            ),
            **module_kwargs,
        )

    from_rna_model = from_model

    def untrained(self, adata: Any = None, **options) -> Self:
        """A new model of the same reference that has learned nothing of the spots.

        See :meth:`vivace.models.base.BaseModel.untrained`. The reference's dispersions are learned on
        with the spots: of a trained model, they start from where it ended.
        """
        module = self.module
        fitted = {name: getattr(module, name) for name in FROM_REFERENCE}
        own = {k: v for k, v in self.options.items() if k not in ("n_spots", "n_prior_components")}
        return type(self)(
            self.adata if adata is None else adata,
            decoder_state_dict=module.decoder.state_dict(),
            px_decoder_state_dict=module.px_decoder.state_dict(),
            batch_embedding=module.get_embedding("batch").weight.detach(),
            **fitted,
            **{**own, **options},
        )

    def _build_module(self) -> MRDeconv:
        options = dict(self.options)
        labels = options.pop("cell_type_mapping")
        n_components = options.pop("n_prior_components")
        options.pop("type_depth")
        fitted = self.__dict__.pop("_fitted", None)
        if fitted is None:  # loading: the saved weights take the place of these
            fitted = self._placeholders(labels, n_components)
        return MRDeconv(
            n_labels=len(labels),
            n_batch=sum(self.schema.n_categories(Keys.BATCH)) or 1,
            n_genes=self.n_genes,
            **fitted,
            **options,
        )

    def _placeholders(self, labels: list[str], n_components: int | None) -> dict[str, Any]:
        o = self.options
        reference = VAEC(
            self.n_genes,
            len(labels),
            o["n_hidden"],
            o["n_latent"],
            o["n_layers"],
            extra_decoder_kwargs=o.get("extra_decoder_kwargs"),
        )
        has_prior = n_components is not None
        shape = (len(labels), n_components or 0, o["n_latent"])
        return {
            "decoder_state_dict": reference.decoder.state_dict(),
            "px_decoder_state_dict": reference.px_decoder.state_dict(),
            "px_r": reference.px_r,
            "per_ct_bias": reference.per_ct_bias,
            "mean_vprior": torch.zeros(shape) if has_prior else None,
            "var_vprior": torch.ones(shape) if has_prior else None,
            "mp_vprior": torch.ones(shape[:2]) if has_prior else None,
        }

    # facts --------------------------------------------------------------------------------------

    @property
    def cell_type_mapping(self) -> list[str]:
        """Names of the types."""
        return list(self.options["cell_type_mapping"])

    @property
    def cell_type_mapping_extended(self) -> list[str]:
        """Names of the types and of the further programmes."""
        n = self.module.add_celltypes
        return self.cell_type_mapping + [f"additional_{i}" for i in range(n)]

    # training -----------------------------------------------------------------------------------

    def _training_batches(self, split_kwargs, options):
        train, validation = super()._training_batches(split_kwargs, options)
        if validation is not None and self.module.amortization != "both":
            msg = (
                f'held-out spots need amortization="both", got "{self.module.amortization}": '
                "free parameters of a spot that is not trained on say nothing; use train_size=1"
            )
            raise InvalidArgumentError(msg)
        return train, validation

    # proportions --------------------------------------------------------------------------------

    def get_proportions(
        self,
        keep_additional: bool = False,
        normalize: bool = True,
        indices: Any = None,
        batch_size: int | None = None,
        *,
        adata: Any = None,
        of: str = "counts",
    ) -> pd.DataFrame:
        """Proportion of each type in each spot.

        Parameters
        ----------
        keep_additional
            Keep the columns of the further programmes, ``additional_0`` ...
        normalize
            Rows of the columns that are kept sum to 1.
        indices
            Rows or a mask; default all.
        batch_size
            Spots at a time.
        adata
            Other spots of the same genes, with amortised proportions.
        of
            "counts": the share of a type in the spot's molecules, which is what the model fits.
            "cells": in its cells, that share divided by the counts of a reference cell of the type.

        Returns
        -------
        DataFrame (n, C) or (n, C + A).

        Raises
        ------
        InvalidArgumentError
            If cells are asked for together with further programmes, or ``of`` is not known.
        UnsupportedError
            If proportions are free parameters and other spots are asked for, or the depth of the types
            is not known.
        """
        check_choice("of", of, ("counts", "cells"))
        adata = self._cells(adata)
        batches = self._spots(adata, indices, batch_size, self.module.amortizes_proportions)
        shares = deconvolution.proportions(self.module, batches)
        names = self.cell_type_mapping_extended
        if of == "cells":
            shares = self._of_cells(shares, keep_additional)
            names = self.cell_type_mapping
        elif not keep_additional:
            names = self.cell_type_mapping
            shares = shares[:, : len(names)]
        if normalize:
            shares = shares / shares.sum(1, keepdims=True)
        return pd.DataFrame(shares, self._names(adata, indices), names)

    def _of_cells(self, shares: np.ndarray, keep_additional: bool) -> np.ndarray:
        depth = self.options.get("type_depth")
        if depth is None:
            msg = "the depth of the reference's types is not known: build the model with from_model"
            raise UnsupportedError(msg)
        if keep_additional:
            msg = 'of="cells" has no meaning for further programmes, which have no cells; drop one'
            raise InvalidArgumentError(msg)
        return deconvolution.cell_shares(shares[:, : len(depth)], np.asarray(depth))

    def get_proportion_uncertainty(
        self,
        indices: Any = None,
        batch_size: int | None = None,
        *,
        n_draws: int = 25,
        seed: int = 0,
    ) -> pd.DataFrame:
        """Standard deviation of each proportion when the spot's molecules are counted again.

        Every draw resamples the counts (Poisson around the observed ones) and reads the proportions
        anew. It holds what counting makes uncertain, not what the reference does.

        Parameters
        ----------
        indices, batch_size
            As in :meth:`get_proportions`.
        n_draws
            Number of draws.
        seed
            Of the draws.

        Returns
        -------
        DataFrame (n, C).

        Raises
        ------
        UnsupportedError
            If proportions are free parameters, which do not follow the counts.
        """
        if not self.module.amortizes_proportions:
            msg = 'uncertainty needs amortised proportions: amortization="both" or "proportion"'
            raise UnsupportedError(msg)
        draws = deconvolution.proportion_draws(
            self.module, self._loader(None, indices, batch_size), n_draws, seed=seed
        )
        draws = draws[..., : len(self.cell_type_mapping)]
        draws = draws / draws.sum(-1, keepdims=True)
        return pd.DataFrame(draws.std(0), self._names(None, indices), self.cell_type_mapping)

    def get_fine_celltypes(
        self, sc_model: CondSCVI, indices: Any = None, batch_size: int | None = None
    ) -> pd.DataFrame:
        """Proportion of each sub-type in each spot, by the reference's classifier of states.

        Parameters
        ----------
        sc_model
            Reference with fine labels, the one this model was made from.
        indices, batch_size
            As in :meth:`get_proportions`.

        Returns
        -------
        DataFrame (n, fine labels); rows sum to the share of all known types.

        Raises
        ------
        UnsupportedError
            If the reference has no fine labels.
        """
        if not sc_model.fine_labels:
            msg = "the reference was set up without fine labels: pass fine_labels_key to setup_anndata"
            raise UnsupportedError(msg)
        shares = deconvolution.fine_proportions(
            self.module, sc_model.module, self._loader(None, indices, batch_size)
        )
        return pd.DataFrame(shares, self._names(None, indices), sc_model.fine_labels)

    # states and expression ----------------------------------------------------------------------

    def get_gamma(
        self,
        indices: Any = None,
        batch_size: int | None = None,
        return_numpy: bool = False,
        *,
        adata: Any = None,
    ) -> dict[str, pd.DataFrame] | np.ndarray:
        """State of each type in each spot, in the reference's latent space.

        Parameters
        ----------
        indices, batch_size, adata
            As in :meth:`get_proportions`.
        return_numpy
            Return one array instead.

        Returns
        -------
        dict from type to DataFrame (n, L), or array (n, L, C).
        """
        adata = self._cells(adata)
        batches = self._spots(adata, indices, batch_size, self.module.amortizes_states)
        gamma = deconvolution.states(self.module, batches)
        if return_numpy:
            return gamma
        names = self._names(adata, indices)
        return {
            label: pd.DataFrame(gamma[:, :, c], names)
            for c, label in enumerate(self.cell_type_mapping)
        }

    def get_scale_for_ct(
        self, label: str, indices: Any = None, batch_size: int | None = None
    ) -> pd.DataFrame:
        """Normalised expression of a type in each spot.

        Parameters
        ----------
        label
            A type.
        indices, batch_size
            As in :meth:`get_proportions`.

        Returns
        -------
        DataFrame (n, G), rows sum to 1. Where a type has next to no share of a spot, its expression is
        that of the prior: look at it together with :meth:`get_proportions`.
        """
        values = deconvolution.type_expression(
            self.module, self._loader(None, indices, batch_size), self._code(label)
        )
        return pd.DataFrame(values, self._names(None, indices), self.var_names)

    def get_expression_for_ct(
        self,
        label: str,
        indices: Any = None,
        batch_size: int | None = None,
        return_sparse_array: bool = False,
    ) -> pd.DataFrame | sparse.csr_array:
        """Observed counts that are due to a type: ``x * v_c rho_c / sum_c' v_c' rho_c'``.

        Parameters
        ----------
        label
            A type.
        indices, batch_size
            As in :meth:`get_proportions`.
        return_sparse_array
            Return CSR instead of a DataFrame.

        Returns
        -------
        DataFrame or CSR array (n, G).
        """
        values = deconvolution.type_counts(
            self.module, self._loader(None, indices, batch_size), self._code(label)
        )
        if return_sparse_array:
            return values
        return pd.DataFrame(values.toarray(), self._names(None, indices), self.var_names)

    def get_latent_representation(
        self,
        adata: Any = None,
        indices: Any = None,
        batch_size: int | None = None,
        return_dist: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Mean of the latent variable that the encoders share, (n, M); needs ``n_latent_amortization``.

        Parameters
        ----------
        adata, indices, batch_size
            As in :meth:`get_proportions`.
        return_dist
            Return the posterior's mean and variance instead.

        Raises
        ------
        UnsupportedError
            If the model has no such latent.
        """
        if self.module.n_latent_amortization is None:
            msg = "spots have no latent of their own: build the model with n_latent_amortization"
            raise UnsupportedError(msg)
        batches = self._loader(adata, indices, batch_size)
        means, variances = deconvolution.spot_latent(self.module, batches)
        return (means, variances) if return_dist else means

    # helpers ------------------------------------------------------------------------------------

    def _spots(self, adata: Any, indices: Any, batch_size: int | None, amortized: bool):
        cells = self._cells(adata)
        if not amortized and not self._are_those_of_training(cells):
            msg = (
                f'amortization="{self.module.amortization}" has free parameters for the spots of '
                "training only; other spots need encoders"
            )
            raise UnsupportedError(msg)
        return self._loader(cells, indices, batch_size)

    def _names(self, adata: Any, indices: Any) -> pd.Index:
        cells = self._cells(adata)
        return cells.obs_names[self._rows(cells, indices)]

    def _code(self, label: str) -> int:
        if label not in self.cell_type_mapping:
            raise missing_key("label", label, "the cell types", self.cell_type_mapping)
        return self.cell_type_mapping.index(label)


def shared_genes(spots: pd.Index, reference: pd.Index) -> tuple[list[str], np.ndarray]:
    """Genes that both have, in the reference's order, and their positions there.

    Raises
    ------
    InvalidDataError
        If they are fewer than 50.
    """
    positions = np.flatnonzero(reference.isin(spots))
    shared = list(reference[positions])
    found = f"{len(shared)} of the reference's {len(reference)} genes are among the {len(spots)} of the spots"
    if len(shared) < FEWEST_GENES:
        msg = (
            f"only {found}, at least {FEWEST_GENES} are needed; names look like "
            f'"{reference[0]}" in the reference and "{spots[0]}" in the spots: use the same kind of '
            "names (symbols or identifiers) in var_names"
        )
        raise InvalidDataError(msg)
    if len(shared) < FEW_SHARED * len(reference):
        warnings.warn(f"only {found}; the others are left out", VivaceWarning, stacklevel=3)
    return shared, positions


def reference_depth(model: CondSCVI, genes: np.ndarray) -> list[float] | None:
    """Mean counts, over these genes, of the reference's cells of each type, (C,)."""
    if model.adata is None:
        return None
    cells = model._cells()
    codes = cells.columns[Keys.LABELS][:, 0]
    totals = np.concatenate([b[:, genes].sum(1) for b in cells.blocks(np.arange(cells.n_cells))])
    sums = np.bincount(codes, np.asarray(totals).ravel(), minlength=len(model.labels))
    return [float(d) for d in sums / np.maximum(np.bincount(codes, minlength=len(sums)), 1)]


def batch_vectors(model: CondSCVI, batches: Sequence[Any]) -> torch.Tensor:
    """Batch embedding to start from: the reference's rows where it knows a batch, else their mean."""
    rows = model.module.get_embedding("batch").weight.detach()
    field = model.schema.field(Keys.BATCH)
    known = list(field.categories[0]) if field and field.categories else []
    mean = rows.mean(0)
    return torch.stack([rows[known.index(b)] if b in known else mean for b in batches or (None,)])
