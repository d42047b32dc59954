"""Self-play of a language model through TRL's GRPO trainer, with credit per round (LLM paper, arXiv 2511.19405).

`rollout_func` plays the games; per-token advantages `(batch, tokens)` replace GRPO's per-completion ones. Everything
else is TRL's: LoRA by PEFT, KL to the adapter-free base, entropy bonus, clipping, checkpoints, accelerate. All names
that are private in TRL (1.16.0, pinned) are used in this file only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import GRPOConfig, GRPOTrainer

from aa_core.advantages import aligned_advantages, group_relative_advantages
from aa_core.checks import check_choice, check_positive, check_unit_interval
from aa_core.games.text import TextGame, make_text_game
from aa_core.llm.buffer import AgentBuffer
from aa_core.llm.players import ModelPlayer, Player, play
from aa_core.llm.rollout import Engine, Transcript

CREDITS = ("naive", "sum_of_rewards", "advantage_alignment")
BASELINES = ("group", "batch", "none")
SEATS = ("both", "first", "alternate")


@dataclass
class AdvantageAlignmentConfig(GRPOConfig):
    """GRPO's settings and those of the game and its credit.

    `num_generations` is the group: games that share every random draw of the environment. One update plays
    `per_device_train_batch_size * steps_per_generation` chats per process; with learners in both seats a game has two.
    """

    game: str = field(default="ipd", metadata={"help": "name of the text game"})
    rounds: int = field(default=10, metadata={"help": "rounds of a game"})
    credit: str = field(default="advantage_alignment", metadata={"help": f"one of {CREDITS}"})
    alignment_beta: float = field(default=0.5, metadata={"help": "strength of shaping; `beta` is TRL's KL coefficient"})
    gamma: float = field(default=0.9, metadata={"help": "discount per round, of returns and of the alignment term"})
    include_current: bool = field(default=False, metadata={"help": "just-in-time alignment"})
    baseline: str = field(
        default="group", metadata={"help": f"leave-one-out mean over the group or batch: {BASELINES}"}
    )
    reward_scale: float = field(default=5.0, metadata={"help": "rewards are divided by it"})
    learning_seats: str = field(
        default="both", metadata={"help": f"one of {SEATS}; the buffer needs one learner a game"}
    )
    guided: bool = field(default=False, metadata={"help": "sample only replies that can be read; not with vLLM"})
    # GRPO's defaults differ from a plain policy gradient: said here, so that a new default of TRL changes nothing
    scale_rewards: str = field(default="none", metadata={"help": "credits are not divided by a standard deviation"})
    loss_type: str = field(default="dapo", metadata={"help": "sum over sampled tokens / their number in the batch"})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("credit", self.credit, CREDITS)
        check_choice("baseline", self.baseline, BASELINES)
        check_choice("learning_seats", self.learning_seats, SEATS)
        check_unit_interval("gamma", self.gamma)
        check_positive("reward_scale", self.reward_scale)
        if self.alignment_beta < 0:
            raise ValueError(f"alignment_beta must be at least 0, got {self.alignment_beta!r}")


def round_credits(
    rewards: Tensor, groups: Tensor, settings: AdvantageAlignmentConfig, kinds: Tensor | None = None
) -> Tensor:
    """Credit of each player and round.

    Args:
        rewards: `(games, 2, rounds)`.
        groups: integer id of each game's group `(games,)`.
        settings: credit, baseline, gamma, alignment_beta, include_current, reward_scale.
        kinds: integer `(games, 2)`, who sits there (a learner, a past agent, ...); a baseline averages over one kind.

    Returns:
        `(games, 2, rounds)`.
    """
    rewards = rewards / settings.reward_scale
    kinds = torch.zeros(rewards.shape[:2], dtype=torch.long) if kinds is None else kinds
    if settings.baseline == "none":
        ids = torch.arange(rewards.shape[0] * 2).view(-1, 2)  # a group of one has baseline 0
    else:
        shared = groups if settings.baseline == "group" else torch.zeros_like(groups)
        # hands and values belong to a seat, so a seat of a group is averaged by itself
        ids = (shared[:, None] * 2 + torch.arange(2)) * (int(kinds.max()) + 1) + kinds
    rows = group_relative_advantages(rewards.flatten(0, 1), settings.gamma, ids.flatten())
    advantages = rows.view_as(rewards)
    other = advantages.flip(1)
    if settings.credit == "naive":
        return advantages
    if settings.credit == "sum_of_rewards":
        return advantages + other
    return aligned_advantages(advantages, other, settings.alignment_beta, settings.gamma, settings.include_current)


def token_credits(transcript: Transcript, credits: Tensor) -> list[float]:
    """A round's credit for every token that was sampled in it, 0 for texts of the game; one per completion token."""
    per_round = credits.tolist()
    return [per_round[r] * m for r, m in zip(transcript.rounds, transcript.mask, strict=True)]


class AdvantageAlignmentTrainer(GRPOTrainer):
    """GRPO's trainer, playing games against itself, past selves or anybody.

    Args:
        model: causal language model, with `peft_config` or already a PEFT model.
        args: settings.
        processing_class: tokenizer with a chat template.
        co_player: sits opposite the learner; None: the learner's copy, or a past agent if there is a buffer.
        buffer_every: updates between two copies of the adapter for the agent buffer; None: no buffer.
        buffer_share: probability that a game's co-player is a past agent.
        **options: of GRPOTrainer (`peft_config`, `callbacks`, ...).
    """

    def __init__(
        self,
        model: PreTrainedModel | str,
        args: AdvantageAlignmentConfig,
        processing_class: PreTrainedTokenizerBase,
        co_player: Player | None = None,
        buffer_every: int | None = None,
        buffer_share: float = 0.5,
        **options: Any,
    ) -> None:
        if args.learning_seats == "both" and (co_player is not None or buffer_every is not None):
            raise ValueError("learning_seats must be 'first' or 'alternate' with a co_player or a buffer, got 'both'")
        if args.use_vllm and args.vllm_mode != "colocate":
            raise ValueError(
                f"vllm_mode must be 'colocate': processes answer at their own pace, got {args.vllm_mode!r}"
            )
        groups = Dataset.from_dict({"prompt": [str(seed) for seed in range(100_000)]})
        super().__init__(
            model=model,
            reward_funcs=_mean_reward,
            args=args,
            train_dataset=groups,
            processing_class=processing_class,
            rollout_func=_rollout,
            **options,
        )
        self.co_player = co_player
        self.history: list[dict[str, float]] = []  # metrics of every update
        self._rng = Random(args.seed + 7919 * self.accelerator.process_index)
        self._generator = torch.Generator().manual_seed(self._rng.getrandbits(48))
        unwrapped = self.accelerator.unwrap_model(self.model)
        self.buffer = None if buffer_every is None else AgentBuffer(unwrapped, buffer_every, share=buffer_share)

    def play_batch(self, seeds: Sequence[int]) -> list[Transcript]:
        """Play one batch; keeps the credits for the loss and logs what happened.

        Args:
            seeds: group of each chat to return.

        Returns:
            The learners' chats, in the order of `seeds`.
        """
        settings = self.args
        both = settings.learning_seats == "both"
        seeds = list(seeds)[:: 2 if both else 1]
        games = [make_text_game(settings.game, seed, rounds=settings.rounds) for seed in seeds]
        model = self.accelerator.unwrap_model(self.model)
        learner = self._player(model, engine=self._vllm if self.use_vllm else None)
        past: list[str] = []
        if self.buffer is not None:
            self.buffer.update(self.state.global_step)
            past = self.buffer.draw(self._rng)
        opponents: dict[str, Player] = {name: self._player(model, name) for name in past}
        pairs, learning, kinds = [], [], []
        for index in range(len(games)):
            opponent, kind = self.co_player or learner, 0
            if self.co_player is None and past and self._rng.random() < self.buffer.share:
                opponent, kind = opponents[self._rng.choice(past)], 1
            seat = index // settings.num_generations % 2 if settings.learning_seats == "alternate" else 0
            pairs.append((opponent, learner) if seat and not both else (learner, opponent))
            learning.append((0, 1) if both else (seat,))
            kinds.append((kind, 0) if seat else (0, kind))
        play(games, pairs)

        rewards = torch.tensor([game.rewards for game in games], dtype=torch.float64).transpose(1, 2)
        credits = self._credits(rewards, torch.tensor(seeds), torch.tensor(kinds))
        chosen = [(table, player) for table, players in enumerate(learning) for player in players]
        chats = [learner.transcript(games[table], player) for table, player in chosen]
        self._token_credits = [token_credits(chat, credits[seat]) for chat, seat in zip(chats, chosen, strict=True)]
        self._rewards = [rewards[seat].mean().item() for seat in chosen]
        self._record(games, rewards, chosen, torch.tensor(kinds))
        return chats

    def _player(self, model: PreTrainedModel, adapter: str | None = None, engine: Engine | None = None) -> ModelPlayer:
        length = self.args.max_completion_length
        return ModelPlayer(
            model, self.processing_class, adapter, max_new_tokens=length, temperature=self.temperature,
            generator=self._generator, guided=self.args.guided, engine=engine,
        )  # fmt: skip

    def _vllm(self, chats: list[list[int]]) -> tuple[list[list[int]], list[list[float]]]:
        """TRL's vLLM engine, which has the present weights and keeps the prefixes of earlier turns."""
        _, ids, log_probs, _ = self.vllm_generation.generate(chats, images=None, num_generations=1)
        return ids, [[top[0] for top in answer] for answer in log_probs]

    def _credits(self, rewards: Tensor, groups: Tensor, kinds: Tensor) -> Tensor:
        """Credits of this process's games, with baselines over the games of all processes."""
        device, gather = self.accelerator.device, self.accelerator.gather
        everybody = [gather(x.to(device)).cpu() for x in (rewards, groups, kinds)]
        start = self.accelerator.process_index * len(rewards)
        return round_credits(everybody[0], everybody[1], self.args, everybody[2])[start : start + len(rewards)]

    def _record(self, games: list[TextGame], rewards: Tensor, chosen: list[tuple[int, int]], kinds: Tensor) -> None:
        """Mean metrics of the learners' own rounds, as the papers plot them: games with past agents are left out."""
        fresh = [seat for seat in chosen if not kinds[seat[0]].any()] or chosen
        rounds = [(games[t].record(r), t, p) for t, p in fresh for r in range(games[t].rounds)]
        metrics = {"reward": sum(rewards[seat].mean().item() for seat in fresh) / len(fresh)}
        if self.co_player is not None:
            metrics["reward_other"] = sum(rewards[t, 1 - p].mean().item() for t, p in fresh) / len(fresh)
        for name in ("cooperation", "claim_higher", "claim_lower", "efficiency", "errors"):
            values = [record[name] for record, *_ in rounds if name in record]
            own = [v[p] if isinstance(v, tuple) else v for v, (*_, p) in zip(values, rounds, strict=False)]
            known = [float(v) for v in own if v is not None]
            if known:
                metrics[name] = sum(known) / len(known)
        self.history.append({"update": self.state.global_step, **metrics})
        for name, value in metrics.items():
            self._metrics["train"][f"game/{name}"].append(value)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        completions = output["completion_ids"]
        advantages = torch.zeros(completions.shape, device=completions.device)
        for row, credits in enumerate(self._token_credits):  # completions are padded on the right
            advantages[row, : len(credits)] = torch.tensor(credits, device=completions.device)
        output["advantages"] = advantages
        return output


def _rollout(prompts: list[Any], trainer: AdvantageAlignmentTrainer) -> dict[str, list[Any]]:
    """TRL's seam for rollouts: a prompt is the seed of a group."""
    chats = trainer.play_batch([int(prompt) for prompt in prompts])
    return {
        "prompt_ids": [chat.prompt_ids for chat in chats],
        "completion_ids": [chat.completion_ids for chat in chats],
        "logprobs": [chat.log_probs for chat in chats],
        "env_mask": [chat.mask for chat in chats],
        "mean_reward": list(trainer._rewards),
    }


def _mean_reward(completions: list[Any], mean_reward: list[float], **_: Any) -> list[float]:
    """What TRL logs as the reward; credits do not depend on it."""
    return mean_reward
