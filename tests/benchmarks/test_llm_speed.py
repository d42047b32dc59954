"""Rollouts and updates of the embedded model (untrained: the arithmetic is the same), on the threads torch has."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from pytest_benchmark.fixture import BenchmarkFixture

from aa_core.games.text import make_text_game
from aa_core.llm import tiny
from aa_core.llm.players import ModelPlayer, play
from aa_core.llm.trainer import AdvantageAlignmentConfig, AdvantageAlignmentTrainer

GAMES = 64


def matmul_rate(size: int = 1024, repeats: int = 10) -> float:
    """Floating point operations per second of this machine in a large matrix product, on the threads torch has."""
    one, other = torch.randn(size, size), torch.randn(size, size)
    one @ other
    started = time.perf_counter()
    for _ in range(repeats):
        one @ other
    return 2 * size**3 * repeats / (time.perf_counter() - started)


@pytest.mark.parametrize("keep_cache", [True, False], ids=["cache kept", "chat read anew"])
@pytest.mark.parametrize("game", ["ipd", "split", "trust_and_split"])
def test_rollout(benchmark: BenchmarkFixture, game: str, keep_cache: bool) -> None:
    words = tiny.tokenizer()
    model = tiny.untrained(tiny.WarmUp(), words).eval()
    player = ModelPlayer(
        model, words, max_new_tokens=3, generator=torch.Generator().manual_seed(0), keep_cache=keep_cache
    )

    def rollout() -> None:
        play([make_text_game(game, seed) for seed in range(GAMES)], [(player, player)] * GAMES)

    benchmark.pedantic(rollout, rounds=3, warmup_rounds=1)
    benchmark.extra_info["games_per_second"] = GAMES / benchmark.stats["median"]
    tokens = sum(len(chat.prompt_ids) + len(chat.completion_ids) for chat in player.transcripts) / GAMES
    operations = 2 * sum(p.numel() for p in model.parameters()) * tokens  # two per parameter and token, once each
    benchmark.extra_info["tokens_per_game"] = tokens
    benchmark.extra_info["games_per_second_at_matmul_rate"] = matmul_rate() / operations


def test_update(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    words = tiny.tokenizer()
    settings = AdvantageAlignmentConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=2 * GAMES, num_generations=2 * GAMES,
        max_completion_length=3, use_cpu=True, bf16=False, activation_checkpointing=False, report_to="none",
        save_strategy="no", disable_tqdm=True, logging_strategy="no", max_steps=1,
    )  # fmt: skip
    trainer = AdvantageAlignmentTrainer(
        tiny.untrained(tiny.WarmUp(), words), settings, words, peft_config=LoraConfig(r=16, target_modules="all-linear")
    )
    benchmark.pedantic(trainer.train, rounds=3, warmup_rounds=1)
