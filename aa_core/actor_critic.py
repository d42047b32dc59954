"""Recurrent actor-critics: networks that see, remember, act and value, and the files that hold them.

One network holds any number of seats of any number of games, its rows. The policy is categorical or, for actions within
bounds, a squashed Gaussian: bounds are reached by tanh and a stretch of what a Gaussian draws. Here and in `selfplay`
"actions" are what was drawn, that is before squashing; `to_game` gives what the game is told.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.distributions import AffineTransform, Categorical, ComposeTransform, Normal, TanhTransform
from torch.nn.functional import one_hot, relu

from aa_core.checks import check, check_fields
from aa_core.files import write_whole
from aa_core.games.base import Game


@dataclass(frozen=True)
class Network:
    """What an actor-critic is made of: [convolution ->] dense -> GRU -> linear."""

    hidden: int = 64  # width of the dense layer and of the GRU
    filters: int | None = None  # of a 3 x 3 convolution of observations (channels, rows, columns); None: there is none
    feedback: bool = False  # the GRU also sees the last action and the last reward
    shared: bool = False  # policy and value are two heads of one trunk; otherwise each has a trunk of its own

    def __post_init__(self) -> None:
        check_fields(self)


class Seen(NamedTuple):
    """What T steps of R rows are decided by."""

    observations: Tensor  # (T, R, *obs_shape)
    actions: Tensor  # (T, R), or (T, R, items), of the step before; 0 before the first one
    rewards: Tensor  # (T, R) of the step before

    def at(self, rows: Tensor | slice, steps: slice = slice(None)) -> Seen:
        """From `(T, games, players, ...)` the seats that `rows` counts, game by game, as rows."""
        return Seen(*(x[steps].flatten(1, 2)[:, rows] for x in self))


class Trunk(nn.Module):
    """[Convolution ->] dense -> ReLU -> GRU."""

    def __init__(self, network: Network, obs_shape: tuple[int, ...], feedback: int) -> None:
        super().__init__()
        inputs, self.convolution = math.prod(obs_shape), None
        if network.filters is not None:
            channels, rows, columns = obs_shape
            self.convolution = nn.Conv2d(channels, network.filters, 3)
            inputs = network.filters * (rows - 2) * (columns - 2)
        self.dense = nn.Linear(inputs, network.hidden)
        self.memory = nn.GRU(network.hidden + feedback, network.hidden)

    def forward(self, observations: Tensor, feedback: Tensor | None, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """Remembered `(T, R, H)` and the last hidden state `(R, H)`, after T steps from `hidden` (None: zeros)."""
        time, rows = observations.shape[:2]
        if observations.dim() == 2:  # of one index each
            observations = one_hot(observations, self.dense.in_features)
        x = observations.flatten(0, 1).to(self.dense.weight)
        if self.convolution is not None:
            x = relu(self.convolution(x))
        x = relu(self.dense(x.flatten(1)))
        if feedback is not None:
            x = torch.cat([x, feedback.flatten(0, 1)], 1)
        if hidden is None:
            hidden = x.new_zeros(rows, self.memory.hidden_size)
        if time == 1:  # as below, without what a sequence costs
            hidden = torch.gru_cell(x, hidden, *self.memory.parameters())
            return hidden[None], hidden
        remembered, hidden = self.memory(x.unflatten(0, (time, rows)), hidden[None])
        return remembered, hidden[0]


@dataclass(frozen=True)
class Spaces:
    """What a policy has to know of its game."""

    obs_shape: tuple[int, ...]
    choices: int  # number of actions, or of the reals that one action is made of
    bounds: tuple[float, float] | None  # of those reals; None: one of a number of actions

    @staticmethod
    def of(game: Game) -> Spaces:
        """Those of a game; an observation that is one index is seen as a one-hot vector."""
        check(game=game)
        obs_shape = tuple(game.obs_shape) or (game.num_observations,)
        if game.num_actions is not None:
            return Spaces(obs_shape, game.num_actions, None)
        return Spaces(obs_shape, math.prod(game.action_shape), tuple(game.action_bounds))  # type: ignore[arg-type]

    def draw(self, outputs: Tensor, generator: Generator | None) -> Tensor:
        """Actions `(...)`, or `(..., items)` before squashing, from a policy's outputs."""
        if self.bounds is None:  # the largest of logits and Gumbel noise
            return (outputs - torch.empty_like(outputs).exponential_(generator=generator).log_()).argmax(-1)
        gaussian, _ = self._squashed(outputs)
        return gaussian.mean + gaussian.stddev * torch.randn(gaussian.mean.shape, generator=generator)

    def to_game(self, actions: Tensor) -> Tensor:
        """What the game is told, within its bounds."""
        return actions if self.bounds is None else self._squash(actions).clamp(*self.bounds)

    def log_probs(self, outputs: Tensor, actions: Tensor) -> Tensor:
        """log pi `(...)` of actions; of squashed ones the log density of what the game is told."""
        if self.bounds is None:
            return Categorical(logits=outputs, validate_args=False).log_prob(actions)
        gaussian, squash = self._squashed(outputs)
        return (gaussian.log_prob(actions) - squash.log_abs_det_jacobian(actions, squash(actions))).sum(-1)

    def entropies(self, outputs: Tensor, actions: Tensor) -> Tensor:
        """Entropy `(...)` in nats; of a squashed Gaussian by one sample, the taken action as a function of its noise.

        (-log pi of the taken action would be an estimate too, but at a fixed action its gradient has mean 0.)
        """
        if self.bounds is None:
            return Categorical(logits=outputs, validate_args=False).entropy()
        gaussian, squash = self._squashed(outputs)
        noise = ((actions - gaussian.mean) / gaussian.stddev).detach()
        drawn = gaussian.mean + gaussian.stddev * noise
        return (gaussian.entropy() + squash.log_abs_det_jacobian(drawn, squash(drawn))).sum(-1)

    @property
    def _squash(self) -> ComposeTransform:
        low, high = self.bounds
        return ComposeTransform([TanhTransform(), AffineTransform((high + low) / 2, (high - low) / 2)])

    def _squashed(self, outputs: Tensor) -> tuple[Normal, ComposeTransform]:
        """What is drawn and what becomes of it; ranges of mean and deviation as in the AA repository."""
        mean, log_std = outputs.chunk(2, -1)
        return Normal(2.0 * mean.tanh(), log_std.clamp(-2.0, 10.0).exp(), validate_args=False), self._squash


class ActorCritic(nn.Module):
    """Policy and value of a seat, with memory.

    The first weights, by the generator, are uniform(+-1/sqrt(inputs)) as in torch.nn, the policy's head a tenth of it.
    """

    def __init__(self, spaces: Spaces, network: Network, generator: Generator | None = None) -> None:
        super().__init__()
        check(spaces=spaces, network=network, generator=generator)
        self.spaces, self.network = spaces, network
        feedback = spaces.choices + 1 if network.feedback else 0
        with torch.random.fork_rng(devices=[]):  # torch.nn draws weights of its own
            self.actor = Trunk(network, spaces.obs_shape, feedback)
            self.policy = nn.Linear(network.hidden, spaces.choices)
            self.critic = None if network.shared else Trunk(network, spaces.obs_shape, feedback)
            self.value = nn.Linear(network.hidden, 1)
            for name, weight in self.named_parameters():
                inputs = network.hidden if weight.dim() < 2 else weight[0].numel()
                scale = (0.1 if name.startswith("policy") else 1.0) / math.sqrt(inputs)
                nn.init.uniform_(weight, -scale, scale, generator=generator)
        self.log_std = None if spaces.bounds is None else nn.Parameter(torch.zeros(spaces.choices))

    def parts(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Parameters of the actor, with a shared trunk, and those of the critic."""
        parts: tuple[list[nn.Parameter], list[nn.Parameter]] = [], []
        for name, weight in self.named_parameters():
            parts[name.startswith(("critic", "value"))].append(weight)
        return parts

    def _remembered(self, trunk: Trunk, seen: Seen, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        feedback = None
        if self.network.feedback:
            actions = one_hot(seen.actions, self.spaces.choices) if self.spaces.bounds is None else seen.actions
            feedback = torch.cat([actions.float(), seen.rewards[..., None]], -1)
        return trunk(seen.observations, feedback, hidden)

    def _outputs(self, remembered: Tensor) -> Tensor:
        outputs = self.policy(remembered)
        return outputs if self.log_std is None else torch.cat([outputs, self.log_std.expand_as(outputs)], -1)

    def act(self, seen: Seen, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """Outputs `(T, R, outputs)` of the policy, for `Spaces.draw`, and the last hidden state `(R, H)`."""
        remembered, hidden = self._remembered(self.actor, seen, hidden)
        return self._outputs(remembered), hidden

    def values(self, seen: Seen) -> Tensor:
        """Values `(T, R)`, from a hidden state of zeros."""
        return self.value(self._remembered(self.critic or self.actor, seen, None)[0])[..., 0]

    def forward(self, seen: Seen, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Outputs `(T, R, outputs)` and values `(T, R)`, after the actor's `hidden` `(R, H)`; a critic from 0."""
        if self.critic is not None:
            return self.act(seen, hidden)[0], self.values(seen)
        remembered, _ = self._remembered(self.actor, seen, hidden)
        return self._outputs(remembered), self.value(remembered)[..., 0]


def save(mind: ActorCritic, path: Path) -> None:
    """Write an actor-critic as safetensors with its settings as metadata; the old file or the new one, never half."""
    from safetensors.torch import save_file

    check(mind=mind, path=path)
    settings = json.dumps({"spaces": asdict(mind.spaces), "network": asdict(mind.network)})
    write_whole(path, lambda partial: save_file(mind.state_dict(), partial, {"actor_critic": settings}))


def load(path: Path) -> ActorCritic:
    """Read an actor-critic that `save` has written; ValueError for any other file, and for one that is cut."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    check(path=path)
    try:
        with safe_open(path, framework="pt") as file:
            settings = json.loads(file.metadata()["actor_critic"])
        spaces = {name: tuple(x) if isinstance(x, list) else x for name, x in settings["spaces"].items()}
        mind = ActorCritic(Spaces(**spaces), Network(**settings["network"]))  # type: ignore[arg-type]
        mind.load_state_dict(load_file(path))
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"path must hold a whole agent: restore or train {path} again ({error})") from error
    return mind
