"""Tiny random models of four families of chat models, each with its own chat template, ends of turns and attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from aa_core.games.text import SCRIPTED, make_text_game, play_scripted

# in the manner of Qwen2.5: a system message of its own
QWEN2 = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Qwen3: thinks aloud unless told not to, and forgets the thoughts of earlier turns
QWEN3 = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'].split('</think>')[-1] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
# Llama 3: begins with a mark and a system message, trims
LLAMA3 = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023<|eot_id|>"
    "{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
# Gemma 3: another role's name, an end of turn that is not the tokenizer's eos, roles that must alternate
GEMMA3 = (
    "<bos>{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LLAMA = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
GEMMA = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
# family -> template, special tokens, eos and pad of the tokenizer, eos of the generation config, class and settings
FAMILIES: dict[str, tuple[Any, ...]] = {
    "qwen2.5": (QWEN2, CHATML, "<|im_end|>", "<|endoftext|>", ["<|im_end|>", "<|endoftext|>"], Qwen2Config, {}),
    "qwen3": (QWEN3, CHATML, "<|im_end|>", "<|endoftext|>", ["<|im_end|>", "<|endoftext|>"], Qwen3Config, {}),
    "llama3": (LLAMA3, LLAMA, "<|eot_id|>", "<|end_of_text|>", ["<|end_of_text|>", "<|eot_id|>"], LlamaConfig, {}),
    "gemma3": (
        GEMMA3, GEMMA, "<eos>", "<pad>", ["<eos>", "<end_of_turn>"], Gemma3TextConfig,
        dict(sliding_window=64, layer_types=["sliding_attention", "full_attention"], tie_word_embeddings=True),
    ),
}  # fmt: skip
CLASSES: dict[type, Callable[[Any], PreTrainedModel]] = {
    Qwen2Config: Qwen2ForCausalLM,
    Qwen3Config: Qwen3ForCausalLM,
    LlamaConfig: LlamaForCausalLM,
    Gemma3TextConfig: Gemma3ForCausalLM,
}


def texts() -> list[str]:
    """What is said in a game of each kind."""
    said = []
    for name in sorted(SCRIPTED):
        for script in SCRIPTED[name]:
            for turn, reply in play_scripted(make_text_game(name, 0, rounds=4), script, "random", Random(0)):
                said += [turn.text, reply or ""]
    return said


def tokenizer_of(family: str, files: Sequence[str] = (), size: int = 500) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, trained on the spot; on files, if there are some."""
    template, special, eos, pad, *_ = FAMILIES[family]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    if files:
        backend.train(list(files), trainer)
    else:
        backend.train_from_iterator(texts(), trainer)
    others = [token for token in special if token not in (eos, pad)]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=eos, pad_token=pad, additional_special_tokens=others,
        chat_template=template, clean_up_tokenization_spaces=False,
    )  # fmt: skip


def model_of(family: str, tokenizer: PreTrainedTokenizerFast, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A model of two layers with grouped-query attention and random weights."""
    *_, ends, config, settings = FAMILIES[family]
    torch.manual_seed(seed)
    common = dict(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=8192, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    model = CLASSES[config](config(**(common | settings | changes))).eval()
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.convert_tokens_to_ids(ends))
    return model


def save(family: str, folder: Path, **changes: Any) -> Path:
    """A model's folder, as one would download it."""
    tokenizer = tokenizer_of(family)
    model_of(family, tokenizer, **changes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
