"""Command lines at random: each ends with 0, or with 2, one sentence and nothing written.

``python tests/properties/fuzz_cli.py --n 10000`` runs many and prints what became of them. Options and
their kinds are read from the commands themselves, so that a new option is tried without a word here.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import typer
from scipy import sparse

import vivace
from vivace._mudata import columns_stay
from vivace.cli import main
from vivace.cli.commands import app
from vivace.cli.fit import FITS

COLUMNS = [
    "batch", "batch", "cell_type", "cell_type", "leiden", "flag", "dose", "gaps", "text", "number",
    "nothing", "",
]  # fmt: skip
PAIRS = [
    "batch=batch_0", "batch=batch_1", "leiden=0", "leiden=1", "flag=True", "flag=False", "dose=0",
    "batch=", "=", "gaps=x", "batch", "number=1",
]  # fmt: skip
NUMBERS = ["0", "1", "-1", "0.5", "1.5", "nan", "inf", "1e400", "99999999999999999999", "x", ""]
KINDS = {
    int: ["0", "1", "2", "3", "-1", "-7"],
    float: ["0", "1", "0.1", "0.5", "0.9", "1e-3", "2", "-0.5", "nan", "inf", "1e-30", "1e30"],
}
HUGE = ["7", "50", "1000", "2000000000", str(2**40)]
"""For whole numbers that are no size of a network and no number of passes: those, when huge, take long."""
UNBOUNDED = (
    "seed",
    "batch_size",
    "n_top_genes",
    "early_stopping_patience",
    "check_val_every_n_epoch",
)
TEXTS = [
    "raw", "counts", "gene", "gene-batch", "nb", "zinb", "poisson", "normal", "ln", "fast", "classic",
    "change", "vanilla", "cpu", "gpu", "auto", "0", "1", "True", "type_0", "type_1", "batch_0", "a b",
    "☃", "%s", "{}", "\\", "--", "-", "", "x" * 300,
]  # fmt: skip
GOOD = ["cells.h5ad", "cells.h5ad", "raw.h5ad", "odd.h5ad", "spots.h5ad", "seurat.h5ad"]
BAD = [
    "pairs.h5mu", "fractions.h5ad", "negative.h5ad", "missing.h5ad", "infinite.h5ad", "cut.h5ad",
    "cut.h5mu", "text.h5ad", "empty.h5ad", "folder", "folder.h5ad", "h5ad.h5mu", "h5mu.h5ad",
    "none.h5ad", "one.h5ad", "few.h5ad", "twins.h5ad", "no_genes.h5ad", "array.h5ad", "table.csv",
    "CELLS.H5AD", "nowhere/cells.h5ad", "/dev/null", "", ".", "~/none.h5ad", "x" * 300 + ".h5ad",
]  # fmt: skip
RUNS = [
    "run", "run", "run_pairs", "run_contrast", "run_cut", "run_empty", "run_bare", "folder", "nowhere",
    "cells.h5ad", "",
]  # fmt: skip
NO_MISTAKES = ("Note: ", "Training: ", "... ")
OUT = {
    "latent": "new.h5ad", "map": "new.h5ad", "expression": "new.h5ad", "de": "new.csv",
    "states": "new.csv", "report": "new.html",
}  # fmt: skip
"""What commands write that write no run folder."""
PLACES = [
    "new", "new.h5ad", "new.csv", "new.html", "new.h5mu", "new/deep", "run", "mine", "mine/thesis.txt",
    "mine/thesis.txt/x", "mine/page.html", "cells.h5ad", "/dev/null", "/dev/null/new", "", ".",
    "nowhere/new.csv", "/proc/new", "~nobody/new",
]  # fmt: skip
JUNK = [
    "--help",
    "--overwrite",
    "--allow-fractions",
    "--out",
    "-x",
    "--",
    "--no",
    "extra",
    "-1",
    "☃",
]


@dataclass
class Outcome:
    """What became of command lines.

    Attributes
    ----------
    codes
        Exit code to how often.
    sentences
        First words of mistakes to how often.
    wrong
        (words, what was wrong) of those that broke the rule.
    slowest
        Seconds and words of the one that took longest.
    """

    codes: Counter[int] = field(default_factory=Counter)
    sentences: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[list[str], str]] = field(default_factory=list)
    slowest: tuple[float, list[str]] = (0.0, [])


def run(n: int, seed: int = 0, place: Path | None = None) -> Outcome:
    """Try ``n`` command lines.

    Parameters
    ----------
    n
        How many.
    seed
        The same seed tries the same ones.
    place
        Folder of :func:`make_place`; default a new one.
    """
    rng = random.Random(seed)
    found = Outcome()
    with contextlib.ExitStack() as stack:
        if place is None:
            place = make_place(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "place")
        stack.enter_context(contextlib.chdir(place))
        before = state(place)
        for _ in range(n):
            words = command_line(rng)
            started = time.monotonic()
            code, printed, problem = end_of(words)
            found.slowest = max(found.slowest, (time.monotonic() - started, words))
            after = state(place)
            if problem is None and code == 2 and after != before and "--checkpoint" not in words:
                problem = f"wrote {sorted(after.items() ^ before.items())[:3]}, then: {printed}"
            if after != before:
                restore(place)
                before = state(place)
            found.codes[code] += 1
            if code == 2:
                found.sentences[" ".join(printed.split()[1:5])] += 1
            if problem is not None:
                found.wrong.append((words, problem))
    return found


def end_of(words: list[str]) -> tuple[int, str, str | None]:
    """Exit code, the mistake that was printed, and what is wrong with that, if anything."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(words)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:  # noqa: BLE001 - whatever else it is, it is a traceback for the user
        return 1, "", traceback.format_exc(limit=-4)
    mistakes = [line for line in err.getvalue().splitlines() if not line.startswith(NO_MISTAKES)]
    text = "\n".join(mistakes)
    if "Traceback" in out.getvalue() + err.getvalue():
        return code, text, "a traceback was printed"
    if code not in (0, 2):
        return code, text, f"exit code {code}: {text}"
    one = len(mistakes) == 1 and mistakes[0].startswith("vivace: ") and len(mistakes[0]) > 20
    if code == 2 and not one:
        return code, text, f"not one sentence: {text!r}"
    return code, text, f"code 0, but said {text!r}" if code == 0 and mistakes else None


# command lines ----------------------------------------------------------------------------------


@cache
def commands() -> dict[str, list[Any]]:
    """Words of a command to its parameters, as the command line knows them."""
    root: Any = typer.main.get_command(app)
    context: Any = root.make_context("vivace", [], resilient_parsing=True)
    found = {
        name: list(root.get_command(context, name).params)
        for name in root.list_commands(context)
        if name not in ("fit", "demo")  # the demo takes a minute
    }
    fits: Any = root.get_command(context, "fit")
    return found | {
        f"fit {name}": list(fits.get_command(context, name).build().params) for name in FITS
    }


def command_line(rng: random.Random) -> list[str]:
    """A command with some of its options, then damaged now and then."""
    name = rng.choice([*commands(), *(c for c in commands() if c.startswith("fit"))])
    words: list[str] = []
    for one in commands()[name]:
        words += argument(one, name, rng)
    if name.startswith("fit") or name in ("deconvolve", "map"):
        words += ["--max-epochs", "1"] if "--max-epochs" not in words else []
    words = [*name.split(), *words]
    for _ in range(rng.choice([0] * 9 + [1, 2])):
        damage(words, rng)
    return words


def argument(one: Any, command: str, rng: random.Random) -> list[str]:
    """Words for a parameter: those that are needed nearly always, others seldom."""
    if one.param_type_name == "argument":
        return [value_of(one, command, rng)]
    flags = [*one.opts, *one.secondary_opts]
    likely = {"out": 0.97, "groupby": 0.9, "labels": 0.8, "background": 0.95, "target": 0.95}
    likely |= {"batch_key": 0.5, "labels_key": 0.5}
    if rng.random() > likely.get(one.name, 0.04):
        return []
    if one.is_flag:
        return [rng.choice(flags)]
    times = rng.choice([1, 1, 2]) if one.multiple else rng.choice([1] * 40 + [2])
    given = ([rng.choice(flags), value_of(one, command, rng)] for _ in range(times))
    return [word for pair in given for word in pair]


def value_of(one: Any, command: str, rng: random.Random) -> str:
    """A value that an option may well have, or another."""
    name, kind = one.name, one.type_descriptor.annotation
    files = ["pairs.h5mu"] if command == "fit splicevi" else GOOD
    likely = {
        "out": [OUT.get(command, "new")],
        "run": RUNS[:3],
        "folder": RUNS,
        "data": files,
        "reference": GOOD,
        "spots": GOOD,
        "background": PAIRS[:4],
        "target": PAIRS[:4],
        "checkpoint": PLACES,
        "resume": [*PLACES, "text.h5ad"],
        "keep": PLACES,
    }
    other = {"out": PLACES, "run": RUNS, "background": PAIRS, "target": PAIRS}
    if rng.random() < 0.85 and name in likely:
        return rng.choice(likely[name])
    if name in ("data", "reference", "spots"):
        return rng.choice(BAD)
    columns = COLUMNS if name in ("batch_key", "labels_key", "labels", "batch", "groupby") else []
    if name in UNBOUNDED and rng.random() < 0.5:
        return rng.choice(HUGE)
    if kind in KINDS and rng.random() < 0.9:
        return rng.choice(KINDS[kind])
    return rng.choice(other.get(name) or columns or rng.choice([NUMBERS, TEXTS, COLUMNS]))


def damage(words: list[str], rng: random.Random) -> None:
    """Lose a word, say it twice, put in another, or exchange two."""
    at = rng.randrange(len(words))
    kind = rng.randrange(4)
    if kind == 0 and len(words) > 2:
        del words[at]
    elif kind == 1:
        words.insert(at, words[at])
    elif kind == 2:
        words.insert(at + 1, rng.choice([*JUNK, *TEXTS]))
    else:
        other = rng.randrange(len(words))
        words[at], words[other] = words[other], words[at]
    if words[0] == "demo":  # it takes a minute
        words[0] = "demos"


# the folder they run in -------------------------------------------------------------------------


def make_place(place: Path) -> Path:
    """A folder with cells and runs, good and damaged, and a twin of it to restore it from."""
    place.mkdir()
    cells = small_cells()
    for name, made in variants(cells):
        made.write_h5ad(place / name)
    pairs = vivace.datasets.simulate("splicing", n_cells=40, n_genes=15, n_events=15, observed=0.5)
    with columns_stay():
        pairs.write_h5mu(place / "pairs.h5mu")
    write_bad_files(place)
    with contextlib.chdir(place):
        fit = "--max-epochs 1 --n-hidden 4 --overwrite --n-top-genes 0"
        tell(f"fit scvi cells.h5ad --batch batch --n-latent 2 --out run {fit}")
        tell(f"fit splicevi pairs.h5mu --n-latent 2 --out run_pairs {fit[: fit.index('--n-top')]}")
        sides = "--background batch=batch_0 --target batch=batch_1"
        tell(f"fit contrastivevi cells.h5ad {sides} --out run_contrast {fit}")
    for name in ("run_cut", "run_empty", "run_bare"):
        shutil.copytree(place / "run", place / name)
    text = (place / "run" / "model.json").read_text()
    (place / "run_cut" / "model.json").write_text(text[: len(text) // 2])
    (place / "run_empty" / "model.json").write_text("{}")
    shutil.rmtree(place / "run_bare" / "tables")
    restore(place, twin(place))
    return place


def tell(words: str) -> None:
    """Run a command that has to work."""
    code, printed, problem = end_of(words.split())
    assert code == 0, (words, printed, problem)


def small_cells() -> anndata.AnnData:
    """Cells with columns of many kinds."""
    cells = vivace.datasets.simulate("batches", n_cells=40, n_genes=60, n_batches=2, seed=0)
    n = cells.n_obs
    cells.obs["leiden"] = np.arange(n) % 3
    cells.obs["flag"] = np.arange(n) % 2 == 0
    cells.obs["dose"] = pd.Categorical(np.arange(n) % 2 * 2.5)
    cells.obs["gaps"] = pd.Categorical(np.where(np.arange(n) % 4, "x", None))
    cells.obs["text"] = [f"cell {i}" for i in range(n)]
    cells.obs["number"] = np.linspace(0, 1, n)
    return cells


def variants(cells: anndata.AnnData) -> Iterator[tuple[str, anndata.AnnData]]:
    """The cells as people bring them."""
    yield "cells.h5ad", cells
    yield "CELLS.H5AD", cells
    spots = cells.copy()
    spots.obsm["spatial"] = np.random.default_rng(0).random((cells.n_obs, 2))
    yield "spots.h5ad", spots
    logged = cells.copy()
    logged.raw = cells.copy()
    logged.X = logged.X.log1p()
    yield "raw.h5ad", logged
    for name, value in (
        ("negative", -1),
        ("missing", np.nan),
        ("infinite", np.inf),
        ("fractions", 0.5),
    ):
        damaged = cells.copy()
        damaged.X.data[::7] = value
        yield f"{name}.h5ad", damaged
    odd = cells.copy()
    odd.X = sparse.csc_matrix(odd.X.astype(np.float64))
    odd.obs["maybe"] = pd.array([True, None] * (cells.n_obs // 2), dtype="boolean")
    yield "odd.h5ad", odd[:, ::-1].copy()
    yield "none.h5ad", cells[:0].copy()
    yield "one.h5ad", cells[:1].copy()
    yield "few.h5ad", cells[:, :5].copy()
    yield "no_genes.h5ad", cells[:, :0].copy()
    twins = cells.copy()
    twins.var_names = [*cells.var_names[:-1], cells.var_names[0]]
    yield "twins.h5ad", twins


def write_bad_files(place: Path) -> None:
    """Files that are not what they are named."""
    for name in ("cells.h5ad", "pairs.h5mu"):
        whole = (place / name).read_bytes()
        (place / f"cut{Path(name).suffix}").write_bytes(whole[: len(whole) // 2])
    shutil.copy(place / "cells.h5ad", place / "h5ad.h5mu")
    shutil.copy(place / "pairs.h5mu", place / "h5mu.h5ad")
    (place / "text.h5ad").write_text("not an HDF5 file")
    (place / "empty.h5ad").touch()
    (place / "table.csv").write_text("a,b\n")
    (place / "folder").mkdir()
    (place / "folder.h5ad").mkdir()
    (place / "mine").mkdir()
    (place / "mine" / "thesis.txt").write_text("years of work")
    with h5py.File(place / "array.h5ad", "w") as file:
        file["X"] = np.zeros((3, 2))
    shutil.copy(place / "raw.h5ad", place / "seurat.h5ad")
    with h5py.File(place / "seurat.h5ad", "a") as file:
        var = file["raw/var"]
        var.copy(var.attrs["_index"], "features")
        var.attrs["_index"] = "features"
        var.attrs["column-order"] = np.array(["_index"], dtype=object)


def twin(place: Path) -> Path:
    """Where the folder is kept as it was."""
    return place.with_name(f"{place.name}.twin")


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Path of every file to its size and time of writing."""
    return {str(p.relative_to(folder)): stamp(p) for p in folder.rglob("*")}


def stamp(path: Path) -> tuple[int, int]:
    """Size and time of writing of a file; a folder is told by what it holds."""
    found = path.lstat()
    return (0, 0) if path.is_dir() else (found.st_size, found.st_mtime_ns)


def restore(source: Path, target: Path | None = None) -> None:
    """Bring the folder back from its twin, or make the twin."""
    source, target = (source, target) if target is not None else (twin(source), source)
    old, new = state(source), state(target) if target.exists() else {}
    for name in sorted(new.keys() - old.keys(), reverse=True):
        path = target / name
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    target.mkdir(exist_ok=True)
    for name in sorted(old):
        if (source / name).is_dir():
            (target / name).mkdir(exist_ok=True)
        elif old[name] != new.get(name):
            shutil.copy2(source / name, target / name)


def report(found: Outcome) -> dict[str, Any]:
    """The counts, for printing."""
    return {
        "codes": dict(found.codes),
        "wrong": len(found.wrong),
        "slowest": found.slowest,
        "sentences": dict(found.sentences.most_common(40)),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    result = run(asked.n, asked.seed)
    for line, what in result.wrong:
        sys.stdout.write(f"WRONG {line}\n{what}\n")
    sys.stdout.write(json.dumps(report(result), indent=1) + "\n")
    sys.exit(bool(result.wrong))
