# Everything a developer does, and the two commands of the README. Needs Python 3.11 or later, make and gcc.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Files of tests run beside each other, one for each processor. `make test WORKERS=0` runs them one after another.
WORKERS ?= auto

.PHONY: help demo test lint check format test-live test-stories bench faults fuzz clean
.DEFAULT_GOAL := help

help:
	@echo "make demo        the whole thing, with simulated GPUs and a simulated vLLM"
	@echo "make test        the tests: no network, no GPU, no server"
	@echo "make lint        formatting, lint, types, import contracts"
	@echo "make check       make lint and make test"
	@echo "make test-live   against a real vLLM, Prometheus and mail server (installs them once, into .cache)"
	@echo "make test-stories  long plays on real servers: every scenario, and the same alerts as Prometheus (half an hour)"
	@echo "make bench       what gpumon weighs, beside its peers: into docs/weight.md"
	@echo "make faults      break one thing at a time around a real daemon: what is told, when, and what is lost"
	@echo "make fuzz        inputs without end for whatever reads bytes from outside: an hour"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "gpumon needs Python 3.11 or later: set PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1" -c constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group dev -e .
	@touch $@

demo: $(STAMP)
	@$(BIN)/gpumon demo

test: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist loadfile

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

test-live: $(STAMP)
	$(BIN)/python -m tests.live.install
	$(BIN)/python -m pytest -m live tests/live -v -o faulthandler_timeout=900

test-stories: $(STAMP)
	$(BIN)/python -m tests.live.install
	$(BIN)/python -m pytest -m story tests/live -v -s -o faulthandler_timeout=2400

bench: $(STAMP)
	$(BIN)/python -m tests.bench --keep

faults: $(STAMP)
	$(BIN)/python -m tests.faults --markdown docs/faults.md

fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz --minutes 60 --markdown docs/fuzz.md

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
