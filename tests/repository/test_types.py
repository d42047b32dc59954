"""The types that are written down agree; `make lint` says so, too."""

from __future__ import annotations

import subprocess
import sys

from experiments.paths import ROOT


def test_types_agree() -> None:
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
