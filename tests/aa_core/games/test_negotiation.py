from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from scripted_play import play_scripts
from torch import Generator, Tensor

from aa_core.games.negotiation import (
    SCRIPTED,
    NegotiationGame,
    NegotiationState,
    always_cooperate,
    always_defect,
)

seeds = st.integers(0, 10**6)


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def worth(first: list[float], batch: int = 1) -> NegotiationState:
    values = torch.tensor([[first, [6 - value for value in first]]] * batch)
    return NegotiationState(values, torch.zeros(batch, 2, 3), 0)


def draw_proposals(batch: int, generator: Generator) -> Tensor:
    """Every fourth claim is 0 and every fourth 5."""
    proposals = 5 * torch.rand(batch, 2, 3, generator=generator)
    kind = torch.randint(4, proposals.shape, generator=generator)
    return proposals.masked_fill(kind == 0, 0.0).masked_fill(kind == 1, 5.0)


def rewards_slowly(values: list[list[float]], proposals: list[list[float]]) -> list[float]:
    rewards = [0.0, 0.0]
    for item in range(3):
        claimed = proposals[0][item] + proposals[1][item]
        for player in (0, 1):
            share = proposals[player][item] / (claimed if claimed > 5 else 5)
            rewards[player] += share * values[player][item] / 15
    return rewards


# --- by hand; values (5, 1, 5) and (1, 5, 1)


@pytest.mark.parametrize(
    ("first", "second", "points"),
    [
        pytest.param((5, 0, 5), (0, 5, 0), (10, 5), id="each takes what it values more"),
        pytest.param((0, 5, 0), (5, 0, 5), (1, 2), id="each takes what it values less"),
        pytest.param((5, 5, 5), (5, 5, 5), (5.5, 3.5), id="both claim everything"),
        pytest.param((5, 5, 5), (0, 0, 0), (11, 0), id="one claims everything"),
        pytest.param((0, 0, 0), (0, 0, 0), (0, 0), id="nobody claims anything"),
        pytest.param((1, 2, 0), (1, 2, 0), (1.4, 2.2), id="below 5: the rest is lost"),
        pytest.param((2, 0, 1), (3, 0, 4), (3, 1.4), id="just 5: nothing is lost"),
        pytest.param((4, 0, 0), (4, 0, 2), (2.5, 0.9), id="above 5: in proportion"),
        pytest.param((5, 3, 0), (1, 5, 0), (25 / 6 + 3 / 8, 1 / 6 + 25 / 8), id="above 5, unequal"),
    ],
)
def test_an_item_is_divided_by_5_or_by_what_is_claimed(
    first: tuple[float, ...], second: tuple[float, ...], points: tuple[float, float]
) -> None:
    actions = torch.tensor([[first, second]], dtype=torch.float32)
    _, _, rewards, _ = NegotiationGame().step(worth([5.0, 1.0, 5.0]), actions, seeded())
    assert (15 * rewards[0]).tolist() == pytest.approx(points, abs=1e-5)


def test_each_player_sees_the_round_from_its_own_side() -> None:
    game = NegotiationGame()
    state = worth([5.0, 1.0, 1.0])
    first, second = 10 * game.observe(state)[0]
    assert first.tolist() == pytest.approx([1, 1, 1, 5, 1, 1, 0, 0, 0, 1, 5, 5, 0, 0, 0])
    assert second.tolist() == pytest.approx([1, 1, 1, 1, 5, 5, 0, 0, 0, 5, 1, 1, 0, 0, 0])

    actions = torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 0.0]]])
    state, observations, _, _ = game.step(state, actions, seeded())
    first, second = 10 * observations[0]
    own, other = state.values[0].tolist()  # of the new round, beside the proposals of the last
    assert first.tolist() == pytest.approx([1, 1, 1, *own, 1, 2, 3, *other, 4, 5, 0])
    assert second.tolist() == pytest.approx([1, 1, 1, *other, 4, 5, 0, *own, 1, 2, 3])


def test_rounds_are_independent_and_end_at_the_horizon() -> None:
    game = NegotiationGame(horizon=3)
    state, _ = game.reset(2, seeded())
    ends = []
    for _ in range(3):
        actions = torch.full((2, 2, 3), 5.0)
        before = rewards_slowly(state.values[0].tolist(), actions[0].tolist())
        state, _, rewards, done = game.step(state, actions, seeded())
        assert rewards[0].tolist() == pytest.approx(before)
        ends.append(done.tolist())
    assert ends == [[False, False], [False, False], [True, True]]


# --- against the slow rules


@given(seed=seeds)
def test_random_play_follows_the_slow_rules(seed: int) -> None:
    game, generator = NegotiationGame(), seeded(seed)
    state, _ = game.reset(8, generator)
    for _ in range(4):
        actions = draw_proposals(8, generator)
        following, _, rewards, _ = game.step(state, actions, generator)
        for i in range(8):
            expected = rewards_slowly(state.values[i].tolist(), actions[i].tolist())
            assert rewards[i].tolist() == pytest.approx(expected, abs=1e-6)
        assert (rewards >= 0).all()
        assert (rewards.sum(1) <= 1 + 1e-6).all()  # the efficiency of the round
        state = following


@given(seed=seeds)
def test_nothing_depends_on_the_seat(seed: int) -> None:
    game = NegotiationGame()
    state, observations = game.reset(16, seeded(seed))
    swapped = NegotiationState(state.values.flip(1), state.proposals.flip(1), state.time)
    assert game.observe(swapped).equal(observations.flip(1))
    actions = draw_proposals(16, seeded(seed + 1))
    following, _, rewards, _ = game.step(state, actions, seeded(seed))
    exchanged, _, earned, _ = game.step(swapped, actions.flip(1), seeded(seed))
    assert earned.equal(rewards.flip(1))
    assert exchanged.proposals.equal(following.proposals.flip(1))


def test_a_batch_plays_like_its_games_one_by_one() -> None:
    game = NegotiationGame()
    state, _ = game.reset(5, seeded())
    alone = [NegotiationState(state.values[i : i + 1], state.proposals[i : i + 1], 0) for i in range(5)]
    together, in_turn = seeded(1), seeded(1)
    for step in range(4):
        actions = draw_proposals(5, seeded(step))
        state, observations, rewards, _ = game.step(state, actions, together)
        for i in range(5):  # in turn, so that each game gets the same values
            alone[i], seen, earned, _ = game.step(alone[i], actions[i : i + 1], in_turn)
            assert seen[0].equal(observations[i])
            assert torch.allclose(earned[0], rewards[i], atol=1e-7)


# --- randomness


def test_values_are_opposed_fair_coins_of_5_and_1() -> None:
    game = NegotiationGame()
    state, _ = game.reset(8000, seeded())
    following, *_ = game.step(state, torch.zeros(8000, 2, 3), seeded(1))
    for values in (state.values, following.values):
        assert (values.sum(1) == 6).all()
        assert set(values.unique().tolist()) == {1.0, 5.0}
        kinds = (values[:, 0] == 5).long() @ torch.tensor([4, 2, 1])
        assert chisquare(torch.bincount(kinds, minlength=8)).pvalue > 0.001
    # a new round does not depend on the last
    assert (following.values == state.values).float().mean().item() == pytest.approx(0.5, abs=0.02)


# --- scripted players


def test_always_cooperate_claims_what_it_values_more() -> None:
    observations = NegotiationGame().observe(worth([5.0, 1.0, 5.0]))
    assert always_cooperate(NegotiationGame(), observations, seeded()).tolist() == [[[5, 0, 5], [0, 5, 0]]]
    assert always_defect(NegotiationGame(), observations).tolist() == [[[5, 5, 5], [5, 5, 5]]]


def test_always_cooperate_tosses_a_coin_over_ties() -> None:
    observation = torch.zeros(15)
    observation[3:6], observation[9:12] = torch.tensor([0.3, 0.5, 0.1]), torch.tensor([0.3, 0.1, 0.5])
    claims = always_cooperate(NegotiationGame(), observation.expand(4000, 15), seeded())
    assert (claims[:, 1] == 5).all()
    assert (claims[:, 2] == 0).all()
    assert chisquare([(claims[:, 0] == claim).sum() for claim in (0, 5)]).pvalue > 0.001


LEAGUE = {  # per round, derived from the rules
    ("always cooperate", "always cooperate"): (0.5, 0.5),
    ("always cooperate", "always defect"): (0.25, 0.55),
    ("always defect", "always cooperate"): (0.55, 0.25),
    ("always defect", "always defect"): (0.3, 0.3),
}


@pytest.mark.parametrize("names", LEAGUE, ids=" - ".join)
def test_league_of_scripted_players(names: tuple[str, str]) -> None:
    rewards = play_scripts(NegotiationGame(), [SCRIPTED[name] for name in names], 1000, seeded())
    # 50,000 rounds: the largest standard error is .0013
    assert rewards.mean((0, 2)).tolist() == pytest.approx(LEAGUE[names], abs=0.005)


@pytest.mark.parametrize("names", LEAGUE, ids=" - ".join)
def test_league_values_are_the_means_over_all_values(names: tuple[str, str]) -> None:
    """Exact: the eight equally likely rounds, each played once."""
    game, total = NegotiationGame(), torch.zeros(2)
    for values in product([1.0, 5.0], repeat=3):
        state = worth(list(values))
        seen = game.observe(state)
        actions = torch.stack([SCRIPTED[name](game, seen[:, i], seeded()) for i, name in enumerate(names)], 1)
        total += game.step(state, actions, seeded())[2][0] / 8
    assert total.tolist() == pytest.approx(LEAGUE[names], abs=1e-6)
