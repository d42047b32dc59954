"""Tables and trained agents for whoever reads them: verified, and never out of date in silence.

A table is looked for in `build/` first, among what has been made here, and then among what is committed in `data/`: the
first one counts that the present settings and code have made (the identity of each of its runs, or of the notebook that
records it). It must be whole (its checksum).
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from aa_core.checks import check_choice
from experiments import paths, records, registry
from experiments.identity import settings_as_data, short_hash
from experiments.records import MissingTable, StaleTable
from experiments.run import PROFILES, Run, Table, finished, make, table_of, verified, with_needs


def load(name: str, profile: str, stale: bool = False) -> pd.DataFrame:
    """A table of our runs.

    If nobody has made it yet, its runs are made now, after a word on how long that takes.

    Args:
        name: of one of `registry.tables()`.
        profile: one of PROFILES.
        stale: accept a committed table that other settings or code made; figures drawn from it say so.

    Raises:
        ValueError: unknown name or profile.
        StaleTable: other settings or code made it.
        DamagedTable: it was cut or altered.
        MissingTable: it is a side study that nobody has made.
    """
    check_choice("profile", profile, PROFILES)
    check_choice("name", name, registry.tables())
    table = registry.tables()[name]
    home = table.home(profile)
    runs = table.runs(home)
    if all(run.is_made() for run in runs):
        return assemble(table, profile)
    found, way_out = records.places(name, home), f"`{command(table, profile)}` makes it again"
    if not found:
        if table.side and profile == "laptop":
            raise MissingTable(f"nobody has made the side study {name} yet: `{command(table, profile)}`")
        announce(name, runs)
        for run in tqdm(runs, desc=name, disable=paths.HEADLESS, leave=False):
            make(run)  # here rather than in `assemble`: with a progress bar
        return assemble(table, profile)
    for path in found:
        content, record = records.read_table(path, way_out)
        if not (differing := out_of_date(record, table, runs)):
            break
    if differing and not stale:
        shown = ", ".join(differing[:3]) + (", ..." if len(differing) > 3 else "")
        raise StaleTable(
            f"{path} was made by other settings or other code ({len(differing)} of its runs, {shown}): {way_out}, in "
            f"about {minutes(runs):.0f} minutes of one core; stale=True reads it all the same, and figures say so"
        )
    return remember(name, content, record | {"stale": bool(differing)})


def out_of_date(record: dict[str, Any], table: Table, runs: Sequence[Run]) -> list[str]:
    """Names of the runs in which a table's record differs from the present declarations."""
    made = {name: run.get("identity") for name, run in (record.get("runs") or {}).items() if isinstance(run, dict)}
    declared = {run.name: run.identity for run in runs}
    if record.get("kept_by") != kept_by(table):
        return sorted(declared)
    return sorted(name for name in {*made, *declared} if made.get(name) != declared.get(name))


def kept_by(table: Table) -> str | None:
    """Identity of what is kept of each run; None where it is all."""
    return short_hash(settings_as_data(table.keep)) if table.keep else None


def command(table: Table, profile: str) -> str:
    """What makes a table again."""
    if table.side:
        return f"make studies/{table.name}"
    option = "" if profile == "laptop" else f" PROFILE={profile}"
    return f"make tables/{table.name}{option}"


def minutes(runs: Sequence[Run]) -> float:
    """Rough core-minutes of the runs that are still to be made, with what they need."""
    return sum(run.minutes for run in with_needs(runs, lambda run: not run.is_made()))


def announce(what: str, runs: Sequence[Run]) -> None:
    """Say what will be made before it starts."""
    todo = [run for run in runs if finished(run) is None]
    if todo:
        words = f"making {len(todo)} of {len(runs)} runs, about {minutes(todo):.1f} minutes of one core"
        print(f"{what}: {words}", flush=True)


def assemble(table: Table, profile: str) -> pd.DataFrame:
    """Put a table together from its runs, of which missing ones are made, and write it with its record under build/."""
    folders = {run.name: make(run) for run in table.at_home(profile)}
    made = {name: verified(folder) for name, folder in folders.items()}
    parts = [table.kept(table_of(folder)) for folder in folders.values()]
    content = pd.concat([part for part in parts if len(part)], ignore_index=True)
    path = paths.BUILD / table.home(profile) / "tables" / f"{table.name}.csv"
    records.write_table(path, content, {"table": table.name, "runs": made, "kept_by": kept_by(table)})
    return remember(table.name, *records.read_table(path))


def remember(name: str, table: pd.DataFrame, record: dict[str, Any]) -> pd.DataFrame:
    """Keep the record for the figures drawn from the table; its `attrs["stale"]` says whether it is out of date."""
    records.READ[name] = {"stale": False, **record, "seeds": records.count_seeds(table)}
    table.attrs["stale"] = records.READ[name]["stale"]
    return table


def record(name: str, profile: str, settings: Any, table: pd.DataFrame) -> pd.DataFrame:
    """Write a small table that a notebook has computed itself, with its settings, under build/; returns it as read."""
    check_choice("profile", profile, PROFILES)
    path = paths.BUILD / profile / "tables" / f"{Path(name).name}.csv"
    if path.stem != name:
        raise ValueError(f"name must be that of a file without folders, got {name!r}")
    content = {"table": name, "code": _code(name), **records.provenance(settings_as_data(settings), 0.0)}
    records.write_table(path, table, content)
    return remember(name, *records.read_table(path))


def read(name: str, profile: str, stale: bool = False) -> pd.DataFrame:
    """A table that a notebook has recorded, from build/ or data/, verified; `stale`: also if its code was another.

    Raises:
        MissingTable: with the command that makes it.
        StaleTable: the notebook, or what it calls, has changed since.
        DamagedTable: it was cut or altered.
    """
    check_choice("profile", profile, PROFILES)
    way_out, found = f"`make figures PROFILE={profile}` makes it", records.places(name, profile)
    if not found:
        raise MissingTable(f"no table {name} of profile {profile}: {way_out}")
    for path in found:
        content, record = records.read_table(path, way_out)
        if current := record.get("code") == _code(name):
            break
    if not current and not stale:
        raise StaleTable(f"{path} was recorded by other code: {way_out}; stale=True reads it all the same")
    return remember(name, content, record | {"stale": not current})


def _code(name: str) -> str | None:
    """Identity of the code of the notebook that records a table; None if no notebook does."""
    notebook = registry.author(name)
    return notebook.identity if notebook else None


def agent(run: Run, stale: bool = False) -> Path:
    """The folder of a run's trained agent, in build/ or as committed; it is trained, after a word, if nobody has.

    Raises:
        StaleTable: the committed one was trained by other settings or code.
        DamagedTable: one of its files was cut or altered, here or in the repository.
    """
    if (folder := finished(run)) is not None:
        return folder
    kept = {other.name: other.identity for other in registry.agents("laptop")}
    if not run.committed.is_dir() or kept.get(run.name) != run.identity:  # nobody's, or that of another profile
        announce(run.name, [run])
        return make(run)
    verified(run.committed)
    if stale:
        return run.committed
    words = shlex.join(["python", "-m", "experiments", "run", run.experiment, run.variant, str(run.seed)])
    raise StaleTable(
        f"{run.committed} was trained by other settings or other code: `{words}` trains it again, in about "
        f"{minutes([run]):.0f} minutes of one core; stale=True takes it all the same"
    )
