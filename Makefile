# One command for each thing one does here. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

setup: .venv/.stamp  ## make .venv: both packages and every development tool

.venv/.stamp: requirements/dev.txt operator/pyproject.toml runtime/pyproject.toml
	bash e2e/cluster/bootstrap.sh python
	python3 -m venv .venv
	$(PY) -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(PY) -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e operator -e runtime
	@touch $@

lint: setup  ## format check, lint, types, import layers
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

test: setup lint  ## lint, types, unit, integration and real-cluster tests: what CI runs
	.venv/bin/pytest tests e2e/cases

test-unit: setup  ## the unit tests alone
	.venv/bin/pytest tests/unit

e2e: setup  ## the cases on a real kind cluster alone
	.venv/bin/pytest e2e/cases

format: setup  ## format and fix what can be fixed
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

lock: setup  ## compile requirements/*.in to hashed lock files
	for f in runtime operator dev golden build; do (cd requirements && ../.venv/bin/uv pip compile -q --universal \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o $$f.txt $$f.in) || exit 1; done

golden:  ## compute the golden vectors again, with PyTorch in an environment of its own
	python3 -m venv build/golden-venv
	build/golden-venv/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements/golden.txt
	build/golden-venv/bin/python tests/golden/make.py

.PHONY: help setup lint test test-unit e2e format lock golden
