"""Learned memory-one policies against the strategies of the Axelrod library.

The library's own engine plays the matches; this module only adapts a table over STATES to its player class.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import axelrod as axl
import pandas as pd

TURNS = 200  # rounds of a match in Axelrod's first tournament


class Table(axl.MemoryOnePlayer):
    """A table of P(C | START, CC, CD, DC, DD) as a player of the library, which has no random first move of its own."""

    name = "Table"

    def __init__(self, cooperation: Sequence[float] = (0.5,) * 5) -> None:
        if len(cooperation) != 5 or not all(0 <= p <= 1 for p in cooperation):
            raise ValueError(f"cooperation must be five probabilities, for START, CC, CD, DC, DD, got {cooperation!r}")
        self.start = float(cooperation[0])
        super().__init__(four_vector=tuple(float(p) for p in cooperation[1:]))

    def _post_init(self) -> None:
        super()._post_init()
        # the library gives a generator to stochastic players only
        self.classifier["stochastic"] = any(0 < p < 1 for p in (self.start, *self._four_vector.values()))

    def strategy(self, opponent: axl.Player) -> axl.Action:
        """Next action, drawn by the generator of the match."""
        if self.history:
            return super().strategy(opponent)
        if self.start in (0.0, 1.0):
            return axl.Action.C if self.start else axl.Action.D
        return self._random.random_choice(self.start)


@cache  # it takes seconds
def field() -> list[type[axl.Player]]:
    """The library's strategies that take little time and do not cheat by reading or changing their opponent.

    Meta strategies are left out too: they play teams of the others and take most of the time.
    """
    barred = ("long_run_time", "inspects_source", "manipulates_source", "manipulates_state")
    fair = [player for player in axl.strategies if not any(axl.Classifiers[trait](player()) for trait in barred)]
    return [player for player in fair if not issubclass(player, axl.MetaPlayer)]


def play_field(
    cooperation: Sequence[float],
    opponents: Sequence[type[axl.Player]],
    seed: int,
    repetitions: int = 1,
    turns: int = TURNS,
) -> pd.DataFrame:
    """Play five probabilities, in the order of STATES, against every opponent: `repetitions` matches of `turns` rounds.

    Only one match if the table and the opponent are both deterministic; payoffs per turn are Axelrod's 3, 0, 5, 1.
    Rows of opponent, score, opponent_score (per turn), cooperation, opponent_cooperation (rates).
    """
    deterministic_table = all(p in (0.0, 1.0) for p in cooperation)
    rows = []
    for index, opponent in enumerate(opponents):
        stochastic = not deterministic_table or axl.Classifiers["stochastic"](opponent())
        results = []
        for repetition in range(repetitions if stochastic else 1):
            match_seed = (seed * 1_000_003 + index * 1009 + repetition) % 2**32
            match = axl.Match((Table(cooperation), opponent()), turns=turns, seed=match_seed)
            match.play()
            results.append((*match.final_score_per_turn(), *match.normalised_cooperation()))
        rows.append((opponent.name, *(sum(column) / len(results) for column in zip(*results, strict=True))))
    columns = ["opponent", "score", "opponent_score", "cooperation", "opponent_cooperation"]
    return pd.DataFrame(rows, columns=columns)
