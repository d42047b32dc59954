"""Whole games between players with fixed rules, as a plain loop."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from aa_core.games import Game, Script


def play_scripts(game: Game, scripts: Sequence[Script], batch: int, generator: Generator) -> Tensor:
    """Rewards `(batch, players, time)` of games in which every seat has a script."""
    state, observations = game.reset(batch, generator)
    rewards = []
    for _ in range(game.horizon):
        actions = [script(game, observations[:, seat], generator) for seat, script in enumerate(scripts)]
        state, observations, earned, _ = game.step(state, torch.stack(actions, 1), generator)
        rewards.append(earned)
    return torch.stack(rewards, -1)
