# `make` alone prints what can be made. Every target does its own set-up: system packages by tools/setup.sh,
# Python packages into $(VENV), pinned by constraints.txt.
PYTHON ?= python3
override PYTHON := $(shell command -v $(PYTHON) || echo $(PYTHON))
VENV ?= .venv
ARGS ?=
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' probe/__init__.py)
IMAGE ?= triton-probe:$(VERSION)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -qq
PINNED := $(PIP) install -c constraints.txt

# Judgement is pure and therefore wholly testable: these files are held at 100 % of lines and branches.
PURE := probe/facts/*,probe/ledgers/*,probe/checks/*
PURE := $(PURE),probe/engine/agenda.py,probe/engine/board.py,probe/engine/canaries.py,probe/engine/publishing.py
PURE := $(PURE),probe/engine/report.py,probe/engine/standing.py,probe/engine/tracking.py,probe/engine/transitions.py
PURE := $(PURE),probe/engine/budget.py,probe/engine/damping.py,probe/engine/healing.py

# Where the real tritonserver is kept, so that demo, tests and benches share one.
export TRITON_PROBE_SANDBOX ?= $(CURDIR)/.cache/triton

# What tests and benches start is found in the virtual environment first; promtool may be in .cache/tools.
export PATH := $(abspath $(BIN)):$(CURDIR)/.cache/tools:$(PATH)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo image image-requirements test check lint types layers unit machine bench gpu-suite constraints \
  clean system-demo system-test

help: ## this list
	@echo 'make TARGET [ARGS="..."] [PYTHON=python3]'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.demo ## a real Triton with sample models, and the probe beside it (no GPU needed)
	@$(BIN)/triton-probe demo $(ARGS)

image: ## the container image, by docker or podman; IMAGE= its name, BASE= another base, ARGS go to the build
	@docker info >/dev/null 2>&1 && set -- docker build || set -- podman build --format docker; \
	command -v $$1 >/dev/null || { echo 'image: neither docker nor podman works here' >&2; exit 1; }; \
	"$$@" $(if $(BASE),--build-arg BASE='$(BASE)') --build-arg VERSION='$(VERSION)' \
	  --build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null)" \
	  --build-arg CREATED="$$(date -u +%Y-%m-%dT%H:%M:%SZ)" $(ARGS) --tag '$(IMAGE)' .

test: check ## everything: check, all tests, the coverage of pure code; ARGS go to pytest (then no coverage gate)
ifeq ($(strip $(ARGS)),)
	@# Scenarios mostly wait and the others mostly work, so both run at once; coverage asks for the others alone.
	@mkdir -p .cache; \
	$(BIN)/pytest tests/scenarios >.cache/scenarios.out 2>&1 & scenarios=$$!; \
	trap 'kill $$scenarios; exit 130' INT TERM; \
	$(BIN)/coverage run -m pytest --ignore=tests/scenarios; others=$$?; \
	echo 'waiting for the scenarios'; \
	wait $$scenarios; failed=$$?; cat .cache/scenarios.out; \
	[ $$others = 0 ] && [ $$failed = 0 ]
	$(BIN)/coverage report --skip-covered --fail-under=100 --include='$(PURE)'
else
	$(BIN)/pytest $(ARGS)
endif

check: lint types layers ## lint, types and layers

lint: $(VENV)/.test ## ruff: format and rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.test ## mypy, strict
	$(BIN)/mypy

layers: $(VENV)/.test ## import-linter: who may import whom
	$(BIN)/lint-imports

unit: $(VENV)/.test ## the tests that need no tritonserver; ARGS go to pytest
	$(BIN)/pytest -m 'not triton' $(ARGS)

machine: $(VENV)/.test ## only the tests on cgroup v2, in a small virtual machine
	$(BIN)/pytest tests/scenarios/test_machine_*.py $(ARGS)

bench: $(VENV)/.test ## measure the budgets on this machine
	$(BIN)/python -m bench $(ARGS)

gpu-suite: $(VENV)/.test ## collect what tests/gpu/run needs on a machine with a GPU and no network
	PYTHONPATH=. $(BIN)/python tests/gpu/collect.py

setup: $(VENV)/.test ## only the set-up, for development

constraints: $(VENV)/.test ## pin today's newest versions into constraints.txt, and the image's with them
	rm -rf .cache/newest
	$(PYTHON) -m venv .cache/newest
	.cache/newest/bin/python -m pip install -qq --disable-pip-version-check hatchling editables '.[dev]'
	{ sed -n '/^#/p' constraints.txt; .cache/newest/bin/python -m pip freeze --exclude triton-probe; } > .cache/constraints.txt
	mv .cache/constraints.txt constraints.txt
	rm -rf .cache/newest
	$(BIN)/python tools/image_requirements.py

image-requirements: $(VENV)/.test ## write image/*requirements.txt anew, from pyproject.toml and constraints.txt
	$(BIN)/python tools/image_requirements.py

clean: ## remove what make made: the virtual environments, caches and downloads
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .coverage.* bench/out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What the system must have is looked at each time (quick); the virtual environment only when its inputs change.
system-demo system-test: system-%:
	@tools/setup.sh $* $(PYTHON)

# $(call install,EXTRAS): one at a time, also when two makes run at once. The build backend is installed first so
# that it is pinned too (an isolated build would fetch its newest).
define install
	@echo 'setup: Python packages into $(VENV)'
	@mkdir -p .cache && exec 9> .cache/setup.lock && flock 9 && \
	{ $(BIN)/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV); } && \
	$(PINNED) hatchling editables && \
	$(PINNED) --no-build-isolation -e '.$(1)'
endef

$(VENV)/.demo: pyproject.toml constraints.txt | system-demo
	$(call install,)
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | system-test
	$(call install,[dev])
	@touch $@ $(VENV)/.demo
