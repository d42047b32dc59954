"""An nbgrader course from the notebooks: what a lecturer keeps, what students get, and an archive for them to unpack.

An exercise is a cell with a solution between `### BEGIN SOLUTION` and `### END SOLUTION`, and a cell after it that
checks the answer. nbgrader (generate_assignment, validate, autograde) does everything else.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nbformat
from nbgrader.apps import NbGraderAPI
from traitlets.config.loader import PyFileConfigLoader

from experiments.paths import BUILD, ROOT, relative
from experiments.registry import NOTEBOOKS

POINTS = 2
SHIPPED = (
    "aa_core", "experiments", "data", "figures", "Makefile", "setup.mk", "setup.sh", "Snakefile", "pyproject.toml",
    "profiles", "requirements.lock", "environment.yml", "README.md", "LICENSE", "CITATION.cff",
    "CONTRIBUTING.md",
)  # fmt: skip
CONFIGURATION = """\
c = get_config()
c.CourseDirectory.course_id = "opponent_shaping"
c.ClearSolutions.code_stub = {"python": "raise NotImplementedError('your answer')"}
c.ExecutePreprocessor.timeout = 900
c.ClearHiddenTests.enforce_metadata = False
"""


def exercises(notebook: nbformat.NotebookNode) -> list[tuple[int, int]]:
    """Indices of the cells (answer, check) of every exercise.

    Raises:
        ValueError: an answer without a check after it.
    """
    found = []
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and "### BEGIN SOLUTION" in cell.source:
            check = index + 1
            if check == len(notebook.cells) or "assert" not in notebook.cells[check].source:
                raise ValueError(f"cell {index}, an answer, must be followed by a cell that checks it with assert")
            found.append((index, check))
    return found


def mark(notebook: nbformat.NotebookNode, name: str) -> nbformat.NotebookNode:
    """Write nbgrader's metadata into the cells of all exercises of notebook `name`; in place."""
    for cell in notebook.cells:
        cell.metadata.pop("nbgrader", None)
    for number, (answer, check) in enumerate(exercises(notebook), 1):
        for index, graded in ((answer, False), (check, True)):
            notebook.cells[index].metadata["nbgrader"] = {
                "schema_version": 3,
                "grade_id": f"{name.split('_')[0]}-{number}-{'check' if graded else 'answer'}",
                "grade": graded,
                "solution": not graded,
                "locked": graded,
                "task": False,
                "cell_type": "code",
                **({"points": POINTS} if graded else {}),
            }
    return notebook


def make_course(folder: Path, profile: str = "laptop") -> None:
    """Write the course into `folder`, which must not be there yet, or be an earlier course.

    source/NAME/NAME.ipynb has the solutions, release/NAME/NAME.ipynb has none; students.zip is all that students need.

    Args:
        folder: where to.
        profile: that notebooks are executed in when they are marked.

    Raises:
        ValueError: the folder holds something else.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "nbgrader_config.py").is_file():
        raise ValueError(f"folder must be empty or an earlier course, {folder} is neither: name another one")
    for part in ("source", "release"):
        shutil.rmtree(folder / part, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nbgrader_config.py").write_text(CONFIGURATION, encoding="utf-8")
    names = []
    for path in (notebook.path for notebook in NOTEBOOKS.values()):  # not a reader's copies beside them
        notebook = mark(nbformat.read(path, 4), path.stem)
        for cell in notebook.cells:
            if "BEGIN SOLUTION" in cell.source:  # folded in the repository; here students fill in an empty stub
                cell.metadata.pop("jupyter", None)
            if "parameters" in cell.metadata.get("tags", []):
                cell.source = cell.source.replace('profile = "laptop"', f'profile = "{profile}"')
        target = folder / "source" / path.stem / path.name
        target.parent.mkdir(parents=True)
        nbformat.write(notebook, target)
        names.append(path.stem)
    api = nbgrader(folder)
    for name in names:
        outcome = api.generate_assignment(name, force=True, create=True)
        if not outcome["success"]:  # it does not raise
            raise RuntimeError(f"nbgrader failed: {outcome.get('error') or outcome.get('log')}")
    archive(folder)


def nbgrader(folder: Path) -> NbGraderAPI:
    """nbgrader in the course folder, with the configuration that is written there."""
    scripts = str(Path(sys.executable).parent)  # nbgrader calls alembic by its name
    if scripts not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = scripts + os.pathsep + os.environ["PATH"]
    loaded = PyFileConfigLoader("nbgrader_config.py", path=str(folder)).load_config()
    loaded.CourseDirectory.root = str(folder.resolve())
    api = NbGraderAPI(config=loaded)
    api.log.setLevel("ERROR")
    return api


def archive(folder: Path) -> Path:
    """students.zip: the released notebooks in notebooks/, with the library and the data that they read."""
    scratch = folder / "students" / "opponent-shaping"
    shutil.rmtree(scratch.parent, ignore_errors=True)
    (scratch / "notebooks").mkdir(parents=True)
    for name in SHIPPED:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, scratch / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(path, scratch / name)
    for path in sorted((folder / "release").glob("*/*.ipynb")):
        shutil.copy2(path, scratch / "notebooks")
    shutil.copytree(ROOT / "notebooks" / "book", scratch / "notebooks" / "book")
    made = Path(shutil.make_archive(str(folder / "students"), "zip", scratch.parent))
    shutil.rmtree(scratch.parent)
    return made


if __name__ == "__main__":
    make_course(BUILD / "course")
    print(f"{relative(BUILD / 'course')}: source/ (with solutions), release/ (without), students.zip for nbgrader")
