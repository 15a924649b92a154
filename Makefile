# Two commands do everything on a machine that has Python >= 3.11:
#   make study   train studies/quickstart.yaml and write its report
#   make test    run the tests
# Variables: PYTHON          the interpreter that the virtual environment is made with
#            TORCH_INDEX_URL where a special build of torch is installed from, such as the index of
#                            CPU-only builds that PyTorch's install page names
PYTHON ?= python3
TORCH_INDEX_URL ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: study test example lint clean

study: $(VENV)/.installed
	$(BIN)/scaling-study run studies/quickstart.yaml --store results/quickstart
	$(BIN)/scaling-study analyze results/quickstart

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest

# The package in examples/ as its author would have it: installed, tested, run and analyzed.
example: $(VENV)/.installed-test
	$(PIP) --no-deps --upgrade --target build/example examples/external_workload
	PYTHONPATH=build/example $(BIN)/python -m pytest examples/external_workload
	PYTHONPATH=build/example $(BIN)/scaling-study run examples/external_workload/study.yaml --store results/digit_pairs
	$(BIN)/scaling-study analyze results/digit_pairs

lint: $(VENV)/.installed-lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.python:
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "scaling-study needs Python >= 3.11, and $(PYTHON) is " + sys.version.split()[0] + "; pass PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.torch: $(VENV)/.python constraints.txt
	$(PIP) $(if $(TORCH_INDEX_URL),--no-deps --index-url $(TORCH_INDEX_URL)) torch
	touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml
	$(PIP) --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) --editable '.[test]'
	touch $@

$(VENV)/.installed-lint: $(VENV)/.installed-test
	$(PIP) --editable '.[test,lint]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
