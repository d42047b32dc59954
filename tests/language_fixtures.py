"""Untrained and hardly warmed-up models of 0.05 million parameters."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from experiments import models, tiny

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
logging.getLogger("transformers").setLevel(logging.ERROR)
SMALL = tiny.WarmUp(
    hidden_size=32, layers=1, heads=2, games=64, rounds=3, batch=16, steps=60, learning_rate=2e-2, ipd_prior=(0.6,) * 5
)


@pytest.fixture(scope="session")
def tokenizers() -> dict[str, PreTrainedTokenizerFast]:
    return {game: tiny.tokenizer_of(game) for game in ("ipd", "split", "trust_and_split")}


@pytest.fixture(scope="session")
def tokenizer(tokenizers: dict[str, PreTrainedTokenizerFast]) -> PreTrainedTokenizerFast:
    return tokenizers["ipd"]


@pytest.fixture
def model_of(tokenizers: dict[str, PreTrainedTokenizerFast]) -> Callable[[str], Qwen2ForCausalLM]:
    return lambda game: tiny.untrained(SMALL, tokenizers[game]).eval()


@pytest.fixture
def model(model_of: Callable[[str], Qwen2ForCausalLM]) -> Qwen2ForCausalLM:
    return model_of("ipd")


@pytest.fixture(scope="session")
def warm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few seconds of warm-up: enough to reply with one of the two labels most of the time."""
    folder = tmp_path_factory.mktemp("warm")
    tiny.warm_up(SMALL, folder)
    return folder


@pytest.fixture
def warm(warm_folder: Path) -> Qwen2ForCausalLM:
    return models.read(warm_folder)[0]


@pytest.fixture
def lora() -> LoraConfig:
    return LoraConfig(r=4, lora_alpha=8, target_modules="all-linear")


@pytest.fixture
def source() -> torch.Generator:
    return torch.Generator().manual_seed(0)
