"""Trust-and-Split, where two players say which hand they hold, or lie, and share coins; and its scripted players."""

from __future__ import annotations

import re
from functools import partial
from random import Random
from typing import Any

from aa_core.games.text import base
from aa_core.games.text.base import HIGH, LOW, QUANTITY, ParseError, TextGame, TextScript, need_rng, proportional_split

HANDS = ("rock", "paper", "scissors")
BEATS = {"rock": "scissors", "scissors": "paper", "paper": "rock"}
MESSAGE_LIMIT = 500  # characters
MESSAGE_PATTERN = f"<<message_start>> ?[^<>]{{0,{MESSAGE_LIMIT}}} ?<<message_end>>"
COINS_PATTERN = f"<<proposal_start>> ?{base.NUMBER} ?<<proposal_end>>"


def parse_message(reply: str) -> str:
    """The text between the message tags, stripped; `ParseError` if there is none, or if < or > pretend to be a tag."""
    text = reply.strip()
    if not re.fullmatch(MESSAGE_PATTERN, text, base.FLAGS):
        raise ParseError(
            "a message must be '<<message_start>> text <<message_end>>' and nothing else, the text without < and > "
            f"and of at most {MESSAGE_LIMIT} characters",
            reply,
        )
    return base.one_line(text[len("<<message_start>>") : -len("<<message_end>>")])


def parse_coins(reply: str) -> int:
    """The number of coins between the proposal tags; `ParseError` if there is no integer in 0..10."""
    if not re.fullmatch(COINS_PATTERN, " ".join(reply.split()), base.FLAGS):
        raise ParseError(
            f"a proposal must be '<<proposal_start>> x <<proposal_end>>' with x from 0 to {QUANTITY} and nothing else",
            reply,
        )
    return int(re.search("[0-9]+", reply)[0])


class TrustAndSplitTextGame(TextGame):
    """Trust-and-Split with rock, paper, scissors: one message each, then both propose how many of 10 coins they keep.

    Two different hands are drawn per round. A coin is worth 10 to the hand that beats the other, the upper hand, and 1
    to the lower. A player sees only its own hand. One player speaks, the other answers (the idle one is told to wait),
    then both propose. Who speaks first is drawn for round 0 and alternates. The recap of a round tells the other's hand
    status and proposal, nothing more. An action is the number of coins claimed.

    Arguments are those of `TextGame`; `seed` draws the hands and the first speaker. An unreadable message reaches the
    other player as an empty one. `on_error` is "zero": an unreadable proposal claims 0 coins. This rule is ours: the
    paper's code makes an integer of the whole reply, and raises if it is none. Or "raise", for messages too.
    """

    name = "trust_and_split"
    fallback = "zero"
    quoted = MESSAGE_LIMIT
    rules = (
        f"{base.MANY_ROUNDS} In each round you split {QUANTITY} coins. Each player has a hand in each round; the two "
        f"hands are not the same, and you see only yours. The hand {', '.join(map(' beats '.join, BEATS.items()))}. "
        "The hand that beats the other is the upper hand, the other the lower hand. A coin is worth "
        f"{HIGH} points with the upper hand and {LOW} with the lower hand.\n"
        "One player writes a message, then the other. Then both propose at the same time how many coins they want. "
        f"{base.SHARE_RULE} {base.GOAL}\n"
        f"Write a message in this form: <<message_start>> text <<message_end>>, {MESSAGE_LIMIT} characters or less. "
        "Write a proposal in this form: <<proposal_start>> x <<proposal_end>>. "
        f"The number x is from 0 to {QUANTITY}."
    )

    def __init__(self, seed: int, rounds: int = 10, on_error: str = "zero", show_rules: bool = True) -> None:
        super().__init__(seed, rounds, on_error, show_rules)
        rng = Random(self.seed)
        start = rng.randrange(2)
        self.first_speakers = [(start + index) % 2 for index in range(rounds)]  # in each round
        self.hands = [tuple(rng.sample(HANDS, 2)) for _ in range(rounds)]  # both players', in each round
        self.messages: list[dict[int, str]] = [{} for _ in range(rounds)]  # what is said so far in each, by player

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
    def pattern(self) -> str:  # type: ignore[override]
        """A message, or a proposal."""
        return MESSAGE_PATTERN if self.speaking else COINS_PATTERN

    def parse(self, reply: str) -> str | int:
        """See `parse_message` and `parse_coins`."""
        return parse_message(reply) if self.speaking else parse_coins(reply)

    def recap(self, player: int) -> str:
        """The other's hand status and proposal."""
        other = 1 - player
        hand = "upper" if self.upper(self.round - 1) == other else "lower"
        return f"The other player had the {hand} hand and proposed {self.actions[-1][other]} coins."

    def _unread(self) -> str | int:
        return "" if self.speaking else 0

    def _text(self, player: int) -> str:
        said, other = self.messages[self.round], 1 - player
        parts = [] if said else [self.news(player), "A new round starts."]
        speaker = self.awaited[0] if self.speaking else self.first_speakers[self.round]
        if other in said and player == speaker:  # each message is told once, when its reader is next to act
            parts.append(f"The other player says: {said[other]}" if said[other] else "The other player says nothing.")
        if self.speaking and player != speaker:
            parts.append("Wait for the message of the other player.")
        else:
            task = "message" if self.speaking else "proposal"
            parts.append(f"Your hand is {self.hands[self.round][player]}. Write your {task}.")
        return "\n".join(parts)

    def _advance(self, read: dict[int, Any]) -> None:
        if self.speaking:
            self.messages[self.round] |= read
            return
        shares, upper = proportional_split(read[0], read[1]), self.upper(self.round)
        self.actions.append((read[0], read[1]))
        self.rewards.append(tuple(share * (HIGH if player == upper else LOW) for player, share in enumerate(shares)))  # type: ignore[arg-type]

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


def hands_named(own: str, other: str) -> str:
    """What the second speaker adds to its own hand: the other's, which it has heard, and who has the upper hand."""
    return f"Your hand is {other}. I have the {'upper' if BEATS[own] == other else 'lower'} hand. "


def heard_hands(game: TrustAndSplitTextGame, player: int) -> list[str]:
    """The hands, other than `player`'s own, that the other player has named in this round."""
    said = re.findall("[a-z]+", game.messages[game.round].get(1 - player, "").lower())
    return [hand for hand in HANDS if hand in said and hand != game.hands[game.round][player]]


def message(text: str) -> str:
    """The reply that says `text`."""
    return f"<<message_start>> {text} <<message_end>>"


def proposal(coins: int) -> str:
    """The reply that claims so many coins."""
    return f"<<proposal_start>> {coins} <<proposal_end>>"


def greedy(game: TrustAndSplitTextGame, player: int, rng: Random | None = None, talk: str = "none") -> str:
    """Claims all. It names no hand, its own ("truth"), or the one that beats what it heard or else its own ("lie")."""
    if not game.speaking or talk == "truth":
        return welfare(game, player) if game.speaking else proposal(QUANTITY)
    beaten = [*heard_hands(game, player), game.hands[game.round][player]][0]
    beats = next(hand for hand in HANDS if BEATS[hand] == beaten)
    return message(f"My hand is {beats}." if talk == "lie" else "I want all coins.")


def welfare(game: TrustAndSplitTextGame, player: int, rng: Random | None = None) -> str:
    """Names its hand truthfully; claims 10 with the upper hand, 0 with the lower, 5 if it cannot know.

    It knows, on trust, if the other's message names one hand besides its own. As second it says who has the upper hand.
    """
    own, named = game.hands[game.round][player], heard_hands(game, player)
    if game.speaking:
        return message(f"My hand is {own}. {hands_named(own, named[0]) if len(named) == 1 else ''}".strip())
    if len(named) != 1:
        return proposal(QUANTITY // 2)
    return proposal(QUANTITY if BEATS[own] == named[0] else 0)


def tit_for_tat(game: TrustAndSplitTextGame, player: int, rng: Random | None = None) -> str:
    """Welfare, but greedy after a round in which the other claimed more than 5 with the lower hand."""
    other = 1 - player
    if game.actions and game.upper(game.round - 1) == player and game.actions[-1][other] > QUANTITY // 2:
        return greedy(game, player)
    return welfare(game, player)


def at_random(game: TrustAndSplitTextGame, player: int, rng: Random | None = None) -> str:
    """Names any hand and claims any number of coins, uniformly."""
    draw = need_rng(rng)
    return message(f"My hand is {draw.choice(HANDS)}.") if game.speaking else proposal(draw.randint(0, QUANTITY))


SCRIPTS: dict[str, TextScript] = dict(
    welfare=welfare, greedy=greedy, tit_for_tat=tit_for_tat, random=at_random,
    greedy_truthful=partial(greedy, talk="truth"), greedy_lying=partial(greedy, talk="lie"),
)  # fmt: skip
