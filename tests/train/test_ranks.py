"""Two processes that train one model follow a single one, agree, and end together."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

import vivace
from model_table import CASES
from two_processes import EIGHT, FOUR, LAW, SENT, fine_labels, follow, on_disk, scvi
from vivace import _ranks
from vivace._ranks import ALONE, Ranks, minibatches_divided, variance_of_cells
from vivace.data.shares import Share
from vivace.errors import (
    InvalidArgumentError,
    MissingDependencyError,
    ModelFileError,
    TrainingError,
)
from vivace.models import launch
from vivace.models.device import processes_of
from vivace.train import by_rows, ranks, shared
from vivace.train.stopping import Interrupt

HERE = Path(__file__).parent
Answers = Callable[..., dict[str, Any]]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def environment(**more: str) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "OMP_NUM_THREADS": "1",
        **more,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes answered to all tasks of two_processes.py; the last of them kills one."""
    place = tmp_path_factory.mktemp("two")
    follow("SCVI", checkpoint=place / "one.ckpt", **EIGHT)
    CASES["SCVI"].data().write_h5ad(place / "cells.h5ad")
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, str(HERE / "two_processes.py"), str(place)]
    both = [
        subprocess.Popen(
            command, env=environment(RANK=str(rank), **shared), stderr=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]
    try:
        said = [one.communicate(timeout=170)[1] for one in both]
    finally:
        for one in both:
            one.kill()
    assert [one.returncode for one in both] == [0, -9], said
    return place


@pytest.fixture(scope="module")
def answers(folder: Path) -> Answers:
    """``answers("task", rank=0)``."""
    return lambda name, rank=0: torch.load(folder / f"{name}.{rank}.pt", weights_only=False)


def assert_same_weights(one: dict[str, Any], other: dict[str, Any]) -> None:
    for name, value in one["weights"].items():
        assert torch.equal(value, other["weights"][name]), name


def before_norms(weights: dict[str, Any]) -> set[str]:
    """Biases that a batch norm subtracts again: they have no gradient, and its mean follows them."""
    norms = [name.removesuffix(".1.running_mean") for name in weights if "running_mean" in name]
    return {f"{name}.0.bias" for name in norms} | {f"{name}.1.running_mean" for name in norms}


def assert_follows(found: dict[str, Any], whole: dict[str, Any]) -> None:
    assert found["history"].keys() == whole["history"].keys()
    for key, values in whole["history"].items():
        np.testing.assert_allclose(found["history"][key], values, rtol=1e-4, atol=1e-4, err_msg=key)
    free = before_norms(whole["weights"])
    for key, value in whole["weights"].items():
        np.testing.assert_allclose(
            found["weights"][key], value, rtol=1e-5, atol=1e-4 if key in free else 1e-5, err_msg=key
        )


# the law ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_two_processes_with_half_a_minibatch_follow_one_with_the_whole(answers: Answers, name: str):
    two = answers(f"law.{name}")
    assert_follows(two, follow(name))
    assert_same_weights(two, answers(f"law.{name}", rank=1))


def test_cells_on_disk_too(answers: Answers, folder: Path):
    assert_follows(answers("disk"), on_disk(folder))


def test_a_mean_over_some_of_the_cells_is_over_those_of_all_parts(answers: Answers):
    two, one = answers("law.fine"), fine_labels()
    for key, value in one["weights"].items():
        np.testing.assert_allclose(two["weights"][key], value, rtol=1e-5, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("name", ["law.clipped", *(f"sent.{where}" for where in SENT)])
def test_gradients_of_limited_norm(answers: Answers, name: str):
    """In shared memory, and where it is not there, too small, or of another machine."""
    two = answers(name)
    assert_follows(two, follow("SCVI", max_grad_norm=1.0))
    assert_same_weights(two, answers(name, rank=1))


def test_batch_norms_of_a_decoder_that_meet_at_each_batch(answers: Answers):
    """A process whose part has no spot of a slide decodes for it as well."""
    one, other = answers("norms"), answers("norms", rank=1)
    assert any("running_var" in key for key in one["weights"])
    assert np.isfinite(one["history"]["elbo_train"]).all()
    assert one["history"] == other["history"]
    assert_same_weights(one, other)


def test_few_cells_are_one_minibatch_which_is_divided_too(answers: Answers):
    two, one = answers("law.few"), follow("SCVI", batch_size=256)
    np.testing.assert_allclose(
        two["history"]["elbo_validation"], one["history"]["elbo_validation"], rtol=1e-4
    )


def test_minibatches_of_an_odd_number_of_cells(answers: Answers):
    """One cell occurs twice, and the number of steps stays."""
    two, one = answers("law.odd"), follow("SCVI", batch_size=33)
    assert two["training"]["options"] == one["training"]["options"]
    np.testing.assert_allclose(
        two["history"]["elbo_train"], one["history"]["elbo_train"], rtol=1e-2
    )
    assert_same_weights(two, answers("law.odd", rank=1))


@pytest.mark.parametrize("name", ["SCVI", "ContrastiveVI"])
def test_with_draws_losses_are_within_the_noise_of_seeds(answers: Answers, name: str):
    two = answers(f"draws.{name}")["history"]["elbo_train"]
    seeds = [follow(name, draws=True, seed=seed)["history"]["elbo_train"] for seed in (1, 2, 3)]
    spread = np.ptp([curve[-1] for curve in seeds]) + 0.01 * seeds[0][-1]
    assert min(abs(two[-1] - curve[-1]) for curve in seeds) < spread
    assert two != follow(name)["history"]["elbo_train"]


def test_the_same_seed_gives_the_same_weights_to_the_bit(answers: Answers):
    for rank in (0, 1):
        assert_same_weights(answers("draws.SCVI"), answers("draws.again", rank))


def test_processes_draw_each_for_itself():
    states = []
    for rank, epoch in ((0, 0), (1, 0), (0, 1), (0, 0)):
        with torch.random.fork_rng():
            ranks.seed_draws(Ranks(rank, 2), 5, epoch)
            states.append(torch.rand(4))
    assert torch.equal(states[0], states[3])
    assert not torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


# agreement --------------------------------------------------------------------------------------


def test_early_stopping_agrees(answers: Answers):
    one, other = answers("stopping"), answers("stopping", rank=1)
    assert one["training"]["stopped"] == other["training"]["stopped"] == "early stopping"
    assert one["training"]["best_epoch"] == other["training"]["best_epoch"]
    assert one["history"] == other["history"]
    assert_same_weights(one, other)


def test_ctrl_c_in_one_process_ends_all_after_the_same_step(answers: Answers):
    one, other = answers("interrupted"), answers("interrupted", rank=1)
    assert one["training"]["stopped"] == other["training"]["stopped"] == "interrupted"
    assert one["training"]["epochs"] == other["training"]["epochs"] < LAW["max_epochs"]
    assert_same_weights(one, other)


def test_a_loss_that_is_not_finite_anywhere_ends_all(answers: Answers):
    one, other = answers("not finite"), answers("not finite", rank=1)
    assert one["type"] == other["type"] == "TrainingError"
    assert "the loss became nan at step 3" in one["text"]
    assert one["text"] == other["text"]
    assert_same_weights(one, other)  # those of the start of the epoch
    assert all(torch.isfinite(value).all() for value in one["weights"].values())


def test_one_device_trains_alone(answers: Answers):
    for rank in (0, 1):
        assert_same_weights(answers("alone", rank), follow("SCVI", seed=rank))


def test_a_checkpoint_resumes_with_another_number_of_processes(answers: Answers, folder: Path):
    """From two to one and from one to two, over the last two of ten epochs."""
    whole = follow("SCVI", **EIGHT)
    assert_follows(follow("SCVI", resume=folder / "two.ckpt", **EIGHT), whole)
    assert_follows(answers("resumed"), whole)


def test_a_checkpoint_within_an_epoch_does_too(answers: Answers, folder: Path):
    whole = follow("SCVI", **FOUR)
    with safe_open(str(folder / "within.ckpt"), framework="pt") as file:
        kept = json.loads(file.metadata()["vivace"])
    assert (kept["next_epoch"], kept["steps_done"]) == (1, 2)
    assert_follows(answers("within"), whole)
    assert_follows(follow("SCVI", resume=folder / "within.ckpt", **FOUR), whole)


# ends -------------------------------------------------------------------------------------------


def test_a_process_that_dies_ends_the_other_and_leaves_a_whole_checkpoint(
    answers: Answers, folder: Path
):
    assert answers("killed")["type"] == "TrainingError"
    assert "another process of this run has ended" in answers("killed")["text"]
    model = scvi(resume=folder / "killed.ckpt")
    assert model.training["epochs"] == LAW["max_epochs"]
    assert not list(folder.glob("*.partial"))


def test_after_that_the_other_says_so_again(answers: Answers):
    assert answers("after")["type"] == "TrainingError"


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("other option", "process 1 has lr=0.02 and process 0 has 0.01"),
        ("other data", "process 1 has first minibatch="),
        ("other seed", "process 1 has seed=1 and process 0 has 0"),
        ("too many", "2 processes cannot share minibatches of 3 cells"),
        ("captured", "cuda_graphs=True"),
    ],
)
def test_what_cannot_be_is_refused_on_all(answers: Answers, task: str, words: str):
    for rank in (0, 1):
        assert answers(task, rank)["type"] == "InvalidArgumentError"
        assert words in answers(task, rank)["text"]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"WORLD_SIZE": "2"}, "RANK is not set"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "x"}, "MASTER_PORT is not set"),
        ({"WORLD_SIZE": "2", "RANK": "a", "MASTER_ADDR": "x", "MASTER_PORT": "1"}, "RANK is 'a'"),
    ],
)
def test_a_launcher_that_says_too_little(monkeypatch, variables: dict[str, str], words: str):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidArgumentError, match=words):
        ranks.join()
    assert ranks.join(alone=True) is ALONE


def test_a_busy_port(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        launcher = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1"}
        for name, value in {**launcher, "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(InvalidArgumentError, match=f"127.0.0.1:{port}.*port is busy"):
            ranks.join()


def test_no_gloo(monkeypatch):
    launcher = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.distributed, "is_gloo_available", lambda: False)
    with pytest.raises(MissingDependencyError, match="built without gloo"):
        ranks.join()


def test_a_launcher_repeats_ctrl_c_and_the_user_does_too(monkeypatch):
    now = iter([0.0, 0.1, 10.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    one_of_two = Interrupt(Ranks(0, 2))
    one_of_two._handle()
    one_of_two._handle()  # the launcher's
    assert one_of_two.requested
    with pytest.raises(KeyboardInterrupt):
        one_of_two._handle()


# shared memory ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [0, 1])
def test_sums_in_shared_memory(answers: Answers, rank: int):
    """20,000 in turn, each of numbers of its own."""
    found = answers("sums", rank)
    assert found["equal"]
    assert found["n"] == 20_001
    assert found["table"].tolist() == [[[0.0] * 3] * 2, [[1.0] * 3] * 2]


def test_trained_weights_belong_to_one_process(answers: Answers):
    assert not any(
        value.any() for key, value in answers("emptied")["weights"].items() if "weight" in key
    )
    assert_same_weights(answers("emptied", rank=1), answers("law.SCVI", rank=1))


def test_nothing_stays_of_shared_memory(folder: Path):
    assert folder.is_dir()
    assert not list(shared.PLACE.glob("vivace-*"))


# questions --------------------------------------------------------------------------------------


def test_questions_by_ranges_of_rows_are_put_together_in_order(answers: Answers):
    for rank, rows in ((0, [0, 1, 2]), (1, [3, 4, 5, 6])):
        found = answers("rows", rank)
        assert found["asked"].tolist() == rows
        assert found["whole"].tolist() == [[2 * row] for row in range(7)]
        assert found["table"]["row"].tolist() == list(range(5))
        assert found["table"].index.tolist() == list("01234")
        assert found["nothing"] is None
        assert "2 processes cannot share 1 cells" in found["text"]


def test_one_process_answers_all_rows():
    assert by_rows(lambda rows: rows, 3).tolist() == [0, 1, 2]


# parts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [2, 5, 6, 7])
@pytest.mark.parametrize("of", [1, 2, 3])
def test_parts_have_one_size_and_leave_nothing_out(n_rows: int, of: int):
    rows = np.arange(n_rows) + 10
    cut = [next(Share(rank, of).cut(iter([rows]))) for rank in range(of)]
    assert len({len(part) for part in cut}) == 1
    assert set(np.concatenate(cut)) == set(rows)
    assert sum(map(len, cut)) - n_rows < of


def test_pairs_stay_together():
    pairs = {"background": np.arange(6), "target": np.arange(6) + 100}
    for rank in (0, 1):
        part = next(Share(rank, 2).cut(iter([pairs])))
        assert (part["target"] == part["background"] + 100).all()


def test_statistics_of_parts_are_those_of_the_whole(monkeypatch):
    """With two processes that have the same cells: those of the cells taken twice."""
    monkeypatch.setattr(_ranks, "add_up", lambda x: x.mul_(2))
    x = torch.randn(5, 3, dtype=torch.float64)
    with minibatches_divided(Ranks(0, 2)):
        twice = variance_of_cells(x, correction=1)
    expected = torch.cat([x, x]).var(0, correction=1, keepdim=True)
    torch.testing.assert_close(twice, expected)
    torch.testing.assert_close(variance_of_cells(x), x.var(0, correction=0, keepdim=True))


def test_batch_norm_of_parts_is_that_of_the_whole(monkeypatch):
    """Value, gradients and running statistics, in float64, of unequal parts and either process."""
    from vivace.train import norms

    x, target = torch.randn(7, 3, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64)
    whole, parts = x.clone().requires_grad_(), [x[:3].clone(), x[3:].clone()]
    norm, shared = (nn.BatchNorm1d(3, momentum=0.1).double() for _ in range(2))
    for one in (norm, shared):
        one.weight.data = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    (norm(whole) * target).sum().backward()

    table = torch.stack([_statistics(part) for part in parts])
    monkeypatch.setattr(norms, "of_all", lambda own: table)
    sums = torch.stack([norm.bias.grad, norm.weight.grad])
    monkeypatch.setattr(norms, "add_up", lambda own: sums)
    with norms.norms_over_all_parts(shared), minibatches_divided(Ranks(0, 2)):
        first = parts[0].requires_grad_()
        y = shared(first)
        (y * target[:3]).sum().backward()
        shared.eval()
        torch.testing.assert_close(shared(x), nn.functional.batch_norm(
            x, shared.running_mean, shared.running_var, shared.weight, shared.bias, eps=shared.eps
        ))  # fmt: skip
    torch.testing.assert_close(y, norm.train()(x)[:3])
    torch.testing.assert_close(first.grad, whole.grad[:3])
    assert "forward" not in vars(shared)
    fresh = nn.BatchNorm1d(3, momentum=0.1).double()
    fresh(x)
    torch.testing.assert_close(shared.running_var, fresh.running_var)
    torch.testing.assert_close(shared.running_mean, fresh.running_mean)


def _statistics(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x.mean(0), x.var(0, correction=0), x.new_tensor([len(x)])])


# devices=N --------------------------------------------------------------------------------------


def test_devices():
    assert [processes_of(d) for d in ("auto", 1, "1", 3, "3", [0], (1,))] == [
        *(None, 1, 1, 3, 3, 1, 1)
    ]
    for wrong in (0, -1, 1.5, [0, 1], "all", None):
        with pytest.raises(InvalidArgumentError, match="devices"):
            processes_of(wrong)


def test_devices_beside_a_launcher(monkeypatch):
    launcher = {"WORLD_SIZE": "4", "RANK": "0", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
    for name, value in {**launcher, "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert not launch.to_start(2)
    with pytest.raises(InvalidArgumentError, match="devices=3, but a launcher has started 2"):
        launch.to_start(3)


def test_in_a_notebook_devices_say_what_to_run(monkeypatch):
    notebook = SimpleNamespace(kernel=object())
    monkeypatch.setattr(sys.modules["__main__"], "get_ipython", lambda: notebook, raising=False)
    with pytest.raises(InvalidArgumentError, match=r"torchrun --nproc-per-node 2 train\.py"):
        scvi(devices=2)
    assert not launch.to_start(1)
    monkeypatch.setattr(sys.modules["__main__"], "get_ipython", SimpleNamespace)  # IPython's shell
    assert launch.to_start(2) == 2


def test_two_devices_train_in_two_processes(watch):
    """The model gets what the processes learned; its data, and torch's generator, stay as they are."""
    case = CASES["ContrastiveVI"]
    model = case.build(watch(case.data()))
    drawn = torch.random.get_rng_state()
    model.train(**case.train, max_epochs=2, batch_size=16, devices=2, progress=False)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert model.is_trained
    assert len(model.history["elbo_validation"]) == 2
    assert model.training["conditions"] == {"target": 60}
    assert np.isfinite(case.latent(model)).all()


def test_an_error_of_the_processes_is_raised_here(tmp_path: Path):
    with pytest.raises(TrainingError, match="a process was ended from outside"):
        launch._answer(tmp_path, 2)
    launch._write(tmp_path / f"{launch.ERROR}.1", InvalidArgumentError("the reason"))
    launch._write(tmp_path / f"{launch.ERROR}.0", TrainingError("another process has ended"))
    with pytest.raises(InvalidArgumentError, match="the reason"):
        launch._answer(tmp_path, 2)


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """As a session's main thread does; workers of pytest-xdist are deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("hears_ctrl_c")
def test_ctrl_c_goes_to_one_of_the_processes(tmp_path: Path):
    """A child that ends well at its first Ctrl-C; before there is one, Ctrl-C ends the launcher."""
    number = tmp_path / launch.NUMBER
    wait = "import signal, time; signal.signal(signal.SIGINT, lambda *_: exit(0)); time.sleep(60)"
    command = [
        sys.executable,
        "-c",
        f"import os; open({str(number)!r}, 'w').write(str(os.getpid())); {wait}",
    ]
    threading.Thread(target=lambda: (_until(number.is_file), ctrl_c())).start()
    launch._run(command, 2, number)
    number.unlink()
    threading.Timer(0.3, ctrl_c).start()
    with pytest.raises(KeyboardInterrupt):
        launch._run([sys.executable, "-c", wait], 2, number)


def ctrl_c() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _until(there: Callable[[], bool]) -> None:
    while not there():
        time.sleep(0.01)
    time.sleep(0.2)  # until the child listens


def test_a_model_that_cannot_be_handed_over():
    class Own(vivace.SCVI):
        """Of a class that other processes do not find."""

    adata = CASES["SCVI"].data()
    Own.setup_anndata(adata)
    with pytest.raises(InvalidArgumentError, match="torchrun --nproc-per-node 2"):
        Own(adata).train(**LAW, devices=2)


def test_the_data_object_is_not_copied_to_the_processes(tmp_path: Path):
    adata = CASES["SCVI"].data()
    vivace.SCVI.setup_anndata(adata)
    cells = vivace.SCVI(adata)._cells()
    launch._write_job(tmp_path / "job", (cells, [1, 2]), adata, 2)
    handed, numbers = launch._read(tmp_path / "job")
    assert handed.data is None
    assert numbers == [1, 2]
    rows = np.arange(3)
    torch.testing.assert_close(
        handed.minibatch(rows)["X"].to_dense(), cells.minibatch(rows)["X"].to_dense()
    )


def test_the_first_process_alone_saves(monkeypatch, tmp_path: Path):
    model = scvi()
    monkeypatch.setattr("vivace.models.base.is_first", lambda: False)
    assert model.save(tmp_path / "run") == tmp_path / "run"
    assert not (tmp_path / "run").exists()


def test_an_error_of_one_process_closes_its_connections(monkeypatch):
    """So that the others end; what all raise alike leaves them open for another try."""
    left: list[Ranks] = []
    monkeypatch.setattr(ranks, "leave", left.append)
    errors = (TrainingError, InvalidArgumentError, ModelFileError, KeyboardInterrupt)
    for n_left, error in zip((0, 0, 1, 2), errors, strict=True):
        with pytest.raises(error), ranks.left_on_error(Ranks(0, 2)):
            raise error
        assert len(left) == n_left


def test_a_lost_process_is_a_training_error():
    def lost() -> None:
        raise RuntimeError("Connection closed by peer")

    with pytest.raises(TrainingError, match="resume="):
        _ranks.together(lost)
    assert vivace.settings.seed == 0
