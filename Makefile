# One command for each thing one does here. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
LABEL ?= latest

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

demo:  ## from whatever this machine has to vectors out of a real cluster
	@bash e2e/cluster/bootstrap.sh python
	@python3 -m e2e.demo

demo-clean:  ## remove the demo's cluster; the caches stay
	@python3 -m e2e.cluster down --name embedding-operator

demo-purge:  ## remove every cluster, image and cache that demo and tests have left
	@python3 -m e2e.cluster purge --name embedding-operator

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
	@$(MAKE) --no-print-directory -j2 test-here e2e

# Beside the cases on the cluster, which wait for most of their time; what it says is shown when it has ended.
test-here: setup  ## the unit and the integration tests
	@mkdir -p build; .venv/bin/pytest tests >build/test-here.log 2>&1 || { cat build/test-here.log; exit 1; }
	@tail -n 1 build/test-here.log

test-unit: setup  ## the unit tests alone
	.venv/bin/pytest tests/unit

e2e: setup  ## the cases on a real kind cluster alone
	.venv/bin/pytest e2e/cases

e2e-up:  ## the cluster that the cases run on, or what is missing of it
	@bash e2e/cluster/bootstrap.sh python
	@python3 -m e2e.cluster up --name embedding-operator-e2e

e2e-down:  ## remove the cluster that the cases run on
	@python3 -m e2e.cluster down --name embedding-operator-e2e

images:  ## build the two images with docker's usual names for this version
	DOCKER_BUILDKIT=$$(docker buildx version >/dev/null 2>&1 && echo 1 || echo 0); export DOCKER_BUILDKIT; \
	docker build -f Dockerfile.operator -t embedding-operator:0.1.0 . && \
	docker build -f Dockerfile.runtime -t embedding-runtime:0.1.0-cpu .

format: setup  ## format and fix what can be fixed
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

generate: setup  ## write docs/crd.md, docs/models.md and the tables of docs/configuration.md from their sources
	$(PY) docs/generate

lock: setup  ## compile requirements/*.in to hashed lock files
	for f in runtime openvino operator dev golden build bench gpu clients token-ids; do (cd requirements && ../.venv/bin/uv pip compile -q --universal \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o $$f.txt $$f.in) || exit 1; done

golden:  ## compute the golden vectors again, with PyTorch in an environment of its own
	python3 -m venv build/golden-venv
	build/golden-venv/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements/golden.txt
	build/golden-venv/bin/python tests/golden/make.py

bench: setup build/bench-venv/.stamp  ## throughput, latency, mixed load, scaling, memory, start: bench/results/serving/$(LABEL).*
	$(PY) -m bench.suite --label $(LABEL)
	build/bench-venv/bin/python bench/plots.py bench/results/serving/$(LABEL).json

bench-gpu: build/gpu-venv/.stamp  ## on a machine with a GPU: the marked tests, then bench/results/gpu.json
	build/gpu-venv/bin/python -m pytest -q -m gpu tests/gpu
	build/gpu-venv/bin/python -m bench.gpu

build/gpu-venv/.stamp: requirements/dev.txt requirements/gpu.txt
	python3 -m venv build/gpu-venv
	build/gpu-venv/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	build/gpu-venv/bin/pip uninstall -q -y onnxruntime
	build/gpu-venv/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements/gpu.txt
	build/gpu-venv/bin/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e operator -e runtime
	@touch $@

build/bench-venv/.stamp: requirements/bench.txt
	python3 -m venv build/bench-venv
	build/bench-venv/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@

.PHONY: help demo demo-clean demo-purge setup lint test test-here test-unit e2e e2e-up e2e-down images format generate lock golden bench bench-gpu
