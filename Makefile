# `make figures` does everything: installs once, trains, executes the notebooks, draws the figures. `make help` lists more.

SHELL := /bin/sh
PROFILE ?= laptop
CORES ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
FRESH ?=

include setup.mk

# -n is among the short flags, which come first; GNU make 3.81 has long ones in their place if there are none
DRY := $(if $(findstring n,$(filter-out --%,$(firstword -$(MAKEFLAGS)))),--dry-run)
# $(1): what to make, $(2): mode, see Snakefile. `make -n` comes here too, but cannot ask Snakemake before it is there.
RUN_SNAKEMAKE = if [ ! -e $(INSTALLED) ]; then echo "(first installs the packages of requirements.lock)"; exit 0; fi; \
	case "$$AA_BUILD" in ("~/"*) AA_BUILD="$$HOME/$${AA_BUILD\#??}";; esac; \
	[ -w "$$HOME" ] || export XDG_CACHE_HOME="$${XDG_CACHE_HOME:-$${TMPDIR:-/tmp}/aa-companion-$$(id -u)}"; \
	$(PY) $(if $(DRY),,-P experiments/progress.py $(PY)) -m snakemake $(1) --cores $(CORES) --nolock --rerun-incomplete \
	--max-checksum-file-size 0 --rerun-triggers mtime --quiet rules host $(DRY) $(if $(FRESH),--forceall) \
	--resources gpu=1 \
	$(if $(AA_BUILD),--directory "$$AA_BUILD") --config profile=$(PROFILE) mode=$(2) fresh=$(if $(FRESH),1,0)

FRESH_STEP = $(PY) -m experiments claims --profile $(PROFILE) --seeds '$(SEEDS)' --only '$(ONLY)' --cores $(CORES)

.PHONY: figures claims soak redraw test test-kill test-lab test-course rehearsal rehearsal-gpu lint style lab course site slides bench setup clean clean-all help
.DEFAULT_GOAL := help

figures: setup ## train, execute the notebooks, draw every figure (PROFILE=smoke|laptop|paper, FRESH=1 to repeat runs)
	@$(PY) -m experiments plan --profile $(PROFILE) --cores $(CORES) $(if $(FRESH),--fresh)
	+@$(call RUN_SNAKEMAKE,figures,figures)
	@$(if $(DRY),,$(PY) -m experiments publish --profile $(PROFILE))

redraw: setup ## execute all notebooks on the committed tables and agents, without the figures' runs, into build/
	@$(PY) -m experiments check --cores $(CORES) --profile $(PROFILE)
	+@$(call RUN_SNAKEMAKE,redraw,redraw)

notebooks/%: setup ## execute one notebook by its number, with what it lacks: make notebooks/04
	@$(PY) -m experiments check --cores $(CORES) --profile $(PROFILE) --notebook $*
	+@$(call RUN_SNAKEMAKE,notebook_$*,one) asked=notebook_$*

tables/%: setup ## make one table and the runs that it needs, under build/: make tables/coin_league
	@$(PY) -m experiments check --cores $(CORES) --profile $(PROFILE) --table $*
	+@$(call RUN_SNAKEMAKE,table_$*,one) asked=table_$*
	@$(if $(DRY),,$(PY) -m experiments table $* --profile $(PROFILE))

studies/%: setup ## make a side study and, in profile laptop, publish its table in data/extended: make studies/coin_map
	@$(PY) -m experiments check --cores $(CORES) --profile $(PROFILE) --study $*
	+@$(call RUN_SNAKEMAKE,table_$*,one) asked=table_$*
	@$(if $(DRY),,$(PY) -m experiments $(if $(filter laptop,$(PROFILE)),publish --study $*,table $* --profile $(PROFILE)))

claims: setup ## run all that is judged with fresh seeds, and say what holds: make claims SEEDS=100-104 (ONLY="llm aa_2")
	@$(PY) -m experiments check --cores $(CORES) --profile $(PROFILE) --seeds '$(SEEDS)' --only '$(ONLY)'
	@AA_SEEDS='$(SEEDS)' $(FRESH_STEP) plan
	+@export AA_SEEDS='$(SEEDS)'; $(call RUN_SNAKEMAKE,claims,one) asked=claims 'only=$(ONLY)'
	@$(if $(DRY),,AA_SEEDS='$(SEEDS)' $(FRESH_STEP) tables)
	@$(if $(DRY),,env -u AA_SEEDS $(FRESH_STEP) judge)

# as many processes as cores work side by side
test: export OMP_NUM_THREADS := 1
test: setup style ## lint and types, unit and property tests, every notebook in profile smoke, stored outputs of the exact ones
	$(PY) -m pytest -n $(CORES) --dist loadfile --no-loadscope-reorder
	AA_HEADLESS=1 AA_BUILD=build/nbval \
		$(PY) -m pytest -n $(CORES) --dist loadfile --nbval-lax --nbval-current-env notebooks/01* notebooks/02* notebooks/03*

test-kill: setup ## kill `make figures PROFILE=smoke` at random moments, and compare with an undisturbed run (slow; KILLS=20)
	$(PY) tests/repository/kill_figures.py --kills $(or $(KILLS),20)

test-lab: setup ## open every notebook in JupyterLab as `make lab` does, in headless Chromium, and choose Run All (slow; ONLY="00 05")
	$(PY) tests/repository/run_all.py $(ONLY)

test-course: setup ## every notebook through nbgrader: validate and autograde pass the solution, fail the empty answer (slow)
	AA_COURSE=1 $(PY) -m pytest tests/experiments/test_course.py

soak: setup ## an hour of self-play with the embedded model: memory, threads and open files (MINUTES=60)
	$(PY) tests/repository/soak.py --minutes $(or $(MINUTES),60)

rehearsal: setup ## profile paper in the small, with every game and four families of tiny random models
	AA_REHEARSAL=1 $(PY) -m pytest tests/experiments/test_rehearsal.py

rehearsal-gpu: setup ## updates of profile paper on a GPU of 80 GB, with random weights in the shapes of the real model
	$(PY) tests/repository/rehearse_gpu.py

style: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

lint: style
	$(PY) -m mypy

LAB_FLAGS ?= $(if $(filter 0,$(shell id -u)),--allow-root)# in a container one is root
# without autosave: the notebooks are tracked, and running one is no change of it
lab: setup ## open the notebooks in JupyterLab, which saves when you tell it to
	$(PY) -m jupyter lab $(LAB_FLAGS) --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb \
		--LabApp.app_settings_dir=profiles/lab

course: setup ## an nbgrader course in build/course: with solutions, without, and an archive for students
	$(PY) -m experiments.course

site: setup ## the book as web pages in build/site, from the committed outputs, without a network
	PYTHONPATH=. $(PY) -m sphinx -q -b html -d build/doctrees -c notebooks/book notebooks build/site
	@echo '<meta http-equiv="refresh" content="0; url=book/index.html">' >build/site/index.html
	@echo "open build/site/index.html"

# every notebook that has slide tags; reveal.js lies beside the slides, so that showing them needs no network
slides: setup ## slides of the notebooks that have slide tags, in build/slides
	$(PY) -m nbconvert --to slides --no-input --template slides --output-dir build/slides --log-level ERROR \
		--TemplateExporter.extra_template_basedirs=notebooks/book --SlidesExporter.reveal_url_prefix=reveal.js --SlidesExporter.reveal_theme=white \
		$(shell grep -l '"slide_type": "slide"' notebooks/*.ipynb | grep -v '[ -]')
	cp -R notebooks/book/slides/reveal.js build/slides/
	$(PY) -c 'import pathlib, shutil, sphinxcontrib.katex as katex; \
		[shutil.copy(path, "build/slides/reveal.js") for path in pathlib.Path(katex.__file__).parent.glob("katex?m*")]'
	@echo "open build/slides/*.html"

bench: setup ## benchmarks
	$(PY) -m pytest tests/benchmarks --benchmark-only -o addopts="--import-mode=importlib"

# what students handed in and what nbgrader graded cannot be computed again
GRADED := build/course/gradebook.db build/course/submitted
clean: ## remove what was computed and can be computed again (keeps data/, figures/ and a course with graded work)
	@if [ -n "$(wildcard $(GRADED))" ]; then echo "kept build/course: it holds graded work"; \
		find build -mindepth 1 -maxdepth 1 ! -name course -exec rm -rf {} +; else rm -rf build; fi
	rm -rf .snakemake .mypy_cache .pytest_cache .ruff_cache .benchmarks .hypothesis

clean-all: clean ## clean, and remove the virtual environment
	rm -rf .venv *.egg-info

help: ## this list
	@echo "aa-companion: make TARGET"
	@awk -F ':.*## ' '/^[a-z%\/-]+:.*## / { printf "  %-14s%s\n", $$1, $$2 }' Makefile
