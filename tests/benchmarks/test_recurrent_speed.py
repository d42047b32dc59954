"""Game steps per second of random play and of Advantage Alignment's updates, on one and on two threads.

A game step moves both players; an update plays a batch of games and trains actor and critic on both seats once.
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from aa_core import games, league_runs
from aa_core.recurrent import Recurrent

on_threads = pytest.mark.parametrize("threads", league_runs.SPEED_THREADS)


@on_threads
def test_random_play(benchmark: BenchmarkFixture, threads: int) -> None:
    game, batch = games.make("coin"), 4096
    with league_runs.on_threads(threads):
        benchmark.pedantic(league_runs.play_at_random, (game, batch), rounds=5, warmup_rounds=1)
    benchmark.extra_info["game_steps_per_second"] = batch * game.horizon / benchmark.stats["median"]


@on_threads
@pytest.mark.parametrize("horizon", league_runs.SPEED_HORIZONS)
@pytest.mark.parametrize(("games_per_seed", "seeds"), [(512, 1), (512, 2), (64, 1), (64, 4)])
@pytest.mark.parametrize("hidden", league_runs.SPEED_WIDTHS)
def test_update(
    benchmark: BenchmarkFixture, hidden: int, games_per_seed: int, seeds: int, horizon: int, threads: int
) -> None:
    settings = Recurrent("advantage_alignment", games=games_per_seed, hidden=hidden)
    learner, update = league_runs.updater(games.make("coin", horizon=horizon), settings, seeds)
    with league_runs.on_threads(threads):
        benchmark.pedantic(update, rounds=5, warmup_rounds=2)
    steps = seeds * games_per_seed * horizon
    benchmark.extra_info["game_steps_per_second"] = steps / benchmark.stats["median"]
    benchmark.extra_info["gflop_per_second"] = league_runs.update_gflop(learner) / benchmark.stats["median"]
