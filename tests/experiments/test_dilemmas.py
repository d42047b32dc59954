"""Schelling's diagrams of scripts, against closed forms and single games."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Generator, Tensor

from aa_core.games import negotiation
from aa_core.games.harvest import SCRIPTED, HarvestGame, free_harvester
from experiments.dilemmas import restrained, schelling


class PublicGood:
    """Five players put in 1 or nothing, the pot is tripled and shared by all; three rounds."""

    num_players, num_actions, action_shape, action_bounds = 5, 2, (), None
    obs_shape, obs_bounds, num_observations, horizon = (1,), (0.0, 1.0), None, 3

    def reset(self, batch: int, generator: Generator | None = None) -> tuple[None, Tensor]:
        return None, torch.zeros(batch, 5, 1)

    def step(self, state: None, actions: Tensor, generator: Generator | None = None) -> tuple:
        given = actions.float()
        rewards = 3 * given.sum(1, keepdim=True) / 5 - given
        return None, torch.zeros(len(actions), 5, 1), rewards, torch.zeros(len(actions), dtype=torch.bool)


def constant(action: int, game: object, observations: Tensor, generator: Generator | None = None) -> Tensor:
    return torch.full((len(observations),), action)


def test_a_public_good_gives_its_two_straight_lines() -> None:
    table = schelling(PublicGood(), partial(constant, 1), partial(constant, 0), 2, Generator())
    assert list(table.columns) == ["who", "others", "game", "earned"]
    assert len(table) == 2 * 2 * 5  # two games, two kinds, 0 to 4 others
    for who, cost in (("cooperator", 3 * (3 / 5 - 1)), ("defector", 0.0)):
        part = table[table.who == who]
        assert sorted(set(part.others)) == [0, 1, 2, 3, 4]
        assert part.earned.to_numpy() == pytest.approx(3 * 3 / 5 * part.others.to_numpy() + cost, abs=1e-5)
    half = schelling(PublicGood(), partial(constant, 1), partial(constant, 0), 1, Generator(), discount=0.5)
    alone = half[(half.who == "cooperator") & (half.others == 0)].earned.item()
    assert alone == pytest.approx((3 / 5 - 1) * (1 + 0.5 + 0.25))


def test_negotiation_is_a_dilemma_with_the_payoffs_that_its_rules_imply() -> None:
    game = negotiation.NegotiationGame()
    kind, greedy = (negotiation.SCRIPTED[name] for name in ("always cooperate", "always defect"))
    table = schelling(game, kind, greedy, 400, Generator().manual_seed(0))
    means = table.groupby(["who", "others"]).earned.mean() / game.horizon
    expected = {("cooperator", 1): 0.5, ("cooperator", 0): 0.25, ("defector", 1): 0.55, ("defector", 0): 0.3}
    assert means.to_dict() == pytest.approx(expected, abs=0.01)


def test_the_restrained_leave_what_would_end_a_patch_and_who_spares_nothing_is_free() -> None:
    game = HarvestGame("orchard", 2, horizon=60, window=(5, 1, 3))
    state, observations = game.reset(6, Generator().manual_seed(0))
    free = free_harvester(game, observations, Generator().manual_seed(1))
    assert torch.equal(restrained(game, observations, Generator().manual_seed(1), spare=0), free)
    before = observations.clone()
    restrained(game, observations, Generator().manual_seed(1))
    assert torch.equal(observations, before)  # what a player saw is not changed
    generator = Generator().manual_seed(2)
    for _ in range(game.horizon):  # among two who spare, no patch falls below what they see
        actions = restrained(game, observations, generator)
        state, observations, *_ = game.step(state, actions, generator)
    assert (state.apples.sum(1) >= 3).all()
    table = schelling(game, restrained, SCRIPTED["free harvester"], 6, Generator().manual_seed(0))
    means = table.groupby(["who", "others"]).earned.mean()
    assert means["defector", 1] > means["cooperator", 1]  # in a game as short as this to be free pays
