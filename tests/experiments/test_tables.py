"""Nothing out of date or damaged is read in silence."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import experiments
from experiments import __main__, build, fresh, paths, publish, records, registry
from experiments.pictures import PICTURES
from experiments.records import DamagedTable, MissingTable, StaleTable
from experiments.tables import effort, kept_by, load, out_of_date

from .conftest import LEAGUE, TABLES, TOYS, Toy, toy_run


@pytest.fixture
def fresh_clone(project: Path, counted: list[str]) -> Path:
    """Committed tables and agents, nothing under build/."""
    for name in ("toys", "toy_league"):
        load(name, "laptop")
    shutil.copytree(project / "build" / "laptop" / "tables", project / "data" / "laptop")
    publish._copy_agents([(run, run.folder) for run in registry.agents("laptop")])
    (project / "build").rename(project / "old")
    counted.clear()
    return project


def change_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(profile: str) -> list:
        return [replace(run, settings=Toy(0.9, run.seed)) for run in TOYS.runs(profile)]

    tables = {table.name: table for table in (replace(TABLES[0], runs=changed), *TABLES[1:])}
    monkeypatch.setattr(registry, "tables", lambda: tables)


def test_a_fresh_clone_reads_what_is_committed(fresh_clone: Path, counted: list[str]) -> None:
    assert load("toys", "laptop").seed.tolist() == [0, 1]
    assert counted == []
    assert not (fresh_clone / "build").exists()


def test_a_table_of_other_settings_is_refused_with_the_way_out(
    fresh_clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_a_setting(monkeypatch)
    with pytest.raises(
        StaleTable, match=r"toys\.csv was made by other settings.*make tables/toys.*in about 6\.0 minutes"
    ):
        load("toys", "laptop")
    table = load("toys", "laptop", stale=True)
    assert table.attrs["stale"]
    assert records.READ["toys"]["stale"]


def test_a_table_with_a_seed_less_is_out_of_date(fresh_clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {"toys": replace(TABLES[0], runs=lambda profile: TOYS.runs(profile)[:1])}
    monkeypatch.setattr(registry, "tables", lambda: tables)
    with pytest.raises(StaleTable, match=r"other code \(toy/slow-1\)"):
        load("toys", "laptop")


@pytest.mark.parametrize(
    "damage", ["cut", "number", "conflict", "empty", "binary", "record cut", "record gone", "foreign"]
)
def test_a_damaged_table_is_named(fresh_clone: Path, damage: str) -> None:
    path = fresh_clone / "data" / "laptop" / "toys.csv"
    text, sidecar = path.read_text(), path.with_suffix(".json")
    {
        "cut": lambda: path.write_text(text[: len(text) // 2]),
        "number": lambda: path.write_text(text.replace("0.333333", "0.433333")),
        "conflict": lambda: path.write_text(f"<<<<<<< HEAD\n{text}=======\n{text}>>>>>>> other\n"),
        "empty": lambda: path.write_text(""),
        "binary": lambda: path.write_bytes(bytes(range(256))),
        "record cut": lambda: sidecar.write_text(sidecar.read_text()[:-20]),
        "record gone": sidecar.unlink,
        "foreign": lambda: sidecar.write_text(json.dumps({"table": "toys"})),
    }[damage]()
    with pytest.raises(DamagedTable, match=r"toys\.(csv|json).*make tables/toys"):
        load("toys", "laptop", stale=True)


def test_what_was_made_here_comes_before_what_is_committed(fresh_clone: Path, counted: list[str]) -> None:
    for run in TOYS.runs("laptop"):
        experiments.run.make(run, fresh=True)
    path = fresh_clone / "data" / "laptop" / "toys.csv"
    path.write_text("damaged")
    assert load("toys", "laptop").seed.tolist() == [0, 1]


def test_a_missing_table_is_made_after_a_word(
    project: Path, counted: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    load("toy_league", "smoke")
    assert counted == ["toy-0", "toy-1", "league"]
    assert "toy_league: making 1 of 1 runs, in about 7.0 minutes of one core" in capsys.readouterr().out


def test_a_side_study_is_never_made_unasked(project: Path, counted: list[str]) -> None:
    with pytest.raises(MissingTable, match="make studies/toy_study"):
        load("toy_study", "laptop")
    assert counted == []
    publish.publish_study("toy_study")
    assert load("toy_study", "laptop").value.tolist() == [2.0, 0.0]
    assert (project / "data" / "extended" / "toy_study.csv").is_file()


def test_unknown_names_are_refused_with_what_there_is(project: Path) -> None:
    with pytest.raises(ValueError, match="name must be one of angles, toy_league, toy_study, toys, got 'nothing'"):
        load("nothing", "laptop")
    with pytest.raises(ValueError, match=r"profile must be one of .*smoke.*, got 'laptpo'"):
        load("toys", "laptpo")


def test_an_agent_is_taken_from_the_repository(fresh_clone: Path, counted: list[str]) -> None:
    folder = experiments.agent(toy_run("laptop", "slow", 1))
    assert folder == fresh_clone / "data" / "agents" / "toy" / "slow-1"
    assert (folder / "agent.safetensors").read_bytes() == b"\x01"
    assert counted == []


def test_an_agent_of_other_settings_is_refused_with_the_way_out(
    fresh_clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = replace(toy_run("laptop", "slow", 1), settings=Toy(0.9, 1))
    monkeypatch.setattr(registry, "agents", lambda profile: [run])
    with pytest.raises(StaleTable, match="python -m experiments run toy slow 1"):
        experiments.agent(run)
    assert experiments.agent(run, stale=True) == run.committed


def test_an_agent_of_another_profile_is_not_in_the_way(fresh_clone: Path, counted: list[str]) -> None:
    run = replace(toy_run("smoke", "slow", 1), settings=Toy(0.1, 1))  # the committed one is that of profile laptop
    assert experiments.agent(run) == run.folder
    assert counted == ["toy-1"]


@pytest.mark.parametrize("damage", ["cut", "gone", "record cut", "record foreign"])
@pytest.mark.parametrize("place", ["data", "build"])
def test_a_damaged_agent_is_named_and_one_made_here_heals(
    fresh_clone: Path, counted: list[str], place: str, damage: str
) -> None:
    run = toy_run("laptop", "slow", 1)
    if place == "build":
        experiments.run.make(run, fresh=True)
    folder = {"data": run.committed, "build": run.folder}[place]
    damaged = folder / ("record.json" if "record" in damage else "agent.safetensors")
    {
        "cut": lambda: damaged.write_bytes(b""),
        "gone": damaged.unlink,
        "record cut": lambda: damaged.write_bytes(damaged.read_bytes()[:-20]),
        "record foreign": lambda: damaged.write_text("{}"),
    }[damage]()
    counted.clear()
    with pytest.raises(DamagedTable, match=rf"{damaged.name} is "):
        experiments.agent(run)
    assert counted == []
    if place == "build":
        experiments.run.make(run)
        assert counted == ["toy-1"]
        assert (experiments.agent(run) / "agent.safetensors").read_bytes() == b"\x01"


def test_another_run_in_its_place_is_refused(fresh_clone: Path) -> None:
    run, other = (toy_run("laptop", "slow", seed) for seed in (1, 0))
    for each in (run, other):
        experiments.run.make(each, fresh=True)
    shutil.rmtree(run.folder)
    shutil.copytree(other.folder, run.folder)
    with pytest.raises(DamagedTable, match="holds another run: remove it and make toy/slow-1 again"):
        experiments.agent(run)


def test_what_is_committed_is_taken_where_what_was_made_here_is_older(
    fresh_clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = fresh_clone / "build" / "laptop" / "tables" / "toys.csv"
    records.write_table(older, pd.DataFrame({"seed": [0], "value": [9.0]}), {"runs": {}})
    assert load("toys", "laptop").seed.tolist() == [0, 1]
    change_a_setting(monkeypatch)
    with pytest.raises(StaleTable, match=r"data/laptop/toys\.csv was made by other settings"):
        load("toys", "laptop")
    assert load("toys", "laptop", stale=True).seed.tolist() == [0, 1]


def test_a_table_that_a_notebook_recorded_before_it_changed_is_refused(
    fresh_clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiments.record("angles", "laptop", {}, pd.DataFrame({"angle": [1.0]}))
    for path in (fresh_clone / "build" / "laptop" / "tables").glob("angles.*"):
        path.rename(fresh_clone / "data" / "laptop" / path.name)
    assert experiments.load("angles", "laptop").angle.tolist() == [1.0]
    assert "angles" not in build.status("laptop")
    cell = {"cell_type": "code", "source": 'record("angles", 2)'}
    records.write_atomically(fresh_clone / "notebooks" / "00_toys.ipynb", json.dumps({"cells": [cell]}))
    monkeypatch.setattr(registry, "NOTEBOOKS", {"00": registry.Notebook("00_toys")})
    with pytest.raises(
        StaleTable,
        match=r"angles\.csv was made by other .* \(00_toys\): `make notebooks/00` makes it again; stale",
    ):
        experiments.load("angles", "laptop")
    assert experiments.load("angles", "laptop", stale=True).attrs["stale"]
    assert "angles.csv: 00_toys changed; `make figures`" in build.status("laptop")
    experiments.record("angles", "laptop", {}, pd.DataFrame({"angle": [2.0]}))
    assert experiments.load("angles", "laptop").angle.tolist() == [2.0]


def test_an_agent_that_nobody_has_trained_is_announced(
    project: Path, counted: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    experiments.agent(toy_run("laptop", "slow", 9))
    assert "toy/slow-9: making 1 of 1 runs, in about 3.0 minutes" in capsys.readouterr().out
    assert counted == ["toy-9"]


def test_a_league_in_a_fresh_clone_is_played_by_committed_agents(fresh_clone: Path, counted: list[str]) -> None:
    experiments.run.make(LEAGUE.runs("laptop")[0])
    assert counted == ["league"]


def test_status_lists_what_is_out_of_date(fresh_clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish.publish_study("toy_study")
    assert build.status("laptop") == "every committed table and agent was made by the present settings and code"
    change_a_setting(monkeypatch)
    assert "stale" in build.status("laptop")
    agents, laptop = fresh_clone / "data" / "agents" / "toy", fresh_clone / "data" / "laptop"
    records.write_table(laptop / "cost.csv", pd.DataFrame({"seconds": [1]}), {})
    for path in (laptop / "toys.csv", laptop / "cost.csv", agents / "slow-0" / "agent.safetensors"):
        path.write_text("<<<<<<< HEAD")
    lines = build.status("laptop")
    assert all(f"damaged  {place}" in lines for place in ("data/laptop/toys", "data/laptop/cost", "data/agents/toy"))


def test_a_table_of_a_notebook_is_written_beside_its_past(project: Path) -> None:
    table = pd.DataFrame({"seed": [0, 1], "value": [0.5, 0.25]})
    read = experiments.record("angles", "smoke", {"seeds": 2, "gamma": 0.9}, table)
    pd.testing.assert_frame_equal(read, table)
    pd.testing.assert_frame_equal(experiments.load("angles", "smoke"), table)
    assert records.READ["angles"]["settings"] == {"seeds": 2, "gamma": 0.9}
    assert not (project / "data").exists()
    with pytest.raises(ValueError, match="name must be that of a file without folders"):
        experiments.record("../angles", "smoke", {}, table)
    with pytest.raises(MissingTable, match="make notebooks/00 PROFILE=paper"):
        experiments.load("angles", "paper")


def test_a_notebook_waits_for_what_is_missing_only_and_says_what_is_old(
    fresh_clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert build.before_notebook("00", "laptop", whole=False) == []
    assert [table.name for table in registry.NOTEBOOKS["00"].tables()] == ["toys", "toy_league"]
    assert build.drawn_stale("00", "laptop") == []
    assert len(build.before_notebook("00", "laptop", whole=True)) == 3
    change_a_setting(monkeypatch)
    assert build.before_notebook("00", "laptop", whole=False) == []
    (line,) = build.drawn_stale("00", "laptop")
    assert (
        line == "stale    data/laptop/toys.csv: 2 runs, in about 6.0 minutes of one core; `make figures` makes it again"
    )
    (fresh_clone / "data" / "laptop" / "toys.csv").unlink()
    assert [run.settings.rate for run in build.before_notebook("00", "laptop", whole=False)] == [0.9, 0.9]


def test_the_cost_of_every_run_is_told(fresh_clone: Path) -> None:
    load("toy_league", "laptop")
    for run in TOYS.runs("laptop"):
        experiments.run.make(run, fresh=True)
    table = build.cost("laptop").set_index("run")
    made_here, committed = {"toy/slow-0", "toy/slow-1"}, {"toy_league/all-0"}
    assert set(table.index) == {"calibration", *made_here, *committed}
    assert table.seconds["calibration"] > 0
    assert "0 of 3 runs" not in build.plan("laptop", 2, fresh=True)
    assert "3 of 3 runs of profile laptop are to be made" in build.plan("laptop", 2, fresh=True)


def first_row(table: pd.DataFrame) -> pd.DataFrame:
    return table[:1]


def test_what_is_kept_of_runs_is_part_of_a_table(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = registry.tables()["toys"]
    experiments.load("toys", "laptop")
    record = records.read_table(project / "build" / "laptop" / "tables" / "toys.csv")[1]
    names, cut = sorted(run.name for run in whole.runs("laptop")), replace(whole, keep=first_row)
    assert out_of_date("toys", "laptop", record) == []
    assert out_of_date("toys", "laptop", record | {"kept_by": kept_by(cut)}) == names
    monkeypatch.setattr(registry, "tables", lambda: {"toys": cut})
    assert out_of_date("toys", "laptop", record) == names
    assert out_of_date("toys", "laptop", record | {"kept_by": kept_by(cut)}) == []


def test_a_cell_that_is_no_python_is_named_and_a_question_to_jupyter_is_none(project: Path) -> None:
    notebook = registry.Notebook("00_toys")
    cells = [{"cell_type": "code", "source": source} for source in ("load?\n%matplotlib inline\n!ls", "x = 1  # why?")]
    records.write_atomically(notebook.path, json.dumps({"cells": cells}))
    assert notebook.recorded == []
    notebook = registry.Notebook("00_toys")
    records.write_atomically(notebook.path, json.dumps({"cells": [*cells, {"cell_type": "code", "source": "x = ("}]}))
    with pytest.raises(DamagedTable, match=r"00_toys\.ipynb: a cell is no Python"):
        _ = notebook.recorded


@pytest.mark.parametrize("content", ["<<<<<<< HEAD", '{"data": []}', '{"data": {"toys": 1}}'])
def test_status_names_the_damaged_record_of_a_picture(fresh_clone: Path, content: str) -> None:
    path = paths.FIGURES / "toys.json"
    records.write_atomically(path, content)
    assert f"damaged  {paths.relative(path)}" in build.status("laptop")


def test_status_names_a_picture_that_is_not_there(fresh_clone: Path) -> None:
    name = next(iter(PICTURES))
    for end in ("png", "svg", "json"):
        records.write_atomically(paths.FIGURES / f"{name}.{end}", json.dumps({"data": {}}))
    assert f"missing  figures/{name}," not in build.status("laptop")
    (paths.FIGURES / f"{name}.svg").unlink()
    assert f"missing  figures/{name}," in build.status("laptop")


@pytest.mark.parametrize("settings", [[], {"tables": []}, "1"])
def test_status_names_verdicts_whose_record_is_another(fresh_clone: Path, settings: object) -> None:
    records.write_record(paths.DATA / "laptop" / "verdicts.json", {"settings": settings})
    assert f"damaged  {paths.relative(paths.DATA / 'laptop' / 'verdicts.json')}" in build.status("laptop")


@pytest.mark.parametrize("record", [{}, {"settings": {"seeds": [1]}, "made_by": []}, {"settings": [], "made_by": {}}])
def test_a_comparison_with_fresh_seeds_whose_record_is_another_is_damaged(record: dict) -> None:
    with pytest.raises(DamagedTable, match=r"fresh_seeds\.json does not say which seeds and code"):
        fresh.stale(record)


def test_a_run_that_has_one_seed_is_asked_for_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["run", "coin_league", "all", "7"], "seed of coin_league all must be 0, its only one: 7 would change nothing"),
        (["run", "coin", "naive", "-1"], "seeds: must be an integer from 0 on, got '-1'"),
        (["memory", "--reply", "0"], "--reply: must be an integer from 1 on, got '0'"),
        (["check", "--cores", "0"], "--cores: must be an integer from 1 on, got '0'"),
        (["run", "coin", "naive", "9" * 23], "seeds: must be below 2^63, got '9"),
        (["run", "coin", "naive", "١٢"], "seeds: must be an integer from 0 on, got"),
    ):
        with pytest.raises(SystemExit):
            __main__.main(words)
        assert message in capsys.readouterr().err


def test_notebooks_to_publish_may_be_named_one_by_one_or_together(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(publish, "publish", lambda profile, only: asked.append(only))
    for words in (["--notebook", "01", "--notebook", "02", "03"], ["--notebook", "04"], []):
        __main__.main(["publish", *words])
    assert asked == [["01", "02", "03"], ["04"], []]


def test_a_reader_that_does_not_train_says_what_is_missing(project: Path, counted: list[str]) -> None:
    with pytest.raises(MissingTable, match="nobody has made toys of profile laptop yet: `make tables/toys`"):
        load("toys", "laptop", train=False)
    assert counted == []


def test_what_is_damaged_here_is_announced_and_heals(
    project: Path, counted: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    one = toy_run("laptop", "slow", 0)
    experiments.run.make(one)
    (one.folder / "table.csv").write_text("<<<<<<< HEAD")
    __main__.main(["run", "toy", "slow", "0"])
    assert "making 1 of 1 runs, in about 3.0 minutes of one core" in capsys.readouterr().out
    assert counted == ["toy-0", "toy-0"]
    __main__.main(["run", "toy", "slow", "0"])
    assert "making" not in capsys.readouterr().out
    __main__.main(["run", "toy", "slow", "0", "--fresh"])
    assert "making 1 of 1 runs, in about 3.0 minutes of one core" in capsys.readouterr().out
    assert counted == ["toy-0"] * 3


def test_runs_on_gpus_are_no_minutes_of_a_core(project: Path) -> None:
    runs = [replace(run, gpu=bool(run.seed)) for run in TOYS.runs("laptop")]
    assert effort(runs) == ", in about 3.0 minutes of one core and hours to days on a GPU for 1 of them"
    assert effort(runs[1:]) == ", in hours to days on a GPU for 1 of them"
    told = build.reckon(runs, "of these", "laptop", cores=1).splitlines()
    assert told[0] == "2 of 2 runs of these are to be made, about 3 minutes on 1 cores:"
    assert told[-1] == "  not counted: hours to days on a GPU for 1 of them"


def test_what_is_committed_and_current_is_not_announced(fresh_clone: Path) -> None:
    assert effort(TOYS.runs("laptop")) == ""
