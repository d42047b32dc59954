"""Every notebook executes headless in profile smoke, and reads well as it is committed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from ast import literal_eval
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

from experiments import registry
from experiments.paths import ROOT
from experiments.pictures import alternative_text

Make = Callable[..., subprocess.CompletedProcess[str]]
NOTEBOOKS = [notebook.path for notebook in registry.NOTEBOOKS.values()]
every_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
STRANGERS = ("01", "02")  # what they record is read by no other
OURS = [path for path in NOTEBOOKS if path.stem[:2] not in STRANGERS]


def execute(numbers: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "experiments", "notebook", *numbers, "--profile", "smoke"]
    environment = os.environ | {"AA_BUILD": str(folder), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("smoke")  # one for all: the notebooks share their runs


@pytest.fixture(scope="module")
def executed(folder: Path) -> dict[str, subprocess.CompletedProcess[str]]:
    """Notebooks, two at a time; the one that judges the others' tables comes last. STRANGERS are executed elsewhere."""
    last = [registry.LAST]
    first = [number for number in registry.NOTEBOOKS if number not in (*last, *STRANGERS)]
    lanes = [first[::2], first[1::2]]  # a process each: starting one takes seconds
    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(lambda numbers: execute(numbers, folder), lanes))
    done: dict[str, subprocess.CompletedProcess[str]] = {}
    for numbers, end in zip([*lanes, last], [*ends, execute(last, folder)], strict=True):
        done |= dict.fromkeys(numbers, end)
    return done


def look(notebook: Path, figures: Path) -> int:
    """Check what a notebook left; returns how many pictures it shows."""
    outputs = nbformat.read(notebook, as_version=4)
    assert any(cell.get("outputs") for cell in outputs.cells)
    drawn = re.findall(r'figures\.save\(\s*\w+, "(\w+)"', "\n".join(cell.source for cell in outputs.cells))
    for name in drawn:
        for kind in ("png", "svg", "json"):
            assert (figures / f"{name}.{kind}").stat().st_size > 100
    return sum("image/png" in output.get("data", {}) for cell in outputs.cells for output in cell.get("outputs", []))


def lines_are_whole(notebook: Path) -> bool:
    """Whether printed lines come in one part, and not in several that differ from run to run."""
    cells = nbformat.read(notebook, as_version=4).cells
    streams = [[output.get("name") for output in cell.get("outputs", [])] for cell in cells]
    return not [one for names in streams for one, other in pairwise(names) if one and one == other]


@pytest.mark.parametrize("notebook", OURS, ids=lambda path: path.stem)
def test_notebook_executes_in_profile_smoke(
    notebook: Path, folder: Path, executed: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    done = executed[notebook.stem[:2]]
    assert done.returncode == 0, done.stderr[-3000:]
    look(folder / "smoke" / "notebooks" / notebook.name, folder / "smoke" / "figures")
    assert lines_are_whole(folder / "smoke" / "notebooks" / notebook.name)


def test_make_executes_a_notebook_with_pictures_and_changes_nothing_tracked(
    clone: Path, make: Make, changed: Callable[[], str]
) -> None:
    done = make("notebooks/01", "PROFILE=smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    made = clone / "build" / "smoke" / "notebooks" / "01_social_dilemmas.ipynb"
    assert look(made, clone / "build" / "smoke" / "figures") >= 2
    assert lines_are_whole(made)
    assert not list(clone.parent.glob("my")), "a stray folder beside the clone"
    assert changed() == ""
    again = make("notebooks/01", "PROFILE=smoke")
    assert "notebook 01" not in again.stdout, "executed although nothing had changed"


def test_papermill_from_anywhere_changes_nothing_tracked(
    clone: Path, environment: dict[str, str], changed: Callable[[], str], tmp_path: Path
) -> None:
    notebook = clone / "notebooks" / "02_opponent_shaping.ipynb"
    command = [sys.executable, "-m", "papermill", str(notebook), "out.ipynb", "-p", "profile", "smoke"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert look(tmp_path / "out.ipynb", clone / "build" / "smoke" / "figures") >= 1
    assert changed() == ""


def test_notebooks_are_numbered_without_a_gap() -> None:
    assert list(registry.NOTEBOOKS) == [f"{number:02}" for number in range(len(NOTEBOOKS))]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="an unpacked archive")
def test_every_tracked_notebook_is_declared() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "notebooks/*.ipynb"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert sorted(ROOT / name for name in tracked.stdout.split()) == NOTEBOOKS


def test_a_readers_copy_takes_no_number(tmp_path: Path) -> None:
    for name in ("notebooks", "data/published"):
        shutil.copytree(ROOT / name, tmp_path / name)
    original = next((tmp_path / "notebooks").glob("05_*.ipynb"))
    for name in ("05_coin_game_league_mine.ipynb", "05_coin_game_league-Copy1.ipynb", "14_mine.ipynb"):
        shutil.copy(original, original.with_name(name))
    asked = "from experiments import registry; print([n.name for n in registry.NOTEBOOKS.values()])"
    here = os.environ | {"AA_ROOT": str(tmp_path), "PYTHONPATH": str(ROOT)}
    told = subprocess.run([sys.executable, "-c", asked], env=here, capture_output=True, text=True, check=True)
    assert literal_eval(told.stdout) == [path.stem for path in NOTEBOOKS]


@every_notebook
def test_committed_notebook_reads_well(notebook: Path) -> None:
    committed = nbformat.read(notebook, as_version=4)
    nbformat.validate(committed)
    code = [cell for cell in committed.cells if cell.cell_type == "code"]
    parameters = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert len(parameters) == 1
    names = set(re.findall(r"^(\w+) =", parameters[0].source, flags=re.MULTILINE))
    assert {"profile", "stale"} <= names <= {"profile", "seeds", "stale"}
    assert 'profile = "laptop"' in parameters[0].source
    assert "\nstale = False  # " in parameters[0].source, "the README promises that what other code made is refused"
    assert all(cell.execution_count for cell in code if cell.source.strip()), "committed without outputs"
    counts = [cell.execution_count for cell in code if cell.source.strip()]
    assert counts == sorted(counts), "not executed top to bottom"
    outputs = [output for cell in code for output in cell.outputs]
    drawing = [cell for cell in code if any("image/png" in output.get("data", {}) for output in cell.outputs)]
    assert not [cell.id for cell in drawing if not alternative_text(cell)], "pictures without an alternative text"
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"], "warnings spilled"
    assert not re.search(r"/(home|root|work|tmp|Users)/\w", str(outputs)), "a path of somebody's machine"
    assert "train_runtime" not in str(outputs), "a raw line of a trainer's log"
    titles = [cell.source for cell in committed.cells if cell.cell_type == "markdown"]
    assert titles[0].startswith(f"# {notebook.stem[:2]} · ")
    assert "## References" in titles[-1]


@every_notebook
def test_every_solution_is_checked(notebook: Path) -> None:
    code = [cell.source for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]
    solutions = [index for index, source in enumerate(code) if "### BEGIN SOLUTION" in source]
    assert len(solutions) >= 2
    for index in solutions:
        assert "### END SOLUTION" in code[index]
        assert "assert" in code[index + 1]


@every_notebook
def test_references_are_those_of_the_bibliography(notebook: Path) -> None:
    entries = (ROOT / "notebooks/book/references.bib").read_text(encoding="utf-8")
    known = {
        re.sub(r"\s+", " ", re.sub(r"[{}]", "", title))
        for title in re.findall(r"\btitle = \{((?:[^{}]|\{[^{}]*\})*)\}", entries)
    }
    assert len(known) == entries.count("\n@") + 1
    listed = nbformat.read(notebook, as_version=4).cells[-1].source.split("## References")[1]
    titles = [re.sub(r"\s+", " ", title) for title in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", listed)]
    assert len(titles) == listed.count("\n- ") > 0
    assert set(titles) <= known
    assert "(book/references.md)" in listed


SPOKEN = {
    "ten": 10,
    "a minute and a half": 90,
    "half a minute": 30,
    "a minute": 60,
    "two minutes": 120,
    "five minutes": 300,
    "five to eight minutes": 400,
}
STARTING = 5  # seconds that a kernel takes, and imports, before the clock of a record runs


def seconds(text: str) -> float:
    """The first duration in a text."""
    found = re.search(
        rf"(\d+|ten) s(?:econds)?\b|(\d+) min\b|({'|'.join(sorted(SPOKEN, key=len, reverse=True))})", text
    )
    assert found, f"no duration that this test knows in {text!r}"
    if found[1]:
        return float(SPOKEN.get(found[1]) or found[1])
    return 60.0 * int(found[2]) if found[2] else SPOKEN[found[3]]


@every_notebook
def test_told_times_are_about_those_of_the_records(notebook: Path) -> None:
    records = [json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "figures").glob("*.json")]
    took = STARTING + max(r["seconds"]["notebook"] for r in records if r["notebook"] == notebook.name)
    opening = nbformat.read(notebook, as_version=4).cells[0].source.split("**How long**:")[1]
    pages = nbformat.read(NOTEBOOKS[0], as_version=4).cells
    number = notebook.stem[:2]
    (line,) = re.findall(rf"^\| (?:{number} |\[{number}\]).*$", "\n".join(cell.source for cell in pages), re.MULTILINE)
    for told in (seconds(opening), seconds(line.rstrip(" |").rpartition("|")[2])):
        assert 1 / 2.5 < told / took < 2.5, f"{number} is said to take {told:.0f} s, and took {took:.0f} s"
