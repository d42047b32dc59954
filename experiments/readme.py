"""The README's generated parts, each between `<!-- generated: NAME -->` and `<!-- end -->`."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from aa_core.estimates import difference, mean_interval, show
from experiments import fresh, judge, language, paths, records, registry
from experiments.build import COST, START
from experiments.claims import CLAIMS, Load
from experiments.judge import Verdict
from experiments.page import Entry, once, page, reader, show_seeds, without_run
from experiments.pictures import SIDECAR

HOLDS = 0.8  # share of rounds in which a seed that holds cooperates
HEADLINE = {"advantage_alignment": "", "aa_long": " trained twice as long,"}
FROM_GREED = {
    "advantage_alignment": "AA earns", "prior": "its prior", "sum_of_rewards": "sum of rewards", "naive": "naive RL",
}  # fmt: skip
JUDGED_AS = {
    "are reproduced": (Verdict.REPRODUCED,),
    "in part": (Verdict.PARTLY, Verdict.OTHER_SCALE, Verdict.NO_NUMBERS),
    "not": (Verdict.NOT_REPRODUCED,),
    "cannot be told": (Verdict.FEW_SEEDS,),
}  # fmt: skip
CORES = 2  # that the times of the README are for
ASIDE = 16  # seconds of a notebook that are not in its record, as `time make redraw` tells: to start, and to end


def commands(load: Load) -> str:
    """The three commands with what they took: the cost of the runs and of the notebooks, as records have it."""
    cost = (records.read_table(paths.DATA / "laptop" / f"{COST}.csv")[0].seconds + START).sum() / 60
    seconds: dict[str, float] = {}  # of every notebook, up to its last picture
    for path in paths.FIGURES.glob("*.json"):
        record = records.read_record(path)
        if record is None or not set(SIDECAR) <= set(record):
            raise records.DamagedTable(f"{path} is no record of a picture (cut, or in conflict): restore it from git")
        seconds[record["notebook"]] = max(seconds.get(record["notebook"], 0), record["seconds"]["notebook"])
    whole = [ASIDE + spent for spent in seconds.values()]
    drawn = max(sum(whole) / CORES, *whole) / 60  # the longest one cannot be shared
    took = f"{cost / CORES + drawn:.0f} minutes"
    rows = (
        ("type", "to", f"took, on {CORES} cores"),
        ("---", "---", "---"),
        ("`make lab`", "open the notebooks in JupyterLab, without autosave", "4 seconds"),
        ("`make redraw`", "execute them all on the committed tables and agents, into `build/`", f"{drawn:.0f} minutes"),
        ("`make figures`", "train all but side studies, execute, draw every figure", took),
    )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def verdicts(load: Load) -> str:
    """What is reproduced and what is not: every figure of both papers, with its verdict."""
    again = _unseen()
    differing = set() if again is None else set(again[again.judged_verdict != again.fresh_verdict].figure)
    lines = ["| figure | verdict | (numbers;) orderings+controls | seeds (fewest) |", "|" + "---|" * 4]
    judged = page(load)
    for key, found in judged.items():
        title, number, *_ = found.figure
        old = any(records.READ.get(name, {}).get("stale") for name in _judged(key))
        aside = any(table.side for name, table in registry.tables().items() if name in _judged(key))
        other = found.longer not in ("not run", found.verdict)
        holding = (Verdict.OTHER_SCALE, Verdict.NO_NUMBERS, Verdict.PARTLY, Verdict.REPRODUCED)
        spoilt = found.verdict == Verdict.NOT_REPRODUCED and found.stated in holding
        wide = found.results and found.narrow != judge.judge(found.results, len(found.missing))
        marks = (("§", aside), ("†", other), ("‡", old), ("¶", spoilt), ("◊", wide), ("‖", key in differing))
        signs = "".join(sign for sign, holds in marks if holds)
        cells = (
            f"[{key.split('_')[0].upper()}, {title}](notebooks/{registry.NOTEBOOKS[number].name}.ipynb)",
            found.verdict + signs, _counts(found),
            found.shown_seeds.replace("*", "\\*"),
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    legend = {
        "\\*": "settings were chosen on some of these seeds",
        "†": "another when trained longer (12)",
        "§": "from side studies",
        "‡": "from tables that earlier code made",
        "¶": "orderings hold, a control fails",
        "◊": "by wide error bars",
        "‖": "another with fresh seeds",
    }
    table = "\n".join(lines)
    used = [f"{sign} {words}" for sign, words in legend.items() if sign in table]
    used += ["(−n): n are reversed"] if "(−" in table else []
    counts = [(words, sum(entry.verdict in which for entry in judged.values())) for words, which in JUDGED_AS.items()]
    parts = [f"{count} {words}" for words, count in counts if count]
    told, orderings = once(judged, numbers=True), list(once(judged, numbers=False).values())
    by_formula, bars = (
        sum(agrees for (key, _), agrees in told.items() if key == figure) for figure in ("aa_1a", "aa_1b")
    )
    head = (
        f"Of {sum(count for _, count in counts)} lines with a verdict {', '.join(parts)}. Of {len(told)} printed "
        f"numbers that we ran ({len(without_run(judged))} more we did not) {sum(told.values())} agree wherever read, "
        f"{by_formula} by the formula alone (1a), {bars} in figure 1b; of {len(orderings)} orderings {sum(orderings)} "
        "hold."
    )
    below = ["; ".join(used) + "."] if used else []
    below += [] if again is None else [fresh.summary(again)]
    return "\n\n".join([head, table, *below])


def _judged(key: str) -> set[str]:
    """Tables that the claims of a figure are read off."""
    return {side.table for claim in CLAIMS if claim.figure == key for side in claim.sides}


def _unseen() -> pd.DataFrame | None:
    """What was judged with fresh seeds, if that has been run."""
    try:
        return fresh.read()
    except records.MissingTable:
        return None


def _counts(found: Entry) -> str:
    """How many numbers, orderings and controls pass, and how many have no run."""
    if not found.results:
        return "–"
    numbers, orderings = (found.passed(numbers=kind).replace(" of ", "/") for kind in (True, False))
    orderings += "" if found.controls == "–" else f"+{found.controls.replace(' of ', '/')}"
    return orderings if numbers == "–" else f"{numbers}; {orderings}"


def headline(load: Load) -> str:
    """What language models come to: in how many seeds AA cooperates, what greed leaves it, and how far it is ahead."""
    table, counted = pd.concat([load("llm_training"), load("llm_side_training")]), []
    for name, words in HEADLINE.items():
        late = language.final(table, "ipd", name, "cooperation")
        seeds = show_seeds(tuple(language.curves(table, "ipd", name, "cooperation")))
        counted.append(f"{words} in {(late > HOLDS).sum()} of {len(late)} seeds ({seeds}, worst {late.min():.2f})")
    table = load("llm_training")
    greed = [
        f"{words} {language.final(table, 'ipd', name, 'reward_vs_defect').mean():.2f}"
        for name, words in FROM_GREED.items()
    ]
    ahead = {name: [_above(table, game, name) for game in language.GAMES[1:]] for name in ("naive", "prior")}
    own, taught = (
        language.final(table, "trust_and_split", "naive_vs_aligned", of) for of in ("reward", "reward_other")
    )
    return (
        f"**Language models.** Prisoner's dilemma: AA cooperates in over {HOLDS:.0%} of rounds{';'.join(counted)}. "
        f"Merely kind players do, too, but are robbed: from always defect, a round, {', '.join(greed)}. "
        f"In Split and Trust-and-Split AA's efficiency less naive RL's is {' and '.join(ahead['naive'])}, less its "
        f"prior's {' and '.join(ahead['prior'])}; in the latter, naive learners get ahead of their fixed AA "
        f"teacher in {(own > taught).sum()} of {len(own)} seeds."
    )


def _above(table: pd.DataFrame, game: str, other: str) -> str:
    """By how much AA's efficiency is above that of naive learners, or of the prior, which is one."""
    ours, theirs = (language.final(table, game, who, "efficiency") for who in ("advantage_alignment", other))
    return show(mean_interval(ours - theirs) if len(theirs) == 1 else difference(ours, theirs), sign="+")


GENERATED: dict[str, Callable[[Load], str]] = {"commands": commands, "headline": headline, "verdicts": verdicts}


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
