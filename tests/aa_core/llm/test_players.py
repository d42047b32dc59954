from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from aa_core.games.text import make_text_game
from aa_core.llm.buffer import AgentBuffer
from aa_core.llm.players import BASE, ModelPlayer, ScriptedPlayer, play
from aa_core.llm.rollout import RowCache, Sampling, Transcript


def test_scripted_players_meet_models_and_each_other() -> None:
    games = [make_text_game("ipd", seed) for seed in range(2)]
    kind, greedy = ScriptedPlayer("cooperate"), ScriptedPlayer("defect")
    play(games, [(kind, greedy), (greedy, greedy)])
    assert games[0].rewards == [(0, 5)] * 10
    assert games[1].rewards == [(1, 1)] * 10


def test_an_engine_samples_in_the_models_stead(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    label = [*tokenizer.encode("<B>", add_special_tokens=False), tokenizer.eos_token_id]
    read: list[list[int]] = []

    def engine(chats: list[list[int]]) -> tuple[list[list[int]], list[list[float]]]:
        read.extend(chats)
        return [label] * len(chats), [[-0.5, -0.25]] * len(chats)

    player = ModelPlayer(model, tokenizer, engine=engine)
    game = make_text_game("ipd", 0, rounds=3)
    play([game], [(player, ScriptedPlayer("cooperate"))])
    assert game.actions == [(1, 0)] * 3
    (chat,) = player.transcripts
    whole = chat.prompt_ids + chat.completion_ids
    assert len(read) == 3
    assert all(whole[: len(seen)] == seen for seen in read)  # each turn sees the whole chat so far
    assert [p for p, m in zip(chat.log_probs, chat.mask, strict=True) if m] == [-0.5, -0.25] * 3


def test_an_engine_is_told_the_pattern_when_replies_are_guided(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    label, noise = ([*tokenizer.encode(said), tokenizer.eos_token_id] for said in ("<B>", "points"))
    patterns: list[str | None] = []

    def engine(chats: list[list[int]], pattern: str | None = None) -> tuple[list[list[int]], list[list[float]]]:
        patterns.append(pattern)
        return [label if pattern else noise] * len(chats), [[-0.5, -0.25]] * len(chats)

    player = ModelPlayer(model, tokenizer, guided=True, free_tries=2, engine=engine)
    games = [make_text_game("ipd", 0, rounds=3) for _ in range(2)]
    play(games, [(player, ScriptedPlayer("cooperate"))] * 2)
    assert patterns == [None, None, games[0].pattern] * 3
    assert all(game.actions == [(1, 0)] * 3 for game in games)
    for chat in player.transcripts:  # what was tried in vain is not trained on
        assert tokenizer.decode(chat.ids).count("points") == tokenizer.decode(chat.prompt_ids).count("points")
        assert sum(chat.mask) == 6


def test_wrong_players_are_refused_by_name(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ValueError, match="adapter must be one of"):
        ModelPlayer(model, tokenizer, adapter="gone")
    with pytest.raises(ValueError, match="adapter must be one of None"):
        ModelPlayer(model, tokenizer, adapter=BASE)
    with pytest.raises(ValueError, match="strategy must be one of"):
        play([make_text_game("split", 0)], [(ScriptedPlayer("cooperate"),) * 2])
    with pytest.raises(ValueError, match="seats"):
        play([make_text_game("ipd", 0)], [])


def test_adapters_answer_as_themselves_and_leave_the_model_as_it_was(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, lora: LoraConfig, tmp_path: Path
) -> None:
    tuned = get_peft_model(model, lora, adapter_name="policy")
    buffer = AgentBuffer(tuned, tmp_path, every=1, drawn=1)
    buffer.keep(1)  # the untrained adapter, which changes nothing
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B.policy" in name:
                parameter.add_(0.5)
    ((name, number),) = buffer.draw(1, Random(0)).items()
    buffer.load(name, number)
    trainable = {n for n, p in tuned.named_parameters() if p.requires_grad}
    texts = {}
    for label, options in {"policy": {}, "past": {"adapter": name}, "base": {"adapter": BASE}}.items():
        source = torch.Generator().manual_seed(0)
        player = ModelPlayer(tuned, tokenizer, max_new_tokens=4, generator=source, **options)
        play([make_text_game("ipd", 0, rounds=4)], [(player, player)])
        texts[label] = [chat.completion_ids for chat in player.transcripts]
    assert texts["past"] == texts["base"] != texts["policy"]
    assert tuned.active_adapter == "policy"
    assert {n for n, p in tuned.named_parameters() if p.requires_grad} == trainable
    assert all(".policy." in n for n in trainable)


def test_adapters_of_single_games_answer_in_one_pass_as_each_would_alone(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, lora: LoraConfig
) -> None:
    tuned = get_peft_model(model, lora, adapter_name="policy")
    names = ["policy", "past0", "past1"]
    for index, name in enumerate(names[1:]):
        tuned.add_adapter(name, lora)
        with torch.no_grad():
            for parameter in (p for n, p in tuned.named_parameters() if f"lora_B.{name}" in n):
                parameter.normal_(generator=torch.Generator().manual_seed(index))
    tuned.set_adapter("policy")
    kind = ScriptedPlayer("cooperate")

    likeliest = Sampling(top_k=1)  # nothing is drawn that depends on who else answers

    def said(each: list[str], **options: str) -> list[list[int]]:
        games = [make_text_game("ipd", seed, rounds=3) for seed in range(6)]
        who = ModelPlayer(tuned, tokenizer, max_new_tokens=4, sampling=likeliest, **options)
        who.adapters.update(zip(games, each, strict=False))
        play(games, [(who, kind)] * 6)
        return [chat.completion_ids for chat in who.transcripts]

    alone = {name: said([], adapter=name) for name in names}
    assert said(names * 2) == [alone[names[index % 3]][index] for index in range(6)]
    assert said(["past0"] * 3, adapter="past1") == alone["past0"][:3] + alone["past1"][3:]
    assert len({str(texts) for texts in alone.values()}) > 1
    with pytest.raises(ValueError, match="adapters must be one for each game"):
        said(["past0"])


def test_buffer_copies_on_time(model: Qwen2ForCausalLM, lora: LoraConfig, tmp_path: Path) -> None:
    buffer = AgentBuffer(get_peft_model(model, lora, adapter_name="policy"), tmp_path, every=3, drawn=2)
    assert buffer.draw(0, Random(0)) == {}
    lengths = []
    for step in range(10):
        buffer.keep(step)
        lengths.append(len(list(tmp_path.iterdir())))
    assert lengths == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert len(set(buffer.draw(9, Random(0)).values())) == 2


# --- memory and going on


@pytest.mark.parametrize("name", ["ipd", "trust_and_split"])
def test_a_budget_bounds_the_cache_whatever_the_number_of_games(
    model_of: Callable[[str], Qwen2ForCausalLM], tokenizers: dict[str, PreTrainedTokenizerFast], name: str
) -> None:
    held: list[int] = []
    cached = RowCache.update

    def update(cache: RowCache, *arguments: object, **options: object) -> object:
        result = cached(cache, *arguments, **options)
        held.append(cache._kept[0][0].shape[0] * cache._kept[0][0].shape[2])  # rows and columns
        return result

    model, words = model_of(name), tokenizers[name]
    games = [make_text_game(name, seed, rounds=2, show_rules=False) for seed in range(9)]
    player = ModelPlayer(model, words, max_new_tokens=5, generator=torch.Generator().manual_seed(0))
    play([make_text_game(name, seed, rounds=2, show_rules=False) for seed in range(9)], [(player, player)] * 9)
    assert len(player.transcripts) == 18
    longest = max(len(chat.ids) for chat in player.transcripts)
    player.token_budget = budget = 3 * 3 * (longest + 5)  # two seats of three games, and half as much again
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RowCache, "update", update)
        play(games, [(player, player)] * 9)
    assert 0 < max(held) <= budget
    assert all(game.done for game in games)
    chats = [player.transcript(game, seat) for game in games for seat in (0, 1)]
    assert len({id(chat) for chat in chats}) == 18
    assert len(player.transcripts) < 18  # they were not all played to the end together
    same = [make_text_game(name, seed, rounds=2, show_rules=False) for seed in range(9)]
    for game, known in zip(same, games, strict=True):  # what each seat has read and said is one chat of that game
        said = {seat: iter(replies(player.transcript(known, seat), words)) for seat in (0, 1)}
        while not game.done:
            game.submit({seat: next(said[seat]) for seat in game.awaited})
        assert (game.actions, game.errors) == (known.actions, known.errors)


def replies(chat: Transcript, words: PreTrainedTokenizerFast) -> list[str]:
    """What was sampled in a chat, reply by reply."""
    found: list[list[int]] = []
    for index, (token, sampled) in enumerate(zip(chat.completion_ids, chat.mask, strict=True)):
        if sampled:
            if not index or not chat.mask[index - 1]:
                found.append([])
            found[-1].append(token)
    return [words.decode(ids, skip_special_tokens=True).strip() for ids in found]


def test_a_game_that_was_interrupted_goes_on_with_what_was_said(
    model_of: Callable[[str], Qwen2ForCausalLM], tokenizers: dict[str, PreTrainedTokenizerFast]
) -> None:
    class Failing(ScriptedPlayer):
        left = 3

        def answer(self, turns: list) -> list:
            if any(turn is not None for turn in turns):
                self.left -= 1
                if self.left == 0:
                    raise RuntimeError("gone")
            return super().answer(turns)

    def match(fails: int) -> tuple[list[list[int]], list[tuple[float, float]]]:
        other = Failing("random", Random(0))
        other.left = fails
        player = ModelPlayer(
            model_of("trust_and_split"), tokenizers["trust_and_split"], max_new_tokens=60, guided=True,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        games = [make_text_game("trust_and_split", seed, rounds=2) for seed in range(2)]
        for _ in range(2):
            with suppress(RuntimeError):
                play(games, [(player, other)] * 2)
        return [player.transcript(game, 0).ids for game in games], [game.rewards for game in games]

    assert match(3) == match(10**6)


def test_an_answer_that_fails_leaves_no_adapter_behind(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, lora: LoraConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned = get_peft_model(model, lora, adapter_name="policy")
    tuned.add_adapter("past0", lora)
    player = ModelPlayer(tuned, tokenizer, "past0", max_new_tokens=2, generator=torch.Generator().manual_seed(0))

    def fail(cache: RowCache, *_: object, **__: object) -> None:
        raise MemoryError("no room")

    ids = torch.ones(3, 4, dtype=torch.long)
    before = tuned.train()(ids).logits
    with monkeypatch.context() as patch:
        patch.setattr(RowCache, "update", fail)
        with pytest.raises(MemoryError):
            play([make_text_game("ipd", 0, rounds=2)], [(player, ScriptedPlayer("defect"))])
    assert torch.equal(tuned.train()(ids).logits, before)
