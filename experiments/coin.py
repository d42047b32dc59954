"""The Coin Game, notebook 05 (AA, figure 2): agents, their league, recorded games, and side studies.

Who asks which beta seed 3 of Advantage Alignment had: the one that stands in AGENTS, as every seed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from aa_core import lola
from aa_core.actor_critic import ActorCritic, Network
from aa_core.advantages import CreditRule, aligned_advantages, naive_advantages, summed_advantages
from aa_core.games.base import random_player
from aa_core.games.coin import SCRIPTED, CoinGame, CoinState
from aa_core.league import own_coin_rate
from aa_core.lola import Lola
from aa_core.selfplay import Buffer, SelfPlay, train
from experiments.leagues import Cell, Episodes, League, Training, play_episodes, play_league, settings_map, train_agent
from experiments.run import Experiment, Run, Table

GAMMA = 0.96
NAIVE = SelfPlay(updates=120, games=128, gamma=GAMMA, learning_rate=5e-3)
# greedy for 60 updates; in half of the games they meet their past of the first 120
REPLAY = SelfPlay(
    updates=300, games=128, gamma=GAMMA, greedy_updates=60, buffer=Buffer(share=0.5, drawn=2, every=10, until=120)
)
PPO = {"clip": 0.2, "epochs": 2}
AGENTS: dict[str, tuple[SelfPlay, CreditRule]] = {
    "naive": (NAIVE, naive_advantages),
    "ppo": (replace(NAIVE, **PPO), naive_advantages),
    "ppo_sum_of_rewards": (replace(NAIVE, **PPO), summed_advantages),
    "loqa": (REPLAY, partial(aligned_advantages, beta=0.4, gamma=GAMMA, loqa=True)),
    "advantage_alignment": (REPLAY, partial(aligned_advantages, beta=0.2, gamma=GAMMA)),
    "proximal_advantage_alignment": (replace(REPLAY, **PPO), partial(aligned_advantages, beta=0.2, gamma=GAMMA)),
}
LOLA_DICE = Lola(
    updates=150, games=64, gamma=GAMMA, learning_rate=5e-3, entropy=0.02,
    inner_learning_rate=0.1,  # with 1 or 5 next to nothing was learned
)  # fmt: skip
# LOQA's published settings, whose code AA's agents come from; AA's own beta is not public, ours stays
PAPER = {"updates": 25400, "games": 512, "learning_rate": 1e-3, "critic_learning_rate": 1e-2, "entropy": 0.1}
PAPER_LOLA = {"updates": 50001, "games": 2000, "learning_rate": 3e-3}  # POLA's


@dataclass(frozen=True)
class Size:
    """How much is played in a profile, apart from the settings of training."""

    seeds: int
    horizon: int
    evaluate_every: int
    evaluation_games: int
    league_games: int  # per pair of seeds
    episode_games: int  # per opponent


SIZES = {
    "smoke": Size(seeds=2, horizon=8, evaluate_every=2, evaluation_games=4, league_games=2, episode_games=2),
    "laptop": Size(seeds=5, horizon=50, evaluate_every=25, evaluation_games=64, league_games=32, episode_games=16),
    "paper": Size(seeds=10, horizon=50, evaluate_every=100, evaluation_games=64, league_games=32, episode_games=16),
}
SIZES["extended"] = replace(SIZES["laptop"], seeds=2)
PARTNERS = {"cooperator": SCRIPTED["always cooperate"], "defector": SCRIPTED["always defect"]}


def sized(settings: SelfPlay, profile: str) -> SelfPlay:
    """Settings of training in a profile."""
    buffer = settings.buffer
    if profile == "smoke":
        small = None if buffer is None else replace(buffer, drawn=2, every=1, until=buffer.until and 2)
        network = replace(settings.network, hidden=8)
        greedy = min(settings.greedy_updates, 2)
        return replace(settings, updates=4, games=8, greedy_updates=greedy, network=network, buffer=small)
    if profile == "paper":
        big = None if buffer is None else replace(buffer, capacity=10_000, until=None)
        return replace(settings, **PAPER, network=replace(settings.network, hidden=128), buffer=big)
    return settings


def train_lola(game: CoinGame, settings: Lola, credit: None, seed: int, **options: Any) -> ActorCritic:
    """`lola.train`, called as `selfplay.train` is; there is no credit."""
    return lola.train(game, settings, seed, **options)


def _training(
    profile: str, name: str, self_play: SelfPlay | Lola, credit: CreditRule | None, seed: int, **options: Any
) -> Training:
    size = SIZES[profile]
    game = CoinGame(horizon=size.horizon)
    self_play = sized(self_play, profile) if isinstance(self_play, SelfPlay) else self_play
    return Training(
        name, game, self_play, credit, seed, PARTNERS, own_coin_rate, size.evaluate_every, size.evaluation_games,
        **options,
    )  # fmt: skip


def agent_run(profile: str, variant: str, seed: int) -> Run:
    """Training of one seed of an agent."""
    options = {}
    if variant == "lola_dice":
        changes = {"paper": PAPER_LOLA, "smoke": {"updates": 4, "games": 8, "network": Network(hidden=8)}}
        self_play, credit, options["train"] = replace(LOLA_DICE, **changes.get(profile, {})), None, train_lola
    else:
        self_play, credit = AGENTS[variant]
    settings = _training(profile, variant, self_play, credit, seed, **options)
    return Run("coin", variant, seed, settings, train_agent, minutes=MINUTES.get(variant, 0.5), gpu=profile == "paper")


MINUTES = {"loqa": 0.7, "advantage_alignment": 0.7, "proximal_advantage_alignment": 1.2}
NAMES = (*AGENTS, "lola_dice")


def league_run(profile: str, variant: str = "all", seed: int = 0) -> Run:
    """Every seed of every agent, and the scripted players, against each other."""
    size = SIZES[profile]
    settings = League(CoinGame(horizon=size.horizon), NAMES, size.seeds, SCRIPTED, size.league_games)
    needs = tuple(agent_run(profile, agent, seed) for agent in NAMES for seed in range(size.seeds))
    return Run("coin_league", variant, seed, settings, play_league, needs)


def columns(state: CoinState, actions: Tensor, rewards: Tensor) -> dict[str, Tensor]:
    """Cells of both players, the coin's cell and its owner before the step, and both rewards."""
    first, second = state.players.unbind(1)
    one, two = rewards.long().unbind(1)
    return {
        "cell_1": first, "cell_2": second, "coin": state.coin, "owner": state.owner, "reward_1": one, "reward_2": two,
    }  # fmt: skip


def episode_run(profile: str, variant: str = "all", seed: int = 0) -> Run:
    """Games of the first seed of Advantage Alignment, step by step."""
    size = SIZES[profile]
    settings = Episodes(CoinGame(horizon=size.horizon), SCRIPTED, size.episode_games, columns)
    needs = tuple(agent_run(profile, "advantage_alignment", seed) for seed in (0, 1))
    return Run("coin_episode", variant, seed, settings, play_episodes, needs)


# --- the map of settings: Advantage Alignment, one thing at a time; what a cell does not say is as in MAP_BASE

MAP_BASE = SelfPlay(updates=350, games=256, gamma=GAMMA)
PAST, FAST = Buffer(share=0.5), {"learning_rate": 5e-3, "critic_learning_rate": 5e-3}
GREEDY = {"greedy_updates": 60, "buffer": PAST}
BETA = {beta: partial(aligned_advantages, beta=beta, gamma=GAMMA) for beta in (0.15, 0.2, 0.3)}
MAP: dict[str, Cell] = {  # cell -> credit, changes
    "β 0.15": (BETA[0.15], {}),
    "β 0.15, past": (BETA[0.15], {"buffer": PAST}),
    "β 0.15, greedy, past": (BETA[0.15], GREEDY),
    "β 0.3, greedy, past": (BETA[0.3], GREEDY),
    "β 0.3, greedy, past quarter": (BETA[0.3], GREEDY | {"buffer": replace(PAST, share=0.25)}),
    "β 0.2, greedy, past, entropy 0.03": (BETA[0.2], GREEDY | {"entropy": 0.03}),
    "β 0.2, greedy, past, actor's Adam 0.005": (BETA[0.2], GREEDY | {"learning_rate": 5e-3, "updates": 300}),
    "β 0.15, greedy, past to 60": (BETA[0.15], GREEDY | {"buffer": replace(PAST, until=60)}),
    "β 0.3, greedy, past to 60": (BETA[0.3], GREEDY | {"buffer": replace(PAST, until=60), "updates": 300}),
    "β 0.2, greedy, past to 120": (BETA[0.2], GREEDY | {"buffer": replace(PAST, until=120)}),
    "β 0.2, greedy, past to 120, Adam 0.005": (BETA[0.2], GREEDY | {"buffer": replace(PAST, until=120)} | FAST),
    "β 0.2, greedy 150, last 8, Adam 0.005": (
        BETA[0.2],
        {"greedy_updates": 150, "buffer": replace(PAST, until=150, capacity=8), "updates": 400} | FAST,
    ),
}


# --- the price of shaping and the speed of an update; nothing else should run on the machine


@dataclass(frozen=True)
class Timing:
    """Seconds per update of one algorithm, by horizon and grid."""

    algorithm: str
    train: Callable[..., ActorCritic]
    credit: CreditRule | None
    self_play: SelfPlay | Lola
    horizons: tuple[int, ...]
    grids: tuple[int, ...]


PRICED = ("naive", "lola_dice", "loqa", "advantage_alignment")


def cost_run(profile: str, variant: str, seed: int = 0) -> Run:
    """What an update of an algorithm costs: the same network, batch and optimiser for all, no agent buffer."""
    small = profile == "smoke"
    amount = {"updates": 3 if small else 7, "games": 4 if small else 128}
    if variant == "lola_dice":
        how = train_lola, None, replace(LOLA_DICE, **amount)
    else:
        how = train, AGENTS[variant][1], SelfPlay(**amount, gamma=GAMMA)
    settings = Timing(
        variant, *how,
        horizons=(4, 8) if small else (16, 32, 50, 64, 128), grids=(3, 4) if small else (3, 4, 5, 6, 7),
    )  # fmt: skip
    return Run("shaping_cost", variant, seed, settings, time_updates, minutes=0.5, alone=True)


def time_updates(settings: Timing, folder: Path, needs: list[Path]) -> pd.DataFrame:
    """Columns algorithm, games, horizon, grid, seconds_per_update (a median) and game_steps_per_second."""
    shapes = [(horizon, 3) for horizon in settings.horizons] + [(settings.horizons[0], g) for g in settings.grids[1:]]
    rows = []
    for horizon, grid in shapes:
        marks: list[float] = []
        game = CoinGame(grid, grid, horizon)
        watch = partial(_mark, marks)
        settings.train(game, settings.self_play, settings.credit, 0, on_update=watch, progress=False)
        seconds = median(after - before for before, after in pairwise(marks[1:]))  # the first one warms up
        games = settings.self_play.games
        rows.append((settings.algorithm, games, horizon, grid, seconds, games * horizon / seconds))
    names = ["algorithm", "games", "horizon", "grid", "seconds_per_update", "game_steps_per_second"]
    return pd.DataFrame(rows, columns=names)


def _mark(marks: list[float], *_: object) -> None:
    marks.append(time.perf_counter())


@dataclass(frozen=True)
class Speed:
    """Game steps per second of random play and of updates."""

    threads: int
    random_games: int
    games: int
    horizons: tuple[int, ...]
    widths: tuple[int, ...]
    updates: int


def speed_run(profile: str, variant: str, seed: int = 0) -> Run:
    """Speed of Advantage Alignment, `variant` "1" or "2" threads."""
    small = profile == "smoke"
    settings = Speed(
        int(variant), 8 if small else 4096, 4 if small else 512, horizons=(8,) if small else (16, 50),
        widths=(8,) if small else (64, 128), updates=3 if small else 7,
    )  # fmt: skip
    return Run("coin_speed", variant, seed, settings, time_speed, minutes=0.5, alone=True)


def time_speed(settings: Speed, folder: Path, needs: list[Path]) -> pd.DataFrame:
    """Columns what, games, horizon, hidden, game_steps_per_second, threads; a game step moves both players."""
    torch.set_num_threads(settings.threads)
    game, generator = CoinGame(horizon=settings.horizons[-1]), torch.Generator().manual_seed(0)
    started = time.perf_counter()
    state, observations = game.reset(settings.random_games, generator)
    for _ in range(game.horizon):
        state, observations, *_ = game.step(state, random_player(game, observations, generator), generator)
    steps = settings.random_games * game.horizon / (time.perf_counter() - started)
    rows = [("random play", settings.random_games, game.horizon, 0, steps)]
    for width in settings.widths:
        play = SelfPlay(updates=settings.updates, games=settings.games)
        play = replace(play, network=replace(play.network, hidden=width))
        timing = Timing("update", train, AGENTS["advantage_alignment"][1], play, settings.horizons, (3,))
        timed = time_updates(timing, folder, needs)
        rows += [
            ("update", settings.games, horizon, width, speed)
            for horizon, speed in zip(timed.horizon, timed.game_steps_per_second, strict=True)
        ]
    torch.set_num_threads(1)
    names = ["what", "games", "horizon", "hidden", "game_steps_per_second"]
    return pd.DataFrame(rows, columns=names).assign(threads=settings.threads)


def _seeds(profile: str) -> range:
    return range(SIZES[profile].seeds)


def _once(profile: str) -> range:
    return range(1)


EXPERIMENTS = (
    Experiment("coin", lambda profile: NAMES, _seeds, agent_run),
    Experiment("coin_league", lambda profile: ("all",), _once, league_run),
    Experiment("coin_episode", lambda profile: ("all",), _once, episode_run),
    settings_map("coin_map", MAP_BASE, MAP, _training, minutes=0.4),
    Experiment("shaping_cost", lambda profile: PRICED, _once, cost_run),
    Experiment("coin_speed", lambda profile: ("1", "2"), _once, speed_run),
)
_AGENTS, _LEAGUE, _EPISODE, _MAP, _COST, _SPEED = EXPERIMENTS
TABLES = (
    Table("coin_curves", _AGENTS.runs),
    Table("coin_league", _LEAGUE.runs),
    Table("coin_episode", _EPISODE.runs),
    Table("coin_map", _MAP.runs, side=True),
    Table("shaping_cost", _COST.runs, side=True),
    Table("coin_speed", _SPEED.runs, side=True),
)


def agents(profile: str) -> list[Run]:
    """Agents that are kept in the repository: all that a reader may want to meet."""
    return [agent_run(profile, name, seed) for name in AGENTS for seed in _seeds(profile)]
