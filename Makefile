# Everything a checkout needs: Python 3.11 or later, pip and make. `make` alone lists the targets.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=

# An environment that is there is used as it is, unless another interpreter is asked for by name.
NAMED := $(if $(filter file,$(origin PYTHON)),,named)
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEVELOPED := $(VENV)/.developed
SOURCES := pyproject.toml requirements.lock requirements-minilm.txt hatch_build.py src/antiphon/lane/native.c

.DEFAULT_GOAL := help
.PHONY: help install run services test sample lint sim budget bench lock docs wheel-check clean FORCE

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo '  PYTHON=python3.12 chooses the interpreter, VENV=.venv-3.12 another environment'

run: $(INSTALLED) ## start the server, place one sample call and show it (ARGS=--once ends after it)
	@$(BIN)/antiphon serve --sample-call $(ARGS)

services: $(INSTALLED) ## start stt, intent, rag, tts and the orchestrator as five processes (ARGS=--once places one call)
	@$(BIN)/antiphon service all $(ARGS)

test: $(DEVELOPED) ## run all tests (ARGS="tests/kernel -k floor" chooses)
	@sh scripts/tests.sh $(BIN)/python $(ARGS)

sample: $(DEVELOPED) ## the sample call of `make run`, and all that it shows, looked at
	@$(BIN)/python -m pytest -m long

lint: $(DEVELOPED) ## style, types, import directions, sizes
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python scripts/rooms.py

sim: $(DEVELOPED) ## ten thousand made-up calls on virtual time: none may break a rule
	@$(BIN)/antiphon sim --calls 6000 --faults
	@$(BIN)/antiphon sim --calls 4000

budget: $(DEVELOPED) ## count the instructions of the hot functions (needs valgrind): a tenth more than allowed fails
	@$(BIN)/python -m bench.budget

bench: $(DEVELOPED) ## how many calls one core carries (ARGS=--smoke: does it work at all)
	@$(BIN)/python -m bench $(ARGS)

docs: $(DEVELOPED) ## write anew what is made from the code: settings, chart, picture, API snapshot
	@$(BIN)/python scripts/written.py

wheel-check: $(DEVELOPED) ## build the wheel, install it into an empty environment and place a call with it
	@$(BIN)/python scripts/wheel_check.py

lock: $(VENV)/bin/python ## choose the versions in requirements.lock anew
	@$(BIN)/python scripts/lock.py

install: $(INSTALLED) ## make the environment and install Antiphon with its offline speech

clean: ## remove the environment and what was built (recorded calls stay)
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(BIN)/python: FORCE
	@sh scripts/venv.sh "$(PYTHON)" "$(VENV)" $(NAMED)

$(INSTALLED): $(SOURCES) scripts/install.py | $(BIN)/python
	@echo 'installing Antiphon and its offline speech (about 130 MB, once)' >&2
	@$(BIN)/python scripts/install.py local
	@touch $@

$(DEVELOPED): $(SOURCES) scripts/install.py | $(BIN)/python
	@echo 'installing Antiphon, its offline speech and what its tests need (once)' >&2
	@$(BIN)/python scripts/install.py local dev
	@touch $@ $(INSTALLED)
