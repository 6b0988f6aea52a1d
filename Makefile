# The tasks of this checkout. Each target calls a tool and does nothing else.
.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
SCALE ?=
PORT ?=
DB ?=
ARGS ?=
RUN_OPTIONS := $(if $(SCALE),--scale $(SCALE)) $(if $(PORT),--port $(PORT)) \
  $(if $(DB),--db $(DB)) $(ARGS)

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | column -t -s '|'

.PHONY: run
run: .venv/ready ## Start the mesh, place an order, and run until Ctrl-C (SCALE=products=2,orders=2 PORT=8000 DB=postgresql)
	@exec $(BIN)/mycelium run $(RUN_OPTIONS)

.PHONY: demo
demo: .venv/ready ## Start the mesh, place an order, and stop the mesh
	@exec $(BIN)/mycelium demo $(RUN_OPTIONS)

.PHONY: ps
ps: .venv/ready ## List the processes of the running mesh
	@$(BIN)/mycelium ps

.PHONY: test
test: .venv/ready ## Run every test, against private servers (ARGS=tests/e2e/test_orders.py)
	@$(BIN)/python -m tests $(ARGS)

.PHONY: test-fast
test-fast: .venv/ready ## Run the unit tests and contracts in under a minute, without a server
	@$(BIN)/python -m tests --fast $(ARGS)

.PHONY: chaos
chaos: .venv/ready ## Inject faults for an hour and check every order (ARGS='--rows R1,R4 --short')
	@$(BIN)/python -m tests.chaos $(ARGS)

.PHONY: bench
bench: .venv/bench ## Measure the mesh beside its baselines (ARGS='--quick')
	@$(BIN)/python -m bench $(ARGS)

.PHONY: check
check: .venv/ready ## Format, lint, words, types, import rules, generated code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m tests.lint
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m mycelium.protos --check
	$(BIN)/python -m mycelium.asyncapi --check

.PHONY: format
format: .venv/ready ## Format the code and apply the linter's fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: protos
protos: .venv/ready ## Generate the gRPC code and the description of the events
	$(BIN)/python -m mycelium.protos
	$(BIN)/python -m mycelium.asyncapi

.PHONY: lock
lock: .venv/ready ## Upgrade and pin every dependency, with hashes
	$(BIN)/uv pip compile --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --python-version 3.11 --custom-compile-command 'make lock' --group dev -o requirements.lock pyproject.toml
	$(BIN)/uv pip compile --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --python-version 3.11 --custom-compile-command 'make lock' --group bench -c requirements.lock \
	  -o bench/requirements.lock
	echo uv | $(BIN)/uv pip compile --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --python-version 3.11 --custom-compile-command 'make lock' -o bootstrap.lock -

.PHONY: forget
forget: stopped ## Remove the mesh's data, mails, logs and passwords
	rm -rf .mycelium/data .mycelium/outbox .mycelium/logs .mycelium/secrets.json

.PHONY: stopped
stopped:
	@if [ -x $(BIN)/mycelium ] && $(BIN)/mycelium ps >/dev/null 2>&1; then \
	  echo "a mesh is running: stop it first"; exit 1; fi

.PHONY: clean
clean: stopped ## Remove the environment, and the mesh's data, servers and logs
	rm -rf .venv .mycelium .coverage* .pytest_cache .mypy_cache .ruff_cache

# Packages that only the benchmarks' baselines need.
.venv/bench: .venv/ready bench/requirements.lock
	@$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r bench/requirements.lock || \
	  $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r bench/requirements.lock
	@touch $@

# uv installs in seconds, pip in half a minute. pip takes over when uv cannot reach the package index, such as
# a mirror that only pip is configured for.
.venv/ready: requirements.lock bootstrap.lock pyproject.toml
	@echo "  installing the Python packages"
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed, this is $$(python3 --version)"; exit 1; }
	@python3 -m venv .venv || { echo "venv does not work here: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r bootstrap.lock
	@$(BIN)/uv pip sync -q --python $(BIN)/python --require-hashes requirements.lock || \
	  { echo "  uv cannot reach the package index: using pip (half a minute)"; false; } || \
	  $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation --offline -e .
	@$(BIN)/python -m compileall -q -j 0 .venv/lib || true
	@touch $@
