"""Where things are.

`ROOT` is the clone of the repository: what `AA_ROOT` names, or else the folder in which this package lies. `DATA` holds
committed tables (one folder per profile) and trained agents, `PUBLISHED` the papers' numbers, `FIGURES` the committed
figures. Tracked files change by `make figures` and, in data/extended alone, by `make studies/NAME`, `make claims`,
`make soak` and `make rehearsal-gpu`. Whatever is being made goes to `BUILD` (`AA_BUILD`; relative to `ROOT`).
"""

from __future__ import annotations

import os
from pathlib import Path

from aa_core import HEADLESS

__all__ = ["BUILD", "DATA", "FIGURES", "HEADLESS", "PUBLISHED", "ROOT", "NoCloneError", "relative"]


class NoCloneError(RuntimeError):
    """The repository's notebooks and data are not around: an installed package is no clone."""


def _clone() -> Path:
    named = os.environ.get("AA_ROOT")
    root = Path(named).expanduser().resolve() if named else Path(__file__).resolve().parents[1]
    if (root / "notebooks").is_dir() and (root / "data" / "published").is_dir():
        return root
    where = f"AA_ROOT={named}" if named else f"{Path(__file__).parent}, where experiments is installed,"
    raise NoCloneError(
        f"{where} has no notebooks/ and data/published beside it, and this needs them: clone the repository and "
        "`pip install -e .` there, or set AA_ROOT to a clone"
    )


ROOT = _clone()
DATA, FIGURES = ROOT / "data", ROOT / "figures"
PUBLISHED = DATA / "published"
BUILD = ROOT / Path(os.environ.get("AA_BUILD") or "build").expanduser()


def relative(path: Path) -> str:
    """A path as people like to read it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
