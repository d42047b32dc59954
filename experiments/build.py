"""What has to be made before what, what it costs here, what is out of date: asked by the Snakefile and by people."""

from __future__ import annotations

import os
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pandas as pd
import torch

from experiments import fresh, paths, records, registry
from experiments.identity import reached, short_hash
from experiments.paths import relative
from experiments.pictures import PICTURES, alternative_text
from experiments.run import RefusedError, Run, finished, verified, with_needs
from experiments.tables import effort, out_of_date

COST = "cost"  # the table of what every run took ...
START = 3  # ... but for the seconds in which its process begins, as `time` tells of a run that is there


def record_of(run: Run) -> str:
    """The file that is there when a run is finished."""
    return str(run.folder / "record.json")


def every_run(profile: str) -> dict[str, Run]:
    """record file -> run, side studies and what they need included."""
    of_tables = [run for table in registry.tables().values() for run in table.at_home(profile)]
    return {record_of(run): run for run in with_needs([*registry.runs(profile), *of_tables])}


def run_of(record: str, profile: str) -> Run | None:
    """The run of a record file, or None; it hashes those of that name alone, since to hash all takes a second."""
    waiting = [*registry.agents(profile)]
    waiting += [run for table in registry.tables().values() for run in (*table.runs(profile), *table.at_home(profile))]
    while waiting:
        run = waiting.pop()
        if f"/{run.name}." in record and record_of(run) == record:
            return run
        waiting += run.needs
    return None


def before_run(run: Run, whole: bool) -> list[Run]:
    """Runs that a run builds on; unless `whole`, committed ones that are current are taken as they are."""
    return [need for need in run.needs if whole or finished(need) is None or need.is_made()]


def before_notebook(number: str, profile: str, whole: bool) -> list[Run]:
    """Runs that must be there before a notebook is executed: `whole`: all of its tables, as `make figures` wants; else
    those of tables that nobody has made yet.
    """
    tables = registry.NOTEBOOKS[number].tables()
    wanted = [t for t in tables if whole or (number != registry.LAST and not t.committed(profile).is_file())]
    return [run for table in wanted for run in table.runs(profile)]


def runtime(run: Run) -> int:
    """Minutes that a cluster should give it: three times what a laptop needs, or two days where a GPU is needed."""
    return 2880 if run.gpu else max(10, round(3 * run.minutes))


@cache
def stamp(number: str, profile: str, stale: bool = False) -> str:
    """The file that is there when a notebook has been executed, as it stands, on its present tables.

    Its name holds a hash of the notebook's code and text, of the code of the project that it executes, of the tables
    that it reads and of the papers' numbers. In it stand the checksums of what the notebook left behind.
    """
    notebook = registry.NOTEBOOKS[number]
    read, studies = notebook.tables(), notebook.tables(side=True)
    found = reached(("notebook", None), source=notebook.code)
    kept = [t.committed(profile) for t in studies]
    if "experiments.fresh:read" in found:
        kept.append(paths.DATA / "extended" / f"{fresh.NAME}.csv")
    sums = {path.stem: (records.read_record(path.with_suffix(".json")) or {}).get("table_sha256") for path in kept}
    published = {path.name: records.checksum(path) for path in sorted(paths.PUBLISHED.glob("*.csv"))}
    declared = {table.name: [run.identity for run in table.at_home(profile)] for table in (*read, *studies)}
    parts = [notebook.cells, found, {table.name: declared[table.name] for table in read}, sums, published]
    if stale:  # drawn again when one of its tables has been made here
        parts.append({table.name: declared[table.name] for table in (*read, *studies) if table.is_made(profile)})
    if number == registry.LAST:  # it shows what the others leave
        others = [other for other in registry.NOTEBOOKS if other != number]
        parts.append([Path(stamp(other, profile, stale)).name for other in others])
    identity = short_hash(parts)
    return str(paths.BUILD / profile / "notebooks" / f"{number}.{identity}.{'stale' if stale else 'done'}")


def left_by(number: str) -> list[str]:
    """Files under build/PROFILE that a notebook leaves: itself executed, its pictures, the tables that it records."""
    notebook = registry.NOTEBOOKS[number]
    drawn = [name for name, picture in PICTURES.items() if picture.notebook == number]
    pictures = [f"figures/{name}.{end}" for name in drawn for end in ("png", "svg", "json")]
    tables = [f"tables/{name}.{end}" for name in notebook.recorded for end in ("csv", "json")]
    return [f"notebooks/{notebook.path.name}", *pictures, *tables]


def seal(number: str, profile: str, stale: bool = False, named: str = "") -> None:
    """Write the stamp of an executed notebook: the file `named` before the execution, if it was."""
    left = {file: paths.BUILD / profile / file for file in left_by(number)}
    sums = {file: records.checksum(path) for file, path in left.items() if path.is_file()}
    records.write_record(Path(named or stamp(number, profile, stale)), sums)


def unseal(number: str, profile: str) -> None:
    """Remove all stamps of a notebook, since what they stand for is about to be written over."""
    for old in (paths.BUILD / profile / "notebooks").glob(f"{number}.*"):
        old.unlink(missing_ok=True)


def execute(number: str, profile: str, stale: bool = False, named: str = "") -> None:
    """Execute a notebook with papermill, in its folder, from a clean slate and without traces of where, into build/.

    If a cell fails, nothing is written, and the program ends with its error. The stamp, `named` or
    not, is of what was there before: whoever edits meanwhile has it executed again.
    """
    import nbformat  # here: they take seconds that a run can do without
    import papermill

    from experiments.figures import lighter

    started, name, source = time.perf_counter(), registry.NOTEBOOKS[number].name, registry.NOTEBOOKS[number].path
    named = named or stamp(number, profile, stale)
    unseal(number, profile)
    for line in drawn_stale(number, profile) if stale else []:
        print(f"notebook {name}: {line}", flush=True)
    os.environ["AA_HEADLESS"] = "1"  # the kernel inherits it
    os.environ.pop("MPLBACKEND", None)  # an inherited one would leave the notebook without pictures
    try:
        notebook = papermill.execute_notebook(
            str(source), None, {"profile": profile, "stale": stale}, kernel_name="python3", cwd=str(source.parent),
            extra_arguments=["--log-level=40"],  # the kernel's errors, not its warning about a local port
            coalesce_streams=True,  # how printed lines come in parts differs between two equal runs
            progress_bar={"desc": name, "leave": False, "ncols": 79} if sys.stderr.isatty() else False,
        )  # fmt: skip
    except papermill.PapermillExecutionError as error:
        sys.exit(f"{relative(source)}: {error}")
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook.cells = [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    for cell in notebook.cells:  # what differs between two equal runs
        cell.metadata = registry.lasting(cell.metadata)
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                if profile != "smoke":
                    output.data["image/png"] = b64encode(lighter(b64decode(output.data["image/png"]))).decode()
                output.metadata.setdefault("image/png", {})["alt"] = alternative_text(cell)
    target = paths.BUILD / profile / "notebooks" / source.name
    records.write_atomically(target, nbformat.writes(notebook) + "\n")
    seal(number, profile, stale, named)
    print(f"notebook {name}: {time.perf_counter() - started:.0f} s, {relative(target)}", flush=True)


def drawn_stale(number: str, profile: str) -> list[str]:
    """A line for each committed table of a notebook that is not current and has not been made here."""
    named = {t.committed(profile): t.name for t in registry.NOTEBOOKS[number].tables() if not t.is_made(profile)}
    return list(outdated({path: name for path, name in named.items() if path.is_file()}, profile))


def outdated(tables: dict[Path, str], profile: str) -> Iterator[str]:
    """A line for each committed table that is not current, with the command that makes it again."""
    for path, name in tables.items():
        table = registry.tables().get(name)
        way_out = f"make studies/{name}" if table and table.side else "make figures"  # which publish it, too
        way_out = "make claims SEEDS=..." if name == fresh.NAME else way_out
        try:
            record = records.read_table(path)[1]
            differing = fresh.stale(record) if name == fresh.NAME else out_of_date(name, profile, record)
            words = f"stale    {relative(path)}: {', '.join(differing)} changed" if differing else ""
            if words and table:
                words = f"stale    {relative(path)}: {len(differing)} runs{effort(table.at_home(profile))}"
        except (records.DamagedTable, records.MissingTable) as error:
            words = f"{'damaged' if isinstance(error, records.DamagedTable) else 'missing'}  {relative(path)}"
        ours = name in {*registry.table_names(), COST, fresh.NAME}
        if words:
            yield f"{words}; " + (
                f"`{way_out}` makes it again" if ours else "nothing of ours makes it: restore or remove it"
            )


def status(profile: str) -> str:
    """A line for each committed table and agent that is not current."""
    folders = [paths.DATA / profile, *([paths.DATA / "extended"] if profile == "laptop" else [])]
    tables = {path: path.stem for folder in folders for path in folder.glob("*.csv")}
    tables |= {table.committed(profile): table.name for table in registry.tables().values()}
    drawn = _drawn_from_others() if profile == "laptop" else ()
    lines = sorted([*outdated(tables, profile), *drawn, *_agents(profile)])
    by_hand = sorted(set(tables.values()) - registry.table_names() - {COST, fresh.NAME})
    apart = f" ({', '.join(by_hand)}, made by hand, apart: their records name the commit)" if by_hand else ""
    return "\n".join(lines) or f"every committed table and agent was made by the present settings and code{apart}"


def _drawn_from_others() -> Iterator[str]:
    """A line for each published picture, and for the verdicts, made from other tables than those that are committed."""
    committed = {path.stem: records.read_record(path) or {} for path in paths.DATA.glob("*/*.json")}
    sums = {name: record.get("table_sha256") for name, record in committed.items()}
    settings = committed.get("verdicts", {}).get("settings", {})
    made_from = {"verdicts.csv": settings.get("tables", {}) if isinstance(settings, dict) else None}
    if not isinstance(made_from["verdicts.csv"], dict):
        yield f"damaged  {relative(paths.DATA / 'laptop' / 'verdicts.json')}: of no verdicts: restore it from git"
        del made_from["verdicts.csv"]
    for name in PICTURES if any(paths.FIGURES.glob("*.json")) else ():
        if not all((paths.FIGURES / f"{name}.{end}").is_file() for end in ("png", "svg", "json")):
            yield f"missing  figures/{name}, as .png, .svg or .json: restore it from git"
    for path in sorted(paths.FIGURES.glob("*.json")):
        told = records.read_record(path) or {}
        data, beside = told.get("data"), told.get("files")
        if not isinstance(data, dict) or not all(isinstance(record, dict) for record in data.values()):
            yield f"damaged  {relative(path)}: no record of a picture (cut, or in conflict): restore it from git"
            continue
        made_from[relative(path)] = {table: record.get("table_sha256") for table, record in data.items()}
        files = {path.with_suffix(f".{end}"): sha for end, sha in beside.items()} if isinstance(beside, dict) else {}
        whole = bool(files) and all(records.checksum(file) == sha for file, sha in files.items() if file.is_file())
        if not whole or told != records.sealed(told):
            yield f"damaged  {relative(path)}, or the picture beside it: altered: restore both from git"
    for name, tables in made_from.items():
        if differing := sorted(table for table, sha in tables.items() if sha != sums.get(table)):
            yield f"stale    {name}: made from another {', '.join(differing)}; `make figures` makes it again"


def _agents(profile: str) -> Iterator[str]:
    for run in registry.agents(profile):
        try:
            if not run.committed.is_dir():
                yield f"missing  {relative(run.committed)}; `make figures` makes it again"
            elif verified(run.committed).get("identity") != run.identity:
                yield f"stale    {relative(run.committed)}; `make figures` makes it again"
        except records.DamagedTable as error:
            yield f"damaged  {relative(run.committed)}: {error}"


def calibration() -> float:
    """Seconds of a core for a fixed small piece of work, a GRU's forward and backward pass: how fast this machine is.

    Time that the core gives to others does not count, so that a busy machine seems no slower.
    """
    torch.manual_seed(0)
    network, inputs, taken = torch.nn.GRU(64, 64), torch.randn(50, 256, 64), []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # those that wait for each other would count
    for _ in range(3):
        started = time.thread_time()
        network(inputs)[0].sum().backward()
        taken.append(time.thread_time() - started)
    torch.set_num_threads(threads)
    return min(taken)


def cost(profile: str) -> pd.DataFrame:
    """Columns experiment, run, seconds (of a core) of every run, made here or committed; first, `calibration`'s."""
    path, last = paths.DATA / profile / f"{COST}.csv", {}
    committed: dict[str, dict] = {}
    if path.is_file():  # of runs that stand in no table, as those who are met in another
        last = records.read_table(path, "restore it from git, or remove it")[0].set_index("run").seconds.to_dict()
    for beside in path.parent.glob("*.json"):
        committed |= (records.read_record(beside) or {}).get("runs", {})
    rows = [("calibration", "calibration", round(calibration(), 4))]
    for run in registry.runs(profile):
        record = records.read_record(run.folder / "record.json") or committed.get(run.name, {})
        if (seconds := record.get("core_seconds", last.get(run.name))) is not None:
            rows.append((run.experiment, run.name, seconds))
    return pd.DataFrame(rows, columns=["experiment", "run", "seconds"])


def plan(profile: str, cores: int, fresh: bool = False) -> str:
    """What `make figures` will run, and how long that takes here."""
    lines = [reckon(registry.runs(profile), f"of profile {profile}", profile, cores, fresh), "then the notebooks"]
    try:
        for notebook in registry.NOTEBOOKS.values() if profile == "laptop" else ():
            notebook.refuse_changed()
    except RefusedError as error:  # before hours are spent
        lines.append(f"which could not be published: {error}")
    return "\n".join(lines)


def reckon(runs: list[Run], which: str, profile: str, cores: int, fresh: bool = False) -> str:
    """Which of some runs are to be made, and how long that takes, by the committed cost and this machine's speed."""
    todo = [run for run in runs if fresh or not run.is_made()]
    head, large = f"{len(todo)} of {len(runs)} runs {which} are to be made", [run for run in todo if run.gpu]
    aside = f"  not counted: hours to days on a GPU for {len(large)} of them" if large else ""
    todo = [run for run in todo if not run.gpu]
    if not todo:
        return "\n".join([head, aside]) if aside else head
    path, known = paths.DATA / profile / f"{COST}.csv", {}
    if path.is_file():  # whatever the seed
        table = records.read_table(path, "restore it from git, or remove it")[0]
        known = table.groupby(table.run.str.replace(r"-\d+$", "", regex=True)).seconds.mean().to_dict()
    speed = calibration() / known["calibration"] if "calibration" in known else 1.0
    spent = [known.get(f"{run.experiment}/{run.variant}", 60 * run.minutes / speed) for run in todo]
    seconds = [(START + each) * speed for each in spent]
    listed = pd.DataFrame({"experiment": [run.experiment for run in todo], "seconds": seconds})
    parts = listed.groupby("experiment", sort=False).seconds.agg(["count", "sum"])
    lines = [f"  {name:24} {count:4.0f} runs {part / 60:7.1f} core-minutes" for name, count, part in parts.itertuples()]
    wall = sum(seconds) / 60 / max(1, cores)
    return "\n".join([f"{head}, about {wall:.0f} minutes on {cores} cores:", *lines, *([aside] if aside else [])])
