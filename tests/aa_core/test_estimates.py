"""The one kind of interval: scipy's tests as the second opinion, and shared seeds, which scipy has none for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aa_core.estimates import Statistic, difference, mean_interval, mean_of, show

samples = st.lists(st.floats(-10, 10).map(lambda x: round(x, 2)), min_size=2, max_size=8)


def varied(*groups: list[float]) -> bool:
    return all(np.ptp(group) > 0 for group in groups)


@given(samples)
def test_the_interval_of_a_mean_is_students(values: list[float]) -> None:
    if varied(values):
        known = stats.ttest_1samp(values, 0).confidence_interval()
        assert mean_interval(values) == pytest.approx((np.mean(values), known.low, known.high))


@given(samples, samples)
def test_the_interval_of_a_difference_is_welchs(one: list[float], other: list[float]) -> None:
    if varied(one, other):
        known = stats.ttest_ind(one, other, equal_var=False).confidence_interval()
        assert difference(one, other) == pytest.approx((np.mean(one) - np.mean(other), known.low, known.high))
        mean, low, high = difference(other, one)
        assert (-mean, -high, -low) == pytest.approx(difference(one, other))


@given(samples)
def test_two_numbers_of_the_same_runs_are_compared_seed_by_seed(values: list[float]) -> None:
    one, other = pd.Series(values), pd.Series(values[::-1]) * 0.5
    if varied(one - other):
        known = stats.ttest_rel(one, other).confidence_interval()
        paired = (mean_of(one, "naive") - mean_of(other, "naive")).interval()
        assert paired == pytest.approx(((one - other).mean(), known.low, known.high))


def test_known_intervals() -> None:
    # t(0.975, 3 degrees of freedom) = 3.182, standard error of 1, 2, 3, 4: sqrt(5/3) / 2
    mean, low, high = mean_interval([1.0, 2.0, 3.0, 4.0])
    assert mean == 2.5
    assert high - mean == pytest.approx(3.18245 * (5 / 3) ** 0.5 / 2, rel=1e-4)
    assert mean - low == pytest.approx(high - mean)
    # one group does not vary, so Welch's degrees of freedom are those of the other: t(0.975, 1) = 12.706, error 1
    mean, _, high = difference([3.0, 5.0], [1.0, 1.0])
    assert mean == 3.0
    assert high - mean == pytest.approx(12.7062, rel=1e-4)


def test_without_spread_there_is_no_width_and_with_one_seed_no_interval() -> None:
    assert mean_interval([0.5, 0.5]) == (0.5, 0.5, 0.5)
    assert difference([1.0, 1.0], [0.2, 0.2]) == (0.8, 0.8, 0.8)
    assert Statistic(0.3).interval() == (0.3, 0.3, 0.3), "a constant"
    for alone in (mean_interval([0.5]), difference([0.5, 0.7], [0.5]), difference([0.5], [0.5, 0.7])):
        assert np.isfinite(alone[0])
        assert np.isnan(alone[1:]).all()
    assert (mean_of(pd.Series([1.0, 2.0]), "a") - Statistic(0.5)).interval().mean == 1.0


def test_a_seed_that_one_side_lacks_is_left_out_of_the_other_only() -> None:
    both, some = pd.Series([1.0, 2.0, 4.0]), pd.Series([1.0, 3.0], index=[0, 2])
    gap = mean_of(both, "a") - mean_of(some, "a")
    assert gap.value == pytest.approx(7 / 3 - 2)
    assert gap.without["a"].tolist() == pytest.approx([3 - 3, 2.5 - 2, 1.5 - 1])


def test_seeds_are_those_of_the_side_that_has_fewest() -> None:
    many, few = pd.Series([1.0, 2.0, 4.0], index=[5, 6, 7]), pd.Series([1.0, 3.0], index=[5, 9])
    assert mean_of(many, "a").seeds == (5, 6, 7)
    assert (mean_of(many, "a") - mean_of(few, "b")).seeds == (5, 9)
    assert (Statistic(0.5) - Statistic(0.3)).seeds == ()


def test_samples_must_be_there() -> None:
    for bad in (np.empty(0), np.ones((2, 2))):
        with pytest.raises(ValueError, match=r"^samples must be a sequence of numbers, at least one"):
            mean_interval(bad)
    with pytest.raises(ValueError, match=r"^samples must be a sequence of numbers, at least one"):
        mean_of(pd.Series(dtype=float))


@pytest.mark.parametrize(
    "bad", [[1.0, np.inf], [1.0, np.nan], ["1", "2"], [1j, 2.0], [None, 2.0], [[1.0], [1.0, 2.0]], {1.0}, "12", 3, []]
)
def test_samples_are_finite_numbers(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"^samples must be a sequence of numbers, .* finite"):
        mean_interval(bad)
    with pytest.raises(ValueError, match=r"^other must be"):
        difference([1.0, 2.0], bad)


def test_samples_may_be_numbers_of_any_kind() -> None:
    expected = mean_interval([0.0, 1.0, 1.0])
    for good in ([False, True, True], np.array([0, 1, 1], np.uint8), pd.Series([0, 1, 1], dtype=object), (0, 1, 1.0)):
        assert mean_interval(good) == pytest.approx(expected)
    assert mean_interval(torch.tensor([0.0, 1.0, 1.0])) == pytest.approx(expected)


@pytest.mark.parametrize("bad", [[1.0, 2.0], np.array([1.0, 2.0]), pd.Series([1.0, 2.0], index=[5, 5])])
def test_a_mean_is_of_one_number_for_each_seed(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"^samples must be a Series of one number for each seed"):
        mean_of(bad)


def test_what_is_no_estimate_is_not_shown() -> None:
    for bad in (("a", "b", "c"), (1.0, 2.0), 1.0, None):
        with pytest.raises(ValueError, match=r"^estimate must be an Estimate"):
            show(bad)
    for sign in ("odd", "-", 1):
        with pytest.raises(ValueError, match=r"^sign must be"):
            show((0.5, 0.25, 0.75), sign=sign)


def test_estimates_as_text() -> None:
    assert show((0.5, 0.25, 0.75)) == "0.50 [0.25, 0.75]"
    assert show((0.5, 0.25, 0.75), sign="+") == "+0.50 [+0.25, +0.75]"
    assert show((0.5, np.nan, np.nan)) == "0.50"
    assert show((0.0, -0.001, 0.001)) == "0.00 [0.00, 0.00]"
    assert show((12.34, 1.0, 23.0), 1) == "12.3 [1.0, 23.0]"


def test_a_masked_sample_does_not_count() -> None:
    with pytest.raises(ValueError, match="samples must be a sequence of numbers, at least one, all of them finite"):
        mean_interval(np.ma.array([1.0, 99.0, 3.0], mask=[False, True, False]))
