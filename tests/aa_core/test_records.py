from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aa_core import records

CONFIG = {"algorithm": "naive", "seeds": 4, "gamma": 0.9, "betas": [0.1, 1.0]}
OLD = pd.DataFrame({"seed": [0, 1], "value": [0.5, 0.25]})
NEW = pd.DataFrame({"seed": [0, 1], "value": [7.5, 8.25]})


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(records, "DATA", tmp_path)
    return tmp_path


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def never() -> pd.DataFrame:
    raise AssertionError("computed again")


def recorded(compute: Callable[[], pd.DataFrame], config: dict[str, Any] = CONFIG, fresh: bool = False) -> pd.DataFrame:
    return records.recorded("smoke", "ipd/naive", config, compute, fresh)


# --- atomic writing


def test_written_text_is_what_was_given(data: Path) -> None:
    path = data / "new" / "folder" / "x.csv"
    records.write_atomically(path, "a,ü\n1,2\n")
    assert path.read_bytes() == "a,ü\n1,2\n".encode()
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), SystemExit(1)])
@pytest.mark.parametrize("stage", ["fsync", "chmod", "replace"])
def test_a_failing_write_leaves_the_old_file_and_nothing_else(
    data: Path, monkeypatch: pytest.MonkeyPatch, stage: str, error: BaseException
) -> None:
    path = data / "x.csv"
    records.write_atomically(path, "old")

    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(os, stage, fail)
    with pytest.raises(type(error)):
        records.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert files(data) == ["x.csv"]


def test_text_that_cannot_be_encoded_leaves_the_old_file(data: Path) -> None:
    path = data / "x.csv"
    records.write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        records.write_atomically(path, "half a surrogate \ud800")
    assert path.read_text() == "old"
    assert files(data) == ["x.csv"]


# --- configurations

configurations = st.dictionaries(
    st.text(max_size=5),
    st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=5), st.booleans()),
    max_size=5,
)


@given(configurations, st.randoms(use_true_random=False))
def test_hash_does_not_depend_on_the_order_of_keys(config: dict[str, Any], random: Any) -> None:
    items = list(config.items())
    random.shuffle(items)
    assert records.config_hash(dict(items)) == records.config_hash(config)


@given(configurations, configurations)
def test_different_configurations_have_different_hashes(first: dict[str, Any], second: dict[str, Any]) -> None:
    # compared as text: 1, 1.0 and True are equal in Python but not the same setting
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (records.config_hash(first) == records.config_hash(second)) == same


@pytest.mark.parametrize(
    "change", [{"seeds": 5}, {"gamma": 0.90001}, {"algorithm": "loqa"}, {"betas": [1.0, 0.1]}, {"extra": None}]
)
def test_every_change_of_a_setting_changes_the_hash(change: dict[str, Any]) -> None:
    assert records.config_hash(CONFIG | change) != records.config_hash(CONFIG)


def test_a_configuration_read_back_has_its_hash() -> None:
    config = CONFIG | {"betas": (0.1, 1.0)}
    assert records.config_hash(json.loads(json.dumps(config))) == records.config_hash(config)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_is_no_setting(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        records.config_hash({"gamma": value})


# --- what is computed again


def test_a_recorded_table_is_not_computed_again() -> None:
    first = recorded(lambda: OLD)
    again = recorded(never)
    pd.testing.assert_frame_equal(first, OLD)
    pd.testing.assert_frame_equal(again, OLD)


def test_the_order_of_settings_does_not_matter() -> None:
    recorded(lambda: OLD)
    pd.testing.assert_frame_equal(recorded(never, dict(reversed(CONFIG.items()))), OLD)


def test_fresh_computes_again() -> None:
    recorded(lambda: OLD)
    pd.testing.assert_frame_equal(recorded(lambda: NEW, fresh=True), NEW)
    pd.testing.assert_frame_equal(recorded(never), NEW)


def test_a_changed_setting_computes_again() -> None:
    recorded(lambda: OLD)
    pd.testing.assert_frame_equal(recorded(lambda: NEW, CONFIG | {"seeds": 5}), NEW)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'{"config_hash": "', id="cut off"),
        pytest.param(b"\0" * 64, id="zeros"),
        pytest.param(b"\xff\xfe\x80", id="not UTF-8"),
        pytest.param(b"null", id="null"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"{}", id="no hash"),
    ],
)
def test_an_unreadable_record_computes_again(data: Path, content: bytes) -> None:
    recorded(lambda: OLD)
    (data / "smoke" / "runs" / "ipd" / "naive.json").write_bytes(content)
    pd.testing.assert_frame_equal(recorded(lambda: NEW), NEW)
    pd.testing.assert_frame_equal(recorded(never), NEW)


@pytest.mark.parametrize("lost", ["naive.csv", "naive.json"])
def test_half_a_pair_computes_again(data: Path, lost: str) -> None:
    recorded(lambda: OLD)
    (data / "smoke" / "runs" / "ipd" / lost).unlink()
    pd.testing.assert_frame_equal(recorded(lambda: NEW), NEW)


def test_a_crash_while_computing_leaves_the_old_pair(data: Path) -> None:
    recorded(lambda: OLD)
    before = {name: (data / name).read_bytes() for name in files(data)}
    with pytest.raises(AssertionError, match="computed again"):
        recorded(never, fresh=True)
    assert {name: (data / name).read_bytes() for name in files(data)} == before
    pd.testing.assert_frame_equal(recorded(never), OLD)


def test_a_crash_between_the_two_files_is_not_taken_for_a_result(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(lambda: OLD)
    write = records.write_atomically

    def crash_at_record(path: Path, text: str) -> None:
        if path.suffix == ".json":
            raise KeyboardInterrupt
        write(path, text)

    monkeypatch.setattr(records, "write_atomically", crash_at_record)
    with pytest.raises(KeyboardInterrupt):
        recorded(lambda: NEW, fresh=True)
    monkeypatch.setattr(records, "write_atomically", write)
    # the old settings with the new numbers would be a lie
    assert not records.is_recorded("smoke", "ipd/naive", CONFIG)
    pd.testing.assert_frame_equal(recorded(lambda: OLD), OLD)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(OLD.iloc[:0], id="no rows"),
        pytest.param(pd.DataFrame(), id="nothing"),
        pytest.param(OLD.assign(value=[1.0, math.nan]), id="NaN"),
        pytest.param(OLD.assign(name=["a", None]), id="None"),
    ],
)
def test_a_bad_table_is_refused_and_the_old_pair_stays(data: Path, bad: pd.DataFrame) -> None:
    recorded(lambda: OLD)
    before = {name: (data / name).read_bytes() for name in files(data)}
    with pytest.raises(ValueError, match=r"naive\.csv must"):
        recorded(lambda: bad, fresh=True)
    assert {name: (data / name).read_bytes() for name in files(data)} == before


def test_nan_is_refused_with_the_name_of_its_column() -> None:
    with pytest.raises(ValueError, match=r"\['value'\]"):
        recorded(lambda: OLD.assign(value=math.nan))


# --- files


def test_runs_and_tables_have_their_own_places(data: Path) -> None:
    assert records.table_path("smoke", "ipd/naive") == data / "smoke" / "runs" / "ipd" / "naive.csv"
    assert records.table_path("smoke", "ipd_policy") == data / "smoke" / "ipd_policy.csv"


@pytest.mark.parametrize("name", ["ipd_sweep/0.03", "ipd_sweep/0.1", "table.v2"])
def test_a_dot_in_a_name_does_not_mix_up_files(data: Path, name: str) -> None:
    records.recorded("smoke", name, CONFIG, lambda: OLD)
    records.recorded("smoke", name.rsplit(".", 1)[0], CONFIG | {"seeds": 5}, lambda: NEW)
    pd.testing.assert_frame_equal(records.recorded("smoke", name, CONFIG, never), OLD)
    assert len(files(data)) == 4


def test_profiles_do_not_mix() -> None:
    recorded(lambda: OLD)
    pd.testing.assert_frame_equal(records.recorded("laptop", "ipd/naive", CONFIG, lambda: NEW), NEW)
    pd.testing.assert_frame_equal(recorded(never), OLD)


def test_read_table_reads_what_was_written() -> None:
    recorded(lambda: OLD)
    pd.testing.assert_frame_equal(records.read_table("smoke", "ipd/naive"), OLD)


def test_a_missing_table_says_how_to_make_it() -> None:
    with pytest.raises(FileNotFoundError, match="make figures PROFILE=smoke"):
        records.read_table("smoke", "nothing")
    assert records.record_of("smoke", "nothing") is None


def test_tables_are_written_the_same_way_twice(data: Path) -> None:
    table = pd.DataFrame({"x": [1 / 3, 1e-9, 12345678.9], "name": ["a", "b,c", "d"]})
    contents = []
    for _ in range(2):
        records.recorded("smoke", "t", CONFIG, lambda: table, fresh=True)
        contents.append((data / "smoke" / "t.csv").read_bytes())
    assert contents[0] == contents[1] == b'x,name\n0.333333,a\n1e-09,"b,c"\n1.23457e+07,d\n'


def test_provenance_says_with_what_a_table_was_made() -> None:
    recorded(lambda: OLD)
    record = records.record_of("smoke", "ipd/naive")
    assert record["config"] == CONFIG
    assert record["config_hash"] == records.config_hash(CONFIG)
    assert record["seconds"] >= 0
    assert pd.Timestamp(record["finished"]) <= pd.Timestamp.now("UTC")
    assert {"python", "torch", "numpy", "pandas"} <= set(record["packages"])
    assert record["machine"]["cores"] == os.cpu_count()
    assert "git_commit" in record


def test_git_commit_is_none_outside_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert records.git_commit() is None


def test_git_commit_tells_whether_the_code_was_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "ROOT", tmp_path)
    for kind in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{kind}_NAME", "someone")
        monkeypatch.setenv(f"GIT_{kind}_EMAIL", "someone@example.org")
    code = tmp_path / "aa_core" / "x.py"
    code.parent.mkdir()
    code.write_text("x = 1\n")
    for command in (["init", "-q"], ["add", "aa_core"], ["commit", "-q", "-m", "first"]):
        records.subprocess.run(["git", *command], cwd=tmp_path, check=True, capture_output=True)
    clean = records.git_commit()
    assert len(clean) == 40
    (tmp_path / "notes.txt").write_text("not code")
    assert records.git_commit() == clean
    code.write_text("x = 2\n")
    assert records.git_commit() == clean + "-dirty"
