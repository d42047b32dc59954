"""Split, where two players who see all values propose how to share, and its scripted players."""

from __future__ import annotations

import re
from itertools import permutations
from random import Random
from typing import Any

from aa_core.games.text import base
from aa_core.games.text.base import HIGH, LOW, QUANTITY, ParseError, TextGame, TextScript, need_rng, proportional_split

ITEMS = ("hats", "books", "balls")
_LISTS = (
    "(?: ?, ?| )".join(f"{base.NUMBER} {item}?" for item in order)  # hats?, books?, balls?: singular or plural
    for size in range(len(ITEMS), 0, -1)
    for order in permutations(ITEMS, size)
)
SPLIT_PATTERN = f"Proposal ?: ?(?:{'|'.join(_LISTS)})"


class SplitTextGame(TextGame):
    """Split without communication: both propose at once how to split hats, books and balls, 10 of each.

    Values are the paper's "10-1-ties": per player and item 1 or 10, drawn again until the two players' values differ
    somewhere and have equal sums. That leaves 12 equally likely profiles, each with one item that player 0 values more,
    one that player 1 values more and one tied. Both see all values. The recap tells both proposals and points; that
    round's values stand further up in the chat. How many items a proposal claims in all is our addition: a tiny model
    cannot add. The texts round points to whole numbers; `rewards` are exact. An action is a tuple of claims in the
    order of ITEMS. `values` holds, for each round, both players' values of ITEMS, which `seed` draws.

    Arguments are those of `TextGame`. `on_error` is "zero", the paper's rule: an unreadable proposal claims nothing at
    all; or "raise".
    """

    name = "split"
    fallback = "zero"
    pattern = SPLIT_PATTERN

    def __init__(self, seed: int, rounds: int = 10, on_error: str = "zero", show_rules: bool = True) -> None:
        super().__init__(seed, rounds, on_error, show_rules)
        rng = Random(self.seed)
        self.values = [self._draw(rng) for _ in range(rounds)]

    @staticmethod
    def _draw(rng: Random) -> tuple[tuple[int, ...], tuple[int, ...]]:
        while True:
            first, second = (tuple(rng.choice((LOW, HIGH)) for _ in ITEMS) for _ in range(2))
            if first != second and sum(first) == sum(second):
                return first, second

    @property
    def rules(self) -> str:  # type: ignore[override]
        """What is split, and how."""
        return (
            f"{base.MANY_ROUNDS} In each round you split {_items((QUANTITY,) * 3)}. "
            "Both players see what an item is worth to each of them; that changes in each round.\n"
            f"Both propose at the same time how many of each item they want. For each item: {base.SHARE_RULE} "
            f"Each item that you get is worth its value in points. {base.GOAL}\n"
            f"Reply in this form: Proposal: x hats, y books, z balls. Each number is from 0 to {QUANTITY}."
        )

    def parse(self, reply: str) -> tuple[int, ...]:
        """Claims on ITEMS from "Proposal: 10 hats, 0 books, 5 balls".

        Any case, any order, singular or plural, commas optional; an item that is not named is claimed 0 times.
        """
        plain = " ".join(reply.split())
        if not re.fullmatch(SPLIT_PATTERN, plain, base.FLAGS):
            raise ParseError(
                f"a proposal must be 'Proposal: x hats, y books, z balls', each number from 0 to {QUANTITY}, each item "
                "at most once and nothing else",
                reply,
            )
        named = re.findall("([0-9]+) (hat|book|ball)", plain, base.FLAGS)
        claims = {item.lower(): int(number) for number, item in named}
        return tuple(claims.get(item[:-1], 0) for item in ITEMS)

    def recap(self, player: int) -> str:
        """Both proposals and points."""
        claims, points, other = self.actions[-1], self.rewards[-1], 1 - player
        return (
            f"You proposed {_items(claims[player])}, {sum(claims[player])} in all. "
            f"The other player proposed {_items(claims[other])}, {sum(claims[other])} in all. "
            f"You got {points[player]:.0f} points, the other player {points[other]:.0f}."
        )

    def _unread(self) -> tuple[int, ...]:
        return (0,) * len(ITEMS)

    def _text(self, player: int) -> str:
        own, other = (
            ", ".join(f"{item} {value}" for item, value in zip(ITEMS, self.values[self.round][p], strict=True))
            for p in (player, 1 - player)
        )
        return f"{self.news(player)}\nYour values are {own}. The other player has {other}. Write your proposal."

    def _advance(self, read: dict[int, tuple[int, ...]]) -> None:
        shares = [proportional_split(*claims) for claims in zip(read[0], read[1], strict=True)]
        points = (
            sum(share[player] * value for share, value in zip(shares, self.values[self.round][player], strict=True))
            for player in (0, 1)
        )
        self.actions.append((read[0], read[1]))
        self.rewards.append(tuple(points))  # type: ignore[arg-type]

    def _metrics(self, index: int) -> dict[str, Any]:
        values, claims = self.values[index], self.actions[index]

        def claim(player: int, sign: int) -> float:
            """Claim on the one item that `player` values more (sign 1) or less (-1) than the other does."""
            differences = [sign * (own - other) for own, other in zip(values[player], values[1 - player], strict=True)]
            return float(claims[player][differences.index(HIGH - LOW)])

        return {
            "values": values,
            "claim_higher": (claim(0, 1), claim(1, 1)),
            "claim_lower": (claim(0, -1), claim(1, -1)),
            "efficiency": sum(self.rewards[index]) / (QUANTITY * sum(map(max, *values))),
        }


def _items(numbers: tuple[int, ...]) -> str:
    return ", ".join(f"{number} {item}" for number, item in zip(numbers, ITEMS, strict=True))


def proposal(claims: tuple[int, ...]) -> str:
    """The reply that claims so many of each item."""
    return f"Proposal: {_items(claims)}"


def _welfare_claims(own: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    """10 of what one values more, 0 of what the other does, 5 of ties."""
    return tuple(
        QUANTITY if mine > yours else 0 if mine < yours else QUANTITY // 2
        for mine, yours in zip(own, other, strict=True)
    )


def greedy(game: SplitTextGame, player: int, rng: Random | None = None) -> str:
    """All of everything."""
    return proposal((QUANTITY,) * 3)


def welfare(game: SplitTextGame, player: int, rng: Random | None = None) -> str:
    """The paper's cooperative player: 10 of what it values more than the other, 0 of what it values less, 5 of ties."""
    values = game.values[game.round]
    return proposal(_welfare_claims(values[player], values[1 - player]))


def tit_for_tat(game: SplitTextGame, player: int, rng: Random | None = None) -> str:
    """Welfare, but greedy after a round in which the other claimed more of any item than welfare does."""
    if game.actions:
        values, other = game.values[game.round - 1], 1 - player
        fair = _welfare_claims(values[other], values[player])
        if any(claim > limit for claim, limit in zip(game.actions[-1][other], fair, strict=True)):
            return greedy(game, player)
    return welfare(game, player)


def at_random(game: SplitTextGame, player: int, rng: Random | None = None) -> str:
    """Every claim uniform over 0..10."""
    return proposal(tuple(need_rng(rng).randint(0, QUANTITY) for _ in ITEMS))


SCRIPTS: dict[str, TextScript] = dict(welfare=welfare, greedy=greedy, tit_for_tat=tit_for_tat, random=at_random)
