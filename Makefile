# From a fresh machine to a result:  make demo
# Before every commit:               make check test
#
# Needs Python 3.11 or newer and a package registry, nothing else.
# Another interpreter:  make demo PYTHON=python3.12      Another environment:  VENV=/somewhere/else

PYTHON ?= python3
VENV ?= .venv
# number of processes that run the fast tests
WORKERS ?= 2
BIN := $(VENV)/bin
# Every install uses the pinned versions; the torch pin avoids downloading gigabytes of CUDA.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
CODE := src tests benchmarks examples scripts
BENCHMARKS = $(basename $(notdir $(shell grep -l '__main__' benchmarks/*.py)))

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all fuzz check format bench docs pins clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(VENV)/.dev  ## install the package with everything that tests and benchmarks need

demo: $(VENV)/.core  ## install the package alone, run it on the bundled drawings, write an HTML page
	$(BIN)/ecliptic demo

test: $(VENV)/.dev  ## run all fast tests, a few minutes on two cores
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-all: $(VENV)/.dev  ## run the tests of full-size models too; in one process, to limit memory
	$(BIN)/python -m pytest -m "not fuzz"

fuzz: $(VENV)/.dev  ## throw mutated files, hostile texts and kill -9 at it; MINUTES=4 SEED=... ROUND=...
	MINUTES="$(MINUTES)" SEED="$(SEED)" ROUND="$(ROUND)" $(BIN)/python -m pytest -m fuzz -s

check: $(VENV)/.dev  ## check format, lint and types
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy

format: $(VENV)/.dev  ## format and sort imports in place
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

bench: $(VENV)/.dev  ## run every benchmark against the peers; each ends with one JSON line
	@set -e; for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python -m benchmarks.$$name; done

docs: $(VENV)/.dev  ## write the pages of docs/ that are generated from the code
	$(BIN)/python -m ecliptic.cli.pages docs/cli.md
	$(BIN)/python -m scripts.pages docs

pins: $(VENV)/.dev  ## rewrite constraints.txt with the installed versions
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
	@echo "installing ecliptic and the packages of its tests into $(VENV), some minutes the first time"
	$(INSTALL) --editable '.[dev]'
	@touch $(VENV)/.core $@
