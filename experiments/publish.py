"""Put what was made where readers see it: tables, agents, figures, executed notebooks and the README's generated parts.

It runs at the end of `make figures`, when everything has succeeded, and of `make studies/NAME`, for that side study's
table; `python -m experiments publish --notebook NUMBER` does the same for a part. All is checked before the first file
is written. The comparison with fresh seeds, in data/extended, is judged again by what is published then. Other tracked
files are changed by `make claims`, `make soak` and `make rehearsal-gpu` only, each by a table in data/extended.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from experiments import fresh, paths, records, registry
from experiments.build import COST, cost, stamp
from experiments.pictures import PICTURES, SIDECAR
from experiments.records import read_record, write_atomically
from experiments.run import RefusedError, Run, make, refuse_changed_code, verified, with_needs
from experiments.tables import assemble

AGENTS_LIMIT = 20_000_000  # bytes, all together


def publish(profile: str = "laptop", only: Sequence[str] = ()) -> None:
    """Check what a profile has made in build/ and, in profile laptop, publish all of it.

    What nobody makes any more is removed from the folders that are published. `only` names notebooks: with them come
    the tables and agents that were made here, and all else stays as it is committed, so that a machine which lacks the
    other runs can publish what it has made. RefusedError, and nothing is published, if a picture is missing, has no
    past or is out of date, code was changed and not committed, or the agents are too large.
    """
    refuse_other_seeds()
    built, data = paths.BUILD / profile, paths.DATA / profile
    numbers = only or list(registry.NOTEBOOKS)
    drawn = [name for name, picture in PICTURES.items() if picture.notebook in numbers]
    check_figures(built / "figures", drawn)
    for number in numbers:
        check_notebook(number, profile)
    if profile != "laptop":
        return
    from experiments import readme  # here: it reads tables

    refuse_changed_code(registry.runs(profile))
    for number in numbers:
        registry.NOTEBOOKS[number].refuse_changed()
    mine = [table for table in registry.tables().values() if not table.side and (not only or table.is_made(profile))]
    for table in mine:
        assemble(table, profile)
    recorded = set().union(*(notebook.recorded for notebook in registry.NOTEBOOKS.values()))
    wanted = {COST, *(t.name for t in mine)}.union(*(registry.NOTEBOOKS[number].recorded for number in numbers))
    records.write_table(built / "tables" / f"{COST}.csv", cost(profile), {"table": COST})
    tables = [_whole(path) for path in sorted((built / "tables").glob("*.csv")) if path.stem in wanted]
    agents = [(run, make(run)) for run in registry.agents(profile) if not only or run.is_made()]
    _check_agents(agents)
    text = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    readme.update(text, profile)  # or nothing is written

    _copy([part for path in tables for part in (path, path.with_suffix(".json"))], data)
    _copy_agents(agents)
    _copy([built / "figures" / f"{name}.{end}" for name in drawn for end in ("png", "svg", "json")], paths.FIGURES)
    notebooks = [built / "notebooks" / registry.NOTEBOOKS[number].path.name for number in numbers]
    _copy(notebooks, paths.ROOT / "notebooks")
    _remove_others({table.name for table in registry.tables().values() if not table.side} | recorded | {COST}, data)
    _remove_others(set(PICTURES), paths.FIGURES)
    _remove_other_agents(registry.agents(profile))
    fresh.renew()
    write_atomically(paths.ROOT / "README.md", readme.update(text, profile))


def publish_study(name: str) -> None:
    """Publish the table of a side study."""
    refuse_other_seeds()
    table = registry.tables()[name]
    refuse_changed_code(with_needs(table.at_home("laptop")))
    assemble(table, "laptop")
    path = _whole(paths.BUILD / "extended" / "tables" / f"{name}.csv")
    _copy([path, path.with_suffix(".json")], paths.DATA / "extended")
    fresh.renew()


def refuse_other_seeds() -> None:
    """Refuse to publish runs of seeds that `make claims` asked for."""
    if "AA_SEEDS" in os.environ:
        raise RefusedError("AA_SEEDS must not be set: figures are published with the seeds that are judged")


def check_notebook(number: str, profile: str) -> None:
    """RefusedError if a notebook was not executed as it stands, or a file that it left is another now (checksums)."""
    path, name = Path(stamp(number, profile)), registry.NOTEBOOKS[number].name
    left = read_record(path)
    if left is None:
        raise RefusedError(
            f"notebook {name} has not been executed as it stands: `make figures` or, alone, "
            f"`.venv/bin/python -m experiments notebook {number}` executes it"
        )
    for file, expected in left.items():
        made = paths.BUILD / profile / file
        if not made.is_file() or records.checksum(made) != expected:
            raise RefusedError(
                f"{made} is not what {name} left there: remove {path}, then `make figures` or `experiments notebook`"
            )


def check_figures(folder: Path, names: Sequence[str]) -> None:
    """RefusedError if a picture is missing, has no past as `figures.save` leaves it, was drawn by another notebook than
    PICTURES says, or from stale tables that are no side studies (these are made on demand; their pictures say so).
    """
    if missing := [name for name in names if not (folder / f"{name}.png").is_file()]:
        raise RefusedError(f"figures must all be drawn, {folder} lacks {', '.join(missing)}")
    studies = {name for name, table in registry.tables().items() if table.side}
    for name in names:
        picture, record = PICTURES[name], read_record(folder / f"{name}.json")
        if record is None or not set(SIDECAR) <= set(record):
            raise RefusedError(f"figure {name}.png has no whole {name}.json: draw it with experiments.figures.save")
        if record["notebook"][:2] != picture.notebook:
            raise RefusedError(f"figure {name}.png comes from {record['notebook']!r}, not from {picture.notebook}")
        if stale := sorted(set(record["stale"]) - studies):
            raise RefusedError(f"figure {name}.png was drawn from tables that other code made: {stale}")


def _whole(path: Path) -> Path:
    """The path of a table that is whole and that committed code made."""
    _, record = records.read_table(path)
    if (record.get("git_commit") or "").endswith("-dirty"):
        raise RefusedError(f"{path} was made by code that was not committed: commit it, then make the table again")
    return path


def _copy(files: list[Path], folder: Path) -> None:
    """Copy files into a folder of the repository."""
    for path in files:
        write_atomically(folder / path.name, path.read_bytes())


def _remove_others(names: set[str], folder: Path) -> None:
    """Remove what was published in a folder and is not made any more."""
    for record in sorted(folder.glob("*.json")):
        if record.stem not in names:
            print(f"removed {paths.relative(record.with_suffix(''))}: nothing makes it any more")
            for path in folder.glob(f"{record.stem}.*"):
                path.unlink()


def _check_agents(agents: list[tuple[Run, Path]]) -> None:
    size = sum(path.stat().st_size for _, folder in agents for path in folder.rglob("*") if path.is_file())
    if size > AGENTS_LIMIT:
        raise RefusedError(
            f"agents must take at most {AGENTS_LIMIT:,} bytes together, got {size:,}: keep fewer of them"
        )
    for _, folder in agents:
        verified(folder)


def _copy_agents(agents: list[tuple[Run, Path]]) -> None:
    """Keep the agents that notebooks load in data/agents."""
    for run, folder in agents:
        if folder != run.committed:
            scratch = run.committed.with_name(f".{run.committed.name}.{os.getpid()}")
            shutil.rmtree(scratch, ignore_errors=True)
            shutil.copytree(folder, scratch)
            aside = scratch.with_name(f".{run.committed.name}.old.{os.getpid()}")
            if run.committed.exists():
                run.committed.rename(aside)  # for a moment only, since what a kill leaves here is to be restored
            scratch.rename(run.committed)
            shutil.rmtree(aside, ignore_errors=True)


def _remove_other_agents(agents: list[Run]) -> None:
    """Remove agents that no notebook loads any more."""
    kept = {run.committed for run in agents}
    for path in sorted((paths.DATA / "agents").glob("*/*")):
        if path.is_dir() and path not in kept:
            print(f"removed {paths.relative(path)}: no notebook loads it any more")
            shutil.rmtree(path)
