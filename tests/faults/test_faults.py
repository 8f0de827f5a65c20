"""On a bad day: killed, out of space, without rights, two at once. What was whole stays whole."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

import killed
from children import kill_after, start, wait
from toy import Line, Stream
from vivace._files import replacing, save_tensors
from vivace.data import Field, Schema
from vivace.data.sources import disk
from vivace.datasets import simulate
from vivace.errors import ModelFileError
from vivace.io import SavedModel, load_parts, save_parts
from vivace.io.import_scvi import import_parts
from vivace.train import TrainOptions, fit

N_KILLS = 200

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork"),
    # the child does nothing but what it is told, on one thread
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def parts(value: float, size: int = 300) -> SavedModel:
    return SavedModel(
        model="SCVI",
        schema=Schema("SCVI", ("gene",), (Field("X", "matrix"),), {}),
        options={"value": value},
        weights={"w": torch.full((size, size), value)},
        arrays={"split.train": np.arange(50)},
        history={"elbo_train": dict.fromkeys(range(100), value)},
        training={},
    )


def check_whole(folder: Path, among: set[float]) -> float:
    """The folder holds one of the models, whole and of one piece."""
    found = load_parts(folder)
    value = found.options["value"]
    assert value in among
    assert (found.weights["w"] == value).all()
    assert set(found.history["elbo_train"].values()) == {value}
    return value


def save_for_ever(folder: Path, value: float) -> None:
    while True:
        save_parts(folder, parts(value), overwrite=True)
        value = 3.0 - value


def test_a_model_survives_any_number_of_kills_while_it_is_saved(tmp_path):
    folder = save_parts(tmp_path / "run", parts(1.0))
    rng = np.random.default_rng(0)
    value, seen = 1.0, set()
    for _ in range(N_KILLS):
        other = 3.0 - value
        kill_after(start(lambda v=other: save_for_ever(folder, v)), rng.uniform(0.002, 0.08))
        value = check_whole(folder, {1.0, 2.0})
        seen.add(value)
    assert seen == {1.0, 2.0}
    save_parts(folder, parts(2.0), overwrite=True)
    assert {p.name.split("-")[0] for p in folder.iterdir()} == {".lock", "model.json", "weights"}


def train(checkpoint: Path | None, resume: Path | None = None) -> Line:
    module = Line()
    options = TrainOptions(max_epochs=40, lr=0.1, lr_schedule="one_cycle", keep_best=True)
    fit(module, Stream(), Stream(8), options=options, checkpoint=checkpoint, resume=resume)
    return module


def test_training_survives_kills_and_ends_where_it_would_have(tmp_path):
    expected = train(None).value.item()
    checkpoint, rng = tmp_path / "state", np.random.default_rng(1)
    for _ in range(10):
        resume = checkpoint if checkpoint.exists() else None
        kill_after(start(lambda r=resume: train(checkpoint, r)), rng.uniform(0.01, 0.05))
    resume = checkpoint if checkpoint.exists() else None
    assert train(checkpoint, resume).value.item() == expected


def test_training_from_disk_that_was_killed_within_a_pass_goes_on_to_the_same_bits(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("vivace.data.sources.disk.POOL", disk.POOL)  # put back what the module sets
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file, checkpoint = tmp_path / "cells.h5ad", tmp_path / "now"
    simulate("batches", n_cells=400, n_genes=20, n_batches=4).write_h5ad(file)
    last = 12 + 6  # of the second pass of 12 steps, in the middle of a pool
    command = [sys.executable, killed.__file__, file, checkpoint, str(last)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    whole, resumed = killed.model_of(file), killed.model_of(file)
    whole.train(**killed.PLAN)
    steps = []
    step = resumed.module.on_step
    resumed.module.on_step = lambda kl_weight: (steps.append(kl_weight), step(kl_weight))
    resumed.train(**killed.PLAN, resume=checkpoint)
    assert len(steps) <= 36 - last + 1  # none of the first pass, and the second from where it was
    for name, value in whole.module.state_dict().items():
        np.testing.assert_array_equal(value, resumed.module.state_dict()[name])


def test_a_file_that_is_being_replaced_is_the_old_one_or_the_new_one(tmp_path):
    page, rng = tmp_path / "report.html", np.random.default_rng(2)
    page.write_text("old" * 1000)

    def rewrite() -> None:
        while True:
            with replacing(page) as beside, beside.open("w") as file:
                for _ in range(1000):
                    file.write("new")
                    file.flush()

    for _ in range(20):
        kill_after(start(rewrite), rng.uniform(0.001, 0.02))
        assert page.read_text() in ("old" * 1000, "new" * 1000)


def no_space() -> None:
    """Let no file grow beyond 10 kB, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))


def no_rights() -> None:
    """Be nobody: root may write anywhere."""
    if os.geteuid() == 0:
        os.setuid(65534)


def expect_refusal(folder: Path) -> None:
    with pytest.raises(ModelFileError, match="what was there is unchanged"):
        save_parts(folder, parts(2.0), overwrite=True)


@pytest.mark.parametrize("prepare", [no_space, no_rights])
def test_a_full_disk_or_a_read_only_folder_leaves_the_old_model(prepare):
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        folder = save_parts(Path(place) / "run", parts(1.0))
        folder.chmod(0o555)
        assert wait(start(lambda: expect_refusal(folder), prepare)) == 0
        folder.chmod(0o755)
        check_whole(folder, {1.0})


def expect_no_right_to_read(folder: Path) -> None:
    with pytest.raises(ModelFileError, match="Permission denied"):
        load_parts(folder)


def test_a_folder_that_may_not_be_read_is_said_to_be_so():
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        folder = save_parts(Path(place) / "run", parts(1.0))
        for closed in (folder, folder / "model.json", next(folder.glob("weights-*"))):
            open_to = closed.stat().st_mode
            closed.chmod(0)
            assert wait(start(lambda: expect_no_right_to_read(folder), no_rights)) == 0
            closed.chmod(open_to)


def expect_no_right_to_import(folder: Path) -> None:
    with pytest.raises(ModelFileError, match=r"may not be read: .*Permission denied"):
        import_parts(folder)


def test_a_model_to_import_that_may_not_be_read_is_said_to_be_so():
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        (Path(place) / "model.pt").write_bytes(b"")
        (Path(place) / "model.pt").chmod(0)
        assert wait(start(lambda: expect_no_right_to_import(Path(place)), no_rights)) == 0


def expect_no_checkpoint(path: Path) -> None:
    with pytest.raises(ModelFileError, match="what was there is unchanged"):
        save_tensors({"w": torch.ones(100, 100)}, path)


@pytest.mark.parametrize("prepare", [no_space, no_rights])
def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(prepare):
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "state"
        save_tensors({"w": torch.zeros(1)}, path)
        before = path.read_bytes()
        Path(place).chmod(0o555)
        assert wait(start(lambda: expect_no_checkpoint(path), prepare)) == 0
        Path(place).chmod(0o755)
        assert [(p.name, p.read_bytes()) for p in Path(place).iterdir()] == [("state", before)]


def test_two_processes_saving_to_one_folder_leave_one_whole_model(tmp_path):
    folder = save_parts(tmp_path / "run", parts(0.0))

    def save_often(value: float) -> None:
        for _ in range(15):
            save_parts(folder, parts(value), overwrite=True)

    children = [start(lambda v=v: save_often(v)) for v in (1.0, 2.0)]
    assert [wait(child) for child in children] == [0, 0]
    check_whole(folder, {1.0, 2.0})
    assert len(list(folder.glob("weights-*"))) == 1
