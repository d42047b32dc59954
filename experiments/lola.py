"""LOLA-DiCE for recurrent actor-critics (Foerster et al. 2018, arXiv 1709.04326 and 1802.05098).

Not a credit rule: the co-player, a copy of the learner, takes one step of policy gradient on its own value, and the
learner's value after that step is differentiated through it, both by the DiCE estimate on games of their own.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor
from torch.func import functional_call
from torch.nn.functional import huber_loss
from tqdm.auto import tqdm

from aa_core import HEADLESS
from aa_core.actor_critic import ActorCritic, Network, Spaces
from aa_core.advantages import discounted_returns
from aa_core.games.base import Game
from aa_core.objectives import dice_objective
from aa_core.selfplay import OnUpdate, Trajectory, adam, play, step


@dataclass(frozen=True)
class Lola:
    """Settings of LOLA-DiCE; those that `selfplay.SelfPlay` has too mean the same."""

    network: Network = field(default_factory=Network)
    updates: int = 400
    games: int = 128  # for each of the two values of an update
    gamma: float = 0.96
    entropy: float = 0.02
    learning_rate: float = 5e-3
    critic_learning_rate: float = 3e-3
    max_gradient_norm: float = 1.0
    inner_learning_rate: float = 0.1  # of the co-player's step


def dice_value(
    game: Game, mind: ActorCritic, other: dict[str, Tensor], player: int, settings: Lola, generator: Generator
) -> tuple[Tensor, Tensor, Tensor, Trajectory]:
    """Play the mind, in the first seat, against itself with the actor's parameters `other`.

    Returns the DiCE value of `player`, differentiable by both actors' parameters, the first seat's entropy per step,
    the critic's values `(games, 2, T)`, and what was played.
    """
    copy = deepcopy(mind)
    copy.load_state_dict(mind.state_dict() | {name: x.detach() for name, x in other.items()})
    played = play(game, [mind, copy], torch.tensor([[0, 1]]).repeat(settings.games, 1), generator)
    log_probs, entropies, values = [], [], []
    for seat, parameters in enumerate(({}, other)):
        seats = slice(seat, None, 2)
        outputs, value = functional_call(mind, parameters, (played.seen.at(seats, slice(-1)),))
        actions = played.seen.at(seats, slice(1, None)).actions
        log_probs.append(mind.spaces.log_probs(outputs, actions).T)
        entropies.append(mind.spaces.entropies(outputs, actions).mean())
        values.append(value.T)
    baseline = values[player].detach()
    value = dice_objective(log_probs[0] + log_probs[1], played.rewards[:, player], baseline, settings.gamma).mean()
    return value, entropies[0], torch.stack(values, 1), played


def lola_loss(game: Game, mind: ActorCritic, settings: Lola, generator: Generator) -> tuple[Tensor, Trajectory]:
    """Loss of one update, and the games of the co-player's step, before which the two are the same.

    The value is a sum over steps, so that it is divided by the horizon: the entropy bonus is per step.
    """
    actor = {name: x for name, x in mind.named_parameters() if not name.startswith(("critic", "value"))}
    other = {name: x.detach().clone().requires_grad_() for name, x in actor.items()}
    co_value, entropy, values, played = dice_value(game, mind, other, 1, settings, generator)
    gradients = torch.autograd.grad(co_value, [*other.values()], create_graph=True)
    rate = settings.inner_learning_rate
    moved = {name: other[name] + rate * gradient for name, gradient in zip(other, gradients, strict=True)}
    value = dice_value(game, mind, moved, 0, settings, generator)[0]
    critic_loss = huber_loss(values, discounted_returns(played.rewards, settings.gamma))
    return critic_loss - value / game.horizon - settings.entropy * entropy, played


def train(game: Game, settings: Lola, seed: int, on_update: OnUpdate = None, progress: bool = True) -> ActorCritic:
    """Train one agent; arguments as of `selfplay.train`. ValueError if the game has not two players."""
    if game.num_players != 2:
        raise ValueError(f"game must have two players, got {game.num_players}")
    generator = torch.Generator().manual_seed(seed)
    mind = ActorCritic(Spaces.of(game), settings.network, generator)
    optimizer = adam(mind, settings.learning_rate, settings.critic_learning_rate)
    for number in tqdm(range(settings.updates), disable=HEADLESS or not progress, leave=False):
        loss, played = lola_loss(game, mind, settings, generator)
        if on_update is not None and on_update(number, mind, played):
            break
        loss.backward()
        step(optimizer, settings.max_gradient_norm)
    return mind
