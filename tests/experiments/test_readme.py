"""The README's generated parts, and the pictures that it shows."""

from __future__ import annotations

import json

import made_up
import pytest

from experiments import paths, readme
from experiments.page import FIGURES
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


def test_every_figure_has_a_line_with_its_verdict() -> None:
    world = made_up.world()
    lines = readme.verdicts(made_up.reader(world)).splitlines()
    assert len([line for line in lines if line.startswith(("| AA, ", "| LLM, "))]) == len(FIGURES)
    link = "[05](notebooks/05_coin_game_league.ipynb)"
    league = next(line for line in lines if "Coin Game league" in line)
    assert league.startswith(
        "| AA, fig. 2: the Coin Game league | reproduced as far as compared | 12 of 12, 7 without run |"
    )
    assert league.endswith(f"| not run | 5–9 | {link} |")
    del world["coin_league"], world["coin_curves"]
    league = next(line for line in readme.verdicts(made_up.reader(world)).splitlines() if "Coin Game league" in line)
    assert "| no run yet |" in league


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
