# Every target below with `##` is listed by plain `make`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3
DATA ?= ../shared/data
PEERS ?= ../shared/peers
WEIGHTS ?= $(wildcard ../shared/weights/mobilenet_v2_1.0_imagenet.npz $(PEERS)/yamnet.tflite)
VERIFIED ?=
RECIPE ?= model_export/recipes/rainforest.yaml
SHIPPED ?= docs/evaluation.json
SOURCE ?= demo
TARGET ?=
OUT ?= dist
WHEELS ?=
ONCE ?=
FUZZ_S ?= 60
BENCH_STATION ?=
KILLS ?= 100

# one environment for running, one with everything for tests and training, one for the fuzzer
RUN := .venv
DEV := .venv-dev
FUZZ := .venv-fuzz
RUN_READY := $(RUN)/.ready
DEV_READY := $(DEV)/.ready
FUZZ_READY := $(FUZZ)/.ready
export OPENBLAS_NUM_THREADS = 1

# a file of tests stays on one core, since what it sets up serves all of it
SIDE_BY_SIDE := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# the tests sync thousands of small files: in memory that takes a third of the time, and kill -9 loses nothing there
ifneq ($(wildcard /dev/shm/.),)
export PYTEST_DEBUG_TEMPROOT ?= /dev/shm
endif

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

define environment
	@echo "setting up $(1) (once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is too old: expected 3.11 or newer; try make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -m venv $(1) || { echo "cannot make a virtual environment: install python3-venv" >&2; exit 2; }
	@$(1)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r constraints/$(2).txt
	@touch $(1)/.ready
endef

$(RUN_READY): constraints/run.txt
	$(call environment,$(RUN),run)

$(DEV_READY): constraints/dev.txt
	$(call environment,$(DEV),dev)

$(FUZZ_READY): constraints/fuzz.txt
	$(call environment,$(FUZZ),fuzz)

setup: $(RUN_READY) ## Make the environment that `make run` needs

run: $(RUN_READY) ## Station, agent, a forest with a saw in it: the whole job here (ONCE=1, SOURCE=mic)
	@$(RUN)/bin/python -m deploy run --source $(SOURCE) $(if $(ONCE),--once)

test: $(DEV_READY) ## Run the whole suite, real data included where it is
	@$(DEV)/bin/python -m pytest --durations 10 $(SIDE_BY_SIDE)

check: $(DEV_READY) format-check lint types ## Format, lint, types and the fast tests: before each commit
	@$(DEV)/bin/python -m pytest -q -m "not slow and not browser"

format: $(DEV_READY) ## Format the code
	@$(DEV)/bin/ruff format .

format-check: $(DEV_READY)
	@$(DEV)/bin/ruff format --check --quiet .

lint: $(DEV_READY) ## Lint; also keeps training packages out of the agent
	@$(DEV)/bin/ruff check --quiet .

types: $(DEV_READY) ## mypy strict everywhere, pyright strict on the agent
	@$(DEV)/bin/mypy
	@$(DEV)/bin/pyright --pythonpath $(DEV)/bin/python >/tmp/pyright.$$$$ || { cat /tmp/pyright.$$$$; rm /tmp/pyright.$$$$; exit 1; }; rm -f /tmp/pyright.$$$$

coverage: $(DEV_READY) ## Branch coverage of the suite
	@$(DEV)/bin/python -m pytest -q --cov --cov-report=term-missing:skip-covered

pythons: $(DEV_READY) ## Run the agent's tests on every CPython from 3.11 to 3.14 at hand
	@bash tests/pythons.sh

torture: $(DEV_READY) ## The fault suite at length: kills, bad links, full disks, a day of sound (20 minutes at most)
	@$(DEV)/bin/python -m tests.torture

fuzz: $(FUZZ_READY) ## Coverage-guided fuzzing of all that reads foreign bytes (FUZZ_S=60 for each reader)
	@$(FUZZ)/bin/python -m tests.fuzz --seconds $(FUZZ_S)

fuzz-api: $(DEV_READY) ## Schemathesis against a running station, with every credential (FUZZ_S=60 for each)
	@$(DEV)/bin/python -m tests.fuzz_api --seconds $(FUZZ_S)

bench: $(DEV_READY) ## The agent against the tutorials' way and YAMNet, same audio, one run
	@$(DEV)/bin/python -m tests.bench --peers $(PEERS)

bench-station: $(DEV_READY) ## The station under load, on SQLite and PostgreSQL (BENCH_STATION="--alerts 1000000 --beat-seconds 600" at length)
	@$(DEV)/bin/python -m tests.station_bench $(BENCH_STATION)

kill-station: $(DEV_READY) ## kill -9 of the station during ingest, 100 times (KILLS=100): is every acknowledged alert there?
	@$(DEV)/bin/python -m tests.station_kills --kills $(KILLS)

bench-incidents: $(DEV_READY) ## Incidents against the truth, on simulated forests
	@$(DEV)/bin/python -m tests.forests

evaluate: $(DEV_READY) ## Four-fold cross-validation of RECIPE, through the agent: tables, JSON, a page (hours; resumable)
	@mkdir -p var/evaluation
	@$(DEV)/bin/python -m model_export crossval --recipe $(RECIPE) --data $(DATA) $(addprefix --weights ,$(WEIGHTS)) $(if $(VERIFIED),--verified $(VERIFIED)) \
		$(if $(wildcard $(PEERS)/.),--peers $(PEERS)) $(if $(BESIDE),--beside $(BESIDE)) --json var/evaluation/crossval.json --html var/evaluation/crossval.html \
		--markdown var/evaluation/crossval.md --gate --rules var/evaluation/rules.json

release-check: $(DEV_READY) ## Is the recipe that `make evaluate` judged worse than the SHIPPED one? Then exit 1
	@$(DEV)/bin/python -m model_export release-check --shipped $(SHIPPED) --candidate var/evaluation/crossval.json

export-tflite: $(DEV_READY) ## Train, export and check a model: DATA=folder WEIGHTS="files" RECIPE=file VERIFIED=folder
	@$(DEV)/bin/python -m model_export export-tflite --recipe $(RECIPE) --data $(DATA) $(addprefix --weights ,$(WEIGHTS)) $(if $(VERIFIED),--verified $(VERIFIED))

flash: $(RUN_READY) ## Make listeners of all phones on the cables: FLEET=file APKS=folder (docs/fleet.md)
	@$(RUN)/bin/python -m deploy flash $(FLEET) --apks $(APKS)

wheel: $(DEV_READY) ## Build the wheel
	@$(DEV)/bin/python -m pip wheel --quiet --no-deps --wheel-dir dist .

bundle: $(DEV_READY) ## Everything one kind of device needs, as one file that installs offline: TARGET=pi64-bookworm
	@$(DEV)/bin/python -m deploy bundle --target $(or $(TARGET),$(error TARGET=NAME is missing; `python -m deploy bundle --help` lists them)) --out $(OUT) $(if $(WHEELS),--wheels $(WHEELS))

lock: ## Pin all dependencies anew, with hashes, for every platform (needs uv)
	@bash constraints/lock.sh

clean: ## Remove what was built; keeps var/ (databases, caches)
	@rm -rf $(RUN) $(DEV) $(FUZZ) dist build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: help setup run test check format format-check lint types coverage pythons torture fuzz fuzz-api bench bench-station bench-incidents kill-station evaluate release-check export-tflite flash wheel bundle lock clean
