"""No room on the disk, and folders that may not be written: the error says where, and what is there stays."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

import experiments
from experiments import paths, publish, records
from experiments.run import Run, make, verified

from .conftest import TOYS, Toy, toy_run

LARGE = 200_000  # bytes


@contextmanager
def room_for(largest: int) -> Iterator[None]:
    """No file can grow beyond so many bytes; the kernel then says EFBIG where a full disk says ENOSPC."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def by_safetensors(path: Path) -> None:
    save_file({"weights": torch.zeros(LARGE // 4)}, path)


def by_torch(path: Path) -> None:
    torch.save({"weights": torch.zeros(LARGE // 4)}, path)


def by_python(path: Path) -> None:
    path.write_bytes(b"x" * LARGE)


def large_run(write: Callable[[Path], None]) -> Run:
    def compute(settings: Toy, folder: Path, needs: list[Path]) -> pd.DataFrame:
        write(folder / "agent.safetensors")
        return pd.DataFrame({"value": [1.0]})

    run = replace(toy_run("laptop", "fast", 7), compute=compute)
    run.__dict__["identity"] = "0" * 16
    return run


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("write", [by_safetensors, by_torch, by_python])
def test_a_run_without_room_for_its_agent_says_where_and_leaves_nothing(
    project: Path, write: Callable[[Path], None]
) -> None:
    finished = make(TOYS.runs("laptop")[0])
    before, run = files(paths.BUILD), large_run(write)
    with room_for(LARGE // 2), pytest.raises((OSError, RuntimeError, SafetensorError)) as caught:
        make(run)
    assert any(f"while toy/fast-7 was being made in {run.folder.parent}" in note for note in caught.value.__notes__)
    assert files(paths.BUILD) == before
    verified(finished)
    assert make(run) == run.folder  # with room it is made


def test_a_table_without_room_is_named_and_the_old_one_stays(project: Path) -> None:
    path = project / "data" / "laptop" / "toys.csv"
    records.write_table(path, pd.DataFrame({"value": [1.0]}), {})
    before = files(project)
    large = pd.DataFrame({"value": [0.123456] * LARGE})
    with room_for(LARGE), pytest.raises(OSError, match=r"cannot be written: .*toys\.csv"):
        records.write_table(path, large, {})
    assert files(project) == before


def test_publishing_without_room_changes_no_published_table_by_half(project: Path) -> None:
    publish.publish_study("toy_study")
    path = paths.DATA / "extended" / "toy_study.csv"
    before = path.read_bytes()
    with room_for(10), pytest.raises(OSError, match="cannot be written"):
        publish.publish_study("toy_study")
    assert path.read_bytes() == before
    assert not list(project.rglob(".*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root; see tests/repository/test_machine.py")
def test_a_folder_that_may_not_be_written_is_named(project: Path) -> None:
    paths.BUILD.mkdir()
    paths.BUILD.chmod(0o555)
    try:
        with pytest.raises(PermissionError, match=str(paths.BUILD)):
            experiments.load("toys", "laptop")
    finally:
        paths.BUILD.chmod(0o755)
