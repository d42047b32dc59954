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
from aa_core.checks import check, check_choice, check_that
from aa_core.games.base import Game


class TensorGameEnv(ParallelEnv):
    """One game of a batch of one, called `name` in the metadata; agents "player_0", "player_1", ...

    Spaces: `Discrete` for index observations and for `num_actions`, else `Box` with the game's `obs_bounds` and
    `action_bounds`. The horizon is a time limit: at the last step every agent is truncated, none is ever terminated.
    Source: the `ParallelEnv` interface of the PettingZoo documentation ("Parallel API").
    """

    render_mode = None  # there is nothing to see, but vector wrappers such as SuperSuit's ask for it

    def __init__(self, game: Game, name: str) -> None:
        check(game=game, name=name)
        self.game = game
        self.metadata = {"name": name, "render_modes": []}
        self.possible_agents = [f"player_{i}" for i in range(game.num_players)]
        self.agents: list[str] = []
        self._generator: torch.Generator | None = None
        self._state: Any = None
        dtype = game.reset(1, torch.Generator())[1].numpy().dtype  # of observations
        observed = game.num_observations, game.obs_bounds, game.obs_shape, dtype
        acted = game.num_actions, game.action_bounds, game.action_shape, np.float32
        self.observation_spaces = {agent: _space(*observed) for agent in self.possible_agents}
        self.action_spaces = {agent: _space(*acted) for agent in self.possible_agents}

    def observation_space(self, agent: str) -> spaces.Space:
        """Of an agent; the same object in every call."""
        check_choice("agent", agent, self.possible_agents)
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space:
        """Of an agent; the same object in every call."""
        check_choice("agent", agent, self.possible_agents)
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict[str, np.ndarray], dict]:
        """Start a game; returns observations and (empty) infos by agent. `options` are ignored.

        The same `seed` gives the same game; None goes on with the last game's random numbers, or starts anywhere.
        """
        if seed is not None:
            check(seed=seed)
            check_that(seed < 2**64, "seed", "below 2^64", seed)
            self._generator = torch.Generator().manual_seed(int(seed))  # numpy integers too
        elif self._generator is None:
            self._generator = torch.Generator()
            self._generator.seed()
        self.agents = list(self.possible_agents)
        self._state, observations = self.game.reset(1, self._generator)
        return self._by_agent(observations), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        """Play one step; returns observations, rewards, terminations, truncations and infos, each by agent.

        Raises ValueError for not exactly one action per live agent, or one outside its space; also after the last step.
        """
        check_that(self.agents, "actions", "taken after a reset: the game has ended or not begun", actions)
        fits = isinstance(actions, dict) and set(actions) == set(self.agents)
        check_that(fits, "actions", f"a dict with the keys {', '.join(self.agents)}", actions)
        try:
            joint = torch.as_tensor(np.stack([actions[agent] for agent in self.agents]))[None]
        except (TypeError, ValueError):
            raise ValueError(f"actions must be numbers, alike for all agents, got {actions!r}") from None
        self._state, observations, rewards, done = self.game.step(self._state, joint, self._generator)
        agents, ended = self.agents, bool(done[0])
        seen, earned = self._by_agent(observations), dict(zip(agents, rewards[0].tolist(), strict=True))
        self.agents = [] if ended else agents
        return seen, earned, dict.fromkeys(agents, False), dict.fromkeys(agents, ended), {agent: {} for agent in agents}

    def _by_agent(self, observations: torch.Tensor) -> dict[str, np.ndarray]:
        # [()] turns the array of a single index into a scalar, which is what a Discrete space holds
        return {agent: view.numpy()[()] for agent, view in zip(self.agents, observations[0], strict=True)}


def parallel_env(name: str, **options: object) -> TensorGameEnv:
    """A game as `games.make` makes it, e.g. `parallel_env("coin", height=5)`; the seed goes to `reset(seed=...)`."""
    return TensorGameEnv(games.make(name, **options), name)


def _space(number: int | None, bounds: tuple | None, shape: tuple[int, ...], dtype: Any) -> spaces.Space:
    return spaces.Box(*bounds, shape, dtype) if number is None else spaces.Discrete(number)
