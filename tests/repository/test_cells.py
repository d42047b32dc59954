"""The notebooks as a student meets them: short cells, predictions, exercises with hints."""

from __future__ import annotations

import ast
import re

import nbformat
import pytest

from experiments import coin, registry
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


def test_what_is_asked_between_two_slots_of_a_session_takes_minutes() -> None:
    page = (ROOT / "notebooks/book/lecturer.md").read_text(encoding="utf-8")
    asked = [re.findall(r"`(\d\d)-(\d+)`", row) for row in re.findall(r"^\| \d+ \|.*$", page, flags=re.MULTILINE)]
    assert len(asked) > 8
    for number, place in (exercise for row in asked for exercise in row):
        text = next((ROOT / "notebooks").glob(f"{number}_*.ipynb")).read_text(encoding="utf-8")
        assert f"**{place} (check).**" in text, f"{number}-{place} takes ten minutes or more"


def test_lecturers_are_sent_to_exercises_that_there_are() -> None:
    named = set(re.findall(r"`(\d\d-\d+)`", (ROOT / "notebooks/book/lecturer.md").read_text(encoding="utf-8")))
    known = {
        f"{number}-{count}"
        for number, notebook in registry.NOTEBOOKS.items()
        for count in range(1, 1 + len(exercises(nbformat.read(notebook.path, as_version=4))))
    }
    assert len(named) > 10
    assert named <= known


def told_settings() -> list[str]:
    """Words in the text of notebook 05 that must agree with the settings of profile laptop."""
    naive, aligned, lola = (
        coin.agent_run("laptop", name, 5).settings for name in ("ppo", "advantage_alignment", "lola_dice")
    )
    play, imagined, published = aligned.self_play, lola.self_play, coin.PAPER["updates"]
    times = {60: "sixty"}[round(published / play.updates, -1)]
    ours = f"{play.updates} of {play.games}"
    return [
        f"An update is {play.games} games of {aligned.game.horizon} steps, discount {play.gamma:g}, one Adam step",
        f"entropy bonus {play.entropy:g}. Advantages are GAE's: with $\\lambda={naive.self_play.lam:g}$",
        f"training has {naive.self_play.updates} updates and no past selves; where something is, {play.updates}",
        f"of the first {play.buffer.until} updates",
        f"the one of update {published:,}",
        f"ours has seen {play.updates} updates of {play.games}",
        f"has seen {times} times as many updates",
        f"An update has {imagined.games} games for each player",
        f"entropy bonus of {imagined.entropy:g}",
        f"step of size {imagined.inner_learning_rate:g}",
        f"after {imagined.updates} updates of {imagined.games} games, where AA has {ours}",
    ]


@pytest.mark.parametrize("words", told_settings())
def test_settings_in_the_text_are_those_that_are_run(words: str) -> None:
    prose = " ".join(" ".join(cell.source.split()) for cell in cells("05") if cell.cell_type == "markdown")
    assert words in prose
