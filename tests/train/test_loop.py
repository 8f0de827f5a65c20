"""The training loop on a toy module: schedules, history, stopping, interruption, resuming."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from toy import Line, Stream
from vivace.errors import InvalidArgumentError, TrainingError
from vivace.train import TrainOptions, fit
from vivace.train.recipes import make_options


def options(**changes: object) -> TrainOptions:
    return TrainOptions(**{"max_epochs": 5, "lr": 0.1, **changes})


def test_it_trains_and_leaves_the_module_in_evaluation_mode():
    module = Line()
    result = fit(module, Stream(), options=options(max_epochs=30))
    assert abs(module.value.item()) < 1
    assert not module.training
    assert result.stopped == "finished"
    assert result.epochs == 30


def test_history_is_named_and_per_cell():
    module = Line()
    frames = fit(module, Stream(), Stream(8), options=options()).history.frames()
    for name in ("elbo", "reconstruction_loss", "kl_local", "kl_global", "value"):
        for mode in ("train", "validation"):
            assert list(frames[f"{name}_{mode}"].columns) == [f"{name}_{mode}"]
            assert len(frames[f"{name}_{mode}"]) == 5
    assert (frames["kl_local_train"] == 1).all(axis=None)
    elbo = frames["reconstruction_loss_validation"].to_numpy() + 1 + 3 / 12
    assert frames["elbo_validation"].to_numpy() == pytest.approx(elbo)
    assert {"train_loss", "validation_loss", "kl_weight"} <= frames.keys()


def test_training_again_appends_to_the_history():
    module = Line()
    first = fit(module, Stream(), options=options())
    second = fit(module, Stream(), options=options(), history=first.history)
    assert list(second.history.frames()["elbo_train"].index) == list(range(10))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [1.0] * 6),
        ({"n_epochs_kl_warmup": 4}, [0, 0, 0, 0.25, 0.25, 0.25]),
        ({"n_steps_kl_warmup": 4}, [0, 0.25, 0.5, 0.75, 1, 1]),
        ({"n_epochs_kl_warmup": 4, "n_steps_kl_warmup": 4}, [0, 0, 0, 0.25, 0.25, 0.25]),
        ({"kl_warmup_fraction": 0.5}, [0, 1 / 3, 2 / 3, 1, 1, 1]),
        ({"min_kl_weight": 0.5, "n_epochs_kl_warmup": 2}, [0.5] * 3 + [0.75] * 3),
        ({"max_kl_weight": 0.1}, [0.1] * 6),
    ],
)
def test_kl_weight(changes: dict, expected: list[float]):
    module = Line()
    fit(module, Stream(), options=options(max_epochs=2, **changes))
    assert module.kl_weights == pytest.approx(expected)


def test_one_cycle_rises_then_falls():
    from vivace.train.schedule import one_cycle

    shares = [one_cycle(step, 100) for step in range(101)]
    assert max(shares) == shares[30] == 1
    assert shares[:31] == sorted(shares[:31])
    assert shares[30:] == sorted(shares[30:], reverse=True)
    assert shares[0] == pytest.approx(1 / 25)
    assert shares[-1] == pytest.approx(1e-4)


def test_loss_kwargs_reach_the_loss():
    module = Line()
    result = fit(
        module, Stream(), options=options(max_epochs=1, lr=1e-9), loss_kwargs={"scale": 3.0}
    )
    last = result.history.last
    assert last("train_loss") == pytest.approx(3 * last("reconstruction_loss_train"), rel=1e-5)


def test_the_global_generator_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    fit(Line(), Stream(), Stream(4), options=options())
    assert (torch.rand(3) == expected).all()


def test_the_same_seed_gives_the_same_weights():
    values = []
    for seed in (0, 0, 1):
        module = Line()
        fit(module, Stream(), options=options(), seed=seed)
        values.append(module.value.item())
    assert values[0] == values[1] != values[2]


# stopping ---------------------------------------------------------------------------------------


def test_early_stopping_keeps_the_best_weights():
    """Training pulls to 0 while the held-out cells lie at 3: the best is on the way."""
    module = Line(start=5.0)
    result = fit(
        module,
        Stream(),
        Stream(8, 8, centre=3.0),
        options=options(max_epochs=100, early_stopping=True, early_stopping_patience=3),
    )
    held_out = result.history.frames()["elbo_validation"].iloc[:, 0]
    assert result.stopped == "early stopping"
    assert len(held_out) == held_out.idxmin() + 4
    assert result.best_epoch == held_out.idxmin()
    assert abs(module.value.item() - 3) < 1


def test_keep_best_runs_to_the_end():
    result = fit(
        Line(), Stream(), Stream(8, 8, centre=3.0), options=options(max_epochs=40, keep_best=True)
    )
    assert result.epochs == 40
    assert result.best_epoch < 30


def test_early_stopping_without_held_out_cells_is_an_error():
    with pytest.raises(InvalidArgumentError, match="held-out"):
        fit(Line(), Stream(), options=options(early_stopping=True))


def test_a_loss_that_is_not_finite_says_where_and_gives_back_the_last_good_weights_and_buffers():
    module = Line()
    module.register_buffer("steps", torch.zeros(()), persistent=False)
    module.on_step = lambda kl_weight: module.steps.add_(1)
    fit(module, Stream(), options=options(max_epochs=2))
    good = module.value.item()
    module.kl_weights.clear()
    module.fail_at = 1
    with pytest.raises(
        TrainingError, match=r"nan at step 1 \(epoch 0\); the last finite loss was \d"
    ):
        fit(module, Stream(), options=options())
    assert module.value.item() == good
    assert module.steps.item() == 2 * 3
    assert not module.training


def test_ctrl_c_ends_cleanly_with_the_best_weights():
    module = Line()
    module.on_step = lambda kl_weight: (
        signal.raise_signal(signal.SIGINT) if len(module.kl_weights) == 7 else None
    )
    result = fit(module, Stream(), Stream(8), options=options(max_epochs=50))
    assert result.stopped == "interrupted"
    assert result.epochs == 2
    assert result.best_epoch is not None
    assert not module.training


def test_a_second_ctrl_c_stops_at_once():
    module, before = Line(), signal.getsignal(signal.SIGINT)

    def twice(kl_weight: float) -> None:
        if len(module.kl_weights) == 4:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    module.on_step = twice
    with pytest.raises(KeyboardInterrupt):
        fit(module, Stream(), options=options())
    assert math.isfinite(module.value.item())
    assert signal.getsignal(signal.SIGINT) is before


# resuming ---------------------------------------------------------------------------------------


def trained(path: Path | None = None, stop_after: int | None = None, resume: Path | None = None):
    module = Line()
    if stop_after is not None:
        module.on_step = lambda kl_weight: (
            signal.raise_signal(signal.SIGINT) if len(module.kl_weights) == stop_after else None
        )
    result = fit(
        module,
        Stream(),
        Stream(8),
        options=options(max_epochs=8, lr_schedule="one_cycle", keep_best=True),
        checkpoint=path,
        resume=resume,
    )
    return module, result


def test_a_resumed_run_ends_with_the_same_weights_to_the_bit(tmp_path):
    whole, whole_result = trained()
    trained(tmp_path / "state", stop_after=10)  # 3 epochs are done
    resumed, result = trained(resume=tmp_path / "state")
    assert resumed.value.item() == whole.value.item()
    assert result.history.records == whole_result.history.records
    assert result.best_epoch == whole_result.best_epoch


def test_resuming_with_other_options_is_an_error(tmp_path):
    trained(tmp_path / "state")
    with pytest.raises(TrainingError, match=r"lr=0\.1, but this run has 0\.2"):
        fit(
            Line(),
            Stream(),
            Stream(8),
            options=options(max_epochs=8, lr_schedule="one_cycle", keep_best=True, lr=0.2),
            resume=tmp_path / "state",
        )


@pytest.mark.parametrize(
    "damage", ["missing", "truncated", "text", "a pipe", "a folder", "version"]
)
def test_a_damaged_checkpoint_is_a_clear_error(tmp_path, damage):
    path = tmp_path / "state"
    trained(path)
    if damage in ("missing", "a pipe", "a folder"):
        path.unlink()
    if damage == "a pipe":  # which nobody writes to: reading it would wait for ever
        os.mkfifo(path)
    elif damage == "a folder":
        path.mkdir()
    elif damage == "version":
        text = path.read_bytes()
        assert b'\\"version\\": 1' in text
        path.write_bytes(text.replace(b'\\"version\\": 1', b'\\"version\\":[]'))
    elif damage != "missing":
        path.write_bytes(path.read_bytes()[:100] if damage == "truncated" else b"hello")
    with pytest.raises(TrainingError, match="not a readable checkpoint"):
        trained(resume=path)


def test_progress_is_shown_within_epochs(monkeypatch):
    shown: list[tuple[float, bool]] = []

    @contextmanager
    def bar(n_epochs: int, first: int, *, show: bool):
        yield lambda done, metrics: shown.append((done, metrics is not None))

    monkeypatch.setattr("vivace.train.loop.progress_bar", bar)
    fit(Line(), Stream(), options=options(max_epochs=2))
    within = [1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2]
    assert [done for done, whole in shown if not whole] == pytest.approx(within)
    assert [done for done, whole in shown if whole] == [1, 2]


class Pulled(Exception):
    """Somebody pulled the plug."""


def pull_after(module: Line, steps: int) -> Line:
    """The module, which fails at a step."""
    step, taken = module.on_step, iter(range(1000))

    def first_fail(kl_weight: float) -> None:
        if next(taken) == steps:
            raise Pulled
        step(kl_weight)

    module.on_step = first_fail
    return module


@pytest.mark.parametrize("steps", range(4, 9))
def test_a_run_that_was_killed_within_an_epoch_goes_on_from_there(tmp_path, steps: int):
    plan = options(checkpoint_every_n_minutes=1e-9, n_epochs_kl_warmup=3)
    of_run = {"options": plan, "seed": 3}
    whole, state = Line(), tmp_path / "state"
    expected = fit(whole, Stream(), Stream(8), **of_run)
    with pytest.raises(Pulled):
        fit(pull_after(Line(), steps), Stream(), Stream(8), checkpoint=state, **of_run)
    asked: list[tuple[int, int]] = []

    class Watched(Stream):
        def epoch(self, epoch: int, first: int = 0):
            asked.append((epoch, first))
            return super().epoch(epoch, first)

    resumed = Line()
    found = fit(resumed, Watched(), Stream(8), resume=state, **of_run)
    assert asked[0] == divmod(steps, 3)  # no step is taken twice
    assert resumed.value.item() == whole.value.item()
    assert found.history.records == expected.history.records


def test_checkpoints_within_epochs_are_as_far_apart_as_was_said(tmp_path, monkeypatch):
    saved: list[int] = []
    monkeypatch.setattr(
        "vivace.train.loop.save_checkpoint", lambda *words: saved.append(words[3].steps_done)
    )
    clock = iter(range(0, 10**6, 25))  # seconds, at every step
    monkeypatch.setattr("vivace.train.checkpoint.time.monotonic", lambda: next(clock))
    fit(Line(), Stream(48), options=options(max_epochs=1, checkpoint_every_n_minutes=2),
        checkpoint=tmp_path / "state")  # fmt: skip
    assert saved[-1] == 0  # after the epoch
    assert len(saved) > 2
    gaps = [b - a for a, b in zip([0, *saved[:-1]], saved[:-1], strict=False)]
    assert min(gaps) >= 4  # 25 s a look, or 50 where it was due


KILLED = """
import sys
from pathlib import Path
import anndata, numpy as np, vivace
rng = np.random.default_rng(0)
adata = anndata.AnnData(rng.poisson(1.0, (150, 20)).astype("float32"))
vivace.SCVI.setup_anndata(adata)
model = vivace.SCVI(adata, n_hidden=16, n_latent=3)
resume = sys.argv[1] if Path(sys.argv[1]).exists() else None
model.train(max_epochs=int(sys.argv[2]), batch_size=16, checkpoint=sys.argv[1], resume=resume,
            progress=False)
model.save(sys.argv[3])
"""


def test_a_killed_run_resumes_to_the_same_weights(tmp_path):
    """kill -9 while training, resume, and compare with a run that was left alone."""
    from vivace.io import load_parts

    def command(state: str, out: str) -> list[str]:
        return [
            sys.executable,
            "-c",
            KILLED,
            str(tmp_path / state),
            "150",
            str(tmp_path / out),
        ]

    running = subprocess.Popen(command("killed", "out"))
    deadline = time.time() + 60
    while not (tmp_path / "killed").exists() and time.time() < deadline:
        time.sleep(0.005)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert not (tmp_path / "out" / "model.json").exists()
    subprocess.run(command("killed", "out"), check=True)
    subprocess.run(command("whole", "alone"), check=True)
    resumed, alone = load_parts(tmp_path / "out"), load_parts(tmp_path / "alone")
    assert all((resumed.weights[k] == alone.weights[k]).all() for k in alone.weights)
    assert resumed.history == alone.history


# options ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"lr": 0}, "lr=0"),
        ({"max_epochs": 0}, "max_epochs=0"),
        ({"lr_schedule": "one-cycle"}, 'Did you mean "one_cycle"'),
        ({"precision": "fp16"}, "precision"),
        ({"optimizer": "adam"}, "optimizer"),
        ({"kl_warmup_fraction": 2}, r"\[0, 1\]"),
    ],
)
def test_options_out_of_range(change: dict, match: str):
    with pytest.raises(InvalidArgumentError, match=match):
        options(**change)


def test_the_users_options_win_over_the_models_over_the_recipes():
    model = {"fast": {"lr": 5e-3, "weight_decay": 0.1}}
    found = make_options("fast", 1000, {"lr": 1e-4, "eps": None}, model)
    assert (found.lr, found.weight_decay) == (1e-4, 0.1)


def test_unknown_options_and_recipes_suggest_the_nearest():
    with pytest.raises(InvalidArgumentError, match='Did you mean "batch_size"'):
        make_options("fast", 1000, {"batchsize": 3})
    with pytest.raises(InvalidArgumentError, match='Did you mean "classic"'):
        make_options("clasic", 1000, {})


def test_classic_is_the_historic_schedule():
    found = make_options("classic", 1000, {})
    assert (found.max_epochs, found.batch_size, found.lr, found.eps) == (400, 128, 1e-3, 0.01)
    assert found.kl_weight(100, 0, 1) == 0.25
    with pytest.warns(UserWarning, match="single epoch"):
        assert make_options("classic", 10**8, {}).max_epochs == 1


class Normed(Line):
    """A line with a batch norm on the side."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(3, momentum=0.01)

    def inference(self, x):
        if self.training:
            self.norm(x)
        return super().inference(x)


def running_mean(momentum: float | None) -> torch.Tensor:
    """After two epochs of one minibatch each, from zero."""
    module = Normed()
    fit(module, Stream(size=12), options=options(max_epochs=2, batch_norm_momentum=momentum))
    assert module.norm.momentum == 0.01
    return module.norm.running_mean


@pytest.mark.parametrize("momentum", [None, 0.1, 1.0])
def test_batch_norms_follow_the_minibatches_as_fast_as_asked(momentum):
    left = (1 - (0.01 if momentum is None else momentum)) ** 2  # of the initial zero, after two
    assert torch.allclose(running_mean(momentum), (1 - left) * Stream().x.mean(0), atol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, -0.1, 1.1])
def test_a_momentum_that_is_no_share_is_refused(momentum):
    with pytest.raises(InvalidArgumentError, match="batch_norm_momentum"):
        options(batch_norm_momentum=momentum)
