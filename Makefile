# One stamp file says that .venv holds exactly what constraints.txt pins.
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.installed
EDF ?=
# each file by one of two processes: what its tests share is made once; schemathesis is for attacks
UNIT := $(BIN)/pytest -p no:schemathesis -n 2 --dist loadfile tests/unit

export OMP_NUM_THREADS ?= 1
# in the environment, so that isolated builds obey the pins too
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: help setup demo test unit integration attacks browser endurance object-store reproduce-smoke check bench-ingest format openapi clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: $(STAMP)  ## make .venv from pinned versions

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv || python3 -m venv .venv
	$(BIN)/python -c "import sys; assert (3, 11) <= sys.version_info[:2] < (3, 13), 'Python 3.11 or 3.12 is needed'"
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0 setuptools wheel
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[ray,dev]'
	@touch $(STAMP)

demo: $(STAMP)  ## the whole walk on simulated nights; EDF=file.edf embeds your own recording
	$(BIN)/sleepmami demo demo-out $(if $(EDF),--edf "$(EDF)")

test: check integration  ## everything that CI runs, under 20 minutes on two cores
	$(BIN)/pytest tests/attacks -m 'not slow'

check: $(STAMP)  ## format, lint, types, unit tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(UNIT)

unit: $(STAMP)  ## unit tests only: no Ray, network or GPU
	$(UNIT)

integration: $(STAMP)  ## Ray, Train, Serve, jobs, and the walk end to end
	$(BIN)/pytest tests/integration tests/e2e

attacks: $(STAMP)  ## hostile payloads, a planted name, routes without a key; and, minutes more, schemathesis
	$(BIN)/pytest tests/attacks

browser: $(STAMP)  ## the page at / in Chromium, which has to be there (CHROMIUM=path)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[browser]'
	$(BIN)/pytest tests/browser

endurance: $(STAMP)  ## the long fault tests: fuzz, kills, flipped bytes
	$(BIN)/pytest -m endurance tests

object-store: $(STAMP)  ## the walk with every folder in an S3 server on this machine
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[s3test]'
	$(BIN)/pytest -m endurance tests/endurance/test_object_store.py

reproduce-smoke: $(STAMP)  ## the commands of docs/reproduce_paper.md on a simulated folder, some minutes
	$(BIN)/python benchmarks/reproduce_smoke.py reproduce-out

bench-ingest: $(STAMP)  ## ours against MNE and scipy, 15 minutes
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(BIN)/python benchmarks/bench_ingest.py --json benchmarks/results/ingest_2core_cpu.json

format: $(STAMP)  ## rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

openapi: $(STAMP)  ## write the HTTP contract again after changing it on purpose
	$(BIN)/python -m serve_apps.openapi

clean:  ## remove what the targets above made
	rm -rf .venv demo-out reproduce-out build *.egg-info
