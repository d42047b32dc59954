"""What there is: experiments, tables and notebooks by name."""

from __future__ import annotations

import ast
import json
from functools import cache
from importlib import import_module
from pathlib import Path

from experiments import paths
from experiments.run import Experiment, Run, Table, with_needs

MODULES = ("ipd", "coin", "negotiation", "harvest", "language")  # each with EXPERIMENTS, TABLES and agents(profile)
NOTEBOOKS = {path.name[:2]: path for path in sorted((paths.ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
LAST = "12"  # the notebook that shows the pictures of all others and judges all tables


def _modules() -> list:
    return [import_module(f"experiments.{name}") for name in MODULES]


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
    wanted = [run for table in tables().values() if not table.side for run in table.runs(profile)]
    return with_needs([*wanted, *agents(profile)])


@cache
def cells(notebook: Path) -> tuple[list[str], str]:
    """The text of every cell of a notebook, and its code as Python."""
    content = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in content]
    code = "\n".join(text for cell, text in zip(content, texts, strict=True) if cell["cell_type"] == "code")
    return texts, "\n".join("pass" if line.lstrip().startswith(("%", "!")) else line for line in code.splitlines())


@cache
def names_in(number: str) -> set[str]:
    """What a notebook's code holds between quotes."""
    nodes = ast.walk(ast.parse(cells(NOTEBOOKS[number])[1]))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def tables_of(number: str) -> list[Table]:
    """The tables that a notebook reads: those that its code names; LAST, which judges them, reads all."""
    named = names_in(number)
    return [table for name, table in tables().items() if name in named or (number == LAST and not table.side)]
