"""A folder of SpliceVI, put together from the published names of its weights and fields."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vivace
from vivace.errors import InvalidArgumentError, InvalidDataError

OPTIONS = {
    "splicing_encoder_architecture": "partial",
    "splicing_decoder_architecture": "linear",
    "expression_architecture": "linear",
    "n_hidden": 8,
    "n_latent": 3,
    "splicing_loss_type": "dirichlet_multinomial",
    "dm_concentration": "atse",
    "modality_weights": "equal",
    "modality_penalty": "Jeffreys",
}


def cells() -> Any:
    mdata = vivace.datasets.simulate("splicing", n_cells=40, n_genes=10, n_events=6, observed=0.5)
    mdata.obsm["X_library_size"] = np.asarray(mdata["rna"].X.sum(1)).reshape(-1, 1) + 1.0
    return mdata


def published(folder: Path, mdata: Any, **options: Any) -> tuple[Path, vivace.modules.SPLICEVAE]:
    events = np.unique(mdata["splicing"].var["event_id"].astype(str), return_inverse=True)[1]
    module = vivace.modules.SPLICEVAE(
        mdata["rna"].n_vars,
        mdata["splicing"].n_vars,
        n_batch=1,
        n_obs=mdata.n_obs,
        use_size_factor_key=True,
        event_index=torch.from_numpy(events),
        compat="splicevi",
        **OPTIONS,
    )
    unused = {"mod_weights": torch.ones(1, 2), "l_encoder_expression.output.0.bias": torch.zeros(1)}
    one = {"categorical_mapping": np.array([0]), "original_key": "_scvi_batch"}
    fields = {
        "X": {
            "data_registry": {"attr_name": "X", "mod_key": "rna"},
            "state_registry": {"n_obs": 40},
        },
        "batch": {"data_registry": {"attr_key": "_scvi_batch"}, "state_registry": one},
        "size_factor": {"data_registry": {"attr_name": "obsm", "attr_key": "X_library_size"}},
    }
    setup = {"rna_layer": None, "modalities": {"rna_layer": "rna", "junc_ratio_layer": "splicing"}}
    saved = {
        "model_state_dict": {**unused, **module.state_dict()},
        "var_names": {k: np.array(mdata[k].var_names, dtype=object) for k in ("rna", "splicing")},
        "attr_dict": {
            "registry_": {
                "model_name": "SPLICEVI",
                "field_registries": fields,
                "setup_args": setup,
            },
            "init_params_": {
                "non_kwargs": {"n_genes": 10, **OPTIONS, **options},
                "kwargs": {"model_kwargs": {"code_dim": 16}},
            },
            "is_trained_": True,
        },
    }
    folder.mkdir()
    torch.save(saved, folder / "model.pt")
    return folder, module


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", vivace.errors.VivaceWarning)
        yield


def test_the_old_weights_give_the_old_numbers(tmp_path):
    mdata = cells()
    folder, module = published(tmp_path / "old", mdata)
    model = vivace.import_model(folder, mdata)
    assert model.module.options.compat == "splicevi"
    ours = model.module.state_dict()
    assert all((ours[k] == v).all() for k, v in module.state_dict().items() if k in ours)
    tensors = model._cells().minibatch(np.arange(40))
    with torch.no_grad():
        old = module.eval()(tensors, compute_loss=False)[0]
        new = model.module.eval()(tensors, compute_loss=False)[0]
    for key in ("qz_m", "qz_v", "libsize_expr"):
        torch.testing.assert_close(new[key], old[key])
    assert model.get_latent_representation().shape == (40, 3)
    loaded = vivace.load(model.save(tmp_path / "new"), mdata)
    np.testing.assert_array_equal(
        loaded.get_latent_representation(), model.get_latent_representation()
    )


def test_the_two_generations(tmp_path):
    mdata = cells()
    first = vivace.import_model(published(tmp_path / "a", mdata)[0], mdata)
    assert (first.module.options.dm_mean, first.module.options.modality_penalty) == (
        "sigmoid",
        "None",
    )
    packaged = published(tmp_path / "b", mdata, splicing_loss_weight=2.0)[0]
    second = vivace.import_model(packaged, mdata)
    assert (second.module.options.dm_mean, second.module.options.modality_penalty) == (
        "softmax",
        "Jeffreys",
    )


def test_it_needs_the_data_it_was_trained_with(tmp_path):
    mdata = cells()
    folder, _ = published(tmp_path / "old", mdata)
    with pytest.raises(InvalidArgumentError, match="MuData"):
        vivace.import_model(folder)
    other = cells()
    other["rna"].var_names = [f"other_{i}" for i in range(10)]
    with pytest.raises(InvalidDataError, match="another order"):
        vivace.import_model(folder, other)
