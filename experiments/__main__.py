"""Runs, tables and notebooks from the command line.

python -m experiments list
python -m experiments run coin advantage_alignment 101
python -m experiments table coin_league
python -m experiments status
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from aa_core.paths import BUILD, ROOT
from experiments import build, language, publish, registry
from experiments.run import PROFILES, Run, make, sweep_leftovers
from experiments.tables import assemble


def parser() -> argparse.ArgumentParser:
    """What can be asked for; an unknown name is refused with the list of what there is."""
    top = argparse.ArgumentParser(prog="python -m experiments", description=__doc__.splitlines()[0])
    commands = top.add_subparsers(dest="command", required=True)

    def command(name: str, words: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=words, description=words)
        added.add_argument("--profile", choices=PROFILES, default="laptop")
        return added

    command("list", "experiments with their variants and seeds")
    run = command("run", "make runs, of any seed, unless they are there")
    run.add_argument("experiment", choices=sorted(registry.experiments()))
    run.add_argument("variant")
    run.add_argument("seeds", type=int, nargs="*", help="default: those that the figures need")
    run.add_argument("--fresh", action="store_true", help="make them again although they are there")
    one = command("make", "make the run of a record file, for the Snakefile")
    one.add_argument("record")
    one.add_argument("--fresh", action="store_true")
    table = command("table", "make a table and the runs that it needs, under build/")
    table.add_argument("name", choices=sorted(registry.tables()))
    notebook = command("notebook", "execute a notebook into build/")
    notebook.add_argument("number", choices=registry.NOTEBOOKS)
    notebook.add_argument("--stale", action="store_true", help="draw tables that other code made, and say so")
    plan = command("plan", "what `make figures` would run, and how long that takes here")
    plan.add_argument("--cores", type=int, default=2)
    plan.add_argument("--fresh", action="store_true")
    command("status", "which committed tables and agents are out of date")
    published = command("publish", "put what was made under build/ where readers see it")
    published.add_argument("--study", choices=sorted(n for n, t in registry.tables().items() if t.side))
    size = command("memory", "what an update of a language model holds, and whether it fits on one GPU")
    size.add_argument("--model", default="Qwen/Qwen2.5-7B-Instruct", help="a name, or a folder with config.json")
    size.add_argument("--game", choices=language.GAMES, default="trust_and_split")
    size.add_argument("--reply", type=int, default=60, help="tokens of a reply, as a rule")
    size.set_defaults(profile="paper")
    known = command("check", "refuse what does not exist, before anything starts")
    known.add_argument("--notebook", choices=registry.NOTEBOOKS)
    known.add_argument("--table", choices=sorted(registry.tables()))
    known.add_argument("--study", choices=sorted(n for n, t in registry.tables().items() if t.side))
    return top


def declared(options: argparse.Namespace, top: argparse.ArgumentParser) -> list[Run]:
    """The runs that `run` names."""
    experiment = registry.experiments()[options.experiment]
    seeds = options.seeds or experiment.seeds(options.profile)
    try:
        return [experiment.run(options.profile, options.variant, seed) for seed in seeds]
    except (KeyError, ValueError) as error:
        known = ", ".join(experiment.variants(options.profile))
        top.error(f"variant of {options.experiment} must be one of {known}, got {options.variant!r} ({error})")


def main(arguments: list[str] | None = None) -> None:
    """See the module's docstring."""
    top = parser()
    options = top.parse_args(arguments)
    started = time.perf_counter()
    if options.command in ("notebook", "plan", "publish", "check") and options.profile == "extended":
        top.error("profile extended holds side studies only: make studies/NAME")
    if options.command == "list":
        for experiment in registry.experiments().values():
            variants, seeds = experiment.variants(options.profile), list(experiment.seeds(options.profile))
            print(f"{experiment.name}: {', '.join(variants)}; seeds {', '.join(map(str, seeds))}")
    elif options.command == "run":
        for run in declared(options, top):
            folder = make(run, options.fresh)
            print(f"run {run.name}: {time.perf_counter() - started:.0f} s, {build.relative(str(folder))}", flush=True)
    elif options.command == "make":
        run = build.every_run(options.profile)[options.record]
        make(run, options.fresh)
        print(f"run {run.name}: {time.perf_counter() - started:.0f} s", flush=True)
    elif options.command == "table":
        table = registry.tables()[options.name]
        home = table.home(options.profile)
        assemble(table, home, table.runs(home))
    elif options.command == "notebook":
        from papermill.exceptions import PapermillExecutionError  # here: it takes seconds that a run can do without

        from experiments.execute import execute

        name = registry.NOTEBOOKS[options.number].name
        source, target = ROOT / "notebooks" / f"{name}.ipynb", BUILD / options.profile / "notebooks" / f"{name}.ipynb"
        for line in build.stale_tables(options.number, options.profile) if options.stale else []:
            print(f"notebook {name}: {line}", flush=True)
        try:
            seconds = execute(source, target, options.profile, options.stale)
        except PapermillExecutionError as error:
            sys.exit(f"{build.relative(str(source))}: {error}")
        Path(build.stamp(options.number, options.profile, options.stale)).touch()
        print(f"notebook {name}: {seconds:.0f} s", flush=True)
    elif options.command == "plan":
        sweep_leftovers()
        print(publish.plan(options.profile, options.cores, options.fresh), flush=True)
    elif options.command == "memory":
        from experiments.memory import report  # here: it takes seconds that a run can do without

        try:
            print(report(options.model, options.game, options.profile, options.reply))
        except ValueError as error:
            top.error(str(error))
    elif options.command == "status":
        print(build.status(options.profile))
    elif options.command == "publish":
        if options.study:
            publish.publish_study(options.study)
        else:
            publish.publish(options.profile)
            print(
                f"all figures and executed notebooks are in {build.relative(str(BUILD / options.profile))}/", flush=True
            )


if __name__ == "__main__":
    main()
