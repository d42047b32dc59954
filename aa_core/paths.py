"""Where things are, and whether anybody is watching. Environment variables move the roots, for tests and clusters."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # the checkout: aa_core is installed editable
PUBLISHED = ROOT / "data" / "published"  # the papers' numbers
DATA = Path(os.environ.get("AA_DATA", ROOT / "data"))  # our runs, one folder per profile
FIGURES = Path(os.environ.get("AA_FIGURES", ROOT / "figures"))
HEADLESS = bool(os.environ.get("AA_HEADLESS"))  # no progress bars and no widgets: their output would be kept
