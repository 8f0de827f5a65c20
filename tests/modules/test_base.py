"""What a loss returns, and how modules chain their three verbs."""

from __future__ import annotations

import pytest
import torch

from vivace.modules import VAE, LossOutput


def test_tensors_become_named_terms():
    out = LossOutput(
        loss=torch.tensor(3.0),
        reconstruction_loss=torch.tensor([1.0, 2.0]),
        kl_local=torch.tensor([0.5, 0.5]),
        kl_global=torch.tensor(4.0),
    )
    assert out.reconstruction_loss.keys() == {"reconstruction_loss"}
    assert out.kl_local.keys() == {"kl_local"}
    assert (out.reconstruction_loss_sum, out.kl_local_sum, out.kl_global_sum) == (3, 1, 4)
    assert out.n_obs_minibatch == 2


def test_dicts_are_summed():
    out = LossOutput(
        loss={"a": torch.tensor(1.0), "b": torch.tensor(2.0)},
        reconstruction_loss={"x": torch.ones(3), "y": torch.ones(3)},
    )
    assert out.loss == 3
    assert out.reconstruction_loss_sum == 6
    assert out.kl_local_sum == 0
    assert out.kl_global_sum == 0


def test_leading_sample_axes_are_not_cells():
    out = LossOutput(loss=torch.tensor(0.0), reconstruction_loss=torch.ones(7, 3))
    assert out.n_obs_minibatch == 3


def test_it_needs_the_number_of_cells():
    with pytest.raises(ValueError, match="n_obs_minibatch or reconstruction_loss"):
        LossOutput(loss=torch.tensor(0.0))


def test_classification_needs_logits_and_labels():
    with pytest.raises(ValueError, match="logits and true_labels"):
        LossOutput(loss=torch.tensor(0.0), n_obs_minibatch=1, classification_loss=torch.tensor(1.0))


def test_extra_metrics_keys():
    out = LossOutput(
        loss=torch.tensor(0.0), n_obs_minibatch=1, extra_metrics={"a": torch.tensor(1.0)}
    )
    assert out.extra_metrics_keys == ["a"]


def cells(b: int = 4, g: int = 6) -> dict[str, torch.Tensor]:
    return {
        "X": torch.poisson(torch.ones(b, g) * 2),
        "batch": torch.zeros(b, 1, dtype=torch.long),
        "labels": torch.zeros(b, 1, dtype=torch.long),
    }


def test_forward_without_loss_returns_two():
    assert len(VAE(6)(cells(), compute_loss=False)) == 2


def test_arguments_that_are_no_dict_count_as_none():
    assert len(VAE(6)(cells(), inference_kwargs=None, loss_kwargs="nothing")) == 3


def test_full_forward_pass_is_dropped_for_counts():
    class Plain(VAE):
        def _get_inference_input(self, tensors: dict) -> dict:
            return super()._get_inference_input(tensors)

    module, tensors, losses = Plain(6), cells(), []
    for kwargs in ({}, {"full_forward_pass": True}):
        torch.manual_seed(0)
        losses.append(module(tensors, get_inference_input_kwargs=kwargs)[-1].loss)
    assert losses[0] == losses[1]


def test_parameters_on_two_devices_are_an_error():
    vae = VAE(6)
    vae.px_r = torch.nn.Parameter(torch.empty(6, device="meta"))
    with pytest.raises(RuntimeError, match="several devices"):
        _ = vae.device


def test_embeddings_by_key():
    vae = VAE(6)
    vae.init_embedding("batch", 3)
    with pytest.raises(KeyError, match="overwrite"):
        vae.init_embedding("batch", 3)
    assert vae.compute_embedding("batch", torch.tensor([[0], [2]])).shape == (2, 5)
    vae.remove_embedding("batch")
    with pytest.raises(KeyError):
        vae.get_embedding("batch")
