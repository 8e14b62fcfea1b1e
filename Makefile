# Everything a user or a developer calls. `make` alone lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NODE_TOOLS := clients/browser/node_modules/.installed
.DEFAULT_GOAL := help
.PHONY: help setup dev bench test extra proof coverage compose-test check fix perf soak injuries notebook requirements clean

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# One stamp per requirement file: a changed pin reinstalls, an unchanged one costs nothing.
$(VENV)/.run: requirements/run.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tokenderby needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { echo "no venv module: on Debian, apt install python3-venv"; exit 1; }
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/run.txt -r requirements/build.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

setup: $(VENV)/.run  ## make .venv with pinned dependencies and the tokenderby command
	@$(if $(filter setup,$(MAKECMDGOALS)),echo "Next: . $(BIN)/activate && tokenderby doctor")

dev: $(VENV)/.dev  ## the same with Locust, JupyterLab and what the tests need

bench: setup  ## run the quick plan: prints the table and the path of the report (under 3 minutes)
	$(BIN)/tokenderby run quick

# Tests of clocks may be late once on a busy machine: what failed is tried once more, alone, and what fails again has failed.
define tried_twice
$(BIN)/python -m pytest $(1) || { test $$? -eq 1 && $(BIN)/python -m pytest --last-failed --last-failed-no-failures none --maxfail 1 $(2); }
endef

# Four at a time, by file, since half of a test's time is waiting; then those that set two programs' clocks side by side.
SIDE_BY_SIDE := -m 'not compose and not proof and not extra and not alone'
ALONE := -m 'alone and not proof and not extra'
test: $(VENV)/.dev $(NODE_TOOLS)  ## every test (under 10 minutes)
	$(call tried_twice,$(SIDE_BY_SIDE) -n 4 --dist loadfile --no-loadscope-reorder,$(SIDE_BY_SIDE))
	$(call tried_twice,$(ALONE),$(ALONE))

# Not part of `make test`: the tracing costs about as much processor time again, in the servers too.
coverage: $(VENV)/.dev  ## the tests that run four at a time, and how much of the code they reach (with a floor)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(SIDE_BY_SIDE) -n 4 --dist loadfile --no-loadscope-reorder
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

extra: $(VENV)/.dev  ## what `make test` has no time for: more of the same kinds (about 2 minutes)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m extra

# It mostly waits, so that it can run beside compose-test: a memory of its own says what failed.
PROOF := -m proof -o cache_dir=.pytest_cache/proof tests/bench/probe/test_blind.py
proof: $(VENV)/.dev  ## every shipped profile, and real nginx and HAProxy, found out by a probe told nothing (under 4 minutes)
	$(call tried_twice,$(PROOF),$(PROOF))

compose-test: $(VENV)/.dev  ## the quick plan through docker compose (needs an engine)
	$(call tried_twice,-m compose -n 3 --dist loadfile tests/compose,-m compose tests/compose)

# What checks the browser's module: three tools, whose versions package.json pins. No npm, no check (it says so).
$(NODE_TOOLS): clients/browser/package.json
	@if command -v npm >/dev/null; then cd $(@D)/.. && npm install --silent --no-audit --no-fund --ignore-scripts && touch ../../$@; fi

check: $(VENV)/.dev $(NODE_TOOLS)  ## format, lint, types, import rules and the like (.pre-commit-config.yaml)
	$(BIN)/pre-commit run --all-files

fix: $(VENV)/.dev  ## format, mend what the linter can, give Compose every transport
	$(BIN)/python scripts/compose_services.py
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

perf: setup  ## what the harness itself costs, beside the floor of this machine (about 9 minutes; ARGS=--record keeps the figures)
	$(BIN)/python -m bench.selfcost $(ARGS)

soak: setup  ## load and faults on every server and the proxy, on loopback only (about 11 minutes; ARGS=--quick: under 2)
	$(BIN)/python -m bench.soak $(ARGS)

injuries: setup  ## disturb runs on purpose, and see each disturbance caught (about 4 minutes; ARGS="--times 20")
	$(BIN)/python -m bench.injuries $(ARGS)

requirements:  ## pin the dependencies anew (needs uv)
	uv pip compile pyproject.toml -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --upgrade --extra dev -o requirements/dev.txt
	uv pip compile pyproject.toml -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -c requirements/dev.txt -o requirements/run.txt
	uv pip compile pyproject.toml -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --extra locust --extra notebook -c requirements/dev.txt -o requirements/container.txt
	uv pip compile pyproject.toml -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --extra stacks -c requirements/dev.txt -o requirements/stacks.txt
	uv pip compile pyproject.toml -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --extra browser -c requirements/dev.txt -o requirements/browser.txt
	printf 'hatchling\neditables\n' | uv pip compile - -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -c requirements/dev.txt -o requirements/build.txt

# Jupyter does not start as root unless it is told to; in a container root is the only user there may be.
notebook: $(VENV)/.dev  ## open results/review.ipynb in JupyterLab
	$(BIN)/jupyter lab $$([ "$$(id -u)" -ne 0 ] || echo --allow-root) results/review.ipynb

clean:  ## remove the environment and the caches, keep results
	rm -rf $(VENV) clients/browser/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* build dist
