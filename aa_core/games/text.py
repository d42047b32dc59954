"""The text games of the LLM paper (arXiv 2511.19405): iterated prisoner's dilemma, Split, Trust-and-Split.

A game shows each player a text, takes the replies, parses them into actions and scores them:

    game = make_text_game("split", seed=7)
    while not game.done:
        turns = game.turns()
        game.submit({turn.player: answer(turn) for turn in turns if turn.reply})

Every draw of a game (values, hands, first speaker) is made from `seed` at construction, before any reply. Games of one
seed and one length therefore differ in nothing but what the players say: they are a *group*, over which the
group-relative baseline averages. Nothing that a player replies makes a game crash: see `on_error` of each game.

The prompts are ours, not the paper's: short sentences over a small vocabulary, so that a tiny model can read them too.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from random import Random
from typing import Any, ClassVar

from aa_core.checks import check_choice
from aa_core.games.matrix import C, D

QUANTITY = 10  # units of each item, coins, and the largest claim
HIGH, LOW = 10, 1  # the two values that a unit can have
ITEMS = ("hats", "books", "balls")
HANDS = ("rock", "paper", "scissors")
BEATS = {"rock": "scissors", "scissors": "paper", "paper": "rock"}
MESSAGE_LIMIT = 500  # characters

# Patterns use nothing that engines for guided decoding lack: no flags, no look-around, no unbounded repetition.
_NUMBER = "(?:10|[0-9])"
_LISTS = (
    "(?: ?, ?| )".join(f"{_NUMBER} {item}?" for item in order)  # hats?, books?, balls?: singular or plural
    for size in range(len(ITEMS), 0, -1)
    for order in permutations(ITEMS, size)
)
SPLIT_PATTERN = f"Proposal ?: ?(?:{'|'.join(_LISTS)})"
MESSAGE_PATTERN = f"<<message_start>> ?[^<>]{{0,{MESSAGE_LIMIT}}} ?<<message_end>>"
COINS_PATTERN = f"<<proposal_start>> ?{_NUMBER} ?<<proposal_end>>"
_FLAGS = re.IGNORECASE | re.ASCII  # ASCII: no exotic letter or digit counts as one of ours

MANY_ROUNDS = "You play a game of many rounds with one other player."
SHARE_RULE = (
    f"If the two proposals sum to {QUANTITY} or less, each player gets what it proposed. "
    f"If they sum to more, the {QUANTITY} are split in proportion to them."
)
GOAL = "Your goal is to get as many points as you can."


class ParseError(ValueError):
    """A reply that is no action; the text says what came and what was expected."""


@dataclass(frozen=True)
class ParseErrorRecord:
    """A reply that could not be read, as kept in `TextGame.errors`."""

    round: int
    player: int
    message: str


@dataclass(frozen=True)
class Turn:
    """What a player is shown now.

    Attributes:
        player: 0 or 1.
        text: to be added to the player's chat; after a turn without reply two texts follow each other.
        reply: whether an answer is expected.
        pattern: regular expression of a valid reply in full, for guided decoding; "" if no answer is expected. The
            parsers also accept more white space and (but for the prisoner's dilemma) any case.
    """

    player: int
    text: str
    reply: bool
    pattern: str


# --- parsing: reply to action, knows nothing of scores


def _excerpt(reply: str) -> str:
    return repr(reply) if len(reply) <= 60 else f"{reply[:60]!r}... ({len(reply)} characters)"


def parse_move(reply: str, labels: tuple[str, str] = ("<A>", "<B>")) -> int:
    """C or D from exactly one of the two labels; white space around it is ignored.

    Raises:
        ParseError: anything else.
    """
    if reply.strip() not in labels:
        raise ParseError(f"a move must be {labels[0]} or {labels[1]} and nothing else, got {_excerpt(reply)}")
    return (C, D)[labels.index(reply.strip())]


def parse_split(reply: str) -> tuple[int, ...]:
    """Claims on ITEMS from "Proposal: 10 hats, 0 books, 5 balls".

    Any case, any order, singular or plural, commas optional; an item that is not named is claimed 0 times.

    Raises:
        ParseError: another form, a number outside 0..10, an item named twice.
    """
    words = " ".join(reply.split())
    if not re.fullmatch(SPLIT_PATTERN, words, _FLAGS):
        raise ParseError(
            "a proposal must be 'Proposal: x hats, y books, z balls', each number from 0 to 10, each item at most once "
            f"and nothing else, got {_excerpt(reply)}"
        )
    claims = {item.lower(): int(number) for number, item in re.findall("([0-9]+) (hat|book|ball)", words, _FLAGS)}
    return tuple(claims.get(item[:-1], 0) for item in ITEMS)


def parse_message(reply: str) -> str:
    """The text between the message tags, without the white space around it.

    The text must not contain < or >, so that no message can pretend to be a tag.

    Raises:
        ParseError: a missing tag, anything outside the tags, < or > inside, a text above MESSAGE_LIMIT characters.
    """
    text = reply.strip().encode(errors="replace").decode()  # half of a surrogate pair would break a tokenizer later on
    if not re.fullmatch(MESSAGE_PATTERN, text, _FLAGS):
        raise ParseError(
            f"a message must be '<<message_start>> text <<message_end>>' and nothing else, the text without < and > "
            f"and of at most {MESSAGE_LIMIT} characters, got {_excerpt(reply)}"
        )
    return text[len("<<message_start>>") : -len("<<message_end>>")].strip()


def parse_coins(reply: str) -> int:
    """The number of coins between the proposal tags.

    Raises:
        ParseError: a missing tag, anything outside the tags, no integer in 0..10 between them.
    """
    if not re.fullmatch(COINS_PATTERN, " ".join(reply.split()), _FLAGS):
        raise ParseError(
            f"a proposal must be '<<proposal_start>> x <<proposal_end>>' with x from 0 to {QUANTITY} and nothing else, "
            f"got {_excerpt(reply)}"
        )
    return int(re.search("[0-9]+", reply)[0])


# --- scoring


def proportional_split(first: float, second: float, quantity: float = QUANTITY) -> tuple[float, float]:
    """q_i = quantity p_i / max(quantity, p_1 + p_2), what each gets of an item; low claims waste the rest."""
    total = max(quantity, first + second)
    return quantity * first / total, quantity * second / total


class TextGame(ABC):
    """A repeated game of two players who write text.

    Attributes:
        rounds: length of the game, which players are not told.
        rewards: both players' points, one pair per finished round.
        actions: both players' actions as they were scored, one pair per finished round.
        errors: every reply that could not be read.
    """

    name: ClassVar[str]
    fallback: ClassVar[str]  # value of `on_error` that scores an unreadable reply, beside "raise"
    num_players = 2

    def __init__(self, seed: int, rounds: int, on_error: str) -> None:
        if not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed must be an integer of at least 0, got {seed!r}")
        if not isinstance(rounds, int) or rounds < 1:
            raise ValueError(f"rounds must be a positive integer, got {rounds!r}")
        check_choice("on_error", on_error, (self.fallback, "raise"))
        self.seed, self.rounds, self.on_error = seed, rounds, on_error
        self.rewards: list[tuple[float, float]] = []
        self.actions: list[tuple[Any, Any]] = []
        self.errors: list[ParseErrorRecord] = []

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
        return [
            Turn(player, self._text(player), player in self.awaited, self.pattern if player in self.awaited else "")
            for player in (0, 1)
        ]

    def submit(self, replies: Mapping[int, str]) -> None:
        """Take the replies of exactly the players who had to reply, and go on to the next phase.

        Raises:
            ValueError: wrong players, a reply that is no string, or the game is over.
            ParseError: an unreadable reply, only with `on_error="raise"`; the game stays where it was.
        """
        if self.done:
            raise ValueError("replies cannot be taken, the game is over")
        if set(replies) != set(self.awaited) or not all(isinstance(reply, str) for reply in replies.values()):
            came = {player: type(reply).__name__ for player, reply in replies.items()}
            raise ValueError(f"replies must hold one string for each of the players {self.awaited}, got {came}")
        read, errors = {}, []
        for player in self.awaited:
            try:
                read[player] = self.parse(replies[player])
            except ParseError as error:
                if self.on_error == "raise":
                    raise ParseError(f"player {player}: {error}") from error
                errors.append(ParseErrorRecord(self.round, player, str(error)))
                read[player] = self._unread()
        self.errors += errors
        self._advance(read)

    def record(self, index: int = -1) -> dict[str, Any]:
        """A finished round as a plain dict; whatever belongs to the players is a pair."""
        index = range(self.round)[index]  # IndexError if that round is not finished
        errors = tuple(sum(e.round == index and e.player == player for e in self.errors) for player in (0, 1))
        common = {"game": self.name, "seed": self.seed, "round": index, "actions": self.actions[index]}
        return common | {"rewards": self.rewards[index], "errors": errors} | self._metrics(index)

    def recap(self, player: int) -> str:
        """What `player` is told about the last finished round; "" before the first is finished."""
        return self._recap(player) if self.rewards else ""

    @property
    @abstractmethod
    def pattern(self) -> str:
        """Regular expression of a valid reply in the present phase."""

    @abstractmethod
    def parse(self, reply: str) -> Any:
        """Read a reply as the present phase does, without playing it; for trying again before `submit`.

        Raises:
            ParseError: unreadable.
        """

    @abstractmethod
    def _unread(self) -> Any:
        """What an unreadable reply counts as in the present phase."""

    @abstractmethod
    def _text(self, player: int) -> str: ...

    @abstractmethod
    def _recap(self, player: int) -> str: ...

    @abstractmethod
    def _advance(self, read: dict[int, Any]) -> None: ...

    @abstractmethod
    def _metrics(self, index: int) -> dict[str, Any]: ...


class IPDTextGame(TextGame):
    """Iterated prisoner's dilemma under neutral labels, both players at once.

    The first text gives the rules, later ones only the other's last move: no counter, no horizon, no goal, no points.
    Actions are C and D. The game draws nothing, so `seed` only names the group.

    Args:
        seed: at least 0.
        rounds: length.
        payoffs: reward (CC), sucker (CD), temptation (DC), punishment (DD), own action first.
        labels: what C and D are called.
        on_error: "defect", the paper's rule: an unreadable reply counts as D, and the other player is shown the label
            of D (never the reply, which could be of any length or imitate the game); or "raise".
    """

    name = "ipd"
    fallback = "defect"

    def __init__(
        self,
        seed: int,
        rounds: int = 10,
        payoffs: tuple[float, float, float, float] = (3, 0, 5, 1),
        labels: tuple[str, str] = ("<A>", "<B>"),
        on_error: str = "defect",
    ) -> None:
        super().__init__(seed, rounds, on_error)
        if len(payoffs) != 4 or not all(isinstance(x, int | float) and math.isfinite(x) for x in payoffs):
            raise ValueError(f"payoffs must be four finite numbers, for CC, CD, DC and DD, got {payoffs!r}")
        if len(set(labels)) != 2 or not all(label and label == label.strip() for label in labels):
            raise ValueError(f"labels must be two different words, got {labels!r}")
        self.payoffs, self.labels = tuple(payoffs), tuple(labels)

    @property
    def pattern(self) -> str:
        """One of the two labels."""
        return f"(?:{'|'.join(map(re.escape, self.labels))})"

    def parse(self, reply: str) -> int:
        """See `parse_move`."""
        return parse_move(reply, self.labels)

    def _unread(self) -> int:
        return D

    def _text(self, player: int) -> str:
        a, b = self.labels
        if self.round:
            return self.recap(player)
        R, S, T, P = self.payoffs
        return (
            f"{MANY_ROUNDS} In each round both players choose {a} or {b} at the same time.\n"
            f"If you choose {a} and the other player chooses {a}, your points are {R:g} and its points are {R:g}.\n"
            f"If you choose {a} and the other player chooses {b}, your points are {S:g} and its points are {T:g}.\n"
            f"If you choose {b} and the other player chooses {a}, your points are {T:g} and its points are {S:g}.\n"
            f"If you choose {b} and the other player chooses {b}, your points are {P:g} and its points are {P:g}.\n"
            f"Reply with {a} or {b} and nothing else. Choose {a} or {b}."
        )

    def _recap(self, player: int) -> str:
        return f"The other player chose {self.labels[self.actions[-1][1 - player]]}."

    def _advance(self, read: dict[int, int]) -> None:
        first, second = read[0], read[1]
        self.actions.append((first, second))
        self.rewards.append((self.payoffs[2 * first + second], self.payoffs[2 * second + first]))

    def _metrics(self, index: int) -> dict[str, Any]:
        return {"cooperation": tuple(float(action == C) for action in self.actions[index])}


class SplitTextGame(TextGame):
    """Split without communication: both propose at once how to split hats, books and balls, 10 of each.

    Values are the paper's "10-1-ties": per player and item 1 or 10, drawn again until the two players' values differ
    somewhere and have equal sums. That leaves 12 equally likely profiles, each with one item that player 0 values more,
    one that player 1 values more and one tied. Both see all values. The recap tells both proposals and points; that
    round's values stand further up in the chat. How many items a proposal claims in all is our addition: a tiny model
    cannot add. The texts round points to whole numbers; `rewards` are exact. An action is a tuple of claims in the
    order of ITEMS.

    Args:
        seed: at least 0; draws the values.
        rounds: length.
        on_error: "zero", the paper's rule: an unreadable proposal claims nothing at all; or "raise".

    Attributes:
        values: for each round, both players' values of ITEMS.
    """

    name = "split"
    fallback = "zero"
    pattern = SPLIT_PATTERN

    def __init__(self, seed: int, rounds: int = 10, on_error: str = "zero") -> None:
        super().__init__(seed, rounds, on_error)
        rng = Random(seed)
        self.values = [self._draw(rng) for _ in range(rounds)]

    @staticmethod
    def _draw(rng: Random) -> tuple[tuple[int, ...], tuple[int, ...]]:
        while True:
            first, second = (tuple(rng.choice((LOW, HIGH)) for _ in ITEMS) for _ in range(2))
            if first != second and sum(first) == sum(second):
                return first, second

    def parse(self, reply: str) -> tuple[int, ...]:
        """See `parse_split`."""
        return parse_split(reply)

    def _unread(self) -> tuple[int, ...]:
        return (0,) * len(ITEMS)

    def _text(self, player: int) -> str:
        intro = (
            f"{MANY_ROUNDS} In each round you split {_items((QUANTITY,) * 3)}. "
            "Both players see what an item is worth to each of them; that changes in each round.\n"
            f"Both propose at the same time how many of each item they want. For each item: {SHARE_RULE} "
            f"Each item that you get is worth its value in points. {GOAL}\n"
            f"Reply in this form: Proposal: x hats, y books, z balls. Each number is from 0 to {QUANTITY}."
        )
        values = self.values[self.round]
        return (
            f"{self.recap(player) or intro}\n"
            f"Your values are {_values(values[player])}. The other player has {_values(values[1 - player])}. "
            "Write your proposal."
        )

    def _recap(self, player: int) -> str:
        claims, points, other = self.actions[-1], self.rewards[-1], 1 - player
        return (
            f"You proposed {_items(claims[player])}, {sum(claims[player])} in all. "
            f"The other player proposed {_items(claims[other])}, {sum(claims[other])} in all. "
            f"You got {points[player]:.0f} points, the other player {points[other]:.0f}."
        )

    def _advance(self, read: dict[int, tuple[int, ...]]) -> None:
        shares = [proportional_split(*claims) for claims in zip(read[0], read[1], strict=True)]
        points = (
            sum(share[player] * value for share, value in zip(shares, self.values[self.round][player], strict=True))
            for player in (0, 1)
        )
        self.actions.append((read[0], read[1]))
        self.rewards.append(tuple(points))

    def _metrics(self, index: int) -> dict[str, Any]:
        values, claims = self.values[index], self.actions[index]

        def claim(player: int, sign: int) -> float:
            """Claim on the one item that `player` values more (sign 1) or less (-1) than the other does."""
            differences = [sign * (own - other) for own, other in zip(values[player], values[1 - player], strict=True)]
            return float(claims[player][differences.index(HIGH - LOW)])

        best = QUANTITY * sum(map(max, *values))
        return {
            "values": values,
            "claim_higher": (claim(0, 1), claim(1, 1)),
            "claim_lower": (claim(0, -1), claim(1, -1)),
            "efficiency": sum(self.rewards[index]) / best,
        }


def _items(numbers: tuple[int, ...]) -> str:
    return ", ".join(f"{number} {item}" for number, item in zip(numbers, ITEMS, strict=True))


def _values(numbers: tuple[int, ...]) -> str:
    return ", ".join(f"{item} {number}" for number, item in zip(numbers, ITEMS, strict=True))


class TrustAndSplitTextGame(TextGame):
    """Trust-and-Split with rock, paper, scissors: one message each, then both propose how many of 10 coins they keep.

    Two different hands are drawn per round. A coin is worth 10 to the hand that beats the other, the upper hand, and 1
    to the lower. A player sees only its own hand. One player speaks, the other answers (the idle one is told to wait),
    then both propose. Who speaks first is drawn for round 0 and alternates. The recap of a round tells the other's hand
    status and proposal, nothing more. An action is the number of coins claimed.

    An unreadable message reaches the other player as an empty one.

    Args:
        seed: at least 0; draws the hands and the first speaker.
        rounds: length.
        on_error: "zero": an unreadable proposal claims 0 coins. This rule is ours: the paper's code tries to convert
            the whole reply to an integer, and raises if it is none. Or "raise", for messages too.

    Attributes:
        hands: for each round, both players' hands.
        first_speakers: for each round, the player who speaks first.
        messages: for each round, what has been said so far, by player.
    """

    name = "trust_and_split"
    fallback = "zero"

    def __init__(self, seed: int, rounds: int = 10, on_error: str = "zero") -> None:
        super().__init__(seed, rounds, on_error)
        rng = Random(seed)
        start = rng.randrange(2)
        self.first_speakers = [(start + index) % 2 for index in range(rounds)]
        self.hands = [tuple(rng.sample(HANDS, 2)) for _ in range(rounds)]
        self.messages: list[dict[int, str]] = [{} for _ in range(rounds)]

    @property
    def speaking(self) -> bool:
        """Whether the present phase is a message, not the proposals."""
        return not self.done and len(self.messages[self.round]) < self.num_players

    @property
    def awaited(self) -> tuple[int, ...]:
        """The speaker, or both when they propose."""
        if not self.speaking:
            return super().awaited
        first = self.first_speakers[self.round]
        return (1 - first if self.messages[self.round] else first,)

    def upper(self, index: int) -> int:
        """The player who has the upper hand in a round."""
        first, second = self.hands[index]
        return 0 if BEATS[first] == second else 1

    @property
    def pattern(self) -> str:
        """A message, or a proposal."""
        return MESSAGE_PATTERN if self.speaking else COINS_PATTERN

    def parse(self, reply: str) -> str | int:
        """See `parse_message` and `parse_coins`."""
        return parse_message(reply) if self.speaking else parse_coins(reply)

    def _unread(self) -> str | int:
        return "" if self.speaking else 0

    def _text(self, player: int) -> str:
        parts = []
        said, other = self.messages[self.round], 1 - player
        if not said:
            parts += [self.recap(player) or self._intro(), "A new round starts."]
        speaker = self.awaited[0] if self.speaking else self.first_speakers[self.round]
        if other in said and player == speaker:  # each message is told once, when its reader is next to act
            parts.append(f"The other player says: {said[other]}" if said[other] else "The other player says nothing.")
        if self.speaking and player != speaker:
            parts.append("Wait for the message of the other player.")
        else:
            task = "message" if self.speaking else "proposal"
            parts.append(f"Your hand is {self.hands[self.round][player]}. Write your {task}.")
        return "\n".join(parts)

    @staticmethod
    def _intro() -> str:
        beats = ", ".join(f"{winner} beats {loser}" for winner, loser in BEATS.items())
        return (
            f"{MANY_ROUNDS} In each round you split {QUANTITY} coins. Each player has a hand in each round; the two "
            f"hands are not the same, and you see only yours. The hand {beats}. The hand that beats the other is the "
            f"upper hand, the other the lower hand. A coin is worth {HIGH} points with the upper hand and {LOW} with "
            "the lower hand.\n"
            "One player writes a message, then the other. Then both propose at the same time how many coins they want. "
            f"{SHARE_RULE} {GOAL}\n"
            "Write a message in this form: <<message_start>> text <<message_end>>, "
            f"{MESSAGE_LIMIT} characters or less. "
            "Write a proposal in this form: <<proposal_start>> x <<proposal_end>>. "
            f"The number x is from 0 to {QUANTITY}."
        )

    def _recap(self, player: int) -> str:
        other = 1 - player
        hand = "upper" if self.upper(self.round - 1) == other else "lower"
        return f"The other player had the {hand} hand and proposed {self.actions[-1][other]} coins."

    def _advance(self, read: dict[int, Any]) -> None:
        if self.speaking:
            self.messages[self.round] |= read
            return
        shares, upper = proportional_split(read[0], read[1]), self.upper(self.round)
        self.actions.append((read[0], read[1]))
        self.rewards.append(tuple(share * (HIGH if player == upper else LOW) for player, share in enumerate(shares)))

    def _metrics(self, index: int) -> dict[str, Any]:
        upper, claims = self.upper(index), self.actions[index]
        return {
            "hands": self.hands[index],
            "first_speaker": self.first_speakers[index],
            "messages": tuple(self.messages[index][player] for player in (0, 1)),
            # as in Split; None for the player who has the other hand
            "claim_higher": tuple(float(claims[player]) if player == upper else None for player in (0, 1)),
            "claim_lower": tuple(float(claims[player]) if player != upper else None for player in (0, 1)),
            "efficiency": sum(self.rewards[index]) / (QUANTITY * HIGH),
        }


_GAMES: dict[str, type[TextGame]] = {game.name: game for game in (IPDTextGame, SplitTextGame, TrustAndSplitTextGame)}


def text_game_names() -> list[str]:
    """Names that `make_text_game` knows."""
    return sorted(_GAMES)


def make_text_game(name: str, seed: int, **options: Any) -> TextGame:
    """Build a text game by name, with the options of its class (`rounds`, `on_error`, ...).

    Raises:
        ValueError: unknown name, or a bad option.
    """
    check_choice("name", name, _GAMES)
    return _GAMES[name](seed, **options)


# --- scripted players: (game, player, rng) to the text of a reply; only "random" uses rng

Strategy = Callable[[Any, int, Random | None], str]


def _need(rng: Random | None) -> Random:
    if rng is None:
        raise ValueError("rng must be a random.Random for the strategy random, got None")
    return rng


def ipd_cooperate(game: IPDTextGame, player: int, rng: Random | None = None) -> str:
    """Always C."""
    return game.labels[C]


def ipd_defect(game: IPDTextGame, player: int, rng: Random | None = None) -> str:
    """Always D."""
    return game.labels[D]


def ipd_tit_for_tat(game: IPDTextGame, player: int, rng: Random | None = None) -> str:
    """C, then what the other did last."""
    return game.labels[game.actions[-1][1 - player] if game.actions else C]


def ipd_random(game: IPDTextGame, player: int, rng: Random | None = None) -> str:
    """C or D with equal chance."""
    return _need(rng).choice(game.labels)


def _welfare_claims(own: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(
        QUANTITY if mine > yours else 0 if mine < yours else QUANTITY // 2
        for mine, yours in zip(own, other, strict=True)
    )


def split_greedy(game: SplitTextGame, player: int, rng: Random | None = None) -> str:
    """All of everything."""
    return f"Proposal: {_items((QUANTITY,) * 3)}"


def split_welfare(game: SplitTextGame, player: int, rng: Random | None = None) -> str:
    """The paper's cooperative player: 10 of what it values more than the other, 0 of what it values less, 5 of ties."""
    values = game.values[game.round]
    return f"Proposal: {_items(_welfare_claims(values[player], values[1 - player]))}"


def split_tit_for_tat(game: SplitTextGame, player: int, rng: Random | None = None) -> str:
    """Welfare, but greedy after a round in which the other claimed more of any item than welfare does."""
    if game.actions:
        values, other = game.values[game.round - 1], 1 - player
        fair = _welfare_claims(values[other], values[player])
        if any(claim > limit for claim, limit in zip(game.actions[-1][other], fair, strict=True)):
            return split_greedy(game, player)
    return split_welfare(game, player)


def split_random(game: SplitTextGame, player: int, rng: Random | None = None) -> str:
    """Every claim uniform over 0..10."""
    return f"Proposal: {_items(tuple(_need(rng).randint(0, QUANTITY) for _ in ITEMS))}"


def hands_named(own: str, other: str) -> str:
    """What the second speaker adds to its own hand: the other's, which it has heard, and who has the upper hand."""
    return f"Your hand is {other}. I have the {'upper' if BEATS[own] == other else 'lower'} hand. "


def _say(text: str) -> str:
    return f"<<message_start>> {text} <<message_end>>"


def _claim(coins: int) -> str:
    return f"<<proposal_start>> {coins} <<proposal_end>>"


def tas_greedy(game: TrustAndSplitTextGame, player: int, rng: Random | None = None) -> str:
    """Does not name its hand, and claims all coins."""
    return _say("I want all coins.") if game.speaking else _claim(QUANTITY)


def tas_welfare(game: TrustAndSplitTextGame, player: int, rng: Random | None = None) -> str:
    """Names its hand truthfully; claims 10 with the upper hand, 0 with the lower, 5 if it cannot know.

    It knows if the other's message names exactly one hand besides its own, and takes that on trust. Speaking second, it
    also says who has the upper hand.
    """
    own = game.hands[game.round][player]
    words = re.findall("[a-z]+", game.messages[game.round].get(1 - player, "").lower())
    named = [hand for hand in HANDS if hand in words and hand != own]
    if game.speaking:
        return _say(f"My hand is {own}. {hands_named(own, named[0]) if len(named) == 1 else ''}".strip())
    if len(named) != 1:
        return _claim(QUANTITY // 2)
    return _claim(QUANTITY if BEATS[own] == named[0] else 0)


def tas_tit_for_tat(game: TrustAndSplitTextGame, player: int, rng: Random | None = None) -> str:
    """Welfare, but greedy after a round in which the other claimed more than 5 with the lower hand."""
    other = 1 - player
    if game.actions and game.upper(game.round - 1) == player and game.actions[-1][other] > QUANTITY // 2:
        return tas_greedy(game, player)
    return tas_welfare(game, player)


def tas_random(game: TrustAndSplitTextGame, player: int, rng: Random | None = None) -> str:
    """Names any hand and claims any number of coins, uniformly."""
    if game.speaking:
        return _say(f"My hand is {_need(rng).choice(HANDS)}.")
    return _claim(_need(rng).randint(0, QUANTITY))


SCRIPTED: dict[str, dict[str, Strategy]] = {
    "ipd": dict(cooperate=ipd_cooperate, defect=ipd_defect, tit_for_tat=ipd_tit_for_tat, random=ipd_random),
    "split": dict(welfare=split_welfare, greedy=split_greedy, tit_for_tat=split_tit_for_tat, random=split_random),
    "trust_and_split": dict(welfare=tas_welfare, greedy=tas_greedy, tit_for_tat=tas_tit_for_tat, random=tas_random),
}


def play_scripted(game: TextGame, first: str, second: str, rng: Random | None = None) -> list[tuple[Turn, str | None]]:
    """Play a game to its end with two strategies of SCRIPTED; returns every turn with its reply (None: no reply)."""
    strategies = []
    for argument, name in (("first", first), ("second", second)):
        check_choice(argument, name, SCRIPTED[game.name])
        strategies.append(SCRIPTED[game.name][name])
    transcript: list[tuple[Turn, str | None]] = []
    while not game.done:
        turns = game.turns()
        replies = {turn.player: strategies[turn.player](game, turn.player, rng) for turn in turns if turn.reply}
        transcript += [(turn, replies.get(turn.player)) for turn in turns]
        game.submit(replies)
    return transcript


def example_texts() -> Iterator[str]:
    """Texts that together hold every word, number and mark of the games and scripted players, to build a tokenizer.

    With the default options of the games. Words that only models or people say are not among them.
    """
    yield " ".join(str(number) for number in range(3 * QUANTITY * HIGH + 1))  # any number of points
    for name, strategies in SCRIPTED.items():
        for strategy in strategies:
            for turn, reply in play_scripted(make_text_game(name, 0, rounds=20), strategy, "random", Random(0)):
                yield turn.text
                if reply is not None:
                    yield reply
    game = make_text_game("trust_and_split", 0)
    game.submit({game.awaited[0]: ""})
    yield from (turn.text for turn in game.turns())  # an empty message
