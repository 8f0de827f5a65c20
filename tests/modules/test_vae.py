"""The VAE: its formulas in float64, every option, every corner."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from vivace.errors import InvalidArgumentError
from vivace.kernels import csr_tensor
from vivace.modules import VAE

G = 12


def cells(b: int = 8, g: int = G, n_batch: int = 2, **extra: torch.Tensor) -> dict:
    return {
        "X": torch.poisson(torch.rand(b, g) * 3),
        "batch": torch.arange(b).remainder(max(n_batch, 1)).unsqueeze(1),
        "labels": torch.arange(b).remainder(3).unsqueeze(1),
        **extra,
    }


def covariates(b: int = 8) -> dict:
    return {
        "extra_continuous_covs": torch.randn(b, 2),
        "extra_categorical_covs": torch.randint(2, (b, 2)),
        "size_factor": torch.rand(b, 1) + 0.5,
    }


OPTIONS = {
    "default": {},
    "nb": {"gene_likelihood": "nb"},
    "poisson": {"gene_likelihood": "poisson"},
    "normal": {"gene_likelihood": "normal"},
    "gene-batch": {"dispersion": "gene-batch"},
    "gene-label": {"dispersion": "gene-label"},
    "gene-cell": {"dispersion": "gene-cell"},
    "nb gene-cell": {"dispersion": "gene-cell", "gene_likelihood": "nb"},
    "latent library": {
        "use_observed_lib_size": False,
        "library_log_means": np.full((1, 2), 2.0),
        "library_log_vars": np.full((1, 2), 0.5),
    },
    "size factor": {"use_size_factor_key": True},
    "logistic normal": {"latent_distribution": "ln"},
    "encode covariates": {"encode_covariates": True},
    "shallow injection": {"deeply_inject_covariates": False, "n_layers": 2},
    "embedding": {"batch_representation": "embedding"},
    "encoded embedding": {
        "batch_representation": "embedding",
        "encode_covariates": True,
        "batch_embedding_kwargs": {"embedding_dim": 3},
    },
    "no norm": {"use_batch_norm": "none"},
    "layer norm": {"use_batch_norm": "none", "use_layer_norm": "both"},
    "deep": {"n_layers": 3},
    "raw counts encoded": {"log_variational": False},
    "softplus variance": {"var_activation": torch.nn.functional.softplus},
}


@pytest.fixture(params=OPTIONS)
def vae(request: pytest.FixtureRequest) -> VAE:
    return VAE(
        G,
        n_batch=2,
        n_labels=3,
        n_latent=4,
        n_hidden=16,
        n_continuous_cov=2,
        n_cats_per_cov=[2, 2],
        **OPTIONS[request.param],
    )


def test_a_step_gives_every_parameter_a_gradient(vae: VAE):
    *_, losses = vae(cells(**covariates()))
    losses.loss.backward()
    without = [name for name, p in vae.named_parameters() if p.grad is None]
    assert not without, "parameters that no option uses are not built"
    assert torch.isfinite(losses.loss)


def test_loss_is_the_formula(vae: VAE):
    vae = vae.double().eval()
    tensors = {
        k: v.double() if v.is_floating_point() else v for k, v in cells(**covariates()).items()
    }
    inference, generative, losses = vae(tensors, loss_kwargs={"kl_weight": 0.3})
    reconstruction = -generative["px"].log_prob(tensors["X"]).sum(-1)
    prior = Normal(torch.zeros(8, 4).double(), torch.ones(8, 4).double())
    kl_z = kl_divergence(inference["qz"], prior).sum(-1)
    kl_l = torch.zeros(8).double()
    if inference["ql"] is not None:
        batch = tensors["batch"].flatten()
        pl = Normal(vae.library_log_means[0, batch], vae.library_log_vars[0, batch].sqrt())
        ql = inference["ql"]
        kl_l = kl_divergence(Normal(ql.loc.flatten(), ql.scale.flatten()), pl)
    expected = (reconstruction + 0.3 * kl_z + kl_l).mean()
    torch.testing.assert_close(losses.loss, expected, rtol=1e-9, atol=1e-9)
    assert losses.kl_local.keys() == {"kl_divergence_l", "kl_divergence_z"}


def test_sparse_and_dense_counts_give_the_same(vae: VAE):
    vae.eval()
    tensors = cells(**covariates())
    csr = tensors["X"].to_sparse_csr()
    sparse = {
        **tensors,
        "X": csr_tensor(csr.crow_indices(), csr.col_indices(), csr.values(), csr.shape),
    }
    outputs = []
    for one in (tensors, sparse):
        torch.manual_seed(1)
        outputs.append(vae(one))
    (dense_z, _, dense), (sparse_z, _, from_sparse) = outputs
    torch.testing.assert_close(dense_z["qz"].loc, sparse_z["qz"].loc, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dense.loss, from_sparse.loss, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n_samples", [1, 3])
def test_shapes(vae: VAE, n_samples: int):
    tensors = cells(**covariates())
    inference, generative, losses = vae(tensors, inference_kwargs={"n_samples": n_samples})
    lead = () if n_samples == 1 else (n_samples,)
    assert inference["z"].shape == (*lead, 8, 4)
    assert inference["qz"].loc.shape == (8, 4)
    assert inference["library"].shape == (*lead, 8, 1)
    assert generative["px"].get_normalized("mu").shape == (*lead, 8, G)
    assert generative["pz"].loc.shape == inference["z"].shape
    assert losses.n_obs_minibatch == 8
    assert vae.sample(tensors, n_samples=n_samples).shape == (
        (8, G) if n_samples == 1 else (8, G, n_samples)
    )


def test_marginal_likelihood_of_every_option(vae: VAE):
    vae.eval()
    tensors = cells(**covariates())
    values = vae.marginal_ll(tensors, 6, n_mc_samples_per_pass=3)
    assert values.shape == (8,)
    assert torch.isfinite(values).all()
    assert isinstance(vae.marginal_ll(tensors, 2, return_mean=True), float)


def test_state_dict_round_trip(vae: VAE):
    torch.manual_seed(7)
    other = {
        k: torch.randn_like(v) if v.is_floating_point() else v for k, v in vae.state_dict().items()
    }
    vae.load_state_dict(other)
    assert all((vae.state_dict()[k] == v).all() for k, v in other.items())


# formulas ---------------------------------------------------------------------------------------


def test_library_is_the_log_of_the_total():
    tensors = cells()
    library = VAE(G).inference(tensors["X"], tensors["batch"])["library"]
    torch.testing.assert_close(library.flatten(), tensors["X"].sum(1).log())


def test_softmax_scale_sums_to_one_and_softplus_uses_the_size_factor():
    tensors = cells(size_factor=torch.rand(8, 1) + 0.5)
    _, generative = VAE(G, n_batch=2)(tensors, compute_loss=False)
    torch.testing.assert_close(generative["px"].scale.sum(1), torch.ones(8))
    _, generative = VAE(G, n_batch=2, use_size_factor_key=True)(tensors, compute_loss=False)
    px = generative["px"]
    torch.testing.assert_close(px.mu, px.scale * tensors["size_factor"])


def test_size_factor_is_ignored_without_the_flag():
    vae, tensors = VAE(G).eval(), cells()
    torch.manual_seed(0)
    *_, without = vae(tensors)
    torch.manual_seed(0)
    *_, with_factor = vae({**tensors, "size_factor": torch.full((8, 1), 7.0)})
    assert without.loss == with_factor.loss


def test_transform_batch_replaces_the_batch_of_the_decoder_alone():
    vae, tensors = VAE(G, n_batch=2, dispersion="gene-batch").eval(), cells()
    outputs = vae.inference(tensors["X"], tensors["batch"])
    inputs = vae._get_generative_input(tensors, outputs)
    moved = vae.generative(**inputs, transform_batch=1)["px"]
    direct = vae.generative(**{**inputs, "batch_index": torch.ones(8, 1, dtype=torch.long)})["px"]
    observed = vae.generative(**inputs)["px"]
    assert (moved.mu == direct.mu).all()
    assert (moved.theta == direct.theta).all()
    assert not torch.allclose(moved.mu, observed.mu)


def test_logistic_normal_latent_lies_on_the_simplex_and_its_posterior_does_not():
    tensors = cells()
    outputs = VAE(G, latent_distribution="ln").inference(tensors["X"], tensors["batch"])
    torch.testing.assert_close(outputs["z"].sum(1), torch.ones(8))
    assert not torch.allclose(outputs["qz"].loc.sum(1), torch.ones(8))


@pytest.mark.parametrize("latent_distribution", ["normal", "ln"])
def test_marginal_likelihood_is_exact_where_the_decoder_ignores_z(latent_distribution: str):
    """Without the decoder's dependence on z and with q = p every weight is p(x)."""
    vae = VAE(G, latent_distribution=latent_distribution, gene_likelihood="nb").double().eval()
    with torch.no_grad():
        for layer in (vae.z_encoder.mean_encoder, vae.z_encoder.var_encoder):
            layer.weight.zero_()
            layer.bias.zero_()
        vae.z_encoder.var_encoder.bias.fill_(math.log(1 - 1e-4))  # variance exactly 1
        vae.decoder.px_decoder.fc_layers["Layer 0"]["0"].of_input.zero_()
    tensors = cells()
    tensors["X"] = tensors["X"].double()
    _, generative = vae(tensors, compute_loss=False)
    exact = generative["px"].log_prob(tensors["X"]).sum(1)
    for n, per_pass in ((1, 1), (4, 3), (10, 10)):
        found = vae.marginal_ll(tensors, n, n_mc_samples_per_pass=per_pass)
        torch.testing.assert_close(found, exact, rtol=1e-9, atol=1e-9)


def test_more_samples_per_pass_than_samples_warns():
    with pytest.warns(RuntimeWarning, match="more than"):
        VAE(G).eval().marginal_ll(cells(), 2, n_mc_samples_per_pass=5)


def test_minified_cells_take_the_stored_posterior():
    vae = VAE(G, n_batch=2).eval()
    tensors = cells()
    qz = vae.inference(tensors["X"], tensors["batch"])["qz"]
    minified = {k: v for k, v in tensors.items() if k != "X"} | {
        "latent_qzm": qz.loc,
        "latent_qzv": qz.scale**2,
        "observed_lib_size": tensors["X"].sum(1, keepdim=True),
    }
    outputs, generative = vae(minified, compute_loss=False)
    torch.testing.assert_close(outputs["qz"].loc, qz.loc)
    torch.testing.assert_close(outputs["library"], tensors["X"].sum(1, keepdim=True).log())
    assert generative["px"].mu.shape == (8, G)
    with pytest.raises(ValueError, match="minified"):
        vae(minified)


def test_tuning_payload_is_in_the_extra_metrics():
    *_, losses = VAE(G, extra_payload_autotune=True)(cells())
    assert losses.extra_metrics.keys() == {"z", "batch", "labels"}


# training without anything else -----------------------------------------------------------------


def test_it_trains_with_a_plain_optimizer():
    torch.manual_seed(0)
    profile = torch.softmax(torch.randn(2, G) * 2, -1)
    x = torch.poisson(profile[torch.arange(200) % 2] * 100)
    tensors = cells(200, n_batch=1) | {"X": x}
    vae = VAE(G, n_latent=2, n_hidden=32)
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        *_, out = vae(tensors)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        losses.append(out.loss.item())
    assert losses[-1] < 0.8 * losses[0]


# corners ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["zinb", "nb", "poisson", "normal"])
def test_an_empty_cell_has_finite_loss_and_gradients(likelihood: str):
    vae, tensors = VAE(G, gene_likelihood=likelihood), cells()
    tensors["X"][0] = 0
    *_, losses = vae(tensors)
    losses.loss.backward()
    assert torch.isfinite(losses.loss)
    assert all(torch.isfinite(p.grad).all() for p in vae.parameters())


def test_one_cell_in_training_needs_no_batch_norm():
    with pytest.raises(ValueError, match="at least 2 cells"):
        VAE(G)(cells(1))
    *_, losses = VAE(G, use_batch_norm="none")(cells(1))
    assert torch.isfinite(losses.loss)
    *_, losses = VAE(G).eval()(cells(1))
    assert torch.isfinite(losses.loss)


def test_one_gene():
    *_, losses = VAE(1)(cells(g=1))
    assert torch.isfinite(losses.loss)


@pytest.mark.parametrize("n_batch", [0, 1])
def test_no_batch_or_one_adds_no_columns(n_batch: int):
    vae = VAE(G, n_batch=n_batch)
    assert vae.decoder.px_decoder.fc_layers["Layer 0"]["0"].in_features == 10
    vae(cells(n_batch=1))


def test_no_batch_with_embedding_is_one_batch():
    vae = VAE(G, batch_representation="embedding")
    assert vae.get_embedding("batch").num_embeddings == 1
    vae(cells(n_batch=1))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"dispersion": "gene-batch"}, "n_batch >= 1"),
        ({"dispersion": "gene-label"}, "n_labels >= 1"),
        ({"dispersion": "genes"}, 'Did you mean "gene"'),
        ({"gene_likelihood": "zimb"}, 'Did you mean "zinb"'),
        ({"latent_distribution": "lognormal"}, "latent_distribution"),
        ({"batch_representation": "onehot"}, 'Did you mean "one-hot"'),
        ({"use_batch_norm": True}, "use_batch_norm"),
        ({"use_observed_lib_size": False}, "library_log_means"),
    ],
)
def test_options_that_do_not_work_are_refused(options: dict, match: str):
    with pytest.raises(InvalidArgumentError, match=match):
        VAE(G, **options)


def test_gene_label_without_labels_is_refused():
    vae, tensors = VAE(G, n_labels=3, dispersion="gene-label"), cells(n_batch=1)
    del tensors["labels"]
    with pytest.raises(InvalidArgumentError, match="labels"):
        vae(tensors)


def test_a_library_prior_without_variance_is_floored():
    vae = VAE(
        G,
        use_observed_lib_size=False,
        library_log_means=np.zeros((1, 1)),
        library_log_vars=np.zeros((1, 1)),
    )
    *_, losses = vae(cells(n_batch=1))
    assert torch.isfinite(losses.loss)


def test_kl_weight_may_be_a_tensor():
    vae, tensors = VAE(G).eval(), cells()
    torch.manual_seed(0)
    *_, a = vae(tensors, loss_kwargs={"kl_weight": 0.5})
    torch.manual_seed(0)
    *_, b = vae(tensors, loss_kwargs={"kl_weight": torch.tensor(0.5)})
    assert a.loss == b.loss


def test_the_loss_leaves_the_minibatch_alone():
    tensors = cells(size_factor=torch.ones(8, 1))
    before = {k: v.clone() for k, v in tensors.items()}
    VAE(G, n_batch=2)(tensors)
    assert tensors.keys() == before.keys()
    assert all((tensors[k] == before[k]).all() for k in before)
