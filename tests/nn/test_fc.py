"""Fully connected layers: widths, covariates, norms."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from vivace.nn import CountDecoder, Embedding, Encoder, FCLayers


def one_hot(codes: torch.Tensor, n: int) -> torch.Tensor:
    return F.one_hot(codes.flatten(), n).float()


def test_widths_and_injection():
    layers = FCLayers(5, 3, n_cat_list=[2, 0, 1, 4], n_cont=2, n_layers=3, n_hidden=7).fc_layers
    widths = [layer["0"].in_features for layer in layers.values()]
    assert widths == [5 + 8, 7 + 8, 7 + 8]
    shallow = FCLayers(5, 3, n_cat_list=[2], n_layers=2, n_hidden=7, inject_covariates=False)
    assert [layer["0"].in_features for layer in shallow.fc_layers.values()] == [7, 7]


def test_covariates_are_columns_after_the_input():
    layers = FCLayers(
        5,
        3,
        n_cat_list=[2, 1, 4],
        n_cont=2,
        dropout_rate=0,
        use_batch_norm=False,
        use_activation=False,
    )
    x, cont = torch.randn(6, 5), torch.randn(6, 2)
    a, b, c = (torch.randint(n, (6, 1)) for n in (2, 1, 4))
    joined = torch.cat([x, cont, one_hot(a, 2), one_hot(c, 4)], dim=1)
    linear = layers.fc_layers["Layer 0"]["0"]
    expected = F.linear(joined, linear.weight, linear.bias)
    torch.testing.assert_close(layers(x, a, b, c, cont=cont), expected)
    torch.testing.assert_close(layers(x, one_hot(a, 2), b, one_hot(c, 4), cont=cont), expected)
    # more than were declared are ignored
    torch.testing.assert_close(layers(x, a, b, c, torch.zeros(6, 1), cont=cont), expected)


def test_missing_covariates_are_errors():
    layers = FCLayers(5, 3, n_cat_list=[2, 3])
    with pytest.raises(ValueError, match="expected 2 categorical"):
        layers(torch.randn(4, 5), torch.zeros(4, 1, dtype=torch.long))
    with pytest.raises(ValueError, match=r"entries \[1\]"):
        layers(torch.randn(4, 5), torch.zeros(4, 1, dtype=torch.long), None)
    with pytest.raises(ValueError, match="continuous"):
        FCLayers(5, 3, n_cont=1)(torch.randn(4, 5))


def test_slots_and_their_names():
    layers = FCLayers(5, 3, use_layer_norm=True)
    slots = layers.fc_layers["Layer 0"]
    assert list(slots) == ["0", "1", "2", "3", "4"]
    assert slots["1"].momentum == 0.01
    assert slots["1"].eps == 0.001
    assert slots["2"].weight is None
    assert list(FCLayers(5, 3, dropout_rate=0, use_batch_norm=False).fc_layers["Layer 0"]) == [
        "0",
        "3",
    ]


def test_samples_are_normalised_one_by_one():
    layers = FCLayers(5, 3, n_cat_list=[2], dropout_rate=0)
    x, cat = torch.randn(4, 6, 5), torch.randint(2, (6, 1))
    out = layers(x, cat)
    assert out.shape == (4, 6, 3)
    assert layers.fc_layers["Layer 0"]["1"].num_batches_tracked == 4
    torch.testing.assert_close(out[2], FCLayers.forward(layers, x[2], cat))


def test_one_cell_cannot_be_batch_normalised():
    with pytest.raises(ValueError, match="at least 2 cells"):
        FCLayers(5, 3)(torch.randn(1, 5))


def test_encoder_variance_and_transformation():
    encoder = Encoder(5, 3, distribution="ln", dropout_rate=0, use_batch_norm=False)
    x = torch.randn(4, 5)
    h = encoder.encoder(x)
    qz, z = encoder(x)
    torch.testing.assert_close(qz.scale**2, encoder.var_encoder(h).exp() + 1e-4)
    torch.testing.assert_close(z.sum(1), torch.ones(4))


def test_decoder_builds_only_what_is_used():
    names = {n for n, _ in CountDecoder(3, 8).named_parameters()}
    assert not any("px_r" in n or "dropout" in n for n in names)
    output = CountDecoder(3, 8, dispersion_head=True, dropout_head=True)(torch.randn(2, 3))
    assert all(head.shape == (2, 8) for head in output)


def test_embedding_extends_and_freezes():
    old = Embedding(2, 3)
    new = Embedding.extend(old, 2)
    assert new.weight.shape == (4, 3)
    assert (new.weight[:2] == old.weight).all()
    new(torch.arange(4)).sum().backward()
    assert (new.weight.grad[:2] == 0).all()
    assert (new.weight.grad[2:] == 1).all()
    copied = Embedding.extend(old, [1, 1], freeze_prev=False)
    assert (copied.weight[2:] == old.weight[1]).all()
