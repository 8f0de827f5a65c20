"""Usage at single positions and its uncertainty, against the Dirichlet of the event, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from vivace.analysis.splicing import collect, observed_splicing, splicing_at, splicing_blocks
from vivace.modules import SPLICEVAE

EVENTS = np.array([0, 0, 1, 1, 1, 2, 2])
B, G, J = 4, 5, 7


def build(**options: object) -> SPLICEVAE:
    torch.manual_seed(0)
    module = SPLICEVAE(
        G,
        J,
        event_index=torch.from_numpy(EVENTS),
        n_obs=B,
        n_hidden=8,
        n_latent=2,
        use_size_factor_key=True,
        splicing_encoder_architecture="partial",
        **options,
    )
    with torch.no_grad():
        module.log_phi_j.copy_(torch.tensor([0.5, 1.5, 2.5]))
        for parameter in module.z_decoder_splicing.parameters():
            parameter.mul_(3)  # z matters
    return module.eval()


def cells() -> dict[str, torch.Tensor]:
    """Cell 1 does not show the second event, cell 3 shows none."""
    junctions = torch.poisson(3 * torch.rand(B, J))
    junctions[1, 2:5] = 0
    junctions[3] = 0
    return {
        "X": torch.poisson(3 * torch.rand(B, G)),
        "junc_counts_key": junctions,
        "batch": torch.zeros(B, 1, dtype=torch.long),
        "labels": torch.zeros(B, 1, dtype=torch.long),
        "ind_x": torch.arange(B).unsqueeze(1),
    }


def posterior(p: np.ndarray, reads: np.ndarray, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B, J) means and variances of the Dirichlet of each event given its reads: phi p + y."""
    mean, variance = np.zeros((B, J)), np.zeros((B, J))
    for cell in range(B):
        for event in range(3):
            own = event == EVENTS
            expected = p[cell, own] / p[cell, own].sum()  # stored as float32
            law = stats.dirichlet(phi[event] * expected + reads[cell, own])
            mean[cell, own], variance[cell, own] = law.mean(), law.var()
    return mean, variance


AT = np.divmod(np.random.default_rng(0).permutation(B * J), J)


def test_usage_given_reads_has_the_variance_of_its_dirichlet():
    module, tensors = build(), cells()
    found = splicing_at(module, [tensors], *AT)
    (p,) = splicing_blocks(module, [tensors])
    phi = module.log_phi_j.detach().double().exp().numpy()
    mean, variance = posterior(p, tensors["junc_counts_key"].numpy(), phi)
    np.testing.assert_allclose(found["p"], p[AT], rtol=1e-5)
    np.testing.assert_allclose(found["psi"], mean[AT], rtol=1e-5)
    np.testing.assert_allclose(found["variance"], variance[AT], rtol=1e-5)


def test_draws_of_the_latent_state_add_the_variance_between_them():
    """Law of total variance: the mean of the variances and the variance of the means."""
    module, tensors = build(), cells()
    options = {"n_samples": 30, "use_mean": False}
    torch.manual_seed(5)
    found = splicing_at(module, [tensors], *AT, **options)
    torch.manual_seed(5)
    (draws,) = splicing_blocks(module, [tensors], **options)
    assert draws.shape == (30, B, J)
    phi = module.log_phi_j.detach().double().exp().numpy()
    reads = tensors["junc_counts_key"].numpy()
    means, variances = map(np.stack, zip(*(posterior(p, reads, phi) for p in draws), strict=True))
    wanted = variances.mean(0) + means.var(0)
    np.testing.assert_allclose(found["psi"], means.mean(0)[AT], rtol=1e-5)
    np.testing.assert_allclose(found["variance"], wanted[AT], rtol=1e-4)
    assert (means.var(0) > 0.01 * wanted).any()


def test_without_concentrations_only_the_draws_vary():
    torch.manual_seed(0)
    module = SPLICEVAE(
        G, J, event_index=torch.from_numpy(EVENTS), n_hidden=8, splicing_loss_type="binomial"
    ).eval()
    tensors = cells()
    torch.manual_seed(5)
    found = splicing_at(module, [tensors], *AT, n_samples=10, use_mean=False)
    torch.manual_seed(5)
    (draws,) = splicing_blocks(module, [tensors], n_samples=10, use_mean=False)
    np.testing.assert_allclose(found["psi"], draws.mean(0)[AT], rtol=1e-5)
    np.testing.assert_allclose(found["variance"], draws.astype(float).var(0)[AT], rtol=1e-3)


@pytest.mark.parametrize("junctions", [None, np.array([6, 0, 3])])
def test_blocks_keep_the_junctions_asked_for_in_their_order(junctions: np.ndarray | None):
    module, tensors = build(), cells()
    (whole,) = splicing_blocks(module, [tensors], mode="dm_posterior_mean")
    (p,) = splicing_blocks(module, [tensors])
    (found,) = splicing_blocks(module, [tensors], mode="dm_posterior_mean", junctions=junctions)
    phi = module.log_phi_j.detach().double().exp().numpy()
    mean, _ = posterior(p, tensors["junc_counts_key"].numpy(), phi)
    np.testing.assert_allclose(whole, mean, rtol=1e-5)
    np.testing.assert_array_equal(found, whole if junctions is None else whole[:, junctions])


@pytest.mark.parametrize("mode", ["decoder", "dm_posterior_mean"])
def test_minibatches_and_observed_entries_alone_give_the_same_numbers(mode: str):
    module, tensors = build(), cells()
    parts = [{k: v[rows] for k, v in tensors.items()} for rows in (slice(0, 3), slice(3, 4))]
    (whole,) = splicing_blocks(module, [tensors], mode=mode)
    blocks = np.concatenate(list(splicing_blocks(module, parts, mode=mode)))
    np.testing.assert_allclose(blocks, whole, rtol=1e-5)
    reads = tensors["junc_counts_key"].numpy()
    seen = np.stack([np.bincount(EVENTS, row)[EVENTS] > 0 for row in reads])
    for batches in ([tensors], parts, [parts[0], parts[0]]):
        found = observed_splicing(module, batches, mode=mode)
        again = batches[-1] is parts[0]
        wanted = np.where(seen, whole, 0)[[0, 1, 2, 0, 1, 2] if again else slice(None)]
        np.testing.assert_allclose(found.toarray(), wanted, rtol=1e-5)
    at_whole, at_parts = (splicing_at(module, given, *AT) for given in ([tensors], parts))
    for name, values in at_whole.items():
        np.testing.assert_allclose(at_parts[name], values, rtol=1e-5)


def test_blocks_lie_below_each_other_in_memory_and_in_a_file(tmp_path):
    values = np.random.default_rng(0).random((5, J), dtype=np.float32)
    for out in (None, tmp_path / "usage.npy"):
        found = collect(iter([values[:2], values[2:3], values[3:]]), values.shape, out)
        np.testing.assert_array_equal(found, values)
    np.testing.assert_array_equal(np.load(tmp_path / "usage.npy"), values)
