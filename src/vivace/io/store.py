"""A folder with ``model.json`` and the weights file it names.

``model.json`` is the only commit point: weights are first written under a name made of their
checksum, then ``model.json`` is replaced in one step, then older weights are removed. Whatever
happens in between, ``model.json`` names a weights file that is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
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

from vivace._files import replacing
from vivace.data.schema import Schema
from vivace.errors import InvalidArgumentError, ModelFileError

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
    folder = Path(folder)
    if not overwrite and os.path.lexists(folder / MANIFEST):
        msg = f"{folder} holds a saved model already; pass overwrite=True to replace it"
        raise InvalidArgumentError(msg)
    tensors = {f"module.{k}": v.detach().cpu().contiguous() for k, v in parts.weights.items()}
    tensors |= {f"array.{k}": torch.from_numpy(v) for k, v in parts.arrays.items()}
    blob = save({k: v.clone() for k, v in tensors.items()})
    digest = hashlib.sha256(blob).hexdigest()
    weights_name = f"weights-{digest[:16]}.safetensors"
    manifest = {
        "format_version": FORMAT_VERSION,
        "model": parts.model,
        "vivace_version": version("vivace"),
        "python_version": platform.python_version(),
        "torch_version": str(torch.__version__),
        "weights": {"file": weights_name, "sha256": digest},
        "schema": json.loads(parts.schema.to_json()),
        "options": parts.options,
        "history": parts.history,
        "training": parts.training,
    }
    text = _sealed(manifest)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            _remove(folder, f".{MANIFEST}.*", ".weights-*")  # left by a process that was killed
            with replacing(folder / weights_name) as beside:
                beside.write_bytes(blob)
            with replacing(folder / MANIFEST) as beside:
                beside.write_text(text)
            _remove(folder, "weights-*.safetensors", but=weights_name)
    except OSError as error:
        msg = f"cannot save to {folder}: {error.strerror or error}; what was there is unchanged"
        raise ModelFileError(msg) from error
    return folder


def load_parts(folder: str | Path) -> SavedModel:
    """Read a model from a folder.

    Raises
    ------
    ModelFileError
        If a file is missing, truncated, altered, or of a newer version.
    """
    folder = Path(folder)
    manifest = _read_manifest(folder)
    try:
        blob = (folder / Path(manifest["weights"]["file"]).name).read_bytes()
        if hashlib.sha256(blob).hexdigest() != manifest["weights"]["sha256"]:
            msg = (
                f"{folder}: the weights are not those {MANIFEST} names (checksums differ): the file "
                "was truncated, altered or swapped; restore the folder from a copy"
            )
            raise ModelFileError(msg)
        tensors = load(blob)
        schema = Schema.from_json(json.dumps(manifest["schema"]))
        return SavedModel(
            model=manifest["model"],
            schema=schema,
            options=manifest["options"],
            weights=_part(tensors, "module."),
            arrays={k: v.numpy() for k, v in _part(tensors, "array.").items()},
            history=manifest["history"],
            training=manifest["training"],
        )
    except FileNotFoundError as error:
        msg = f"{folder}: the weights file {error.filename} that {MANIFEST} names is missing"
        raise ModelFileError(msg) from error
    except (KeyError, TypeError, AttributeError, OSError, SafetensorError) as error:
        msg = f"{folder}: {MANIFEST} is incomplete or altered ({type(error).__name__}: {error})"
        raise ModelFileError(msg) from error


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises where it may not look
        msg = f"{folder} holds no saved vivace model ({MANIFEST} is missing)"
        if (folder / "model.pt").exists():
            msg += "; it looks like a folder of scvi-tools: use vivace.import_model"
        raise ModelFileError(msg)
    try:
        manifest = json.loads(path.read_text())
        seal = manifest.pop("sha256")
        newer = manifest["format_version"] > FORMAT_VERSION
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        msg = f"{path} is truncated or altered: {error}"
        raise ModelFileError(msg) from error
    if newer:
        msg = (
            f"{folder} was saved by vivace {manifest.get('vivace_version')}, format "
            f"{manifest['format_version']}; this vivace reads up to {FORMAT_VERSION}: upgrade it"
        )
        raise ModelFileError(msg)
    if seal != _checksum(manifest):
        msg = (
            f"{path} was altered: its checksum is not that of its contents; restore it from a copy"
        )
        raise ModelFileError(msg)
    return manifest


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

    contents = json.loads(json.dumps(manifest, default=plain))
    return json.dumps({**contents, "sha256": _checksum(contents)}, indent=1)


def _checksum(contents: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def _remove(folder: Path, *patterns: str, but: str = "") -> None:
    for pattern in patterns:
        for path in folder.glob(pattern):
            if path.name != but:
                path.unlink()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder against another process that saves to it."""
    import fcntl

    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
