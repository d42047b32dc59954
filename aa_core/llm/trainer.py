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

from aa_core.advantages import CreditRule, group_relative_advantages
from aa_core.checks import check_choice, check_positive, check_unit_interval
from aa_core.games.text import METRICS, TextGame, make_text_game, mean_metric
from aa_core.llm.buffer import AgentBuffer
from aa_core.llm.players import ModelPlayer, Player, play
from aa_core.llm.rollout import Engine, Transcript

BASELINES = ("group", "batch", "none")
SEATS = ("both", "first", "alternate")


@dataclass
class AdvantageAlignmentConfig(GRPOConfig):
    """GRPO's settings, under TRL's names (`beta` is the coefficient of the KL penalty), and those of the game.

    `num_generations` is the group: chats of games that share every random draw of the environment. One update plays
    `per_device_train_batch_size * steps_per_generation` chats per process; with learners in both seats a game has two.
    """

    game: str = field(default="ipd", metadata={"help": "name of the text game"})
    rounds: int = field(default=10, metadata={"help": "rounds of a game"})
    show_rules: bool = field(default=True, metadata={"help": "whether a chat opens with the rules of the game"})
    gamma: float = field(default=0.9, metadata={"help": "discount per round, of returns"})
    baseline: str = field(
        default="group", metadata={"help": f"leave-one-out mean over the group or batch: {BASELINES}"}
    )
    reward_scale: float = field(default=5.0, metadata={"help": "rewards are divided by it"})
    learning_seats: str = field(
        default="both", metadata={"help": f"one of {SEATS}; a buffer or a co-player needs one learner a game"}
    )
    buffer_every: int | None = field(
        default=None, metadata={"help": "updates between two copies for the agent buffer; None: no buffer"}
    )
    buffer_share: float = field(default=0.5, metadata={"help": "probability that a game's co-player is a past agent"})
    guided: bool = field(default=False, metadata={"help": "sample only replies that can be read; not with vLLM"})
    # GRPO's defaults differ from a plain policy gradient: said here, so that a new default of TRL changes nothing
    scale_rewards: str = field(default="none", metadata={"help": "credits are not divided by a standard deviation"})
    loss_type: str = field(default="dapo", metadata={"help": "sum over sampled tokens / their number in the batch"})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("baseline", self.baseline, BASELINES)
        check_choice("learning_seats", self.learning_seats, SEATS)
        check_unit_interval("gamma", self.gamma)
        check_positive("reward_scale", self.reward_scale)
        if self.learning_seats == "both" and self.buffer_every is not None:
            raise ValueError("learning_seats must be 'first' or 'alternate' with buffer_every, got 'both'")


@dataclass
class Table:
    """A game and who plays it; `past` says whether the seats that do not learn hold a past agent."""

    game: TextGame
    players: tuple[Player, Player]
    learners: tuple[int, ...]
    past: bool = False

    @property
    def kinds(self) -> list[int]:
        """For each seat 1 if a past agent sits there, else 0."""
        return [int(self.past and player not in self.learners) for player in (0, 1)]


@dataclass
class Sample:
    """A learner's chat, the credit of each of its completion tokens, and its mean reward."""

    chat: Transcript
    credits: list[float]
    reward: float


def round_advantages(
    rewards: Tensor, groups: Tensor, settings: AdvantageAlignmentConfig, kinds: Tensor | None = None
) -> Tensor:
    """Discounted returns of each player and round less their baseline (LLM).

    Args:
        rewards: `(games, 2, rounds)`.
        groups: integer id of each game's group `(games,)`.
        settings: baseline, gamma, reward_scale.
        kinds: integer `(games, 2)`, who sits there (a learner, a past agent, ...); a baseline averages over one kind.

    Returns:
        `(games, 2, rounds)`.
    """
    kinds = torch.zeros(rewards.shape[:2], dtype=torch.long) if kinds is None else kinds
    if settings.baseline == "none":
        ids = torch.arange(rewards.shape[0] * 2).view(-1, 2)  # a group of one has baseline 0
    else:
        shared = groups if settings.baseline == "group" else torch.zeros_like(groups)
        # hands and values belong to a seat, so a seat of a group is averaged by itself
        ids = (shared[:, None] * 2 + torch.arange(2)) * (int(kinds.max()) + 1) + kinds
    rewards = rewards / settings.reward_scale
    return group_relative_advantages(rewards.flatten(0, 1), settings.gamma, ids.flatten()).view_as(rewards)


def round_probabilities(tables: Sequence[Table]) -> Tensor:
    """Probability of what each player wrote in each round `(games, 2, rounds)`; 1 for who is no model."""
    rounds = tables[0].game.rounds
    log_probs = [[[0.0] * rounds, [0.0] * rounds] for _ in tables]
    for sums, table in zip(log_probs, tables, strict=True):
        for seat, player in enumerate(table.players):
            if isinstance(player, ModelPlayer):
                chat = player.transcript(table.game, seat)
                for index, log_prob in zip(chat.rounds, chat.log_probs, strict=True):
                    sums[seat][index] += log_prob
    return torch.tensor(log_probs, dtype=torch.float64).exp()


def token_credits(chat: Transcript, credits: Tensor) -> list[float]:
    """A round's credit for every token that was sampled in it, 0 for texts of the game; one per completion token."""
    per_round = credits.tolist()
    return [per_round[r] * m for r, m in zip(chat.rounds, chat.mask, strict=True)]


class AdvantageAlignmentTrainer(GRPOTrainer):
    """GRPO's trainer, playing games against itself, past selves or anybody.

    Args:
        model: causal language model, with `peft_config` or already a PEFT model.
        args: settings.
        processing_class: tokenizer with a chat template.
        credit: what makes the algorithm, see `advantages`; its probabilities are those of all that a player wrote in a
            round.
        co_player: sits opposite the learner; None: the learner's copy, or a past agent if there is a buffer.
        **options: of GRPOTrainer (`peft_config`, `callbacks`, ...).
    """

    def __init__(
        self,
        model: PreTrainedModel | str,
        args: AdvantageAlignmentConfig,
        processing_class: PreTrainedTokenizerBase,
        credit: CreditRule,
        co_player: Player | None = None,
        **options: Any,
    ) -> None:
        if args.learning_seats == "both" and co_player is not None:
            raise ValueError("learning_seats must be 'first' or 'alternate' with a co_player, got 'both'")
        if args.use_vllm and args.vllm_mode != "colocate":
            raise ValueError(
                f"vllm_mode must be 'colocate': processes answer at their own pace, got {args.vllm_mode!r}"
            )
        groups = Dataset.from_dict({"prompt": [str(seed) for seed in range(100_000)]})
        super().__init__(
            model=model,
            reward_funcs=_reward,
            args=args,
            train_dataset=groups,
            processing_class=processing_class,
            rollout_func=_rollout,
            **options,
        )
        self.credit, self.co_player = credit, co_player
        self.history: list[dict[str, float]] = []  # metrics of every update
        self._rng = Random(args.seed + 7919 * self.accelerator.process_index)
        self._generator = torch.Generator().manual_seed(self._rng.getrandbits(48))
        unwrapped = self.accelerator.unwrap_model(self.model)
        self.buffer = None
        if args.buffer_every is not None:
            self.buffer = AgentBuffer(unwrapped, args.buffer_every, share=args.buffer_share)

    def play_batch(self, seeds: Sequence[int]) -> list[Sample]:
        """Play one batch and log what happened.

        Args:
            seeds: group of each chat to return.

        Returns:
            The learners' chats with their credits, in the order of `seeds`.
        """
        learner = self._player(engine=self._vllm if self.use_vllm else None)
        tables = self._deal(list(seeds)[:: 2 if self.args.learning_seats == "both" else 1], learner)
        play([table.game for table in tables], [table.players for table in tables])
        rewards = torch.tensor([table.game.rewards for table in tables], dtype=torch.float64).transpose(1, 2)
        credits = self.credit(self._advantages(rewards, tables), round_probabilities(tables))
        self._record(tables)
        samples = []
        for table, reward, credit in zip(tables, rewards, credits, strict=True):
            for seat in table.learners:
                chat = learner.transcript(table.game, seat)
                samples.append(Sample(chat, token_credits(chat, credit[seat]), reward[seat].mean().item()))
        return samples

    def _deal(self, seeds: Sequence[int], learner: ModelPlayer) -> list[Table]:
        """New games, one per seed, with who sits where."""
        settings = self.args
        opponents: list[Player] = []
        if self.buffer is not None:
            self.buffer.update(self.state.global_step)
            opponents = [self._player(name) for name in self.buffer.draw(self._rng)]
        tables = []
        for index, seed in enumerate(seeds):
            game = make_text_game(settings.game, seed, rounds=settings.rounds, show_rules=settings.show_rules)
            if settings.learning_seats == "both":
                tables.append(Table(game, (learner, learner), (0, 1)))
                continue
            opponent, past = self.co_player or learner, False
            if self.co_player is None and opponents and self._rng.random() < settings.buffer_share:
                opponent, past = self._rng.choice(opponents), True
            seat = index // settings.num_generations % 2 if settings.learning_seats == "alternate" else 0
            tables.append(Table(game, (opponent, learner) if seat else (learner, opponent), (seat,), past))
        return tables

    def _player(self, adapter: str | None = None, engine: Engine | None = None) -> ModelPlayer:
        return ModelPlayer(
            self.accelerator.unwrap_model(self.model), self.processing_class, adapter,
            max_new_tokens=self.args.max_completion_length, temperature=self.temperature,
            generator=self._generator, guided=self.args.guided, engine=engine,
        )  # fmt: skip

    def _vllm(self, chats: list[list[int]]) -> tuple[list[list[int]], list[list[float]]]:
        """TRL's vLLM engine, which has the present weights and keeps the prefixes of earlier turns."""
        _, ids, log_probs, _ = self.vllm_generation.generate(chats, images=None, num_generations=1)
        return ids, [[top[0] for top in answer] for answer in log_probs]

    def _advantages(self, rewards: Tensor, tables: Sequence[Table]) -> Tensor:
        """Advantages of this process's games, with baselines over the games of all processes."""
        groups = torch.tensor([table.game.seed for table in tables])
        kinds = torch.tensor([table.kinds for table in tables])
        gathered = [self.accelerator.gather(x.to(self.accelerator.device)).cpu() for x in (rewards, groups, kinds)]
        start = self.accelerator.process_index * len(rewards)
        return round_advantages(gathered[0], gathered[1], self.args, gathered[2])[start : start + len(rewards)]

    def _record(self, tables: Sequence[Table]) -> None:
        """Mean metrics of the learners' own rounds, as the papers plot them: games with past agents are left out."""
        fresh = [table for table in tables if not table.past] or tables
        seats = [(table.game, seat) for table in fresh for seat in table.learners]
        metrics = {name: mean_metric(name, seats) for name in METRICS}
        if self.co_player is not None:
            metrics["reward_other"] = mean_metric("reward", [(game, 1 - seat) for game, seat in seats])
        metrics = {name: value for name, value in metrics.items() if value is not None}
        self.history.append({"update": self.state.global_step, **metrics})
        for name, value in metrics.items():
            self._metrics["train"][f"game/{name}"].append(value)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        # TRL keeps what a rollout returns beside its chats in `inputs`; completions are padded on the right
        credits = [torch.tensor(row["credits"]) for row in inputs]
        width = output["completion_ids"].shape[1]
        rows = [torch.nn.functional.pad(credit, (0, width - len(credit))) for credit in credits]
        output["advantages"] = torch.stack(rows).to(output["completion_ids"].device)
        return output


def _rollout(prompts: list[Any], trainer: AdvantageAlignmentTrainer) -> dict[str, list[Any]]:
    """TRL's seam for rollouts: a prompt is the seed of a group."""
    samples = trainer.play_batch([int(prompt) for prompt in prompts])
    return {
        "prompt_ids": [sample.chat.prompt_ids for sample in samples],
        "completion_ids": [sample.chat.completion_ids for sample in samples],
        "logprobs": [sample.chat.log_probs for sample in samples],
        "env_mask": [sample.chat.mask for sample in samples],
        "credits": [sample.credits for sample in samples],
        "mean_reward": [sample.reward for sample in samples],
    }


def _reward(completions: list[Any], mean_reward: list[float], **_: Any) -> list[float]:
    """What TRL logs as the reward; credits do not depend on it."""
    return mean_reward
