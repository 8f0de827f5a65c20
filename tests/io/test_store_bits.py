"""What is saved comes back to the bit, and two who save to one folder wait for each other."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import numpy as np
import torch

from vivace.data import Field, Schema
from vivace.io import SavedModel, load_parts, save_parts

VALUES = {
    "float32": torch.randn(3, 4) * 1e-7,
    "float64": torch.randn(5, dtype=torch.float64),
    "bfloat16": torch.randn(6).bfloat16(),
    "int64": torch.tensor([2**40, -1]),
    "bool": torch.tensor([True, False]),
    "turned": torch.randn(3, 4).t(),
    "a part": torch.randn(4, 6)[1:3, ::2],
    "one": torch.tensor(1 / 3),
    "none": torch.zeros(0, 3),
}


def parts() -> SavedModel:
    return SavedModel(
        model="SCVI",
        schema=Schema("SCVI", ("gene_a",), (Field("X", "matrix"),), {}),
        options={"rate": 0.1 + 0.2, "name": "ü"},
        weights=VALUES,
        arrays={"split.train": np.arange(5), "split.test": np.array([], dtype=np.int64)},
        history={"elbo_train": {0: 1 / 3}},
        training={"seconds": 0.1},
    )


def test_weights_arrays_and_numbers_come_back_to_the_bit(tmp_path: Path):
    found = load_parts(save_parts(tmp_path / "run", parts()))
    assert found.weights.keys() == VALUES.keys()
    for name, value in VALUES.items():
        assert found.weights[name].dtype == value.dtype, name
        assert torch.equal(found.weights[name], value), name
    assert found.options == {"rate": 0.1 + 0.2, "name": "ü"}
    assert found.history["elbo_train"]["0"] == 1 / 3
    for name, value in parts().arrays.items():
        np.testing.assert_array_equal(found.arrays[name], value)


def test_who_saves_waits_for_the_one_who_holds_the_folder(tmp_path: Path):
    save = threading.Thread(target=save_parts, args=(tmp_path, parts()))
    with (tmp_path / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        save.start()
        save.join(0.3)
        assert save.is_alive()
        assert not (tmp_path / "model.json").exists()
    save.join(10)
    assert load_parts(tmp_path).model == "SCVI"
