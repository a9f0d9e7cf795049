# Everything here works in a fresh clone with nothing but Python >= 3.11 and make:
# the first target that needs the virtual environment builds it.

# The first interpreter that is new enough; choose another with: make PYTHON=python3.13
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet

# passes/ and cli/ are mapped into the package, which type checkers can follow only in the strict
# editable mode. It links every file by name, so that a new file needs a new (quick) install.
EDITABLE := --config-settings editable_mode=strict
SOURCES := $(shell find fxbio passes cli -type f -not -name '*.pyc' | sort)

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format types unit bench sweep docs clean FORCE

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

setup: $(VENV)/linked  ## build the virtual environment in .venv

demo: setup  ## transform two models, verify them, train six rules
	$(BIN)/python examples/demo.py

test: lint types unit  ## lint, types and tests

lint: setup  ## ruff, both of its checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup  ## let ruff repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup  ## mypy --strict
	$(BIN)/mypy

unit: setup  ## pytest on two processes
	$(BIN)/pytest -n 2

bench: setup  ## step times, compile times and the trainer against plain backprop, as ratios
	$(BIN)/python tests/benchmarks/step_time.py
	$(BIN)/python tests/benchmarks/compile_time.py
	$(BIN)/python tests/benchmarks/train_speed.py
	$(BIN)/python tests/benchmarks/train_speed.py --bytes
	$(BIN)/python tests/benchmarks/data_pipeline.py

sweep: setup  ## capture, transform and verify every model of the zoos
	$(BIN)/python tests/sweep.py

docs:  ## build the site in build/site, in an environment of its own
	test -x .venv-docs/bin/mkdocs || { $(PYTHON) -m venv .venv-docs && .venv-docs/bin/python -m pip install \
		--disable-pip-version-check --quiet 'mkdocs-material>=9.5' 'mkdocstrings[python]>=0.26'; }
	.venv-docs/bin/mkdocs build --strict

clean:  ## remove the virtual environment, builds and caches
	rm -rf $(VENV) .venv-docs build dist fxbio.egg-info .mypy_cache .pytest_cache .ruff_cache
	find fxbio passes cli tests examples -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "fxbio needs Python 3.11 or newer; none was found" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Rewritten only when the list of files changes, so that nothing is installed for a mere edit.
$(VENV)/files: FORCE | $(BIN)/python
	@printf '%s\n' $(SOURCES) | cmp -s - $@ || printf '%s\n' $(SOURCES) > $@

$(VENV)/linked: pyproject.toml Makefile $(VENV)/files
	$(PIP) -e '.[dev,demo,mnist,models,cluster]' $(EDITABLE)
	@touch $@
