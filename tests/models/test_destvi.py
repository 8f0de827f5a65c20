"""DestVI: from a reference to spots, and what it says of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import vivace
from vivace.datasets import simulate
from vivace.errors import (
    InvalidArgumentError,
    InvalidDataError,
    MissingKeyError,
    NotTrainedError,
    UnsupportedError,
    VivaceWarning,
)

N, G = 20, 60


@pytest.fixture(scope="module")
def problem():
    reference, spots = simulate("spatial", n_cells=90, n_genes=G, n_spots=N, n_types=3)
    reference.obs["donor"] = np.where(np.arange(90) % 2, "x", "y")
    reference.obs["fine"] = [f"{t}{i % 2}" for i, t in enumerate(reference.obs["cell_type"])]
    spots.obs["slide"] = np.where(np.arange(N) % 2, "x", "s")
    spots.layers["smooth"] = spots.X.copy()
    return reference, spots


@pytest.fixture(scope="module")
def reference(problem):
    adata = problem[0]
    vivace.CondSCVI.setup_anndata(
        adata, labels_key="cell_type", batch_key="donor", fine_labels_key="fine"
    )
    model = vivace.CondSCVI(adata, n_hidden=8, n_latent=2)
    model.train(max_epochs=2, progress=False)
    return model


def build(reference, spots, setup=None, **options):
    return vivace.DestVI.from_model(
        spots,
        reference,
        vamp_prior_p=options.pop("p", 3),
        anndata_setup_kwargs=setup or {},
        **options,
    )


def fitted(*args, **options):
    model = build(*args, **options)
    model.train(max_epochs=2, progress=False)
    return model


@pytest.fixture(scope="module")
def model(problem, reference):
    return fitted(reference, problem[1])


# from a default reference -----------------------------------------------------------------------

KINDS = {
    "vamp": {},
    "vamp, one state": {"prior_mode": "normal"},
    "no prior": {"p": None},
    "free": {"amortization": "none", "prior_mode": "normal"},
    "scvi-tools": {"compat": "scvi-tools"},
    "shared latent": {"n_latent_amortization": 3},
}


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_every_prior_is_reached_from_a_default_reference(problem, reference, options, tmp_path):
    spots = problem[1].copy()
    model = fitted(reference, spots, {"smoothed_layer": "smooth"}, **options)
    proportions = model.get_proportions()
    np.testing.assert_allclose(proportions.sum(axis=1), 1, rtol=1e-5)
    loaded = vivace.load(model.save(tmp_path / "run"), spots)
    pd.testing.assert_frame_equal(loaded.get_proportions(), proportions)
    pd.testing.assert_frame_equal(
        loaded.get_scale_for_ct("type_1"), model.get_scale_for_ct("type_1")
    )
    assert loaded.cell_type_mapping == ["type_0", "type_1", "type_2"]


def test_a_mixture_reference_gives_its_own_prior(problem):
    cells, spots = problem[0].copy(), problem[1].copy()
    vivace.CondSCVI.setup_anndata(cells, labels_key="cell_type")
    mog = vivace.CondSCVI(cells, n_hidden=8, n_latent=2, prior="mog", num_classes_mog=4)
    mog.train(max_epochs=1, progress=False)
    model = build(mog, spots)
    torch.testing.assert_close(model.module.mean_vprior, mog.module.prior_means.detach())


def test_the_reference_must_be_trained(problem):
    cells = problem[0].copy()
    vivace.CondSCVI.setup_anndata(cells, labels_key="cell_type")
    with pytest.raises(NotTrainedError):
        vivace.DestVI.from_model(problem[1].copy(), vivace.CondSCVI(cells))


def test_from_rna_model_is_another_name():
    assert vivace.DestVI.from_rna_model.__func__ is vivace.DestVI.from_model.__func__


# genes ------------------------------------------------------------------------------------------


def test_genes_are_matched_by_name(problem, reference):
    plain = build(reference, problem[1].copy())
    shuffled = problem[1][:, ::-1].copy()
    turned = build(reference, shuffled)
    assert list(turned.var_names) == list(plain.var_names)
    assert (
        plain._cells()
        .minibatch(np.arange(3))["X"]
        .to_dense()
        .equal(turned._cells().minibatch(np.arange(3))["X"].to_dense())
    )


def test_the_decoder_is_restricted_to_shared_genes(problem, reference):
    some = problem[1][:, 5:].copy()
    some.var_names = [f"other_{i}" if i > 52 else name for i, name in enumerate(some.var_names)]
    whole, part = build(reference, problem[1].copy()), build(reference, some)
    assert part.n_genes == 53
    gamma, ones = torch.zeros(1, 2, 3, 1), torch.ones(1, 1, 3)
    batch = torch.zeros(1, 1, dtype=torch.long)
    of_whole = whole.module.eval().type_expression(gamma, ones, batch)[0, :3, 5:58]
    of_part = part.module.eval().type_expression(gamma, ones, batch)[0, :3]
    torch.testing.assert_close(of_part, of_whole / of_whole.sum(1, keepdim=True))
    part.train(max_epochs=1, progress=False)
    assert part.get_proportions().shape == (N, 3)  # spots keep genes the model does not know


def test_too_few_shared_genes_are_refused_with_names_of_both(problem, reference):
    with pytest.raises(InvalidDataError, match=r"49 of the reference's 60.*gene_0"):
        build(reference, problem[1][:, :49].copy())


def test_few_shared_genes_are_reported(problem):
    cells, spots = simulate("spatial", n_cells=60, n_genes=130, n_spots=6, n_types=2)
    vivace.CondSCVI.setup_anndata(cells, labels_key="cell_type")
    wide = vivace.CondSCVI(cells, n_hidden=8)
    wide.train(max_epochs=1, progress=False)
    with pytest.warns(VivaceWarning, match="60 of the reference's 130"):
        vivace.DestVI.from_model(spots[:, :60].copy(), wide)


def test_the_users_spots_are_left_alone(problem, reference, watch):
    spots = watch(problem[1].copy())
    model = fitted(reference, spots)
    model.get_proportions()
    model.get_expression_for_ct("type_0")


# batches ----------------------------------------------------------------------------------------


def test_known_batches_start_from_the_reference_and_new_ones_from_its_mean(problem, reference):
    model = build(reference, problem[1].copy(), {"batch_key": "slide"})
    rows = reference.module.get_embedding("batch").weight.detach()
    start = model.module.get_embedding("batch").weight.detach()
    torch.testing.assert_close(start, torch.stack([rows.mean(0), rows[0]]))  # "s" is new, "x" known


# answers ----------------------------------------------------------------------------------------


def test_proportions_by_row_numbers_and_masks(model):
    whole = model.get_proportions()
    mask = np.arange(N) % 3 == 0
    pd.testing.assert_frame_equal(
        model.get_proportions(indices=np.array([4, 2])), whole.iloc[[4, 2]]
    )
    pd.testing.assert_frame_equal(model.get_proportions(indices=mask), whole[mask])
    pd.testing.assert_frame_equal(
        model.get_proportions(batch_size=1), whole, check_exact=False, rtol=1e-4
    )


def test_additional_programmes_are_kept_on_request(model):
    extended = model.get_proportions(keep_additional=True)
    assert list(extended.columns) == model.cell_type_mapping_extended
    np.testing.assert_allclose(extended.sum(axis=1), 1, rtol=1e-5)
    raw = model.get_proportions(normalize=False)
    pd.testing.assert_frame_equal(raw, extended.iloc[:, :3], check_exact=False, rtol=1e-4)


def test_free_proportions_are_those_of_the_model(problem, reference):
    model = fitted(reference, problem[1].copy(), amortization="latent")
    v = torch.softmax(model.module.V.detach().t(), dim=1)[:, :3]
    expected = (v / v.sum(1, keepdim=True)).numpy()
    np.testing.assert_allclose(model.get_proportions(), expected, rtol=1e-5)


def test_proportions_of_cells_divide_by_the_depth_of_a_type(problem, reference, model):
    cells = reference.adata
    totals = np.asarray(cells.X.sum(1)).ravel()
    depth = [
        totals[(cells.obs["cell_type"] == t).to_numpy()].mean() for t in model.cell_type_mapping
    ]
    expected = model.get_proportions() / depth
    expected = expected.div(expected.sum(axis=1), axis=0)
    np.testing.assert_allclose(model.get_proportions(of="cells"), expected, rtol=1e-4)
    with pytest.raises(InvalidArgumentError, match="further programmes"):
        model.get_proportions(of="cells", keep_additional=True)
    with pytest.raises(InvalidArgumentError, match="molecules"):
        model.get_proportions(of="molecules")


def test_uncertainty_falls_with_depth(problem, reference, model):
    spread = model.get_proportion_uncertainty(n_draws=8)
    assert spread.shape == (N, 3)
    assert (spread.to_numpy() >= 0).all()
    pd.testing.assert_frame_equal(spread, model.get_proportion_uncertainty(n_draws=8))
    shallow = problem[1].copy()
    shallow.X = (shallow.X / 50).ceil()
    few = fitted(reference, shallow).get_proportion_uncertainty(n_draws=8)
    assert few.to_numpy().mean() > spread.to_numpy().mean()
    free = fitted(reference, problem[1].copy(), amortization="latent")
    with pytest.raises(UnsupportedError, match="amortised"):
        free.get_proportion_uncertainty()


def test_states_are_the_weighted_mean_of_the_modes(problem, reference):
    model = fitted(reference, problem[1].copy(), n_states_per_label=3)
    tensors = model._cells().minibatch(np.arange(N))
    _, out = model.module(tensors, compute_loss=False)
    pi, gamma = out["proportion_modes"][0], out["gamma"][0]
    expected = sum(pi[k, :, None] * gamma[k].permute(2, 0, 1) for k in range(3)).detach()
    np.testing.assert_allclose(model.get_gamma(return_numpy=True), expected, atol=1e-5)
    frames = model.get_gamma(indices=[2])
    np.testing.assert_allclose(frames["type_2"].to_numpy()[0], expected[2, :, 2], atol=1e-5)


def test_expression_of_types_adds_up_to_the_counts(problem, model):
    parts = [model.get_expression_for_ct(t) for t in model.cell_type_mapping]
    total = sum(p.to_numpy() for p in parts)
    observed = problem[1].X.toarray()
    assert (total <= observed * (1 + 1e-4)).all()
    assert total.sum() > 0.3 * observed.sum()  # the rest is the further programme
    sparse = model.get_expression_for_ct("type_0", return_sparse_array=True)
    assert sparse.shape == (N, G)
    np.testing.assert_allclose(sparse.toarray(), parts[0], rtol=1e-5)
    np.testing.assert_allclose(model.get_scale_for_ct("type_0").sum(axis=1), 1, rtol=1e-4)


def test_fine_types_are_the_triple_sum(problem, reference):
    model = fitted(reference, problem[1].copy(), n_states_per_label=2)
    found = model.get_fine_celltypes(reference, indices=np.array([3, 1]))
    _, out = model.module(model._cells().minibatch(np.array([3, 1])), compute_loss=False)
    expected = torch.zeros(2, 6)
    for i in range(2):
        for c in range(3):
            for k in range(2):
                logits = reference.module.classify(
                    out["gamma"][0, k, :, c, i][None], torch.tensor([c])
                )
                share = out["v"][0, i, c] * out["proportion_modes"][0, k, i, c]
                expected[i] += share * torch.softmax(logits[0], dim=0)
    np.testing.assert_allclose(found, expected.detach(), atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), out["v"][0, :, :3].sum(1).detach(), rtol=1e-4)


def test_the_shared_latent_has_a_row_for_every_spot(problem, reference, model):
    shared = fitted(reference, problem[1].copy(), n_latent_amortization=3)
    latent = shared.get_latent_representation(batch_size=7)
    assert latent.shape == (N, 3)
    np.testing.assert_allclose(latent, shared.get_latent_representation(), rtol=1e-4, atol=1e-5)
    mean, variance = shared.get_latent_representation(return_dist=True)
    np.testing.assert_array_equal(mean, shared.get_latent_representation())
    assert (variance > 0).all()
    with pytest.raises(UnsupportedError, match="n_latent_amortization"):
        model.get_latent_representation()


def test_unknown_types_are_named(model):
    with pytest.raises(MissingKeyError, match="Did you mean"):
        model.get_scale_for_ct("type_O")


def test_other_spots_can_be_read(problem, model):
    other = problem[1][:7].copy()
    pd.testing.assert_frame_equal(
        model.get_proportions(adata=other), model.get_proportions().iloc[:7], check_exact=False
    )


# training ---------------------------------------------------------------------------------------


def test_held_out_spots_need_encoders(problem, reference):
    model = build(reference, problem[1].copy())
    model.train(max_epochs=1, train_size=0.8, progress=False)
    assert "elbo_validation" in model.history
    free = build(reference, problem[1].copy(), amortization="latent")
    with pytest.raises(InvalidArgumentError, match="held-out spots need"):
        free.train(max_epochs=1, train_size=0.8, progress=False)


def test_recipes(problem, reference):
    model = build(reference, problem[1].copy())
    options, weights = model._training_options("classic", N, {}, None)
    assert (options.max_epochs, options.lr, options.n_epochs_kl_warmup) == (2000, 3e-3, 200)
    assert weights == {}
    options, weights = model._training_options("fast", 1000, {}, {"reconst_weight": 2.0})
    assert 1000 <= options.max_epochs * 32 < 1032  # steps, of 32 minibatches an epoch
    assert weights["reconst_weight"] == 2.0


def test_spots_of_the_simulation_are_read_better_than_by_chance():
    cells, spots = simulate("spatial", n_cells=300, n_genes=100, n_spots=64, n_types=3)
    vivace.CondSCVI.setup_anndata(cells, labels_key="cell_type")
    reference = vivace.CondSCVI(cells, n_hidden=64)
    reference.train(max_epochs=15, progress=False)
    model = vivace.DestVI.from_model(spots, reference)
    model.train(max_epochs=100, progress=False)
    found, truth = model.get_proportions(), spots.obsm["proportions"]
    correlations = [np.corrcoef(found[c], truth[c])[0, 1] for c in truth]
    assert np.mean(correlations) > 0.5
