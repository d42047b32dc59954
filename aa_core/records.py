"""Runs, tidy data and provenance: what was computed, with which settings, by which code.

A table is a CSV file; beside it, under the same name, a JSON file says where it came from. Both are written atomically:
a killed process leaves the old file or the new one, never half of one.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from aa_core.paths import DATA, ROOT

SEED_COLUMNS = ("seed", "row_seed", "column_seed")
PACKAGES = ("torch", "numpy", "scipy", "pandas", "matplotlib", "axelrod")


def write_atomically(path: Path, text: str) -> None:
    """Write `text` to `path` through a temporary file in the same folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes it private
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def config_hash(config: Mapping[str, Any]) -> str:
    """Short hash of a configuration; equal configurations have equal hashes, whatever the order of their keys."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_hash(*modules: ModuleType) -> str:
    """Hash of what modules do: of their syntax trees, so that comments and layout do not count."""
    trees = [ast.unparse(ast.parse(inspect.getsource(module))) for module in modules]
    return hashlib.sha256("\n".join(trees).encode()).hexdigest()[:16]


def package_versions() -> dict[str, str]:
    """Versions of the packages that numbers may depend on."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def git_commit() -> str | None:
    """Commit of the checkout, with "-dirty" if aa_core differs from it; None outside git."""
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
        dirty = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "aa_core"], cwd=ROOT, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("-dirty" if dirty.returncode else "")


def provenance(config: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Everything worth knowing about how a result was made."""
    return {
        "config": dict(config),
        "config_hash": config_hash(config),
        "seconds": round(seconds, 1),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "git_commit": git_commit(),
        "packages": package_versions(),
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
    }


def table_path(profile: str, name: str) -> Path:
    """data/PROFILE/NAME.csv; a name with a folder is a run, kept apart under runs/."""
    folder = DATA / profile
    return (folder / "runs" / f"{name}.csv") if "/" in name else (folder / f"{name}.csv")


def write_table(path: Path, table: pd.DataFrame, record: Mapping[str, Any]) -> None:
    """Write `table` as CSV and, beside it, `record` with the table's checksum as JSON.

    If the process dies between the two, the checksum does not match and `is_recorded` says so.

    Raises:
        ValueError: the table is empty or has NaN entries; what is on disk then stays as it is.
    """
    if table.empty:
        raise ValueError(f"table for {path.name} must have rows, got none")
    if table.isna().any().any():
        columns = list(table.columns[table.isna().any()])
        raise ValueError(f"table for {path.name} must not have NaN, got some in {columns}")
    text = table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    record = {**record, "table_sha256": hashlib.sha256(text.encode()).hexdigest()}
    write_atomically(path, text)
    write_atomically(path.with_suffix(".json"), json.dumps(record, indent=1, sort_keys=True) + "\n")


def read_table(profile: str, name: str) -> pd.DataFrame:
    """Read a table of data/PROFILE.

    Raises:
        FileNotFoundError: with the command that makes it.
    """
    path = table_path(profile, name)
    if not path.is_file():
        raise FileNotFoundError(f"no table {name!r} for profile {profile!r}; `make figures PROFILE={profile}` makes it")
    return pd.read_csv(path)


def record_of(profile: str, name: str) -> dict[str, Any] | None:
    """Provenance of a table or run; None if there is none that can be read."""
    try:
        record = json.loads(table_path(profile, name).with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no file, not JSON, not UTF-8
        return None
    return record if isinstance(record, dict) else None


def count_seeds(table: pd.DataFrame) -> int | None:
    """Number of seeds in a table, or as its column `seeds` says; None if it has neither (it is exact, for instance)."""
    counts = [int(table[column].nunique()) for column in SEED_COLUMNS if column in table]
    return max(counts) if counts else int(table["seeds"].max()) if "seeds" in table else None


def seconds_of(records: Iterable[Mapping[str, Any] | None]) -> float | None:
    """Wall time of the runs behind tables, by their records; a run that stands in two of them counts once.

    The times of runs that ran side by side add up. Not counted are runs that a run builds on (the trainings, for the
    record of a league). None if no record tells.
    """
    runs = [run for record in records if record for run in (record["runs"].values() if "runs" in record else [record])]
    seconds = {run.get("config_hash", i): run["seconds"] for i, run in enumerate(runs) if run and "seconds" in run}
    return round(sum(seconds.values()), 1) if seconds else None


def is_recorded(profile: str, name: str, config: Mapping[str, Any]) -> bool:
    """Whether a complete table is on disk that was made with exactly this configuration."""
    record, path = record_of(profile, name), table_path(profile, name)
    if record is None or record.get("config_hash") != config_hash(config) or not path.is_file():
        return False
    return record.get("table_sha256") == hashlib.sha256(path.read_bytes()).hexdigest()


def computed(profile: str, name: str, config: Mapping[str, Any], compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Compute a table, write it with its provenance, and return it as it reads back from disk."""
    started = time.perf_counter()
    table = compute()
    write_table(table_path(profile, name), table, provenance(config, time.perf_counter() - started))
    return read_table(profile, name)


def recorded(
    profile: str, name: str, config: Mapping[str, Any], compute: Callable[[], pd.DataFrame], fresh: bool = False
) -> pd.DataFrame:
    """Read a table if it was made with this configuration; otherwise compute and write it.

    Args:
        profile: size of the run, the folder in data/.
        name: of the table, or EXPERIMENT/PART of a run.
        config: full configuration, JSON types only; with `code_hash` of the code that computes it.
        compute: makes the table.
        fresh: compute even if the table is there.
    """
    if fresh or not is_recorded(profile, name, config):
        return computed(profile, name, config, compute)
    return read_table(profile, name)
