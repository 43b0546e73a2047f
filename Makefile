# From a fresh machine to a result:  make demo
# Before every commit:               make check test
#
# Needs Python 3.11 or newer, a C compiler and a package registry; nothing else is assumed.
# Another interpreter:  make demo PYTHON=python3.12      Another environment:  VENV=/somewhere/else

PYTHON ?= python3
VENV ?= .venv
# processes that share the fast tests
WORKERS ?= 2
BIN := $(VENV)/bin
# Every install is held to the pinned versions; the torch pin keeps gigabytes of CUDA away.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
CODE := src tests benchmarks examples scripts
BENCHMARKS = $(basename $(notdir $(shell grep -l '__main__' benchmarks/*.py)))

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all check format bench docs pins clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(VENV)/.dev  ## the package with everything that tests and benchmarks need

demo: $(VENV)/.core  ## install the package alone and show what it does, in an HTML page
	$(BIN)/ecliptic demo

test: $(VENV)/.dev  ## all fast tests, a few minutes on two cores
	$(BIN)/python -m pytest -n $(WORKERS)

test-all: $(VENV)/.dev  ## the full-size models too; one at a time, for their memory
	$(BIN)/python -m pytest -m ""

check: $(VENV)/.dev  ## format, lint and types, as they must be
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy

format: $(VENV)/.dev  ## format and sort imports in place
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

bench: $(VENV)/.dev  ## every benchmark beside the peers; each ends with one JSON line
	@set -e; for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python -m benchmarks.$$name; done

docs: $(VENV)/.dev  ## the pages derived from the code: commands, names, settings
	$(BIN)/python -m ecliptic.cli.pages docs/cli.md
	$(BIN)/python -m scripts.pages docs

pins: $(VENV)/.dev  ## write constraints.txt anew from what is installed
	$(BIN)/python -m scripts.pins > constraints.new && mv constraints.new constraints.txt

clean:  ## remove the environment and caches
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "ecliptic needs Python 3.11 or newer; try make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing ecliptic into $(VENV), a few minutes the first time"
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing ecliptic, its tests and its peers into $(VENV), some minutes the first time"
	$(INSTALL) --editable '.[dev]'
	@touch $(VENV)/.core $@
