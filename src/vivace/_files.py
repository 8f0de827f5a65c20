"""Writing files so that a reader sees the old one or the new one, never half of one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

from vivace.errors import InvalidArgumentError

if TYPE_CHECKING:  # the report writes files too, and does not load torch
    import torch

LEAST_SPACE = 2**20
"""Free bytes below which a disk is full."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; it takes the place of ``path`` only if all went well.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with replacing(target) as beside:
    ...     _ = beside.write_text("whole")
    >>> target.read_text()
    'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as handle:
        beside = Path(handle.name)
    try:
        yield beside
        _flush(beside)
        beside.chmod(0o666 & ~_umask())  # a temporary file is private, what users keep is not
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def check_place(path: str | Path) -> None:
    """Say, before anything costly is done, that nothing can be written at a place.

    Raises
    ------
    InvalidArgumentError
        A folder on the way is a file or cannot be written to, or the disk is full.

    Examples
    --------
    >>> import tempfile
    >>> check_place(Path(tempfile.mkdtemp()) / "new" / "run")
    """
    folder = Path(path).absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise InvalidArgumentError(f'"{path}" cannot be written: "{folder}" is a file')
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidArgumentError(f'"{path}" cannot be written: "{folder}" is read-only')
    if shutil.disk_usage(folder).free < LEAST_SPACE:
        raise InvalidArgumentError(f'"{path}" cannot be written: the disk of "{folder}" is full')


def save_tensors(
    tensors: dict[str, torch.Tensor], path: str | Path, metadata: dict[str, str] | None = None
) -> None:
    """Write tensors as one safetensors file, replacing it in one step."""
    from safetensors.torch import save

    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    with replacing(path) as beside:
        beside.write_bytes(save(plain, metadata))


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
