# One environment, .venv, made once from requirements.lock; every target runs in it.
PYTHON ?= python3.11
ARGS ?=
PROFILE ?=

BIN := .venv/bin

.PHONY: help setup repro test bench lock lint clean

help: ## List the targets (this is what plain `make` does)
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.installed ## Make .venv from requirements.lock and install ghostlib into it, once

repro: setup ## Reproduce what is out of date; PROFILE=name chooses the profile first (PROFILE=fashion)
	$(if $(PROFILE),$(BIN)/python -m ghostlib.pipeline profile $(PROFILE))
	PATH="$(CURDIR)/$(BIN):$$PATH" DVC_NO_ANALYTICS=1 $(BIN)/dvc repro $(ARGS)

test: setup ## Run the tests; ARGS goes to pytest (ARGS="-k recipe")
	$(BIN)/python -m pytest $(ARGS)

bench: setup ## Time the training step, and what is deployed, beside timm's; ARGS goes to the first
	$(BIN)/python benchmarks/training_step.py $(ARGS)
	$(BIN)/python benchmarks/deployed.py

lint: setup ## Check the code with ruff
	$(BIN)/ruff check $(ARGS) .

# One version of each package for Linux and macOS; needs no more of the old lock than its uv.
lock: $(BIN)/uv ## Bring requirements.lock in line with pyproject.toml; ARGS=--upgrade takes newer releases too
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra mobile --python-version 3.11 --universal --fork-strategy fewest \
	  --generate-hashes --custom-compile-command "make lock" --quiet -o requirements.lock $(ARGS)

clean: ## Remove .venv and the caches; data, runs and results stay
	rm -rf .venv ghostlib.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.installed: requirements.lock pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip sync --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

# The environment itself, with the uv that the lock pins, checked against the lock's hashes.
$(BIN)/uv:
	@for python in "$(PYTHON)" python3; do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then \
	    echo "$$python -m venv .venv"; exec "$$python" -m venv --clear .venv; \
	  fi; \
	done; \
	echo "No Python 3.11: neither $(PYTHON) nor python3 is one." >&2; \
	echo "Install Python 3.11, or name yours: make setup PYTHON=/path/to/python3.11" >&2; \
	exit 1
	@awk '/^[^ #]/ {uv = /^uv==/} uv' requirements.lock > .venv/uv.txt
	$(BIN)/python -m pip install --quiet --require-hashes -r .venv/uv.txt
