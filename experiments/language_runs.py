"""What a run with language models computes: warm-ups, trainings, measurements, cross-play and speed.

`experiments.language` says which runs there are, with which settings. The heavy libraries are imported by the functions
that compute, since the build asks for the list of runs.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from random import Random
from timeit import repeat, timeit
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from aa_core import HEADLESS
from aa_core.advantages import CreditRule, naive_advantages
from aa_core.games.matrix import STATES
from aa_core.games.text import METRICS, TextGame, make_text_game, mean_metric, play_scripted
from experiments import records

if TYPE_CHECKING:
    from aa_core.llm.players import ModelPlayer, Player
    from aa_core.llm.trainer import AdvantageAlignmentTrainer

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # the seams that it warns of are tested

TINY = "tiny"  # the embedded model
PRIOR = "prior"  # what the model without adapter is called
LOG = "log.jsonl"  # what the trainer measured in every update, beside its checkpoints
# the kind and the greedy scripted player
SCRIPTS = {"ipd": ("cooperate", "defect"), "split": ("welfare", "greedy"), "trust_and_split": ("welfare", "greedy")}
# who else is met in evaluations: greed that names its hand truthfully, or lies
OTHERS = {"ipd": (), "split": (), "trust_and_split": ("greedy_truthful", "greedy_lying")}


@dataclass(frozen=True)
class Training:
    """Settings of one training; from `rounds` to `seed` they are fields of `AdvantageAlignmentConfig`."""

    game: str
    rounds: int
    gamma: float
    reward_scale: float
    num_generations: int  # chats of a group; a game has two if both seats learn
    per_device_train_batch_size: int  # chats of a pass; few keep a small model's activations in a core's cache
    gradient_accumulation_steps: int  # passes of an update, by all processes
    max_completion_length: int  # tokens of one reply
    max_steps: int
    learning_rate: float = 1e-3
    lr_scheduler_type: str = "constant"
    beta: float = 0.0  # coefficient of the KL penalty to the model without adapter
    entropy_coef: float = 0.0
    baseline: str = "group"
    learning_seats: str = "both"
    buffer_every: int | None = None
    buffer_drawn: int = 2  # past agents that play in an update
    guided: bool = False  # whether the last of 1 + free_tries tries of a reply may only be one that can be read
    free_tries: int = 0
    token_budget: int | None = None  # tokens whose keys and values play keeps at once, without vLLM; None: of all games
    save_steps: int = 10  # updates between checkpoints
    watch_every: int | None = None  # updates between evaluations that are kept with transcripts ...
    watch_games: int = 32  # ... of so many games per pair of players, since the other processes wait
    show_rules: bool = False
    seed: int = 0
    algorithm: str = "advantage_alignment"  # what the run is called
    credit: CreditRule = naive_advantages
    co_player: str = "self"  # or "prior", the model without adapter; or "aligned", the AA agent of that seed
    model: str = TINY  # or a name on the hub
    conditions: bool = True  # embedded model only: its prior in the prisoner's dilemma looks at the last round
    rank: int = 16  # of LoRA; alpha is twice that
    evaluation_games: int = 64  # per pair of players, after training


@dataclass(frozen=True)
class Prior:
    """The model that trainings of a game start from, how it is measured, and options of `tiny.WarmUp` (None: hub)."""

    training: Training
    warm_up: dict[str, Any] | None


@dataclass(frozen=True)
class CrossPlay:
    """Settings of a tournament of trained agents, called by (algorithm, seed), of so many deals a pair.

    Every deal is played from both seats, since one seat of a few deals is worth more than the other.
    """

    training: Training
    agents: tuple[tuple[str, int], ...]
    deals: int


@dataclass(frozen=True)
class Speed:
    """Settings of the timing of rollouts: so many games at once, timed so many times."""

    trainings: tuple[Training, ...]
    games: int
    repeats: int


def make_prior(prior: Prior, folder: Path, needs: list[Path]) -> pd.DataFrame:
    """Warm the embedded model up, save it in `folder`, and measure it; or measure a model of the hub."""
    from experiments import models, tiny

    run, model = prior.training, folder
    if prior.warm_up is None:
        models.check_gpu(80)
        model = run.model
    elif os.environ.get("WORLD_SIZE", "1") != "1":
        raise ValueError("WORLD_SIZE must be 1 for a warm-up: make llm_prior by one process, without accelerate launch")
    else:
        tiny.warm_up(tiny.WarmUp(**prior.warm_up), folder)
    measured = evaluate(model_player(*models.load(model), run), run)
    return _tidy(run, [(0, *measurement) for measurement in measured.items()])


def train(run: Training, folder: Path, needs: list[Path]) -> pd.DataFrame:
    """Train an adapter, save it in `folder`, and measure it; a training that was killed goes on from its checkpoint.

    `needs` holds the folder of the prior (embedded model only), then that of the co-player, if it is an agent.

    Rows of (game, algorithm, seed, update, metric, value): the learners' metrics at every update, and after the last
    one (update equal to `max_steps`) what `evaluate` returns; of several processes the first has them.
    """
    from transformers import PrinterCallback, ProgressCallback, TrainerCallback

    from experiments import models

    if run.model != TINY:
        models.check_gpu(80)
    kept = folder.with_suffix(".checkpoints")
    model = needs[0] if run.model == TINY else run.model
    trainer = trainer_of(run, model, kept, needs[-1] if run.co_player == "aligned" else None)
    for shown in trainer.callback_handler.callbacks:
        if isinstance(shown, PrinterCallback | ProgressCallback):  # a line for each update is for a file
            shown.on_log = lambda *_, **__: None
    watcher = TrainerCallback()
    watcher.on_log = _log
    if run.watch_every:
        watcher.on_step_end = partial(_watch, trainer, run)
    trainer.add_callback(watcher)
    if trainer.accelerator.is_main_process:
        _write_log(kept / LOG, read_log(kept / LOG))  # without a line that a kill cut
    trainer.train(resume_from_checkpoint=True)
    if not trainer.accelerator.is_main_process:
        return pd.DataFrame()
    network = trainer.accelerator.unwrap_model(trainer.model)
    models.save_adapter(network, folder)
    if run.watch_every:
        _copy(kept / "watched", folder / "watched")
        _write_log(folder / LOG, {row["update"]: row for row in read_log(kept / LOG)}.values())  # each once
    run = replace(run, token_budget=trainer.args.token_budget)
    rows = [(row["update"], name, value) for row in trainer.history for name, value in row.items() if name != "update"]
    trainer.generator.manual_seed(10**6 + run.seed)  # of the co-player, wherever the training went on from
    final = evaluate(model_player(network, trainer.processing_class, run), run, trainer.co_player)
    return _tidy(run, [*rows, *((run.max_steps, metric, value) for metric, value in final.items())])


def _watch(trainer: AdvantageAlignmentTrainer, run: Training, args: Any, state: Any, control: Any, **_: Any) -> None:
    """After an update: write an evaluation and two games' transcripts to watched/UPDATE.json, if it is time."""
    from aa_core.llm.players import play

    if state.global_step % run.watch_every or not state.is_world_process_zero:
        return
    run = replace(run, evaluation_games=run.watch_games, token_budget=trainer.args.token_budget)
    player = model_player(trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class, run)
    try:
        seen: dict[str, Any] = {"metrics": evaluate(player, run, trainer.co_player)}
        play(new_games(run, 2), [(player, trainer.co_player or player)] * 2)
        seen["transcripts"] = [player.tokenizer.decode(chat.ids) for chat in player.transcripts]
    except (RuntimeError, ValueError) as error:  # no room, mostly: days of training are worth more than a look
        seen = {"error": str(error)}
    finally:
        trainer.model.train()
    records.write_record(Path(args.output_dir) / "watched" / f"{state.global_step:06}.json", seen)


def _copy(source: Path, folder: Path) -> None:
    """Copy a folder, but for files that a kill cut."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)


def read_log(path: Path) -> list[dict[str, float]]:
    """Metrics of updates in a file of JSON lines, but for a last line that is cut; empty if there is no file."""
    try:
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        rows = [json.loads(line) for line in lines if line.endswith("\n")]
        if all(row["update"] >= 0 for row in rows):
            return rows
        reason = "an update below 0"
    except (OSError, ValueError, LookupError, TypeError) as error:
        reason = str(error)
    raise ValueError(f"path must hold lines of metrics: restore or delete {path} ({reason})")


def _write_log(path: Path, rows: Iterable[dict[str, float]]) -> None:
    records.write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))


def _log(args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
    """After an update: append what the trainer measured (loss, KL, entropy, ...) to LOG; stop if it is no number."""
    if "loss" not in logs:
        return
    if state.is_world_process_zero:
        with (Path(args.output_dir) / LOG).open("a") as file:
            file.write(json.dumps({"update": state.global_step, **logs}) + "\n")
    if not math.isfinite(norm := float(logs.get("grad_norm", 0.0))):
        raise FloatingPointError(
            f"gradient must be finite, at update {state.global_step} its norm is {norm}: see {args.output_dir}/{LOG}; "
            "started again, the training goes on from its last checkpoint (and comes here again, if nothing is changed)"
        )


def _tidy(run: Training, rows: list[tuple[int, str, float]]) -> pd.DataFrame:
    columns = ["game", "algorithm", "seed", "update", "metric", "value"]
    return pd.DataFrame([(run.game, run.algorithm, run.seed, *row) for row in rows], columns=columns)


def trainer_of(run: Training, model: str | Path, kept: Path, aligned: Path | None = None) -> AdvantageAlignmentTrainer:
    """The trainer of a run, ready to start; AA_REPORT_TO names where it reports to (wandb, tensorboard, ...).

    `model` is a folder of the embedded model or a name on the hub, `kept` the folder for curve, agent buffer and
    checkpoints, `aligned` that of the co-player's adapter.
    """
    from trl.import_utils import is_vllm_available

    from aa_core.llm.players import BASE, ModelPlayer
    from aa_core.llm.trainer import AdvantageAlignmentConfig, AdvantageAlignmentTrainer
    from experiments import models

    network, tokenizer = models.load(model)
    processes = int(os.environ.get("WORLD_SIZE", "1"))  # they share the chats of an update
    passes, left = divmod(run.gradient_accumulation_steps, processes)
    if left:
        raise ValueError(f"{processes} processes must divide {run.gradient_accumulation_steps=}")
    reports = os.environ.get("AA_REPORT_TO", "none")
    on_gpu = torch.cuda.is_available()
    vllm = on_gpu and is_vllm_available() and os.environ.get("AA_VLLM") != "0"
    if vllm:  # it has a cache of its own, beside that of past agents
        run = replace(run, token_budget=run.token_budget and run.token_budget // 2)
    known = {field.name for field in fields(AdvantageAlignmentConfig)}
    settings = AdvantageAlignmentConfig(
        **{name: value for name, value in vars(run).items() if name in known} | {"gradient_accumulation_steps": passes},
        output_dir=str(kept), max_grad_norm=1.0, use_cpu=not on_gpu, bf16=on_gpu,
        activation_checkpointing=on_gpu, use_vllm=vllm, vllm_mode="colocate", vllm_gpu_memory_utilization=0.4,
        vllm_max_model_length=longest_chat(model_player(network, tokenizer, run), run) if vllm else None,
        logging_strategy="steps", logging_steps=1, report_to=reports,
        save_strategy="steps", disable_tqdm=HEADLESS, ddp_timeout=86_400,  # others wait while the first one evaluates
    )  # fmt: skip
    if processes == 1 and settings.n_gpu > 1:  # a process uses one GPU; `accelerate launch` starts one for each
        settings._n_gpu = 1
    trainer = AdvantageAlignmentTrainer(
        network, settings, tokenizer, run.credit, peft_config=models.lora(network, run.rank)
    )
    other = models.answer_in_one_product(trainer.accelerator.unwrap_model(trainer.model))
    if run.co_player != "self":
        if run.co_player == "aligned":
            models.add_adapter(other, aligned, "co_player")
        trainer.co_player = ModelPlayer(
            other, tokenizer, "co_player" if run.co_player == "aligned" else BASE, generator=trainer.generator,
            **_replies(run),
        )  # fmt: skip
    return trainer


def model_player(model: Any, tokenizer: Any, run: Training, adapter: str | None = None, seed: int = 0) -> ModelPlayer:
    """A player that replies as the learner of a run does."""
    from aa_core.llm.players import ModelPlayer

    source = torch.Generator().manual_seed(run.seed + seed)
    return ModelPlayer(model.eval(), tokenizer, adapter, generator=source, **_replies(run))


def _replies(run: Training) -> dict[str, Any]:
    shared = {"guided": run.guided, "free_tries": run.free_tries, "token_budget": run.token_budget}
    return shared | {"max_new_tokens": run.max_completion_length}


def longest_chat(player: ModelPlayer, run: Training) -> int:
    """Tokens of a chat that is played to its end with replies of any length that is allowed."""
    (game,) = new_games(run, 1)
    quoted = game.rounds * game.quoted
    turns = [turn for turn, _ in play_scripted(game, "random", "random", Random(0)) if turn.player == 0]
    texts = [player.tokens.first(turns[0].text), *(player.tokens.following(turn.text, -1) for turn in turns[1:])]
    return sum(map(len, texts)) + sum(turn.reply for turn in turns) * player.max_new_tokens + quoted


def new_games(run: Training, number: int, start: int = 10**9) -> list[TextGame]:
    """Games with seeds from `start` on, which no training uses."""
    options = {"rounds": run.rounds, "show_rules": run.show_rules}
    return [make_text_game(run.game, start + index, **options) for index in range(number)]


def evaluate(player: ModelPlayer, run: Training, co_player: Player | None = None) -> dict[str, float]:
    """Measure a policy in games that it was not trained on, from both seats.

    Metrics of self-play, or of games with `co_player` (then also `reward_other`); `reward_vs_NAME` of a script; in the
    prisoner's dilemma `cooperation_ROUND`, from 1, and `P(STATE)` of cooperation, also over games with random play.
    """
    from aa_core.llm.players import ScriptedPlayer, play

    scripts = SCRIPTS[run.game] + OTHERS[run.game]
    names = [*scripts, *(["random"] if run.game == "ipd" else [])]
    partners = {"home": co_player or player} | {name: ScriptedPlayer(name, Random(run.seed)) for name in names}
    chairs = {}  # of the policy
    for name, partner in partners.items():
        games, pairs, chairs[name] = both_seats(run, -(-run.evaluation_games // 2), player, partner)
        play(games, pairs)
    metrics = {name: mean_metric(name, chairs["home"]) for name in METRICS}
    if co_player is not None:
        metrics["reward_other"] = mean_metric("reward", opposite(chairs["home"]))
    for name in scripts:
        metrics[f"reward_vs_{name}"] = mean_metric("reward", chairs[name])
    if run.game == "ipd":
        met = Counter(move for name in ("home", "random") for chair in chairs[name] for move in moves(*chair))
        counts = {state: met[state, True] + met[state, False] for state in STATES}
        metrics |= {f"P({state})": met[state, True] / count for state, count in counts.items() if count}
        by_round = [
            [game.record(index)["cooperation"][seat] for game, seat in chairs["home"]] for index in range(run.rounds)
        ]
        metrics |= {f"cooperation_{index + 1}": statistics.mean(played) for index, played in enumerate(by_round)}
    return {name: value for name, value in metrics.items() if value is not None}


Chairs = list[tuple[TextGame, int]]  # games and which of their players one is


def both_seats(
    run: Training, deals: int, first: Player, second: Player
) -> tuple[list[TextGame], list[tuple[Player, Player]], Chairs]:
    """Deals played twice, with seats exchanged, since one is worth more; twice as many deals if both are the same.

    Returns games, who plays them, and chairs of the first player, or of both if they are the same.
    """
    if first is second:
        games = new_games(run, 2 * deals)
        return games, [(first, first)] * len(games), [(game, seat) for game in games for seat in (0, 1)]
    games = [*new_games(run, deals), *new_games(run, deals)]
    pairs = [(first, second)] * deals + [(second, first)] * deals
    return games, pairs, [(game, int(place >= deals)) for place, game in enumerate(games)]


def opposite(chairs: Chairs) -> Chairs:
    """Those of the other players."""
    return [(game, 1 - seat) for game, seat in chairs]


def moves(game: TextGame, player: int) -> list[tuple[str, bool]]:
    """(state before it, whether it was cooperation) of each move in the prisoner's dilemma."""
    states = [STATES[0], *("CD"[pair[player]] + "CD"[pair[1 - player]] for pair in game.actions)]
    return [(state, pair[player] == 0) for state, pair in zip(states, game.actions, strict=False)]


def cross_play(settings: CrossPlay, folder: Path, needs: list[Path]) -> pd.DataFrame:
    """All trained agents, the prior and two scripts against each other and themselves; the prior comes first in needs.

    Rows of (game, row_agent, column_agent, row_seed, column_seed, metric, value): the row agent's mean per round.
    """
    from aa_core.llm.players import BASE, ScriptedPlayer, play
    from experiments import models

    run = settings.training
    network, tokenizer = models.load(needs[0] if run.model == TINY else run.model)
    for index, adapter in enumerate(needs[-len(settings.agents) :]):
        network = models.add_adapter(network, adapter, f"agent{index}")
    players: dict[tuple[str, int], Player] = {
        agent: model_player(network, tokenizer, run, f"agent{index}", seed=index)
        for index, agent in enumerate(settings.agents)
    }
    players[PRIOR, 0] = model_player(network, tokenizer, run, BASE, seed=len(players))
    players |= {(name, 0): ScriptedPlayer(name) for name in SCRIPTS[run.game]}
    rows, agents = [], list(players)
    for index, first in enumerate(agents):
        met = {other: both_seats(run, settings.deals, players[first], players[other]) for other in agents[index:]}
        play(
            [game for games, *_ in met.values() for game in games],
            [pair for _, pairs, _ in met.values() for pair in pairs],
        )
        for second, (*_, own) in met.items():
            sides = {(first, second): own} | ({(second, first): opposite(own)} if second != first else {})
            for (row, column), chairs in sides.items():
                values = {metric: mean_metric(metric, chairs) for metric in METRICS if metric != "errors"}
                pair = (run.game, row[0], column[0], row[1], column[1])
                rows += [(*pair, metric, value) for metric, value in values.items() if value is not None]
    columns = ["game", "row_agent", "column_agent", "row_seed", "column_seed", "metric", "value"]
    return pd.DataFrame(rows, columns=columns)


def time_rollouts(settings: Speed, folder: Path, needs: list[Path]) -> pd.DataFrame:
    """How fast the embedded model plays, on one thread, and how fast it could at best; rows of (game, metric, value).

    games_per_second with the cache kept, games_per_second_reread with each chat read anew in every turn (timed once),
    tokens_per_game, and games_per_second_limit: if all that a game costs were two operations per parameter and token,
    each token once, at the rate of a large matrix product.
    """
    from aa_core.llm.players import play
    from experiments import models

    matrix, rows = torch.randn(1024, 1024), []
    rate = 2 * 1024**3 / statistics.median(repeat(lambda: matrix @ matrix, number=1, repeat=10))
    for run, prior in zip(settings.trainings, needs, strict=True):
        player = model_player(*models.load(prior), run)

        def self_play(player: ModelPlayer = player, run: Training = run) -> None:
            play(new_games(run, settings.games), [(player, player)] * settings.games)

        self_play()
        kept = statistics.median(repeat(self_play, number=1, repeat=settings.repeats))
        tokens = sum(len(chat.prompt_ids) + len(chat.completion_ids) for chat in player.transcripts) / settings.games
        operations = 2 * sum(parameter.numel() for parameter in player.model.parameters()) * tokens
        player.keep_cache = False
        metrics = {
            "games_per_second": settings.games / kept,
            "games_per_second_reread": settings.games / timeit(self_play, number=1),
            "tokens_per_game": tokens,
            "games_per_second_limit": rate / operations,
        }
        rows += [(run.game, metric, value) for metric, value in metrics.items()]
    return pd.DataFrame(rows, columns=["game", "metric", "value"])
