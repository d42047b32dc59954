"""The rule by which a figure of the papers counts as reproduced.

A figure makes claims of two kinds: it states *numbers* and *orderings* (who does better than whom). All that we know of
are judged beside 95% intervals over seeds, but for one: how fast training is ("10x", on a poster; see notebook 05).

- A number **agrees** if our mean lies within a margin of it and our whole interval within twice that margin. The margin
  is a tenth of what the game offers in that cell: the distance between what always cooperate and always defect get
  there, or in Commons Harvest between the two ends by which the published scores are normalised. Only where the paper
  prints a larger error bar, or so few digits that their rounding is larger, is that taken; a verdict that hangs on that
  is marked.
- An ordering **holds** if the whole interval of the difference lies above zero. Where a paper shows pictures and no
  numbers, what they are taken to show is an ordering by measures of ours, and its source says so.
- A *control* is an ordering that no paper states, or that holds there by construction: who learned nothing would fail
  it. It can only cost a verdict.
- What is *ours*, an ordering that no paper states, and what follows *by the rules alone*, since only scripts play, is
  shown and decides nothing.
- With fewer than three seeds a claim tells nothing, whether it holds or fails.

| verdict | if |
|---|---|
| reproduced | every number agrees, every ordering holds, and none lacks our run |
| reproduced as far as compared | the same, but for some claims we have no run |
| numbers not reproduced, orderings hold | every ordering holds (there is one at least), some number does not agree |
| orderings reproduced, no numbers known | every ordering holds, and there is no number to compare |
| not reproduced | some ordering or control does not hold, or there are only numbers and one does not agree |
| cannot tell: fewer than 3 seeds | none of this fails, and some claim has fewer than three seeds |

A figure without a run gets no verdict but says why, and so does one for which we know of no claim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd

from aa_core.estimates import Estimate, show

TENTH, ENOUGH = 0.1, 3  # margin by the range of a cell; seeds
OURS, CONTROL = "ours", "control"  # sources of claims that no paper makes
BY_RULES = "by the rules alone"  # what a paper prints of scripts among themselves
SHOWN = (OURS, BY_RULES)  # and decide nothing


class Verdict(StrEnum):
    """What is said of a figure."""

    REPRODUCED = "reproduced"
    PARTLY = "reproduced as far as compared"
    OTHER_SCALE = "numbers not reproduced, orderings hold"
    NO_NUMBERS = "orderings reproduced, no numbers known"
    NOT_REPRODUCED = "not reproduced"
    FEW_SEEDS = f"cannot tell: fewer than {ENOUGH} seeds"
    NOT_STATED = "no claim known, ours are shown"
    ILLUSTRATION = "illustration, nothing to compare"
    NO_RUN = "no run yet"
    NEEDS_GPU = "needs GPUs"
    CLOSED_MODEL = "needs a closed model"


# whose seeds stand in which column of a table
SEEDS = (("algorithm", "seed"), ("agent", "seed"), ("row_agent", "row_seed"), ("column_agent", "column_seed"))


def last_third(updates: pd.Series | pd.Index) -> np.ndarray:
    """What a learner is judged on: which of its evaluations, by their updates, lie in the last third of training."""
    return np.asarray(3 * updates >= 2 * updates.max())


def first_seeds(table: pd.DataFrame, seeds: int | None) -> pd.DataFrame:
    """Rows of the first so many seeds of every agent in every game, whatever their numbers are; all rows for None."""
    for agent, seed in SEEDS if seeds else ():
        if {agent, seed} <= {*table}:
            whose = [name for name in ("game", agent) if name in table]
            table = table[table.groupby(whose)[seed].rank("dense") <= seeds]
    return table


@dataclass(frozen=True)
class Result:
    """A claim beside our runs."""

    what: str  # is claimed, in words
    ours: Estimate  # the number, or the difference that should be above zero
    source: str = ""  # where the claim can be seen; OURS, BY_RULES or CONTROL
    published: float | None = None  # the number; None: it is an ordering
    margin: float = 0.0  # of a number
    seeds: tuple[int, ...] = ()  # of the side that has fewest; none: nothing random
    read: str = ""  # at which updates
    longer: Estimate | None = None  # the same after longer training; None: not run
    longer_seeds: tuple[int, ...] = ()
    same_seeds: Estimate | None = None  # ours of the seeds that were trained longer, where these are fewer
    tenth: float = 0.0  # of what the game offers, where the margin is wider

    @property
    def passes(self) -> bool:
        """Whether the number agrees or the ordering holds."""
        mean, low, high = self.ours
        if self.published is None:
            return bool(low > 0)
        off, margin = abs(mean - self.published), self.margin + 1e-12
        reach = max(abs(low - self.published), abs(high - self.published))
        return bool(off <= margin and reach <= 2 * margin)  # not with NaN ends

    @property
    def reversed(self) -> bool:
        """Whether an ordering's whole interval lies below zero, by seeds enough to tell."""
        return self.published is None and self.settled and self.ours.high < 0

    @property
    def settled(self) -> bool:
        """Whether there are seeds enough to tell, or nothing is random."""
        return not self.seeds or (len(self.seeds) >= ENOUGH and not np.isnan(self.ours[1]))


def judge(results: Sequence[Result], missing: int = 0) -> Verdict:
    """Apply the rule of this module to one figure, of which `missing` more claims have no run."""
    deciding = [result for result in results if result.source not in SHOWN]
    stated = [result for result in deciding if result.source != CONTROL]
    if not stated:
        return Verdict.NO_RUN if missing else Verdict.NOT_STATED if results else Verdict.ILLUSTRATION
    orderings = [result for result in stated if result.published is None]
    failed = [result for result in deciding if not result.passes]
    if any(result.settled and (result.published is None or not orderings) for result in failed):
        return Verdict.NOT_REPRODUCED
    if not all(result.settled for result in deciding):
        return Verdict.FEW_SEEDS
    if failed:
        return Verdict.OTHER_SCALE
    if len(orderings) == len(stated):
        return Verdict.PARTLY if missing else Verdict.NO_NUMBERS
    return Verdict.PARTLY if missing else Verdict.REPRODUCED


def show_gap(estimate: Estimate, digits: int = 2, sign: str = "+") -> str:
    """An estimate as text, with as many decimals more as it takes that no end which is not zero looks like it."""
    while digits < 6 and any(end and round(end, digits) == 0 for end in estimate[1:]):
        digits += 1
    return show(estimate, digits=digits, sign=sign)


def beyond(estimate: Estimate, seeds: int, above: float = -np.inf, below: float = np.inf) -> dict[str, str | int]:
    """A row for a notebook's own claims: what was measured, and whether the whole interval lies beyond a threshold."""
    holds = "yes" if above < estimate.low and estimate.high < below else "no"
    return {
        "to show": f"> {above:g}" if above > -np.inf else f"< {below:g}", "measured": show(estimate), "seeds": seeds,
        "holds": "one seed: cannot tell" if np.isnan(estimate.low) else holds,
    }  # fmt: skip
