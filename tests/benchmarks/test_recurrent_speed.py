"""Game steps per second of random play and of Advantage Alignment's updates, on the threads torch has.

A game step moves both players; an update plays a batch of games and trains actor and critic on both seats once.
"""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from aa_core import games
from aa_core.games.coin import random_moves
from aa_core.recurrent import Learner, Recurrent, Seats, initial_policies

# multiply-adds of a row and step in units of one forward pass: actor 1 (roll-out) + 2 (backward), critic 1 + 2
PASSES = 6


def test_random_play(benchmark: BenchmarkFixture) -> None:
    game, batch = games.make("coin"), 4096

    def rollout() -> None:
        generator = torch.Generator().manual_seed(0)
        state, observations = game.reset(batch, generator)
        for _ in range(game.horizon):
            state, observations, _, _ = game.step(state, random_moves(observations, generator), generator)

    benchmark.pedantic(rollout, rounds=5, warmup_rounds=1)
    benchmark.extra_info["game_steps_per_second"] = batch * game.horizon / benchmark.stats["median"]


@pytest.mark.parametrize("horizon", [16, 50])
@pytest.mark.parametrize(("games_per_seed", "seeds"), [(512, 1), (512, 2), (64, 1), (64, 4)])
@pytest.mark.parametrize("hidden", [64, 128])
def test_update(benchmark: BenchmarkFixture, hidden: int, games_per_seed: int, seeds: int, horizon: int) -> None:
    game = games.make("coin", horizon=horizon)
    settings = Recurrent("advantage_alignment", games=games_per_seed, hidden=hidden)
    generators = [torch.Generator().manual_seed(seed) for seed in range(seeds)]
    learner = Learner(game, settings, initial_policies(game, hidden, generators), Seats(seeds, games_per_seed))
    benchmark.pedantic(learner.update, (None, generators), rounds=5, warmup_rounds=2)
    steps = seeds * games_per_seed * horizon
    weights = sum(x.shape[1] * x.shape[2] for name, x in learner.actor.items() if not name.endswith("bias"))
    benchmark.extra_info["game_steps_per_second"] = steps / benchmark.stats["median"]
    benchmark.extra_info["gflop_per_second"] = 2 * PASSES * 2 * steps * weights / benchmark.stats["median"] / 1e9
