# Everything a person or CI types. `make` alone lists it; each target makes .venv by itself.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Downloads and builds are kept here, so that a second clone does not fetch again.
CACHE_HOME := $(or $(XDG_CACHE_HOME),$(if $(HOME),$(HOME)/.cache,$(CURDIR)/.cache))
export TIDEGATE_CACHE ?= $(CACHE_HOME)/tidegate
export PIP_CACHE_DIR := $(TIDEGATE_CACHE)/pip

PYTHON := .venv/bin/python
READY := .venv/.installed

# Handed to pytest, as in `make unit ARGS="-k gate"`.
ARGS ?=
# How often `make deflake` repeats the tests.
RUNS ?= 10

.PHONY: help
help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

$(READY): requirements.lock pyproject.toml
	@bash tools/setup.sh

.PHONY: setup
setup: $(READY) ## Make .venv with the locked packages and the tidegate command

.PHONY: demo
demo: $(READY) ## A launch day, live (KEEP=1 HEADLESS=1 CLUSTER=1 DEMAND=trace.csv.gz STORY=name)
	@$(PYTHON) -m scenarios.demo

.PHONY: load
load: $(READY) ## Locust's launch day against a running gateway
	@.venv/bin/locust --headless --only-summary -f loadtests/launch_day.py

.PHONY: check
check: $(READY) ## Format, lint, types and import contracts, in under a minute
	@$(MAKE) --keep-going -j2 types format lint imports

.PHONY: format
format: $(READY) ## Is all code formatted
	@.venv/bin/ruff format --check --quiet

.PHONY: lint
lint: $(READY) ## Ruff, all rules but the reasoned exceptions
	@.venv/bin/ruff check --quiet

.PHONY: types
types: $(READY) ## mypy, strict
	@.venv/bin/mypy --no-error-summary

.PHONY: imports
imports: $(READY) ## The arrows between and inside the rooms
	@.venv/bin/lint-imports --no-logo

.PHONY: test
test: $(READY) ## All of it: check, unit, workflows, integration, scenarios
	@bash tools/debian_packages.sh
	@$(MAKE) check
	@$(MAKE) cluster || echo "The tests that need it will skip."
	@$(PYTHON) -m tools.run_tests $(ARGS)

.PHONY: cluster
cluster: $(READY) ## Build a Kubernetes control plane for tests and CLUSTER=1 (8 minutes, once)
	@$(PYTHON) -m embedded.kubernetes.programs

.PHONY: unit
unit: $(READY) ## Tests that need nothing running, in seconds
	@$(PYTHON) -m tools.run_tests unit $(ARGS)

.PHONY: workflows
workflows: $(READY) ## Workflows in skipped time, and committed histories replayed
	@$(PYTHON) -m tools.run_tests workflows $(ARGS)

.PHONY: integration
integration: $(READY) ## Tests that start real servers
	@bash tools/debian_packages.sh
	@$(MAKE) cluster || echo "The tests that need it will skip."
	@$(PYTHON) -m tools.run_tests integration $(ARGS)

.PHONY: scenarios
scenarios: $(READY) ## The stories, from beginning to end
	@$(PYTHON) -m tools.run_tests scenarios $(ARGS)

.PHONY: histories
histories: $(READY) ## Record the workflow histories anew, after a change meant to break replay
	@$(PYTHON) -m tests.workflows.record_histories

.PHONY: chaos
chaos: $(READY) ## Play every story while worker and server are killed 20 times in turn
	@KILLS=20 $(PYTHON) -m pytest tests/scenarios/test_stories.py -k killed -v $(ARGS)

.PHONY: deflake
deflake: $(READY) ## Repeat unit and integration RUNS times (10), until one fails
	@for run in $$(seq 1 $(RUNS)); do \
		echo "run $$run of $(RUNS)"; \
		$(PYTHON) -m tools.run_tests unit integration --exitfirst $(ARGS); \
	done

.PHONY: presubmit
presubmit: ## The tests of the last commit, in a fresh clone with an empty home
	@bash tools/presubmit.sh
