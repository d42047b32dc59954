"""The README's generated parts, and the pictures that it shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import made_up
import pandas as pd
import pytest

from experiments import page, paths, readme, records
from experiments.page import FIGURES
from experiments.pictures import PICTURES, SIDECAR

WORDS = 1800  # that a reader has the patience for


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
    assert len([line for line in lines if line.startswith(("| [AA, ", "| [LLM, "))]) == len(FIGURES)
    title = "[AA, fig. 2: the Coin Game league](notebooks/05_coin_game_league.ipynb)"
    league = next(line for line in lines if "Coin Game league" in line)
    assert league.startswith(f"| {title} | reproduced as far as compared")
    assert re.search(r"\| 16/16, 4 without run; \d+/\d+ \| 5–9 \|$", league)
    del world["coin_league"], world["coin_curves"]
    league = next(line for line in readme.verdicts(made_up.reader(world)).splitlines() if "Coin Game league" in line)
    assert "| no run yet |" in league


def test_a_seed_holds_if_it_cooperates_in_over_four_fifths_of_rounds() -> None:
    training = made_up.world()["llm_training"]
    ours = (training.game == "ipd") & (training.algorithm == "advantage_alignment") & (training.metric == "cooperation")
    training.loc[ours & (training.seed == 6), "value"] = 0.7
    side = pd.concat([training[ours].assign(algorithm=name) for name in readme.HEADLINE if name.startswith("aa_")])
    said = readme.headline(made_up.reader({"llm_training": training, "llm_side_training": side}))
    assert "in over 80% of rounds in 4 of 5 seeds (5–9, worst 0.70); trained twice as long, in 4 of 5 seeds" in said


# --- what is committed


def test_committed_readme_says_what_the_data_say() -> None:
    text = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.update(text, "laptop") == text


def test_times_are_those_of_the_records(project: Path) -> None:
    cost = pd.DataFrame({"experiment": "coin", "run": ["coin/a-5", "coin/b-5"], "seconds": [1200, 600]})
    records.write_table(project / "data/laptop/cost.csv", cost, {})
    for name, notebook, seconds in (("a", "01_x.ipynb", 60), ("b", "01_x.ipynb", 180), ("c", "02_y.ipynb", 60)):
        record = dict.fromkeys(SIDECAR) | {"notebook": notebook, "seconds": {"notebook": seconds}}
        records.write_record(project / f"figures/{name}.json", record)
    redraw, figures = readme.commands(lambda name: None).splitlines()[-2:]
    assert redraw.endswith("| 3 minutes |")  # 01 takes as long, 02 beside it
    assert figures.endswith("| 18 minutes |")
    for damaged in ("figures/c.json", "data/laptop/cost.csv"):
        (project / damaged).write_text("<<<<<<< HEAD\n")
        with pytest.raises(records.DamagedTable, match=Path(damaged).name):
            readme.commands(lambda name: None)
        (project / "figures/c.json").unlink(missing_ok=True)


def test_signs_say_what_a_verdict_rests_on(monkeypatch: pytest.MonkeyPatch) -> None:
    world = made_up.world()
    looked_at = {key: FIGURES[key] for key in FIGURES if key.startswith(("aa_2", "aa_4", "aa_5", "aa_8"))}
    monkeypatch.setattr(page, "FIGURES", looked_at)  # all of them take seconds
    monkeypatch.setattr(records, "READ", {"coin_league": {"stale": False}})
    assert "‡" not in readme.verdicts(made_up.reader(world))
    monkeypatch.setitem(records.READ, "coin_league", {"stale": True})
    table = readme.verdicts(made_up.reader(world))
    assert {line.split("]")[0] for line in table.splitlines() if "‡ |" in line} == {
        "| [AA, fig. 2: the Coin Game league", "| [AA, fig. 2: the same with the clipped form of AA",
    }  # fmt: skip
    assert "‡ from tables that earlier code made" in table
    assert {line.split("]")[0] for line in table.splitlines() if "§" in line.partition("|")[2]} == {
        "| [AA, fig. 4: Commons Harvest, scores in two scenarios, published map",
        "| [AA, fig. 5: Commons Harvest, what becomes of the apples, published map",
        "| [AA, appendix fig. 8: Commons Harvest by beta",
    }  # fmt: skip


def test_committed_readme_is_short() -> None:
    assert len((paths.ROOT / "README.md").read_text(encoding="utf-8").split()) <= WORDS


def test_committed_figures_are_those_of_the_list_and_have_a_past() -> None:
    assert {path.stem for path in paths.FIGURES.glob("*.png")} == set(PICTURES)
    for name, picture in PICTURES.items():
        record = json.loads((paths.FIGURES / f"{name}.json").read_text(encoding="utf-8"))
        assert set(SIDECAR) <= set(record)
        assert record["notebook"].startswith(picture.notebook)
        assert record["parameters"]["profile"] == "laptop"
        assert record["data"]
        assert all(record["data"].values()), f"{name}: data without provenance"


def test_what_it_says_of_a_gpu_was_measured() -> None:
    table, record = records.read_table(paths.DATA / "extended" / "gpu_rehearsal.csv")
    assert "H200" in record["machine"]["gpu"]
    met = table[table.metric == "seconds"].sort_values("update").groupby(["game", "part"]).value.last()  # past agents
    update = {game: met[game].sum() for game in ("ipd", "split")}
    text = " ".join((paths.ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"{update['ipd']:.0f} s in the prisoner's dilemma, {update['split']:.0f} s in Split" in text
    assert f"at {table[table.metric == 'reserved'].value.max():.0f} GB" in text
    days = [3000 * seconds / 86_400 for seconds in update.values()]
    assert f"3,000 take {days[0]:.0f} and {days[1]:.0f} days" in text
