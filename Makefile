PYTHON ?= python3
BIN := .venv/bin
# Matplotlib's font cache, else under the user's home.
export MPLCONFIGDIR := $(CURDIR)/.venv/matplotlib

.PHONY: demo test test-all test-faults bench check up down lock

demo: .venv/installed
	$(BIN)/liftloop demo

# Before every commit: all but what is slow by nature. tests/conftest.py says what comes first, and stays in one process.
# Three processes for two cores, since the tests of the stack wait most of the time.
IN_THREE_PROCESSES := --numprocesses 3 --dist loadfile --no-loadscope-reorder

test: .venv/installed
	$(BIN)/pytest $(IN_THREE_PROCESSES)

# Also what is slow by nature: the whole lifecycle, backlogs, what lasts until a limit passes, some of the crash matrix.
test-all: .venv/installed
	$(BIN)/pytest $(IN_THREE_PROCESSES) -m "not faults_all"

# Every cell of the crash matrix, and kills before every kind of write; the table of the matrix comes last.
test-faults: .venv/installed
	$(BIN)/pytest tests/faults tests/integration/provenance -m "" --numprocesses 2

bench: .venv/installed
	$(BIN)/python -m bench

# Runs every check, then fails if one did.
check: .venv/installed
	@failures=0; \
	$(BIN)/ruff format --check . || failures=$$((failures + 1)); \
	$(BIN)/ruff check . || failures=$$((failures + 1)); \
	$(BIN)/mypy || failures=$$((failures + 1)); \
	$(BIN)/lint-imports --no-cache || failures=$$((failures + 1)); \
	$(BIN)/pytest tests/unit/test_definitions.py || failures=$$((failures + 1)); \
	echo "$$failures of 5 checks failed"; test $$failures -eq 0

up: .venv/installed
	$(BIN)/liftloop up

down: .venv/installed
	$(BIN)/liftloop down

# The lock is complete, so pip need not resolve anything: --no-deps.
.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "liftloop needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	@$(PYTHON) -I liftloop/stack/counted.py "installing what requirements.lock lists, about two minutes" \
		$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(PYTHON) -I liftloop/stack/counted.py "installing liftloop" \
		$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

lock:
	uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 \
		--extra dev --quiet --output-file requirements.lock pyproject.toml
