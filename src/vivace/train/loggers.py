"""Callbacks that write metrics where people look at them: TensorBoard, MLflow, Weights & Biases.

Each needs its own package, which is imported when training starts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vivace.errors import require
from vivace.modules.base import LossOutput
from vivace.train.result import TrainResult

LOSS = "step/loss"
"""Name of the loss of single steps."""


class TensorBoard:
    """Metrics as files of events; look at them with ``tensorboard --logdir FOLDER``.

    Parameters
    ----------
    folder
        Where the files go; of each run its own.
    log_every_n_steps
        Write the loss of every so-manieth step as well; 0 for none.

    Raises
    ------
    MissingDependencyError
        When training starts, without the package: ``pip install tensorboard``.

    Examples
    --------
    >>> model.train(logger=vivace.train.TensorBoard("logs/first"))  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path, log_every_n_steps: int = 0):
        self.folder = Path(folder).expanduser()
        self.every = log_every_n_steps
        self._writer: Any = None

    def start(self, facts: dict[str, Any]) -> None:
        """Open a file."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise require("tensorboard", "logging") from error
        self._writer = SummaryWriter(str(self.folder))
        lines = [f"{name}: {value}" for name, value in facts["options"].items()]
        self._writer.add_text("options", "  \n".join(lines))

    def step(self, step: int, losses: LossOutput) -> None:
        """Write the loss of some steps."""
        if self.every and step % self.every == 0:
            self._writer.add_scalar(LOSS, losses.loss.item(), step)

    def epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Write the metrics, so that they can be looked at now."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def end(self, result: TrainResult | None) -> None:
        """Close the file."""
        self._writer.close()


class MLflow:
    """A run of MLflow with options as parameters, and metrics.

    Parameters
    ----------
    experiment
        Name of the experiment; made if needed.
    tracking_uri
        Folder or server; default MLflow's own.
    run_name
        Name of the run; default MLflow's own.
    log_every_n_steps
        As of :class:`TensorBoard`.

    Raises
    ------
    MissingDependencyError
        When training starts, without the package: ``pip install mlflow-skinny``.

    Examples
    --------
    >>> model.train(logger=vivace.train.MLflow("liver"))  # doctest: +SKIP
    """

    def __init__(
        self,
        experiment: str = "vivace",
        tracking_uri: str | None = None,
        run_name: str | None = None,
        log_every_n_steps: int = 0,
    ):
        self.experiment, self.tracking_uri, self.run_name = experiment, tracking_uri, run_name
        self.every = log_every_n_steps
        self._client: Any = None
        self._run = ""

    def start(self, facts: dict[str, Any]) -> None:
        """Start a run; one of the user's own that is under way is left alone."""
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise require("mlflow-skinny", "logging") from error
        self._client = MlflowClient(self.tracking_uri)
        known = self._client.get_experiment_by_name(self.experiment)
        number = known.experiment_id if known else self._client.create_experiment(self.experiment)
        self._run = self._client.create_run(number, run_name=self.run_name).info.run_id
        for name, value in {**facts["options"], "seed": facts["seed"]}.items():
            self._client.log_param(self._run, name, value)

    def step(self, step: int, losses: LossOutput) -> None:
        """Write the loss of some steps."""
        if self.every and step % self.every == 0:
            self._client.log_metric(self._run, LOSS, losses.loss.item(), step=step)

    def epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Write the metrics."""
        for name, value in metrics.items():
            self._client.log_metric(self._run, name, value, step=epoch)

    def end(self, result: TrainResult | None) -> None:
        """End the run: as failed, as killed by Ctrl-C, or as finished."""
        stopped = "failed" if result is None else result.stopped
        status = {"failed": "FAILED", "interrupted": "KILLED"}.get(stopped, "FINISHED")
        self._client.set_terminated(self._run, status)


class WeightsAndBiases:
    """A run of Weights & Biases with options as its configuration, and metrics.

    Parameters
    ----------
    project
        Name of the project.
    log_every_n_steps
        As of :class:`TensorBoard`.
    **options
        Of ``wandb.init``, such as ``mode="offline"``, ``dir`` or ``name``.

    Raises
    ------
    MissingDependencyError
        When training starts, without the package: ``pip install wandb``.

    Examples
    --------
    >>> logger = vivace.train.WeightsAndBiases("liver", mode="offline")  # doctest: +SKIP
    >>> model.train(logger=logger)  # doctest: +SKIP
    """

    def __init__(self, project: str = "vivace", log_every_n_steps: int = 0, **options: Any):
        self.project, self.every, self.options = project, log_every_n_steps, options
        self._run: Any = None

    def start(self, facts: dict[str, Any]) -> None:
        """Start a run."""
        try:
            import wandb
        except ImportError as error:
            raise require("wandb", "logging") from error
        config = {**facts["options"], "seed": facts["seed"]}
        self._run = wandb.init(project=self.project, config=config, **self.options)
        self._run.define_metric("epoch")
        self._run.define_metric("*", step_metric="epoch")
        self._run.define_metric(LOSS, step_metric="step")

    def step(self, step: int, losses: LossOutput) -> None:
        """Write the loss of some steps."""
        if self.every and step % self.every == 0:
            self._run.log({LOSS: losses.loss.item(), "step": step})

    def epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Write the metrics."""
        self._run.log({**metrics, "epoch": epoch})

    def end(self, result: TrainResult | None) -> None:
        """End the run."""
        self._run.finish(exit_code=1 if result is None else 0)
