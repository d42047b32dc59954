"""The README's generated parts, and the pictures that it shows."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from experiments import paths, readme
from experiments.pictures import PICTURES, SIDECAR


def test_parts_are_replaced_and_the_rest_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readme, "GENERATED", {"one": lambda load: "new", "two": lambda load: load("table")})
    monkeypatch.setattr(readme, "reader", lambda profile, stale: lambda name: f"{name} of {profile}")
    text = "a\n<!-- generated: one -->\nold\n<!-- end -->\nb\n<!-- generated: two -->\n<!-- end -->\nc\n"
    updated = (
        "a\n<!-- generated: one -->\nnew\n<!-- end -->\nb\n<!-- generated: two -->\ntable of smoke\n<!-- end -->\nc\n"
    )
    assert readme.update(text, "smoke") == updated
    assert readme.update(updated, "smoke") == updated
    with pytest.raises(ValueError, match="README must have one part between <!-- generated: one --> and <!-- end -->"):
        readme.update("nothing", "smoke")


def test_a_league_shows_intervals_of_learned_agents_and_plain_numbers_of_scripts() -> None:
    agents = {"loqa_credit": 2, "always cooperate": 1, "always defect": 1, "random": 1}
    rows = [
        (row, column, i, j, 0.1 * i if row == "loqa_credit" else 0.25)
        for row, rows in agents.items()
        for column, columns in agents.items()
        for i in range(rows)
        for j in range(columns)
    ]
    league = pd.DataFrame(rows, columns=["row_agent", "column_agent", "row_seed", "column_seed", "row_reward"])
    lines = readme.leagues({"coin_league": league, "negotiation_league": league}.__getitem__).splitlines()
    # two seeds, 0 and 0.1: t(0.975, 1) = 12.706, error 0.05
    assert lines[2] == "| coin | AA with LOQA's factor | " + " | ".join(["0.05 [-0.59, 0.69]"] * 3) + " | 2 |"
    assert lines[3] == "| coin | always cooperate | 0.25 | 0.25 | 0.25 | scripted |"
    assert lines[5] == "| coin | Advantage Alignment, published | 0.28 | 0.35 | -0.08 | 10 |"
    assert not any("random" in line for line in lines)


# --- what is committed


def test_committed_readme_says_what_the_data_say() -> None:
    text = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.update(text, "laptop") == text


def test_committed_figures_are_those_of_the_list_and_have_a_past() -> None:
    assert {path.stem for path in paths.FIGURES.glob("*.png")} == set(PICTURES)
    for name, picture in PICTURES.items():
        record = json.loads((paths.FIGURES / f"{name}.json").read_text(encoding="utf-8"))
        assert set(SIDECAR) <= set(record)
        assert record["notebook"].startswith(picture.notebook)
        assert record["parameters"]["profile"] == "laptop"
        assert record["data"]
        assert all(record["data"].values()), f"{name}: data without provenance"
