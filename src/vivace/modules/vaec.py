"""The reference model of deconvolution: a variational autoencoder conditioned on cell type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.distributions import Normal

from vivace._types import Keys, Minibatch
from vivace.errors import InvalidArgumentError, check_choice, nearest
from vivace.kernels import log1p_counts, row_sums
from vivace.likelihoods import NegativeBinomial
from vivace.modules.base import BaseModule, LossOutput, to_device
from vivace.modules.labels import classification_terms
from vivace.nn import Encoder, FCLayers, standard_normal_divergence

PRIORS = ("normal", "mog")
NEWER_OPTIONS = (
    "n_batch",
    "n_fine_labels",
    "encode_covariates",
    "extra_encoder_kwargs",
    "extra_decoder_kwargs",
    "prior",
    "num_classes_mog",
)
MOG_SAMPLES = 30
"""Draws of z that the divergence from a mixture prior is averaged over."""


class VAEC(BaseModule):
    """Variational autoencoder of counts given the cell type (the reference half of DestVI).

    The latent state ``z`` says how a cell differs from others *of its type*: the decoder is told the
    type ``y``, and every type has its own bias of each gene.

    Parameters
    ----------
    n_input
        Number of genes.
    n_labels
        Number of cell types C, at least 1.
    n_hidden, n_latent, n_layers
        Width of hidden layers, latent dimensions, layers of encoder and decoder.
    log_variational
        The encoder sees ``log1p(x)``.
    ct_weight
        (C,) weight of each type's cells in the loss; default 1.
    dropout_rate
        Of encoder and decoder.
    n_batch
        Number of batches, each with a 5-dimensional embedding; 0 counts as 1.
    n_fine_labels
        Number of sub-types; builds a classifier of them. Codes at or above it mean "unlabelled".
    encode_covariates
        Give the batch embedding to the encoder as well.
    extra_encoder_kwargs, extra_decoder_kwargs
        To :class:`~vivace.nn.Encoder` and to :class:`~vivace.nn.FCLayers`.
    prior
        Of ``z``: "normal", or "mog" (a learned Gaussian mixture for each type).
    num_classes_mog
        Components K of the mixture of each type.

    Raises
    ------
    InvalidArgumentError
        If ``n_labels`` is below 1, ``ct_weight`` has another length, or the prior is not known.
    TypeError
        If an option is not known.

    References
    ----------
    Lopez et al. 2022, DestVI identifies continuums of cell types in spatial transcriptomics data,
    Nat Biotechnol.

    Examples
    --------
    >>> import torch
    >>> vaec = VAEC(n_input=50, n_labels=3)
    >>> cells = {
    ...     "X": torch.poisson(torch.ones(8, 50)),
    ...     "batch": torch.zeros(8, 1, dtype=torch.long),
    ...     "labels": torch.randint(3, (8, 1)),
    ... }
    >>> *_, losses = vaec(cells)
    >>> losses.loss.backward()
    >>> vaec.sample(cells).shape
    torch.Size([8, 50])
    """

    def __init__(
        self,
        n_input: int,
        n_labels: int = 0,
        n_hidden: int = 128,
        n_latent: int = 5,
        n_layers: int = 2,
        log_variational: bool = True,
        ct_weight: Sequence[float] | np.ndarray | None = None,
        dropout_rate: float = 0.05,
        *,
        n_batch: int = 0,
        n_fine_labels: int | None = None,
        encode_covariates: bool = False,
        extra_encoder_kwargs: dict | None = None,
        extra_decoder_kwargs: dict | None = None,
        prior: str = "normal",
        num_classes_mog: int = 10,
        **module_kwargs: Any,
    ):
        super().__init__()
        refuse_unknown(module_kwargs)
        check_choice("prior", prior, PRIORS)
        if n_labels < 1:
            msg = f"n_labels={n_labels}, but a model given the cell type needs at least one type"
            raise InvalidArgumentError(msg)
        self.n_input = n_input
        self.n_labels = n_labels
        self.n_hidden = n_hidden
        self.n_latent = n_latent
        self.n_layers = n_layers
        self.n_batch = max(n_batch, 1)
        self.n_fine_labels = n_fine_labels
        self.log_variational = log_variational
        self.dropout_rate = dropout_rate
        self.encode_covariates = encode_covariates
        self.prior = prior
        self.num_classes_mog = num_classes_mog
        self.dispersion = "gene"
        self.gene_likelihood = "nb"
        self.latent_distribution = "normal"

        self.px_r = nn.Parameter(torch.randn(n_input))
        self.per_ct_bias = nn.Parameter(torch.zeros(n_labels, n_input))
        self.register_buffer("ct_weight", type_weights(ct_weight, n_labels))
        self.init_embedding("batch", self.n_batch)
        n_embedding = self.get_embedding("batch").embedding_dim
        norms = {"use_batch_norm": False, "use_layer_norm": True}
        self.z_encoder = Encoder(
            n_input + (n_embedding if encode_covariates else 0),
            n_latent,
            n_cat_list=[n_labels],
            n_layers=n_layers,
            n_hidden=n_hidden,
            dropout_rate=dropout_rate,
            **{**norms, **(extra_encoder_kwargs or {})},
        )
        self.decoder = FCLayers(
            n_latent + n_embedding,
            n_hidden,
            n_cat_list=[n_labels],
            n_layers=n_layers,
            n_hidden=n_hidden,
            dropout_rate=dropout_rate,
            **{**norms, **(extra_decoder_kwargs or {})},
        )
        self.px_decoder = nn.Linear(n_hidden, n_input)
        if prior == "mog":
            shape = (n_labels, num_classes_mog)
            self.prior_means = nn.Parameter(torch.randn(*shape, n_latent))
            self.prior_log_std = nn.Parameter(torch.full((*shape, n_latent), -2.0))
            self.prior_logits = nn.Parameter(torch.zeros(shape))
        self.classifier = None
        if n_fine_labels is not None:
            self.linear_mapping = FCLayers(
                n_latent,
                n_hidden,
                n_cat_list=[n_labels],
                dropout_rate=0.0,
                use_batch_norm=True,
                use_layer_norm=True,
            )
            self.classifier = FineClassifier(n_hidden, n_fine_labels)

    # inference ----------------------------------------------------------------------------------

    def _get_inference_input(self, tensors: Minibatch) -> dict:
        return {
            "x": tensors[Keys.X],
            "y": tensors[Keys.LABELS],
            "batch_index": tensors.get(Keys.BATCH),
        }

    def inference(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        n_samples: int = 1,
        *,
        batch_index: torch.Tensor | None = None,
    ) -> dict:
        """Posterior of the state of each cell within its type.

        Parameters
        ----------
        x
            (B, G) counts, dense or CSR.
        y
            (B, 1) type codes.
        n_samples
            Number S of samples; 1 gives a reparametrised one, more are drawn without gradient.
        batch_index
            (B, 1) batch codes; default all 0.

        Returns
        -------
        dict with ``z`` (B, L) or (S, B, L), ``qz`` Normal with (B, L) parameters, ``library`` (B, 1) or
        (S, B, 1): the total counts, not their log.
        """
        features = log1p_counts(x) if self.log_variational else x
        if self.encode_covariates:
            dense = features if features.layout == torch.strided else features.to_dense()
            features = torch.cat([dense, self._batch_vectors(batch_index, len(y))], dim=-1)
        qz, z = self.z_encoder(features, y)
        library = row_sums(x)
        if n_samples > 1:
            z = qz.sample((n_samples,))
            library = library.expand(n_samples, -1, -1)
        return {"z": z, "qz": qz, "library": library}

    def _batch_vectors(self, batch_index: torch.Tensor | None, n: int) -> torch.Tensor:
        """(B, 5) embedding of each cell's batch."""
        if batch_index is None:
            batch_index = torch.zeros(n, 1, dtype=torch.long, device=self.device)
        return self.compute_embedding("batch", batch_index)

    # generative ---------------------------------------------------------------------------------

    def _get_generative_input(self, tensors: Minibatch, inference_outputs: dict) -> dict:
        return {
            "z": inference_outputs["z"],
            "library": inference_outputs["library"],
            "y": tensors[Keys.LABELS],
            "batch_index": tensors.get(Keys.BATCH),
        }

    def generative(
        self,
        z: torch.Tensor,
        library: torch.Tensor,
        y: torch.Tensor,
        *,
        batch_index: torch.Tensor | None = None,
        transform_batch: int | torch.Tensor | None = None,
    ) -> dict:
        """Distribution of the counts.

        Parameters
        ----------
        z
            (B, L) or (S, B, L).
        library
            (B, 1) or (S, B, 1) total counts.
        y
            (B, 1) type codes.
        batch_index
            (B, 1) batch codes; default all 0.
        transform_batch
            Batch code that replaces every entry of ``batch_index``.

        Returns
        -------
        dict with ``px``, negative binomial of shape (B, G) or (S, B, G).
        """
        if transform_batch is not None:
            batch_index = torch.ones_like(y) * transform_batch
        logits = self.decode_logits(z, y, self._batch_vectors(batch_index, len(y)))
        px = NegativeBinomial.from_logits(logits, torch.log(library), self.px_r)
        return {"px": px}

    def decode_logits(
        self, z: torch.Tensor, y: torch.Tensor, batch_vectors: torch.Tensor
    ) -> torch.Tensor:
        """Logits of the normalised expression, (..., B, G), of states (..., B, L) of types (B, 1)."""
        vectors = batch_vectors.expand(*z.shape[:-1], -1)
        h = self.decoder(torch.cat([z, vectors], dim=-1), y)
        return self.px_decoder(h) + self.per_ct_bias[y.squeeze(-1)]

    # loss ---------------------------------------------------------------------------------------

    def loss(
        self,
        tensors: Minibatch,
        inference_outputs: dict,
        generative_outputs: dict,
        kl_weight: float | torch.Tensor = 1.0,
        *,
        classification_ratio: float = 5.0,
    ) -> LossOutput:
        """Negative evidence lower bound weighted by type, plus the cross entropy of fine labels.

        ``mean(ct_weight[y] * (R + classification_ratio * CE + kl_weight * KL))`` in nats, where CE is
        the mean over the cells whose fine label is known (0 if there is none).

        Parameters
        ----------
        tensors
            Minibatch; with ``fine_labels`` (B, 1) if the module has a classifier.
        inference_outputs, generative_outputs
            Of :meth:`inference` and :meth:`generative`.
        kl_weight
            Weight of the divergence of z, >= 0.
        classification_ratio
            Weight of the cross entropy, >= 0.
        """
        qz, y = inference_outputs["qz"], tensors[Keys.LABELS]
        kl = self._kl(qz, y)
        reconstruction = -generative_outputs["px"].log_prob_sum(tensors[Keys.X])
        per_cell = reconstruction + kl_weight * kl
        classification: dict[str, Any] = {}
        if self.classifier is not None:
            classification = classification_terms(
                self.classify(qz.loc, y), tensors[Keys.FINE_LABELS], classification_ratio
            )
            per_cell = per_cell + classification["classification_loss"]
        return LossOutput(
            loss=(self.ct_weight[y.flatten()] * per_cell).mean(),
            reconstruction_loss=reconstruction,
            kl_local=kl,
            n_obs_minibatch=len(y),
            **classification,
        )

    def _kl(self, qz: Normal, y: torch.Tensor) -> torch.Tensor:
        """(B,) divergence of the posterior from the prior of the cell's type."""
        if self.prior == "normal":
            return standard_normal_divergence(qz)
        u = qz.rsample((MOG_SAMPLES,))
        return (qz.log_prob(u).sum(-1) - self.log_prior(u, y)).mean(0)

    def log_prior(self, u: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Log density of states (..., B, L) under the mixtures of types (B, 1): (..., B), nats."""
        codes = y.flatten()
        std = torch.exp(self.prior_log_std[codes]) + 1e-4  # (B, K, L)
        components = Normal(self.prior_means[codes], std, validate_args=False)
        log_weights = torch.log_softmax(self.prior_logits[codes], dim=-1)  # (B, K)
        of_component = components.log_prob(u.unsqueeze(-2)).sum(-1)  # (..., B, K)
        return torch.logsumexp(log_weights + of_component, dim=-1)

    # questions ----------------------------------------------------------------------------------

    def classify(self, z: torch.Tensor, label_index: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (B, n_fine_labels) of the sub-types of states (B, L) of types (B,) or (B, 1).

        Raises
        ------
        InvalidArgumentError
            If the module has no classifier, or the types are missing.
        """
        if self.classifier is None:
            msg = "there is no classifier of fine labels: build the module with n_fine_labels"
            raise InvalidArgumentError(msg)
        if label_index is None:
            msg = "classify needs label_index, the type code of each state"
            raise InvalidArgumentError(msg)
        y = label_index.reshape(-1, 1).to(self.device)
        return self.classifier(self.linear_mapping(z.to(self.device), y))

    @torch.inference_mode()
    def sample(
        self,
        tensors: Minibatch,
        n_samples: int = 1,
        *,
        generative_kwargs: dict | None = None,
    ) -> torch.Tensor:
        """Posterior predictive counts.

        Parameters
        ----------
        tensors
            Minibatch.
        n_samples
            Number S of draws of z, each giving one draw of counts.
        generative_kwargs
            E.g. ``{"transform_batch": 1}``.

        Returns
        -------
        (B, G), or (B, G, S) for S > 1, on the CPU.
        """
        _, generative_outputs = self.forward(
            to_device(tensors, self.device),
            inference_kwargs={"n_samples": n_samples},
            generative_kwargs=generative_kwargs,
            compute_loss=False,
        )
        counts = generative_outputs["px"].sample()
        return (counts.permute(1, 2, 0) if n_samples > 1 else counts).cpu()


class FineClassifier(nn.Module):
    """One linear map to logits, under the state-dict name of published checkpoints."""

    def __init__(self, n_input: int, n_labels: int):
        super().__init__()
        self.classifier = nn.Sequential(nn.Linear(n_input, n_labels))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return self.classifier(h)


def type_weights(
    weights: Sequence[float] | np.ndarray | torch.Tensor | None, n_labels: int
) -> torch.Tensor:
    """(C,) float32 weights, ones by default."""
    if weights is None:
        return torch.ones(n_labels)
    tensor = torch.as_tensor(np.asarray(weights), dtype=torch.float32)
    if tensor.shape != (n_labels,):
        msg = f"ct_weight has shape {tuple(tensor.shape)}; expected one weight for each of {n_labels} types"
        raise InvalidArgumentError(msg)
    return tensor


def refuse_unknown(options: dict[str, Any]) -> None:
    """Raise TypeError for the first of these options, with the nearest known one."""
    for name in options:
        hint = nearest(name, NEWER_OPTIONS)
        raise TypeError(f'VAEC() got an option "{name}" that is not known. {hint}')
