"""The notebooks on language models as a student meets them: short cells, predictions, exercises with hints."""

from __future__ import annotations

import ast
import re

import nbformat
import pytest

from experiments import registry
from experiments.course import exercises
from experiments.paths import ROOT

READ = ("09", "10", "11", "12")
LINES = 25  # that fit a screen beside their output
every_notebook = pytest.mark.parametrize("number", READ)


def cells(number: str) -> list[nbformat.NotebookNode]:
    return nbformat.read(registry.NOTEBOOKS[number].path, as_version=4).cells


@every_notebook
def test_plumbing_is_collapsed_in_lab_and_on_the_site(number: str) -> None:
    for cell in cells(number):
        hidden = "hide-input" in cell.metadata.get("tags", [])
        assert hidden == cell.metadata.get("jupyter", {}).get("source_hidden", False), cell.id
        if cell.cell_type == "code" and not hidden:
            assert len(cell.source.splitlines()) <= LINES, f"cell {cell.id} of {number}"


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
        kind = re.search(rf"\*\*{count}\*\* \((check|explore|derive)\)\.", question)
        assert kind, f"exercise {count} of {number} has no kind"
        kinds.add(kind[1])
        assert "<details><summary>Hint</summary>" in question
        answered = [node.name for node in ast.parse(notebook.cells[answer].source).body if hasattr(node, "name")]
        assert answered
        for name in answered:
            assert f"{name}" in question, f"{name} is not named in exercise {count} of {number}"
            assert re.search(rf"\b{name}\(", notebook.cells[check].source), f"{name} is never called"
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
