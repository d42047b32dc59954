"""Put what was made where readers see it: tables, agents, figures, executed notebooks and the README's generated parts.

The only code that changes tracked files. It runs at the end of `make figures`, when everything has succeeded, and of
`make studies/NAME`, for that side study's table.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pandas as pd
import torch

from aa_core.files import write_atomically
from aa_core.paths import BUILD, DATA, FIGURES, ROOT
from experiments import records, registry
from experiments.run import finished, make, verified
from experiments.tables import assemble, load

AGENTS_LIMIT = 20_000_000  # bytes, all together


def publish(profile: str = "laptop") -> None:
    """Check what a profile has made in build/ and, in profile laptop, publish all of it.

    Raises:
        ValueError: a picture is missing, has no past or is out of date; nothing is published then.
    """
    from experiments import readme  # here: it reads tables
    from experiments.pictures import PICTURES, check_figures

    built = BUILD / profile
    notebooks = [notebook.name for notebook in registry.NOTEBOOKS.values()]
    check_figures(built / "figures", notebooks, [name for name, table in registry.tables().items() if table.side])
    if missing := sorted(set(PICTURES) - {path.stem for path in (built / "figures").glob("*.png")}):
        raise ValueError(f"figures must all be drawn, {built / 'figures'} lacks {', '.join(missing)}")
    if profile != "laptop":
        return
    for name, table in registry.tables().items():
        if not table.side:
            load(name, profile)
    for path in sorted((built / "tables").glob("*.csv")):
        _copy_table(path, DATA / profile)
    write_atomically(DATA / profile / "cost.csv", cost(profile).to_csv(index=False, lineterminator="\n"))
    publish_agents(profile)
    for path in sorted((built / "figures").iterdir()):
        write_atomically(FIGURES / path.name, path.read_bytes())
    for path in sorted((built / "notebooks").glob("*.ipynb")):
        write_atomically(ROOT / "notebooks" / path.name, path.read_bytes())
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    write_atomically(ROOT / "README.md", readme.update(text, profile))


def publish_study(name: str) -> None:
    """Publish the table of a side study."""
    table = registry.tables()[name]
    assemble(table, "extended", table.runs("extended"))
    _copy_table(BUILD / "extended" / "tables" / f"{name}.csv", DATA / "extended")


def _copy_table(path: Path, folder: Path) -> None:
    records.read_table(path)  # whole
    for part in (path, path.with_suffix(".json")):
        write_atomically(folder / part.name, part.read_bytes())


def publish_agents(profile: str) -> None:
    """Keep the agents that notebooks load in data/agents.

    Raises:
        ValueError: they are too large together.
    """
    folders = [(run, finished(run) or make(run)) for run in registry.agents(profile)]
    size = sum(path.stat().st_size for _, folder in folders for path in folder.rglob("*") if path.is_file())
    if size > AGENTS_LIMIT:
        raise ValueError(f"agents must take at most {AGENTS_LIMIT:,} bytes together, got {size:,}: keep fewer of them")
    for run, folder in folders:
        if folder == run.committed:
            continue
        verified(folder)
        scratch = run.committed.with_name(f".{run.committed.name}.{os.getpid()}")
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(folder, scratch)
        shutil.rmtree(run.committed, ignore_errors=True)
        scratch.rename(run.committed)


def calibration() -> float:
    """Seconds of a fixed small piece of work, a GRU's forward and backward pass: how fast this machine is."""
    torch.manual_seed(0)
    network, inputs = torch.nn.GRU(64, 64), torch.randn(50, 256, 64)
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        network(inputs)[0].sum().backward()
        taken.append(time.perf_counter() - started)
    return min(taken)


def cost(profile: str) -> pd.DataFrame:
    """Columns experiment, run, seconds (of a core) of every finished run; first, what `calibration` took."""
    rows = [("calibration", "calibration", round(calibration(), 4))]
    for run in registry.runs(profile):
        if record := records.read_record(run.folder / "record.json"):
            rows.append((run.experiment, run.name, record["core_seconds"]))
    return pd.DataFrame(rows, columns=["experiment", "run", "seconds"])


def plan(profile: str, cores: int, fresh: bool = False) -> str:
    """What `make figures` will run, and how long that takes here, by the committed cost and this machine's speed."""
    todo = [run for run in registry.runs(profile) if fresh or not run.is_made()]
    path = DATA / profile / "cost.csv"
    known = pd.read_csv(path).set_index("run").seconds if path.is_file() else pd.Series(dtype=float)
    speed = calibration() / known.get("calibration", calibration()) if len(known) else 1.0
    lines, total = [], 0.0
    for experiment in dict.fromkeys(run.experiment for run in todo):
        mine = [run for run in todo if run.experiment == experiment]
        seconds = sum(known.get(run.name, 60 * run.minutes) * speed for run in mine)
        lines.append(f"  {experiment:24} {len(mine):4} runs {seconds / 60:7.1f} core-minutes")
        total += seconds
    head = f"{len(todo)} of {len(registry.runs(profile))} runs of profile {profile} are to be made"
    if not todo:
        return f"{head}; the notebooks are executed"
    wall = total / 60 / max(1, cores)
    return "\n".join([f"{head}, about {wall:.0f} minutes on {cores} cores, then the notebooks:", *lines])
