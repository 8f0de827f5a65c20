"""Data to try things on: simulators with known truth, and a small set of real cells."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from vivace.datasets.batches import simulate_batches
from vivace.datasets.contrastive import simulate_contrastive
from vivace.datasets.depth import simulate_depth
from vivace.datasets.pbmc import pbmc68k
from vivace.datasets.spatial import simulate_spatial
from vivace.datasets.splicing import simulate_splicing
from vivace.datasets.systems import simulate_systems
from vivace.errors import InvalidArgumentError, check_choice, nearest

__all__ = ["pbmc68k", "simulate"]

SIMULATORS: dict[str, Callable[..., Any]] = {
    "batches": simulate_batches,
    "contrastive": simulate_contrastive,
    "depth": simulate_depth,
    "spatial": simulate_spatial,
    "splicing": simulate_splicing,
    "systems": simulate_systems,
}


def simulate(kind: str, *, seed: int = 0, **options: Any) -> Any:
    """Simulate data with known truth.

    Parameters
    ----------
    kind
        What to simulate; the function behind each name documents its options and the keys of the
        truth.
    seed
        Seed of all draws: the same seed and options give the same data, bit for bit on one machine.
    **options
        ``n_cells``, ``n_genes`` and what else the kind takes.

    Returns
    -------
    AnnData, or (reference, spots) for ``"spatial"``, or MuData for ``"splicing"``.

    Raises
    ------
    InvalidArgumentError
        Unknown kind or option, or a value outside its range.

    Examples
    --------
    >>> import vivace
    >>> vivace.datasets.simulate("batches", n_cells=100, n_genes=50, n_batches=2).shape
    (100, 50)
    """
    check_choice("kind", kind, SIMULATORS)
    simulator = SIMULATORS[kind]
    known = inspect.signature(simulator).parameters
    for name in options:
        if name not in known:
            msg = f'"{name}" is no option of simulate("{kind}"). {nearest(name, known)}'
            raise InvalidArgumentError(msg)
    return simulator(seed=seed, **options)
