"""What every text game has: texts for two players, replies that are read into actions, rounds that are scored."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar, NamedTuple

from aa_core.checks import check, check_choice, check_that

QUANTITY = 10  # units of each item, coins, and the largest claim
HIGH, LOW = 10, 1  # the two values that a unit can have
# Patterns use nothing that engines for guided decoding lack: no flags, no look-around, no unbounded repetition.
NUMBER = "(?:10|[0-9])"
FLAGS = re.IGNORECASE | re.ASCII  # ASCII: no exotic letter or digit counts as one of ours
MANY_ROUNDS = "You play a game of many rounds with one other player."
SHARE_RULE = (
    f"If the two proposals sum to {QUANTITY} or less, each player gets what it proposed. "
    f"If they sum to more, the {QUANTITY} are split in proportion to them."
)
GOAL = "Your goal is to get as many points as you can."


class ParseError(ValueError):
    """A reply that is no action; the text says what came and what was expected."""

    def __init__(self, expected: str, reply: str = "") -> None:
        came = repr(reply) if len(reply) <= 60 else f"{reply[:60]!r}... ({len(reply)} characters)"
        super().__init__(f"{expected}, got {came}")


def one_line(text: str) -> str:
    """A player's words as they may be shown to the other: without line breaks, unseen marks or brackets."""
    check(text=text)  # so no message looks like lines of the game, or like a mark of a chat template such as [INST]
    seen = "".join(mark if mark.isprintable() else " " for mark in text)
    return " ".join(seen.translate(str.maketrans("[]{}<>", "()()()")).split())


class ParseErrorRecord(NamedTuple):
    """A reply that could not be read, as kept in `TextGame.errors`."""

    round: int
    player: int
    message: str


@dataclass(frozen=True)
class Turn:
    """What a player is shown now; parsers also take more white space than the pattern, and (but in `ipd`) any case."""

    player: int  # 0 or 1
    text: str  # to be added to the player's chat; after a turn without reply two texts follow each other
    reply: bool  # whether an answer is expected
    pattern: str  # regular expression of a valid reply in full, for guided decoding; "" if no answer is expected


def proportional_split(first: float, second: float, quantity: float = QUANTITY) -> tuple[float, float]:
    """q_i = quantity p_i / max(quantity, p_1 + p_2), what each gets of an item; low claims waste the rest."""
    check(first=first, second=second, quantity=quantity)
    total = max(quantity, first + second)
    return quantity * first / total, quantity * second / total


class TextGame(ABC):
    """A repeated game of two players who write text.

    Args:
        seed: at least 0; every draw of the environment comes from it.
        rounds: length of the game, which players are not told.
        on_error: the game's own `fallback` scores an unreadable reply; "raise" refuses it.
        show_rules: whether the first text opens with `rules`.
    """

    name: ClassVar[str]
    fallback: ClassVar[str]
    quoted: ClassVar[int] = 0  # characters of replies that the other player is shown in a round, at most
    pattern: str  # regular expression of a valid reply in the present phase
    rules: str  # of the game, in full
    num_players = 2

    def __init__(self, seed: int, rounds: int, on_error: str, show_rules: bool) -> None:
        check(seed=seed, rounds=rounds)
        check_choice("on_error", on_error, (self.fallback, "raise"))
        self.seed, self.rounds, self.on_error, self.show_rules = int(seed), int(rounds), on_error, show_rules
        self.rewards: list[tuple[float, float]] = []  # both players' points, one pair per finished round
        self.actions: list[tuple[Any, Any]] = []  # and their actions, as they were scored
        self.errors: list[ParseErrorRecord] = []  # every reply that could not be read
        # `players.play` keeps here what one has replied in this phase, and texts that it has shown nobody yet
        self.said: dict[int, str] = {}
        self.untold: dict[int, str] = {}

    @property
    def round(self) -> int:
        """Index of the present round; `rounds` when the game is over."""
        return len(self.rewards)

    @property
    def done(self) -> bool:
        """Whether all rounds are played."""
        return self.round >= self.rounds

    @property
    def awaited(self) -> tuple[int, ...]:
        """The players who have to reply now."""
        return () if self.done else (0, 1)

    def turns(self) -> list[Turn]:
        """What each player is shown in the present phase, in player order; nothing when the game is over."""
        if self.done:
            return []
        asked = self.awaited
        return [Turn(p, self._text(p).strip(), p in asked, self.pattern if p in asked else "") for p in (0, 1)]

    def submit(self, replies: Mapping[int, str]) -> None:
        """Take the replies of exactly the players who had to reply, and go on to the next phase.

        ValueError for wrong players, a reply that is no string, or a game that is over; with `on_error="raise"` a
        ParseError for an unreadable reply, and the game stays where it was.
        """
        check_that(not self.done, "replies", "for a game that goes on, this one is over", replies)
        fits = isinstance(replies, Mapping) and set(replies) == set(self.awaited)
        fits = fits and all(isinstance(reply, str) for reply in replies.values())
        check_that(fits, "replies", f"one string for each of the players {self.awaited}", replies)
        read, errors = {}, []
        for player in self.awaited:
            try:
                read[player] = self.parse(replies[player])
            except ParseError as error:
                if self.on_error == "raise":
                    error.args = (f"player {player}: {error}",)
                    raise
                errors.append(ParseErrorRecord(self.round, player, str(error)))
                read[player] = self._unread()
        self.errors += errors
        self._advance(read)

    def record(self, index: int = -1) -> dict[str, Any]:
        """A finished round as a plain dict; whatever belongs to the players is a pair."""
        check_that(isinstance(index, int), "index", "an integer", index)
        index = range(self.round)[index]  # IndexError if that round is not finished
        errors = tuple(sum(e.round == index and e.player == player for e in self.errors) for player in (0, 1))
        common = {"game": self.name, "seed": self.seed, "round": index, "actions": self.actions[index]}
        return common | {"rewards": self.rewards[index], "errors": errors} | self._metrics(index)

    def news(self, player: int) -> str:
        """What `player` is told before it acts: the rules (or nothing) in the first round, then `recap`."""
        check(player=player)
        return self.recap(player) if self.rewards else self.rules if self.show_rules else ""

    @abstractmethod
    def recap(self, player: int) -> str:
        """What `player` is told about the last finished round."""

    def problem(self, reply: str) -> str | None:
        """Why a reply cannot be read now; None if it can."""
        check(reply=reply)
        try:
            self.parse(reply)
        except ParseError as error:
            return str(error)
        return None

    @abstractmethod
    def parse(self, reply: str) -> Any:
        """Read a reply as the present phase does, without playing it; `ParseError` if it is unreadable."""

    @abstractmethod
    def _unread(self) -> Any:
        """What an unreadable reply counts as in the present phase."""

    @abstractmethod
    def _text(self, player: int) -> str: ...

    @abstractmethod
    def _advance(self, read: dict[int, Any]) -> None: ...

    @abstractmethod
    def _metrics(self, index: int) -> dict[str, Any]: ...


TextScript = Callable[[Any, int, Random | None], str]
"""A scripted player: (game, player, rng) to the text of a reply; only "random" uses `rng`."""


def need_rng(rng: Random | None) -> Random:
    """`rng`, or a ValueError that says that one is needed."""
    check(rng=rng)
    return rng
