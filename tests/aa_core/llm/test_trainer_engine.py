"""The weights that an engine without adapters is sent."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import trl.trainer.grpo_trainer
from trainers import Engine, adapter_of, disturb, trainer
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

CYCLES = 1000


def test_a_thousand_syncs_leave_the_base_as_it_was(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trl.trainer.grpo_trainer, "VLLMGeneration", Engine)
    model = model.to(torch.bfloat16)
    names = set(model.state_dict())
    learner = trainer(
        model, tokenizer, tmp_path, use_vllm=True, vllm_mode="colocate", learning_seats="alternate", buffer_every=1
    )
    tuned, engine = learner.model, learner.vllm_generation
    state = {name: tensor.clone() for name, tensor in tuned.state_dict().items()}
    adapter = adapter_of(tuned)
    for _ in range(CYCLES):
        disturb(tuned)
        engine.sync_weights()
    for name, parameter in tuned.named_parameters():
        if parameter.requires_grad:
            parameter.data.copy_(adapter[name])
    assert all(torch.equal(tensor, state[name]) for name, tensor in tuned.state_dict().items())

    disturb(tuned)
    engine.sync_weights()
    assert set(engine.received) <= names
    assert names - set(engine.received) <= {"lm_head.weight"}  # tied to the embedding
    tuned.merge_adapter()
    for name, weights in engine.received.items():
        assert torch.equal(weights, tuned.get_parameter(_name_of(tuned, name))), name
    tuned.unmerge_adapter()
    assert not all(
        torch.equal(tensor, state[name]) for name, tensor in tuned.state_dict().items() if "lora" not in name
    )


def _name_of(tuned: torch.nn.Module, name: str) -> str:
    inside = f"base_model.model.{name}"
    layered = f"{inside.removesuffix('.weight')}.base_layer.weight"
    return layered if layered in tuned.state_dict() else inside
