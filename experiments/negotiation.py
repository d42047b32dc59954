"""The Negotiation Game, notebook 06 (AA, figure 3): agents, their league, recorded games, and side studies."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch import Tensor

from aa_core.advantages import CreditRule, aligned_advantages, naive_advantages, summed_advantages
from aa_core.games.negotiation import SCRIPTED, NegotiationGame, NegotiationState
from aa_core.league import welfare
from aa_core.selfplay import Buffer, SelfPlay
from experiments import coin
from experiments.coin import PPO, SIZES
from experiments.leagues import Cell, Episodes, League, Training, play_episodes, play_league, settings_map, train_agent
from experiments.run import Experiment, Run, Table

GAMMA = 0.96
NAIVE = SelfPlay(updates=100, games=256, gamma=GAMMA, entropy=0.005)
# it stops while all seeds cooperate, as AA's code stops at a reward of 0.4; `negotiation_long` shows what comes after
ALIGNED = replace(NAIVE, updates=175)
LONG = {"smoke": 6, "laptop": 300, "extended": 300, "paper": 1600}
AVERAGED = partial(aligned_advantages, beta=3.0, gamma=GAMMA, past="averaged")  # as AA's negotiation code has it
AGENTS: dict[str, tuple[SelfPlay, CreditRule]] = {
    "naive": (NAIVE, naive_advantages),
    "ppo": (replace(NAIVE, **PPO), naive_advantages),
    "ppo_sum_of_rewards": (replace(NAIVE, updates=150, **PPO), summed_advantages),
    "advantage_alignment": (ALIGNED, AVERAGED),
}
# those of AA's repository
PAPER = {
    "updates": 800, "games": 16384, "learning_rate": 1e-3, "critic_learning_rate": 1e-3, "normalise": False,
}  # fmt: skip
PARTNERS = {"cooperator": SCRIPTED["always cooperate"], "defector": SCRIPTED["always defect"]}


def sized(settings: SelfPlay, profile: str) -> SelfPlay:
    """Settings of training in a profile."""
    return replace(settings, **PAPER) if profile == "paper" else coin.sized(settings, profile)


def _training(profile: str, name: str, self_play: SelfPlay, credit: CreditRule, seed: int) -> Training:
    size = SIZES[profile]
    game = NegotiationGame(horizon=size.horizon)
    return Training(
        name, game, sized(self_play, profile), credit, seed, PARTNERS, welfare, size.evaluate_every,
        size.evaluation_games,
    )  # fmt: skip


def agent_run(profile: str, variant: str, seed: int) -> Run:
    """Training of one seed of an agent."""
    settings = _training(profile, variant, *AGENTS[variant], seed)
    return Run("negotiation", variant, seed, settings, train_agent, minutes=0.5, gpu=profile == "paper")


def long_run(profile: str, variant: str, seed: int) -> Run:
    """Advantage Alignment, trained on for longer than the league's agent."""
    settings = _training(profile, variant, ALIGNED, AVERAGED, seed)
    settings = replace(settings, self_play=replace(settings.self_play, updates=LONG[profile]))
    return Run("negotiation_long", variant, seed, settings, train_agent, minutes=0.7)


def league_run(profile: str, variant: str = "all", seed: int = 0) -> Run:
    """Every seed of every agent, and the scripted players, against each other."""
    size = SIZES[profile]
    settings = League(NegotiationGame(horizon=size.horizon), tuple(AGENTS), size.seeds, SCRIPTED, size.league_games)
    needs = tuple(agent_run(profile, agent, seed) for agent in AGENTS for seed in range(size.seeds))
    return Run("negotiation_league", variant, seed, settings, play_league, needs)


def columns(state: NegotiationState, actions: Tensor, rewards: Tensor) -> dict[str, Tensor]:
    """Values and claims of both players, three items each, and both rewards."""
    players, items = (0, 1), (0, 1, 2)
    kept = {f"value_{p + 1}_{i + 1}": state.values[:, p, i] for p in players for i in items}
    kept |= {f"claim_{p + 1}_{i + 1}": actions[:, p, i] for p in players for i in items}
    return kept | {f"reward_{p + 1}": rewards[:, p] for p in players}


def episode_run(profile: str, variant: str = "all", seed: int = 0) -> Run:
    """Games of the first seed of Advantage Alignment, step by step."""
    size = SIZES[profile]
    settings = Episodes(NegotiationGame(horizon=size.horizon), SCRIPTED, size.episode_games, columns)
    needs = tuple(agent_run(profile, "advantage_alignment", seed) for seed in (0, 1))
    return Run("negotiation_episode", variant, seed, settings, play_episodes, needs)


PAST = Buffer(share=0.5)
MAP_BASE = replace(NAIVE, updates=300)
MAP: dict[str, Cell] = {  # cell -> credit, changes
    "averaged, β 3, not normalised": (AVERAGED, {"normalise": False}),
    "averaged, β 3, normalised": (AVERAGED, {}),
    "averaged, β 3, normalised, past quarter": (AVERAGED, {"buffer": replace(PAST, share=0.25)}),
    "averaged, β 3, normalised, greedy, past": (AVERAGED, {"greedy_updates": 40, "buffer": PAST, "updates": 250}),
    "averaged, β 1, normalised, greedy, past": (
        partial(aligned_advantages, beta=1.0, gamma=GAMMA, past="averaged"),
        {"greedy_updates": 40, "buffer": PAST, "updates": 250},
    ),
    "discounted, β 0.3, normalised": (partial(aligned_advantages, beta=0.3, gamma=GAMMA), {"updates": 200}),
}


EXPERIMENTS = (
    Experiment("negotiation", lambda profile: tuple(AGENTS), coin._seeds, agent_run),
    Experiment("negotiation_league", lambda profile: ("all",), coin._once, league_run),
    Experiment("negotiation_episode", lambda profile: ("all",), coin._once, episode_run),
    Experiment("negotiation_long", lambda profile: ("advantage_alignment",), lambda profile: range(5), long_run),
    settings_map("negotiation_map", MAP_BASE, MAP, _training, minutes=0.2),
)
_AGENTS, _LEAGUE, _EPISODE, _LONG, _MAP = EXPERIMENTS
TABLES = (
    Table("negotiation_curves", _AGENTS.runs),
    Table("negotiation_league", _LEAGUE.runs),
    Table("negotiation_episode", _EPISODE.runs),
    Table("negotiation_long", _LONG.runs, side=True),
    Table("negotiation_map", _MAP.runs, side=True),
)


def agents(profile: str) -> list[Run]:
    """Agents that are kept in the repository: all that a reader may want to meet."""
    return [agent_run(profile, name, seed) for name in AGENTS for seed in coin._seeds(profile)]
