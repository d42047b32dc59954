"""The iterated prisoner's dilemma in text, under neutral labels, and its scripted players."""

from __future__ import annotations

from random import Random
from typing import Any

from aa_core.games.matrix import C, D
from aa_core.games.text.base import MANY_ROUNDS, ParseError, TextGame, TextScript, need_rng


class IPDTextGame(TextGame):
    """Iterated prisoner's dilemma under neutral labels, both players at once.

    The first text gives the rules, or only asks for a choice; later ones give only the other's last move: no counter,
    no horizon, no goal, no points. Actions are C and D. The game draws nothing; `seed` names the group.

    Arguments are those of `TextGame`. `on_error` is "defect", the paper's rule: an unreadable reply counts as D, and
    the other player is shown the label of D (never the reply, which could imitate the game); or "raise".
    """

    name = "ipd"
    fallback = "defect"
    payoffs: tuple[float, ...] = (3, 0, 5, 1)  # of CC, CD, DC, DD, own action first
    labels = ("<A>", "<B>")  # what C and D are called
    pattern = "(?:<A>|<B>)"

    def __init__(self, seed: int, rounds: int = 10, on_error: str = "defect", show_rules: bool = True) -> None:
        super().__init__(seed, rounds, on_error, show_rules)

    @property
    def rules(self) -> str:  # type: ignore[override]
        """Both players' points for every pair of choices."""
        (a, b), (R, S, T, P) = self.labels, self.payoffs
        lines = [f"{MANY_ROUNDS} In each round both players choose {a} or {b} at the same time."]
        for own, other, mine, yours in ((a, a, R, R), (a, b, S, T), (b, a, T, S), (b, b, P, P)):
            points = f"your points are {mine:g} and its points are {yours:g}."
            lines.append(f"If you choose {own} and the other player chooses {other}, {points}")
        return "\n".join([*lines, f"Reply with {a} or {b} and nothing else."])

    def parse(self, reply: str) -> int:
        """C or D from exactly one of the two labels; white space around it is ignored."""
        a, b = self.labels
        if reply.strip() not in self.labels:
            raise ParseError(f"a move must be {a} or {b} and nothing else", reply)
        return (C, D)[self.labels.index(reply.strip())]

    def recap(self, player: int) -> str:
        """The other's last move."""
        return f"The other player chose {self.labels[self.actions[-1][1 - player]]}."

    def _unread(self) -> int:
        return D

    def _text(self, player: int) -> str:
        ask = "" if self.rewards else f" Choose {self.labels[0]} or {self.labels[1]}."
        return f"{self.news(player)}{ask}"

    def _advance(self, read: dict[int, int]) -> None:
        first, second = read[0], read[1]
        self.actions.append((first, second))
        self.rewards.append((self.payoffs[2 * first + second], self.payoffs[2 * second + first]))

    def _metrics(self, index: int) -> dict[str, Any]:
        return {"cooperation": tuple(float(action == C) for action in self.actions[index])}


def cooperate(game: IPDTextGame, player: int, rng: Random | None = None) -> str:
    """Always C."""
    return game.labels[C]


def defect(game: IPDTextGame, player: int, rng: Random | None = None) -> str:
    """Always D."""
    return game.labels[D]


def tit_for_tat(game: IPDTextGame, player: int, rng: Random | None = None) -> str:
    """C, then what the other did last."""
    return game.labels[game.actions[-1][1 - player] if game.actions else C]


def at_random(game: IPDTextGame, player: int, rng: Random | None = None) -> str:
    """C or D with equal chance."""
    return need_rng(rng).choice(game.labels)


SCRIPTS: dict[str, TextScript] = dict(cooperate=cooperate, defect=defect, tit_for_tat=tit_for_tat, random=at_random)
