"""What the Snakefile asks: which files stand for a run or an executed notebook, and what has to be made before."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from aa_core.paths import BUILD, DATA, ROOT
from experiments import records, registry
from experiments.identity import reached, short_hash
from experiments.run import Run, finished
from experiments.tables import command, minutes, out_of_date


def record_of(run: Run) -> str:
    """The file that is there when a run is finished."""
    return str(run.folder / "record.json")


@cache
def notebook_identity(number: str, profile: str) -> str:
    """Hash of a notebook's code and text, of the code of the project that it executes, and of the tables it reads."""
    notebook = registry.NOTEBOOKS[number]
    cells = json.loads((ROOT / "notebooks" / f"{notebook.name}.ipynb").read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells]
    code = "\n".join(text for cell, text in zip(cells, texts, strict=True) if cell["cell_type"] == "code")
    lines = [("pass" if line.lstrip().startswith(("%", "!")) else line) for line in code.splitlines()]
    tables = {name: [run.identity for run in registry.tables()[name].runs(profile)] for name in notebook.tables}
    studies = {}
    for name in notebook.studies:
        path = DATA / registry.tables()[name].home(profile) / f"{name}.json"
        studies[name] = (records.read_record(path) or {}).get("table_sha256")
    return short_hash([texts, reached(("notebook", None), source="\n".join(lines)), tables, studies])


def stamp(number: str, profile: str, stale: bool = False) -> str:
    """The file that is there when a notebook has been executed, as it stands, on its present tables."""
    mark = "stale" if stale else "done"
    return str(BUILD / profile / "notebooks" / f"{number}.{notebook_identity(number, profile)}.{mark}")


def before_notebook(number: str, profile: str, whole: bool) -> list[Run]:
    """Runs that must be there before a notebook is executed.

    Args:
        number: of the notebook.
        profile: of the runs.
        whole: all runs of its tables, as `make figures` wants; otherwise those of tables that nobody has made yet.
    """
    tables = [registry.tables()[name] for name in registry.NOTEBOOKS[number].tables]
    wanted = [t for t in tables if whole or not (DATA / t.home(profile) / f"{t.name}.csv").is_file()]
    return [run for table in wanted for run in table.runs(table.home(profile))]


def stale_tables(number: str, profile: str) -> list[str]:
    """A line for each committed table of a notebook that other code made, with the command that makes it again."""
    lines = []
    for table in (registry.tables()[name] for name in registry.NOTEBOOKS[number].tables):
        runs = table.runs(table.home(profile))
        record = records.read_record(DATA / table.home(profile) / f"{table.name}.json")
        if record is not None and out_of_date(record, runs) and not all(run.is_made() for run in runs):
            lines.append(f"{table.name} was made by other settings or code; `{command(table, profile)}` makes it again")
    return lines


def before_run(run: Run, whole: bool) -> list[Run]:
    """Runs that a run builds on; unless `whole`, committed ones that are current are taken as they are."""
    return [need for need in run.needs if whole or finished(need) is None or need.is_made()]


def runtime(run: Run) -> int:
    """Minutes that a cluster should give it: three times what a laptop needs, or two days where a GPU is needed."""
    return 2880 if run.gpu else max(10, round(3 * run.minutes))


def every_run(profile: str) -> dict[str, Run]:
    """record file -> run, side studies and what they need included."""
    waiting = [*registry.runs(profile)]
    for table in registry.tables().values():
        waiting += table.runs(table.home(profile))
    found: dict[str, Run] = {}
    while waiting:
        run = waiting.pop()
        if record_of(run) not in found:
            found[record_of(run)] = run
            waiting += run.needs
    return found


def relative(path: str) -> str:
    """A path as people like to read it."""
    return str(Path(path).relative_to(ROOT)) if Path(path).is_relative_to(ROOT) else path


def status(profile: str) -> str:
    """A line for each committed table and agent that is not current."""
    lines = []
    for name, table in sorted(registry.tables().items()):
        home = table.home(profile)
        path = DATA / home / f"{name}.csv"
        try:
            _, record = records.read_table(path)
        except (records.DamagedTable, records.MissingTable) as error:
            word = "damaged" if isinstance(error, records.DamagedTable) else "missing"
            lines.append(f"{word:8} {relative(str(path))}")
            continue
        if differing := out_of_date(record, table.runs(home)):
            left = f"{len(differing)} runs, {minutes(table.runs(home)):.0f} minutes"
            lines.append(f"stale    {relative(str(path))}: {left}")
    for run in registry.agents(profile):
        record = records.read_record(run.committed / "record.json") or {}
        if record.get("identity") != run.identity:
            lines.append(f"{'stale' if record else 'missing':8} {relative(str(run.committed))}")
    return "\n".join(lines) or "every committed table and agent was made by the present settings and code"
