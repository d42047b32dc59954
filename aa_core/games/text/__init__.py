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

from collections.abc import Iterable
from random import Random
from typing import Any

from aa_core.checks import check_choice, check_that
from aa_core.games.text import ipd, split, trust_and_split
from aa_core.games.text.base import ParseError, TextGame, TextScript, Turn, proportional_split

__all__ = ["SCRIPTED", "ParseError", "TextGame", "Turn", "proportional_split"]

_GAMES: dict[str, type[TextGame]] = {
    game.name: game for game in (ipd.IPDTextGame, split.SplitTextGame, trust_and_split.TrustAndSplitTextGame)
}
SCRIPTED: dict[str, dict[str, TextScript]] = {"ipd": ipd.SCRIPTS, "split": split.SCRIPTS}
SCRIPTED["trust_and_split"] = trust_and_split.SCRIPTS
METRICS = ("reward", "cooperation", "claim_higher", "claim_lower", "efficiency", "errors")


def make_text_game(name: str, seed: int, **options: Any) -> TextGame:
    """Build a text game by name, with the options of its class (`rounds`, `on_error`, ...); ValueError for others."""
    check_choice("name", name, _GAMES)
    return _GAMES[name](seed, **options)


def play_scripted(game: TextGame, first: str, second: str, rng: Random | None = None) -> list[tuple[Turn, str | None]]:
    """Play a game to its end with two strategies of SCRIPTED; returns every turn with its reply (None: no reply)."""
    check_that(isinstance(game, TextGame), "game", "a text game", game)
    scripts = SCRIPTED[game.name]
    check_choice("first", first, scripts)
    check_choice("second", second, scripts)
    transcript: list[tuple[Turn, str | None]] = []
    while not game.done:
        turns = game.turns()
        replies = {p: scripts[(first, second)[p]](game, p, rng) for p in game.awaited}
        transcript += [(turn, replies.get(turn.player)) for turn in turns]
        game.submit(replies)
    return transcript


def mean_metric(name: str, seats: Iterable[tuple[TextGame, int]]) -> float | None:
    """Mean of one of METRICS over the rounds of games and who sat there; None where a game has none of it."""
    check_choice("name", name, METRICS)
    check_that(isinstance(seats, Iterable) and not isinstance(seats, str), "seats", "pairs of game and player", seats)
    values = []
    for game, player in seats:
        for index in range(game.round):
            record = game.record(index)
            value = record["rewards"] if name == "reward" else record.get(name)
            values.append(value[player] if isinstance(value, tuple) else value)
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if known else None
