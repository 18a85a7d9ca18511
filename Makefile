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
	$(BIN)/pytest

# The two trainings run side by side, one core each: faster on two cores than one after the other.
demo: setup
	mkdir -p runs/demo
	OMP_NUM_THREADS=1 $(BIN)/python train.py --config configs/train/demo.yaml --kimg $(DEMO_KIMG) \
	  --out runs/demo/vanilla $(if $(wildcard runs/demo/vanilla/settings.json),--resume) & \
	OMP_NUM_THREADS=1 $(BIN)/python train.py --config configs/train/demo.yaml --kimg $(DEMO_KIMG) --rtil \
	  --out runs/demo/rtil $(if $(wildcard runs/demo/rtil/settings.json),--resume) > runs/demo/rtil.log 2>&1; \
	status=$$?; wait $$! && exit $$status
	$(BIN)/python eval.py --config configs/eval/demo.yaml \
	  --checkpoints vanilla=runs/demo/vanilla rtil=runs/demo/rtil

clean:
	rm -rf $(VENV) build dist *.egg-info
