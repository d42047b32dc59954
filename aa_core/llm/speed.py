"""How fast the embedded model plays and learns, and how fast it could at best."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from aa_core.games.text import make_text_game
from aa_core.llm import runs
from aa_core.llm.players import ModelPlayer, play
from aa_core.llm.settings import Training


def matmul_rate(size: int = 1024, repeats: int = 10) -> float:
    """Floating point operations per second of this machine in a large matrix product, on the threads torch has."""
    one, other = torch.randn(size, size), torch.randn(size, size)
    one @ other
    started = time.perf_counter()
    for _ in range(repeats):
        one @ other
    return 2 * size**3 * repeats / (time.perf_counter() - started)


def rollout(player: ModelPlayer, game: str, games: int, rounds: int = 10) -> float:
    """Seconds that `games` games of self-play take, all at once."""
    tables = [make_text_game(game, seed, rounds=rounds) for seed in range(games)]
    started = time.perf_counter()
    play(tables, [(player, player)] * games)
    return time.perf_counter() - started


def tokens_per_game(player: ModelPlayer, games: int) -> float:
    """Tokens of both chats of a game, read and written, in the player's last rollout."""
    return sum(len(chat.prompt_ids) + len(chat.completion_ids) for chat in player.transcripts) / games


def limit(model: torch.nn.Module, tokens: float) -> float:
    """Games per second if all that a game costs were two operations per parameter and token, each token once.

    At `matmul_rate`: what remains is attention, sampling, Python, and products too small to run at that rate.
    """
    return matmul_rate() / (2 * sum(parameter.numel() for parameter in model.parameters()) * tokens)


class _Clock(TrainerCallback):
    """The time at which each update ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.times.append(time.perf_counter())


def seconds_per_update(training: Training, updates: int = 3) -> float:
    """Median time of an update, games and learning, after a first one that is not counted."""
    clock = _Clock()
    with tempfile.TemporaryDirectory() as scratch:
        trainer = runs.trainer_of(replace(training, updates=updates + 1), 0, Path(scratch))
        trainer.add_callback(clock)
        trainer.train()
    return statistics.median(after - before for before, after in zip(clock.times, clock.times[1:], strict=False))


def measure(
    model: PreTrainedModel,
    words: PreTrainedTokenizerBase,
    training: Training,
    games: int = 64,
    rounds: int = 10,
    repeats: int = 3,
) -> dict[str, float]:
    """Speed of one game on the threads that torch has.

    Args:
        model: plays.
        words: its tokenizer.
        training: what is timed for `seconds_per_update`, at its own number of games and rounds.
        games: of a rollout, played together.
        rounds: of a game of a rollout.
        repeats: rollouts; their median counts, after one that is not counted.

    Returns:
        games_per_second with the cache kept, games_per_second_reread with each chat read anew in every turn,
        games_per_second_limit, tokens_per_game, seconds_per_update.
    """
    found = {}
    for name, keep_cache in (("games_per_second", True), ("games_per_second_reread", False)):
        generator = torch.Generator().manual_seed(0)
        player = ModelPlayer(
            model, words, max_new_tokens=training.max_new_tokens, generator=generator, keep_cache=keep_cache
        )
        seconds = [rollout(player, training.game, games, rounds) for _ in range(repeats + 1)]
        found[name] = games / statistics.median(seconds[1:])
    found["tokens_per_game"] = tokens_per_game(player, games)
    found["games_per_second_limit"] = limit(model, found["tokens_per_game"])
    found["seconds_per_update"] = seconds_per_update(training)
    return found
