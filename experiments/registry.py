"""What there is: experiments, tables and notebooks by name."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from experiments import paths, records
from experiments.identity import reached, short_hash
from experiments.run import Experiment, RefusedError, Run, Table, with_needs

MODULES = ("ipd", "coin", "negotiation", "harvest", "language")  # each with EXPERIMENTS, TABLES and agents(profile)
# modules that draw, read and keep: no part of what a table holds
_ASIDE = ("figures", "fresh", "identity", "paths", "pictures", "players", "records", "registry", "run", "tables")
SHELL = re.compile(r"\s*(%|!|\?|[\w.]+\?+$)")  # how a line starts that is no Python: magics, commands, questions
PLUMBING = tuple(f"experiments.{name}" for name in _ASIDE)
NAMES = (  # of the notebooks; others that lie beside them, as a reader's copies, are not ours to execute or publish
    "00_start_here", "01_social_dilemmas", "02_opponent_shaping", "03_loqa_and_advantage_alignment",
    "04_iterated_prisoners_dilemma", "05_coin_game_league", "06_negotiation", "07_commons_harvest",
    "08_group_baseline", "09_llms_under_naive_rl", "10_llms_under_advantage_alignment", "11_trust_and_split",
    "12_every_figure", "13_your_own_credit_rule",
)  # fmt: skip
LAST = "12"  # the notebook that shows the pictures of all others and judges all tables


@cache
def experiments() -> dict[str, Experiment]:
    """Experiments by name."""
    return {experiment.name: experiment for module in _modules() for experiment in module.EXPERIMENTS}


@cache
def tables() -> dict[str, Table]:
    """Tables by name."""
    return {table.name: table for module in _modules() for table in module.TABLES}


def table_names() -> set[str]:
    """Names of all tables, with those that notebooks record."""
    return set(tables()).union(*(notebook.recorded for notebook in NOTEBOOKS.values()))


def agents(profile: str) -> list[Run]:
    """Runs whose trained agents notebooks load, so that they are kept in the repository."""
    return list({run.name: run for module in _modules() for run in module.agents(profile)}.values())


def runs(profile: str) -> list[Run]:
    """Every run that the figures of a profile need, side studies apart."""
    wanted = [run for table in tables().values() if not table.side for run in table.runs(profile)]
    return with_needs([*wanted, *agents(profile)])


def _modules() -> list:
    return [import_module(f"experiments.{name}") for name in MODULES]


def lasting(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Of a cell's metadata, what does not come from executing it."""
    return {name: value for name, value in metadata.items() if name not in ("papermill", "execution") and value != []}


def cells_of(notebook: Mapping[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Kind, text and metadata of every cell, without what executing them left."""
    cells = notebook["cells"]
    return [(cell["cell_type"], "".join(cell["source"]), lasting(cell.get("metadata", {}))) for cell in cells]


@dataclass(frozen=True)
class Notebook:
    """A notebook by its name: NUMBER_TITLE, without suffix."""

    name: str

    @property
    def path(self) -> Path:
        """Where it lies."""
        return paths.ROOT / "notebooks" / f"{self.name}.ipynb"

    @cached_property
    def cells(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Kind, text and metadata of every cell."""
        if (found := records.read_record(self.path)) is None or "cells" not in found:
            raise records.DamagedTable(f"{self.path} is no notebook (cut, or in conflict): restore it from git")
        return cells_of(found)

    def refuse_changed(self) -> None:
        """RefusedError if what stands in it is not what is committed, where there is a git repository."""
        if not (paths.ROOT / ".git").exists():
            return
        committed = records.at_head(self.path)
        if committed is None or cells_of(json.loads(committed)) != self.cells:
            name = self.path.name
            raise RefusedError(f"notebooks/{name} has changes that are not committed: commit it, then draw again")

    @cached_property
    def code(self) -> str:
        """Its code as Python."""
        code = "\n".join(text for kind, text, _ in self.cells if kind == "code")
        return "\n".join("pass" if SHELL.match(line) else line for line in code.splitlines())

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """The parts of its code."""
        try:
            return list(ast.walk(ast.parse(self.code)))
        except SyntaxError as error:
            raise records.DamagedTable(
                f"{self.path}: a cell is no Python ({error.msg}: {(error.text or '').strip()}): finish it"
            ) from None

    @cached_property
    def quoted(self) -> set[str]:
        """What its code holds between quotes: names of tables and pictures, among others."""
        return {node.value for node in self.nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}

    @cached_property
    def identity(self) -> str:
        """Identity of the code that it executes, PLUMBING apart: that of the tables which it records."""
        return short_hash(reached(("notebook", None), source=self.code, beyond=PLUMBING))

    @cached_property
    def recorded(self) -> list[str]:
        """Names of the tables that it computes itself: those that it gives to `record`."""
        calls = [node for node in self.nodes if isinstance(node, ast.Call) and node.args]
        names = [call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "record"]
        return [name.value for name in names if isinstance(name, ast.Constant) and isinstance(name.value, str)]

    def tables(self, side: bool = False) -> list[Table]:
        """The tables, or side studies, that it reads: those that its code names; LAST, which judges them, reads all."""
        every = [table for table in tables().values() if table.side == side]
        return [table for table in every if table.name in self.quoted or (self.name[:2] == LAST and not side)]


NOTEBOOKS = {notebook.name[:2]: notebook for notebook in map(Notebook, NAMES) if notebook.path.is_file()}


def author(name: str) -> Notebook | None:
    """The notebook that computes a table itself; None if there is none."""
    return next((notebook for notebook in NOTEBOOKS.values() if name in notebook.recorded), None)
