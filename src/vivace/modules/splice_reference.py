"""Weights of published SpliceVI models under the names of this module."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from vivace.errors import InvalidDataError
from vivace.modules.splice import SPLICEVAE

UNUSED = (
    "l_encoder_expression.",
    "z_decoder_expression.px_r_decoder.",
    "z_decoder_expression.px_dropout_decoder.",
    "mod_weights",
    "log_phi_j",
    "px_r",
)
"""What the published package allocates whether or not the options use it."""


def convert_reference_state_dict(
    state: Mapping[str, torch.Tensor], module: SPLICEVAE
) -> dict[str, torch.Tensor]:
    """Weights that ``module.load_state_dict`` takes, from those of a published model.

    Names agree; what a published model allocates without using it is left out.

    Parameters
    ----------
    state
        State dict of the published module.
    module
        Built with the same options and ``compat="splicevi"``.

    Raises
    ------
    InvalidDataError
        If a weight is missing, has another shape, or is of a part this module does not have.

    Examples
    --------
    >>> import torch
    >>> module = SPLICEVAE(9, 4, event_index=torch.tensor([0, 0, 1, 1]), compat="splicevi")
    >>> state = convert_reference_state_dict(module.state_dict(), module)
    >>> module.load_state_dict(state)
    <All keys matched successfully>
    """
    wanted = module.state_dict()
    unknown = [k for k in state if k not in wanted and not k.startswith(UNUSED)]
    missing = [k for k in wanted if k not in state]
    if unknown or missing:
        what = f'has "{unknown[0]}"' if unknown else f'lacks "{missing[0]}"'
        msg = f"the weights are of a model with other options: it {what}; check the architectures"
        raise InvalidDataError(msg)
    for name, tensor in wanted.items():
        if state[name].shape != tensor.shape:
            msg = (
                f'"{name}" has shape {tuple(state[name].shape)}; expected {tuple(tensor.shape)}. Are '
                "genes, junctions and events those of training, and the options the same?"
            )
            raise InvalidDataError(msg)
    return {name: state[name] for name in wanted}
