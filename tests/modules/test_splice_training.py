"""What the loss and the encoder of SPLICEVAE do in training only: the prior, and events that are hidden."""

from __future__ import annotations

import math

import pytest
import torch

from vivace.modules import SPLICEVAE

N_OBS = 50


def cells(n_cells: int, n_junctions: int) -> dict[str, torch.Tensor]:
    return {
        "X": torch.poisson(2 * torch.rand(n_cells, 5)).double(),
        "junc_counts_key": 1 + torch.poisson(3 * torch.rand(n_cells, n_junctions)).double(),
        "batch": torch.zeros(n_cells, 1, dtype=torch.long),
        "labels": torch.zeros(n_cells, 1, dtype=torch.long),
        "ind_x": torch.arange(n_cells).unsqueeze(1),
    }


def build(n_events: int, **options: object) -> SPLICEVAE:
    """Events of two junctions each."""
    torch.manual_seed(0)
    return SPLICEVAE(
        5,
        2 * n_events,
        event_index=torch.arange(2 * n_events) // 2,
        n_obs=N_OBS,
        n_hidden=8,
        n_latent=2,
        use_size_factor_key=True,
        splicing_encoder_architecture="partial",
        **options,
    )


# prior of the concentrations --------------------------------------------------------------------


def loss(module: SPLICEVAE, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    torch.manual_seed(1)
    return module(tensors)[2].loss


RAW = torch.tensor([2.0, 5.5, 4.0], dtype=torch.float64)


def minus_log_density(prior: str) -> float:
    """Of three concentrations phi, up to a constant: ln phi ~ N(ln 100, 1), or phi ~ Gamma(3, 0.5)."""
    if prior == "normal":
        return float(((RAW - math.log(100)) ** 2).sum() / 2)
    return float((0.5 * RAW.exp() - (3.0 - 1) * RAW).sum())


@pytest.mark.parametrize("prior", ["normal", "gamma"])
@pytest.mark.parametrize("n_cells", [4, 20])
@torch.no_grad()
def test_the_prior_counts_once_for_all_cells_whatever_the_minibatch(prior: str, n_cells: int):
    """The loss is a mean over cells, so that the whole prior is shared among the N of training."""
    given = {"phi_init": "constant", "phi_prior_shape": 3.0, "phi_prior_rate": 0.5}
    tensors = cells(n_cells, 6)
    found = []
    for kind in (prior, "none"):
        module = build(3, phi_prior=kind, **given).double().eval()
        module.log_phi_j.copy_(RAW)
        found.append(loss(module, tensors))
    wanted = minus_log_density(prior) / N_OBS
    assert float(found[0] - found[1]) == pytest.approx(wanted, rel=1e-6)


@torch.no_grad()
def test_the_published_penalty_is_that_of_a_minibatch():
    tensors = cells(4, 6)
    found = []
    for kind in ("l2_log", "none"):
        module = build(3, phi_prior=kind, lambda_prior=0.3, compat="splicevi").double().eval()
        module.log_phi_j.copy_(RAW)
        found.append(loss(module, tensors))
    assert float(found[0] - found[1]) == pytest.approx(0.3 * float((RAW**2).sum()) / 4, rel=1e-6)


# hidden events ----------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.7])
def test_the_share_of_hidden_events_is_the_one_asked_for(share: float):
    """Of 50 cells with 100 events each; events are hidden whole."""
    module, tensors = build(100, event_dropout=share).double().train(), cells(50, 200)
    seen = []
    module.z_encoder_splicing.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    module.inference(**module._get_inference_input(tensors))
    (observed,) = seen
    events = torch.unique(observed.cell * 100 + observed.junction // 2)
    assert len(observed.cell) == 2 * len(events)
    spread = math.sqrt(share * (1 - share) / 5000)
    assert 1 - len(events) / 5000 == pytest.approx(share, abs=4 * spread)
