# `make demo` and `make test` set up .venv themselves, once. PYTHON chooses the interpreter: make test PYTHON=python3.12
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
PIP := $(BIN)/python -m pip --disable-pip-version-check
DEMO := build/demo

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-fast test-long breadth lint format generated bench clean

help:
	@echo "make demo        apply a recipe to the embedded model, paint with the original and the result, compare, report"
	@echo "make test        all tests that need no GPU"
	@echo "make test-fast   without those marked slow"
	@echo "make test-long   those marked long: every recipe on a twin of its model, every scheme compiled (a quarter of an hour)"
	@echo "make breadth     compile every transformer and UNet class of diffusers, renew recipes/ARCHITECTURES.md (half an hour)"
	@echo "make lint        ruff, formatting, types"
	@echo "make format      let ruff fix and format the code"
	@echo "make generated   renew the tables and JSON schemas that are made from the code"
	@echo "make bench       the figures of README.md"
	@echo "make clean       remove build and caches; .venv stays"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "make: no $(PYTHON) on the PATH. Install Python 3.11 or newer, or name one: make PYTHON=python3.12" >&2; exit 3; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is $$($(PYTHON) --version 2>&1); qcompile needs Python 3.11 or newer. Name one: make PYTHON=python3.12" >&2; exit 3; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "make: $(PYTHON) can't make virtual environments. Debian and Ubuntu: apt-get install python3-venv" >&2; exit 3; }
	@test -x $(BIN)/python || { echo "Setting up $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv $(VENV); }
# torch alone first: an index page or wheel folder with a CPU build is then taken as it is, before anything else asks for torch.
	$(PIP) install --quiet -c constraints.txt torch==$$(sed -n 's/^torch==//p' constraints.txt)
	$(PIP) install --quiet -c constraints.txt hatchling editables
	$(PIP) install --quiet -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/qcompile apply recipes/flux_mini_int8.yaml --out $(DEMO)/flux_mini_int8 --overwrite
# A fresh process of an arm that compiles takes half a minute, so that only those that do not get one here.
	$(BIN)/qcompile bench $(DEMO)/flux_mini_int8 --arms eager,jit_bf16,aot --cold-arms eager,aot --steps 10 --images 1 --no-limits --record $(DEMO)/bench.json > $(DEMO)/bench.txt
	$(BIN)/qcompile verify $(DEMO)/flux_mini_int8 --prompts 2 --record $(DEMO)/verify.json > $(DEMO)/verify.txt
	$(BIN)/qcompile compare $(DEMO)/flux_mini_int8 --out $(DEMO)/compare.png
	$(BIN)/qcompile report $(DEMO)/flux_mini_int8 --record $(DEMO)/bench.json --verified $(DEMO)/verify.json --out $(DEMO)/report.html

test: $(STAMP)
	$(BIN)/python -m pytest -m "not gpu and not breadth and not long"

test-fast: $(STAMP)
	$(BIN)/python -m pytest -m "not gpu and not slow and not breadth and not long"

test-long: $(STAMP)
	$(BIN)/python -m pytest -m long

breadth: $(STAMP)
	$(BIN)/python tests/breadth/report.py --fresh

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

generated: $(STAMP)
	$(BIN)/python recipes/tables.py
	$(BIN)/qcompile schema recipe > serialization/recipe.schema.json
	$(BIN)/qcompile schema manifest > serialization/manifest.schema.json
	$(BIN)/qcompile schema record > serialization/record.schema.json
	$(BIN)/python serialization/tables.py

bench: $(STAMP)
	$(BIN)/python -m qcompile.benchmark

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find qcompile tests -name __pycache__ -type d -prune -exec rm -rf {} +
