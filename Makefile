# The developer's door: plain `make` lists what there is.
.DEFAULT_GOAL := help
.PHONY: help setup serve test check format soak chaos bench lock clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
PARALLEL := --numprocesses auto --dist loadfile --no-loadscope-reorder

SOAKED := tests/conformance tests/failures/test_races.py tests/unit/engine/test_chains.py \
	$(addprefix tests/acceptance/test_,commands.py death.py deployment.py load.py openapi.py photos.py s3_large.py soak.py)

help: ## List the commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(VENV)/.dev ## Make .venv with everything to develop and test; does nothing where that is done

serve: $(VENV)/.runtime ## Start the whole service on 127.0.0.1:8000, data under ./data
	@exec $(BIN)/image-processor serve --dev

test: setup ## All tests, on all processors; those that measure by themselves
	$(BIN)/pytest $(PARALLEL) -m "not alone" --ignore tests/s3_images
	$(BIN)/pytest -m alone $$(grep -rl --include='*.py' 'mark\.alone' tests)
	$(BIN)/pytest $(PARALLEL) tests/s3_images --cov=src/image_processor/s3_images --cov-fail-under=85
	cd examples/pockitflyer_backend && ../../$(BIN)/pytest

check: setup ## Format, lint, types, layers, fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest $(PARALLEL) -m "not slow" --durations=0 --durations-min=1

format: setup ## Format the code and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

soak: setup ## The long form of the tests that kill, flood, count memory, chain operations or ask at random
	SOAK=1 $(BIN)/pytest -s --timeout 1800 $(SOAKED)

chaos: setup ## Kill, freeze and flush everything while jobs run, on every database and queue; CHAOS_SEED=n repeats a plan
	CHAOS=1 $(BIN)/pytest -s tests/chaos

bench: setup ## Measure beside sharp on the same photos: seconds, bytes, memory, quality
	@if command -v npm >/dev/null; then cd bench/sharp && npm ci --silent --no-fund --no-audit; else echo "without npm there is no sharp to compare with"; fi
	PYTHONPATH=tests $(BIN)/python -m bench

lock: setup ## Pin all dependencies anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --group build pyproject.toml -o requirements/runtime.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --group dev -c requirements/runtime.lock pyproject.toml -o requirements/dev.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --extra celery --extra cloudfront --extra faces --extra jwks --extra postgres --extra redis --extra s3 --group image --group build -c requirements/dev.lock pyproject.toml -o requirements/image.lock

clean: ## Remove .venv and caches; keeps ./data
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null \
		|| { echo "Python's venv module is needed: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements/runtime.lock pyproject.toml | $(VENV)/bin/python
	$(PIP) install --require-hashes -r requirements/runtime.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.lock
	$(PIP) install --require-hashes -r requirements/dev.lock
	@touch $@
