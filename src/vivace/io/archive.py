"""The zip file that ``torch.save`` writes: one pickle, and the bytes of every tensor beside it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from types import TracebackType

from vivace._files import open_regular
from vivace.errors import ModelFileError

PICKLE = "data.pkl"
UNPACKED = 4
"""An archive may hold this many times its own bytes (torch compresses nothing) ..."""
SLACK = 16 * 2**20
"""... or this many bytes, where that is more."""


class Archive:
    """A ``model.pt``, open for reading.

    Parameters
    ----------
    path
        Of the file.

    Raises
    ------
    ModelFileError
        If it would unpack to much more than it is.
    zipfile.BadZipFile, OSError
        If it is no zip file, or damaged.
    """

    def __init__(self, path: Path):
        self._file = open_regular(path)
        try:
            self._zip = zipfile.ZipFile(self._file)
            self.size = self._file.seek(0, 2)
            self._check_size(path)
            self._entries = {info.filename: info for info in self._zip.infolist()}
            self._root = self._find_root()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._zip.close()
        self._file.close()

    def read(self, name: str) -> bytes:
        """Bytes of an entry; its checksum is verified."""
        if self._root + name not in self._entries:
            msg = f"it has no entry {name}"
            raise zipfile.BadZipFile(msg)
        return self._zip.read(self._entries[self._root + name])

    @property
    def byte_order(self) -> str:
        """The word "little" or "big"; little of old files, which do not say."""
        named = self._root + "byteorder" in self._entries
        return self.read("byteorder").decode() if named else "little"

    def _check_size(self, path: Path) -> None:
        unpacked = sum(info.file_size for info in self._zip.infolist())
        if unpacked > max(SLACK, UNPACKED * self.size):
            msg = (
                f"{path} was not read: its {self.size} bytes unpack to {unpacked}, which no file of "
                "torch.save does; do not trust this file"
            )
            raise ModelFileError(msg)

    def _find_root(self) -> str:
        """Folder of all entries, as the pickle's name shows."""
        found = [name for name in self._entries if name.rpartition("/")[2] == PICKLE]
        if len(found) != 1:
            msg = f"it has {len(found)} entries {PICKLE}, expected one"
            raise zipfile.BadZipFile(msg)
        return found[0].removesuffix(PICKLE)
