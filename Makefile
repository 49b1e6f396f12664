# Everything goes through a virtual environment that is made here when missing. PYTHON chooses its interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Bytecode is written by the first import, of what is used, rather than by the installation: half a minute less.
INSTALL := $(BIN)/pip install --quiet --no-compile
# The newest pip needs two fifths less processor time than that of Python 3.11, which goes on where none can be had.
NEWEST_PIP := $(INSTALL) --upgrade pip || echo "pip stays as it is."
unexport PYTHONDONTWRITEBYTECODE
RUN := $(BIN)/python -W ignore -m monai.bundle run
OVERLAY := configs/phantom.yaml
DATA := data/phantom
PARALLEL := -n auto --dist loadfile --no-loadscope-reorder
FUZZ_SECONDS := 18
PYENV := $(wildcard $(HOME)/.pyenv/versions/3.1*/bin/python)

.DEFAULT_GOAL := help
.PHONY: help prepare train compare test test-matrix check format slow bench fuzz weights package wheel lock docs clean

help:  ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/run: requirements.txt constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(NEWEST_PIP)
	$(INSTALL) --requirement requirements.txt --constraint constraints.txt
	touch $@

$(VENV)/dev: requirements.txt constraints.txt requirements-dev.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(NEWEST_PIP)
	$(INSTALL) --requirement requirements-dev.txt
	touch $@ $(VENV)/run

prepare: $(VENV)/prepare  ## Install what T1w scans and DICOM need: ANTs, brain extraction, templates; 150 MB

$(VENV)/prepare: requirements-prepare.txt requirements-prepare-no-deps.txt constraints.txt | $(VENV)/run
	$(INSTALL) --requirement requirements-prepare.txt --constraint constraints.txt
	$(INSTALL) --no-deps --requirement requirements-prepare-no-deps.txt --constraint constraints.txt
	touch $@

train: $(VENV)/run  ## Install, make the phantom cohort, pretrain, probe: the main job, minutes on two cores
	$(BIN)/python -m bundle phantom --output $(DATA)
	$(RUN) training --config_file "['configs/pretrain.yaml','$(OVERLAY)']"
	$(RUN) evaluating --config_file "['configs/probe.yaml','$(OVERLAY)']"
	@echo "Next: read docs/README.md on your own cohort, and look at eval/pretrain/curves.png and eval/probe"

compare: $(VENV)/run  ## Install and compare pretexts on the phantom: hours on two cores, goes on where it was stopped
	$(BIN)/python -W ignore -m bundle compare --config configs/compare.yaml

test: $(VENV)/dev  ## Install and run the tests, on all cores: minutes
	$(BIN)/python -m pytest $(PARALLEL)

test-matrix: $(VENV)/dev  ## Install and run the tests with the Pythons found and the oldest and newest versions: 20 GB, an hour
	$(BIN)/pip install --quiet "tox>=4.30"
	$(BIN)/tox run $(if $(PYENV),--discover $(PYENV))

slow: $(VENV)/dev  ## Install and run the tests that take many minutes each
	$(BIN)/python -m pytest -m slow

weights: $(VENV)/run  ## Make the demonstration weights in models/ again: half an hour on two cores
	$(BIN)/python -m bundle phantom --output $(DATA)
	$(BIN)/python -W ignore -m bundle pretrain --config $(OVERLAY) configs/demonstration.yaml --epochs 4
	$(BIN)/python -W ignore -m bundle train --config configs/task_alzheimer.yaml $(OVERLAY) configs/demonstration.yaml
	$(BIN)/python -W ignore -m bundle evaluate --config configs/task_alzheimer.yaml $(OVERLAY) configs/demonstration.yaml

package: $(VENV)/run  ## Install and write dist/brain_mri_yaware_classification_v<version>.zip
	$(BIN)/python -m bundle package

docs: $(VENV)/run  ## Install and build the documentation with its tutorials into dist/site: minutes, without a network
	$(INSTALL) --requirement requirements-docs.txt
	$(BIN)/python -m sphinx -q -W --keep-going -b html -d dist/doctrees docs dist/site
	@echo "Open dist/site/index.html"

wheel: $(VENV)/dev  ## Install and write dist/brain_mri_yaware-<version>.tar.gz and the wheel, the same bytes each time
	$(INSTALL) "build>=1.2" "twine>=6.1"
	umask 022 && $(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/brain_mri_yaware-*

LOCK := $(BIN)/uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 --constraint constraints.txt \
	--generate-hashes --no-annotate --no-header --no-emit-index-url
lock: $(VENV)/run  ## Install uv and write requirements-lock.txt: every library by version and sha256, for the containers
	$(INSTALL) "uv>=0.9"
	head -n 2 requirements-lock.txt > $(VENV)/lock
	$(LOCK) requirements.txt requirements-prepare.txt requirements-hub.txt >> $(VENV)/lock
	$(LOCK) --no-deps requirements-prepare-no-deps.txt >> $(VENV)/lock
	mv $(VENV)/lock requirements-lock.txt

fuzz: $(VENV)/dev  ## Install and feed the readers with broken files, guided by coverage: ten minutes
	$(INSTALL) --requirement requirements-fuzz.txt
	$(BIN)/python -m tests.fuzzing.fuzz --seconds $(FUZZ_SECONDS)

bench: $(VENV)/dev  ## Install and measure speed and memory; best on a quiet machine
	$(BIN)/python -m pytest -m bench -s -q
	$(BIN)/python -W ignore -m tests.benchmarks.profile

check: $(VENV)/dev  ## Lint, format check, types, spelling, and the tests that take seconds
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/python -m pytest $(PARALLEL) -q -x -m "not long and not slow and not bench"

format: $(VENV)/dev  ## Format and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove the virtual environment and everything made by runs
	rm -rf $(VENV) .tox data eval dist models/phantom_* .hypothesis .pytest_cache .mypy_cache .ruff_cache
