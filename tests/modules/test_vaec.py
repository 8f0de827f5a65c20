"""The reference model of deconvolution: formulas in float64, options, corners."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from vivace.errors import InvalidArgumentError
from vivace.kernels import csr_tensor
from vivace.modules import VAEC

G, C = 12, 3


def cells(b: int = 8, **extra: torch.Tensor) -> dict:
    return {
        "X": torch.poisson(torch.rand(b, G) * 3),
        "batch": torch.arange(b).remainder(2).unsqueeze(1),
        "labels": torch.arange(b).remainder(C).unsqueeze(1),
        **extra,
    }


def module(**options) -> VAEC:
    return VAEC(G, C, n_hidden=7, n_latent=2, **{"n_batch": 2, **options})


def double(m: VAEC, tensors: dict) -> tuple[VAEC, dict]:
    x = {k: v.double() if v.is_floating_point() else v for k, v in tensors.items()}
    return m.double().eval(), x


def nb(x, mu, theta):
    return (
        torch.lgamma(x + theta)
        - torch.lgamma(theta)
        - torch.lgamma(x + 1)
        + theta * torch.log(theta / (theta + mu))
        + x * torch.log(mu / (theta + mu))
    )


def layers(m, x, y, n_layers=2):
    """Linear with one-hot types beside every input, layer norm, ReLU."""
    one_hot = torch.nn.functional.one_hot(y.flatten(), C).double()
    for i in range(n_layers):
        linear = m.fc_layers[f"Layer {i}"]["0"]
        x = torch.cat([x, one_hot], dim=1) @ linear.weight.t() + linear.bias
        x = (x - x.mean(1, keepdim=True)) / torch.sqrt(x.var(1, correction=0, keepdim=True) + 1e-5)
        x = torch.relu(x)
    return x


OPTIONS = {
    "default": {},
    "one batch": {"n_batch": 0},
    "mog": {"prior": "mog", "num_classes_mog": 4},
    "encoded batch": {"encode_covariates": True},
    "fine labels": {"n_fine_labels": 4},
    "weights": {"ct_weight": [1.0, 2.0, 3.0]},
    "raw input": {"log_variational": False},
    "one layer": {"n_layers": 1},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_option_trains_and_samples(options: dict):
    m, tensors = module(**options), cells(fine_labels=torch.arange(8).remainder(5).unsqueeze(1))
    if options.get("n_batch") == 0:
        tensors["batch"] = torch.zeros(8, 1, dtype=torch.long)
    *_, losses = m(tensors)
    losses.loss.backward()
    assert torch.isfinite(losses.loss)
    assert all(p.grad is not None for p in m.parameters())
    assert losses.n_obs_minibatch == 8
    assert m.sample(tensors).shape == (8, G)
    assert m.sample(tensors, n_samples=3).shape == (8, G, 3)


def test_signature_keeps_the_published_order():
    names = list(inspect.signature(VAEC).parameters)
    assert names[:8] == [
        "n_input",
        "n_labels",
        "n_hidden",
        "n_latent",
        "n_layers",
        "log_variational",
        "ct_weight",
        "dropout_rate",
    ]


def test_loss_is_the_formula():
    m, x = double(module(ct_weight=[1.0, 2.0, 0.5]), cells())
    with torch.no_grad():
        m.per_ct_bias.normal_()
    inference, generative, losses = m(x, loss_kwargs={"kl_weight": 0.3})
    y = x["labels"]
    h = layers(m.z_encoder.encoder, torch.log1p(x["X"]), y)
    mean = m.z_encoder.mean_encoder(h)
    variance = torch.exp(m.z_encoder.var_encoder(h)) + 1e-4
    torch.testing.assert_close(inference["qz"].loc, mean)
    torch.testing.assert_close(inference["qz"].scale, variance.sqrt())
    vectors = m.get_embedding("batch").weight[x["batch"].flatten()]
    h = layers(m.decoder, torch.cat([inference["z"], vectors], dim=1), y)
    rho = torch.softmax(m.px_decoder(h) + m.per_ct_bias[y.flatten()], dim=1)
    mu = x["X"].sum(1, keepdim=True) * rho
    reconstruction = -nb(x["X"], mu, torch.exp(m.px_r)).sum(1)
    kl = 0.5 * (mean**2 + variance - 1 - torch.log(variance)).sum(1)
    weight = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)[y.flatten()]
    torch.testing.assert_close(losses.loss, (weight * (reconstruction + 0.3 * kl)).mean())
    torch.testing.assert_close(losses.reconstruction_loss_sum, reconstruction.sum())
    torch.testing.assert_close(losses.kl_local_sum, kl.sum())
    torch.testing.assert_close(generative["px"].scale, rho)


def test_mixture_prior_is_the_formula():
    m, _ = double(module(prior="mog", num_classes_mog=3), {})
    with torch.no_grad():
        m.prior_logits.normal_()
        m.prior_log_std.normal_()
    u, y = torch.randn(5, 4, 2, dtype=torch.float64), torch.tensor([[0], [2], [1], [2]])
    found = m.log_prior(u, y)
    for s in range(5):
        for i in range(4):
            c = y[i, 0]
            weights = torch.softmax(m.prior_logits[c], dim=0)
            std = torch.exp(m.prior_log_std[c]) + 1e-4
            density = sum(
                weights[k] * Normal(m.prior_means[c, k], std[k]).log_prob(u[s, i]).sum().exp()
                for k in range(3)
            )
            torch.testing.assert_close(found[s, i], torch.log(density))


def test_mixture_divergence_of_one_matching_component_is_zero():
    m, _ = double(module(prior="mog", num_classes_mog=1), {})
    with torch.no_grad():
        m.prior_means.zero_()
        m.prior_log_std.fill_(np.log(1 - 1e-4))
    qz = Normal(torch.zeros(8, 2).double(), torch.ones(8, 2).double())
    torch.testing.assert_close(
        m._kl(qz, cells()["labels"]), torch.zeros(8).double(), atol=1e-9, rtol=0
    )


def test_csr_and_dense_counts_agree():
    m, x = module().eval(), cells()
    csr = x["X"].to_sparse_csr()
    sparse = {**x, "X": csr_tensor(csr.crow_indices(), csr.col_indices(), csr.values(), csr.shape)}
    torch.manual_seed(1)
    *_, dense_losses = m(x)
    torch.manual_seed(1)
    *_, sparse_losses = m(sparse)
    torch.testing.assert_close(dense_losses.loss, sparse_losses.loss)


# fine labels ------------------------------------------------------------------------------------


def fine_loss(fine: list[int]):
    m, x = double(module(n_fine_labels=4), cells(fine_labels=torch.tensor(fine).unsqueeze(1)))
    *_, losses = m(x)
    return m, x, losses


def test_unlabelled_cells_do_not_train_the_classifier():
    m, x, losses = fine_loss([0, 1, 2, 3, 4, 4, 4, 4])  # 4 means not known
    inference, _ = m(x, compute_loss=False)
    logits = m.classify(inference["qz"].loc, x["labels"])
    assert logits.shape == (8, 4)  # no class for "not known"
    of_cells = -torch.log_softmax(logits[:4], dim=1)[torch.arange(4), torch.arange(4)]
    torch.testing.assert_close(losses.classification_loss, 5 * of_cells.mean())


def test_without_a_labelled_cell_the_classification_loss_is_zero():
    *_, losses = fine_loss([4] * 8)
    assert losses.classification_loss == 0
    assert torch.isfinite(losses.loss)


def test_classify_needs_a_classifier_and_types():
    with pytest.raises(InvalidArgumentError, match="n_fine_labels"):
        module().classify(torch.zeros(2, 2), torch.zeros(2))
    with pytest.raises(InvalidArgumentError, match="label_index"):
        module(n_fine_labels=2).classify(torch.zeros(2, 2))


# questions and corners --------------------------------------------------------------------------


def test_transform_batch_changes_the_decoded_batch():
    m, x = module().eval(), cells()
    inference, observed = m(x, compute_loss=False)
    inputs = m._get_generative_input(x, inference)
    other = m.generative(**inputs, transform_batch=1)["px"].scale
    is_one = x["batch"].flatten() == 1
    torch.testing.assert_close(other[is_one], observed["px"].scale[is_one])
    assert (other[~is_one] - observed["px"].scale[~is_one]).abs().max() > 1e-4


def test_samples_have_the_mean_and_the_variance_of_the_model():
    m = module().eval()
    x = {k: v[:1].repeat(4000, 1) for k, v in cells().items()}
    with torch.no_grad():
        m.z_encoder.var_encoder.bias.fill_(-30.0)  # a known state
        m.px_r.fill_(1.0)
        px = m(x, compute_loss=False)[1]["px"]
    counts = m.sample(x)
    torch.testing.assert_close(counts.mean(0), px.mean[0], rtol=0.2, atol=0.1)
    torch.testing.assert_close(counts.var(0), px.variance[0], rtol=0.3, atol=0.2)


def test_samples_may_be_of_another_batch():
    m, x = module().eval(), cells()
    assert m.sample(x, generative_kwargs={"transform_batch": 0}).shape == (8, G)
    with pytest.raises(IndexError):  # it is looked up
        m.sample(x, generative_kwargs={"transform_batch": 7})


def test_one_cell_and_an_empty_cell_train():
    m = module()
    x = {k: v[:1] for k, v in cells().items()}
    x["X"] = torch.zeros(1, G)
    *_, losses = m(x)
    losses.loss.backward()
    assert torch.isfinite(losses.loss)
    assert all(torch.isfinite(p.grad).all() for p in m.parameters() if p.grad is not None)


def test_one_type_has_no_type_column():
    m = VAEC(G, 1, n_hidden=7)
    assert m.z_encoder.encoder.fc_layers["Layer 0"]["0"].in_features == G


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"n_labels": 0}, InvalidArgumentError, "at least one type"),
        ({"prior": "vamp"}, InvalidArgumentError, "prior"),
        ({"ct_weight": [1.0]}, InvalidArgumentError, "ct_weight"),
        ({"n_bach": 2}, TypeError, 'Did you mean "n_batch"'),
    ],
    ids=["no types", "prior", "weights", "unknown"],
)
def test_wrong_options_are_refused(options: dict, error: type, words: str):
    with pytest.raises(error, match=words):
        VAEC(**{"n_input": G, "n_labels": C, **options})
