from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from oracles import finite_differences
from torch import Generator, Tensor
from torch.func import functional_call

from aa_core.actor_critic import ActorCritic, Network, Seen, Spaces
from aa_core.games.base import Game
from aa_core.games.coin import CoinGame
from aa_core.games.harvest import HarvestGame
from aa_core.games.negotiation import NegotiationGame
from aa_core.selfplay import Trajectory, play
from experiments.lola import Lola, lola_loss, train

TINY = Lola(Network(4), updates=2, games=8, entropy=0.0)
GAMES = {"coin": CoinGame(horizon=3), "negotiation": NegotiationGame(horizon=3)}
every_game = pytest.mark.parametrize("name", GAMES)


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def mind_of(game: Game) -> ActorCritic:
    return ActorCritic(Spaces.of(game), TINY.network, seeded())


def log_probs(mind: ActorCritic, played: Trajectory, seat: int) -> Tensor:
    """`(games, T)`"""
    looks = Seen(*(x[:-1, :, seat] for x in played.seen))
    return mind.spaces.log_probs(mind(looks)[0], played.seen.actions[1:, :, seat]).T


def value_gradient(mind: ActorCritic, played: Trajectory, player: int, by: int, gamma: float) -> list[Tensor]:
    """Policy gradient of a player's discounted value by the actor's parameters in seat `by`: score times advantage."""
    with torch.no_grad():
        values = mind(Seen(*(x[:-1, :, player] for x in played.seen)))[1].T
    loss, scores = torch.zeros(()), log_probs(mind, played, by)
    for t in range(scores.shape[1]):
        returns = sum(gamma ** (k - t) * played.rewards[:, player, k] for k in range(t, scores.shape[1]))
        loss = loss + gamma**t * ((returns - values[:, t]) * scores[:, t]).mean()
    actor = [x for name, x in mind.named_parameters() if not name.startswith(("critic", "value"))]
    return list(torch.autograd.grad(loss, actor))


@every_game
def test_with_a_step_of_nothing_it_is_the_policy_gradient(name: str) -> None:
    game, settings = GAMES[name], replace(TINY, inner_learning_rate=1e-12)
    mind, generator = mind_of(game), seeded(1)
    lola_loss(game, mind, settings, generator)[0].backward()
    generator = seeded(1)
    both = torch.tensor([[0, 1]] * 8)
    play(game, [mind, mind], both, generator)  # the co-player's games
    played = play(game, [mind, mind], both, generator)
    expected = value_gradient(mind, played, 0, 0, settings.gamma)
    for weight, gradient in zip(mind.parts()[0], expected, strict=True):
        torch.testing.assert_close(weight.grad, -gradient / game.horizon, rtol=1e-3, atol=1e-6)


@every_game
def test_the_co_players_step_is_the_gradient_of_its_own_value_and_is_differentiated(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the value after the step, as a function of how far the co-player goes along its own gradient: the oracle takes
    # that gradient from single games, and the loss must not be that of a co-player who stands still
    game, minds, honest = GAMES[name], [], play

    def watched(game: Game, seated: list[ActorCritic], *arguments: object) -> Trajectory:
        minds.append([one.state_dict() for one in seated])
        return honest(game, seated, *arguments)

    monkeypatch.setattr("experiments.lola.play", watched)
    mind, rate = mind_of(game), 3.0
    loss, played = lola_loss(game, mind, replace(TINY, inner_learning_rate=rate), seeded(1))
    loss.backward()
    (own, same), (_, moved) = minds
    assert all(own[key].equal(x) for key, x in same.items())
    actor = [key for key in own if not key.startswith(("critic", "value"))]
    for key, gradient in zip(actor, value_gradient(mind, played, 1, 1, TINY.gamma), strict=True):
        torch.testing.assert_close(moved[key] - own[key], rate * gradient, rtol=1e-3, atol=1e-5)
    shaped = [x.grad.clone() for x in mind.parts()[0]]
    mind.zero_grad()
    lola_loss(game, mind, replace(TINY, inner_learning_rate=1e-12), seeded(1))[0].backward()
    assert not torch.allclose(shaped[0], mind.parts()[0][0].grad, rtol=1e-2)


def test_the_gradient_through_the_co_players_step_is_that_of_finite_differences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # with the games held fixed, the value after the step is an ordinary function of the learner's parameters, once DiCE
    # is written as what it stands for: ratios to the probabilities with which the games were played
    game, rate = GAMES["coin"], 2.0
    mind, records, weights = mind_of(game), [], []

    def watched(game: Game, seated: list[ActorCritic], *arguments: object) -> Trajectory:
        records.append(play(game, seated, *arguments))
        weights.append([{key: x.double() for key, x in one.state_dict().items()} for one in seated])
        return records[-1]

    monkeypatch.setattr("experiments.lola.play", watched)
    lola_loss(game, mind, replace(TINY, inner_learning_rate=rate), seeded(1))[0].backward()
    precise = mind_of(game).double()
    first = weights[0][0]

    def outputs(parameters: dict[str, Tensor], batch: int, seat: int) -> tuple[Tensor, Tensor]:
        """Log-probabilities and values, `(games, T)`."""
        looks = Seen(*(x[:-1, :, seat] for x in records[batch].seen))
        logits, values = functional_call(precise, parameters, (looks,))
        return precise.spaces.log_probs(logits, records[batch].seen.actions[1:, :, seat]).T, values.T

    def value(own: dict[str, Tensor], other: dict[str, Tensor], batch: int, player: int) -> Tensor:
        baseline, ratio, total = outputs(first, batch, player)[1].detach(), torch.ones(8), torch.zeros(8)
        for t in range(game.horizon):
            before = ratio
            for seat, now in enumerate((own, other)):
                played_with = outputs(weights[batch][seat], batch, seat)[0]
                ratio = ratio * (outputs(now, batch, seat)[0] - played_with)[:, t].exp()
            reward = records[batch].rewards[:, player, t]
            total = total + TINY.gamma**t * (ratio * reward + (before - ratio) * baseline[:, t])
        return total.mean()

    def after_the_step(shift: Tensor) -> Tensor:
        own = first | {"policy.bias": first["policy.bias"] + shift}
        actor = [key for key in first if not key.startswith(("critic", "value"))]
        leaves = first | {key: first[key].clone().requires_grad_() for key in actor}
        steps = torch.autograd.grad(value(own, leaves, 0, 1), [leaves[key] for key in actor])
        moved = first | {key: first[key] + rate * step for key, step in zip(actor, steps, strict=True)}
        return value(own, moved, 1, 0)

    expected = finite_differences(after_the_step, torch.zeros(4, dtype=torch.float64), step=1e-4)
    torch.testing.assert_close(mind.policy.bias.grad.double(), -expected / game.horizon, rtol=2e-3, atol=1e-6)


def test_it_trains_repeatably_and_reports_its_games() -> None:
    seen, agents = [], []
    for seed in (3, 3, 4):
        agents.append(train(GAMES["coin"], TINY, seed, lambda number, mind, played: seen.append(played.rewards.shape)))
    assert seen == [(8, 2, 3)] * 6
    states = [one.state_dict() for one in agents]
    assert all(states[0][key].equal(states[1][key]) for key in states[0])
    assert not states[0]["critic.dense.weight"].equal(states[2]["critic.dense.weight"])
    with pytest.raises(ValueError, match="game must have two players, got 7"):
        train(HarvestGame(), TINY, 0)
