"""The importer reads data and nothing else."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import vivace
from vivace.errors import ModelFileError
from vivace.io.import_scvi import Published, sysvi_weights
from vivace.io.restricted_pickle import read_pickle


def published(folder: Path, **changes: object) -> Path:
    """A folder as scvi-tools writes it, around an untrained module of ours."""
    module = vivace.modules.VAE(4, n_batch=2, n_hidden=8, n_latent=2)
    state = {
        **module.state_dict(),
        "pyro_param_store": {},
        "l_encoder.mean_encoder.bias": torch.zeros(1),
    }
    fields = {
        "X": {
            "data_registry": {"attr_name": "X", "attr_key": None},
            "state_registry": {"n_vars": 4},
        },
        "batch": {
            "data_registry": {"attr_name": "obs", "attr_key": "_scvi_batch"},
            "state_registry": {
                "categorical_mapping": np.array(["a", "b"], dtype=object),
                "original_key": "batch",
            },
        },
        "labels": {
            "data_registry": {"attr_name": "obs", "attr_key": "_scvi_labels"},
            "state_registry": {
                "categorical_mapping": np.array([0]),
                "original_key": "_scvi_labels",
            },
        },
        "size_factor": {"data_registry": {}, "state_registry": {}},
    }
    attributes = {
        "registry_": {"scvi_version": "1.4.2", "model_name": "SCVI", "field_registries": fields},
        "init_params_": {
            "non_kwargs": {"n_hidden": 8, "n_latent": 2},
            "kwargs": {"kwargs": {"deeply_inject_covariates": True}},
        },
        "is_trained_": True,
        "history_": {"elbo_train": pd.DataFrame({"elbo_train": [3.0, 2.0]})},
        "train_indices_": np.array([1, 0]),
        "validation_indices_": None,
        "test_indices_": None,
    }
    saved = {
        "model_state_dict": state,
        "var_names": np.array([f"gene_{i}" for i in range(4)], dtype=object),
        "attr_dict": {**attributes, **changes},
    }
    folder.mkdir()
    torch.save(saved, folder / "model.pt")
    return folder


def test_everything_comes_along(tmp_path):
    model = vivace.import_model(published(tmp_path / "old"))
    assert isinstance(model, vivace.SCVI)
    assert model.options["n_latent"] == 2
    assert model.schema.field("batch").categories == (("a", "b"),)
    assert model.schema.field("labels").columns == ()
    assert list(model.var_names) == ["gene_0", "gene_1", "gene_2", "gene_3"]
    assert model.history["elbo_train"]["elbo_train"].tolist() == [3.0, 2.0]
    assert model.train_indices.tolist() == [1, 0]
    loaded = vivace.load(model.save(tmp_path / "new"))
    assert loaded.options == model.options
    assert all(
        (loaded.module.state_dict()[k] == v).all() for k, v in model.module.state_dict().items()
    )


class Malicious:
    """Pickles to a call; the file it would leave shows whether it was made."""

    def __init__(self, call: object, *args: object):
        self.call, self.args = call, args

    def __reduce__(self) -> tuple:
        return self.call, self.args


def attacks(marker: Path) -> dict[str, Malicious]:
    touch = f"open({str(marker)!r}, 'w')"
    return {
        "os.system": Malicious(os.system, f"touch {marker}"),
        "eval": Malicious(eval, touch),
        "open": Malicious(open, str(marker), "w"),
        "getattr": Malicious(getattr, "text", "upper"),
        "pandas.eval": Malicious(pd.eval, touch),
        "torch.load": Malicious(torch.load, str(marker)),
        "numpy.load": Malicious(np.load, str(marker)),
    }


@pytest.mark.parametrize("attack", attacks(Path("marker")))
def test_a_malicious_pickle_is_refused_by_name_and_never_run(attack: str, tmp_path):
    marker = tmp_path / "marker"
    folder = published(tmp_path / "old", further_=attacks(marker)[attack])
    with pytest.raises(ModelFileError, match="which could run code"):
        vivace.import_model(folder)
    assert not marker.exists()
    plain = tmp_path / "plain.pt"
    plain.write_bytes(pickle.dumps(attacks(marker)[attack]))
    with pytest.raises(ModelFileError):
        read_pickle(plain)
    assert not marker.exists()


def test_a_truncated_file_is_damaged(tmp_path):
    path = published(tmp_path / "old") / "model.pt"
    for share in (0, 0.1, 0.5, 0.9):
        cut = tmp_path / "cut.pt"
        cut.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        with pytest.raises(ModelFileError, match="damaged"):
            read_pickle(cut)


def test_what_is_not_there_or_not_known(tmp_path):
    with pytest.raises(ModelFileError, match=r"model\.pt is missing"):
        vivace.import_model(tmp_path)
    registry = {"model_name": "TOTALVI", "field_registries": {}}
    with pytest.raises(ModelFileError, match="TOTALVI, which cannot be imported"):
        vivace.import_model(published(tmp_path / "a", registry_=registry))
    with pytest.raises(ModelFileError, match="does not look like"):
        vivace.import_model(published(tmp_path / "b", registry_=None))
    torch.save([1, 2], tmp_path / "model.pt")
    with pytest.raises(ModelFileError, match="does not look like"):
        vivace.import_model(tmp_path)


def test_pseudo_inputs_keep_the_order_of_their_columns():
    codes = torch.tensor(
        [[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8], [2, 7, 1, 8, 2, 8, 1, 8, 2, 8, 4, 5]]
    )
    one_hot = {f"prior.u_cat.{i}": torch.eye(10)[codes[:, i]] for i in reversed(range(12))}
    weights = sysvi_weights(Published("SysVI", {}, {}, {**one_hot, "w": codes}, (), {}, {}))
    assert weights.keys() == {"w", "prior.codes"}
    assert torch.equal(weights["prior.codes"], codes)


REGISTRY = {"model_name": "SCVI", "field_registries": {"X": {"data_registry": {}}}}
STRANGE = {
    "a name that is a list": {"registry_": {**REGISTRY, "model_name": ["SCVI"]}},
    "no X": {"registry_": {**REGISTRY, "field_registries": {}}},
    "X that is text": {"registry_": {**REGISTRY, "field_registries": {"X": "X"}}},
    "options that are a list": {"init_params_": {"non_kwargs": [1], "kwargs": {}}},
    "options of a number": {"init_params_": {"non_kwargs": {}, "kwargs": {"a": 3}}},
    "an option of another type": {"init_params_": {"non_kwargs": {"n_hidden": "8"}, "kwargs": {}}},
    "far too many layers": {"init_params_": {"non_kwargs": {"n_layers": 10**12}, "kwargs": {}}},
    "a history of text": {"history_": {"elbo_train": "low"}},
    "a history that is a list": {"history_": [1.0]},
    "rows of text": {"train_indices_": np.array(["a"], dtype=object)},
    "rows that are a table": {"train_indices_": pd.DataFrame({"a": ["b"]})},
}


@pytest.mark.parametrize("case", STRANGE)
def test_what_no_model_holds_is_refused_in_one_sentence(case: str, tmp_path):
    with pytest.raises(ModelFileError) as error:
        vivace.import_model(published(tmp_path / "old", **STRANGE[case]))
    assert "\n" not in str(error.value)


def test_names_of_genes_are_names(tmp_path):
    folder = published(tmp_path / "old")
    saved = read_pickle(folder / "model.pt")
    for names in ([("a", "b"), "c"], [None], [["a"]], 3, {"rna": 3}):
        torch.save({**saved, "var_names": names}, folder / "model.pt")
        with pytest.raises(ModelFileError, match="does not look like"):
            vivace.import_model(folder)


def test_a_model_pt_that_is_no_file_is_refused_and_not_waited_for(tmp_path):
    path = tmp_path / "model.pt"
    for make in (lambda: os.mkfifo(path), lambda: path.symlink_to("/dev/zero"), path.mkdir):
        make()
        with pytest.raises(ModelFileError, match="expected a file"):
            vivace.import_model(tmp_path)
        path.rmdir() if path.is_dir() else path.unlink()


def test_the_wave_is_the_home_folder(tmp_path, monkeypatch):
    published(tmp_path / "old")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert isinstance(vivace.import_model("~/old"), vivace.SCVI)
