"""Faults of one line that the tests must notice: ``python tests/mutants.py [part of file or text ...]``.

Each fault is put into a copy of the sources, and the tests named beside it are run on the copy. A fault
that they pass has survived: a test is missing. Faults whose text is no longer in the sources are skipped.
Not part of the suite; the whole table takes a quarter of an hour.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PASSED, FAILED = 0, 1  # exit codes of pytest; others mean that it did not get so far
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "VIVACE_SHARED_DATA": os.devnull}
"""One thread, and no real data."""
PRELOADED = ("anndata", "mudata", "numba", "scipy.stats", "sklearn.mixture", "torch")
"""Imported once, for all the processes that are forked from this one."""


class Mutant(NamedTuple):
    """``old`` in ``file`` becomes ``new``, and one of ``tests`` should fail."""

    file: str
    tests: str
    old: str
    new: str


def of(file: str, tests: str, *changes: tuple[str, str]) -> list[Mutant]:
    """Faults of one file that the same tests should notice; all paths from their folders."""
    return [Mutant(file, tests, old, new) for old, new in changes]


MUTANTS = [
    # analysis: comparing draws ------------------------------------------------------------------
    *of(
        "analysis/change.py",
        "analysis/test_differential.py -k 'not realised and not a_model'",
        ("change >= delta, change < -delta", "change > delta, change < -delta"),
        ("change >= delta, change < -delta", "change >= delta, change < delta"),
        ("np.log(p + EPS) - np.log(1 - p + EPS)", "np.log2(p + EPS) - np.log2(1 - p + EPS)"),
        ("np.maximum(increased, decreased)", "np.minimum(increased, decreased)"),
        ("np.quantile(maxima[silent], 0.9)", "np.quantile(maxima, 0.9)"),
        ("max(noise) / len(maxima1)", "max(noise)"),
        ("max(noise) / len(maxima1)", "min(noise) / len(maxima1)"),
        ("np.abs(centres[[0, -1]]).mean()", "np.abs(centres[[0, 1]]).mean()"),
        ("expected <= target", "expected <= 2 * target"),
        ("np.arange(1, len(p) + 1)", "np.arange(2, len(p) + 2)"),
        ("np.floor(level * n)", "np.ceil(level * n)"),
        ("[middle - 1, middle]", "[middle, middle]"),
        ("REPORTED = 1e-3", "REPORTED = 1.0"),
        ("part.dtype != bool", "False"),
    ),
    *of(
        "analysis/differential.py",
        "analysis/test_differential.py -k 'not realised and not a_model'",
        ("order = rng.permutation(n)", "order = np.arange(n)"),
        ("p=sizes / sizes.sum()", "p=None"),
        ("starts[chosen] + rng.integers(n, size=n)", "starts[chosen]"),
        ("n // n_batches or 2", "n // n_batches or 1"),
        ("n = min(len(columns1), len(columns2))", "n = max(len(columns1), len(columns2)) - 1"),
        ("(scale1 > scale2).mean(-1)", "(scale1 < scale2).mean(-1)"),
        ("(scale1 > scale2).mean(-1)", "(scale1 > scale2).mean(0)"),
        ("TARGET, totals, out", "NORMALISED_TOTAL, totals + 1, out"),
        ("n += block.shape[0]", "n += block.shape[1]"),
        ("mean2 < options.threshold_counts", "mean1 < options.threshold_counts"),
        ("change(scale1, scale2, REPORTED * pseudocount)", "change(scale2, scale1, REPORTED * pseudocount)"),
        ('"bayes_factor" if options.mode == "vanilla" else "proba_de"', '"scale1"'),
        ("sum(p.n_cells for p in parts)", "len(parts)"),
        ("max(n, needed.get(key, 0))", "n"),
        ("rng.integers(len(plan.sets[i]), size=n)", "rng.integers(len(plan.sets[i]) - 1, size=n)"),
        ("set(self.batches1) != set(self.batches2)", "True"),
    ),
    *of(
        "analysis/groups.py",
        "analysis/test_differential.py -k 'not realised and not a_model'",
        ("Comparison((i,), (len(firsts),)", "Comparison((len(firsts),), (i,)"),
        ("tuple(j for j in everyone if j != i)", "tuple(everyone)"),
        ("np.setdiff1d(np.arange(len(obs)), rows1)", "np.arange(len(obs))"),
        ("rows.max() >= len(obs)", "rows.max() > len(obs)"),
        ("fit_predict(means) == 1", "fit_predict(means) == -1"),
        ("if group2 in firsts", "if False"),
    ),
    *of(
        "analysis/importance.py",
        "analysis/test_importance.py",
        ("log_likelihood - log_marginal, dim=1", "log_likelihood, dim=1"),
        ("target - torch.logsumexp(log_posterior, dim=1)", "target"),
        ("0.5 * math.log(n))", "1.0 * math.log(n))"),
        ("scales[rng.choice(len(p), len(p), p=p / p.sum())]", "scales[rng.choice(len(p), len(p))]"),
        ('["qz"].log_prob(u[:, None])', '["qz"].log_prob(module.z_encoder.z_transformation(u)[:, None])'),
        ("split(module.z_encoder.z_transformation(u), max", "split(u, max"),
        ("effective = 1 / float((weights**2).sum())", "effective = float(len(weights))"),
        ("len(anchors) > options.max_cells", "len(anchors) < options.max_cells"),
    ),
    # analysis: splicing -------------------------------------------------------------------------
    *of(
        "analysis/splicing.py",
        "analysis/test_splicing.py",
        ("(phi + totals + 1)", "(phi + totals)"),
        ("inside.mean(0) + psi.var(0, correction=0)", "inside.mean(0)"),
        ("inside.mean(0) + psi.var(0, correction=0)", "inside.mean(0) + psi.var(0)"),
        ("psi = (phi * p + reads) / (phi + totals)", "psi = (phi * p + reads) / (phi + 1)"),
        ("entries.total[pair].double() * seen", "entries.total[pair].double()"),
        ("rows.append(e.cell.cpu().numpy() + n)", "rows.append(e.cell.cpu().numpy())"),
        ("p = (phi * p + e.reads) / (phi + total)", "p = (phi * p + total) / (phi + total)"),
        ("cells[order] - start", "cells[order]"),
        ("start += n_cells", "start += 0"),
        ("entries.start[pair] + events.rank[junction]", "entries.start[pair]"),
    ),
    *of(
        "analysis/splicing.py",
        "analysis/test_splicing.py",
        ("start += len(block)", "start += 0"),
    ),
    *of(
        "analysis/differential_splicing.py",
        "analysis/test_differential_splicing.py",
        ("p=np.array(sizes) / sum(sizes)", "p=None"),
        ("change = usage2 - usage1", "change = usage1 - usage2"),
        ("place = rng.permutation(n)", "place = np.arange(n)"),
        ("index_add(1, local, reads)[:, local]", "index_add(1, local, reads).sum(1, keepdim=True)"),
        ('found["est_prob2"] - found["est_prob1"]', 'found["est_prob1"] - found["est_prob2"]'),
        ("up, down, options.test_mode)", 'up, down, "two")'),
        ("np.logical_or.reduceat(changed", "np.logical_and.reduceat(changed"),
        ("=raw2.mean_ratio - raw1.mean_ratio", "=raw2.weighted_ratio - raw1.weighted_ratio"),
        ("=raw2.weighted_ratio - raw1.weighted_ratio", "=raw2.mean_ratio - raw1.mean_ratio"),
        ("np.bincount(event, seen, n_events)", "np.bincount(event, totals, n_events)"),
        ("n_obs_group2=raw2", "n_obs_group2=raw1"),
        ('["effect_size"].abs()', '["effect_size"]'),
    ),
    *of(
        "analysis/splicing_start.py",
        "analysis/test_splicing_start.py",
        ("1 / sizes[codes])", "0.0)"),
        ("n * (n - 1), n_events)", "n * n, n_events)"),
        ("squares - 2 * cross + own", "squares - cross + own"),
        ("weight * alone + (1 - weight) * whole", "whole"),
        ("1 / inverse.data", "inverse.data"),
    ),
    # analysis: decoded values and the rest ------------------------------------------------------
    *of(
        "analysis/expression.py",
        "analysis/test_expression.py",
        ('parameters["dispersions"] = px.stddev', 'parameters["dispersions"] = px.variance'),
        ("torch.stack(decoded).mean(0)", "torch.stack(decoded)[0]"),
        ("ql.loc + ql.scale**2 / 2", "ql.loc"),
        ("if give_mean and n_samples > 1", "if n_samples > 1"),
        ("factor * (block if genes is None", "(block if genes is None"),
        ('("mu", 1.0) if library_size == "latent"', '("scale", 1.0) if library_size == "latent"'),
        ("if use_mean:", "if not use_mean:"),
    ),
    *of(
        "analysis/latent.py",
        "analysis/test_fit_quality.py",
        ("qz.scale**2", "qz.scale"),
        ("torch.softmax(draws, dim=-1).sum(0)", "torch.softmax(draws, dim=0).sum(0)"),
        ("return total / mc_samples", "return total / chunk"),
    ),
    *of(
        "analysis/fit_quality.py",
        "analysis/test_fit_quality.py",
        ("elbos.append(-cost.cpu())", "elbos.append(cost.cpu())"),
        ("LossOutput.dict_sum(losses.reconstruction_loss) + LossOutput", "0 * LossOutput"),
        ("torch.stack(blocks).mean(0)", "torch.stack(blocks).sum(0)"),
        ("one[:, genes]", "one[:, : len(genes)]"),
    ),
    *of(
        "analysis/genes.py",
        "analysis/test_genes.py",
        ("len(rows) * variance", "variance"),
        ("- mean**2", "+ mean**2"),
        ("np.argsort(-np", "np.argsort(np"),
        (").log1p()", ")"),
    ),
    *of(
        "analysis/integration.py",
        "analysis/test_integration.py",
        ("[:, ::-1][:, :n_components]", "[:, :n_components]"),
        ("kinds.notna()", "kinds.isna()"),
        ("numpy() - mean) @ axes", "numpy()) @ axes"),
    ),
    *of(
        "analysis/deconvolution.py",
        "analysis/test_prior_of_states.py analysis/test_deconvolution.py models/test_destvi.py",
        ("variances[of_component].mean(0) + spread", "variances[of_component].mean(0)"),
        ("len(of_component) / len(rows)", "len(of_component) / len(means)"),
        ("cells = shares / depth", "cells = shares * depth"),
        ("torch.softmax(logits[0], dim=0) * v", "torch.softmax(logits[0], dim=0)"),
        ("found.max() >= n_components", "found.max() > n_components"),
    ),
    # data ---------------------------------------------------------------------------------------
    *of(
        "data/split.py",
        "data/test_split.py",
        ("math.ceil(share * n)", "math.floor(share * n)"),
        ("math.floor(n * validation_size)", "math.ceil(n * validation_size)"),
        ("0 < rest < 3", "0 < rest < 2"),
        ("order[n_val + n_train :]", "order[n_train:]"),
        ("share + (validation_size or 0) > 1", "False"),
        ("len(np.unique(together)) < len(together)", "False"),
        ("a[np.isin(a, rows)] for a", "a for a"),
        ("np.random.RandomState(seed)", "np.random.RandomState(0)"),
        ("n_train == 0", "n_train < 0"),
        ("n_train - rest, n_val + rest", "n_train - rest, n_val"),
    ),
    *of(
        "data/loader.py",
        "data/test_loader.py modules/test_pairs.py",
        ("default_rng((self.seed, epoch))", "default_rng((self.seed, 0))"),
        ("default_rng((self.seed, epoch))", "default_rng((0, epoch))"),
        ("-self.n_obs % self.batch_size", "self.n_obs % self.batch_size"),
        ("self.n_obs > self.batch_size", "True"),
        ("np.concatenate([order, order[:short]])", "np.concatenate([order, order[-short:]])"),
        ("return max(len(loader)", "return min(len(loader)"),
        ("size = max(map(len, rows.values()))", "size = min(map(len, rows.values()))"),
        ("first_step = epoch * len(self)", "first_step = 0"),
        ("passes, done = passes + 1, 0", "passes, done = passes, 0"),
    ),
    *of(
        "data/schema.py",
        "data/test_schema_record.py data/test_schema.py",
        ("if f.key != field.key", "if f.key == field.key"),
        ("{**kept, schema.model", "{schema.model"),
        ("(values <= 0).any()", "(values < 0).any()"),
        ("(codes < 0).any()", "False"),
        ("if not np.isfinite(values).all()", "if np.isnan(values).any()"),
        (".remove_unused_categories()", ""),
        ('f.get("transform", "")', '""'),
        ("if model not in stored", "if not stored"),
    ),
    *of(
        "data/gather.py",
        "data/test_gather.py data/test_sources.py",
        ("(np.diff(rows) == 1).all()", "(np.diff(rows) >= 1).all()"),
        ("indptr[rows[0] : rows[-1] + 2]", "indptr[rows[0] : rows[-1] + 1]"),
        ("(indptr - indptr[0])", "(indptr)"),
    ),
    *of(
        "data/cells.py",
        "data/test_cells.py data/test_schema_record.py data/test_schema.py",
        ("np.count_nonzero(sizes) * sizes[codes]", "len(sizes) * sizes[codes]"),
        ("np.count_nonzero(sizes) * sizes[codes]", "sizes[codes]"),
        ("len(have) > len(want)", "False"),
        ("np.stack(columns, axis=1)", "np.stack(columns, axis=0).reshape(n, -1)"),
        ("range(0, len(rows), size)", "range(0, len(rows) - 1, size)"),
    ),
    *of(
        "data/paired.py",
        "models/test_splicevi.py",
        ("np.flatnonzero(np.isin(found, list(set(events)))), columns)", "np.arange(0), columns)"),
        ("(found[columns] != np.asarray(events)).any()", "False"),
        ('format="csr")[rows]', 'format="csr")[np.abs(rows)]'),
    ),
    *of(
        "data/sources/normalise.py",
        "data/test_normalise.py",
        ("1e4", "1e5"),
        ("np.log1p(rows.data * scale[row])", "np.log1p(rows.data) * scale[row]"),
        ("np.log1p(rows.dense * scale[:, None])", "np.log1p(rows.dense * scale[0])"),
    ),
    # files --------------------------------------------------------------------------------------
    *of(
        "io/store.py",
        "io/test_store_bits.py io/test_store.py",
        ("not overwrite and os.path.lexists", "os.path.lexists"),
        ("not overwrite and os.path.lexists", "False and os.path.lexists"),
        ("seal != _checksum(manifest)", "False"),
        ("> FORMAT_VERSION", ">= FORMAT_VERSION"),
        ("detach().cpu().contiguous() for", "detach().cpu().contiguous().half() for"),
        ('hashlib.sha256(blob).hexdigest() != manifest', '"" == manifest'),
        ("fcntl.flock(handle, fcntl.LOCK_EX)", "pass"),
    ),
    *of(
        "io/import_scvi.py",
        "io/test_import_compat.py io/test_import_scvi.py io/test_import_splicevi.py",
        ('PUBLISHED = {"compat": "scvi-tools"}', "PUBLISHED: dict = {}"),
        ('"compat": "splicevi",', '"compat": None,'),
        ('{"modality_penalty": "None"}', "{}"),
        ("matrix.argmax(1)", "matrix.argmax(0)"),
        ("if column is None or column == own", "if column is None"),
        ('"n_obs": published.state("X").get("n_obs")', '"n_obs": 0'),
        ("have != published.var_names", "False"),
        ('facts["is_trained_"]', "True"),
    ),
    # models -------------------------------------------------------------------------------------
    *of(
        "models/base.py",
        "models/test_training_plan.py",
        ('"min_kl_weight": weight', '"min_kl_weight": None'),
        ('"max_kl_weight": weight', '"max_kl_weight": 1.0'),
        ("{**loop, **_given(given)}", "{**_given(given), **loop}"),
        ("if k not in option_names()}", "if k in option_names()}"),
        ("seed=split_kwargs[\"seed\"]\n        )", "seed=0\n        )"),
    ),
    *of(
        "models/query.py",
        "models/test_query.py",
        ("known + tuple(c for c in new if c not in known)", "tuple(sorted({*known, *new}))"),
        ("(positions[have], have)", "(have, have)"),
        ("n_fixed = n_old if n_old or not n_new else 1", "n_fixed = n_old"),
        ("return super().train(False)", "return super().train(mode)"),
        ("gradient * free.to(gradient)", "gradient"),
        ("parameter.partly_fixed = True", "parameter.partly_fixed = False"),
        ("mean.mean(entry.axis, keepdim=True) if known", "mean.sum(entry.axis, keepdim=True) if known"),
        ("layer.p = 0.0", "layer.p = layer.p"),
        ("adata.n_vars > len(schema.var_names)", "False"),
        ("if freeze.unfrozen:", "if not freeze.unfrozen:"),
    ),
    *of(
        "models/minify.py",
        "models/test_minify.py",
        ("library_sizes()[:, None]", "library_sizes()[:, None] * 0 + 1"),
        ("if is_minified(model.schema)", "if False"),
        ("if f.key != Keys.X)", ")"),
        ("for key, values in zip(PLACES, (means, variances", "for key, values in zip(PLACES, (means, means"),
    ),
    *of(
        "models/questions/expression.py",
        "models/test_questions.py analysis/test_differential.py -k 'not realised'",
        ("values.ndim == 3 and average", "values.ndim == 3"),
        ("values = values.mean(0)", "values = values.mean(1)"),
        ("torch.randint(2**31, ())", "torch.tensor(7)"),
    ),
    *of(
        "models/questions/groups.py",
        "models/test_questions.py",
        ("batches2=sides[1]", "batches2=sides[0]"),
    ),
    # modules ------------------------------------------------------------------------------------
    *of(
        "modules/vae.py",
        "modules/test_marginal_likelihood.py analysis/test_expression.py",
        (
            "(prior.log_prob(u) - qz.log_prob(u))",
            '(prior.log_prob(drawn["z"]) - qz.log_prob(drawn["z"]))',
        ),
        ("(prior.log_prob(u) - qz.log_prob(u))", "(qz.log_prob(u) - prior.log_prob(u))"),
        ("- math.log(len(log_weights))", "- math.log(n_mc_samples)"),
        ("pl.log_prob(library) - ql.log_prob(library)", "pl.log_prob(library)"),
        ("std = torch.exp(log_theta if", "std = torch.exp(0.5 * log_theta if"),
    ),
    *of(
        "modules/splice_likelihood.py",
        "modules/test_splice_training.py",
        ("n_obs, log_phi = max(o.n_obs, n_cells)", "n_obs, log_phi = n_cells"),
        ("square().sum() / (2 * n_obs)", "square().sum() / n_obs"),
        ("(o.phi_prior_shape - 1) * log_phi", "o.phi_prior_shape * log_phi"),
        ("square().sum() / n_cells", "square().sum() / max(o.n_obs, n_cells)"),
    ),
    *of(
        "modules/splice.py",
        "modules/test_splice_training.py modules/test_splice.py",
        ("seen >= self.o.event_dropout", "seen < self.o.event_dropout"),
        ("torch.rand(len(entries.total)", "torch.rand(1"),
        ("if self.training and self.o.event_dropout > 0", "if self.o.event_dropout > 0"),
        ("weighted = o.splicing_loss_weight * spliced", "weighted = spliced"),
        ("q.mean + q.variance.sqrt() *", "q.mean + q.variance *"),
    ),
    # training -----------------------------------------------------------------------------------
    *of(
        "train/stopping.py",
        "train/test_steps_and_stopping.py",
        ("self.value - options.early_stopping_min_delta", "self.value + options.early_stopping_min_delta"),
        ("since >= options.early_stopping_patience", "since > options.early_stopping_patience"),
        ("early_stopping_warmup_epochs - 1)", "early_stopping_warmup_epochs)"),
        ("value.detach().clone()", "value.detach()"),
    ),
    *of(
        "train/options.py",
        "train/test_recipes.py train/test_loop.py",
        ("epoch / self.n_epochs_kl_warmup", "(epoch + 1) / self.n_epochs_kl_warmup"),
        ("self.kl_warmup_fraction * n_steps", "self.kl_warmup_fraction * epoch"),
        ("self.max_kl_weight - self.min_kl_weight) * share", "self.max_kl_weight) * share"),
    ),
    *of(
        "train/loop.py",
        "train/test_steps_and_stopping.py train/test_loop.py",
        ("(epoch + 1) % options.check_val_every_n_epoch", "epoch % options.check_val_every_n_epoch"),
        ('self.module.eval()\n        metrics', 'metrics'),
        ('options.keep_best or stopped != "finished"', "options.keep_best"),
        ('group["peak_lr"] * factor', 'group["peak_lr"]'),
        ("n_before = history.n_epochs  # of", "n_before = 0  # of"),
    ),
    *of(
        "train/recipes.py",
        "train/test_recipes.py train/test_loop.py",
        ('chosen["min_kl_weight"] = 0.0  #', 'chosen["min_kl_weight"] = 1.0  #'),
        ("if value is not None}", "}"),
        ("chosen |= given", "chosen = given | chosen"),
    ),
    *of(
        "models/scvi_recipe.py",
        "train/test_recipes.py",
        ("math.ceil(SCVI_LEAST_STEPS / math.ceil(n_cells / batch_size))", "0"),
        ("return 6e-2 if n_cells < SCVI_FEW", "return 6e-2 if n_cells <= SCVI_FEW"),
        ("Passes(20, of_many=220_000", "Passes(20, of_many=400_000"),
    ),
    *of(
        "modules/thinning.py",
        "modules/test_thinning.py modules/test_joint_embedding.py",
        ("torch.rand_like(keep) < share", "torch.rand_like(keep) > share"),
        ("sample_thinning_probs(x, MIN_LIBRARY)", "torch.rand_like(row_sums(x))"),
    ),
    *of(
        "modules/vae.py",
        "modules/test_thinning.py",
        ("self.training and self.thinned_share > 0", "self.thinned_share > 0"),
        ("return qz, z, None, torch.log(row_sums(x))", "return qz, z, None, torch.log(row_sums(seen))"),
        ("self._encoder_input(x, batch", "self._encoder_input(seen, batch"),
    ),
    *of(
        "modules/vae.py",
        "modules/test_depth.py",
        (", scaling=0.0)", ")"),
        ("encoder_depth_scaling if of_counts else 0.0", "encoder_depth_scaling"),
        ("encoder_depth_scaling: float = 0.0", "encoder_depth_scaling: float = 0.5"),
    ),
    *of(
        "modules/depth.py",
        "modules/test_depth.py",
        ("clamp(min=1)) ** scaling", "clamp(min=1)) ** 0.5"),
        (".clamp(min=1)", ""),
        ("DEPTH / row_sums(x)", "row_sums(x) / DEPTH"),
    ),
    *of(
        "kernels/thinning.py",
        "kernels/test_draws.py -k 'kept or row or ends'",
        ("k if p <= 0.5 else n - k", "k"),
        ("now *= odds * (n - k)", "now *= odds * n"),
        ("if n * rare > largest", "if n * rare > 1e9"),
    ),
    *of(
        "train/thinning.py",
        "train/test_thinning.py",
        ("        module.thinned_share = own", "        pass"),
        ('not getattr(module, "can_thin", False)', "False"),
    ),
    *of(
        "metrics/depth.py",
        "metrics/test_depth.py",
        ("out.sum(axis=1)).ravel()[chosen]", "out.sum(axis=1)).ravel()"),
        ("latent[~mask], names[~mask], latent[mask]", "latent[mask], names[mask], latent[mask]"),
        ("near - rest", "near - values.mean(axis=0)"),
        ("(len(latent) - 1) // 2", "len(latent) - 1"),
    ),
]  # fmt: skip


def why_skipped(mutant: Mutant) -> str:
    """Why a fault cannot be made, or nothing."""
    path = ROOT / "src/vivace" / mutant.file
    found = path.read_text().count(mutant.old) if path.is_file() else 0
    return (
        "" if found == 1 else "its text is gone" if found == 0 else f"its text stands {found} times"
    )


def run(tests: str, src: Path) -> int:
    """Exit code of pytest on some tests with the sources in ``src``, in a process of its own."""
    files, _, only = tests.partition(" -k ")
    words = ["-qx", "-p", "no:cacheprovider", "-n", "0", *(f"tests/{f}" for f in files.split())]
    words += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of what is imported already
    words += ["-k", only.strip("'")] if only else []
    child = multiprocessing.get_context("fork").Process(target=_test, args=(words, src))
    child.start()
    child.join()
    return child.exitcode or 0


def _test(words: list[str], src: Path) -> None:
    """In a child that has all but vivace imported already."""
    sys.path.insert(0, str(src))
    os.chdir(ROOT)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
        os.dup2(nowhere.fileno(), sys.stderr.fileno())
    sys.exit(int(pytest.main(words)))


def verdict(mutant: Mutant, passes: dict[str, bool]) -> str:
    """What became of a fault; ``passes`` remembers which tests pass without any."""
    if reason := why_skipped(mutant):
        return f"skipped ({reason})"
    with tempfile.TemporaryDirectory() as folder:
        src = Path(folder) / "src"
        shutil.copytree(ROOT / "src", src)
        if mutant.tests not in passes:
            passes[mutant.tests] = run(mutant.tests, src) == PASSED
        if not passes[mutant.tests]:
            return "skipped (the tests fail without it)"
        path = src / "vivace" / mutant.file
        path.write_text(path.read_text().replace(mutant.old, mutant.new))
        code = run(mutant.tests, src)
    return {PASSED: "SURVIVED", FAILED: "killed"}.get(code, "killed (before any test ran)")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(words: list[str]) -> int:
    os.environ.update(ENVIRONMENT)
    for name in PRELOADED:
        importlib.import_module(name)
    chosen = [
        m for m in MUTANTS if not words or any(word in f"{m.file}: {m.old}" for word in words)
    ]
    counts: Counter[str] = Counter()
    passes: dict[str, bool] = {}
    for mutant in chosen:
        found = verdict(mutant, passes)
        counts[found.split()[0]] += 1
        say(f"{found:9} {mutant.file}: {mutant.old!r} -> {mutant.new!r}")
    say(", ".join(f"{n} {name}" for name, n in counts.items()))
    return int(counts["SURVIVED"] > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
