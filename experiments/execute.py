"""Execute a notebook headless with papermill, from a clean slate and without traces of where."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import nbformat
import papermill

from aa_core.files import write_atomically


def execute(source: Path, target: Path, profile: str, stale: bool = False) -> float:
    """Run `source` top to bottom in its own folder and write it with outputs to `target`; returns the seconds taken.

    Raises:
        PapermillExecutionError: a cell failed; `target` is not written.
    """
    os.environ["AA_HEADLESS"] = "1"  # the kernel inherits it
    os.environ.pop("MPLBACKEND", None)  # an inherited one would leave the notebook without pictures
    started = time.perf_counter()
    executed = papermill.execute_notebook(
        str(source),
        None,
        parameters={"profile": profile, "stale": stale},
        kernel_name="python3",
        extra_arguments=["--log-level=40"],  # the kernel's errors, not its warning about a local port
        cwd=str(source.resolve().parent),
        progress_bar={"desc": source.stem, "leave": False, "ncols": 79} if sys.stderr.isatty() else False,
        log_output=False,
    )
    write_atomically(target, nbformat.writes(tidy(executed)) + "\n")
    return time.perf_counter() - started


def tidy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Remove what papermill adds and what differs between two equal runs: timings and the injected cell."""
    notebook.metadata.pop("papermill", None)
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.cells = [c for c in notebook.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]
    return notebook
