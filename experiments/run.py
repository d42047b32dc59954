"""Declarations of runs, experiments and tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Run:
    """One run."""

    experiment: str
    variant: str
    seed: int
    settings: Any
    compute: Callable[[Any, Path, list[Path]], pd.DataFrame]
    needs: tuple[Run, ...] = ()
    minutes: float = 1
    alone: bool = False
    gpu: bool = False


@dataclass(frozen=True)
class Experiment:
    """Runs of one kind."""

    name: str
    variants: Callable[[str], Sequence[str]]
    seeds: Callable[[str], Sequence[int]]
    run: Callable[[str, str, int], Run]


@dataclass(frozen=True)
class Table:
    """A table that is put together from runs."""

    name: str
    runs: Callable[[str], list[Run]]
    keep: Callable[[pd.DataFrame], pd.DataFrame]
    side: bool = False
