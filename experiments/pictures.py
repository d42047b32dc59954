"""Every picture that the notebooks draw: the one list of their names.

The build takes from it what a notebook must leave behind, notebook 12 its pictures.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple


class Picture(NamedTuple):
    """A picture: number of the notebook that draws it, caption, and the paper's figure that it stands for, if any."""

    notebook: str
    caption: str
    shows: str = ""  # key of page.FIGURES


PICTURES: Mapping[str, Picture] = {
    "overview": Picture("00", "The idea in one picture: what is learned, and what it earns"),
    "naive_basins": Picture("01", "Where naive learning ends, from a grid of starts"),
    "naive_trajectories": Picture("01", "Naive learning, every start"),
    "lola_basins": Picture("02", "What exact LOLA ends with, by the size of the imagined step"),
    "theorem1_angles": Picture("02", "How far real policies are from AA's Theorem 1"),
    "aa_fig1a": Picture("03", "AA fig. 1a: the sign table, from the computed product", "aa_1a"),
    "partition_term": Picture("03", "The partition term that AA drops: cosines along training"),
    "exact_outcomes": Picture("03", "Exact ascent: from defection through tit for tat to grim trigger"),
    "aa_fig1b": Picture("04", "AA fig. 1b: the learned policy, ours beside the published bars", "aa_1b"),
    "ipd_learning_curves": Picture("04", "Five rules in self-play, every seed"),
    "ipd_long": Picture("04", "Tables trained on: tit for tat fades into grim trigger", "aa_1b_table"),
    "ipd_gru_long": Picture("04", "The GRU of AA's fig. 1b along training, and trained on"),
    "ipd_sweep": Picture("04", "Map of outcomes over beta, gamma and learning rate"),
    "nash_stability": Picture("04", "Which Nash equilibria are stable under which rule"),
    "ipd_tournament": Picture("04", "Against the Axelrod library, and the worst case"),
    "coin_learning_curves": Picture("05", "Coin Game: every seed against itself, a cooperator and a defector"),
    "aa_fig2": Picture("05", "AA fig. 2: the Coin Game league, ours beside the published numbers", "aa_2"),
    "coin_episode": Picture("05", "A game of two trained agents, and one against always defect, step by step"),
    "coin_map": Picture("05", "The map of settings in the Coin Game"),
    "coin_long": Picture("05", "Trained on: the Coin Game's agent after ten times as many updates"),
    "shaping_cost": Picture("05", "The price of opponent shaping"),
    "negotiation_learning_curves": Picture("06", "Negotiation: every seed against three players", "aa_appendix"),
    "aa_fig3": Picture("06", "AA fig. 3: the Negotiation league", "aa_3"),
    "negotiation_long": Picture("06", "Negotiation, AA's credit: stopped by a rule, and trained on, every seed"),
    "negotiation_sample": Picture("06", "A sample negotiation, step by step", "aa_3_sample"),
    "negotiation_map": Picture("06", "The map of settings in Negotiation"),
    "harvest_dilemma": Picture("07", "Commons Harvest: what a patch can give, by how much of it is always left"),
    "schelling": Picture("07", "Schelling diagrams: what cooperators and defectors earn in three games"),
    "harvest_learning_curves": Picture("07", "Commons Harvest: the four metrics along training, every seed"),
    "harvest_credit": Picture("07", "Commons Harvest: what the credit says of eating an apple, by the patch's loss"),
    "aa_fig5": Picture("07", "AA fig. 5: the orchard at three moments, and its apples, by algorithm", "aa_5_orchard"),
    "aa_fig8": Picture("07", "AA appendix, fig. 8: three strengths of the alignment", "aa_8"),
    "aa_fig4": Picture("07", "AA fig. 4: apples per focal player beside strangers, ours and published", "aa_4"),
    "harvest_published_map": Picture("07", "Commons Harvest on the published map, every seed", "aa_5"),
    "baseline_variance": Picture("08", "Variance of the policy gradient by baseline and group size"),
    "baseline_bias": Picture("08", "Bias of the baselines, and of GAE with a wrong critic"),
    "baseline_llm": Picture("08", "The same on the embedded language model"),
    "llm_naive": Picture("09", "LLM paper: naive RL on a kind model organism, three games, every seed", "llm_naive"),
    "llm_naive_claims": Picture("09", "Greed in the sharing games: claiming what the other values", "llm_naive"),
    "llm_naive_exploits": Picture("09", "LLM paper: a naive learner opposite a fixed kind player", "llm_exploits"),
    "llm_credit_terms": Picture("10", "Which way the two terms of the credit push, before and after a breakdown"),
    "llm_sharing": Picture("10", "Why cooperation falls first: tables whose states move together, every seed"),
    "llm_learning_curves": Picture("10", "LLM paper: AA, naive and sum of rewards in self-play", "llm_curves"),
    "llm_policy": Picture("10", "LLM paper: P(cooperate) after each joint move, every seed", "llm_policy"),
    "llm_crossplay": Picture("10", "LLM paper: everybody against everybody", "llm_crossplay"),
    "llm_claims": Picture("10", "Claims on what is worth more and less to oneself, by algorithm", "llm_curves"),
    "llm_ablations": Picture(
        "10", "One change at a time: together, against greed and against kindness", "llm_ablations"
    ),
    "llm_naive_vs_aligned": Picture("10", "LLM paper: a naive learner opposite a fixed AA agent", "llm_teaches"),
    "llm_honesty": Picture("11", "Trust-and-Split: who lies, and who claims with the lower hand", "llm_transcripts"),
    "llm_lies": Picture("11", "Trust-and-Split: what a true and a false message earn", "llm_transcripts"),
    "verdicts": Picture("12", "Every figure of both papers, by verdict"),
    "your_rule": Picture("13", "A credit rule of one's own beside naive, summed and aligned credit, in five games"),
}

# what the JSON beside a picture must have; `figures.save` writes it
SIDECAR = ("figure", "notebook", "parameters", "data", "stale", "seeds", "seconds", "drawn", "git_commit", "packages")


def alternative_text(cell: Mapping[str, Any]) -> str:
    """What the picture shows that a notebook's cell draws, for who cannot see it.

    What stands in the cell's metadata under "alt", or else the caption of the picture that it saves.
    """
    picture = saved(cell)
    return cell["metadata"].get("alt", picture.caption if picture else "")


def saved(cell: Mapping[str, Any]) -> Picture | None:
    """The picture that a notebook's cell saves."""
    found = re.search(r"figures\.save\(\s*\w+,\s*\"(\w+)\"", "".join(cell["source"]))
    return PICTURES.get(found[1]) if found else None


def pictures_of(figure: str) -> list[str]:
    """Names of the pictures that stand for a figure of a paper."""
    return [name for name, picture in PICTURES.items() if picture.shows == figure]
