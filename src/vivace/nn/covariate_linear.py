"""A linear map with covariates beside its input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from vivace.kernels import sparse_linear


class CovariateLinear(nn.Module):
    """Linear map of an input, of continuous covariates and of one-hots, which are never formed.

    State dicts hold what those of :class:`torch.nn.Linear` do: ``bias``, and ``weight`` (n_out, n_in +
    n_cov) with the columns ``input, continuous, one-hot(cat_1), ...``. In memory the weights lie by
    input, so that a non-zero count meets one short row, and apart from those of the covariates, so
    that neither they nor their gradients are cut out of a wide matrix and put back into it.

    Parameters
    ----------
    n_in, n_out
        Width of the input and of the output.
    n_cats
        Columns of each categorical covariate; 0 for none.
    n_cont
        Number of continuous covariates.
    bias
        Whether there is one.

    Attributes
    ----------
    of_input
        (n_in, n_out) weights.
    of_covariates
        (n_cov, n_out) weights, or None without covariates.

    Examples
    --------
    >>> import torch
    >>> linear = CovariateLinear(5, 3, n_cats=[2])
    >>> linear(torch.ones(4, 5), [torch.tensor([[0], [1], [0], [1]])]).shape
    torch.Size([4, 3])
    >>> linear.state_dict()["weight"].shape
    torch.Size([3, 7])
    """

    def __init__(
        self, n_in: int, n_out: int, n_cats: Sequence[int] = (), n_cont: int = 0, bias: bool = True
    ):
        super().__init__()
        self.n_cats, self.n_cont = list(n_cats), n_cont
        n_cov = n_cont + sum(n_cats)
        self.in_features = n_in + n_cov
        start = nn.Linear(self.in_features, n_out, bias=bias)
        of_input, of_covariates = start.weight.detach().t().contiguous().split([n_in, n_cov])
        self.of_input = nn.Parameter(of_input.clone())  # clones, as views would share memory
        self.of_covariates = nn.Parameter(of_covariates.clone()) if n_cov else None
        self.bias = start.bias

    @property
    def weight(self) -> torch.Tensor:
        """(n_out, n_in + n_cov), to be read: with covariates it is a copy."""
        if self.of_covariates is None:
            return self.of_input.t()
        return torch.cat([self.of_input, self.of_covariates]).t()

    def forward(
        self,
        x: torch.Tensor,
        cats: Sequence[torch.Tensor | None] = (),
        cont: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Apply the map.

        Parameters
        ----------
        x
            (..., n_in), dense, CSR or a product.
        cats
            For each categorical covariate (B, 1) codes or (B, n) (soft) one-hots.
        cont
            (B, n_cont) continuous covariates.

        Raises
        ------
        ValueError
            If continuous covariates are missing.
        """
        out = sparse_linear(x, self.of_input.t(), self.bias)
        if self.of_covariates is None:
            return out
        widths: list[int] = [self.n_cont, *self.n_cats]
        of_cont, *of_cats = self.of_covariates.split(widths)
        if self.n_cont:
            if cont is None:
                msg = f"expected {self.n_cont} continuous covariates, got none"
                raise ValueError(msg)
            out = out + F.linear(cont, of_cont.t())
        for weight, cat in zip(of_cats, cats, strict=False):
            if len(weight) and cat is not None:
                out = out + categorical_linear(weight, cat)
        return out

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        weight = self.weight.contiguous()
        destination[f"{prefix}weight"] = weight if keep_vars else weight.detach()
        if self.bias is not None:
            destination[f"{prefix}bias"] = self.bias if keep_vars else self.bias.detach()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        weight = state_dict.pop(f"{prefix}weight", None)
        if weight is not None:
            # without covariates the whole goes to the input: one that is too wide is then refused
            n_in = len(self.of_input) if self.of_covariates is not None else weight.shape[1]
            state_dict[f"{prefix}of_input"] = weight[:, :n_in].t()
            if self.of_covariates is not None:
                state_dict[f"{prefix}of_covariates"] = weight[:, n_in:].t()
        super()._load_from_state_dict(state_dict, prefix, *args)


def categorical_linear(weight: torch.Tensor, cat: torch.Tensor) -> torch.Tensor:
    """One-hot(cat) times ``weight``: (n, H) and (B, 1) codes to (B, H).

    A ``cat`` whose width is n already is taken as (soft) one-hots.
    """
    if cat.shape[-1] == len(weight):
        return F.linear(cat.to(weight.dtype), weight.t())
    return F.embedding(cat.squeeze(-1).long(), weight)
