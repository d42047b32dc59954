from __future__ import annotations

import json
import os
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from nbclient import NotebookClient

from experiments import figures, paths, records, registry

CELLS = pd.DataFrame(
    {
        "row_agent": ["a", "a", "b", "b"],
        "column_agent": ["a", "b", "a", "b"],
        "row_reward": [0.5, -0.001, 0.7, 0.1],
        "low": [0.4, -0.1, 0.7, np.nan],
        "high": [0.6, 0.1, 0.7, np.nan],
    }
)


def test_the_heat_map_shows_who_earns_what_from_whom() -> None:
    axes = Figure().subplots()
    colours = figures.heat_map(axes, CELLS, limits=(0.0, 1.0))
    assert [text.get_text() for text in axes.texts] == ["0.50\n±0.10", "0.00\n±0.10", "0.70", "0.10"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert colours.get_clim() == (0.0, 1.0)
    axes = Figure().subplots()
    figures.heat_map(axes, CELLS.drop(columns=["low", "high"]), ["b"], ["b", "a"])
    assert [text.get_text() for text in axes.texts] == ["0.10", "0.70"]
    with pytest.raises(ValueError, match="cells must hold every pair of agents, got none for"):
        figures.heat_map(axes, CELLS, ["a", "nobody"])


def test_learning_curves_show_every_seed_and_the_mean() -> None:
    axes, curves = Figure().subplots(), np.arange(12.0).reshape(4, 3)
    figures.learning_curves(axes, np.arange(4), curves, "#0072B2", "AA")
    *seeds, mean = (line.get_ydata() for line in axes.lines)
    np.testing.assert_allclose(np.array(seeds).T, curves)
    np.testing.assert_allclose(mean, curves.mean(1))
    assert axes.get_legend_handles_labels()[1] == ["AA"]
    assert axes.get_xlabel() == axes.get_ylabel() == ""


def test_policy_bars_stand_beside_the_published_ones() -> None:
    axes = Figure().subplots()
    bars = {"naive": np.zeros((3, 5)), "advantage_alignment": np.full((3, 5), 0.5)}
    means, errors = [1.0, 0.9, 0.1, 0.9, 0.1], [0.0, 0.06, 0.2, 0.1, 0.2]
    figures.policy_bars(axes, bars, pd.DataFrame({"probability_of_cooperation": means, "error_bar": errors}))
    *containers, printed = axes.containers
    heights = [[bar.get_height() for bar in container] for container in containers]
    lines = [segment[:, 1].tolist() for segment in printed.lines[2][0].get_segments()]
    np.testing.assert_allclose(lines, [[m - e, m + e] for m, e in zip(means, errors, strict=True)])
    assert heights == [[0.0] * 5, [0.5] * 5, [1.0, 0.9, 0.1, 0.9, 0.1]]
    labels = ["naive (ours)", "Advantage Alignment (ours)", "published"]
    handles, written = axes.get_legend_handles_labels()
    assert written == labels
    hatches = [figures.HATCHES[figures.COLOURS[name]] for name in bars]
    assert len({*hatches, ""}) == 2  # AA's bars are plain
    assert [container[0].get_hatch() or "" for container in containers] == [*hatches, ""]
    assert [handle.get_hatch() or "" for handle in handles] == [*hatches, ""]


def test_lines_and_hatches_tell_apart_what_colours_do() -> None:
    drawn = {colour for _, colour in figures.STYLE.values()}
    assert drawn == set(figures.LINES)
    assert len({str(line) for line in figures.LINES.values()}) == len(figures.LINES)
    kinds = [figures.HATCHES[colour] for kind, colour in figures.KIND_COLOURS.items() if kind != "other"]
    assert len(set(kinds)) == len(kinds) == len(set(figures.KIND_LETTERS.values())) - 1


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setattr(records, "READ", {})
    return tmp_path / "smoke" / "figures"


def test_a_saved_figure_tells_seeds_seconds_and_sources(build: Path) -> None:
    runs = {"a-0": {"seconds": 2.0}, "a-1": {"seconds": 0.5}}
    records.READ["one"] = {"runs": runs, "seeds": 3, "stale": False}
    records.READ["two"] = {"runs": {"a-0": {"seconds": 2.0}}, "seeds": None}
    parameters = {"profile": "smoke", "seeds": 2}
    figures.save(Figure(), "drawn", "01.ipynb", parameters, ["one", "two"])
    record = json.loads((build / "drawn.json").read_text())
    assert record["seeds"] == {"one": 2, "two": None}  # three there, two used
    assert record["seconds"]["runs"] == 2.5  # the run of both tables once
    assert 0 <= record["seconds"]["notebook"] < 3600
    assert record["data"]["one"]["runs"] == runs
    assert record["stale"] == []
    first = (build / "drawn.png").read_bytes(), (build / "drawn.svg").read_bytes()
    figures.save(Figure(), "drawn", "01.ipynb", parameters, ["one"])
    assert ((build / "drawn.png").read_bytes(), (build / "drawn.svg").read_bytes()) == first, "the same picture"


def test_a_picture_of_a_stale_table_says_so(build: Path) -> None:
    records.READ["old"] = {"stale": True}
    figure = Figure()
    figures.save(figure, "drawn", "01.ipynb", {"profile": "smoke"}, ["old"])
    assert [text.get_text() for text in figure.texts] == ["drawn from tables that other settings or code made: old"]
    assert json.loads((build / "drawn.json").read_text())["stale"] == ["old"]
    with pytest.raises(ValueError, match=r"data must name tables that were read .* got \['unread'\]"):
        figures.save(figure, "drawn", "01.ipynb", {"profile": "smoke"}, ["old", "unread"])


@pytest.mark.parametrize("notebook", registry.NOTEBOOKS.values(), ids=lambda notebook: notebook.name)
def test_every_notebook_refuses_an_unknown_profile_at_its_head(notebook: registry.Notebook) -> None:
    cells = nbformat.read(notebook.path, 4).cells
    styled = next(i for i, cell in enumerate(cells) if "use_style(profile)" in cell.source)
    drawn = [i for i, cell in enumerate(cells) if cell.cell_type == "code"]
    assert drawn.index(styled) <= 2, "first of all but what Colab needs and the parameters"


def test_an_unknown_profile_has_no_style() -> None:
    with pytest.raises(ValueError, match=r"profile must be one of .*smoke.*, got 'laptpo'"):
        figures.use_style("laptpo")


def test_an_inherited_backend_leaves_a_notebook_its_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "svg")
    source = (
        "from experiments import figures\nfigures.use_style('laptop')\nimport matplotlib.pyplot as plt\n"
        "_ = plt.plot([1, 2])"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    NotebookClient(notebook, kernel_name="python3", timeout=120).execute(env=dict(os.environ))
    (output,) = notebook.cells[0].outputs
    size = output.metadata["image/png"]["width"]
    assert size > 400, "the size that it is shown in"
    assert output.data["image/png"]


def test_sliders_are_drawn_once_where_nobody_can_move_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "HEADLESS", True)
    drawn = []
    figures.explore(lambda beta: drawn.append(beta), beta=(0.0, 1.0, 0.1, 0.3))
    assert drawn == [0.3]


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("../../../figures/aa_fig2", {"profile": "smoke"}, "name must be that of a file without folders"),
        ("mine", {"profile": "bogus"}, "profile must be one of"),
        ("mine", {}, "profile must be one of .*, got None"),
    ],
)
def test_a_picture_is_saved_nowhere_else(build: Path, name: str, parameters: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        figures.save(Figure(), name, "00_toys.ipynb", parameters)
    assert not list(build.rglob("*.png"))
