# `make demo` and `make test` are all that a fresh machine needs: each sets itself up and says what it does.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PLAYGROUND := $(VENV)/.playground
EXTRAS := aiogram,telegram-ext,telebot,telethon,pyrogram,redis,postgres,nats,mongo,encryption,compression,otel,cli,web,testing

.PHONY: demo test coverage test-lowest servers storage-servers lint audit bench bench-quick growth torture simulate soak fuzz docs clean
.DEFAULT_GOAL := test

$(READY): pyproject.toml playground/pyproject.toml | $(BIN)
	@echo "→ installing into $(VENV): chatsession and its playground in editable mode, with the development tools"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'  # knows groups
	@$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]' --editable playground --group dev
	@touch $@ $(PLAYGROUND)

$(BIN):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "chatsession needs Python 3.11 or newer; name one with: make PYTHON=python3.12 …"; exit 1; }
	@echo "→ making the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV)

demo:  ## python -m playground: the pizza bot against a Bot API server on 127.0.0.1 (or on Telegram, with BOT_TOKEN set)
	@$(PYTHON) -m playground

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m tools.private_imports

audit: $(READY)  ## known vulnerabilities in what this depends on
	@$(BIN)/python tools/audit.py

test: servers lint audit
	$(BIN)/pytest -n 4 --dist worksteal  # many tests wait for leases to run out: four keep two cores busy

coverage: servers $(READY)  ## how much of src/chatsession the tests run, by lines and branches, in every process they start
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 4 --dist worksteal $(COVERED)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

COVERED := tests/core tests/sync tests/storages tests/integrations tests/importers tests/cli tests/web

LOWEST := .venv-lowest

LOWEST_INSTALL := $(LOWEST)/bin/uv pip install --quiet --resolution lowest-direct --group lowest
# pytest-asyncio leaves a loop of its own before 1.4
LOWEST_TEST := -m pytest -o 'pythonpath=. playground/src' -W 'ignore:unclosed event loop:ResourceWarning' \
	-n 4 --dist worksteal

test-lowest: servers  ## with the lowest version of each dependency that pyproject.toml declares
	@$(PYTHON) -m venv $(LOWEST)
	@$(PYTHON) -m venv $(LOWEST)-aiogram
	@$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check uv
	@$(LOWEST_INSTALL) --python $(LOWEST)/bin/python --editable '.[$(EXTRAS)]'
	@$(LOWEST_INSTALL) --python $(LOWEST)-aiogram/bin/python --editable '.[aiogram,redis,mongo,cli,testing]'
	$(LOWEST)/bin/python $(LOWEST_TEST) tests/core tests/storages tests/integrations
	@# the aiohttp that telebot needs is too new for the lowest aiogram
	$(LOWEST)-aiogram/bin/python $(LOWEST_TEST) tests/integrations/test_aiogram*

servers:  ## the programs that the tests run against: Redis, PostgreSQL, NATS, MongoDB, Chromium, Node.js
	@tools/install-servers

storage-servers: $(READY) servers  ## one of each server, in temporary folders; prints the URLs, Ctrl-C stops them
	@$(BIN)/python -m tools.servers

docs: $(READY)  ## the documentation, into site/; warnings are errors
	@env $$($(BIN)/python hatch_build.py) $(BIN)/zensical build --clean --strict

clean:
	rm -rf $(VENV) $(LOWEST) $(LOWEST)-aiogram build dist site .pytest_cache .ruff_cache .hypothesis

bench: $(READY) servers  ## everything measured side by side with its rivals, in about 20 minutes; results in docs/benchmarks
	$(BIN)/python -m tools.benchmarks

bench-quick: $(READY) servers  ## the same, coarse, in about 3 minutes; results in build/benchmarks
	$(BIN)/python -m tools.benchmarks --quick

growth: $(READY) servers  ## how the cost of each step grows, up to ten million sessions; results in docs/benchmarks
	$(BIN)/python -m tools.benchmarks.growth

torture: $(READY) servers simulate  ## real processes on real servers, and what goes wrong with them; two hours and more
	$(BIN)/python -m tools.torture --report docs/torture
	$(BIN)/python -m tools.kills

simulate: $(READY)  ## thousands of simulated schedules of the core, each with its seed (SIMULATION_SEEDS of each kind)
	SIMULATION_SEEDS=$${SIMULATION_SEEDS:-2000} $(BIN)/pytest tests/simulation

soak: $(READY) servers  ## an hour at a steady load on every storage; results in docs/soak
	$(BIN)/python -m tools.soak

fuzz: $(READY)  ## everything that decodes bytes from outside, guided by coverage (FUZZ_SECONDS of each)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group fuzz
	$(BIN)/python -m tools.fuzz
