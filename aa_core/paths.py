"""Where things are, and whether anybody is watching. Environment variables move the roots, for clusters and readers."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # the checkout: aa_core is installed editable
DATA = ROOT / "data"  # committed tables, one folder per profile, and trained agents; changed by `make figures` only
PUBLISHED = DATA / "published"  # the papers' numbers
FIGURES = ROOT / "figures"  # committed figures
BUILD = Path(os.environ.get("AA_BUILD", ROOT / "build"))  # whatever is being made: runs, tables, figures, notebooks
HEADLESS = bool(os.environ.get("AA_HEADLESS"))  # no progress bars and no widgets: their output would be kept
