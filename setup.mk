# Included by the Makefile: which Python computes, and `setup`, which installs the packages of requirements.lock once.
# Everything is called as $(PY) -m NAME: scripts such as .venv/bin/jupyter hold the path of the folder, which may be moved.

# the first of these that runs; only `setup` looks
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do $$p -c '' 2>/dev/null && { echo $$p; break; }; done)
SUPPORTED := Python 3.11 to 3.13 is supported

# An activated conda environment (not its base) is used as it is; otherwise .venv is made once.
CONDA := $(filter-out base,$(CONDA_DEFAULT_ENV))
VENV := $(if $(CONDA),$(CONDA_PREFIX),.venv)
PY := "$(VENV)/bin/python"
INSTALLED := $(if $(CONDA),build/.conda,.venv)/.aa-companion-installed

setup: $(INSTALLED)

ifdef CONDA
$(INSTALLED): always
	@$(PY) -I -c 'import importlib.util as u, sys; n = [n for n in sys.argv[1:] if not u.find_spec(n)]; sys.exit(" ".join(n) or None)' \
		aa_core experiments papermill snakemake torch || { echo "setup: this conda environment lacks these packages." \
		'Type `conda env create -f environment.yml && conda activate aa-companion`, or `conda deactivate` to use .venv' >&2; exit 1; }
	@mkdir -p $(dir $@) && touch $@
else
# The project is installed editable, by its path: a clone that was moved installs itself again.
ifneq ($(shell cat $(INSTALLED) 2>/dev/null),$(CURDIR))
$(INSTALLED): always
endif
$(INSTALLED): requirements.lock pyproject.toml
	@refuse() { echo "setup: $$1" >&2; exit 1; }; \
	log=.venv/pip.log; \
	install() { $(PY) -m pip --disable-pip-version-check install -q "$$@" >$$log 2>&1 || failed; }; \
	failed() { \
		last=$$(grep '^ERROR' $$log | tail -n 1); \
		if grep -qiE 'connection broken|NewConnectionError|Max retries|timed out|SSLError|ProxyError' $$log; then \
			refuse "packages could not be downloaded: this needs the network once, or a mirror named by PIP_INDEX_URL. The last of $$log: $$last"; \
		fi; \
		case "$$last" in *" torch=="*) last="$$last (PyTorch needs macOS 14 or Linux with glibc 2.28, or newer)" ;; esac; \
		refuse "packages could not be installed. The last of $$log: $$last"; \
	}; \
	python=.venv/bin/python; way_out='remove .venv and name'; \
	[ -x $$python ] || { python="$(PYTHON)"; way_out='name'; }; \
	[ -n "$$python" ] || refuse "no Python here. $(SUPPORTED): install one, or name it with PYTHON=/path/to/python3.12"; \
	about=$$("$$python" -c 'import platform as p, sys; print("%d.%d" % sys.version_info[:2], p.system(), p.machine())') || \
		refuse "$$python does not run. $(SUPPORTED): $$way_out another one with PYTHON=/path/to/python3.12"; \
	case "$$about" in \
	*" Darwin x86_64") refuse "PyTorch is no longer built for Intel Macs (nor for an Intel Python on Apple silicon): use Linux, an arm64 Python on Apple silicon, or Docker" ;; \
	*" Windows "*) refuse "make needs a Unix here: use WSL or Docker" ;; \
	"3.11 "* | "3.12 "* | "3.13 "*) ;; \
	*) refuse "$(SUPPORTED), $$python is $${about%% *}: $$way_out another one with PYTHON=/path/to/python3.12" ;; \
	esac; \
	echo "Installing the packages of requirements.lock into .venv (once; a few minutes) ..."; \
	[ -x .venv/bin/python ] || "$$python" -m venv .venv || refuse "no virtual environment from $$python: on Debian and Ubuntu apt install python3-venv"; \
	install -r requirements.lock; \
	install --no-deps --no-build-isolation --editable .; \
	pwd -P >$@
endif

.PHONY: always
