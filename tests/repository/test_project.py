"""Claims of the README and of the build, checked."""

import re
import shutil
import subprocess
import sys

import pytest

from aa_core.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_nothing_that_the_readme_names_is_missing() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README) + re.findall(r'src="([^"]+)"', README)
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_make_target_in_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+)(?=[:/])", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"`make (?:-n )?([a-z][a-z-]*)", README))
    assert named
    assert named <= targets | {"notebooks"}


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
