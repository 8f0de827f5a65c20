"""The table of likelihoods: what it says of each is what modules build, and a new row is a new option."""

from __future__ import annotations

import math

import pytest
import torch

from vivace.errors import InvalidArgumentError
from vivace.likelihoods import NegativeBinomial
from vivace.modules import SPLICEVAE, VAE, ContrastiveVAE
from vivace.modules.counts import (
    DISPERSIONS,
    LIKELIHOODS,
    OF_COUNTS,
    OVERDISPERSED,
    CountHead,
    CountLikelihood,
)
from vivace.nn.decoder import DecoderOutput

B, G = 5, 4


def decoded(head: CountHead) -> DecoderOutput:
    """What a decoder with the heads that are asked for says."""
    has = head.decoder_heads
    logits, theta, zi = (torch.randn(B, G).double() for _ in range(3))
    return DecoderOutput(
        logits, theta if has["dispersion_head"] else None, zi if has["dropout_head"] else None
    )


BATCH = torch.tensor([[0], [1], [1], [0], [1]])
LABELS = torch.tensor([[2], [0], [1], [2], [0]])


@pytest.mark.parametrize("dispersion", DISPERSIONS)
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_head_is_the_distribution_of_mean_dispersion_and_inflation(name: str, dispersion: str):
    head = CountHead(name, dispersion)
    said, log_library = decoded(head), torch.randn(B, 1).double()
    px_r = head.initial_px_r(G, n_batch=2, n_labels=3)
    px = head.distribution(said, log_library, px_r, BATCH, LABELS)
    mean = log_library.exp() * torch.softmax(said.scale_logits, -1)
    outputs = {key: value() for key, value in head.outputs(px).items() if key != "px_r"}
    torch.testing.assert_close(outputs["px_rate"], mean)
    torch.testing.assert_close(outputs["px_scale"], mean / log_library.exp())
    assert outputs["px_dropout"] is said.zi_logits
    told = px.parameters()
    torch.testing.assert_close(told["mean"], mean)
    assert ("dispersions" in told) == LIKELIHOODS[name].has_dispersion
    assert ("dropout" in told) == LIKELIHOODS[name].zero_inflated
    if "dropout" in told:
        torch.testing.assert_close(told["dropout"], torch.sigmoid(said.zi_logits))
    if not LIKELIHOODS[name].has_dispersion:
        assert px_r is None
        assert head.outputs(px)["px_r"]() is None
        return
    log_theta = {
        "gene": lambda: px_r,
        "gene-batch": lambda: px_r[:, BATCH[:, 0]].t(),
        "gene-label": lambda: px_r[:, LABELS[:, 0]].t(),
        "gene-cell": lambda: said.log_theta,
    }[dispersion]()
    values = torch.poisson(mean)
    wanted = LIKELIHOODS[name].of_means(mean, log_theta.double().exp(), said.zi_logits)
    torch.testing.assert_close(px.log_prob_sum(values), wanted.log_prob(values).sum(-1))


def test_dispersion_of_groups_needs_groups():
    for kind, name in (("gene-batch", "n_batch"), ("gene-label", "n_labels")):
        with pytest.raises(InvalidArgumentError, match=f'my_option="{kind}" needs {name} >= 1'):
            CountHead("nb", kind, argument="my_option").initial_px_r(G, 0, 0)
        assert CountHead("poisson", kind).initial_px_r(G, 0, 0) is None


def test_names_come_from_the_table():
    assert set(OVERDISPERSED) <= set(OF_COUNTS) <= set(LIKELIHOODS)
    for make in (
        lambda name: VAE(G, gene_likelihood=name),
        lambda name: ContrastiveVAE(G, gene_likelihood=name),
        lambda name: SPLICEVAE(G, 2, event_index=[0, 0], gene_likelihood=name),
    ):
        with pytest.raises(InvalidArgumentError, match=f"gene_likelihood.*{OVERDISPERSED[0]}"):
            make("none of them")


class Geometric(NegativeBinomial):
    """Number of failures before the first success, by its mean: a toy."""

    def __init__(self, mu: torch.Tensor, validate_args: bool | None = None):
        super().__init__(mu, torch.ones_like(mu), validate_args=validate_args)

    @classmethod
    def from_logits(cls, logits, log_library, activation="softmax"):
        log_theta = torch.zeros(logits.shape[-1]).to(log_library)
        return super().from_logits(logits, log_library, log_theta, activation)

    def parameters(self) -> dict[str, torch.Tensor]:
        return {"mean": self.mu}


def test_a_row_of_the_table_is_all_that_a_module_needs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(LIKELIHOODS, "geometric", CountLikelihood(Geometric, has_dispersion=False))
    vae = VAE(G, gene_likelihood="geometric", dispersion="gene-label").double()
    assert vae.px_r is None
    cells = {"X": torch.poisson(torch.full((B, G), 2.0)).double(), "batch": BATCH}
    _, generative, losses = vae(cells)
    mean = generative["px"].mean
    log_p = -torch.log1p(mean)  # success with probability 1 / (1 + mean)
    wanted = log_p + cells["X"] * (mean.log() - torch.log1p(mean))
    found = -losses.reconstruction_loss["reconstruction_loss"]
    torch.testing.assert_close(found, wanted.sum(1))
    losses.loss.backward()
    assert vae.sample(cells).shape == (B, G)
    assert math.isfinite(vae.marginal_ll(cells, 3, return_mean=True))
