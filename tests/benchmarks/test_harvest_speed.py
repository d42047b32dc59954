"""Agent-steps per second of Commons Harvest: random play, and training with the settings of profile laptop.

An agent-step is one player's step; torch's threads are a parameter here, and are put back afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from aa_core import commons_runs
from aa_core.commons import Network, begin, play_chunk, update
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


@pytest.mark.parametrize("algorithm", ["ppo", "proximal_advantage_alignment"])
def test_update(benchmark: BenchmarkFixture, threads: int, algorithm: str) -> None:
    game, settings = commons_runs.game_of("laptop"), commons_runs.settings_of(algorithm, "laptop")
    generator = torch.Generator().manual_seed(0)
    network = Network(game, settings.filters, settings.hidden, generator)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, fused=True)
    stage = begin(game, settings, generator)

    def train_once() -> None:
        played = play_chunk(game, network, None, stage, settings, generator)
        update(network, optimizer, played, settings)

    benchmark.pedantic(train_once, rounds=3, warmup_rounds=1)
    steps = settings.worlds * game.num_players * settings.chunk
    benchmark.extra_info["agent_steps_per_second"] = steps / benchmark.stats["median"]
