from __future__ import annotations

from random import Random

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from aa_core.games.text import make_text_game
from aa_core.llm.buffer import AgentBuffer
from aa_core.llm.players import ApiPlayer, ModelPlayer, PersonPlayer, ScriptedPlayer, play


def test_scripted_players_meet_models_and_each_other() -> None:
    games = [make_text_game("ipd", seed) for seed in range(2)]
    kind, greedy = ScriptedPlayer("cooperate"), ScriptedPlayer("defect")
    play(games, [(kind, greedy), (greedy, greedy)])
    assert games[0].rewards == [(0, 5)] * 10
    assert games[1].rewards == [(1, 1)] * 10


def test_a_person_is_asked_again_until_the_reply_can_be_read() -> None:
    typed = iter(["what?", "<B>", "<A>"])
    shown = []

    def ask(text: str) -> str:
        shown.append(text)
        return next(typed)

    game = make_text_game("ipd", 0, rounds=2)
    play([game], [(PersonPlayer(ask), ScriptedPlayer("cooperate"))])
    assert game.actions == [(1, 0), (0, 0)]
    assert "<A> or <B>" in shown[1]


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
    with pytest.raises(ValueError, match="guided"):
        ModelPlayer(model, tokenizer, guided=True, engine=engine)


def test_wrong_players_are_refused_by_name(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="adapter must be one of"):
        ModelPlayer(model, tokenizer, adapter="gone")
    with pytest.raises(ValueError, match="frozen_base"):
        ModelPlayer(model, tokenizer, frozen_base=True)
    with pytest.raises(ValueError, match="strategy must be one of"):
        play([make_text_game("split", 0)], [(ScriptedPlayer("cooperate"),) * 2])
    with pytest.raises(ValueError, match="seats"):
        play([make_text_game("ipd", 0)], [])
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises((ImportError, ValueError), match=r"openai|OPENAI_API_KEY"):
        ApiPlayer("any")


def test_adapters_answer_as_themselves_and_leave_the_model_as_it_was(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, lora: LoraConfig
) -> None:
    tuned = get_peft_model(model, lora, adapter_name="policy")
    buffer = AgentBuffer(tuned, every=1, spare=1)
    buffer.update(1)  # the untrained adapter, which changes nothing
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B.policy" in name:
                parameter.add_(0.5)
    (name,) = buffer.draw(Random(0))
    trainable = {n for n, p in tuned.named_parameters() if p.requires_grad}
    texts = {}
    for label, options in {"policy": {}, "past": {"adapter": name}, "base": {"frozen_base": True}}.items():
        source = torch.Generator().manual_seed(0)
        player = ModelPlayer(tuned, tokenizer, max_new_tokens=4, generator=source, **options)
        play([make_text_game("ipd", 0, rounds=4)], [(player, player)])
        texts[label] = [chat.completion_ids for chat in player.transcripts]
    assert texts["past"] == texts["base"] != texts["policy"]
    assert tuned.active_adapter == "policy"
    assert {n for n, p in tuned.named_parameters() if p.requires_grad} == trainable
    assert all(".policy." in n for n in trainable)


def test_buffer_copies_on_time_and_keeps_the_newest(model: Qwen2ForCausalLM, lora: LoraConfig) -> None:
    buffer = AgentBuffer(get_peft_model(model, lora, adapter_name="policy"), every=3, capacity=2, spare=2)
    assert buffer.draw(Random(0)) == []
    lengths = []
    for step in range(10):
        buffer.update(step)
        lengths.append(len(buffer.past))
    assert lengths == [0, 0, 0, 1, 1, 1, 2, 2, 2, 2]
    assert len(set(buffer.draw(Random(0)))) == 2
