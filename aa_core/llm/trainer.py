"""Self-play of a language model through TRL's GRPO trainer, with credit per round (LLM paper, arXiv 2511.19405).

`rollout_func` plays the games; per-token advantages `(batch, tokens)` replace GRPO's per-completion ones. Everything
else is TRL's: LoRA by PEFT, KL to the adapter-free base, entropy bonus, clipping, checkpoints, accelerate. All names
that are private in TRL (1.16.0, pinned) are used in this file only.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerState
from transformers.trainer_utils import TrainOutput
from trl import GRPOConfig, GRPOTrainer

from aa_core.advantages import CreditRule, discounted_returns, group_baseline
from aa_core.checks import check, check_choice, check_flags, check_shape, check_that
from aa_core.files import write_whole
from aa_core.games.text import METRICS, SCRIPTED, TextGame, make_text_game, mean_metric
from aa_core.llm.buffer import AgentBuffer
from aa_core.llm.players import ModelPlayer, Player, play
from aa_core.llm.rollout import Engine, Sampling, Transcript

BASELINES = ("group", "batch", "none")
SEATS = ("both", "first", "alternate")
CURVE = "curve.jsonl"  # a line of metrics per update, also of those before a checkpoint
WHOLE = "whole"  # in a checkpoint that every process has finished: checksums of its files
# Settings of GRPO that games played by a rollout function do not heed, or only with vLLM: refused unless at default
UNHEEDED = (
    "cache_implementation", "generation_kwargs", "multi_objective_aggregation", "num_generations_eval",
    "reward_weights", "scale_rewards", "use_adaptive_entropy", "use_transformers_continuous_batching",
    "vllm_structured_outputs_regex", "vllm_mode", "vllm_tensor_parallel_size",  # processes answer at their own pace
)  # fmt: skip


def _setting(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"help": meaning})


@dataclass
class AdvantageAlignmentConfig(GRPOConfig):
    """GRPO's settings, under TRL's names (`beta` is the coefficient of the KL penalty), and those of the game.

    The loss of an update, with sums over the N tokens that the learners sampled in it, in all processes and batches:

        -1/N sum_t credit_t w_t ratio_t + beta/N sum_t (exp(d_t) - 1 - d_t) - entropy_coef/N sum_t H_t,

    where the gradient of ratio_t is that of log pi, w_t = min(pi/pi_engine, 2) is 1 but with vLLM, d_t is
    log pi_base - log pi and H_t the entropy over the vocabulary (LLM, appendix).

    `num_generations` is the group: chats of games that share every random draw of the environment. One update plays
    `per_device_train_batch_size * gradient_accumulation_steps` chats per process, two of a game with two learners.
    """

    game: str = _setting("ipd", "name of the text game")
    rounds: int = _setting(10, "rounds of a game")
    show_rules: bool = _setting(True, "whether a chat opens with the rules of the game")
    gamma: float = _setting(0.9, "discount per round, of returns")
    baseline: str = _setting("group", f"leave-one-out mean over the group or batch: {BASELINES}")
    reward_scale: float = _setting(5.0, "rewards are divided by it")
    learning_seats: str = _setting("both", f"one of {SEATS}, group by group; one learner with a buffer or co-player")
    buffer_every: int | None = _setting(None, "updates between two copies for the agent buffer; None: no buffer")
    buffer_share: float = _setting(0.5, "probability that a game's co-player is a past agent")
    buffer_drawn: int = _setting(2, "past agents that play in one update; the paper has 28")
    guided: bool = _setting(False, "sample only replies that can be read")
    free_tries: int = _setting(0, "with guided: tries of a reply before it is guided")
    token_budget: int | None = _setting(None, "tokens whose keys and values are kept at once, but for vLLM; None: all")
    # GRPO's defaults differ from a plain policy gradient: said here, so that a new default of TRL changes nothing
    scale_rewards: str = _setting("none", "credits are not divided by a standard deviation")
    loss_type: str = _setting("dapo", "sum over sampled tokens / their number in the batch")
    use_bias_correction_kl: bool = _setting(False, "the KL penalty is the plain k3 estimator")
    vllm_importance_sampling_mode: str = _setting("token_truncate", "one ratio per token")
    vllm_importance_sampling_clip_max: float | None = _setting(2.0, "largest such ratio")
    save_total_limit: int | None = _setting(2, "checkpoints kept; an older one goes when a newer one is whole")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("baseline", self.baseline, BASELINES)
        check_choice("learning_seats", self.learning_seats, SEATS)
        check_choice("game", self.game, SCRIPTED)
        check_flags(guided=self.guided)
        checked = ["gamma", "reward_scale", "rounds", "buffer_share", "buffer_drawn", "free_tries"]
        checked += [name for name in ("buffer_every", "token_budget") if getattr(self, name) is not None]
        check(**{name: getattr(self, name) for name in checked})
        for name in UNHEEDED:
            came, default = getattr(self, name), type(self).__dataclass_fields__[name].default
            check_that(came == default, name, f"{default!r}, with which games are played", came)
        came, expected = self.steps_per_generation, self.gradient_accumulation_steps
        check_that(came == expected, "steps_per_generation", f"gradient_accumulation_steps, {expected}", came)
        kept, seats, alone = self.save_total_limit, self.learning_seats, self.buffer_every is None
        check_that(kept is None or (isinstance(kept, int) and kept > 0), "save_total_limit", "at least 1 or None", kept)
        check_that(not self.save_only_model, "save_only_model", "False, so that a training can go on", True)
        check_that(alone or seats != "both", "learning_seats", "'first' or 'alternate' with buffer_every", seats)


@dataclass
class Table:
    """A game and who plays it; `past` says whether the seats that do not learn hold a past agent."""

    game: TextGame
    players: tuple[Player, Player]
    learners: tuple[int, ...]
    past: bool = False

    @property
    def kinds(self) -> list[int]:
        """For each seat 0 if the policy of now sits there, learning or not, else 1."""
        return [int(player is not self.players[self.learners[0]]) for player in self.players]


@dataclass
class Sample:
    """A learner's chat, the credit of each of its completion tokens, and its mean reward."""

    chat: Transcript
    credits: list[float]
    reward: float


def round_advantages(
    rewards: Tensor, groups: Tensor, settings: AdvantageAlignmentConfig, kinds: Tensor | None = None
) -> Tensor:
    """Discounted returns of each player and round less their baseline (LLM): the mean of the others who are comparable.

    These are the games of the same group in which the same kind of player sits in the same seat, since hands and
    values belong to a seat. Who is alone there is compared with all in that seat of the group, or else with all games.

    Args:
        rewards: `(games, 2, rounds)`, as what is returned.
        groups: integer id of each game's group `(games,)`.
        settings: baseline, gamma, reward_scale.
        kinds: integer `(games, 2)`, who sits there (a learner, a past agent, ...).
    """
    check(settings=settings)
    check_shape((None, 2, None), rewards=rewards)
    check_shape((len(rewards),), whole=True, groups=groups)
    kinds = torch.zeros(len(rewards), 2, dtype=torch.long) if kinds is None else kinds
    check_shape((len(rewards), 2), (0, torch.inf), whole=True, kinds=kinds)
    returns = discounted_returns(rewards.flatten(0, 1) / settings.reward_scale, settings.gamma)
    seat, kind = torch.arange(2).repeat(len(rewards)), kinds.flatten()
    group = groups.unique(return_inverse=True)[1].repeat_interleave(2)
    width = int(kind.max()) + 1
    batch = [seat, seat * width + kind]  # from coarse to fine
    ids = {"none": [], "batch": batch, "group": [*batch, group * 2 + seat, (group * 2 + seat) * width + kind]}
    baseline = torch.zeros_like(returns)
    for level in ids[settings.baseline]:
        accompanied = level.bincount()[level, None] > 1
        baseline = torch.where(accompanied, group_baseline(returns, level), baseline)
    return (returns - baseline).view_as(rewards)


def round_probabilities(tables: Sequence[Table]) -> Tensor:
    """Probability of what each player wrote in each round `(games, 2, rounds)`; 1 for who is no model."""
    check(tables=tables)
    check_that(all(isinstance(table, Table) for table in tables), "tables", "a list of Table", tables)
    log_probs = [[[0.0] * table.game.rounds for _ in table.players] for table in tables]
    for sums, table in zip(log_probs, tables, strict=True):
        for seat, player in enumerate(table.players):
            if isinstance(player, ModelPlayer):
                chat = player.transcript(table.game, seat)
                for index, log_prob in zip(chat.rounds, chat.log_probs, strict=True):
                    sums[seat][index] += log_prob
    return torch.tensor(log_probs, dtype=torch.float64).exp()


def token_credits(chat: Transcript, credits: Tensor) -> list[float]:
    """A round's credit for every token that was sampled in it, 0 for texts of the game; one per completion token."""
    check(chat=chat)
    check_shape((None,), credits=credits)
    check_that(max(chat.rounds, default=0) < len(credits), "credits", "one for each round of chat", credits)
    per_round = credits.tolist()
    return [per_round[r] * m for r, m in zip(chat.rounds, chat.mask, strict=True)]


class AdvantageAlignmentTrainer(GRPOTrainer):
    """GRPO's trainer, playing games against itself, past selves or anybody.

    In `args.output_dir` are `curve.jsonl`, a line of metrics per update; the agent buffer; and the checkpoints, if
    `save_strategy` asks for them. What an update draws at random depends on the seed, the update and the process alone:
    a co-player that draws from `rng` or `generator` of the trainer lets an interrupted training go on exactly.

    Args:
        model: causal language model, with `peft_config` or already a PEFT model.
        args: settings.
        processing_class: tokenizer with a chat template.
        credit: what makes the algorithm, see `advantages`; its probabilities are of all that a player wrote in a round.
        co_player: sits opposite the learner; None: the learner's copy, or a past agent if there is a buffer.
        **options: of GRPOTrainer (`peft_config`, `callbacks`, ...).
    """

    def __init__(
        self, model: PreTrainedModel | str, args: AdvantageAlignmentConfig, processing_class: PreTrainedTokenizerBase,
        credit: CreditRule, co_player: Player | None = None, **options: Any,
    ) -> None:  # fmt: skip
        named = {} if isinstance(model, str) else {"model": model}
        check(args=args, processing_class=processing_class, credit=credit, **named)
        alone, seats = co_player is None, args.learning_seats
        check_that(alone or hasattr(co_player, "answer"), "co_player", "a Player or None", co_player)
        check_that(alone or seats != "both", "learning_seats", "'first' or 'alternate' with a co_player", seats)
        self.credit, self.co_player = credit, co_player
        self.history: list[dict[str, float]] = []  # metrics of every update, over the games of all processes
        self.curve = Path(args.output_dir) / CURVE
        self.rng, self.generator = Random(), torch.Generator()
        groups = Dataset.from_dict({"prompt": [str(seed) for seed in range(100_000)]})
        options |= dict(train_dataset=groups, processing_class=processing_class, rollout_func=_rollout)
        super().__init__(model, _reward, args, **options)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise ValueError("FSDP and DeepSpeed must be off: every process plays with a whole copy of the model")
        unwrapped = self.accelerator.unwrap_model(self.model)
        trained = unwrapped.active_adapter
        # past agents are files of their own, and a co-player's adapter is not ours to keep
        kept = {"selected_adapters": [trained], "save_embedding_layers": False}  # which would ask the hub
        unwrapped.save_pretrained = partial(unwrapped.save_pretrained, **kept)
        if self.use_vllm:
            rename = self.vllm_generation._fix_param_name_to_vllm
            self.vllm_generation._iter_named_params = lambda: (
                (rename(name, ["modules_to_save.default."]), weights) for name, weights in merged(unwrapped, trained)
            )
        every, folder = args.buffer_every, self.curve.with_name("agents")
        self.buffer = None if every is None else AgentBuffer(unwrapped, folder, every, args.buffer_drawn)

    def train(self, resume_from_checkpoint: str | bool | None = None, **options: Any) -> TrainOutput:
        """As TRL's, with the curve; True goes on from the last whole checkpoint, if there is one.

        Killed at any time and started again, a training ends as if it had not been, bit for bit on the same machine.
        ValueError for a checkpoint that is not whole, or if others in `output_dir` would be mixed with those to come.
        """
        name, asked, saved = "resume_from_checkpoint", resume_from_checkpoint, _checkpoints(self.curve.parent)
        whole = [path for path in saved.values() if _is_whole(path)] if asked is True else []
        checkpoint = whole[-1] if whole else Path(asked) if asked and asked is not True else None
        check_that(not checkpoint or whole or _is_whole(checkpoint), name, "True, or a whole checkpoint", asked)
        state = TrainerState.load_from_json(f"{checkpoint}/trainer_state.json") if checkpoint else TrainerState()
        later = [path for update, path in saved.items() if update > state.global_step]
        check_that(asked is True or not later, name, f"True, or output_dir without {len(later)} checkpoints", asked)
        text = (checkpoint / CURVE).read_text() if checkpoint else ""
        self.history = [json.loads(line) for line in text.splitlines()]
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            for path in later:  # none of which is whole
                shutil.rmtree(path)
            write_whole(self.curve, lambda path: path.write_text(text))
        self.accelerator.wait_for_everyone()
        if checkpoint and 0 < self.args.max_steps <= state.global_step:  # transformers would train on
            self._load_from_checkpoint(str(checkpoint))
            self.state = state
            return TrainOutput(state.global_step, 0.0, {})
        return super().train(resume_from_checkpoint=checkpoint and str(checkpoint), **options)

    def play_batch(self, seeds: Sequence[int]) -> list[Sample]:
        """Play a batch, log it and return the learners' chats with credits: one for each of `seeds`, the groups."""
        check(seeds=seeds)
        process, update = self.accelerator.process_index, f"{self.args.seed} {self.state.global_step}"
        self.rng.seed(f"{update} 0")  # who plays is drawn alike in all processes
        self.generator.manual_seed(self.rng.getrandbits(48) + process)
        learner = self._player(engine=self._vllm if self.use_vllm else None)
        tables = self._deal(list(seeds)[:: 2 if self.args.learning_seats == "both" else 1], learner)
        if process:
            self.rng.seed(f"{update} {process}")
        play([table.game for table in tables], [table.players for table in tables])
        rewards = torch.tensor([table.game.rewards for table in tables], dtype=torch.float64).transpose(1, 2)
        own = (rewards, torch.tensor([t.game.seed for t in tables]), torch.tensor([t.kinds for t in tables]))
        # baselines are over the games of all processes
        everybody, groups, kinds = (self.accelerator.gather(x.to(self.accelerator.device)).cpu() for x in own)
        advantages = round_advantages(everybody, groups, self.args, kinds)[process * len(rewards) :][: len(rewards)]
        credits = self.credit(advantages, round_probabilities(tables))
        check_shape(advantages.shape, credit=credits)
        self._record(tables)
        return [
            Sample(chat := learner.transcript(table.game, s), token_credits(chat, credit[s]), reward[s].mean().item())
            for table, reward, credit in zip(tables, rewards, credits, strict=True)
            for s in table.learners
        ]

    def _deal(self, seeds: Sequence[int], learner: ModelPlayer) -> list[Table]:
        """New games, one per seed, with who sits where: the same ones however many processes share them."""
        settings, step = self.args, self.state.global_step
        drawn: dict[str, int] = {}
        if self.buffer is not None:
            if self.accelerator.is_main_process:
                self.buffer.keep(step)
            self.accelerator.wait_for_everyone()
            drawn = self.buffer.draw(step, self.rng)
        # where the update is one group, seats alternate within it
        stretch = settings.num_generations if settings.generation_batch_size > settings.num_generations else 1
        here = self.co_player is None and drawn
        past = [
            self.rng.choice(list(drawn)) if here and self.rng.random() < settings.buffer_share else None
            for _ in range(self.accelerator.num_processes * len(seeds))
        ]
        first, tables, past_agents = self.accelerator.process_index * len(seeds), [], self._player()
        for name in sorted({name for name in past[first : first + len(seeds)] if name}):
            self.buffer.load(name, drawn[name])
        for index, seed in enumerate(seeds, start=first):
            game = make_text_game(settings.game, seed, rounds=settings.rounds, show_rules=settings.show_rules)
            if past[index]:
                past_agents.adapters[game] = past[index]
            opponent = past_agents if past[index] else self.co_player or learner
            seat = index // stretch % 2 if settings.learning_seats == "alternate" else 0
            learners = (0, 1) if settings.learning_seats == "both" else (seat,)  # without other opponents
            pair = (opponent, learner) if seat else (learner, opponent)
            tables.append(Table(game, pair, learners, past=bool(past[index])))
        return tables

    def _player(self, engine: Engine | None = None) -> ModelPlayer:
        return ModelPlayer(
            self.accelerator.unwrap_model(self.model), self.processing_class,
            max_new_tokens=self.args.max_completion_length, generator=self.generator, engine=engine,
            guided=self.args.guided, free_tries=self.args.free_tries, token_budget=self.args.token_budget,
            sampling=Sampling(**{field.name: getattr(self.args, field.name) for field in fields(Sampling)}),
            template=self.args.chat_template_kwargs or {},
        )  # fmt: skip

    def _vllm(self, chats: list[list[int]], pattern: str | None = None) -> tuple[list[list[int]], list[list[float]]]:
        """TRL's vLLM engine, which has the present weights and keeps the prefixes of earlier turns."""
        self.vllm_generation.structured_outputs_regex = pattern
        _, ids, log_probs, _ = self.vllm_generation.generate(chats, images=None, num_generations=1)
        if pattern is None:
            return ids, [[top[0] for top in answer] for answer in log_probs]
        # vLLM says how probable a token was among those that the pattern allows: ours are kept, as without it
        read, device = self._get_per_token_logps_and_entropies, self.accelerator.device
        rows = [(torch.tensor([chat + said], device=device), len(said)) for chat, said in zip(chats, ids, strict=True)]
        with torch.no_grad():
            return ids, [read(self.model, row, torch.ones_like(row), count)[0][0].tolist() for row, count in rows]

    def _record(self, tables: Sequence[Table]) -> None:
        """Mean metrics of the learners' own rounds, as the papers plot them: games with past agents are left out."""
        seats = gather_object([(table.game, seat, table.past) for table in tables for seat in table.learners])
        fresh = [(game, seat) for game, seat, past in seats if not past] or [(game, seat) for game, seat, _ in seats]
        metrics = {name: mean for name in METRICS if (mean := mean_metric(name, fresh)) is not None}
        if self.co_player is not None:
            metrics["reward_other"] = mean_metric("reward", [(game, 1 - seat) for game, seat in fresh])
        self.history.append({"update": self.state.global_step, **metrics})
        if self.accelerator.is_main_process:
            with self.curve.open("a") as file:
                file.write(json.dumps(self.history[-1]) + "\n")
        for name, value in metrics.items():
            self._metrics["train"][f"game/{name}"].append(value)

    def _compute_loss(self, model: PreTrainedModel, inputs: dict[str, Any]) -> Tensor:
        # TRL's bonus is a mean over the micro-batch: scaled so that every sampled token of the update weighs the same
        tokens = (inputs["completion_mask"] * inputs["tool_mask"]).sum() * self.accelerator.num_processes
        share = tokens * self.args.gradient_accumulation_steps / inputs["num_items_in_batch"].clamp(min=1)
        self.entropy_coef = self.args.entropy_coef * share.item()
        return super()._compute_loss(model, inputs)

    def _save_checkpoint(self, model: PreTrainedModel, trial: Any) -> None:
        limit, self.args.save_total_limit = self.args.save_total_limit, None  # transformers would remove too early
        super()._save_checkpoint(model, trial)
        self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            *old, new = _checkpoints(self.curve.parent).values()
            curve = "".join(json.dumps(row) + "\n" for row in self.history)
            write_whole(new / CURVE, lambda path: path.write_text(curve))
            sums = {str(path.relative_to(new)): _sha256(path) for path in new.rglob("*") if path.is_file()}
            write_whole(new / WHOLE, lambda path: path.write_text(json.dumps(sums, indent=1)))
            for path in old[: len(old) + 1 - limit] if limit else []:
                shutil.rmtree(path)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        # TRL keeps what a rollout returns beside its chats in `inputs`; completions are padded on the right
        ids = output["completion_ids"]
        rows = [row["credits"] + [0.0] * (ids.shape[1] - len(row["credits"])) for row in inputs]
        output["advantages"] = torch.tensor(rows, device=ids.device)
        return output


def _rollout(prompts: list[Any], trainer: AdvantageAlignmentTrainer) -> dict[str, list[Any]]:
    """TRL's seam for rollouts: a prompt is the seed of a group."""
    training = trainer.model.training
    samples = trainer.play_batch([int(prompt) for prompt in prompts])
    trainer.model.train(training)  # who plays is set to evaluation
    return {
        "prompt_ids": [s.chat.prompt_ids for s in samples], "env_mask": [s.chat.mask for s in samples],
        "completion_ids": [s.chat.completion_ids for s in samples], "logprobs": [s.chat.log_probs for s in samples],
        "credits": [s.credits for s in samples], "mean_reward": [s.reward for s in samples],
    }  # fmt: skip


def _reward(completions: list[Any], mean_reward: list[float], **_: Any) -> list[float]:
    """What TRL logs as the reward; credits do not depend on it."""
    return mean_reward


def _checkpoints(folder: Path) -> dict[int, Path]:
    """Update -> checkpoint before it, whole or not, in their order."""
    found = {path.name[11:]: path for path in folder.glob("checkpoint-*") if path.is_dir()}
    return dict(sorted((int(update), path) for update, path in found.items() if update.isdecimal()))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_whole(checkpoint: Path) -> bool:
    """Whether what was in a checkpoint when it was finished is there unaltered; other files may lie beside it."""
    try:
        sums = json.loads((checkpoint / WHOLE).read_text())
        return CURVE in sums and all(_sha256(checkpoint / name) == known for name, known in sums.items())
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def merged(model: PeftModel, adapter: str) -> Iterator[tuple[str, Tensor]]:
    """The parameters of the model with a LoRA adapter added, one after the other, for an engine without adapters.

    The sums are new tensors: adding to the weights and subtracting again would move them in bfloat16.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    for name, parameter in model.named_parameters():
        if model.prefix in name or "original_module" in name:
            continue
        weights, layer = parameter.data, layers.get(name.removesuffix(".base_layer.weight"))
        if layer is not None and adapter in layer.lora_A:
            weights = (weights + layer.get_delta_weight(adapter)).to(weights.dtype)
        yield name.removeprefix("base_model.model.").replace(".base_layer", ""), weights
