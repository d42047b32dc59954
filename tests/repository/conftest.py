"""A clone of the working tree, as a stranger has it: its name holds a space, an apostrophe and an umlaut."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def git(clone: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=reader", "-c", "user.email=reader@localhost", "-c", "core.autocrlf=false")
    return subprocess.run(
        ["git", *identity, *arguments], cwd=clone, check=True, capture_output=True, text=True
    ).stdout.strip()


def make_clone(place: Path) -> Path:
    """The working tree as a fresh clone in a folder there, on the packages that are installed already."""
    folder = place / "my clone's ä"
    folder.mkdir()
    files = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "as cloned")
    (folder / ".venv").mkdir()  # as `make setup` leaves it, without installing again
    (folder / ".venv" / ".aa-companion-installed").write_text(f"{folder}\n")
    return folder


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clone(tmp_path_factory.mktemp("somewhere"))


@pytest.fixture(scope="session")
def environment(clone: Path) -> dict[str, str]:
    """The reader's shell: another Python first in PATH, and a drawing backend as on clusters."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AA_", "PYTEST"))}
    return kept | {"PYTHONPATH": str(clone), "MPLBACKEND": "Agg", "PATH": "/usr/local/bin:/usr/bin:/bin"}


@pytest.fixture(scope="session")
def make(clone: Path, environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["make", f'PY="{sys.executable}"', *arguments]
        return subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, timeout=400)

    return run


@pytest.fixture
def changed(clone: Path) -> Callable[[], str]:
    """What git sees as changed in the clone."""
    return lambda: git(clone, "status", "--porcelain")
