"""The published module, written out from its description, gives the numbers of ``compat="splicevi"``.

Weights are read by their published names, so that a state dict of the package means the same here.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from vivace.modules import SPLICEVAE

EVENTS = torch.tensor([0, 0, 1, 1, 1, 2, 2])
B, G, J, L = 6, 12, 7, 3
GENERATIONS = {
    "manuscript": {
        "splicing_encoder_architecture": "partial",
        "splicing_decoder_architecture": "linear",
        "expression_architecture": "linear",
    },
    "packaged": {"splicing_encoder_architecture": "partial", "dm_mean": "softmax"},
    "packaged, vanilla encoder": {
        "splicing_encoder_architecture": "vanilla",
        "dm_mean": "softmax",
        "splicing_loss_weight": 2.0,
        "lambda_prior": 0.1,
    },
}
Weights = dict[str, torch.Tensor]


def minibatch() -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    junctions = torch.poisson(3 * torch.rand(B, J, generator=g), generator=g).double()
    junctions[:3, 5:] = 0
    x = torch.poisson(2 * torch.rand(B, G, generator=g), generator=g).double()
    return {
        "X": x,
        "junc_counts_key": junctions,
        "batch": torch.arange(B).remainder(2).unsqueeze(1),
        "size_factor": x.sum(1, keepdim=True) + 1,
    }


def linear(w: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def stack(w: Weights, name: str, x: torch.Tensor, n: int, act, one_hot=None, deep=False):
    """Linear, layer norm without parameters, activation: in the last layer too."""
    for k in range(n):
        if one_hot is not None and (k == 0 or deep):
            x = torch.cat([x, one_hot], 1)
        x = linear(w, f"{name}.fc_layers.Layer {k}.0", x)
        x = act(F.layer_norm(x, x.shape[-1:]))
    return x


def ordinary_encoder(w: Weights, name: str, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    h = stack(w, f"{name}.encoder", x, 2, F.leaky_relu)
    return linear(w, f"{name}.mean_encoder", h), linear(w, f"{name}.var_encoder", h).exp()


def partial_encoder(w: Weights, psi: torch.Tensor, mask: torch.Tensor):
    name = "z_encoder_splicing"
    table = F.normalize(w[f"{name}.feature_embedding"], dim=1)
    pooled = []
    for ratios, seen in zip(psi, mask, strict=True):
        u = torch.cat([ratios[seen, None], ratios[seen, None] * table[seen]], 1)
        for a, b in (("0", "1"), ("4", "5")):
            u = linear(w, f"{name}.h_layer.{a}", u)
            scale = w[f"{name}.h_layer.{b}.weight"], w[f"{name}.h_layer.{b}.bias"]
            u = torch.relu(F.layer_norm(u, u.shape[-1:], *scale))
        pooled.append(u.sum(0) / max(1, int(seen.sum())))
    mean, raw = stack(w, f"{name}.encoder_mlp", torch.stack(pooled), 2, torch.relu).chunk(2, 1)
    return mean, F.softplus(raw) + 1e-6


def published_loss(w: Weights, o, cells: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean of the joint posterior, and the loss if that mean is decoded."""
    x, y, size = cells["X"], cells["junc_counts_key"], cells["size_factor"]
    member = F.one_hot(EVENTS).double()
    n = y @ member @ member.t()
    psi, mask = torch.where(n > 0, y / n.clamp(min=1), 0), n > 0
    m_e, v_e = ordinary_encoder(w, "z_encoder_expression", x)
    if o.splicing_encoder_architecture == "partial":
        m_s, v_s = partial_encoder(w, psi, mask)
    else:
        m_s, v_s = ordinary_encoder(w, "z_encoder_splicing", psi)
    z, v = (m_e + m_s) / 2, 0.5**0.5 * (v_e + v_s)
    one_hot = F.one_hot(cells["batch"].flatten()).double()
    library = torch.log(size + 1e-6)
    if o.expression_architecture == "linear":
        name = "z_decoder_expression"
        scale, zi = (
            stack(w, f"{name}.{part}", z, 1, lambda h: h, one_hot)
            for part in ("factor_regressor", "px_dropout_decoder")
        )
        rate = library.exp() * torch.softmax(scale, 1)
    else:
        h = stack(w, "z_decoder_expression.px_decoder", z, 2, torch.relu, one_hot)
        rate = library.exp() * F.softplus(linear(w, "z_decoder_expression.px_scale_decoder.0", h))
        zi = linear(w, "z_decoder_expression.px_dropout_decoder", h)
    theta = w["px_r"].exp()
    nb = torch.distributions.NegativeBinomial(theta, logits=rate.log() - theta.log())
    present, absent = F.logsigmoid(-zi), F.logsigmoid(zi)
    at_zero = torch.logaddexp(absent, present + nb.log_prob(torch.zeros_like(x)))
    expression = -torch.where(x > 0, present + nb.log_prob(x), at_zero).sum(1)
    if o.splicing_decoder_architecture == "linear":
        logits = linear(w, "z_decoder_splicing.linear", torch.cat([z, one_hot], 1))
    else:
        h = stack(w, "z_decoder_splicing.ps_hidden", z, 2, torch.relu, one_hot, True)
        logits = linear(w, "z_decoder_splicing.ps_output", h)
    if o.dm_mean == "softmax":
        p = logits.exp() / (logits.exp() @ member)[:, EVENTS]
    else:
        p = torch.sigmoid(logits)
    alpha = p * F.softplus(w["log_phi_j"])[EVENTS]
    whole, total, lg = alpha @ member, y @ member, torch.lgamma
    events = lg(total + 1) + lg(whole) - lg(total + whole)
    junctions = lg(y + 1) + lg(alpha) - lg(alpha + y)
    spliced = -torch.where(total > 0, events, 0).sum(1) + torch.where(mask, junctions, 0).sum(1)
    kl = ((v + z**2 - 1 - v.log()) / 2).sum(1)
    a, b = v_e.sqrt(), v_s.sqrt()  # deviations given where variances were meant
    square = (m_e - m_s) ** 2
    penalty = (((a + square) / b + (b + square) / a) / 2 - 1).sum()  # summed over cells
    prior = o.lambda_prior * w["log_phi_j"].square().sum() / B
    per_cell = expression + o.splicing_loss_weight * spliced + kl + penalty
    return z, per_cell.mean() + prior


@pytest.mark.parametrize("penalty", ["Jeffreys", "None"])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_published_weights_give_published_numbers(generation: str, penalty: str):
    torch.manual_seed(0)
    module = SPLICEVAE(
        G,
        J,
        n_batch=2,
        n_obs=B,
        n_cats_per_cov=[],
        n_hidden=10,
        n_latent=L,
        use_size_factor_key=True,
        event_index=EVENTS,
        modality_penalty=penalty,
        compat="splicevi",
        **GENERATIONS[generation],
    )
    module = module.double().eval()
    with torch.no_grad():
        module.log_phi_j.normal_(2.0, 1.0)
        cells = minibatch()
        out = module.inference(**module._get_inference_input(cells))
        out["z"] = out["qz_m"]
        generated = module.generative(**module._get_generative_input(cells, out))
        found = module.loss(cells, out, generated).loss
        z, wanted = published_loss(module.state_dict(), module.options, cells)
    torch.testing.assert_close(out["qz_m"], z, rtol=1e-5, atol=1e-5)
    if penalty == "None":
        q = (out["qzm_expr"], out["qzv_expr"].sqrt()), (out["qzm_spl"], out["qzv_spl"].sqrt())
        square = (q[0][0] - q[1][0]) ** 2
        (_, a), (_, b) = q
        wanted = wanted - (((a + square) / b + (b + square) / a) / 2 - 1).sum()
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
