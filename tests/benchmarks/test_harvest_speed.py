"""Agent-steps per second of Commons Harvest in random play; what an update takes is in test_selfplay_speed.py.

An agent-step is one player's step; torch's threads are a parameter here, and are put back afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from aa_core.games.harvest import HarvestGame

BATCH = 256
STEPS = 20  # of random play, per round


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("rgb", [False, True], ids=["symbols", "rgb"])
def test_random_play(benchmark: BenchmarkFixture, threads: int, rgb: bool) -> None:
    game = HarvestGame(rgb=rgb)
    generator = torch.Generator().manual_seed(0)
    shape = (BATCH, game.num_players)

    def rollout() -> None:
        state, _ = game.reset(BATCH, generator)
        for _ in range(STEPS):
            actions = torch.randint(game.num_actions, shape, generator=generator)
            state, *_ = game.step(state, actions, generator)

    benchmark.pedantic(rollout, rounds=5, warmup_rounds=1)
    benchmark.extra_info["agent_steps_per_second"] = BATCH * game.num_players * STEPS / benchmark.stats["median"]
