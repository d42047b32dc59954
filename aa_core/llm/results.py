"""Reading the tables of the language-model runs: one metric of one algorithm, intervals over seeds, claims.

Intervals here are Student's: with three to five seeds a bootstrap percentile interval is too narrow.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

Estimate = tuple[float, float, float]  # a mean, and the ends of its 95% interval

TITLES = {"ipd": "Prisoner's dilemma", "split": "Split", "trust_and_split": "Trust-and-Split"}
# how well two players do together, from 0 to 1
TOGETHER = {"ipd": "cooperation", "split": "efficiency", "trust_and_split": "efficiency"}
# the kind and the greedy scripted player
SCRIPTS = {"ipd": ("cooperate", "defect"), "split": ("welfare", "greedy"), "trust_and_split": ("welfare", "greedy")}


def curves(table: pd.DataFrame, game: str, algorithm: str, metric: str) -> pd.DataFrame:
    """A metric along training: one column per seed, indexed by update; empty if there are no such runs.

    Args:
        table: `llm_training`.
        game: its name.
        algorithm: variant of `llm.settings`, or "prior".
        metric: what was measured.
    """
    rows = table[(table.game == game) & (table.algorithm == algorithm) & (table.metric == metric)]
    return rows.pivot(index="update", columns="seed", values="value")


def final(table: pd.DataFrame, game: str, algorithm: str, metric: str) -> np.ndarray:
    """A metric after training `(seeds,)`, in games that were not trained on; empty if there are no such runs."""
    found = curves(table, game, algorithm, metric)
    return found.ffill().iloc[-1].to_numpy() if len(found) else np.empty(0)


def games_of(table: pd.DataFrame, algorithm: str) -> list[str]:
    """Games that an algorithm has runs of."""
    return [game for game in TITLES if ((table.game == game) & (table.algorithm == algorithm)).any()]


def mean_interval(samples: np.ndarray) -> Estimate:
    """Mean over seeds and its t interval; without a width if all are equal, NaN ends if there is only one."""
    samples = np.asarray(samples, dtype=float)
    if samples.ndim != 1 or len(samples) == 0:
        raise ValueError(f"samples must be a sequence of numbers, at least one, got shape {samples.shape}")
    if len(samples) == 1:
        return float(samples[0]), np.nan, np.nan
    half = stats.t.ppf(0.975, len(samples) - 1) * samples.std(ddof=1) / len(samples) ** 0.5
    return float(samples.mean()), float(samples.mean() - half), float(samples.mean() + half)


def difference(one: np.ndarray, other: np.ndarray) -> Estimate:
    """Difference of two means over seeds with Welch's t interval; NaN ends if one has a single seed."""
    one, other = np.asarray(one, dtype=float), np.asarray(other, dtype=float)
    gap = mean_interval(one)[0] - mean_interval(other)[0]
    sizes = np.array([len(one), len(other)])
    if sizes.min() < 2:
        return gap, np.nan, np.nan
    parts = np.array([one.var(ddof=1), other.var(ddof=1)]) / sizes  # squared errors of the two means
    if not parts.any():
        return gap, gap, gap
    freedom = parts.sum() ** 2 / (parts**2 / (sizes - 1)).sum()
    half = stats.t.ppf(0.975, freedom) * parts.sum() ** 0.5
    return gap, float(gap - half), float(gap + half)


def show(estimate: Estimate, digits: int = 2, sign: str = "") -> str:
    """An estimate as text, without the interval where there is none; `sign` "+" shows the sign of differences."""
    mean, low, high = (f"{round(value, digits) + 0.0:{sign}.{digits}f}" for value in estimate)  # no -0.00
    return mean if np.isnan(estimate[1]) else f"{mean} [{low}, {high}]"


def claim(
    estimate: Estimate, seeds: int, above: float | None = None, below: float | None = None
) -> dict[str, str | int]:
    """A row for a table of claims: what was measured, what was to be shown, and whether it was.

    A claim holds if its whole 95% interval lies beyond the threshold.

    Args:
        estimate: from `mean_interval` or `difference`.
        seeds: how many stand behind it (of the smaller group).
        above: threshold to exceed; or
        below: threshold to stay under. Exactly one of the two.
    """
    if (above is None) == (below is None):
        raise ValueError(f"exactly one of above and below must be given, got {above!r} and {below!r}")
    _, low, high = estimate
    holds = low > above if above is not None else high < below
    return {
        "to show": f"> {above:g}" if above is not None else f"< {below:g}",
        "measured": show(estimate),
        "seeds": seeds,
        "holds": "one seed: cannot tell" if np.isnan(low) else "yes" if holds else "no",
    }
