# Included by the Makefile: which Python computes, and `setup`, which installs the packages of requirements.lock once.
# Everything is called as $(PY) -m NAME: scripts such as .venv/bin/jupyter hold the path of the folder, which may be moved.

# the first of these that runs; only `setup` looks
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do $$p -c '' 2>/dev/null && { echo $$p; break; }; done)

# An activated conda environment (not its base) is used as it is; otherwise .venv is made once.
CONDA := $(filter-out base,$(CONDA_DEFAULT_ENV))
VENV := $(if $(CONDA),$(CONDA_PREFIX),.venv)
PY := "$(VENV)/bin/python"
INSTALLED := $(if $(CONDA),build/.conda,.venv)/.aa-companion-installed

setup: $(INSTALLED)

ifdef CONDA
$(INSTALLED): always
	@$(PY) -I -c 'import importlib.util as u, sys; sys.exit(" ".join(n for n in sys.argv[1:] if not u.find_spec(n)) or None)' \
		aa_core experiments papermill snakemake torch || { echo "setup: this conda environment lacks these packages." \
		'Type `conda env create -f environment.yml && conda activate aa-companion`, or `conda deactivate` to use .venv' >&2; exit 1; }
	@mkdir -p $(dir $@) && touch $@
else
# The project is installed editable, by its path: a clone that was moved installs itself again.
ifneq ($(shell cat $(INSTALLED) 2>/dev/null),$(CURDIR))
$(INSTALLED): always
endif
$(INSTALLED): requirements.lock pyproject.toml
	@sh setup.sh "$(PYTHON)"
	@pwd -P >$@
endif

.PHONY: setup always
