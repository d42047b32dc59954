"""Whoever sits at the table of a text game: a model, a past or frozen adapter, a script, a person, an API.

A player has many seats at once, one per game that it takes part in, and answers in all of them together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from random import Random
from typing import Protocol

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from aa_core.checks import check_choice
from aa_core.games.text import SCRIPTED, TextGame, Turn
from aa_core.llm.rollout import Chats, Engine, Transcript

Seat = tuple[TextGame, int]  # a game and which of its players one is


class Player(Protocol):
    """One protocol for all."""

    def sit(self, seats: Sequence[Seat]) -> None:
        """Take seats in new games; what was said in older ones is over."""
        ...

    def answer(self, turns: Sequence[Turn | None]) -> list[str | None]:
        """Answer the turns of all seats, in their order; None where no reply is due."""
        ...


@dataclass
class ModelPlayer:
    """A causal language model, with one of its adapters or as it is."""

    model: PreTrainedModel  # of transformers, or a PEFT model around one
    tokenizer: PreTrainedTokenizerBase  # with a chat template
    adapter: str | None = None  # name of the PEFT adapter to answer with; None: the one that is active, or none
    frozen_base: bool = False  # answer without any adapter
    max_new_tokens: int = 24  # of one reply
    temperature: float = 1.0  # of sampling
    generator: torch.Generator | None = None  # source of randomness; the caller seeds it
    keep_cache: bool = True  # keep keys and values between turns; False reads each chat anew, for comparison
    guided: bool = False  # sample only replies that the game can read (guided decoding)
    engine: Engine | None = None  # samples in the model's stead, with settings of its own (vLLM)

    def __post_init__(self) -> None:
        adapters = getattr(self.model, "peft_config", {})
        if self.adapter is not None and self.adapter not in adapters:
            raise ValueError(f"adapter must be one of {sorted(adapters)}, got {self.adapter!r}")
        if self.frozen_base and not adapters:
            raise ValueError("frozen_base must be False for a model without adapters: it has no other form")
        if self.guided and self.engine is not None:
            raise ValueError("guided must be False with an engine: let the engine's own settings guide it")

    @property
    def transcripts(self) -> list[Transcript]:
        """What was read and written, in the order of `sit`."""
        return self._chats.transcripts

    def transcript(self, game: TextGame, player: int) -> Transcript:
        """What was read and written in a seat."""
        return self._chats.transcripts[self._rows[id(game), player]]

    def sit(self, seats: Sequence[Seat]) -> None:
        """See `Player.sit`."""
        self._seats = list(seats)
        self._rows = {(id(game), player): row for row, (game, player) in enumerate(seats)}
        self._chats = Chats(self.model, self.tokenizer, len(self._seats), self.keep_cache, self.engine)

    def answer(self, turns: Sequence[Turn | None]) -> list[str | None]:
        """See `Player.answer`."""
        due = {row: self._seats[row][0].round for row, turn in enumerate(turns) if turn is not None}
        replies: list[str | None] = [None] * len(self._seats)
        if not due:
            return replies
        for row, index in due.items():
            self._chats.add_text(row, turns[row].text, index)
        patterns = {row: turns[row].pattern for row in due} if self.guided else None
        training = self.model.training
        self.model.eval()
        with self._as_adapter():
            answers = self._chats.sample(due, self.max_new_tokens, self.generator, self.temperature, patterns)
        self.model.train(training)
        for row, ids in answers.items():
            replies[row] = self.tokenizer.decode(ids, skip_special_tokens=True).strip()
        return replies

    def _as_adapter(self) -> AbstractContextManager[None]:
        if self.frozen_base:
            return self.model.disable_adapter()
        return _adapter(self.model, self.adapter) if self.adapter is not None else nullcontext()


class _adapter:  # noqa: N801 - reads like a function in a with statement
    """Switch a PEFT model to one adapter, and back to the one that was active."""

    def __init__(self, model: PreTrainedModel, name: str) -> None:
        self.model, self.name = model, name

    def __enter__(self) -> None:
        self.before = self.model.active_adapter
        trained = {name: p.requires_grad for name, p in self.model.named_parameters()}
        self.trained = trained  # PEFT makes the active adapter trainable and the others not
        self.model.set_adapter(self.name)

    def __exit__(self, *_: object) -> None:
        self.model.set_adapter(self.before)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(self.trained[name])


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


@dataclass
class PersonPlayer:
    """A person who types; `ask` shows a text and returns what was typed (by default `input`)."""

    ask: Callable[[str], str] = input

    def sit(self, seats: Sequence[Seat]) -> None:
        """See `Player.sit`."""
        if len(seats) > 1:
            raise ValueError(f"seats must be one for a person, got {len(seats)}")
        self._seats = list(seats)

    def answer(self, turns: Sequence[Turn | None]) -> list[str | None]:
        """See `Player.answer`; asks again until the reply can be read."""
        (game, _), turn = self._seats[0], turns[0]
        if turn is None:
            return [None]
        text = turn.text
        while True:
            reply = self.ask(text)
            try:
                game.parse(reply)
            except ValueError as error:
                text = str(error)
            else:
                return [reply]


class ApiPlayer:
    """A model behind an OpenAI-compatible server.

    Needs the package `openai`, and the server's key in the environment variable OPENAI_API_KEY (its address, if it is
    not OpenAI's, in OPENAI_BASE_URL).
    """

    def __init__(self, model: str, max_new_tokens: int = 400, temperature: float = 1.0) -> None:
        try:
            from openai import OpenAI
        except ImportError as error:
            raise ImportError("an API player needs the package openai: pip install aa-companion[api]") from error
        if not os.environ.get("OPENAI_API_KEY"):
            raise ValueError("OPENAI_API_KEY must be set in the environment for an API player")
        self._client = OpenAI()
        self.model, self.max_new_tokens, self.temperature = model, max_new_tokens, temperature

    def sit(self, seats: Sequence[Seat]) -> None:
        """See `Player.sit`."""
        self._chats: list[list[dict[str, str]]] = [[] for _ in seats]

    def answer(self, turns: Sequence[Turn | None]) -> list[str | None]:
        """See `Player.answer`; one request per seat that has to reply."""
        replies: list[str | None] = []
        for chat, turn in zip(self._chats, turns, strict=True):
            if turn is None:
                replies.append(None)
                continue
            chat.append({"role": "user", "content": turn.text})
            replies.append(self._request(chat))
        return replies

    def _request(self, chat: list[dict[str, str]]) -> str:
        done = self._client.chat.completions.create(
            model=self.model, messages=chat, max_tokens=self.max_new_tokens, temperature=self.temperature
        )
        reply = done.choices[0].message.content or ""
        chat.append({"role": "assistant", "content": reply})
        return reply


def play(games: Sequence[TextGame], seats: Sequence[tuple[Player, Player]]) -> None:
    """Play all games to their end, each phase of all of them together.

    A text that waits for no reply is shown with the next one that does.

    Args:
        games: in any phase; they are played in place.
        seats: who is player 0 and player 1 of each game; one object may sit at many tables, on both sides.
    """
    if len(games) != len(seats):
        raise ValueError(f"seats must be one pair per game, {len(games)}, got {len(seats)}")
    taken: dict[int, list[tuple[int, int]]] = {}
    players: dict[int, Player] = {}
    for table, pair in enumerate(seats):
        for player, who in enumerate(pair):
            players[id(who)] = who
            taken.setdefault(id(who), []).append((table, player))
    for key, who in players.items():
        who.sit([(games[table], player) for table, player in taken[key]])

    waiting: dict[tuple[int, int], str] = {}
    while not all(game.done for game in games):
        turns: list[dict[int, Turn]] = [{} for _ in games]
        for table, game in enumerate(games):
            for turn in game.turns():
                text = f"{waiting.pop((table, turn.player), '')}\n{turn.text}".strip()
                if turn.reply:
                    turns[table][turn.player] = replace(turn, text=text)
                else:
                    waiting[table, turn.player] = text
        replies: list[dict[int, str]] = [{} for _ in games]
        for key, who in players.items():
            shown = [turns[table].get(player) for table, player in taken[key]]
            for (table, player), reply in zip(taken[key], who.answer(shown), strict=True):
                if reply is not None:
                    replies[table][player] = reply
        for game, said in zip(games, replies, strict=True):
            if not game.done:
                game.submit(said)
