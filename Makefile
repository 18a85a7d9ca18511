# `make setup` creates .venv and installs; `make test` checks everything; `make demo` trains, inverts and compares.
# `make lock` says anew what `setup` installs; `make test-lowest`, `make test-newest`: quick tests beside it, in venvs of
# their own (docs/installs.md). `make kill-tests` kills more often than `make test`; `make audit` asks for advisories.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup test test-lowest test-newest kill-tests lock hashes audit demo site clean

# $(call install,VENV,FIRST,OPTIONS): setuptools builds this package, so it comes first, with options of its own.
define install
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: set PYTHON=...')"
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check $(2)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check $(3) --no-build-isolation --editable ".[dev]"
endef

# A process for each core, up to four, each with one thread; the tests of a file stay together.
PARALLEL = --numprocesses auto --maxprocesses 4 --dist loadfile
test test-lowest test-newest kill-tests: export OMP_NUM_THREADS = 1

setup: $(VENV)/installed

# What the lock lists is installed by hash; the package itself has none.
$(VENV)/installed: pyproject.toml lock.txt lock-hashes.txt
	$(call install,$(VENV),--require-hashes --no-deps --requirement lock-hashes.txt,--constraint lock.txt)
	touch $@

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	-$(BIN)/rtil weights lpips
	$(BIN)/pytest $(PARALLEL)

test-lowest:
	$(call install,.venv-lowest,--constraint lock-lowest.txt setuptools,--constraint lock-lowest.txt)
	.venv-lowest/bin/pytest $(PARALLEL) -m "not slow"

test-newest:
	$(call install,.venv-newest,setuptools,--upgrade --upgrade-strategy eager)
	.venv-newest/bin/pytest $(PARALLEL) -m "not slow"

kill-tests: export RTIL_KILLS = 20
kill-tests: setup
	$(BIN)/pytest tests/faults/test_kills.py -s --timeout 3600

# The newest releases that go together, with the TORCH that was tried; and the lower bounds of pyproject.toml.
TORCH ?= torch==2.14.1 torchvision==0.29.1
COMPILE = build/lock/bin/uv pip compile --quiet --python-version 3.11 --no-annotate --custom-compile-command "make lock"
RESOLVE = $(COMPILE) pyproject.toml --upgrade --extra dev

build/lock/bin/uv:
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check uv

lock: build/lock/bin/uv
	printf '%s\n' $(TORCH) > build/lock/torch.txt
	$(RESOLVE) --universal --constraint build/lock/torch.txt --output-file lock.txt
	$(RESOLVE) --resolution lowest-direct --python-platform x86_64-manylinux_2_28 --output-file lock-lowest.txt
	$(MAKE) hashes

hashes: build/lock/bin/uv # of lock.txt as it is
	$(COMPILE) lock.txt --no-deps --universal --generate-hashes --output-file lock-hashes.txt

audit:
	$(PYTHON) .ci/audit.py

demo: setup
	-$(BIN)/rtil weights lpips
	$(BIN)/python -m docs.demo

site: setup
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) .venv-lowest .venv-newest build dist *.egg-info
