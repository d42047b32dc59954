"""The notebooks as a student meets them: short cells, predictions, exercises with hints."""

from __future__ import annotations

import ast
import re

import nbformat
import pytest

from experiments import registry
from experiments.course import exercises
from experiments.paths import ROOT

READ = tuple(f"{number:02}" for number in range(1, 13))  # not the first page, nor the workshop at the end
LINES = 25  # that fit a screen beside their output
every_notebook = pytest.mark.parametrize("number", READ)


def cells(number: str) -> list[nbformat.NotebookNode]:
    return nbformat.read(registry.NOTEBOOKS[number].path, as_version=4).cells


@pytest.mark.parametrize("number", registry.NOTEBOOKS)
def test_plumbing_and_answers_are_collapsed_in_lab_and_on_the_site(number: str) -> None:
    for cell in cells(number):
        hidden = "hide-input" in cell.metadata.get("tags", [])
        assert hidden == cell.metadata.get("jupyter", {}).get("source_hidden", False), cell.id
        assert hidden or "BEGIN SOLUTION" not in cell.source
        if cell.cell_type == "code" and not hidden:
            assert len(cell.source.splitlines()) <= LINES, f"cell {cell.id} of {number}"


@every_notebook
def test_a_wrong_answer_is_told_what_is_wrong(number: str) -> None:
    notebook = nbformat.v4.new_notebook(cells=cells(number))
    for _, check in exercises(notebook):
        tree = ast.walk(ast.parse(notebook.cells[check].source))
        silent = [ast.unparse(node.test) for node in tree if isinstance(node, ast.Assert) and node.msg is None]
        assert silent == [], f"{notebook.cells[check].id} of {number}"


@every_notebook
def test_readers_predict_and_are_warned(number: str) -> None:
    prose = "\n".join(cell.source for cell in cells(number) if cell.cell_type == "markdown")
    assert prose.count("> **Predict before you") >= 2
    assert prose.count("> **A common mistake.**") >= 1


@every_notebook
def test_exercises_say_their_kind_name_what_is_checked_and_have_a_hint(number: str) -> None:
    notebook = nbformat.v4.new_notebook(cells=cells(number))
    found, kinds = exercises(notebook), set()
    assert len(found) >= (3 if number == registry.LAST else 4)
    for count, (answer, check) in enumerate(found, 1):
        question = next(cell.source for cell in reversed(notebook.cells[:answer]) if cell.cell_type == "markdown")
        kind = re.search(rf"\*\*{count} \((check|explore|derive)\)\.\*\*", question)
        assert kind, f"exercise {count} of {number} has no kind"
        kinds.add(kind[1])
        assert "<details><summary>Hint</summary>" in question
        tree = ast.parse(notebook.cells[answer].source).body
        named = {node.name for node in tree if hasattr(node, "name")}
        assigned = [node for part in tree if isinstance(part, ast.Assign) for node in ast.walk(part.targets[0])]
        named |= {node.id for node in assigned if isinstance(node, ast.Name)}
        checked = {name for name in named if re.search(rf"\b{name}\b", notebook.cells[check].source)}
        assert checked, f"exercise {count} of {number} is checked by none of {named}"
        assert any(name in question for name in checked), f"{checked} are not named in exercise {count} of {number}"
    assert kinds == {"check", "explore", "derive"}


@pytest.mark.parametrize("number", READ[:3])
def test_no_seed_is_written_by_hand(number: str) -> None:
    prose = "\n".join(cell.source for cell in cells(number) if cell.cell_type == "markdown")
    assert re.findall(r"\bseeds? (?:number )?\d[\d–, ]*", prose) == []


def test_lecturers_are_sent_to_exercises_that_there_are() -> None:
    named = set(re.findall(r"`(\d\d-\d+)`", (ROOT / "notebooks/book/lecturer.md").read_text(encoding="utf-8")))
    known = {
        f"{number}-{count}"
        for number, notebook in registry.NOTEBOOKS.items()
        for count in range(1, 1 + len(exercises(nbformat.read(notebook.path, as_version=4))))
    }
    assert len(named) > 10
    assert named <= known
