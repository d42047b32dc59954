"""Commons Harvest, notebook 07 (AA, figures 4, 5 and appendix 8): agents on two maps, and who they meet there.

On the published map two of an agent's seven seats are held by its past selves, as AA's are; in the orchard none. It is
looked at along training, and at its end in two scenarios, where two seats are held by *background players*: PPO that
was trained with the beam (scenario 0) or without it (scenario 1), seeds of their own that no agent has met.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from aa_core.actor_critic import ActorCritic, Network, load, save
from aa_core.advantages import CreditRule, aligned_advantages, naive_advantages, summed_advantages
from aa_core.checks import check_choice
from aa_core.games.base import Script
from aa_core.games.harvest import (
    COOLDOWN,
    SCRIPTED,
    ZAP,
    HarvestGame,
    HarvestState,
    collective_return,
    equality,
    peace,
    sustainability,
)  # fmt: skip
from aa_core.selfplay import Buffer, Mind, SelfPlay, play, train
from experiments.harvest_picture import Shown, credit_of_eating, keep_frames
from experiments.judge import last_third
from experiments.leagues import AGENT
from experiments.run import JUDGED, TEN, Experiment, Run, Table, scaled, single

GAMMA = 0.99
LAPTOP = SelfPlay(
    network=Network(hidden=64, feedback=True, shared=True), updates=300, games=32, chunk=50, gamma=GAMMA, lam=0.95,
    critic_lam=0.95, entropy=0.01, clip=0.2, epochs=2, learning_rate=2e-3, critic_learning_rate=1e-3,
    critic_weight=0.5, max_gradient_norm=0.5,
)  # fmt: skip
PAST = Buffer(share=1.0, seats=2, drawn=1, every=10)  # two of seven seats are held by one past self


def aligned(beta: float, past: str = "regularised") -> CreditRule:
    """AA's credit; its past is the average of equation 59 unless it is said otherwise."""
    return partial(aligned_advantages, beta=beta, gamma=GAMMA, past=past)


AA = "proximal_advantage_alignment"
RULES = ("ppo", "ppo_sum_of_rewards", AA)
BETAS = {"β 0.5": aligned(0.5), "β 1": aligned(1.0), "β 2": aligned(2.0)}
FILMED = {"β 0.5": 3, "β 1": 4, "β 2": 1}  # whose film is shown, by its place among the seeds, see `filmed`
REFERENCES = {"random": "random", "free_harvesters": "free harvester"}  # players that do not learn
SCENARIOS = {"scenario_zapping": "with the beam", "scenario_peaceful": "without the beam"}  # background players
STRANGERS = (0, 1)  # seeds of background players, one seat each


@dataclass(frozen=True)
class Setting:
    """Where and how agents are trained in a profile, and how they are looked at."""

    game: HarvestGame
    self_play: SelfPlay
    aligned: CreditRule  # AA's credit
    seeds: range = JUDGED
    evaluate_every: int = 25  # updates
    curve_worlds: int = 8  # for each of those points
    evaluation_worlds: int = 16  # in each scenario


SETTINGS = {
    "smoke": Setting(
        HarvestGame("pond", 3, horizon=20, window=(2, 1, 1)),
        replace(
            LAPTOP, network=replace(LAPTOP.network, hidden=8), updates=4, games=4, chunk=5,
            buffer=replace(PAST, seats=1, every=1),
        ),
        aligned(2.0), JUDGED[:2], evaluate_every=2, curve_worlds=2, evaluation_worlds=2,
    ),
    # two past selves are enough to end both patches; within 200 updates nobody learned to keep them beside those, nor
    # in worlds of 1,000 steps, which are bare most of the time
    "laptop": Setting(HarvestGame("orchard", 7, horizon=500, window=(5, 1, 3)), LAPTOP, aligned(0.1, "discounted")),
    "published map": Setting(
        HarvestGame("open", 7, horizon=1000, window=(5, 1, 3)), replace(LAPTOP, buffer=PAST), aligned(4.0)
    ),
    # as AA's repository has it, whose memory is a transformer over 15 steps; 34 thousand steps are reported
    "paper": Setting(
        HarvestGame("open", 7, horizon=990, window=(9, 1, 5)),
        replace(
            LAPTOP, network=Network(hidden=192, filters=64, feedback=True, shared=True), updates=34_000, games=6,
            chunk=15, entropy=0.1, clip=0.1, learning_rate=1e-5, critic_learning_rate=1e-5, max_gradient_norm=10.0,
            buffer=replace(PAST, every=20, capacity=4000),
        ),
        aligned(1.0, "averaged"), TEN, evaluate_every=100,
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
    beam: bool = True  # False: it never zaps


# --- measuring


def play_episode(game: HarvestGame, players: list[Mind], worlds: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Whole episodes, one player for each seat: rewards, out, zaps `(W, P, T)`, apples left after a step `(W, T)`."""
    minds = list({id(player): player for player in players}.values())
    who = torch.tensor([[minds.index(player) for player in players]]).expand(worlds, -1)
    out, zaps, apples = [], [], []

    def watch(before: HarvestState, actions: Tensor, rewards: Tensor, after: HarvestState) -> None:
        out.append(before.out > 0)
        zaps.append((actions == ZAP) & (after.cooldown == COOLDOWN) & ~out[-1])
        apples.append(after.apples.sum(1))

    played = play(game, minds, who, generator, on_step=watch)
    series = {"out": out, "zaps": zaps, "apples": apples}
    return {"rewards": played.rewards} | {name: torch.stack(x, -1) for name, x in series.items()}


def metrics_of(episode: dict[str, Tensor]) -> dict[str, float]:
    """The metrics of the social-dilemma literature, beams fired by a player, and apples left, means over worlds."""
    metrics = {
        "collective_return": collective_return(episode["rewards"]),
        "sustainability": sustainability(episode["rewards"]),
        "equality": equality(episode["rewards"]),
        "peace": peace(episode["out"]),
        "zaps": episode["zaps"].sum(-1).float().mean(1),
        "apples_at_end": episode["apples"][:, -1].float(),
    }
    return {name: value.mean().item() for name, value in metrics.items()}


def among_itself(player: Mind, setting: Setting, worlds: int) -> dict[str, float]:
    """`metrics_of` with everybody the same; always the same worlds."""
    generator = torch.Generator().manual_seed(12345)
    return metrics_of(play_episode(setting.game, [player] * setting.game.num_players, worlds, generator))


def beside(player: Mind, strangers: list[Mind], setting: Setting, generator: torch.Generator) -> float:
    """Apples of a focal player in an episode whose last seats strangers hold, mean over seats and worlds."""
    focal = setting.game.num_players - len(strangers)
    players = [player] * focal + strangers
    rewards = play_episode(setting.game, players, setting.evaluation_worlds, generator)["rewards"]
    return rewards[:, :focal].sum(-1).mean().item()


# --- training


def train_agent(settings: Training, folder: Path, needs: list[Path]) -> pd.DataFrame:
    """Columns map, players, algorithm, seed, update, metric, value; writes the agent.

    `metrics_of` along training and at its end; at the end also what a focal player earns in both SCENARIOS, whose
    background players are the agents of `needs`, in their order.
    """
    setting, rows = settings.setting, []

    def look(update: int, mind: ActorCritic, *_: Any) -> None:
        if not settings.beam:
            with torch.no_grad():
                mind.policy.bias[ZAP] = -1e9  # its gradient is 0 from here on
        if update % setting.evaluate_every == 0:
            rows.extend((update, *pair) for pair in among_itself(mind, setting, setting.curve_worlds).items())

    updates, player = 0, settings.script
    if settings.credit is not None:
        updates = setting.self_play.updates
        player = train(setting.game, setting.self_play, settings.credit, settings.seed, on_update=look)
        save(player, folder / AGENT)
    rows += [(updates, *pair) for pair in among_itself(player, setting, setting.curve_worlds).items()]
    background = [load(need / AGENT) for need in needs]
    for number, scenario in enumerate(SCENARIOS if background else ()):
        strangers = background[number * len(STRANGERS) : (number + 1) * len(STRANGERS)]
        generator = torch.Generator().manual_seed(54321 + settings.seed)
        rows.append((updates, scenario, beside(player, strangers, setting, generator)))
    table = pd.DataFrame(rows, columns=["update", "metric", "value"])
    table = table.assign(
        map=setting.game.map, players=setting.game.num_players, algorithm=settings.algorithm, seed=settings.seed
    )
    return table[["map", "players", "algorithm", "seed", "update", "metric", "value"]]


def _setting(place: str, profile: str) -> Setting:
    away = place.startswith(("harvest_open", "harvest_beta")) and profile in ("laptop", "extended")
    return SETTINGS["published map" if away else profile]


def _minutes(setting: Setting) -> float:
    return scaled(0.9, setting.self_play, LAPTOP) * setting.game.horizon / SETTINGS["laptop"].game.horizon


def background_run(profile: str, variant: str, seed: int, place: str = "harvest_background") -> Run:
    """Training of a background player of SCENARIOS, for a third of the updates."""
    check_choice("variant", variant, SCENARIOS.values())
    setting, beam = _setting(place, profile), variant == SCENARIOS["scenario_zapping"]
    updates = max(1, setting.self_play.updates // 3)
    setting = replace(setting, self_play=replace(setting.self_play, updates=updates), evaluate_every=updates)
    settings = Training(variant, setting, naive_advantages, None, seed, beam)
    return Run(place, variant, seed, settings, train_agent, minutes=_minutes(setting))


def agent_run(profile: str, variant: str, seed: int, place: str = "harvest") -> Run:
    """One seed of one of RULES or, in place "harvest_beta", of BETAS, or a look at one of REFERENCES.

    In places "harvest_open" and "harvest_beta" it is trained on the published map.
    """
    setting = _setting(place, profile)
    rules = {"ppo": naive_advantages, "ppo_sum_of_rewards": summed_advantages, AA: setting.aligned} | BETAS
    check_choice("variant", variant, (*rules, *REFERENCES))
    script = SCRIPTED[REFERENCES[variant]] if variant in REFERENCES else None
    settings = Training(variant, setting, rules.get(variant), script, seed)
    home = "harvest_background" if place == "harvest" else "harvest_open_background"
    needs = tuple(background_run(profile, who, one, home) for who in SCENARIOS.values() for one in STRANGERS)
    return Run(place, variant, seed, settings, train_agent, needs, minutes=0.1 if script else _minutes(setting))


# --- what the figures show of the trained


def _seeds(profile: str) -> range:
    return SETTINGS[profile].seeds


def _shown(name: str, compute: Any, needs: Callable[[str], list[Run]]) -> Experiment:
    def declare(profile: str) -> Run:
        runs = needs(profile)
        shown = Shown(runs[0].settings.setting, tuple((run.variant, run.seed) for run in runs))
        return Run(name, "all", 0, shown, compute, tuple(runs), minutes=0.2)

    return single(name, declare)


def filmed(profile: str) -> list[Run]:
    """Of each beta the seed whose players eat as much as the median seed's, by its place; a test looks it up."""
    seeds = _seeds(profile)
    return [agent_run(profile, who, seeds[min(at, len(seeds) - 1)], "harvest_beta") for who, at in FILMED.items()]


_BETA_FRAMES = _shown("harvest_beta_frames", keep_frames, filmed)
_CREDIT = _shown(
    "harvest_credit", credit_of_eating, lambda p: [agent_run(p, who, seed) for who in (AA, "ppo") for seed in _seeds(p)]
)


# --- what there is


def _window(table: pd.DataFrame) -> pd.DataFrame:
    """A run's metrics as they are judged: means over evaluations in the last third of its updates."""
    keys = ["map", "players", "algorithm", "seed", "metric"]
    return table[last_third(table["update"])].groupby(keys, sort=False, as_index=False).value.mean()


def _experiment(name: str, variants: tuple[str, ...], seeds: Any = _seeds, run: Any = agent_run) -> Experiment:
    return Experiment(name, lambda profile: variants, seeds, partial(run, place=name))


_ORCHARD = _experiment("harvest", (*RULES, *REFERENCES))
_OPEN = _experiment("harvest_open", (*RULES, *REFERENCES))
_BETA = _experiment("harvest_beta", tuple(BETAS))
_STRANGERS = (
    _experiment(name, tuple(SCENARIOS.values()), lambda profile: STRANGERS, background_run)
    for name in ("harvest_background", "harvest_open_background")
)
EXPERIMENTS = (_ORCHARD, _OPEN, _BETA, _BETA_FRAMES, _CREDIT, *_STRANGERS)


def _trained(experiment: Experiment) -> Any:
    """profile -> the runs of an experiment that learn."""
    return lambda profile: [run for run in experiment.runs(profile) if run.settings.credit is not None]


TABLES = (
    Table("harvest", _ORCHARD.runs, _window),
    Table("harvest_curves", _trained(_ORCHARD)),
    Table("harvest_credit", _CREDIT.runs),
    Table("harvest_open", _OPEN.runs, _window, side=True),
    Table("harvest_open_curves", _trained(_OPEN), side=True),
    Table("harvest_beta", _BETA.runs, _window, side=True),
    Table("harvest_beta_frames", _BETA_FRAMES.runs, side=True),
)


def agents(profile: str) -> list[Run]:
    """Agents that are kept in the repository: all that a reader may want to meet."""
    return _trained(_ORCHARD)(profile)
