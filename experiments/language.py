"""Language models: who is trained against whom, with which settings; and reading what came out.

Behind notebooks 09 to 11. A variant is called GAME-ALGORITHM, for instance `ipd-naive`. The heavy libraries are
imported by the functions that compute, since the build asks for the list of runs.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pandas as pd

from aa_core.advantages import CreditRule, aligned_advantages, naive_advantages, summed_advantages
from aa_core.checks import check_choice
from aa_core.games.matrix import STATES
from aa_core.games.text import METRICS, TextGame, make_text_game, mean_metric
from experiments.run import Experiment, Run

if TYPE_CHECKING:
    from aa_core.llm.players import ModelPlayer, Player
    from aa_core.llm.trainer import AdvantageAlignmentTrainer

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # the seams that it warns of are tested

GAMES = ("ipd", "split", "trust_and_split")
TITLES = {"ipd": "Prisoner's dilemma", "split": "Split", "trust_and_split": "Trust-and-Split"}
# how well two players do together, from 0 to 1
TOGETHER = {"ipd": "cooperation", "split": "efficiency", "trust_and_split": "efficiency"}
# the kind and the greedy scripted player
SCRIPTS = {"ipd": ("cooperate", "defect"), "split": ("welfare", "greedy"), "trust_and_split": ("welfare", "greedy")}
MAIN = ("naive", "sum_of_rewards", "advantage_alignment")
TINY = "tiny"


# --- settings at a glance


@dataclass(frozen=True)
class Training:
    """Settings of one training; all but the last six are fields of `AdvantageAlignmentConfig`, under its names.

    Attributes:
        num_generations: chats of a group; a game has two if both seats learn.
        per_device_train_batch_size: chats of a forward and backward pass; times gradient_accumulation_steps: of an
            update. Few chats keep a small model's activations in a core's cache.
        max_completion_length: tokens of one reply.
        max_steps: updates.
        beta: coefficient of the KL penalty to the model without adapter.
        credit: what makes the algorithm.
        model: "tiny", the embedded model, or a name on the hub.
        conditions: embedded model only: whether its prior in the prisoner's dilemma looks at the last round.
        co_player: "self"; "prior", the model without adapter; or "aligned", the Advantage Alignment agent of that seed.
        rank: of LoRA; alpha is twice that.
        evaluation_games: per pair of players, after training.
    """

    game: str
    rounds: int
    gamma: float
    reward_scale: float
    num_generations: int
    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    max_completion_length: int
    max_steps: int
    learning_rate: float = 1e-3
    beta: float = 0.0
    entropy_coef: float = 0.0
    baseline: str = "group"
    learning_seats: str = "both"
    buffer_every: int | None = None
    show_rules: bool = False
    seed: int = 0
    credit: CreditRule = naive_advantages
    model: str = TINY
    conditions: bool = True
    co_player: str = "self"
    rank: int = 16
    evaluation_games: int = 128


@dataclass(frozen=True)
class Prior:
    """Settings of the model that trainings of a game start from, and of its measurement."""

    training: Training
    warm_up: dict[str, Any] | None  # of `tiny.WarmUp`; None: a model of the hub


@dataclass(frozen=True)
class CrossPlay:
    """Settings of a tournament of trained agents, called by (algorithm, seed)."""

    training: Training
    agents: tuple[tuple[str, int], ...]
    games: int  # per pair


@dataclass(frozen=True)
class Speed:
    """Settings of the timing of rollouts."""

    trainings: tuple[Training, ...]
    games: int
    repeats: int


# The prisoner's dilemma stops at 36 updates, while its agents cooperate, and has a little KL in place of the paper's
# entropy bonus, which holds the format: the variants aa_long and aa_long_entropy show what comes otherwise.
_IPD = Training(
    game="ipd", rounds=10, gamma=0.9, reward_scale=5.0, num_generations=128, per_device_train_batch_size=32,
    gradient_accumulation_steps=4, max_completion_length=4, max_steps=36, beta=0.02,
)  # fmt: skip
_SPLIT = Training(
    game="split", rounds=4, gamma=0.9, reward_scale=40.0, num_generations=16, per_device_train_batch_size=16,
    gradient_accumulation_steps=4, max_completion_length=12, max_steps=50,
)  # fmt: skip
# A memory of one round sees greed only if the other had the lower hand: cooperation pays less, alignment must do more
_TRUST = replace(_SPLIT, game="trust_and_split", gamma=0.96, reward_scale=10.0, max_completion_length=24, max_steps=40)
# Alignment multiplies two advantages, the naive term is one: its beta / reward_scale sets their balance
ALIGNMENT = {game.game: dict(beta=1.0, gamma=game.gamma) for game in (_IPD, _SPLIT, _TRUST)}
# The sharing games are warmed up at the length that is trained; see `tiny.warm_up` for the drills
WARM_UPS: dict[str, dict[str, Any]] = {
    "ipd": dict(game="ipd"),
    "split": dict(game="split", rounds=4, steps=500),
    "trust_and_split": dict(
        game="trust_and_split", rounds=4, steps=300, drill_steps=(200, 250, 300), fairness=0.9,
        fairness_after_greed=0.4, honesty=0.95,
    ),
}  # fmt: skip
_SMOKE = dict(
    rounds=2, num_generations=4, per_device_train_batch_size=8, gradient_accumulation_steps=1, max_steps=2,
    evaluation_games=2,
)  # fmt: skip
_COLD = dict(hidden_size=32, layers=1, heads=2, games=64, rounds=2, steps=20, drill_steps=(0, 0, 0))
# The paper's appendix and released configurations
_QWEN = dict(
    model="Qwen/Qwen2.5-7B-Instruct", max_steps=3000, rounds=10, learning_rate=3e-6, rank=32, show_rules=True,
    max_completion_length=400, evaluation_games=256,
)  # fmt: skip
_PAPER = {
    "ipd": replace(
        _IPD, num_generations=256, per_device_train_batch_size=4, gradient_accumulation_steps=64, beta=0.0, **_QWEN
    ),
    "split": replace(
        _SPLIT, reward_scale=100.0, beta=0.001, per_device_train_batch_size=1, gradient_accumulation_steps=128, **_QWEN
    ),
    "trust_and_split": replace(
        _TRUST, reward_scale=100.0, beta=0.001, per_device_train_batch_size=1, gradient_accumulation_steps=128, **_QWEN
    ),
}
_PAPER_BETA = {"ipd": 0.5, "split": 1.0, "trust_and_split": 2.0}

# algorithm -> what differs from Advantage Alignment
_ABLATIONS: dict[str, dict[str, Any]] = {
    "advantage_alignment": {},
    "aa_buffer": dict(buffer_every=10),
    "aa_no_buffer": dict(buffer_every=None),
    "aa_batch_baseline": dict(baseline="batch"),
    "aa_no_baseline": dict(baseline="none"),
    "aa_beta_0.25": {},
    "aa_beta_2": {},
    "aa_long": dict(max_steps=60),
    "aa_long_entropy": dict(max_steps=60, entropy_coef=0.01, beta=0.0),
    "aa_unconditional": dict(conditions=False),
}
# naive learning; the paper repeats it with other models
_NAIVE: dict[str, dict[str, Any]] = {
    "naive": {},
    "naive_vs_kind": dict(co_player="prior"),
    "naive_vs_aligned": dict(co_player="aligned"),
    "naive_qwen3": dict(model="Qwen/Qwen3-8B"),
    "naive_llama": dict(model="meta-llama/Llama-3.1-8B-Instruct"),
    "naive_gemma": dict(model="google/gemma-3-4b-it"),
}
OTHER_MODELS = ("naive_qwen3", "naive_llama", "naive_gemma")
ALGORITHMS = (*MAIN, *(name for name in (*_ABLATIONS, *_NAIVE) if name not in MAIN))
PROFILES = ("smoke", "laptop", "extended", "paper")


def training(profile: str, game: str, algorithm: str, seed: int = 0) -> Training:
    """Settings of one run; both Advantage Alignment and its baselines, which have neither buffer nor entropy bonus."""
    check_choice("profile", profile, PROFILES)
    check_choice("game", game, GAMES)
    check_choice("algorithm", algorithm, ALGORITHMS)
    base = _PAPER[game] if profile == "paper" else {"ipd": _IPD, "split": _SPLIT, "trust_and_split": _TRUST}[game]
    aligned = algorithm in _ABLATIONS
    changes = dict((_ABLATIONS | _NAIVE).get(algorithm, {}), seed=seed)
    if aligned:
        rule = ALIGNMENT[game] | ({"beta": _PAPER_BETA[game]} if profile == "paper" else {})
        if algorithm.startswith("aa_beta_"):
            rule = rule | {"beta": float(algorithm.removeprefix("aa_beta_"))}
        changes["credit"] = partial(aligned_advantages, **rule)
        if profile == "paper":
            changes = {"buffer_every": 10, "entropy_coef": 0.01 if game == "ipd" else 0.0} | changes
    elif algorithm == "sum_of_rewards":
        changes["credit"] = summed_advantages
    run = replace(base, **changes)
    if profile == "smoke":
        run = replace(run, **_SMOKE)
    return run if run.co_player == "self" and run.buffer_every is None else _one_learner(run)


def _one_learner(run: Training) -> Training:
    """The same number of games, with a learner in one seat only: half as many chats."""
    chats, micro = run.num_generations // 2, run.gradient_accumulation_steps
    half = dict(gradient_accumulation_steps=micro // 2) if micro > 1 else dict(
        per_device_train_batch_size=run.per_device_train_batch_size // 2
    )  # fmt: skip
    return replace(run, learning_seats="alternate", num_generations=chats, **half)


# --- computing


def trainer_of(
    run: Training, model: str | Path, scratch: Path, aligned: Path | None = None
) -> AdvantageAlignmentTrainer:
    """The trainer of a run, ready to start.

    Args:
        run: settings.
        model: folder of the embedded model, or name on the hub.
        scratch: for TRL's files.
        aligned: adapter of the co-player, with `co_player="aligned"`.
    """
    import torch
    from peft import LoraConfig
    from trl.import_utils import is_vllm_available

    from aa_core.llm import models
    from aa_core.llm.players import ModelPlayer
    from aa_core.llm.trainer import AdvantageAlignmentConfig, AdvantageAlignmentTrainer
    from aa_core.paths import HEADLESS

    network, tokenizer = models.load(model)
    on_gpu = torch.cuda.is_available()
    known = {field.name for field in fields(AdvantageAlignmentConfig)}
    settings = AdvantageAlignmentConfig(
        **{name: value for name, value in vars(run).items() if name in known},
        output_dir=str(scratch), lr_scheduler_type="constant", max_grad_norm=1.0, use_cpu=not on_gpu, bf16=on_gpu,
        activation_checkpointing=on_gpu, use_vllm=on_gpu and is_vllm_available(), vllm_mode="colocate",
        report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=HEADLESS,
    )  # fmt: skip
    lora = LoraConfig(r=run.rank, lora_alpha=2 * run.rank, target_modules="all-linear")
    trainer = AdvantageAlignmentTrainer(network, settings, tokenizer, run.credit, peft_config=lora)
    if run.co_player != "self":
        other = trainer.accelerator.unwrap_model(trainer.model)
        if run.co_player == "aligned":
            other.load_adapter(str(aligned), "co_player", is_trainable=False)
        trainer.co_player = ModelPlayer(
            other, tokenizer, "co_player" if run.co_player == "aligned" else None,
            frozen_base=run.co_player == "prior", max_new_tokens=run.max_completion_length,
            generator=torch.Generator().manual_seed(run.seed + 1),
        )  # fmt: skip
    return trainer


def train(run: Training, folder: Path, needs: list[Path]) -> pd.DataFrame:
    """Train an adapter, save it in `folder`, and measure it.

    `needs` holds the folder of the prior (embedded model only), then that of the co-player, if it is an agent.

    Returns:
        Rows of (game, update, metric, value): the learners' metrics at every update, and after the last one (update
        equal to `max_steps`) what `evaluate` returns.
    """
    from tempfile import TemporaryDirectory

    from aa_core.llm import models

    if run.model != TINY:
        models.check_gpu(80)
    with TemporaryDirectory() as scratch:
        model = needs[0] if run.model == TINY else run.model
        trainer = trainer_of(run, model, Path(scratch), needs[-1] if run.co_player == "aligned" else None)
        trainer.train()
    network = trainer.accelerator.unwrap_model(trainer.model)
    if trainer.accelerator.is_main_process:
        models.save_adapter(network, folder)
    rows = [(row["update"], name, value) for row in trainer.history for name, value in row.items() if name != "update"]
    final = evaluate(model_player(network, trainer.processing_class, run), run, trainer.co_player)
    rows += [(run.max_steps, metric, value) for metric, value in final.items()]
    return pd.DataFrame(rows, columns=["update", "metric", "value"]).assign(game=run.game)


def make_prior(prior: Prior, folder: Path, needs: list[Path]) -> pd.DataFrame:
    """Warm the embedded model up, save it in `folder`, and measure it; or measure a model of the hub."""
    from aa_core.llm import models, tiny

    model: str | Path = prior.training.model
    if prior.warm_up is None:
        models.check_gpu(80)
    else:
        tiny.warm_up(tiny.WarmUp(**prior.warm_up), folder)
        model = folder
    metrics = evaluate(model_player(*models.load(model), prior.training), prior.training)
    rows = [(prior.training.game, 0, metric, value) for metric, value in metrics.items()]
    return pd.DataFrame(rows, columns=["game", "update", "metric", "value"])


def model_player(model: Any, tokenizer: Any, run: Training, adapter: str | None = None, seed: int = 0) -> ModelPlayer:
    """A player with the length of reply of a run."""
    import torch

    from aa_core.llm.players import ModelPlayer

    source = torch.Generator().manual_seed(run.seed + seed)
    return ModelPlayer(model, tokenizer, adapter, max_new_tokens=run.max_completion_length, generator=source)


def new_games(run: Training, number: int, start: int = 10**9) -> list[TextGame]:
    """Games with seeds from `start` on, which no training uses."""
    options = dict(rounds=run.rounds, show_rules=run.show_rules)
    return [make_text_game(run.game, start + index, **options) for index in range(number)]


def evaluate(player: ModelPlayer, run: Training, co_player: Player | None = None) -> dict[str, float]:
    """Measure a policy in games that it was not trained on.

    Returns:
        Metrics of self-play, or of games with `co_player` (then also `reward_other`); `reward_vs_NAME` against the kind
        and the greedy scripted player; in the prisoner's dilemma `P(STATE)` of cooperation, over the first and games
        with the random player.
    """
    from aa_core.llm.players import ScriptedPlayer, play

    scripts = {name: ScriptedPlayer(name, Random(run.seed)) for name in (*SCRIPTS[run.game], "random")}
    if run.game != "ipd":
        del scripts["random"]
    partners = [co_player or player, *scripts.values()]
    tables = [new_games(run, run.evaluation_games) for _ in partners]
    games = [game for table in tables for game in table]
    play(games, [(player, partner) for partner in partners for _ in range(run.evaluation_games)])
    home = tables[0]
    seats = [(game, seat) for game in home for seat in ((0, 1) if co_player is None else (0,))]
    metrics = {name: mean_metric(name, seats) for name in METRICS}
    if co_player is not None:
        metrics["reward_other"] = mean_metric("reward", [(game, 1) for game in home])
    for name, table in zip(scripts, tables[1:], strict=True):
        if name != "random":
            metrics[f"reward_vs_{name}"] = mean_metric("reward", [(game, 0) for game in table])
    if run.game == "ipd":
        met = Counter(move for game in (*home, *tables[-1]) for move in moves(game, 0))
        counts = {state: met[state, True] + met[state, False] for state in STATES}
        metrics |= {f"P({state})": met[state, True] / count for state, count in counts.items() if count}
    return {name: value for name, value in metrics.items() if value is not None}


def moves(game: TextGame, player: int) -> list[tuple[str, bool]]:
    """(state before it, whether it was cooperation) of each move in the prisoner's dilemma."""
    states = [STATES[0], *("CD"[pair[player]] + "CD"[pair[1 - player]] for pair in game.actions)]
    return [(state, pair[player] == 0) for state, pair in zip(states, game.actions, strict=False)]


def cross_play(settings: CrossPlay, folder: Path, needs: list[Path]) -> pd.DataFrame:
    """Every trained agent and the two scripted ones against each other and themselves; the prior comes first in needs.

    Returns:
        Rows of (game, row_agent, column_agent, row_seed, column_seed, metric, value): the row agent's mean per round.
    """
    from peft import PeftModel

    from aa_core.llm import models
    from aa_core.llm.players import ScriptedPlayer, play

    run = settings.training
    network, tokenizer = models.load(needs[0] if run.model == TINY else run.model)
    players: dict[tuple[str, int], Player] = {}
    tuned = None
    for index, (agent, adapter) in enumerate(zip(settings.agents, needs[-len(settings.agents) :], strict=True)):
        if tuned is None:
            tuned = PeftModel.from_pretrained(network, adapter, adapter_name="agent0")
        else:
            tuned.load_adapter(str(adapter), f"agent{index}")
        players[agent] = model_player(tuned, tokenizer, run, f"agent{index}", seed=index)
    players |= {(name, 0): ScriptedPlayer(name) for name in SCRIPTS[run.game]}
    rows, agents = [], list(players)
    for index, first in enumerate(agents):
        tables = {second: new_games(run, settings.games) for second in agents[index:]}
        pairs = [(players[first], players[second]) for second in tables for _ in range(settings.games)]
        play([game for table in tables.values() for game in table], pairs)
        for second, games in tables.items():
            sides = {(first, second): (0,), (second, first): (1,)} if second != first else {(first, first): (0, 1)}
            for (row, column), seats in sides.items():
                chairs = [(game, seat) for game in games for seat in seats]
                for metric in METRICS:
                    value = mean_metric(metric, chairs)
                    if value is not None and metric != "errors":
                        rows.append((run.game, row[0], column[0], row[1], column[1], metric, value))
    columns = ["game", "row_agent", "column_agent", "row_seed", "column_seed", "metric", "value"]
    return pd.DataFrame(rows, columns=columns)


def time_rollouts(settings: Speed, folder: Path, needs: list[Path]) -> pd.DataFrame:
    """How fast the embedded model plays, on one thread, and how fast it could at best; rows of (game, metric, value).

    games_per_second with the cache kept, games_per_second_reread with each chat read anew in every turn (timed once),
    tokens_per_game, and games_per_second_limit: if all that a game costs were two operations per parameter and token,
    each token once, at the rate of a large matrix product.
    """
    import statistics
    import time

    import torch

    from aa_core.llm import models
    from aa_core.llm.players import play

    def seconds(work: Callable[[], Any]) -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    torch.set_num_threads(1)
    one, other, rows = torch.randn(1024, 1024), torch.randn(1024, 1024), []
    rate = 2 * 1024**3 / statistics.median(seconds(lambda: one @ other) for _ in range(10))
    for run, prior in zip(settings.trainings, needs, strict=True):
        player = model_player(*models.load(prior), run)

        def self_play(player: ModelPlayer = player, run: Training = run) -> None:
            play(new_games(run, settings.games), [(player, player)] * settings.games)

        self_play()
        kept = statistics.median(seconds(self_play) for _ in range(settings.repeats))
        tokens = sum(len(chat.prompt_ids) + len(chat.completion_ids) for chat in player.transcripts) / settings.games
        operations = 2 * sum(parameter.numel() for parameter in player.model.parameters()) * tokens
        player.keep_cache = False
        reread = seconds(self_play)
        metrics = {
            "games_per_second": settings.games / kept, "games_per_second_reread": settings.games / reread,
            "tokens_per_game": tokens, "games_per_second_limit": rate / operations,
        }  # fmt: skip
        rows += [(run.game, metric, value) for metric, value in metrics.items()]
    return pd.DataFrame(rows, columns=["game", "metric", "value"])


# --- declarations


def prior_run(profile: str, game: str, conditions: bool = True) -> Run:
    """The model that trainings of a game start from."""
    settings = replace(training(profile, game, "advantage_alignment"), credit=naive_advantages, max_steps=0)
    warm_up = None
    if settings.model == TINY:
        warm_up = WARM_UPS[game] | (_COLD if profile == "smoke" else {})
        if not conditions:  # cooperates as often, whatever happened in the last round
            warm_up |= {"ipd_prior": (0.81,) * 5}
    name = game if conditions else f"{game}-unconditional"
    return Run("llm_prior", name, 0, Prior(settings, warm_up), make_prior, minutes=3, gpu=profile == "paper")


def training_run(profile: str, variant: str, seed: int) -> Run:
    """A training by its variant, GAME-ALGORITHM."""
    game, algorithm = variant.split("-")
    run = training(profile, game, algorithm, seed)
    needs = [prior_run(profile, game, run.conditions)] if run.model == TINY else []
    if run.co_player == "aligned":
        needs.append(training_run(profile, f"{game}-advantage_alignment", seed))
    return Run("llm", variant, seed, run, train, tuple(needs), minutes=1, gpu=profile == "paper")


def crossplay_run(profile: str, game: str, seed: int = 0) -> Run:
    """Every seed of the three algorithms, and two scripted players, against each other."""
    run = training(profile, game, "advantage_alignment", seed)
    agents = tuple((algorithm, number) for algorithm in MAIN for number in seeds(profile))
    priors = [prior_run(profile, game)] if run.model == TINY else []
    needs = (*priors, *(training_run(profile, f"{game}-{algorithm}", number) for algorithm, number in agents))
    settings = CrossPlay(run, agents, max(2, run.evaluation_games // 8))
    return Run("llm_crossplay", game, seed, settings, cross_play, needs, minutes=2, gpu=profile == "paper")


def speed_run(profile: str, variant: str = "rollouts", seed: int = 0) -> Run:
    """The embedded model's speed in every game (in profile paper, too)."""
    size = "smoke" if profile == "smoke" else "laptop"
    runs = tuple(training(size, game, "naive", seed) for game in GAMES)
    settings = Speed(runs, *((4, 1) if profile == "smoke" else (64, 3)))
    needs = tuple(prior_run(size, game) for game in GAMES)
    return Run("llm_speed", variant, seed, settings, time_rollouts, needs, alone=True)


def seeds(profile: str) -> range:
    """Seeds of the three algorithms."""
    return range({"smoke": 1, "paper": 3}.get(profile, 5))


def few_seeds(profile: str) -> range:
    """Seeds of all other variants."""
    return range(1 if profile == "smoke" else 3)


def main_variants(profile: str) -> list[str]:
    """The three algorithms in the three games."""
    return [f"{game}-{algorithm}" for game in GAMES for algorithm in MAIN]


def other_variants(profile: str) -> list[str]:
    """What else the paper's figures need: ablations, naive learners opposite somebody fixed, and other models."""
    buffer = "aa_no_buffer" if profile == "paper" else "aa_buffer"
    ablations = [f"ipd-{buffer}", "ipd-aa_no_baseline", "split-aa_batch_baseline"]
    opposite = [f"{game}-naive_vs_kind" for game in GAMES] + ["ipd-naive_vs_aligned", "split-naive_vs_aligned"]
    return ablations + opposite


def side_variants(profile: str) -> list[str]:
    """Side studies of the prisoner's dilemma; in profile paper, naive learning with other models."""
    if profile == "paper":
        return [f"{game}-{model}" for game in GAMES for model in OTHER_MODELS]
    names = ("aa_beta_0.25", "aa_beta_2", "aa_long", "aa_long_entropy", "aa_unconditional")
    return [f"ipd-{name}" for name in names]


EXPERIMENTS = (
    Experiment(
        "llm_prior", lambda profile: GAMES, lambda profile: (0,), lambda profile, game, seed: prior_run(profile, game)
    ),
    Experiment("llm", main_variants, seeds, training_run),
    Experiment("llm_variants", other_variants, few_seeds, training_run),
    Experiment("llm_side", side_variants, few_seeds, training_run),
    Experiment("llm_crossplay", lambda profile: GAMES, lambda profile: (0,), crossplay_run),
    Experiment("llm_speed", lambda profile: ("rollouts",), lambda profile: (0,), speed_run),
)


def _runs(profile: str) -> list[Run]:
    priors = [prior_run(profile, game) for game in GAMES]
    main = [training_run(profile, variant, seed) for variant in main_variants(profile) for seed in seeds(profile)]
    return priors + main + [training_run(profile, v, s) for v in other_variants(profile) for s in few_seeds(profile)]
