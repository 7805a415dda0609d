# Everything sets itself up in .venv and stops what it starts.
# PYTHON=/path/to/python chooses the interpreter (3.11 or newer), VENV=dir another place.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV ?= .venv
export VENV PYTHON
BIN := $(VENV)/bin
CODE := worker tests benchmarks scripts beat_schedule.py

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-11s %s\n", $$1, $$2 }'

.PHONY: demo
demo: setup ## Take a backup through a fleet of its own, and show it
	@$(BIN)/pgfleet demo

.PHONY: test
test: setup ## Lint, types, layers and the whole test suite, against real servers
	@scripts/system.sh postgresql prometheus chromium jq
	@$(MAKE) lint
	@$(BIN)/pytest -n 2 --dist loadfile -q $(ARGS)

.PHONY: test-deploy
test-deploy: setup ## Image, compose files and systemd units, run for real in a container engine
	@scripts/system.sh systemd
	@scripts/quietly.sh $(BIN)/python -m pip install --quiet -r tests/deploy/requirements.txt
	@scripts/engine.sh $(BIN)/pytest -n 2 -q -o python_files='check_*.py' tests/deploy $(ARGS)

.PHONY: lint
lint: setup ## Lint, format check, types, layers
	@$(BIN)/ruff check --quiet $(CODE)
	@$(BIN)/ruff format --check --quiet $(CODE) || { echo "Not formatted: make format" >&2; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@scripts/quietly.sh $(BIN)/lint-imports

.PHONY: format
format: setup ## Format the code and sort its imports
	@$(BIN)/ruff check --quiet --fix $(CODE)
	@$(BIN)/ruff format --quiet $(CODE)

.PHONY: docs
docs: setup ## The documentation as a site, in site/
	@NO_MKDOCS_2_WARNING=1 scripts/quietly.sh $(BIN)/mkdocs build --strict
	@echo "To read it: $(BIN)/python -m http.server -d site"

.PHONY: reference
reference: setup ## Write docs/reference anew, from the program
	@$(BIN)/python -m scripts.reference

.PHONY: bench
bench: setup ## Run every benchmark
	@for file in benchmarks/[a-z]*.py; do $(BIN)/python -m benchmarks.$$(basename $$file .py); done

.PHONY: lock
lock: ## Renew constraints.txt: the newest versions that pyproject.toml allows
	@scripts/lock.sh

.PHONY: setup
setup: ## Only the set-up: .venv, the Python packages, gpg
	@scripts/system.sh gnupg
	@scripts/setup.sh

.PHONY: clean
clean: ## Remove .venv and everything that was made
	@rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache benchmarks/out
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
