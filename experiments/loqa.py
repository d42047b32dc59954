"""LOQA itself, for two players (Aghajohari et al. 2024, arXiv 2405.01035): what Advantage Alignment leaves out of it.

The co-player is taken to act by the softmax of its action values. Those come from a Q network, but for the action that
it took: that one is worth what it got from there on, which the learner's later actions change. To first order, what the
learner gains is the credit of `advantages.aligned_advantages` with `loqa=True` and beta gamma = 1, where that softmax
stands for the co-player's probabilities (AA, Theorem 2), and advantages are errors of V = sum_a pi(a) Q(a).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import huber_loss, pad
from torch.optim import Adam
from tqdm.auto import tqdm

from aa_core import HEADLESS
from aa_core.actor_critic import ActorCritic, Spaces
from aa_core.advantages import CreditRule, discounted_returns, gae
from aa_core.games.base import Game
from aa_core.objectives import policy_gradient_loss
from aa_core.selfplay import OnUpdate, SelfPlay, Trajectory, play, seating, seats_of, step


@dataclass(frozen=True)
class Loqa(SelfPlay):
    """Settings of self-play; those of clipping, of the critic's loss and of games that live on say nothing here."""

    target_decay: float = 0.99  # of the moving average of Q networks that the targets are made of


def action_values(
    minds: Sequence[ActorCritic],
    who: Tensor,
    played: Trajectory,
    network: ActorCritic,
    target: ActorCritic,
    gamma: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the Q network says of all seats, `(games, players, T, ...)`, from what was played.

    Returns its values of the actions taken and the targets for these, V = sum_a pi(a) Q(a) by whose mind sits there,
    and the probability of the action taken if everybody acted by a softmax; the first is differentiable. As network
    serves an actor-critic, whose policy's outputs are read as action values.
    """
    shape, time = who.shape, played.rewards.shape[-1]
    seen = played.seen.at(slice(None), slice(time))
    actions = played.seen.at(slice(None), slice(1, None)).actions[..., None]  # (T, seats, 1)
    rewards = played.rewards.flatten(0, 1).T
    values, later = network.act(seen, None)[0], target.act(seen, None)[0].detach()
    targets = rewards + gamma * pad(later.gather(-1, actions)[1:, :, 0], (0, 0, 0, 1))  # SARSA; nothing after the end
    policy = torch.zeros_like(values)
    with torch.no_grad():
        for index, held in seats_of(who, len(minds)).items():
            policy[:, held] = minds[index].act(played.seen.at(held, slice(time)), None)[0].softmax(-1)
        state_values = (policy * values).sum(-1)
        returns = discounted_returns(rewards.T, gamma).T
        softmax = values.scatter(-1, actions, returns[..., None]).softmax(-1).gather(-1, actions)[..., 0]
    taken = values.gather(-1, actions)[..., 0]
    return tuple(x.T.unflatten(0, shape) for x in (taken, targets, state_values, softmax))  # type: ignore[return-value]


def loqa_loss(
    minds: Sequence[ActorCritic], who: Tensor, played: Trajectory, networks: tuple[ActorCritic, ActorCritic],
    settings: Loqa, credit: CreditRule,
) -> Tensor:  # fmt: skip
    """Loss of the first mind, with that of the Q network, the first of `networks`; the other is its moving average."""
    time = played.rewards.shape[-1]
    taken, targets, values, softmax = action_values(minds, who, played, *networks, settings.gamma)
    advantages = gae(played.rewards, pad(values, (0, 1)), settings.gamma, settings.lam)
    if settings.normalise:
        advantages = (advantages - advantages.mean()) / advantages.std(correction=0).clamp(min=1e-6)
    own = seats_of(who, len(minds))[0]
    outputs, _ = minds[0].act(played.seen.at(own, slice(time)), None)
    actions = played.seen.at(own, slice(1, None)).actions
    credits = credit(advantages, softmax).flatten(0, 1)[own].T
    loss = policy_gradient_loss(minds[0].spaces.log_probs(outputs, actions), credits)
    loss = loss - settings.entropy * minds[0].spaces.entropies(outputs, actions).mean()
    return loss + huber_loss(taken.flatten(0, 1)[own], targets.flatten(0, 1)[own])


def train(
    game: Game, settings: Loqa, credit: CreditRule, seed: int, on_update: OnUpdate = None, progress: bool = True
) -> ActorCritic:
    """Train one agent by self-play against itself and its past; arguments as of `selfplay.train`.

    ValueError if the game has not two players, or no discrete actions.
    """
    if game.num_players != 2 or game.num_actions is None:
        raise ValueError(f"game must have two players and discrete actions, got {game!r}")
    who, buffer = seating(game, settings), settings.buffer
    generator = torch.Generator().manual_seed(seed)
    mind, network = (ActorCritic(Spaces.of(game), settings.network, generator) for _ in range(2))
    target = deepcopy(network)
    rates = ((mind, settings.learning_rate), (network, settings.critic_learning_rate))
    optimizer = Adam([{"params": [*part.parameters()], "lr": rate} for part, rate in rates], fused=True)
    snapshots: deque[dict[str, Tensor]] = deque(maxlen=buffer.capacity if buffer else 0)
    past = [deepcopy(mind) for _ in range(buffer.drawn if buffer else 0)]
    for number in tqdm(range(settings.updates), disable=HEADLESS or not progress, leave=False):
        if past:
            if number % buffer.every == 0 and (buffer.until is None or number < buffer.until):
                snapshots.append(deepcopy(mind.state_dict()))
            for one, drawn in zip(past, torch.randint(len(snapshots), (len(past),), generator=generator), strict=True):
                one.load_state_dict(snapshots[drawn])
        played = play(game, [mind, *past], who, generator)
        if on_update is not None and on_update(number, mind, played):
            break
        loqa_loss([mind, *past], who, played, (network, target), settings, credit).backward()
        step(optimizer, settings.max_gradient_norm)
        for kept, new in zip(target.parameters(), network.parameters(), strict=True):
            kept.data.lerp_(new.data, 1 - settings.target_decay)
    return mind
