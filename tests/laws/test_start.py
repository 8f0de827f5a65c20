"""What each first step of a user imports: not the slow libraries that it does not compute with."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version

import pytest

from vivace.models import HOMES

NEVER = {
    "IPython",
    "igraph",
    "jinja2",
    "matplotlib",
    "mudata",
    "openTSNE",
    "scanpy",
    "scipy.optimize",
    "scipy.sparse.linalg",
    "scipy.spatial",
    "scipy.stats",
    "sklearn",
    "sympy",
    "torch._dynamo",
    "torch._inductor",
    "umap",
}
"""Modules that cost a tenth of a second or more, or that are not installed everywhere."""
if version("scipy").startswith("1.14."):  # whose scipy.sparse imports it
    NEVER.remove("scipy.sparse.linalg")
COMPUTES = {"anndata", "numba", "pandas", "scipy", "torch"}
"""Needed to train, but not to say what there is."""

STEPS = """
import contextlib, io, json, sys
loaded = {}
def note(step):
    loaded[step] = sorted(sys.modules)
"""
TRAINING = """
import vivace
note("import vivace")
vivace.SCVI
note("vivace.SCVI")
adata = vivace.datasets.simulate("batches", n_cells=40, n_genes=12)
vivace.SCVI.setup_anndata(adata, batch_key="batch")
model = vivace.SCVI(adata, n_hidden=4, n_latent=2)
model.train(max_epochs=1, progress=False)
note("training")
model.get_latent_representation()
note("latent space")
from vivace.data.fingerprint import sum_of_words
from vivace.kernels import rows
for loop in (sum_of_words(), rows.log_likelihood_of_rows):
    loaded[f"compiled {loop.py_func.__name__}"] = [str(kinds) for kinds in loop.signatures]
"""
EACH_MODEL = """
import vivace
for name in vivace.models.HOMES:
    getattr(vivace, name)
    note(name)
"""
HELP = """
from vivace.cli.app import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["vivace", *words, "--help"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main()
    note(" ".join(words))
"""


def run(steps: str, *words: str) -> dict[str, list[str]]:
    """Modules that are there after each step of a fresh process."""
    code = f"{STEPS}{steps}\nprint(json.dumps(loaded))"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def trained() -> dict[str, list[str]]:
    return run(TRAINING)


def models_in(modules: list[str]) -> set[str]:
    """The models whose own files were imported."""
    return {name for name, home in HOMES.items() if home in modules}


def test_the_package_alone_needs_no_library(trained):
    tops = {name.split(".")[0] for name in trained["import vivace"]}
    assert not tops & (COMPUTES | NEVER | {"numpy"})


@pytest.mark.parametrize("step", ["vivace.SCVI", "training", "latent space"])
def test_a_model_brings_no_other_and_nothing_that_it_does_not_compute_with(trained, step):
    assert models_in(trained[step]) == {"SCVI"}
    assert not NEVER & set(trained[step])


def test_each_model_brings_itself_and_those_it_is_made_of_nothing_to_compute_with():
    seen: set[str] = set()
    for name, modules in run(EACH_MODEL).items():
        assert models_in(modules) - seen == {name}
        seen.add(name)
        assert not (NEVER | {"numba"}) & set(modules)
    assert seen == set(HOMES)


def test_no_compiler_is_there_before_there_is_something_to_compile(trained):
    assert "numba" not in trained["vivace.SCVI"]
    assert "numba" in trained["training"]


@pytest.mark.parametrize("loop", ["log_likelihood_of_rows", "total"])
def test_a_training_compiles_a_loop_for_one_kind_of_arguments(trained, loop):
    assert len(trained[f"compiled {loop}"]) == 1


def test_help_of_commands_needs_no_library():
    commands = ["demo", "deconvolve", "report", "latent", "de", "import", "fit", "map", "states"]
    for words, modules in run(HELP, json.dumps([[], *[[c] for c in commands]])).items():
        tops = {name.split(".")[0] for name in modules}
        assert not tops & (COMPUTES | NEVER), f"vivace {words} --help"


def test_help_of_fit_brings_models_but_nothing_to_compute_with():
    scvi, both = run(HELP, json.dumps([["fit", "scvi"], ["fit", "sysvi"]])).values()
    assert models_in(scvi) == {"SCVI"}
    assert not (NEVER | {"numba"}) & set(both)
