# Set-up, demo, tests and benchmarks. Needs Python >= 3.10, git and make.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: help setup demo test test-all lint format options docs wheel bench gpu faults clean

help:
	@echo "make demo      train a spiking network on digits with LFP, export it, check it in simulators (minutes)"
	@echo "make test      the test suite"
	@echo "make test-all  the same with the slow tests"
	@echo "make docs      the site, into site/index.html; warnings and dead links are errors"
	@echo "make wheel     the wheel and the source archive, into dist/, and a test of the wheel installed alone"
	@echo "make bench     benchmarks, side by side with the peers that are installed (BENCH=--quick: a smoke run)"
	@echo "make gpu       what needs a CUDA device, tests and benchmarks, in ten minutes; without one it says so"
	@echo "make faults    kills, full disks, damaged and hostile files: an hour on two cores (FAULTS=--quick: two minutes)"
	@echo "make lint      ruff and mypy;  make format  rewrites the layout of the code, and lines named in docs/method.md"
	@echo "make options   records the options of the commands anew, from which --help answers at once"

setup: $(READY)

# torch first and alone: the pin decides what every later package may bring along.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "spikelfp needs Python 3.10 or newer: make PYTHON=python3.11 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[interop,events,dev]'
	@touch $(READY)

demo: $(READY)
	$(BIN)/python examples/demo.py

# Files of tests are spread over the cores, a thread each, the longest first (tests/conftest.py). Compiled modules are
# kept, as tests start many processes. One after the other: make test PYTEST=".venv/bin/python -m pytest"
PYTEST ?= PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: $(READY)
	$(PYTEST) -m "not slow and not network"

test-all: $(READY)
	$(PYTEST) -m "not network"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python docs/hooks.py

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

$(VENV)/.docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

wheel: $(READY)
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/python tests/wheel.py dist $(WHEEL)

options: $(READY)
	$(BIN)/python -m tests.cli.option_records

bench: $(READY)
	$(BIN)/python -m benchmarks $(BENCH)

gpu: $(READY)
	$(BIN)/python -m benchmarks.gpu --tests

faults: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults $(FAULTS)

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis runs exports
