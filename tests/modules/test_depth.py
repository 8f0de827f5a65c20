"""What the encoder sees of deep and shallow cells: counts times (100 / total) ** scaling."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import vivace
from vivace.errors import InvalidArgumentError
from vivace.kernels import csr_tensor
from vivace.modules import VAE, JointEmbeddingVAE
from vivace.modules.depth import scaled_to_depth

G = 30


def counts(n_cells=40, *, csr=True):
    """Cells of very different depth; the first has no counts."""
    torch.manual_seed(1)
    rate = torch.logspace(-1, 2, n_cells).unsqueeze(1)
    x = torch.poisson(rate.expand(n_cells, G)).double()
    x[0] = 0
    if not csr:
        return x, x
    m = x.to_sparse_csr()
    return csr_tensor(m.crow_indices().int(), m.col_indices().int(), m.values(), m.shape), x


def cells(x):
    batch = torch.arange(x.shape[0]).remainder(2).unsqueeze(1)
    return {"X": x, "batch": batch, "labels": torch.zeros_like(batch)}


def seen_by(encoder, module, tensors):
    """Features (B, G) that an encoder is given, call after call."""
    seen = []
    hook = encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0].to_dense()))
    module(tensors)
    hook.remove()
    return seen


# the formula


@pytest.mark.parametrize("csr", [False, True])
@pytest.mark.parametrize("scaling", [0.25, 0.5, 1.0])
def test_counts_times_a_power_of_the_depth(scaling, csr):
    x, dense = counts(csr=csr)
    found = scaled_to_depth(x, scaling)
    assert found.layout == x.layout
    total = np.maximum(dense.numpy().sum(1, keepdims=True), 1)
    expected = dense.numpy() * (100 / total) ** scaling
    np.testing.assert_allclose(found.to_dense().numpy(), expected, rtol=1e-13)


def test_with_one_all_cells_have_the_same_depth():
    found = scaled_to_depth(counts()[0], 1.0).to_dense()
    assert found[0].sum() == 0
    torch.testing.assert_close(found[1:].sum(1), torch.full((39,), 100.0, dtype=torch.float64))


def test_with_a_half_the_noise_of_a_gene_is_alike_at_every_depth():
    torch.manual_seed(0)
    share = torch.full((4000, 100), 0.01)
    noise = [
        scaled_to_depth(torch.poisson(depth * share), 0.5).std().item() for depth in (100, 10_000)
    ]
    assert noise == pytest.approx([1.0, 1.0], abs=0.02)  # sqrt(100 * 0.01)


# who sees it


@pytest.mark.parametrize("csr", [False, True])
def test_the_encoder_of_the_state_sees_it_and_that_of_the_library_does_not(csr):
    x, dense = counts(csr=csr)
    vae = VAE(
        G,
        n_batch=2,
        encoder_depth_scaling=0.5,
        use_observed_lib_size=False,
        library_log_means=np.zeros((1, 2)),
        library_log_vars=np.ones((1, 2)),
    ).double()
    (state,) = seen_by(vae.z_encoder, vae, cells(x))
    (library,) = seen_by(vae.l_encoder, vae, cells(x))
    torch.testing.assert_close(state, torch.log1p(scaled_to_depth(dense, 0.5)))
    torch.testing.assert_close(library, torch.log1p(dense))


def test_each_view_of_a_cell_is_scaled_by_its_own_depth():
    vae = JointEmbeddingVAE(G, n_batch=2, encoder_depth_scaling=1.0).double().train()
    x = counts()[0]
    whole, thinned = seen_by(vae.z_encoder, vae, cells(x))
    for view in (whole, thinned):
        total = torch.expm1(view).sum(1)
        torch.testing.assert_close(total[total > 0], torch.full_like(total[total > 0], 100.0))
    assert (whole != thinned).any()


def test_the_counts_that_are_explained_stay_as_they_are():
    x, dense = counts()
    vae = VAE(G, n_batch=2, encoder_depth_scaling=0.5).double().eval()
    states, decoded, losses = vae(cells(x))
    torch.testing.assert_close(states["library"][1:], dense.sum(1, keepdim=True).log()[1:])
    expected = -decoded["px"].log_prob(dense).sum(-1)
    torch.testing.assert_close(losses.reconstruction_loss["reconstruction_loss"], expected)


def test_values_that_are_no_counts_are_not_scaled():
    x = torch.randn(6, G)
    vae = VAE(
        G, n_batch=2, gene_likelihood="normal", log_variational=False, encoder_depth_scaling=1
    )
    (seen,) = seen_by(vae.z_encoder, vae, cells(x))
    torch.testing.assert_close(seen, x)


# models


def model(kind=vivace.SCVI, **options):
    adata = vivace.datasets.simulate("depth", n_cells=120, n_genes=G, seed=0)
    adata.obs["batch"] = "first"
    kind.setup_anndata(adata, batch_key="batch")
    return kind(adata, n_latent=3, n_hidden=8, **options), adata


@pytest.mark.parametrize("kind", [vivace.SCVI, vivace.JointEmbeddingSCVI])
def test_models_scale_and_modules_do_not(kind):
    assert model(kind)[0].module.encoder_depth_scaling == 0.5
    assert kind.module_class(G).encoder_depth_scaling == 0


@pytest.mark.parametrize("scaling", [-0.1, 1.5, "half"])
def test_outside_of_0_to_1_it_is_refused(scaling):
    with pytest.raises(InvalidArgumentError, match="encoder_depth_scaling"):
        model(encoder_depth_scaling=scaling)


def test_files_of_before_keep_the_counts_as_they_are(tmp_path):
    old, adata = model(encoder_depth_scaling=0.0)
    old.train(max_epochs=1, progress=False)
    del old.options["encoder_depth_scaling"]  # they do not know of it
    old.save(tmp_path / "old")
    loaded = vivace.SCVI.load(tmp_path / "old", adata)
    expected = old.get_latent_representation()
    np.testing.assert_array_equal(loaded.get_latent_representation(), expected)


@pytest.mark.parametrize("scaling", [0.0, 0.5])
def test_a_query_model_scales_as_its_reference_does(scaling):
    reference, adata = model(encoder_depth_scaling=scaling)
    reference.train(max_epochs=1, progress=False)
    adata.obs["batch"] = "second"
    query = vivace.SCVI.load_query_data(adata, reference)
    assert query.module.encoder_depth_scaling == scaling
