"""Train the embedded model in self-play for an hour and watch what the process holds: memory, threads, open files.

`make soak MINUTES=60` runs it; tests/repository/test_soak.py in the short. A soak of an hour or more that leaks nothing
is published in data/extended, any other stays in build/.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from scipy.stats import theilslopes

from experiments import language, language_runs, paths, records
from experiments.identity import settings_as_data
from experiments.publish import refuse_changed_code
from experiments.run import make

HELD = {"rest_mb": "MB of memory beside the curve", "threads": "threads", "handles": "open files"}
ALLOWED = {"rest_mb": 20.0, "threads": 0.0, "handles": 0.0}  # an hour
WARM = 1 / 4  # of the time is not looked at: libraries are loaded, caches fill


class Watch:
    """Calls `look` on the process after an update, at most once in so many seconds, until the time is over."""

    def __init__(self, seconds: float, every: float) -> None:
        self.process, self.started, self.until, self.every = psutil.Process(), time.monotonic(), seconds, every
        self.rows: list[tuple[float, int, float, float, int, int]] = []

    def look(self, update: int, curve: Any = ()) -> bool:
        """Note what is held, if it is time; returns whether time is over. `curve` is what training keeps on purpose."""
        passed = time.monotonic() - self.started
        if not self.rows or passed - self.rows[-1][0] >= self.every:
            with self.process.oneshot():
                memory = self.process.memory_info().rss / 2**20, round(size_of(curve) / 2**20, 3)
                self.rows.append(
                    (round(passed, 2), update, *memory, self.process.num_threads(), self.process.num_fds())
                )
        return passed >= self.until

    @property
    def table(self) -> pd.DataFrame:
        """Columns seconds, update, rss_mb, curve_mb, threads and handles, a row for each look."""
        return pd.DataFrame(self.rows, columns=["seconds", "update", "rss_mb", "curve_mb", "threads", "handles"])


def size_of(kept: Any) -> int:
    """Bytes of nested lists and dicts of numbers and texts."""
    parts = [*kept, *kept.values()] if isinstance(kept, dict) else kept if isinstance(kept, list | tuple) else ()
    return sys.getsizeof(kept) + sum(map(size_of, parts))


def slopes(table: pd.DataFrame) -> pd.DataFrame:
    """Growth per hour of each of HELD with its 95% interval (Theil and Sen), after warming up; columns what, slope,
    low, high.
    """
    late = table[table.seconds >= WARM * table.seconds.max()].assign(rest_mb=table.rss_mb - table.curve_mb)
    hours = late.seconds.to_numpy() / 3600
    fits = {name: theilslopes(late[name].to_numpy(dtype=float), hours, 0.95) for name in HELD}
    rows = [(name, fit.slope, fit.low_slope, fit.high_slope) for name, fit in fits.items()]
    return pd.DataFrame(rows, columns=["what", "slope", "low", "high"])


def leaks(fitted: pd.DataFrame) -> list[str]:
    """What grows by more than is allowed; or there were too few looks to tell."""
    return [HELD[row.what] for row in fitted.itertuples() if not row.slope <= ALLOWED[row.what]]


def train(run: language_runs.Training, prior: Path, kept: Path, watch: Callable[..., bool]) -> int:
    """Self-play of one training, its checkpoints in `kept`, until `watch` says so; returns the number of updates."""
    from transformers import TrainerCallback

    class Watcher(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = watch(state.global_step, (trainer.history, state.log_history))

    trainer = language_runs.trainer_of(replace(run, max_steps=10**6), prior, kept)
    trainer.add_callback(Watcher())
    trainer.train()
    return trainer.state.global_step


def soak(minutes: float, every: float, profile: str = "laptop") -> tuple[pd.DataFrame, language_runs.Training]:
    """Advantage Alignment in the prisoner's dilemma for so many minutes; what was seen, and the settings."""
    prior = make(language.prior_run(profile, "ipd"))
    run = language.training(profile, "ipd", "advantage_alignment")  # it meets past agents
    with tempfile.TemporaryDirectory() as folder:
        watch = Watch(60 * minutes, every)
        train(run, prior, Path(folder) / "kept", watch.look)
    return watch.table, run


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two looks")
    options = parser.parse_args()
    if not (0 < options.minutes < 10**6 and options.every > 0):
        parser.error(f"minutes and every must be positive numbers, got {options.minutes} and {options.every}")
    refuse_changed_code([])
    table, run = soak(options.minutes, options.every)
    fitted = slopes(table)
    growing, whole = leaks(fitted), options.minutes >= 60
    path = (paths.DATA / "extended" if whole and not growing else paths.BUILD) / "soak.csv"
    record = records.provenance(settings_as_data(run), table.seconds.max())
    per_hour = {row.what: [row.slope, row.low, row.high] for row in fitted.itertuples()}
    records.write_table(path, table, {"table": "soak", "per_hour": per_hour, **record})
    print(f"{table['update'].max()} updates in {table.seconds.max() / 60:.1f} minutes, {len(table)} looks")
    for row in fitted.itertuples():
        end = table.assign(rest_mb=table.rss_mb - table.curve_mb)[row.what].iloc[-1]
        print(f"{HELD[row.what]:29} {end:8.1f} at the end, {row.slope:+.2f} [{row.low:+.2f}, {row.high:+.2f}] an hour")
    print(f"written to {paths.relative(path)}")
    if growing:
        sys.exit(f"leak: {', '.join(growing)} grow by more than {ALLOWED} an hour")


if __name__ == "__main__":
    main()
