"""Priors of a normal latent space: the standard normal, and mixtures learned from pseudo-inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributions import Normal

from vivace.kernels.csr import to_dense
from vivace.nn.gaussian import GaussianLayers


class StandardPrior(nn.Module):
    """N(0, 1) in every dimension.

    Examples
    --------
    >>> import torch
    >>> qz = Normal(torch.zeros(2, 3), torch.ones(2, 3))
    >>> StandardPrior().kl(qz, qz.loc)
    tensor([0., 0.])
    """

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """Log density summed over dimensions: (..., L) to (...), nats."""
        return (
            Normal(torch.zeros_like(z), torch.ones_like(z), validate_args=False).log_prob(z).sum(-1)
        )

    def kl(self, qz: Normal, z: torch.Tensor) -> torch.Tensor:
        """KL(qz || N(0, 1)) in closed form, (B,) nats."""
        return standard_normal_divergence(qz)


def standard_normal_divergence(q: Normal) -> torch.Tensor:
    """KL(q || N(0, 1)) summed over the last axis: (..., L) parameters to (...), nats.

    Examples
    --------
    >>> import torch
    >>> standard_normal_divergence(Normal(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.5])))
    tensor(0.8181)
    """
    return ((q.loc.square() + q.scale.square() - 1) / 2 - q.scale.log()).sum(-1)


class VampPrior(nn.Module):
    """Mixture of the posteriors of K pseudo-inputs (Tomczak & Welling 2018, VAE with a VampPrior).

    By default every latent dimension has a mixture of its own, ``Π_l Σ_k w_k N(z_l; m_kl, s_kl²)``,
    as in the published SysVI; ``joint=True`` is the mixture of the paper, ``Σ_k w_k Π_l N(...)``.

    Parameters
    ----------
    encoder
        Gives the components; it is used, in evaluation mode, and not owned.
    u
        (K, G) pseudo-inputs to start from, dense or CSR.
    codes
        (K, n) int64, codes of each categorical covariate the encoder takes; they stay as they are.
    u_cont
        (K, n_cont) continuous covariates to start from.
    trainable
        Whether pseudo-inputs and continuous covariates are trained; the weights always are.
    joint
        One mixture over all dimensions.
    std_as_variance
        Take the encoder's standard deviations for variances, as scvi-tools does.

    References
    ----------
    Tomczak & Welling 2018, VAE with a VampPrior, AISTATS.
    """

    def __init__(
        self,
        encoder: GaussianLayers,
        u: torch.Tensor,
        codes: torch.Tensor,
        u_cont: torch.Tensor | None = None,
        *,
        trainable: bool = True,
        joint: bool = False,
        std_as_variance: bool = False,
    ):
        super().__init__()
        self._encoder = (encoder,)  # in a tuple: its weights belong to the module, not to the prior
        self.joint = joint
        self.std_as_variance = std_as_variance
        self.u = nn.Parameter(to_dense(u).clone(), requires_grad=trainable)
        self.u_cont = (
            None if u_cont is None else nn.Parameter(u_cont.clone(), requires_grad=trainable)
        )
        self.w = nn.Parameter(torch.zeros(len(self.u), 1, 1))
        self.codes: torch.Tensor
        self.register_buffer("codes", codes.clone())

    @torch.no_grad()
    def set_inputs(
        self, u: torch.Tensor, codes: torch.Tensor, u_cont: torch.Tensor | None = None
    ) -> None:
        """Replace the pseudo-inputs and their covariates by others of the same shapes."""
        self.u.copy_(to_dense(u))
        self.codes.copy_(codes)
        if self.u_cont is not None and u_cont is not None:
            self.u_cont.copy_(u_cont)

    def components(self) -> Normal:
        """The K components, a normal with (K, L) parameters."""
        encoder = self._encoder[0]
        was_training = encoder.training
        encoder.train(False)  # pseudo-inputs must not move the statistics of batch normalisation
        posterior = encoder(self.u, *self.codes.split(1, dim=1), cont=self.u_cont)
        encoder.train(was_training)
        scale = posterior.scale.sqrt() if self.std_as_variance else posterior.scale
        return Normal(posterior.loc, scale, validate_args=False)

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """Log density: (..., L) to (...), nats."""
        log_w = torch.log_softmax(self.w.flatten(), dim=0)
        of_component = self.components().log_prob(z.unsqueeze(-2))  # (..., K, L)
        if self.joint:
            return torch.logsumexp(of_component.sum(-1) + log_w, dim=-1)
        return torch.logsumexp(of_component + log_w.unsqueeze(-1), dim=-2).sum(-1)

    def kl(self, qz: Normal, z: torch.Tensor) -> torch.Tensor:
        """``log q(z) - log p(z)`` at one sample, an unbiased estimate of the divergence, (B,) nats."""
        return qz.log_prob(z).sum(-1) - self.log_prob(z)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # published checkpoints hold the codes as one-hots, and a second copy of the encoder
        old = sorted(
            (key for key in state_dict if key.startswith(f"{prefix}u_cat.")),
            key=lambda key: int(key.rsplit(".", 1)[1]),
        )
        if old:
            codes = [state_dict.pop(key).argmax(-1) for key in old]
            state_dict[f"{prefix}codes"] = torch.stack(codes, dim=1)
        for key in [k for k in state_dict if k.startswith(f"{prefix}encoder.")]:
            del state_dict[key]
        super()._load_from_state_dict(state_dict, prefix, *args)
