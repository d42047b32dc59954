"""Rollouts and updates of the embedded model (untrained: the arithmetic is the same), on the threads torch has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from pytest_benchmark.fixture import BenchmarkFixture

from aa_core.llm import speed, tiny
from aa_core.llm.players import ModelPlayer
from aa_core.llm.trainer import AdvantageAlignmentConfig, AdvantageAlignmentTrainer

GAMES = 64


@pytest.mark.parametrize("keep_cache", [True, False], ids=["cache kept", "chat read anew"])
@pytest.mark.parametrize("game", ["ipd", "split", "trust_and_split"])
def test_rollout(benchmark: BenchmarkFixture, game: str, keep_cache: bool) -> None:
    words = tiny.tokenizer()
    model = tiny.untrained(tiny.WarmUp(), words).eval()
    player = ModelPlayer(
        model, words, max_new_tokens=3, generator=torch.Generator().manual_seed(0), keep_cache=keep_cache
    )

    benchmark.pedantic(speed.rollout, (player, game, GAMES), rounds=3, warmup_rounds=1)
    benchmark.extra_info["games_per_second"] = GAMES / benchmark.stats["median"]
    tokens = speed.tokens_per_game(player, GAMES)
    benchmark.extra_info["tokens_per_game"] = tokens
    benchmark.extra_info["games_per_second_at_matmul_rate"] = speed.limit(model, tokens)


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
