"""SysVAE: its formulas in float64, every option, every corner, and what was wrong elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch.distributions import Normal, kl_divergence

from vivace.kernels import csr_tensor
from vivace.modules import SysVAE

G, K = 12, 5


def cells(b: int = 8, n_batch: int = 3) -> dict:
    return {
        "X": torch.rand(b, G) * (torch.rand(b, G) < 0.5),
        "batch": torch.arange(b).remainder(n_batch).unsqueeze(1),
        "extra_continuous_covs": torch.randn(b, 2),
        "extra_categorical_covs": torch.randint(3, (b, 2)),
    }


OPTIONS = {
    "default": {},
    "standard normal": {"prior": "standard_normal"},
    "joint prior": {"joint_prior": True},
    "fixed prior": {"trainable_priors": False},
    "variance per cell": {"out_var_mode": "sample_feature"},
    "embedding": {"embed_categorical_covariates": True, "embedding_kwargs": {"embedding_dim": 3}},
    "layer norm": {"encoder_decoder_kwargs": {"use_layer_norm": True}},
    "exponential variance": {"encoder_decoder_kwargs": {"var_activation": torch.exp}},
    "as scvi-tools": {"compat": "scvi-tools"},
}


def build(n_batch: int = 3, **options) -> SysVAE:
    options = {"n_latent": 4, "n_hidden": 16, **options}
    start = cells(K, n_batch)
    return SysVAE(G, n_batch, 2, [3, 3], pseudoinput_data=start, **options)


def double(tensors: dict) -> dict:
    return {k: v.double() if v.is_floating_point() else v for k, v in tensors.items()}


@pytest.fixture(params=OPTIONS)
def sysvae(request: pytest.FixtureRequest) -> SysVAE:
    return build(**OPTIONS[request.param])


def test_a_step_gives_every_parameter_a_gradient(sysvae: SysVAE):
    *_, losses = sysvae(cells())
    losses.loss.backward()
    without = [n for n, p in sysvae.named_parameters() if p.grad is None and p.requires_grad]
    assert not without
    assert torch.isfinite(losses.loss)


def spread_inside(one: torch.Tensor, two: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    """Root mean square of both means of cells around the centre of their system, by dimension."""
    squares = torch.zeros(one.shape[1]).to(one)
    for system in batch.unique():
        rows = batch.flatten() == system
        both = torch.cat([one[rows], two[rows]])
        squares += ((both - both.mean(0)) ** 2).sum(0)
    return (squares / (2 * len(batch))).sqrt()


@pytest.mark.parametrize("weights", [(1.0, 1.0, 2.0), (0.5, 0.3, 7.0), (1.0, 0.0, 0.0)])
def test_loss_is_the_formula(sysvae: SysVAE, weights: tuple[float, float, float]):
    sysvae = sysvae.double().eval()
    compat = sysvae.cycle_from == "px"
    tensors = double(cells())
    tensors["batch_weights"] = torch.rand(8, 1).double()
    reconstruction_weight, kl_weight, cycle_weight = weights
    given = {
        "reconstruction_weight": reconstruction_weight,
        "kl_weight": kl_weight,
        "z_distance_cycle_weight": cycle_weight,
    }
    inference, generative, losses = sysvae(tensors, loss_kwargs=given)
    px, qz, z = generative["px"], inference["qz"], inference["z"]
    v = px.scale if compat else px.scale**2
    r = (0.5 * (v.clamp(min=1e-6).log() + (tensors["X"] - px.loc) ** 2 / v)).sum(-1)
    if hasattr(sysvae.prior, "u"):
        k = qz.log_prob(z).sum(-1) - sysvae.prior.log_prob(z)
    else:
        k = kl_divergence(qz, Normal(torch.zeros(8, 4).double(), 1)).sum(-1)
    c = torch.zeros(8).double()
    if cycle_weight:
        means = inference["qz_cycle"].loc
        pooled = torch.cat([qz.loc, means]).std(0)
        unit = pooled if compat else spread_inside(qz.loc, means, tensors["batch"])
        c = (((qz.loc - means) / unit) ** 2).sum(-1) * tensors["batch_weights"].flatten()
    expected = (reconstruction_weight * r + kl_weight * k + cycle_weight * c).mean()
    torch.testing.assert_close(losses.loss, expected, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(losses.reconstruction_loss["reconstruction_loss"], r)
    torch.testing.assert_close(losses.kl_local["kl_local"], k)
    torch.testing.assert_close(losses.extra_metrics["cycle_loss"], c.mean())


def test_sparse_and_dense_values_give_the_same(sysvae: SysVAE):
    sysvae.eval()
    tensors = cells(40)  # more cells than hidden units as well as fewer, below
    for b in (8, 40):
        part = {k: v[:b] for k, v in tensors.items()}
        s = part["X"].to_sparse_csr()
        csr = csr_tensor(s.crow_indices(), s.col_indices(), s.values(), s.shape)
        found = []
        for x in (part["X"], csr):
            torch.manual_seed(1)
            found.append(sysvae({**part, "X": x})[2].loss)
        torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def test_known_values_of_the_published_cycle_distance():
    z1, z2 = torch.tensor([[0.0, 1], [1, 3], [2, 2]]), torch.tensor([[0.5, 1], [1, 2], [3, 2]])
    one, two = Normal(z1, 1.0), Normal(z2, 1.0)
    expected = torch.tensor([0.2127659, 1.7647058, 0.8510639])
    torch.testing.assert_close(SysVAE.latent_cycle_consistency(one, two), expected)


def test_known_values_of_the_cycle_distance():
    """Means 0, 2 and 2, 4 around 2; 10, 14 and 10, 10 around 11: mean square (4 + 0 + 0 + 4 + 12) / 8."""
    z = torch.tensor([[0.0], [2.0], [10.0], [14.0]])
    moved = torch.tensor([[2.0], [4.0], [10.0], [10.0]])
    batch = torch.tensor([[0], [0], [1], [1]])
    distance = build(2).cycle_distance(Normal(z, 1.0), Normal(moved, 1.0), batch)
    torch.testing.assert_close(distance, torch.tensor([4.0, 4.0, 0.0, 16.0]) / 2.5)


def test_pulling_systems_apart_brings_the_cycle_nothing():
    """The same cycle error counts the same wherever systems lie; with the published unit it does not."""
    batch = torch.tensor([0, 1]).repeat(4).unsqueeze(1)
    inside, error = torch.randn(8, 3).double(), torch.randn(8, 3).double() * 0.1
    sysvae = build(2)
    forms = {
        "here": lambda *pair: sysvae.cycle_distance(*pair, batch),
        "published": SysVAE.latent_cycle_consistency,
    }
    pull = {}
    for name, form in forms.items():
        apart = torch.tensor(2.0).double().requires_grad_()
        z = inside + apart * batch
        form(Normal(z, 1.0), Normal(z + error, 1.0)).sum().backward()
        pull[name] = apart.grad.item()
    assert pull["here"] == pytest.approx(0.0, abs=1e-12)
    assert pull["published"] < -1e-3


@pytest.mark.parametrize("factor", [1e-3, 50.0])
def test_the_cycle_distance_does_not_depend_on_scale(factor: float):
    batch = torch.tensor([0, 1, 1, 0, 1]).unsqueeze(1)
    z, error = torch.randn(5, 3), torch.randn(5, 3) * 0.1
    sysvae = build(2)
    found = [
        sysvae.cycle_distance(Normal(f * z, 1.0), Normal(f * (z + error), 1.0), batch)
        for f in (1.0, factor)
    ]
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


# what the published code does otherwise ---------------------------------------------------------


def test_the_cycle_encodes_the_cell_as_decoded_for_the_other_system():
    """Encoding the reconstruction in its own system instead leaves the other decode without use."""
    torch.manual_seed(3)
    sysvae, tensors = build().double().eval(), double(cells())
    inference, generative, _ = sysvae(tensors)
    other = torch.cat([generative["px_cycle"].loc, generative["px"].loc])
    assert not torch.allclose(other[:8], other[8:])
    cont, cats = sysvae._covariates(tensors)
    distances = []
    for shift in (1, 2):
        batch = (tensors["batch"] + shift) % 3
        decoded = sysvae.decoder(inference["z"], batch, *cats, cont=cont).loc
        encoded = sysvae.encoder(decoded, batch, *cats, cont=cont).loc
        distances.append((encoded - inference["qz_cycle"].loc).abs().amax(-1))
    assert (torch.stack(distances).amin(0) < 1e-9).all(), "each cell went one of the two ways"


def test_the_cycle_trains_the_decoder_of_the_other_system():
    """The cycle term alone must move the decoder's weights of systems the cells are not of."""
    sysvae = build(2, compat=None).eval()
    tensors = cells(8, 2)
    tensors["batch"][:] = 0
    inputs = sysvae._get_inference_input(tensors)
    inference = sysvae.inference(**inputs)
    other = torch.ones_like(tensors["batch"])
    decoded = sysvae.generative(
        **sysvae._get_generative_input(tensors, inference), cycle_batch=other
    )
    cycle = sysvae._encode_cycle(inputs, decoded, other)
    sysvae.latent_cycle_consistency(inference["qz"], cycle).sum().backward()
    weight = sysvae.decoder.decoder_y.fc_layers["Layer 0"]["0"].of_covariates
    of_systems = weight.grad[2 : 2 + 2].abs().sum(1)
    assert of_systems[1] > 0
    assert of_systems[0] == 0


def test_the_variance_is_a_variance():
    """The best constant fit has the variance of the data, not its square root or its square."""
    sysvae = build(prior="standard_normal").eval()
    x = torch.randn(4000, G) * 3
    variance = torch.nn.functional.softplus(sysvae.decoder.var_encoder.var_param)
    px = Normal(torch.zeros_like(x), torch.full((4000, G), 3.0))
    at_truth = sysvae._reconstruction(x, px).mean()
    for wrong in (math.sqrt(3), 9.0):
        other = Normal(torch.zeros_like(x), torch.full((4000, G), wrong))
        assert sysvae._reconstruction(x, other).mean() > at_truth
    assert variance.shape == (1, G)


def test_a_constant_latent_dimension_costs_nothing():
    loc = torch.randn(6, 2)
    loc[:, 1] = 4.0
    batch = torch.arange(6).remainder(2).unsqueeze(1)
    forms = (
        SysVAE.latent_cycle_consistency,
        lambda one, two: build(2).cycle_distance(one, two, batch),
    )
    for form in forms:
        start = loc.clone().requires_grad_()
        distance = form(Normal(start, 1.0), Normal(loc.clone(), 1.0))
        distance.sum().backward()
        assert torch.isfinite(distance).all()
        assert torch.isfinite(start.grad).all()


def test_one_cell():
    loc = torch.tensor([[1.0, 2.0, 0.0]])
    same_twice = SysVAE.latent_cycle_consistency(Normal(loc, 1.0), Normal(loc, 1.0))
    assert same_twice.tolist() == [0.0]
    other = SysVAE.latent_cycle_consistency(Normal(loc, 1.0), Normal(loc + 1, 1.0))
    torch.testing.assert_close(other, torch.tensor([6.0]))  # 2 for each dimension
    here = build().cycle_distance(Normal(loc, 1.0), Normal(loc + 1, 1.0), torch.tensor([[1]]))
    torch.testing.assert_close(here, torch.tensor([12.0]))  # 4: half of the distance is the spread
    sysvae = build()
    assert torch.isfinite(sysvae.eval()(cells(1))[2].loss)
    with pytest.raises(ValueError, match="2 cells"):
        sysvae.train()(cells(1))


def test_one_system_trains_without_the_cycle():
    sysvae = build(1)
    inference, generative, losses = sysvae(cells(8, 1), loss_kwargs={"z_distance_cycle_weight": 0})
    assert torch.isfinite(losses.loss)
    assert "qz_cycle" not in inference
    assert "px_cycle" not in generative
    with pytest.raises(ValueError, match="at least 2 systems"):
        sysvae(cells(8, 1))


def test_transform_batch_decodes_for_that_system():
    sysvae, tensors = build().eval(), cells()
    inference = sysvae.inference(**sysvae._get_inference_input(tensors))
    inputs = sysvae._get_generative_input(tensors, inference)
    observed = sysvae.generative(**inputs)["px"].loc
    as_one = sysvae.generative(**inputs, transform_batch=1)["px"].loc
    in_one = tensors["batch"].flatten() == 1
    torch.testing.assert_close(as_one[in_one], observed[in_one])
    assert not torch.isclose(as_one[~in_one], observed[~in_one]).all(dim=1).any()
    torch.testing.assert_close(
        sysvae.generative(**inputs, transform_batch=torch.tensor(1))["px"].loc, as_one
    )


def test_samples_are_as_many_as_asked_for(sysvae: SysVAE):
    tensors = cells()
    inference, generative, losses = sysvae(tensors, inference_kwargs={"n_samples": 3})
    assert inference["z"].shape == (3, 8, 4)
    assert inference["qz"].loc.shape == (8, 4)
    assert generative["px"].loc.shape == (3, 8, G)
    assert not torch.allclose(inference["z"][0], inference["z"][1])
    assert losses.n_obs_minibatch == 8
    assert torch.isfinite(losses.loss)


def test_other_systems_are_equally_likely():
    sysvae = build(4)
    batch = torch.arange(4).repeat(3000).unsqueeze(1)
    other = sysvae.random_select_batch(batch)
    assert other.shape == batch.shape
    assert (other != batch).all()
    for code in range(4):
        drawn = torch.bincount(other[batch == code], minlength=4).numpy()
        assert chisquare(np.delete(drawn, code)).pvalue > 1e-4


def test_the_decoder_draws_nothing():
    """Only the latent state is sampled, so the same seed gives the same z whatever is decoded."""
    sysvae, tensors = build().eval(), cells()
    torch.manual_seed(5)
    inference = sysvae.inference(**sysvae._get_inference_input(tensors))
    state = torch.get_rng_state()
    sysvae.generative(**sysvae._get_generative_input(tensors, inference))
    assert torch.equal(torch.get_rng_state(), state)


# options and errors -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"prior": "gmm"}, {"out_var_mode": "cell"}, {"compat": "splicevi"}],
    ids=lambda o: next(iter(o)),
)
def test_unknown_options_are_refused(options: dict):
    with pytest.raises(ValueError, match="not known"):
        build(**options)


def test_pseudo_inputs_must_be_there_and_as_many_as_components():
    with pytest.raises(AssertionError, match="pseudoinput_data"):
        SysVAE(G, 2)
    with pytest.raises(AssertionError, match="n_prior_components=3"):
        SysVAE(G, 3, 2, [3, 3], n_prior_components=3, pseudoinput_data=cells(K))


def test_pseudo_inputs_can_be_replaced():
    sysvae, others = build(), cells(K)
    sysvae.set_pseudoinputs(others)
    torch.testing.assert_close(sysvae.prior.u.data, others["X"])
    assert torch.equal(sysvae.prior.codes[:, :1], others["batch"])


def test_there_are_no_cells_to_draw():
    with pytest.raises(NotImplementedError, match="does not draw"):
        build().sample(cells())


def test_public_attributes():
    sysvae = build(embed_categorical_covariates=True)
    assert sysvae.n_batch == 3
    assert sysvae.embed_categorical_covariates
    assert sysvae.encoder is not sysvae.decoder
    assert sysvae.prior.kl is not None
    assert set(sysvae.embeddings_dict) == {"cov0", "cov1"}
    assert not any(name.startswith("prior.encoder") for name in sysvae.state_dict())
