"""Differential splicing of groups whose usage is known exactly: the decoder hears the batch alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from vivace.analysis.differential_splicing import SplicingOptions, differential_splicing
from vivace.analysis.groups import make_plan
from vivace.modules import SPLICEVAE

EVENTS = torch.tensor([0, 0, 1, 1, 2])
LOGITS = {
    "a": torch.tensor([0.0, 1.0, 0.3, 0.3, 0.0]),
    "b": torch.tensor([0.4, 0.9, 0.3, 0.3, 0.7]),
}
N = 20  # the first half of batch a, the second of batch b
READS = np.arange(N * 5).reshape(N, 5) % 4


def softmax_by_event(logits: torch.Tensor) -> np.ndarray:
    p = logits.double().exp()
    return (p / torch.zeros(3).double().index_add(0, EVENTS, p)[EVENTS]).numpy()


USAGE = {batch: softmax_by_event(logits) for batch, logits in LOGITS.items()}


@pytest.fixture
def module() -> SPLICEVAE:
    module = SPLICEVAE(
        6,
        5,
        n_batch=2,
        event_index=EVENTS,
        n_hidden=8,
        n_latent=2,
        splicing_decoder_architecture="linear",
    )
    linear = module.z_decoder_splicing.linear
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.zero_()
        linear.weight[:, -2:] = torch.stack([*LOGITS.values()], dim=1)
    return module.eval()


def loader(rows: np.ndarray) -> Iterator[dict[str, torch.Tensor]]:
    rows = np.asarray(rows)
    yield {
        "X": torch.ones(len(rows), 6),
        "batch": torch.from_numpy(rows >= N // 2).long().unsqueeze(1),
        "junc_counts_key": torch.from_numpy(READS[rows]).float(),
    }


def compare(module: SPLICEVAE, **options: object) -> pd.DataFrame:
    var = pd.DataFrame({"event_id": EVENTS.numpy()}, index=[f"junction_{i}" for i in range(5)])
    plan = make_plan(
        pd.DataFrame(index=range(N)), idx1=np.arange(N // 2), idx2=np.arange(N // 2, N)
    )
    return differential_splicing(
        module,
        loader,
        lambda rows: sparse.csr_array(READS[rows].astype(np.float64)),
        var,
        plan,
        options=SplicingOptions(n_samples_overall=40, **options),
    )


def test_change_has_the_sign_of_group_2_minus_group_1(module: SPLICEVAE):
    table = compare(module, mode="change", delta=0.05, norm_splicing_function="decoder")
    change = USAGE["b"] - USAGE["a"]
    assert change[0] > 0.05
    np.testing.assert_allclose(table["effect_size"], change, atol=1e-6)
    np.testing.assert_allclose(table["est_prob1"], USAGE["a"], atol=1e-6)
    assert table["proba_ds"].tolist() == [1, 1, 0, 0, 0]
    assert table["is_ds_fdr"].tolist() == [True, True, False, False, False]


def test_vanilla_is_the_probability_of_more_and_marks_what_is_less_as_well(module: SPLICEVAE):
    table = compare(module, mode="vanilla", norm_splicing_function="decoder")
    assert table["proba_ds"].tolist() == [1, 0, 0, 0, 0], "group 2 uses the first junction more"
    assert table["is_ds_fdr"].tolist() == [True, True, False, False, False]


def test_an_event_with_one_junction_is_never_marked(module: SPLICEVAE):
    """(phi + y) / (phi + y) is 1 but for rounding, which depends on the reads of a side."""
    with torch.no_grad():
        module.log_phi_j.copy_(torch.tensor([1.1, 0.7, 1.234567]))
    for mode in ("vanilla", "change"):
        table = compare(module, mode=mode, delta=0.0 if mode == "vanilla" else 0.05)
        assert not table["is_ds_fdr"].iloc[4]
    assert compare(module, mode="vanilla")["proba_ds"].iloc[4] == 0
