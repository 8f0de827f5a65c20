"""The spatial model of deconvolution: each spot a mixture of cell types in unknown states (DestVI)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.distributions import Beta, Normal
from torch.nn import functional as F

from vivace._ranks import as_of_all, mean_of_parts, sum_of_parts
from vivace._types import Keys, Minibatch
from vivace.errors import InvalidArgumentError, UnsupportedError, check_choice
from vivace.kernels import count_log_likelihood
from vivace.kernels.csr import to_dense
from vivace.kernels.draws import draw_negative_binomial
from vivace.modules.base import BaseModule, LossOutput
from vivace.modules.simulated_spots import draw_proportions, mix_profiles
from vivace.nn import Encoder, FCLayers, standard_normal_divergence
from vivace.nn.mixture import mixture_of_softmaxes, softmax_of_type

AMORTIZATIONS = ("none", "latent", "proportion", "both")
PRIOR_MODES = ("mog", "normal")
COMPATS = (None, "scvi-tools")
STD_FLOOR = 1e-4
"""Added to the standard deviations of the prior's components."""
MIXING = (0.4, 0.5)
"""Parameters of the Beta distribution of the simulated share of a half-simulated spot."""
POOL_SIZE = 16
"""States of each type that are decoded in a step, for its simulated spots to choose from."""
PRIOR_SPOTS = 32
"""Observed spots that weigh as much as the assumption that all types are equally frequent."""
SHARES_MOMENTUM = 0.02
"""Weight of a minibatch in the running mean of the proportions found."""
EXTRA_DEPTH = 50.0
"""Counts by which a fully simulated spot exceeds the observed one."""


class MRDeconv(BaseModule):
    """Spots as mixtures of cell types, each type in a state of its own (the spatial half of DestVI).

    A spot's expected expression is ``library * sum_c v_c * rho_c(gamma_c)``: ``v`` are proportions of
    counts, ``rho_c`` is the frozen decoder of :class:`~vivace.modules.VAEC` for type c, ``gamma_c`` the
    state. ``add_celltypes`` further programmes take what no type explains, and ``beta`` is a factor of
    each gene between the two technologies.

    Parameters
    ----------
    n_spots, n_labels, n_batch, n_hidden, n_layers, n_latent, n_genes
        Sizes: spots N, types C, batches (0 counts as 1), hidden units, layers, latent dimensions L, genes G.
    decoder_state_dict, px_decoder_state_dict
        Of the trained VAEC's ``decoder`` and ``px_decoder``; both stay as they are.
    px_r
        (G,) log inverse dispersion of the VAEC; trained on.
    per_ct_bias
        (C, G) bias of the VAEC.
    dropout_decoder
        Dropout in the frozen decoder while training.
    dropout_amortization
        Dropout of the encoder of states.
    augmentation
        Train on simulated spots as well.
    n_samples_augmentation
        Simulated spots for each observed one.
    n_states_per_label
        States K of a type within a spot, for ``prior_mode="mog"``.
    eps_v
        Added to every proportion while training.
    mean_vprior, var_vprior, mp_vprior
        (C, P, L), (C, P, L), (C, P): mixture that is the prior of a type's states; None: N(0, 1).
    amortization
        What encoders give rather than free parameters of each spot: "none", "latent" (states),
        "proportion", "both".
    prior_mode
        "mog": K weighted states a type; "normal": one.
    add_celltypes
        Further programmes A.
    n_latent_amortization
        Latent dimensions that both encoders share; None: they see the counts.
    extra_encoder_kwargs, extra_decoder_kwargs
        To the encoder of that latent and to the decoder.
    concentration
        Smallest and largest concentration, a type on average, of the Dirichlet distribution that the
        proportions of simulated spots are drawn from, > 0. Its means follow the proportions found in the
        observed spots (the buffer ``mean_shares``), as those of a prior learned from the data.
    batch_embedding
        (n_batch, 5) batch vectors to start from: those the decoder was trained with.
    compat
        "scvi-tools" gives that library's choices: batch vectors drawn anew, ``eta_reg`` summed over the
        minibatch, prior variances taken as standard deviations; concentration 0.03 with equal means,
        copies that blend observed with simulated counts, and simulated spots reconstructed too.

    Raises
    ------
    InvalidArgumentError
        If an option is not known, or "mog" lacks amortised states.

    References
    ----------
    Lopez et al. 2022, DestVI identifies continuums of cell types in spatial transcriptomics data,
    Nat Biotechnol; the mixture of states and the simulated spots as in scvi-tools 1.4.

    Examples
    --------
    >>> import torch
    >>> from vivace.modules import VAEC
    >>> vaec = VAEC(n_input=50, n_labels=3)
    >>> spatial = MRDeconv(
    ...     n_spots=8,
    ...     n_labels=3,
    ...     n_batch=1,
    ...     n_hidden=128,
    ...     n_layers=2,
    ...     n_latent=5,
    ...     n_genes=50,
    ...     decoder_state_dict=vaec.decoder.state_dict(),
    ...     px_decoder_state_dict=vaec.px_decoder.state_dict(),
    ...     px_r=vaec.px_r,
    ...     per_ct_bias=vaec.per_ct_bias,
    ...     dropout_decoder=0.05,
    ... )
    >>> spots = {
    ...     "X": torch.poisson(torch.ones(8, 50)),
    ...     "batch": torch.zeros(8, 1, dtype=torch.long),
    ...     "ind_x": torch.arange(8).unsqueeze(1),
    ... }
    >>> *_, losses = spatial(spots)
    >>> losses.loss.backward()
    """

    mean_vprior: torch.Tensor
    var_vprior: torch.Tensor
    mp_vprior: torch.Tensor

    def __init__(
        self,
        n_spots: int,
        n_labels: int,
        n_batch: int,
        n_hidden: int,
        n_layers: int,
        n_latent: int,
        n_genes: int,
        decoder_state_dict: Mapping[str, torch.Tensor],
        px_decoder_state_dict: Mapping[str, torch.Tensor],
        px_r: torch.Tensor,
        per_ct_bias: torch.Tensor,
        dropout_decoder: float,
        dropout_amortization: float = 0.03,
        augmentation: bool = True,
        n_samples_augmentation: int = 2,
        n_states_per_label: int = 3,
        eps_v: float = 2e-3,
        mean_vprior: np.ndarray | None = None,
        var_vprior: np.ndarray | None = None,
        mp_vprior: np.ndarray | None = None,
        amortization: str = "both",
        prior_mode: str = "mog",
        add_celltypes: int = 1,
        n_latent_amortization: int | None = None,
        extra_encoder_kwargs: dict | None = None,
        extra_decoder_kwargs: dict | None = None,
        *,
        batch_embedding: torch.Tensor | None = None,
        concentration: Sequence[float] = (0.05, 0.3),
        compat: str | None = None,
    ):
        super().__init__()
        check_choice("amortization", amortization, AMORTIZATIONS)
        check_choice("prior_mode", prior_mode, PRIOR_MODES)
        check_choice("compat", compat, COMPATS)
        self.amortizes_states = amortization in ("latent", "both")
        self.amortizes_proportions = amortization in ("proportion", "both")
        if prior_mode == "mog" and not self.amortizes_states:
            msg = (
                f'prior_mode="mog" needs amortization="latent" or "both", got "{amortization}"; '
                'use prior_mode="normal" with free states'
            )
            raise InvalidArgumentError(msg)
        self.n_spots = n_spots
        self.n_labels = n_labels
        self.n_batch = max(n_batch, 1)
        self.n_latent = n_latent
        self.n_genes = n_genes
        self.augmentation = augmentation
        self.n_samples_augmentation = n_samples_augmentation
        self.n_states = n_states_per_label if prior_mode == "mog" else 1
        self.eps_v = eps_v
        self.amortization = amortization
        self.prior_mode = prior_mode
        self.add_celltypes = add_celltypes
        self.n_latent_amortization = n_latent_amortization
        self._choose(compat, concentration)

        self._build_frozen_decoder(
            n_hidden, n_layers, dropout_decoder, extra_decoder_kwargs or {}, decoder_state_dict
        )
        self.px_decoder.load_state_dict(px_decoder_state_dict)
        self.register_buffer("per_ct_bias", per_ct_bias.detach().clone())
        self._register_prior(mean_vprior, var_vprior, mp_vprior)
        if batch_embedding is not None and not self.own_batch_vectors:
            with torch.no_grad():
                self.get_embedding("batch").weight.copy_(batch_embedding)

        self.mean_shares: torch.Tensor
        of_types = torch.full((n_labels,), 1 / n_labels)
        self.register_buffer("mean_shares", of_types, persistent=compat is None)
        self.px_r = nn.Parameter(px_r.detach().clone())
        if add_celltypes > 0:
            self.eta = nn.Parameter(torch.zeros(add_celltypes, n_genes))
        self.beta = nn.Parameter(torch.zeros(n_genes))
        n_types = n_labels + add_celltypes
        if not self.amortizes_proportions:
            self.V = nn.Parameter(torch.randn(n_types, n_spots))
        if not self.amortizes_states:
            self.gamma = nn.Parameter(torch.randn(n_latent, n_labels, n_spots))
        self._build_encoders(
            n_hidden, n_layers, dropout_amortization, n_types, extra_encoder_kwargs or {}
        )

    def _choose(self, compat: str | None, concentration: Sequence[float]) -> None:
        """What compat decides, in one place."""
        published = compat == "scvi-tools"
        self.compat = compat
        self.own_batch_vectors = published
        self.sums_programmes_over_minibatch = published
        self.takes_variance_as_std = published and self.prior_mode == "mog"
        self.reconstructs_simulated = published
        self.blends = published
        low, high = (0.03, 0.03) if published else concentration
        self.concentration = (float(low), float(high))

    def _build_frozen_decoder(self, n_hidden, n_layers, dropout, extra, state_dict) -> None:
        self.init_embedding("batch", self.n_batch)
        self.decoder = FCLayers(
            self.n_latent + self.get_embedding("batch").embedding_dim,
            n_hidden,
            n_cat_list=[self.n_labels],
            n_layers=n_layers,
            n_hidden=n_hidden,
            dropout_rate=dropout,
            **{"use_batch_norm": False, "use_layer_norm": True, **extra},
        )
        self.px_decoder = nn.Linear(n_hidden, self.n_genes)
        self.decoder.load_state_dict(state_dict)
        self.decoder.requires_grad_(False)
        self.px_decoder.requires_grad_(False)

    def _register_prior(self, mean, variance, weights) -> None:
        self.has_prior = mean is not None
        for name, value in (
            ("mean_vprior", mean),
            ("var_vprior", variance),
            ("mp_vprior", weights),
        ):
            self.register_buffer(
                name, None if value is None else torch.as_tensor(np.asarray(value)).float().clone()
            )

    def _build_encoders(self, n_hidden, n_layers, dropout, n_types, extra) -> None:
        """Encoders of proportions and of states, and the latent they may share."""
        layers = {"n_hidden": n_hidden, "use_batch_norm": False, "use_layer_norm": True}
        n_input = self.n_genes
        if self.n_latent_amortization is not None:
            n_input = self.n_latent_amortization
            self.z_encoder = Encoder(
                self.n_genes,
                n_input,
                n_cat_list=[self.n_batch],
                n_layers=n_layers,
                var_activation=F.softplus,
                **{**layers, **extra},
            )
        if self.amortizes_states:
            n_states = self.n_states * self.n_labels * self.n_latent
            n_logits = self.n_states * self.n_labels if self.prior_mode == "mog" else 0
            self.gamma_encoder = nn.Sequential(
                FCLayers(n_input, n_hidden, n_layers=2, dropout_rate=dropout, **layers),
                nn.Linear(n_hidden, n_states + n_logits),
            )
        if self.amortizes_proportions:
            self.V_encoder = nn.Sequential(
                FCLayers(n_input, n_hidden, n_layers=n_layers, dropout_rate=0.0, **layers),
                nn.Linear(n_hidden, n_types),
            )

    # inference ----------------------------------------------------------------------------------

    @property
    def capturable(self) -> bool:
        """No: spots are simulated for the batches that a minibatch happens to have."""
        return False

    def _get_inference_input(self, tensors: Minibatch) -> dict:
        x = to_dense(tensors[Keys.X])
        observed = [x]
        if Keys.X_SMOOTHED in tensors:
            observed.append(to_dense(tensors[Keys.X_SMOOTHED]))
        x = torch.stack(observed)
        inputs: dict[str, Any] = {"x_augmented": x, "batch_index": tensors[Keys.BATCH]}
        if self.augmentation and self.training and self.n_samples_augmentation > 0:
            inputs |= self._simulate(x, tensors[Keys.BATCH])
        return inputs

    @torch.no_grad()
    def _simulate(self, observed: torch.Tensor, batch_index: torch.Tensor) -> dict:
        """Arguments of :meth:`inference` with simulated spots behind the observed (S0, B, G).

        Every simulated spot takes the depth of an observed one. Under compat, all but the first copy
        are blends of the observed and the simulated counts.
        """
        n_new, (n_seen, n_spots) = self.n_samples_augmentation, observed.shape[:2]
        slots, n_types = (n_new, n_spots), self.n_labels
        ratios = draw_proportions(n_new * n_spots, self._expected_shares(), self.concentration)
        pool, profiles, group = self._state_pool(batch_index)
        chosen = torch.randint(POOL_SIZE, ratios.shape, device=observed.device)
        scale = mix_profiles(profiles, ratios, chosen, group.repeat(n_new)).unflatten(0, slots)
        states = pool[chosen, torch.arange(n_types, device=observed.device)].unflatten(0, slots)
        share = observed.new_ones(*slots, 1)
        depth = observed[0].sum(-1, keepdim=True).repeat(n_new, 1, 1)
        if self.blends:
            share[1:] = Beta(*MIXING).sample((n_new - 1, n_spots, 1)).to(share)
            depth[0] += EXTRA_DEPTH
        counts = draw_negative_binomial(depth * scale, torch.exp(self.px_r))
        seen = {
            "x_augmented": observed,
            "prior_sampled": observed.new_zeros(n_seen, n_spots * n_types, self.n_latent),
            "ratios_ct_augmentation": observed.new_zeros(n_seen, n_spots, n_types),
            "ratio_augmentation": observed.new_zeros(n_seen, n_spots, 1),
        }
        new = {
            "x_augmented": (1 - share) * observed[0] + share * counts,
            "prior_sampled": states.flatten(1, 2),
            "ratios_ct_augmentation": ratios.unflatten(0, slots),
            "ratio_augmentation": share,
        }
        return {name: torch.cat([seen[name], new[name]]) for name in seen}

    def _expected_shares(self) -> torch.Tensor:
        """(C,) mean proportions of simulated spots: those of the observed, as far as there are many."""
        uniform = torch.full_like(self.mean_shares, 1 / self.n_labels)
        if self.blends:  # as published
            return uniform
        return uniform.lerp(self.mean_shares, self.n_spots / (self.n_spots + PRIOR_SPOTS))

    @torch.no_grad()
    def _follow_shares(self, v: torch.Tensor) -> None:
        """Let the running mean follow the proportions (B, C+A) of observed spots."""
        shares = mean_of_parts(v[:, : self.n_labels].to(self.mean_shares).mean(0))
        self.mean_shares.lerp_(shares / shares.sum(), SHARES_MOMENTUM)

    def _state_pool(
        self, batch_index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """States (P, C, L) that the simulated spots of a step share, and their expression.

        The latter, (n, C, P, G), in each of the n batches at hand; and (B,) which of them a spot is of.
        """
        of_spots = batch_index.flatten()
        # of all processes that share the minibatch, as batch norms of the decoder meet at each batch
        at_hand = sum_of_parts(
            self.mean_shares.new_zeros(self.n_batch).index_fill(0, of_spots, 1.0)
        )
        batches = at_hand.nonzero().flatten()
        group = torch.searchsorted(batches, of_spots)
        pool = self.sample_prior(POOL_SIZE)
        bias = self._type_bias() + self.beta
        of_batches = []
        for batch in batches:
            h = self._hidden(pool.unsqueeze(0), batch.expand(POOL_SIZE, 1))
            of_types = [
                softmax_of_type(h[:, :, c], self.px_decoder.weight, bias[c])[0]
                for c in range(self.n_labels)
            ]
            of_batches.append(torch.stack(of_types))
        return pool, torch.stack(of_batches), group

    def sample_prior(self, n: int) -> torch.Tensor:
        """States (n, C, L) of every type from its prior."""
        if not self.has_prior:
            return torch.randn(n, self.n_labels, self.n_latent, device=self.device)
        chosen = torch.multinomial(self.mp_vprior, n, replacement=True)  # (C, n)
        types = torch.arange(self.n_labels, device=self.device).unsqueeze(1)
        std = self.var_vprior[types, chosen].sqrt() + STD_FLOOR
        return torch.normal(self.mean_vprior[types, chosen], std).transpose(0, 1)

    def inference(
        self,
        x_augmented: torch.Tensor,
        batch_index: torch.Tensor,
        n_samples: int = 1,
        prior_sampled: torch.Tensor | None = None,
        ratios_ct_augmentation: torch.Tensor | None = None,
        ratio_augmentation: torch.Tensor | None = None,
    ) -> dict:
        """What the encoders of states and of proportions see.

        Parameters
        ----------
        x_augmented
            (S, B, G) observed, then simulated counts, dense.
        batch_index
            (B, 1) batch codes.
        n_samples
            Not used; the spatial model is not sampled.
        prior_sampled, ratios_ct_augmentation, ratio_augmentation
            (S, B * C, L), (S, B, C), (S, B, 1): states, proportions and share of the simulation in each
            slot; None without simulated spots.

        Returns
        -------
        dict with ``z`` (S, B, G), log1p counts, or (S, B, M) with a shared latent; ``qz`` its Normal;
        ``library`` (S, B, 1) total counts; and the arguments.
        """
        z = torch.log1p(x_augmented)
        if self.n_latent_amortization is None:
            qz = Normal(z, torch.full_like(z, 1e-6), validate_args=False)
        else:
            qz, z = self.z_encoder(z, batch_index)
        return {
            "z": z,
            "qz": qz,
            "library": x_augmented.sum(-1, keepdim=True),
            "x_augmented": x_augmented,
            "prior_sampled": prior_sampled,
            "ratios_ct_augmentation": ratios_ct_augmentation,
            "ratio_augmentation": ratio_augmentation,
        }

    # generative ---------------------------------------------------------------------------------

    def _get_generative_input(self, tensors: Minibatch, inference_outputs: dict) -> dict:
        return {
            "z": inference_outputs["z"],
            "ind_x": tensors[Keys.CELL_INDEX],
            "library": inference_outputs["library"],
            "batch_index": tensors[Keys.BATCH],
            "n_reconstructed": self._n_reconstructed(inference_outputs),
        }

    def _n_reconstructed(self, inference_outputs: dict) -> int:
        """Slots whose counts are reconstructed: the observed ones; all of them under compat."""
        share = inference_outputs["ratio_augmentation"]
        if share is None or self.reconstructs_simulated:
            return inference_outputs["x_augmented"].shape[0]
        return share.shape[0] - self.n_samples_augmentation

    def generative(
        self,
        z: torch.Tensor,
        ind_x: torch.Tensor,
        library: torch.Tensor,
        batch_index: torch.Tensor,
        *,
        n_reconstructed: int | None = None,
    ) -> dict:
        """Proportions, states and expected counts.

        Parameters
        ----------
        z
            (S, B, M) input of the encoders.
        ind_x
            (B, 1) number of each spot.
        library
            (S, B, 1) total counts.
        batch_index
            (B, 1) batch codes.
        n_reconstructed
            Number R of leading slots whose expected counts are computed; default all.

        Returns
        -------
        dict with ``v`` (S, B, C+A) and ``log_v``; ``gamma`` (S, K, L, C, B); ``proportion_modes`` and
        ``proportion_modes_logits`` (S, K, B, C); ``px_scale`` and ``px_rate`` (R, B, G); ``px_r`` (G,)
        inverse dispersion; and, in evaluation mode only, ``px_mu`` (R, B, C+A, G), the expression of
        every type, which training never forms.
        """
        n_slots = z.shape[0] if n_reconstructed is None else n_reconstructed
        log_v = torch.log_softmax(self.proportion_logits(z, ind_x), dim=-1)
        gamma, logits = self.states(z, ind_x)
        modes = torch.softmax(logits, dim=1)
        v = log_v.exp()
        outputs = {
            "px_r": torch.exp(self.px_r),
            "v": v,
            "log_v": log_v,
            "gamma": gamma,
            "proportion_modes": modes,
            "proportion_modes_logits": logits,
        }
        if self.training:
            self._follow_shares(v[0])
            scale = torch.stack(
                [
                    self._spot_scale(gamma[s], modes[s], v[s] + self.eps_v, batch_index)
                    for s in range(n_slots)
                ]
            )
        else:
            outputs["px_mu"] = torch.stack(
                [self.type_expression(gamma[s], modes[s], batch_index) for s in range(n_slots)]
            )
            scale = torch.einsum("sbc,sbcg->sbg", v[:n_slots], outputs["px_mu"])
        return {**outputs, "px_scale": scale, "px_rate": library[:n_slots] * scale}

    def proportion_logits(self, z: torch.Tensor, ind_x: torch.Tensor) -> torch.Tensor:
        """(S, B, C+A); their softmax are the proportions."""
        if self.amortizes_proportions:
            return self.V_encoder(z)
        return self.V[:, ind_x.flatten()].t().expand(z.shape[0], -1, -1)

    def states(self, z: torch.Tensor, ind_x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """States (S, K, L, C, B) and logits of their weights (S, K, B, C)."""
        n_slots, n_spots = z.shape[:2]
        k, d, c = self.n_states, self.n_latent, self.n_labels
        if not self.amortizes_states:
            free = self.gamma[:, :, ind_x.flatten()]
            return free.expand(n_slots, 1, -1, -1, -1), z.new_zeros(n_slots, 1, n_spots, c)
        raw = self.gamma_encoder(z)  # (S, B, K*L*C [+ K*C])
        gamma = raw[..., : k * d * c].unflatten(-1, (k, d, c)).permute(0, 2, 3, 4, 1)
        if self.prior_mode == "normal":
            return gamma, z.new_zeros(n_slots, 1, n_spots, c)
        return gamma, raw[..., k * d * c :].unflatten(-1, (k, c)).permute(0, 2, 1, 3)

    def _hidden(
        self, gamma: torch.Tensor, batch_index: torch.Tensor, types: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Last hidden layer (K, B, C, H) of states (K, B, C, L) of types (C,), by default all."""
        k, b, c = gamma.shape[:3]
        if types is None:
            types = torch.arange(c, device=gamma.device)
        vectors = self.compute_embedding("batch", batch_index)[:, None].expand(k, b, c, -1)
        y = types.repeat(k * b).unsqueeze(1)
        h = self.decoder(torch.cat([gamma, vectors], dim=-1).flatten(0, 2), y)
        return h.unflatten(0, (k, b, c))

    def _type_bias(self) -> torch.Tensor:
        return self.per_ct_bias + self.px_decoder.bias

    def _mix(
        self, gamma: torch.Tensor, weights: torch.Tensor, batch_index: torch.Tensor
    ) -> torch.Tensor:
        """(B, G) sum over states (K, B, C, L) of weights (K, B, C) times normalised expression."""
        h = self._hidden(gamma, batch_index)
        return mixture_of_softmaxes(
            h, weights, self.px_decoder.weight, self._type_bias(), self.beta
        )

    def _spot_scale(self, gamma, modes, v, batch_index) -> torch.Tensor:
        """(B, G) expected share of each gene in the counts of a spot."""
        weights = modes * v[:, : self.n_labels]
        of_types = self._mix(gamma.permute(0, 3, 2, 1), weights, batch_index)
        if self.add_celltypes == 0:
            return of_types
        return of_types + v[:, self.n_labels :] @ torch.softmax(self.eta, dim=-1)

    def type_expression(
        self, gamma: torch.Tensor, modes: torch.Tensor, batch_index: torch.Tensor
    ) -> torch.Tensor:
        """Normalised expression of every type and programme in each spot, (B, C+A, G).

        Parameters
        ----------
        gamma
            (K, L, C, B) states.
        modes
            (K, B, C) their weights.
        batch_index
            (B, 1) batch codes.
        """
        of_types = [
            self.expression_of_type(c, gamma, modes, batch_index) for c in range(self.n_labels)
        ]
        if self.add_celltypes > 0:
            programmes = torch.softmax(self.eta, dim=-1).unsqueeze(1)  # the same in every spot
            of_types += list(programmes.expand(-1, gamma.shape[-1], -1))
        return torch.stack(of_types, dim=1)

    def expression_of_type(
        self, code: int, gamma: torch.Tensor, modes: torch.Tensor, batch_index: torch.Tensor
    ) -> torch.Tensor:
        """Normalised expression of one type in each spot, (B, G); see :meth:`type_expression`."""
        states = gamma[:, :, code].transpose(1, 2).unsqueeze(2)  # (K, B, 1, L)
        types = torch.full((1,), code, device=gamma.device)
        h = self._hidden(states, batch_index, types)[:, :, 0]
        bias = self._type_bias()[code] + self.beta
        scale = softmax_of_type(h, self.px_decoder.weight, bias)  # (K, B, G)
        return (modes[:, :, code, None] * scale).sum(0)

    # loss ---------------------------------------------------------------------------------------

    def loss(
        self,
        tensors: Minibatch,
        inference_outputs: dict,
        generative_outputs: dict,
        kl_weight: float | torch.Tensor = 1.0,
        ct_sparsity_weight: float = 2.0,
        weighting_augmentation: float = 100.0,
        weighting_smoothing: float = 100.0,
        eta_reg: float = 1.0,
        beta_reg: float = 1.0,
        weighting_kl_latent: float = 1e-3,
        reconst_weight: float = 3.0,
    ) -> LossOutput:
        """Penalised negative log-likelihood of spots.

        Mean over slots and spots of ``reconst_weight * R + kl_weight * (P + sparsity)``, plus the
        penalty of ``beta`` and the divergences of proportions, in nats. P is minus the log density of
        the states under their prior.

        Parameters
        ----------
        tensors
            Minibatch.
        inference_outputs, generative_outputs
            Of :meth:`inference` and :meth:`generative`.
        kl_weight
            Weight of prior and sparsity, >= 0.
        ct_sparsity_weight
            Of the entropy of the proportions of the observed spot.
        weighting_augmentation
            Of the divergence of the proportions found in simulated spots from the true ones.
        weighting_smoothing
            Of the divergence of the proportions found in smoothed from those in observed spots.
        eta_reg
            Of the proportions of the further programmes.
        beta_reg
            Of the N(0, 1) prior of the technology factors.
        weighting_kl_latent
            Of the divergence of the shared latent.
        reconst_weight
            Of the negative log-likelihood R.
        """
        log_v, v = generative_outputs["log_v"], generative_outputs["v"]
        reconstruction = self._reconstruction(tensors, inference_outputs, generative_outputs)
        prior = self._negative_log_prior(inference_outputs, generative_outputs)
        if self.n_latent_amortization is not None:
            latent = standard_normal_divergence(inference_outputs["qz"])
            prior = prior + weighting_kl_latent * latent
        entropy = -(v[0] * log_v[0]).sum(-1)
        extra = v[0, :, self.n_labels :].sum(-1)
        if self.sums_programmes_over_minibatch:
            extra = as_of_all(extra.sum())
        sparsity = ct_sparsity_weight * entropy + eta_reg * extra
        global_prior = -beta_reg * Normal(0.0, 1.0).log_prob(self.beta).sum()
        augmentation = self._proportion_divergence(
            tensors, inference_outputs, log_v, weighting_augmentation, weighting_smoothing
        )
        loss = (
            reconst_weight * reconstruction.mean()
            + kl_weight * (prior.mean() + sparsity.mean())
            + global_prior
            + augmentation
        )
        return LossOutput(
            loss=loss,
            reconstruction_loss=reconstruction,
            kl_local=prior[: self._n_observed(tensors)].mean(0),
            kl_global=global_prior,
            extra_metrics={
                "v_sparsity": sparsity.mean(),
                "augmentation": torch.as_tensor(augmentation),
            },
            n_obs_minibatch=v.shape[1],
        )

    @staticmethod
    def _n_observed(tensors: Minibatch) -> int:
        return 2 if Keys.X_SMOOTHED in tensors else 1

    def _reconstruction(self, tensors, inference_outputs, generative_outputs) -> torch.Tensor:
        """(B,) negative log-likelihood, mean over the slots that are reconstructed."""
        rates = generative_outputs["px_rate"]
        slots = list(inference_outputs["x_augmented"][: len(rates)])
        slots[0] = tensors[Keys.X]  # as it came: CSR goes to the sparse kernel
        no_library = rates.new_zeros(1, 1)
        of_slots = [
            count_log_likelihood(x, rate, no_library, self.px_r, scale="identity")
            for x, rate in zip(slots, rates, strict=True)
        ]
        return -torch.stack(of_slots).mean(0)

    def _negative_log_prior(
        self, inference_outputs: dict, generative_outputs: dict
    ) -> torch.Tensor:
        """(S, B) minus the log density of the states, nats."""
        gamma = generative_outputs["gamma"].permute(0, 1, 4, 3, 2)  # (S, K, B, C, L)
        if not self.has_prior:
            return -Normal(0.0, 1.0).log_prob(gamma).sum((-1, -2)).mean(1)
        if self.prior_mode == "normal":
            of_component = self._component_log_prob(gamma[:, 0], self._prior_std())
            return -torch.logsumexp(of_component + torch.log(self.mp_vprior + 1e-3), -1).sum(-1)
        log_prior = self._mixture_log_prob(inference_outputs, gamma)
        v = generative_outputs["v"][..., : self.n_labels]
        weights = generative_outputs["proportion_modes"] + 1e-6
        return -((v + 1e-3) * (weights * log_prior).sum(1)).sum(-1)

    def _prior_std(self) -> torch.Tensor:
        """(C, P, L); scvi-tools takes variances for standard deviations in "mog" mode."""
        if self.takes_variance_as_std:
            return self.var_vprior
        return self.var_vprior.sqrt() + STD_FLOOR

    def _component_log_prob(self, gamma: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        """(..., C, P) log density of states (..., C, L) under each component of their type."""
        components = Normal(self.mean_vprior, std, validate_args=False)
        return components.log_prob(gamma.unsqueeze(-2)).sum(-1)

    def _mixture_log_prob(self, inference_outputs: dict, gamma: torch.Tensor) -> torch.Tensor:
        """(S, K, B, C) log density; in a simulated spot its true state is one more component."""
        std = self._prior_std()
        of_component = self._component_log_prob(gamma, std)  # (S, K, B, C, P)
        weights: torch.Tensor = self.mp_vprior
        share = inference_outputs["ratio_augmentation"]
        if share is not None:
            n_slots, _, n_spots, n_types, n_latent = gamma.shape
            true_states = inference_outputs["prior_sampled"].view(
                n_slots, 1, n_spots, n_types, n_latent
            )
            narrowest = std.min(dim=1).values  # (C, L)
            at_truth = Normal(true_states, narrowest, validate_args=False).log_prob(gamma).sum(-1)
            of_component = torch.cat([of_component, at_truth.unsqueeze(-1)], dim=-1)
            known = share * inference_outputs["ratios_ct_augmentation"]  # (S, B, C)
            spread = (1 - share).unsqueeze(-1) * weights  # (S, B, C, P)
            weights = torch.cat([spread, known.unsqueeze(-1)], dim=-1)
            weights = weights / weights.sum(-1, keepdim=True)
            weights = weights.unsqueeze(1)  # the K states share them
        tiny = torch.finfo(gamma.dtype).eps
        return torch.logsumexp(of_component + torch.log(weights.clamp(tiny, 1 - tiny)), dim=-1)

    def _proportion_divergence(
        self, tensors, inference_outputs, log_v, weight_augmentation, weight_smoothing
    ) -> torch.Tensor | float:
        """How far proportions are from the truth of simulated, and between copies of observed spots."""
        n_observed = self._n_observed(tensors)
        total: torch.Tensor | float = 0.0
        ratios = inference_outputs["ratios_ct_augmentation"]
        if ratios is not None:
            simulated = (
                slice(n_observed, n_observed + 1) if self.blends else slice(n_observed, None)
            )
            truth = F.pad(ratios[simulated], (0, self.add_celltypes))
            total = total + weight_augmentation * proportions_kl(truth, log_v[simulated])
        if n_observed == 2:
            total = total + weight_smoothing * proportions_kl(log_v[1].exp(), log_v[0])
        return total

    def sample(self, tensors: Minibatch, n_samples: int = 1, library_size: float = 1):
        """Not offered: the model has no posterior of its states to draw from.

        Raises
        ------
        UnsupportedError
            Always.
        """
        msg = "DestVI finds states by penalised likelihood and has no posterior to sample from"
        raise UnsupportedError(msg)


def proportions_kl(truth: torch.Tensor, log_v: torch.Tensor) -> torch.Tensor:
    """Mean over spots of KL(truth || v), nats; both (B, n), ``truth`` normalised here."""
    p = truth + 1e-20
    p = p / p.sum(-1, keepdim=True)
    return (p * (torch.log(p) - log_v)).sum(-1).mean()
