"""The Negotiation Game, notebook 06 (AA, figure 3): agents, their league, recorded games, and side studies."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch import Tensor

from aa_core.actor_critic import Network
from aa_core.advantages import CreditRule, aligned_advantages, naive_advantages, summed_advantages
from aa_core.checks import check_choice
from aa_core.games.negotiation import SCRIPTED, NegotiationGame, NegotiationState
from aa_core.selfplay import Buffer, SelfPlay
from experiments.coin import PPO, SEEDS, SIZES, sized
from experiments.leagues import Cell, Training, meetings, settings_map, train_agent, welfare
from experiments.run import Experiment, Run, Table, scaled

GAMMA = 0.96
AA = "advantage_alignment"
NAIVE = SelfPlay(
    network=Network(hidden=32), updates=180, games=256, gamma=GAMMA, entropy=0.001,
    learning_rate=6e-3, critic_learning_rate=6e-3,
)  # fmt: skip
# Advantages with the horizon of a few rounds, and a past that counts as long as the game lasts: with these the agent
# answers what the co-player did (see MAP). In one game of 16 always defect sits opposite: self-play has none.
ALIGNED = replace(NAIVE, gamma=0.5, scripts=(SCRIPTED["always defect"],), script_share=1 / 16)
RECIPROCAL = partial(aligned_advantages, beta=1.5, gamma=1.0)
AVERAGED = partial(aligned_advantages, beta=3.0, gamma=GAMMA, past="averaged")  # as AA's negotiation code has it
AGENTS: dict[str, tuple[SelfPlay, CreditRule]] = {
    "naive": (NAIVE, naive_advantages),
    "ppo": (replace(NAIVE, **PPO), naive_advantages),
    "ppo_sum_of_rewards": (replace(NAIVE, **PPO), summed_advantages),
    AA: (ALIGNED, RECIPROCAL),
}
# those of AA's repository
PAPER = {
    "updates": 800, "games": 16384, "learning_rate": 1e-3, "critic_learning_rate": 1e-3, "normalise": False,
    "entropy": 0.005, "network": Network(hidden=64, shared=True),
}  # fmt: skip
STOP = 0.4  # AA's code ends training when both earn more
LONGER = 2  # times as many updates, to see what becomes of the league's agent
# a copy of AA's credit on a laptop: cooperation that is unconditional, and that some seeds leave again
KIND = replace(
    NAIVE, network=Network(hidden=64), entropy=0.005, updates=300, learning_rate=3e-3, critic_learning_rate=3e-3
)
PARTNERS = {"cooperator": SCRIPTED["always cooperate"], "defector": SCRIPTED["always defect"]}


def agent(profile: str, name: str) -> tuple[SelfPlay, CreditRule]:
    """Settings of training and credit; in profile paper AA's own."""
    self_play, credit = AGENTS[name]
    if profile == "paper":
        return replace(self_play if name != AA else NAIVE, **PAPER), AVERAGED if name == AA else credit
    return self_play, credit


def _training(profile: str, name: str, self_play: SelfPlay, credit: CreditRule, seed: int) -> Training:
    self_play = sized(self_play, profile) if profile == "smoke" else self_play
    every, games = max(2, self_play.updates // 18), SIZES[profile].evaluation_games  # a third shows six points
    return Training(name, rules(profile), self_play, credit, seed, PARTNERS, welfare, every, games)


def agent_run(profile: str, variant: str, seed: int) -> Run:
    """Training of one seed of an agent."""
    settings = _training(profile, variant, *agent(profile, variant), seed)
    minutes = scaled(0.24, settings.self_play, NAIVE) * settings.self_play.epochs
    return Run("negotiation", variant, seed, settings, train_agent, minutes=minutes)


def long_run(profile: str, variant: str, seed: int) -> Run:
    """The credit of AA's code, "trained on" or "stopped" when both seats earn `STOP`."""
    check_choice("variant", variant, ("trained on", "stopped"))
    settings = _training(profile, variant, KIND, AVERAGED, seed)
    settings = replace(settings, stop_above=STOP if variant == "stopped" else None)
    return Run(
        "negotiation_long", variant, seed, settings, train_agent, minutes=1.5 if variant == "trained on" else 0.6
    )


def longer_run(profile: str, variant: str, seed: int) -> Run:
    """The league's agent, trained `LONGER` times as long."""
    self_play, credit = agent(profile, variant)
    settings = _training(profile, variant, replace(self_play, updates=LONGER * self_play.updates), credit, seed)
    return Run("negotiation_longer", variant, seed, settings, train_agent, minutes=1.0)


def columns(state: NegotiationState, actions: Tensor, rewards: Tensor) -> dict[str, Tensor]:
    """Values and claims of both players, three items each, and both rewards."""
    players, items = (0, 1), (0, 1, 2)
    kept = {f"value_{p + 1}_{i + 1}": state.values[:, p, i] for p in players for i in items}
    kept |= {f"claim_{p + 1}_{i + 1}": actions[:, p, i] for p in players for i in items}
    return kept | {f"reward_{p + 1}": rewards[:, p] for p in players}


# --- the map of settings: AA, credit and what a cell's name says; what it does not say is as in MAP_BASE

MAP_BASE = replace(NAIVE, updates=250)


def _discounted(beta: float, gamma: float) -> CreditRule:
    return partial(aligned_advantages, beta=beta, gamma=gamma)


def _defectors(share: float) -> dict[str, object]:
    return {"scripts": (SCRIPTED["always defect"],), "script_share": share}


PAST = {"greedy_updates": 40, "buffer": Buffer(share=0.5)}
SHORT = {"gamma": 0.5}
MAP: dict[str, Cell] = {  # cell -> credit, changes
    "averaged, β 3": (AVERAGED, {}),
    "averaged, β 3, 64 wide, Adam 0.003": (
        AVERAGED, {"network": Network(hidden=64), "learning_rate": 3e-3, "critic_learning_rate": 3e-3},
    ),
    "averaged, β 3, not normalised": (AVERAGED, {"normalise": False}),
    "averaged, β 3, λ 0": (AVERAGED, {"lam": 0.0}),
    "averaged, β 3, defectors 1 in 4": (AVERAGED, _defectors(1 / 4)),
    "averaged, β 3, greedy, past": (AVERAGED, PAST),
    "averaged, β 3, greedy, past, ten times longer": (AVERAGED, PAST | {"updates": 2500}),
    "averaged, β 10, γ 0.5, defectors 1 in 8": (
        partial(aligned_advantages, beta=10.0, gamma=GAMMA, past="averaged"), SHORT | _defectors(1 / 8),
    ),
    "discounted 0.9, β 3, γ 0.5": (_discounted(3.0, 0.9), SHORT),
    "discounted 0.9, β 3, γ 0.5, λ 0": (_discounted(3.0, 0.9), SHORT | {"lam": 0.0}),
    "discounted 0.9, β 3, γ 0.5, defectors 1 in 8": (_discounted(3.0, 0.9), SHORT | _defectors(1 / 8)),
    "discounted 0.9, β 3, γ 0.7": (_discounted(3.0, 0.9), {"gamma": 0.7}),
    "discounted 0.9, β 5, γ 0.5": (_discounted(5.0, 0.9), SHORT),
    "discounted 0.96, β 2, γ 0.5, defectors 1 in 16": (_discounted(2.0, 0.96), SHORT | _defectors(1 / 16)),
    "discounted 1, β 1.5, γ 0.5, defectors 1 in 16": (_discounted(1.5, 1.0), SHORT | _defectors(1 / 16)),
    "discounted 1, β 1.5, γ 0.65, defectors 1 in 8": (_discounted(1.5, 1.0), {"gamma": 0.65} | _defectors(1 / 8)),
    "discounted 1, β 1, γ 0.8, defectors 1 in 8": (_discounted(1.0, 1.0), {"gamma": 0.8} | _defectors(1 / 8)),
}  # fmt: skip


def rules(profile: str) -> NegotiationGame:
    """The game of a profile."""
    return NegotiationGame(horizon=SIZES[profile].horizon)


_AGENTS = Experiment("negotiation", lambda profile: tuple(AGENTS), SEEDS.__getitem__, agent_run)
EXPERIMENTS = (
    _AGENTS,
    *meetings("negotiation", rules, _AGENTS.runs, SCRIPTED, lambda p: SIZES[p].met, columns),
    Experiment("negotiation_long", lambda profile: ("trained on", "stopped"), lambda p: SEEDS[p][:3], long_run),
    Experiment("negotiation_longer", lambda profile: (AA,), SEEDS.__getitem__, longer_run),
    settings_map("negotiation_map", MAP_BASE, MAP, _training, minutes=0.2),
)
_, _LEAGUE, _EPISODE, _LONG, _LONGER, _MAP = EXPERIMENTS
TABLES = (
    Table("negotiation_curves", _AGENTS.runs),
    Table("negotiation_league", _LEAGUE.runs),
    Table("negotiation_episode", _EPISODE.runs),
    Table("negotiation_long", _LONG.runs, side=True),
    Table("negotiation_longer", _LONGER.runs, side=True),
    Table("negotiation_map", _MAP.runs, side=True),
)


agents = _AGENTS.runs  # kept in the repository: all that a reader may want to meet
