"""Fifteen seconds of self-play: no more threads or files at the end; and a leak would be seen."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments import paths

from . import soak


def watched(grows: str = "", hourly: float = 0.0) -> pd.DataFrame:
    """An hour of looks at a process whose memory wobbles, and in which something may grow."""
    noise = np.random.default_rng(0)
    seconds = np.arange(0, 3600, 5.0)
    table = pd.DataFrame({"seconds": seconds, "update": np.arange(len(seconds)), "threads": 12, "handles": 20})
    table["curve_mb"] = seconds / 360  # what is kept on purpose is no leak
    table["rss_mb"] = (
        table.curve_mb + 600 + noise.normal(0, 5, len(seconds)) + 200 * (1 - np.exp(-seconds / 200))
    )  # it warms up
    if grows:
        column = "rss_mb" if grows == "rest_mb" else grows
        table[column] = table[column] + np.floor(hourly * seconds / 3600)
    return table


def test_a_process_that_holds_no_more_leaks_nothing() -> None:
    fitted = soak.slopes(watched()).set_index("what")
    assert soak.leaks(soak.slopes(watched())) == []
    assert fitted.low["rest_mb"] <= fitted.slope["rest_mb"] <= fitted.high["rest_mb"]
    assert fitted.slope["threads"] == fitted.high["handles"] == 0


@pytest.mark.parametrize(("what", "hourly"), [("rest_mb", 50), ("threads", 300), ("handles", 700)])
def test_a_leak_is_named(what: str, hourly: float) -> None:
    assert soak.leaks(soak.slopes(watched(what, hourly))) == [soak.HELD[what]]
    fitted = soak.slopes(watched(what, hourly)).set_index("what")
    assert fitted.slope[what] == pytest.approx(hourly, rel=0.1)


def test_self_play_of_the_embedded_model_leaks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    started = time.monotonic()
    table, _ = soak.soak(minutes=8 / 60, every=0.1, profile="smoke")
    assert time.monotonic() - started > 8
    assert table["update"].max() >= 20
    assert table["update"].is_monotonic_increasing
    late = table[table.seconds >= soak.WARM * table.seconds.max()]
    third = len(late) // 3
    for held in ("threads", "handles"):  # a checkpoint's file is open for a moment
        assert late[held][-third:].median() <= late[held][:third].median()
    assert late.curve_mb.is_monotonic_increasing, "the curve is weighed"
    grown = late.rss_mb[-third:].median() - late.rss_mb[:third].median()
    assert grown < 40, f"{grown:.0f} MB within {late.seconds.max():.0f} seconds"


def test_too_few_looks_do_not_count_as_no_leak() -> None:
    fitted = pd.DataFrame([("threads", *[float("nan")] * 3)], columns=["what", "slope", "low", "high"])
    assert soak.leaks(fitted) == [soak.HELD["threads"]]
