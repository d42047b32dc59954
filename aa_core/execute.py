"""Execute a notebook headless with papermill.

python -m aa_core.execute notebooks/04_ipd.ipynb build/laptop/04_ipd.ipynb --profile laptop
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

from aa_core.records import write_atomically


def execute(source: Path, target: Path, profile: str, fresh: bool = False) -> float:
    """Run `source` top to bottom in its own folder and write it with outputs to `target`; returns the seconds taken.

    Raises:
        PapermillExecutionError: a cell failed; `target` is not written.
    """
    os.environ["AA_HEADLESS"] = "1"  # the kernel inherits it
    started = time.perf_counter()
    executed = papermill.execute_notebook(
        str(source),
        None,
        parameters={"profile": profile, "fresh": fresh},
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
    injected = [cell for cell in notebook.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    notebook.cells = [cell for cell in notebook.cells if cell not in injected]
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]
    return notebook


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m aa_core.execute", description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--fresh", action="store_true", help="make cached runs again")
    options = parser.parse_args(arguments)
    try:
        seconds = execute(options.source, options.target, options.profile, options.fresh)
    except PapermillExecutionError as error:
        sys.exit(f"{options.source}: {error}")
    print(f"notebook {options.source.stem}: {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
