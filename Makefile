# `make setup` creates .venv and installs; `make test` checks everything; `make demo` trains, inverts and compares.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_KIMG ?= 60

.PHONY: setup test demo clean

setup: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: set PYTHON=...')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	-$(BIN)/python -m rtil.weights lpips
	$(BIN)/pytest

# The two trainings run side by side, one core each: faster on two cores than one after the other. What was interrupted
# goes on where it stopped.
DEMO_RESUME = $(if $(wildcard runs/demo/$(1)/settings.json),--resume)

demo: setup
	mkdir -p runs/demo
	OMP_NUM_THREADS=1 $(BIN)/python train.py --config configs/train/demo.yaml --kimg $(DEMO_KIMG) --rtil \
	  --out runs/demo/rtil $(call DEMO_RESUME,rtil) > runs/demo/rtil.log 2>&1 & rtil=$$!; \
	OMP_NUM_THREADS=1 $(BIN)/python train.py --config configs/train/demo.yaml --kimg $(DEMO_KIMG) \
	  --out runs/demo/vanilla $(call DEMO_RESUME,vanilla) || { kill $$rtil; exit 2; }; \
	wait $$rtil || { tail -n 3 runs/demo/rtil.log >&2; exit 2; }
	$(BIN)/python eval.py --config configs/eval/demo.yaml --out runs/demo/eval $(call DEMO_RESUME,eval) \
	  --checkpoints vanilla=runs/demo/vanilla rtil=runs/demo/rtil

clean:
	rm -rf $(VENV) build dist *.egg-info
