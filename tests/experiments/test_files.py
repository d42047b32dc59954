import os
from pathlib import Path

import pytest

from experiments.records import write_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_written_text_is_what_was_given(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "x.csv"
    write_atomically(path, "a,ü\n1,2\n")
    assert path.read_bytes() == "a,ü\n1,2\n".encode()
    write_atomically(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), SystemExit(1)])
@pytest.mark.parametrize("stage", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, error: BaseException
) -> None:
    path = tmp_path / "x.csv"
    write_atomically(path, "old")

    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(os, stage, fail)
    with pytest.raises(type(error), match=r"x\.csv" if isinstance(error, OSError) else None):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x.csv"]


def test_text_that_cannot_be_encoded_leaves_the_old_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "x.csv", "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "x.csv", "half a surrogate \ud800")
    assert (tmp_path / "x.csv").read_text() == "old"
    assert names(tmp_path) == ["x.csv"]
