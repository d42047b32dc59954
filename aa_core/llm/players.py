"""Whoever sits at the table of a text game: a model, a past or frozen adapter, a script.

A player has many seats at once, one per game that it takes part in, and answers in all of them together.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from aa_core.checks import check_choice, check_fields, check_flags, check_that
from aa_core.games.text import SCRIPTED, TextGame, Turn
from aa_core.llm.rollout import Chats, ChatTokens, Engine, Sampling, Transcript

Seat = tuple[TextGame, int]  # a game and which of its players one is
BASE = "__base__"  # PEFT's name for no adapter


class Player(Protocol):
    """One protocol for all."""

    def sit(self, seats: Sequence[Seat]) -> None:
        """Take seats in games, new ones or ones that go on; seats in other games are left."""

    def answer(self, turns: Sequence[Turn | None]) -> list[str | None]:
        """Answer the turns of all seats, in their order; None where no reply is due."""


@dataclass(eq=False)
class ModelPlayer:
    """A causal language model, with one of its adapters or as it is."""

    model: PreTrainedModel  # of transformers, or a PEFT model around one
    tokenizer: PreTrainedTokenizerBase  # with a chat template
    adapter: str | None = None  # name of the PEFT adapter to answer with, BASE: without; None: with the active one
    adapters: MutableMapping[TextGame, str] = field(default_factory=WeakKeyDictionary)  # of single games, instead
    max_new_tokens: int = 24  # of one reply
    sampling: Sampling = field(default_factory=Sampling)  # temperature, top_k, ...
    generator: torch.Generator | None = None  # source of randomness; the caller seeds it
    keep_cache: bool = True  # keep keys and values between turns; False reads each chat anew, for comparison
    guided: bool = False  # sample only replies that the game can read (guided decoding) ...
    free_tries: int = 0  # ... if so many free ones could not be read, which are forgotten; the paper: 1 or 3
    engine: Engine | None = None  # samples in the model's stead, with settings of its own (vLLM)
    token_budget: int | None = None  # tokens whose keys and values are kept at once; None: of all games
    template: dict[str, Any] = field(default_factory=dict)  # options of the chat template, as `enable_thinking`

    def __post_init__(self) -> None:
        adapters = getattr(self.model, "peft_config", {})
        check_fields(self)
        check_flags(guided=self.guided)
        if self.adapter is not None:
            check_choice("adapter", self.adapter, [*adapters, BASE] if adapters else ["None"])
        check_that(self.guided or not self.free_tries, "free_tries", "0 without guided", self.free_tries)
        ends = getattr(self.model.generation_config, "eos_token_id", None) or []
        self.tokens = ChatTokens(self.tokenizer, [ends] if isinstance(ends, int) else ends, self.template)
        self._told: Any = WeakKeyDictionary()  # game -> chats of its seats, which a game that is played on finds

    @property
    def transcripts(self) -> list[Transcript]:
        """What was read and written, in the order of the last `sit`."""
        return self._chats.transcripts

    def transcript(self, game: TextGame, player: int) -> Transcript:
        """What was read and written in a seat, as long as its game lives."""
        check_that(isinstance(game, TextGame) and player in self._told.get(game, ()), "game, player", "a seat", player)
        return self._told[game][player]

    def sit(self, seats: Sequence[Seat]) -> None:
        """See `Player.sit`; keys and values of other games are forgotten, and the model is set to evaluation."""
        self.model.eval()
        self._seats = list(seats)
        told = [self._told.setdefault(game, {}).setdefault(player, Transcript()) for game, player in seats]
        names = [self.adapters.get(game, self.adapter) for game, _ in seats]
        check_that(all(names) or not any(names), "adapters", "one for each game, or an adapter for the rest", names)
        self._chats = Chats(self.model, self.tokens, told, self.keep_cache, self.engine, names if any(names) else None)

    def answer(self, turns: Sequence[Turn | None]) -> list[str | None]:
        """See `Player.answer`."""
        due = {row: self._seats[row][0].round for row, turn in enumerate(turns) if turn is not None}
        replies: list[str | None] = [None] * len(self._seats)
        for row, index in due.items():
            self._chats.add_text(row, turns[row].text, index)
        for tries in range(self.free_tries + 1):
            if not due:
                break
            guided = self.guided and tries == self.free_tries
            patterns = {row: turns[row].pattern for row in due} if guided else None
            answers = self._chats.sample(due, self.max_new_tokens, self.generator, self.sampling, patterns)
            for row, ids in answers.items():  # what was thought aloud is nobody else's to read
                replies[row] = self.tokens.text(ids).rpartition("</think>")[2].strip()
            if tries < self.free_tries:
                due = {row: index for row, index in due.items() if self._seats[row][0].problem(replies[row])}
                for row in due:
                    self._chats.retract(row, len(answers[row]))
        return replies

    def room(self, turns: Sequence[Turn | None]) -> int:
        """Tokens whose keys and values are kept after the longest possible `answer`, with half as much for growing."""
        texts = (self.tokens.first(turn.text) if turn else () for turn in turns)
        longest = max(len(chat.ids) + len(text) for chat, text in zip(self.transcripts, texts, strict=True))
        return 3 * len(turns) * (longest + self.max_new_tokens) // 2


@dataclass
class ScriptedPlayer:
    """A strategy of `games.text.SCRIPTED` by name; `rng` for those that draw."""

    strategy: str
    rng: Random | None = None

    def sit(self, seats: Sequence[Seat]) -> None:
        """See `Player.sit`."""
        for game, _ in seats:
            check_choice("strategy", self.strategy, SCRIPTED[game.name])
        self._seats = list(seats)

    def answer(self, turns: Sequence[Turn | None]) -> list[str | None]:
        """See `Player.answer`."""
        return [
            SCRIPTED[game.name][self.strategy](game, player, self.rng) if turn is not None else None
            for (game, player), turn in zip(self._seats, turns, strict=True)
        ]


def play(games: Sequence[TextGame], seats: Sequence[tuple[Player, Player]]) -> None:
    """Play all games to their end, each phase of all of them together, or of as many as `token_budget` allows.

    A text that waits for no reply is shown with the next one that does. If a player fails, what was played is kept, and
    the same call plays on; but a ModelPlayer that was interrupted while it answered must be given new games.

    Args:
        games: in any phase; they are played in place.
        seats: who is player 0 and player 1 of each game; one object may sit at many tables, on both sides.
    """
    good = isinstance(games, Sequence) and all(isinstance(game, TextGame) for game in games)
    check_that(good, "games", "a list of text games", games)
    good = isinstance(seats, Sequence) and len(seats) == len(games) and all(hasattr(seat, "__len__") for seat in seats)
    check_that(good and {2} >= {*map(len, seats)}, "seats", f"pairs of players, of {len(games)} games", seats)
    taken: dict[int, tuple[Player, list[tuple[int, int]]]] = {}
    for table, pair in enumerate(seats):
        for player, who in enumerate(pair):
            taken.setdefault(id(who), (who, []))[1].append((table, player))
    for who, places in taken.values():
        who.sit([(games[table], player) for table, player in places])
    full = False
    while not full and not all(game.done for game in games):
        shown = [{turn.player: turn for turn in game.turns()} for game in games]
        due = [
            (who, places, [_due(games[table], shown[table].get(player)) for table, player in places])
            for who, places in taken.values()
        ]
        if full := len(games) > 1 and _full(due):
            break
        for who, places, turns in due:
            for (table, player), reply in zip(places, who.answer(turns), strict=True):
                if reply is not None:
                    games[table].said[player] = reply
        for game, asked in zip(games, shown, strict=True):
            if game.done:
                continue
            said, game.said = game.said, {}
            game.submit(said)
            for player, turn in asked.items():  # what nobody had to reply to is kept for later
                before = game.untold.pop(player, "")
                if player not in said:
                    game.untold[player] = f"{before}\n{turn.text}".strip()
    for who, _ in taken.values():  # who does not sit in the next games would keep what it holds
        if isinstance(who, ModelPlayer):
            who._chats.forget()
    for half in (slice(len(games) // 2), slice(len(games) // 2, None)) if full else ():  # which is read again
        play(games[half], seats[half])


def _full(due: Sequence[tuple[Player, Any, list[Turn | None]]]) -> bool:
    """Whether answers to turns that are due might take more than the budget."""
    models = [(who, turns) for who, _, turns in due if isinstance(who, ModelPlayer) and who.token_budget is not None]
    needed = sum(who.room(turns) for who, turns in models if who.engine is None)
    return needed > min((who.token_budget for who, _ in models), default=0)


def _due(game: TextGame, turn: Turn | None) -> Turn | None:
    """A turn with what its player was not told yet; None if no reply is due, or it is there already."""
    if turn is None or not turn.reply or turn.player in game.said:
        return None
    return replace(turn, text=f"{game.untold.get(turn.player, '')}\n{turn.text}".strip())
