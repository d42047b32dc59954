from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from aa_core.llm import results

TABLE = pd.DataFrame(
    [
        ("ipd", "naive", seed, update, metric, value)
        for seed in (0, 1)
        for update, metric, value in ((0, "reward", 2.0), (1, "reward", 1.0 + seed), (1, "reward_vs_defect", 0.5))
    ],
    columns=["game", "algorithm", "seed", "update", "metric", "value"],
)


def test_curves_have_a_column_per_seed_and_a_row_per_update() -> None:
    found = results.curves(TABLE, "ipd", "naive", "reward")
    assert found.to_numpy().tolist() == [[2.0, 2.0], [1.0, 2.0]]
    assert list(found.columns) == [0, 1]
    assert results.curves(TABLE, "split", "naive", "reward").empty


def test_final_is_the_last_value_of_each_seed() -> None:
    assert results.final(TABLE, "ipd", "naive", "reward").tolist() == [1.0, 2.0]
    assert results.final(TABLE, "ipd", "naive", "reward_vs_defect").tolist() == [0.5, 0.5]
    assert results.final(TABLE, "ipd", "sum_of_rewards", "reward").tolist() == []
    shorter = TABLE[~((TABLE.seed == 1) & (TABLE["update"] == 1))]
    assert results.final(shorter, "ipd", "naive", "reward").tolist() == [1.0, 2.0]


def test_games_of_lists_games_with_runs() -> None:
    assert results.games_of(TABLE, "naive") == ["ipd"]
    assert results.games_of(TABLE, "advantage_alignment") == []


def test_mean_interval_is_students() -> None:
    # t(0.975, 3 degrees of freedom) = 3.182, standard error of 1, 2, 3, 4: sqrt(5/3) / 2
    mean, low, high = results.mean_interval(np.array([1.0, 2.0, 3.0, 4.0]))
    assert mean == 2.5
    assert high - mean == pytest.approx(3.18245 * (5 / 3) ** 0.5 / 2, rel=1e-4)
    assert mean - low == pytest.approx(high - mean)
    assert results.mean_interval(np.array([0.5, 0.5])) == (0.5, 0.5, 0.5)
    assert results.mean_interval(np.array([0.5]))[0] == 0.5
    assert np.isnan(results.mean_interval(np.array([0.5]))[1:]).all()
    with pytest.raises(ValueError, match=r"^samples must be .* got shape \(0,\)"):
        results.mean_interval(np.empty(0))


def test_difference_is_welchs() -> None:
    one, other = np.array([3.0, 5.0, 4.5, 4.0]), np.array([1.0, 2.0, 0.0])
    known = stats.ttest_ind(one, other, equal_var=False)
    assert results.difference(one, other) == pytest.approx(
        (3.125, known.confidence_interval().low, known.confidence_interval().high)
    )
    one, other = np.array([3.0, 5.0]), np.array([1.0, 1.0])
    mean, _low, high = results.difference(one, other)
    # one group does not vary, so Welch's degrees of freedom are those of the other: t(0.975, 1) = 12.706, error 1
    assert mean == 3.0
    assert high - mean == pytest.approx(12.7062, rel=1e-4)
    assert results.difference(other, one)[1] == pytest.approx(-high)
    assert results.difference(np.array([1.0, 1.0]), np.array([0.2, 0.2])) == (0.8, 0.8, 0.8)
    assert np.isnan(results.difference(np.array([1.0]), other)[1])


@pytest.mark.parametrize(
    ("samples", "threshold", "holds"),
    [
        ([0.9, 0.91, 0.92], {"above": 0.8}, "yes"),
        ([0.9, 0.91, 0.92], {"below": 0.8}, "no"),
        ([0.5, 0.9, 1.0], {"above": 0.7}, "no"),  # the mean is above, the interval is not
        ([0.01, 0.02, 0.0], {"below": 0.1}, "yes"),
        ([1.0, 1.0], {"above": 1.0}, "no"),
        ([1.0], {"above": 0.5}, "one seed: cannot tell"),
    ],
)
def test_a_claim_holds_if_its_whole_interval_does(samples: list[float], threshold: dict, holds: str) -> None:
    row = results.claim(results.mean_interval(np.array(samples)), len(samples), **threshold)
    assert row["holds"] == holds
    assert row["seeds"] == len(samples)


def test_a_claim_needs_one_threshold() -> None:
    with pytest.raises(ValueError, match="exactly one of above and below"):
        results.claim((1.0, 0.0, 2.0), 3)
    with pytest.raises(ValueError, match="exactly one of above and below"):
        results.claim((1.0, 0.0, 2.0), 3, above=0, below=1)


def test_estimates_as_text() -> None:
    assert results.show((0.5, 0.25, 0.75)) == "0.50 [0.25, 0.75]"
    assert results.show((0.5, 0.25, 0.75), sign="+") == "+0.50 [+0.25, +0.75]"
    assert results.show((0.5, np.nan, np.nan)) == "0.50"
    assert results.show((0.0, -0.001, 0.001)) == "0.00 [0.00, 0.00]"


def test_scripts_are_those_of_the_evaluation() -> None:
    from aa_core.llm import runs

    assert {game: (runs.KIND[game], runs.GREEDY[game]) for game in results.TITLES} == results.SCRIPTS
