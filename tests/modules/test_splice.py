"""SPLICEVAE: mixing, penalty, gate, loss, encoders, published numbers, refusals."""

from __future__ import annotations

import inspect
import math
from dataclasses import FrozenInstanceError, fields

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from vivace.errors import InvalidArgumentError, InvalidDataError
from vivace.kernels.splicing import event_map, observed_entries
from vivace.modules import SPLICEVAE
from vivace.modules.splice_latent import (
    Posterior,
    dimension_weights,
    jeffreys,
    masked_weights,
    mix,
)
from vivace.modules.splice_options import SpliceOptions
from vivace.modules.splice_reference import convert_reference_state_dict
from vivace.nn import partial_encoder
from vivace.nn.partial_encoder import Observed, PartialEncoder
from vivace.nn.splicing_decoder import LinearSplicingDecoder

EVENTS = torch.tensor([0, 0, 1, 1, 1, 2, 2])
B, G, J = 6, 12, 7


def cells(seed: int = 0) -> dict[str, torch.Tensor]:
    """Cells of two batches; cell 4 has no expression, cell 5 no splicing."""
    g = torch.Generator().manual_seed(seed)
    x = torch.poisson(2 * torch.rand(B, G, generator=g), generator=g)
    x[4] = 0
    junctions = torch.poisson(3 * torch.rand(B, J, generator=g), generator=g)
    junctions[:3, 5:] = 0
    junctions[5] = 0
    return {
        "X": x,
        "junc_counts_key": junctions,
        "batch": torch.arange(B).remainder(2).unsqueeze(1),
        "labels": torch.zeros(B, 1, dtype=torch.long),
        "ind_x": torch.arange(B).unsqueeze(1),
    }


def build(**options: object) -> SPLICEVAE:
    torch.manual_seed(0)
    defaults = {
        "n_batch": 2,
        "n_obs": B,
        "n_hidden": 10,
        "n_latent": 3,
        "event_index": EVENTS,
        "splicing_encoder_architecture": "partial",
        "use_size_factor_key": True,
    }
    return SPLICEVAE(G, J, **{**defaults, **options}).eval()


OPTIONS = {
    "vanilla": {"splicing_encoder_architecture": "vanilla"},
    "linear": {"splicing_decoder_architecture": "linear", "expression_architecture": "linear"},
    "binomial": {"splicing_loss_type": "binomial"},
    "beta_binomial": {"splicing_loss_type": "beta_binomial"},
    "scalar": {"dm_concentration": "scalar"},
    "concatenate": {"modality_weights": "concatenate"},
    "per_dimension": {"modality_weights": "per_dimension_weighted_average"},
    "cell": {"modality_weights": "cell", "gene_dispersion": "gene-cell"},
    "universal": {"modality_weights": "universal", "gene_dispersion": "gene-label", "n_labels": 2},
    "mmd": {"modality_penalty": "MMD", "gene_dispersion": "gene-batch"},
    "none": {"modality_penalty": None, "gene_likelihood": "nb"},
    "ln": {"latent_distribution": "ln", "gene_likelihood": "poisson"},
    "library": {"use_size_factor_key": False, "deeply_inject_covariates": True},
    "covariates": {"encode_covariates": True, "n_cats_per_cov": [3], "n_continuous_cov": 2},
    "deviation": {"psi_input": "deviation", "pool_mode": "sum"},
    "gamma": {"phi_prior": "gamma", "phi_floor": 0.5},
    "fixed": {"splicing_concentration": 20.0},
    "splicevi": {"compat": "splicevi"},
    "splicevi_linear": {
        "compat": "splicevi",
        "expression_architecture": "linear",
        "splicing_loss_type": "binomial",
    },
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_trains_and_dense_equals_sparse(name: str):
    module, tensors = build(dropout_rate=0.0, **OPTIONS[name]), cells()
    tensors |= {
        "extra_categorical_covs": torch.arange(B).remainder(3).unsqueeze(1),
        "extra_continuous_covs": torch.randn(B, 2),
    }
    if name != "covariates":
        del tensors["extra_continuous_covs"], tensors["extra_categorical_covs"]
    torch.manual_seed(1)
    *_, dense = module(tensors)
    sparse = {k: v.to_sparse_csr() if k[0] in "Xj" else v for k, v in tensors.items()}
    torch.manual_seed(1)
    *_, losses = module(sparse)
    assert torch.allclose(dense.loss, losses.loss, rtol=1e-5)
    module.train()
    module.set_cross_gate(1.0)
    *_, losses = module(tensors)
    losses.loss.backward()
    assert torch.isfinite(losses.loss)
    used = [p for p in module.parameters() if p.requires_grad]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in used)
    for term in (*losses.reconstruction_loss.values(), *losses.kl_local.values()):
        assert term.shape == (B,)


def test_totals_and_mask_give_the_same_as_junction_counts():
    module, tensors = build(), cells()
    counts = tensors["junc_counts_key"]
    totals = counts.new_zeros(B, 3).index_add(1, EVENTS, counts)[:, EVENTS]
    full = tensors | {"atse_counts_key": totals, "psi_observed_mask": (totals > 0).float()}
    losses = []
    for given in (tensors, full):
        torch.manual_seed(1)
        losses.append(module(given)[2].loss)
    assert losses[0] == losses[1]
    full["psi_observed_mask"][0, 0] = 0
    with pytest.raises(InvalidArgumentError, match="whole events"):
        module(full)


def test_expression_and_ratios_in_one_matrix():
    module, tensors = build(), cells()
    counts = tensors["junc_counts_key"]
    totals = counts.new_zeros(B, 3).index_add(1, EVENTS, counts)[:, EVENTS]
    x = torch.cat([tensors["X"], counts / totals.clamp(min=1)], dim=1)
    wanted = module.inference(**module._get_inference_input(tensors))
    found = module.inference(x, totals > 0, tensors["batch"], None, None, None, None, None)
    assert torch.allclose(found["qz_m"], wanted["qz_m"], atol=1e-6)
    with pytest.raises(InvalidArgumentError, match="columns"):
        module.inference(x[:, 1:], totals > 0, tensors["batch"], None, None, None, None, None)


# mixing -----------------------------------------------------------------------------------------

E = Posterior(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.25, 4.0]]))
S = Posterior(torch.tensor([[3.0, -2.0]]), torch.tensor([[1.0, 1.0]]))
HALF = masked_weights(torch.ones(2), torch.ones(1, 2, dtype=torch.bool))


@pytest.mark.parametrize(
    ("rule", "variance"),
    [
        ("sqrt_weights", [1.25 / math.sqrt(2), 5.0 / math.sqrt(2)]),
        ("linear", [0.625, 2.5]),
        ("squared", [0.3125, 1.25]),
    ],
)
def test_average_of_two_posteriors(rule: str, variance: list[float]):
    joint = mix(E, S, HALF, rule)
    assert torch.allclose(joint.mean, torch.tensor([[2.0, 0.0]]))
    assert torch.allclose(joint.variance, torch.tensor([variance]))


def test_weights_of_dimensions_average_to_one_half():
    present = torch.tensor([[True, True], [True, False], [False, True]])
    weights = dimension_weights(torch.tensor([2.0, -1.0, 0.3]), present)
    assert torch.allclose(weights.sum(1), torch.ones(3, 3))
    assert weights[0, 1].mean().item() == pytest.approx(0.5)
    assert weights[1, 0].tolist() == [1, 1, 1]
    assert weights[2, 1].tolist() == [1, 1, 1]
    by_hand = mix(E, S, torch.tensor([[[0.25, 0.5], [0.75, 0.5]]]), "sqrt_weights")
    assert torch.allclose(by_hand.variance, torch.tensor([[0.875**2, 2.25]]))
    assert torch.allclose(by_hand.mean, torch.tensor([[2.5, 0.0]]))


@pytest.mark.parametrize("kind", ["equal", "universal", "cell", "per_dimension_weighted_average"])
def test_a_cell_without_one_modality_takes_the_other(kind: str):
    module = build(modality_weights=kind)
    out = module.inference(**module._get_inference_input(cells()))
    assert torch.allclose(out["qz_m"][4], out["qzm_spl"][4])
    assert torch.allclose(out["qz_v"][5], out["qzv_expr"][5])


def test_concatenation_keeps_both():
    out = build(modality_weights="concatenate").inference(**build()._get_inference_input(cells()))
    assert torch.equal(out["qz_m"], torch.cat([out["qzm_expr"], out["qzm_spl"]], 1))


def test_weights_of_cells_are_refused_for_new_cells():
    tensors = cells()
    tensors["ind_x"] = tensors["ind_x"] + 1
    with pytest.raises(InvalidArgumentError, match="universal"):
        build(modality_weights="cell")(tensors)


# penalty ----------------------------------------------------------------------------------------


def test_penalty_is_the_symmetric_divergence_of_variances():
    a, b = (Normal(q.mean, q.variance.sqrt()) for q in (E, S))
    wanted = (kl_divergence(a, b) + kl_divergence(b, a)).sum(-1)
    assert torch.allclose(jeffreys(E, S), wanted)
    assert jeffreys(E, E).item() == 0


def test_penalty_does_not_grow_with_the_minibatch_and_spares_single_modalities():
    module, tensors = build(), cells()
    losses = module(tensors)[2]
    twice = module({k: torch.cat([v, v]) for k, v in tensors.items()})[2]
    penalty = losses.kl_local["kl_divergence_paired"]
    assert torch.allclose(twice.kl_local["kl_divergence_paired"][:B], penalty)
    assert penalty[[4, 5]].tolist() == [0, 0]
    assert (penalty[:4] > 0).all()
    old = build(compat="splicevi", dm_mean="softmax")(tensors)[2].kl_local["kl_divergence_paired"]
    assert (old == old[0]).all()  # as published: the sum over cells, for every cell


# gate -------------------------------------------------------------------------------------------


def test_the_gate_acts_in_training_only_and_by_torchs_seed():
    module, tensors = build(dropout_rate=0.0), cells()
    inputs = module._get_inference_input(tensors)
    answers = []
    for gate in (0.0, 1.0, 0.0):
        module.set_cross_gate(gate)
        answers.append(module.inference(**inputs)["qz_m"])
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])
    module.train()
    routes = []
    for _ in range(2):
        torch.manual_seed(3)
        routes.append([bool((o["qz_m"][0] == o["qzm_spl"][0]).all()) for o in _ten(module, inputs)])
    assert routes[0] == routes[1]
    assert 0 < sum(routes[0]) < 10
    for out in _ten(module, inputs):
        assert torch.equal(out["qz_m"][5], out["qzm_expr"][5])  # nothing to see in splicing
        assert torch.equal(out["qz_m"][4], out["qzm_spl"][4])
    module.on_step(1.0)
    assert torch.equal(module.inference(**inputs)["qz_m"], answers[0])


def _ten(module: SPLICEVAE, inputs: dict) -> list[dict]:
    return [module.inference(**inputs) for _ in range(10)]


# draws, usage -----------------------------------------------------------------------------------


def test_draws_of_the_joint_variable_have_its_variance():
    module, tensors = build(), cells()
    out = module.inference(**module._get_inference_input(tensors), n_samples=4000)
    assert out["z"].shape == (4000, B, 3)
    assert torch.allclose(out["z"].var(0), out["qz_v"], rtol=0.15)
    few = module.inference(**module._get_inference_input(tensors), n_samples=5)
    generated = module.generative(**module._get_generative_input(tensors, few))
    assert generated["p"].shape == (5, B, J)
    assert generated["px_scale"].shape == (5, B, G)
    entries = module.entries(tensors)
    likelihood = module.splicing_log_likelihood(generated["logits"], entries)
    assert likelihood.shape == (5, B)


def test_usage_sums_to_one_over_events_and_batches_can_be_exchanged():
    module, tensors = build(), cells()
    out, generated = module(tensors, compute_loss=False)
    sums = generated["p"].new_zeros(B, 3).index_add(1, EVENTS, generated["p"])
    assert torch.allclose(sums, torch.ones(B, 3))
    other = module.generative(**module._get_generative_input(tensors, out), transform_batch=1)
    same = tensors["batch"].flatten() == 1
    assert torch.allclose(other["p"][same], generated["p"][same])
    assert not torch.allclose(other["p"][~same], generated["p"][~same])
    assert set(generated) >= {"p", "phi", "px_scale", "px_rate", "px_r", "px_dropout"}


@pytest.mark.parametrize("kind", ["binomial", "beta_binomial", "dirichlet_multinomial"])
def test_loss_on_entries_is_the_loss_on_matrices(kind: str):
    module, tensors = build(splicing_loss_type=kind), cells()
    _, generated, losses = module(tensors)
    counts = tensors["junc_counts_key"]
    totals = counts.new_zeros(B, 3).index_add(1, EVENTS, counts)[:, EVENTS]
    found = module.get_reconstruction_loss_splicing(
        None, totals, counts, totals > 0, generated["p"], generated["phi"]
    )
    wanted = losses.reconstruction_loss["reconstruction_loss_splicing"]
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-4)
    expression = module.get_reconstruction_loss_expression(
        tensors["X"], generated["px_rate"], generated["px_r"], generated["px_dropout"]
    )
    wanted = losses.reconstruction_loss["reconstruction_loss_expression"]
    assert torch.allclose(expression[:4], wanted[:4], rtol=1e-4)
    assert wanted[4] == 0  # a cell without expression is not blamed for it


def test_ratios_without_counts_are_scored_by_cross_entropy():
    """Ratios given as counts: events total 1, and the binomial without its constant is cross-entropy."""
    tensors = cells()
    counts = tensors["junc_counts_key"]
    totals = counts.new_zeros(B, 3).index_add(1, EVENTS, counts)[:, EVENTS]
    psi = torch.where(totals > 0, counts / totals.clamp(min=1), 0)
    module = build(splicing_loss_type="binomial", include_normalizer=False)
    _, generated, losses = module(tensors | {"junc_counts_key": psi})
    p = generated["p"]
    entropy = torch.nn.functional.binary_cross_entropy(p, psi, reduction="none")
    wanted = torch.where(totals > 0, entropy, 0).sum(1)
    found = losses.reconstruction_loss["reconstruction_loss_splicing"]
    assert torch.allclose(found, wanted, rtol=1e-4)


def ratio_cells() -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Cells whose counts are not known, in float64; their ratios, and which are observed."""
    tensors = {k: v.double() if v.is_floating_point() else v for k, v in cells().items()}
    counts = tensors.pop("junc_counts_key")
    totals = counts.new_zeros(B, 3).index_add(1, EVENTS, counts)[:, EVENTS]
    psi = torch.where(totals > 0, counts / totals.clamp(min=1), 0)
    return tensors, psi, totals > 0


HEADS = {
    "softmax": {"splicing_loss_type": "dirichlet_multinomial"},
    "sigmoid": {"splicing_loss_type": "dirichlet_multinomial", "dm_mean": "sigmoid"},
    "beta_binomial": {"splicing_loss_type": "beta_binomial"},
    "binomial": {"splicing_loss_type": "binomial"},
    "no events": {"splicing_loss_type": "binomial", "event_index": None},
    "vanilla": {"splicing_encoder_architecture": "vanilla"},
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("given", ["mask", "no mask", "sparse"])
def test_without_counts_observed_ratios_are_scored_by_cross_entropy(head: str, given: str):
    tensors, psi, seen = ratio_cells()
    module = build(modality_penalty=None, phi_prior="none", **HEADS[head]).double()
    tensors["junc_ratio"], tensors["psi_observed_mask"] = psi, seen.double()
    if given == "sparse":
        tensors |= {k: tensors[k].to_sparse_csr() for k in ("junc_ratio", "psi_observed_mask")}
    elif given == "no mask":
        del tensors["psi_observed_mask"]
        if head == "no events":
            with pytest.raises(InvalidArgumentError, match="psi_observed_mask"):
                module(tensors)
            return
    _, generated, losses = module(tensors)
    p = generated["p"]
    entropy = -psi * p.log()
    if head not in ("softmax", "vanilla"):  # there, each junction is a choice of two for itself
        entropy = entropy - (1 - psi) * torch.log1p(-p)
    wanted = torch.where(seen, entropy, 0).sum(1)
    found = losses.reconstruction_loss["reconstruction_loss_splicing"]
    torch.testing.assert_close(found, wanted)
    losses.loss.backward()
    bias = module.z_decoder_splicing.output.bias
    residual = torch.where(seen, p - psi, 0).sum(0) / B  # of either cross-entropy
    torch.testing.assert_close(bias.grad, residual.detach())


def test_ratios_are_taken_as_they_are_where_junctions_stand_for_themselves():
    tensors, psi, seen = ratio_cells()
    tensors |= {"junc_ratio": psi / 2, "psi_observed_mask": seen.double()}
    module = build(splicing_loss_type="binomial").double()
    torch.testing.assert_close(module.entries(tensors).psi.sum(), psi.sum() / 2)
    del tensors["psi_observed_mask"]
    torch.testing.assert_close(module.entries(tensors).psi.sum(), psi.sum() / 2)


def test_ratios_of_several_draws_are_scored_draw_by_draw():
    tensors, psi, _ = ratio_cells()
    module = build().double()
    inputs = module._get_inference_input(tensors | {"junc_ratio": psi})
    outputs = module.inference(**inputs, n_samples=4)
    logits = module.generative(**module._get_generative_input(tensors, outputs))["logits"]
    found = module.ratio_cross_entropy(logits, outputs["entries"])
    each = [module.ratio_cross_entropy(logits._replace(h=h), outputs["entries"]) for h in logits.h]
    torch.testing.assert_close(found, torch.stack(each))


def test_a_minibatch_without_splicing_or_with_half_an_event_says_so():
    tensors, psi, seen = ratio_cells()
    with pytest.raises(InvalidArgumentError, match=r"junc_counts_key.*junc_ratio"):
        build()(tensors)
    seen[:, 0] = False
    with pytest.raises(InvalidArgumentError, match="whole events"):
        build()(tensors | {"junc_ratio": psi, "psi_observed_mask": seen.double()})


@pytest.mark.parametrize("compat", [None, "splicevi"])
def test_where_concentrations_start(compat: str | None):
    def start(**options: object) -> torch.Tensor:
        torch.manual_seed(0)
        index = torch.arange(2000) // 2
        module = SPLICEVAE(G, 2000, event_index=index, n_hidden=8, compat=compat, **options)
        return module.log_phi_j.detach(), module.log_phi().exp().detach()

    raw, _ = start(phi_init="constant")
    assert torch.allclose(raw, torch.tensor(math.log(100.0)))
    raw, _ = start(phi_init="log100")
    assert abs(raw.mean() - math.log(100.0)) < 0.05
    assert abs(raw.std() - 0.5) < 0.05
    _, phi = start(phi_init="prior", phi_prior_shape=3.0, phi_prior_rate=0.5)
    assert abs(phi.mean() - 6) < 0.4
    assert abs(phi.var() - 12) < 2.5
    _, phi = start(phi_init="prior", phi_floor=2.0)
    assert phi.min() >= 2.0
    module = build(phi_init="constant", compat=compat)
    module.start_from(torch.full((J,), 0.5), torch.zeros(3))
    assert torch.allclose(module.log_phi_j, torch.tensor(math.log(100.0)))


def test_weight_of_the_splicing_term():
    tensors = cells()
    terms = []
    for weight in (1.0, 3.0):
        torch.manual_seed(1)
        losses = build(splicing_loss_weight=weight)(tensors)[2]
        terms.append(losses.reconstruction_loss["reconstruction_loss_splicing"])
        assert losses.extra_metrics["reconstruction_loss_splicing"] == terms[0].mean()
    assert torch.allclose(3 * terms[0], terms[1])


# encoder ----------------------------------------------------------------------------------------


def observed(counts: torch.Tensor) -> Observed:
    e = observed_entries(counts, event_map(EVENTS))
    return Observed(e.cell, e.junction, e.psi, e.n_observed)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("pool_mode", ["mean", "sum"])
def test_pooling_is_the_loop_over_entries_and_chunks_change_nothing(
    pool_mode: str, centred: bool, monkeypatch
):
    encoder = PartialEncoder(J, 2, pool_mode=pool_mode, centred=centred).double()
    if centred:
        encoder.population.uniform_()
    seen = observed(cells()["junc_counts_key"].double())
    by_hand = torch.zeros(B, 16, dtype=torch.float64)
    layers = encoder.h_layer
    for cell, junction, psi in zip(seen.cell, seen.junction, seen.psi, strict=True):
        value = psi - encoder.population[junction] if centred else psi
        vector = torch.nn.functional.normalize(encoder.feature_embedding[junction], dim=0)
        codes = []
        for v in (value, torch.zeros_like(value)):
            h = torch.relu(layers["1"](layers["0"](torch.cat([v.view(1), v * vector]))))
            codes.append(torch.relu(layers["5"](layers["4"](h))))
        by_hand[cell] += codes[0] - codes[1] if centred else codes[0]
    if pool_mode == "mean":
        n = seen.n_observed.clamp(min=1).double().unsqueeze(1)
        by_hand = by_hand / (n.sqrt() if centred else n)
    pooled = encoder.pool(seen)
    assert torch.allclose(pooled, by_hand, atol=1e-6)
    assert (pooled[5] == 0).all()
    pooled.square().sum().backward()
    wanted = {n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None}
    monkeypatch.setattr(partial_encoder, "can_be_summed", lambda *about: False)  # in plain torch
    for encoder.max_nobs in (-1, 4):
        encoder.zero_grad()
        assert torch.allclose(encoder.pool(seen), pooled, atol=1e-12)
        encoder.pool(seen).square().sum().backward()
        for name, p in encoder.named_parameters():
            if name in wanted:
                assert torch.allclose(p.grad, wanted[name], atol=1e-10), name


def test_means_take_both_signs_unless_published_numbers_are_wanted():
    seen = observed(cells()["junc_counts_key"])
    torch.manual_seed(0)
    assert (PartialEncoder(J, 8).eval()(seen).mean < 0).any()
    old = PartialEncoder(J, 8, linear_head=False).eval()(seen)
    assert (old.mean >= 0).all()
    assert (old.variance >= math.log(2)).all()


def test_an_all_zero_embedding_has_a_finite_gradient():
    encoder = PartialEncoder(J, 2)
    encoder.feature_embedding.data.zero_()
    encoder(observed(cells()["junc_counts_key"])).mean.sum().backward()
    assert encoder.feature_embedding.grad.abs().max() < 1e5


def test_hiding_events_happens_in_training_only_and_the_loss_still_sees_them():
    module, tensors = build(event_dropout=0.5, dropout_rate=0.0), cells()
    inputs = module._get_inference_input(tensors)
    a, b = (module.inference(**inputs)["qzm_spl"] for _ in range(2))
    assert torch.equal(a, b)
    module.train()
    module.set_cross_gate(1.0)
    hidden = module.inference(**inputs)
    assert not torch.equal(hidden["qzm_spl"], a)
    assert len(hidden["entries"].total) == len(inputs["entries"].total)


def test_one_hot_columns_belong_to_their_covariate():
    decoder = LinearSplicingDecoder(2, 4, n_cat_list=[1, 3])
    z = torch.zeros(2, 2)
    codes = torch.tensor([[0], [2]])
    found = decoder(z, torch.zeros_like(codes), codes).dense() - decoder.linear.bias
    assert torch.allclose(found, decoder.linear.weight[:, 2:].t()[[0, 2]])
    assert decoder(z.expand(3, 2, 2), torch.zeros_like(codes), codes).dense().shape == (3, 2, 4)


# starting values, options -----------------------------------------------------------------------


def test_mean_usage_is_what_an_idle_decoder_says():
    module = build(splicing_decoder_architecture="linear")
    usage = torch.tensor([0.2, 0.8, 0.5, 0.25, 0.25, 0.9, 0.1])
    module.start_from(usage, torch.tensor([1.0, 2.0, 3.0]))
    module.z_decoder_splicing.linear.weight.data.zero_()
    _, generated = module(cells(), compute_loss=False)
    assert torch.allclose(generated["p"], usage.expand(B, J), atol=1e-6)
    assert torch.allclose(generated["phi"], torch.tensor([1.0, 2.0, 3.0]).exp())


@pytest.mark.parametrize("compat", [None, "splicevi"])
@pytest.mark.parametrize("kind", ["dirichlet_multinomial", "beta_binomial"])
def test_concentrations_start_at_their_estimates_whatever_the_floor(kind: str, compat: str | None):
    """phi = floor + exp(raw); what lies below the floor starts just above it."""
    module = build(phi_floor=3.0, splicing_loss_type=kind, compat=compat)
    phi = torch.tensor([1.0, 4.0, 20.0])
    module.start_from(torch.full((J,), 0.5), phi.log())
    wanted = torch.tensor([3.001, 4.0, 20.0])
    wanted = wanted if kind == "dirichlet_multinomial" else wanted[EVENTS]
    torch.testing.assert_close(module.log_phi().exp(), wanted, rtol=1e-5, atol=1e-5)
    module.log_phi_j.data.fill_(module.phi_centre)
    centre = phi.log().mean().exp().expand_as(wanted)
    torch.testing.assert_close(module.log_phi().exp(), centre, rtol=1e-5, atol=1e-5)


# covariates of the decoders ---------------------------------------------------------------------


def layer_covariates(decoder: torch.nn.Module) -> list[int]:
    """Columns of covariates in each layer of a decoder's trunk."""
    trunk = decoder.ps_hidden if hasattr(decoder, "ps_hidden") else decoder.px_decoder
    layers = [layer["0"] for layer in trunk.fc_layers.values()]
    return [layer.in_features - len(layer.of_input) for layer in layers]


@pytest.mark.parametrize(
    ("options", "splicing", "expression"),
    [
        ({}, [7, 0, 0], [7, 0, 0]),  # 2 batches, 3 categories, 2 continuous
        ({"deeply_inject_covariates": True}, [7, 7, 7], [7, 7, 7]),
        ({"compat": "splicevi"}, [5, 5, 5], [5, 0, 0]),  # continuous ones beside the latent state
        ({"decoder_covariates": "published"}, [5, 5, 5], [5, 0, 0]),
        (
            {"decoder_covariates": "published", "deeply_inject_covariates": True},
            [5, 5, 5],
            [5, 5, 5],
        ),
    ],
)
def test_covariates_reach_the_layers_they_are_asked_for(
    options: dict, splicing: list, expression: list
):
    module = build(n_cats_per_cov=[3], n_continuous_cov=2, n_layers_decoder=3, **options)
    assert layer_covariates(module.z_decoder_splicing) == splicing
    assert layer_covariates(module.z_decoder_expression) == expression


@pytest.mark.parametrize("architecture", ["vanilla", "linear"])
@pytest.mark.parametrize("choice", ["asked", "published"])
@pytest.mark.parametrize("n_samples", [1, 3])
def test_continuous_covariates_reach_both_decoders(architecture: str, choice: str, n_samples: int):
    module = build(
        n_continuous_cov=2,
        decoder_covariates=choice,
        splicing_decoder_architecture=architecture,
        expression_architecture=architecture,
    )
    tensors = cells()
    z = torch.randn(n_samples, B, 3)
    for name in ("p", "px_scale"):
        found = [
            module.generative(z, z[0], tensors["batch"], cont_covs=cont)[name]
            for cont in (torch.zeros(B, 2), torch.ones(B, 2))
        ]
        assert found[0].shape[:2] == (n_samples, B)
        assert (found[0] != found[1]).any(-1).all()


def test_the_first_layer_reads_covariates_alike_either_way():
    """Side by side with the latent state or as covariates: one layer, the same weights, the same usage."""
    options = {"n_continuous_cov": 2, "n_layers_decoder": 1}
    asked, published = (build(**options, decoder_covariates=c) for c in ("asked", "published"))
    published.load_state_dict(asked.state_dict())
    z, batch, cont = torch.randn(B, 3), cells()["batch"], torch.randn(B, 2)
    one, other = (m.generative(z, z, batch, cont_covs=cont) for m in (asked, published))
    for name in ("p", "px_rate"):
        torch.testing.assert_close(one[name], other[name])


def test_concentrations_learn_at_their_own_rate_without_decay():
    groups = build(modality_weights="universal").parameter_groups(1e-4, 1e-3)
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(1e-4, 1e-3), (1e-4, 0), (1e-2, 0)]
    assert len(groups[1]["params"]) == 3  # dispersion, weights of modalities, embeddings
    assert not build(splicing_concentration=7.0).log_phi_j.requires_grad
    fixed = build(splicing_concentration=7.0, compat="splicevi")
    assert fixed.log_phi().exp()[0].item() == pytest.approx(7.0, rel=1e-5)


def test_nothing_is_built_that_is_not_used():
    names = set(build().state_dict())
    assert not any(n.startswith("l_encoder") for n in names)
    assert "mod_weights" not in names
    assert not any(n.startswith("events_") for n in names)
    assert "log_phi_j" not in build(splicing_loss_type="binomial").state_dict()
    assert {"cross_gate", "log_phi_j", "px_r", "z_encoder_splicing.h_layer.4.weight"} <= names
    assert "z_encoder_expression.encoder.fc_layers.Layer 1.0.weight" in names


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"event_index": None}, InvalidArgumentError, "event_index"),
        ({"event_index": EVENTS[1:]}, InvalidArgumentError, "7 junctions"),
        ({"max_nobs": 0}, InvalidArgumentError, "max_nobs"),
        ({"pool_mode": "max"}, InvalidArgumentError, "pool_mode"),
        ({"n_hiden": 3}, TypeError, "n_hidden"),
        ({"modality_penalty": "KL"}, InvalidArgumentError, "Jeffreys"),
        ({"event_dropout": 1.0}, InvalidArgumentError, "event_dropout"),
        ({"modality_weights": "cell", "n_obs": 0}, InvalidArgumentError, "n_obs"),
        ({"gene_dispersion": "gene-label"}, InvalidArgumentError, "n_labels"),
    ],
)
def test_refusals(options: dict, error: type[Exception], match: str):
    with pytest.raises(error, match=match):
        build(**options)


def test_the_options_are_the_arguments_settled_and_fixed():
    """A field for every argument but the events; what compat stands for has its value."""
    taken = set(inspect.signature(SPLICEVAE).parameters) - {"event_index", "model_kwargs"}
    assert {field.name for field in fields(SpliceOptions)} == taken
    ours, published = build().options, build(compat="splicevi", dm_mean="softmax").options
    assert (ours.dm_mean, ours.log1p_expression, ours.phi_prior) == ("softmax", True, "normal")
    assert (published.dm_mean, published.log1p_expression) == ("softmax", False)
    assert (ours.n_batch, ours.n_hidden, ours.n_latent, ours.cat_list) == (2, 10, 3, [2])
    with pytest.raises(FrozenInstanceError):
        ours.n_latent = 4


def test_default_widths_follow_the_junctions():
    events = torch.arange(200).div(2, rounding_mode="floor")
    module = SPLICEVAE(20, 200, event_index=events)
    assert (module.n_hidden, module.n_latent) == (14, 3)
    assert module.junc2atse.to_dense().sum(1).tolist() == [1.0] * 200


def test_samples_are_counts():
    drawn = build().sample(cells(), n_samples=3)
    assert drawn.shape == (B, G, 3)
    assert torch.equal(drawn, drawn.round())


def test_published_weights_load_without_what_they_do_not_use():
    module = build(compat="splicevi")
    published = {k: v + 1 for k, v in module.state_dict().items()}
    dead = {"mod_weights": torch.ones(1, 1), "l_encoder_expression.output.0.bias": torch.ones(1)}
    module.load_state_dict(convert_reference_state_dict(published | dead, module))
    assert torch.equal(module.px_r, published["px_r"])
    old = {"z_decoder_splicing.ps_decoder.fc_layers.Layer 0.0.weight": torch.ones(1)}
    with pytest.raises(InvalidDataError, match="ps_decoder"):
        convert_reference_state_dict(published | old, module)
    with pytest.raises(InvalidDataError, match="lacks"):
        convert_reference_state_dict({}, module)
    with pytest.raises(InvalidDataError, match="shape"):
        convert_reference_state_dict(published | {"px_r": torch.ones(1)}, module)
