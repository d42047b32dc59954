from __future__ import annotations

import re
from dataclasses import replace
from itertools import product
from pathlib import Path
from random import Random

import pytest
import torch
from language_fixtures import SMALL
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from aa_core.games.text import SCRIPTED, make_text_game, play_scripted
from aa_core.games.text.base import TextGame
from aa_core.llm.players import ModelPlayer, play
from experiments import tiny

every_game = pytest.mark.parametrize("game", ["ipd", "split", "trust_and_split"])


@every_game
def test_tokenizer_knows_every_word_of_its_game_and_survives_saving(
    tokenizers: dict[str, PreTrainedTokenizerFast], game: str, tmp_path: Path
) -> None:
    tokenizer = tokenizers[game]
    tokenizer.save_pretrained(tmp_path)
    loaded = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    for text in tiny.example_texts(game):
        ids = tokenizer.encode(text)
        assert tokenizer.unk_token_id not in ids
        assert loaded.encode(text) == ids
    assert loaded.chat_template == tokenizer.chat_template
    assert loaded.eos_token_id == tokenizer.eos_token_id


@every_game
def test_decoded_replies_can_still_be_read(tokenizers: dict[str, PreTrainedTokenizerFast], game: str) -> None:
    rng, tokenizer = Random(0), tokenizers[game]
    table = make_text_game(game, 3)
    while not table.done:
        replies = {}
        for player in table.awaited:
            reply = tiny.prior_reply(table, player, rng, tiny.WarmUp(game=game))
            replies[player] = tokenizer.decode(tokenizer.encode(reply))
            if game != "trust_and_split" or not table.speaking:  # marks of a message gain white space
                assert table.parse(replies[player]) == table.parse(reply)
        table.submit(replies)
    assert table.errors == []


@every_game
def test_transcripts_are_chats_without_rules(tokenizers: dict[str, PreTrainedTokenizerFast], game: str) -> None:
    chats = tiny.transcripts(tiny.WarmUp(game=game, games=4, rounds=3), tokenizers[game])
    for chat in chats:
        text = tokenizers[game].decode(chat.prompt_ids + chat.completion_ids)
        assert "game of many rounds" not in text
        assert len(re.findall(r"<\|assistant\|>", text)) == (6 if game == "trust_and_split" else 3)
        assert sum(chat.mask) > 0


def prior_says(game: TextGame, player: int, settings: tiny.WarmUp) -> list[str]:
    rng = Random(0)
    return [tiny.prior_reply(game, player, rng, settings) for _ in range(1000)]


def share(answers: list[bool]) -> float:
    return sum(answers) / len(answers)


@pytest.mark.parametrize(("state", "probability"), [("", 0.1), ("CC", 0.3), ("CD", 0.5), ("DC", 0.7), ("DD", 0.9)])
def test_the_prior_cooperates_as_often_as_its_table_says_of_a_state(state: str, probability: float) -> None:
    game = make_text_game("ipd", 0)
    label = dict(zip("CD", game.labels, strict=True))
    if state:
        game.submit({0: label[state[1]], 1: label[state[0]]})  # seen by player 1
    said = prior_says(game, 1, tiny.WarmUp(ipd_prior=(0.1, 0.3, 0.5, 0.7, 0.9)))
    assert share([reply == label["C"] for reply in said]) == pytest.approx(probability, abs=0.05)


def test_the_prior_names_its_own_hand_as_often_as_it_is_honest() -> None:
    game = make_text_game("trust_and_split", 0)
    (speaker,) = game.awaited
    said = prior_says(game, speaker, tiny.WarmUp(game="trust_and_split", honesty=0.9))
    own = f"My hand is {game.hands[0][speaker]}."
    assert share([own in reply for reply in said]) == pytest.approx(0.9, abs=0.05)


@pytest.mark.parametrize(("game", "greedy"), [("split", "greedy"), ("trust_and_split", "greedy_truthful")])
def test_the_prior_is_fair_as_often_as_it_should_be_after_fairness_and_after_greed(game: str, greedy: str) -> None:
    settings = tiny.WarmUp(game=game, fairness=0.8, fairness_after_greed=0.3)
    for other, fairness in (("welfare", 0.8), (greedy, 0.3)):
        table = make_text_game(game, 0)  # in Trust-and-Split player 0 has the upper hand, then the lower one
        scripts = SCRIPTED[game]["welfare"], SCRIPTED[game][other]
        while table.round == 0 or len(table.awaited) == 1:
            table.submit({player: scripts[player](table, player) for player in table.awaited})
        claims = [table.parse(reply) for reply in prior_says(table, 0, settings)]
        least = [claim if game == "trust_and_split" else min(claim) for claim in claims]
        assert share([claim <= 2 for claim in least]) == pytest.approx(fairness, abs=0.05)


def test_drills_are_honest_and_greed_is_always_answered_in_the_second(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drilled = []
    monkeypatch.setattr(tiny, "transcripts", lambda settings, tokenizer, new=None: (settings, new))
    monkeypatch.setattr(tiny, "_fit", lambda model, tokenizer, chats, settings, steps: drilled.append((*chats, steps)))
    settings = replace(SMALL, game="trust_and_split", drill_steps=(1, 2), steps=3)
    tiny.warm_up(settings, tmp_path)
    honest = replace(settings, games=1024, honesty=1.0, fairness=1.0, fairness_after_greed=1.0)
    assert drilled == [
        (replace(honest, rounds=6), tiny._NoRecaps, 1),
        (replace(honest, fairness_after_greed=0.0), None, 2),
        (settings, None, 3),
    ]


def test_warmed_up_model_keeps_the_format_and_the_prior(
    warm: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, source: torch.Generator
) -> None:
    player = ModelPlayer(warm, tokenizer, generator=source)
    games = [make_text_game("ipd", seed, rounds=3, show_rules=False) for seed in range(100)]
    play(games, [(player, player)] * 100)
    assert sum(len(game.errors) for game in games) < 30  # of 600 replies
    cooperation = sum(2 - sum(pair) for game in games for pair in game.actions) / 600
    assert 0.45 < cooperation < 0.75


@every_game
def test_example_texts_hold_every_word_of_a_game(game: str) -> None:
    def tokens(text: str) -> list[str]:
        return re.findall(r"\w+|[^\w\s]+", text)

    known = {token for text in tiny.example_texts(game) for token in tokens(text)}
    for seed, first, second in product(range(10, 15), SCRIPTED[game], SCRIPTED[game]):
        for turn, reply in play_scripted(make_text_game(game, seed), first, second, Random(seed)):
            assert known.issuperset(tokens(turn.text) + tokens(reply or ""))
