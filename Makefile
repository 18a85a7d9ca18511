# `make setup` creates .venv and installs; `make test` checks everything; `make demo` trains, inverts and compares.
# `make lock` says anew what `setup` installs; `make test-lowest`, `make test-newest`: quick tests beside it, in venvs of
# their own (docs/installs.md).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup test test-lowest test-newest lock demo site clean

# $(call install,VENV,OPTIONS): setuptools builds this package, so it comes first and from the same list.
define install
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: set PYTHON=...')"
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check $(2) setuptools
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check $(2) --no-build-isolation --editable ".[dev]"
endef

# A process for each core, up to four, each with one thread; the tests of a file stay together.
PARALLEL = --numprocesses auto --maxprocesses 4 --dist loadfile
test test-lowest test-newest: export OMP_NUM_THREADS = 1

setup: $(VENV)/installed

$(VENV)/installed: pyproject.toml lock.txt
	$(call install,$(VENV),--constraint lock.txt)
	touch $@

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	-$(BIN)/rtil weights lpips
	$(BIN)/pytest $(PARALLEL)

test-lowest:
	$(call install,.venv-lowest,--constraint lock-lowest.txt)
	.venv-lowest/bin/pytest $(PARALLEL) -m "not slow"

test-newest:
	$(call install,.venv-newest,--upgrade --upgrade-strategy eager)
	.venv-newest/bin/pytest $(PARALLEL) -m "not slow"

# The newest releases that go together, with the TORCH that was tried; and the lower bounds of pyproject.toml.
TORCH ?= torch==2.14.1 torchvision==0.29.1
COMPILE = build/lock/bin/uv pip compile pyproject.toml --quiet --upgrade --extra dev --python-version 3.11 \
  --no-annotate --custom-compile-command "make lock"

lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	printf '%s\n' $(TORCH) > build/lock/torch.txt
	$(COMPILE) --universal --constraint build/lock/torch.txt --output-file lock.txt
	$(COMPILE) --resolution lowest-direct --python-platform x86_64-manylinux_2_28 --output-file lock-lowest.txt

demo: setup
	$(BIN)/python -m docs.demo

site: setup
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) .venv-lowest .venv-newest build dist *.egg-info
