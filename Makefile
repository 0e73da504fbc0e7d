# One environment, .venv, made once from requirements.lock; every target runs in it.
PYTHON ?= python3.11
ARGS ?=
PROFILE ?=

BIN := .venv/bin

.PHONY: help setup repro site sessions browse test faults test-library test-networks test-cluster test-mmdet-3.3 bench bench-gpu lock lint clean

help: ## List the targets (this is what plain `make` does)
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.installed ## Make .venv from requirements.lock and install ghostlib into it, once

# An unpacked archive has no history, and DVC must not look for one.
repro: setup ## Reproduce what is out of date; PROFILE=name chooses the profile first, for later runs, too; ARGS goes to dvc
	$(if $(PROFILE),$(BIN)/python -m ghostlib profile $(PROFILE))
	@test -e .git || $(BIN)/dvc config --local core.no_scm true
	$(if $(filter-out digits,$(PROFILE)),$(BIN)/python -m ghostlib plan $(PROFILE))
	PATH="$(CURDIR)/$(BIN):$$PATH" DVC_NO_ANALYTICS=1 $(BIN)/dvc repro $(ARGS)

site: setup ## Build the pages of the results there are, results/<profile>/site; PROFILE=name (digits)
	$(BIN)/python -m ghostlib site $(or $(PROFILE),digits)

sessions: setup ## Time Table 9's networks N times (5), in new processes PAUSE seconds (600) apart, into results/sessions
	for session in $$(seq $(or $(N),5)); do test $$session = 1 || sleep $(or $(PAUSE),600); \
	  $(BIN)/python -c "from ghostlib.measures import latencies; latencies.session()" || exit 1; done

browse: setup ## Open JupyterLab on an executed notebook; running it changes no result; PROFILE=name (digits)
	$(BIN)/jupyter lab --config notebooks/jupyter_server_config.py --ServerApp.root_dir=. \
	  --LabApp.default_url=/lab/tree/results/$(or $(PROFILE),digits)/notebooks/table_1.ipynb

test: setup ## Run the tests; ARGS goes to pytest (ARGS="-k recipe")
	$(BIN)/python -m pytest $(ARGS)

faults: setup ## Strike N tiny trainings (60) with faults, compare what goes on to the bit, and write docs/faults.md
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults $(or $(N),60)

bench: setup ## Time the training step, a grid, what is deployed, and the loader; ARGS goes to the first
	$(BIN)/python benchmarks/training_step.py $(ARGS)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/grid.py
	$(BIN)/python benchmarks/deployed.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/loader.py

bench-gpu: ## Time the training step on a GPU and hold the exact form to the branches there; PYTHON=one with torch and timm
	PYTHONPATH=. $(if $(wildcard .venv/.installed),$(BIN)/python,$(PYTHON)) benchmarks/gpu.py $(ARGS)

test-library: setup ## Install the wheel into clean environments, old and new, and run the library's tests there; ARGS=name
	$(BIN)/python tests/environments.py $(ARGS)

test-networks: setup ## Try the branches on 74 networks of timm and torchvision, minutes, and write docs/networks.md
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/networks.py docs/networks.md

test-cluster: setup ## Run the tests of the Ray engine, the long ones, too
	GHOSTLIB_LONG=1 $(BIN)/python -m pytest tests/runs/test_cluster.py $(ARGS)

test-mmdet-3.3: .venv-mmdet-3.3/.installed ## Run detection's tests with the original MMDetection 3.3 in place of its fork
	.venv-mmdet-3.3/bin/python -m pytest tests/mmdet tests/detection $(ARGS)

lint: setup ## Check the code with ruff
	$(BIN)/ruff check $(ARGS) .

# One version of each package for Linux and macOS; needs no more of the old lock than its uv.
lock: $(BIN)/uv ## Bring requirements.lock in line with pyproject.toml; ARGS=--upgrade takes newer releases too
	$(BIN)/uv pip compile pyproject.toml --extra repro --extra dev --extra mobile --python-version 3.11 --universal --fork-strategy fewest \
	  --generate-hashes --custom-compile-command "make lock" --quiet -o requirements.lock $(ARGS)
	$(BIN)/uv pip compile detection/requirements-mmdet-3.3.in --no-deps --python-version 3.11 --universal \
	  --generate-hashes --custom-compile-command "make lock" --quiet -o detection/requirements-mmdet-3.3.txt $(ARGS)

clean: ## Remove .venv and the caches; data, runs and results stay
	rm -rf .venv .venv-mmdet-3.3 .venv-library ghostlib.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.installed: requirements.lock pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip sync --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

# Everything else comes from .venv: what is installed here is found first.
.venv-mmdet-3.3/.installed: detection/requirements-mmdet-3.3.txt .venv/.installed
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-mmdet-3.3
	echo "$(CURDIR)/.venv/lib/python3.11/site-packages" > .venv-mmdet-3.3/lib/python3.11/site-packages/main.pth
	echo "$(CURDIR)" >> .venv-mmdet-3.3/lib/python3.11/site-packages/main.pth
	$(BIN)/uv pip install --quiet --no-deps --require-hashes --python .venv-mmdet-3.3/bin/python \
	  -r detection/requirements-mmdet-3.3.txt
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
