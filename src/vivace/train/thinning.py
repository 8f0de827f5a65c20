"""Cells that the encoder sees less deeply in training than they were measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vivace.errors import InvalidArgumentError


@contextmanager
def cells_thinned(module: Any, share: float) -> Iterator[None]:
    """Inside, the encoder sees this share of the training cells thinned to fewer counts.

    The likelihood explains all counts, so that the loss remains an upper bound of the negative
    log-likelihood: q may look at less than what is explained (docs/recipe.md).

    Parameters
    ----------
    module
        Its ``thinned_share`` is as it was afterwards.
    share
        In [0, 1]; 0 changes nothing, and is fine with every module.

    Raises
    ------
    InvalidArgumentError
        If the module does not thin what its encoder sees, or there are no whole counts to thin.

    Examples
    --------
    >>> from vivace.modules import VAE
    >>> vae = VAE(n_input=3)
    >>> with cells_thinned(vae, 0.5):
    ...     vae.thinned_share
    0.5
    >>> vae.thinned_share
    0.0
    """
    if share == 0:
        yield
        return
    if not getattr(module, "can_thin", False):
        msg = (
            f"thinned_share={share} was given; {type(module).__name__} has no whole counts here that its "
            "encoder could see thinned: leave it at 0"
        )
        raise InvalidArgumentError(msg)
    own = module.thinned_share
    module.thinned_share = share
    try:
        yield
    finally:
        module.thinned_share = own
