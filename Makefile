# Two commands on a fresh machine with Python 3.11+ and make:
#   make demo   install into .venv and run the whole road into runs/demo
#   make test   install into .venv and run the tests
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check validation clean

demo: .venv/installed
	$(BIN)/npsi-twin run --out runs/demo --overwrite
	@echo "Open runs/demo/report.html"

# Files side by side on all cores; a file's tests share what they build.
test: .venv/installed-test
	$(BIN)/python -m pytest -n auto --dist loadfile

# Linters, import contracts and types; what CI runs after the tests.
check: .venv/installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

# Every validation page is rendered from what its script measures.
validation: .venv/installed-validation
	for run in validation/*/run.py; do $(BIN)/python $$run || exit 1; done

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

.venv/installed-validation: .venv/installed-test
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,validation]'
	touch $@

.venv/installed-lint: .venv/installed-test
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,lint]'
	touch $@

clean:
	rm -rf .venv runs
