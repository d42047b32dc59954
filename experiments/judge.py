"""The rule by which a figure of the papers counts as reproduced.

A figure makes claims of two kinds: it prints *numbers*, and it shows *orderings* (who does better than whom). Both are
compared with our runs through 95% intervals over seeds.

- A published number **agrees** if it lies in our interval widened by a margin on both sides. The margin is `MARGIN`,
  the criterion of the Coin Game league in notebook 05, on scales where cooperation and defection are 0.3 to 1 apart; or
  the error bar that the paper prints, where it prints a larger one. A number in units that are not ours has no margin
  and never agrees.
- An ordering **holds** if the interval of the difference lies above zero.

| verdict | if |
|---|---|
| reproduced | every ordering holds, every number agrees |
| same ordering, other scale | every ordering holds (there is one at least), some number does not agree |
| same ordering, no published numbers | every ordering holds, and we have no number to compare |
| not reproduced | some ordering does not hold, or there are only numbers and one does not agree |
| one seed: cannot tell | as the line before, where all that fails rests on a single seed |

A figure that we have no run of gets no verdict but says why: `NO_RUN`, `NEEDS_GPU`, `CLOSED_MODEL`; one that claims
nothing (a sample game) is an `ILLUSTRATION`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from aa_core.estimates import Estimate

MARGIN = 0.05

REPRODUCED = "reproduced"
OTHER_SCALE = "same ordering, other scale"
NO_NUMBERS = "same ordering, no published numbers"
NOT_REPRODUCED = "not reproduced"
ONE_SEED = "one seed: cannot tell"
ILLUSTRATION = "illustration, nothing to compare"
NO_RUN = "no run yet"
NEEDS_GPU = "needs GPUs"
CLOSED_MODEL = "needs a closed model"
VERDICTS = (
    REPRODUCED, OTHER_SCALE, NO_NUMBERS, NOT_REPRODUCED, ONE_SEED, ILLUSTRATION, NO_RUN, NEEDS_GPU, CLOSED_MODEL,
)  # fmt: skip


@dataclass(frozen=True)
class Number:
    """A published number beside ours; margin None: the paper's units are not ours; `source`: where it can be seen."""

    what: str
    ours: Estimate
    published: float
    margin: float | None = MARGIN
    source: str = ""

    def __post_init__(self) -> None:
        if self.margin is not None and not self.margin >= 0:
            raise ValueError(f"margin must be None or at least 0, got {self.margin!r}")

    @property
    def agrees(self) -> bool:
        """Whether the published number lies in our widened interval."""
        _, low, high = self.ours
        return self.margin is not None and bool(low - self.margin <= self.published <= high + self.margin)


@dataclass(frozen=True)
class Ordering:
    """Something that a figure shows to be larger than something else, the difference in our runs, where it is seen."""

    what: str
    gap: Estimate
    source: str = ""

    @property
    def holds(self) -> bool:
        """Whether the whole interval of the difference lies above zero."""
        return bool(self.gap[1] > 0)


class Verdict(NamedTuple):
    """What the rule says, and what stood in the way of "reproduced"."""

    verdict: str
    failed: tuple[str, ...] = ()


def judge(numbers: Sequence[Number], orderings: Sequence[Ordering]) -> Verdict:
    """Apply the rule of this module to one figure; `ILLUSTRATION` if it claims nothing."""
    if not numbers and not orderings:
        return Verdict(ILLUSTRATION)
    disagree = [number for number in numbers if not number.agrees]
    fail = [ordering for ordering in orderings if not ordering.holds]
    failed = tuple(claim.what for claim in (*fail, *disagree))
    if fail or (disagree and not orderings):
        estimates = [claim.gap for claim in fail] or [claim.ours for claim in disagree]
        return Verdict(ONE_SEED if all(np.isnan(low) for _, low, _ in estimates) else NOT_REPRODUCED, failed)
    if not numbers:
        return Verdict(NO_NUMBERS)
    return Verdict(OTHER_SCALE if disagree else REPRODUCED, failed)
