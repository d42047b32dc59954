from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from trainers import ALIGNED, adapter_of, config, trainer
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from aa_core.advantages import naive_advantages, summed_advantages
from aa_core.games.text import make_text_game
from aa_core.llm.players import ModelPlayer, ScriptedPlayer, play
from aa_core.llm.rollout import Transcript
from aa_core.llm.trainer import (
    Table,
    round_advantages,
    round_probabilities,
    token_credits,
)
from experiments import models, tiny

# --- credits


def returns_by_hand(rewards: torch.Tensor, gamma: float) -> torch.Tensor:
    rounds = rewards.shape[-1]
    return torch.stack(
        [sum(gamma ** (k - t) * rewards[..., k] for k in range(t, rounds)) for t in range(rounds)], dim=-1
    )


@pytest.mark.parametrize("baseline", ["group", "batch", "none"])
def test_round_advantages_are_returns_less_the_mean_of_the_others(tmp_path: Path, baseline: str) -> None:
    rewards = torch.rand(6, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    groups = torch.tensor([5, 5, 5, 2, 2, 9])  # game 9 is alone: all are its group
    settings = config(tmp_path, baseline=baseline, gamma=0.8)
    got = round_advantages(rewards, groups, settings)
    returns = returns_by_hand(rewards / settings.reward_scale, 0.8)
    for g in range(6):
        for seat in range(2):
            same = [h for h in range(6) if h != g and (baseline == "batch" or groups[g] in (groups[h], 9))]
            mean = sum(returns[h, seat] for h in same) / len(same) if baseline != "none" else 0.0
            torch.testing.assert_close(got[g, seat], returns[g, seat] - mean)


@pytest.mark.parametrize(
    ("groups", "kinds", "baselines"),
    [
        ([0, 0, 0, 0], [0, 0, 1, 1], [3, 1, 300, 100]),  # over one kind of player
        ([0, 0, 0, 1], [0, 0, 1, 0], [3, 1, 2, 2]),  # alone of its kind: over the group; alone: over its kind
        ([0, 0, 0, 1], [0, 0, 0, 1], [51.5, 50.5, 2, 104 / 3]),  # alone anywhere: over all
    ],
)
def test_a_baseline_averages_over_the_closest_who_are_there(
    tmp_path: Path, groups: list[int], kinds: list[int], baselines: list[float]
) -> None:
    rewards = torch.tensor([1.0, 3, 100, 300], dtype=torch.float64)
    rewards = torch.stack([rewards, torch.zeros(4)], 1)[..., None]
    kinds_of = torch.tensor([kinds, [0] * 4]).T
    got = round_advantages(rewards, torch.tensor(groups), config(tmp_path, reward_scale=1.0), kinds_of)
    assert got[:, 0, 0].tolist() == pytest.approx([r - b for r, b in zip([1, 3, 100, 300], baselines, strict=True)])
    assert (got[:, 1] == 0).all()


def test_seats_alternate_by_group_or_within_the_only_one(
    model_of: Callable[[str], Qwen2ForCausalLM], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    for group, expected in ((4, [0] * 4 + [1] * 4), (8, [0, 1] * 4)):
        options = dict(learning_seats="alternate", num_generations=group, co_player=ScriptedPlayer("defect"))
        learner = trainer(model_of("ipd"), tokenizer, tmp_path, **options)
        tables = learner._deal([1] * 8, learner._player())
        assert [table.learners[0] for table in tables] == expected
        assert all(table.kinds[seat] == int(seat not in table.learners) for table in tables for seat in (0, 1))


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
    chat.add([9], 0)
    for token, index in ((1, 0), (2, 0), (3, 2)):
        chat.add([token], index, -0.5)
        chat.add([7], index)
    assert token_credits(chat, torch.tensor([1.0, 2.0, 3.0])) == [1, 0, 1, 0, 3, 0]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"baseline": "mean"}, "baseline"),
        ({"learning_seats": "second"}, "learning_seats"),
        ({"buffer_every": 2}, "learning_seats"),
        ({"gamma": 1.2}, "gamma"),
        ({"reward_scale": 0}, "reward_scale"),
        ({"generation_kwargs": {"seed": 1}}, "generation_kwargs must be None"),
        ({"scale_rewards": "group"}, "scale_rewards"),
        ({"use_adaptive_entropy": True}, "use_adaptive_entropy"),
        ({"steps_per_generation": 2}, "steps_per_generation must be gradient_accumulation_steps, 1"),
        ({"save_total_limit": 0}, "save_total_limit must be at least 1 or None"),
        ({"save_only_model": True}, "save_only_model must be False"),
        ({"vllm_tensor_parallel_size": 2}, "vllm_tensor_parallel_size must be 1"),
    ],
)
def test_bad_settings_are_refused_by_name(tmp_path: Path, options: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        config(tmp_path, **options)


SAVED = dict(save_strategy="steps", save_steps=1, lr_scheduler_type="constant", guided=True)


@pytest.mark.parametrize("cut", ["adapter_model.safetensors", "optimizer.pt", "rng_state.pth", "curve.jsonl", "whole"])
def test_a_checkpoint_that_was_cut_gives_way_to_the_one_before(
    model_of: Callable[[str], Qwen2ForCausalLM], tokenizer: PreTrainedTokenizerFast, tmp_path: Path, cut: str
) -> None:
    ends = []
    for name, stop in (("whole", 3), ("cut", 2), ("cut", 3)):
        learner = trainer(model_of("ipd"), tokenizer, tmp_path / name, max_steps=stop, **SAVED)
        learner.train(resume_from_checkpoint=True)
        ends.append(adapter_of(learner.model))
        if stop == 2:
            (damaged,) = (tmp_path / name / "checkpoint-2").rglob(cut)
            damaged.write_bytes(damaged.read_bytes()[:-9])
    assert all(torch.equal(tensor, ends[2][name]) for name, tensor in ends[0].items())
    assert [row["update"] for row in learner.history] == [0, 1, 2]
    assert not all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())


def test_other_files_and_a_lost_curve_cost_no_checkpoint(
    model_of: Callable[[str], Qwen2ForCausalLM], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    trainer(model_of("ipd"), tokenizer, tmp_path, max_steps=2, **SAVED).train(resume_from_checkpoint=True)
    before = (tmp_path / "curve.jsonl").read_text()
    (tmp_path / "checkpoint-2" / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "checkpoint-best").mkdir()  # a reader's copy
    (tmp_path / "curve.jsonl").write_text("<<<<<<< HEAD\n")
    os.utime(tmp_path / "checkpoint-1")  # restored from elsewhere, so that it looks newer
    learner = trainer(model_of("ipd"), tokenizer, tmp_path, max_steps=3, **SAVED)
    learner.train(resume_from_checkpoint=True)
    assert [row["update"] for row in learner.history] == [0, 1, 2]
    assert learner.curve.read_text().startswith(before)
    assert learner.curve.read_text() == (tmp_path / "checkpoint-3" / "curve.jsonl").read_text()
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [
        "checkpoint-2", "checkpoint-3", "checkpoint-best",
    ]  # fmt: skip


def test_trainings_are_not_mixed(
    model_of: Callable[[str], Qwen2ForCausalLM], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    trainer(model_of("ipd"), tokenizer, tmp_path, max_steps=2, **SAVED).train()
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    learner = trainer(model_of("ipd"), tokenizer, tmp_path, max_steps=3, **SAVED)
    for asked, reason in (
        (None, "must be True, or output_dir without 2 checkpoints"),
        (str(tmp_path / "checkpoint-1"), "must be True, or output_dir without 1 checkpoints"),
        (str(tmp_path / "checkpoint-9"), "must be True, or a whole checkpoint"),
        (str(tmp_path), "must be True, or a whole checkpoint"),
    ):
        with pytest.raises(ValueError, match=f"resume_from_checkpoint {reason}"):
            learner.train(resume_from_checkpoint=asked)
    assert kept == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    learner.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert [row["update"] for row in learner.history] == [0, 1, 2]


@pytest.mark.parametrize("limit", [1, None])
def test_as_many_checkpoints_are_kept_as_asked_for(
    model_of: Callable[[str], Qwen2ForCausalLM], tokenizer: PreTrainedTokenizerFast, tmp_path: Path, limit: int | None
) -> None:
    trainer(model_of("ipd"), tokenizer, tmp_path, max_steps=3, save_total_limit=limit, **SAVED).train()
    kept = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert kept == [f"checkpoint-{update}" for update in ((3,) if limit else (1, 2, 3))]


def test_a_rule_of_another_shape_is_refused(
    model_of: Callable[[str], Qwen2ForCausalLM], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    learner = trainer(model_of("ipd"), tokenizer, tmp_path, credit=lambda advantages, _: advantages.sum(1))
    with pytest.raises(ValueError, match=r"credit must be .*shape \(4, 2, 3\)"):
        learner.train()


def test_learners_in_both_seats_exclude_a_fixed_co_player(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="learning_seats"):
        trainer(model, tokenizer, tmp_path, co_player=ScriptedPlayer("defect"))


# --- training


def moved(before: dict[str, torch.Tensor], model: torch.nn.Module) -> bool:
    return any(not torch.equal(before[n], p) for n, p in model.named_parameters() if n in before)


@pytest.mark.parametrize(
    "options",
    [
        {"credit": naive_advantages},
        {"credit": summed_advantages, "baseline": "batch"},
        {"credit": partial(ALIGNED, loqa=True), "baseline": "none"},
        {"credit": partial(ALIGNED, include_current=True, past="regularised", over="mean")},
        {"learning_seats": "alternate", "buffer_every": 1},
        {"learning_seats": "first", "co_player": ScriptedPlayer("defect")},
        {"beta": 0.1, "entropy_coef": 0.01},
    ],
    ids=["naive", "sum", "loqa", "just_in_time", "buffer", "co_player", "kl_entropy"],
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
