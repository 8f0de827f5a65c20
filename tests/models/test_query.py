"""Query mapping: what the reference learned stays to the bit, and what is new lands in its place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import vivace
from vivace._types import Keys
from vivace.errors import InvalidArgumentError, InvalidDataError, MissingKeyError
from vivace.modules.transfer import FixedBatchNorm

FAST = {"max_epochs": 3, "progress": False, "batch_size": 32}


@pytest.fixture(scope="module")
def cells():
    adata = vivace.datasets.simulate("batches", n_cells=240, n_genes=40, n_batches=3)
    adata.obs["chemistry"] = np.resize(["v1", "v2", "v3"], adata.n_obs)
    new = (adata.obs["batch"] == "batch_1").to_numpy()
    return adata[~new].copy(), adata[new].copy()


def make_reference(adata, setup=None, **options):
    vivace.SCVI.setup_anndata(adata, **(setup or {"batch_key": "batch"}))
    model = vivace.SCVI(adata, n_hidden=16, n_latent=4, **options)
    model.train(**FAST)
    return model


OPTIONS = {
    "plain": {},
    "encode_covariates": {"encode_covariates": True},
    "embedding": {"batch_representation": "embedding"},
    "gene-batch": {"dispersion": "gene-batch"},
    "latent library": {"use_observed_lib_size": False},
    "two layers": {"n_layers": 2, "encode_covariates": True},
    "layer norm": {"use_batch_norm": "none", "use_layer_norm": "both"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_reference_cells_get_the_same_answers_after_mapping(cells, watch, options):
    old_cells, new_cells = (watch(a.copy()) for a in cells)
    reference = make_reference(old_cells, **options)
    before = {k: v.clone() for k, v in reference.module.state_dict().items()}
    latent = reference.get_latent_representation()
    model = vivace.SCVI.load_query_data(new_cells, reference)
    start = {k: v.clone() for k, v in model.module.state_dict().items()}
    model.train(**FAST, weight_decay=0.1)
    after = model.module.state_dict()
    assert any(not torch.equal(start[k], after[k]) for k in after), "nothing was learned"
    # every old answer, to the bit: codes of old batches have not moved
    np.testing.assert_array_equal(model.get_latent_representation(old_cells), latent)
    torch.manual_seed(0)
    ours = model.get_normalized_expression(old_cells, use_mean=True, return_numpy=True)
    torch.manual_seed(0)
    theirs = reference.get_normalized_expression(use_mean=True, return_numpy=True)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    for name, value in reference.module.state_dict().items():
        assert torch.equal(value, before[name])


def test_new_columns_lie_between_old_ones_and_only_they_change(cells):
    """Categories of a first covariate are appended before the columns of the second."""
    old_cells, new_cells = (a.copy() for a in cells)
    setup = {"batch_key": "batch", "categorical_covariate_keys": ["chemistry"]}
    reference = make_reference(old_cells, setup)
    model = vivace.SCVI.load_query_data(new_cells, reference)
    name = "decoder.px_decoder.fc_layers.Layer 0.0.weight"
    old, new = reference.module.state_dict()[name], model.module.state_dict()[name].clone()
    n = model.module.n_latent
    assert old.shape[1] == n + 2 + 3
    assert new.shape[1] == n + 3 + 3
    kept = [*range(n + 2), n + 3, n + 4, n + 5]
    assert torch.equal(new[:, kept], old)
    torch.testing.assert_close(new[:, n + 2], old[:, n : n + 2].mean(1))
    model.train(**FAST, weight_decay=0.1)
    trained = model.module.state_dict()[name]
    assert torch.equal(trained[:, kept], old)
    assert not torch.equal(trained[:, n + 2], new[:, n + 2])


def test_a_reference_of_one_batch_has_no_column_and_stays(cells):
    old_cells, new_cells = (a.copy() for a in cells)
    one = old_cells[old_cells.obs["batch"] == "batch_0"].copy()
    reference = make_reference(one)
    latent = reference.get_latent_representation()
    model = vivace.SCVI.load_query_data(new_cells, reference)
    model.train(**FAST, weight_decay=0.1)
    column = model.module.decoder.px_decoder.fc_layers["Layer 0"]["0"].weight[:, -2]
    assert torch.equal(column, torch.zeros_like(column))
    np.testing.assert_array_equal(model.get_latent_representation(one), latent)


def test_categories_are_appended_even_when_they_would_sort_first(cells):
    old_cells, new_cells = (a.copy() for a in cells)
    new_cells.obs["batch"] = "a_batch"
    model = vivace.SCVI.load_query_data(new_cells, make_reference(old_cells))
    assert model.schema.field(Keys.BATCH).categories == (("batch_0", "batch_2", "a_batch"),)


def test_saved_query_stays_frozen(cells, tmp_path):
    old_cells, new_cells = (a.copy() for a in cells)
    reference = make_reference(old_cells)
    reference.save(tmp_path / "reference")
    model = vivace.SCVI.load_query_data(new_cells, tmp_path / "reference")
    model.train(**FAST)
    loaded = vivace.load(model.save(tmp_path / "query"), new_cells)
    loaded.train(**FAST, weight_decay=0.1)
    np.testing.assert_array_equal(
        loaded.get_latent_representation(old_cells), reference.get_latent_representation()
    )
    old = reference.module.state_dict()
    for name, value in loaded.module.state_dict().items():
        if value.shape == old[name].shape:
            assert torch.equal(value, old[name]), name


def trained_names(model) -> set[str]:
    return {n for n, p in model.module.named_parameters() if p.requires_grad}


def test_what_is_released(cells):
    old_cells, new_cells = (a.copy() for a in cells)
    reference = make_reference(old_cells)
    decoder = "decoder.px_decoder.fc_layers.Layer 0."
    columns = f"{decoder}0.of_covariates"

    def released(**freeze):
        return trained_names(vivace.SCVI.load_query_data(new_cells, reference, **freeze))

    assert released() == {columns}
    encoder = "z_encoder.encoder.fc_layers.Layer 0."
    assert released(freeze_expression=False) == {
        columns,
        f"{encoder}0.of_input",
        f"{encoder}0.bias",
    }
    norm = f"{decoder}1."
    assert released(freeze_batchnorm_decoder=False) == {columns, f"{norm}weight", f"{norm}bias"}
    released_layer = {f"{decoder}0.of_input", f"{decoder}0.bias"}
    assert released_layer <= released(freeze_decoder_first_layer=False)
    assert released(unfrozen=True) == {n for n, _ in reference.module.named_parameters()}


def test_frozen_batch_norm_and_dropout_stay_out_of_training(cells):
    old_cells, new_cells = (a.copy() for a in cells)
    model = vivace.SCVI.load_query_data(
        new_cells, make_reference(old_cells), freeze_dropout=True, freeze_batchnorm_decoder=False
    )
    model.module.train()
    norms = {n: m for n, m in model.module.named_modules() if isinstance(m, torch.nn.BatchNorm1d)}
    for name, norm in norms.items():
        assert isinstance(norm, FixedBatchNorm) == name.startswith("z_encoder")
        assert norm.training == name.startswith("decoder")
    assert all(m.p == 0 for m in model.module.modules() if isinstance(m, torch.nn.Dropout))


def test_genes_are_aligned_by_name(cells):
    old_cells, new_cells = (a.copy() for a in cells)
    reference = make_reference(old_cells)
    shuffled = new_cells[:, ::-1].copy()
    latents = []
    for adata in (new_cells, shuffled):
        model = vivace.SCVI.load_query_data(adata, reference)
        model.train(**FAST)
        latents.append(model.get_latent_representation())
    np.testing.assert_allclose(*latents, atol=1e-5)


def test_missing_genes_are_an_error_that_names_the_way_out(cells):
    old_cells, new_cells = (a.copy() for a in cells)
    reference = make_reference(old_cells)
    fewer = new_cells[:, :35].copy()
    with pytest.raises(
        InvalidDataError, match=r"5 of the reference's 40 genes.*prepare_query_anndata"
    ):
        vivace.SCVI.load_query_data(fewer, reference)
    prepared = vivace.SCVI.prepare_query_anndata(fewer, reference)
    assert list(prepared.var_names) == list(old_cells.var_names)
    np.testing.assert_array_equal(prepared.X[:, :35].toarray(), fewer.X.toarray())
    assert prepared.X[:, 35:].nnz == 0
    model = vivace.SCVI.load_query_data(prepared, reference)
    model.train(**FAST)


def test_extra_genes_are_dropped_and_few_shared_ones_warned_of(cells):
    old_cells, new_cells = (a.copy() for a in cells)
    reference = make_reference(old_cells[:, ::2].copy())
    mapped = vivace.SCVI.load_query_data(new_cells, reference)
    assert list(mapped.var_names) == list(reference.var_names)
    prepared = vivace.SCVI.prepare_query_anndata(new_cells, reference)
    assert prepared.shape == (new_cells.n_obs, 20)
    with pytest.warns(UserWarning, match="only 10 of the reference's 20 genes"):
        vivace.SCVI.prepare_query_anndata(new_cells[:, :20].copy(), reference)
    new_cells.var_names = [f"other_{i}" for i in range(40)]
    with pytest.raises(InvalidDataError, match="none of the reference's 20 genes"):
        vivace.SCVI.prepare_query_anndata(new_cells, reference)


def test_mistakes_are_named(cells):
    old_cells, new_cells = (a.copy() for a in cells)
    reference = make_reference(old_cells)
    with pytest.raises(InvalidArgumentError, match="no batch that the reference does not know"):
        vivace.SCVI.load_query_data(old_cells, reference)
    with pytest.raises(InvalidArgumentError, match="is a SCVI, not a JointEmbeddingSCVI"):
        vivace.JointEmbeddingSCVI.load_query_data(new_cells, reference)
    del new_cells.obs["batch"]
    with pytest.raises(MissingKeyError, match="batch"):
        vivace.SCVI.load_query_data(new_cells, reference)


def test_joint_embedding_maps_too(cells):
    old_cells, new_cells = (a.copy() for a in cells)
    vivace.JointEmbeddingSCVI.setup_anndata(old_cells, batch_key="batch")
    reference = vivace.JointEmbeddingSCVI(old_cells, n_hidden=16, encode_covariates=True)
    reference.train(**FAST)
    model = vivace.JointEmbeddingSCVI.load_query_data(new_cells, reference)
    model.train(**FAST)
    np.testing.assert_array_equal(
        model.get_latent_representation(old_cells), reference.get_latent_representation()
    )
