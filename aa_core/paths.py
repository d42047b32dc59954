"""Where things are, and whether anybody is watching.

`ROOT` is the clone of the repository: what `AA_ROOT` names, or else the folder in which this package lies. `DATA` holds
committed tables (one folder per profile) and trained agents, `PUBLISHED` the papers' numbers, `FIGURES` the committed
figures; these change by `make figures` only. Whatever is being made goes to `BUILD` (`AA_BUILD`; relative to `ROOT`).

An installed package is no clone. There the games and formulas work, and whoever asks for one of these names gets a
`NoCloneError`.
"""

from __future__ import annotations

import os
from pathlib import Path

HEADLESS = bool(os.environ.get("AA_HEADLESS"))  # no progress bars and no widgets: their output would be kept

ROOT: Path
DATA: Path
PUBLISHED: Path
FIGURES: Path
BUILD: Path


class NoCloneError(RuntimeError):
    """The repository's notebooks and data are not around."""


def clone() -> Path:
    """Root of the clone.

    Raises:
        NoCloneError: there is none, with the way out.
    """
    named = os.environ.get("AA_ROOT")
    root = Path(named).expanduser().resolve() if named else Path(__file__).resolve().parents[1]
    if (root / "notebooks").is_dir() and (root / "data" / "published").is_dir():
        return root
    where = f"AA_ROOT={named}" if named else f"{Path(__file__).parent}, where aa_core is installed,"
    raise NoCloneError(
        f"{where} has no notebooks/ and data/published beside it, and this needs them: clone the repository and "
        "`pip install -e .` there, or set AA_ROOT to a clone"
    )


def __getattr__(name: str) -> Path:
    places = {
        "ROOT": "",
        "DATA": "data",
        "PUBLISHED": "data/published",
        "FIGURES": "figures",
        "BUILD": os.path.expanduser(os.environ.get("AA_BUILD") or "build"),
    }
    if name not in places:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return clone() / places[name]
