"""What the Coin Game and Negotiation share: an agent's training, maps of settings, the league, and recorded games."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from aa_core import selfplay
from aa_core.actor_critic import ActorCritic, load, save
from aa_core.advantages import CreditRule
from aa_core.games.base import Game, Script
from aa_core.games.coin import pickups
from aa_core.league import league
from aa_core.selfplay import Mind, SelfPlay, Trajectory, play
from experiments.lola import Lola
from experiments.run import JUDGED, Experiment, Run, once, single

AGENT = "agent.safetensors"


@dataclass(frozen=True)
class Training:
    """One seed of one agent, and how it is looked at along the way."""

    agent: str
    game: Game
    self_play: SelfPlay | Lola
    credit: CreditRule | None  # None: LOLA-DiCE, which is no credit
    seed: int
    partners: Mapping[str, Script]  # "cooperator" and "defector", whom it meets in evaluations
    together: Callable[[Tensor], Tensor]  # rewards (games, 2, T) -> how well two agents do
    evaluate_every: int  # updates
    evaluation_games: int  # for each point and partner
    train: Callable[..., ActorCritic] = selfplay.train
    stop_above: float | None = None  # mean reward of both seats in an update's games at which training is over


def own_coin_rate(rewards: Tensor) -> Tensor:
    """Share of the picked-up coins that are of the taker's colour, from Coin Game rewards `(batch, 2[, time])`."""
    own, other = pickups(rewards)
    return own.sum() / (own | other).sum()


def welfare(rewards: Tensor) -> Tensor:
    """Mean sum of both players' rewards `(batch, 2, time)` per step; in Negotiation at most 1, its efficiency."""
    return rewards.sum(1).mean()


def meet(game: Game, first: Mind, second: Mind, games: int, generator: torch.Generator) -> Tensor:
    """Rewards `(games, 2, T)` of two minds, which may be one."""
    who = torch.zeros(games, 2, dtype=torch.long)
    who[:, 1] = int(second is not first)
    return play(game, [first] if second is first else [first, second], who, generator).rewards


def evaluate(mind: ActorCritic, settings: Training) -> dict[str, float]:
    """What an agent and its partners earn per step: with itself, and with both scripts; always the same games."""
    generator = torch.Generator().manual_seed(12345)
    count = settings.evaluation_games
    rewards = meet(settings.game, mind, mind, count, generator)
    # no coin at all: neither colour preferred
    metrics = {"reward_self": rewards.mean().item(), "together": settings.together(rewards).nan_to_num(0.5).item()}
    for role, script in settings.partners.items():
        own, other = meet(settings.game, mind, script, count, generator).mean((0, 2)).tolist()
        metrics |= {f"reward_vs_{role}": own, f"reward_of_{role}": other}
    return metrics


def train_agent(settings: Training, folder: Path, needs: list[Path]) -> pd.DataFrame:
    """Columns agent, seed, update, metric, value: `evaluate` along training and at its end; writes the agent.

    The end is after so many updates, or before the first whose games pay both seats more than `stop_above`.
    """
    looks: dict[int, dict[str, float]] = {}
    ended = [settings.self_play.updates]

    def watch(update: int, mind: ActorCritic, played: Trajectory) -> bool:
        if update % settings.evaluate_every == 0:
            looks[update] = evaluate(mind, settings)
        over = settings.stop_above is not None and bool((played.rewards.mean((0, 2)) > settings.stop_above).all())
        if over:
            ended[0] = update
        return over

    mind = settings.train(settings.game, settings.self_play, settings.credit, settings.seed, on_update=watch)
    looks[ended[0]] = evaluate(mind, settings)
    rows = [(update, metric, value) for update, metrics in looks.items() for metric, value in metrics.items()]
    save(mind, folder / AGENT)
    table = pd.DataFrame(rows, columns=["update", "metric", "value"]).assign(agent=settings.agent, seed=settings.seed)
    return table[["agent", "seed", "update", "metric", "value"]]


Cell = tuple[CreditRule, Mapping[str, Any]]
"""Of a map of settings: a credit, and what is changed of the map's base settings."""


def settings_map(
    name: str,
    base: SelfPlay,
    cells: Mapping[str, Cell],
    training: Callable[[str, str, SelfPlay, CreditRule, int], Training],
    minutes: float,
    seeds: Callable[[str], Sequence[int]] = once,
) -> Experiment:
    """A side study whose variants are cells, data that a reader finds at a glance; its table is `train_cell`'s.

    `training` (profile, name, self-play, credit, seed) makes settings of training; `minutes` are those of 100 updates.
    The seed is one of those that settings are chosen on, if no others are asked for.
    """

    def run(profile: str, variant: str, seed: int) -> Run:
        credit, changes = cells[variant]
        settings = training(profile, variant, replace(base, **changes), credit, seed)
        settings = replace(settings, evaluate_every=10**9)  # never asked for
        return Run(name, variant, seed, settings, train_cell, minutes=minutes * settings.self_play.updates / 100)

    return Experiment(name, lambda profile: tuple(cells)[: 2 if profile == "smoke" else None], seeds, run)


def train_cell(settings: Training, folder: Path, needs: list[Path]) -> pd.DataFrame:
    """A row: cell, seed, updates, and what the agent earns at the end (`evaluate`)."""
    mind = settings.train(settings.game, settings.self_play, settings.credit, settings.seed)
    row = {"cell": settings.agent, "seed": settings.seed, "updates": settings.self_play.updates}
    return pd.DataFrame([row | evaluate(mind, settings)])


@dataclass(frozen=True)
class League:
    """Everybody against everybody."""

    game: Game
    agents: Mapping[str, int]  # how many seeds of each are needed, agent by agent
    scripts: Mapping[str, Script]
    games: int  # per pair of seeds
    first_seed: int = JUDGED.start


def play_league(settings: League, folder: Path, needs: list[Path]) -> pd.DataFrame:
    """The table of `aa_core.league.league`, with the agents' own seeds."""
    minds = iter([load(need / AGENT) for need in needs])
    trained = {agent: list(islice(minds, seeds)) for agent, seeds in settings.agents.items()}
    table = league(settings.game, trained | dict(settings.scripts), settings.games)
    for side in ("row", "column"):  # it counts from 0
        table[f"{side}_seed"] += settings.first_seed * table[f"{side}_agent"].isin(trained)
    return table


@dataclass(frozen=True)
class Episodes:
    """Games kept step by step: of the first agent that is needed, against the second one and against each script."""

    game: Game
    scripts: Mapping[str, Script]
    games: int
    columns: Callable[[Any, Tensor, Tensor], dict[str, Tensor]]  # (state, actions, rewards) of a step -> what is kept
    opponent: str = "advantage_alignment"  # name of the second one


def play_episodes(settings: Episodes, folder: Path, needs: list[Path]) -> pd.DataFrame:
    """Columns opponent, game, step and those of `settings.columns`."""
    first, second = (load(need / AGENT) for need in needs)
    who = torch.tensor([[0, 1]]).repeat(settings.games, 1)

    def steps(opponent: str, mind: Mind) -> Iterator[pd.DataFrame]:
        kept: list[dict[str, Tensor]] = []
        generator = torch.Generator().manual_seed(1)
        play(
            settings.game, [first, mind], who, generator, on_step=lambda *step: kept.append(settings.columns(*step[:3]))
        )
        for step, columns in enumerate(kept):
            rows = pd.DataFrame({name: values.numpy() for name, values in columns.items()})
            yield pd.DataFrame({"opponent": opponent, "game": rows.index, "step": step}).join(rows)

    opponents = {settings.opponent: second, **settings.scripts}
    table = pd.concat([rows for name, mind in opponents.items() for rows in steps(name, mind)])  # type: ignore[arg-type]
    return table.sort_values(["opponent", "game", "step"], kind="stable", ignore_index=True)


def meetings(
    name: str, rules: Callable[[str], Game], agents: Callable[[str], list[Run]], scripts: Mapping[str, Script],
    games: Callable[[str], tuple[int, int]], columns: Callable[[Any, Tensor, Tensor], dict[str, Tensor]],
) -> tuple[Experiment, Experiment]:  # fmt: skip
    """The league of every seed of every agent and the scripts; and recorded games of the first seeds of AA.

    By profile: `rules` of the game, `agents`, and `games`: per pair of the league's, and recorded ones per opponent.
    """

    def meet_all(profile: str) -> Run:
        needs = tuple(agents(profile))
        settings = League(rules(profile), dict(Counter(run.variant for run in needs)), scripts, games(profile)[0])
        return Run(f"{name}_league", "all", 0, settings, play_league, needs, minutes=0.5)

    def record(profile: str) -> Run:
        needs = tuple(run for run in agents(profile) if run.variant == Episodes.opponent)[:2]
        settings = Episodes(rules(profile), scripts, games(profile)[1], columns)
        return Run(f"{name}_episode", "all", 0, settings, play_episodes, needs)

    return single(f"{name}_league", meet_all), single(f"{name}_episode", record)
