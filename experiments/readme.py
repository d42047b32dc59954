"""The README's generated parts, each between `<!-- generated: NAME -->` and `<!-- end -->`."""

from __future__ import annotations

from collections.abc import Callable

from experiments import registry
from experiments.claims import Load
from experiments.page import page, reader, show_seeds


def verdicts(load: Load) -> str:
    """What is reproduced and what is not: every figure of both papers, with its verdict."""
    header = ("figure", "verdict", "numbers that agree", "orderings that hold", "trained longer", "seeds", "ours")
    lines, names = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)], registry.NOTEBOOKS
    for key, found in page(load).items():
        title, number, *_ = found.figure
        cells = (
            f"{key.split('_')[0].upper()}, {title}", found.verdict, found.passed(numbers=True),
            found.passed(numbers=False), found.longer, show_seeds(found.seeds),
            f"[{number}](notebooks/{names[number].name}.ipynb)",
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", "\\* Settings were chosen on some of these seeds."])


GENERATED: dict[str, Callable[[Load], str]] = {"verdicts": verdicts}


def update(readme_text: str, profile: str) -> str:
    """The README with its generated parts drawn from the tables of a profile.

    Raises:
        ValueError: a part does not stand in the README exactly once.
    """
    load = reader(profile, stale=True)
    for name, make in GENERATED.items():
        start, end = f"<!-- generated: {name} -->\n", "<!-- end -->\n"
        if readme_text.count(start) != 1 or end not in readme_text.split(start)[1]:
            raise ValueError(f"README must have one part between {start.strip()} and {end.strip()}")
        before, rest = readme_text.split(start)
        readme_text = before + start + make(load) + "\n" + end + rest.split(end, 1)[1]
    return readme_text
