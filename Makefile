# demo, test, check, bench: each installs what it needs into .venv first, in pinned versions.
# vendor: the newest modules that the dashboard is built on, from their npm packages.

BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

PYTEST := $(BIN)/python -m pytest -n 2 $(if $(CI),--color=no --durations=10)

# Stamps: what is installed in .venv is as new as these files.
RUNTIME := .venv/installed-runtime
DEV := .venv/installed-dev

.PHONY: demo test check bench vendor

# KEEP=1: it stays up until Ctrl-C.
demo: $(RUNTIME)
	@$(BIN)/python -m dtask.cli.demo $(if $(KEEP),--keep)

# Most tests wait for processes, disks and deadlines: two at a time take two thirds of the time.
# While a browser lives, its loop counts as running, and no other test of its process could run one.
test: check
	.ci/packages
	$(PYTEST) --dist=loadfile tests/dashboard
	$(PYTEST) --dist=worksteal --ignore=tests/dashboard

check: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(RUNTIME)
	$(BIN)/python bench/run_all.py

vendor:
	.ci/vendor

$(RUNTIME): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing dtask into .venv."
	@$(INSTALL) -e .
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[dev]'
	@touch $@ $(RUNTIME)

$(BIN)/python:
	@.ci/venv
