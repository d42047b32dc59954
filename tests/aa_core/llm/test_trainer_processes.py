"""Two processes on one machine (gloo): `two_processes.py` says what each of them checks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import language, paths, run

TESTS = Path(__file__).parents[2]


def test_two_processes_follow_the_papers_loss_and_survive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "BUILD", tmp_path / "runs")
    run.make(language.prior_run("smoke", "ipd"))  # by one process
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(TESTS / "two_processes.py"), str(tmp_path)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(path.name for path in tmp_path.glob("passed-*")) == ["passed-0", "passed-1"]
