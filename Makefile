# The words that run everything. `make setup` is called by the others when it is needed.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
BENCH ?= metrics

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-newest test-lowest check fix fuzz mutants bench docs package parity reports clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: .venv/.installed  ## Create .venv and install vivace with its pinned dependencies

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: .venv/.installed  ## Train on real cells and write vivace-demo/report.html
	$(BIN)/vivace demo

# A process a core, each with one thread: numba's and torch's share one pool, which would wait in a spin.
ONE_THREAD := OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1
test: .venv/.installed  ## Run all tests
	$(ONE_THREAD) $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

# Triton is 700 MB and needs no card here: its interpreter runs the kernels line by line.
test-kernels: .venv/.installed  ## Run the laws of the kernels for cards, in Triton's interpreter
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[kernels]"
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python -m pytest -n 0 -m triton tests/kernels $(ARGS)

check: .venv/.installed  ## Lint, format and types, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: .venv/.installed  ## Repair what can be repaired by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

FUZZ ?= 10000
fuzz: .venv/.installed  ## Data, command lines, pickles and model folders at random: FUZZ=10000
	$(BIN)/python tests/properties/fuzz_data.py --n $$(( $(FUZZ) / 5 ))
	$(BIN)/python tests/properties/fuzz_cli.py --n $(FUZZ)
	$(BIN)/python tests/properties/fuzz_files.py --n $$(( $(FUZZ) * 2 ))

mutants: .venv/.installed  ## Put faults of one line into a copy and report those that no test notices
	$(BIN)/python tests/mutants.py $(ARGS)

parity: .venv/.installed  ## Compare with models that scvi-tools trains in its own environment
	PYTHONPATH=benchmarks $(BIN)/python tests/parity/run.py

# Pages and tutorials on all cores; then the site, which takes what the tutorials gave from docs/_build, so that
# only those run again whose cells changed (all after `make clean`).
docs: .venv/.docs  ## Run every example and tutorial and write the site to docs/_build/html
	$(ONE_THREAD) $(BIN)/python docs/examples.py
	$(ONE_THREAD) $(BIN)/python docs/notebooks.py
	$(ONE_THREAD) $(BIN)/python -m sphinx -W --keep-going -q -d docs/_build/.doctrees docs docs/_build/html

.venv/.docs: .venv/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	@touch $@

# Environments of their own, made anew: neither is part of every run.
NEWEST ?= $(shell command -v python3.13 || command -v python3.12)
test-newest:  ## Run all tests on the newest Python here with the newest releases
	$(NEWEST) -m venv --clear .env-newest
	.env-newest/bin/pip install --quiet --disable-pip-version-check -e ".[dev]"
	$(ONE_THREAD) .env-newest/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

test-lowest:  ## Run all tests with the lowest versions that pyproject.toml allows
	$(PYTHON) -m venv --clear .env-lowest
	.env-lowest/bin/python packaging/lowest.py > .env-lowest/lowest.txt
	.env-lowest/bin/pip install --quiet --disable-pip-version-check -c .env-lowest/lowest.txt -e ".[dev]"
	$(ONE_THREAD) .env-lowest/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

package:  ## Build wheel and sdist, install each into an empty environment, run the demo there
	$(PYTHON) packaging/try_install.py

bench: .venv/.installed  ## Run a benchmark: make bench BENCH="metrics --cells 20000"
	$(BIN)/python benchmarks/$(firstword $(BENCH)).py $(wordlist 2,99,$(BENCH))

reports: .venv/.installed  ## Reports of all seven models, to be looked at: reports/NAME/report.html
	$(BIN)/python benchmarks/reports.py $(ARGS)

clean:  ## Remove caches and built pages, not the environment
	rm -rf docs/_build .pytest_cache .mypy_cache .ruff_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
