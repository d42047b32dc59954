"""Rollouts and updates of the embedded model (untrained: the arithmetic is the same), on the threads torch has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from aa_core.llm.players import play
from experiments import language, models, tiny
from experiments.language_runs import model_player, new_games, trainer_of

GAMES = 64
every_game = pytest.mark.parametrize("game", language.GAMES)


@pytest.fixture
def folder(game: str, tmp_path: Path) -> Path:
    settings = tiny.WarmUp(**(language.WARM_UPS[game] | dict(games=16, steps=1, drill_steps=(0, 0))))
    tiny.warm_up(settings, tmp_path / "model")
    return tmp_path / "model"


@every_game
@pytest.mark.parametrize("keep_cache", [True, False], ids=["cache kept", "chat read anew"])
def test_rollout(benchmark: BenchmarkFixture, folder: Path, game: str, keep_cache: bool) -> None:
    run = language.training("laptop", game, "naive")
    player = model_player(*models.read(folder), run)
    player.keep_cache = keep_cache

    def self_play() -> None:
        play(new_games(run, GAMES), [(player, player)] * GAMES)

    benchmark.pedantic(self_play, rounds=3, warmup_rounds=1)
    benchmark.extra_info["games_per_second"] = GAMES / benchmark.stats["median"]


@every_game
def test_update(benchmark: BenchmarkFixture, folder: Path, game: str, tmp_path: Path) -> None:
    run = replace(language.training("laptop", game, "advantage_alignment"), max_steps=1)
    trainer = trainer_of(run, folder, tmp_path)
    torch.manual_seed(0)
    benchmark.pedantic(trainer.train, rounds=3, warmup_rounds=1)
