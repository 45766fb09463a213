# `make demo` runs Holdfast, `make test` checks it. Each first sets up all it needs: a .venv with
# the locked dependencies, brought up to date whenever the lock or the metadata changes.

MAKEFLAGS += --silent --no-builtin-rules
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export UV_COMPILE_BYTECODE := 1
export UV_PYTHON_DOWNLOADS := never

PYTHON ?= $(firstword $(shell for python in python3.13 python3.12 python3.11 python3; do \
	$$python -c '$(SUITABLE)' 2>/dev/null && echo $$python; done) python3)
SUITABLE := import ensurepip, sqlite3, sys; sys.exit(sys.version_info < (3, 11))
BIN := .venv/bin
UV := $(BIN)/uv pip
HERE := --quiet --python $(BIN)/python
PYTEST := $(BIN)/pytest --quiet --numprocesses auto --dist worksteal
LOCK := compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --upgrade
SCALE ?= 1
CODE := src tests $(wildcard benchmarks)

# The scripts in .venv/bin name the place where they were made.
MADE_IN := $(shell cat .venv/ready 2>/dev/null)
NEEDS_VENV := $(if $(filter clean,$(MAKECMDGOALS)),,$(filter-out help,$(or $(MAKECMDGOALS),help)))
ifneq ($(and $(NEEDS_VENV),$(filter-out $(CURDIR),$(MADE_IN))),)
$(error This checkout was moved or copied from $(MADE_IN), where its .venv belongs: run make clean)
endif

.PHONY: help demo test test-postgres soak guarantees format lint types bench bench-postgres lock clean

help:  ## list the targets
	awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

demo: .venv/ready  ## run the main job on a generated sample
	$(BIN)/holdfast demo

test: lint types  ## check format, lint and types, then run the tests
	echo '== tests'
	HOLDFAST_RECORDS=build/records/test.jsonl $(PYTEST) -m 'not soak' -rs

test-postgres: .venv/ready  ## run only the tests that start a PostgreSQL server
	$(PYTEST) -m 'postgres and not soak' -rs

soak: .venv/ready  ## run the tests that take long; SCALE=10 for ten times as much, SEEDS=17 for one
	HOLDFAST_SOAK_SCALE='$(SCALE)' HOLDFAST_SOAK_SEEDS='$(SEEDS)' \
		HOLDFAST_RECORDS=$(if $(SEEDS),,build/records/soak.jsonl) \
		$(PYTEST) -m soak -o faulthandler_timeout=0 $(if $(SEEDS),-k test_no_seed_loses tests/crash)

guarantees: .venv/ready  ## make docs/guarantees.md of the records of the last test and soak
	$(BIN)/python -m tests.guarantees

format: .venv/ready  ## rewrite the code in the house format
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format --quiet .

lint: .venv/ready  ## check format and lint
	echo '== format and lint'
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/ready  ## check the types with mypy and pyright
	echo '== types'
	$(BIN)/mypy $(CODE)
	$(BIN)/pyright

bench: .venv/bench  ## measure against raw sqlite3 and other libraries
	$(BIN)/python -m benchmarks

bench-postgres: .venv/bench  ## measure against raw psycopg and other libraries, on PostgreSQL
	$(BIN)/python -m benchmarks.postgres

lock: .venv/ready  ## resolve the development dependencies anew
	$(UV) $(LOCK) pyproject.toml requirements/dev.in -o requirements/dev.txt
	$(UV) $(LOCK) -c requirements/dev.txt requirements/bench.in -o requirements/bench.txt

clean:  ## remove what the other targets made
	rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist

.venv/ready: $(BIN)/uv requirements/dev.txt pyproject.toml
	echo '== installing the locked dependencies'
	$(UV) sync $(HERE) --require-hashes requirements/dev.txt
	$(UV) install $(HERE) --no-deps --no-build-isolation --editable .
	pwd -P > $@

.venv/bench: .venv/ready requirements/bench.txt
	echo '== installing the libraries to compare with'
	$(UV) install $(HERE) --require-hashes --requirement requirements/bench.txt
	touch $@

# Only uv itself comes through pip, with its hashes taken from the lock.
$(BIN)/uv:
	$(PYTHON) -c '$(SUITABLE)' 2>/dev/null || { echo "No Python 3.11 or later with venv" \
		"was found. Install one, or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	echo '== creating .venv with $(PYTHON)'
	$(PYTHON) -m venv .venv
	sed -n '/^uv==/,/[^\\]$$/p' requirements/dev.txt > .venv/uv.txt
	$(BIN)/python -m pip --disable-pip-version-check install --quiet \
		--require-hashes --requirement .venv/uv.txt
