# `make help` lists what there is. Everything works from a clean clone with Python 3.11+ and make.

PYTHON ?= python3
PORT ?= 8000
CONFIG ?=
JOBS ?= auto

ARCH ?= arm64
HOST_ARCH := $(if $(filter aarch64 arm64,$(shell uname -m)),arm64,x86_64)
LOCAL_PORT := $(if $(filter-out file,$(origin PORT)),$(PORT),3000)

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV_VERSION := $(shell sed -n 's/^uv==\([^ ]*\).*/\1/p' requirements-dev.txt)

.DEFAULT_GOAL := help
.PHONY: help setup run test build local deploy bench faults routes prove prove-usage prices check checkov requirements clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

setup: $(STAMP) ## create .venv with everything, hash-pinned (again only when the requirements change)

# One recipe each, so that an interrupted install leaves no stamp and is simply done again.
$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "llm-gateway needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Say which one: make $(firstword $(MAKECMDGOALS) setup) PYTHON=/path/to/python3.13" >&2; exit 1; }
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(STAMP): requirements-dev.txt pyproject.toml | $(BIN)/uv
	@echo "installing into $(VENV) …" >&2
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-dev.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

run: $(STAMP) ## start the gateway on loopback (PORT=8000, CONFIG=gateway.toml)
	@exec $(BIN)/llm-gateway run --port $(PORT) $(if $(CONFIG),--config $(CONFIG))

test: $(STAMP) ## run every test that needs no account (JOBS=4 processes at once)
	$(BIN)/python -m pytest -n $(JOBS) --maxprocesses=4 --dist loadfile tests/unit tests/golden tests/contract tests/integration tests/e2e

# arm64 is the stack's default; sam builds for what it is told, on any machine.
build: $(STAMP) ## build the stack's functions and layers (ARCH=arm64|x86_64), without Docker
	@case "$(ARCH)" in arm64|x86_64) ;; *) echo "ARCH must be arm64 or x86_64, not $(ARCH)" >&2; exit 1 ;; esac
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/sam build --parameter-overrides Architecture=$(ARCH)
	$(BIN)/python scripts/pin_architecture.py .aws-sam/build/template.yaml $(ARCH)

local: ARCH = $(HOST_ARCH)
local: build ## build, then `sam local start-api` on an embedded AWS (PORT=3000, CONFIG=gateway.toml); needs Docker
	$(BIN)/python scripts/sam_local.py --port $(LOCAL_PORT) $(if $(CONFIG),--config $(CONFIG)) -- --warm-containers LAZY $(SAM_ARGS)

deploy: build ## build and deploy the stack into your AWS account, asking what it must know
	$(BIN)/sam deploy --guided

bench: $(STAMP) ## measure the gateway against plain passthroughs (docs/performance.md)
	$(BIN)/python -m tests.bench

faults: $(STAMP) ## try every way in which a provider misbehaves, and tell what comes of it (CASES="stall 429")
	$(BIN)/python -m tests.faults $(CASES)

routes: $(STAMP) ## simulate 10,000 requests by every routing strategy, hedged and not (SEED=1)
	$(BIN)/python -m tests.routes --seed $(or $(SEED),1)

prove: $(STAMP) ## prove that no budget is overspent, with processes killed and the engine hung (needs Java and Maven)
	$(BIN)/python -m tests.prove

prove-usage: $(STAMP) ## prove on DynamoDB Local that a month of a million requests is read from totals (REQUESTS=1000000)
	$(BIN)/python -m tests.prove_usage --requests $(or $(REQUESTS),1000000)

prices: $(STAMP) ## write the price book anew from genai-prices, and print every price that changed
	@$(BIN)/python -m scripts.generate_prices

check: $(STAMP) ## lint, types, import order, and that requirements and generated pages match their sources
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_requirements.py
	$(BIN)/python scripts/generate_providers_page.py --check
	$(BIN)/python -m scripts.generate_cli_page --check
	$(BIN)/python scripts/generate_schema.py --check

# Apart from `check`: it installs a hundred packages of its own (200 MB), once.
checkov: $(STAMP) ## read the template with checkov; what is skipped, and why, is in .checkov.yaml
	@test -x $(VENV)/checkov/bin/checkov -a $(VENV)/checkov/.installed -nt requirements-checkov.txt || { \
	  $(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)/checkov && \
	  $(BIN)/uv pip install --quiet --python $(VENV)/checkov/bin/python --require-hashes -r requirements-checkov.txt && \
	  touch $(VENV)/checkov/.installed; }
	$(VENV)/checkov/bin/checkov --config-file .checkov.yaml

# The one target, beside setup, that needs the network.
COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header

requirements: | $(BIN)/uv ## compile the hash-pinned requirements again (UPGRADE=1 for the newest versions)
	$(COMPILE) $(if $(UPGRADE),--upgrade) --python-version 3.11 --all-extras --group dev pyproject.toml -o requirements-dev.txt
	$(COMPILE) $(if $(UPGRADE),--upgrade) --python-version 3.13 pyproject.toml --constraints requirements-dev.txt -o layers/dependencies/requirements.txt
	$(COMPILE) $(if $(UPGRADE),--upgrade) --python-version 3.11 --group pyproject.toml:checkov -o requirements-checkov.txt
	$(BIN)/python scripts/check_requirements.py --stamp

clean: ## remove what was built or installed (not .local/, which holds your data)
	rm -rf $(VENV) build .aws-sam .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
