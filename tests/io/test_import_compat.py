"""Imported models keep the mathematics they were published with, where vivace's own differs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import torch

import vivace
from vivace import CondSCVI, ContrastiveVI, DestVI, SysVI
from vivace.datasets import simulate
from vivace.errors import NotTrainedError
from vivace.io.import_scvi import Published, splicevi_options

OURS = ("compat", "n_spots", "type_depth")
"""Options of ours that scvi-tools has no name for, or keeps elsewhere."""


def obs_field(adata: anndata.AnnData, name: str, column: str | None) -> dict[str, Any]:
    """An entry of the registry for a column of obs; without one, the constant that scvi-tools makes."""
    values = [0] if column is None else list(adata.obs[column].astype("category").cat.categories)
    return {
        "data_registry": {"attr_name": "obs", "attr_key": f"_scvi_{name}"},
        "state_registry": {
            "categorical_mapping": np.array(values, dtype=object),
            "original_key": column or f"_scvi_{name}",
        },
    }


def write_published(folder: Path, model: Any, *, trained: bool = True, **columns: str) -> Path:
    """A model of ours in a folder as scvi-tools writes it."""
    names = ("batch", "labels")
    fields = {name: obs_field(model.adata, name, columns.get(name)) for name in names}
    fields["X"] = {"data_registry": {"attr_name": "X", "attr_key": None}}
    options = {k: v for k, v in model.options.items() if k not in OURS}
    state = dict(model.module.state_dict())
    if "n_spots" in model.options:  # scvi-tools keeps free proportions of all spots, used or not
        state.setdefault("V", torch.zeros(1, model.options["n_spots"]))
    codes = state.pop("prior.codes", None)
    if codes is not None:  # scvi-tools keeps categories one-hot
        for i, column in enumerate(codes.T):
            state[f"prior.u_cat.{i}"] = torch.nn.functional.one_hot(column.long(), 2).float()
    saved = {
        "model_state_dict": state,
        "var_names": np.array(model.var_names, dtype=object),
        "attr_dict": {
            "registry_": {"model_name": type(model).__name__, "field_registries": fields},
            "init_params_": {"non_kwargs": options, "kwargs": {}},
            "is_trained_": trained,
        },
    }
    folder.mkdir()
    torch.save(saved, folder / "model.pt")
    return folder


def condscvi(compat: str | None) -> tuple[CondSCVI, dict[str, str]]:
    adata = simulate("batches", n_cells=90, n_genes=60, n_types=3)
    CondSCVI.setup_anndata(adata, labels_key="cell_type")
    return CondSCVI(adata, n_hidden=8, compat=compat), {"labels": "cell_type"}


def destvi(compat: str | None) -> tuple[DestVI, dict[str, str]]:
    reference, _ = condscvi(None)
    reference.train(max_epochs=1, progress=False)
    spots = anndata.AnnData(np.asarray(reference.adata.X[:30].toarray()))
    spots.var_names = reference.adata.var_names
    DestVI.setup_anndata(spots)
    options = {"n_states_per_label": 3, "prior_mode": "mog", "augmentation": True}
    return DestVI.from_model(spots, reference, vamp_prior_p=2, compat=compat, **options), {}


def sysvi(compat: str | None) -> tuple[SysVI, dict[str, str]]:
    adata = simulate("systems", n_cells=60, n_genes=12)
    SysVI.setup_anndata(adata, batch_key="system")
    return SysVI(adata, n_latent=3, n_hidden=8, compat=compat), {"batch": "system"}


def contrastivevi(compat: str | None) -> tuple[ContrastiveVI, dict[str, str]]:
    adata = simulate("batches", n_cells=60, n_genes=12, n_batches=2)
    ContrastiveVI.setup_anndata(adata, batch_key="batch")
    model = ContrastiveVI(adata, n_hidden=8, n_background_latent=3, compat=compat)
    return model, {"batch": "batch"}


def loss(model: Any) -> float:
    """Of all cells at a seed, in the mode of training, whose augmentations differ too."""
    cells = model._cells()
    module, tensors = model.module.train(), cells.minibatch(np.arange(cells.n_cells))
    torch.manual_seed(0)
    *_, losses = module(tensors, loss_kwargs={"kl_weight": 0.7})
    return float(losses.loss.detach())


def in_another_batch(model: ContrastiveVI) -> float:
    """Mean expression of one gene, had all cells come from the second batch."""
    model.is_trained = True
    torch.manual_seed(0)
    found = model.get_normalized_expression(
        indices=range(20), transform_batch="batch_1", return_numpy=True
    )
    return float(np.mean(np.asarray(found["background"])[:, 0]))


@pytest.mark.parametrize(
    ("build", "number"),
    [(destvi, loss), (sysvi, loss), (contrastivevi, in_another_batch), (condscvi, None)],
)
def test_the_published_mathematics_comes_along(build, number, tmp_path):
    torch.manual_seed(0)
    old, columns = build("scvi-tools")
    torch.manual_seed(0)
    ours, _ = build(None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", vivace.errors.VivaceWarning)
        new = vivace.import_model(write_published(tmp_path / "old", old, **columns), old.adata)
    assert new.options.get("compat") == "scvi-tools"
    if number is not None:
        ours.module.load_state_dict(old.module.state_dict(), strict=False)
        assert number(new) == pytest.approx(number(old), rel=1e-6)
        assert number(new) != pytest.approx(number(ours), rel=1e-6)


def test_a_model_that_was_not_trained_there_is_not_trained_here(tmp_path):
    old, columns = condscvi(None)
    for trained in (True, False):
        folder = write_published(tmp_path / f"{trained}", old, trained=trained, **columns)
        new = vivace.import_model(folder, old.adata)
        assert new.is_trained == trained
    with pytest.raises(NotTrainedError):
        new.get_latent_representation()


def test_the_number_of_training_cells_comes_along_for_the_prior_of_concentrations():
    published = Published(
        "SPLICEVI", {"X": {"state_registry": {"n_obs": 321}}}, {"n_genes": 5}, {}, (), {}, {}
    )
    assert splicevi_options(published)["n_obs"] == 321
