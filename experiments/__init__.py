"""What is run for which figure, what the papers claim, and the build that knows what is out of date."""

import os
import sys

from experiments import paths, run

if asked := os.environ.get("AA_SEEDS"):  # before anything is declared; see experiments.fresh
    try:
        run.declare(asked)
    except ValueError as error:
        sys.exit(f"AA_SEEDS: {error}")

from experiments.tables import agent, load, record

__all__ = ["agent", "load", "paths", "record", "run"]
