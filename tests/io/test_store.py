"""Saved models: whole or not at all, and nothing is believed that was altered."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vivace.data import Field, Schema
from vivace.errors import InvalidArgumentError, ModelFileError
from vivace.io import SavedModel, load_parts, save_parts, store


def parts(value: float = 1.0, **options: object) -> SavedModel:
    return SavedModel(
        model="SCVI",
        schema=Schema("SCVI", ("gene_a", "gène ü"), (Field("X", "matrix"),), {"layer": None}),
        options={"n_latent": 3, **options},
        weights={"w": torch.full((2, 2), value), "b": torch.tensor(3)},
        arrays={"split.train": np.array([2, 0])},
        history={"elbo_train": {0: 1.5, 1: 1.25}},
        training={"seed": 0},
    )


def test_round_trip(tmp_path):
    folder = save_parts(tmp_path / "run", parts())
    found, saved = load_parts(folder), parts()
    assert (found.weights["w"] == saved.weights["w"]).all()
    assert found.arrays["split.train"].tolist() == [2, 0]
    assert found.schema == saved.schema
    assert found.options == saved.options
    assert found.history == {"elbo_train": {"0": 1.5, "1": 1.25}}


def test_overwriting_is_asked_for_and_leaves_one_weights_file(tmp_path):
    save_parts(tmp_path, parts(1))
    with pytest.raises(InvalidArgumentError, match="overwrite=True"):
        save_parts(tmp_path, parts(2))
    save_parts(tmp_path, parts(2), overwrite=True)
    assert load_parts(tmp_path).weights["w"][0, 0] == 2
    assert len(list(tmp_path.glob("weights-*"))) == 1


def test_other_files_in_the_folder_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    save_parts(tmp_path, parts())
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_options_that_are_code_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InvalidArgumentError, match="cannot be saved"):
        save_parts(tmp_path / "run", parts(var_activation=torch.exp))
    assert not (tmp_path / "run" / "model.json").exists()


def weights_file(folder: Path) -> Path:
    return next(folder.glob("weights-*"))


def truncate_weights(folder: Path) -> None:
    path = weights_file(folder)
    path.write_bytes(path.read_bytes()[:-3])


def flip_a_bit(folder: Path) -> None:
    path = weights_file(folder)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def swap_weights(folder: Path) -> None:
    other = save_parts(folder.parent / "other", parts(9))
    weights_file(folder).write_bytes(weights_file(other).read_bytes())


def truncate_manifest(folder: Path) -> None:
    path = folder / "model.json"
    path.write_text(path.read_text()[:40])


def change(**entries: object):
    def apply(folder: Path) -> None:
        path = folder / "model.json"
        manifest = {**json.loads(path.read_text()), **entries}
        contents = {k: v for k, v in manifest.items() if v is not None and k != "sha256"}
        path.write_text(json.dumps({**contents, "sha256": store._checksum(contents)}))

    return apply


def rename_a_gene(folder: Path) -> None:
    path = folder / "model.json"
    path.write_text(path.read_text().replace("gene_a", "gene_b"))


TAMPERED = {
    "a gene renamed": (rename_a_gene, "was altered"),
    "weights truncated": (truncate_weights, "checksums differ"),
    "a bit flipped": (flip_a_bit, "checksums differ"),
    "weights swapped": (swap_weights, "checksums differ"),
    "weights missing": (lambda f: weights_file(f).unlink(), "is missing"),
    "manifest truncated": (truncate_manifest, "truncated or altered"),
    "manifest empty": (lambda f: (f / "model.json").write_text(""), "truncated or altered"),
    "manifest a list": (lambda f: (f / "model.json").write_text("[]"), "truncated or altered"),
    "manifest binary": (lambda f: (f / "model.json").write_bytes(b"\xff\xfe\0"), "altered"),
    "no manifest": (lambda f: (f / "model.json").unlink(), "no saved vivace model"),
    "newer": (change(format_version=99, vivace_version="9.0"), "saved by vivace 9.0"),
    "no schema": (change(schema=None), "incomplete or altered"),
    "schema of another shape": (change(schema={"a": 1}), "incomplete or altered"),
    "weights entry altered": (change(weights={}), "incomplete or altered"),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_a_damaged_folder_is_a_clear_error(case: str, tmp_path):
    damage, match = TAMPERED[case]
    folder = save_parts(tmp_path / "run", parts())
    damage(folder)
    with pytest.raises(ModelFileError, match=match):
        load_parts(folder)


def test_a_folder_of_scvi_tools_is_recognised(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"")
    with pytest.raises(ModelFileError, match="import_model"):
        load_parts(tmp_path)


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelFileError, match="cannot save"):
        save_parts(tmp_path / "file" / "run", parts())


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_no_damage_goes_unnoticed_or_ends_in_another_error(data: st.DataObject):
    with tempfile.TemporaryDirectory() as place:
        folder = save_parts(place, parts())
        path = data.draw(st.sampled_from([folder / "model.json", weights_file(folder)]))
        old = path.read_bytes()
        at = data.draw(st.integers(0, len(old) - 1))
        new = data.draw(
            st.sampled_from(
                [old[:at], old[:at] + b"\x00" + old[at + 1 :], old[:at] + old[at + 1 :]]
            )
            | st.binary(max_size=200)
        )
        path.write_bytes(new)
        if new == old or (path.name == "model.json" and same_json(new, old)):
            load_parts(folder)
        else:
            with pytest.raises(ModelFileError):
                load_parts(folder)


def same_json(a: bytes, b: bytes) -> bool:
    try:
        return json.loads(a) == json.loads(b)
    except ValueError:
        return False
