# runs -> notebooks. Called by the Makefile; on a cluster: see README, "Beyond one machine".
# What has to be made is told by names: a run's folder and a notebook's stamp hold the identity of settings and code.

import shlex
import sys

sys.path.insert(0, workflow.basedir)

from experiments import build, fresh, registry
from experiments.paths import BUILD

PROFILE = config.get("profile", "laptop")
MODE = config.get("mode", "figures")  # figures: makes every run; one: what is missing; redraw: nothing
RUNS = build.every_run(PROFILE)
FRESH = "--fresh" if str(config.get("fresh", 0)) == "1" else ""
STALE = "" if MODE == "figures" else "--stale"  # what is committed is drawn all the same, and says how old it is
PLACE, INTERPRETER = shlex.quote(str(workflow.basedir)), shlex.quote(sys.executable)
PYTHON = f"cd {PLACE} && env -u MPLBACKEND PYTHONDONTWRITEBYTECODE=1 {INTERPRETER} -m experiments"
MODELS = ("09", "10", "11") if PROFILE == "paper" else ()  # notebooks in which a large model plays
# to hash what a notebook executes takes a while: of all, unless one target is asked for
NUMBERS = [number for number in registry.NOTEBOOKS if config.get("asked", f"notebook_{number}") == f"notebook_{number}"]
STAMPS = {number: build.stamp(number, PROFILE, bool(STALE)) for number in NUMBERS}


localrules: figures, redraw, claims,


rule figures:
    input:
        [build.record_of(run) for run in registry.runs(PROFILE)],
        list(STAMPS.values()),


rule redraw:
    input:
        list(STAMPS.values()),


rule claims:  # with AA_SEEDS set, see the Makefile
    input:
        lambda wildcards: [build.record_of(run) for run in fresh.runs(PROFILE, str(config.get("only") or ""))],


for name, table in registry.tables().items():

    rule:
        name:
            f"table_{name}"
        input:
            [build.record_of(run) for run in table.at_home(PROFILE)],


def run_of(wildcards):
    return RUNS[f"{BUILD}/runs/{wildcards.key}/record.json"]


rule run:
    input:
        lambda wildcards: [build.record_of(need) for need in build.before_run(run_of(wildcards), MODE == "figures")],
    output:
        f"{BUILD}/runs/{{key}}/record.json",
    threads: lambda wildcards: (workflow.resource_settings.cores or 8) if run_of(wildcards).alone else 1
    resources:
        runtime=lambda wildcards: build.runtime(run_of(wildcards)),
        mem_mb=lambda wildcards: 64_000 if run_of(wildcards).gpu else 3_000,
        gpu=lambda wildcards: int(run_of(wildcards).gpu),
    shell:
        "{PYTHON} make {output:q} --profile {PROFILE} {FRESH}"


for number in NUMBERS:

    rule:
        name:
            f"notebook_{number}"
        input:
            [] if MODE == "redraw" else [build.record_of(run) for run in build.before_notebook(number, PROFILE, MODE == "figures")],
            [stamp for other, stamp in STAMPS.items() if number == registry.LAST and other != number and MODE != "one"],
        output:
            STAMPS[number],
        params:
            number=number,
        priority: int(number == "13")  # it trains for minutes: first
        resources:
            runtime=30,
            mem_mb=64_000 if number in MODELS else 4_000,
            gpu=int(number in MODELS),
        shell:
            "{PYTHON} notebook {params.number} --profile {PROFILE} {STALE} --stamp {output:q}"
