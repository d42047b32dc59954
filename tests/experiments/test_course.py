"""The course: nothing of a solution reaches students, empty answers fail, solutions pass.

`make test-course` (AA_COURSE=1) validates and marks every notebook; `make test` the quickest.
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from experiments import course, registry
from experiments.paths import ROOT

NAMES = [notebook.name for notebook in registry.NOTEBOOKS.values()]
EVERY = bool(os.environ.get("AA_COURSE"))
VALIDATED = NAMES if EVERY else ["02_opponent_shaping"]
GRADED = NAMES if EVERY else ["03_loqa_and_advantage_alignment"]


@pytest.fixture(scope="module", autouse=True)
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What notebooks inherit: nobody moves sliders, their runs go to a folder of their own, which they share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AA_HEADLESS", "1")
        patch.setenv("AA_BUILD", str(tmp_path_factory.mktemp("build")))
        patch.setenv("PYTHONPATH", str(ROOT))
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("course") / "autumn term"
    course.make_course(folder, profile="smoke")
    return folder


def test_every_notebook_is_released_without_a_line_of_its_solutions(made: Path):
    for name in NAMES:
        source = nbformat.read(made / "source" / name / f"{name}.ipynb", 4)
        release = (made / "release" / name / f"{name}.ipynb").read_text(encoding="utf-8")
        assert "BEGIN SOLUTION" not in release
        stubs = [cell for cell in json.loads(release)["cells"] if "your answer" in "".join(cell["source"])]
        assert not any("jupyter" in cell["metadata"] for cell in stubs), "a stub is there to be filled in"
        answers = course.exercises(source)
        assert answers, f"{name} has no exercise"
        assert release.count("your answer") == len(answers)
        for index, _ in answers:
            inside = source.cells[index].source.split("### BEGIN SOLUTION")[1].split("### END SOLUTION")[0]
            longest = max((line.strip() for line in inside.splitlines()), key=len)
            assert longest.replace('"', '\\"') not in release, f"{name}: {longest}"


def test_every_exercise_has_an_answer_and_a_graded_check_of_unique_names(made: Path):
    ids = []
    for name in NAMES:
        notebook = nbformat.read(made / "source" / name / f"{name}.ipynb", 4)
        for answer, check in course.exercises(notebook):
            one, two = (notebook.cells[index].metadata["nbgrader"] for index in (answer, check))
            assert (one["solution"], one["grade"], two["solution"], two["grade"]) == (True, False, False, True)
            assert two["points"] > 0
            ids += [one["grade_id"], two["grade_id"]]
    assert len(ids) == len(set(ids))


def test_the_archive_holds_what_a_student_needs_and_no_solution(made: Path):
    with zipfile.ZipFile(made / "students.zip") as archive:
        files = archive.namelist()
        for name in NAMES:
            notebook = f"opponent-shaping/notebooks/{name}.ipynb"
            assert notebook in files
            assert "BEGIN SOLUTION" not in archive.read(notebook).decode()
    assert {"opponent-shaping/aa_core/advantages.py", "opponent-shaping/requirements.lock"} <= set(files)


def test_clean_keeps_what_students_handed_in(tmp_path: Path):
    for part in ("build/course/submitted/ada", "build/laptop", ".snakemake"):
        (tmp_path / part).mkdir(parents=True)
    command = ["make", "-f", str(ROOT / "Makefile"), "-I", str(ROOT), "clean"]
    for name, kept in (("build/course/submitted", True), (None, False)):
        if name is None:
            shutil.rmtree(tmp_path / "build" / "course" / "submitted")
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "build" / "course").exists() == kept
        assert not (tmp_path / "build" / "laptop").exists()
        assert ("it holds graded work" in done.stdout) == kept


def test_an_answer_without_a_check_is_refused():
    lonely = new_notebook(cells=[new_code_cell("### BEGIN SOLUTION\n1\n### END SOLUTION")])
    with pytest.raises(ValueError, match="cell 0, an answer, must be followed by a cell that checks it"):
        course.exercises(lonely)


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="folder must be empty or an earlier course"):
        course.make_course(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def count_exercises(made: Path, name: str) -> int:
    return len(course.exercises(nbformat.read(made / "source" / name / f"{name}.ipynb", 4)))


def in_shell(folder: Path, *arguments: str, **variables: str) -> str:
    """What a Python there prints, without its traces in this process."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, env=os.environ | variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("name", VALIDATED)
def test_validate_passes_the_solution_and_fails_the_empty_answer(made: Path, name: str):
    paths = [f"{kind}/{name}/{name}.ipynb" for kind in ("source", "release")]
    said = in_shell(made, "nbgrader", "validate", *paths)  # one process for both, in this order
    passes, fails = "Success! Your notebook passes all the tests.", "VALIDATION FAILED ON "
    assert said.count(passes) == said.count(fails) == 1, said[-3000:]
    assert said.index(passes) < said.index(f"{fails}{count_exercises(made, name)} CELL(S)!"), said[-3000:]


@pytest.mark.parametrize("name", GRADED)
def test_autograde_passes_the_solution_and_fails_the_empty_answer(made: Path, name: str):
    for student, kind in (("ada", "source"), ("bob", "release")):
        shutil.copytree(made / kind / name, made / "submitted" / student / name)
    api = course.nbgrader(made)
    for student in ("ada", "bob"):
        outcome = api.autograde(name, student)
        assert outcome["success"], outcome.get("log")
    with api.gradebook as gradebook:
        scores = {student: gradebook.find_submission(name, student).score for student in ("ada", "bob")}
        best = gradebook.find_assignment(name).max_score
    assert scores == {"ada": best, "bob": 0.0}
    assert best == course.POINTS * count_exercises(made, name)
    marked = nbformat.read(made / "autograded" / "bob" / name / f"{name}.ipynb", 4)
    assert not failed_beside_the_exercises(marked)


def failed_beside_the_exercises(notebook: nbformat.NotebookNode) -> list[str]:
    """Cells that an empty answer takes with it, though no exercise is in them."""
    failed = [cell for cell in notebook.cells if any(out.output_type == "error" for out in cell.get("outputs", []))]
    return [cell.id for cell in failed if "nbgrader" not in cell.metadata]


def test_the_archive_runs_where_nothing_else_of_the_repository_is(made: Path, tmp_path: Path):
    with zipfile.ZipFile(made / "students.zip") as archive:
        archive.extractall(tmp_path)
    home = tmp_path / "opponent-shaping"
    path = home / "notebooks" / "00_start_here.ipynb"
    notebook = nbformat.read(path, 4)
    (settings,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    settings.source += '\nprofile, stale = "laptop", True'  # as students have it, whatever the age of the tables
    settings.source += "\nfrom experiments.paths import ROOT\nprint('home:', ROOT)"
    nbformat.write(notebook, path)
    alone = {"PYTHONPATH": str(home), "AA_BUILD": str(home / "build")}
    in_shell(home, "nbconvert", "--to", "notebook", "--execute", "--allow-errors", "--inplace", str(path), **alone)
    done = nbformat.read(path, 4)
    printed = [out.text for cell in done.cells for out in cell.get("outputs", []) if out.output_type == "stream"]
    assert any(f"home: {home}" in text for text in printed)
    assert not failed_beside_the_exercises(done)
    assert (home / "build" / "laptop" / "figures" / "overview.png").is_file()
