"""Settings of play that the trainer passes on, to its own sampling and to an engine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import trl.trainer.grpo_trainer
from trainers import Engine, trainer
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from aa_core.games.text import make_text_game
from experiments import models

SEEDS = [1] * 8


def chats(folder: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, **options: object) -> list[list[int]]:
    torch.manual_seed(0)  # of the untrained adapter
    learner = trainer(models.read(folder)[0], tokenizer, tmp_path, learning_seats="first", **options)
    return [sample.chat.ids for sample in learner.play_batch(SEEDS)]


def test_sampling_settings_of_grpo_act(warm_folder: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    plain = chats(warm_folder, tokenizer, tmp_path)
    assert plain == chats(warm_folder, tokenizer, tmp_path)
    greedy = [chats(warm_folder, tokenizer, tmp_path, **o) for o in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0})]
    assert greedy[0] == greedy[1] == greedy[2] != plain
    assert all(chat == greedy[0][0] for chat in greedy[0])
    assert chats(warm_folder, tokenizer, tmp_path, repetition_penalty=50.0) != plain


def test_options_of_the_chat_template_reach_it(
    warm_folder: Path, tmp_path: Path, tokenizers: dict[str, PreTrainedTokenizerFast]
) -> None:
    words = models.read(warm_folder)[1]
    words.chat_template += "{% if add_generation_prompt and enable_thinking %} .{% endif %}"
    plain = chats(warm_folder, words, tmp_path)
    thinking = chats(warm_folder, words, tmp_path, chat_template_kwargs={"enable_thinking": True})
    dot = words.encode(".", add_special_tokens=False)
    opening = words.encode(words.decode(plain[0]).partition("<|assistant|>")[0] + "<|assistant|>")
    assert plain[0][: len(opening)] == opening
    assert thinking[0][: len(opening) + 1] == opening + dot


def test_guided_replies_and_budgets_work_in_training(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    learner = trainer(model, tokenizer, tmp_path, guided=True, free_tries=1, token_budget=500, max_steps=1)
    learner.train()
    assert learner.history[0]["errors"] == 0


def test_an_engine_is_told_what_a_reply_has_to_match(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trl.trainer.grpo_trainer, "VLLMGeneration", Engine)
    learner = trainer(
        model, tokenizer, tmp_path, use_vllm=True, vllm_mode="colocate", guided=True, free_tries=1, top_k=5
    )
    engine, asked = learner.vllm_generation, []
    generate = engine.generate

    def watched(prompts: list[list[int]], **options: object) -> tuple[object, ...]:
        asked.append(engine.structured_outputs_regex)
        return generate(prompts, **options)

    monkeypatch.setattr(engine, "generate", watched)
    learner.play_batch(SEEDS)
    assert asked == [None, make_text_game("ipd", 0).pattern] * 3
    assert engine.top_k == 5


def test_what_an_engine_was_made_to_say_is_as_probable_as_the_policy_says(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trl.trainer.grpo_trainer, "VLLMGeneration", Engine)
    learner = trainer(model, tokenizer, tmp_path, use_vllm=True, vllm_mode="colocate", guided=True, temperature=0.7)
    for sample in learner.play_batch(SEEDS):
        chat = sample.chat
        ids = torch.tensor([chat.prompt_ids + chat.completion_ids])
        log_probs = (learner.model(input_ids=ids).logits[0, :-1] / 0.7).log_softmax(-1)
        own = log_probs.gather(1, ids[0, 1:, None])[len(chat.prompt_ids) - 1 :, 0] * torch.tensor(chat.mask)
        torch.testing.assert_close(torch.tensor(chat.log_probs), own, atol=1e-5, rtol=1e-4)
