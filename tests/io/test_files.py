"""Paths, files that are files, and writing in one step."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from vivace._files import open_regular, replacing, save_tensors, user_path
from vivace.errors import InvalidArgumentError, ModelFileError


def test_the_wave_is_the_home_folder_in_text_and_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/a") == user_path(Path("~/a")) == tmp_path / "a"
    assert user_path("a/~") == Path("a/~")
    assert user_path(np.str_("~")) == tmp_path
    with replacing("~/new/a.txt") as beside:
        beside.write_text("whole")
    assert (tmp_path / "new" / "a.txt").read_text() == "whole"


@pytest.mark.parametrize("no_path", [None, 3, 1.5, b"run", ["run"], "", "a\0b"])
def test_what_is_no_path_is_named_with_its_argument(no_path: object):
    with pytest.raises(InvalidArgumentError, match=r"resume=.* is not a path"):
        user_path(no_path, "resume")


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for path, kind in (
        (tmp_path, "a folder"),
        (tmp_path / "pipe", "a pipe"),
        (tmp_path / "zero", "a device"),
    ):
        with pytest.raises(ModelFileError, match=f"is {kind}, expected a file"):
            open_regular(path)
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to("file")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"text"


def test_a_file_of_holes_is_not_read(tmp_path):
    with (tmp_path / "holes").open("wb") as file:
        file.write(b"a little")
        file.truncate(10**12)
    with pytest.raises(ModelFileError, match="says 1000000000000 bytes but takes"):
        open_regular(tmp_path / "holes")


def test_an_error_while_writing_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")

    def interrupted() -> None:
        with replacing(path) as beside:
            beside.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a", "old")]


def test_a_full_disk_is_said_to_be_full(tmp_path, monkeypatch):
    save_tensors({"a": torch.ones(1)}, tmp_path / "state")
    before = (tmp_path / "state").read_bytes()

    def no_space(path: Path, contents: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", no_space)
    with pytest.raises(
        ModelFileError, match=r"state: No space left on device; what was there is unchanged"
    ):
        save_tensors({"a": torch.zeros(1)}, tmp_path / "state")
    assert (tmp_path / "state").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
