"""The iterated prisoner's dilemma with tables: what is trained, at which size, with which settings (notebooks 00, 04).

`ipd` and `ipd_long` are self-play of many seeds in one batch, `ipd_sweep` is Advantage Alignment over its settings, and
in `ipd_tournament` what was learned plays the strategies of the Axelrod library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file, save_file

from aa_core.advantages import CreditRule, aligned_advantages, naive_advantages, summed_advantages
from aa_core.games.matrix import CLASSIC_PAYOFFS, STATES, MatrixGame
from aa_core.policies import STRATEGIES, classify
from aa_core.tabular import History, Tabular, train, train_lola
from experiments.run import Experiment, Run, Table

ALGORITHMS = ("naive", "sum_of_rewards", "lola_dice", "loqa_credit", "advantage_alignment")
LOLA_STEP = 3.0  # the step that LOLA-DiCE imagines
BETA = {"loqa_credit": 0.3, "advantage_alignment": 0.1}


def rule(algorithm: str, gamma: float) -> CreditRule | None:
    """What makes an algorithm; None for LOLA-DiCE, which is no credit rule."""
    return {
        "naive": naive_advantages,
        "sum_of_rewards": summed_advantages,
        "loqa_credit": partial(aligned_advantages, beta=BETA["loqa_credit"], gamma=gamma, loqa=True),
        "advantage_alignment": partial(aligned_advantages, beta=BETA["advantage_alignment"], gamma=gamma),
    }.get(algorithm)


@dataclass(frozen=True)
class Size:
    """Size of every run of a profile."""

    training: Tabular
    rounds: int  # of a game
    seeds: int
    long_updates: int  # of the runs that look for what comes after tit for tat, on half the seeds
    betas: tuple[float, ...]  # these and the following two are swept over
    gammas: tuple[float, ...]
    learning_rates: tuple[float, ...]  # updates times learning rate is the same for all
    sweep_seeds: int
    tournament_seeds: int
    repetitions: int  # of a match
    field: int | None = None  # the first so many strategies of the library; None: all


LAPTOP = Size(
    Tabular(updates=300, games=128, learning_rate=0.03, gamma=0.9), rounds=32, seeds=64, long_updates=1200,
    betas=(0.03, 0.1, 0.2, 0.3, 1.0, 3.0), gammas=(0.8, 0.9, 0.96), learning_rates=(0.01, 0.03, 0.1), sweep_seeds=8,
    tournament_seeds=8, repetitions=3,
)  # fmt: skip
SIZES = {
    "smoke": Size(
        Tabular(updates=20, games=16, learning_rate=0.1, gamma=0.9), rounds=8, seeds=4, long_updates=40,
        betas=(0.1, 1.0), gammas=(0.9,), learning_rates=(0.1,), sweep_seeds=2,
        tournament_seeds=1, repetitions=1, field=10,
    ),
    "laptop": LAPTOP,
    "extended": LAPTOP,
    # LOQA's published command for this game, whose authors' code AA builds on
    "paper": Size(
        Tabular(updates=7000, games=2048, learning_rate=0.001, gamma=0.96), rounds=50, seeds=10, long_updates=28000,
        betas=(0.01, 0.03, 0.1, 0.2, 0.3, 1.0, 3.0, 10.0), gammas=(0.5, 0.8, 0.9, 0.96, 0.99),
        learning_rates=(0.001, 0.003, 0.01), sweep_seeds=10,
        tournament_seeds=10, repetitions=20,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Training:
    """Self-play of one algorithm, a batch of seeds."""

    algorithm: str
    credit: CreditRule | None
    training: Tabular
    rounds: int
    seeds: tuple[int, ...]
    lola_step: float | None = None
    payoffs: tuple[tuple[float, float], ...] = CLASSIC_PAYOFFS["prisoners_dilemma"]


def play_ipd(settings: Training, folder: Path, needs: Sequence[Path] = ()) -> pd.DataFrame:
    """Train; rows of P(cooperate) in each state and the mean reward, of every learner along training."""
    game = MatrixGame(settings.payoffs, settings.rounds)
    if settings.credit is None:
        history = train_lola(game, settings.training, settings.lola_step, settings.seeds)
    else:
        history = train(game, settings.training, settings.credit, settings.seeds)
    save_file({"logits": history.logits[-1].contiguous()}, folder / "agent.safetensors")  # (seeds, players, states)
    return _tidy(history, settings.algorithm, settings.seeds)


def _tidy(history: History, algorithm: str, seeds: Sequence[int]) -> pd.DataFrame:
    rows = []
    for step, probabilities, rewards in zip(history.updates, history.logits.sigmoid(), history.rewards, strict=True):
        for (index, seed), player in product(enumerate(seeds), range(2)):
            metrics = dict(zip(STATES, probabilities[index, player].tolist(), strict=True))
            metrics["reward"] = rewards[index, player].item()
            rows += [(algorithm, seed, player, int(step), metric, value) for metric, value in metrics.items()]
    return pd.DataFrame(rows, columns=["algorithm", "seed", "player", "step", "metric", "value"])


@dataclass(frozen=True)
class Sweep:
    """Advantage Alignment over beta and gamma, a batch of seeds each."""

    betas: tuple[float, ...]
    gammas: tuple[float, ...]
    training: Tabular
    rounds: int
    seeds: tuple[int, ...]
    payoffs: tuple[tuple[float, float], ...] = CLASSIC_PAYOFFS["prisoners_dilemma"]


def sweep_ipd(settings: Sweep, folder: Path, needs: Sequence[Path] = ()) -> pd.DataFrame:
    """Kind, table and reward of every learner at the end of training."""
    game, rows = MatrixGame(settings.payoffs, settings.rounds), []
    for beta, gamma in product(settings.betas, settings.gammas):
        training = replace(settings.training, gamma=gamma)
        history = train(game, training, partial(aligned_advantages, beta=beta, gamma=gamma), settings.seeds)
        policies, rewards = history.logits[-1].sigmoid().flatten(0, 1), history.rewards[-1].flatten()
        learners = product(settings.seeds, range(2))
        for learner, kind, policy, reward in zip(learners, classify(policies), policies, rewards, strict=True):
            rows.append((beta, gamma, training.learning_rate, *learner, kind, *policy.tolist(), reward.item()))
    return pd.DataFrame(rows, columns=["beta", "gamma", "learning_rate", "seed", "player", "kind", *STATES, "reward"])


@dataclass(frozen=True)
class Tournament:
    """One algorithm's learned tables, or the classic strategies, against the library."""

    entry: str  # an algorithm, or "classics"
    seeds: int  # the first so many seeds of the algorithm's run
    repetitions: int
    field: int | None


def play_tournament(settings: Tournament, folder: Path, needs: Sequence[Path]) -> pd.DataFrame:
    """Scores and cooperation per turn against every strategy, a row each."""
    from experiments.tournament import field, play_entries  # here, since importing axelrod takes ten seconds

    if needs:
        policies = load_file(needs[0] / "agent.safetensors")["logits"].double().sigmoid()[: settings.seeds, 0]
        entries = [(settings.entry, seed, policy.tolist()) for seed, policy in enumerate(policies)]
    else:
        entries = [(name, 0, table) for name, table in STRATEGIES.items()]
    return play_entries(entries, field()[: settings.field], settings.repetitions)


def _batch(seed: int, count: int) -> tuple[int, ...]:
    """The seeds of batch `seed`: batch 0 has the first `count`."""
    return tuple(range(seed * count, (seed + 1) * count))


def ipd(profile: str, variant: str, seed: int) -> Run:
    """Self-play of one algorithm; here a seed is a batch of them."""
    return _self_play("ipd", SIZES[profile].training.updates, SIZES[profile].seeds, profile, variant, seed)


def ipd_long(profile: str, variant: str, seed: int) -> Run:
    """The same, for longer."""
    size = SIZES[profile]
    return _self_play("ipd_long", size.long_updates, max(2, size.seeds // 2), profile, variant, seed)


def _self_play(experiment: str, updates: int, seeds: int, profile: str, variant: str, seed: int) -> Run:
    size = SIZES[profile]
    settings = Training(
        variant, rule(variant, size.training.gamma),
        replace(size.training, updates=updates, record_every=max(1, updates // 30)), size.rounds, _batch(seed, seeds),
        LOLA_STEP if variant == "lola_dice" else None,
    )  # fmt: skip
    return Run(experiment, variant, seed, settings, play_ipd, minutes=1 if variant == "lola_dice" else 0.5)


def ipd_sweep(profile: str, variant: str, seed: int) -> Run:
    """One learning rate of the sweep."""
    size, rate = SIZES[profile], float(variant)
    updates = max(1, round(size.training.updates * size.training.learning_rate / rate))
    training = replace(size.training, learning_rate=rate, updates=updates, record_every=updates)
    settings = Sweep(size.betas, size.gammas, training, size.rounds, _batch(seed, size.sweep_seeds))
    return Run("ipd_sweep", variant, seed, settings, sweep_ipd, minutes=2 * LAPTOP.learning_rates[0] / rate)


def ipd_tournament(profile: str, variant: str, seed: int) -> Run:
    """One algorithm, or the classics, against the Axelrod library."""
    size = SIZES[profile]
    settings = Tournament(variant, size.tournament_seeds, size.repetitions, size.field)
    needs = () if variant == "classics" else (ipd(profile, variant, seed),)
    return Run("ipd_tournament", variant, seed, settings, play_tournament, needs, minutes=0.4)


def policies_of(table: pd.DataFrame) -> pd.DataFrame:
    """Final P(cooperate) of each learner, one row per state."""
    last = table[(table.step == table.step.max()) & table.metric.isin(STATES)]
    return last.rename(columns={"metric": "state", "value": "probability"}).drop(columns="step")


def returns_of(table: pd.DataFrame) -> pd.DataFrame:
    """Mean reward per round along training."""
    return table[table.metric == "reward"].rename(columns={"value": "reward"}).drop(columns="metric")


def _rates(profile: str) -> list[str]:
    return [f"{rate:g}" for rate in SIZES[profile].learning_rates]


IPD = Experiment("ipd", lambda profile: ALGORITHMS, lambda profile: (0,), ipd)
LONG = Experiment("ipd_long", lambda profile: ("loqa_credit", "advantage_alignment"), lambda profile: (0,), ipd_long)
SWEEP = Experiment("ipd_sweep", _rates, lambda profile: (0,), ipd_sweep)
TOURNAMENT = Experiment(
    "ipd_tournament", lambda profile: (*ALGORITHMS, "classics"), lambda profile: (0,), ipd_tournament
)
EXPERIMENTS: tuple[Experiment, ...] = (IPD, LONG, SWEEP, TOURNAMENT)


TABLES: tuple[Table, ...] = (
    Table("ipd_policy", IPD.runs, policies_of),
    Table("ipd_returns", IPD.runs, returns_of),
    Table("ipd_long", LONG.runs),
    Table("ipd_sweep", SWEEP.runs),
    Table("ipd_tournament", TOURNAMENT.runs),
)


def agents(profile: str) -> list[Run]:
    """None: their tables of P(cooperate) are data."""
    return []
