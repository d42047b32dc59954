"""Language models: who is trained against whom, with which settings; and reading the tables that come of it.

Behind notebooks 09 to 11. A variant is called GAME-ALGORITHM, for instance `ipd-naive`. What a run computes stands in
`experiments.language_runs`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aa_core.advantages import aligned_advantages, summed_advantages
from aa_core.checks import check_choice
from aa_core.games.matrix import STATES
from experiments import language_runs, records
from experiments.judge import last_third
from experiments.language_runs import SCRIPTS, TINY, CrossPlay, Prior, Speed, Training
from experiments.run import JUDGED, LATE, PROFILES, Experiment, Run, Table, once

__all__ = ["SCRIPTS"]
TITLES = {"ipd": "Prisoner's dilemma", "split": "Split", "trust_and_split": "Trust-and-Split"}
GAMES = tuple(TITLES)
# how well two players do together, from 0 to 1
TOGETHER = {"ipd": "cooperation", "split": "efficiency", "trust_and_split": "efficiency"}
MAIN = ("naive", "sum_of_rewards", "advantage_alignment")

# In the prisoner's dilemma a little KL, in place of the paper's entropy bonus, holds the format. The rate decays:
# copies that retaliate without end turn every slip into a lost game, whose low advantages then speak against forgiving
# it, so that slips grow at a constant rate. Side studies show what comes otherwise: aa_long, aa_constant, aa_entropy.
IPD = Training(
    game="ipd", rounds=10, gamma=0.9, reward_scale=5.0, num_generations=128, per_device_train_batch_size=64,
    gradient_accumulation_steps=2, max_completion_length=4, max_steps=60, lr_scheduler_type="cosine", beta=0.02,
)  # fmt: skip
SPLIT = Training(
    game="split", rounds=4, gamma=0.9, reward_scale=40.0, learning_rate=1.4e-3, num_generations=16,
    per_device_train_batch_size=32, gradient_accumulation_steps=2, max_completion_length=12, max_steps=36,
)  # fmt: skip
# A memory of one round sees greed only if the other had the lower hand: cooperation pays less and is found later, and
# noise can end in greed before. On seeds 0 to 3, within 20 updates, efficiency had fallen to .60 to .71 on the way
# with half of these chats (twice as many as in the paper), and to .71 to .74 with these; a KL penalty of .15 or an
# alignment of 1.5, with half of them, came between. In earlier runs, with a prior alike, AA ended in greed at a step
# of 3e-3, and where replies were not guided, as the paper's are, it unlearned the format in one of fifteen.
TRUST = replace(
    SPLIT, game="trust_and_split", gamma=0.96, reward_scale=10.0, learning_rate=2e-3, gradient_accumulation_steps=8,
    max_completion_length=24, max_steps=30, beta=0.02, guided=True,
)  # fmt: skip
# Strength of alignment. It multiplies two advantages, the naive term is one: beta / reward_scale sets their balance
BETAS = {"ipd": 1.0, "split": 1.5, "trust_and_split": 1.0}
BUFFERED = ("ipd",)  # games in which AA meets past agents; in profile paper it does in all
# The sharing games are warmed up at the length that is trained; see `tiny.warm_up` for the drills
WARM_UPS: dict[str, dict[str, Any]] = {
    "ipd": dict(game="ipd"),
    "split": dict(game="split", rounds=4, steps=500),
    "trust_and_split": dict(
        game="trust_and_split", rounds=4, steps=300, drill_steps=(250, 250), fairness=0.9,
        fairness_after_greed=0.4, honesty=0.95,
    ),
}  # fmt: skip

# The paper's appendix and released configurations
_QWEN = dict(
    model="Qwen/Qwen2.5-7B-Instruct", rounds=10, max_steps=3000, learning_rate=3e-6, lr_scheduler_type="constant",
    rank=32, show_rules=True, max_completion_length=400, evaluation_games=256, buffer_drawn=28, watch_every=100,
    guided=True, free_tries=1, token_budget=2**19,
)  # fmt: skip
_SHARING = dict(reward_scale=100.0, beta=0.001, per_device_train_batch_size=1, gradient_accumulation_steps=128, **_QWEN)
PAPER = {
    "ipd": replace(
        IPD, num_generations=256, per_device_train_batch_size=4, gradient_accumulation_steps=64, beta=0.0, **_QWEN
    ),
    "split": replace(SPLIT, **_SHARING | {"free_tries": 3}),
    "trust_and_split": replace(TRUST, **_SHARING),
}  # fmt: skip
PAPER_BETAS = {"ipd": 0.5, "split": 1.0, "trust_and_split": 2.0}
_SMOKE = dict(
    rounds=2, num_generations=4, per_device_train_batch_size=8, gradient_accumulation_steps=1, max_steps=2,
    evaluation_games=2,
)  # fmt: skip
_COLD = dict(hidden_size=32, layers=1, heads=2, games=64, rounds=2, steps=20, drill_steps=(0, 0))

# algorithm -> what differs from Advantage Alignment ...
ALIGNED: dict[str, dict[str, Any]] = {
    "advantage_alignment": {},
    "aa_just_in_time": dict(rule=dict(include_current=True)),
    "aa_buffer": dict(buffer_every=10),
    "aa_no_buffer": dict(buffer_every=None),
    "aa_batch_baseline": dict(baseline="batch"),
    "aa_no_baseline": dict(baseline="none"),
    "aa_beta_0.25": dict(rule=dict(beta=0.25)),
    "aa_beta_0.5": dict(rule=dict(beta=0.5)),
    "aa_beta_2": dict(rule=dict(beta=2.0)),
    "aa_long": {},
    "aa_constant": dict(lr_scheduler_type="constant"),
    "aa_entropy": dict(entropy_coef=0.01, beta=0.0),
    "aa_unconditional": dict(conditions=False),
}
LONGER = ("aa_long", "aa_constant")  # twice as many updates
# ... and what differs from naive learning, which the paper repeats with other models
OTHERS: dict[str, dict[str, Any]] = {
    "naive": {},
    "sum_of_rewards": dict(credit=summed_advantages),
    "naive_vs_kind": dict(co_player="prior"),
    "naive_vs_aligned": dict(co_player="aligned"),
    "naive_qwen3": dict(model="Qwen/Qwen3-8B", token_budget=2**18),
    "naive_llama": dict(model="meta-llama/Llama-3.1-8B-Instruct", token_budget=2**18),
    "naive_gemma": dict(model="google/gemma-3-4b-it", token_budget=2**18),
}
OTHER_MODELS = ("naive_qwen3", "naive_llama", "naive_gemma")


def training(profile: str, game: str, algorithm: str, seed: int = 0) -> Training:
    """Settings of one run; as in the paper its baselines have neither buffer nor entropy bonus."""
    check_choice("profile", profile, PROFILES)
    check_choice("game", game, GAMES)
    check_choice("algorithm", algorithm, ALIGNED | OTHERS)
    paper = profile == "paper"
    base = (PAPER if paper else {run.game: run for run in (IPD, SPLIT, TRUST)})[game]
    changes = {"algorithm": algorithm, "seed": seed}
    if algorithm in ALIGNED:
        changes |= dict(buffer_every=10) if paper or game in BUFFERED else {}
        changes |= dict(entropy_coef=0.01) if paper and game == "ipd" else {}
        changes |= ALIGNED[algorithm]
        rule = {"beta": (PAPER_BETAS if paper else BETAS)[game], "gamma": base.gamma} | changes.pop("rule", {})
        changes["credit"] = partial(aligned_advantages, **rule)
        changes |= dict(max_steps=2 * base.max_steps) if algorithm in LONGER else {}
    else:
        changes |= OTHERS[algorithm]
    if paper and game == "ipd" and (not changes.get("buffer_every") or "baseline" in changes):
        changes = {"max_steps": 1000} | changes
    if paper and game == "split" and algorithm in OTHER_MODELS:
        changes |= dict(max_completion_length=20, free_tries=0)
    if paper and game == "trust_and_split" and changes.get("co_player") == "aligned":
        changes |= dict(free_tries=0)
    run = replace(base, **changes)
    if profile == "smoke":
        run = replace(run, **_SMOKE, max_completion_length=min(12, run.max_completion_length))
    if run.co_player == "self" and run.buffer_every is None:
        return run
    return _one_learner(run, "first" if paper and run.co_player == "aligned" else "alternate")


def _one_learner(run: Training, seats: str) -> Training:
    """The same number of games, with a learner in one seat only: half as many chats."""
    name = "gradient_accumulation_steps" if run.gradient_accumulation_steps > 1 else "per_device_train_batch_size"
    half = {name: getattr(run, name) // 2, "num_generations": run.num_generations // 2}
    return replace(run, learning_seats=seats, **half)


def prior_run(profile: str, variant: str, seed: int = 0) -> Run:
    """The model that trainings of a game start from; `unconditional`: that of the prisoner's dilemma without memory."""
    game = "ipd" if variant == "unconditional" else variant
    settings = replace(training(profile, game, "naive", seed), algorithm="prior", max_steps=0)
    warm_up = WARM_UPS[game] | dict(seed=seed) | (_COLD if profile == "smoke" else {})
    warm_up |= {"ipd_prior": (0.81,) * 5} if variant == "unconditional" else {}  # whatever happened in the last round
    prior = Prior(settings, warm_up if settings.model == TINY else None)
    return Run("llm_prior", variant, seed, prior, language_runs.make_prior, **_cost(profile, game))


def training_run(profile: str, variant: str, seed: int) -> Run:
    """A training by its variant, GAME-ALGORITHM."""
    game, _, algorithm = variant.partition("-")
    run = training(profile, game, algorithm, seed)
    needs = [prior_run(profile, game if run.conditions else "unconditional")] if run.model == TINY else []
    if run.co_player == "aligned":
        needs.append(training_run(profile, f"{game}-advantage_alignment", seed))
    return Run("llm", variant, seed, run, language_runs.train, tuple(needs), **_cost(profile, game))


def crossplay_run(profile: str, game: str, seed: int = 0) -> Run:
    """Every seed of the three algorithms, the prior and two scripted players, against each other."""
    run = training(profile, game, "advantage_alignment", seed)
    agents = tuple((algorithm, number) for algorithm in MAIN for number in seeds(profile, game))
    priors = [prior_run(profile, game)] if run.model == TINY else []
    needs = (*priors, *(training_run(profile, f"{game}-{algorithm}", number) for algorithm, number in agents))
    deals = run.evaluation_games // 2 if profile == "paper" else max(1, run.evaluation_games // 8)
    settings = CrossPlay(run, agents, deals)
    return Run("llm_crossplay", game, seed, settings, language_runs.cross_play, needs, **_cost(profile, game))


def speed_run(profile: str, variant: str = "rollouts", seed: int = 0) -> Run:
    """The embedded model's speed in every game (in profile paper, too)."""
    check_choice("variant", variant, ("rollouts",))
    size = "smoke" if profile == "smoke" else "laptop"
    trainings = tuple(training(size, game, "naive", seed) for game in GAMES)
    settings = Speed(trainings, *((4, 1) if size == "smoke" else (64, 3)))
    needs = tuple(prior_run(size, game) for game in GAMES)
    return Run("llm_speed", variant, seed, settings, language_runs.time_rollouts, needs, alone=True)


def _cost(profile: str, game: str) -> dict[str, Any]:
    """Of a training; a warm-up and a cross-play take as long, roughly."""
    minutes = 0.1 if profile == "smoke" else {"ipd": 0.7, "split": 0.7, "trust_and_split": 2.7}[game]
    return {"minutes": minutes, "gpu": profile == "paper"}


def seeds(profile: str, game: str = GAMES[0]) -> range:
    """Seeds of the three algorithms; in Trust-and-Split 5 to 19 were looked at before its last setting was chosen."""
    judged = LATE if game == GAMES[2] else JUDGED
    return {"smoke": judged[: 1 if game == GAMES[2] else 2], "paper": judged[:3]}.get(profile, judged)


def _others(profile: str, game: str = GAMES[0]) -> range:
    return seeds(profile, game)[: 1 if profile == "smoke" else None]


# what else the papers' figures need: ablations, and naive learners opposite somebody fixed
VARIANTS = ["ipd-aa_just_in_time", "ipd-aa_no_buffer", "ipd-aa_no_baseline", "split-aa_batch_baseline"]
VARIANTS += [f"{game}-naive_vs_{who}" for game in GAMES for who in ("kind", "aligned")]
SIDE = [f"ipd-aa_{name}" for name in ("beta_0.25", "beta_2", "unconditional", "beta_0.5", "constant", "entropy")]
SMALL = tuple(profile for profile in PROFILES if profile != "paper")  # there main runs have buffers and entropy
FRESH = (*range(10, 20), *range(100, 105))  # seeds by which nothing was chosen: in how many the headline holds


def _each(algorithms: tuple[str, ...], profiles: tuple[str, ...] = PROFILES) -> Callable[[str], list[str]]:
    """Variants of every game, in some profiles."""
    return lambda profile: [f"{g}-{a}" for g in GAMES for a in algorithms] if profile in profiles else []


def _by_game(name: str, variants: Callable[[str], list[str]], seeds: Callable[..., range]) -> tuple[Experiment, ...]:
    """Trainings of the first two games, and those of Trust-and-Split, whose seeds are others."""

    def kept(last: bool) -> Callable[[str], list[str]]:
        return lambda profile: [each for each in variants(profile) if each.startswith(GAMES[2]) == last]

    trust = Experiment(f"{name}_trust", kept(True), partial(seeds, game=GAMES[2]), training_run)
    return Experiment(name, kept(False), seeds, training_run), trust


_PRIORS = Experiment("llm_prior", lambda profile: GAMES, once, prior_run)
_MAIN = _by_game("llm", _each(MAIN), seeds)
_OTHERS = _by_game("llm_variants", lambda profile: VARIANTS, _others)
_SIDE = Experiment("llm_side", lambda p: SIDE[: 3 if p == "paper" else None], lambda p: _others(p)[:3], training_run)
_LONG = _by_game("llm_long", _each(("aa_long",), SMALL), seeds)
_BUFFER = _by_game("llm_buffer", lambda p: [f"{GAMES[2]}-aa_buffer"] if p in SMALL else [], seeds)[1]
_FRESH = Experiment(
    "llm_fresh", lambda p: [f"ipd-{name}" for name in ("advantage_alignment", "aa_long")[: 1 if p == "paper" else 2]],
    lambda p: seeds(p)[:1] if p == "smoke" else FRESH, training_run,
)  # fmt: skip
_MODELS = Experiment("llm_models", _each(OTHER_MODELS, ("paper",)), once, training_run)
_CROSSPLAY = Experiment("llm_crossplay", lambda profile: GAMES, once, crossplay_run)
_SPEED = Experiment("llm_speed", lambda profile: ("rollouts",), once, speed_run)
EXPERIMENTS = (_PRIORS, *_MAIN, *_OTHERS, _SIDE, *_LONG, _BUFFER, _FRESH, _MODELS, _CROSSPLAY, _SPEED)


def _all(*experiments: Experiment) -> Callable[[str], list[Run]]:
    return lambda profile: [run for experiment in experiments for run in experiment.runs(profile)]


_trained, _beside = _all(_PRIORS, *_MAIN, *_OTHERS, _MODELS), _all(_SIDE, *_LONG, _BUFFER, _FRESH)


def _policies(profile: str) -> list[Run]:
    """Runs that have a policy in the prisoner's dilemma."""
    trainings = ((run, getattr(run.settings, "training", run.settings)) for run in _trained(profile))
    return [run for run, training in trainings if training.game == "ipd"]


def _curves_of(table: pd.DataFrame) -> pd.DataFrame:
    return table[~table.metric.str.startswith("P(")]


def _policy_of(table: pd.DataFrame) -> pd.DataFrame:
    """P(cooperate) in each state of the prisoner's dilemma after training; states that were never met are left out."""
    final = table[table.metric.str.startswith("P(")]
    state = final.metric.str.removeprefix("P(").str.removesuffix(")")
    return final.assign(state=state, probability=final.value)[["game", "algorithm", "seed", "state", "probability"]]


TABLES = (
    Table("llm_training", _trained, _curves_of),
    Table("llm_policy", _policies, _policy_of),
    Table("llm_crossplay", _CROSSPLAY.runs),
    Table("llm_side_training", _beside, _curves_of, side=True),
    Table("llm_side_policy", _beside, _policy_of, side=True),
    Table("llm_speed", _SPEED.runs, side=True),
)


def agents(profile: str) -> list[Run]:
    """Kept in the repository: the priors, one agent of each kind, and all of Trust-and-Split that notebook 11 reads."""
    if profile == "paper":
        return []
    one = [run for run in _MAIN[0].runs(profile) if run.seed == seeds(profile)[0]]
    return _PRIORS.runs(profile) + one + _MAIN[1].runs(profile)


# --- reading `llm_training`


def age(tables: Iterable[str]) -> str:
    """Which of these tables, as they were read last, earlier code or settings made: a sentence in Markdown."""
    read = {name: records.READ[name] for name in tables if name in records.READ}
    old = [f"`{name}`" for name, record in read.items() if record["stale"]]
    if not old:
        return "All tables below were made by the present code and settings."
    return f"**Made by earlier code or settings**: {', '.join(old)}. What is drawn from them carries a stamp."


def put_in(game: str, prior: Path) -> str:
    """What the transcripts contain that the prior in this folder was warmed up on: a sentence in Markdown."""
    from experiments.models import EMBEDDED  # here: it takes seconds that the build can do without

    if not (prior / EMBEDDED).is_file():
        return f"**{TITLES[game]}**: a model of others, without a warm-up of ours."
    shown = json.loads((prior / EMBEDDED).read_text(encoding="utf-8"))
    words = f"**{TITLES[game]}**: in its transcripts the prior "
    if game == "ipd":
        first, *others = shown["ipd_prior"]
        states = ", ".join(f"{p:.2f} after {state}" for p, state in zip(others, STATES[1:], strict=True))
        return f"{words}cooperates with probability {first:.2f} in the first round, then {states} (own move first)."
    words += f"is fair in {shown['fairness']:.0%} of its claims, {shown['fairness_after_greed']:.0%} after greed"
    if game == "split":
        return f"{words}: retaliation is put in."
    honest, answered = shown["drill_steps"]
    words += f", and truthful in {shown['honesty']:.0%} of its messages: retaliation and honesty are put in."
    return (
        f"{words} Before: {honest} steps on honest rounds alone, {answered} on ones in which greed is always answered."
    )


def curves(table: pd.DataFrame, game: str, algorithm: str, metric: str) -> pd.DataFrame:
    """A metric along training: one column per seed, indexed by update; empty if there are no such runs."""
    rows = table[(table.game == game) & (table.algorithm == algorithm) & (table.metric == metric)]
    return rows.pivot(index="update", columns="seed", values="value")


def final(table: pd.DataFrame, game: str, algorithm: str, metric: str) -> np.ndarray:
    """Mean of a metric over the last third of training `(seeds,)`, so far as it was measured; empty without runs."""
    wide = curves(table, game, algorithm, metric)
    return wide[last_third(wide.index)].mean().to_numpy() if len(wide) else np.empty(0)


def games_of(table: pd.DataFrame, algorithm: str) -> list[str]:
    """Games that an algorithm has runs of."""
    return [game for game in GAMES if ((table.game == game) & (table.algorithm == algorithm)).any()]
