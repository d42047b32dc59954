"""Trainers of the smallest size, and an engine in the place of vLLM."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM
from trl.generation.vllm_generation import VLLMGeneration

from aa_core.advantages import CreditRule, aligned_advantages
from aa_core.llm.players import ScriptedPlayer
from aa_core.llm.trainer import AdvantageAlignmentConfig, AdvantageAlignmentTrainer

LORA = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear")
ALIGNED = partial(aligned_advantages, beta=0.7, gamma=0.8)


def config(tmp_path: Path, **options: object) -> AdvantageAlignmentConfig:
    defaults = dict(
        output_dir=str(tmp_path), per_device_train_batch_size=8, num_generations=4, max_completion_length=3,
        learning_rate=0.1, max_steps=2, rounds=3, show_rules=False, use_cpu=True, bf16=False,
        activation_checkpointing=False, report_to="none", save_strategy="no", disable_tqdm=True,
        logging_strategy="no", seed=3,
    )  # fmt: skip
    return AdvantageAlignmentConfig(**(defaults | options))


def trainer(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    credit: CreditRule = ALIGNED,
    co_player: ScriptedPlayer | None = None,
    **options: object,
) -> AdvantageAlignmentTrainer:
    return AdvantageAlignmentTrainer(model, config(tmp_path, **options), tokenizer, credit, co_player, peft_config=LORA)


def adapter_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


def disturb(model: torch.nn.Module) -> None:
    """Another adapter than the untrained one, which does nothing."""
    source = torch.Generator().manual_seed(9)
    for _, parameter in sorted((n, p) for n, p in model.named_parameters() if p.requires_grad):
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=source)


def any_credit(advantages: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return torch.randn(advantages.shape, generator=torch.Generator().manual_seed(1))


def slow_loss(model: PeftModel, chats: list[Any], kl: float, entropy: float) -> torch.Tensor:
    """-1/N sum A log pi min(pi/pi_engine, 2) + kl/N sum k3 - entropy/N sum H, over the N sampled tokens of `chats`."""
    total, tokens = torch.zeros(()), 0
    for prompt_ids, completion_ids, mask, engine_log_probs, credits in chats:
        ids = torch.tensor([prompt_ids + completion_ids])
        log_probs = model(input_ids=ids).logits[0].log_softmax(-1)
        with torch.no_grad(), model.disable_adapter():
            base = model(input_ids=ids).logits[0].log_softmax(-1)
        for t, token in enumerate(completion_ids):
            if not mask[t]:
                continue
            here = log_probs[len(prompt_ids) + t - 1]
            weight = 1.0
            if engine_log_probs is not None:
                weight = min((here[token].detach() - engine_log_probs[t]).exp().item(), 2.0)
            difference = base[len(prompt_ids) + t - 1, token] - here[token]
            total = total - credits[t] * weight * here[token] + kl * (difference.exp() - 1 - difference)
            total = total + entropy * (here.exp() * here).sum()
            tokens += 1
    return total / tokens


def watch(learner: AdvantageAlignmentTrainer) -> list[Any]:
    """A list that will hold what `slow_loss` needs of every chat that the learner plays."""
    chats, play = [], learner.play_batch

    def watched(seeds: list[int]) -> list[Any]:
        samples = play(seeds)
        for sample in samples:
            chat = sample.chat
            drawn = chat.log_probs if learner.use_vllm else None
            chats.append((chat.prompt_ids, chat.completion_ids, chat.mask, drawn, sample.credits))
        return samples

    learner.play_batch = watched
    return chats


class Engine(VLLMGeneration):
    """TRL's wrapper around an engine that samples from somewhat other logits, and keeps the weights that it is sent."""

    def _init_vllm(self) -> None:
        self.received: dict[str, torch.Tensor] = {}
        driver = SimpleNamespace(model_runner=SimpleNamespace(model=SimpleNamespace(load_weights=self.received.update)))
        executor = SimpleNamespace(model_executor=SimpleNamespace(driver_worker=driver))
        self.llm = SimpleNamespace(llm_engine=executor, reset_prefix_cache=lambda: None)
        self._llm_weights_sleeping, self.source = False, torch.Generator().manual_seed(0)

    @torch.no_grad()
    def generate(self, prompts: list[list[int]], **_: Any) -> tuple[Any, ...]:
        answers, log_probs = [], []
        for prompt in prompts:
            ids, chosen = [], []
            while len(ids) < self.max_completion_length and (not ids or ids[-1] != self.processing_class.eos_token_id):
                logits = self.model(input_ids=torch.tensor([prompt + ids])).logits[0, -1]
                noise = torch.randn(logits.shape, generator=self.source)
                odds = (logits + noise).log_softmax(-1)
                ids.append(int(torch.multinomial(odds.exp(), 1, generator=self.source)))
                chosen.append([odds[ids[-1]].item()])
            answers.append(ids)
            log_probs.append(chosen)
        return prompts, answers, log_probs, None
