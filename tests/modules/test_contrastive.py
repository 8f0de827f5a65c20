"""The contrastive VAE: its formulas in float64, every option, every corner."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from vivace.errors import InvalidArgumentError
from vivace.kernels import csr_tensor
from vivace.likelihoods import ZeroInflatedNegativeBinomial
from vivace.modules import ContrastiveVAE
from vivace.modules.energy_distance import energy_distance
from vivace.modules.pairs import paired
from vivace.modules.population import Population

G, N_Z, N_S = 12, 4, 3
QUANTITIES = {"z", "qz_m", "qz_v", "s", "qs_m", "qs_v", "library", "ql_m", "ql_v"}


def cells(b: int = 8, **extra: torch.Tensor) -> dict:
    return {
        "X": torch.poisson(torch.rand(b, G) * 3),
        "batch": torch.arange(b).remainder(2).unsqueeze(1),
        "labels": torch.arange(b).remainder(3).unsqueeze(1),
        "extra_continuous_covs": torch.randn(b, 2),
        "extra_categorical_covs": torch.randint(2, (b, 2)),
        "size_factor": torch.rand(b, 1) + 0.5,
        **extra,
    }


def pair(b: int = 8, t: int = 8) -> dict:
    return {"background": cells(b), "target": cells(t)}


def in_double(tensors: dict) -> dict:
    if isinstance(tensors, dict):
        return {k: in_double(v) for k, v in tensors.items()}
    return tensors.double() if tensors.is_floating_point() else tensors


PRIOR = {
    "library_log_means": np.array([[2.0, 2.5]]),
    "library_log_vars": np.array([[0.5, 0.3]]),
}
OPTIONS = {
    "default": {},
    "nb": {"gene_likelihood": "nb"},
    "gene-batch": {"dispersion": "gene-batch"},
    "gene-label": {"dispersion": "gene-label"},
    "nb gene-label": {"dispersion": "gene-label", "gene_likelihood": "nb"},
    "latent library": {"use_observed_lib_size": False, **PRIOR},
    "size factor": {"use_size_factor_key": True},
    "penalty": {"wasserstein_penalty": 2.0},
    "deep": {"n_layers": 2},
}


def build(**options) -> ContrastiveVAE:
    return ContrastiveVAE(
        G,
        n_batch=2,
        n_hidden=16,
        n_background_latent=N_Z,
        n_salient_latent=N_S,
        **{"n_labels": 3, "n_continuous_cov": 2, "n_cats_per_cov": [2, 2], **options},
    )


@pytest.fixture(params=OPTIONS)
def vae(request: pytest.FixtureRequest) -> ContrastiveVAE:
    return build(**OPTIONS[request.param])


# every option -----------------------------------------------------------------------------------


def test_a_step_gives_every_parameter_a_gradient(vae: ContrastiveVAE):
    *_, losses = vae(pair())
    losses.loss.backward()
    assert not [name for name, p in vae.named_parameters() if p.grad is None]
    assert torch.isfinite(losses.loss)


@pytest.mark.parametrize("n_samples", [1, 3])
def test_loss_is_the_formula(vae: ContrastiveVAE, n_samples: int):
    vae = vae.double().eval()
    tensors = in_double(pair())
    inference, decoded, losses = vae(
        tensors, inference_kwargs={"n_samples": n_samples}, loss_kwargs={"kl_weight": 0.3}
    )
    latent_library = not vae.use_observed_lib_size
    reconstruction = kl_z = kl_l = 0
    for name in ("background", "target"):
        x, outputs, px = tensors[name]["X"], inference[name], decoded[name]
        theta, batch = px["px_r"], tensors[name]["batch"][:, 0]
        log_p = nb(x, px["px_rate"], theta)
        if px["px_dropout"] is not None:
            log_p = zero_inflated(x, log_p, px["px_dropout"])
        reconstruction = reconstruction - log_p.sum(-1)
        kl_z = kl_z + standard_kl(outputs["qz_m"], outputs["qz_v"])
        if latent_library:
            prior_mean, prior_var = vae.library_log_means[0, batch], vae.library_log_vars[0, batch]
            mean, var = outputs["ql_m"][..., 0], outputs["ql_v"][..., 0]
            ratio = var / prior_var
            kl_l = kl_l + 0.5 * (ratio + (mean - prior_mean) ** 2 / prior_var - 1 - ratio.log())
    kl_s = standard_kl(inference["target"]["qs_m"], inference["target"]["qs_v"])
    of_background = inference["background"]
    wasserstein = (of_background["qs_m"] ** 2).sum(-1) + of_background["qs_v"].sum(-1)
    warmed_up = vae.wasserstein_penalty * wasserstein + kl_z + kl_s
    expected = (reconstruction + 0.3 * warmed_up + kl_l).mean()
    torch.testing.assert_close(losses.loss, expected, rtol=1e-9, atol=1e-9)
    found = losses.kl_local
    assert found.keys() == {"kl_divergence_l", "kl_divergence_z", "kl_divergence_s"}
    torch.testing.assert_close(found["kl_divergence_z"], kl_z)
    torch.testing.assert_close(found["kl_divergence_s"], kl_s)
    torch.testing.assert_close(losses.reconstruction_loss["reconstruction_loss"], reconstruction)
    torch.testing.assert_close(losses.extra_metrics["wasserstein_loss_sum"], wasserstein.sum())
    assert losses.n_obs_minibatch == 8


@pytest.mark.parametrize("n_samples", [1, 3])
@pytest.mark.parametrize("t", [8, 5])
def test_the_energy_distance_is_of_background_states_and_beside_the_bound(t: int, n_samples: int):
    vae, tensors = build().double().eval(), in_double(pair(8, t))
    inference, decoded, without = vae(tensors, inference_kwargs={"n_samples": n_samples})
    weighted = vae.loss(tensors, inference, decoded, energy_distance_weight=3.0)
    z = [inference[name]["z"].reshape(-1, t, N_Z) for name in ("background", "target")]
    expected = torch.stack([energy_distance(x, y) for x, y in zip(*z, strict=True)]).mean()
    torch.testing.assert_close(weighted.extra_metrics["energy_distance"], expected)
    torch.testing.assert_close(weighted.loss, without.loss + 3 * expected, rtol=1e-12, atol=0)
    assert torch.equal(weighted.reconstruction_loss_sum, without.reconstruction_loss_sum)
    assert torch.equal(weighted.kl_local_sum, without.kl_local_sum)


def test_without_a_weight_the_published_loss_is_there_to_the_bit():
    vae, tensors = build().eval(), pair()
    inference, decoded, published = vae(tensors)
    off = vae.loss(tensors, inference, decoded, energy_distance_weight=0.0)
    assert torch.equal(off.loss, published.loss)
    assert off.extra_metrics.keys() == {"wasserstein_loss_sum"}


def nb(x: torch.Tensor, mu: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    return (
        theta * (theta.log() - (theta + mu).log())
        + x * (mu.log() - (theta + mu).log())
        + torch.lgamma(x + theta)
        - torch.lgamma(theta)
        - torch.lgamma(x + 1)
    )


def zero_inflated(x: torch.Tensor, log_nb: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    p = torch.sigmoid(logits)
    zero = (p + (1 - p) * log_nb.exp()).log()
    return torch.where(x == 0, zero, (1 - p).log() + log_nb)


def standard_kl(mean: torch.Tensor, var: torch.Tensor) -> torch.Tensor:
    return 0.5 * (var + mean**2 - 1 - var.log()).sum(-1)


def test_sparse_and_dense_counts_give_the_same(vae: ContrastiveVAE):
    vae.eval()
    dense = pair(5, 8)

    def sparse(x: torch.Tensor) -> torch.Tensor:
        csr = x.to_sparse_csr()
        return csr_tensor(csr.crow_indices(), csr.col_indices(), csr.values(), csr.shape)

    both = [dense, {name: {**c, "X": sparse(c["X"])} for name, c in dense.items()}]
    outputs = []
    for tensors in both:
        torch.manual_seed(1)
        outputs.append(vae(tensors))
    (one, _, from_dense), (other, _, from_sparse) = outputs
    torch.testing.assert_close(one["target"]["qs_m"], other["target"]["qs_m"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(from_dense.loss, from_sparse.loss, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n_samples", [1, 3])
def test_shapes(vae: ContrastiveVAE, n_samples: int):
    tensors = pair()
    inference, decoded, _ = vae(tensors, inference_kwargs={"n_samples": n_samples})
    lead = () if n_samples == 1 else (n_samples,)
    widths = {"z": N_Z, "s": N_S, "l": 1}
    for name in ("background", "target"):
        outputs = inference[name]
        assert outputs.keys() == QUANTITIES
        for key, value in outputs.items():
            if value is None:
                assert vae.use_observed_lib_size
                assert key in ("ql_m", "ql_v")
            else:
                width = widths[key[1] if key.startswith("q") else key[0]]
                assert value.shape == (*lead, 8, width), key
        for key in ("px_scale", "px_rate"):
            assert decoded[name][key].shape == (*lead, 8, G)
        assert set(decoded[name]) == {"px_scale", "px_rate", "px_r", "px_dropout"}
    sampled = vae.sample(tensors=tensors, n_samples=n_samples)
    assert sampled["target"].shape == ((8, G) if n_samples == 1 else (8, G, n_samples))
    with pytest.raises(KeyError):
        decoded["target"]["px"]


def test_each_population_answers_like_a_vae(vae: ContrastiveVAE):
    vae.eval()
    for salient in (False, True):
        population = Population(vae, salient=salient)
        one = cells()
        outputs, generative, losses = population(one)
        assert outputs["z"].shape == (8, N_Z + N_S * salient)
        assert losses.reconstruction_loss["reconstruction_loss"].shape == (8,)
        assert population.sample(one, n_samples=2).shape == (8, G, 2)
        values = population.marginal_ll(one, 4, n_mc_samples_per_pass=2)
        assert torch.isfinite(values).all()
        assert generative["px"].get_normalized("mu").shape == (8, G)


def test_state_dict_round_trip(vae: ContrastiveVAE):
    torch.manual_seed(7)
    other = {
        k: torch.randn_like(v) if v.is_floating_point() else v for k, v in vae.state_dict().items()
    }
    vae.load_state_dict(other)
    assert all((vae.state_dict()[k] == v).all() for k, v in other.items())


# populations ------------------------------------------------------------------------------------


def test_the_salient_state_of_background_cells_is_exactly_zero_and_decoded_as_such():
    vae, tensors = build().eval(), pair()
    for n_samples in (1, 3):
        inference, decoded = vae(
            tensors, inference_kwargs={"n_samples": n_samples}, compute_loss=False
        )
        assert (inference["background"]["s"] == 0).all()
        assert (inference["background"]["qs_m"] != 0).any(), "kept for the penalty"
        assert (inference["target"]["s"] != 0).all()
    inputs = vae._get_generative_input(tensors, inference)
    with torch.no_grad():
        vae.decoder.px_decoder.fc_layers["Layer 0"]["0"].of_input[N_Z : N_Z + N_S] += 1.0
    moved = vae.generative(**inputs)
    torch.testing.assert_close(moved["background"]["px_rate"], decoded["background"]["px_rate"])
    assert not torch.allclose(moved["target"]["px_rate"], decoded["target"]["px_rate"])


def test_both_populations_meet_in_one_normalisation():
    """Batch statistics are those of all cells: another target changes the background's posterior."""
    vae, tensors = build(), pair()
    torch.manual_seed(0)
    first = vae.inference(**vae._get_inference_input(tensors))["background"]["qz_m"]
    other = {**tensors, "target": {**tensors["target"], "X": tensors["target"]["X"] * 3}}
    torch.manual_seed(0)
    second = vae.inference(**vae._get_inference_input(other))["background"]["qz_m"]
    assert not torch.allclose(first, second)


def test_several_samples_are_several_draws():
    vae, tensors = build(use_observed_lib_size=False, **PRIOR).eval(), pair()
    out = vae.inference(**vae._get_inference_input(tensors), n_samples=200)["target"]
    for draws, mean, var in (
        ("z", "qz_m", "qz_v"),
        ("s", "qs_m", "qs_v"),
        ("library", "ql_m", "ql_v"),
    ):
        assert (out[draws][0] != out[draws][1]).all()
        off = (out[draws].mean(0) - out[mean][0]) / (out[var][0] / 200).sqrt()
        assert off.abs().max() < 5


def test_the_larger_population_counts_up_to_the_size_of_the_other_and_nothing_is_modified():
    vae = build().double().eval()
    tensors = in_double(pair(5, 8))
    shapes = {name: {k: v.shape for k, v in c.items()} for name, c in tensors.items()}
    inference, decoded, losses = vae(tensors)
    assert {name: {k: v.shape for k, v in c.items()} for name, c in tensors.items()} == shapes
    assert losses.n_obs_minibatch == 5
    assert inference["target"]["z"].shape[0] == 5
    again = vae.loss(paired(tensors), inference, decoded)
    assert losses.loss == again.loss


@pytest.mark.parametrize("sizes", [(5, 8), (8, 5), (1, 3)])
@pytest.mark.parametrize("n_samples", [1, 3])
def test_steps_by_hand_take_populations_of_unequal_size(sizes: tuple[int, int], n_samples: int):
    """Each step takes all cells; the loss is that of the pairs among them."""
    vae = build(use_observed_lib_size=False, wasserstein_penalty=2.0, **PRIOR).double().eval()
    tensors = in_double(pair(*sizes))
    inputs = {name: vae._encoder_inputs(part) for name, part in tensors.items()}
    inference = vae.inference(**inputs, n_samples=n_samples)
    assert [inference[name]["z"].shape[-2] for name in tensors] == list(sizes)
    decoded = vae.generative(**vae._get_generative_input(tensors, inference))
    assert [decoded[name]["px_rate"].shape[-2] for name in tensors] == list(sizes)
    losses = vae.loss(tensors, inference, decoded)
    n = min(sizes)
    plain = [{name: dict(part) for name, part in pair.items()} for pair in (inference, decoded)]
    torch.testing.assert_close(vae.loss(tensors, *plain).loss, losses.loss)
    rows = {
        name: {
            key: value if value is None or value.dim() == 1 else value[..., :n, :]
            for key, value in part.items()
        }
        for name, part in inference.items()
    }
    first = {
        name: {key: value[:n] for key, value in part.items()} for name, part in tensors.items()
    }
    wanted = vae.loss(first, rows, vae.generative(**vae._get_generative_input(first, rows)))
    torch.testing.assert_close(losses.loss, wanted.loss)
    torch.testing.assert_close(losses.extra_metrics, wanted.extra_metrics)
    assert losses.n_obs_minibatch == n
    for key, term in losses.kl_local.items():
        torch.testing.assert_close(term, wanted.kl_local[key])


# cells drawn from the prior ---------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIONS)
def test_cells_can_be_drawn_from_the_prior(name: str):
    vae = build(**OPTIONS[name])
    state = {key: value.clone() for key, value in vae.state_dict().items()}
    one, several = vae.eval().sample(), vae.sample(n_samples=4)
    for population in ("background", "target"):
        assert one[population].shape == (1, G)
        assert several[population].shape == (4, G)
        assert (several[population] == several[population].round()).all()
        assert (several[population] >= 0).all()
    assert all(torch.equal(value, state[key]) for key, value in vae.state_dict().items())


def linear_in_salient(**options: object) -> ContrastiveVAE:
    """Every cell decodes to equal shares, and 99 of 100 counts to gene 0 where s_0 > 0."""
    vae = build(n_continuous_cov=0, n_cats_per_cov=None, gene_likelihood="nb", **options).eval()
    trunk, head = vae.decoder.px_decoder.fc_layers["Layer 0"], vae.decoder.px_scale_decoder[0]
    with torch.no_grad():
        for parameter in (*trunk["0"].parameters(), *head.parameters()):
            parameter.zero_()
        trunk["0"].of_input[N_Z, 0] = 1e6
        head.weight[0, 0] = 1.0
        vae.px_r.fill_(20.0)
    return vae


def test_target_cells_of_the_prior_have_a_salient_state_and_background_cells_none():
    drawn = linear_in_salient().sample(n_samples=2000, library_size=600)
    shares = {name: x[:, 0] / x.sum(1) for name, x in drawn.items()}
    assert shares["background"].max() < 0.2, "equal shares of 12 genes"
    above = (shares["target"] > 0.9).double().mean()
    assert abs(above - 0.5) < 0.05


def test_library_sizes_of_the_prior():
    """Latent: as the prior of the batch says; observed: the total asked for; else the size factor."""
    even = linear_in_salient()
    for size, wanted in ((None, 1e4), (600, 600)):
        totals = even.sample(n_samples=200, library_size=size)["background"].sum(1)
        assert abs(totals.mean() / wanted - 1) < 0.02
    prior = {
        "library_log_means": np.array([[2.0, 6.0]]),
        "library_log_vars": np.full((1, 2), 0.01),
    }
    latent = linear_in_salient(use_observed_lib_size=False, **prior)
    totals = latent.sample(n_samples=400)["background"].sum(1)
    small = totals < 50
    assert abs(small.double().mean() - 0.5) < 0.1, "batches are equally likely"
    assert abs(totals[~small].log().mean() - 6) < 0.05
    assert abs(totals[small].mean() / math.exp(2) - 1) < 0.15
    scaled = linear_in_salient(use_size_factor_key=True)
    totals = [scaled.sample(n_samples=400, library_size=s)["background"].sum(1) for s in (None, 10)]
    assert abs(totals[0].mean() / (G * math.log(2)) - 1) < 0.1  # softplus(0) of every gene
    assert abs(totals[1].mean() / totals[0].mean() - 10) < 1


@pytest.mark.parametrize("size", [0, -1, math.nan, math.inf])
def test_library_sizes_that_mean_nothing_are_refused(size: float):
    with pytest.raises(InvalidArgumentError, match="library_size"):
        build().sample(library_size=size)


def test_a_library_size_is_refused_where_it_is_not_used():
    with pytest.raises(InvalidArgumentError, match="tensors"):
        build().sample(tensors=pair(), library_size=10)
    with pytest.raises(InvalidArgumentError, match="latent"):
        build(use_observed_lib_size=False, **PRIOR).sample(library_size=10)


def test_a_population_is_the_contrastive_model():
    """The bounds of both cells add up to that of the pair, for one draw of the latent state."""
    vae = build(wasserstein_penalty=0).double().eval()
    tensors = in_double(pair())
    inference, decoded, losses = vae(tensors)
    total = 0.0
    for name, salient in (("background", False), ("target", True)):
        population = Population(vae, salient=salient)
        q = population.inference(**population._get_inference_input(tensors[name]))["qz"]
        keys = ("z", "s") if salient else ("z",)
        outputs = {
            "z": torch.cat([inference[name][k] for k in keys], -1),
            "library": inference[name]["library"],
            "qz": q,
            "ql": None,
        }
        generative = population.generative(
            **population._get_generative_input(tensors[name], outputs)
        )
        torch.testing.assert_close(generative["px"].mu, decoded[name]["px_rate"])
        total = total + population.loss(tensors[name], outputs, generative).loss
    torch.testing.assert_close(total, losses.loss)


# static methods ---------------------------------------------------------------------------------


def test_reconstruction_loss_is_the_likelihood_of_zinb():
    x = torch.tensor([[0.0, 1.0, 5.0]])
    mu, theta = torch.tensor([[0.5, 2.0, 3.0]]), torch.tensor([1.0, 2.0, 0.5])
    logits = torch.tensor([[0.3, -1.0, 2.0]])
    found = ContrastiveVAE.reconstruction_loss(x, mu, theta, logits)
    torch.testing.assert_close(found, torch.tensor([7.1252151]))
    three = ContrastiveVAE.reconstruction_loss(x, mu.expand(3, 1, 3), theta, logits.expand(3, 1, 3))
    torch.testing.assert_close(three, found.expand(3, 1))
    exact = -ZeroInflatedNegativeBinomial(mu.double(), theta.double(), logits.double()).log_prob(
        x.double()
    )
    torch.testing.assert_close(
        ContrastiveVAE.reconstruction_loss(
            x.double(), mu.double(), theta.double(), logits.double()
        ),
        exact.sum(-1),
        rtol=1e-9,
        atol=0,
    )


def test_latent_divergence_takes_variances_and_numbers():
    mean = torch.tensor([[0.0, 1.0], [1.0, 3.0], [2.0, 2.0]])
    found = ContrastiveVAE.latent_kl_divergence(mean, 0.25, 0, 1)
    torch.testing.assert_close(found, torch.tensor([1.1362944, 5.6362944, 4.6362944]))
    args = [torch.rand(4, 5, 3).double() + 0.1 for _ in range(4)]
    m, v, pm, pv = args
    exact = kl_divergence(Normal(m, v.sqrt()), Normal(pm, pv.sqrt())).sum(-1)
    torch.testing.assert_close(ContrastiveVAE.latent_kl_divergence(*args), exact)


def test_library_divergence_by_batch_and_zero_where_observed():
    vae = build(use_observed_lib_size=False, **PRIOR).double()
    batch = torch.tensor([[0], [1], [1]])
    mean, var = torch.randn(3, 1).double(), torch.rand(3, 1).double() + 0.1
    found = vae.library_kl_divergence(batch, mean, var, mean)
    prior = Normal(
        torch.tensor([2.0, 2.5, 2.5]).double(),
        torch.tensor([0.5, 0.3, 0.3]).double().sqrt(),
    )
    exact = kl_divergence(Normal(mean[:, 0], var[:, 0].sqrt()), prior)
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-6)  # the prior is stored as float32
    library = torch.randn(2, 3, 1)
    assert (build().library_kl_divergence(batch, None, None, library) == torch.zeros(2, 3)).all()


# conditioning -----------------------------------------------------------------------------------


def test_covariates_reach_encoders_and_decoder_and_the_size_factor_the_mean():
    vae, tensors = build().eval(), pair()
    base = vae.inference(**vae._get_inference_input(tensors))["target"]
    inputs = vae._get_generative_input(tensors, vae.inference(**vae._get_inference_input(tensors)))
    rate = vae.generative(**inputs)["target"]["px_rate"]
    for key, value in (
        ("batch", 1 - tensors["target"]["batch"]),
        ("extra_categorical_covs", 1 - tensors["target"]["extra_categorical_covs"]),
        ("extra_continuous_covs", tensors["target"]["extra_continuous_covs"] + 1),
    ):
        changed = {**tensors, "target": {**tensors["target"], key: value}}
        other = vae.inference(**vae._get_inference_input(changed))["target"]
        assert not torch.allclose(base["qz_m"], other["qz_m"]), key
        assert not torch.allclose(base["qs_m"], other["qs_m"]), key
        own = {"batch": "batch_index", "extra_categorical_covs": "cat_covs"}.get(key, "cont_covs")
        moved = vae.generative(inputs["background"], {**inputs["target"], own: value})
        assert not torch.allclose(rate, moved["target"]["px_rate"]), key
    scaled = build(use_size_factor_key=True).eval()
    _, decoded = scaled(tensors, compute_loss=False)
    px = decoded["target"]
    torch.testing.assert_close(px["px_rate"], px["px_scale"] * tensors["target"]["size_factor"])
    without = {n: {k: v for k, v in c.items() if k != "size_factor"} for n, c in tensors.items()}
    with pytest.raises(InvalidArgumentError, match="size_factor"):
        scaled(without)


def test_labels_choose_the_dispersion():
    vae, tensors = build(dispersion="gene-label").eval(), pair()
    _, decoded = vae(tensors, compute_loss=False)
    theta = vae.px_r.t()[tensors["target"]["labels"][:, 0]].exp()
    torch.testing.assert_close(decoded["target"]["px_r"], theta)
    without = {n: {k: v for k, v in c.items() if k != "labels"} for n, c in tensors.items()}
    with pytest.raises(InvalidArgumentError, match="labels"):
        vae(without)


def test_transform_batch_replaces_the_batch_of_the_decoder_alone():
    vae, tensors = build(dispersion="gene-batch").eval(), pair()
    inputs = vae._get_generative_input(tensors, vae.inference(**vae._get_inference_input(tensors)))
    moved = vae.generative(**inputs, transform_batch=1)
    ones = torch.ones(8, 1, dtype=torch.long)
    direct = vae.generative(*({**inputs[n], "batch_index": ones} for n in ("background", "target")))
    for name in ("background", "target"):
        assert (moved[name]["px_rate"] == direct[name]["px_rate"]).all()
        assert (moved[name]["px_r"] == direct[name]["px_r"]).all()


# corners ----------------------------------------------------------------------------------------


def test_an_empty_cell_has_finite_loss_and_gradients():
    for likelihood in ("zinb", "nb"):
        vae, tensors = build(gene_likelihood=likelihood), pair()
        tensors["target"]["X"][0] = 0
        *_, losses = vae(tensors)
        losses.loss.backward()
        assert torch.isfinite(losses.loss)
        assert all(torch.isfinite(p.grad).all() for p in vae.parameters())


def test_one_cell_of_each_population_trains():
    *_, losses = build()(pair(1, 1))
    losses.loss.backward()
    assert torch.isfinite(losses.loss)


@pytest.mark.parametrize("n_batch", [0, 1])
def test_no_batch_or_one_adds_no_columns(n_batch: int):
    vae = ContrastiveVAE(G, n_batch=n_batch, n_background_latent=N_Z, n_salient_latent=N_S)
    assert vae.decoder.px_decoder.fc_layers["Layer 0"]["0"].in_features == N_Z + N_S
    tensors = {
        name: {"X": c["X"], "batch": torch.zeros(8, 1, dtype=torch.long)}
        for name, c in pair().items()
    }
    vae(tensors)
    latent = ContrastiveVAE(
        G,
        n_batch=n_batch,
        use_observed_lib_size=False,
        library_log_means=np.array([[2.0]]),
        library_log_vars=np.array([[0.0]]),
    )
    *_, losses = latent(tensors)
    assert torch.isfinite(losses.loss)


def test_kl_weight_may_be_a_tensor():
    vae, tensors = build().eval(), pair()
    outputs = vae(tensors, compute_loss=False)
    losses = [vae.loss(tensors, *outputs, kl_weight=w).loss for w in (0.5, torch.tensor(0.5))]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"use_observed_lib_size": False}, "library_log_means"),
        ({"gene_likelihood": "poisson"}, "gene_likelihood"),
        ({"dispersion": "gene-cell"}, "dispersion"),
        ({"dispersion": "gene-label", "n_labels": 0}, "n_labels"),
        ({"compat": "scvi"}, "scvi-tools"),
    ],
)
def test_wrong_options_say_so(options: dict, match: str):
    with pytest.raises(InvalidArgumentError, match=match):
        build(**options)


def test_nothing_is_built_that_is_not_used():
    names = {name.split(".")[0] for name, _ in build().named_parameters()}
    assert names == {"px_r", "z_encoder", "s_encoder", "decoder"}
    assert build(gene_likelihood="nb").decoder.px_dropout_decoder is None


def test_marginal_likelihood_is_exact_where_the_decoder_ignores_the_latent_state():
    """With q = p and a decoder that does not depend on the latent state every weight is p(x)."""
    vae = build(gene_likelihood="nb").double().eval()
    with torch.no_grad():
        for encoder in (vae.z_encoder, vae.s_encoder):
            for layer in (encoder.mean_encoder, encoder.var_encoder):
                layer.weight.zero_()
                layer.bias.zero_()
            encoder.var_encoder.bias.fill_(math.log(1 - 1e-4))  # variance exactly 1
        vae.decoder.px_decoder.fc_layers["Layer 0"]["0"].of_input.zero_()
    one = in_double(cells())
    for salient in (False, True):
        population = Population(vae, salient=salient)
        _, generative = population(one, compute_loss=False)
        exact = generative["px"].log_prob(one["X"]).sum(1)
        found = population.marginal_ll(one, 4, n_mc_samples_per_pass=3)
        torch.testing.assert_close(found, exact, rtol=1e-9, atol=1e-9)
