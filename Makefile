# make lab      install if needed, open the labs in JupyterLab
# make test     the whole suite: unit tests, then every lab
# make run LAB=02    execute one lab without a browser, write build/02_....html

PYTHON ?= python3
BIN := .venv/bin
LAB ?=
NOTEBOOK = $(wildcard notebooks/$(LAB)_*.ipynb)
# d2l's own pins are years old; it runs on today's versions, so it comes without them.
D2L := d2l==1.0.3
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --root-user-action=ignore
WORKERS ?= 2
# What a notebook keeps, and what of its metadata it does not; .pre-commit-config.yaml has it, too.
STRIP := --keep-output --keep-count \
  --extra-keys "metadata.widgets metadata.jupytext cell.metadata.execution cell.metadata.lines_to_next_cell"
ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: help lab test test-unit test-labs test-browser run outputs exercises lint format data env clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \(make .*\)/  \1/p' Makefile
	@echo "  make outputs LAB=02   execute a lab and store its outputs (for authors)"
	@echo "  make exercises        write the student copies of all labs (for authors)"
	@echo "  make lint | format    ruff over code and notebooks"
	@echo "  make data | env       fetch all data sets | check what is installed"

# ---- installation: stamps say what is there, so that a second call does nothing ----

.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "labkit needs Python 3.11 or newer; '$(PYTHON)' is not. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "Making .venv failed; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@touch $@

.venv/labs: .venv/python pyproject.toml constraints.txt
	@echo "Installing labkit into .venv (a few minutes the first time) ..."
	@$(PIP) -c constraints.txt -e '.[labs]'
	@$(PIP) --no-deps $(D2L)
	@touch $@

.venv/dev: .venv/labs
	@$(PIP) -c constraints.txt -e '.[dev]'
	@touch $@

# ---- for readers ----

lab: .venv/labs
	$(BIN)/jupyter lab --ip=127.0.0.1 $(ROOT) --notebook-dir=notebooks \
	  --LabApp.default_url=/lab/tree/00_start_here.ipynb

run: .venv/labs
	@test -n "$(LAB)" && test -n "$(NOTEBOOK)" || { echo "Say which lab: make run LAB=02"; exit 1; }
	@mkdir -p build
	$(BIN)/jupyter nbconvert --to html --execute --output-dir build \
	  --ExecutePreprocessor.store_widget_state=False $(NOTEBOOK)

data: .venv/labs
	$(BIN)/labkit data

env: .venv/labs
	$(BIN)/labkit env

# ---- for authors ----

test: test-unit test-labs test-browser

# Two processes share two cores: one thread each, or they wait for each other.
test-unit test-labs test-browser: export OMP_NUM_THREADS = 1

test-unit: .venv/dev
	$(BIN)/pytest -n $(WORKERS) --ignore=tests/browser --cov=labkit --cov-report=term --cov-fail-under=90

test-labs: .venv/dev
	$(BIN)/pytest -n $(WORKERS) --dist loadscope --nbval --nbval-current-env \
	  --nbval-cell-timeout=300 --nbval-sanitize-with tests/nbval_sanitize.cfg notebooks/*.ipynb

# Opens the labs in JupyterLab and moves their sliders; skips where there is no Chromium.
test-browser: .venv/dev
	$(BIN)/pytest -n $(WORKERS) tests/browser

# Execute with the data of LABKIT_DATA, keep outputs and counts, drop what differs run by run.
outputs: .venv/dev
	@test -n "$(LAB)" && test -n "$(NOTEBOOK)" || { echo "Say which lab: make outputs LAB=02"; exit 1; }
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False \
	  --ExecutePreprocessor.store_widget_state=False $(NOTEBOOK)
	$(BIN)/jupyter nbconvert --to notebook --inplace --CoalesceStreamsPreprocessor.enabled=True $(NOTEBOOK)
	$(BIN)/nbstripout $(STRIP) $(NOTEBOOK)
	$(BIN)/labkit exercises write

exercises: .venv/labs
	$(BIN)/labkit exercises write

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/labkit exercises check
	$(BIN)/nbstripout --verify $(STRIP) notebooks/*.ipynb

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build dist
