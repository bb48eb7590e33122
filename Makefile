# Needs Python 3.11 and make, nothing else. `make help` lists what there is.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BACKENDS := jax tensorflow torch
# Legs that run at the same time in `make test`; each is held to one or two threads by tests/conftest.py.
JOBS ?= 2

VENV := .venv
PLAIN := .venv-plain
FLOOR := build/venv-floor
PINS := constraints/py311.txt
HUB := constraints/keras_hub.txt
READY := $(VENV)/.ready
PLAIN_READY := $(PLAIN)/.ready
FLOOR_READY := $(FLOOR)/.ready
BENCHMARKS = $(filter-out __init__ __main__ common nets peer_nets peer_tools peers_relevance peers_robustness peers_verdicts,$(basename $(notdir $(wildcard benchmarks/*.py))))
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --constraint $(PINS)

.DEFAULT_GOAL := help
.PHONY: help setup demo check lint format test test-full test-floor bench bench-peers clean legs legs-full leg-plain \
	$(BACKENDS:%=leg-%) $(BACKENDS:%=full-%)
.DELETE_ON_ERROR:

help:
	@echo "make demo       set up, train three small models and audit them into demo_results/"
	@echo "make test       set up and run the tests: three backends, and no backend at all"
	@echo "make test-full  the same with the tests marked 'full' (many minutes)"
	@echo "make test-floor the tests on JAX with the oldest releases that pyproject.toml allows"
	@echo "make check      lint, types, imports and the fast tests on JAX, in under three minutes"
	@echo "make lint       ruff, mypy --strict, import-linter        make format   ruff, writing"
	@echo "make bench      the speed ratios of benchmarks/           make clean    remove what make made"
	@echo "make bench-peers  our relevance and attacks beside other libraries', in an environment of their own"
	@echo "make leg-torch  one leg alone: leg-jax, leg-tensorflow, leg-torch, leg-plain"

# ---- set-up: once, and again when pyproject.toml or the pinned versions change
setup: $(READY) $(PLAIN_READY)

$(READY): pyproject.toml $(PINS) $(HUB)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP_INSTALL) --editable '.[all,dev]'
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $(HUB)
	touch $@

# No Keras and no backend here, whatever the package asks for: the promise that results are readable without them.
$(PLAIN_READY): pyproject.toml $(PINS) constraints/plain.txt
	test -x $(PLAIN)/bin/python || $(PYTHON) -m venv $(PLAIN)
	$(PLAIN)/bin/python $(PIP_INSTALL) --requirement constraints/plain.txt
	$(PLAIN)/bin/python $(PIP_INSTALL) --no-deps --editable .
	touch $@

$(FLOOR_READY): pyproject.toml constraints/floor.txt constraints/plain.txt
	test -x $(FLOOR)/bin/python || $(PYTHON) -m venv $(FLOOR)
	$(FLOOR)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints/floor.txt \
		--requirement constraints/plain.txt --editable '.[jax,pareto]'
	touch $@

# ---- the main job
demo: $(READY)
	TF_CPP_MIN_LOG_LEVEL=3 $(VENV)/bin/keras-analyzer demo --output-dir demo_results

# ---- checks
lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: $(READY)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

check: lint
	KERAS_BACKEND=jax $(VENV)/bin/python -m pytest -q -n $(JOBS) -m 'not slow and not full' --ignore tests/inspection/test_keras_hub.py

# ---- tests: one process per backend; -k lets every leg finish, and one that fails fails the whole
test: setup
	$(MAKE) --no-print-directory --keep-going --jobs=$(JOBS) --output-sync=target legs

test-full: setup
	$(MAKE) --no-print-directory --keep-going --jobs=$(JOBS) --output-sync=target legs-full

legs: $(BACKENDS:%=leg-%) leg-plain
legs-full: $(BACKENDS:%=full-%) leg-plain

# Tests that need no Keras run in the leg without it; what no backend changes runs beside JAX only.
leg-jax full-jax: MARKS = and not plain
leg-tensorflow leg-torch full-tensorflow full-torch: MARKS = and not plain and not once

$(BACKENDS:%=leg-%): leg-%: $(READY)
	KERAS_BACKEND=$* $(VENV)/bin/python -m pytest -m 'not full $(MARKS)' --durations=15 -o cache_dir=.pytest_cache/$*

$(BACKENDS:%=full-%): full-%: $(READY)
	KERAS_BACKEND=$* $(VENV)/bin/python -m pytest -m '(full or not full) $(MARKS)' --durations=15 -o cache_dir=.pytest_cache/$*

leg-plain: $(PLAIN_READY)
	$(PLAIN)/bin/python -m pytest -m 'plain and not full' --without-keras -o cache_dir=.pytest_cache/plain

test-floor: $(FLOOR_READY)
	KERAS_BACKEND=jax $(FLOOR)/bin/python -m pytest -m 'not full' --ignore tests/inspection/test_keras_hub.py -o cache_dir=.pytest_cache/floor

bench: $(READY)
	@set -e; for name in $(BENCHMARKS); do \
		echo "== $$name on $${KERAS_BACKEND:-jax}"; \
		KERAS_BACKEND=$${KERAS_BACKEND:-jax} $(VENV)/bin/python -m benchmarks.$$name; \
	done

# Needs no .venv: the libraries that are compared pin other versions, so they get an environment of their own.
bench-peers:
	PYTHON=$(PYTHON) benchmarks/install_peers.sh
	KERAS_BACKEND=torch build/venv-peers/bin/python -m benchmarks.peers_relevance
	KERAS_BACKEND=torch build/venv-peers/bin/python -m benchmarks.peers_robustness
	KERAS_BACKEND=torch build/venv-peers/bin/python -m benchmarks.peers_verdicts

clean:
	rm -rf $(VENV) $(PLAIN) $(FLOOR) demo_results .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
