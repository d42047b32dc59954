"""Any tensor game as a PettingZoo `ParallelEnv`, so that other libraries of multi-agent learning can play it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

try:
    from gymnasium import spaces
    from pettingzoo import ParallelEnv
except ImportError as error:
    raise ImportError("PettingZoo environments need the package pettingzoo: pip install pettingzoo") from error

from aa_core import games
from aa_core.games.base import Game


class TensorGameEnv(ParallelEnv):
    """One game of a batch of one; agents "player_0", "player_1", ...

    Spaces: `Discrete` for index observations and for `num_actions`, else `Box` with the game's `obs_bounds` and
    `action_bounds`. The horizon is a time limit: at the last step every agent is truncated, none is ever terminated.

    Source: the `ParallelEnv` interface of the PettingZoo documentation ("Parallel API").

    Args:
        game: any `Game`.
        name: for the metadata.
    """

    render_mode = None  # there is nothing to see, but vector wrappers such as SuperSuit's ask for it

    def __init__(self, game: Game, name: str) -> None:
        self.game = game
        self.metadata = {"name": name, "render_modes": []}
        self.possible_agents = [f"player_{i}" for i in range(game.num_players)]
        self.agents: list[str] = []
        self._generator: torch.Generator | None = None
        self._state: Any = None
        self.observation_spaces = {agent: _observation_space(game) for agent in self.possible_agents}
        self.action_spaces = {agent: _action_space(game) for agent in self.possible_agents}

    def observation_space(self, agent: str) -> spaces.Space:
        """Of an agent; the same object in every call."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space:
        """Of an agent; the same object in every call."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
        """Start a game; returns observations and (empty) infos by agent. `options` are ignored.

        The same `seed` gives the same game; None goes on with the random numbers of the last game, or starts anywhere
        if there was none.
        """
        if seed is not None:
            self._generator = torch.Generator().manual_seed(int(seed))  # numpy integers too
        elif self._generator is None:
            self._generator = torch.Generator()
            self._generator.seed()
        self.agents = list(self.possible_agents)
        self._state, observations = self.game.reset(1, self._generator)
        return self._by_agent(observations), {agent: {} for agent in self.agents}

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[dict[str, np.ndarray], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Play one step; returns observations, rewards, terminations, truncations and infos, each by agent.

        Raises:
            ValueError: not exactly one action per live agent, or an action outside its space; also after the last step.
        """
        if not self.agents:
            raise ValueError("actions must follow a reset, got actions for a game that has ended or not begun")
        if set(actions) != set(self.agents):
            raise ValueError(f"actions must have the keys {', '.join(self.agents)}, got {', '.join(map(str, actions))}")
        joint = torch.as_tensor(np.stack([actions[agent] for agent in self.agents]))[None]
        self._state, observations, rewards, done = self.game.step(self._state, joint, self._generator)
        ended, agents = bool(done[0]), self.agents
        result = (
            self._by_agent(observations),
            dict(zip(agents, rewards[0].tolist(), strict=True)),
            dict.fromkeys(agents, False),
            dict.fromkeys(agents, ended),
            {agent: {} for agent in agents},
        )
        if ended:
            self.agents = []
        return result

    def _by_agent(self, observations: torch.Tensor) -> dict[str, np.ndarray]:
        # [()] turns the array of a single index into a scalar, which is what a Discrete space holds
        return {agent: view.numpy()[()] for agent, view in zip(self.agents, observations[0], strict=True)}


def parallel_env(name: str, **options: object) -> TensorGameEnv:
    """A game as `games.make` makes it, e.g. `parallel_env("coin", height=5)`; the seed goes to `reset(seed=...)`."""
    return TensorGameEnv(games.make(name, **options), name)


def _observation_space(game: Game) -> spaces.Space:
    if game.num_observations is not None:
        return spaces.Discrete(game.num_observations)
    _, observations = game.reset(1, torch.Generator())  # tells the type of the numbers
    low, high = game.obs_bounds or (-np.inf, np.inf)
    return spaces.Box(low, high, game.obs_shape, observations.numpy().dtype.type)


def _action_space(game: Game) -> spaces.Space:
    if game.num_actions is not None:
        return spaces.Discrete(game.num_actions)
    low, high = game.action_bounds or (-np.inf, np.inf)
    return spaces.Box(low, high, game.action_shape, np.float32)
