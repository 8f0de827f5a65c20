"""A whole training step as one CUDA graph, on cells that stay on the device.

A step of a small network is bound by launching its hundreds of kernels. Captured once and replayed, it
is one launch: the host only hands over which rows come next. The counts lie on the device as CSR and a
minibatch is densified there; every shape is fixed, so nothing waits for the host.

Tests on the processor replay what was recorded there in place of a graph, and refuse what a graph
refuses; **the capture itself has not been run on a device**, so it is off unless
``TrainOptions(cuda_graphs=True)`` asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from vivace._types import Minibatch
from vivace.errors import InvalidArgumentError
from vivace.modules.base import BaseModule, LossOutput

DEVICE = "cuda"
N_WARMUP = 3
"""Steps before the capture: kernels compile and libraries allocate in the first ones."""


class ResidentRows:
    """CSR counts on a device, of which any rows can be had as a dense tensor without a sync.

    Parameters
    ----------
    x
        (N, G) CSR tensor, on the device.

    Examples
    --------
    >>> import torch
    >>> from vivace.kernels import csr_tensor
    >>> x = csr_tensor(torch.tensor([0, 1, 1]), torch.tensor([2]), torch.tensor([5.0]), (2, 3))
    >>> ResidentRows(x).dense(torch.tensor([1, 0]))
    tensor([[0., 0., 0.],
            [0., 0., 5.]])
    """

    def __init__(self, x: torch.Tensor):
        self.starts, self.columns = x.crow_indices().long(), x.col_indices()
        self.values, self.n_columns = x.values(), x.shape[1]
        longest = int(self.starts.diff().max()) if len(self.values) else 0
        self.reach = torch.arange(longest, device=x.device)

    def dense(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, G) float32 counts of these rows; every intermediate is (B, longest row of all)."""
        out = torch.zeros(len(rows), self.n_columns, device=rows.device)
        if not len(self.reach):
            return out
        at = self.starts[rows].unsqueeze(1) + self.reach
        inside = at < self.starts[rows + 1].unsqueeze(1)
        at = at.clamp(max=len(self.values) - 1)
        values = torch.where(inside, self.values[at].float(), 0.0)
        return out.scatter_add_(1, self.columns[at].long(), values)


class ResidentCells:
    """All tensors of the training cells on a device.

    Parameters
    ----------
    tensors
        One minibatch of all cells.
    device
        Where they go.
    """

    def __init__(self, tensors: Minibatch, device: torch.device):
        moved = {key: value.to(device) for key, value in tensors.items()}
        csr = {key: v for key, v in moved.items() if v.layout == torch.sparse_csr}
        self.sparse = {key: ResidentRows(value) for key, value in csr.items()}
        self.dense = {key: value for key, value in moved.items() if key not in csr}

    def minibatch(self, rows: torch.Tensor) -> Minibatch:
        """The tensors of these rows; counts are dense."""
        counts = {key: source.dense(rows) for key, source in self.sparse.items()}
        return counts | {key: value[rows] for key, value in self.dense.items()}


def fits(tensors: Minibatch, free_bytes: int) -> bool:
    """Whether the cells take at most half of the device's free memory."""
    size = 0
    for value in tensors.values():
        parts = [value]
        if value.layout == torch.sparse_csr:
            parts = [value.values(), value.col_indices(), value.crow_indices()]
        size += sum(part.numel() * part.element_size() for part in parts)
    return 2 * size <= free_bytes


def check_capturable(module: BaseModule, batches: Any, device: torch.device) -> None:
    """Refuse what cannot be captured.

    Raises
    ------
    InvalidArgumentError
        Without a CUDA device, with cells that come from elsewhere than loaders, or with a module that
        changes its course in Python from step to step.
    """
    if device.type != DEVICE:
        msg = f"cuda_graphs=True needs a CUDA device; this run is on {device}"
        raise InvalidArgumentError(msg)
    if not hasattr(batches, "row_batches"):
        msg = (
            "cuda_graphs=True needs minibatches that are told by their rows; this model has others"
        )
        raise InvalidArgumentError(msg)
    if not module.capturable:
        msg = (
            f"cuda_graphs=True: what {type(module).__name__} does depends on the minibatch or the step, "
            "as that of a graph cannot; leave it out"
        )
        raise InvalidArgumentError(msg)


class Graph:
    """Work on a CUDA device, captured once and replayed."""

    def __init__(self):
        self._graph = torch.cuda.CUDAGraph()

    def capture(self, work: Callable[[], Any]) -> Any:
        """Do the work ``N_WARMUP`` times and capture it; what it answers is overwritten by each replay."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(N_WARMUP):
                work()
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(self._graph):
            return work()

    def replay(self) -> None:
        """The work again, on what its tensors now hold."""
        self._graph.replay()


class ResidentStreams:
    """The cells of one loader, or of several zipped, on a device, and which of them come next.

    Parameters
    ----------
    batches
        A loader, or zipped ones; those of the same cells share them.
    device
        Where the cells go.

    Raises
    ------
    InvalidArgumentError
        If they do not fit.
    """

    def __init__(self, batches: Any, device: torch.device):
        self.zipped = hasattr(batches, "loaders")
        loaders = batches.loaders if self.zipped else {"": batches}
        sources = {id(loader.cells): loader.cells for loader in loaders.values()}
        tensors = {key: c.minibatch(np.arange(c.n_cells)) for key, c in sources.items()}
        free, everything = free_bytes(device), [t for one in tensors.values() for t in one.values()]
        if not fits(dict(enumerate(everything)), free):  # type: ignore[arg-type]
            msg = (
                "cuda_graphs=True: the cells do not fit into half of the device's free memory, "
                f"{free / 1e9:.1f} GB; leave it out"
            )
            raise InvalidArgumentError(msg)
        resident = {key: ResidentCells(one, device) for key, one in tensors.items()}
        self.cells = {name: resident[id(loader.cells)] for name, loader in loaders.items()}
        size = max(min(loader.batch_size, loader.n_obs) for loader in loaders.values())
        self.rows = {n: torch.zeros(size, dtype=torch.int64, device=device) for n in loaders}

    def choose(self, rows: np.ndarray | Mapping[str, np.ndarray]) -> None:
        """Take these rows for the next minibatch, by stream where there are several."""
        for name, chosen in rows.items() if isinstance(rows, Mapping) else [("", rows)]:
            self.rows[name].copy_(torch.from_numpy(np.ascontiguousarray(chosen)), non_blocking=True)

    def minibatch(self) -> Any:
        """The minibatch of the chosen rows."""
        each = {name: cells.minibatch(self.rows[name]) for name, cells in self.cells.items()}
        return each if self.zipped else each[""]


def free_bytes(device: torch.device) -> int:
    """Free memory of a device."""
    return torch.cuda.mem_get_info(device)[0]


class CapturedStep:
    """Forward, backward and update as one graph.

    Parameters
    ----------
    trainer
        Its ``update`` is what is captured; its optimizer must be capturable.
    """

    def __init__(self, trainer: Any):
        device = trainer.device
        check_capturable(trainer.module, trainer.batches, device)
        self.trainer, self.streams = trainer, ResidentStreams(trainer.batches, device)
        self.kl_weight = torch.ones((), device=device)
        for group in trainer.optimizer.param_groups:
            group["lr"] = torch.tensor(float(group["lr"]), device=device)
        self.streams.choose(next(iter(self.rows_of(0))))
        self.graph = Graph()
        self._capture()

    def _update(self) -> LossOutput:
        return self.trainer.update(self.streams.minibatch(), self.kl_weight)

    def _capture(self) -> None:
        """Capture the step; weights and moments are then as before, as nothing was to be learned."""
        module, moments = self.trainer.module.train(), self.trainer.optimizer.state
        weights = [(t, t.detach().clone()) for t in (*module.parameters(), *module.buffers())]
        before = {p: {k: v.clone() for k, v in state.items()} for p, state in moments.items()}
        self.losses = self.graph.capture(self._update)
        with torch.no_grad():
            for tensor, value in weights:
                tensor.copy_(value)
            for parameter, state in moments.items():
                for name, tensor in state.items():
                    value = before.get(parameter, {}).get(name)
                    tensor.zero_() if value is None else tensor.copy_(value)

    def rows_of(self, epoch: int) -> Iterator[Any]:
        """Rows of each minibatch of an epoch."""
        return self.trainer.batches.row_batches(epoch)

    def __call__(self, rows: Any, factor: float, kl_weight: float) -> LossOutput:
        """Replay on these rows; the losses are overwritten by the next call."""
        self.streams.choose(rows)
        self.kl_weight.fill_(kl_weight)
        for group in self.trainer.optimizer.param_groups:
            group["lr"].fill_(group["peak_lr"] * factor)
        self.graph.replay()
        return self.losses
