"""Every figure of both papers beside ours, with a verdict: the page that notebook 12 shows.

It only reads tables and trains nothing. A claim without a table, or without runs in it, is left out; a figure of which
no claim is left has "no run yet".
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

import pandas as pd

from aa_core.checks import check_choice
from experiments import judge, records, registry, tables
from experiments.claims import CLAIMS, Load, NoRunError
from experiments.judge import Number, Ordering, Verdict
from experiments.pictures import pictures_of
from experiments.run import PROFILES


@dataclass(frozen=True)
class PaperFigure:
    """A figure of a paper.

    Attributes:
        paper: AA or LLM.
        title: what it shows, with its number where that is known.
        notebook: number of the one that draws ours.
        command: that makes it in profile `paper`; "": there is none.
        why: where a difference comes from, as far as the notebook found out; or what was compared instead.
        illustrates: table that an illustration, which claims nothing, is drawn from.
        lacks: verdict of a figure that cannot be made here, unless there are runs of it.
    """

    paper: str
    title: str
    notebook: str
    command: str = ""
    why: str = ""
    illustrates: str = ""
    lacks: str = judge.NO_RUN


@dataclass(frozen=True)
class Entry:
    """A figure with what came out; `seeds` is the largest number of seeds of its tables."""

    figure: PaperFigure
    pictures: tuple[str, ...]
    verdict: Verdict
    numbers: tuple[Number, ...] = ()
    orderings: tuple[Ordering, ...] = ()
    seeds: int = 0


def _draw(number: str) -> str:
    return f"make notebooks/{number} PROFILE=paper"


def _train(number: str, *variants: str) -> str:
    """One seed of each variant of the language models; then what else is missing, and the notebook."""
    runs = [f"accelerate launch -m experiments run llm {variant} 0 --profile paper" for variant in variants]
    return "\n".join([*runs, _draw(number)])


_ORGANISM = (
    "Ours is a model organism of 0.1 million parameters with a kind prior of our making; orderings are all that it can "
    "share with a large model."
)
_SERVER = "`experiments.api.ApiPlayer` takes the fixed seat of the run `naive_vs_kind`. Not tried by us."

FIGURES: Mapping[str, PaperFigure] = {
    "aa_1a": PaperFigure("AA", "fig. 1a: the sign table", "03", _draw("03")),
    "aa_1b": PaperFigure(
        "AA", "fig. 1b: the policy learned in the prisoner's dilemma", "04", _draw("04"),
        "The paper's settings for this figure are not public. Ours retaliates more surely and forgives a bit less; in "
        "CD, DC and DD the two agree only within the printed error bars.",
    ),
    "aa_2": PaperFigure(
        "AA", "fig. 2: the Coin Game league", "05", _draw("05"),
        "POLA and M-FOS are not in our league. Ours trains for a minute, with small networks; in the settings that we "
        "tried, what is harder for a defector is harder for a cooperator too.",
    ),
    "aa_3": PaperFigure(
        "AA", "fig. 3: the Negotiation league", "06", _draw("06"),
        "We have no table of the printed numbers. The values are on the table, so cooperation needs no memory, and "
        "retaliation has little to win.",
    ),
    "aa_3_sample": PaperFigure(
        "AA", "fig. 3: a sample negotiation", "06", _draw("06"), illustrates="negotiation_episode"
    ),
    "aa_appendix": PaperFigure(
        "AA", "appendix: learning curves in Negotiation", "06", _draw("06"),
        "We have no numbers of these curves. Training stops in time, as it does by a rule in the paper's code.",
    ),
    "aa_4": PaperFigure(
        "AA", "fig. 4: Commons Harvest, scores in two scenarios", "07", _draw("07"),
        "The published scores are normalised, and of the best of ten seeds; ours are returns, means over seeds: only "
        "their order can be compared. In ours the background players are two scripts, who end the small map whatever "
        "the five others do.",
    ),
    "aa_5": PaperFigure(
        "AA", "fig. 5: Commons Harvest, what becomes of the apples", "07", _draw("07"),
        "The paper shows frames of games on the published map; what is compared are counts on a small one.",
    ),
    "llm_naive": PaperFigure("LLM", "naive RL turns greedy", "09", _train("09", "ipd-naive"), _ORGANISM),
    "llm_other_models": PaperFigure(
        "LLM", "naive RL with Qwen3-8B, Llama-3.1-8B and gemma-3-4b", "09",
        _train("09", *(f"ipd-naive_{model}" for model in ("qwen3", "llama", "gemma"))), lacks=judge.NEEDS_GPU,
    ),
    "llm_exploits": PaperFigure(
        "LLM", "a naive learner exploits a fixed player", "09", _train("09", "ipd-naive_vs_kind"),
        "The paper's fixed player is a stronger model; ours is the untrained prior, which is only a kinder one.",
    ),
    "llm_closed": PaperFigure(
        "LLM", "a naive learner opposite gpt-5-nano and gemini", "09",
        why=f"Set OPENAI_API_KEY, and OPENAI_BASE_URL for gemini's server: {_SERVER}", lacks=judge.CLOSED_MODEL,
    ),
    "llm_gpt_oss": PaperFigure(
        "LLM", "a naive learner opposite gpt-oss-120b", "09", "vllm serve openai/gpt-oss-120b",
        f"Its weights are open: serve them, and set OPENAI_BASE_URL to that server: {_SERVER}", lacks=judge.NEEDS_GPU,
    ),
    "llm_curves": PaperFigure(
        "LLM", "learning curves of Advantage Alignment, naive and sum of rewards", "10",
        _train("10", "ipd-advantage_alignment"), _ORGANISM,
    ),
    "llm_policy": PaperFigure(
        "LLM", "conditional policies in the prisoner's dilemma", "10", _draw("10"),
        "Retaliation comes in every seed; forgiveness is what seeds differ in: some are tit for tat, others are not.",
    ),
    "llm_crossplay": PaperFigure(
        "LLM", "cross-play matrices", "10", _draw("10"),
        _ORGANISM + " In Trust-and-Split naive agents stand for greed, as in the paper; against our greedy script AA "
        "is no safer there than the sum of rewards.",
    ),
    "llm_ablations": PaperFigure(
        "LLM", "ablations: no agent buffer, no group baseline", "10", _train("10", "ipd-aa_no_buffer"),
        "Training is short here and stops while agents cooperate, which may be too soon for either part to matter.",
    ),
    "llm_teaches": PaperFigure(
        "LLM", "a naive learner opposite a fixed Advantage Alignment agent", "10", _train("10", "ipd-naive_vs_aligned"),
        "The paper shows it in Trust-and-Split, we in the prisoner's dilemma and in Split.",
    ),
    "llm_transcripts": PaperFigure(
        "LLM", "transcripts of Trust-and-Split", "11", _draw("11"),
        "The transcripts stand in notebook 11; the pictures count what is said and claimed in many games.",
    ),
}  # fmt: skip


def reader(profile: str, seeds: int | None = None, stale: bool = False) -> Load:
    """Reads tables of a profile, of the first `seeds` seeds, each once; `stale`: also those that other code made."""
    check_choice("profile", profile, PROFILES)

    @cache
    def load(name: str) -> pd.DataFrame:
        if name in registry.tables():
            made = all(run.is_made() for run in registry.tables()[name].runs(profile))
            if not made and not records.find_table(name, profile).is_file():
                raise records.MissingTable(f"no table {name} of profile {profile}")  # tables.load would train
            table = tables.load(name, profile, stale=stale)
        else:
            table = tables.read(name, profile)  # a notebook's
        columns = [column for column in records.SEED_COLUMNS if column in table]
        return table[(table[columns] < seeds).all(axis=1)] if seeds and columns else table

    return load


def entry(key: str, load: Load) -> Entry:
    """Compare one figure."""
    figure, pictures, claims, sources = FIGURES[key], tuple(pictures_of(key)), [], set()
    for claim in (claim for claim in CLAIMS if claim.figure == key):
        with suppress(FileNotFoundError, NoRunError):
            claims.append(claim.compare(load))
            sources.add(claim.left.table)
    if not claims:
        verdict = figure.lacks
        with suppress(FileNotFoundError):
            if figure.illustrates and len(load(figure.illustrates)):
                verdict = judge.ILLUSTRATION
        return Entry(figure, pictures, Verdict(verdict))
    numbers = tuple(claim for claim in claims if isinstance(claim, Number))
    orderings = tuple(claim for claim in claims if isinstance(claim, Ordering))
    seeds = max(records.count_seeds(load(table)) or 0 for table in sources)
    return Entry(figure, pictures, judge.judge(numbers, orderings), numbers, orderings, seeds)


def page(load: Load) -> dict[str, Entry]:
    """Every figure of both papers, compared with the tables that `load` reads (see `reader`)."""
    return {key: entry(key, load) for key in FIGURES}
