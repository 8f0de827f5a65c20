"""Saved models: whole or not at all, and nothing is believed that was altered."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vivace
from model_table import CASES
from vivace.data import Field, Schema
from vivace.errors import InvalidArgumentError, ModelFileError, VivaceError
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


# nothing but our own is removed ---------------------------------------------------------------------

STRANGERS = (
    "weights-mine.safetensors",
    "weights-0123456789abcdef.safetensors",
    ".weights-mine.safetensors",
    ".model.json.swp",
    ".model.json.original",
    ".model.json.mine.partial.txt",
    "notes.txt",
)


def test_save_removes_only_the_weights_that_the_replaced_model_named(tmp_path):
    for name in STRANGERS:
        (tmp_path / name).write_text("mine")
    (tmp_path / "weights-1.safetensors").mkdir()
    save_parts(tmp_path, parts(1))
    first = json.loads((tmp_path / "model.json").read_text())["weights"]["file"]
    save_parts(tmp_path, parts(2), overwrite=True)
    assert not (tmp_path / first).exists()
    assert all((tmp_path / name).read_text() == "mine" for name in STRANGERS)
    assert (tmp_path / "weights-1.safetensors").is_dir()


@pytest.mark.parametrize(
    "named", ["notes.txt", "../notes.txt", "weights-0123456789abcdef.safetensors"]
)
def test_what_a_forged_description_names_stays(named: str, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / named).write_text("mine")
    contents = {"format_version": 1, "weights": {"file": named, "sha256": ""}}
    seal = "" if named.startswith("weights") else store._checksum(contents)
    (folder / "model.json").write_text(json.dumps({**contents, "sha256": seal}))
    save_parts(folder, parts(), overwrite=True)
    assert (folder / named).read_text() == "mine"


def test_a_link_in_the_place_of_old_weights_is_not_followed(tmp_path):
    folder = save_parts(tmp_path / "run", parts(1))
    old = weights_file(folder)
    old.rename(tmp_path / "elsewhere")
    old.symlink_to(tmp_path / "elsewhere")
    save_parts(folder, parts(2), overwrite=True)
    assert old.is_symlink()
    assert (tmp_path / "elsewhere").exists()


def test_the_next_save_clears_what_a_killed_one_left(tmp_path):
    folder = save_parts(tmp_path / "run", parts(1))
    killed = save_parts(tmp_path / "killed", parts(2))  # its weights in place, its description not
    weights_file(killed).rename(folder / weights_file(killed).name)
    (killed / "model.json").rename(folder / ".model.json.ab12_xyz.partial")
    (folder / ".weights-0123456789abcdef.safetensors.ab12_xyz.partial").write_text("half")
    assert load_parts(folder).weights["w"][0, 0] == 1
    save_parts(folder, parts(3), overwrite=True)
    assert load_parts(folder).weights["w"][0, 0] == 3
    left = {path.name.split("-")[0] for path in folder.iterdir()}
    assert (left, len(list(folder.iterdir()))) == ({".lock", "model.json", "weights"}, 3)


def test_a_save_that_fails_at_the_last_step_leaves_the_folder_as_it_was(tmp_path, monkeypatch):
    folder = save_parts(tmp_path / "run", parts(1))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    replace = Path.replace

    def no_space(path: Path, target: Path) -> Path:
        if target.name == "model.json":
            raise OSError(28, "No space left on device")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(
        ModelFileError, match=r"No space left on device; what was there is unchanged"
    ):
        save_parts(folder, parts(2), overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_lock_is_a_file_of_ours_and_is_never_written_to(tmp_path):
    (tmp_path / "theirs").write_text("precious")
    folder = tmp_path / "run"
    folder.mkdir()
    lock = folder / ".lock"
    for make in (lambda: lock.symlink_to(tmp_path / "theirs"), lambda: os.mkfifo(lock), lock.mkdir):
        make()
        with pytest.raises(ModelFileError, match=r"\.lock is|Is a directory"):
            save_parts(folder, parts())
        lock.rmdir() if lock.is_dir() and not lock.is_symlink() else lock.unlink()
    lock.hardlink_to(tmp_path / "theirs")
    save_parts(folder, parts())
    assert (tmp_path / "theirs").read_text() == "precious"


# files that are none ----------------------------------------------------------------------------------

NO_FILES = {
    "a pipe": lambda path: os.mkfifo(path),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": lambda path: path.mkdir(),
    "symbolic links": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("which", ["model.json", "weights"])
def test_what_is_no_file_is_refused_and_not_waited_for(which: str, kind: str, tmp_path):
    folder = save_parts(tmp_path / "run", parts())
    path = weights_file(folder) if which == "weights" else folder / which
    path.unlink()
    NO_FILES[kind](path)
    with pytest.raises(ModelFileError, match=kind):
        load_parts(folder)


def test_a_folder_that_is_none_is_said_to_be_none(tmp_path):
    with pytest.raises(ModelFileError, match="there is no such folder"):
        load_parts(tmp_path / "nowhere")
    with pytest.raises(ModelFileError, match="no saved vivace model"):
        load_parts(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelFileError, match="not a file"):
        load_parts(tmp_path / "file")
    for no_path in ("", None, 3, "a\0b"):
        with pytest.raises(InvalidArgumentError, match="folder="):
            load_parts(no_path)
        with pytest.raises(InvalidArgumentError, match="folder="):
            save_parts(no_path, parts())


def test_the_wave_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert save_parts("~/run", parts()) == tmp_path / "run"
    assert load_parts("~/run").model == "SCVI"
    with pytest.raises(InvalidArgumentError, match="write the path in full"):
        load_parts("~nobody-of-this-name/run")


# descriptions that are none -----------------------------------------------------------------------------

TABLES = "tables and lists are nested"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[" * 60 + "]" * 60, TABLES),
        ("[" * 100_000 + "]" * 100_000, TABLES),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, TABLES),
        ("[" + "{}," * 4_000_000 + "1]", "larger than"),
        ('"' + "x" * (64 * 2**20) + '"', "larger than"),
        ("9" * 5000, "digits"),
    ],
    ids=["deep", "very deep", "deep tables", "many", "long", "digits"],
)
def test_descriptions_that_cost_more_than_they_say_are_refused(text: str, match: str, tmp_path):
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(ModelFileError, match=match):
        load_parts(tmp_path)


FIELD = {
    "key": "batch",
    "kind": "categorical",
    "columns": ["b"],
    "categories": [["x"]],
    "transform": "",
}
FREEZE = {"fields": [FIELD], "freeze": {"unfrozen": True}}
WRONG_FIELDS = {
    "model is 3": ("model", 3),
    "model is a list": ("model", ["SCVI"]),
    "options is a list": ("options", [1]),
    "options is null": ("options", ()),
    "history is a list": ("history", [1]),
    "history of a list": ("history", {"elbo": [1.0]}),
    "history of text": ("history", {"elbo": {"0": "low"}}),
    "history without numbers": ("history", {"elbo": {"first": 1.0}}),
    "history of huge numbers": ("history", {"elbo": {"0": 10**40}}),
    "training is a list": ("training", []),
    "training of a flag": ("training", {"is_trained": "yes"}),
    "conditions is a list": ("training", {"conditions": ["a"]}),
    "query is true": ("training", {"query": True}),
    "query without fields": ("training", {"query": {"freeze": {}}}),
    "query of other fields": ("training", {"query": {**FREEZE, "fields": [3]}}),
    "query of an unknown kind": (
        "training",
        {"query": {**FREEZE, "fields": [FIELD | {"kind": "x"}]}},
    ),
    "freeze of numbers": ("training", {"query": {**FREEZE, "freeze": {"unfrozen": 1}}}),
    "seconds is text": ("training", {"seconds": "3"}),
    "schema is a list": ("schema", []),
    "no fields": ("schema", {"fields": None}),
    "var_names is text": ("schema", {"var_names": "gene"}),
    "var_names of numbers": ("schema", {"var_names": [1, 2]}),
    "setup_args is a list": ("schema", {"setup_args": []}),
    "modalities is text": ("schema", {"setup_args": {"modalities": "rna"}}),
    "integer_counts is 1": ("schema", {"integer_counts": 1}),
    "version is text": ("schema", {"version": "1"}),
    "field is text": ("schema", {"fields": ["X"]}),
    "unknown kind": ("schema", {"fields": [FIELD | {"kind": "images"}]}),
    "kind is a list": ("schema", {"fields": [FIELD | {"kind": []}]}),
    "unknown transform": ("schema", {"fields": [FIELD | {"transform": "sqrt"}]}),
    "unknown values": ("schema", {"fields": [FIELD | {"expected": "images"}]}),
    "modality is a list": ("schema", {"fields": [FIELD | {"modality": []}]}),
    "columns is text": ("schema", {"fields": [FIELD | {"columns": "b"}]}),
    "columns without categories": ("schema", {"fields": [FIELD | {"columns": ["b", "c"]}]}),
    "categories is flat": ("schema", {"fields": [FIELD | {"categories": ["x"]}]}),
    "categories of lists": ("schema", {"fields": [FIELD | {"categories": [[["x"]]]}]}),
    "weights is a list": ("weights", []),
    "weights of another name": ("weights", {"file": "notes.txt"}),
    "weights of a path": ("weights", {"file": "../weights-0123456789abcdef.safetensors"}),
    "weights without a checksum": ("weights", {"sha256": None}),
}


@pytest.mark.parametrize("case", WRONG_FIELDS)
def test_every_field_of_a_description_is_checked(case: str, tmp_path):
    name, value = WRONG_FIELDS[case]
    folder = save_parts(tmp_path / "run", parts())
    before = json.loads((folder / "model.json").read_text())[name]
    partly = isinstance(value, dict) and name in ("schema", "weights")
    change(**{name: {**before, **value} if partly else value})(folder)
    with pytest.raises(ModelFileError, match=f"incomplete or altered: {name}") as error:
        load_parts(folder)
    assert "expected" in str(error.value) or "is missing" in str(error.value)
    assert "\n" not in str(error.value)


def test_rows_of_a_split_are_whole_numbers(tmp_path):
    for rows in (np.array([[1, 2]]), np.array([0.5])):
        folder = save_parts(
            tmp_path / "run", replace(parts(), arrays={"split.train": rows}), overwrite=True
        )
        with pytest.raises(ModelFileError, match=r'"split\.train" is no list of row numbers'):
            load_parts(folder)


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    folder = save_parts(tmp_path / "run", parts(1))
    with pytest.raises(ModelFileError, match=r"cannot be saved.*training\.seconds"):
        save_parts(folder, replace(parts(2), training={"seconds": "long"}), overwrite=True)
    with pytest.raises(InvalidArgumentError, match="plain data"):
        save_parts(folder, parts(2, nested={(1, 2): 3}), overwrite=True)
    assert load_parts(folder).weights["w"][0, 0] == 1


# models that do not fit their files -------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    adata = vivace.datasets.simulate("batches", n_cells=40, n_genes=20)
    vivace.SCVI.setup_anndata(adata, batch_key="batch")
    model = vivace.SCVI(adata, n_hidden=8, n_latent=2)
    model.train(max_epochs=1, progress=False)
    return model.save(tmp_path_factory.mktemp("model") / "run")


def test_options_that_ask_for_more_than_the_weights_are_refused_before_it_is_made(
    saved_model: Path, tmp_path
):
    for options in (
        {"n_hidden": 1000, "n_layers": 40},
        {"n_hidden": 10**9},
        {"n_latent": 10**15},
        {"n_hidden": 1, "n_layers": 900},
    ):
        folder = shutil.copytree(saved_model, tmp_path / "run", dirs_exist_ok=True)
        change(options=options)(folder)
        start = time.process_time()
        with pytest.raises(ModelFileError, match="saved weights"):
            vivace.load(folder)
        assert time.process_time() - start < 2


def test_a_prior_of_many_types_is_refused_before_it_is_made(tmp_path):
    case = CASES["DestVI"]
    folder = case.build(case.data()).save(tmp_path / "run")
    options = json.loads((folder / "model.json").read_text())["options"]
    types = [f"type {i}" for i in range(50_000)]
    change(options={**options, "cell_type_mapping": types, "n_prior_components": 2000})(folder)
    with pytest.raises(ModelFileError, match="far larger than the saved weights"):
        vivace.load(folder)


def test_options_and_splits_of_another_shape_are_refused(saved_model: Path, tmp_path):
    for options in (
        {"n_hidden": [8]},
        {"n_hidden": "8"},
        {"n_layers": None},
        {"no_option": 1},
        {"n_hidden": 9},
    ):
        folder = shutil.copytree(saved_model, tmp_path / "run", dirs_exist_ok=True)
        change(options=options)(folder)
        with pytest.raises(VivaceError):
            vivace.load(folder)
    found = load_parts(saved_model)
    with pytest.raises(ModelFileError, match="do not fit"):
        vivace.SCVI.from_parts(replace(found, arrays={"split.other": np.array([1])}))
    query = {**FREEZE, "freeze": {"no_option": True}}
    with pytest.raises(ModelFileError, match="do not fit"):
        vivace.SCVI.from_parts(replace(found, training={"query": query}))
