"""Commons Harvest, notebook 07 (AA, figures 4 and 5): agents of three algorithms on a small map, and side studies.

An agent is looked at along training and, at its end, in two scenarios: some seats are taken by scripted harvesters of
ours, which zap (scenario 0) or do not (scenario 1), as the background players of Melting Pot do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from aa_core.actor_critic import ActorCritic, Network, load, save
from aa_core.advantages import (
    CreditRule,
    aligned_advantages,
    gae,
    naive_advantages,
    shaping_weights,
    summed_advantages,
)  # fmt: skip
from aa_core.games.base import Script
from aa_core.games.harvest import (
    SCRIPTED,
    HarvestGame,
    HarvestState,
    collective_return,
    equality,
    peace,
    sustainability,
)  # fmt: skip
from aa_core.selfplay import Buffer, Mind, SelfPlay, begin, begin_anew, play, train
from experiments.leagues import AGENT
from experiments.run import Experiment, Run, Table

GAMMA = 0.99
LAPTOP = SelfPlay(
    network=Network(hidden=64, filters=16, feedback=True, shared=True), updates=300, games=32, chunk=50, gamma=GAMMA,
    lam=0.95, critic_lam=0.95, entropy=0.01, clip=0.2, epochs=2, learning_rate=1e-3, critic_learning_rate=1e-3,
    critic_weight=0.5, max_gradient_norm=0.5,
)  # fmt: skip
AA = "proximal_advantage_alignment"
ALIGNED = partial(aligned_advantages, beta=0.1, gamma=GAMMA)
RULES: dict[str, CreditRule] = {"ppo": naive_advantages, "ppo_sum_of_rewards": summed_advantages, AA: ALIGNED}
SCENARIOS = {"scenario_zapping": "free harvester with zapping", "scenario_peaceful": "free harvester"}
REFERENCES = {"random": "random", "free_harvesters": "free harvester"}  # players that do not learn


@dataclass(frozen=True)
class Setting:
    """Where and how agents are trained in a profile, and how they are looked at."""

    game: HarvestGame
    self_play: SelfPlay
    seeds: int
    aligned: CreditRule = ALIGNED
    evaluate_every: int = 25  # updates
    curve_worlds: int = 8  # for each of those points
    evaluation_worlds: int = 32  # at the end, and in each scenario
    background: int = 2  # seats of a scenario that its script holds


SETTINGS = {
    "smoke": Setting(
        HarvestGame("pond", 2, horizon=20, window=(2, 1, 1)),
        replace(LAPTOP, network=replace(LAPTOP.network, hidden=8, filters=2), updates=4, games=4, chunk=5),
        seeds=2, evaluate_every=2, curve_worlds=2, evaluation_worlds=2, background=1,
    ),
    "laptop": Setting(HarvestGame("orchard", 7, horizon=500, window=(5, 1, 3)), LAPTOP, seeds=5),
    "published map": Setting(
        HarvestGame("open", 7, horizon=500, window=(5, 1, 3)), replace(LAPTOP, learning_rate=2e-3), seeds=5,
        aligned=partial(aligned_advantages, beta=0.3, gamma=GAMMA),
    ),
    # as AA's repository has it, whose memory is a transformer over 15 steps; it does not say how long it trains
    "paper": Setting(
        HarvestGame("open", 7, horizon=990, window=(9, 1, 5)),
        replace(
            LAPTOP, network=Network(hidden=192, filters=64, feedback=True, shared=True), updates=100_000, games=6,
            chunk=15, entropy=0.1, clip=0.1, learning_rate=1e-5, critic_learning_rate=1e-5, max_gradient_norm=10.0,
            buffer=Buffer(share=1.0, seats=2, drawn=1, every=20, capacity=4000),
        ),
        seeds=10, aligned=partial(aligned_advantages, beta=1.0, gamma=GAMMA, past="averaged"), evaluate_every=100,
    ),
}  # fmt: skip
SETTINGS["extended"] = SETTINGS["laptop"]


@dataclass(frozen=True)
class Training:
    """One seed of one agent; `credit` None: a script that does not learn."""

    algorithm: str
    setting: Setting
    credit: CreditRule | None
    script: Script | None
    seed: int


# --- measuring


def play_episode(game: HarvestGame, players: list[Mind], worlds: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Whole episodes, one player for each seat: rewards and out `(W, P, T)`, apples alive after each step `(W, T)`."""
    minds = list({id(player): player for player in players}.values())
    who = torch.tensor([[minds.index(player) for player in players]]).expand(worlds, -1)
    out, apples = [], []

    def watch(before: HarvestState, actions: Tensor, rewards: Tensor, after: HarvestState) -> None:
        out.append(before.out > 0)
        apples.append(after.apples.sum(1))

    played = play(game, minds, who, generator, on_step=watch)
    return {"rewards": played.rewards, "out": torch.stack(out, -1), "apples": torch.stack(apples, -1)}


def metrics_of(episode: dict[str, Tensor]) -> dict[str, float]:
    """The metrics of the social-dilemma literature, means over worlds."""
    metrics = {
        "collective_return": collective_return(episode["rewards"]),
        "sustainability": sustainability(episode["rewards"]),
        "equality": equality(episode["rewards"]),
        "peace": peace(episode["out"]),
        "apples_at_end": episode["apples"][:, -1].float(),
    }
    return {name: value.mean().item() for name, value in metrics.items()}


def evaluate(player: Mind, setting: Setting, seed: int) -> dict[str, float]:
    """`metrics_of` with everybody the same, and the focal per-capita return in both SCENARIOS."""
    game, worlds, generator = setting.game, setting.evaluation_worlds, torch.Generator().manual_seed(seed)
    metrics = metrics_of(play_episode(game, [player] * game.num_players, worlds, generator))
    focal = game.num_players - setting.background
    for scenario, script in SCENARIOS.items():
        players = [player] * focal + [SCRIPTED[script]] * setting.background
        rewards = play_episode(game, players, worlds, generator)["rewards"]
        metrics[scenario] = rewards[:, :focal].sum(-1).mean().item()
    return metrics


# --- training


def train_agent(settings: Training, folder: Path, needs: list[Path]) -> pd.DataFrame:
    """Columns map, players, algorithm, seed, update, metric, value, along training and at its end; writes the agent."""
    setting, rows = settings.setting, []
    game = setting.game

    def look(update: int, mind: ActorCritic, *_: Any) -> None:
        if update % setting.evaluate_every == 0:
            generator = torch.Generator().manual_seed(12345)
            metrics = metrics_of(play_episode(game, [mind] * game.num_players, setting.curve_worlds, generator))
            rows.extend((update, metric, value) for metric, value in metrics.items())

    updates, player = 0, settings.script
    if settings.credit is not None:
        updates = setting.self_play.updates
        player = train(game, setting.self_play, settings.credit, settings.seed, on_update=look)
        save(player, folder / AGENT)
    rows += [(updates, metric, value) for metric, value in evaluate(player, setting, 54321 + settings.seed).items()]
    table = pd.DataFrame(rows, columns=["update", "metric", "value"])
    table = table.assign(map=game.map, players=game.num_players, algorithm=settings.algorithm, seed=settings.seed)
    return table[["map", "players", "algorithm", "seed", "update", "metric", "value"]]


def _agent(place: str | None, profile: str, variant: str, seed: int) -> Run:
    setting = SETTINGS[place if place and profile in ("laptop", "extended") else profile]
    credit = setting.aligned if variant == AA else RULES.get(variant)
    script = None if credit else SCRIPTED[REFERENCES[variant]]
    name = "harvest_open" if place else "harvest"
    minutes = 1.9 if credit else 0.1
    settings = Training(variant, setting, credit, script, seed)
    return Run(name, variant, seed, settings, train_agent, minutes=minutes, gpu=profile == "paper")


def agent_run(profile: str, variant: str, seed: int) -> Run:
    """Training of one seed of an algorithm, or a look at one of REFERENCES."""
    return _agent(None, profile, variant, seed)


def open_run(profile: str, variant: str, seed: int) -> Run:
    """The same on the published map."""
    return _agent("published map", profile, variant, seed)


# --- what the figures show of the trained


@dataclass(frozen=True)
class Shown:
    """Trained agents, in the order of what is needed, and where they are looked at."""

    setting: Setting
    agents: tuple[tuple[str, int], ...]  # (algorithm, seed)


def _shown(name: str, compute: Any, profile: str, algorithms: tuple[str, ...], seeds: int) -> Run:
    agents = tuple((algorithm, seed) for algorithm in algorithms for seed in range(seeds))
    needs = tuple(agent_run(profile, *agent) for agent in agents)
    return Run(name, "all", 0, Shown(SETTINGS[profile], agents), compute, needs, minutes=0.6)


def play_shown(settings: Shown, folder: Path, needs: list[Path]) -> pd.DataFrame:
    """Apples alive, eaten so far and players in play along whole episodes, means over worlds, of every seed."""
    game, worlds = settings.setting.game, settings.setting.evaluation_worlds
    players = [(*agent, load(need / AGENT)) for agent, need in zip(settings.agents, needs, strict=True)]
    tables = []
    for algorithm, seed, player in [*players, ("random", 0, SCRIPTED["random"])]:
        episode = play_episode(game, [player] * game.num_players, worlds, torch.Generator().manual_seed(seed))
        columns = {
            "step": range(1, game.horizon + 1),
            "apples": episode["apples"].float().mean(0),
            "eaten": episode["rewards"].sum(1).cumsum(-1).mean(0),
            "in_play": (~episode["out"]).sum(1).float().mean(0),
        }
        table = pd.DataFrame(columns).iloc[:: max(1, game.horizon // 100)]
        tables.append(table.assign(algorithm=algorithm, seed=seed)[["algorithm", "seed", *columns]])
    return pd.concat(tables)


def keep_frames(settings: Shown, folder: Path, needs: list[Path]) -> pd.DataFrame:
    """One world, seen now and then, of the first seed of every algorithm from the same start.

    Columns: algorithm, step, apples (a letter for each of `game.apple_cells`: A alive, x not), and cells, headings and
    out of all players, as numbers with spaces between them.
    """
    game, rows = settings.setting.game, []
    every = max(1, game.horizon // 100)
    for (algorithm, _), need in zip(settings.agents, needs, strict=True):

        def watch(state: HarvestState, *_: Any, algorithm: str = algorithm) -> None:
            if state.time % every == 0 or state.time == game.horizon - 1:
                apples = "".join("A" if alive else "x" for alive in state.apples[0])
                numbers = [" ".join(map(str, x[0].tolist())) for x in (state.cell, state.heading, state.out)]
                rows.append((algorithm, state.time, apples, *numbers))

        who = torch.zeros(1, game.num_players, dtype=torch.long)
        play(game, [load(need / AGENT)], who, torch.Generator().manual_seed(1), on_step=watch)
    return pd.DataFrame(rows, columns=["algorithm", "step", "apples", "cells", "headings", "out"])


def frame_state(game: HarvestGame, row: pd.Series) -> HarvestState:
    """The world of a row of `keep_frames`, a batch of one; what it does not hold (zaps, cooldown) is as at reset."""
    numbers = {name: torch.tensor([[int(x) for x in str(row[column]).split()]]) for name, column in FRAME.items()}
    state, _ = game.reset(1, torch.Generator())
    apples = torch.tensor([[letter == "A" for letter in row["apples"]]])
    return replace(state, **numbers, apples=apples, time=int(row["step"]))


FRAME = {"cell": "cells", "heading": "headings", "out": "out"}
NEIGHBOURS = {"0": (0, 0), "1": (1, 1), "2": (2, 2), "3-4": (3, 4), "5-12": (5, 12)}  # live ones when an apple is eaten
CREDIT = ["own", "past", "others", "alignment"]


def credit_of_eating(settings: Shown, folder: Path, needs: list[Path]) -> pd.DataFrame:
    """What the credit of Advantage Alignment says of eating an apple, by its live neighbours.

    In the worlds that players trained by AA or PPO leave, means over all apples eaten: the own normalised advantage,
    the weight of the past (beta gamma w_t), the sum of the co-players' advantages, and the alignment term, the mean of
    the product of these two. For PPO it is what alignment would add. (Critics of summed rewards foresee another sum.)
    """
    rows = []
    for (algorithm, seed), need in zip(settings.agents, needs, strict=True):
        eaten = _eaten(load(need / AGENT), settings.setting, seed)
        for name, (low, high) in NEIGHBOURS.items():
            here = eaten[eaten.neighbours.between(low, high)]
            if len(here):
                rows.append((algorithm, seed, name, len(here), *here.drop(columns="neighbours").mean()))
    return pd.DataFrame(rows, columns=["algorithm", "seed", "neighbours", "apples", *CREDIT])


def _eaten(mind: ActorCritic, setting: Setting, seed: int) -> pd.DataFrame:
    """A row for each apple eaten in the last third of one lifetime and a half; the first is cut short."""
    game, options, rule = setting.game, setting.self_play, setting.aligned.keywords
    generator, tables = torch.Generator().manual_seed(seed), []
    who = torch.zeros(options.games, game.num_players, dtype=torch.long)
    stage = begin(game, options.games, generator, options.chunk)
    stage.hidden, stage.age = torch.zeros(*who.shape, mind.network.hidden), torch.zeros(options.games, dtype=torch.long)
    chunks = game.horizon * 3 // options.chunk // 2
    for chunk in range(chunks):
        steps: list[tuple[HarvestState, Tensor, Tensor, HarvestState]] = []
        played = play(game, [mind], who, generator, on_step=lambda *step, to=steps: to.append(step), stage=stage)
        stage.age += options.chunk
        begin_anew(game, stage, generator)
        if chunk < chunks * 2 // 3:
            continue
        with torch.no_grad():
            values = mind(played.seen.at(slice(None)), played.hidden)[1].T.unflatten(0, who.shape)
        own = gae(played.rewards, values, options.gamma, options.lam)
        own = (own - own.mean()) / own.std(correction=0).clamp(min=1e-6)
        past = rule["beta"] * rule["gamma"] * shaping_weights(own, rule["gamma"])
        others = summed_advantages(own) - own
        for t, (before, _, rewards, after) in enumerate(steps):
            apple = (after.cell[..., None] == game.apple_cells).int().argmax(-1)
            near = (before.apples.float() @ game.neighbours).gather(1, apple)
            columns = (near, *(x[..., t] for x in (own, past, others, past * others)))
            tables.append(torch.stack([column[rewards > 0] for column in columns], 1))
    return pd.DataFrame(torch.cat(tables).numpy(), columns=["neighbours", *CREDIT])


# --- variants in the orchard: how many players, who does not cooperate, which formula

RING = torch.tensor([[0.0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]])  # everybody cares for the next one only


def _rule(**options: Any) -> CreditRule:
    return partial(aligned_advantages, **({"beta": 0.1, "gamma": GAMMA} | options))


FREE_RIDER = {"scripts": (SCRIPTED["free harvester"],)}
VARIANTS: dict[tuple[str, str], tuple[CreditRule, int, dict[str, Any]]] = {  # -> credit, players, changes of LAPTOP
    **{
        ("players", f"{name}, {count} players"): (rule, count, {})
        for count in (2, 4, 7)
        for name, rule in RULES.items()
    },
    **{("one never cooperates", f"{name}, one free rider"): (rule, 4, FREE_RIDER) for name, rule in RULES.items()},
    ("strength", "β 0.03"): (_rule(beta=0.03), 4, {}),
    ("strength", "β 0.3"): (_rule(beta=0.3), 4, {}),
    ("strength", "β 1"): (_rule(beta=1.0), 4, {}),
    ("aggregate", "mean"): (_rule(over="mean"), 4, {}),
    ("aggregate", "product"): (_rule(over="product"), 4, {}),
    ("aggregate", "weights: the next one only"): (_rule(over=RING), 4, {}),
    ("past", "averaged, β 0.3"): (_rule(past="averaged", beta=0.3), 4, {}),
    ("past", "averaged, β 1"): (_rule(past="averaged", beta=1.0), 4, {}),
    ("past", "averaged, β 3"): (_rule(past="averaged", beta=3.0), 4, {}),
    ("agent buffer", "one seat past"): (_rule(), 4, {"buffer": Buffer(share=1.0, drawn=1, every=10, capacity=200)}),
}  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """One seed of one cell of VARIANTS."""

    question: str
    cell: str
    setting: Setting
    credit: CreditRule
    seed: int


def variant_run(profile: str, variant: str, seed: int) -> Run:
    """One seed of a cell, by its name."""
    question = next(question for question, cell in VARIANTS if cell == variant)
    credit, players, changes = VARIANTS[question, variant]
    base = SETTINGS[profile]
    game = replace(base.game, map="orchard", num_players=players)
    updates = 2 if profile == "smoke" else 250
    setting = replace(base, game=game, self_play=replace(base.self_play, updates=updates, **changes))
    return Run(
        "harvest_variants", variant, seed, Variant(question, variant, setting, credit, seed), train_variant, minutes=1
    )


def train_variant(settings: Variant, folder: Path, needs: list[Path]) -> pd.DataFrame:
    """Columns question, cell, players, seed, metric, value: `metrics_of` at the end of training."""
    setting = settings.setting
    game, scripts = setting.game, setting.self_play.scripts
    mind = train(game, setting.self_play, settings.credit, settings.seed)
    players = [mind] * (game.num_players - len(scripts)) + list(scripts)
    episode = play_episode(game, players, setting.evaluation_worlds, torch.Generator().manual_seed(54321))
    metrics = metrics_of(episode)
    if scripts:
        returns = episode["rewards"].sum(-1).mean(0)
        metrics["return_of_learners"] = returns[: -len(scripts)].mean().item()
        metrics["return_of_free_rider"] = returns[-1].item()
    table = pd.DataFrame(metrics.items(), columns=["metric", "value"]).assign(seed=settings.seed)
    table = table.assign(question=settings.question, cell=settings.cell, players=game.num_players)
    return table[["question", "cell", "players", "seed", "metric", "value"]]


def _seeds(profile: str) -> range:
    return range(SETTINGS[profile].seeds)


def _last(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["update"] == table["update"].max()].drop(columns="update")


EXPERIMENTS = (
    Experiment("harvest", lambda profile: (*RULES, *REFERENCES), _seeds, agent_run),
    Experiment("harvest_open", lambda profile: (*RULES, *REFERENCES), _seeds, open_run),
    Experiment(
        "harvest_variants", lambda profile: [cell for _, cell in VARIANTS],
        lambda profile: range(2 if profile == "smoke" else 3), variant_run,
    ),
    *(
        Experiment(name, lambda profile: ("all",), lambda profile: range(1), run)
        for name, run in {
            "harvest_episode": lambda profile, *_: _shown(
                "harvest_episode", play_shown, profile, tuple(RULES), SETTINGS[profile].seeds
            ),
            "harvest_frames": lambda profile, *_: _shown("harvest_frames", keep_frames, profile, tuple(RULES), 1),
            "harvest_credit": lambda profile, *_: _shown(
                "harvest_credit", credit_of_eating, profile, (AA, "ppo"), SETTINGS[profile].seeds
            ),
        }.items()
    ),
)  # fmt: skip
_AGENTS, _OPEN, _VARIANTS, *_SHOWN = EXPERIMENTS


def _trained(experiment: Experiment) -> Any:
    """profile -> the runs of an experiment that learn."""
    return lambda profile: [run for run in experiment.runs(profile) if run.settings.credit is not None]


TABLES = (
    Table("harvest", _AGENTS.runs, _last),
    Table("harvest_curves", _trained(_AGENTS)),
    *(Table(experiment.name, experiment.runs) for experiment in _SHOWN),
    Table("harvest_open", _OPEN.runs, _last, side=True),
    Table("harvest_open_curves", _trained(_OPEN), side=True),
    Table("harvest_variants", _VARIANTS.runs, side=True),
)


def agents(profile: str) -> list[Run]:
    """Agents that are kept in the repository: all that a reader may want to meet."""
    return [agent_run(profile, rule, seed) for rule in RULES for seed in _seeds(profile)]
