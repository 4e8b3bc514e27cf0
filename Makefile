# Every target works as the first command on a machine with python3 >= 3.11, make and a package registry.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UNFINISHED := $(VENV)/.unfinished

.PHONY: setup demo test e2e check bench bench-aborts bench-ingest bench-rollback bench-swap bench-trainer goldbed chaos chaos-outage servers services services-stop docs lock clean

setup: $(STAMP)

# What the demo may be given: make demo SEED=1 VOTES=coin METHOD=grpo PROFILE=full KEEP=1
DEMO := $(if $(SEED),--seed $(SEED)) $(if $(VOTES),--votes $(VOTES)) $(if $(METHOD),--method $(METHOD)) \
	$(if $(PROFILE),--profile $(PROFILE)) $(if $(KEEP),--keep)

demo: $(if $(filter full,$(PROFILE)),servers,setup)
	@$(BIN)/thumbwheel demo $(DEMO) --setup-s "$$(cat $(VENV)/.setup_s)"

# The suites that run the whole product for minutes have a target of their own. Two tests at a time: many start an engine.
MARKS ?= not chaos and not e2e
WORKERS ?= 2
test: check
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --cov --cov-report=term:skip-covered -m "$(MARKS)" $(TESTS)

e2e: setup
	@$(BIN)/python -m pytest -m "chaos or e2e" $(TESTS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Kafka, PostgreSQL and Redis on loopback ports of their own, for `thumbwheel up --profile full`.
KAFKA := $(shell sed -n 's/^VERSION = "\(.*\)"/\1/p' infra/services/kafka.py)
JARS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/thumbwheel/kafka-$(KAFKA)
servers: setup
	@sh infra/deploy/install_services.sh "$(KAFKA)" "$(JARS)"

services: servers
	@$(BIN)/thumbwheel services start

services-stop: setup
	@$(BIN)/thumbwheel services stop

# make bench NAME=gateway_bench: one of tests/bench/
NAME ?= gateway_bench
bench: setup
	$(BIN)/python -m tests.bench.$(NAME)

# Kafka to PostgreSQL beside kafka-python alone, into .thumbwheel/bench/ingest.json
bench-ingest: servers
	$(BIN)/python -m tests.bench.ingest

# Swaps of the adapter under streaming load, on two engines, into .thumbwheel/bench/swap.json: make bench-swap SWAPS=20
bench-swap: setup
	$(BIN)/python -m tests.bench.swap $(if $(SWAPS),--swaps $(SWAPS))

# A rollback's way to four gateway processes, into .thumbwheel/bench/rollback.json: make bench-rollback ROLLBACKS=100
bench-rollback: setup
	$(BIN)/python -m tests.bench.rollback $(if $(ROLLBACKS),--rollbacks $(ROLLBACKS))

# What stops planted regressions that gates let through, into .thumbwheel/bench/aborts.json: make bench-aborts ONLY=verbose
bench-aborts: setup
	$(BIN)/python -m tests.bench.aborts $(if $(ONLY),--only $(ONLY))

# Our trainer beside TRL, into .thumbwheel/bench/trainer.json: make bench-trainer METHODS=dpo,grpo SIZES=4m MIXES=long
# With DEVICE=cuda $(PYTHON) runs it, on a machine that brings torch, transformers, peft and trl along.
TRAINER := $(foreach name,METHODS SIZES MIXES ROUNDS STEPS DEVICE THREADS,$(if $($(name)),--$(shell echo $(name) | tr A-Z a-z) $($(name))))
bench-trainer: $(if $(filter cuda,$(DEVICE)),,setup)
	$(if $(filter cuda,$(DEVICE)),$(PYTHON),$(BIN)/python) -m tests.bench.trainer $(TRAINER)

# What each method learns against a known gold reward, and when each starts to fool its reward model: make goldbed SEEDS="0"
SEEDS ?= 0 1 2
goldbed: setup
	$(BIN)/python -m tests.goldbed.learning --seeds $(SEEDS)
	$(BIN)/python -m tests.goldbed.overoptimise --seeds $(SEEDS)

# Strikes every process and server under load, and counts: make chaos FAULTS=100 SEED=1
FAULTS ?= 100
chaos: servers
	@$(BIN)/python -m tests.chaos.driver --faults $(FAULTS) --seed $(or $(SEED),1)

# Kafka is away for so many seconds while clients chat and vote.
OUTAGE_S ?= 600
chaos-outage: servers
	OUTAGE_S=$(OUTAGE_S) CI=true $(BIN)/python -m pytest -s -m chaos tests/chaos/test_outage.py

# Pages that are made from the code; a test fails where they are not current.
docs: setup
	$(BIN)/python -m infra.settings_page > docs/settings.md
	$(BIN)/python -m infra.contracts.schemas docs/schemas

# After a change of the dependencies in pyproject.toml. The lock holds names and versions, no addresses.
lock: setup
	$(BIN)/uv pip compile pyproject.toml --group dev --extra engine-cpu --extra demo --no-annotate --no-emit-index-url \
		-o requirements.lock

# Stops what runs, then removes state and caches; the environment stays.
clean:
	@if [ -x $(BIN)/thumbwheel ]; then $(BIN)/thumbwheel down; $(BIN)/thumbwheel --home .thumbwheel/demo down; fi || true
	rm -rf .thumbwheel .coverage .coverage.* htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find gateway feedback trainer serving infra tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): requirements.lock pyproject.toml infra/deploy/install.sh
	@PYTHON="$(PYTHON)" sh infra/deploy/install.sh "$(VENV)"
