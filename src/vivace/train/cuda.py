"""A whole training step as one CUDA graph, on cells that stay on the device.

A step of a small network is bound by launching its hundreds of kernels. Captured once and replayed, it
is one launch: the host only hands over which rows come next. The counts lie on the device as CSR and a
minibatch is densified there; every shape is fixed, so nothing waits for the host.

What runs without a device is tested there; **the capture itself has not been run on one**, so it is
off unless ``TrainOptions(cuda_graphs=True)`` asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from vivace._types import Minibatch
from vivace.errors import InvalidArgumentError
from vivace.modules.base import BaseModule, LossOutput

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
        Without a CUDA device, with several streams of cells, or with a module that changes its
        course in Python from step to step.
    """
    if device.type != "cuda":
        msg = f"cuda_graphs=True needs a CUDA device; this run is on {device}"
        raise InvalidArgumentError(msg)
    if not hasattr(batches, "row_batches"):
        msg = "cuda_graphs=True needs one stream of cells; this model trains on several"
        raise InvalidArgumentError(msg)
    if type(module).on_step is not BaseModule.on_step:
        msg = (
            f"cuda_graphs=True: {type(module).__name__} changes from step to step, as graphs cannot"
        )
        raise InvalidArgumentError(msg)


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
        cells = trainer.batches.cells
        tensors = cells.minibatch(np.arange(cells.n_cells))
        if not fits(tensors, torch.cuda.mem_get_info(device)[0]):
            msg = "cuda_graphs=True: the cells do not fit into half of the device's free memory"
            raise InvalidArgumentError(msg)
        self.trainer, self.cells = trainer, ResidentCells(tensors, device)
        size = min(trainer.batches.batch_size, trainer.batches.n_obs)
        self.rows = torch.zeros(size, dtype=torch.int64, device=device)
        self.kl_weight = torch.ones((), device=device)
        for group in trainer.optimizer.param_groups:
            group["lr"] = torch.tensor(float(group["lr"]), device=device)
        self.graph = torch.cuda.CUDAGraph()
        self._capture()

    def _update(self) -> LossOutput:
        return self.trainer.update(self.cells.minibatch(self.rows), self.kl_weight)

    def _capture(self) -> None:
        module, optimizer = self.trainer.module, self.trainer.optimizer
        weights = {k: v.clone() for k, v in module.state_dict().items()}
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(N_WARMUP):
                self._update()
        torch.cuda.current_stream().wait_stream(side)
        optimizer.zero_grad(set_to_none=True)  # the graph allocates gradients of its own
        with torch.cuda.graph(self.graph):
            self.losses = self._update()
        module.load_state_dict(weights)  # nothing has been learned from warming up
        for state in optimizer.state.values():
            for value in state.values():
                value.zero_()

    def rows_of(self, epoch: int) -> Iterator[np.ndarray]:
        """Rows of each minibatch of an epoch."""
        return self.trainer.batches.row_batches(epoch)

    def __call__(self, rows: np.ndarray, factor: float, kl_weight: float) -> LossOutput:
        """Replay on these rows; the losses are overwritten by the next call."""
        self.rows.copy_(torch.from_numpy(np.ascontiguousarray(rows)), non_blocking=True)
        self.kl_weight.fill_(kl_weight)
        for group in self.trainer.optimizer.param_groups:
            group["lr"].fill_(group["peak_lr"] * factor)
        self.graph.replay()
        return self.losses
