"""Claims of the README and of the Makefile, checked."""

import re
import subprocess

import pandas as pd

from experiments import build, registry
from experiments.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+)(?=[:/])", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def test_nothing_that_the_readme_names_is_missing() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README) + re.findall(r'src="([^"]+)"', README)
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_make_target_in_the_readme_exists() -> None:
    named = set(re.findall(r"`make (?:-n )?([a-z][a-z-]*)", README)) | set(re.findall(r"^make ([a-z-]+)", README, re.M))
    assert named
    assert named <= TARGETS


def test_what_every_run_took_is_told() -> None:
    told = pd.read_csv(ROOT / "data" / "laptop" / "cost.csv").run
    assert set(told) - {"calibration"} == {run.name for run in registry.runs("laptop")}


def test_make_help_lists_every_documented_target() -> None:
    text = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("figures", "redraw", "notebooks/%", "tables/%", "studies/%", "test", "lab", "bench", "clean"):
        assert re.search(rf"^  {target}\s", text, flags=re.MULTILINE)


def test_all_that_is_committed_was_made_by_the_present_code_and_none_by_changed_code() -> None:
    told = build.status("laptop")
    assert told.startswith(
        "every committed table and agent was made by the present settings and code (gpu_rehearsal, soak, made"
    ), told
    records = [path for top in ("data", "figures") for path in (ROOT / top).rglob("*.json")]
    assert len(records) > 100
    assert [path.name for path in records if "-dirty" in path.read_text(encoding="utf-8")] == []
