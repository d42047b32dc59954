"""What `make figures` does at its end, on made-up trees: all is published, or nothing is."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

import experiments
from experiments import build, figures, publish, readme, records, registry
from experiments.paths import ROOT
from experiments.pictures import Picture
from experiments.publish import RefusedError, check_figures
from experiments.run import make

from .conftest import TOYS

README = "toys\n<!-- generated: toys -->\nold\n<!-- end -->\n"
NOTEBOOK = "00_toys.ipynb"


def tracked(project: Path) -> dict[str, bytes]:
    tops = [project / "data", project / "figures", project / "notebooks", project / "README.md"]
    files = [path for top in tops for path in ([top] if top.is_file() else top.rglob("*")) if path.is_file()]
    return {path.relative_to(project).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def made(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A build in which all has succeeded: runs, tables, pictures, an executed notebook."""
    pictures = {"curves": Picture("00", "Curves"), "study": Picture("00", "A side study")}
    for module in (publish, build):
        monkeypatch.setattr(module, "PICTURES", pictures)
    monkeypatch.setattr(readme, "GENERATED", {"toys": lambda load: f"{len(load('toys'))} toys"})
    records.write_atomically(project / "README.md", README)
    publish.publish_study("toy_study")
    parameters = {"profile": "laptop", "seeds": 2}
    for name in ("toys", "toy_league"):
        experiments.load(name, "laptop")
    experiments.record("angles", "laptop", {"gamma": 0.9}, pd.DataFrame({"angle": [1.0]}))
    experiments.load("toy_study", "laptop")
    figures.save(Figure(), "curves", NOTEBOOK, parameters, ["toys", "toy_league", "angles"])
    figures.save(Figure(), "study", NOTEBOOK, parameters, ["toy_study"])
    records.write_atomically(project / "build" / "laptop" / "notebooks" / NOTEBOOK, "executed")
    build.seal("00", "laptop")
    return project


def test_all_of_a_build_is_published(made: Path) -> None:
    publish.publish("laptop")
    files = tracked(made)
    tables = {
        f"data/laptop/{name}.{end}" for name in ("toys", "toy_league", "angles", "cost") for end in ("csv", "json")
    }
    agents = {f"data/agents/toy/slow-{seed}/{name}" for seed in (0, 1) for name in AGENT}
    drawn = {f"figures/{name}.{end}" for name in ("curves", "study") for end in ("png", "svg", "json")}
    study = {f"data/extended/toy_study.{end}" for end in ("csv", "json")}
    others = {f"notebooks/{NOTEBOOK}", "README.md"}
    assert set(files) == tables | agents | drawn | study | others
    assert files["README.md"] == README.replace("old", "2 toys").encode()
    assert files[f"notebooks/{NOTEBOOK}"] == b"executed"
    assert experiments.load("toys", "laptop").seed.tolist() == [0, 1]
    publish.publish("laptop")
    again = tracked(made)
    assert {name for name in files if files[name] != again[name]} <= {"data/laptop/cost.csv", "data/laptop/cost.json"}


AGENT = ("agent.safetensors", "record.json", "table.csv")


def test_what_nothing_makes_any_more_is_removed_and_what_is_not_ours_stays(made: Path) -> None:
    old = made / "build" / "laptop" / "tables" / "renamed.csv"
    records.write_table(old, pd.DataFrame({"x": [1]}), {})
    for folder, ends in ((made / "data" / "laptop", ("csv", "json")), (made / "figures", ("png", "svg", "json"))):
        for end in ends:
            records.write_atomically(folder / f"renamed.{end}", "{}")
    records.write_atomically(made / "data" / "agents" / "toy" / "slow-9" / "record.json", "{}")
    notes = [
        made / "figures" / "of_mine.png",
        made / "data" / "laptop" / "notes.csv",
        made / "notebooks" / "mine.ipynb",
    ]
    for path in notes:
        records.write_atomically(path, "of a reader")
    publish.publish("laptop")
    assert not [name for name in tracked(made) if "renamed" in name or "slow-9" in name]
    assert all(path.is_file() for path in notes)


def test_a_picture_made_from_another_table_is_named(made: Path) -> None:
    publish.publish("laptop")
    assert "figures" not in build.status("laptop")
    path = made / "data" / "laptop" / "toys.csv"
    table, record = records.read_table(path)
    records.write_table(path, table[:1], record)
    assert "stale    figures/curves.json: made from another toys; `make figures` makes it again" in build.status(
        "laptop"
    )


@pytest.mark.parametrize("spoilt", ["curves.png", "curves.svg", "curves.json"])
def test_a_picture_or_its_record_that_was_altered_is_named(made: Path, spoilt: str) -> None:
    publish.publish("laptop")
    assert "damaged" not in build.status("laptop")
    path = made / "figures" / spoilt
    if path.suffix == ".json":
        records.write_record(path, (records.read_record(path) or {}) | {"git_commit": "0" * 40})
    else:
        path.write_bytes(b"another picture")
    assert "damaged  figures/curves.json, or the picture beside it" in build.status("laptop")


def test_a_notebook_that_is_not_committed_publishes_nothing(made: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=made, check=True, capture_output=True)

    git("init", "-q")
    refused(made, r"notebooks/00_toys\.ipynb has changes that are not committed: commit it, then draw again")
    git("add", "notebooks")
    git("commit", "-qm", "first")
    assert "could not be published" not in build.plan("laptop", 2)
    publish.publish("laptop")


def test_seeds_of_claims_publish_nothing(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AA_SEEDS", "100-104")
    refused(made, "AA_SEEDS must not be set")
    before = tracked(made)
    with pytest.raises(RefusedError, match="AA_SEEDS must not be set"):
        publish.publish_study("toy_study")
    assert tracked(made) == before


def test_one_stamp_stands_for_what_a_notebook_left(made: Path) -> None:
    build.seal("00", "laptop", stale=True)
    folder = made / "build" / "laptop" / "notebooks"
    assert len(list(folder.glob("00.*"))) == 2
    build.unseal("00", "laptop")
    assert [path.name for path in folder.iterdir()] == [NOTEBOOK]


def test_tables_that_are_made_again_are_drawn_again(made: Path) -> None:
    before = build.stamp("00", "laptop", stale=True)
    shutil.rmtree(made / "build" / "runs" / "toy")
    build.stamp.cache_clear()
    assert build.stamp("00", "laptop", stale=True) != before


def test_a_machine_without_the_other_runs_publishes_its_notebook_and_keeps_what_is_committed(made: Path) -> None:
    publish.publish("laptop")
    before = tracked(made)
    records.write_atomically(made / "data" / "agents" / "toy" / "slow-9" / "record.json", "{}")  # nobody's any more
    shutil.rmtree(made / "build" / "runs" / "toy")
    (made / "data" / "laptop" / "angles.csv").unlink()
    (made / "figures" / "curves.png").unlink()
    publish.publish("laptop", only=["00"])
    after = tracked(made)
    assert {name for name in after if after[name] != before[name]} <= {"data/laptop/cost.csv", "data/laptop/cost.json"}
    assert set(after) == set(before)
    cost = pd.read_csv(made / "data" / "laptop" / "cost.csv")
    assert set(cost.run) == {"calibration", "toy/slow-0", "toy/slow-1", "toy_league/all-0"}, (
        "also of what was made before"
    )
    assert not (made / "build" / "runs" / "toy").exists(), "runs were made"
    Path(build.stamp("00", "laptop")).unlink()
    with pytest.raises(RefusedError, match="has not been executed as it stands"):
        publish.publish("laptop", only=["00"])


def refused(project: Path, words: str) -> None:
    before = tracked(project)
    with pytest.raises(RefusedError, match=words):
        publish.publish("laptop")
    assert tracked(project) == before, "something was published"


@pytest.mark.parametrize("end", ["png", "json"])
def test_a_picture_that_is_missing_or_has_no_past_is_refused(made: Path, end: str) -> None:
    (made / "build" / "laptop" / "figures" / f"curves.{end}").unlink()
    refused(made, r"lacks curves" if end == "png" else r"no whole curves\.json")


@pytest.mark.parametrize(
    ("entry", "content", "words"),
    [
        ("notebook", "99_gone.ipynb", "comes from '99_gone.ipynb', not from 00"),
        ("stale", ["toys", "toy_study"], r"drawn from tables that other code made: \['toys'\]"),
        ("data", None, r"no whole curves\.json"),
    ],
)
def test_a_picture_of_elsewhere_or_out_of_date_is_refused(made: Path, entry: str, content: object, words: str) -> None:
    path = made / "build" / "laptop" / "figures" / "curves.json"
    record = json.loads(path.read_text()) | {entry: content}
    path.write_text(json.dumps({name: part for name, part in record.items() if part is not None}))
    refused(made, words)


def test_a_picture_of_an_older_side_study_is_published(made: Path) -> None:
    path = made / "build" / "laptop" / "figures" / "study.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"stale": ["toy_study"]}))
    check_figures(path.parent, ["curves", "study"])
    build.seal("00", "laptop")
    publish.publish("laptop")


def test_a_notebook_that_was_not_executed_is_refused(made: Path) -> None:
    Path(build.stamp("00", "laptop")).unlink()
    refused(made, "notebook 00_toys has not been executed as it stands: `make figures`")


@pytest.mark.parametrize("file", [f"notebooks/{NOTEBOOK}", "figures/curves.png", "tables/angles.csv"])
def test_what_somebody_made_over_it_by_hand_is_refused(made: Path, file: str) -> None:
    path = made / "build" / "laptop" / file
    if path.suffix == ".csv":
        experiments.record("angles", "laptop", {"gamma": 0.9}, pd.DataFrame({"angle": [2.0]}))
    else:
        path.write_bytes(path.read_bytes() + b" ")
    refused(made, f"{path.name} is not what 00_toys left there: remove .*00.*done")


def test_a_notebook_is_executed_again_after_a_change_of_what_it_shows(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {build.stamp("00", "laptop")}
    records.write_atomically(made / "data" / "published" / "league.csv", "agent,reward\n")  # the papers' numbers
    build.stamp.cache_clear()
    before.add(build.stamp("00", "laptop"))
    cells = json.dumps({"cells": [{"cell_type": "markdown", "source": "other words"}]})
    records.write_atomically(made / "notebooks" / NOTEBOOK, cells)
    monkeypatch.setattr(registry, "NOTEBOOKS", {"00": registry.Notebook("00_toys")})
    build.stamp.cache_clear()
    assert len({*before, build.stamp("00", "laptop")}) == 3


def test_code_that_is_not_committed_publishes_nothing(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "git_commit", lambda: "0123abc-dirty")
    refused(made, "there are changes that are not committed")
    before = tracked(made)
    with pytest.raises(RefusedError, match="there are changes that are not committed"):
        publish.publish_study("toy_study")
    make(TOYS.runs("laptop")[1], fresh=True)
    experiments.record("angles", "laptop", {"gamma": 0.9}, pd.DataFrame({"angle": [1.0]}))
    build.seal("00", "laptop")
    monkeypatch.setattr(records, "git_commit", lambda: "0123abc")
    refused(made, r"1 runs were made by code that was not committed.*remove .*toy/slow-1\..*FRESH=1")
    make(TOYS.runs("laptop")[1], fresh=True)
    refused(made, r"angles\.csv was made by code that was not committed")
    assert tracked(made) == before


def test_agents_that_are_too_large_publish_nothing(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "AGENTS_LIMIT", 100)
    refused(made, "agents must take at most 100 bytes together")


def test_a_readme_without_its_parts_publishes_nothing(made: Path) -> None:
    (made / "README.md").write_text("no parts")
    before = tracked(made)
    with pytest.raises(ValueError, match="README must have one part"):
        publish.publish("laptop")
    assert tracked(made) == before


def test_another_profile_is_checked_and_not_published(made: Path) -> None:
    (made / "build" / "laptop").rename(made / "build" / "smoke")
    build.seal("00", "smoke")
    before = tracked(made)
    publish.publish("smoke")
    assert tracked(made) == before
    (made / "build" / "smoke" / "figures" / "study.png").unlink()
    with pytest.raises(RefusedError, match="lacks study"):
        publish.publish("smoke")


def test_a_stamp_is_of_what_was_there_before_the_execution(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = build.stamp("00", "laptop", True)
    monkeypatch.setattr(build, "stamp", lambda *_: f"{named}.of-another-code")  # somebody edits meanwhile
    build.seal("00", "laptop", True, named)
    assert Path(named).is_file()
    assert not Path(f"{named}.of-another-code").exists()


def test_the_job_of_a_notebook_leaves_the_stamp_that_snakemake_waits_for() -> None:
    text = (ROOT / "Snakefile").read_text(encoding="utf-8")
    assert "{PYTHON} notebook {params.number} --profile {PROFILE} {STALE} --stamp {output:q}" in text
