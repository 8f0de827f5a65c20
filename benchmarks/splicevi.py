"""SPLICEVI: a training step against dense matrices, memory at atlas size, and hidden events on real cells.

python benchmarks/splicevi.py step            # 64 cells x 20,000 junctions, 3.5 % observed
python benchmarks/splicevi.py atlas           # 20,000 cells x 90,000 junctions, 3.6 % observed
python benchmarks/splicevi.py masked          # real cells, hidden events predicted, three seeds
python benchmarks/splicevi.py choices         # simulated groups, one default changed at a time, five seeds
"""

from __future__ import annotations

import argparse
import os
import resource
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata
import mudata
import numpy as np
import pandas as pd
import torch
from scipy import sparse

import vivace
from boosting import boosted
from vivace import metrics
from vivace._mudata import columns_stay
from vivace.errors import VivaceWarning
from vivace.kernels import csr_tensor
from vivace.metrics.imputation import (
    group_means,
    hidden_entries,
    hide_events,
    imputation_scores,
)
from vivace.modules import SPLICEVAE
from vivace.train import TrainOptions
from vivace.train.optimizer import make_optimizer, take_step

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("VIVACE_SHARED_DATA", ROOT.parent / "shared" / "data"))
SEEDS = (0, 1, 2)


# a step ------------------------------------------------------------------------------------------


def sparse_cells(n_cells: int, n_junctions: int, observed: float, seed: int = 0):
    """Junction counts (CSR float32) of events of 2 to 4 junctions, and the events."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 5, n_junctions)
    events = np.repeat(np.arange(n_junctions), sizes)[:n_junctions]
    starts = np.flatnonzero(np.diff(events, prepend=-1))
    sizes = np.diff([*starts, n_junctions])
    usage = rng.gamma(0.5, size=n_junctions)
    blocks = []
    for first in range(0, n_cells, 500):
        n = min(500, n_cells - first)
        cell, event = np.nonzero(rng.random((n, len(starts)), dtype=np.float32) < observed)
        reads = 1 + rng.poisson(3, len(cell))
        cell, event = np.repeat(cell, reads), np.repeat(event, reads)
        slot = (rng.random(len(event)) ** 2 * sizes[event]).astype(int)
        junction = starts[event] + slot
        ones = np.ones(len(cell), np.float32)
        blocks.append(sparse.csr_matrix((ones, (cell, junction)), shape=(n, n_junctions)))
    assert (usage > 0).any()
    return sparse.vstack(blocks, format="csr"), events


def dense_loss(
    module: SPLICEVAE, x, counts, totals, mask, events, *, dense_encoder: bool
) -> torch.Tensor:
    """The module's loss on matrices of cells by junctions, in plain torch, as a textbook has it.

    The encoder computes every junction of every cell and multiplies by the mask, or (cheaper) the
    observed ones only.
    """
    index = events.of_junction
    psi = torch.where(mask, counts / totals.clamp(min=1), 0.0)
    encoder = module.z_encoder_splicing
    everything = torch.ones_like(mask) if dense_encoder else mask
    cell, junction = everything.nonzero(as_tuple=True)
    vectors = torch.nn.functional.normalize(encoder.feature_embedding, dim=1)[junction]
    ratio = psi[cell, junction].unsqueeze(-1)
    layers = encoder.h_layer
    h = torch.relu(layers["1"](layers["0"](torch.cat([ratio, ratio * vectors], 1))))
    h = torch.relu(layers["5"](layers["4"](h)))
    h = h * mask[cell, junction].unsqueeze(-1)
    pooled = h.new_zeros(len(x), h.shape[1]).index_add(0, cell, h)
    pooled = pooled / mask.sum(1, keepdim=True).clamp(min=1)
    mean, raw = encoder.encoder_mlp(pooled, torch.zeros(len(x), 1).long()).chunk(2, -1)
    v_s = torch.nn.functional.softplus(raw) + 1e-6
    qe, _ = module.z_encoder_expression(torch.log1p(x), torch.zeros(len(x), 1).long())
    v_e = qe.variance
    m, v = (mean + qe.mean) / 2, (v_s + v_e) * 0.5**0.5
    z = m + v.sqrt() * torch.randn_like(m)
    batch = torch.zeros(len(x), 1).long()
    logits = module.z_decoder_splicing(z, batch).dense()
    of_events = logits.new_zeros(len(x), events.n_events)
    wide = index.expand_as(logits)
    top = of_events.scatter_reduce(1, wide, logits.detach(), "amax", include_self=False)
    e = (logits - top[:, index]).exp()
    p = e / of_events.scatter_add(1, wide, e)[:, index]
    phi = module.log_phi().exp()
    alpha = p * phi[index] + 1e-10
    n = of_events.scatter_reduce(1, wide, totals, "amax")
    lg = torch.lgamma
    whole = of_events.scatter_add(1, wide, alpha)
    ll = torch.where(n > 0, lg(n + 1) + lg(whole) - lg(n + whole), 0.0).sum(1)
    each = lg(counts + alpha) - lg(alpha) - lg(counts + 1)
    ll = ll + (each * mask).sum(1)
    heads = module.z_decoder_expression(z, batch)
    log_library = torch.log(x.sum(1, keepdim=True) + 1e-6)
    px = module.count_head.distribution(heads, log_library, module.px_r, batch, None)
    kl = ((v + m**2 - 1 - v.log()) / 2).sum(1)
    gap = (qe.mean - mean) ** 2
    penalty = (((v_e + gap) / v_s + (v_s + gap) / v_e) / 2 - 1).sum(1)
    prior = module._phi_prior(len(x))
    return (-ll - px.log_prob_sum(x) + kl + penalty).mean() + prior


def best_ms(function: Callable[[], object], repeats: int) -> float:
    """Milliseconds of processor time of the fastest of some calls; other processes do not count."""
    function()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return 1e3 * min(times)


def step(n_cells: int = 64, n_junctions: int = 20_000, observed: float = 0.035) -> None:
    """Forward and backward of one minibatch, on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    counts, codes = sparse_cells(n_cells, n_junctions, observed)
    module = SPLICEVAE(
        200,
        n_junctions,
        splicing_encoder_architecture="partial",
        n_hidden=128,
        n_latent=16,
        dropout_rate=0.0,
        use_size_factor_key=True,
        event_index=torch.from_numpy(codes),
    )
    module.set_cross_gate(1.0)
    x = torch.poisson(torch.full((n_cells, 200), 0.5))
    csr = csr_tensor(counts.indptr, counts.indices, counts.data, counts.shape)
    batch = torch.zeros(n_cells, 1).long()
    tensors = {"X": x.to_sparse_csr(), "junc_counts_key": csr, "batch": batch}
    whole = torch.from_numpy(counts.toarray())
    events = module.event_map
    sums = whole.new_zeros(n_cells, events.n_events).index_add(1, events.of_junction, whole)
    totals = sums[:, events.of_junction]
    mask = totals > 0

    def ours() -> torch.Tensor:
        module.zero_grad()
        torch.manual_seed(0)
        *_, losses = module(tensors)
        losses.loss.backward()
        return losses.loss

    def dense(dense_encoder: bool = True) -> torch.Tensor:
        module.zero_grad()
        torch.manual_seed(0)
        loss = dense_loss(module, x, whole, totals, mask, events, dense_encoder=dense_encoder)
        loss.backward()
        return loss

    def dense_decoder() -> torch.Tensor:
        return dense(dense_encoder=False)

    assert torch.allclose(ours(), dense_decoder(), rtol=1e-4)  # the same loss

    optimizer = make_optimizer(module, TrainOptions(lr=1e-3))
    for label, function in (
        ("observed entries", ours),
        ("dense, plain torch", dense),
        ("dense decoder alone", dense_decoder),
    ):
        repeats = 15 if function is ours else 1
        plain = best_ms(function, repeats)
        whole_step = best_ms(lambda f=function: (f(), take_step(optimizer)), repeats)
        print(f"{label:20s} {plain:8.1f} ms   with the optimizer {whole_step:8.1f} ms", flush=True)
    print(f"observed: {mask.float().mean():.3f} of {n_cells} x {n_junctions}")


# an atlas ----------------------------------------------------------------------------------------


def paired(counts: sparse.csr_matrix, codes: np.ndarray, n_genes: int = 500) -> mudata.MuData:
    """Cells with random genes beside junction counts."""
    genes = sparse.random(counts.shape[0], n_genes, 0.1, format="csr", dtype=np.float32, rng=0)
    genes.data = np.ceil(5 * genes.data)
    names = [f"cell_{i}" for i in range(counts.shape[0])]
    obs = pd.DataFrame(index=names)
    junctions = pd.DataFrame(
        {"event_id": [f"event_{e}" for e in codes]}, [f"junction_{j}" for j in range(len(codes))]
    )
    parts = {
        "rna": anndata.AnnData(
            genes, obs, pd.DataFrame(index=[f"gene_{g}" for g in range(n_genes)])
        ),
        "splicing": anndata.AnnData(counts, obs.copy(), junctions),
    }
    with columns_stay():
        return mudata.MuData(parts)


def atlas(n_cells: int = 20_000, n_junctions: int = 90_000, observed: float = 0.036) -> None:
    """One epoch at atlas size; the peak of resident memory is that of the whole process."""
    torch.set_num_threads(1)
    counts, codes = sparse_cells(n_cells, n_junctions, observed)
    mdata = paired(counts, codes)
    print(f"{n_cells} cells x {n_junctions} junctions, {counts.nnz / 1e6:.1f} M counts", flush=True)
    start = time.process_time()
    vivace.SPLICEVI.setup_mudata(mdata)
    model = vivace.SPLICEVI(mdata)
    now = time.process_time()
    print(f"set up in {now - start:.0f} s of processor time, peak {peak():.1f} GB", flush=True)
    model.train(max_epochs=1, batch_size=64, progress=False, train_size=0.95)
    seconds = time.process_time() - now
    print(
        f"1 epoch ({model.training['n_train']} cells) in {seconds:.0f} s of processor time, "
        f"peak {peak():.1f} GB"
    )


def peak() -> float:
    """Largest resident memory so far, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


# hidden events -----------------------------------------------------------------------------------

VARIANTS = {
    "no labels": ({}, {}),
    "no labels, nothing hidden in training": ({}, {"event_dropout": 0.0}),
    "label as covariate": ({"covariate": True}, {}),
}
SETS = {
    "lung_splicing": "cell_type",
    "gastrulation_splicing": "stage",
    "cardio_10x_splicing": "cell_type",
}


def imputed(
    mdata: mudata.MuData, label: str, seed: int, fraction: float, recipe: str = "fast", **options
) -> tuple[vivace.SPLICEVI, pd.DataFrame]:
    """A model of most cells, and how well it predicts events that it is not shown."""
    vivace.settings.seed = seed
    model = vivace.SPLICEVI(mdata, n_hidden=64, n_latent=10, **options)
    model.train(seed=seed, recipe=recipe, progress=False, train_size=0.8)
    return model, metrics.psi_imputation(model, fraction=fraction, groupby=label, seed=seed)


def boosted_scores(
    model: vivace.SPLICEVI, mdata: mudata.MuData, seed: int, fraction: float
) -> dict[str, float]:
    """Scores of boosted trees at the entries that :func:`psi_imputation` hides from the model."""
    learned = model.train_indices
    rows = np.setdiff1d(np.arange(mdata.n_obs), learned)
    counts, events = model.get_junction_counts(mdata), model.event_codes
    shown, hidden = hide_events(counts[rows], events, fraction, seed)
    cell, junction, *what = hidden_entries(hidden, events)
    genes = np.log1p(sparse.csr_matrix(mdata.mod["rna"].X).toarray())
    means = group_means(counts[learned], events, np.zeros(len(learned), int), 1)[0]
    inputs = (genes[learned], genes[rows])
    found = boosted(counts[learned], shown, inputs, events, means, seed)[cell, junction]
    reads, totals, pair = what
    return imputation_scores(found, reads, totals, junction, pair)


def masked(names: list[str], fraction: float = 0.25) -> None:
    """Table of hidden events on real cells."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", VivaceWarning)
    warnings.simplefilter("ignore", FutureWarning)
    columns = ["mae", "log_likelihood", "log_likelihood_read", "spearman", "within_junction"]
    for name in names:
        path = DATA / f"{name}.h5mu"
        if not path.is_file():
            print(f"{path} is not there; skipped")
            continue
        mdata, label = mudata.read_h5mu(path), SETS[name]
        rows = {}
        for variant, (setup, options) in VARIANTS.items():
            keys = [label] if setup else None
            vivace.SPLICEVI.setup_mudata(mdata, categorical_covariate_keys=keys)
            for seed in SEEDS:
                start = time.perf_counter()
                model, table = imputed(mdata, label, seed, fraction, **options)
                if ("boosted trees", seed) not in rows:  # the same cells and entries each time
                    rows["boosted trees", seed] = pd.Series(
                        boosted_scores(model, mdata, seed, fraction)
                    )[columns]
                print(
                    f"{name}, {variant}, seed {seed}: {time.perf_counter() - start:.0f} s",
                    flush=True,
                )
                rows[variant, seed] = table.loc["model", columns]
                rows["junction mean", seed] = table.loc["junction mean", columns]
                rows[f"{label} mean", seed] = table.loc["group mean", columns]
        found = pd.DataFrame(rows).T.groupby(level=0, sort=False)
        print(f"\n{name}, {fraction:.0%} of events hidden, seeds {SEEDS}")
        both = found.mean().round(4).astype(str) + " ± " + found.std().round(4).astype(str)
        print(both.to_string(), flush=True)


# defaults ----------------------------------------------------------------------------------------

CHOICES = {
    "as it comes": ({}, {}),
    "embeddings from random vectors": ({"initialize_embeddings_from_pca": False}, {}),
    "240 steps (batches of 64, 40 epochs)": ({}, {"batch_size": 64, "max_epochs": 40}),
    "240 steps, embeddings from random vectors": (
        {"initialize_embeddings_from_pca": False},
        {"batch_size": 64, "max_epochs": 40},
    ),
    "raw ratios": ({"psi_input": "raw"}, {}),
    "no event hidden in training": ({"event_dropout": 0.0}, {}),
    "Jeffreys penalty of weight 1": ({"modality_penalty": "Jeffreys"}, {}),
}
"""Name to options of the model and of training."""


def choices(seeds: tuple[int, ...] = (0, 1, 2, 3, 4)) -> None:
    """Groups that differ in splicing only: is the default found that the model's documentation claims?

    The silhouette is of the groups in the splicing space; the scores are those of hidden events.
    """
    torch.set_num_threads(1)
    mdata = vivace.datasets.simulate(
        "splicing", n_cells=400, n_genes=40, n_events=60, observed=0.5, n_groups=3, n_types=2
    )
    vivace.SPLICEVI.setup_mudata(mdata)
    rows = {}
    for name, (options, train) in CHOICES.items():
        for seed in seeds:
            vivace.settings.seed = seed
            start = time.process_time()
            model = vivace.SPLICEVI(mdata, n_hidden=32, n_latent=6, **options)
            model.train(progress=False, **train)
            seconds = time.process_time() - start
            space = model.get_latent_representation(modality="splicing")
            row = {
                "silhouette": metrics.silhouette(space, mdata.obs["splice_group"]),
                "held-out KL": model.history["kl_local_validation"].iloc[-1, 0],
                "seconds": seconds,
            }
            for fraction in (0.25, 0.95):
                table = metrics.psi_imputation(model, fraction=fraction, indices=np.arange(400))
                gain = table.loc["model"] - table.loc["junction mean"]
                row[f"gain at {fraction:.0%}"] = gain["log_likelihood_read"]
            rows[name, seed] = row
            print(f"{name}, seed {seed}: {pd.Series(row).round(3).to_dict()}", flush=True)
    found = pd.DataFrame(rows).T.groupby(level=0, sort=False)
    both = found.median().round(3).astype(str) + "  [" + found.min().round(3).astype(str)
    print("\nmedian [min, max] over seeds; gain: nats a read above the junction mean")
    print((both + ", " + found.max().round(3).astype(str) + "]").to_string())


def main() -> None:
    """Run one of the four."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("step", "atlas", "masked", "choices"))
    parser.add_argument("--data", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--cells", type=int, default=20_000)
    arguments = parser.parse_args()
    if arguments.what == "step":
        step()
    elif arguments.what == "atlas":
        atlas(arguments.cells)
    elif arguments.what == "choices":
        choices()
    else:
        masked(arguments.data)


if __name__ == "__main__":
    main()
