"""Moments in which something was lost or not said: a full disk, Ctrl-C, and long silence."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import vivace
from vivace.train.loop import Trainer

FIT = ("fit", "scvi", "cells.h5ad", "--out", "new", "--max-epochs", "1", "--n-hidden", "4")
FULL = OSError(28, "No space left on device", "new")


@pytest.fixture
def here(folder, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("cells.h5ad").symlink_to(folder / "cells.h5ad")
    Path("run").symlink_to(folder / "run")
    return tmp_path


def raising(error: BaseException) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


# what was learned is kept -----------------------------------------------------------------------


def test_a_run_that_cannot_be_written_at_the_end_is_put_elsewhere(here, run, cells, monkeypatch):
    monkeypatch.setattr("vivace.tables.run.new_run", raising(FULL))
    done = run(*FIT)
    assert done.code == 2
    assert not Path("new").exists()
    assert "No space left on device" in done.err
    (place,) = re.findall(r"The model is in (\S+)/;", done.err)
    assert Path(place).parent == here
    assert vivace.load(place, cells).get_latent_representation().shape == (80, 10)
    assert f"vivace report {place} --data CELLS" in done.err
    done = run("report", place, "--data", "cells.h5ad")
    assert done.code == 0, done.err


def test_where_one_place_does_not_take_it_the_next_one_does(here, run, monkeypatch):
    elsewhere = here / "home"
    elsewhere.mkdir()
    monkeypatch.setenv("HOME", str(elsewhere))
    monkeypatch.setattr("vivace.tables.run.new_run", raising(FULL))
    save = vivace.SCVI.save

    def full_here(self: Any, folder: Path, **options: Any) -> Path:
        if Path(folder).parent == here:
            raise FULL
        return save(self, folder, **options)

    monkeypatch.setattr(vivace.SCVI, "save", full_here)
    assert f"The model is in {elsewhere}/vivace-new-" in run(*FIT).err
    assert not list(here.glob("vivace-new-*"))


def test_a_model_whose_tables_fail_is_where_it_should_be(here, run, monkeypatch):
    monkeypatch.setattr("vivace.tables.run.write_tables", raising(FULL))
    done = run(*FIT)
    assert done.code == 2
    assert "The model is in new/; vivace report new --data CELLS" in done.err
    assert not list(here.glob("vivace-new-*"))
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert run("report", "new", "--data", "cells.h5ad").code == 0


def test_a_disk_without_room_is_noticed_before_training(here, run, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=5 * 2**20))
    monkeypatch.setattr(vivace.SCVI, "train", raising(AssertionError("too late")))
    done = run(*FIT)
    assert done.code == 2
    assert "has 5 MB left" in done.err


def test_a_place_that_only_seems_writable_is_noticed_before_training(here, run, monkeypatch):
    error = OSError(30, "Read-only file system")
    monkeypatch.setattr("tempfile.TemporaryDirectory", raising(error))
    done = run(*FIT)
    assert done.code == 2
    assert 'vivace: "new" cannot be written: Read-only file system' in done.err


# Ctrl-C -----------------------------------------------------------------------------------------


def test_ctrl_c_before_the_first_epoch_is_over_says_what_is_true(here, run, monkeypatch):
    whole = Trainer._pass

    def interrupted(*args: Any) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGINT)
        return whole(*args)

    monkeypatch.setattr(Trainer, "_pass", interrupted)
    done = run(*FIT)
    assert done.code == 130
    assert "before the first epoch was over: there is no best one to keep" in done.err
    assert "nothing was written" in done.err
    assert "from the first epoch on, the best one is kept" in done.out
    assert not Path("new").exists()


def test_ctrl_c_later_keeps_the_best(here, run, monkeypatch):
    whole, n = Trainer._pass, iter(range(9))

    def interrupted(*args: Any) -> dict[str, float]:
        if next(n) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return whole(*args)

    monkeypatch.setattr(Trainer, "_pass", interrupted)
    done = run(*FIT[:-4], "--max-epochs", "9", "--n-hidden", "4")
    assert done.code == 0, done.err
    assert "Trained 2 epochs (interrupted)" in done.out
    assert Path("new/model.json").is_file()


def test_ctrl_c_while_tables_are_made_says_that_the_model_is_there(here, run, monkeypatch):
    monkeypatch.setattr("vivace.tables.run.write_tables", raising(KeyboardInterrupt()))
    done = run(*FIT)
    assert done.code == 130
    assert "Interrupted; the model is in new/." in done.err
    assert "nothing was written" not in done.err


# silence ----------------------------------------------------------------------------------------


def test_what_takes_long_is_said(here, run, monkeypatch):
    monkeypatch.setattr("vivace._progress.SILENCE", 0.05)

    def slow(folder: Path, out: Path | None, **_progress: object) -> Path:
        time.sleep(0.4)
        return Path(folder)

    monkeypatch.setattr("vivace.report.write_report", slow)
    said = run("report", "run").err
    assert len(re.findall(r"^\.\.\. drawing the report, \d s so far$", said, re.MULTILINE)) >= 2
