"""What is installed where: the lock, `make setup` in words, and a wheel far away from the repository."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from importlib import metadata
from itertools import product
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = [
    Requirement(line)
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
PYTHONS = ("3.11.0", "3.12.0", "3.13.0")  # the oldest of each
SYSTEMS = {"linux": ("Linux", "x86_64"), "darwin": ("Darwin", "arm64")}
NOT_LOCKED = {"meltingpot"}  # extras that `make` does not install


def environment(python: str, system: str) -> dict[str, str]:
    name, machine = SYSTEMS[system]
    return {
        "extra": "",
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_system": name,
        "python_full_version": python,
        "python_version": python.rpartition(".")[0],
        "sys_platform": system,
    }


def applies(requirement: Requirement, where: dict[str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(where)


def pinned(where: dict[str, str]) -> dict[str, str]:
    """Name -> version of what the lock installs there."""
    (name, version), *_ = pins = [
        (canonicalize_name(pin.name), str(pin.specifier).removeprefix("==")) for pin in LOCK if applies(pin, where)
    ]
    assert name
    assert version
    assert len(dict(pins)) == len(pins), "two pins of one package"
    return dict(pins)


def lacking(wanted: list[Requirement], where: dict[str, str]) -> list[str]:
    """Requirements that no pin meets."""
    pins = pinned(where)
    return [
        str(one)
        for one in wanted
        if applies(one, where) and not one.specifier.contains(pins.get(canonicalize_name(one.name), "0"))
    ]


@cache
def about(name: str) -> tuple[str, SpecifierSet, list[Requirement]]:
    """Version, supported Pythons and requirements of a package that is installed here; version "" if it is not."""
    try:
        package = metadata.distribution(name)
    except metadata.PackageNotFoundError:  # of another Python or system
        return "", SpecifierSet(), []
    bounds = SpecifierSet(package.metadata.get("Requires-Python", ""))
    return package.version.partition("+")[0], bounds, [Requirement(one) for one in package.requires or []]


def test_every_line_of_the_lock_is_one_exact_version() -> None:
    assert len(LOCK) > 150
    for pin in LOCK:
        (specifier,) = pin.specifier
        assert specifier.operator == "=="
        assert "*" not in specifier.version


@pytest.mark.parametrize(("python", "system"), [*product(PYTHONS, SYSTEMS)])
def test_lock_holds_what_the_project_asks_for(python: str, system: str) -> None:
    extras = {extra: names for extra, names in PROJECT["optional-dependencies"].items() if extra not in NOT_LOCKED}
    assert {"notebooks", "llm", "pettingzoo", "dev"} <= set(extras)
    wanted = [Requirement(one) for one in sum(extras.values(), PROJECT["dependencies"])]
    assert lacking(wanted, environment(python, system)) == []


@pytest.mark.parametrize(("python", "system"), [*product(PYTHONS, SYSTEMS)])
def test_packages_installed_here_run_on_every_supported_python_with_the_lock(python: str, system: str) -> None:
    where = environment(python, system)
    for name, version in pinned(where).items():
        installed, python_bounds, wanted = about(name)
        if installed != version:  # not here, or not from the lock: nothing can be told
            continue
        assert python_bounds.contains(python), f"{name}=={version}"
        if name != "torch":  # its CUDA libraries have their exact versions from it
            assert lacking(wanted, where) == [], f"{name}=={version}"


def test_supported_pythons_are_the_same_everywhere() -> None:
    bounds = SpecifierSet(PROJECT["requires-python"])
    assert all(bounds.contains(python) for python in PYTHONS)
    assert not bounds.contains("3.10.13")
    assert not bounds.contains("3.14.0")
    assert "Python 3.11 to 3.13 is supported" in (ROOT / "setup.sh").read_text(encoding="utf-8")
    packages = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    (python,) = [one for one in packages if isinstance(one, str) and one.startswith("python=")]
    assert bounds.contains(python.removeprefix("python="))
    assert {"pip": ["-r requirements.lock", "--editable ."]} in packages
    job = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == [python.rpartition(".")[0] for python in PYTHONS]
    assert job["env"]["PYTHON"] == "python${{ matrix.python }}", "make takes the first that it finds, unless told"


def test_citation_tells_what_a_reference_needs() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["title"].strip()
    assert all(author.get("name") or author.get("family-names") for author in citation["authors"])
    assert citation["authors"]
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", str(citation["date-released"])), "BibTeX takes its year from here"
    known = {url for name, url in PROJECT["urls"].items() if not name.startswith("Paper: ")}
    assert {citation[key] for key in ("url", "repository-code") if key in citation} <= known, "an address of nothing"
    assert len(citation["references"]) == 2
    for paper in citation["references"]:
        assert {"title", "authors", "year", "url", "doi"} <= set(paper)
        assert paper["url"] in PROJECT["urls"].values()


# --- make setup ---

FAKE = """#!/bin/sh
case "$*" in
"-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
*"pip"*) echo "$*" >>calls; {pip} ;;
*) echo "{about}" ;;
esac
"""


def setup(folder: Path, *arguments: str, about: str = "3.12 Linux x86_64", pip: str = ":", **variables: str) -> str:
    """What `make setup` says in a clone with a space and an umlaut in its path; its Python only says who it is."""
    clone = folder / "my clone ä"
    clone.mkdir(exist_ok=True)
    for name in ("setup.mk", "setup.sh", "requirements.lock", "pyproject.toml"):
        shutil.copy2(ROOT / name, clone)  # with its time
    (clone / "Makefile").write_text("include setup.mk\npython:\n\t@$(PY)\n", encoding="utf-8")
    (clone / "fake").write_text(FAKE.format(about=about, pip=pip), encoding="utf-8")
    (clone / "fake").chmod(0o755)
    hidden = ("CONDA", "MAKE", "MFLAGS", "PYTHON")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
    done = subprocess.run(
        ["make", "--no-print-directory", *(arguments or ("setup", "PYTHON=./fake"))],
        cwd=clone,
        env=clean | variables,
        capture_output=True,
        text=True,
    )
    return ("" if done.returncode == 0 else "refused: ") + done.stdout + done.stderr


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@needs_make
@pytest.mark.parametrize(
    ("about", "words"),
    [
        ("3.14 Linux x86_64", "Python 3.11 to 3.13 is supported, ./fake is 3.14: name another one with PYTHON="),
        ("3.10 Darwin arm64", "Python 3.11 to 3.13 is supported, ./fake is 3.10: name another one with PYTHON="),
        ("2.7 Linux x86_64", "Python 3.11 to 3.13 is supported, ./fake is 2.7: name another one with PYTHON="),
        ("3.12 Darwin x86_64", "PyTorch is no longer built for Intel Macs"),
        ("3.12 Windows AMD64", "use WSL or Docker"),
    ],
)
def test_setup_refuses_in_words_what_is_not_supported(tmp_path: Path, about: str, words: str) -> None:
    said = setup(tmp_path, about=about)
    assert said.startswith("refused: setup: ")
    assert words in said
    assert not (tmp_path / "my clone ä" / ".venv").exists()


@needs_make
def test_setup_says_that_a_python_is_missing(tmp_path: Path) -> None:
    assert "no Python here. Python 3.11 to 3.13 is supported: install one" in setup(tmp_path, "setup", "PYTHON=")
    assert "./gone does not run" in setup(tmp_path, "setup", "PYTHON=./gone")
    assert "./gone does not run" in setup(tmp_path, "setup", PYTHON="./gone")  # as a workflow does


@needs_make
def test_setup_installs_once_and_again_after_a_change_or_a_move(tmp_path: Path) -> None:
    clone = tmp_path / "my clone ä"
    assert setup(tmp_path).startswith("Installing the packages")
    calls = (clone / "calls").read_text().splitlines()
    assert [call.endswith(("-r requirements.lock", "--editable .")) for call in calls] == [True, True]
    assert "Installing" not in setup(tmp_path)
    assert setup(tmp_path, "python") == "3.12 Linux x86_64\n"
    future = (clone / ".venv").stat().st_mtime + 60
    os.utime(clone / "requirements.lock", (future, future))
    made = subprocess.run(["make", "setup"], cwd=clone, capture_output=True, text=True)
    assert "Installing" in made.stdout + made.stderr
    (tmp_path / "moved").mkdir()
    clone.rename(tmp_path / "moved" / "my clone ä")
    assert "Installing" in setup(tmp_path / "moved")


@needs_make
@pytest.mark.parametrize(
    ("pip", "words"),
    [
        (
            "echo \"WARNING: Retrying after connection broken by 'NewConnectionError'\"; "
            'echo "ERROR: No matching distribution found for yte==1.9.4"; exit 1',
            "packages could not be downloaded: this needs the network once, or a mirror",
        ),
        ('echo "ERROR: No matching distribution found for torch==2.13.0"; exit 1', "needs macOS 14 or Linux"),
        (
            'echo "ERROR: [Errno 28] No space left on device"; exit 1',
            "could not be installed. The last of .venv/pip.log",
        ),
    ],
)
def test_setup_says_in_words_why_packages_are_not_there_and_tries_again(tmp_path: Path, pip: str, words: str) -> None:
    said = setup(tmp_path, pip=pip)
    assert words in said
    assert pip.split('echo "ERROR')[1].split('"')[0] in said  # pip's own last line
    shutil.rmtree(tmp_path / "my clone ä" / ".venv")
    assert setup(tmp_path).startswith("Installing")


@needs_make
def test_setup_names_what_an_activated_conda_environment_lacks(tmp_path: Path) -> None:
    prefix = tmp_path / "conda ä"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    said = setup(tmp_path, "setup", CONDA_DEFAULT_ENV="mine", CONDA_PREFIX=str(prefix))
    assert "aa_core experiments papermill snakemake torch" in said
    assert "conda env create -f environment.yml && conda activate aa-companion" in said
    assert setup(tmp_path, "python", CONDA_DEFAULT_ENV="base", CONDA_PREFIX=str(prefix)).startswith("refused")  # .venv
    (packages,) = prefix.glob("lib/python*/site-packages")
    for name in ("aa_core", "experiments", "papermill", "snakemake", "torch"):
        (packages / f"{name}.py").touch()
    assert setup(tmp_path, "setup", CONDA_DEFAULT_ENV="mine", CONDA_PREFIX=str(prefix)) == ""


# --- a wheel ---


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("setuptools", minversion="77")
    pytest.importorskip("pip")
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("aa_core", "experiments"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "data" / "published").mkdir(parents=True)
    (folder / "data" / "published" / "numbers.csv").write_text("a\n1\n")
    quiet = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*quiet, "-w", folder / "dist", folder], check=True, capture_output=True, cwd=folder)
    (built,) = (folder / "dist").glob("*.whl")
    return built


def test_a_wheel_holds_both_packages_no_data_and_says_who_made_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (about,) = [archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA")]
    modules = {str(path.relative_to(ROOT)) for top in ("aa_core", "experiments") for path in (ROOT / top).rglob("*.py")}
    assert modules <= set(names)
    assert {name.split("/")[0] for name in names} == {
        "aa_core",
        "experiments",
        f"aa_companion-{PROJECT['version']}.dist-info",
    }
    assert not [name for name in names if name.endswith((".csv", ".ipynb", ".safetensors"))]
    for field in ("Author:", "Keywords:", "Classifier:", "Requires-Python: <3.14,>=3.11", "License-Expression: MIT"):
        assert f"\n{field}" in about


FAR_AWAY = """
import importlib, json, os, pkgutil, sys
import aa_core

def refused(need):
    try:
        need()
    except RuntimeError as error:
        return f"{type(error).__name__}: {error}"

imported = [module.name for module in pkgutil.walk_packages(aa_core.__path__, "aa_core.")]
for name in imported:  # all can be
    importlib.import_module(name)
needs = [lambda name=name: importlib.import_module(name) for name in ("experiments.paths", "experiments")]
said = {"version": aa_core.__version__, "file": aa_core.__file__, "no clone": [refused(need) for need in needs]}
said["imported"] = imported
os.environ["AA_ROOT"] = os.getcwd()
said["wrong"] = refused(needs[0])
os.environ.update(AA_ROOT=sys.argv[1], AA_BUILD="elsewhere")
from experiments import paths, records
said["clone"] = [str(paths.ROOT), str(paths.BUILD), records.git_commit()]
print(json.dumps(said))
"""


def test_a_wheel_in_a_foreign_project_is_a_library_and_asks_for_a_clone(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "lib" / "site-packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org"]
    for arguments in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "Another project"]):
        subprocess.run([*git, *arguments], cwd=tmp_path, check=True)
    before = sorted(tmp_path.rglob("*"))
    clean = {key: value for key, value in os.environ.items() if not key.startswith("AA_")}
    clean |= {"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", FAR_AWAY, str(ROOT)]
    done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["version"] == PROJECT["version"]
    assert Path(said["file"]).is_relative_to(place)
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "aa_core").rglob("*.py")}
    assert {"aa_core", *said["imported"]} == {name.removesuffix(".__init__") for name in modules}
    for words in said["no clone"]:
        assert str(place) in words
        assert "clone the repository and `pip install -e .` there, or set AA_ROOT to a clone" in words
    assert f"AA_ROOT={tmp_path} has no notebooks/ and data/published" in said["wrong"]
    assert said["clone"] == [str(ROOT), str(ROOT / "elsewhere"), None]  # what runs is not that clone's code
    assert sorted(tmp_path.rglob("*")) == before  # nothing was written
