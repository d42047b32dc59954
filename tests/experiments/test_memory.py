"""The arithmetic of memory against what small models on the CPU hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from chat_families import FAMILIES, model_of, save, tokenizer_of
from transformers import Qwen2Config, Qwen2ForCausalLM

from aa_core.games.text import make_text_game
from aa_core.llm.players import ModelPlayer, play
from aa_core.llm.rollout import Chats
from experiments import memory
from experiments.language import GAMES, training

# as the models' cards and files of weights have them; Gemma 3 without its vision tower
PUBLISHED = {
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "google/gemma-3-4b-it": 3_880_263_168,
}


@pytest.mark.parametrize("model", memory.SHAPES)
def test_parameters_are_those_of_the_published_models(model: str) -> None:
    config = memory.config_of(model)
    own, adapter = memory.parameters(memory.on_meta(config, 32))
    assert own == PUBLISHED[model]
    assert memory.parameters(memory.on_meta(config, 16))[1] * 2 == adapter
    if model.startswith("Qwen/Qwen2.5"):
        assert memory.cache_bytes(config) == 57_344
        assert adapter == 80_740_352


@pytest.mark.parametrize("family", FAMILIES)
def test_bytes_of_a_cache_are_exact(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forget = Chats.forget
    words = tokenizer_of(family)
    model = model_of(family, words)
    player = ModelPlayer(model, words, max_new_tokens=3, generator=torch.Generator().manual_seed(0))
    with monkeypatch.context() as patch:
        patch.setattr(Chats, "forget", lambda chats: None if hasattr(chats, "_cache") else forget(chats))
        play([make_text_game("ipd", seed, rounds=2) for seed in range(3)], [(player, player)] * 3)
    kept = player._chats._cache._kept
    held = sum(tensor.numel() * tensor.element_size() for layer in kept for tensor in layer)
    rows, _, columns, _ = kept[0][0].shape
    assert held == rows * columns * memory.cache_bytes(model.config, width=4)
    longest = max(len(chat.ids) for chat in player.transcripts)
    assert longest - 1 <= columns <= 1.5 * longest + 1  # what `ModelPlayer.room` reckons with


@pytest.mark.parametrize(("hidden", "inner", "heads", "shared", "tokens"), [(64, 128, 4, 2, 50), (96, 96, 6, 6, 31)])
def test_activations_are_what_a_backward_pass_keeps(
    hidden: int, inner: int, heads: int, shared: int, tokens: int
) -> None:
    sizes = dict(
        vocab_size=100,
        hidden_size=hidden,
        intermediate_size=inner,
        num_attention_heads=heads,
        num_key_value_heads=shared,
    )
    ids = torch.zeros(3, tokens, dtype=torch.long)

    def kept(layers: int, checkpoints: bool) -> int:
        model = Qwen2ForCausalLM(Qwen2Config(num_hidden_layers=layers, **sizes)).to(torch.bfloat16).train()
        if checkpoints:
            model.gradient_checkpointing_enable(dict(use_reentrant=False))
            model.enable_input_require_grads()
        for parameter in model.model.layers.parameters():
            parameter.requires_grad_(not checkpoints)
        with memory._saved() as found:
            model.model(input_ids=ids, use_cache=False)
        return sum(found.values())

    counted, inside = memory.activation_bytes(memory.on_meta(Qwen2Config(num_hidden_layers=2, **sizes), 4), 3, tokens)
    assert counted == kept(4, True) - kept(2, True)  # two layers' inputs
    # LoRA keeps its inputs and its small products on top
    assert kept(4, False) - kept(2, False) <= 2 * inside <= 1.6 * (kept(4, False) - kept(2, False))


def test_a_report_says_what_fits_and_works_offline_on_a_folder(tmp_path: Path) -> None:
    text = memory.report("Qwen/Qwen2.5-7B-Instruct", "trust_and_split")
    assert "7.62 billion parameters" in text
    assert "fits on one GPU of 80 GB" in text
    save("llama3", tmp_path)
    small = memory.report(str(tmp_path), "ipd")
    assert "Largest token_budget" in small
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "llama"
    with pytest.raises(ValueError, match="model must be one of Qwen"):
        memory.config_of("nobody/no-such-model")


@pytest.mark.parametrize("game", GAMES)
def test_longer_replies_make_longer_chats(game: str) -> None:
    run = training("paper", game, "naive")
    assert 300 < memory.chat_tokens(run, 5) < memory.chat_tokens(run, 60) < memory.chat_tokens(run, 400)
    assert memory.chat_tokens(run, 400) == memory.chat_tokens(run, 10**6) or game == "trust_and_split"
