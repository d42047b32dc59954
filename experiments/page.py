"""Every figure of both papers beside ours, with a verdict: the page that notebook 12 shows. It trains nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import pandas as pd

from aa_core.checks import check_choice
from experiments import judge, tables
from experiments.claims import AA, CLAIMS, NAMES, PROXIMAL_AA, Load, NoRunError
from experiments.judge import Result, Verdict
from experiments.pictures import pictures_of
from experiments.run import JUDGED, PROFILES


class PaperFigure(NamedTuple):
    """A figure of a paper."""

    title: str  # what it shows, with its number where that is known
    notebook: str  # number of the one that draws ours
    lacks: Verdict = Verdict.NO_RUN  # verdict without runs
    illustrates: str = ""  # table that one which claims nothing is drawn from


FIGURES: Mapping[str, PaperFigure] = {
    "aa_1a": PaperFigure("fig. 1a: the sign table", "03"),
    "aa_1b": PaperFigure("fig. 1b: the policy in the prisoner's dilemma, of a recurrent agent", "04"),
    "aa_1b_table": PaperFigure("fig. 1b: the same of a table of five numbers", "04"),
    "aa_2": PaperFigure("fig. 2: the Coin Game league", "05"),
    "aa_2_proximal": PaperFigure("fig. 2: the same with the clipped form of AA", "05"),
    "aa_3": PaperFigure("fig. 3: the Negotiation league (our AA met always defect in training)", "06"),
    "aa_3_sample": PaperFigure("fig. 3: a sample negotiation", "06", illustrates="negotiation_episode"),
    "aa_appendix": PaperFigure("appendix: learning curves in Negotiation", "06"),
    "aa_4": PaperFigure("fig. 4: Commons Harvest, scores in two scenarios, published map", "07"),
    "aa_4_orchard": PaperFigure("fig. 4: the same in the orchard, a small map", "07"),
    "aa_5": PaperFigure("fig. 5: Commons Harvest, what becomes of the apples, published map", "07"),
    "aa_5_orchard": PaperFigure("fig. 5: the same in the orchard", "07"),
    "aa_8": PaperFigure("appendix fig. 8: Commons Harvest by beta", "07"),
    "llm_naive": PaperFigure("naive RL turns greedy", "09"),
    "llm_other_models": PaperFigure("naive RL with Qwen3-8B, Llama-3.1-8B and gemma-3-4b", "09", Verdict.NEEDS_GPU),
    "llm_exploits": PaperFigure("a naive learner opposite its own prior, for closed models", "09"),
    "llm_closed": PaperFigure("a naive learner opposite gpt-5-nano and gemini", "09", lacks=Verdict.CLOSED_MODEL),
    "llm_gpt_oss": PaperFigure("a naive learner opposite gpt-oss-120b", "09", lacks=Verdict.NEEDS_GPU),
    "llm_curves": PaperFigure("learning curves of AA, naive and sum of rewards", "10"),
    "llm_policy": PaperFigure("conditional policies in the prisoner's dilemma", "10"),
    "llm_crossplay": PaperFigure("cross-play matrices", "10"),
    "llm_ablations": PaperFigure("ablations: no agent buffer, no group baseline", "10"),
    "llm_teaches": PaperFigure("a naive learner opposite a fixed AA agent", "10"),
    "llm_transcripts": PaperFigure("transcripts of Trust-and-Split", "11"),
}


@dataclass(frozen=True)
class Entry:
    """A figure with what came out."""

    figure: PaperFigure
    pictures: tuple[str, ...]
    verdict: Verdict
    results: tuple[Result, ...] = ()  # claims beside our runs
    missing: tuple[tuple[str, float | None], ...] = ()  # claims without a run, with the published number of some

    @property
    def longer(self) -> str:
        """The verdict with all that was trained longer in its place."""
        if not any(result.longer for result in self.results):
            return "not run"
        return judge.judge(
            [replace(r, ours=r.longer, seeds=r.longer_seeds) if r.longer else r for r in self.results],
            len(self.missing),
        )

    def passed(self, numbers: bool) -> str:
        """How many of the published numbers, or of the orderings that the papers state, pass, as `counted`."""
        aside = (*judge.SHOWN, judge.CONTROL)
        stated = [r for r in self.results if (r.published is not None) == numbers and r.source not in aside]
        waiting = sum((number is not None) == numbers for _, number in self.missing)
        return counted(stated) + (f", {waiting} without run" if waiting else "")

    @property
    def controls(self) -> str:
        """How many of our own controls pass, as `counted`."""
        return counted([r for r in self.results if r.source == judge.CONTROL])

    @property
    def failed(self) -> tuple[str, ...]:
        """Claims that stand between the figure and "reproduced": orderings of the paper, controls, numbers."""
        bad = [result for result in self.results if not result.passes and result.source not in judge.SHOWN]
        bad.sort(key=lambda result: (result.published is not None, result.source == judge.CONTROL))
        return tuple(f"{r.what}{' (control)' if r.source == judge.CONTROL else ''}" for r in bad)

    @property
    def narrow(self) -> Verdict:
        """The verdict with no margin wider than a tenth of what the game offers."""
        return judge.judge([replace(r, margin=min(r.margin, r.tenth)) for r in self.results], len(self.missing))

    @property
    def stated(self) -> Verdict:
        """The verdict on what the paper states alone, without our controls."""
        return judge.judge([r for r in self.results if r.source != judge.CONTROL], len(self.missing))

    @property
    def shown_seeds(self) -> str:
        """Those of its results, as text: games may have others; in brackets the fewest, where some have not all."""
        sets = sorted({result.seeds for result in self.results if result.seeds})
        whole = [seeds for seeds in sets if not any(set(seeds) < set(other) for other in sets)]
        fewest = min(sets, key=len, default=())
        few = f" ({show_seeds(fewest)})" if any(set(fewest) < set(seeds) for seeds in whole) else ""
        return "; ".join(map(show_seeds, whole or [()])) + few


def counted(results: Sequence[Result]) -> str:
    """How many pass, and how many orderings are reversed, with a minus: "3 of 5 (−1)"."""
    if not results:
        return "–"
    reversed_ones = sum(result.reversed for result in results)
    passed = f"{sum(result.passes for result in results)} of {len(results)}"
    return f"{passed} (−{reversed_ones})" if reversed_ones else passed


def once(page: Mapping[str, Entry], numbers: bool) -> dict[tuple[str, str], bool]:
    """What the papers print or state, each once, and whether it passes wherever it is read: in every reading of a
    league's cell, of every agent of ours that stands for AA, on every map. Neither controls nor what is only shown.
    """
    found: dict[tuple[str, str], bool] = {}
    for key, entry in page.items():
        for r in entry.results:
            if (r.published is not None) == numbers and r.source not in (*judge.SHOWN, judge.CONTROL):
                printed = _printed(key, r.what)
                found[printed] = r.passes and found.get(printed, True)
    return found


def without_run(page: Mapping[str, Entry]) -> set[tuple[str, str]]:
    """Numbers that the papers print and that no run of ours can be held against, each once, as `once` calls them."""
    missing = {
        _printed(key, what) for key, entry in page.items() for what, number in entry.missing if number is not None
    }
    return missing - once(page, numbers=True).keys()


def _printed(key: str, what: str) -> tuple[str, str]:
    """Figure and claim as the paper has them, whichever reading, agent of ours or map this is."""
    what = re.sub(", (league|window)", "", what).replace(NAMES[PROXIMAL_AA], NAMES[AA])
    return re.sub("_(table|proximal|orchard)$", "", key), what.replace("> reward: ", "> ")


def show_seeds(seeds: tuple[int, ...]) -> str:
    """Seeds as text; an asterisk where settings were chosen on some of them."""
    if not seeds:
        return "–"
    ordered = sorted(seeds)
    starts = [index for index, seed in enumerate(ordered) if index == 0 or seed > ordered[index - 1] + 1]
    stretches = [ordered[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]
    texts = [f"{first[0]}–{first[-1]}" if len(first) > 1 else str(first[0]) for first in stretches]
    return ", ".join(texts) + ("*" if ordered[0] < JUDGED.start else "")


def reader(profile: str, seeds: int | None = None, stale: bool = False) -> Load:
    """Reads tables of a profile, of the first `seeds` seeds, each once; `stale`: also those that other code made."""
    check_choice("profile", profile, PROFILES)

    @cache
    def load(name: str) -> pd.DataFrame:
        return judge.first_seeds(tables.load(name, profile, stale, train=False), seeds)

    return load


def entry(key: str, load: Load) -> Entry:
    """Compare one figure."""
    figure, pictures, results, missing = FIGURES[key], tuple(pictures_of(key)), [], []
    for claim in (claim for claim in CLAIMS if claim.figure == key):
        try:
            results.append(claim.compare(load))
        except (FileNotFoundError, NoRunError):
            if claim.source not in (*judge.SHOWN, judge.CONTROL):
                missing.append((claim.what, claim.right if isinstance(claim.right, float) else None))
    verdict = judge.judge(results, len(missing))
    if verdict in (Verdict.ILLUSTRATION, Verdict.NO_RUN):
        verdict = figure.lacks
        with suppress(FileNotFoundError):
            if figure.illustrates and len(load(figure.illustrates)):
                verdict = Verdict.ILLUSTRATION
    return Entry(figure, pictures, verdict, tuple(results), tuple(missing))


def page(load: Load) -> dict[str, Entry]:
    """Every figure of both papers, compared with the tables that `load` reads (see `reader`)."""
    return {key: entry(key, load) for key in FIGURES}
