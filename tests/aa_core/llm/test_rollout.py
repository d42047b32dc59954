from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest
import torch
from chat_families import FAMILIES, tokenizer_of
from chat_families import model_of as random_model
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import MistralConfig, MistralForCausalLM, PreTrainedModel, PreTrainedTokenizerFast, Qwen2ForCausalLM
from transformers.generation import GenerationConfig

from aa_core.games.text import SCRIPTED, make_text_game
from aa_core.llm.players import ModelPlayer, ScriptedPlayer, play
from aa_core.llm.rollout import ChatTokens, Guide, RowCache, Sampling, invert

every_family = pytest.mark.parametrize("family", FAMILIES)
every_game = pytest.mark.parametrize("game", ["ipd", "split", "trust_and_split"])


def test_incremental_tokens_are_those_of_the_whole_chat(tokenizer: PreTrainedTokenizerFast) -> None:
    template = ChatTokens(tokenizer)
    answer = [*tokenizer.encode("<A>"), tokenizer.eos_token_id]
    grown = [*template.first("Choose <A> or <B>."), *answer]
    grown += template.following("The other player chose <B>. Choose <A> or <B>.", tokenizer.eos_token_id)
    whole = [
        {"role": "user", "content": "Choose <A> or <B>."},
        {"role": "assistant", "content": "<A>"},
        {"role": "user", "content": "The other player chose <B>. Choose <A> or <B>."},
    ]
    assert grown == tokenizer.encode(tokenizer.apply_chat_template(whole, tokenize=False, add_generation_prompt=True))
    with pytest.raises(ValueError, match="chat template"):
        ChatTokens(PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer))


@every_family
def test_chats_of_every_family_are_those_of_its_template(family: str) -> None:
    words = tokenizer_of(family)
    template = ChatTokens(words)
    said = [
        {"role": "user", "content": "Choose <A> or <B>."},
        {"role": "assistant", "content": "<A>"},
        {"role": "user", "content": "The other player chose <B>."},
    ]
    whole = words.apply_chat_template(said, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    grown = [*template.first(said[0]["content"]), *words.encode("<A>"), template.end]
    grown += template.following(said[2]["content"], template.end)
    if family == "qwen3":  # which shows no later turn that it did not think
        grown = words.encode(words.decode(grown).replace("<think>\n\n</think>\n\n", "", 1))
    assert grown == words.encode(whole)


@every_family
def test_a_reply_of_any_family_ends_once(family: str) -> None:
    words = tokenizer_of(family)
    model = random_model(family, words)
    template = ChatTokens(words, model.generation_config.eos_token_id)
    assert template.ends == set(model.generation_config.eos_token_id)
    label = words.encode("<A>")
    says(model, [*label, template.end])
    player = ModelPlayer(model, words, max_new_tokens=12)
    game = make_text_game("ipd", 0, rounds=3)
    play([game], [(player, ScriptedPlayer("cooperate"))])
    assert (game.errors, game.actions) == ([], [(0, 0)] * 3)
    (chat,) = player.transcripts
    assert sum(chat.mask) == 3 * (len(label) + 1)
    assert chat.ids.count(template.end) == words.encode(words.decode(chat.ids)).count(template.end)
    assert all(pair != (template.end,) * 2 for pair in pairwise(chat.ids))
    other = next(iter(template.ends - {template.end}))
    ids = template.following("Go on.", other)  # closed by another end token: not closed again
    assert ids == template.following("Go on.", template.end) != template.following("Go on.", label[-1])


def says(model: PreTrainedModel, reply: list[int]) -> None:
    """Let a model reply with these tokens whatever it reads: they follow from a mark that only its own turn opens."""
    real = model.forward

    def forward(input_ids: torch.Tensor, **options: object) -> object:
        output = real(input_ids=input_ids, **options)
        step = reply.index(int(input_ids[0, -1])) + 1 if input_ids.shape[1] == 1 else 0
        output.logits[:, -1] = -1e4
        output.logits[:, -1, reply[step]] = 1e4
        return output

    model.forward = forward


def test_thinking_is_off_unless_asked_for(source: torch.Generator) -> None:
    words = tokenizer_of("qwen3")
    assert words.decode(ChatTokens(words).first("x")).endswith("assistant\n<think>\n\n</think>\n\n")
    assert words.decode(ChatTokens(words, options={"enable_thinking": True}).first("x")).endswith("assistant\n")
    thought = words.encode("<think>\n<A> pays 3</think>\n\n<B>")
    player = ModelPlayer(
        random_model("qwen3", words),
        words,
        template={"enable_thinking": True},
        engine=lambda chats: ([thought], [[0.0] * len(thought)]),
    )
    game = make_text_game("ipd", 0, rounds=2)
    play([game], [(player, ScriptedPlayer("cooperate"))])
    assert game.actions == [(1, 0)] * 2
    assert "<think>" in words.decode(player.transcripts[0].ids)


@every_family
def test_log_probabilities_of_every_family_are_those_of_a_fresh_pass(family: str, source: torch.Generator) -> None:
    words = tokenizer_of(family)
    check_log_probs(random_model(family, words), words, source)


@pytest.mark.parametrize("window", [64, None])
def test_log_probabilities_of_a_model_that_only_has_a_window(window: int | None, source: torch.Generator) -> None:
    words = tokenizer_of("llama3")
    config = MistralConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=window,
    )  # fmt: skip
    check_log_probs(MistralForCausalLM(config).eval(), words, source)


def check_log_probs(model: PreTrainedModel, words: PreTrainedTokenizerFast, source: torch.Generator) -> None:
    """In chats of unequal lengths, longer than a window of 64, in which players speak in turn."""
    model.generation_config = GenerationConfig(eos_token_id=list(range(60)))  # replies of many lengths
    player = ModelPlayer(model, words, max_new_tokens=5, generator=source)
    games = [make_text_game("trust_and_split", seed, rounds=3, show_rules=False) for seed in range(3)]
    play(games, [(player, player)] * 3)
    for chat in player.transcripts:
        assert len(chat.ids) > 128
        with torch.no_grad():
            log_probs = model(torch.tensor([chat.ids])).logits.log_softmax(-1)[0, len(chat.prompt_ids) - 1 : -1]
        expected = log_probs.gather(1, torch.tensor(chat.completion_ids)[:, None])[:, 0]
        sampled = torch.tensor(chat.mask).bool()
        torch.testing.assert_close(torch.tensor(chat.log_probs)[sampled], expected[sampled], atol=1e-4, rtol=1e-4)
    assert len({len(chat.ids) for chat in player.transcripts}) > 2


def test_rows_of_one_length_need_no_mask_and_keep_grouped_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = []
    real = torch.nn.functional.scaled_dot_product_attention

    def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **options: object) -> torch.Tensor:
        masks.append((options.get("attn_mask"), options.get("enable_gqa", False), query.shape[2], key.shape[2]))
        return real(query, key, value, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attention)
    words = tokenizer_of("llama3")
    model = random_model("llama3", words)
    says(model, [*words.encode("<A>"), ChatTokens(words).end])
    player = ModelPlayer(model, words)
    play([make_text_game("ipd", seed, rounds=2) for seed in range(2)], [(player, player)] * 2)
    assert len(masks) > 4
    # only blocks that look at earlier turns need one, to be causal
    assert all(mask is None and gqa for mask, gqa, width, columns in masks if width in (1, columns))


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


def test_the_cache_aligns_rows_on_the_right() -> None:
    cache, written = RowCache(3), [[], [], []]
    blocks = [([0, 1, 2], [2, 1, 3]), ([1], [2]), ([0, 2], [1, 4]), ([0, 1, 2], [1, 1, 1]), ([0, 1, 2], [1, 1, 1])]
    for rows, counts in [*blocks, ([1, 2], [1, 1]), ([0, 1, 2], [7, 1, 2])]:
        positions, seen = cache.place(torch.tensor(rows), torch.tensor(counts))
        width = max(counts)
        keys = torch.rand(len(rows), 1, width, 2)
        got, values = cache.update(keys, -keys, 0)
        assert cache.get_mask_sizes(width, 0) == (got.shape[2], 0)
        assert (
            cache.get_seq_length() + width
            == got.shape[2]
            == max(len(w) + c for w, c in zip([written[r] for r in rows], counts, strict=True))
        )
        for index, (row, count) in enumerate(zip(rows, counts, strict=True)):
            written[row] += keys[index, 0, width - count :].tolist()
            length = len(written[row])
            assert got[index, 0, -length:].tolist() == written[row]
            assert torch.equal(values[index], -got[index])
            assert seen[index].tolist() == [False] * (got.shape[2] - length) + [True] * length
            assert positions[index, width - count :].tolist() == list(range(length - count, length))
        if rows == [1]:  # a reply that is taken back
            cache.retract(1, 2)
            del written[1][-2:]


def test_cache_changes_nothing_but_speed(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    chats = []
    for keep_cache in (True, False):
        again = torch.Generator().manual_seed(5)
        player = ModelPlayer(model, tokenizer, max_new_tokens=4, generator=again, keep_cache=keep_cache)
        play([make_text_game("ipd", 0, rounds=4) for _ in range(4)], [(player, player)] * 4)
        chats.append([chat.completion_ids for chat in player.transcripts])
    assert chats[0] == chats[1]


@every_game
@pytest.mark.parametrize("words", ["own", "bytes"])
def test_guided_replies_can_all_be_read(
    model_of: Callable[[str], Qwen2ForCausalLM],
    tokenizers: dict[str, PreTrainedTokenizerFast],
    source: torch.Generator,
    game: str,
    words: str,
) -> None:
    tokens = tokenizers[game] if words == "own" else tokenizer_of("gemma3")
    model = model_of(game) if words == "own" else random_model("gemma3", tokens)
    games = [make_text_game(game, seed, rounds=1, show_rules=False) for seed in range(2)]
    player = ModelPlayer(model, tokens, max_new_tokens=900, generator=source, guided=True)
    play(games, [(player, player)] * 2)
    assert all(table.errors == [] for table in games)


@pytest.fixture(scope="session")
def guides(tokenizers: dict[str, PreTrainedTokenizerFast]) -> dict[str, tuple[Guide, Guide]]:
    """Of every game, for its own tokenizer and one over bytes."""
    return {
        game: (Guide(ChatTokens(words)), Guide(ChatTokens(tokenizer_of("gemma3"))))
        for game, words in tokenizers.items()
    }


def told(guide: Guide, pattern: str, ids: list[int]) -> bool:
    """Whether a guide allows a reply, token by token."""
    steps = zip([ids[:index] for index in range(len(ids) + 1)], [*ids, guide.template.end], strict=True)
    return all(guide.allows(pattern, tuple(before), token) for before, token in steps)


@every_game
@given(seed=st.integers(0, 10**6), data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_guide_tells_what_the_parser_reads(
    guides: dict[str, tuple[Guide, Guide]], game: str, seed: int, data: st.DataObject
) -> None:
    table = make_text_game(game, seed, rounds=1)
    while not table.done:
        (pattern,) = {turn.pattern for turn in table.turns() if turn.reply}
        canonical = SCRIPTED[game]["random"](table, 0, Random(seed))
        variants = [str.upper, " {}".format, "{} ".format, lambda text: text.replace("s", "ſ"), lambda text: text * 2]
        matching = st.from_regex(pattern.replace("500", "9"), fullmatch=True)
        odd = data.draw(matching | st.text(max_size=5) | st.sampled_from([change(canonical) for change in variants]))
        for guide in guides[game]:
            words = guide.template.tokenizer
            assert told(guide, pattern, words.encode(canonical, add_special_tokens=False))
            ids = words.encode(odd, add_special_tokens=False)
            if told(guide, pattern, ids):
                table.parse(guide.template.text(ids).strip())
            elif guide is guides[game][1]:  # over bytes nothing is lost: refused is what does not match
                assert re.fullmatch(pattern, odd) is None or any(token in guide.template.ends for token in ids)
        table.submit(dict.fromkeys(table.awaited, canonical))


def test_white_space_is_bounded(guides: dict[str, tuple[Guide, Guide]]) -> None:
    guide = guides["split"][1]
    space = guide.template.tokenizer.encode(" ")
    pattern = make_text_game("split", 0).pattern
    assert not guide.allows(pattern, (), space[0])
    assert not told(guide, pattern, guide.template.tokenizer.encode("Proposal:" + " " * 30 + "1 hats"))


def test_guided_draws_have_the_renormalised_distribution(
    tokenizer: PreTrainedTokenizerFast, source: torch.Generator
) -> None:
    a, b, other = (tokenizer.encode(word, add_special_tokens=False)[0] for word in ("<A>", "<B>", "points"))
    log_probs = torch.full((len(tokenizer),), -30.0)
    log_probs[torch.tensor([a, b, other])] = torch.tensor([0.1, 0.3, 0.6]).log()
    guide = Guide(ChatTokens(tokenizer))
    draws = [guide.draw(log_probs, make_text_game("ipd", 0).pattern, [], source) for _ in range(2000)]
    assert set(draws) == {a, b}
    assert abs(draws.count(a) / 2000 - 0.25) < 4 * (0.25 * 0.75 / 2000) ** 0.5
    with pytest.raises(ValueError, match="cannot go on"):
        guide.draw(log_probs, "x", [a], source)


@every_game
def test_free_tries_come_first_and_are_forgotten(
    model_of: Callable[[str], Qwen2ForCausalLM],
    tokenizers: dict[str, PreTrainedTokenizerFast],
    source: torch.Generator,
    game: str,
) -> None:
    model, words = model_of(game), tokenizers[game]
    player = ModelPlayer(model, words, max_new_tokens=200, generator=source, guided=True, free_tries=2)
    games = [make_text_game(game, seed, rounds=2, show_rules=False) for seed in range(2)]
    play(games, [(player, player)] * 2)  # an untrained model says nothing that can be read by itself
    assert all(table.errors == [] for table in games)
    for chat in player.transcripts:
        assert sum(a != b for a, b in pairwise(chat.mask)) <= 2 * len(games[0].rewards) * 3
        with torch.no_grad():
            log_probs = model(torch.tensor([chat.ids])).logits.log_softmax(-1)[0, len(chat.prompt_ids) - 1 : -1]
        expected = log_probs.gather(1, torch.tensor(chat.completion_ids)[:, None])[:, 0]
        sampled = torch.tensor(chat.mask).bool()
        torch.testing.assert_close(torch.tensor(chat.log_probs)[sampled], expected[sampled], atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="free_tries"):
        ModelPlayer(model, words, free_tries=1)


def test_free_tries_that_can_be_read_stay(warm: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    chats = []
    for options in ({}, {"guided": True, "free_tries": 50}):
        player = ModelPlayer(warm, tokenizer, max_new_tokens=2, generator=torch.Generator().manual_seed(3), **options)
        game = make_text_game("ipd", 0, rounds=1, show_rules=False)
        play([game], [(player, player)])
        chats.append([chat.ids for chat in player.transcripts] if not game.errors else None)
    assert chats[0] == chats[1]


# --- sampling


def test_sampling_settings_are_those_of_their_definition() -> None:
    logits, chats = torch.tensor([[2.0, 1.0, 0.5, -1.0]]), [[1, 1, 3]]
    plain = logits.softmax(-1)

    def probabilities(**options: object) -> torch.Tensor:
        return Sampling(**options).log_probs(logits, chats).exp()[0]

    torch.testing.assert_close(probabilities(), plain[0])
    torch.testing.assert_close(probabilities(temperature=0.5), (logits / 0.5).softmax(-1)[0])
    two = torch.tensor([plain[0, 0], plain[0, 1], 0, 0]) / plain[0, :2].sum()
    torch.testing.assert_close(probabilities(top_k=2), two)
    torch.testing.assert_close(probabilities(top_p=0.7), two)
    torch.testing.assert_close(probabilities(min_p=0.3), two)
    said = torch.tensor([2.0, 1.0 / 1.5, 0.5, -1.0 * 1.5]).softmax(-1)
    torch.testing.assert_close(probabilities(repetition_penalty=1.5), said)
    with pytest.raises(ValueError, match="temperature"):
        Sampling(temperature=0)


def test_penalties_do_not_look_at_padding() -> None:
    logits = torch.ones(2, 5)
    log_probs = Sampling(repetition_penalty=2.0).log_probs(logits, [[3], [1, 2, 4]])
    assert (log_probs[0] < log_probs[0].max()).tolist() == [False, False, False, True, False]


def test_inverting_sums_draws_each_index_as_often_as_it_should() -> None:
    probabilities = torch.tensor([[0.25, 0.0, 0.75, 0.0]])
    uniform = (torch.arange(8) + 0.5) / 8
    assert invert(probabilities.expand(8, 4), uniform).tolist() == [0, 0, 2, 2, 2, 2, 2, 2]
    assert invert(probabilities, torch.tensor([1 - 2**-24])).tolist() == [2]
    assert invert(probabilities, torch.tensor([0.0])).tolist() == [0]


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
