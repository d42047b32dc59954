"""Run Snakemake and show what matters of what it says: a progress bar, and a line per finished run and notebook.

python -P experiments/progress.py python -m snakemake figures (a script, since to import the package takes seconds)
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import deque

from tqdm import tqdm


def follow(command: list[str]) -> int:
    """Run `command`; returns its exit status, and shows the end of its output if it failed."""
    last: deque[str] = deque(maxlen=80)
    watched, shape = sys.stderr.isatty(), "{l_bar}{bar}| {n}/{total} {elapsed}"
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as job,
        tqdm(desc="figures", unit="step", disable=not watched, bar_format=shape) as bar,
    ):
        for line in job.stdout:
            last.append(line)
            if steps := re.match(r"(\d+) of (\d+) steps", line):
                bar.n, bar.total = map(int, steps.groups())
                bar.refresh()
            if line.startswith(("run ", "notebook ")) or (steps and not watched):
                print(line, end="", flush=True) if not watched else bar.write(line.rstrip())
    if job.returncode:
        sys.stderr.writelines(last)
    return job.returncode


if __name__ == "__main__":
    try:
        sys.exit(follow(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("stopped; what was finished is kept, the same command goes on from there")
