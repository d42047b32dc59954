from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from random import Random

import pytest
import torch
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from aa_core.games.text import SCRIPTED, make_text_game, play_scripted
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
