# `make help` lists the targets.
SHELL := /bin/bash
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
AT_RANDOM = $(shell grep -rl "import trials" tests)
NODE_PACKAGES := tests/interop/node_modules/.package-lock.json
FLAGD_CORE_1 := .venv/flagd-core-1/.installed
export PYTHONPATH := .

.DEFAULT_GOAL := help
.PHONY: help run test check static quick contracts faults bench up format lock docs audit sbom clean

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: .venv/app ## serve on http://127.0.0.1:8082 with everything embedded
	@LOG_FORMAT=$${LOG_FORMAT:-text} $(BIN)/python -m app serve

test: .venv/dev ## run every test, with real servers
	$(BIN)/python -m tests.servers.prepare
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --durations=20

check: .venv/dev ## format, lint, types, imports, spelling, tests without servers (under a minute)
	@$(MAKE) --no-print-directory -j 2 static quick

static:
	$(BIN)/ruff format --check -q .
	$(BIN)/ruff check -q .
	$(BIN)/mypy
	$(BIN)/mypy --python-version 3.10 core/src sdk/src
	$(BIN)/lint-imports > /dev/null || $(BIN)/lint-imports
	$(BIN)/codespell

quick: export PYTHONDONTWRITEBYTECODE :=# rewriting the assertions anew is a third of collecting
quick:
	PILOTHOUSE_TRIALS=few $(BIN)/python -m pytest -q -n 3 --dist loadfile -m 'not servers and not slow and not faults'

contracts: .venv/dev ## run the contract suites that every adapter passes
	$(BIN)/python -m pytest -q tests/contracts

faults: .venv/dev ## kill, freeze and cut off real processes, check every model, and run more random examples, others each time
	PILOTHOUSE_FAULTS=whole $(BIN)/python -m pytest -q tests/faults tests/models $(AT_RANDOM)

bench: .venv/dev ## run the benchmarks and print a table
	$(BIN)/python -m benchmarks

up: ## start the service with Vault, Postgres, Redis, Kafka and ZooKeeper in containers
	docker compose up --build --wait

format: .venv/dev ## format the code
	$(BIN)/ruff format -q .
	$(BIN)/ruff check -q --fix .

docs: .venv/dev ## write the generated reference pages
	$(BIN)/python -m tests.docs.generate

lock: .venv/dev ## pin the packages of requirements/*.in
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --upgrade requirements/app.in -o requirements/app.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header requirements/dev.in -c requirements/app.txt -o requirements/dev.txt

audit: .venv/dev ## check the pinned packages for known vulnerabilities; requirements/waivers.json lists waived ones
	$(BIN)/python -m tests.house.weaknesses

sbom: .venv/dev ## write the bill of materials (CycloneDX) to dist/sbom.json
	mkdir -p dist
	$(BIN)/cyclonedx-py requirements --output-reproducible --output-file dist/sbom.json requirements/app.txt

clean: ## remove what make created
	rm -rf .venv tests/interop/node_modules .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist

.venv/app: requirements/app.txt core/pyproject.toml sdk/pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/app.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e core -e sdk
	@touch $@

.venv/dev: requirements/dev.txt .venv/app $(NODE_PACKAGES) | $(FLAGD_CORE_1)
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

$(NODE_PACKAGES): tests/interop/package.json tests/interop/package-lock.json
	@command -v npm > /dev/null || { echo "Node 20 or newer with npm is needed for the tests"; exit 1; }
	npm ci --prefix tests/interop --prefer-offline --no-audit --no-fund --ignore-scripts --loglevel=error
	@touch $@

$(FLAGD_CORE_1): requirements/flagd-core-1.txt | .venv/app
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes --no-deps --target $(@D) --upgrade -r $<
	@touch $@
