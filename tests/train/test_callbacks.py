"""What training tells callbacks, that they cannot hurt it, and that the ready ones write what it said."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import vivace
from toy import Line, Stream
from vivace.errors import InvalidArgumentError, MissingDependencyError, TrainingError, VivaceWarning
from vivace.train import MLflow, TensorBoard, TrainOptions, WeightsAndBiases, fit
from vivace.train.callbacks import METHODS, read_callbacks
from vivace.train.loop import Trainer

READY = {
    "tensorboard": lambda folder, **more: TensorBoard(folder, **more),
    "mlflow": lambda folder, **more: MLflow("here", tracking_uri=uri(folder), **more),
    "wandb": lambda folder, **more: WeightsAndBiases("here", dir=folder, mode="offline", **more),
}


def uri(folder: Path) -> str:
    return (folder / "mlruns").as_uri()


class Diary:
    """Keeps what it is told."""

    def __init__(self):
        self.told: list[tuple[str, Any]] = []

    def start(self, facts):
        self.told.append(("start", facts))

    def step(self, step, losses):
        self.told.append(("step", step))

    def epoch(self, epoch, metrics):
        self.told.append(("epoch", (epoch, metrics)))

    def end(self, result):
        self.told.append(("end", result))


def options(**more: Any) -> TrainOptions:
    return TrainOptions(**{"max_epochs": 2, "lr": 0.1, **more})


# what is told -----------------------------------------------------------------------------------


def test_steps_epochs_and_the_end_are_told_in_order():
    diary = Diary()
    result = fit(Line(), Stream(), Stream(8), options=options(), seed=3, callbacks=[diary])
    names = [name for name, _ in diary.told]
    assert names == ["start", *(["step"] * 3 + ["epoch"]) * 2, "end"]
    facts = diary.told[0][1]
    assert (facts["seed"], facts["n_train"], facts["options"]["lr"]) == (3, 12, 0.1)
    assert [what for name, what in diary.told if name == "step"] == [1, 2, 3, 4, 5, 6]
    epochs = [what for name, what in diary.told if name == "epoch"]
    for name, table in result.history.frames().items():
        assert [(epoch, metrics[name]) for epoch, metrics in epochs] == list(table[name].items())
    assert diary.told[-1][1] is result


def test_a_callback_has_the_methods_that_it_needs():
    class Steps:
        n = 0

        def step(self, step, losses):
            self.n += losses.n_obs_minibatch

    steps = Steps()
    fit(Line(), Stream(), options=options(), callbacks=[steps])
    assert steps.n == 24


def test_epochs_are_numbered_on_from_earlier_training():
    diary = Diary()
    first = fit(Line(), Stream(), options=options())
    fit(Line(), Stream(), options=options(), history=first.history, callbacks=[diary])
    assert [what[0] for name, what in diary.told if name == "epoch"] == [2, 3]


def test_early_stopping_ends_with_the_result():
    diary = Diary()
    plan = options(max_epochs=9, lr=1e-9, early_stopping=True, early_stopping_patience=2)
    fit(Line(), Stream(), Stream(8), options=plan, callbacks=[diary])
    assert diary.told[-1][0] == "end"
    assert diary.told[-1][1].stopped == "early stopping"


def test_a_training_that_fails_ends_with_none():
    module, diary = Line(), Diary()
    module.fail_at = 4
    with pytest.raises(TrainingError):
        fit(module, Stream(), options=options(), callbacks=[diary])
    assert diary.told[-1] == ("end", None)


# that it cannot hurt ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_one_that_fails_is_left_out_and_costs_nothing(method: str):
    calls, diary = [], Diary()

    def fail(*_: Any) -> None:
        calls.append(method)
        raise ZeroDivisionError("oops")

    broken = type("Broken", (), {method: staticmethod(fail)})()
    module, plain = Line(), Line()
    with pytest.warns(VivaceWarning, match=rf"Broken failed in {method}\(\).*oops"):
        fit(module, Stream(), options=options(), callbacks=[broken, diary])
    fit(plain, Stream(), options=options())
    assert calls == [method]
    assert diary.told[-1][0] == "end"
    assert module.value.item() == plain.value.item()


def test_what_a_callback_draws_is_not_drawn_from_training():
    class Draws:
        def step(self, step, losses):
            torch.rand(7)

    module, plain = Line(), Line()
    fit(module, Stream(), options=options(), callbacks=[Draws()])
    fit(plain, Stream(), options=options())
    assert module.value.item() == plain.value.item()


def test_ctrl_c_in_a_callback_is_the_users():
    class Stop:
        def epoch(self, epoch, metrics):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(Line(), Stream(), options=options(), callbacks=[Stop()])


def test_only_the_first_process_tells(monkeypatch):
    from vivace.train import loop

    first, second = Diary(), Diary()
    join = loop.join

    class Second(type(join(True))):  # type: ignore[misc]
        writes = False

    fit(Line(), Stream(), options=options(), callbacks=[first])
    monkeypatch.setattr(loop, "join", lambda alone: Second())
    fit(Line(), Stream(), options=options(), callbacks=[second])
    assert (len(first.told), second.told) == (10, [])


@pytest.mark.parametrize("given", [[print], print, [Diary], "tensorboard", True, [None]])
@pytest.mark.parametrize("argument", ["callbacks", "logger"])
def test_what_is_no_callback_is_refused_before_training(given: Any, argument: str):
    with pytest.raises(InvalidArgumentError, match="is no callback: pass an object with some of"):
        read_callbacks(**{argument: given})
    assert read_callbacks(None, False) == []
    assert len(read_callbacks((Diary(), Diary()), Diary())) == 3


def test_processes_that_are_started_anew_would_not_find_a_class_of_the_script():
    from vivace.train.callbacks import check_importable

    there = type("There", (Diary,), {"__module__": "__main__"})()
    with pytest.raises(InvalidArgumentError, match="do not find There in this script"):
        check_importable([Diary(), there], 2)
    check_importable([Diary()], 2)


@pytest.mark.parametrize("package", READY)
def test_the_ready_ones_can_be_handed_to_other_processes(package: str, tmp_path):
    import pickle

    callback = READY[package](tmp_path, log_every_n_steps=7)
    assert pickle.loads(pickle.dumps(callback)).every == 7


# the ready ones ---------------------------------------------------------------------------------


def trained(callback: Any) -> Any:
    adata = vivace.datasets.simulate("batches", n_cells=60, n_genes=20)
    vivace.SCVI.setup_anndata(adata)
    model = vivace.SCVI(adata, n_hidden=4, n_latent=2)
    model.train(max_epochs=2, batch_size=20, progress=False, logger=callback)
    return model


def rows(model: Any, name: str) -> list[tuple[int, float]]:
    values = model.history[name][name]
    return list(zip(values.index, pytest.approx(values.tolist(), rel=1e-5).expected, strict=True))


def test_tensorboard_files_hold_the_history(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = trained(TensorBoard(tmp_path, log_every_n_steps=2))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    for name in model.history:
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in found] == [0, 1]
        assert [value for _, value in found] == pytest.approx([v for _, v in rows(model, name)])
    assert [event.step for event in events.Scalars("step/loss")] == [2, 4, 6]
    assert "max_epochs: 2" in str(events.Tensors("options/text_summary"))


def test_an_mlflow_store_holds_the_history(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient

    model = trained(MLflow("here", uri(tmp_path), "first", log_every_n_steps=3))
    client = MlflowClient(uri(tmp_path))
    (run,) = client.search_runs([client.get_experiment_by_name("here").experiment_id])
    assert (run.info.run_name, run.info.status) == ("first", "FINISHED")
    assert (run.data.params["max_epochs"], run.data.params["seed"]) == ("2", "0")
    for name in model.history:
        found = [
            (each.step, each.value) for each in client.get_metric_history(run.info.run_id, name)
        ]
        assert found == rows(model, name)
    steps = client.get_metric_history(run.info.run_id, "step/loss")
    assert [each.step for each in steps] == [3, 6]
    module = Line()
    module.fail_at = 1
    with pytest.raises(TrainingError):  # a second run of the same experiment
        fit(module, Stream(), options=options(), callbacks=[MLflow("here", uri(tmp_path))])
    runs = client.search_runs([run.info.experiment_id])
    assert sorted(each.info.status for each in runs) == ["FAILED", "FINISHED"]


def test_weights_and_biases_are_written_without_a_network(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    trained(WeightsAndBiases("here", log_every_n_steps=3, dir=tmp_path, mode="offline"))
    (file,) = tmp_path.rglob("*.wandb")
    assert b"elbo_train" in file.read_bytes()


@pytest.mark.parametrize("package", READY)
def test_a_package_that_is_missing_is_said_before_anything_is_trained(
    package: str, tmp_path, monkeypatch
):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    monkeypatch.delitem(__import__("sys").modules, "torch.utils.tensorboard", raising=False)
    epochs: list[int] = []
    monkeypatch.setattr(Trainer, "epoch", lambda self, epoch, state: epochs.append(epoch))
    with pytest.raises(MissingDependencyError, match=r"pip install .*vivace\[logging\]"):
        fit(Line(), Stream(), options=options(), callbacks=[READY[package](tmp_path)])
    assert epochs == []


# progress ---------------------------------------------------------------------------------------


def test_where_no_terminal_is_a_line_says_where_training_is(capsys, monkeypatch):
    monkeypatch.setattr("vivace._progress.SILENCE", 0.0)
    fit(Line(), Stream(), Stream(8), options=options(), progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 8
    assert lines[0].startswith("Training: epoch 0.3 of 2; about ")
    assert "epoch 1.3 of 2, held-out " in lines[4]
    assert lines[-1].endswith("about 0 s left")


def test_no_line_comes_before_its_time(capsys):
    fit(Line(), Stream(), options=options(), progress=True)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("columns", ["60", "80", "120"])
def test_the_bar_shows_what_one_wants_whatever_the_width(capsys, monkeypatch, columns: str):
    from io import StringIO

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm")
    module = Line(150.0)
    fit(module, Stream(), Stream(8), options=options(max_epochs=400, lr=1e-3), progress=True)
    text = terminal.getvalue()
    assert "400/400" in text
    assert "held-out 22" in text
    assert "left" in text
    assert "…" not in text
    assert (" loss " in text) == (columns == "120")


def test_whatever_takes_long_is_named():
    from vivace._progress import doing, no_silence, said

    lines: list[str] = []
    heard = threading.Event()

    def say(line: str) -> None:
        lines.append(line)
        heard.set()

    with no_silence(say, every=0.02):
        said()
        with doing("drawing the map"):
            assert heard.wait(5)
    assert lines[0].startswith("... drawing the map, 0 s so far")
    with no_silence(lines.append, every=0.02), doing(""):
        n = len(lines)
        time.sleep(0.06)
    assert len(lines) == n
    n = len(lines)
    time.sleep(0.06)
    assert len(lines) == n
