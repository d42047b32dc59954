"""The course: nothing of a solution reaches students, empty answers fail, solutions pass."""

import shutil
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from experiments import course
from experiments.paths import ROOT

NAMES = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
GRADED = "03_loqa_and_advantage_alignment"


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


def test_an_answer_without_a_check_is_refused():
    lonely = new_notebook(cells=[new_code_cell("### BEGIN SOLUTION\n1\n### END SOLUTION")])
    with pytest.raises(ValueError, match="cell 0, an answer, must be followed by a cell that checks it"):
        course.exercises(lonely)


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="folder must be empty or an earlier course"):
        course.make_course(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_validate_and_autograde_pass_the_solution_and_fail_the_empty_answer(made: Path):
    for student, kind in (("ada", "source"), ("bob", "release")):
        shutil.copytree(made / kind / GRADED, made / "submitted" / student / GRADED)
    api = course.nbgrader(made)
    for student in ("ada", "bob"):
        outcome = api.autograde(GRADED, student)
        assert outcome["success"], outcome.get("log")
    with api.gradebook as gradebook:
        scores = {student: gradebook.find_submission(GRADED, student).score for student in ("ada", "bob")}
        best = gradebook.find_assignment(GRADED).max_score
    assert scores == {"ada": best, "bob": 0.0}
    assert best > 0
