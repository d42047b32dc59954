from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Generator, Tensor

from aa_core.actor_critic import ActorCritic, Network, Spaces
from aa_core.estimates import mean_interval
from aa_core.games import coin, negotiation
from aa_core.games.base import Game, Script
from aa_core.league import cell, league, play_pair, summarise

COLUMNS = ["row_agent", "column_agent", "row_seed", "column_seed", "row_reward", "column_reward"]
GAMES = {
    "coin": (coin.CoinGame(horizon=5), coin.SCRIPTED),
    "negotiation": (negotiation.NegotiationGame(horizon=5), negotiation.SCRIPTED),
}


def minds(game: Game, count: int, first: int = 0) -> list[ActorCritic]:
    network = Network(hidden=8)
    return [ActorCritic(Spaces.of(game), network, Generator().manual_seed(first + seed)) for seed in range(count)]


def claim(share: float) -> Script:
    """Asks for one share of every item whatever it sees; stands in for a trained agent."""

    def act(game: Game, observations: Tensor, generator: Generator | None) -> Tensor:
        return torch.full((len(observations), 3), share * 5)

    return act


def mean_rewards(table: pd.DataFrame, row: str, column: str) -> tuple[float, float]:
    pair = table[(table.row_agent == row) & (table.column_agent == column)]
    return pair.row_reward.mean(), pair.column_reward.mean()


@pytest.mark.parametrize("name", GAMES)
def test_the_league_is_complete_and_symmetric(name: str) -> None:
    game, scripted = GAMES[name]
    table = league(game, {"three": minds(game, 3), "two": minds(game, 2, 10), **scripted}, games=4)
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
    table = league(negotiation.NegotiationGame(), negotiation.SCRIPTED, games=200)
    known = {
        ("cooperate", "cooperate"): (0.5, 0.5),
        ("defect", "defect"): (0.3, 0.3),
        ("defect", "cooperate"): (0.55, 0.25),
    }
    for (row, column), rewards in known.items():
        assert mean_rewards(table, f"always {row}", f"always {column}") == pytest.approx(rewards, abs=0.01)
        assert mean_rewards(table, f"always {column}", f"always {row}") == pytest.approx(rewards[::-1], abs=0.01)


def test_scripted_players_of_the_coin_game_earn_what_others_report() -> None:
    table = league(coin.CoinGame(), coin.SCRIPTED, games=1000)
    assert mean_rewards(table, "always cooperate", "always cooperate") == pytest.approx((0.349, 0.349), abs=0.01)
    assert mean_rewards(table, "always defect", "always defect") == pytest.approx((0.0, 0.0), abs=0.01)
    assert mean_rewards(table, "always cooperate", "always defect")[0] == pytest.approx(-0.26, abs=0.02)


def test_every_seed_plays_as_itself_on_either_side() -> None:
    # who claims all of every item gets all against who claims nothing
    agents = {"claims": [claim(0.0), claim(1.0)], "one": [claim(1.0)]}
    rewards = league(negotiation.NegotiationGame(), agents, games=50).set_index(COLUMNS[:4])
    alone = rewards.loc[("claims", "claims", 1, 0)]
    assert alone.row_reward > 0.5
    assert alone.column_reward == 0.0
    assert rewards.loc[("claims", "one", 1, 0)].row_reward == pytest.approx(0.3, abs=0.02)
    assert rewards.loc[("claims", "one", 0, 0)].row_reward == 0.0
    assert rewards.loc[("one", "claims", 0, 0)].row_reward == pytest.approx(alone.row_reward, abs=0.02)


def test_the_league_repeats_itself_and_leaves_the_global_generator() -> None:
    game, _ = GAMES["coin"]
    agents = {"learned": minds(game, 2), "random": coin.SCRIPTED["random"]}
    before = torch.get_rng_state()
    first = league(game, agents, games=3, seed=4)
    assert torch.get_rng_state().equal(before)
    pd.testing.assert_frame_equal(first, league(game, agents, games=3, seed=4))
    assert not first.equals(league(game, agents, games=3, seed=5))
    larger = league(game, {**agents, "third": coin.SCRIPTED["always defect"]}, games=3, seed=4)
    kept = larger[larger.row_agent.isin(agents) & larger.column_agent.isin(agents)]
    pd.testing.assert_frame_equal(
        first.sort_values(COLUMNS[:4], ignore_index=True), kept.sort_values(COLUMNS[:4], ignore_index=True)
    )


def test_a_pair_plays_all_its_games() -> None:
    game, scripted = GAMES["coin"]
    rewards = play_pair(game, minds(game, 2), minds(game, 3), 4, Generator().manual_seed(0))
    assert rewards.shape == (2, 3, 4, 2, 5)
    assert play_pair(game, scripted["random"], minds(game, 3), 4, Generator()).shape == (1, 3, 4, 2, 5)


# --- intervals


def played(rewards: dict[tuple[str, str], np.ndarray]) -> pd.DataFrame:
    rows = [
        (row, column, i, j, matrix[i, j], 0.0)
        for (row, column), matrix in rewards.items()
        for i, j in np.ndindex(matrix.shape)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_six_seeds_are_six_samples_not_thirty_six_games() -> None:
    skill = np.random.default_rng(0).normal(size=6)
    table = played({("a", "b"): np.repeat(skill[:, None], 6, 1), ("b", "a"): np.zeros((6, 6))})
    assert cell(table, "a", "b").interval() == pytest.approx(mean_interval(skill))
    assert cell(table, "b", "a").interval() == (0.0, 0.0, 0.0)
    # what the partner's seeds make of it is chance too
    table = played({("a", "b"): np.repeat(skill[None], 6, 0)})
    assert cell(table, "a", "b").interval() == pytest.approx(mean_interval(skill))


def test_seeds_that_meet_each_other_are_left_out_on_both_sides() -> None:
    own, other = np.random.default_rng(1).normal(size=(2, 5))
    table = played({("a", "a"): own[:, None] + other[None]})
    assert cell(table, "a", "a").interval() == pytest.approx(mean_interval(own + other))


def test_an_agent_that_meets_itself_has_the_same_seeds_on_both_sides() -> None:
    table = played({("a", "a"): np.ones((3, 3))})
    with pytest.raises(ValueError, match="table must be all pairs of seeds of 'a' and 'a'"):
        cell(table[table.column_seed == 0], "a", "a")


def test_an_interval_over_few_seeds_that_meet_each_other_covers_the_truth() -> None:
    rng, covered = np.random.default_rng(0), []
    for _ in range(300):
        own, other = rng.normal(size=(2, 5))
        rewards = own[:, None] + 0.7 * own[None] + other[:, None] * own[None] * 0.5 + 0.3 * rng.normal(size=(5, 5))
        _, low, high = cell(played({("a", "a"): rewards}), "a", "a").interval()
        covered.append(low < 0 < high)
    assert np.mean(covered) > 0.92


def test_two_cells_with_the_same_seeds_are_compared_seed_by_seed() -> None:
    skill, noise = np.random.default_rng(2).normal(size=(2, 4))
    table = played({("a", "x"): skill[:, None], ("a", "y"): (skill + 0.1 * noise - 1)[:, None]})
    gap = (cell(table, "a", "x", {"x", "y"}) - cell(table, "a", "y", {"x", "y"})).interval()
    assert gap == pytest.approx(mean_interval(1 - 0.1 * noise))


def test_a_script_is_no_sample_but_a_learned_agent_of_one_seed_is() -> None:
    table = played({("a", "x"): np.array([[1.0], [2.0]]), ("x", "x"): np.array([[0.5]])})
    assert np.isnan(cell(table, "a", "x").interval().low), "x may be a single seed of something"
    assert cell(table, "a", "x", {"x"}).interval() == pytest.approx(mean_interval([1.0, 2.0]))
    assert cell(table, "x", "x", {"x"}).interval() == (0.5, 0.5, 0.5)
    with pytest.raises(LookupError, match="no games of 'x' against 'a'"):
        cell(table, "x", "a")
    summary = summarise(table, {"x"})
    assert list(summary.columns) == ["row_agent", "column_agent", "row_reward", "low", "high"]
    assert summary.iloc[0].tolist() == ["a", "x", *mean_interval([1.0, 2.0])]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda table: pd.concat([table, table[:1]]),
        lambda table: table.assign(row_reward=np.inf),
        lambda table: table.assign(row_reward="much"),
        lambda table: table.assign(row_reward=1j),
    ],
    ids=["a pair twice", "infinite", "text", "complex"],
)
def test_a_table_holds_a_finite_reward_for_each_pair_once(spoil: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    table = spoil(played({("a", "x"): np.array([[1.0], [2.0]]), ("x", "x"): np.array([[0.5]])}))
    for call in (lambda: cell(table, "a", "x"), lambda: summarise(table, {"x"})):
        with pytest.raises(ValueError, match=r"^table must be rows of `league`"):
            call()


def test_bad_arguments_are_named() -> None:
    game, scripted = GAMES["coin"]
    with pytest.raises(ValueError, match="games must be a positive integer, got 0"):
        league(game, scripted, games=0)
    with pytest.raises(ValueError, match="agents must be a list or dict, not empty"):
        league(game, {})
