"""The spatial model: formulas in float64, every mode, every corner."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from vivace.errors import InvalidArgumentError, UnsupportedError
from vivace.kernels import csr_tensor
from vivace.modules import VAEC, MRDeconv

G, C, L, P, N = 10, 3, 2, 4, 9
CONSTANT = 0.5 * math.log(2 * math.pi)


def prior(dtype=np.float32) -> dict:
    rng = np.random.default_rng(0)
    weights = rng.random((C, P)) + 0.1
    return {
        "mean_vprior": rng.normal(size=(C, P, L)).astype(dtype),
        "var_vprior": (rng.random((C, P, L)) + 0.2).astype(dtype),
        "mp_vprior": (weights / weights.sum(1, keepdims=True)).astype(dtype),
    }


def module(**options) -> MRDeconv:
    torch.manual_seed(0)
    vaec = VAEC(G, C, n_hidden=7, n_latent=L, n_batch=2)
    with torch.no_grad():
        vaec.per_ct_bias.normal_()
    built = MRDeconv(
        n_spots=N,
        n_labels=C,
        n_batch=2,
        n_hidden=7,
        n_layers=2,
        n_latent=L,
        n_genes=G,
        decoder_state_dict=vaec.decoder.state_dict(),
        px_decoder_state_dict=vaec.px_decoder.state_dict(),
        px_r=vaec.px_r,
        per_ct_bias=vaec.per_ct_bias,
        dropout_decoder=0.0,
        **{"batch_embedding": vaec.get_embedding("batch").weight, **prior(), **options},
    )
    with torch.no_grad():
        built.beta.normal_()
        if built.add_celltypes:
            built.eta.normal_()
    return built


def spots(b: int = 5, *, smoothed: bool = False) -> dict:
    tensors = {
        "X": torch.poisson(torch.rand(b, G) * 20),
        "batch": torch.arange(b).remainder(2).unsqueeze(1),
        "ind_x": (torch.arange(b) + 2).unsqueeze(1),
    }
    return tensors | ({"x_smoothed": torch.rand(b, G) * 20} if smoothed else {})


def double(m: MRDeconv, tensors: dict) -> tuple[MRDeconv, dict]:
    x = {k: v.double() if v.is_floating_point() else v for k, v in tensors.items()}
    return m.double(), x


MODES = {
    "default": {},
    "free": {"amortization": "none", "prior_mode": "normal"},
    "states": {"amortization": "latent"},
    "proportions": {"amortization": "proportion", "prior_mode": "normal"},
    "one state": {"prior_mode": "normal"},
    "shared latent": {"n_latent_amortization": 4},
    "standard prior": {"mean_vprior": None, "var_vprior": None, "mp_vprior": None},
    "standard prior, one state": {
        "mean_vprior": None,
        "var_vprior": None,
        "mp_vprior": None,
        "prior_mode": "normal",
    },
    "no augmentation": {"augmentation": False},
    "no further programme": {"add_celltypes": 0},
    "two further programmes": {"add_celltypes": 2},
    "scvi-tools": {"compat": "scvi-tools"},
}


@pytest.mark.parametrize("b", [5, 1])
@pytest.mark.parametrize("smoothed", [False, True], ids=["", "smoothed"])
@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
def test_every_mode_trains_and_evaluates(options: dict, smoothed: bool, b: int):
    m, x = module(**options), spots(b, smoothed=smoothed)
    *_, losses = m(x)
    losses.loss.backward()
    assert torch.isfinite(losses.loss)
    trained = [n for n, p in m.named_parameters() if p.requires_grad]
    missing = [n for n in trained if dict(m.named_parameters())[n].grad is None]
    assert not missing
    assert all(
        n.startswith(("decoder", "px_decoder")) == (n not in trained)
        for n, _ in m.named_parameters()
    )
    _, generative, losses = m.eval()(x)
    a = m.add_celltypes
    k = m.n_states if m.amortizes_states else 1
    s = 1 + smoothed
    assert generative["v"].shape == (s, b, C + a)
    assert generative["px_mu"].shape == (s, b, C + a, G)
    assert generative["gamma"].shape == (s, k, L, C, b)
    assert generative["proportion_modes"].shape == (s, k, b, C)
    assert losses.n_obs_minibatch == b
    assert losses.kl_local["kl_local"].shape == (b,)
    torch.testing.assert_close(generative["px_scale"].sum(-1), torch.ones(s, b))


def decoded(m: MRDeconv, gamma: torch.Tensor, c: int, batch: int) -> torch.Tensor:
    """Expression of one state (L,) of type c, written out."""
    x = torch.cat([gamma, m.get_embedding("batch").weight[batch]])
    one_hot = torch.nn.functional.one_hot(torch.tensor(c), C).to(x)
    for i in range(2):
        linear = m.decoder.fc_layers[f"Layer {i}"]["0"]
        x = linear.weight @ torch.cat([x, one_hot]) + linear.bias
        x = torch.relu((x - x.mean()) / torch.sqrt(x.var(correction=0) + 1e-5))
    logits = m.px_decoder.weight @ x + m.px_decoder.bias + m.per_ct_bias[c] + m.beta
    return torch.softmax(logits, dim=0)


@pytest.mark.parametrize("training", [False, True])
def test_expected_counts_are_the_formula(training: bool):
    m, x = double(module(augmentation=False), spots())
    m.gamma_encoder.eval()
    m.training = training
    inference, generative = m(x, compute_loss=False)
    raw = m.gamma_encoder(torch.log1p(x["X"]))
    gamma = raw[:, : 3 * L * C].reshape(5, 3, L, C)
    modes = torch.softmax(raw[:, 3 * L * C :].reshape(5, 3, C), dim=1)
    v = torch.softmax(m.V_encoder(torch.log1p(x["X"])), dim=-1)
    for i in range(5):
        scale = torch.zeros(G, dtype=torch.float64)
        added = m.eps_v if training else 0.0
        for c in range(C):
            mu = sum(
                modes[i, k, c] * decoded(m, gamma[i, k, :, c], c, int(x["batch"][i]))
                for k in range(3)
            )
            scale += (v[i, c] + added) * mu
            if not training:
                torch.testing.assert_close(generative["px_mu"][0, i, c], mu)
        scale += (v[i, C] + added) * torch.softmax(m.eta[0], dim=0)
        torch.testing.assert_close(generative["px_scale"][0, i], scale)
        torch.testing.assert_close(generative["px_rate"][0, i], x["X"][i].sum() * scale)
    torch.testing.assert_close(inference["library"][0], x["X"].sum(1, keepdim=True))


def nb(x, mu, theta):
    return (
        torch.lgamma(x + theta)
        - torch.lgamma(theta)
        - torch.lgamma(x + 1)
        + theta * torch.log(theta / (theta + mu))
        + x * torch.log(mu / (theta + mu))
    )


def log_mixture(gamma, means, std, weights):
    """(…) log density of one state (L,) under components (P, L), written out."""
    of = [
        math.log(w) - sum(0.5 * ((gamma - m) / s) ** 2 + torch.log(s) + CONSTANT)
        for m, s, w in zip(means, std, weights, strict=True)
    ]
    return torch.logsumexp(torch.stack(of), dim=0)


WEIGHTS = {
    "kl_weight": 0.7,
    "ct_sparsity_weight": 1.5,
    "weighting_augmentation": 10.0,
    "weighting_smoothing": 20.0,
    "eta_reg": 0.9,
    "beta_reg": 0.8,
    "weighting_kl_latent": 1e-2,
    "reconst_weight": 2.0,
}


@pytest.mark.parametrize("compat", [None, "scvi-tools"])
@pytest.mark.parametrize("mode", ["mog", "normal"])
def test_evaluation_loss_is_the_formula(mode: str, compat: str | None):
    m, x = double(module(prior_mode=mode, compat=compat), spots(smoothed=True))
    m.eval()
    _, generative, losses = m(x, loss_kwargs=WEIGHTS)
    theta, v = torch.exp(m.px_r), generative["v"]
    pairs = zip((x["X"], x["x_smoothed"]), generative["px_rate"], strict=True)
    reconstruction = -torch.stack([nb(a, r, theta).sum(1) for a, r in pairs]).mean(0)
    published = compat is not None and mode == "mog"
    std = m.var_vprior if published else m.var_vprior.sqrt() + 1e-4
    p = torch.zeros(2, 5, dtype=torch.float64)
    gamma, pi = generative["gamma"], generative["proportion_modes"]
    for s in range(2):
        for i in range(5):
            for c in range(C):
                if mode == "normal":
                    w = m.mp_vprior[c] + 1e-3
                    p[s, i] -= log_mixture(gamma[s, 0, :, c, i], m.mean_vprior[c], std[c], w)
                    continue
                for k in range(3):
                    of = log_mixture(gamma[s, k, :, c, i], m.mean_vprior[c], std[c], m.mp_vprior[c])
                    p[s, i] -= (v[s, i, c] + 1e-3) * (pi[s, k, i, c] + 1e-6) * of
    entropy = -(v[0] * torch.log(v[0])).sum(1)
    extra = v[0, :, C:].sum(1)
    sparsity = 1.5 * entropy + 0.9 * (extra if compat is None else extra.sum())
    beta = 0.8 * (0.5 * m.beta**2 + CONSTANT).sum()
    smooth = 20.0 * (v[1] * torch.log(v[1] / v[0])).sum(1).mean()
    expected = (2.0 * reconstruction + 0.7 * (p + sparsity)).mean() + beta + smooth
    torch.testing.assert_close(losses.loss, expected)
    torch.testing.assert_close(losses.kl_local["kl_local"], p.mean(0))
    torch.testing.assert_close(losses.reconstruction_loss["reconstruction_loss"], reconstruction)
    torch.testing.assert_close(losses.kl_global_sum, beta)


@pytest.mark.parametrize("compat", [None, "scvi-tools"])
def test_training_loss_is_the_formula(compat: str | None):
    m, x = double(module(dropout_amortization=0.0, compat=compat), spots())
    inference, generative, losses = m(x, loss_kwargs=WEIGHTS)
    copies = inference["x_augmented"]
    alpha, r0 = inference["ratio_augmentation"], inference["ratios_ct_augmentation"]
    z0 = inference["prior_sampled"].view(3, 5, C, L)
    v, gamma = generative["v"], generative["gamma"]
    pi, theta = generative["proportion_modes"], torch.exp(m.px_r)
    n = 3 if compat else 1  # copies that are reconstructed
    assert len(generative["px_rate"]) == n
    pairs = zip(copies[:n], generative["px_rate"], strict=True)
    reconstruction = -torch.stack([nb(a, r, theta).sum(1) for a, r in pairs]).mean(0)
    std = m.var_vprior if compat else m.var_vprior.sqrt() + 1e-4
    eps = torch.finfo(torch.float64).eps
    p = torch.zeros(3, 5, dtype=torch.float64)
    for s in range(3):
        for i in range(5):
            for c in range(C):
                w = torch.cat([(1 - alpha[s, i]) * m.mp_vprior[c], alpha[s, i] * r0[s, i, c]])
                w = (w / w.sum()).clamp(eps, 1 - eps)
                means = torch.cat([m.mean_vprior[c], z0[s, i, c][None]])
                stds = torch.cat([std[c], std[c].min(0).values[None]])
                for k in range(3):
                    of = log_mixture(gamma[s, k, :, c, i], means, stds, w)
                    p[s, i] -= (v[s, i, c] + 1e-3) * (pi[s, k, i, c] + 1e-6) * of
    entropy = -(v[0] * torch.log(v[0])).sum(1)
    extra = v[0, :, C:].sum(1)
    sparsity = 1.5 * entropy + 0.9 * (extra.sum() if compat else extra)
    beta = 0.8 * (0.5 * m.beta**2 + CONSTANT).sum()
    simulated = slice(1, 2) if compat else slice(1, 3)
    truth = r0[simulated]
    kl = torch.xlogy(truth, truth).sum(-1) - (truth * torch.log(v[simulated, :, :C])).sum(-1)
    expected = 2.0 * reconstruction.mean() + 0.7 * (p.mean() + sparsity.mean()) + beta
    torch.testing.assert_close(losses.loss, expected + 10.0 * kl.mean())
    torch.testing.assert_close(losses.kl_local["kl_local"], p[0])  # of observed spots, once


def test_proportions_that_underflow_keep_the_loss_finite():
    m, x = module(), spots()
    with torch.no_grad():
        m.V_encoder[1].bias.copy_(torch.tensor([300.0, 0.0, -300.0, 0.0]))
    *_, losses = m(x)
    losses.loss.backward()
    assert torch.isfinite(losses.loss)
    assert all(torch.isfinite(p.grad).all() for p in m.parameters() if p.grad is not None)


# simulated spots --------------------------------------------------------------------------------


def test_simulated_spots_have_the_depth_and_the_expression_they_say():
    m = module(n_samples_augmentation=400)
    with torch.no_grad():
        m.px_r.fill_(8.0)
    m.concentration = (1e-3, 1e-3)  # spots of one type
    x = spots()
    x["X"] = torch.full((5, G), 1000.0)
    inputs = m._get_inference_input(x)
    copies, ratios = inputs["x_augmented"][1:], inputs["ratios_ct_augmentation"][1:]
    totals = copies.sum(-1)
    torch.testing.assert_close(totals.mean(), torch.tensor(1000.0 * G), rtol=0.02, atol=0)
    states = inputs["prior_sampled"].view(401, 5, C, L)[1:]
    s, i = 17, 3
    c = int(ratios[s, i].argmax())
    mu = decoded(m.double(), states[s, i, c].double(), c, int(x["batch"][i]))
    np.testing.assert_allclose(copies[s, i] / totals[s, i], mu.detach().numpy(), atol=0.03)


def test_simulated_proportions_follow_the_observed():
    """Their mean is that of the proportions found, as if 32 more spots had all types alike."""
    torch.manual_seed(0)
    m, found = module(n_samples_augmentation=2000), torch.tensor([0.7, 0.25, 0.05])
    for _ in range(400):
        m._follow_shares(torch.cat([found, torch.tensor([0.5])]).expand(5, -1))  # and a programme
    torch.testing.assert_close(m.mean_shares, found, rtol=1e-3, atol=1e-3)
    expected = (m.n_spots * found + 32 / C) / (m.n_spots + 32)
    for compat, mean in ((None, expected), ("scvi-tools", torch.full((C,), 1 / C))):
        m.blends = compat is not None
        ratios = m._get_inference_input(spots())["ratios_ct_augmentation"][1:]
        torch.testing.assert_close(ratios.mean((0, 1)), mean, rtol=0, atol=0.02)


def test_only_training_moves_the_mean_of_the_proportions():
    m, x = module(), spots()
    m.eval()(x)
    assert torch.equal(m.mean_shares, torch.full((C,), 1 / C))
    m.train()(x)
    assert (m.mean_shares != 1 / C).any()
    assert "mean_shares" in m.state_dict()
    assert "mean_shares" not in module(compat="scvi-tools").state_dict(), "published weights load"


def test_published_copies_are_blends():
    m, x = module(compat="scvi-tools", n_samples_augmentation=3), spots(smoothed=True)
    inputs = m._get_inference_input(x)
    torch.testing.assert_close(inputs["x_augmented"][0], x["X"])
    torch.testing.assert_close(inputs["x_augmented"][1], x["x_smoothed"])
    share = inputs["ratio_augmentation"][..., 0]
    assert (share[:2] == 0).all()
    assert (share[2] == 1).all()
    assert ((share[3:] > 0) & (share[3:] < 1)).all()


@pytest.mark.parametrize("smoothed", [False, True], ids=["", "smoothed"])
def test_the_extra_depth_goes_to_the_published_simulated_copy(smoothed: bool):
    m, x = module(compat="scvi-tools", n_samples_augmentation=1), spots(200, smoothed=smoothed)
    x["X"] = torch.zeros(200, G)  # what the copy has is the extra depth alone
    with torch.no_grad():
        m.px_r.fill_(8.0)
    copies = m._get_inference_input(x)["x_augmented"]
    assert len(copies) == 2 + smoothed
    if smoothed:
        torch.testing.assert_close(copies[1], x["x_smoothed"])
    torch.testing.assert_close(copies[-1].sum(-1).mean(), torch.tensor(50.0), rtol=0.1, atol=0)


def test_evaluation_sees_no_simulated_spot():
    m, x = module().eval(), spots()
    inputs = m._get_inference_input(x)
    assert set(inputs) == {"x_augmented", "batch_index"}
    torch.testing.assert_close(inputs["x_augmented"], x["X"][None])


def test_prior_samples_follow_the_mixture():
    m = module()
    draws = m.sample_prior(20_000)
    mean = (m.mp_vprior.unsqueeze(-1) * m.mean_vprior).sum(1)
    second = (m.mp_vprior.unsqueeze(-1) * (m.var_vprior + m.mean_vprior**2)).sum(1)
    torch.testing.assert_close(draws.mean(0), mean, atol=0.04, rtol=0)
    torch.testing.assert_close(draws.var(0), second - mean**2, atol=0.06, rtol=0.05)


# things that were wrong -------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["mog", "normal"])
def test_a_spot_does_not_depend_on_its_neighbours_in_the_minibatch(mode: str):
    m, x = module(prior_mode=mode).eval(), spots()
    _, before = m(x, compute_loss=False)
    x["X"] = x["X"].clone()
    x["X"][0] += 50
    _, after = m(x, compute_loss=False)
    torch.testing.assert_close(after["gamma"][..., 1:], before["gamma"][..., 1:])
    assert (after["gamma"][..., 0] - before["gamma"][..., 0]).abs().max() > 1e-4
    torch.testing.assert_close(after["px_scale"][:, 1:], before["px_scale"][:, 1:])


def test_one_spot_gives_the_loss_it_gives_among_others():
    m, x = module(prior_mode="normal").eval(), spots()
    one = {k: v[:1] for k, v in x.items()}
    torch.testing.assert_close(m(one)[2].kl_local["kl_local"], m(x)[2].kl_local["kl_local"][:1])
    both = module().eval()
    smooth = spots(smoothed=True)
    one = {k: v[:1].repeat(2, 1) for k, v in smooth.items()}
    torch.testing.assert_close(both({k: v[:1] for k, v in one.items()})[2].loss, both(one)[2].loss)


def test_the_penalty_of_further_programmes_does_not_grow_with_the_minibatch():
    for compat, grows in ((None, False), ("scvi-tools", True)):
        m, x = module(compat=compat).eval(), spots()
        weights = {"kl_weight": 1.0, "eta_reg": 1e4}
        one = {k: v[:1] for k, v in x.items()}
        four = {k: v[:1].repeat(4, 1) for k, v in x.items()}
        ratio = m(four, loss_kwargs=weights)[2].loss / m(one, loss_kwargs=weights)[2].loss
        assert (ratio > 2) == grows


def test_batch_vectors_come_from_the_reference():
    start = torch.randn(2, 5)
    torch.testing.assert_close(
        module(batch_embedding=start).get_embedding("batch").weight.detach(), start
    )
    published = module(batch_embedding=start, compat="scvi-tools")
    assert (published.get_embedding("batch").weight - start).abs().max() > 0.1


def test_free_proportions_are_a_softmax():
    m, x = module(amortization="latent").eval(), spots()
    _, generative = m(x, compute_loss=False)
    torch.testing.assert_close(generative["v"][0], torch.softmax(m.V[:, 2:7].t(), dim=1))


def test_csr_and_dense_counts_agree():
    m, x = module().eval(), spots()
    csr = x["X"].to_sparse_csr()
    sparse = {**x, "X": csr_tensor(csr.crow_indices(), csr.col_indices(), csr.values(), csr.shape)}
    torch.testing.assert_close(m(sparse)[2].loss, m(x)[2].loss)


def test_an_empty_spot_trains():
    m, x = module(), spots()
    x["X"][0] = 0
    *_, losses = m(x)
    losses.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in m.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"amortization": "all"}, "amortization"),
        ({"prior_mode": "vamp"}, "prior_mode"),
        ({"amortization": "none"}, "needs amortization"),
        ({"compat": "upstream"}, "compat"),
    ],
    ids=["amortization", "prior", "mog without encoder", "compat"],
)
def test_wrong_options_are_refused(options: dict, words: str):
    with pytest.raises(InvalidArgumentError, match=words):
        module(**options)


def test_there_is_nothing_to_sample():
    with pytest.raises(UnsupportedError):
        module().sample(spots())


def test_normal_prior_without_components_is_standard():
    m, x = double(module(**MODES["standard prior, one state"]), spots())
    m.eval()
    _, generative, losses = m(x)
    gamma = generative["gamma"][0, 0]  # (L, C, B)
    expected = -Normal(0.0, 1.0).log_prob(gamma).sum((0, 1))
    torch.testing.assert_close(losses.kl_local["kl_local"], expected)
