"""Folders of scvi-tools (1.x) and SpliceVI: registry to Schema, init parameters to options, weights.

The numbers of an imported model are those it had: where our mathematics departs on purpose, the model
is built with ``compat="scvi-tools"``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from vivace._files import user_path
from vivace._types import Keys
from vivace.data.schema import Field, Schema
from vivace.data.setup_mudata import splicing_schema
from vivace.errors import InvalidArgumentError, InvalidDataError, ModelFileError, nearest
from vivace.io.damage import blamed_on
from vivace.io.manifest import SCHEMA
from vivace.io.restricted_pickle import read_pickle
from vivace.io.shapes import TEXT
from vivace.io.store import SavedModel

UNUSED_WEIGHTS = ("pyro_param_store",)
"""Entries of every published state dict that hold no weights."""

OBS_FIELDS = {"batch": Keys.BATCH, "labels": Keys.LABELS, "fine_labels": Keys.FINE_LABELS}


@dataclass(frozen=True)
class Published:
    """A model as scvi-tools saved it.

    Attributes
    ----------
    name
        Class name.
    registry
        Fields of the data, as registered.
    options
        Constructor arguments.
    weights
        State dict.
    var_names
        Genes.
    setup
        Arguments of ``setup_anndata`` or ``setup_mudata``.
    facts
        Further saved attributes (history, rows of the split).
    """

    name: str
    registry: dict[str, Any]
    options: dict[str, Any]
    weights: dict[str, torch.Tensor]
    var_names: tuple[str, ...]
    setup: dict[str, Any]
    facts: dict[str, Any]

    def state(self, field: str) -> dict[str, Any]:
        """State that was registered for a field; empty if the field was not."""
        return dict(self.registry.get(field, {}).get("state_registry", {}))


def read_published(folder: str | Path, prefix: str = "") -> Published:
    """Read a folder of scvi-tools.

    Raises
    ------
    ModelFileError
        If it is not one, is damaged, or holds anything but data.
    """
    path = user_path(folder, "folder") / f"{prefix}model.pt"
    saved = read_pickle(path)
    with blamed_on(f"{path} does not look like a model of scvi-tools 1.x"):
        facts = saved["attr_dict"]
        registry, init = facts["registry_"], facts["init_params_"]
        TEXT(registry["model_name"], "the model's name")
        options = dict(init["non_kwargs"])
        for further in init["kwargs"].values():
            options |= further
        return Published(
            name=registry["model_name"],
            registry=registry["field_registries"],
            options=options,
            weights={k: v for k, v in saved["model_state_dict"].items() if k not in UNUSED_WEIGHTS},
            var_names=names_of(saved["var_names"]),
            setup=registry.get("setup_args") or {},
            facts=facts,
        )


def names_of(saved: Any) -> tuple[str, ...]:
    """Names of genes, of all modalities one after the other."""
    parts = saved.values() if isinstance(saved, dict) else [saved]
    names = [name for part in parts for name in part]
    strange = [name for name in names if not isinstance(name, str | int | np.integer)]
    if strange:
        msg = f"a {type(strange[0]).__name__} stands where the name of a gene belongs"
        raise TypeError(msg)
    return tuple(map(str, names))


# fields -----------------------------------------------------------------------------------------


def schema_of(published: Published, model: str) -> Schema:
    """The Schema that says of the data what the registry says."""
    fields = [_matrix_field(published)]
    for name, key in OBS_FIELDS.items():
        if name in published.registry:
            fields.append(_categorical_field(published, name, key))
    size_factor = published.registry.get("size_factor", {}).get("data_registry")
    if size_factor:
        fields.append(Field(Keys.SIZE_FACTOR, "numeric", (size_factor["attr_key"],)))
    categorical = published.state(Keys.CAT_COVS)
    if categorical:
        columns = tuple(map(str, categorical["field_keys"]))
        categories = tuple(_values(categorical["mappings"][name]) for name in columns)
        fields.append(Field(Keys.CAT_COVS, "categorical", columns, categories))
    continuous = published.state(Keys.CONT_COVS)
    if continuous:
        fields.append(Field(Keys.CONT_COVS, "numeric", _values(continuous["columns"])))
    return Schema(model, published.var_names, tuple(fields), {"imported from": "scvi-tools"})


def _matrix_field(published: Published) -> Field:
    registered = published.registry["X"]["data_registry"]
    layer = registered["attr_key"] if registered["attr_name"] == "layers" else None
    return Field(Keys.X, "matrix", () if layer is None else (layer,))


def _categorical_field(published: Published, name: str, key: str) -> Field:
    state = published.state(name)
    column = state.get("original_key")
    own = f"_scvi_{name}"  # where scvi-tools keeps the codes when no column was given
    if column is None or column == own:
        return Field(key, "categorical")
    return Field(key, "categorical", (str(column),), (_values(state["categorical_mapping"]),))


def _values(array: Any) -> tuple[Any, ...]:
    return tuple(
        v.item() if isinstance(v, np.generic) else v for v in np.asarray(array, dtype=object)
    )


# models -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Translation:
    """How a published model becomes ours.

    Attributes
    ----------
    options
        From the published model to our constructor options.
    unused
        Prefixes of weights that were saved but never used by the chosen options.
    schema
        From the published model and the data, which may be None, to our Schema.
    weights
        From the published state dict to ours.
    arrays
        From the saved attributes to the rows of the split.
    """

    options: Callable[[Published], dict[str, Any]] = lambda published: dict(published.options)
    unused: tuple[str, ...] = ()
    schema: Callable[[Published, Any], Schema] = lambda published, _: schema_of(
        published, published.name
    )
    weights: Callable[[Published], dict[str, torch.Tensor]] = lambda published: published.weights
    arrays: Callable[[dict[str, Any]], dict[str, np.ndarray]] = lambda facts: split_rows(facts)


HEADS = ("l_encoder.", "decoder.px_r_decoder.", "decoder.px_dropout_decoder.", "px_r")
"""Parts that scvi-tools builds whether or not the options use them."""

PUBLISHED = {"compat": "scvi-tools"}


def condscvi_options(published: Published) -> dict[str, Any]:
    """The weights of types are a buffer of the module, and no option."""
    options = {k: v for k, v in published.options.items() if k != "ct_weight"}
    return options | PUBLISHED


def destvi_options(published: Published) -> dict[str, Any]:
    """What the reference gave is among the weights; the options say how much of it there is."""
    weights = published.weights
    fitted = ("decoder_state_dict", "px_decoder_state_dict", "px_r", "per_ct_bias")
    priors = ("mean_vprior", "var_vprior", "mp_vprior")
    options = {k: v for k, v in published.options.items() if k not in (*fitted, *priors)}
    prior = weights.get("mean_vprior")
    return {
        **options,
        "cell_type_mapping": [str(name) for name in published.options["cell_type_mapping"]],
        "n_spots": weights["V"].shape[1],
        "n_prior_components": None if prior is None else prior.shape[1],
        "type_depth": None,
        **PUBLISHED,
    }


def destvi_schema(published: Published, _: Any) -> Schema:
    """Spots know their row number, which scvi-tools keeps in a column of its own."""
    schema = schema_of(published, "DestVI").with_field(Field(Keys.CELL_INDEX, "index"))
    smoothed = published.registry.get("x_smoothed", {}).get("data_registry")
    if smoothed:
        schema = schema.with_field(Field(Keys.X_SMOOTHED, "matrix", (smoothed["attr_key"],)))
    return schema


def sysvi_options(published: Published) -> dict[str, Any]:
    """The chosen cells are the prior's pseudo-inputs, which are among the weights."""
    dropped = ("pseudoinputs_data_indices", "pseudoinput_data")
    return {k: v for k, v in published.options.items() if k not in dropped} | PUBLISHED


def sysvi_schema(published: Published, _: Any) -> Schema:
    """Weights of batches are made from the batches, not read from a column; ours are 1 on average."""
    schema = schema_of(published, "SysVI")
    batch = schema.field(Keys.BATCH)
    if batch is not None and published.registry.get("batch_weights"):
        schema = schema.with_field(replace(batch, key=Keys.BATCH_WEIGHTS, kind="balance"))
    return schema


ONE_HOT = "prior.u_cat."
"""How the names of pseudo-inputs begin; the number of the categorical column follows."""


def sysvi_weights(published: Published) -> dict[str, torch.Tensor]:
    """One-hot categories of the pseudo-inputs become codes; the encoder is kept once."""
    weights = {k: v for k, v in published.weights.items() if not k.startswith(ONE_HOT)}
    numbers = sorted(
        int(k.removeprefix(ONE_HOT)) for k in published.weights if k.startswith(ONE_HOT)
    )
    if numbers:
        one_hot = [published.weights[f"{ONE_HOT}{number}"] for number in numbers]
        weights["prior.codes"] = torch.stack([matrix.argmax(1) for matrix in one_hot], dim=1)
    return weights


SPLICEVI_DEFAULTS: dict[str, Any] = {
    "dispersion": "gene",
    "initialize_embeddings_from_pca": False,
    "decoder_intercept_init": "default",
    "fully_paired": False,
    "compat": "splicevi",
}
SPLICEVI_SETUP = (
    "rna_layer",
    "atse_counts_layer",
    "junc_counts_layer",
    "batch_key",
    "categorical_covariate_keys",
    "continuous_covariate_keys",
    "modalities",
)


def splicevi_options(published: Published) -> dict[str, Any]:
    """Options of either generation: the first had no penalty in force and means by a sigmoid."""
    dropped = ("n_genes", "n_junctions", "splicing_concentration")
    options = {k: v for k, v in published.options.items() if k not in dropped}
    packaged = "splicing_loss_weight" in options
    by_generation = {"dm_mean": "softmax"} if packaged else {"modality_penalty": "None"}
    return {
        **SPLICEVI_DEFAULTS,
        **options,
        **by_generation,
        "n_obs": published.state("X").get("n_obs"),
        "use_size_factor_key": bool(published.registry.get("size_factor", {}).get("data_registry")),
    }


def splicevi_schema(published: Published, mdata: Any) -> Schema:
    """Which junction belongs to which event was not saved: it comes from the data."""
    if mdata is None:
        msg = "a model of SpliceVI does not say which event a junction belongs to: pass its MuData"
        raise InvalidArgumentError(msg)
    setup = {k: v for k, v in published.setup.items() if k in SPLICEVI_SETUP}
    factor = published.registry.get("size_factor", {}).get("data_registry") or {}
    schema = splicing_schema(mdata, "SPLICEVI", size_factor_key=factor.get("attr_key"), **setup)
    junctions = schema.field(Keys.JUNCTIONS)
    have = (*schema.var_names, *(junctions.categories[0] if junctions else ()))
    if have != published.var_names:
        msg = (
            f"the model has {len(published.var_names)} genes and junctions, the data {len(have)}, or in "
            "another order; pass the MuData that the model was trained with"
        )
        raise InvalidDataError(msg)
    return schema


TRANSLATIONS: dict[str, Translation] = {
    "SCVI": Translation(unused=HEADS),
    "JointEmbeddingSCVI": Translation(unused=HEADS),
    "CondSCVI": Translation(condscvi_options),
    "DestVI": Translation(
        destvi_options, unused=("V", "gamma", "V_encoder.", "gamma_encoder."), schema=destvi_schema
    ),
    "SysVI": Translation(
        sysvi_options, unused=("prior.encoder.",), schema=sysvi_schema, weights=sysvi_weights
    ),
    "ContrastiveVI": Translation(
        lambda published: (
            {"gene_likelihood": "zinb", "dispersion": None} | published.options | PUBLISHED
        ),
        unused=("l_encoder.", "decoder.px_r_decoder."),
        arrays=lambda facts: {},  # which rows were background and which target was not saved
    ),
    "SPLICEVI": Translation(
        splicevi_options,
        unused=(
            "mod_weights",
            "log_phi_j",
            "l_encoder_expression.",
            "z_decoder_expression.px_r_decoder.",
        ),
        schema=splicevi_schema,
    ),
}


def import_parts(
    folder: str | Path, adata: Any = None, prefix: str = ""
) -> tuple[SavedModel, tuple[str, ...]]:
    """Parts of a model saved by scvi-tools, and the prefixes of weights that may go unused.

    Raises
    ------
    ModelFileError
        If the folder is not of a model that can be imported.
    """
    published = read_published(folder, prefix)
    if published.name not in TRANSLATIONS:
        msg = (
            f"{folder} holds a {published.name}, which cannot be imported. "
            f"{nearest(published.name, TRANSLATIONS)}"
        )
        raise ModelFileError(msg)
    translation = TRANSLATIONS[published.name]
    with blamed_on(f"{folder} holds a {published.name} with something that none has"):
        return _translated(published, translation, adata), translation.unused


def _translated(published: Published, translation: Translation, adata: Any) -> SavedModel:
    facts = published.facts
    schema = translation.schema(published, adata)
    SCHEMA(json.loads(schema.to_json()), "the data it was trained on")
    return SavedModel(
        model=published.name,
        schema=schema,
        options=translation.options(published),
        weights=translation.weights(published),
        arrays=translation.arrays(facts),
        history={name: _series(frame) for name, frame in (facts.get("history_") or {}).items()},
        training={"is_trained": bool(facts["is_trained_"]), "imported from": "scvi-tools"},
    )


def split_rows(facts: dict[str, Any]) -> dict[str, np.ndarray]:
    """Rows of each part, as far as they were saved."""
    names = {
        "train": "train_indices_",
        "validation": "validation_indices_",
        "test": "test_indices_",
    }
    found = {part: facts.get(name) for part, name in names.items()}
    if all(rows is None for rows in found.values()):
        return {}
    return {
        f"split.{part}": np.asarray([] if rows is None else rows, dtype=np.int64).reshape(-1)
        for part, rows in found.items()
    }


def _series(frame: pd.DataFrame) -> dict[int, float]:
    values = frame.iloc[:, 0].astype(float)
    return dict(zip(range(len(values)), values.tolist(), strict=True))
