from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from aa_core.estimates import mean_interval
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
    row = results.claim(mean_interval(np.array(samples)), len(samples), **threshold)
    assert row["holds"] == holds
    assert row["seeds"] == len(samples)


def test_a_claim_needs_one_threshold() -> None:
    with pytest.raises(ValueError, match="exactly one of above and below"):
        results.claim((1.0, 0.0, 2.0), 3)
    with pytest.raises(ValueError, match="exactly one of above and below"):
        results.claim((1.0, 0.0, 2.0), 3, above=0, below=1)
