"""Paths as users write them, files that are files, and writing so that no reader sees half of one."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile, mkdtemp
from typing import TYPE_CHECKING, Any, BinaryIO

from vivace.errors import InvalidArgumentError, ModelFileError

if TYPE_CHECKING:  # the report writes files too, and does not load torch
    import torch

LEAST_SPACE = 2**20
"""Free bytes below which a disk is full."""
PARTIAL = ".partial"
"""How the name of a file ends that is not whole yet."""

OTHER_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def user_path(path: Any, argument: str = "path") -> Path:
    """A path as its user means it: ``~`` is the home folder.

    Parameters
    ----------
    path
        Text or ``pathlib.Path``.
    argument
        What the caller's argument is called, for the message.

    Raises
    ------
    InvalidArgumentError
        If it is neither, is empty, or names the home of a user who is not there.

    Examples
    --------
    >>> user_path("~/models/pbmc") == Path.home() / "models" / "pbmc"
    True
    """
    if not isinstance(path, str | os.PathLike) or str(path) == "" or "\0" in str(path):
        msg = f"{argument}={path!r} is not a path; pass text or a pathlib.Path"
        raise InvalidArgumentError(msg)
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        msg = f"{argument}={str(path)!r} names a home folder that is not there; write the path in full"
        raise InvalidArgumentError(msg) from error


HOLES = 8
"""A large file that takes so many times less of the disk than it says is made of holes."""
LARGE = 64 * 2**20


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read it; nothing that is no regular file (a pipe, a device) is waited for.

    Raises
    ------
    ModelFileError
        If it is something else, or nearly all holes, which read as any number of zeros.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    check_regular(descriptor, path)
    file = os.fdopen(descriptor, "rb")
    found = os.fstat(descriptor)
    on_disk = found.st_blocks * 512  # 0 where the file system does not say
    if found.st_size > LARGE and 0 < on_disk * HOLES < found.st_size:
        file.close()
        msg = f"{path} says {found.st_size} bytes but takes {on_disk} of the disk; do not trust this file"
        raise ModelFileError(msg)
    return file


def check_regular(descriptor: int, path: Path) -> None:
    """Close an open file and raise unless it is a regular one."""
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind != stat.S_IFREG:
        os.close(descriptor)
        msg = f"{path} is {OTHER_KINDS.get(kind, 'something else')}, expected a file; remove or rename it"
        raise ModelFileError(msg)


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
    path = user_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL, delete=False
    ) as handle:
        beside = Path(handle.name)
    try:
        yield beside
        _flush(beside)
        beside.chmod(0o666 & ~_umask())  # a temporary file is private, what users keep is not
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a folder beside ``path`` that takes its place only if all went well.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "run"
    >>> with replacing_folder(target) as beside:
    ...     _ = (beside / "a.txt").write_text("whole")
    >>> (target / "a.txt").read_text()
    'whole'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    beside.chmod(0o755)
    try:
        yield beside
        if path.exists():
            old = Path(mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
            path.rename(old / "run")
            beside.rename(path)
            shutil.rmtree(old)
        else:
            beside.rename(path)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def check_place(path: str | Path, room: int = LEAST_SPACE) -> None:
    """Say, before anything costly is done, that nothing can be written at a place.

    Parameters
    ----------
    path
        What is to be written.
    room
        Bytes that it may take.

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
    free = shutil.disk_usage(folder).free
    if free < LEAST_SPACE:
        raise InvalidArgumentError(f'"{path}" cannot be written: the disk of "{folder}" is full')
    if free < room:
        msg = (
            f'"{path}" may not fit: it takes about {room // 2**20} MB, and the disk of "{folder}" has '
            f"{free // 2**20} MB left"
        )
        raise InvalidArgumentError(msg)


def save_tensors(
    tensors: dict[str, torch.Tensor], path: str | Path, metadata: dict[str, str] | None = None
) -> None:
    """Write tensors as one safetensors file, replacing it in one step.

    Raises
    ------
    ModelFileError
        If it cannot be written: a full disk, or no right to.
    """
    from safetensors.torch import save

    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    try:
        with replacing(path) as beside:
            beside.write_bytes(save(plain, metadata))
    except OSError as error:
        raise not_saved(path, error) from error


def not_saved(path: str | Path, error: OSError) -> ModelFileError:
    """Build the error for a place that cannot be written to.

    Examples
    --------
    >>> str(not_saved("run", OSError(28, "No space left on device")))
    'cannot save to run: No space left on device; what was there is unchanged'
    """
    return ModelFileError(
        f"cannot save to {path}: {error.strerror or error}; what was there is unchanged"
    )


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
