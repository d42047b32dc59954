"""The iterated prisoner's dilemma: what is trained, at which size, with which settings (notebooks 00, 04).

`ipd` and `ipd_long` are self-play of tables, all seeds in one batch, `ipd_sweep` is Advantage Alignment over its
settings, and in `ipd_tournament` what was learned plays the strategies of the Axelrod library. `ipd_gru` is the agent
of AA's figure 1b, a GRU that sees the whole game, and `ipd_gru_map` the map of its settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Generator

from aa_core.actor_critic import ActorCritic, Network, Seen, save
from aa_core.advantages import CreditRule, aligned_advantages, naive_advantages, summed_advantages
from aa_core.checks import check_choice
from aa_core.games.base import random_player
from aa_core.games.matrix import CLASSIC_PAYOFFS, STATES, MatrixGame
from aa_core.policies import STRATEGIES, classify
from aa_core.selfplay import Buffer, Mind, SelfPlay, Trajectory, play
from aa_core.selfplay import train as train_network
from aa_core.tabular import Tabular, train, train_lola
from experiments.judge import last_third
from experiments.run import TEN, Experiment, Run, Table, once, scaled

SEEDS = TEN
CHOOSING = range(5)
Payoffs = tuple[tuple[float, float], ...]
PAYOFFS: Payoffs = CLASSIC_PAYOFFS["prisoners_dilemma"]

ALGORITHMS = ("naive", "sum_of_rewards", "lola_dice", "loqa_credit", "advantage_alignment")
LOLA_STEP = 3.0  # the step that LOLA-DiCE imagines
BETA = {"loqa_credit": 0.3, "advantage_alignment": 0.1}

# Two horizons: advantages look few rounds ahead, alignment many rounds back. Advantages are returns minus the mean of
# the batch; with those of a trained critic everybody defects.
GRU = SelfPlay(
    Network(hidden=16, shared=True), updates=900, games=64, gamma=0.55, batch_baseline=True, normalise=False,
    entropy=0.0, learning_rate=3e-3, critic_weight=0.0,
)  # fmt: skip
GRU_BETA, GRU_PAST = 30.0, 0.9  # of the alignment: beta and discount
AFTER = ("CC after random play", "DC after random play")  # the readings that tell a grudge
LONGER = "longer"  # what comes after tit for tat?
MAP: dict[str, dict[str, Any]] = {
    f"beta-{beta:g}-gamma-{gamma:g}": dict(beta=beta, gamma=gamma)
    for beta, gamma in product((1.0, 3.0, 10.0, 30.0), (0.4, 0.55, 0.7, 0.9))
}
MAP |= {
    LONGER: dict(updates=2700),
    "critic": dict(batch_baseline=False, lam=1.0, critic_weight=1.0, network=Network(hidden=16)),
    "normalised": dict(normalise=True),
    "past-selves": dict(buffer=Buffer(share=0.5, drawn=8)),
    "just-in-time": dict(include_current=True),
    "entropy-1": dict(entropy=1.0),
    "adam-0.001": dict(learning_rate=1e-3),
    "adam-0.01": dict(learning_rate=1e-2),
    "hidden-32": dict(network=Network(hidden=32, shared=True)),
}


def rule(algorithm: str, gamma: float) -> CreditRule | None:
    """What makes an algorithm; None for LOLA-DiCE, which is no credit rule."""
    check_choice("variant", algorithm, ALGORITHMS)
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
    long_updates: int  # of the runs that look for what comes after tit for tat
    betas: tuple[float, ...]  # these and the following two are swept over
    gammas: tuple[float, ...]
    learning_rates: tuple[float, ...]  # updates times learning rate is the same for all
    seeds: int = 10
    tournament_seeds: int = 5
    longer: int = 3  # seeds of the GRU that are trained on
    repetitions: int = 3  # of a match
    field: int | None = None  # the first so many strategies of the library; None: all


LAPTOP = Size(
    Tabular(updates=300, games=128, learning_rate=0.03, gamma=0.9), rounds=32, long_updates=1200,
    betas=(0.03, 0.1, 0.2, 0.3, 1.0, 3.0), gammas=(0.8, 0.9, 0.96), learning_rates=(0.01, 0.03, 0.1),
)  # fmt: skip
SIZES = {
    "smoke": Size(
        Tabular(updates=20, games=16, learning_rate=0.1, gamma=0.9), rounds=8, long_updates=40,
        betas=(0.1, 1.0), gammas=(0.9,), learning_rates=(0.1,),
        seeds=2, tournament_seeds=1, longer=1, repetitions=1, field=10,
    ),
    "laptop": LAPTOP,
    "extended": LAPTOP,
    # LOQA's published command for this game, whose authors' code AA builds on
    "paper": Size(
        Tabular(updates=7000, games=2048, learning_rate=0.001, gamma=0.96), rounds=50, long_updates=28000,
        betas=(0.01, 0.03, 0.1, 0.2, 0.3, 1.0, 3.0, 10.0), gammas=(0.5, 0.8, 0.9, 0.96, 0.99),
        learning_rates=(0.001, 0.003, 0.01), tournament_seeds=10, repetitions=20,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Training:
    """Self-play of tables by one algorithm, a batch of seeds."""

    algorithm: str
    credit: CreditRule | None
    training: Tabular
    rounds: int
    seeds: tuple[int, ...]
    lola_step: float | None = None
    payoffs: Payoffs = PAYOFFS


def play_ipd(settings: Training, folder: Path, needs: Sequence[Path] = ()) -> pd.DataFrame:
    """Train; rows of P(cooperate) in each state and the mean reward, of every learner along training."""
    game = MatrixGame(settings.payoffs, settings.rounds)
    if settings.credit is None:
        history = train_lola(game, settings.training, settings.lola_step, settings.seeds)
    else:
        history = train(game, settings.training, settings.credit, settings.seeds)
    rows = []
    for step, probabilities, rewards in zip(history.updates, history.logits.sigmoid(), history.rewards, strict=True):
        for (index, seed), player in product(enumerate(settings.seeds), range(2)):
            metrics = dict(zip(STATES, probabilities[index, player].tolist(), strict=True))
            metrics["reward"] = rewards[index, player].item()
            rows += [(settings.algorithm, seed, player, int(step), metric, value) for metric, value in metrics.items()]
    return pd.DataFrame(rows, columns=["algorithm", "seed", "player", "step", "metric", "value"])


@dataclass(frozen=True)
class Sweep:
    """Advantage Alignment over beta and gamma, a batch of seeds each."""

    betas: tuple[float, ...]
    gammas: tuple[float, ...]
    training: Tabular
    rounds: int
    seeds: tuple[int, ...]
    payoffs: Payoffs = PAYOFFS


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
    from experiments.tournament import field, play_field  # here, since importing axelrod takes ten seconds

    entries = [(name, 0, table) for name, table in STRATEGIES.items()]
    if needs:
        learned = policies_of(pd.read_csv(needs[0] / "table.csv"))
        tables = learned[learned.player == 0].pivot(index="seed", columns="state", values="probability")[list(STATES)]
        entries = [(settings.entry, *entry) for entry in zip(tables.index, tables.to_numpy(), strict=True)]
        entries = entries[: settings.seeds]
    opponents, played = field()[: settings.field], []
    for name, seed, table in entries:
        played.append(play_field(table, opponents, int(seed), settings.repetitions).assign(entry=name, seed=seed))
    return pd.concat(played, ignore_index=True)


@dataclass(frozen=True)
class FullHistory:
    """Self-play of networks that see the whole game, one seed."""

    algorithm: str
    credit: CreditRule
    training: SelfPlay
    seed: int
    rounds: int = 16  # as in the paper
    readings: int = 24  # of the policy along training
    games: int = 32  # of a reading
    payoffs: Payoffs = PAYOFFS


@torch.no_grad()
def read_policy(mind: ActorCritic, first: Mind, game: MatrixGame, games: int, seed: int) -> dict[str, float]:
    """P(cooperate) by state of a policy with memory, averaged over what went before.

    In START nothing did. Elsewhere `first` plays both seats for t = 0 ... horizon - 2 rounds, then the state's joint
    move is forced, and `mind`, which has seen all that from its seat, is asked. So states that self-play never visits
    are read too: with `first` the mind itself, as answers to one slip in its own play.
    """
    who = torch.zeros(games, 2, dtype=torch.long)
    seen = play(game, [first], who, Generator().manual_seed(seed)).seen.at(slice(None))
    moves = torch.arange(1, len(STATES)).repeat_interleave(2 * games)[None]
    forced = Seen(moves, torch.zeros_like(moves), torch.zeros(moves.shape))
    start, hidden = mind.act(Seen(*(x[:1] for x in seen)), None)
    answers = []
    for time in range(1, game.horizon):
        answers.append(mind.act(forced, hidden.repeat(len(STATES) - 1, 1))[0])
        hidden = mind.act(Seen(*(x[time : time + 1] for x in seen)), hidden)[1]
    by_state = torch.cat(answers).softmax(-1)[..., 0].unflatten(1, (len(STATES) - 1, -1)).mean((0, 2))
    return dict(zip(STATES, [start.softmax(-1)[0, 0, 0].item(), *by_state.tolist()], strict=True))


def play_gru(settings: FullHistory, folder: Path, needs: Sequence[Path] = ()) -> pd.DataFrame:
    """Train; rows of P(cooperate) by state, after own and after random play, and of the mean reward, along training.

    `update` is the number of the update whose games the network plays, from 1: it has learned from those before.
    """
    game, rows, updates = MatrixGame(settings.payoffs, settings.rounds), [], settings.training.updates

    def record(update: int, mind: ActorCritic, played: Trajectory) -> None:
        if (update + 1) % max(1, updates // settings.readings) == 0:
            metrics = read_policy(mind, mind, game, settings.games, settings.seed)
            after = read_policy(mind, random_player, game, settings.games, settings.seed)
            metrics |= {f"{state} after random play": value for state, value in after.items()}
            metrics["reward"] = played.rewards.mean().item()
            rows.extend((settings.algorithm, settings.seed, update + 1, *pair) for pair in metrics.items())

    mind = train_network(game, settings.training, settings.credit, settings.seed, record)
    save(mind, folder / "agent.safetensors")
    return pd.DataFrame(rows, columns=["algorithm", "seed", "update", "metric", "value"])


def ipd(profile: str, variant: str, seed: int) -> Run:
    """Self-play of one algorithm; here a seed is a batch of them, of which the figures need the one called 0."""
    return _self_play("ipd", SIZES[profile].training.updates, profile, variant, seed)


def _self_play(experiment: str, updates: int, profile: str, variant: str, seed: int) -> Run:
    size = SIZES[profile]
    settings = Training(
        variant, rule(variant, size.training.gamma),
        replace(size.training, updates=updates, record_every=max(1, updates // 30)), size.rounds,
        tuple(SEEDS.start + seed * size.seeds + index for index in range(size.seeds)),
        LOLA_STEP if variant == "lola_dice" else None,
    )  # fmt: skip
    minutes = scaled(0.1, settings.training, LAPTOP.training) * size.rounds / LAPTOP.rounds
    return Run(experiment, variant, seed, settings, play_ipd, minutes=minutes)


def ipd_sweep(profile: str, variant: str, seed: int) -> Run:
    """One learning rate of the sweep, on the seeds on which settings are chosen."""
    size, rate = SIZES[profile], float(variant)
    updates = max(1, round(size.training.updates * size.training.learning_rate / rate))
    training = replace(size.training, learning_rate=rate, updates=updates, record_every=updates)
    settings = Sweep(size.betas, size.gammas, training, size.rounds, tuple(CHOOSING[: size.seeds]))
    minutes = scaled(0.7, training, LAPTOP.training) * size.rounds / LAPTOP.rounds
    return Run("ipd_sweep", variant, seed, settings, sweep_ipd, minutes=minutes)


def ipd_tournament(profile: str, variant: str, seed: int) -> Run:
    """One algorithm, or the classics, against the Axelrod library."""
    size = SIZES[profile]
    settings = Tournament(variant, size.tournament_seeds, size.repetitions, size.field)
    needs = () if variant == "classics" else (ipd(profile, variant, seed),)
    return Run("ipd_tournament", variant, seed, settings, play_tournament, needs, minutes=0.3)


def ipd_gru(profile: str, variant: str, seed: int) -> Run:
    """Self-play of the GRU by an algorithm, or by Advantage Alignment with the changes of MAP."""
    check_choice("variant", variant, ("naive", "advantage_alignment", *MAP))
    changes = MAP.get(variant, {}) | (dict(updates=6) if profile == "smoke" else {})
    of_credit = {name: changes.pop(name) for name in ("beta", "include_current") if name in changes}
    aligned = partial(aligned_advantages, **(dict(beta=GRU_BETA, gamma=GRU_PAST) | of_credit))
    credit = naive_advantages if variant == "naive" else aligned
    settings = FullHistory(variant, credit, replace(GRU, **changes), seed)
    return Run("ipd_gru", variant, seed, settings, play_gru, minutes=settings.training.updates / 4000)


def policies_of(table: pd.DataFrame, states: Sequence[str] = STATES) -> pd.DataFrame:
    """P(cooperate) of each learner, a row per state: the mean over the last third of its updates."""
    updates = "step" if "step" in table else "update"
    states = table[last_third(table[updates])].query("metric in @states").rename(columns={"metric": "state"})
    learner = [name for name in states.columns if name not in (updates, "value")]
    return states.groupby(learner, sort=False).value.mean().rename("probability").reset_index()


def returns_of(table: pd.DataFrame) -> pd.DataFrame:
    """Mean reward per round along training."""
    return table[table.metric == "reward"].rename(columns={"value": "reward"}).drop(columns="metric")


IPD = Experiment("ipd", lambda profile: ALGORITHMS, once, ipd)
LONG = Experiment(
    "ipd_long", lambda profile: ("loqa_credit", "advantage_alignment"), once,
    lambda profile, *which: _self_play("ipd_long", SIZES[profile].long_updates, profile, *which),
)  # fmt: skip
SWEEP = Experiment("ipd_sweep", lambda p: [f"{rate:g}" for rate in SIZES[p].learning_rates], once, ipd_sweep)
TOURNAMENT = Experiment("ipd_tournament", lambda profile: (*ALGORITHMS, "classics"), once, ipd_tournament)
FULL_HISTORY = Experiment(
    "ipd_gru", lambda profile: ("advantage_alignment",), lambda p: SEEDS[: SIZES[p].seeds], ipd_gru
)
EXPERIMENTS: tuple[Experiment, ...] = (IPD, LONG, SWEEP, TOURNAMENT, FULL_HISTORY)


def _map(profile: str) -> list[Run]:
    variants, seeds = ["naive", *MAP], CHOOSING[:1]
    variants.remove(LONGER)
    if profile == "smoke":
        variants = variants[-2:]
    return [ipd_gru(profile, variant, seed) for variant in variants for seed in seeds]


TABLES: tuple[Table, ...] = (
    Table("ipd_policy", IPD.runs, policies_of),
    Table("ipd_returns", IPD.runs, returns_of),
    Table("ipd_long", LONG.runs),
    Table("ipd_sweep", SWEEP.runs),
    Table("ipd_tournament", TOURNAMENT.runs),
    Table("ipd_gru_policy", FULL_HISTORY.runs, policies_of),
    Table("ipd_gru_curves", FULL_HISTORY.runs),
    Table("ipd_gru_long", lambda profile: [ipd_gru(profile, LONGER, seed) for seed in SEEDS[: SIZES[profile].longer]]),
    Table("ipd_gru_map", _map, partial(policies_of, states=(*STATES, *AFTER)), side=True),
)


def agents(profile: str) -> list[Run]:
    """None: their tables of P(cooperate) are data."""
    return []
