"""What there is: experiments, tables and notebooks by name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module

from experiments.run import Experiment, Run, Table

MODULES = ("ipd", "coin", "negotiation", "harvest", "language")  # each with EXPERIMENTS, TABLES and agents(profile)


@dataclass(frozen=True)
class Notebook:
    """A notebook, the tables of runs that it reads, and the side studies that it shows."""

    name: str
    tables: tuple[str, ...] = ()
    studies: tuple[str, ...] = ()


NOTEBOOKS = {
    "00": Notebook("00_start_here", ("ipd_policy",)),
    "01": Notebook("01_social_dilemmas"),
    "02": Notebook("02_opponent_shaping"),
    "03": Notebook("03_loqa_and_advantage_alignment"),
    "04": Notebook(
        "04_iterated_prisoners_dilemma", ("ipd_policy", "ipd_returns", "ipd_long", "ipd_sweep", "ipd_tournament")
    ),
    "05": Notebook(
        "05_coin_game_league",
        ("coin_curves", "coin_league", "coin_episode"),
        ("coin_map", "shaping_cost", "coin_speed"),
    ),
    "06": Notebook(
        "06_negotiation",
        ("negotiation_curves", "negotiation_league", "negotiation_episode"),
        ("negotiation_long", "negotiation_map"),
    ),
    "07": Notebook(
        "07_commons_harvest",
        ("harvest", "harvest_curves", "harvest_frames", "harvest_credit"),
        ("harvest_open", "harvest_open_curves", "harvest_beta", "harvest_beta_frames"),
    ),
    "08": Notebook("08_group_baseline"),
    "09": Notebook("09_llms_under_naive_rl", ("llm_training",)),
    "10": Notebook(
        "10_llms_under_advantage_alignment",
        ("llm_training", "llm_policy", "llm_crossplay"),
        ("llm_side_training", "llm_side_policy", "llm_speed"),
    ),
    "11": Notebook("11_trust_and_split"),
    "12": Notebook("12_every_figure"),  # after all others: it shows their figures and judges their tables
    "13": Notebook("13_your_own_credit_rule"),
}


@cache
def experiments() -> dict[str, Experiment]:
    """Experiments by name."""
    return {experiment.name: experiment for module in _modules() for experiment in module.EXPERIMENTS}


@cache
def tables() -> dict[str, Table]:
    """Tables by name."""
    return {table.name: table for module in _modules() for table in module.TABLES}


def agents(profile: str) -> list[Run]:
    """Runs whose trained agents notebooks load, so that they are kept in the repository."""
    return list({run.name: run for module in _modules() for run in module.agents(profile)}.values())


def runs(profile: str) -> list[Run]:
    """Every run that the figures of a profile need, side studies apart."""
    needed = {run.name: run for table in tables().values() if not table.side for run in table.runs(profile)}
    waiting = [*needed.values(), *agents(profile)]
    while waiting:
        run = waiting.pop()
        needed.setdefault(run.name, run)
        waiting += [need for need in run.needs if need.name not in needed]
    return list(needed.values())


def _modules() -> list:
    return [import_module(f"experiments.{name}") for name in MODULES]
