"""A folder with ``model.json`` and the weights file it names.

``model.json`` is the only commit point: weights are first written under a name made of their
checksum, then ``model.json`` is replaced in one step, then the weights that the old one named are
removed. Whatever happens in between, ``model.json`` names a weights file that is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from vivace._files import PARTIAL, check_regular, not_saved, open_regular, replacing, user_path
from vivace.data.schema import Schema
from vivace.errors import InvalidArgumentError, ModelFileError
from vivace.io.damage import blamed_on
from vivace.io.manifest import MOST_BYTES, WEIGHTS_NAME, check_manifest, parse_json

FORMAT_VERSION = 1
MANIFEST = "model.json"


@dataclass(frozen=True)
class SavedModel:
    """Parts of a saved model.

    Attributes
    ----------
    model
        Class name.
    schema
        What its data look like.
    options
        Constructor options.
    weights
        State dict of the module.
    arrays
        Further arrays, such as the rows of the split.
    history
        Metric to epoch to value.
    training
        Plain facts of the training: options, seed, seconds.
    """

    model: str
    schema: Schema
    options: dict[str, Any]
    weights: dict[str, torch.Tensor]
    arrays: dict[str, np.ndarray]
    history: dict[str, dict[int, float]]
    training: dict[str, Any]


def save_parts(folder: str | Path, parts: SavedModel, *, overwrite: bool = False) -> Path:
    """Write a model to a folder.

    Raises
    ------
    InvalidArgumentError
        If the folder holds a model already and ``overwrite`` is false, or an option cannot be saved.
    ModelFileError
        If the folder cannot be written to.
    """
    folder = user_path(folder, "folder")
    if not overwrite and os.path.lexists(folder / MANIFEST):
        msg = f"{folder} holds a saved model already; pass overwrite=True to replace it"
        raise InvalidArgumentError(msg)
    blob = save(_tensors(parts))
    text = _sealed(_manifest_of(parts, blob))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            _remove_leftovers(folder)
            _replace_model(folder, text, blob)
    except OSError as error:
        raise not_saved(folder, error) from error
    return folder


def _tensors(parts: SavedModel) -> dict[str, torch.Tensor]:
    weights = {f"module.{k}": v.detach().cpu().contiguous() for k, v in parts.weights.items()}
    arrays = {f"array.{k}": torch.from_numpy(v) for k, v in parts.arrays.items()}
    return {k: v.clone() for k, v in (weights | arrays).items()}


def _manifest_of(parts: SavedModel, blob: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(blob).hexdigest()
    return {
        "format_version": FORMAT_VERSION,
        "model": parts.model,
        "vivace_version": version("vivace"),
        "python_version": platform.python_version(),
        "torch_version": str(torch.__version__),
        "weights": {"file": f"weights-{digest[:16]}.safetensors", "sha256": digest},
        "schema": json.loads(parts.schema.to_json()),
        "options": parts.options,
        "history": parts.history,
        "training": parts.training,
    }


def _replace_model(folder: Path, text: str, blob: bytes) -> None:
    """The new weights, then the manifest that names them, then away with the old weights."""
    old, new = _weights_named_by(folder / MANIFEST), json.loads(text)["weights"]["file"]
    try:
        with replacing(folder / MANIFEST) as manifest:
            manifest.write_text(text)  # first, so that a killed process leaves word of its weights
            with replacing(folder / new) as weights:
                weights.write_bytes(blob)
    except BaseException:
        _remove(folder, new, but=old)
        raise
    _remove(folder, old, but=new)


def load_parts(folder: str | Path) -> SavedModel:
    """Read a model from a folder.

    Raises
    ------
    ModelFileError
        If a file is missing, truncated, altered, no regular file, or of a newer version.
    """
    folder = user_path(folder, "folder")
    manifest = _read_manifest(folder)
    check_manifest(manifest, f"{folder}: {MANIFEST}")
    tensors = _read_weights(folder, manifest)
    with blamed_on(f"{folder}: {MANIFEST} is incomplete or altered"):
        schema = Schema.from_json(json.dumps(manifest["schema"]))
    return SavedModel(
        model=manifest["model"],
        schema=schema,
        options=manifest["options"],
        weights=_part(tensors, "module."),
        arrays={k: _rows(k, v) for k, v in _part(tensors, "array.").items()},
        history=manifest["history"],
        training=manifest["training"],
    )


def _read_weights(folder: Path, manifest: dict[str, Any]) -> dict[str, torch.Tensor]:
    path = folder / manifest["weights"]["file"]
    try:
        with open_regular(path) as file:
            blob = file.read()
        if hashlib.sha256(blob).hexdigest() != manifest["weights"]["sha256"]:
            msg = (
                f"{folder}: the weights are not those {MANIFEST} names (checksums differ): the file "
                "was truncated, altered or swapped; restore the folder from a copy"
            )
            raise ModelFileError(msg)
        return load(blob)
    except FileNotFoundError as error:
        msg = f"{folder}: the weights file {path} that {MANIFEST} names is missing"
        raise ModelFileError(msg) from error
    except (OSError, MemoryError, SafetensorError) as error:
        msg = f"{path} cannot be read: {_reason(error)}"
        raise ModelFileError(msg) from error


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        with open_regular(path) as file:
            manifest = _unsealed(file.read(MOST_BYTES + 1), path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelFileError(_no_model(folder)) from error
    except OSError as error:
        msg = f"{path} cannot be read: {_reason(error)}"
        raise ModelFileError(msg) from error
    return manifest


def _unsealed(blob: bytes, path: Path) -> dict[str, Any]:
    """The manifest without the checksum that it carries of itself."""
    try:
        manifest = parse_json(blob)
        seal = manifest.pop("sha256")
        newer = manifest["format_version"] > FORMAT_VERSION
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{path} is truncated or altered: {error}"
        raise ModelFileError(msg) from error
    if newer:
        msg = (
            f"{path.parent} was saved by vivace {manifest.get('vivace_version')}, format "
            f"{manifest['format_version']}; this vivace reads up to {FORMAT_VERSION}: upgrade it"
        )
        raise ModelFileError(msg)
    if seal != _checksum(manifest):
        msg = (
            f"{path} was altered: its checksum is not that of its contents; restore it from a copy"
        )
        raise ModelFileError(msg)
    return manifest


def _no_model(folder: Path) -> str:
    if not os.path.lexists(folder):
        return f"{folder} holds no saved vivace model: there is no such folder"
    if not folder.is_dir():
        return f"{folder} is no folder; pass the folder that save wrote, not a file"
    msg = f"{folder} holds no saved vivace model ({MANIFEST} is missing)"
    if (folder / "model.pt").exists():
        msg += "; it looks like a folder of scvi-tools: use vivace.import_model"
    return msg


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _rows(name: str, rows: torch.Tensor) -> np.ndarray:
    if rows.dim() != 1 or rows.dtype != torch.int64:
        msg = f'the saved "{name}" is no list of row numbers; the weights file was altered'
        raise ModelFileError(msg)
    return rows.numpy()


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _sealed(manifest: dict[str, Any]) -> str:
    """The manifest as JSON with the checksum of its contents."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray | np.generic):
            return value.tolist()
        msg = (
            f"option value {value!r} cannot be saved: a model's options must be plain data "
            "(numbers, text, lists), not code"
        )
        raise InvalidArgumentError(msg)

    try:
        contents = json.loads(json.dumps(manifest, default=plain))
    except InvalidArgumentError:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"the model's options cannot be saved: they must be plain data ({error})"
        raise InvalidArgumentError(msg) from error
    check_manifest(contents, "the model cannot be saved: its description")
    return json.dumps({**contents, "sha256": _checksum(contents)}, indent=1)


def _checksum(contents: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


# what an earlier save left -------------------------------------------------------------------------

LEFTOVER = rf"\.({re.escape(MANIFEST)}|{WEIGHTS_NAME})\.\w+{re.escape(PARTIAL)}"


def _remove_leftovers(folder: Path) -> None:
    """Remove what a process that was killed left half-way, and nothing else."""
    current = _weights_named_by(folder / MANIFEST)
    for path in [path for path in folder.iterdir() if re.fullmatch(LEFTOVER, path.name)]:
        if path.name.startswith(f".{MANIFEST}"):
            _remove(folder, _weights_named_by(path), but=current)
        _remove(folder, path.name)


def _weights_named_by(path: Path) -> str | None:
    """Name of the weights file of a whole manifest of ours; None of anything else."""
    try:
        with open_regular(path) as file:
            name = _unsealed(file.read(MOST_BYTES + 1), path)["weights"]["file"]
    except (OSError, ModelFileError, LookupError, TypeError):
        return None
    return name if re.fullmatch(WEIGHTS_NAME, str(name)) else None


def _remove(folder: Path, name: str | None, but: str | None = None) -> None:
    """Remove a regular file; links, folders and whatever else is there under its name stay."""
    if name is not None and name != but:
        path = folder / name
        if path.is_file() and not path.is_symlink():
            path.unlink()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder against another process that saves to it; nothing is written to the lock."""
    import fcntl

    path = folder / ".lock"
    if path.is_symlink():
        msg = f"{path} is a symbolic link, expected a file of vivace; remove the link, then save"
        raise ModelFileError(msg)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o666)
    check_regular(descriptor, path)
    with os.fdopen(descriptor, "rb+") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
