"""The loss of an update against the paper's formula, written out token by token on chats without padding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import trl.trainer.grpo_trainer
from trainers import Engine, any_credit, disturb, slow_loss, trainer, watch
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from aa_core.llm.trainer import AdvantageAlignmentTrainer


def gradients_of_an_update(learner: AdvantageAlignmentTrainer, seeds: list[int]) -> dict[str, torch.Tensor]:
    """Sum over the micro-batches of an update, as the training loop makes it."""
    learner.model.train()
    learner.current_gradient_accumulation_steps = learner.args.gradient_accumulation_steps
    inputs = [{"prompt": str(seed)} for seed in seeds]
    for _ in range(learner.args.gradient_accumulation_steps):
        learner.training_step(learner.model, inputs, None)
    return {name: p.grad.clone() for name, p in learner.model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("micro_batches", [1, 4])
@pytest.mark.parametrize("engine", [False, True], ids=["own", "engine"])
def test_an_update_follows_the_papers_loss(
    warm: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    micro_batches: int,
    engine: bool,
) -> None:
    monkeypatch.setattr(trl.trainer.grpo_trainer, "VLLMGeneration", Engine)
    learner = trainer(
        warm, tokenizer, tmp_path, any_credit, beta=0.3, entropy_coef=0.2, rounds=2, max_completion_length=5,
        per_device_train_batch_size=8 // micro_batches, gradient_accumulation_steps=micro_batches, use_vllm=engine,
        vllm_mode="colocate",
    )  # fmt: skip
    disturb(learner.model)
    chats = watch(learner)
    got = gradients_of_an_update(learner, [4] * 4 + [7] * 4)
    assert len({sum(mask) for _, _, mask, _, _ in chats}) > 1  # micro-batches weigh differently
    learner.model.eval()
    learner.model.zero_grad()
    slow_loss(learner.model, chats, 0.3, 0.2).backward()
    for name, parameter in learner.model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(got[name], parameter.grad, atol=2e-6, rtol=1e-4, msg=name)
