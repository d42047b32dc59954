"""The Coin Game, notebook 05 (AA, figure 2): agents, their league, recorded games, and side studies."""

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
from torch import Tensor

from aa_core.actor_critic import ActorCritic, Network
from aa_core.advantages import CreditRule, aligned_advantages, naive_advantages, summed_advantages
from aa_core.checks import check_choice
from aa_core.games.coin import SCRIPTED, CoinGame, CoinState
from aa_core.selfplay import Buffer, SelfPlay, train
from experiments import lola, loqa
from experiments.leagues import Cell, Training, meetings, own_coin_rate, settings_map, train_agent
from experiments.lola import Lola
from experiments.loqa import Loqa
from experiments.run import JUDGED, TEN, Experiment, Run, Table, once, scaled

GAMMA = 0.96
FADE = 0.9 * GAMMA  # of the alignment's past alone, as in LOQA's code
FAST = {"learning_rate": 6e-3, "critic_learning_rate": 6e-3}
PPO = {"clip": 0.2, "epochs": 2}
# networks also see their own last action and reward, so that a robbery is plain; the papers' see the board alone
NAIVE = SelfPlay(updates=90, games=128, gamma=GAMMA, network=Network(feedback=True), **FAST)
PAST = Buffer(share=0.5, drawn=2, every=10, until=120)  # in half of the games they meet their past of the first 120
# short advantages as they are, as in LOQA's code: longer or normalised ones let it be robbed, shorter ones rob (05)
ALIGNED = replace(NAIVE, updates=400, lam=0.5, normalise=False, critic_learning_rate=1e-2, buffer=PAST)
PROXIMAL = replace(ALIGNED, **PPO, learning_rate=3e-3, critic_learning_rate=5e-3)  # it steps twice per batch
CREDIT = partial(aligned_advantages, beta=1.0, gamma=FADE)
LOQA_CREDIT = partial(aligned_advantages, beta=1 / FADE, gamma=FADE, loqa=True)
LOQA = Loqa(**vars(replace(ALIGNED, lam=0.0, network=Network(feedback=True, shared=True))))  # V is made of Q
AGENTS: dict[str, tuple[SelfPlay, CreditRule]] = {
    "naive": (NAIVE, naive_advantages),
    "ppo": (replace(NAIVE, **PPO), naive_advantages),
    "ppo_sum_of_rewards": (replace(NAIVE, **PPO), summed_advantages),
    "loqa": (LOQA, LOQA_CREDIT),
    "loqa_credit": (ALIGNED, LOQA_CREDIT),
    "advantage_alignment": (ALIGNED, CREDIT),
    "proximal_advantage_alignment": (PROXIMAL, CREDIT),
}
LOLA_DICE = Lola(
    updates=120, games=64, gamma=GAMMA, learning_rate=5e-3, entropy=0.02,
    inner_learning_rate=0.1,  # chosen after trials of 1 and 5 that were not kept
)  # fmt: skip
# LOQA's published settings, whose code AA's agents come from; AA's own beta is not public, ours stays
PAPER = {"updates": 25400, "games": 512, "learning_rate": 1e-3, "critic_learning_rate": 1e-2, "entropy": 0.1}
PAPER_LOLA = {"updates": 50001, "games": 2000, "learning_rate": 3e-3}  # POLA's
NAMES = (*AGENTS, "lola_dice")
LONGER = 10  # times as many updates, to see what becomes of an agent
MINUTES = {"advantage_alignment": 1.1, "proximal_advantage_alignment": 1.7, "loqa_credit": 1.1, "loqa": 1.4}


@dataclass(frozen=True)
class Size:
    """How much is played in a profile, apart from the settings of training."""

    horizon: int
    evaluation_games: int
    met: tuple[int, int]  # games per pair of seeds in the league, and recorded ones per opponent


SIZES = {
    "smoke": Size(horizon=8, evaluation_games=4, met=(2, 2)),
    **dict.fromkeys(("laptop", "extended", "paper"), Size(50, evaluation_games=64, met=(32, 16))),
}
SEEDS = {"smoke": JUDGED[:2], "laptop": JUDGED, "extended": JUDGED, "paper": TEN}
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
    self_play = sized(self_play, profile) if isinstance(self_play, SelfPlay) else self_play
    every, games = max(2, self_play.updates // 18), SIZES[profile].evaluation_games  # a third shows six points
    return Training(name, rules(profile), self_play, credit, seed, PARTNERS, own_coin_rate, every, games, **options)


def agent_run(profile: str, variant: str, seed: int) -> Run:
    """Training of one seed of an agent."""
    options: dict[str, Any] = {"train": loqa.train} if variant == "loqa" else {}
    usual = LOLA_DICE if variant == "lola_dice" else AGENTS[variant][0]
    if variant == "lola_dice":
        changes = {"paper": PAPER_LOLA, "smoke": {"updates": 4, "games": 8, "network": Network(hidden=8)}}
        self_play, credit, options["train"] = replace(LOLA_DICE, **changes.get(profile, {})), None, train_lola
    else:
        self_play, credit = AGENTS[variant]
    settings = _training(profile, variant, self_play, credit, seed, **options)
    minutes = scaled(MINUTES.get(variant, 0.4), settings.self_play, usual)
    return Run("coin", variant, seed, settings, train_agent, minutes=minutes)


def agent_runs(profile: str, names: tuple[str, ...] = NAMES) -> list[Run]:
    """All seeds of these agents."""
    return [agent_run(profile, name, seed) for name in names for seed in SEEDS[profile]]


def columns(state: CoinState, actions: Tensor, rewards: Tensor) -> dict[str, Tensor]:
    """Cells of both players, the coin's cell and its owner before the step, and both rewards."""
    first, second = state.players.unbind(1)
    one, two = rewards.long().unbind(1)
    return {
        "cell_1": first, "cell_2": second, "coin": state.coin, "owner": state.owner, "reward_1": one, "reward_2": two,
    }  # fmt: skip


def long_run(profile: str, variant: str, seed: int) -> Run:
    """The league's agent, trained `LONGER` times as long."""
    check_choice("variant", variant, ("advantage_alignment",))
    self_play, credit = AGENTS[variant]
    usual = _training(profile, variant, self_play, credit, seed)
    longer = replace(usual.self_play, updates=LONGER * usual.self_play.updates)
    settings = replace(usual, self_play=longer, evaluate_every=max(2, longer.updates // 18))
    return Run("coin_long", variant, seed, settings, train_agent, minutes=LONGER * MINUTES[variant])


# --- the map of settings: Advantage Alignment, one thing at a time: the rest is as the league's

FORMER_CREDIT = partial(aligned_advantages, beta=0.4, gamma=FADE)
FORMER = {"normalise": True, "lam": 0.95, "greedy_updates": 43, "critic_learning_rate": 6e-3}
MAP: dict[str, Cell] = {  # cell -> credit, changes
    "the league's": (CREDIT, {}),
    "λ 0": (CREDIT, {"lam": 0.0}),
    "λ 0.25": (CREDIT, {"lam": 0.25}),
    "λ 0.4": (CREDIT, {"lam": 0.4}),
    "λ 0.8": (CREDIT, {"lam": 0.8}),
    "β 0.5": (partial(aligned_advantages, beta=0.5, gamma=FADE), {}),
    "β 1.5": (partial(aligned_advantages, beta=1.5, gamma=FADE), {}),
    "past fades with γ": (partial(aligned_advantages, beta=1.0, gamma=GAMMA), {}),
    "past fades with γ, β 0.5": (partial(aligned_advantages, beta=0.5, gamma=GAMMA), {}),
    "greedy 30": (CREDIT, {"greedy_updates": 30}),
    "sees the board alone": (CREDIT, {"network": Network()}),
    "no past selves": (CREDIT, {"buffer": None}),
    "past selves to the end": (CREDIT, {"buffer": replace(PAST, until=None)}),
    "past selves in three quarters": (CREDIT, {"buffer": replace(PAST, share=0.75)}),
    "entropy 0.02": (CREDIT, {"entropy": 0.02}),
    "entropy 0.08": (CREDIT, {"entropy": 0.08}),
    "Adam 0.003": (CREDIT, {"learning_rate": 0.003}),
    "600 updates": (CREDIT, {"updates": 600}),
    "normalised": (CREDIT, {"normalise": True}),
    "normalised, β 0.4, λ 0.95, greedy 43": (FORMER_CREDIT, FORMER),
    "normalised, β 0.4, λ 0.8, greedy 43": (FORMER_CREDIT, FORMER | {"lam": 0.8}),
    "normalised, β 0.4, λ 0.8, greedy 43, entropy 0.08": (FORMER_CREDIT, FORMER | {"lam": 0.8, "entropy": 0.08}),
}
AGAIN = ("Adam 0.003",)  # cells nearer to the published numbers than the league's: with the seeds that judge


# --- the price of shaping; nothing else should run on the machine


@dataclass(frozen=True)
class Timing:
    """Seconds per update of one algorithm, by horizon."""

    algorithm: str
    train: Callable[..., ActorCritic]
    credit: CreditRule | None
    self_play: SelfPlay | Lola
    horizons: tuple[int, ...]


PRICED = ("naive", "lola_dice", "loqa_credit", "advantage_alignment")


def cost_run(profile: str, variant: str, seed: int = 0) -> Run:
    """What an update of an algorithm costs: the same network, batch and optimiser for all, no agent buffer."""
    check_choice("variant", variant, PRICED)
    small = profile == "smoke"
    amount = {"updates": 3 if small else 7, "games": 4 if small else 128}
    if variant == "lola_dice":
        how = train_lola, None, replace(LOLA_DICE, **amount)
    else:
        how = train, AGENTS[variant][1], SelfPlay(**amount, gamma=GAMMA)
    settings = Timing(variant, *how, horizons=(4, 8) if small else (16, 32, 50, 64, 128))
    return Run("shaping_cost", variant, seed, settings, time_updates, minutes=0.5, alone=True)


def time_updates(settings: Timing, folder: Path, needs: list[Path]) -> pd.DataFrame:
    """Columns algorithm, games, horizon, seconds_per_update (a median) and game_steps_per_second."""
    rows, games = [], settings.self_play.games
    for horizon in settings.horizons:
        marks: list[float] = []

        def mark(*_: object, marks: list[float] = marks) -> None:
            marks.append(time.perf_counter())

        game = CoinGame(horizon=horizon)
        settings.train(game, settings.self_play, settings.credit, 0, on_update=mark, progress=False)
        seconds = median(after - before for before, after in pairwise(marks[1:]))  # the first one warms up
        rows.append((settings.algorithm, games, horizon, seconds, games * horizon / seconds))
    return pd.DataFrame(rows, columns=["algorithm", "games", "horizon", "seconds_per_update", "game_steps_per_second"])


def rules(profile: str) -> CoinGame:
    """The game of a profile."""
    return CoinGame(horizon=SIZES[profile].horizon)


EXPERIMENTS = (
    Experiment("coin", lambda profile: NAMES, SEEDS.__getitem__, agent_run),
    *meetings("coin", rules, agent_runs, SCRIPTED, lambda p: SIZES[p].met, columns),
    settings_map("coin_map", ALIGNED, MAP, _training, minutes=0.3),
    settings_map("coin_again", ALIGNED, {cell: MAP[cell] for cell in AGAIN}, _training, 0.3, SEEDS.__getitem__),
    Experiment("coin_long", lambda profile: ("advantage_alignment",), lambda p: SEEDS[p][:3], long_run),
    Experiment("shaping_cost", lambda profile: PRICED, once, cost_run),
)
_, _LEAGUE, _EPISODE, _MAP, _AGAIN, _LONG, _COST = EXPERIMENTS
TABLES = (
    Table("coin_curves", agent_runs),
    Table("coin_league", _LEAGUE.runs),
    Table("coin_episode", _EPISODE.runs),
    Table("coin_map", _MAP.runs, side=True),
    Table("coin_again", _AGAIN.runs, side=True),
    Table("coin_long", _LONG.runs, side=True),
    Table("shaping_cost", _COST.runs, side=True),
)


def agents(profile: str) -> list[Run]:
    """Agents that are kept in the repository: all that a reader may want to meet."""
    return agent_runs(profile, tuple(AGENTS))
