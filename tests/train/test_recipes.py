"""What the named recipes promise, for any number of cells."""

from __future__ import annotations

import pytest

from vivace.datasets import simulate
from vivace.models import SCVI
from vivace.models.scvi_recipe import SCVI_FAST, SCVI_FAST_BATCHES, scvi_batch_size, scvi_lr
from vivace.train.recipes import make_options

CELLS = [1, 31, 32, 33, 300, 2_000, 20_000, 20_001, 150_000, 10**6, 10**8]
MODEL = {"fast": SCVI_FAST}
KINDS = [SCVI_FAST, SCVI_FAST_BATCHES]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_cells", CELLS)
def test_fast_ends_with_the_whole_kl_weight_whatever_the_size(n_cells, kind):
    found = make_options("fast", n_cells, {}, {"fast": kind})
    per_epoch = -(-n_cells // found.batch_size)
    n_steps = found.max_epochs * per_epoch
    last = found.kl_weight(found.max_epochs - 1, n_steps - 1, n_steps)
    assert last == pytest.approx(found.max_kl_weight, rel=0.01)
    assert found.max_epochs >= 2


@pytest.mark.parametrize("epochs", [kind["max_epochs"] for kind in KINDS])
def test_passes_shrink_with_the_cells_and_small_data_gets_its_steps(epochs):
    found = [epochs(n, scvi_batch_size(n)) for n in CELLS]
    steps = [e * -(-n // scvi_batch_size(n)) for n, e in zip(CELLS, found, strict=True)]
    assert found == sorted(found, reverse=True)
    assert min(steps) >= 200


@pytest.mark.parametrize(
    ("kind", "of_few"), [(SCVI_FAST, 11 * 1200), (SCVI_FAST_BATCHES, 20 * 1200)]
)
def test_few_cells_come_again_more_often_but_not_more_than_30_times(kind, of_few):
    for n_cells in (250, 300, 640, 1100):
        found = kind["max_epochs"](n_cells, scvi_batch_size(n_cells))
        assert found <= 30
        assert found == 30 or found * n_cells >= of_few


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_more_or_less_makes_no_leap_in_the_steps(kind):
    steps = [
        kind["max_epochs"](n, scvi_batch_size(n)) * -(-n // scvi_batch_size(n))
        for n in (1199, 1200)
    ]
    assert max(steps) <= 1.5 * min(steps)


def test_batches_get_more_passes():
    adata = simulate("batches", n_cells=64, n_genes=10, n_batches=2)
    for key, kind in [("batch", SCVI_FAST_BATCHES), (None, SCVI_FAST)]:
        SCVI.setup_anndata(adata, batch_key=key)
        found = make_options("fast", 5000, {}, SCVI(adata)._recipes())
        assert found.max_epochs == kind["max_epochs"](5000, 64)
    assert SCVI_FAST_BATCHES["max_epochs"](5000, 64) > SCVI_FAST["max_epochs"](5000, 64)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("warmup", ["n_epochs_kl_warmup", "n_steps_kl_warmup"])
def test_a_users_warm_up_rises_from_zero(warmup, kind):
    found = make_options("fast", 3000, {warmup: 10}, {"fast": kind})
    assert found.kl_weight(0, 0, 1000) == 0
    assert found.kl_weight(10, 10, 1000) == 1


@pytest.mark.parametrize("n_cells", [20_000, 50_000, 150_000, 10**6])
def test_many_cells_take_no_longer_than_eleven_or_twenty_passes_of_twenty_thousand(n_cells):
    for kind, passes in zip(KINDS, (11, 20), strict=True):
        found = kind["max_epochs"](n_cells, 64)
        assert found == max(2, -(-passes * 20_000 // n_cells))


def test_the_peak_depends_on_the_cells_and_the_users_wins():
    peaks = [make_options("fast", n, {}, MODEL).lr for n in (100, 1199, 1200, 10**6)]
    assert peaks == [6e-2, 6e-2, 3e-2, 3e-2]
    assert make_options("fast", 3000, {"lr": 0.1}, MODEL).lr == 0.1


def test_a_users_number_of_epochs_wins():
    assert make_options("fast", 3000, {"max_epochs": 3}, MODEL).max_epochs == 3


def test_the_kl_weight_is_whole_from_the_first_step():
    found = make_options("fast", 3000, {}, MODEL)
    assert {found.kl_weight(0, step, 1000) for step in range(1000)} == {1.0}


def test_with_batches_the_kl_weight_falls_and_is_never_below_one():
    found = make_options("fast", 3000, {}, {"fast": SCVI_FAST_BATCHES})
    weights = [found.kl_weight(0, step, 1000) for step in range(1000)]
    assert weights == sorted(weights, reverse=True)
    assert (weights[0], weights[-1]) == (2.0, 1.0)


def test_the_fast_recipe_is_what_scvi_trains_with():
    adata = simulate("batches", n_cells=64, n_genes=10, n_batches=2)
    SCVI.setup_anndata(adata, batch_key="batch")
    model = SCVI(adata)
    model.train(max_epochs=1, progress=False)
    used = model.training["options"]
    told = SCVI_FAST_BATCHES | {"max_epochs": 1, "batch_size": scvi_batch_size(64)}
    told["lr"] = scvi_lr(64)
    assert {name: used[name] for name in told} == told
