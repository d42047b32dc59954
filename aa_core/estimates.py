"""The one kind of interval: Student's t over seeds, for means, differences and cells of a league.

With three to five seeds a percentile bootstrap is too narrow. Seeds are often shared: two metrics of the same runs, a
league's cell in which an agent's seeds meet each other. So an interval here comes from a jackknife (Efron and Stein,
Annals of Statistics 9, 1981): how the number changes when a seed is left out everywhere at once. The variances of
independent populations of seeds add up, with Satterthwaite's degrees of freedom. Special cases, exactly: Student's
interval of a mean, the paired one of two metrics of the same runs, and Welch's of two populations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from aa_core.checks import check, check_that

LEVEL = 0.95


class Estimate(NamedTuple):
    """A mean, and the ends of its 95% interval over seeds; NaN ends where a single seed tells of no spread."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Statistic:
    """A number that runs of several seeds give: `value` from all of them, and the value `without` each one.

    `without` maps a population of seeds (an algorithm) to these values, indexed by seed; NaN if nothing is left.
    """

    value: float
    without: Mapping[str, pd.Series] = field(default_factory=dict)

    def __sub__(self, other: Statistic) -> Statistic:
        """Difference; a seed of a population that both have is left out of both."""
        without = {}
        for population in sorted(self.without.keys() | other.without.keys()):
            one, two = (side.without.get(population, pd.Series(dtype=float)) for side in (self, other))
            seeds = one.index.union(two.index)
            one, two = one.reindex(seeds, fill_value=self.value), two.reindex(seeds, fill_value=other.value)
            without[population] = one - two
        return Statistic(self.value - other.value, without)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those of the population that has fewest; none if nothing is random."""
        return tuple(min((values.index for values in self.without.values()), key=len, default=()))  # type: ignore[arg-type]

    def interval(self) -> Estimate:
        """The value and its t interval; without a width if no seed makes a difference."""
        counts = np.array([len(values) for values in self.without.values()])
        spreads = [((values - values.mean()) ** 2).sum(skipna=False) for values in self.without.values()]
        errors = np.array(spreads) * (counts - 1) / counts  # squared, one per population
        total = errors.sum()
        if not total > 0:
            return Estimate(self.value, *(2 * [self.value if total == 0 else np.nan]))
        from scipy import stats  # here: it takes two seconds that a run can do without

        freedom = total**2 / (errors**2 / (counts - 1)).sum()
        half = float(stats.t.ppf((1 + LEVEL) / 2, freedom) * total**0.5)
        return Estimate(self.value, self.value - half, self.value + half)


def _numbers(name: str, samples: Any) -> np.ndarray:
    each = np.ma.filled(np.asanyarray(samples, dtype=object), math.nan)  # as they are: a text is no number
    fits = each.ndim == 1 and each.size and all(isinstance(x, Real | np.bool_) and math.isfinite(x) for x in each)
    check_that(fits, name, "a sequence of numbers, at least one, all of them finite", samples)
    return each.astype(float)


def mean_of(samples: pd.Series, population: str = "") -> Statistic:
    """Mean of a Series of one finite number per seed of a population; ValueError for others, or an empty one."""
    known = isinstance(samples, pd.Series) and samples.index.is_unique
    check_that(known, "samples", "a Series of one number for each seed", samples)
    samples = pd.Series(_numbers("samples", samples), samples.index)
    mean = samples.mean()
    left = mean + (mean - samples) / (len(samples) - 1) if len(samples) > 1 else samples * np.nan
    return Statistic(float(mean), {population: left})


def mean_interval(samples: Sequence[float] | np.ndarray) -> Estimate:
    """Mean and Student's t interval of independent samples `(seeds,)`; ValueError if there are none, or not finite."""
    return mean_of(pd.Series(_numbers("samples", samples))).interval()


def difference(one: Sequence[float] | np.ndarray, other: Sequence[float] | np.ndarray) -> Estimate:
    """Difference of the means of two independent groups of samples with Welch's t interval."""
    first, second = (mean_of(pd.Series(_numbers(name, side)), name) for name, side in (("one", one), ("other", other)))
    return (first - second).interval()


def show(estimate: Estimate, digits: int = 2, sign: str = "") -> str:
    """An estimate as text, without the interval where there is none; `sign` "+" shows the sign of differences.

    >>> show(mean_interval([1.0, 2.0, 3.0]))
    '2.00 [-0.48, 4.48]'
    """
    check(digits=digits, sign=sign)
    check_that(sign in ("", "+"), "sign", '"" or "+"', sign)
    fits = isinstance(estimate, tuple) and len(estimate) == 3 and all(isinstance(x, Real) for x in estimate)
    check_that(fits, "estimate", "an Estimate", estimate)
    mean, low, high = (f"{round(value, digits) + 0.0:{sign}.{digits}f}" for value in estimate)  # no -0.00
    return mean if np.isnan(estimate[1]) else f"{mean} [{low}, {high}]"
