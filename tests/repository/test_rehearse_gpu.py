"""`make rehearsal-gpu` in the small, on whatever there is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from chat_families import tokenizer_of

from experiments import memory

from . import rehearse_gpu

MODEL = "Qwen/Qwen2.5-7B-Instruct"
SMALL = dict(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=600,
)  # fmt: skip


@pytest.mark.parametrize("game", rehearse_gpu.UPDATES)
def test_updates_are_those_of_profile_paper_and_every_reply_is_read(game: str) -> None:
    words = tokenizer_of("qwen2.5")
    run = rehearse_gpu.planned(game, MODEL)
    few = dict(per_device_train_batch_size=2, gradient_accumulation_steps=2, num_generations=4, rounds=2)
    kind, sizes = memory.SHAPES[MODEL]
    table = rehearse_gpu.rehearse(replace(run, **few), kind, sizes | SMALL, words)
    updates = rehearse_gpu.UPDATES[game]
    playing = table[(table.part == "playing") & (table.metric == "seconds")]
    learning = table[(table.part == "learning") & (table.metric == "seconds")]
    assert list(playing["update"]) == list(range(updates))
    assert list(learning["update"]) == list(range(1, updates + 1))
    assert (table[table.metric == "chats"].value == 4).all()
    lengths = [len(said) for said in rehearse_gpu.replies(game, words).values()]
    assert max(lengths) == rehearse_gpu.REPLY + 1 or game != "trust_and_split"
