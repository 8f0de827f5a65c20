"""Sums over a cell's observed entries of what a small network makes of each (spec, splice.md section 3).

An entry is a number and the vector of its junction; the network is two linear layers, each normalised
and cut at zero. Of a minibatch there are hundreds of thousands, and what the layers make of them is
wide: here a few thousand entries go through at a time, so that nothing leaves the processor's cache, and
on the way back they go through again instead of being kept.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

AT_ONCE = 4096
"""Entries; 64 hidden units of so many are a megabyte."""
COMPILED_TYPES = (torch.float32, torch.float64)


class Network(NamedTuple):
    """Weights of the network of an entry with D numbers in its vector, H hidden units and C outputs."""

    weight: torch.Tensor  # (H, 1 + D)
    bias: torch.Tensor  # (H,)
    gain: torch.Tensor  # (H,) and shift: of the normalisation
    shift: torch.Tensor
    out_weight: torch.Tensor  # (C, H)
    out_bias: torch.Tensor  # (C,)
    out_gain: torch.Tensor  # (C,)
    out_shift: torch.Tensor


class Floors(NamedTuple):
    """What is added under square roots: of a vector's length, and of the two variances."""

    length: float
    hidden: float
    out: float


def entry_codes(
    junction: torch.Tensor,
    value: torch.Tensor,
    vectors: torch.Tensor,
    network: Network,
    floors: Floors,
) -> torch.Tensor:
    """(E, C) codes of entries, in plain torch.

    Parameters
    ----------
    junction, value
        (E,) of the entries.
    vectors
        (J, D) of junctions; only their directions matter.
    network, floors
        See there.
    """
    v = F.embedding(junction, vectors)
    length = (v.square().sum(-1, keepdim=True) + floors.length).sqrt()
    entered = torch.cat([torch.ones_like(length), v / length], dim=-1) * value.unsqueeze(-1)
    return codes_of_hidden(F.linear(entered, network.weight, network.bias), network, floors)


def codes_of_hidden(h: torch.Tensor, network: Network, floors: Floors) -> torch.Tensor:
    """(E, C) codes from what the first layer made of the entries, (E, H)."""
    h = F.relu(F.layer_norm(h, h.shape[-1:], network.gain, network.shift, floors.hidden))
    out = F.linear(h, network.out_weight, network.out_bias)
    return F.relu(
        F.layer_norm(out, out.shape[-1:], network.out_gain, network.out_shift, floors.out)
    )


def can_be_summed(value: torch.Tensor, vectors: torch.Tensor) -> bool:
    """Whether :func:`summed_codes` has compiled loops for these."""
    same = value.dtype == vectors.dtype and value.dtype in COMPILED_TYPES
    return value.device.type == "cpu" and same and not torch.is_autocast_enabled("cpu")


def summed_codes(
    cell: torch.Tensor,
    junction: torch.Tensor,
    value: torch.Tensor,
    base: torch.Tensor,
    n_cells: int,
    vectors: torch.Tensor,
    network: Network,
    floors: Floors,
) -> torch.Tensor:
    """(B, C) sums over each cell's entries of their codes less ``base``.

    Parameters
    ----------
    cell
        (E,) cell of each entry, below ``n_cells``.
    junction, value, vectors, network, floors
        See :func:`entry_codes`; no gradient goes to ``value``.
    base
        (C,).

    Examples
    --------
    >>> import torch
    >>> ones, zeros = torch.ones(2), torch.zeros(2)
    >>> network = Network(torch.eye(2), zeros, ones, zeros, torch.eye(2), zeros, ones, zeros)
    >>> cell, junction = torch.tensor([0, 0, 1]), torch.zeros(3, dtype=torch.long)
    >>> value, vectors = torch.tensor([1.0, 1.0, 0.5]), torch.tensor([[-1.0]])
    >>> floors = Floors(0.0, 1e-5, 1e-5)
    >>> summed_codes(cell, junction, value, zeros, 2, vectors, network, floors).round()
    tensor([[2., 0.],
            [1., 0.]])
    """
    return SummedCodes.apply(base, vectors, *network, cell, junction, value, n_cells, floors)


class SummedCodes(torch.autograd.Function):
    """Values part by part; gradients by the same way again."""

    @staticmethod
    def forward(
        ctx: Any, base: torch.Tensor, vectors: torch.Tensor, *arguments: Any
    ) -> torch.Tensor:
        *weights, cell, junction, value, n_cells, floors = arguments
        ctx.save_for_backward(base, vectors, *weights, cell, junction, value)
        ctx.floors = floors
        walk = Walk(vectors, Network(*weights), floors, (cell, junction, value))
        out = base.new_zeros(n_cells, len(base))
        for part in walk.parts():
            walk.forward(part)
            walk.rows.add_to_cells(*part, *arrays(cell, walk.codes, base, out))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_cells: torch.Tensor) -> tuple:
        base, vectors, *weights, cell, junction, value = ctx.saved_tensors
        walk = Walk(vectors, Network(*weights), ctx.floors, (cell, junction, value))
        by_cells = by_cells.contiguous()
        by = [
            torch.zeros_like(t, memory_format=torch.contiguous_format) for t in (vectors, *weights)
        ]
        for part in walk.parts():
            walk.forward(part)
            walk.backward(part, by_cells, by[0], Network(*by[1:]))
        by_base = None
        if ctx.needs_input_grad[0]:
            by_base = -(torch.bincount(cell, minlength=len(by_cells)).to(base) @ by_cells)
        return (by_base, *by, *[None] * 5)


class Walk:
    """A few thousand entries on their way through the network, in memory that the next ones use again.

    Parameters
    ----------
    vectors, network, floors
        See :func:`entry_codes`.
    entries
        Cell, junction and value of each, (E,).
    """

    def __init__(self, vectors: torch.Tensor, network: Network, floors: Floors, entries: tuple):
        from vivace.kernels import code_rows

        self.rows: Any = code_rows
        self.entries, self.n = arrays(*entries), len(entries[0])
        self.vectors, self.network = vectors.detach(), Network(*(w.detach() for w in network))
        zero = torch.finfo(vectors.dtype).tiny  # a floor of the same type as the numbers it goes to
        self.floors = [torch.tensor(f + zero, dtype=vectors.dtype).numpy()[()] for f in floors]
        width, n_in = network.weight.shape
        size = min(AT_ONCE, self.n)
        self.memory = [
            vectors.new_empty(size, k) for k in (n_in, width, width, len(network.out_bias))
        ]
        self.memory += [vectors.new_empty(size, len(network.out_bias)) for _ in range(2)]
        self.inverses = [vectors.new_empty(size) for _ in range(2)]

    def parts(self) -> list[tuple[int, int]]:
        """First and last entry of each part."""
        return [(i, min(i + AT_ONCE, self.n)) for i in range(0, self.n, AT_ONCE)]

    def forward(self, part: tuple[int, int]) -> None:
        """Codes of a part, and what its gradients need."""
        size, net = part[1] - part[0], self.network
        self.entered, self.h, self.hidden, self.c, self.codes, self.by_codes = (
            block[:size] for block in self.memory
        )
        self.inverse, self.out_inverse = (block[:size] for block in self.inverses)
        of_length, of_hidden, of_out = self.floors
        given = (*self.entries[1:], *arrays(self.vectors))
        self.rows.enter(*part, *given, of_length, *arrays(self.entered))
        torch.addmm(net.bias, self.entered, net.weight.t(), out=self.h)
        weights = arrays(net.gain, net.shift)
        self.rows.norm_relu(
            *arrays(self.h), *weights, of_hidden, *arrays(self.inverse, self.hidden)
        )
        torch.addmm(net.out_bias, self.hidden, net.out_weight.t(), out=self.c)
        weights = arrays(net.out_gain, net.out_shift)
        self.rows.norm_relu(
            *arrays(self.c), *weights, of_out, *arrays(self.out_inverse, self.codes)
        )

    def backward(
        self,
        part: tuple[int, int],
        by_cells: torch.Tensor,
        by_vectors: torch.Tensor,
        by: Network,
    ) -> None:
        """Add the gradients of a part, after its :meth:`forward`."""
        net, by_c = self.network, self.by_codes
        self.rows.of_cells(*part, self.entries[0], *arrays(by_cells, by_c))
        forth = arrays(self.c, net.out_gain, self.out_inverse, self.codes)
        self.rows.norm_relu_backward(*forth, *arrays(by_c, by.out_gain, by.out_shift))
        by.out_weight.addmm_(by_c.t(), self.hidden)
        by.out_bias.add_(by_c.sum(0))
        by_h = by_c @ net.out_weight
        forth = arrays(self.h, net.gain, self.inverse, self.hidden)
        self.rows.norm_relu_backward(*forth, *arrays(by_h, by.gain, by.shift))
        by.weight.addmm_(by_h.t(), self.entered)
        by.bias.add_(by_h.sum(0))
        by_entered = torch.mm(by_h, net.weight, out=self.entered)
        given = (*self.entries[1:], *arrays(self.vectors), self.floors[0])
        self.rows.enter_backward(*part, *given, *arrays(by_entered, by_vectors))


def arrays(*tensors: torch.Tensor) -> tuple:
    """The tensors as contiguous numpy arrays, which share their memory if they are so."""
    return tuple(t.detach().contiguous().numpy() for t in tensors)
