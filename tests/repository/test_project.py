"""Claims of the README and of the build, checked."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from aa_core import figures, paths, publish, records

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_generated_parts_of_the_readme_are_what_the_data_say() -> None:
    assert publish.fill(README) == README


def test_nothing_that_the_readme_names_is_missing() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README) + re.findall(r'src="([^"]+)"', README)
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_make_target_in_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+)(?=[:/])", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"`make (?:-n )?([a-z][a-z-]*)", README))
    assert named
    assert named <= targets | {"notebooks"}


NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_committed_figures_have_a_past(notebook: str, tmp_path: Path) -> None:
    for sidecar in (ROOT / "figures").glob("*.json"):
        if json.loads(sidecar.read_text()).get("notebook") == f"{notebook}.ipynb":
            for kind in ("json", "png"):
                shutil.copy(sidecar.with_suffix(f".{kind}"), tmp_path)
    assert list(tmp_path.glob("*.png"))
    publish.check_figures(tmp_path, [notebook])


def test_committed_figures_are_those_with_captions_and_come_from_recorded_data() -> None:
    pictures = {path.stem for path in (ROOT / "figures").glob("*.png")}
    assert pictures == set(publish.CAPTIONS)
    for name in pictures:
        record = json.loads((ROOT / "figures" / f"{name}.json").read_text())
        assert record["notebook"].removesuffix(".ipynb") in NOTEBOOKS
        assert record["parameters"]["profile"] == "laptop"
        assert record["data"]
        assert all(record["data"].values()), f"{name}: data without provenance"


def test_a_figure_without_a_past_is_refused(tmp_path: Path) -> None:
    picture, sidecar = tmp_path / "orphan.png", tmp_path / "orphan.json"
    picture.write_bytes(b"")
    with pytest.raises(ValueError, match=r"orphan\.png has no orphan\.json"):
        publish.check_figures(tmp_path, ["01"])
    whole = dict.fromkeys(publish.SIDECAR) | {"notebook": "99_gone.ipynb"}
    sidecar.write_text(json.dumps(whole))
    with pytest.raises(ValueError, match="99_gone"):
        publish.check_figures(tmp_path, ["01"])
    publish.check_figures(tmp_path, ["99_gone"])
    for key in publish.SIDECAR:
        sidecar.write_text(json.dumps({name: value for name, value in whole.items() if name != key}))
        with pytest.raises(ValueError, match=rf"orphan\.json lacks {key}: draw"):
            publish.check_figures(tmp_path, ["99_gone"])


def test_a_saved_figure_tells_seeds_and_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "DATA", tmp_path)
    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    seeded = pd.DataFrame({"row_seed": [0, 0, 1], "column_seed": [0, 1, 2], "value": 1.0})
    run = {"config_hash": "a", "seconds": 2.0}
    for name, runs in (("one", {"0": run, "1": {"config_hash": "b", "seconds": 0.5}}), ("two", {"0": run, "2": None})):
        records.write_table(records.table_path("smoke", name), seeded, {"runs": runs})
    records.recorded("smoke", "exact", {}, lambda: pd.DataFrame({"value": [1.0]}))
    drawn = Figure()
    figures.save(drawn, "drawn", "01.ipynb", {"profile": "smoke", "seeds": 2}, ["one", "two", "exact"])
    record = json.loads((tmp_path / "drawn.json").read_text())
    assert set(record) == set(publish.SIDECAR)
    assert record["seeds"] == {"one": 2, "two": 2, "exact": None}  # three there, two used
    assert record["seconds"]["runs"] == 2.5  # the run of both tables once; the exact one took no time
    assert 0 < record["seconds"]["notebook"] < 3600
    publish.check_figures(tmp_path, ["01"])


def test_environment_and_lock_agree_with_pyproject() -> None:
    lock = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE))
    assert lock["torch"] == "2.13.0"
    wanted = re.findall(r'^\s*(?:\w+ = \[)?.*?"([a-z][\w-]*)[>=]=', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    names = {name.lower().replace("_", "-") for name in lock}
    assert {"torch", "numpy", "axelrod"} <= set(wanted)
    assert [name for name in wanted if name not in names | {"setuptools", "openai", "dm-meltingpot"}] == []
    assert "-r requirements.lock" in (ROOT / "environment.yml").read_text()


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_help_lists_every_documented_target() -> None:
    text = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("figures", "test", "lab", "bench", "clean", "course"):
        assert re.search(rf"^  {target}\s", text, flags=re.MULTILINE)


def test_snakemake_dry_run_of_smoke_plans_every_notebook() -> None:
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--dry-run",
        "--nolock",
        "--forceall",
        "--rerun-incomplete",  # as the Makefile: a killed build may have left something
        "figures",
        "--config",
        "profile=smoke",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    for number in ("00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12"):
        assert f"notebook_{number}" in said
    for run in (
        "llm/ipd-advantage_alignment-0",
        "llm_crossplay/split",
        "llm_speed/ipd",
        "harvest/ppo-0",
        "harvest_frames/all",
    ):
        assert f"output: data/smoke/runs/{run}.csv" in said  # what the notebooks read is trained


def test_interval_is_seeded_and_holds_the_mean() -> None:
    samples = [0.1, 0.4, 0.2, 0.8, 0.5]
    mean, low, high = figures.interval(samples)
    assert low < mean < high
    assert figures.interval(samples) == (mean, low, high)
    assert figures.interval([0.5]) == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="samples"):
        figures.interval([])
