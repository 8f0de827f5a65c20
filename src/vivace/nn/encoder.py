"""From observations to the parameters of a normal posterior."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.distributions import Normal

from vivace.errors import check_choice
from vivace.nn.fc import FCLayers


class Encoder(nn.Module):
    """Amortised posterior q(z | x) = Normal(mean(h), sqrt(var)) with h from fully connected layers.

    Parameters
    ----------
    n_input, n_output
        Number of input features and of latent dimensions.
    n_cat_list, n_layers, n_hidden, dropout_rate
        See :class:`~vivace.nn.FCLayers`.
    distribution
        "normal", or "ln" (logistic normal: the sample goes through a softmax).
    var_eps
        Added to every variance.
    var_activation
        Maps the raw output to a positive variance; default ``exp``.
    **fc_kwargs
        To :class:`~vivace.nn.FCLayers`.

    Examples
    --------
    >>> import torch
    >>> qz, z = Encoder(20, 3)(torch.rand(4, 20))
    >>> qz.mean.shape, z.shape
    (torch.Size([4, 3]), torch.Size([4, 3]))
    """

    def __init__(
        self,
        n_input: int,
        n_output: int,
        n_cat_list: Sequence[int] | None = None,
        n_layers: int = 1,
        n_hidden: int = 128,
        dropout_rate: float = 0.1,
        distribution: str = "normal",
        var_eps: float = 1e-4,
        var_activation: Callable[[torch.Tensor], torch.Tensor] | None = None,
        **fc_kwargs,
    ):
        super().__init__()
        check_choice("distribution", distribution, ("normal", "ln"))
        self.distribution = distribution
        self.var_eps = var_eps
        self.var_activation = torch.exp if var_activation is None else var_activation
        self.encoder = FCLayers(
            n_input,
            n_hidden,
            n_cat_list=n_cat_list,
            n_layers=n_layers,
            n_hidden=n_hidden,
            dropout_rate=dropout_rate,
            **fc_kwargs,
        )
        self.mean_encoder = nn.Linear(n_hidden, n_output)
        self.var_encoder = nn.Linear(n_hidden, n_output)

    def z_transformation(self, u: torch.Tensor) -> torch.Tensor:
        """From the normal variable to the latent one: softmax for "ln", else itself."""
        return torch.softmax(u, dim=-1) if self.distribution == "ln" else u

    def forward(
        self, x: torch.Tensor, *cats: torch.Tensor | None, cont: torch.Tensor | None = None
    ) -> tuple[Normal, torch.Tensor]:
        """Posterior and one reparametrised sample.

        Parameters
        ----------
        x
            (B, n_input) dense or CSR, or (S, B, n_input).
        cats, cont
            Covariates, see :meth:`FCLayers.forward`.

        Returns
        -------
        qz
            Normal with (B, L) parameters, before the "ln" transformation.
        z
            (B, L) sample after it.
        """
        h = self.encoder(x, *cats, cont=cont)
        variance = self.var_activation(self.var_encoder(h)) + self.var_eps
        qz = Normal(self.mean_encoder(h), variance.sqrt(), validate_args=False)
        return qz, self.z_transformation(qz.rsample())
