# make sweep   set up once, run the default study, show the map        make test    the test suite
# make proofs  the longer proofs        make bench  ratios of speed        make lint        make clean
# make browser a Chromium for the tests of pages, where there is none (without one they are skipped)
#
# PYTHON=python3.12   the interpreter that the environment is made from (3.11 or newer)
# VENV=DIR            where the environment lies (default .venv)
# PY=python           an environment of your own, with simlab installed in it: nothing is made or installed
# ARGS="..."          passed on: make sweep ARGS="shift --workers 2", make test ARGS="tests/limits -x"
# JOBS=2              processes that share the tests, whole files at a time (JOBS=0: one, in the order of the files)

PYTHON ?= python3
VENV ?= .venv
PY ?=
ARGS ?=
JOBS ?= 2

ifeq ($(PY),)
RUN := $(VENV)/bin/python
READY := $(VENV)/.simlab-ready
else
RUN := $(PY)
READY :=
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help sweep test proofs bench lint browser clean

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

sweep: $(READY)
	@echo "simlab: running the study (interrupt and run again to resume)"
	@$(RUN) -m simlab.sweep $(ARGS)

test: $(READY)
	@echo "simlab: running the tests"
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(RUN) -m pytest -n $(JOBS) --dist loadfile $(ARGS)

proofs: $(READY)
	@echo "simlab: running the longer proofs"
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(RUN) -m pytest -m proof $(ARGS)

bench: $(READY)
	@echo "simlab: timing"
	@$(RUN) -m pytest tests/benchmarks -o addopts=--import-mode=importlib --benchmark-only $(ARGS)

lint: $(READY)
	@echo "simlab: linting"
	@$(RUN) -m ruff check $(ARGS) .

# The system's own, else the distribution's (as root), else the one that playwright fetches.
browser: $(READY)
	@for name in chromium chromium-browser google-chrome google-chrome-stable; do \
	  if command -v $$name >/dev/null; then echo "simlab: pages are tested in $$(command -v $$name)"; exit 0; fi; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "simlab: installing Chromium (apt-get)"; \
	  install() { DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null; }; \
	  install 2>/dev/null || { apt-get update -qq && install; }; \
	else echo "simlab: fetching playwright's Chromium"; $(RUN) -m playwright install chromium; fi

# The stamp holds what was installed, and is written last: an interrupted set-up runs again, and a file that was only
# touched (a fresh checkout of the same content) installs nothing.
$(VENV)/.simlab-ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "simlab needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -n 1)." >&2; \
	  echo "Name another, for example: make $(firstword $(MAKECMDGOALS)) PYTHON=python3.12" >&2; exit 2; }
	@if cat pyproject.toml constraints.txt | cmp -s - $@ && $(RUN) -c 'import simlab' 2>/dev/null; then touch $@; else \
	  set -e; rm -f $@; \
	  if ! $(RUN) -m pip --version >/dev/null 2>&1; then \
	    echo "simlab: making an environment in $(VENV)"; $(PYTHON) -m venv $(VENV); fi; \
	  echo "simlab: installing the tested versions into $(VENV) (a few minutes, once)"; \
	  $(RUN) -m pip install -qq --disable-pip-version-check -e '.[dev]' -c constraints.txt; \
	  cat pyproject.toml constraints.txt > $@.part; mv $@.part $@; echo "simlab: ready"; fi

clean:
	@echo "simlab: removing caches and build products (the environment and runs/ stay)"
	@rm -rf build dist .pytest_cache .ruff_cache .benchmarks .hypothesis
	@find simlab real_data figures tests -name __pycache__ -type d -prune -exec rm -rf {} +
