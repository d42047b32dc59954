from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from aa_core.games.text import make_text_game
from aa_core.llm.players import ModelPlayer, ScriptedPlayer, play
from aa_core.llm.rollout import ChatTokens, Guide, RowCache

every_game = pytest.mark.parametrize("game", ["ipd", "split", "trust_and_split"])


def test_incremental_tokens_are_those_of_the_whole_chat(tokenizer: PreTrainedTokenizerFast) -> None:
    template = ChatTokens(tokenizer)
    answer = [*tokenizer.encode("<A>"), tokenizer.eos_token_id]
    grown = [*template.first("Choose <A> or <B>."), *answer]
    grown += template.following("The other player chose <B>. Choose <A> or <B>.", ended=True)
    whole = [
        {"role": "user", "content": "Choose <A> or <B>."},
        {"role": "assistant", "content": "<A>"},
        {"role": "user", "content": "The other player chose <B>. Choose <A> or <B>."},
    ]
    assert grown == tokenizer.encode(tokenizer.apply_chat_template(whole, tokenize=False, add_generation_prompt=True))
    with pytest.raises(ValueError, match="chat template"):
        ChatTokens(PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer))


@every_game
@pytest.mark.parametrize("keep_cache", [True, False])
def test_log_probabilities_are_those_of_a_fresh_pass_over_the_transcript(
    model_of: Callable[[str], Qwen2ForCausalLM],
    tokenizers: dict[str, PreTrainedTokenizerFast],
    source: torch.Generator,
    game: str,
    keep_cache: bool,
) -> None:
    model = model_of(game)
    player = ModelPlayer(model, tokenizers[game], max_new_tokens=5, generator=source, keep_cache=keep_cache)
    games = [make_text_game(game, seed, rounds=3) for seed in range(3)]
    play(games, [(player, player)] * 3)
    assert len(player.transcripts) == 6
    for chat in player.transcripts:
        ids = torch.tensor([chat.prompt_ids + chat.completion_ids])
        with torch.no_grad():
            log_probs = model(ids).logits.log_softmax(-1)[0, len(chat.prompt_ids) - 1 : -1]
        expected = log_probs.gather(1, torch.tensor(chat.completion_ids)[:, None])[:, 0]
        sampled = torch.tensor(chat.mask).bool()
        assert sampled.sum() >= 3
        torch.testing.assert_close(torch.tensor(chat.log_probs)[sampled], expected[sampled], atol=1e-5, rtol=1e-5)
        assert (torch.tensor(chat.log_probs)[~sampled] == 0).all()


def test_the_cache_keeps_each_row_without_gaps() -> None:
    cache, written = RowCache(3), [[], [], []]
    for rows, counts in (([0, 1, 2], [2, 1, 3]), ([1], [2]), ([0, 2], [1, 4]), ([0, 1, 2], [1, 1, 1])):
        columns, seen = cache.place(torch.tensor(rows), torch.tensor(counts))
        width = max(counts)
        keys = torch.rand(len(rows), 1, width, 2)
        got, values = cache.update(keys, -keys, 0)
        for index, (row, count) in enumerate(zip(rows, counts, strict=True)):
            written[row] += keys[index, 0, width - count :].tolist()
            assert got[index, 0, 1 : len(written[row]) + 1].tolist() == written[row]
            assert torch.equal(values[index, 0, 1 : len(written[row]) + 1], -got[index, 0, 1 : len(written[row]) + 1])
            assert columns[index].tolist() == [0] * (width - count) + list(
                range(len(written[row]) - count + 1, len(written[row]) + 1)
            )
            assert seen[index].sum(-1).tolist() == [1] * (width - count) + columns[index, width - count :].tolist()


def test_cache_changes_nothing_but_speed(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    chats = []
    for keep_cache in (True, False):
        again = torch.Generator().manual_seed(5)
        player = ModelPlayer(model, tokenizer, max_new_tokens=4, generator=again, keep_cache=keep_cache)
        play([make_text_game("ipd", 0, rounds=4) for _ in range(4)], [(player, player)] * 4)
        chats.append([chat.completion_ids for chat in player.transcripts])
    assert chats[0] == chats[1]


@every_game
def test_guided_replies_can_all_be_read(
    model_of: Callable[[str], Qwen2ForCausalLM],
    tokenizers: dict[str, PreTrainedTokenizerFast],
    source: torch.Generator,
    game: str,
) -> None:
    games = [make_text_game(game, seed, rounds=2) for seed in range(2)]
    player = ModelPlayer(model_of(game), tokenizers[game], max_new_tokens=600, generator=source, guided=True)
    play(games, [(player, player)] * 2)
    assert all(table.errors == [] for table in games)


def test_guided_draws_have_the_renormalised_distribution(
    tokenizer: PreTrainedTokenizerFast, source: torch.Generator
) -> None:
    a, b, other = (tokenizer.encode(word, add_special_tokens=False)[0] for word in ("<A>", "<B>", "points"))
    log_probs = torch.full((len(tokenizer),), -30.0)
    log_probs[torch.tensor([a, b, other])] = torch.tensor([0.1, 0.3, 0.6]).log()
    guide = Guide(tokenizer)
    draws = [guide.draw(log_probs, make_text_game("ipd", 0).pattern, [], source) for _ in range(2000)]
    assert set(draws) == {a, b}
    assert abs(draws.count(a) / 2000 - 0.25) < 4 * (0.25 * 0.75 / 2000) ** 0.5
    with pytest.raises(ValueError, match="cannot go on"):
        guide.draw(log_probs, "x", [a], source)


def test_rollouts_are_seeded(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    def once(seed: int) -> list[list[int]]:
        torch.rand(7)  # the global generator must not matter
        player = ModelPlayer(model, tokenizer, max_new_tokens=4, generator=torch.Generator().manual_seed(seed))
        play([make_text_game("ipd", 0, rounds=3)], [(player, player)])
        return [chat.completion_ids for chat in player.transcripts]

    assert once(1) == once(1)
    assert once(1) != once(2)


def test_transcript_masks_texts_and_numbers_rounds(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, source: torch.Generator
) -> None:
    player = ModelPlayer(model, tokenizer, max_new_tokens=3, generator=source)
    play([make_text_game("ipd", 0, rounds=3)], [(player, ScriptedPlayer("tit_for_tat"))])
    (chat,) = player.transcripts
    assert len(chat.completion_ids) == len(chat.mask) == len(chat.rounds) == len(chat.log_probs)
    assert chat.mask[0] == 1
    assert chat.rounds == sorted(chat.rounds)
    assert set(chat.rounds) == {0, 1, 2}
