"""A run is there as a whole or not at all, and never out of date."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fcntl import LOCK_EX, flock
from pathlib import Path

import pandas as pd
import pytest
import torch

from experiments import identity, paths, records, registry, tables
from experiments.records import DamagedTable, read_record
from experiments.run import RefusedError, Run, finished, make, refuse_changed_code, sweep_leftovers, table_of, verified

from .conftest import Toy, toy_league, toy_run, train_toy

SEEN: list[int] = []  # what the computations below have noted
PRESENT: list[int] = []  # those that are going on


def notes_threads(settings: Toy, folder: Path, needs: list[Path]) -> pd.DataFrame:
    SEEN.append(torch.get_num_threads())
    return train_toy(settings, folder, needs)


def fails_slowly(settings: Toy, folder: Path, needs: list[Path]) -> pd.DataFrame:
    PRESENT.append(1)
    SEEN.append(len(PRESENT))
    time.sleep(0.05)
    PRESENT.pop()
    raise RuntimeError("does not work")


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_run_is_computed_once(project: Path, counted: list[str]) -> None:
    run = toy_run("laptop", "slow", 4)
    assert finished(run) is None
    folder = make(run)
    assert make(run) == folder == finished(run) == run.folder
    assert counted == ["toy-4"]
    assert table_of(folder).value.tolist() == pytest.approx([0.5, 4 / 3], rel=1e-5)


def test_fresh_computes_again(project: Path, counted: list[str]) -> None:
    run = toy_run("laptop", "slow", 4)
    make(run)
    make(run, fresh=True)
    assert counted == ["toy-4", "toy-4"]
    verified(run.folder)


def test_code_that_was_edited_since_the_process_began_makes_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, counted: list[str]
) -> None:
    file = str(paths.ROOT / "nobody.py")
    assert identity.edited() == []
    monkeypatch.setitem(identity.AT_START, file, (0, 0))
    assert identity.edited() == []  # nobody has loaded it
    monkeypatch.setitem(identity.AT_START, str(Path(records.__file__).resolve()), (0, 0))
    with pytest.raises(RefusedError, match=r"experiments\.records changed since this process began: restart it"):
        make(toy_run("laptop", "slow", 4))
    with pytest.raises(RefusedError, match=r"experiments\.records changed"):
        tables.record("angles", "laptop", {}, pd.DataFrame({"angle": [1.0]}))
    assert (counted, everything(project / "build")) == ([], ["runs", "runs/toy"])


def test_a_clone_in_which_git_says_nothing_publishes_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "git_commit", lambda: None)
    refuse_changed_code([])  # an unpacked archive
    (project / ".git").mkdir()
    with pytest.raises(RefusedError, match="git must say which code this is"):
        refuse_changed_code([])


def test_the_record_says_how_it_was_made(project: Path) -> None:
    run = toy_league("laptop")
    record = verified(make(run))
    assert record["run"] == "toy_league/all-0"
    assert record["identity"] == run.identity
    assert record["settings"]["rate"] == 1.0
    assert record["needs"] == {need.name: need.identity for need in run.needs}
    assert set(record["files"]) == {"table.csv"}


def test_other_settings_are_another_run() -> None:
    run = toy_run("laptop", "slow", 4)
    assert replace(run, settings=Toy(0.5, 4)).identity == run.identity
    assert replace(run, settings=Toy(0.6, 4)).identity != run.identity
    assert replace(run, minutes=99, alone=True).identity == run.identity  # how it is scheduled changes no number


def test_a_run_is_out_of_date_with_what_it_needs() -> None:
    league = toy_league("laptop")
    first, second = league.needs
    changed = replace(league, needs=(replace(first, settings=Toy(0.7, 0)), second))
    assert changed.identity != league.identity


def test_what_a_run_needs_is_made_first(project: Path, counted: list[str]) -> None:
    make(toy_league("laptop"))
    assert counted == ["toy-0", "toy-1", "league"]


def fail(settings: Toy, folder: Path, needs: list[Path]) -> pd.DataFrame:
    (folder / "half").write_text("written before the end")
    raise RuntimeError("diverged")


def test_a_failing_run_leaves_nothing(project: Path) -> None:
    run = replace(toy_run("laptop", "slow", 0), compute=fail)
    with pytest.raises(RuntimeError, match="diverged"):
        make(run)
    assert finished(run) is None
    assert everything(project / "build" / "runs" / "toy") == []


def linger(settings: Toy, folder: Path, needs: list[Path]) -> pd.DataFrame:
    (folder / "half").write_text("written before the end")
    time.sleep(60)
    return pd.DataFrame()


def test_a_killed_run_is_no_run_and_is_swept(project: Path) -> None:
    run = replace(toy_run("laptop", "slow", 0), compute=linger)
    process = multiprocessing.get_context("fork").Process(target=make, args=(run,))
    process.start()
    while not list((project / "build").glob("runs/toy/.*/half")):
        time.sleep(0.01)
    sweep_leftovers()  # the process lives: nothing is taken from it
    assert list((project / "build").glob("runs/toy/.*/half"))
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert finished(run) is None
    sweep_leftovers()
    assert everything(project / "build" / "runs" / "toy") == []


def test_what_is_swept_is_ours_and_nobody_makes_it(project: Path) -> None:
    build, gone = project / "build", 2**22 + 1  # no process has so large a number
    ours = [build / place / f".x.{gone}" for place in ("runs/toy", "laptop/tables", "seeds/100-104/runs/toy")]
    others = [build / f".history.{gone}", build / "sub" / f".notes.{gone}", build / "runs" / "toy" / ".x.txt"]
    locked = [build / "runs" / "toy" / f".{name}.{gone}" for name in ("held", "left")]  # on another machine; no more
    locks = [path.with_suffix(".lock") for path in locked]
    for path in (*ours, *others, *locked, *locks):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with locks[0].open() as file:
        flock(file, LOCK_EX)
        sweep_leftovers()
    assert [path.exists() for path in (*ours, *others)] == [False] * 3 + [True] * 3
    assert [path.exists() for path in (*locked, *locks)] == [True, False, True, False]


@pytest.mark.parametrize("damage", ["cut", "altered", "missing", "no record", "no files"])
def test_a_damaged_folder_is_named(project: Path, damage: str) -> None:
    folder = make(toy_run("laptop", "slow", 3))
    agent, record = folder / "agent.safetensors", folder / "record.json"
    {
        "cut": lambda: agent.write_bytes(b""),
        "altered": lambda: agent.write_bytes(b"x"),
        "missing": agent.unlink,
        "no record": lambda: record.write_text("{"),
        "no files": lambda: record.write_text('{"files": {}}'),
    }[damage]()
    with pytest.raises(DamagedTable, match=r"record\.json" if damage.startswith("no") else r"agent\.safetensors"):
        verified(folder)


def test_any_seed_can_be_asked_for(project: Path) -> None:
    experiment = registry.experiments()["toy"]
    assert list(experiment.seeds("laptop")) == [0, 1]
    assert read_record(make(experiment.run("laptop", "slow", 101)) / "record.json")["run"] == "toy/slow-101"


def test_the_order_of_sums_does_not_depend_on_the_reader_s_threads(project: Path) -> None:
    SEEN.clear()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        make(Run("toy", "threads", 0, Toy(0.5, 0), notes_threads))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert SEEN == [1]


def write_slowly(settings: str, folder: Path, needs: list[Path]) -> pd.DataFrame:
    with open(settings, "a") as file:
        file.write("x")
    time.sleep(1)
    return pd.DataFrame({"x": [1]})


def test_two_processes_that_want_one_run_make_it_once(project: Path) -> None:
    marks = project / "marks"
    run = replace(toy_run("laptop", "slow", 4), compute=write_slowly, settings=str(marks))
    both = [multiprocessing.get_context("fork").Process(target=make, args=(run,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert marks.read_text() == "x"
    assert [path.name for path in run.folder.parent.iterdir()] == [run.folder.name], "no lock is left"


def test_who_waits_for_a_run_that_fails_does_not_go_on_beside_a_newcomer(project: Path) -> None:
    """Whoever made it removes its lock: a process that waited for that one must not take it for its own."""
    SEEN.clear()
    run = Run("toy", "never", 0, Toy(0.5, 0), fails_slowly)
    with ThreadPoolExecutor(8) as pool:
        errors = [future.exception() for future in [pool.submit(make, run) for _ in range(24)]]
    assert {str(error) for error in errors} == {"does not work"}
    assert max(SEEN) == 1
    assert not list(run.folder.parent.glob(".*.lock"))
