"""Sampled self-play of tabular policies: many seeds in one batch, every algorithm by one switch.

Two independent learners per seed start near 1/2 and play `games` repeated games per update. Advantages are returns
minus the leave-one-out group baseline; the algorithms differ only in the credit that multiplies grad log pi:

| algorithm | credit of player 1 at step t |
|---|---|
| naive | A1_t |
| sum_of_rewards | A1_t + A2_t |
| advantage_alignment | A1_t + beta gamma (sum_{k<t} gamma^(t-k) A1_k) A2_t |
| loqa | the same with each A1_k multiplied by 1 - pi2(b_k given s_k) (AA, Theorem 2) |
| lola_dice | none: V1 after one gradient step of the co-player is differentiated through DiCE |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from tqdm.auto import tqdm

from aa_core.advantages import aligned_advantages, discounted_returns, group_baseline, group_relative_advantages
from aa_core.checks import check_choice, check_positive, check_unit_interval
from aa_core.games.base import Game
from aa_core.objectives import dice_objective, policy_gradient_loss
from aa_core.paths import HEADLESS

ALGORITHMS = ("naive", "sum_of_rewards", "lola_dice", "loqa", "advantage_alignment")


@dataclass(frozen=True)
class SelfPlay:
    """Settings of a self-play run."""

    algorithm: str = "advantage_alignment"  # one of ALGORITHMS
    updates: int = 300
    games: int = 128  # per seed and update
    learning_rate: float = 0.03  # of Adam
    gamma: float = 0.9  # discount of returns and of the alignment term
    beta: float = 0.1  # strength of shaping (advantage_alignment, loqa)
    include_current: bool = False  # just-in-time alignment
    inner_learning_rate: float = 0.3  # the co-player's step (lola_dice)
    initial_scale: float = 0.1  # standard deviation of the first logits
    record_every: int = 10  # updates between two points of the history

    def __post_init__(self) -> None:
        check_choice("algorithm", self.algorithm, ALGORITHMS)
        check_unit_interval("gamma", self.gamma)
        for name in ("updates", "games", "record_every"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        for name in ("learning_rate", "inner_learning_rate"):
            check_positive(name, getattr(self, name))
        for name in ("beta", "initial_scale"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0, got {getattr(self, name)!r}")


class History(NamedTuple):
    """What a run leaves behind, at K recorded updates."""

    updates: Tensor  # (K,)
    logits: Tensor  # (K, seeds, players, 5) of cooperation
    rewards: Tensor  # (K, seeds, players) mean per round, of the games that the recorded update was computed from


class Trajectories(NamedTuple):
    """Games of a batch, time last (observations have their own axes after it)."""

    observations: Tensor  # (batch, players, time, *obs_shape)
    actions: Tensor  # (batch, players, time)
    rewards: Tensor  # (batch, players, time)


@torch.no_grad()
def rollout(
    game: Game, act: Callable[[Tensor, int], Tensor], batch: int, generator: Generator | None = None
) -> Trajectories:
    """Play `batch` games to their horizon.

    Args:
        game: any `Game`.
        act: (observations `(batch, players, *obs_shape)`, time) -> actions `(batch, players)`.
        batch: number of games.
        generator: for the game's own randomness.
    """
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


def tabular_log_prob(logits: Tensor, observations: Tensor, actions: Tensor) -> Tensor:
    """log pi(a_t|s_t) `(S, P, N, T)` of tables `(S, P, 5)` at states and actions `(S, P, N, T)`."""
    table = torch.nn.functional.logsigmoid(torch.stack([logits, -logits], -1)).flatten(-2)  # (S, P, 10)
    return table.gather(-1, (2 * observations + actions).flatten(2)).view(actions.shape)


def _play(game: Game, logits: Tensor, games: int, generators: Sequence[Generator]) -> Trajectories:
    """`games` games per seed, `(S, P, N, T)`; seed s draws from generators[s] only."""
    seeds, players, states = logits.shape
    noise = torch.stack([torch.rand(game.horizon, games, players, generator=g) for g in generators], 1)
    noise = noise.flatten(1, 2)  # (T, batch, P)
    table = logits.detach().sigmoid().flatten()
    offsets = states * torch.arange(seeds * players).view(seeds, players).repeat_interleave(games, 0)  # (batch, P)

    def act(observation: Tensor, time: int) -> Tensor:
        return (noise[time] >= table[offsets + observation]).long()

    played = rollout(game, act, seeds * games)
    return Trajectories(*(x.unflatten(0, (seeds, games)).transpose(1, 2).contiguous() for x in played))


def _group_relative(rewards: Tensor, gamma: float) -> Tensor:
    """Group-relative advantages of rewards `(S, P, N, T)`: a group is the games of one seed and one seat."""
    groups = torch.arange(rewards.shape[0] * rewards.shape[1]).repeat_interleave(rewards.shape[2])
    return group_relative_advantages(rewards.flatten(0, 2), gamma, groups).view_as(rewards)


def credits(settings: SelfPlay, advantages: Tensor, taken_probabilities: Tensor) -> Tensor:
    """Credit of every player and step by algorithm, divided by its standard deviation over games and time.

    Args:
        settings: which algorithm.
        advantages: `(S, 2, N, T)`.
        taken_probabilities: pi(a_t|s_t) of each player's taken action, same shape.
    """
    other = advantages.flip(1)
    if settings.algorithm == "naive":
        credit = advantages
    elif settings.algorithm == "sum_of_rewards":
        credit = advantages + other
    else:
        past_factor = 1 - taken_probabilities.flip(1) if settings.algorithm == "loqa" else None
        credit = aligned_advantages(
            advantages, other, settings.beta, settings.gamma, settings.include_current, past_factor
        )
    deviation = (credit - credit.mean((2, 3), keepdim=True)).square().mean((2, 3), keepdim=True).sqrt()
    return credit / deviation.clamp(min=1e-6)


def _surrogate_gradient(game: Game, logits: Tensor, settings: SelfPlay, generators: Sequence[Generator]):
    """Gradient of the loss `(S, P, 5)` and mean rewards `(S, P)` of one batch of games."""
    played = _play(game, logits, settings.games, generators)
    logits = logits.detach().requires_grad_()
    log_probs = tabular_log_prob(logits, played.observations, played.actions)
    credit = credits(settings, _group_relative(played.rewards, settings.gamma), log_probs.detach().exp())
    loss = policy_gradient_loss(log_probs, credit) * logits.shape[0] * logits.shape[1]  # a mean per seed and player
    return torch.autograd.grad(loss, logits)[0], played.rewards.mean((2, 3))


def _lola_dice_gradient(game: Game, logits: Tensor, settings: SelfPlay, generators: Sequence[Generator]):
    """LOLA-DiCE with one inner step, for both players at once; see `_surrogate_gradient`."""

    def objective(first: Tensor, second: Tensor, player: int) -> tuple[Tensor, Tensor]:
        tables = torch.stack([first, second], 1)
        played = _play(game, tables, settings.games, generators)
        log_probs = tabular_log_prob(tables, played.observations, played.actions).sum(1)
        rewards = played.rewards[:, player]
        returns = discounted_returns(rewards, settings.gamma)
        groups = torch.arange(len(rewards)).repeat_interleave(settings.games)
        baseline = group_baseline(returns.flatten(0, 1), groups).view_as(rewards)
        value = dice_objective(log_probs, rewards, baseline, settings.gamma).mean(1)  # (S,)
        return value.sum(), played.rewards.mean((2, 3))

    gradients, mean_rewards = [], None
    for player in (0, 1):
        own = logits[:, player].detach().requires_grad_()
        other = logits[:, 1 - player].detach().requires_grad_()
        seats = (lambda x, y: (x, y)) if player == 0 else (lambda x, y: (y, x))
        co_value, rewards = objective(*seats(own, other), 1 - player)
        step = torch.autograd.grad(co_value, other, create_graph=True)[0]
        value, _ = objective(*seats(own, other + settings.inner_learning_rate * step), player)
        gradients.append(-torch.autograd.grad(value, own)[0])
        mean_rewards = rewards if mean_rewards is None else mean_rewards
    return torch.stack(gradients, 1), mean_rewards


def train(
    game: Game, settings: SelfPlay, seeds: Sequence[int], progress: bool = True, initial: Tensor | None = None
) -> History:
    """Train two independent tabular learners per seed with Adam.

    Args:
        game: a two-player game with two actions, whose observations are indices.
        settings: algorithm and hyperparameters.
        seeds: one integer per independent run; a seed's random numbers do not depend on the other seeds.
        progress: show a progress bar.
        initial: first logits `(seeds, 2, 5)`; None draws them from N(0, initial_scale^2).
    """
    if len(seeds) == 0 or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds must be different integers, at least one, got {list(seeds)!r}")
    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    shape = (game.num_players, game.num_observations)
    logits = torch.stack([settings.initial_scale * torch.randn(shape, generator=g) for g in generators])
    if initial is not None:
        if initial.shape != logits.shape:
            raise ValueError(f"initial must have shape {tuple(logits.shape)}, got {tuple(initial.shape)}")
        logits = initial.float().clone()
    gradient = _lola_dice_gradient if settings.algorithm == "lola_dice" else _surrogate_gradient
    optimizer = torch.optim.Adam([logits], lr=settings.learning_rate)
    recorded = []
    for update in tqdm(
        range(settings.updates + 1), desc=settings.algorithm, disable=HEADLESS or not progress, leave=False
    ):
        logits.grad, rewards = gradient(game, logits, settings, generators)
        if update % settings.record_every == 0 or update == settings.updates:
            recorded.append((torch.tensor(update), logits.detach().clone(), rewards))
        if update < settings.updates:
            optimizer.step()
    return History(*(torch.stack(column) for column in zip(*recorded, strict=True)))
