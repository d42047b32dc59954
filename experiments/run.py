"""A run: what is computed, with which settings, from which other runs; and where its results are.

A finished run is a folder `build/runs/EXPERIMENT/VARIANT-SEED.IDENTITY/` with its table, its record and, if it trains
one, its agent. The folder appears by a single renaming: it is whole or not there. Its name holds the run's identity, so
that results of other settings or other code are other folders, and nothing has to be invalidated.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from fcntl import LOCK_EX, LOCK_NB, flock
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from aa_core.checks import check_choice
from experiments import paths, records
from experiments.identity import code_identity, edited, settings_as_data, short_hash

PROFILES = ("smoke", "laptop", "extended", "paper")
JUDGED = range(5, 10)  # seeds that figures and verdicts show; settings were chosen on 0 to 4
TEN = range(5, 15)  # the same, where runs are cheap
LATE = range(25, 30)  # the same, where all before were looked at
SEEN = LATE.stop  # seeds below were looked at
MOST = 100  # seeds of `make claims`
WRITTEN = ("runs", "*/tables", "*/figures", "*/notebooks")  # folders below build/ that are ours


@dataclass(frozen=True)
class Run:
    """One experiment, variant and seed (or batch of seeds).

    `compute` (settings, folder, folders of `needs`) returns a tidy table and writes a trained agent into `folder`. What
    a killed run goes on from is in `folder.with_suffix(".checkpoints")`, which stays until the run is made.
    """

    experiment: str
    variant: str  # what it varies: an algorithm, mostly
    seed: int  # 0 where there is a single run
    settings: Any  # all that its numbers depend on: a dataclass, with games and credit rules in it
    compute: Callable[[Any, Path, list[Path]], pd.DataFrame]
    needs: tuple[Run, ...] = ()  # whose agents or tables it reads
    minutes: float = 1.0  # on one core of a laptop, roughly
    alone: bool = False  # it measures time, so that nothing else should run
    gpu: bool = False  # it needs one

    def __post_init__(self) -> None:
        if "/" in self.variant or not self.variant:
            raise ValueError(f"variant must be a name of a folder, without /, got {self.variant!r}")

    @property
    def name(self) -> str:
        """EXPERIMENT/VARIANT-SEED, for people and folders; nothing reads it back."""
        return f"{self.experiment}/{self.variant}-{self.seed}"

    @cached_property
    def identity(self) -> str:
        """Hash of its settings, of the code that it executes, and of the runs that it needs."""
        return short_hash(
            {
                "name": self.name,
                "settings": settings_as_data(self.settings),
                "code": code_identity(self.compute),
                "needs": [run.identity for run in self.needs],
            }
        )

    @property
    def folder(self) -> Path:
        """Where it is made."""
        return paths.BUILD / "runs" / f"{self.name}.{self.identity}"

    @property
    def committed(self) -> Path:
        """Where its agent is kept in the repository, if it is."""
        return paths.DATA / "agents" / self.name

    def is_made(self) -> bool:
        """Whether its folder is there."""
        return (self.folder / "record.json").is_file()


def scaled(minutes: float, settings: Any, usual: Any) -> float:
    """Core-minutes of a training by those of the usual one: they grow with its updates and with the games of each."""
    return minutes * settings.updates * settings.games / (usual.updates * usual.games)


def with_needs(runs: Iterable[Run], wanted: Callable[[Run], bool] = lambda run: True) -> list[Run]:
    """Runs and all that they build on, each once; of those that are not `wanted` neither they nor what they need."""
    found, waiting = {}, list(runs)
    while waiting:
        run = waiting.pop()
        if run.folder not in found and wanted(run):
            found[run.folder] = run
            waiting += run.needs
    return list(found.values())


class NoGPUError(RuntimeError):
    """A run that needs a GPU which is not there."""


class RefusedError(ValueError):
    """What cannot be published, with the way out."""


def refuse_changed_code(runs: Iterable[Run]) -> None:
    """RefusedError if code differs from its commit, now or when one of the runs under build/ was made, or git does not
    tell.
    """
    commit = records.git_commit()
    if commit is None and (paths.ROOT / ".git").exists():
        raise RefusedError(
            "git must say which code this is, or nobody could make it again: `git status` and `git log` say what is "
            "wrong (a folder of another owner, a clone without a commit, code installed elsewhere)"
        )
    if (commit or "").endswith("-dirty"):
        raise RefusedError(
            f"{', '.join(records.CODE)}: there are changes that are not committed: commit them before publishing"
        )
    made = {run.folder: records.read_record(run.folder / "record.json") or {} for run in runs}
    dirty = [folder for folder, record in made.items() if (record.get("git_commit") or "").endswith("-dirty")]
    if dirty:
        raise RefusedError(
            f"{len(dirty)} runs were made by code that was not committed, so nobody could make them again: remove "
            f"{paths.relative(dirty[0])}{' and the like' if dirty[1:] else ''}, or repeat all runs with FRESH=1"
        )


def refuse_edited_code() -> None:
    """RefusedError if modules were edited since this process loaded them: its numbers would count as the new code's."""
    if names := edited():
        raise RefusedError(f"{', '.join(names)} changed since this process began: restart it (in Jupyter: the kernel)")


def verified(folder: Path) -> dict[str, Any]:
    """The record of a run's folder; DamagedTable if a file is not what its checksum says."""
    record = records.read_record(folder / "record.json") or {}
    way_out = f"restore it, or remove {folder} and make it again"
    if not isinstance(record.get("files"), dict) or not record["files"]:
        raise records.DamagedTable(f"{folder / 'record.json'} is missing, or no record of a run: {way_out}")
    for name, expected in record["files"].items():
        path = folder / name
        if not path.is_file() or records.checksum(path) != expected:
            raise records.DamagedTable(f"{path} is cut, altered or missing: {way_out}")
    return record


def finished(run: Run) -> Path | None:
    """The folder of a run made by the present settings and code, here or in the repository; None if there is none.

    DamagedTable if it is there, but not as it was written, or that of another run.
    """
    if run.is_made():
        if verified(run.folder).get("identity") != run.identity:
            raise records.DamagedTable(f"{run.folder} holds another run: remove it and make {run.name} again")
        return run.folder
    if (run.committed / "record.json").is_file() and verified(run.committed).get("identity") == run.identity:
        return run.committed
    return None


def make(run: Run, fresh: bool = False) -> Path:
    """Compute a run and what it needs, unless it is there; returns its folder. A damaged one under build/ heals.

    `fresh`: compute it although it is there (not what it needs).
    """
    try:
        if not fresh and (folder := finished(run)) is not None:
            return folder
    except records.DamagedTable as error:
        if not run.is_made():  # that of the repository
            raise
        print(f"{error}; doing so", flush=True)
        fresh = True
    needs = [make(need) for need in run.needs]
    with _alone(run):
        return run.folder if run.is_made() and not fresh else _compute(run, needs, fresh)


@contextmanager
def _alone(run: Run) -> Iterator[None]:
    """One process at a time makes a run, the next one finds it; those of one training (accelerate launch) are one."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        yield
        return
    lock = run.folder.with_name(f".{run.folder.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        held = False
        while not held:
            file = stack.enter_context(lock.open("w"))
            flock(file, LOCK_EX)  # until the file is closed, also by a kill
            with suppress(FileNotFoundError):  # whoever held it has removed it: a newcomer would not wait for us
                held = os.path.samestat(os.fstat(file.fileno()), lock.stat())
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _compute(run: Run, needs: list[Path], fresh: bool) -> Path:
    refuse_edited_code()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two runs share two cores; also fixes the order of sums
    scratch = run.folder.with_name(f".{run.folder.name}.{os.getpid()}")
    try:
        shutil.rmtree(scratch, ignore_errors=True)  # of a killed process that had our number
        scratch.mkdir(parents=True)
        commit, started, core = records.git_commit(), time.perf_counter(), time.process_time()
        table = run.compute(run.settings, scratch, needs)
        if int(os.environ.get("RANK", "0")) > 0:  # of several processes (accelerate launch) the first one keeps it
            while not run.is_made():
                time.sleep(0.1)
            return run.folder
        record = records.provenance(settings_as_data(run.settings), time.perf_counter() - started)
        records.write_atomically(scratch / "table.csv", records.as_csv(table, run.name))
        files = sorted(path for path in scratch.rglob("*") if path.is_file())
        record |= {
            "run": run.name,
            "identity": run.identity,
            "git_commit": commit,  # of the code that computed, whatever was edited since
            "core_seconds": round(time.process_time() - core, 1),  # also where the machine has other things to do
            "needs": {need.name: need.identity for need in run.needs},
            "files": {path.relative_to(scratch).as_posix(): records.checksum(path) for path in files},
        }
        records.write_record(scratch / "record.json", record)
        if fresh or not run.is_made():  # otherwise another process was faster
            shutil.rmtree(run.folder, ignore_errors=True)
            os.replace(scratch, run.folder)
        shutil.rmtree(scratch.with_suffix(".checkpoints"), ignore_errors=True)
    except Exception as error:  # some, as of a full disk, name no file
        error.add_note(f"while {run.name} was being made in {scratch}: nothing of it is kept, finished runs stay")
        raise
    finally:
        torch.set_num_threads(threads)
        shutil.rmtree(scratch, ignore_errors=True)
    return run.folder


def sweep_leftovers() -> None:
    """Remove what killed processes left half-made: its name ends with the number of a process that is gone.

    A run whose lock is held is being made, perhaps by another machine of a cluster, whose processes nobody sees here.
    """
    import psutil  # it comes with Snakemake

    builds = [paths.BUILD, *paths.BUILD.glob("seeds/*")]
    for lock in [lock for build in builds for lock in build.glob("runs/*/.*.lock")]:
        with suppress(OSError), lock.open("r+") as file:  # held, or gone
            flock(file, LOCK_EX | LOCK_NB)
            lock.unlink()
    made = [top for build in builds for part in WRITTEN for top in build.glob(part)]
    for leftover in [part for top in (*made, paths.DATA, paths.FIGURES) for part in top.glob("**/.*.*")]:
        owner = leftover.name.rpartition(".")[2]
        if owner.isdigit() and not psutil.pid_exists(int(owner)) and not leftover.with_suffix(".lock").exists():
            shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink(missing_ok=True)


def table_of(folder: Path) -> pd.DataFrame:
    """The table of a finished run."""
    return pd.read_csv(folder / "table.csv")


@dataclass(frozen=True)
class Experiment:
    """Runs that differ by variant and seed."""

    name: str
    variants: Callable[[str], Sequence[str]]  # profile -> those that the figures need
    seeds: Callable[[str], Sequence[int]]  # likewise; any other may be asked for
    run: Callable[[str, str, int], Run]  # (profile, variant, seed) -> its declaration

    def runs(self, profile: str) -> list[Run]:
        """Every run that the figures need."""
        return [self.run(profile, variant, seed) for variant in self.variants(profile) for seed in self.seeds(profile)]


def once(profile: str) -> range:
    """The seeds of an experiment that runs once."""
    return range(1)


def single(name: str, declare: Callable[[str], Run]) -> Experiment:
    """An experiment of one run, which is called all-0."""

    def run(profile: str, variant: str = "all", seed: int = 0) -> Run:
        check_choice("variant", variant, ("all",))
        return replace(declare(profile), seed=seed)

    return Experiment(name, lambda profile: ("all",), once, run)


@dataclass(frozen=True)
class Table:
    """A table that is put together from runs."""

    name: str
    runs: Callable[[str], list[Run]]  # by profile
    keep: Callable[[pd.DataFrame], pd.DataFrame] | None = None  # what is kept of each run's table; None: all
    side: bool = False  # a side study: made on demand, in profile `extended` where the others are in `laptop`

    def kept(self, content: pd.DataFrame) -> pd.DataFrame:
        """What is kept of a run's table."""
        return self.keep(content) if self.keep else content

    def home(self, profile: str) -> str:
        """The profile under which it is kept."""
        return "extended" if self.side and profile == "laptop" else profile

    def at_home(self, profile: str) -> list[Run]:
        """Its runs, of the profile under which it is kept."""
        return self.runs(self.home(profile))

    def is_made(self, profile: str) -> bool:
        """Whether all of its runs have been made here."""
        return all(run.is_made() for run in self.at_home(profile))

    def committed(self, profile: str) -> Path:
        """Where it is kept in the repository, if it is."""
        return paths.DATA / self.home(profile) / f"{self.name}.csv"


def seeds_of(text: str) -> range:
    """Seeds by first and last one, as 100-104; ValueError if settings were chosen or figures are judged on some."""
    if not (read := re.fullmatch(r"([0-9]{1,9})-([0-9]{1,9})", text.strip())) or int(read[2]) < int(read[1]):
        raise ValueError(f"seeds must be first and last one, as 100-104, got {text!r}")
    if int(read[1]) < SEEN:
        raise ValueError(f"seeds must be from {SEEN} on, those before were looked at, got {text!r}")
    if int(read[2]) - int(read[1]) >= MOST:
        raise ValueError(f"seeds must be {MOST} at most, got {text!r}")
    return range(int(read[1]), int(read[2]) + 1)


def declare(text: str) -> None:
    """Put seeds in the place of those that are judged, and their own folder in that of build/; called before imports.

    The code behind a run and its settings apart from seeds stay the same, and so does what its identity says of them.
    """
    global JUDGED, TEN, LATE
    JUDGED = TEN = LATE = seeds_of(text)
    paths.BUILD = place(text)


def place(text: str) -> Path:
    """Where runs and tables of seeds are made."""
    return paths.BUILD / "seeds" / text.strip()
