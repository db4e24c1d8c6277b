# One command for each chore. Each sets up its requirements, also on a fresh machine.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
DEMO   ?= .venv-demo
DOCS   ?= .venv-docs
PACK   ?= .venv-package
PIP    := -q --disable-pip-version-check

BEHAVIOUR := tests/engine/behaviour

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-library test-engine test-behaviour test-operator test-fleets test-topologies test-prometheus chaos e2e check package format images bench bench-full first-minute crd dashboard browser docs reference simulate lock

help:  ## list the chores
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

venv: $(VENV)/.dev  ## the development environment, pinned and hashed

$(VENV)/.dev: requirements/dev.txt requirements/build.txt examples/thumbnails/photos.txt examples/postgres/postgresql.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "taskfleet needs Python 3.11 or newer: make PYTHON=python3.13 …" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install $(PIP) --require-hashes -r requirements/build.txt -r requirements/dev.txt
	@$(BIN)/pip install $(PIP) --require-hashes --no-deps -r examples/thumbnails/photos.txt -r examples/postgres/postgresql.txt
	@$(BIN)/pip install $(PIP) --no-deps --no-build-isolation -e .
	@touch $@

demo: $(DEMO)/.ready  ## a burst of real tasks on this machine with a fleet that scales; needs only Python
	@$(DEMO)/bin/python examples/thumbnails/demo.py

$(DEMO)/.ready: requirements/demo.txt requirements/build.txt examples/thumbnails/photos.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "taskfleet needs Python 3.11 or newer: make PYTHON=python3.13 …" >&2; exit 2; }
	@test -x $(DEMO)/bin/python || $(PYTHON) -m venv $(DEMO)
	@echo "demo: installing into $(DEMO) (once)"
	@$(DEMO)/bin/pip install $(PIP) --require-hashes -r requirements/build.txt -r requirements/demo.txt
	@$(DEMO)/bin/pip install $(PIP) --require-hashes --no-deps -r examples/thumbnails/photos.txt
	@$(DEMO)/bin/pip install $(PIP) --no-deps --no-build-isolation -e .
	@touch $@

check: venv  ## format, lint, two type checkers, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/basedpyright
	$(BIN)/lint-imports

package: $(PACK)/.ready  ## the wheel and the source distribution, in dist/, and whether an index would take them
	@rm -rf dist
	@$(PACK)/bin/python -m build --no-isolation --quiet
	@$(PACK)/bin/twine check --strict dist/*

$(PACK)/.ready: requirements/package.txt
	@test -x $(PACK)/bin/python || $(PYTHON) -m venv $(PACK)
	@$(PACK)/bin/pip install $(PIP) --require-hashes -r requirements/package.txt
	@touch $@

format: venv  ## apply the fixes of the formatter and the linter
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Four at a time: most tests wait, for a lease, a backoff or a pod. The longest begin first.
TIERS := test-engine test-fleets test-operator test-library test-topologies test-behaviour test-prometheus

test: venv  ## unit, engine (a real Valkey) and control plane (a real API server); no root, no containers
	@$(MAKE) --no-print-directory --jobs=4 --output-sync=target $(TIERS)

test-library: venv  ## what has a folder of its own in tests: unit, dashboard, browser, integrations, package, docs, chaos
	@sh tests/browser/install.sh
	$(BIN)/python -m pytest tests $(patsubst %,--ignore=tests/%,engine controlplane prometheus)

test-engine: venv  ## the queue and its command on a real Valkey
	$(BIN)/python -m pytest tests/engine --ignore=$(BEHAVIOUR)

test-behaviour: venv  ## what a task and its caller see, on a real Valkey
	$(BIN)/python -m pytest $(BEHAVIOUR)

# The tests whose pods are real workers, in a run of their own beside the others.
FLEETS := $(wildcard $(patsubst %,tests/controlplane/test_%.py, \
	busy_pods lost_node real_workers restart_of_many rights rollout rotation survival))

test-fleets: venv  ## the operator on a real API server, with real workers as its pods
	$(BIN)/python -m pytest $(FLEETS)

test-operator: venv  ## the operator on a real API server
	$(BIN)/python -m pytest tests/controlplane $(FLEETS:%=--ignore=%)

test-prometheus: venv  ## alerts and dashboards, on a real Prometheus that scrapes a real fleet
	@sh tests/prometheus/install.sh
	$(BIN)/python -m pytest tests/prometheus

# The behaviour tests again on a Cluster and on another server, where results could differ.
test-topologies: venv  ## the queue's behaviour on a Cluster, and on another Redis: OTHER_REDIS, the system's, or Debian's
	$(BIN)/python -m pytest $(BEHAVIOUR) --redis-topology=cluster
	@if other=$${OTHER_REDIS:-$$($(BIN)/python -m tests.support.debian_redis)}; then set -x; \
		REDIS_SERVER=$$other $(BIN)/python -m pytest $(BEHAVIOUR) tests/engine/test_acl.py tests/engine/test_redis_failures.py; \
	else echo "NOT TESTED: another Redis; set OTHER_REDIS=/path/to/redis-server"; test "$$CI" != true; fi

chaos: venv  ## the crash suite: 200,000 tasks, 210 faults, nothing lost; about 6 minutes
	$(BIN)/python -m tests.chaos $(CHAOS)

e2e: venv  ## a real kind cluster: images, Helm, pods (root; about 10 minutes the first time)
	$(BIN)/python -m pytest e2e --timeout 3600

images: venv  ## taskfleet-worker:dev, taskfleet-operator:dev, taskfleet-thumbnails:dev
	$(BIN)/python -m e2e.cluster images

bench: venv  ## Taskfleet and ten other queues on the same Redis, in one run: the quick form, under 10 minutes
	$(BIN)/python -m bench --quick

bench-full: venv  ## every scenario of every queue, three times, 100,000 tasks; over an hour
	$(BIN)/python -m bench --tasks 100000 --repeat 3

first-minute: venv package  ## the README's first minute in a clean environment: the seconds of each command
	$(BIN)/python -m bench.first_minute dist/*.whl

crd: venv  ## write crds/taskqueue.yaml, the chart's copy and the reference page from the models
	$(BIN)/python -m taskfleet_operator.resource.crd > crds/taskqueue.yaml
	cp crds/taskqueue.yaml helm/taskfleet/files/taskqueue.yaml
	$(BIN)/python -m taskfleet_operator.resource.field_tables docs/reference/taskqueue.md

dashboard: venv  ## build the pages of the dashboard from dashboard/front: the same bytes on every machine; needs Node.js 20
	$(BIN)/python -m taskfleet_dashboard.openapi > dashboard/front/openapi.json
	cd dashboard/front && npm ci --ignore-scripts --no-audit --no-fund && npm run types && npm run check && npm run build

browser: venv  ## the tests of the dashboard in a real Chromium, which is installed on Debian as root
	sh tests/browser/install.sh
	$(BIN)/python -m pytest tests/browser

docs: $(DOCS)/.ready  ## the documentation as a site, in site/; a warning is an error
	@$(DOCS)/bin/python -m docs.tooling.site
	cd build/site && $(abspath $(DOCS))/bin/zensical build --strict --config-file zensical.toml
	@rm -rf site && mv build/site/site site && echo "site/index.html"

$(DOCS)/.ready: requirements/docs.txt
	@test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	@$(DOCS)/bin/pip install $(PIP) --require-hashes -r requirements/docs.txt
	@touch $@

reference: venv  ## write the generated parts of docs/reference from the code
	$(BIN)/python -m docs.tooling.reference

simulate: venv  ## the autoscaler beside KEDA and HPA in a hundred simulated worlds; writes docs/explanation/autoscaling.md
	$(BIN)/python -m taskfleet_operator.simulate matrix --page docs/explanation/autoscaling.md

lock: venv  ## pin requirements/*.txt again
	cd requirements && sh lock.sh
