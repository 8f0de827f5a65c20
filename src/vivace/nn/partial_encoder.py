"""An encoder of splicing ratios that looks at what was observed, and at nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.distributions import Normal
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vivace.errors import InvalidArgumentError, check_choice
from vivace.kernels.codes import (
    Floors,
    Network,
    can_be_summed,
    codes_of_hidden,
    entry_codes,
    summed_codes,
)
from vivace.nn.dropout import Dropout
from vivace.nn.fc import FCLayers

NORM_EPS = 1e-6
"""Inside the square root of an embedding's length: an all-zero row keeps a finite gradient."""
MIN_VARIANCE = 1e-6
POOL_MODES = ("mean", "sum")


class Observed(NamedTuple):
    """Observed ratios of B cells."""

    cell: torch.Tensor  # (E,) row of the cell
    junction: torch.Tensor  # (E,)
    psi: torch.Tensor  # (E,) in [0, 1]
    n_observed: torch.Tensor  # (B,) observed entries of each cell


class PartialEncoder(nn.Module):
    """Pool a small network over the observed junctions of a cell, then encode the pooled code.

    An entry with ratio psi of junction j enters as ``[psi, psi * F_j / |F_j|]``; a missing junction
    does not enter at all (Ma et al. 2019, EDDI). Entries with ratio 0 are all alike, so they are
    counted, not computed. Dropout acts on the pooled code rather than inside the network of each
    entry, which is what allows that.

    Parameters
    ----------
    n_junctions, n_output
        Number of junctions J and of latent dimensions L.
    code_dim, h_hidden_dim
        Size of embeddings and codes, width of the network of an entry.
    encoder_hidden_dim, n_layers
        Width and depth of the layers after pooling.
    n_cat_list, n_cont, inject_covariates
        Covariates of the layers after pooling, see :class:`~vivace.nn.FCLayers`.
    dropout_rate
        Of the pooled code and of the layers after it.
    pool_mode
        "mean" or "sum" over observed entries.
    max_nobs
        Entries computed at a time, the rest being recomputed in the backward pass; below 0: all. On the
        processor, in full precision, it is always a few thousand.
    centred
        Enter each ratio as its deviation from the mean usage of its junction (the buffer
        ``population``), and let an entry without deviation add nothing. The code then says how a cell
        differs, not which of its events happened to be read.
    linear_head
        Last layer without normalisation, activation and dropout; without it (as first published) means
        are never negative and variances never below log 2.

    Raises
    ------
    InvalidArgumentError
        If the pooling is not known or ``max_nobs`` is 0.

    Examples
    --------
    >>> import torch
    >>> encoder = PartialEncoder(5, 2)
    >>> seen = Observed(
    ...     torch.tensor([0, 0]),
    ...     torch.tensor([1, 4]),
    ...     torch.tensor([0.3, 0.7]),
    ...     torch.tensor([2, 0]),
    ... )
    >>> encoder(seen).mean.shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        n_junctions: int,
        n_output: int,
        *,
        code_dim: int = 16,
        h_hidden_dim: int = 64,
        encoder_hidden_dim: int = 128,
        n_layers: int = 2,
        n_cat_list: Sequence[int] | None = None,
        n_cont: int = 0,
        inject_covariates: bool = False,
        dropout_rate: float = 0.1,
        pool_mode: str = "mean",
        max_nobs: int = -1,
        centred: bool = False,
        linear_head: bool = True,
    ):
        super().__init__()
        check_choice("pool_mode", pool_mode, POOL_MODES)
        if max_nobs == 0:
            msg = "max_nobs=0 leaves no entry to compute; give a number of entries, or -1 for all"
            raise InvalidArgumentError(msg)
        self.pool_mode, self.max_nobs, self.centred = pool_mode, max_nobs, centred
        if centred:
            self.register_buffer("population", torch.zeros(n_junctions))
        self.feature_embedding = nn.Parameter(torch.randn(n_junctions, code_dim))
        # slot numbers are those of published checkpoints
        self.h_layer = nn.ModuleDict(
            {
                "0": nn.Linear(1 + code_dim, h_hidden_dim),
                "1": nn.LayerNorm(h_hidden_dim),
                "4": nn.Linear(h_hidden_dim, code_dim),
                "5": nn.LayerNorm(code_dim),
            }
        )
        self.dropout = Dropout(dropout_rate)
        self.encoder_mlp = FCLayers(
            code_dim,
            2 * n_output,
            n_cat_list=n_cat_list,
            n_cont=n_cont,
            n_layers=n_layers,
            n_hidden=encoder_hidden_dim,
            dropout_rate=dropout_rate,
            use_batch_norm=False,
            use_layer_norm=True,
            inject_covariates=inject_covariates,
        )
        if linear_head:
            last: Any = self.encoder_mlp.fc_layers[f"Layer {n_layers - 1}"]
            for slot in [s for s in last if s != "0"]:
                del last[slot]

    def forward(
        self, observed: Observed, *cats: torch.Tensor | None, cont: torch.Tensor | None = None
    ) -> Normal:
        """Posterior of each cell, Normal with (B, L) parameters."""
        pooled = self.dropout(self.pool(observed))
        mean, raw = self.encoder_mlp(pooled, *cats, cont=cont).chunk(2, dim=-1)
        return Normal(mean, (F.softplus(raw) + MIN_VARIANCE).sqrt(), validate_args=False)

    def pool(self, observed: Observed) -> torch.Tensor:
        """(B, code_dim) codes of the cells' entries, averaged or summed; 0 if nothing is observed."""
        n = observed.n_observed
        cell, junction, psi = observed.cell, observed.junction, observed.psi
        network, floors = self._network(), self._floors()
        # the code of an entry at psi = 0
        nothing = codes_of_hidden(network.bias.unsqueeze(0), network, floors)
        if self.centred:
            psi, base = psi - self.population[junction], nothing
            rest = nothing.new_zeros(len(n), nothing.shape[1])
        else:
            positive = psi > 0
            cell, junction, psi = cell[positive], junction[positive], psi[positive]
            n_zeros = n - torch.bincount(cell, minlength=len(n))
            rest, base = n_zeros.unsqueeze(-1).to(nothing) * nothing, torch.zeros_like(nothing)
        if can_be_summed(psi, self.feature_embedding):
            of_cells = (len(n), self.feature_embedding, network, floors)
            pooled = rest + summed_codes(cell, junction, psi, base.squeeze(0), *of_cells)
        else:
            pooled = self._plain_sum(cell, junction, psi, base, rest)
        if self.pool_mode == "sum":
            return pooled
        if self.centred:  # deviations cancel: their mean would shrink as more is observed
            return pooled / n.clamp(min=1).sqrt().unsqueeze(-1)
        return pooled / n.clamp(min=1).unsqueeze(-1)

    def _plain_sum(
        self,
        cell: torch.Tensor,
        junction: torch.Tensor,
        psi: torch.Tensor,
        base: torch.Tensor,
        pooled: torch.Tensor,
    ) -> torch.Tensor:
        """The sum over entries where no loop is compiled for it, in parts of ``max_nobs``."""
        size = self.max_nobs if self.max_nobs > 0 else max(len(cell), 1)
        for of_cell, of_junction, of_psi in zip(
            *(t.split(size) for t in (cell, junction, psi)), strict=True
        ):
            if size < len(cell) and torch.is_grad_enabled():
                codes = checkpoint(self.codes, of_junction, of_psi, use_reentrant=False)
            else:
                codes = self.codes(of_junction, of_psi)
            pooled = pooled.index_add(0, of_cell, codes - base)
        return pooled

    def codes(self, junction: torch.Tensor, psi: torch.Tensor) -> torch.Tensor:
        """(E, code_dim) codes of entries."""
        return entry_codes(junction, psi, self.feature_embedding, self._network(), self._floors())

    def _network(self) -> Network:
        layers: Any = [self.h_layer[slot] for slot in ("0", "1", "4", "5")]
        return Network(*(p for layer in layers for p in (layer.weight, layer.bias)))

    def _floors(self) -> Floors:
        norms: Any = [self.h_layer[slot] for slot in ("1", "5")]
        hidden, out = norms
        return Floors(NORM_EPS, hidden.eps, out.eps)
