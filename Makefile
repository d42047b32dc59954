# `make figures` does everything: installs once, trains, executes the notebooks, draws the figures. `make help` lists more.

SHELL := /bin/sh
PROFILE ?= laptop
CORES ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
FRESH ?=
PYTHON ?= $(shell command -v python3.11 || command -v python3)

# An activated conda environment (not its base) is used as it is; otherwise .venv is made once.
ifneq ($(filter-out base,$(CONDA_DEFAULT_ENV)),)
ENV := $(CONDA_PREFIX)
else
ENV := .venv
endif
BIN := $(ENV)/bin
INSTALLED := $(ENV)/.aa-companion-installed

DRY := $(if $(findstring n,$(firstword -$(MAKEFLAGS))),--dry-run)
# $(1): what to make. `make -n` comes here too, but cannot ask Snakemake before it is installed.
RUN_SNAKEMAKE = if [ ! -e $(INSTALLED) ]; then echo "(first installs the packages of requirements.lock)"; exit 0; fi; \
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python $(if $(DRY),,-m aa_core.progress $(BIN)/python) -m snakemake $(1) --cores $(CORES) --nolock --rerun-incomplete \
	--max-checksum-file-size 0 --rerun-triggers mtime --quiet rules host $(DRY) $(if $(FRESH),--forceall) \
	--config profile=$(PROFILE) fresh=$(if $(FRESH),1,0)

.PHONY: figures test lint lab notebooks publish course bench setup clean clean-all help
.DEFAULT_GOAL := help

figures: setup ## train, execute the notebooks, draw every figure (PROFILE=smoke|laptop|paper, FRESH=1 to repeat runs)
	+@$(call RUN_SNAKEMAKE,figures)

notebooks/%: setup ## execute one notebook by its number: make notebooks/04
	+@$(call RUN_SNAKEMAKE,build/$(PROFILE)/notebook_$*.done)

publish: figures ## copy the executed notebooks over notebooks/ and redraw the README's generated parts
	$(BIN)/python -m aa_core.publish

test: setup lint ## lint, unit and property tests, every notebook in profile smoke, stored outputs of the exact ones
	$(BIN)/python -m pytest
	AA_HEADLESS=1 AA_DATA=build/nbval/data AA_FIGURES=build/nbval/figures \
		$(BIN)/python -m pytest --nbval-lax --nbval-current-env notebooks/01* notebooks/02* notebooks/03*

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lab: setup ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

course: setup ## student versions of the notebooks, without solutions and outputs, in build/course
	$(BIN)/jupyter nbconvert --log-level ERROR --to notebook --output-dir build/course \
		--NotebookExporter.preprocessors nbgrader.preprocessors.ClearSolutions \
		--ClearSolutions.enforce_metadata False --ClearOutputPreprocessor.enabled True notebooks/*.ipynb
	@echo "student notebooks are in build/course"

bench: setup ## benchmarks
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only -o addopts=""

setup: $(INSTALLED)

ifeq ($(ENV),.venv)
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else f"Python 3.11 or newer is needed, {sys.executable} is {sys.version.split()[0]}; name another one with PYTHON=")'
	@echo "Installing the packages of requirements.lock into .venv (once; a few minutes) ..."
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --editable .
	@touch $@
else
$(INSTALLED): environment.yml requirements.lock pyproject.toml
	@$(BIN)/python -c 'import aa_core, papermill, snakemake, torch' || \
		{ echo "The conda environment $(CONDA_DEFAULT_ENV) lacks packages: conda env update -f environment.yml"; exit 1; }
	@touch $@
endif

clean: ## remove what was computed and can be computed again (keeps data/ and figures/)
	rm -rf build data/*/runs data/smoke .snakemake .pytest_cache .ruff_cache .benchmarks .hypothesis

clean-all: clean ## clean, and remove the virtual environment
	rm -rf .venv *.egg-info

help: ## this list
	@echo "aa-companion: make TARGET"
	@sed -n 's/^\([a-z%/-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 16
