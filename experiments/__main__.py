"""Runs, tables and notebooks from the command line.

python -m experiments list
python -m experiments run coin advantage_alignment 101
python -m experiments table coin_league
python -m experiments status
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable

from experiments import build, fresh, language, publish, registry
from experiments.identity import settings_as_data
from experiments.paths import BUILD, relative
from experiments.records import DamagedTable, MissingTable, StaleTable
from experiments.run import PROFILES, NoGPUError, Run, make, sweep_leftovers, with_needs
from experiments.tables import announce, assemble


def at_least(least: int) -> Callable[[str], int]:
    """A type of arguments: integers from `least` on."""

    def integer(text: str) -> int:
        digits = text.strip().lstrip("-")
        if not (digits.isascii() and digits.isdecimal()) or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be an integer from {least} on, got {text!r}")
        if int(text) >= 2**63:  # which no generator takes as a seed
            raise argparse.ArgumentTypeError(f"must be below 2^63, got {text!r}")
        return int(text)

    return integer


def parser() -> argparse.ArgumentParser:
    """What can be asked for; an unknown name is refused with the list of what there is."""
    top = argparse.ArgumentParser(prog="python -m experiments", description=__doc__.splitlines()[0])
    commands = top.add_subparsers(dest="command", required=True)
    tables, studies = sorted(registry.tables()), sorted(name for name, t in registry.tables().items() if t.side)

    def command(name: str, words: str, **flags: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=words, description=words)
        added.add_argument("--profile", choices=PROFILES, default="laptop")
        for flag, meaning in flags.items():
            added.add_argument(f"--{flag}", action="store_true", help=meaning)
        return added

    command("list", "experiments with their variants and seeds")
    run = command(
        "run", "make runs, of any seed, unless they are there", fresh="make them again although they are there"
    )
    run.add_argument("experiment", choices=sorted(registry.experiments()))
    run.add_argument("variant")
    run.add_argument("seeds", type=at_least(0), nargs="*", help="default: those that the figures need")
    command("make", "make the run of a record file, for the Snakefile", fresh="although it is there").add_argument(
        "record"
    )
    command("table", "make a table and the runs that it needs, under build/").add_argument("name", choices=tables)
    notebook = command(
        "notebook", "execute notebooks into build/", stale="draw tables that other code made, and say so"
    )
    notebook.add_argument("--stamp", default="", help="for the Snakefile: the file that says what was executed")
    notebook.add_argument("numbers", choices=registry.NOTEBOOKS, nargs="+", metavar="number")
    plan = command("plan", "what `make figures` would run, and how long that takes here", fresh="count all runs")
    plan.add_argument("--cores", type=at_least(1), default=2)
    words = "which committed tables, pictures and agents are out of date"
    commands.add_parser("status", help=words, description=words).set_defaults(profile="laptop")
    published = command("publish", "put what profile laptop made where readers see it; of others, check it")
    part = published.add_mutually_exclusive_group()
    part.add_argument("--study", choices=studies, help="the table of this side study alone")
    part.add_argument(
        "--notebook", choices=registry.NOTEBOOKS, nargs="+", action="extend", default=[], help="these alone"
    )
    size = command("memory", "what an update of a language model holds, and whether it fits on one GPU")
    size.add_argument("--model", default="Qwen/Qwen2.5-7B-Instruct", help="a name, or a folder with config.json")
    size.add_argument("--game", choices=language.GAMES, default="trust_and_split")
    size.add_argument("--reply", type=at_least(1), default=60, help="tokens of a reply, as a rule")
    size.set_defaults(profile="paper")
    again = command("claims", "a step of `make claims`: what is judged, with other seeds")
    again.add_argument("step", choices=("plan", "tables", "judge"))  # the first two with AA_SEEDS set
    again.add_argument("--seeds", required=True)
    again.add_argument("--only", default="")
    again.add_argument("--cores", type=at_least(1), default=2)
    known = command("check", "refuse what does not exist, before anything starts")
    for flag, names in (("notebook", registry.NOTEBOOKS), ("table", tables), ("study", studies)):
        known.add_argument(f"--{flag}", choices=names)
    known.add_argument("--cores", type=at_least(1))
    known.add_argument("--seeds", help="of `make claims`, as 100-104")
    known.add_argument("--only", default="", help="of `make claims`, figures or how they start")
    return top


def declared(options: argparse.Namespace, top: argparse.ArgumentParser) -> list[Run]:
    """The runs that `run` names."""
    experiment = registry.experiments()[options.experiment]
    seeds = options.seeds or experiment.seeds(options.profile)
    try:
        runs = [experiment.run(options.profile, options.variant, seed) for seed in seeds]
        usual = experiment.run(options.profile, options.variant, experiment.seeds(options.profile)[0])
    except (KeyError, ValueError, ArithmeticError) as error:
        known = experiment.variants(options.profile)
        if not known:
            top.error(f"profile must be another, {options.experiment} has no runs in {options.profile}")
        if options.variant in known:  # it is something else
            raise
        words = f"must be one of {', '.join(known)}, got {options.variant!r}"
        top.error(f"variant of {options.experiment} {words} ({error})")
    told = {run.seed: (settings_as_data(run.settings), [need.name for need in run.needs]) for run in (usual, *runs)}
    if same := [seed for seed in told if seed != usual.seed and told[seed] == told[usual.seed]]:
        what = f"{options.experiment} {options.variant}"
        top.error(f"seed of {what} must be {usual.seed}, its only one: {same[0]} would change nothing")
    return runs


def make_runs(runs: list[Run], fresh: bool) -> None:
    """Make runs, with a line for each."""
    for run in runs:
        started = time.perf_counter()
        folder = make(run, fresh)
        print(f"run {run.name}: {time.perf_counter() - started:.0f} s, {relative(folder)}", flush=True)


def asked(options: argparse.Namespace) -> None:
    """ValueError if `make claims` was asked for seeds or figures that cannot be."""
    fresh.seeds_of(options.seeds), fresh.figures(options.only)
    makes = options.command == "claims" and options.step != "judge"
    if makes and os.environ.get("AA_SEEDS") != options.seeds:
        raise ValueError(f"AA_SEEDS must be {options.seeds} (`make claims` sets it)")


def claims(options: argparse.Namespace) -> None:
    """A step of `make claims`."""
    profile = options.profile
    if options.step == "plan":
        publish.refuse_changed_code([]) if profile == "laptop" else None
        behind = f"behind {', '.join(fresh.figures(options.only))}"
        print(build.reckon(fresh.runs(profile, options.only), behind, profile, options.cores))
    elif options.step == "tables":
        for table in fresh.tables(options.only):
            assemble(table, profile)
    else:
        table = fresh.judge(profile, options.seeds, options.only)  # the tables of others may be old
        table = fresh.with_published(table, options.seeds) if profile == "laptop" else table
        path = fresh.publish(table, profile, options.seeds)
        print(f"{fresh.show(table)}\n\nwritten to {relative(path)}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """See the module's docstring."""
    top = parser()
    options = top.parse_args(arguments)
    try:
        follow(options, top)
    except (publish.RefusedError, DamagedTable, MissingTable, StaleTable, NoGPUError) as error:
        sys.exit(f"make: {error}")


def follow(options: argparse.Namespace, top: argparse.ArgumentParser) -> None:
    """Do what was asked for."""
    profile = options.profile
    if options.command in ("notebook", "plan", "publish", "check") and profile == "extended":
        top.error("profile extended holds side studies only: make studies/NAME, without PROFILE")
    if options.command == "claims" or (options.command == "check" and options.seeds is not None):
        try:
            asked(options)
        except ValueError as error:
            top.error(str(error))
    if options.command == "claims":
        claims(options)
    elif options.command == "check" and options.seeds is not None:
        return
    elif options.command == "check":
        sweep_leftovers()
    elif options.command == "list":
        for experiment in registry.experiments().values():
            variants, seeds = experiment.variants(profile), list(experiment.seeds(profile))
            print(f"{experiment.name}: {', '.join(variants)}; seeds {', '.join(map(str, seeds))}")
    elif options.command == "run":
        runs = declared(options, top)
        again = {run.name for run in runs} if options.fresh else ()
        announce(f"{options.experiment} {options.variant}, with what they need", with_needs(runs), again)
        make_runs(runs, options.fresh)
    elif options.command == "make":
        run = build.run_of(options.record, profile)
        if run is None:
            sys.exit(
                f"make: {options.record or 'no name'} is the record of no run of the present code: if the code has "
                "changed since make began, call it again; `.venv/bin/python -m experiments list` names what there is"
            )
        make_runs([run], options.fresh)
    elif options.command == "table":
        table = registry.tables()[options.name]
        announce(table.name, table.at_home(profile))
        assemble(table, profile)
    elif options.command == "notebook":
        if options.stamp and len(options.numbers) > 1:
            top.error("stamp must be that of one notebook")
        for number in options.numbers:
            build.execute(number, profile, options.stale, options.stamp)
    elif options.command == "plan":
        publish.refuse_other_seeds()
        sweep_leftovers()
        print(build.plan(profile, options.cores, options.fresh), flush=True)
        if profile == "laptop":
            publish.refuse_changed_code([] if options.fresh else registry.runs(profile))
    elif options.command == "memory":
        from experiments.memory import report  # here: it takes seconds that a run can do without

        try:
            print(report(options.model, options.game, profile, options.reply))
        except ValueError as error:
            top.error(str(error))
    elif options.command == "status":
        print(build.status(profile))
    elif options.command == "publish" and options.study:
        if profile != "laptop":
            top.error(f"profile must be laptop for a side study, which is kept for no other, got {profile}")
        publish.publish_study(options.study)
    elif options.command == "publish":
        publish.publish(profile, options.notebook)
        print(f"figures and executed notebooks are in {relative(BUILD / profile)}/", flush=True)


if __name__ == "__main__":
    main()
