from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from torch import Generator

from aa_core import games
from aa_core.games import coin, negotiation
from aa_core.league import heat_map, league, own_coin_rate, play_pair, summarise, welfare
from aa_core.recurrent import Policies, initial_policies

COLUMNS = ["row_agent", "column_agent", "row_seed", "column_seed", "row_reward", "column_reward"]


def policies(name: str, count: int, first: int = 0) -> Policies:
    return initial_policies(games.make(name), 8, [Generator().manual_seed(first + seed) for seed in range(count)])


def constant_claims(*claims: float) -> Policies:
    """One network per claim, which asks for nearly that share of every item whatever it sees."""
    drawn = policies("negotiation", len(claims))
    parameters = {name: torch.zeros_like(x) for name, x in drawn.parameters.items()}
    parameters["actor.head_bias"] = torch.atanh(torch.tensor(claims)[:, None, None].expand(-1, 1, 3) / 2)
    parameters["actor.log_std"] = torch.full((len(claims), 1, 3), -2.0)
    return Policies(parameters, drawn.bounds)


def mean_rewards(table: pd.DataFrame, row: str, column: str) -> tuple[float, float]:
    pair = table[(table.row_agent == row) & (table.column_agent == column)]
    return pair.row_reward.mean(), pair.column_reward.mean()


@pytest.mark.parametrize("name", ["coin", "negotiation"])
def test_the_league_is_complete_and_symmetric(name: str) -> None:
    scripted = {"coin": coin.SCRIPTED, "negotiation": negotiation.SCRIPTED}[name]
    agents = {"three": policies(name, 3), "two": policies(name, 2, 10), **scripted}
    table = league(games.make(name, horizon=5), agents, games=4)
    assert list(table.columns) == COLUMNS
    seeds = {"three": 3, "two": 2, **dict.fromkeys(scripted, 1)}
    expected = {
        (row, column, i, j)
        for row, column in product(seeds, seeds)
        for i in range(seeds[row])
        for j in range(seeds[column])
    }
    keys = list(table[COLUMNS[:4]].itertuples(index=False, name=None))
    assert len(keys) == len(expected)
    assert set(keys) == expected
    rewards = table.set_index(COLUMNS[:4])
    for row, column, i, j in expected:
        own, other = rewards.loc[(row, column, i, j)], rewards.loc[(column, row, j, i)]
        assert own.row_reward == other.column_reward
        assert own.column_reward == other.row_reward


def test_scripted_players_of_the_negotiation_game_earn_what_the_rules_say() -> None:
    table = league(games.make("negotiation"), negotiation.SCRIPTED, games=200)
    known = {
        ("cooperate", "cooperate"): (0.5, 0.5),
        ("defect", "defect"): (0.3, 0.3),
        ("defect", "cooperate"): (0.55, 0.25),
    }
    for (row, column), rewards in known.items():
        assert mean_rewards(table, f"always {row}", f"always {column}") == pytest.approx(rewards, abs=0.01)
        assert mean_rewards(table, f"always {column}", f"always {row}") == pytest.approx(rewards[::-1], abs=0.01)


def test_scripted_players_of_the_coin_game_earn_what_others_report() -> None:
    table = league(games.make("coin"), coin.SCRIPTED, games=1000)
    assert mean_rewards(table, "always cooperate", "always cooperate") == pytest.approx((0.349, 0.349), abs=0.01)
    assert mean_rewards(table, "always defect", "always defect") == pytest.approx((0.0, 0.0), abs=0.01)
    assert mean_rewards(table, "always cooperate", "always defect")[0] == pytest.approx(-0.26, abs=0.02)


def test_every_seed_plays_as_itself_on_either_side() -> None:
    # claims of -1.9 and 1.9 are nearly 0 and 5 of every item: who claims all gets all against who claims nothing
    table = league(
        games.make("negotiation"), {"claims": constant_claims(-1.9, 1.9), "one": constant_claims(1.9)}, games=50
    )
    rewards = table.set_index(COLUMNS[:4])
    alone = rewards.loc[("claims", "claims", 1, 0)]
    assert alone.row_reward > 0.5
    assert alone.column_reward < 0.05
    assert rewards.loc[("claims", "one", 1, 0)].row_reward == pytest.approx(0.3, abs=0.02)
    assert rewards.loc[("claims", "one", 0, 0)].row_reward == pytest.approx(alone.column_reward, abs=0.02)
    assert rewards.loc[("one", "claims", 0, 0)].row_reward == pytest.approx(alone.row_reward, abs=0.02)
    assert rewards.loc[("claims", "claims", 0, 0)].row_reward < 0.1


def test_the_league_repeats_itself_and_leaves_the_global_generator() -> None:
    game, agents = games.make("coin", horizon=5), {"learned": policies("coin", 2), "random": coin.random_moves}
    before = torch.get_rng_state()
    first = league(game, agents, games=3, seed=4)
    assert torch.get_rng_state().equal(before)
    pd.testing.assert_frame_equal(first, league(game, agents, games=3, seed=4))
    assert not first.equals(league(game, agents, games=3, seed=5))
    larger = league(game, {**agents, "third": coin.always_defect}, games=3, seed=4)
    kept = larger[larger.row_agent.isin(agents) & larger.column_agent.isin(agents)]
    pd.testing.assert_frame_equal(
        first.sort_values(COLUMNS[:4], ignore_index=True), kept.sort_values(COLUMNS[:4], ignore_index=True)
    )


def test_measures_of_cooperation() -> None:
    game = games.make("coin")
    friends, foes = (
        play_pair(game, player, player, 200, Generator().manual_seed(0))[0, 0]
        for player in (coin.always_cooperate, coin.always_defect)
    )
    assert own_coin_rate(friends) == 1.0
    assert own_coin_rate(foes) == pytest.approx(0.5, abs=0.02)
    assert welfare(friends) == pytest.approx(2 * 0.349, abs=0.02)


def test_an_interval_covers_the_mean_and_narrows_with_agreement() -> None:
    rng = np.random.default_rng(0)
    skill = rng.normal(size=6)
    table = pd.DataFrame(
        [
            (row, column, i, j, skill[i] * (row == "varied"), 0.0)
            for row, column in product(["varied", "steady"], repeat=2)
            for i in range(6)
            for j in range(6)
        ],
        columns=COLUMNS,
    )
    summary = summarise(table).set_index(["row_agent", "column_agent"])
    varied, steady = summary.loc[("varied", "steady")], summary.loc[("steady", "varied")]
    assert varied.row_reward == pytest.approx(skill.mean())
    assert varied.low < varied.row_reward < varied.high
    # six seeds, not 36 games: the width is that of a mean of six
    assert varied.high - varied.low == pytest.approx(2 * 1.96 * skill.std() / 6**0.5, rel=0.15)
    assert (steady.low, steady.row_reward, steady.high) == (0.0, 0.0, 0.0)
    pd.testing.assert_frame_equal(summarise(table), summarise(table))


def test_the_heat_map_has_two_triangles_a_cell() -> None:
    summary = summarise(league(games.make("negotiation"), negotiation.SCRIPTED, games=20))
    axes = Figure().subplots()
    colours = heat_map(axes, summary, limits=(0.2, 0.6))
    assert len(axes.patches) == len(axes.texts) == 8
    assert axes.texts[2].get_text().startswith("0.2")  # always cooperate, upper left, against always defect
    assert axes.texts[3].get_text().startswith("0.5")  # and always defect in the same cell
    assert [label.get_text() for label in axes.get_xticklabels()] == ["always cooperate", "always defect"]
    assert colours.get_clim() == (0.2, 0.6)
    published = summary.drop(columns=["low", "high", "seeds"])
    heat_map(Figure().subplots(), published, ["always defect"])
    with pytest.raises(ValueError, match="summary must hold every pair of agents, got none for"):
        heat_map(axes, summary, ["always defect", "nobody"])


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="games must be a positive integer, got 0"):
        league(games.make("coin"), coin.SCRIPTED, games=0)
    with pytest.raises(ValueError, match="agents must hold at least one agent, got none"):
        league(games.make("coin"), {})
    with pytest.raises(ValueError, match="game must have two players, got 7"):
        league(games.make("harvest"), coin.SCRIPTED)
