"""The one interface that every game has: batched tensors, all players on one axis. And that of scripted players."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Generator, Tensor

from aa_core.checks import check, check_that

Step = tuple[Any, Tensor, Tensor, Tensor]  # state, observations, rewards, done


class Game(Protocol):
    """A batch of independent games, advanced together.

    `state` is a small dataclass of tensors and `time`, the number of steps played; it can be copied, so that a game can
    be branched. All randomness comes from the generator that is passed in.
    """

    @property
    def num_players(self) -> int: ...
    @property
    def num_actions(self) -> int | None: ...  # None: they are continuous
    @property
    def action_shape(self) -> tuple[int, ...]: ...  # axes of one player's action; () if discrete
    @property
    def action_bounds(self) -> tuple[float, float] | None: ...  # of a continuous action's numbers
    @property
    def obs_shape(self) -> tuple[int, ...]: ...  # axes of one player's observation; () if it is one index
    @property
    def obs_bounds(self) -> tuple[float, float] | None: ...  # of its numbers; None if it is one index
    @property
    def num_observations(self) -> int | None: ...  # of those that are one index; None if they are arrays
    @property
    def horizon(self) -> int: ...  # steps of a game

    def reset(self, batch: int, generator: Generator | None = None) -> tuple[Any, Tensor]:
        """Start `batch` games; returns the state and observations `(batch, players, *obs_shape)`."""

    def step(self, state: Any, actions: Tensor, generator: Generator | None = None) -> Step:
        """Play one step with actions `(batch, players)`, integers, or `(batch, players, *action_shape)`, reals.

        Returns the next state (the old one is not changed), observations `(batch, players, *obs_shape)`, rewards
        `(batch, players)` in float32 and `done` `(batch,)`. ValueError after the horizon, or if `actions` do not fit.
        """


Script = Callable[[Any, Tensor, Generator | None], Tensor]
"""A player with fixed rules: (game, observations `(..., *obs_shape)` of any seats, generator) -> actions `(...)`,
or `(..., *action_shape)`. It raises ValueError if the observations do not end in the game's `obs_shape`."""


def check_step(game: Game, state: Any, actions: Tensor) -> None:
    """Raise ValueError unless `state` is before the horizon and `actions` are those of all players in its games."""
    check(game=game, state=state)
    time, batch = state.time, len(next(iter(vars(state).values())))
    check_that(time < game.horizon, "state", f"before the horizon {game.horizon}; reset the game", time)
    shape, discrete = (batch, game.num_players, *game.action_shape), game.num_actions is not None
    fits = isinstance(actions, Tensor) and actions.shape == shape and actions.is_floating_point() != discrete
    check_that(fits, "actions", f"{'integers' if discrete else 'reals'} of shape {shape}", actions)
    low, high = game.action_bounds or (0, (game.num_actions or 1) - 1)
    least, most = (number.item() for number in torch.aminmax(actions))
    inside = least >= low and most <= high  # so that NaN is refused too
    check_that(inside, "actions", f"within {low:g} to {high:g}", f"{least:g} to {most:g}")


def leading_shape(game: Game, observations: Tensor) -> torch.Size:
    """The axes before an observation's own; raises ValueError if `observations` does not end in `game.obs_shape`."""
    check(game=game)
    own = len(game.obs_shape)
    fits = isinstance(observations, Tensor) and observations.shape[observations.dim() - own :] == game.obs_shape
    check_that(fits, "observations", f"(..., {', '.join(map(str, game.obs_shape))}) of the game", observations)
    return observations.shape[: observations.dim() - own]


def random_player(game: Game, observations: Tensor, generator: Generator | None = None) -> Tensor:
    """Uniformly random actions, a `Script` for every game."""
    lead = leading_shape(game, observations)
    if game.num_actions is not None:
        return torch.randint(game.num_actions, lead, generator=generator)
    low, high = game.action_bounds or (0.0, 1.0)
    return low + (high - low) * torch.rand(*lead, *game.action_shape, generator=generator)
