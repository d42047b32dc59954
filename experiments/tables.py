"""Tables and trained agents for whoever reads them: verified, and never out of date in silence.

A table is looked for in `build/` first, among what has been made here, and then among what is committed in `data/`: the
first one counts that the present settings and code have made (the identity of each of its runs, or of the notebook that
records it). It must be whole (its checksum).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from aa_core.checks import check_choice
from experiments import paths, records, registry
from experiments.identity import settings_as_data, short_hash
from experiments.records import MissingTable, StaleTable
from experiments.run import PROFILES, Run, Table, finished, make, refuse_edited_code, table_of, verified, with_needs


def load(name: str, profile: str, stale: bool = False, train: bool = True) -> pd.DataFrame:
    """A table of our runs, or one that a notebook records; what nobody has made is made, after a word on the time.

    StaleTable if other settings or code made it; with `stale` it is read all the same, and figures drawn from it say
    so. DamagedTable if it was cut or altered. MissingTable if nobody has made a side study or a notebook's table; with
    `train` false also where runs are missing.
    """
    check_choice("profile", profile, PROFILES)
    check_choice("name", name, registry.table_names())
    table, home, way_out = registry.tables().get(name), profile, f"`{command(name, profile)}` makes it again"
    runs = table.at_home(profile) if table else []
    if table:
        home = table.home(profile)
        if table.is_made(profile):
            return assemble(table, profile)
    found = records.places(name, home)
    if not found and (not table or not train or home != profile):
        raise MissingTable(f"nobody has made {name} of profile {profile} yet: `{command(name, profile)}`")
    if not found:
        announce(name, runs)
        for run in tqdm(runs, desc=name, disable=paths.HEADLESS, leave=False):
            make(run)  # here rather than in `assemble`: with a progress bar
        return assemble(table, profile)
    for path in found:
        content, record = records.read_table(path, way_out)
        if not (differing := out_of_date(name, profile, record)):
            break
    if differing and not stale:
        shown = ", ".join(differing[:3]) + (", ..." if len(differing) > 3 else "")
        raise StaleTable(
            f"{path} was made by other settings or other code ({shown}): {way_out}{effort(runs)}; stale=True reads it "
            "all the same, and figures say so"
        )
    return remember(name, content, record | {"stale": bool(differing)})


def out_of_date(name: str, profile: str, record: dict[str, Any]) -> list[str]:
    """Names of the runs, or of the notebook, in which a table's record differs from what there is now."""
    if (table := registry.tables().get(name)) is None:
        notebook = registry.author(name)
        return [notebook.name] if notebook and record.get("code") != notebook.identity else []
    made = {run: made.get("identity") for run, made in (record.get("runs") or {}).items() if isinstance(made, dict)}
    declared = {run.name: run.identity for run in table.at_home(profile)}
    if record.get("kept_by") != kept_by(table):
        return sorted(declared)
    return sorted(run for run in {*made, *declared} if made.get(run) != declared.get(run))


def kept_by(table: Table) -> str | None:
    """Identity of what is kept of each run; None where it is all."""
    return short_hash(settings_as_data(table.keep)) if table.keep else None


def command(name: str, profile: str) -> str:
    """What makes a table again, where whoever reads it looks first."""
    table, notebook = registry.tables().get(name), registry.author(name)
    target = f"notebooks/{notebook.name[:2]}" if notebook else "figures"
    target = target if table is None else f"studies/{name}" if table.side else f"tables/{name}"
    return f"make {target}{'' if profile in ('laptop', 'extended') else f' PROFILE={profile}'}"


def waiting(run: Run) -> bool:
    """Whether a run is still to be made: it is neither here nor in the repository, or damaged here, where it heals.

    DamagedTable for a damaged one of the repository.
    """
    try:
        return finished(run) is None
    except records.DamagedTable:
        if run.is_made():
            return True
        raise


def effort(runs: Sequence[Run], wanted: Callable[[Run], bool] = waiting) -> str:
    """How long the runs that are wanted will take, with what they need, as the end of a sentence; "" for none."""
    todo = with_needs(runs, wanted)
    large = sum(run.gpu for run in todo)
    small = sum(run.minutes for run in todo if not run.gpu)
    words = [f"about {small:.1f} minutes of one core"] if small else []
    words += [f"hours to days on a GPU for {large} of them"] if large else []
    return f", in {' and '.join(words)}" if words else ""


def announce(what: str, runs: Sequence[Run], again: Collection[str] = ()) -> None:
    """Say what will be made before it starts; `again`: names of runs that are made although they are there."""

    def wanted(run: Run) -> bool:
        return run.name in again or waiting(run)

    if todo := [run for run in runs if wanted(run)]:
        print(f"{what}: making {len(todo)} of {len(runs)} runs{effort(todo, wanted)}", flush=True)


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
    path = paths.BUILD / profile / "tables" / f"{Path(str(name)).name}.csv"
    if path.stem != name or name in ("", ".."):
        raise ValueError(f"name must be that of a file without folders, got {name!r}")
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"table must be a DataFrame, got {type(table).__name__}")
    refuse_edited_code()
    notebook = registry.author(name)
    code = notebook.identity if notebook else None
    content = {"table": name, "code": code, **records.provenance(settings_as_data(settings), 0.0)}
    records.write_table(path, table, content)
    return remember(name, *records.read_table(path))


def agent(run: Run, stale: bool = False) -> Path:
    """The folder of a run's trained agent, in build/ or as committed; it is trained, after a word, if nobody has.

    Errors as of `load`.
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
    words = shlex.join([".venv/bin/python", "-m", "experiments", "run", run.experiment, run.variant, str(run.seed)])
    raise StaleTable(
        f"{run.committed} was trained by other settings or other code: `{words}` trains it again{effort([run])}; "
        "stale=True takes it all the same"
    )
