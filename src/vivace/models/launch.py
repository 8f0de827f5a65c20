"""``devices=2`` and more: torch's launcher starts the processes, which train a copy of the model.

This process waits and takes the trained weights over. What the others need lies in a folder for the
time being; they read it, meet, and the first of them writes what it has learned.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from vivace._settings import default_seed, settings
from vivace.errors import InvalidArgumentError, TrainingError, VivaceError
from vivace.models.device import pick_device
from vivace.train import TrainResult, fit
from vivace.train.ranks import launched

JOB, RESULT, ERROR = "job.pickle", "result.pickle", "error.pickle"
NUMBER = "pid"
"""File with the number of the first process, once it trains."""
WORK = "import sys; from vivace.models.launch import work; work(sys.argv[1])"


def to_start(processes: int | None) -> int:
    """How many processes ``devices`` asks for that no launcher has started; 0 if none has to be.

    Raises
    ------
    InvalidArgumentError
        If a launcher has started another number of them, or in a notebook.

    Examples
    --------
    >>> to_start(None), to_start(1), to_start(2)
    (0, 0, 2)
    """
    if processes is None or processes == 1:
        return 0
    there = launched()
    if there == 1:
        _refuse_notebook(processes)
        return processes
    here = int(os.environ.get("LOCAL_WORLD_SIZE", there))
    if processes != here:
        msg = (
            f"devices={processes}, but a launcher has started {here} processes on this machine: leave "
            "devices out"
        )
        raise InvalidArgumentError(msg)
    return 0


def _refuse_notebook(n: int) -> None:
    get_shell = getattr(sys.modules["__main__"], "get_ipython", None)
    if get_shell is not None and hasattr(get_shell(), "kernel"):
        msg = (
            f"devices={n} in a notebook: processes are started from a script or the shell. Leave devices "
            "out to train here; or put these lines, with model.save(...) at their end, into train.py and "
            f"run: torchrun --nproc-per-node {n} train.py, or, in the shell, vivace fit ... --devices {n}"
        )
        raise InvalidArgumentError(msg)


def fit_in_processes(
    model: Any, n: int, train: Any, validation: Any, *, device: torch.device, **given: Any
) -> TrainResult:
    """:func:`vivace.train.fit` by n processes of this machine.

    Parameters
    ----------
    model
        Its module gets the weights; its data object stays here.
    n
        Number of processes.
    train, validation
        Minibatches, of cells that are copied to every process.
    device
        Of the kind that each process takes one of.
    **given
        Further arguments of ``fit``.

    Raises
    ------
    InvalidArgumentError
        If the cells cannot be handed to other processes.
    TrainingError
        If a process was ended from outside. Any other error of theirs is raised here as well.
    """
    job = (type(model), model._to_save(), train, validation, device.type, given)
    with tempfile.TemporaryDirectory(prefix="vivace-") as name:
        folder = Path(name)
        _write_job(folder / JOB, (settings.seed, os.getpid(), *job), model.adata, n)
        _run(_command(n, folder), n, folder / NUMBER)
        weights, result = _answer(folder, n)
    model.module.load_state_dict(weights)
    model.module.to(device).eval()
    return result


class _Pickler(pickle.Pickler):
    """Leaves the user's data object out, of which the cells hold what is needed."""

    def __init__(self, file: Any, data: Any):
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._data = data

    def persistent_id(self, obj: Any) -> str | None:
        return "data" if obj is self._data and obj is not None else None


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, pid: Any) -> None:
        return None


def _write_job(path: Path, job: Any, data: Any, n: int) -> None:
    try:
        with path.open("wb") as file:
            _Pickler(file, data).dump(job)
    except (pickle.PicklingError, TypeError, AttributeError, ValueError) as error:
        msg = (
            f"devices={n}: the cells or the model cannot be handed to other processes ({error}). Leave "
            f"devices out and run: torchrun --nproc-per-node {n} YOUR_SCRIPT.py, or, in the shell, "
            f"torchrun --nproc-per-node {n} --no-python vivace fit ..."
        )
        raise InvalidArgumentError(msg) from error


def _command(n: int, folder: Path) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--no-python"]
    return [*launcher, "--nproc-per-node", str(n), sys.executable, "-c", WORK, str(folder)]


def _run(command: list[str], n: int, number: Path) -> None:
    """Run the launcher. A first Ctrl-C goes to one of the processes, which all end with the best so far."""
    threads = max(1, (os.cpu_count() or 1) // n)
    path = os.pathsep.join(entry for entry in sys.path if entry)
    env = {"OMP_NUM_THREADS": str(threads), **os.environ, "PYTHONPATH": path}
    child = subprocess.Popen(command, env=env, start_new_session=True)
    try:
        try:
            child.wait()
        except KeyboardInterrupt:
            if not number.is_file():  # nothing is learned yet
                raise
            with suppress(ProcessLookupError):
                os.kill(int(number.read_text()), signal.SIGINT)
            child.wait()
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _answer(folder: Path, n: int) -> tuple[dict[str, torch.Tensor], TrainResult]:
    """What the processes have learned; or raises the error in which the first of them ended."""
    if (folder / RESULT).is_file():
        return _read(folder / RESULT)
    errors = sorted(folder.glob(f"{ERROR}.*"), key=lambda path: path.stat().st_mtime_ns)
    if errors:
        raise _read(errors[0])
    msg = (
        f"devices={n}: a process was ended from outside, as when memory runs out; what it said is "
        "above. The last checkpoint is whole: go on from it with resume="
    )
    raise TrainingError(msg)


# in each of the processes -----------------------------------------------------------------------


def work(folder: str) -> None:
    """Train the model of a job; called by the launcher."""
    place, rank = Path(folder), int(os.environ["RANK"])
    try:
        seed, parent, kind, parts, train, validation, device, given = _read(place / JOB)
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
        with default_seed(seed):
            module = kind.from_parts(parts).module
            if rank == 0:
                (place / NUMBER).write_text(str(os.getpid()))
            result = fit(module, train, validation, device=pick_device(device), **given)
        if rank == 0:
            _write(place / RESULT, (module.cpu().state_dict(), result))
    except (VivaceError, KeyboardInterrupt) as error:
        _write(place / f"{ERROR}.{rank}", error)


def _read(path: Path) -> Any:
    with path.open("rb") as file:
        return _Unpickler(file).load()


def _write(path: Path, value: Any) -> None:
    beside = path.with_suffix(".partial")
    beside.write_bytes(pickle.dumps(value))
    beside.replace(path)


def _end_with(parent: int) -> None:
    """End this process when the one that waits for it is gone."""
    while True:
        try:
            os.kill(parent, 0)
        except OSError:
            os._exit(1)
        time.sleep(1.0)
