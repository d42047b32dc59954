from __future__ import annotations

import math
import os
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from experiments import paths, records
from experiments.records import DamagedTable, MissingTable

OLD = pd.DataFrame({"seed": [0, 1], "value": [0.5, 0.25]})


def test_a_table_reads_as_it_was_written_with_its_record(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    records.write_table(path, OLD, {"runs": {}})
    table, record = records.read_table(path)
    pd.testing.assert_frame_equal(table, OLD)
    assert record == records.sealed({"runs": {}, "table_sha256": records.checksum(path)})


@pytest.mark.parametrize("change", [{"settings": {"gamma": 0.9}}, {"git_commit": "0123abc"}, {"seconds": "many"}])
def test_a_record_that_was_altered_is_named(tmp_path: Path, change: dict) -> None:
    path = tmp_path / "table.csv"
    records.write_table(path, OLD, {"settings": {"gamma": 0.5}, "seconds": 1.5, "git_commit": "abcdef0"})
    records.read_table(path)
    told = records.read_record(path.with_suffix(".json"))
    records.write_record(path.with_suffix(".json"), told | change)
    with pytest.raises(DamagedTable, match=r"table\.json is not as it was written.*restore it from git"):
        records.read_table(path)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(OLD.iloc[:0], id="no rows"),
        pytest.param(pd.DataFrame(), id="nothing"),
        pytest.param(OLD.assign(value=[1.0, math.nan]), id="NaN"),
        pytest.param(OLD.assign(name=["a", None]), id="None"),
    ],
)
def test_a_bad_table_is_refused_and_the_old_pair_stays(tmp_path: Path, bad: pd.DataFrame) -> None:
    path = tmp_path / "table.csv"
    records.write_table(path, OLD, {})
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"table\.csv must"):
        records.write_table(path, bad, {})
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_crash_between_the_two_files_is_not_taken_for_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.csv"
    records.write_table(path, OLD, {})

    def crash(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(records, "write_record", crash)
    with pytest.raises(KeyboardInterrupt):
        records.write_table(path, OLD * 2, {})
    with pytest.raises(DamagedTable, match=r"table\.csv is not what its record says"):
        records.read_table(path)


def test_a_missing_table_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(MissingTable, match="make tables/nothing"):
        records.read_table(tmp_path / "nothing.csv", "`make tables/nothing` makes it")


def test_tables_are_written_the_same_way_twice(tmp_path: Path) -> None:
    table, path = pd.DataFrame({"x": [1 / 3, 1e-9, 12345678.9], "name": ["a", "b,c", "d"]}), tmp_path / "t.csv"
    contents = []
    for _ in range(2):
        records.write_table(path, table, {})
        contents.append(path.read_bytes())
    assert contents[0] == contents[1] == b'x,name\n0.333333,a\n1e-09,"b,c"\n1.23457e+07,d\n'


def test_provenance_says_with_what_a_result_was_made() -> None:
    record = records.provenance({"rate": 0.5}, 1.26)
    assert record["settings"] == {"rate": 0.5}
    assert record["seconds"] == 1.3
    assert pd.Timestamp(record["finished"]) <= pd.Timestamp.now("UTC")
    assert {"python", "torch", "numpy", "pandas"} <= set(record["packages"])
    assert record["machine"]["cores"] == os.cpu_count()
    assert "git_commit" in record


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(records, "__file__", str(tmp_path / "experiments" / "records.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for kind in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{kind}_NAME", "someone")
        monkeypatch.setenv(f"GIT_{kind}_EMAIL", "someone@example.org")
    return tmp_path


def test_git_commit_is_none_outside_a_repository(checkout: Path) -> None:
    assert records.git_commit() is None


def test_git_commit_tells_whether_the_code_was_changed(checkout: Path) -> None:
    code = checkout / "aa_core" / "x.py"
    code.parent.mkdir()
    code.write_text("x = 1\n")
    for command in (["init", "-q"], ["add", "aa_core"], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", *command], cwd=checkout, check=True, capture_output=True)
    clean = records.git_commit()
    assert len(clean) == 40
    code.write_text("x = 2\n")
    assert records.git_commit() == f"{clean}-dirty"
    (checkout / "elsewhere.txt").write_text("notes")
    code.write_text("x = 1\n")
    assert records.git_commit() == clean


@pytest.mark.parametrize(
    ("content", "record", "words"),
    [
        (b"", {}, "is no table"),
        (b"\xff\xfe", {}, "is no table"),
        (b"a,b\n1,2\n1,2,3\n", {}, "is no table"),
        (b"a\n1\n", {"table": "other"}, "is the table other"),
        (b"a\n1\n", {"runs": [1]}, "is the table mine, or its record lists no runs"),
        (b"a\n1\n", {"runs": {"one": 1}}, "is the table mine, or its record lists no runs"),
    ],
)
def test_a_table_that_its_own_record_vouches_for_wrongly_is_named(
    tmp_path: Path, content: bytes, record: dict, words: str
) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    told = records.sealed(record | {"table_sha256": records.checksum(content)})
    records.write_record(path.with_suffix(".json"), told)
    with pytest.raises(DamagedTable, match=rf"mine\.csv {words}.*restore it from git"):
        records.read_table(path)


def test_the_papers_numbers_are_those_that_are_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = sorted(path.stem for path in paths.PUBLISHED.glob("*.csv"))
    assert names
    assert all(len(records.published(name)) for name in names)
    shutil.copytree(paths.PUBLISHED, tmp_path / "published")
    monkeypatch.setattr(paths, "PUBLISHED", tmp_path / "published")
    path = paths.PUBLISHED / f"{names[0]}.csv"
    whole = path.read_text(encoding="utf-8")
    for damaged in (whole[: len(whole) // 2], whole.replace("0.", "1.", 1), f"<<<<<<< HEAD\n{whole}", ""):
        path.write_text(damaged, encoding="utf-8")
        with pytest.raises(
            DamagedTable, match=rf"{names[0]}\.csv is not what .*SHA256SUMS says: restore both from git"
        ):
            records.published(names[0])
    path.write_text(whole, encoding="utf-8")
    with pytest.raises(MissingTable, match=rf"name must be that of a table of .*{names[0]}.*, got 'nothing'"):
        records.published("nothing")
    sums = paths.PUBLISHED / "SHA256SUMS"
    for damaged in (f"<<<<<<< HEAD\n{sums.read_text()}\n".encode(), bytes(range(256)), b""):
        sums.write_bytes(damaged)
        with pytest.raises(DamagedTable, match="restore both from git"):
            records.published(names[0])
    for gone in (path, sums):
        gone.unlink()
        with pytest.raises(DamagedTable, match="restore both from git"):
            records.published(names[0])
