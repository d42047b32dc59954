"""What a stranger types in a fresh clone: it works, it names what is wrong, and it changes no tracked file."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path

import pytest
import yaml
from jupyterlab_server.settings_utils import get_settings

from experiments import build, paths, registry
from experiments.__main__ import declared, main, parser
from experiments.identity import reached
from experiments.run import SEEN, NoGPUError

Make = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(("flags", "dry"), [(["-n"], True), (["-n", "--no-print-directory"], True), (["-k"], False),
                                            (["--no-print-directory"], False), (["PROFILE=smoke"], False)])  # fmt: skip
def test_a_dry_run_is_known_by_its_flag(clone: Path, flags: list[str], dry: bool) -> None:
    asked = "include Makefile\n$(info [$(DRY)])\nasked: ;\n"
    alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", *flags, "-f", "-", "asked"]
    done = subprocess.run(command, cwd=clone, env=alone, input=asked, capture_output=True, text=True)
    assert ("[--dry-run]" if dry else "[]") in done.stdout.splitlines()


def test_the_readers_home_is_found_where_the_shell_does_not_look_for_it(
    clone: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    home = environment | {"HOME": str(tmp_path)}
    command = ["make", "-n", f'PY="{sys.executable}"', "notebooks/01", "PROFILE=smoke", "AA_BUILD=~/it's  mine"]
    done = subprocess.run(command, cwd=clone, env=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["it's  mine"]
    assert not (clone / "~").exists()


def test_a_failing_notebook_deletes_nothing(clone: Path, make: Make, changed: Callable[[], str]) -> None:
    path = clone / "notebooks" / "03_loqa_and_advantage_alignment.ipynb"
    before = path.read_text(encoding="utf-8")
    broken = json.loads(before)
    code = next(cell for cell in broken["cells"] if cell["cell_type"] == "code" and "import" in "".join(cell["source"]))
    code["source"] = 'raise RuntimeError("broken on purpose")'
    path.write_text(json.dumps(broken), encoding="utf-8")
    try:
        done = make("notebooks/03", "PROFILE=smoke")
        assert done.returncode != 0
        assert "broken on purpose" in done.stdout + done.stderr
        assert changed() == "M notebooks/03_loqa_and_advantage_alignment.ipynb"
    finally:
        path.write_text(before, encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["figures", "PROFILE=laptpo"], "invalid choice: 'laptpo' (choose from"),
        (["redraw", "PROFILE=laptpo"], "invalid choice: 'laptpo' (choose from"),
        (
            ["figures", "PROFILE=extended"],
            "profile extended holds side studies only: make studies/NAME, without PROFILE",
        ),
        (["notebooks/4"], "invalid choice: '4' (choose from"),
        (["claims", "SEEDS=5-9"], f"seeds must be from {SEEN} on"),
        (["claims", "SEEDS=100-104", "ONLY=aa_9"], "figures must be among"),
        (["tables/coin"], "invalid choice: 'coin' (choose from"),
        (["studies/coin_league"], "invalid choice: 'coin_league' (choose from"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_there_is(
    clone: Path, environment: dict[str, str], capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """What make asks first is asked here, since each Python takes seconds to begin; the next test goes through make."""
    command = ["make", "-n", "PY=python", "CORES=2", "SHELL=/bin/true", *arguments]  # says what it would run
    said = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
    first = next(line for line in said.stdout.splitlines() if line.startswith("python -m experiments "))
    with pytest.raises(SystemExit) as refused:
        main(shlex.split(first)[3:])
    assert refused.value.code == 2
    assert message in capsys.readouterr().err


def test_make_stops_at_what_does_not_exist(make: Make) -> None:
    done = make("notebooks/99")
    assert done.returncode != 0
    assert "invalid choice: '99' (choose from" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("name", registry.experiments())
def test_the_command_line_refuses_an_unknown_variant(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    top = parser()
    for profile, variant in product(("smoke", "laptop"), ("nonsense", "Stopped")):
        with pytest.raises(SystemExit):
            declared(top.parse_args(["run", name, variant, "7", "--profile", profile]), top)
        known = ", ".join(registry.experiments()[name].variants(profile))
        words = f"variant of {name} must be one of {known}, got {variant!r}"
        nowhere = f"profile must be another, {name} has no runs in {profile}"
        assert (words if known else nowhere) in capsys.readouterr().err


@pytest.mark.parametrize("step", ["plan", "tables"])
def test_steps_of_claims_refuse_other_seeds_than_those_of_the_runs(
    step: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for around, seeds, words in (
        ("200-204", "100-104", "AA_SEEDS must be 100-104 (`make claims` sets it)"),
        ("0-4", "0-4", f"seeds must be from {SEEN} on"),
    ):
        monkeypatch.setenv("AA_SEEDS", around)
        with pytest.raises(SystemExit):
            main(["claims", step, "--seeds", seeds])
        assert words in capsys.readouterr().err


def test_a_missing_gpu_is_a_line_and_runs_are_announced(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(run: object, fresh: bool) -> None:
        raise NoGPUError("profile 'paper' needs a GPU")

    monkeypatch.setattr("experiments.__main__.make", train)
    with pytest.raises(SystemExit, match="make: profile 'paper' needs a GPU"):
        main(["run", "llm", "ipd-naive", "5", "--profile", "paper"])
    assert (
        "llm ipd-naive, with what they need: making 1 of 1 runs, in hours to days on a GPU for 1 of them"
        in capsys.readouterr().out
    )


def test_every_run_has_resources_for_a_cluster() -> None:
    runs = registry.runs("paper")
    language = [run for run in runs if run.experiment.startswith("llm") and run.settings is not None]
    assert language
    assert all(build.runtime(run) >= 10 for run in runs)
    trained = [run for run in language if run.experiment == "llm"]
    assert all(run.gpu and build.runtime(run) >= 24 * 60 for run in trained)
    others = [run for run in runs if not run.experiment.startswith("llm")]
    assert not any(run.gpu for run in others), "they have no device but the processor"
    laptop = {(run.experiment, run.variant): build.runtime(run) for run in registry.runs("laptop")}
    larger = {
        run.experiment for run in others if build.runtime(run) > 3 * laptop.get((run.experiment, run.variant), 10)
    }
    assert larger >= {"ipd", "ipd_long", "coin", "negotiation", "harvest", "harvest_background"}


def test_a_run_is_found_by_its_record_file_and_by_no_other() -> None:
    first = {run.experiment: (record, run) for record, run in build.every_run("smoke").items()}
    assert all(build.run_of(record, "smoke").identity == run.identity for record, run in first.values())
    record, run = first["coin_league"]
    assert build.run_of(record.replace(run.identity, "0" * 16), "smoke") is None, "of other code or settings"


@pytest.mark.parametrize(
    ("file", "users"),
    [
        ("aa_core.games.text", {"llm", "llm_prior", "llm_crossplay"}),
        ("aa_core.games.coin", {"coin", "coin_league", "coin_episode"}),
        ("aa_core.games.negotiation", {"negotiation", "negotiation_league", "negotiation_episode"}),
        ("aa_core.games.harvest", {f"harvest{part}" for part in ("", "_background", "_credit")}),
        ("aa_core.tabular", {"ipd", "ipd_long", "ipd_sweep"}),
        ("experiments.figures", set()),
    ],
)
def test_a_change_of_a_file_concerns_exactly_those_who_use_it(file: str, users: set[str]) -> None:
    concerned = set()
    for run in registry.runs("laptop"):
        starts = [run.compute, *_functions(run.settings)]
        if any(name.startswith((f"{file}:", f"{file}.")) for start in starts for name in _reached(start)):
            concerned.add(run.experiment)
    assert concerned == users


@cache
def _reached(start: Callable) -> frozenset[str]:
    return frozenset(reached((start.__module__, start.__qualname__.split(".")[0])))


def _functions(settings: object) -> list:
    """Functions and classes that stand in settings."""
    from dataclasses import fields, is_dataclass
    from functools import partial

    if isinstance(settings, partial):
        return _functions(settings.func) + _functions(settings.keywords)
    if is_dataclass(settings):
        own = [type(settings)] if settings.__class__.__module__.startswith("aa_core") else []
        return own + [part for field in fields(settings) for part in _functions(getattr(settings, field.name))]
    if isinstance(settings, dict):
        return [part for value in settings.values() for part in _functions(value)]
    if isinstance(settings, list | tuple):
        return [part for value in settings for part in _functions(value)]
    return [settings] if callable(settings) else []


def test_aa_core_knows_nothing_of_experiments() -> None:
    root = paths.ROOT / "aa_core"
    offenders = [
        path.name for path in root.rglob("*.py") if re.search(r"^\s*(from|import) experiments", path.read_text(), re.M)
    ]
    assert offenders == []


def test_aa_core_is_thin() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in (paths.ROOT / "aa_core").rglob("*.py")}
    assert sum(lines.values()) <= 4500
    assert max(lines.values()) <= 450


def test_claims_are_judged_with_fresh_seeds(make: Make, changed: Callable[[], str]) -> None:
    asked = ("claims", "PROFILE=smoke", "SEEDS=100-102", "ONLY=aa_1b_table")
    done = make(*asked)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 of 5 runs behind aa_1b_table are to be made, about " in done.stdout
    assert "P(cooperate): CC > CD" in done.stdout
    assert "build/smoke/tables/fresh_seeds.csv" in done.stdout
    assert changed() == ""
    again = make("-n", *asked)
    assert again.returncode == 0, again.stderr
    assert "Nothing to be done" in again.stdout


def test_jupyterlab_saves_only_when_the_reader_says_so(make: Make, clone: Path, tmp_path: Path) -> None:
    """Autosave would rewrite tracked notebooks that somebody only runs."""
    folder = re.search(r"--LabApp\.app_settings_dir=(\S+)", make("-n", "lab").stdout)
    assert folder is not None
    schemas, plugin = Path(sys.prefix) / "share/jupyter/lab/schemas", "@jupyterlab/docmanager-extension:plugin"
    settings, _ = get_settings(str(clone / folder[1]), str(schemas), str(tmp_path), plugin)
    assert settings["schema"]["properties"]["autosave"]["default"] is False


def test_slurm_profile_gives_every_job_what_it_needs(clone: Path, environment: dict[str, str], tmp_path: Path) -> None:
    shipped = yaml.safe_load((clone / "profiles" / "slurm" / "config.yaml").read_text(encoding="utf-8"))
    assert shipped.pop("executor") == "slurm"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(shipped), encoding="utf-8")  # its plugin is not in the lock
    targets = ["table_llm_crossplay", "table_ipd_policy"]
    command = [sys.executable, "-m", "snakemake", *targets, "--workflow-profile", str(tmp_path), "--dry-run"]
    done = subprocess.run(
        [*command, "--config", "profile=paper", "mode=one"], cwd=clone, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = {}
    for text in re.findall(r"^rule run:.*?^ *resources: .*?$", done.stdout + done.stderr, re.M | re.S):
        (output,), (resources,) = re.findall(r"output: (.*)", text), re.findall(r"resources: (.*)", text)
        name = output.split("/runs/")[1].rpartition(".")[0].removesuffix("/record")
        jobs[name.rpartition(".")[0] or name] = dict(part.split("=") for part in resources.split(", "))
    assert len(jobs) > 30
    language = {name: needs for name, needs in jobs.items() if name.startswith("llm")}
    assert len(language) == len(jobs) - 5  # and five of tables in the prisoner's dilemma
    for needs in language.values():
        assert {name: int(needs[name]) for name in ("runtime", "mem_mb", "gpu")} == {
            "runtime": 2880, "mem_mb": 64_000, "gpu": 1,
        }  # fmt: skip
    for needs in (jobs[name] for name in set(jobs) - set(language)):
        assert int(needs["gpu"]) == 0
        assert int(needs["mem_mb"]) <= 4000
