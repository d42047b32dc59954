from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from aa_core.advantages import CreditRule, aligned_advantages, naive_advantages, summed_advantages
from aa_core.games.text import make_text_game
from aa_core.llm import models
from aa_core.llm.players import ModelPlayer, ScriptedPlayer, play
from aa_core.llm.rollout import Transcript
from aa_core.llm.trainer import (
    AdvantageAlignmentConfig,
    AdvantageAlignmentTrainer,
    Table,
    round_advantages,
    round_probabilities,
    token_credits,
)
from experiments import tiny

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


# --- credits


def returns_by_hand(rewards: torch.Tensor, gamma: float) -> torch.Tensor:
    rounds = rewards.shape[-1]
    return torch.stack(
        [sum(gamma ** (k - t) * rewards[..., k] for k in range(t, rounds)) for t in range(rounds)], dim=-1
    )


@pytest.mark.parametrize("baseline", ["group", "batch", "none"])
def test_round_advantages_are_returns_less_the_mean_of_the_others(tmp_path: Path, baseline: str) -> None:
    rewards = torch.rand(6, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    groups = torch.tensor([5, 5, 5, 2, 2, 9])
    settings = config(tmp_path, baseline=baseline, gamma=0.8)
    got = round_advantages(rewards, groups, settings)
    returns = returns_by_hand(rewards / settings.reward_scale, 0.8)
    for g in range(6):
        for seat in range(2):
            same = [h for h in range(6) if h != g and (baseline == "batch" or groups[h] == groups[g])]
            mean = sum(returns[h, seat] for h in same) / len(same) if same and baseline != "none" else 0.0
            torch.testing.assert_close(got[g, seat], returns[g, seat] - mean)


def test_a_baseline_averages_over_one_kind_of_player(tmp_path: Path) -> None:
    rewards = torch.tensor([[[1.0], [0.0]], [[3.0], [0.0]], [[100.0], [0.0]]], dtype=torch.float64)
    kinds = torch.tensor([[0, 0], [0, 0], [1, 0]])
    got = round_advantages(rewards, torch.zeros(3, dtype=torch.long), config(tmp_path), kinds)
    assert got[:, 0, 0].tolist() == pytest.approx([-0.4, 0.4, 20.0])


def test_credits_of_a_batch_are_the_aligned_advantages_of_its_games(
    warm: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    seen = []

    def rule(advantages: torch.Tensor, probabilities: torch.Tensor | None = None) -> torch.Tensor:
        seen.append((advantages, probabilities))
        return ALIGNED(advantages)

    learner = trainer(warm, tokenizer, tmp_path, rule, gamma=0.8, reward_scale=5.0)
    samples = learner.play_batch([4, 4, 4, 4, 7, 7, 7, 7])  # four games: two groups of two
    ((advantages, probabilities),) = seen
    assert advantages.shape == probabilities.shape == (4, 2, 3)
    for game in range(4):
        for seat in range(2):
            own, others = advantages[game, seat], advantages[game, 1 - seat]
            sample = samples[2 * game + seat]
            for credit, mask, t in zip(sample.credits, sample.chat.mask, sample.chat.rounds, strict=True):
                past = sum(0.8 ** (t - k) * own[k] for k in range(t))
                expected = (own[t] + 0.7 * 0.8 * past * others[t]) if mask else 0.0
                assert credit == pytest.approx(float(expected), abs=1e-9)
            for t in range(3):
                parts = zip(sample.chat.log_probs, sample.chat.rounds, strict=True)
                expected = torch.tensor(sum(p for p, r in parts if r == t)).exp()
                torch.testing.assert_close(probabilities[game, seat, t].float(), expected)


def test_who_is_no_model_acts_with_certainty(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, source: torch.Generator
) -> None:
    player, script = ModelPlayer(model, tokenizer, max_new_tokens=3, generator=source), ScriptedPlayer("defect")
    game = make_text_game("ipd", 0, rounds=2)
    play([game], [(script, player)])
    probabilities = round_probabilities([Table(game, (script, player), (1,))])
    assert probabilities[0, 0].tolist() == [1, 1]
    assert ((probabilities[0, 1] > 0) & (probabilities[0, 1] < 1)).all()


def test_all_tokens_of_a_round_share_its_credit_and_texts_get_none() -> None:
    chat = Transcript()
    chat.add_text([9], 0)
    for token, index in ((1, 0), (2, 0), (3, 2)):
        chat.add_sample(token, -0.5, index)
        chat.add_text([7], index)
    assert token_credits(chat, torch.tensor([1.0, 2.0, 3.0])) == [1, 0, 1, 0, 3, 0]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"baseline": "mean"}, "baseline"),
        ({"learning_seats": "second"}, "learning_seats"),
        ({"buffer_every": 2}, "learning_seats"),
        ({"gamma": 1.2}, "gamma"),
        ({"reward_scale": 0}, "reward_scale"),
    ],
)
def test_bad_settings_are_refused_by_name(tmp_path: Path, options: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        config(tmp_path, **options)


def test_learners_in_both_seats_exclude_a_fixed_co_player(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="learning_seats"):
        trainer(model, tokenizer, tmp_path, co_player=ScriptedPlayer("defect"))


# --- training


def adapter_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


def moved(before: dict[str, torch.Tensor], model: torch.nn.Module) -> bool:
    return any(not torch.equal(before[n], p) for n, p in model.named_parameters() if n in before)


@pytest.mark.parametrize(
    "options",
    [
        {"credit": naive_advantages},
        {"credit": summed_advantages, "baseline": "batch"},
        {"credit": partial(ALIGNED, loqa=True), "baseline": "none"},
        {"learning_seats": "alternate", "buffer_every": 1},
        {"learning_seats": "first", "co_player": ScriptedPlayer("defect")},
        {"beta": 0.1, "entropy_coef": 0.01},
    ],
    ids=["naive", "sum", "loqa", "buffer", "co_player", "kl_entropy"],
)
def test_every_switch_trains_the_adapter_and_nothing_else(
    warm: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, options: dict[str, object]
) -> None:
    learner = trainer(warm, tokenizer, tmp_path, **options)
    before = adapter_of(learner.model)
    base = {n: p.detach().clone() for n, p in learner.model.named_parameters() if "lora" not in n}
    learner.train()
    assert before
    assert moved(before, learner.model)
    assert all(torch.equal(base[n], p) for n, p in learner.model.named_parameters() if n in base)
    assert [row["update"] for row in learner.history] == [0, 1]
    assert all(0 <= row["errors"] <= 2 for row in learner.history)
    assert all(("reward_other" in row) == ("co_player" in options) for row in learner.history)


@pytest.mark.parametrize("game", ["split", "trust_and_split"])
def test_the_sharing_games_train_too(game: str, tokenizers: dict[str, PreTrainedTokenizerFast], tmp_path: Path) -> None:
    model = tiny.untrained(tiny.WarmUp(hidden_size=16, layers=1, heads=1), tokenizers[game])

    def rule(advantages: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
        return advantages + probabilities  # this model cannot play: no difference in rewards

    learner = trainer(model, tokenizers[game], tmp_path, rule, game=game)
    before = adapter_of(learner.model)
    learner.train()
    assert moved(before, learner.model)
    assert all(row["efficiency"] == 0 for row in learner.history)


def test_naive_learning_turns_the_model_greedy(
    warm: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    options = dict(per_device_train_batch_size=64, max_steps=12, learning_rate=2e-2)
    learner = trainer(warm, tokenizer, tmp_path, naive_advantages, **options)
    learner.train()
    assert learner.history[0]["cooperation"] > 0.4
    assert learner.history[-1]["cooperation"] < 0.2


def test_zero_credit_moves_nothing(warm: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    learner = trainer(warm, tokenizer, tmp_path, lambda advantages, _: torch.zeros_like(advantages))
    before = adapter_of(learner.model)
    learner.train()
    assert not moved(before, learner.model)


def test_loss_of_a_batch_is_the_formula_and_masked_tokens_get_no_gradient(
    warm: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    learner = trainer(warm, tokenizer, tmp_path)
    prompts = [{"prompt": str(seed)} for seed in (4, 4, 4, 4, 7, 7, 7, 7)]
    learner.model.train()
    learner.current_gradient_accumulation_steps = 1
    batch = learner._generate_and_score_completions(prompts)
    loss = learner._compute_loss(learner.model, batch)

    mask = batch["completion_mask"] * batch["tool_mask"]
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    width = batch["completion_ids"].shape[1]
    logits = learner.model(input_ids=ids, attention_mask=attention).logits[:, -width - 1 : -1]
    log_probs = logits.log_softmax(-1).gather(-1, batch["completion_ids"][..., None])[..., 0]
    # the ratio to the sampling policy is 1 in value, so its gradient is that of the log-probability
    ratio = (log_probs - log_probs.detach()).exp()
    by_hand = -(ratio * batch["advantages"] * mask).sum() / mask.sum()
    torch.testing.assert_close(loss, by_hand, atol=1e-6, rtol=1e-5)

    names, parameters = zip(*[(n, p) for n, p in learner.model.named_parameters() if p.requires_grad], strict=True)
    ours = torch.autograd.grad(loss, parameters, retain_graph=True)
    expected = torch.autograd.grad(by_hand, parameters)
    for name, one, other in zip(names, ours, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4, msg=name)
    assert (batch["advantages"][mask == 0] == 0).all()
    assert (batch["advantages"][mask == 1] != 0).any()


def test_games_of_a_group_share_what_the_environment_draws(
    tokenizers: dict[str, PreTrainedTokenizerFast], tmp_path: Path
) -> None:
    model = tiny.untrained(tiny.WarmUp(hidden_size=16, layers=1, heads=1), tokenizers["split"])
    learner = trainer(model, tokenizers["split"], tmp_path, game="split", learning_seats="first")
    prompts = [sample.chat.prompt_ids for sample in learner.play_batch([11, 11, 12, 12])]
    assert prompts[0] == prompts[1] != prompts[2]


def test_same_seed_same_training(warm_folder: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    histories = []
    for _ in range(2):
        learner = trainer(models.read(warm_folder)[0], tokenizer, tmp_path, naive_advantages)
        learner.train()
        histories.append(learner.history)
    assert histories[0] == histories[1]


# --- several processes


def test_each_of_two_processes_has_the_baselines_of_both(tmp_path: Path) -> None:
    rewards = torch.rand(8, 2, 3, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    kind, groups = ScriptedPlayer("cooperate"), torch.tensor([1, 1, 2, 2, 2, 1, 3, 3])  # they reach over the border
    tables = [Table(make_text_game("ipd", int(group), rounds=3), (kind, kind), (0, 1)) for group in groups]
    alone = round_advantages(rewards, groups, config(tmp_path))
    for rank in (0, 1):
        own = slice(rank * 4, rank * 4 + 4)
        everybody = iter((rewards, groups, torch.zeros(8, 2, dtype=torch.long)))
        process = SimpleNamespace(device="cpu", process_index=rank, gather=lambda _, all_of=everybody: next(all_of))
        learner = SimpleNamespace(accelerator=process, args=config(tmp_path))
        got = AdvantageAlignmentTrainer._advantages(learner, rewards[own], tables[own])
        torch.testing.assert_close(got, alone[own])
    assert not torch.allclose(round_advantages(rewards[:4], groups[:4], config(tmp_path)), alone[:4])
