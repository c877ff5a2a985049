# Needs Python >= 3.11 (with venv), make and a compiler. Everything else goes into .venv.
#
#   make demo     design a network for the built-in digits, then print the result as one line of JSON
#   make test     the whole suite
#   make check    lint, formatting, types
#
# Another Python: make PYTHON=python3.12 demo

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 2
SOURCES = $(wildcard src tests benchmarks examples)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env demo test check format clean

help:
	@echo "make demo     design a network for the built-in digits (6 to 17 minutes on two cores)"
	@echo "make test     run the test suite"
	@echo "make check    ruff and pyright"
	@echo "make format   let ruff format and fix"
	@echo "make env      only make the environment in $(VENV)"
	@echo "make clean    remove builds and caches; runs/ and $(VENV) stay"

env: $(STAMP)

# Everything here speaks on standard error. torch goes first and alone, so that no other package's
# requirement decides which build of it is taken (constraints.txt says why).
$(STAMP): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { \
		echo "make: '$(PYTHON)' is not installed; singlepath needs Python >= 3.11; type: make PYTHON=/path/to/python3.11 env" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: $(PYTHON) is $$("$(PYTHON)" --version 2>&1); singlepath needs Python >= 3.11; type: make PYTHON=python3.11 env" >&2; exit 1; }
	@"$(BIN)/python" -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || \
		"$(PYTHON)" -m venv --clear "$(VENV)" >&2 || { \
		echo "make: '$(PYTHON) -m venv' failed; install Python's venv module (on Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@echo "make: installing into $(VENV) (the first time takes some minutes)" >&2
	@"$(BIN)/python" -m pip install --quiet -c constraints.txt "$$(grep '^torch==' constraints.txt)" >&2
	@"$(BIN)/python" -m pip install --quiet -c constraints.txt -e ".[demo,dev]" >&2
	@touch "$@"

# A folder of its own each time, so that no result is overwritten.
demo: $(STAMP)
	@mkdir -p runs
	@OMP_NUM_THREADS=1 "$(BIN)/singlepath" design --data digits --budget 60% --out "runs/demo-$$(date +%Y%m%d-%H%M%S)" --json

test: $(STAMP)
	@OMP_NUM_THREADS=1 "$(BIN)/python" -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder

check: $(STAMP)
	@"$(BIN)/ruff" check $(SOURCES)
	@"$(BIN)/ruff" format --check $(SOURCES)
	@"$(BIN)/pyright" --pythonpath "$(BIN)/python"

format: $(STAMP)
	@"$(BIN)/ruff" check --fix $(SOURCES)
	@"$(BIN)/ruff" format $(SOURCES)

clean:
	@rm -rf build dist .pytest_cache .ruff_cache .hypothesis src/*.egg-info
	@find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
