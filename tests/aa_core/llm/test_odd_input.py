"""Every public function of the language-model part refuses odd input by the argument's name; see `odd_input`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from odd_input import Call, fresh, generator, listed, modules, public_names, rng, walk
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save
from trainers import ALIGNED, LORA, config
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from aa_core import llm
from aa_core.games.text import make_text_game
from aa_core.llm import players, trainer
from aa_core.llm.buffer import AgentBuffer
from aa_core.llm.players import ModelPlayer, ScriptedPlayer
from aa_core.llm.rollout import ChatTokens, Sampling
from aa_core.llm.trainer import AdvantageAlignmentTrainer, Table

EXEMPT = {
    "llm.players.Player*": "the protocol of players",
    "llm.players.*.sit": (by_play := "called by `play`, which checks games and seats"),
    "llm.players.*.answer": by_play,
    "llm.players.ModelPlayer.room": by_play,
    "llm.rollout.Transcript*": (record := "a record that a function fills or returns; whoever takes one checks it"),
    "llm.trainer.Table": record,
    "llm.trainer.Sample": record,
    "llm.rollout.Sampling.log_probs": (inner := "called for every token, with what the model and the chats gave"),
    "llm.rollout.ChatTokens.*": "called for every text of a game and every sampled reply",
    "llm.rollout.Guide*": inner,
    "llm.rollout.RowCache*": inner,
    "llm.rollout.Chats*": "a batch of chats inside a player, which checks its settings",
    "llm.rollout.invert": inner,
    "llm.trainer.merged": "called by the trainer for its engine, with its own model and adapter",
}
LEGAL = {
    "llm.buffer.AgentBuffer(folder)=missing": "made when the first copy is kept",
    "llm.players.ModelPlayer(template)=empty": "no options of the template",
    "llm.players.ModelPlayer(template)=none": "the same",
    "llm.rollout.ChatTokens(ends)=empty": "no more ends than the template's own",
    "llm.rollout.ChatTokens(options)=empty": "no options of the template",
    "llm.rollout.Sampling(top_k)=negative": "all tokens, as vLLM says it",
    "llm.trainer.round_advantages(rewards)=cut": "fewer rounds",
    "llm.trainer.round_advantages(groups)=*": "any integers are names of groups",
    "llm.trainer.round_advantages(kinds)=high": "any integers from 0 on are names of kinds",
    "llm.trainer.AdvantageAlignmentConfig(buffer_every)=none": "no buffer",
    "llm.trainer.AdvantageAlignmentConfig(token_budget)=none": "no limit",
    "llm.trainer.AdvantageAlignmentConfig(save_total_limit)=none": "the same",
    "llm.buffer.AgentBuffer.file(update)=high": "a number in a file's name",
    "llm.buffer.AgentBuffer.keep(update)=high": "the same",
    "llm.buffer.AgentBuffer.load(update)=high": "the copy that `keep` has just taken",
    "llm.players.ModelPlayer(template)=wrong element": "an option's value is for the template to read",
    "llm.rollout.ChatTokens(options)=wrong element": "the same",
    "llm.*=other dtype": "any floating point type",
}
WORDED = {  # refused, in other words than "<argument> must"
    "llm.trainer.AdvantageAlignmentTrainer(model)=text": "the name of a model; transformers says that there is none",
    "llm.trainer.AdvantageAlignmentTrainer.train(*": "a path; transformers names the file that is not there",
    "llm.trainer.AdvantageAlignmentTrainer.play_batch(seeds)=*": "seed must be an integer, says the game of one",
}
LATER = {  # gaps; to close one means to train again, so they wait for a training that is due anyway
    "llm.buffer.AgentBuffer.draw(update)=high": "more copies than Python counts",
    "llm.players.ModelPlayer(model)=anything": (one := "an object is known by one attribute, if it is looked at"),
    "llm.players.ModelPlayer(sampling)=anything": one,
    "llm.trainer.token_credits(chat)=anything": one,
    "llm.trainer.round_advantages(settings)=anything": one,
    "llm.trainer.AdvantageAlignmentTrainer(*)=anything": one,
}


def scripted(strategy: Any, rng: Any) -> None:
    """A scripted player is refused by the first game in which it sits: strategies are those of a game."""
    player = ScriptedPlayer(strategy, rng)
    players.play([make_text_game("ipd", 0, rounds=1)], [(player, player)])


def of_play(model: Callable[[], PeftModel], words: Any, folder: Path) -> dict[str, tuple]:
    """The buffer, players and what they are made of."""
    tuned, script = model(), ScriptedPlayer("defect")
    player = ModelPlayer(tuned, words(), max_new_tokens=2, generator=generator())
    game = make_text_game("ipd", 0, rounds=2)
    players.play([game], [(player, script)])
    past = AgentBuffer(model(), folder / "agents", every=1, drawn=1)
    past.keep(1)
    of_model = dict(
        model=lambda: tuned, tokenizer=words, adapter="default", max_new_tokens=2, sampling=Sampling,
        generator=generator, guided=True, free_tries=1, engine=lambda: lambda chats: ([], []), token_budget=9,
        template=lambda: {"enable_thinking": False},
    )  # fmt: skip
    draws = dict(temperature=1.0, top_k=3, top_p=0.9, min_p=0.1, repetition_penalty=1.5)
    one = [make_text_game("ipd", 0, rounds=1)]
    return {
        "llm.buffer.AgentBuffer": (AgentBuffer, dict(model=model, folder=folder, every=1, drawn=1)),
        "llm.buffer.AgentBuffer.file": (past.file, dict(update=1)),
        "llm.buffer.AgentBuffer.keep": (past.keep, dict(update=1)),
        "llm.buffer.AgentBuffer.draw": (past.draw, dict(update=1, rng=rng)),
        "llm.buffer.AgentBuffer.load": (past.load, dict(name="past0", update=1)),
        "llm.players.ModelPlayer": (ModelPlayer, of_model),
        "llm.players.ModelPlayer.transcript": (player.transcript, dict(game=game, player=0)),
        "llm.players.ScriptedPlayer": (scripted, dict(strategy="random", rng=rng)),
        "llm.players.play": (players.play, dict(games=lambda: one, seats=[(script, script)])),
        "llm.rollout.Sampling": (Sampling, draws),
        "llm.rollout.ChatTokens": (ChatTokens, dict(tokenizer=words, ends=(1,), options={"a": 1})),
        "llm.trainer.round_probabilities": (
            trainer.round_probabilities, dict(tables=[Table(game, (player, script), (0,))])),
        "llm.trainer.token_credits": (
            trainer.token_credits, dict(chat=player.transcript(game, 0), credits=torch.tensor([1.0, 2.0]))),
    }  # fmt: skip


def of_training(model: Callable[[], Any], words: Any, folder: Path) -> dict[str, tuple]:
    """The trainer, its settings and its credits."""
    seats = dict(learning_seats="first", num_generations=8)
    saved = dict(save_strategy="steps", save_steps=1, max_steps=1)
    learner = AdvantageAlignmentTrainer(model(), config(folder, **seats, **saved), words(), ALIGNED, peft_config=LORA)
    learner.train()
    settings = dict(
        game="ipd", rounds=3, gamma=0.9, baseline="group", reward_scale=5.0, learning_seats="first", buffer_every=1,
        buffer_share=0.5, buffer_drawn=1, guided=True, free_tries=1, token_budget=99, scale_rewards="none",
        save_total_limit=2,
    )  # fmt: skip
    made = dict(
        model=model, args=lambda: config(folder, **seats), processing_class=words, credit=lambda: ALIGNED,
        co_player=lambda: ScriptedPlayer("defect"),
    )  # fmt: skip
    rewards = torch.linspace(-1, 1, 12, dtype=torch.float64).view(2, 2, 3)
    groups, kinds = torch.tensor([4, 4]), torch.tensor([[0, 1], [0, 1]])
    credits = dict(rewards=rewards, groups=groups, settings=lambda: learner.args, kinds=kinds)
    return {  # whatever makes settings comes last: accelerate then forgets of earlier trainers
        "llm.trainer.AdvantageAlignmentTrainer.train": (
            learner.train, dict(resume_from_checkpoint=str(folder / "checkpoint-1"))),
        "llm.trainer.AdvantageAlignmentTrainer.play_batch": (learner.play_batch, dict(seeds=[4] * 8)),
        "llm.trainer.round_advantages": (trainer.round_advantages, credits),
        "llm.trainer.AdvantageAlignmentConfig": (partial(config, folder), settings),
        "llm.trainer.AdvantageAlignmentTrainer": (partial(AdvantageAlignmentTrainer, peft_config=LORA), made),
    }  # fmt: skip


@pytest.fixture
def calls(
    model_of: Callable[[str], Qwen2ForCausalLM],
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, Callable[[], Call]]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    tuned = lambda: get_peft_model(model_of("ipd"), LORA)  # noqa: E731
    made = of_play(tuned, lambda: tokenizer, tmp_path) | of_training(
        lambda: model_of("ipd"), lambda: tokenizer, tmp_path
    )
    return {name: partial(fresh, *call) for name, call in made.items()}


def test_every_public_name_has_a_valid_call_or_a_reason(calls: dict[str, Callable[[], Call]]) -> None:
    public = {name for module in modules(llm) for name, _ in public_names(module)}
    assert sorted(name for name in public - calls.keys() if not listed(name, EXEMPT)) == []
    assert sorted(calls.keys() - public) == []
    assert [pattern for pattern in EXEMPT if not any(listed(name, {pattern: ""}) for name in public)] == []


def test_odd_values_are_refused_by_name_and_good_ones_taken(calls: dict[str, Callable[[], Call]]) -> None:
    wrong, count = walk(calls, LEGAL, WORDED, LATER)
    assert not wrong, "\n".join(wrong)
    assert count > 200


# --- files


@pytest.mark.parametrize(
    "damage", ["gone", "empty", "cut", "binary", "conflict", "foreign", "another model", "one bit", "folder"]
)
def test_a_damaged_copy_of_an_agent_is_named_with_the_way_out(
    model: Qwen2ForCausalLM, lora: LoraConfig, tmp_path: Path, damage: str
) -> None:
    past = AgentBuffer(get_peft_model(model, lora), tmp_path, every=3, drawn=1)
    past.keep(3)
    path = past.file(3)
    whole = path.read_bytes()
    names = load_file(path)
    wider = save({name: torch.zeros(7, 7) for name in names})
    contents = dict(empty=b"", cut=whole[:-9], binary=bytes(range(256)) * 9, conflict=b"<<<<<<< HEAD\n" + whole)
    contents |= {
        "one bit": whole[:-1] + bytes([whole[-1] ^ 1]),
        "foreign": save({"weight": torch.zeros(2)}),
        "another model": wider,
    }
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "gone":
        path.write_bytes(contents[damage])
    with pytest.raises(ValueError, match=r"folder must .*restore .*agent-3\.safetensors or train again"):
        past.load("past0", 3)
    path.rmdir() if damage == "folder" else path.unlink(missing_ok=True)
    path.write_bytes(whole)  # restored
    assert past.draw(3, rng()) == {"past0": 3}
    past.load("past0", 3)


def test_a_folder_that_cannot_be_written_is_named(model: Qwen2ForCausalLM, lora: LoraConfig, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    past = AgentBuffer(get_peft_model(model, lora), tmp_path / "file", every=1, drawn=1)
    with pytest.raises(OSError, match=r"cannot be written: .*agent-1\.safetensors"):
        past.keep(1)
