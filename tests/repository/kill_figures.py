"""Kill `make figures PROFILE=smoke` at random moments, start it again, and compare with an undisturbed run.

Too slow for `make test`; `make test-kill` runs it. It takes two smoke runs (20 core-minutes), or one if the tables of
an undisturbed run of the same code are at hand: --undisturbed build/smoke/tables.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def clone(folder: Path) -> Path:
    """The last commit, as a stranger has it, on the packages that are installed already."""
    folder = folder / "my clone ä"
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", str(ROOT), str(folder)], check=True)
    (folder / ".venv").mkdir()
    (folder / ".venv" / ".aa-companion-installed").write_text(f"{folder.resolve()}\n")
    return folder


def start(folder: Path, log: Path) -> subprocess.Popen[bytes]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AA_", "MPLBACKEND", "MAKE"))}
    environment = kept | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = ["make", "figures", "PROFILE=smoke", "CORES=1", f'PY="{sys.executable}"']
    with log.open("ab") as file:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=file, start_new_session=True)


def steps(folder: Path) -> int:
    """Number of finished runs and notebooks."""
    return len([*folder.glob("build/runs/*/*/record.json"), *folder.glob("build/smoke/notebooks/*.done")])


def disturb(folder: Path, kills: int, seed: int) -> int:
    """Build until it is done, killed so many times on the way; returns how often it was really killed.

    A moment to kill at is some seconds after a random number of steps, so that a slow machine gets on, too.
    """
    moments, log, killed = random.Random(seed), folder.parent / "killed.log", 0
    while killed < kills:
        job, goal = start(folder, log), steps(folder) + moments.randint(0, 90 // (kills + 1))
        while job.poll() is None and steps(folder) < goal:
            time.sleep(0.2)
        time.sleep(moments.uniform(0, 20))
        if job.poll() is not None:
            break
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
        killed += 1
        print(f"{time.strftime('%H:%M:%S')} killed, {steps(folder)} steps are done", flush=True)
    assert start(folder, log).wait() == 0, f"make failed: {log}"
    return killed


def contents(tables: Path) -> dict[str, str]:
    """Table -> text; of columns and metrics that hold a time only the names."""
    texts = {}
    for path in sorted(tables.glob("*.csv")):
        lines = path.read_text(encoding="utf-8").splitlines()
        timed = re.search("second", lines[0])
        texts[path.stem] = lines[0] if timed else "\n".join(line for line in lines if "seconds" not in line)
    return texts


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--undisturbed", type=Path, help="folder of the tables of an undisturbed run")
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    options = parser.parse_args()
    place = options.folder or Path(tempfile.mkdtemp(prefix="kill_figures_"))
    place.mkdir(parents=True, exist_ok=True)
    undisturbed = options.undisturbed
    if undisturbed is None:
        (place / "undisturbed").mkdir()
        other = clone(place / "undisturbed")
        assert start(other, place / "undisturbed.log").wait() == 0, "make failed undisturbed"
        undisturbed = other / "build" / "smoke" / "tables"
    folder = clone(place)
    killed = disturb(folder, options.kills, options.seed)
    assert killed >= options.kills, f"done after {killed} kills: ask for fewer"
    expected, found = contents(undisturbed), contents(folder / "build" / "smoke" / "tables")
    differing = [name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)]
    assert not differing, f"other tables than undisturbed: {differing}"
    leftovers = [path for path in (folder / "build").rglob(".*") if re.search(r"\.(\d+|lock)$", path.name)]
    assert not leftovers, f"left behind: {leftovers}"
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True).stdout
    assert not changed, f"tracked files were changed: {changed}"
    print(f"killed {killed} times; {len(found)} tables as undisturbed, no leftovers, no tracked file changed")


if __name__ == "__main__":
    main()
