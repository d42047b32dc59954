"""The one interface that every game has: batched tensors, all players on one axis."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Generator, Tensor


class Game(Protocol):
    """A batch of independent games, advanced together.

    `state` is a small dataclass of tensors that can be copied, so that a game can be branched. All randomness comes
    from the generator that is passed in.
    """

    num_players: int
    num_actions: int | None  # None: continuous actions
    obs_shape: tuple[int, ...]  # () if an observation is one index, below `num_observations`
    horizon: int

    def reset(self, batch: int, generator: Generator | None = None) -> tuple[Any, Tensor]:
        """Start `batch` games; returns the state and observations `(batch, players, *obs_shape)`."""
        ...

    def step(
        self, state: Any, actions: Tensor, generator: Generator | None = None
    ) -> tuple[Any, Tensor, Tensor, Tensor]:
        """Play one step.

        Args:
            state: as returned by `reset` or `step`; it is not changed.
            actions: `(batch, players)` integers, or `(batch, players, size)` reals.
            generator: source of randomness of the game.

        Returns:
            The next state, observations `(batch, players, *obs_shape)`, rewards `(batch, players)` and `done`
            `(batch,)`.
        """
        ...


def check_actions(actions: Tensor, batch: int, players: int, num_actions: int) -> None:
    """Raise ValueError unless `actions` is a `(batch, players)` integer tensor with entries below `num_actions`."""
    if not isinstance(actions, Tensor) or actions.shape != (batch, players) or actions.is_floating_point():
        came = f"{actions.dtype} {tuple(actions.shape)}" if isinstance(actions, Tensor) else type(actions).__name__
        raise ValueError(f"actions must be integers of shape ({batch}, {players}), got {came}")
    low, high = torch.aminmax(actions)
    if low < 0 or high >= num_actions:
        raise ValueError(f"actions must lie in 0..{num_actions - 1}, got values from {int(low)} to {int(high)}")
