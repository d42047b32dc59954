"""A project of its own for each test: its build/ and data/, and a registry of toy runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from language_fixtures import *  # noqa: F403

from experiments import build, paths, records, registry
from experiments.records import write_atomically
from experiments.run import Experiment, Run, Table

COUNTED: list[str] = []  # what has been computed


@dataclass(frozen=True)
class Toy:
    """Settings of a toy run."""

    rate: float
    seed: int


def train_toy(settings: Toy, folder: Path, needs: list[Path]) -> pd.DataFrame:
    COUNTED.append(f"toy-{settings.seed}")
    (folder / "agent.safetensors").write_bytes(bytes([settings.seed]))
    return pd.DataFrame({"seed": [settings.seed] * 2, "value": [settings.rate, settings.seed / 3]})


def play_toys(settings: Toy, folder: Path, needs: list[Path]) -> pd.DataFrame:
    COUNTED.append("league")
    agents = [(need / "agent.safetensors").read_bytes()[0] for need in needs]
    return pd.DataFrame({"row_seed": agents, "reward": [settings.rate * agent for agent in agents]})


def toy_run(profile: str, variant: str, seed: int) -> Run:
    return Run("toy", variant, seed, Toy({"slow": 0.5, "fast": 2.0}[variant], seed), train_toy, minutes=3)


def toy_league(profile: str, variant: str = "all", seed: int = 0) -> Run:
    return Run("toy_league", variant, seed, Toy(1.0, 0), play_toys, tuple(TOYS.runs(profile)))


def last_row(table: pd.DataFrame) -> pd.DataFrame:
    return table.iloc[-1:]


TOYS = Experiment("toy", lambda profile: ["slow"], lambda profile: range(2), toy_run)
LEAGUE = Experiment("toy_league", lambda profile: ["all"], lambda profile: [0], toy_league)
TABLES = (
    Table("toys", TOYS.runs, last_row),
    Table("toy_league", LEAGUE.runs),
    Table("toy_study", lambda profile: [toy_run(profile, "fast", 0)], side=True),
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    for name in ("BUILD", "DATA", "FIGURES"):
        monkeypatch.setattr(paths, name, tmp_path / name.lower())
    monkeypatch.setattr(paths, "PUBLISHED", tmp_path / "data" / "published")
    notebook = tmp_path / "notebooks" / "00_toys.ipynb"
    cell = {"cell_type": "code", "source": ['load("toys"), load("toy_league")\n', 'record("angles", 1)']}
    write_atomically(notebook, json.dumps({"cells": [cell]}))
    monkeypatch.setattr(registry, "NOTEBOOKS", {"00": registry.Notebook("00_toys")})
    monkeypatch.setattr(records, "git_commit", lambda: "0123abc")
    monkeypatch.setattr(registry, "experiments", lambda: {"toy": TOYS, "toy_league": LEAGUE})
    monkeypatch.setattr(registry, "tables", lambda: {table.name: table for table in TABLES})
    monkeypatch.setattr(registry, "agents", TOYS.runs)
    monkeypatch.setattr(records, "READ", {})
    build.stamp.cache_clear()
    COUNTED.clear()
    return tmp_path


@pytest.fixture
def counted() -> list[str]:
    return COUNTED
