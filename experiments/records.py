"""Tidy data and provenance: what was computed, with which settings, by which code.

A table is a CSV file; beside it, under the same name, a JSON file says where it came from and holds its checksum. Both
are written atomically: a killed process leaves the old file or the new one, never half of one.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from aa_core.files import write_whole
from experiments import paths

SEED_COLUMNS = ("seed", "row_seed", "column_seed")
CODE = ("aa_core", "experiments", "requirements.lock")  # what numbers come from
PACKAGES = ("torch", "numpy", "scipy", "pandas", "matplotlib", "axelrod", "transformers", "peft", "trl", "vllm")
READ: dict[str, dict[str, Any]] = {}  # table -> record of those that this process has read: what figures are drawn from


class DamagedTable(ValueError):  # noqa: N818 - what it is
    """A table that is not what was written: cut, altered, or without a readable record."""


class StaleTable(ValueError):  # noqa: N818
    """A table or agent that other settings or other code made."""


class MissingTable(FileNotFoundError):  # noqa: N818
    """A table that nobody has made yet."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write `content` whole or not at all; an OSError names the file."""
    data = content.encode() if isinstance(content, str) else content
    write_whole(path, lambda partial: partial.write_bytes(data))


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write provenance as JSON."""
    write_atomically(path, json.dumps(record, indent=1, sort_keys=True) + "\n")


def read_record(path: Path) -> dict[str, Any] | None:
    """Provenance that stands in a JSON file; None if there is none that can be read."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no file, not JSON, not UTF-8
        return None
    return record if isinstance(record, dict) else None


def checksum(content: Path | bytes) -> str:
    """SHA-256 of a file or of bytes."""
    return hashlib.sha256(content if isinstance(content, bytes) else content.read_bytes()).hexdigest()


def package_versions() -> dict[str, str]:
    """Versions of the packages that numbers may depend on."""
    from importlib.metadata import version

    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES if find_spec(name)}


def git_commit() -> str | None:
    """Commit of the code, with "-dirty" if it differs from it; None where it is not that of a checkout of its own."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=paths.ROOT, capture_output=True, text=True).stdout.strip()

    try:
        code = Path(__file__).resolve().parents[1]  # not in the clone if installed, with AA_ROOT
        if not paths.ROOT == code == Path(git("rev-parse", "--show-toplevel")):
            return None
        commit, dirty = git("rev-parse", "HEAD"), git("status", "--porcelain", "--", *CODE)
    except OSError:  # no git
        return None
    return (commit + ("-dirty" if dirty else "")) if commit else None


def at_head(path: Path) -> bytes | None:
    """A file as it is committed; None if it is not."""
    name = path.relative_to(paths.ROOT).as_posix()
    shown = subprocess.run(["git", "show", f"HEAD:{name}"], cwd=paths.ROOT, capture_output=True)
    return None if shown.returncode else shown.stdout


def provenance(settings: Any, seconds: float) -> dict[str, Any]:
    """Everything worth knowing about how a result was made."""
    return {
        "settings": settings,
        "seconds": round(seconds, 1),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "git_commit": git_commit(),
        "packages": package_versions(),
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count(), **_chips()},
    }


def _chips() -> dict[str, Any]:
    """Which instructions torch uses, since other ones round otherwise; the GPU, and how many processes share it."""
    import torch  # here: readers of tables can do without

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    gpu = {"gpu": name, "processes": int(os.environ.get("WORLD_SIZE", "1"))} if name else {}
    return {"instructions": torch.backends.cpu.get_cpu_capability(), **gpu}


def as_csv(table: pd.DataFrame, name: str) -> str:
    """A table as the text of a file; ValueError, naming it, if it is empty or has NaN entries."""
    if table.empty:
        raise ValueError(f"table for {name} must have rows, got none")
    if table.isna().any().any():
        raise ValueError(f"table for {name} must not have NaN, got some in {list(table.columns[table.isna().any()])}")
    return table.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def write_table(path: Path, table: pd.DataFrame, record: Mapping[str, Any]) -> None:
    """Write `table` as CSV and, beside it, `record` with the table's checksum and its own as JSON.

    If the process dies between the two, the checksum does not match and `read_table` says so.

    Raises:
        ValueError: as `as_csv`; what is on disk then stays as it is.
    """
    text = as_csv(table, path.name)
    write_atomically(path, text)
    write_record(path.with_suffix(".json"), sealed({**record, "table_sha256": checksum(text.encode())}))


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with a checksum of all else that it says, `record_sha256`, in place of the one that it has."""
    rest = {name: value for name, value in record.items() if name != "record_sha256"}
    written = json.dumps(json.loads(json.dumps(rest)), sort_keys=True)  # keys as a file has them
    return rest | {"record_sha256": checksum(written.encode())}


def read_table(
    path: Path, way_out: str = "restore it from git, or make it again"
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A table and its record, verified; `way_out` is what the reader can do if it is damaged.

    Raises:
        MissingTable: there is no such file.
        DamagedTable: its checksum is not that of its record, or it is no table.
    """
    if not path.is_file():
        raise MissingTable(f"no table {path}: {way_out}")
    record = read_record(path.with_suffix(".json"))
    if record is None:
        raise DamagedTable(f"{path.with_suffix('.json')} is missing or no JSON, so {path.name} is nobody's: {way_out}")
    content = path.read_bytes()
    if record.get("table_sha256") != checksum(content):
        raise DamagedTable(f"{path} is not what its record says (cut, altered or from another run): {way_out}")
    if record != sealed(record):
        raise DamagedTable(f"{path.with_suffix('.json')} is not as it was written (cut or altered): {way_out}")
    named, runs = record.get("table", path.stem), record.get("runs", {})
    if named != path.stem or not isinstance(runs, dict) or not all(isinstance(run, dict) for run in runs.values()):
        raise DamagedTable(f"{path} is the table {named}, or its record lists no runs: {way_out}")
    try:
        return pd.read_csv(StringIO(content.decode())), record
    except ValueError as error:  # empty, not UTF-8, rows of another length
        raise DamagedTable(f"{path} is no table ({str(error).strip()}): {way_out}") from None


def published(name: str) -> pd.DataFrame:
    """A table of the papers' numbers, by its name in data/published, whose SHA256SUMS it must agree with."""
    path, sums = paths.PUBLISHED / f"{name}.csv", paths.PUBLISHED / "SHA256SUMS"
    told = sums.read_bytes().splitlines() if sums.is_file() else []
    listed = all(re.fullmatch(rb"[0-9a-f]{64}  \S+", line) for line in told)
    known = [line[66:-4].decode() for line in told] if listed else []
    if known and name not in known and not path.is_file():
        raise MissingTable(f"name must be that of a table of {paths.PUBLISHED} ({', '.join(known)}), got {name!r}")
    if not listed or not path.is_file() or f"{checksum(path)}  {path.name}".encode() not in told:
        raise DamagedTable(f"{path} is not what {sums} says: restore both from git (`git checkout data/published`)")
    return pd.read_csv(path)


def places(name: str, profile: str) -> list[Path]:
    """Where a table is: made in `paths.BUILD`, committed in `paths.DATA`, in this order; empty if there is none."""
    found = (paths.BUILD / profile / "tables" / f"{name}.csv", paths.DATA / profile / f"{name}.csv")
    return [path for path in found if path.is_file()]


def count_seeds(table: pd.DataFrame) -> int | None:
    """Number of seeds in a table, or as its column `seeds` says; None if it has neither (it is exact, for instance)."""
    counts = [int(table[column].nunique()) for column in SEED_COLUMNS if column in table]
    return max(counts) if counts else int(table["seeds"].max()) if "seeds" in table else None


def seconds_of(records: Iterable[Mapping[str, Any]]) -> float | None:
    """Core time of the runs behind tables, by their records; a run that stands in two of them counts once.

    Not counted are runs that a run builds on (the trainings, for the record of a league). None if no record tells.
    """
    runs = {name: run for i, record in enumerate(records) for name, run in record.get("runs", {str(i): record}).items()}
    seconds = [run.get("core_seconds", run["seconds"]) for run in runs.values() if "seconds" in run]
    return round(sum(seconds), 1) if seconds else None
