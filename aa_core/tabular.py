"""Sampled self-play of tabular policies: many seeds in one batch, any credit rule.

Two independent learners per seed start near 1/2. Advantages are returns minus the leave-one-out group baseline, and a
`CreditRule` makes of them what multiplies grad log pi. `train_lola` is the one algorithm that is no such rule: it
differentiates through the co-player's next step. Axes are seeds S, players P, games N and time T.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from tqdm.auto import tqdm

from aa_core import HEADLESS
from aa_core.advantages import CreditRule, discounted_returns, group_baseline, group_relative_advantages
from aa_core.checks import check, check_fields, check_shape, check_that
from aa_core.games.base import Game
from aa_core.objectives import dice_objective, policy_gradient_loss


@dataclass(frozen=True)
class Tabular:
    """Settings of the self-play of tables."""

    updates: int = 300
    games: int = 128  # per seed and update
    learning_rate: float = 0.03  # of Adam
    gamma: float = 0.9  # discount of returns
    normalise: bool = True  # divide the credit by its standard deviation over a player's games and steps
    initial_scale: float = 0.1  # standard deviation of the first logits
    record_every: int = 10  # updates between two points of the history

    def __post_init__(self) -> None:
        check_fields(self)


class History(NamedTuple):
    """What a run leaves behind, at K recorded updates."""

    updates: Tensor  # (K,)
    logits: Tensor  # (K, S, P, states) of cooperation
    rewards: Tensor  # (K, S, P) mean per round, of the games that the recorded update was computed from


class Trajectories(NamedTuple):
    """Games of a batch, time last (observations have their own axes after it)."""

    observations: Tensor  # (batch, players, time, *obs_shape)
    actions: Tensor  # (batch, players, time)
    rewards: Tensor  # (batch, players, time)


@torch.no_grad()
def rollout(
    game: Game, act: Callable[[Tensor, int], Tensor], batch: int, generator: Generator | None = None
) -> Trajectories:
    """Play `batch` games to their horizon, by `act`: (observations `(batch, players, *obs_shape)`, time) -> actions
    `(batch, players)`; the generator is for the game's own randomness.
    """
    check(game=game, act=act, batch=batch, generator=generator)
    state, observation = game.reset(batch, generator)
    observations, actions, rewards = [], [], []
    for time in range(game.horizon):
        action = act(observation, time)
        observations.append(observation)
        actions.append(action)
        state, observation, reward, _ = game.step(state, action, generator)
        rewards.append(reward)
    # stacked along the first axis, then viewed time-last: stacking along the last one is many times slower
    return Trajectories(*(torch.stack(x).movedim(0, 2) for x in (observations, actions, rewards)))


def play_tables(game: Game, logits: Tensor, games: int, generators: Sequence[Generator]) -> Trajectories:
    """`games` games per seed, `(S, P, N, T)`, of tables `(S, P, states)`; seed s draws from generators[s]."""
    check(game=game, games=games, generators=generators)
    check_shape((len(generators), game.num_players, game.num_observations), logits=logits)
    seeds, players, states = logits.shape
    noise = torch.cat([torch.rand(game.horizon, games, players, generator=g) for g in generators], 1)  # (T, batch, P)
    table = logits.detach().sigmoid().flatten()
    offsets = states * torch.arange(seeds * players).view(seeds, players).repeat_interleave(games, 0)  # (batch, P)

    def act(observation: Tensor, time: int) -> Tensor:
        return (noise[time] >= table[offsets + observation]).long()

    played = rollout(game, act, seeds * games)
    return Trajectories(*(x.unflatten(0, (seeds, games)).transpose(1, 2).contiguous() for x in played))


def tabular_log_prob(logits: Tensor, observations: Tensor, actions: Tensor) -> Tensor:
    """log pi(a_t|s_t) `(S, P, N, T)` of tables `(S, P, states)` at states and actions `(S, P, N, T)`."""
    check_shape((None, None, None), logits=logits)
    check_shape((*logits.shape[:2], None, None), (0, 1), True, actions=actions)
    check_shape(actions.shape, (0, logits.shape[-1] - 1), True, observations=observations)
    table = torch.nn.functional.logsigmoid(torch.stack([logits, -logits], -1)).flatten(-2)  # (S, P, 2 states)
    return table.gather(-1, (2 * observations + actions).flatten(2)).view(actions.shape)


def tabular_loss(log_probs: Tensor, advantages: Tensor, credit: CreditRule, normalise: bool = True) -> Tensor:
    """Policy gradient loss, a mean over games and steps, summed over seeds and players; tensors are `(S, P, N, T)`."""
    check(credit=credit)
    check_shape((None,) * 4, log_probs=log_probs, advantages=advantages)
    probabilities = log_probs.detach().exp().transpose(1, 2)  # a rule sees (..., players, time)
    credits = credit(advantages.transpose(1, 2), probabilities).transpose(1, 2).contiguous()
    if normalise:
        deviation = (credits - credits.mean((2, 3), keepdim=True)).square().mean((2, 3), keepdim=True).sqrt()
        credits = credits / deviation.clamp(min=1e-6)
    return policy_gradient_loss(log_probs, credits) * log_probs.shape[0] * log_probs.shape[1]


def tabular_gradient(
    game: Game, logits: Tensor, settings: Tabular, generators: Sequence[Generator], credit: CreditRule
) -> tuple[Tensor, Tensor]:
    """Gradient of the loss, of the shape of logits `(S, P, states)`, and mean rewards `(S, P)` of a batch of games."""
    check(settings=settings)
    played = play_tables(game, logits, settings.games, generators)
    groups = torch.arange(logits.shape[0] * logits.shape[1]).repeat_interleave(settings.games)  # one per seed and seat
    advantages = group_relative_advantages(played.rewards.flatten(0, 2), settings.gamma, groups)
    logits = logits.detach().requires_grad_()
    log_probs = tabular_log_prob(logits, played.observations, played.actions)
    loss = tabular_loss(log_probs, advantages.view_as(log_probs), credit, settings.normalise)
    return torch.autograd.grad(loss, logits)[0], played.rewards.mean((2, 3))


def lola_gradient(
    game: Game, logits: Tensor, settings: Tabular, generators: Sequence[Generator], inner_learning_rate: float
) -> tuple[Tensor, Tensor]:
    """LOLA-DiCE with one inner step (Foerster et al. 2018), of both players at once; see `tabular_gradient`."""
    check(game=game, generators=generators, inner_learning_rate=inner_learning_rate, settings=settings)
    check_shape((len(generators), game.num_players, game.num_observations), logits=logits)

    def value(tables: list[Tensor], player: int) -> tuple[Tensor, Tensor]:
        tables = torch.stack(tables, 1)
        played = play_tables(game, tables, settings.games, generators)
        log_probs = tabular_log_prob(tables, played.observations, played.actions).sum(1)
        rewards = played.rewards[:, player]
        groups = torch.arange(len(rewards)).repeat_interleave(settings.games)
        baseline = group_baseline(discounted_returns(rewards, settings.gamma).flatten(0, 1), groups).view_as(rewards)
        value = dice_objective(log_probs, rewards, baseline, settings.gamma).mean(1).sum()
        return value, played.rewards.mean((2, 3))

    results = []
    for player in (0, 1):
        tables = [table.detach().requires_grad_() for table in logits.unbind(1)]
        own, other = tables[player], tables[1 - player]
        co_value, rewards = value(tables, 1 - player)
        step = torch.autograd.grad(co_value, other, create_graph=True)[0]
        tables[1 - player] = other + inner_learning_rate * step
        results.append((-torch.autograd.grad(value(tables, player)[0], own)[0], rewards))
    gradients, rewards = zip(*results, strict=True)
    return torch.stack(gradients, 1), rewards[0]


def train(game: Game, settings: Tabular, credit: CreditRule, seeds: Sequence[int], progress: bool = True) -> History:
    """Train two independent tabular learners per seed with Adam, in a two-player game with two actions and index
    observations. A seed's random numbers do not depend on the other seeds, which must be different (ValueError).
    """
    check(credit=credit)
    return _ascend(game, settings, partial(tabular_gradient, credit=credit), seeds, progress)


def train_lola(
    game: Game, settings: Tabular, inner_learning_rate: float, seeds: Sequence[int], progress: bool = True
) -> History:
    """`train` by LOLA-DiCE, which imagines that the co-player takes a gradient step of `inner_learning_rate`."""
    check(inner_learning_rate=inner_learning_rate)
    return _ascend(game, settings, partial(lola_gradient, inner_learning_rate=inner_learning_rate), seeds, progress)


def _ascend(game: Game, settings: Tabular, gradient: Callable, seeds: Sequence[int], progress: bool) -> History:
    check(game=game, settings=settings)
    different = isinstance(seeds, Sized) and len(seeds) == len(set(seeds)) > 0
    check_that(different and not isinstance(seeds, str), "seeds", "different integers, at least one", seeds)
    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    shape = (game.num_players, game.num_observations)
    logits = torch.stack([settings.initial_scale * torch.randn(shape, generator=g) for g in generators])
    optimizer = torch.optim.Adam([logits], lr=settings.learning_rate)
    recorded = []
    for update in tqdm(range(settings.updates + 1), desc="tables", disable=HEADLESS or not progress, leave=False):
        logits.grad, rewards = gradient(game, logits, settings, generators)
        if update % settings.record_every == 0 or update == settings.updates:
            recorded.append((torch.tensor(update), logits.detach().clone(), rewards))
        if update < settings.updates:
            optimizer.step()
    return History(*(torch.stack(column) for column in zip(*recorded, strict=True)))
