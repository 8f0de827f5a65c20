"""Usage of junctions: what the decoder expects, what it says of events a cell does not show.

A module here has ``event_map``, ``usage(logits)``, ``log_phi()`` and decodes to ``logits``, a product
with a row a junction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse

from vivace._files import replacing
from vivace._types import Keys, Minibatches
from vivace.analysis.expression import decode
from vivace.analysis.latent import infer, with_mean_state
from vivace.data import Loader
from vivace.errors import InvalidArgumentError
from vivace.kernels import csr_tensor, splicing
from vivace.modules.base import to_device


def junction_phi(module: Any) -> torch.Tensor:
    """Concentration of each junction's event, 0-d or (J,)."""
    if module.log_phi_j is None:
        msg = (
            "the binomial likelihood has no concentration to weigh reads against; use "
            'mode="decoder", or a model with dirichlet_multinomial or beta_binomial'
        )
        raise InvalidArgumentError(msg)
    phi = module.log_phi().exp()
    events = module.event_map
    if phi.dim() and len(phi) == events.n_events and len(phi) != len(events.of_junction):
        return phi[events.of_junction]
    return phi


def read_positions(
    cells: Any, junctions: Any, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Row and column numbers of single positions, (M,) int64 each, in 0 .. shape - 1.

    Parameters
    ----------
    cells, junctions
        Whole numbers, as many of either; a negative one counts from the end.
    shape
        Number of cells and of junctions.

    Raises
    ------
    InvalidArgumentError
        If they are not whole numbers, not as many, or lie outside.

    Examples
    --------
    >>> read_positions([0, -1], [2, 0], (5, 3))
    (array([0, 4]), array([2, 0]))
    """
    given = (("cells", cells, shape[0]), ("junctions", junctions, shape[1]))
    rows, columns = (_whole_numbers(name, values, n) for name, values, n in given)
    if len(rows) != len(columns):
        msg = f"{len(rows)} cells and {len(columns)} junctions were given; a position has one of either"
        raise InvalidArgumentError(msg)
    return rows, columns


def _whole_numbers(name: str, values: Any, n: int) -> np.ndarray:
    found = np.asarray(values)
    if found.size == 0:
        return np.zeros(0, dtype=np.int64)
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
        msg = (
            f"{name} of positions must be a list of whole numbers (a row or column number for each "
            f"position); found {found.dtype} values of shape {found.shape}"
        )
        raise InvalidArgumentError(msg)
    outside = found[(found < -n) | (found >= n)]
    if len(outside):
        msg = f"{name} of positions must lie in 0 .. {n - 1}; found {outside[0]}"
        raise InvalidArgumentError(msg)
    return found.astype(np.int64) % n


def usage_draws(
    module: Any,
    tensors: Any,
    *,
    transform_batch: Sequence[int | None] = (None,),
    n_samples: int = 1,
    use_mean: bool = True,
    entries: splicing.Entries | None = None,
) -> torch.Tensor:
    """Expected ratios of a minibatch, averaged over batches: (..., B, J), or (..., E) at entries."""
    outputs = infer(module, tensors, n_samples=n_samples)
    if use_mean:
        outputs = with_mean_state(module, outputs)
    decoded = []
    for batch in transform_batch:
        logits = decode(module, tensors, outputs, batch)["logits"]
        if entries is None:
            decoded.append(module.usage(logits.dense()))
        else:
            at = splicing.entry_logits(logits.h, logits.weight, logits.bias, entries)
            decoded.append(module.usage_at(at, entries))
    return torch.stack(decoded).mean(0) if len(decoded) > 1 else decoded[0]


@torch.inference_mode()
def splicing_blocks(
    module: Any,
    batches: Minibatches,
    *,
    mode: str = "decoder",
    transform_batch: Sequence[int | None] = (None,),
    junctions: np.ndarray | None = None,
    n_samples: int = 1,
    use_mean: bool = True,
) -> Iterator[np.ndarray]:
    """Ratios of each minibatch, (B, J) or (S, B, J) float32, one block after the other.

    Parameters
    ----------
    mode
        "decoder": what the model expects of such a cell. "dm_posterior_mean": that, updated with the
        cell's own reads, ``(phi p + y) / (phi + n)``.
    transform_batch
        Batch codes to decode for (None: the observed one); several are averaged.
    junctions
        Columns to keep.
    n_samples
        Draws S of z; with ``use_mean`` the posterior mean of z is decoded instead.
    """
    for tensors in batches:
        tensors = to_device(tensors, module.device)
        p = usage_draws(
            module,
            tensors,
            transform_batch=transform_batch,
            n_samples=n_samples,
            use_mean=use_mean,
        )
        if mode == "dm_posterior_mean":
            phi, e = junction_phi(module), module.entries(tensors)
            ratio = phi.expand(p.shape[-1])[e.junction]
            total = e.total[e.pair]
            p[..., e.cell, e.junction] = (ratio * p[..., e.cell, e.junction] + e.reads) / (
                ratio + total
            )
        yield (p if junctions is None else p[..., junctions]).cpu().numpy()


def collect(
    blocks: Iterable[np.ndarray], shape: tuple[int, ...], out: str | Path | None
) -> np.ndarray:
    """Blocks (..., B, J) below each other, in memory or in a ``.npy`` file, written whole or not at all."""
    if out is None:
        return np.concatenate(list(blocks), axis=-2)
    with replacing(out) as beside:
        values = np.lib.format.open_memmap(beside, mode="w+", dtype=np.float32, shape=shape)
        start = 0
        for block in blocks:
            end = start + block.shape[-2]
            values[..., start:end, :] = block
            start = end
        values.flush()
    return values


@torch.inference_mode()
def observed_splicing(
    module: Any, batches: Minibatches, *, mode: str, **kwargs: Any
) -> sparse.csr_array:
    """Ratios at observed entries only, (N, J) CSR float32, means over the draws.

    Work follows the entries.
    """
    rows, columns, values, n = [], [], [], 0
    for tensors in batches:
        tensors = to_device(tensors, module.device)
        e = module.entries(tensors)
        p = usage_draws(module, tensors, entries=e, **kwargs)
        p = p.mean(0) if p.dim() == 2 else p
        if mode == "dm_posterior_mean":
            phi, total = junction_phi(module), e.total[e.pair]
            phi = phi if phi.dim() == 0 else phi[e.junction]
            p = (phi * p + e.reads) / (phi + total)
        rows.append(e.cell.cpu().numpy() + n)
        columns.append(e.junction.cpu().numpy())
        values.append(p.cpu().numpy())
        n += e.shape[0]
        n_junctions = e.shape[1]
    at = (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_array((np.concatenate(values), at), shape=(n, n_junctions))


@torch.inference_mode()
def splicing_at(
    module: Any,
    batches: Minibatches,
    cells: Any,
    junctions: Any,
    *,
    n_samples: int = 1,
    use_mean: bool = True,
    transform_batch: Sequence[int | None] = (None,),
) -> dict[str, np.ndarray]:
    """What the model says of single (cell, junction) positions, given all that it sees of the cell.

    Parameters
    ----------
    module, batches
        Module and minibatches, which can be gone through more than once.
    cells, junctions
        (M,) position of the cell in the stream of minibatches, and column; see
        :func:`read_positions`.
    n_samples, use_mean, transform_batch
        As in :func:`splicing_blocks`.

    Returns
    -------
    ``p`` (M,) expected ratio; ``psi`` (M,) the same updated with the cell's reads of the event, and
    ``variance`` (M,) of the ratio given them: over draws of z, and of the Dirichlet (absent for the
    binomial likelihood, where it is over draws alone). float64.
    """
    n_junctions = len(module.event_map.of_junction)
    n_cells = batches.n_obs if isinstance(batches, Loader) else sum(map(_n_cells, batches))
    cells, junctions = read_positions(cells, junctions, (n_cells, n_junctions))
    found = {name: np.zeros(len(cells)) for name in ("p", "psi", "variance")}
    start = 0
    for tensors in batches:
        tensors = to_device(tensors, module.device)
        n_cells = _n_cells(tensors)
        here = np.flatnonzero((cells >= start) & (cells < start + n_cells))
        if len(here):
            order = here[np.lexsort((junctions[here], cells[here]))]
            kwargs = {"n_samples": n_samples, "use_mean": use_mean}
            values = _at_positions(
                module,
                tensors,
                cells[order] - start,
                junctions[order],
                transform_batch=transform_batch,
                **kwargs,
            )
            for name, value in values.items():
                found[name][order] = value.cpu().numpy()
        start += n_cells
    return found


def _n_cells(tensors: Any) -> int:
    return len(tensors[Keys.BATCH])


def _at_positions(
    module: Any, tensors: Any, cells: np.ndarray, junctions: np.ndarray, **kwargs: Any
) -> dict[str, torch.Tensor]:
    """Values at positions sorted by cell and junction; positions may repeat."""
    events, device = module.event_map, module.device
    n_cells, n_junctions = _n_cells(tensors), len(events.of_junction)
    key, back = np.unique(cells * n_junctions + junctions, return_inverse=True)
    cell, junction = key // n_junctions, key % n_junctions
    starts = np.searchsorted(cell, np.arange(n_cells + 1))
    ones = csr_tensor(starts, junction, np.ones(len(key), np.float32), (n_cells, n_junctions))
    wanted = splicing.observed_entries(ones.to(device), events)
    asked = torch.nonzero(wanted.reads > 0).squeeze(-1)
    place = wanted.cell[asked] * n_junctions + wanted.junction[asked]
    asked = asked[torch.argsort(place)][torch.from_numpy(back).to(device)]
    p = usage_draws(module, tensors, entries=wanted, **kwargs)[..., asked].double()
    p = p if p.dim() == 2 else p.unsqueeze(0)
    if module.log_phi_j is None:
        return {"p": p.mean(0), "psi": p.mean(0), "variance": p.var(0, correction=0)}
    reads, totals = _reads_at(
        module.entries(tensors), wanted.cell[asked], wanted.junction[asked], events
    )
    phi = junction_phi(module).double()
    phi = phi if phi.dim() == 0 else phi[wanted.junction[asked]]
    psi = (phi * p + reads) / (phi + totals)
    inside = psi * (1 - psi) / (phi + totals + 1)
    variance = inside.mean(0) + psi.var(0, correction=0)
    return {"p": p.mean(0), "psi": psi.mean(0), "variance": variance}


def _reads_at(
    entries: splicing.Entries, cell: torch.Tensor, junction: torch.Tensor, events: splicing.Events
) -> tuple[torch.Tensor, torch.Tensor]:
    """Reads of junctions and of their events at positions, 0 where nothing is observed."""
    key = entries.pair_cell * events.n_events + entries.pair_event
    wanted = cell * events.n_events + events.of_junction[junction]
    if len(key) == 0:
        return torch.zeros(len(cell)).to(cell), torch.zeros(len(cell)).to(cell)
    pair = torch.searchsorted(key, wanted).clamp(max=len(key) - 1)
    seen = key[pair] == wanted
    entry = (entries.start[pair] + events.rank[junction]).clamp(max=len(entries.reads) - 1)
    return entries.reads[entry].double() * seen, entries.total[pair].double() * seen


def beta_interval(
    mean: np.ndarray, variance: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the central interval of beta distributions of the given means and variances.

    Examples
    --------
    >>> import numpy as np
    >>> lower, upper = beta_interval(np.array([0.5]), np.array([1 / 12]), 0.9)  # the uniform one
    >>> np.concatenate([lower, upper]).round(3).tolist()
    [0.05, 0.95]
    """
    from scipy.stats import beta  # slow to import

    mean = mean.clip(1e-9, 1 - 1e-9)
    variance = np.minimum(variance, mean * (1 - mean) * (1 - 1e-9))
    weight = mean * (1 - mean) / np.maximum(variance, 1e-12) - 1
    ends = [(1 - level) / 2, (1 + level) / 2]
    lower, upper = (beta.ppf(end, mean * weight, (1 - mean) * weight) for end in ends)
    return lower, upper
