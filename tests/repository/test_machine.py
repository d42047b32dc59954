"""Machines that are not one's own: a checkout and a home that may not be written."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DROP, OVERRIDE = 24, 1  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE: what lets root write where nobody may
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def as_anybody() -> None:
    """In a child process: root is bound by permissions, too, on Linux."""
    if LIBC is not None:
        LIBC.prctl(DROP, OVERRIDE, 0, 0, 0)


def run(command: list[str], cwd: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=400, preexec_fn=as_anybody
    )


@pytest.fixture
def locked(clone: Path, tmp_path: Path, environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """The clone and the home can be read and not written; returns the reader's environment."""
    home = tmp_path / "home"
    home.mkdir()
    folders = [home, clone, *(path for path in clone.rglob("*") if path.is_dir() and ".git" not in path.parts)]
    for folder in folders:
        folder.chmod(0o555)
    locked_out = environment | {"HOME": str(home)}
    for name in [name for name in locked_out if name.startswith(("XDG_", "JUPYTER_", "IPYTHON", "MPLCONFIG"))]:
        del locked_out[name]
    probe = run([sys.executable, "-c", "open('probe', 'w')"], clone, locked_out)
    try:
        if probe.returncode == 0:
            pytest.skip("this user may write everywhere")
        yield locked_out
    finally:
        for folder in folders:
            folder.chmod(0o755)
        (clone / "probe").unlink(missing_ok=True)


def test_a_read_only_checkout_and_home_execute_a_notebook_into_a_folder_of_the_readers(
    clone: Path, locked: dict[str, str], tmp_path: Path
) -> None:
    mine = tmp_path / "my work ä"
    command = ["make", f'PY="{sys.executable}"', "notebooks/02", "PROFILE=smoke"]
    done = run(command, clone, locked | {"AA_BUILD": str(mine)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert (mine / "smoke" / "notebooks" / "02_opponent_shaping.ipynb").is_file()
    assert (mine / "smoke" / "figures" / "theorem1_angles.png").is_file()


def test_a_read_only_checkout_says_which_folder_cannot_be_written(clone: Path, locked: dict[str, str]) -> None:
    done = run([sys.executable, "-m", "experiments", "table", "ipd_policy", "--profile", "smoke"], clone, locked)
    assert done.returncode != 0
    assert f"{clone / 'build'}" in done.stderr
