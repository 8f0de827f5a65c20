"""The protocol every module follows, and what its loss returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

import torch
from torch import nn

from vivace._types import Keys
from vivace.nn import Embedding

Terms: TypeAlias = torch.Tensor | dict[str, torch.Tensor]


@dataclass
class LossOutput:
    """Terms of the loss of one minibatch.

    Parameters
    ----------
    loss
        Scalar to back-propagate; a dict of terms is summed.
    reconstruction_loss
        (B,) negative log-likelihood per cell, nats, or a dict of such terms.
    kl_local
        (B,) divergence of cell-level latent variables, or a dict.
    kl_global
        Scalar divergence of global variables, or a dict.
    classification_loss, logits, true_labels
        Of models with a classifier; the first needs the other two.
    extra_metrics
        0-d tensors for the history; others are kept but not logged.
    n_obs_minibatch
        Number of cells; default the last axis of the first reconstruction term, so that leading
        Monte-Carlo axes do not count as cells.

    Raises
    ------
    ValueError
        If neither ``n_obs_minibatch`` nor ``reconstruction_loss`` is given, or a classification loss
        comes without logits and labels.

    Examples
    --------
    >>> import torch
    >>> out = LossOutput(loss=torch.tensor(3.0), reconstruction_loss=torch.tensor([1.0, 2.0]))
    >>> out.n_obs_minibatch, out.reconstruction_loss_sum
    (2, tensor(3.))
    """

    loss: Any  # Terms when given, a scalar afterwards
    reconstruction_loss: Any = None  # Terms when given, a dict of terms afterwards
    kl_local: Any = None
    kl_global: Any = None
    classification_loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    true_labels: torch.Tensor | None = None
    extra_metrics: Any = None
    n_obs_minibatch: int | None = None

    def __post_init__(self):
        self.loss = self.dict_sum(self.loss)
        if self.n_obs_minibatch is None and self.reconstruction_loss is None:
            msg = "LossOutput needs n_obs_minibatch or reconstruction_loss"
            raise ValueError(msg)
        if self.classification_loss is not None and (
            self.logits is None or self.true_labels is None
        ):
            msg = "classification_loss needs logits and true_labels"
            raise ValueError(msg)
        zero = self.loss.new_zeros(())
        self.reconstruction_loss = _as_terms("reconstruction_loss", self.reconstruction_loss, zero)
        self.kl_local = _as_terms("kl_local", self.kl_local, zero)
        self.kl_global = _as_terms("kl_global", self.kl_global, zero)
        if self.n_obs_minibatch is None:
            first = next(iter(self.reconstruction_loss.values()))
            self.n_obs_minibatch = first.shape[-1]
        self.extra_metrics = self.extra_metrics or {}

    @staticmethod
    def dict_sum(terms: Terms) -> torch.Tensor:
        """Sum of the values of a dict, or the tensor itself."""
        return reduce(torch.add, terms.values()) if isinstance(terms, dict) else terms

    @property
    def reconstruction_loss_sum(self) -> torch.Tensor:
        return self.dict_sum(self.reconstruction_loss).sum()

    @property
    def kl_local_sum(self) -> torch.Tensor:
        return self.dict_sum(self.kl_local).sum()

    @property
    def kl_global_sum(self) -> torch.Tensor:
        return self.dict_sum(self.kl_global)

    @property
    def extra_metrics_keys(self) -> list[str]:
        return list(self.extra_metrics)


def _as_terms(name: str, terms: Terms | None, zero: torch.Tensor) -> dict[str, torch.Tensor]:
    if isinstance(terms, dict):
        return terms
    return {name: zero if terms is None else terms}


def to_device(tensors: Any, device: torch.device) -> Any:
    """Move every tensor of a (nested) dict; anything else is left as it is."""
    if isinstance(tensors, dict):
        return {
            key: value.to(device) if isinstance(value, torch.Tensor) else to_device(value, device)
            for key, value in tensors.items()
        }
    return tensors.to(device) if isinstance(tensors, torch.Tensor) else tensors


class BaseModule(nn.Module, ABC):
    """Three verbs, ``inference``, ``generative`` and ``loss``, chained by ``forward``."""

    def __init__(self):
        super().__init__()
        self._embeddings_dict = nn.ModuleDict()

    @property
    def device(self) -> torch.device:
        """The one device of the parameters.

        Raises
        ------
        RuntimeError
            If the parameters lie on several devices.
        """
        devices = {p.device for p in self.parameters()}
        if len(devices) > 1:
            msg = f"the module's parameters lie on several devices: {sorted(map(str, devices))}"
            raise RuntimeError(msg)
        return devices.pop()

    @abstractmethod
    def _get_inference_input(self, tensors: Any, **kwargs) -> dict: ...

    @abstractmethod
    def _get_generative_input(self, tensors: Any, inference_outputs: dict, **kwargs) -> dict: ...

    @abstractmethod
    def inference(self, *args, **kwargs) -> dict: ...

    @abstractmethod
    def generative(self, *args, **kwargs) -> dict: ...

    @abstractmethod
    def loss(self, *args, **kwargs) -> LossOutput: ...

    @abstractmethod
    def sample(self, *args, **kwargs) -> torch.Tensor: ...

    def forward(
        self,
        tensors: Any,
        get_inference_input_kwargs: dict | None = None,
        get_generative_input_kwargs: dict | None = None,
        inference_kwargs: dict | None = None,
        generative_kwargs: dict | None = None,
        loss_kwargs: dict | None = None,
        compute_loss: bool = True,
    ) -> tuple:
        """Inference, generative and, if asked, loss of one minibatch.

        Parameters
        ----------
        tensors
            Minibatch, see :class:`vivace._types.Keys`. In evaluation mode it is moved to the
            module's device; in training mode the training loop has done so.
        get_inference_input_kwargs, get_generative_input_kwargs, inference_kwargs, \
generative_kwargs, loss_kwargs
            Passed on to the step named.
        compute_loss
            Whether to compute the loss.

        Returns
        -------
        inference outputs, generative outputs and, if ``compute_loss``, a :class:`LossOutput`.
        """
        if not self.training:
            tensors = to_device(tensors, self.device)
        input_kwargs = self._input_kwargs(tensors, _as_dict(get_inference_input_kwargs))
        inference_inputs = self._get_inference_input(tensors, **input_kwargs)
        inference_outputs = self.inference(**inference_inputs, **_as_dict(inference_kwargs))
        generative_inputs = self._get_generative_input(
            tensors, inference_outputs, **_as_dict(get_generative_input_kwargs)
        )
        generative_outputs = self.generative(**generative_inputs, **_as_dict(generative_kwargs))
        if not compute_loss:
            return inference_outputs, generative_outputs
        losses = self.loss(tensors, inference_outputs, generative_outputs, **_as_dict(loss_kwargs))
        return inference_outputs, generative_outputs, losses

    @staticmethod
    def _input_kwargs(tensors: Any, kwargs: dict) -> dict:
        # full_forward_pass means something only where the counts were replaced by their posterior
        if Keys.LATENT_MEAN in tensors and Keys.LATENT_VAR in tensors:
            return kwargs
        return {key: value for key, value in kwargs.items() if key != "full_forward_pass"}

    def latent_of(self, u: torch.Tensor) -> torch.Tensor:
        """The latent state that a value of the posterior's normal variable stands for.

        The value itself, but for a logistic normal latent space, where it is its softmax.
        """
        return u

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict]:
        """Groups for the optimizer; modules whose parameters differ in either override this.

        A parameter marked ``partly_fixed`` does not decay: the part that gets no gradient must stay.
        """
        trainable = [p for p in self.parameters() if p.requires_grad]
        fixed = [p for p in trainable if getattr(p, "partly_fixed", False)]
        whole = [p for p in trainable if not getattr(p, "partly_fixed", False)]
        groups = [{"params": whole, "weight_decay": weight_decay}]
        groups += [{"params": fixed, "weight_decay": 0.0}]
        return [{**group, "lr": lr} for group in groups if group["params"]]

    @property
    def capturable(self) -> bool:
        """Whether a step does the same operations whatever the minibatch and the step's number."""
        return type(self).on_step is BaseModule.on_step

    def on_step(self, kl_weight: float) -> None:
        """Called by the training loop before each step; for schedules inside the module."""

    # categorical variables as vectors -----------------------------------------------------------

    @property
    def embeddings_dict(self) -> nn.ModuleDict:
        return self._embeddings_dict

    def add_embedding(self, key: str, embedding: nn.Embedding, overwrite: bool = False) -> None:
        """Register an embedding under ``key``; KeyError if taken and not ``overwrite``."""
        if key in self._embeddings_dict and not overwrite:
            msg = f'embedding "{key}" exists already; pass overwrite=True to replace it'
            raise KeyError(msg)
        self._embeddings_dict[key] = embedding

    def init_embedding(
        self, key: str, num_embeddings: int, embedding_dim: int = 5, **kwargs
    ) -> None:
        """Register a new embedding with N(0, 1) weights."""
        self.add_embedding(key, Embedding(num_embeddings, embedding_dim, **kwargs))

    def remove_embedding(self, key: str) -> None:
        """Forget an embedding; KeyError if absent."""
        del self._embeddings_dict[key]

    def get_embedding(self, key: str) -> Any:
        """The embedding under ``key``; KeyError if absent."""
        return self._embeddings_dict[key]

    def compute_embedding(self, key: str, indices: torch.Tensor) -> torch.Tensor:
        """Vectors of ``indices``, flattened to (B, dim)."""
        return self._embeddings_dict[key](indices.flatten().to(self.device))


def _as_dict(kwargs: object) -> dict:
    return kwargs if isinstance(kwargs, dict) else {}
