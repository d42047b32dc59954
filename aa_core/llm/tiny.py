"""The embedded model: a real transformers chat model of about 0.15 million parameters that needs no download.

It is a *model organism*: small enough to see the whole pipeline work on any machine in minutes. SFTTrainer of TRL
warms it up on generated transcripts to a cooperative but imperfect prior, which stands for the manners that a large
instruction-tuned model brings along. What holds for the small model need not hold for a large one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from random import Random

import torch
from datasets import Dataset
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, set_seed
from trl import SFTConfig, SFTTrainer

from aa_core.games import text as text_games
from aa_core.games.text import (
    BEATS,
    HANDS,
    ITEMS,
    QUANTITY,
    TextGame,
    TrustAndSplitTextGame,
    Turn,
    example_texts,
    make_text_game,
)
from aa_core.llm import rollout
from aa_core.llm.players import Seat, play
from aa_core.llm.rollout import ChatTokens, Transcript
from aa_core.llm.settings import WarmUp
from experiments.records import code_hash, config_hash

CACHE = Path(os.environ.get("AA_CACHE", Path.home() / ".cache" / "aa-companion"))
SETTINGS = "warm_up.json"  # the last file that a finished warm-up writes
USER, ASSISTANT, END, PAD, UNKNOWN = "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>", "<|unknown|>"
# words, tags such as <A> and <<message_start>>, and single marks; white space separates and is not kept
WORDS = r"<\|\w+\|>|<<\w+>>|<\w>|\w+|[^\w\s]"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}" + USER + " {{ message['content'] }} {% else %}"
    + ASSISTANT + " {{ message['content'] }} " + END + " {% endif %}"
    "{% endfor %}{% if add_generation_prompt %}" + ASSISTANT + "{% endif %}"
)  # fmt: skip


def tokenizer() -> PreTrainedTokenizerFast:
    """Word-level tokenizer over every word of the games; unknown words become one token."""
    words = sorted({word for text in example_texts() for word in re.findall(WORDS, text)})
    vocabulary = {word: index for index, word in enumerate([PAD, UNKNOWN, USER, ASSISTANT, END, *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\s+"), "removed"),
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def untrained(settings: WarmUp, words: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """A Qwen2 of `settings`' size with random weights."""
    set_seed(settings.seed)  # transformers initialises from the global generator
    config = Qwen2Config(
        vocab_size=len(words),
        hidden_size=settings.hidden_size,
        intermediate_size=2 * settings.hidden_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        initializer_range=settings.initializer_range,
        rope_parameters={"rope_type": "default", "rope_theta": settings.rope_theta},
        bos_token_id=None,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    model = Qwen2ForCausalLM(config)
    model.model.embed_tokens.weight.data.normal_(0, settings.embedding_range)
    return model


def prior_reply(game: TextGame, player: int, rng: Random, settings: WarmUp) -> str:
    """What the prior says: mostly cooperative, weakly conditional, mostly truthful."""
    if game.name == "ipd":
        own, other = (game.actions[-1][player], game.actions[-1][1 - player]) if game.actions else (None, None)
        state = 0 if own is None else 1 + 2 * own + other
        return game.labels[int(rng.random() >= settings.ipd_prior[state])]
    fair = rng.random() < (settings.fairness_after_greed if _was_greedy(game, 1 - player) else settings.fairness)
    least = QUANTITY if rng.random() < 0.5 else QUANTITY // 2  # of an unfair claim
    if game.name == "split":
        own, other = game.values[game.round][player], game.values[game.round][1 - player]
        claims = [_claim(mine, yours, fair, least, rng) for mine, yours in zip(own, other, strict=True)]
        return "Proposal: " + ", ".join(f"{claim} {item}" for claim, item in zip(claims, ITEMS, strict=True))
    hand, said = game.hands[game.round][player], game.messages[game.round].get(1 - player, "")
    heard = [other for other in HANDS if other in said and other != hand]
    if game.speaking:
        lies = [other for other in HANDS if other != hand and other not in heard]
        named = hand if rng.random() < settings.honesty else rng.choice(lies)
        status = text_games.hands_named(named, heard[0]) if len(heard) == 1 else ""
        return f"<<message_start>> My hand is {named}. {status}<<message_end>>"
    value = 0 if len(heard) != 1 else 1 if BEATS[hand] == heard[0] else -1
    return f"<<proposal_start>> {_claim(value, 0, fair, least, rng)} <<proposal_end>>"


def _was_greedy(game: TextGame, player: int) -> bool:
    """Whether a player claimed too much in the last round: of all items together, or with the lower hand."""
    if not game.actions:
        return False
    claims = game.actions[-1][player]
    if game.name == "split":
        return sum(claims) > 2 * QUANTITY
    return claims > QUANTITY // 2 and game.upper(game.round - 1) != player


def _claim(own: int, other: int, fair: bool, least: int, rng: Random) -> int:
    """A claim on one item: leaves most of it to who values it more, or anything from `least` upwards."""
    if not fair:
        return rng.randint(least, QUANTITY)
    if own == other:
        return QUANTITY // 2
    return rng.randint(8, 10) if own > other else rng.randint(0, 2)


class Scribe:
    """A player that follows a function and keeps the tokens that a model would have read and written."""

    def __init__(self, reply: Callable[[TextGame, int], str], words: PreTrainedTokenizerFast) -> None:
        self.reply, self.template = reply, ChatTokens(words)

    def sit(self, seats: Sequence[Seat]) -> None:
        """See `players.Player.sit`."""
        self._seats = list(seats)
        self._transcripts = [Transcript() for _ in seats]

    def transcript(self, game: TextGame, player: int) -> Transcript:
        """What was read and written in a seat."""
        return self._transcripts[self._seats.index((game, player))]

    def answer(self, turns: Sequence[Turn | None]) -> list[str | None]:
        """See `players.Player.answer`."""
        replies: list[str | None] = []
        for transcript, (game, player), turn in zip(self._transcripts, self._seats, turns, strict=True):
            reply = None
            if turn is not None:
                reply = self.reply(game, player)
                self._write(transcript, turn.text, reply, game.round)
            replies.append(reply)
        return replies

    def _write(self, transcript: Transcript, text: str, reply: str, round_index: int) -> None:
        if transcript.completion_ids:
            transcript.add_text(self.template.following(text, ended=True), round_index)
        else:
            transcript.add_text(self.template.first(text), round_index)
        for token in [*self.template.tokenizer.encode(reply, add_special_tokens=False), self.template.eos]:
            transcript.add_sample(token, 0.0, round_index)


def transcripts(
    settings: WarmUp, words: PreTrainedTokenizerFast, kind: type[TextGame] | None = None
) -> list[Transcript]:
    """Chats of the prior with co-players of every kindness, so that it is seen in all states of a game.

    A co-player is the prior with one number drawn per game for its cooperation or fairness.

    Args:
        settings: of the prior.
        words: tokenizer.
        kind: class of the game, if not the one that is called `settings.game`.
    """
    rng = Random(settings.seed)
    new = kind or partial(make_text_game, settings.game)
    games = [new(seed, rounds=settings.rounds) for seed in range(settings.games)]
    kindness = {id(game): rng.random() for game in games}

    def co_reply(game: TextGame, player: int) -> str:
        kind = kindness[id(game)]
        return prior_reply(
            game, player, rng, replace(settings, ipd_prior=(kind,) * 5, fairness=kind, fairness_after_greed=kind)
        )

    prior = Scribe(lambda game, player: prior_reply(game, player, rng, settings), words)
    other = Scribe(co_reply, words)
    play(games, [(prior, other) if index % 2 else (other, prior) for index in range(len(games))])
    return [prior.transcript(game, 1 - index % 2) for index, game in enumerate(games)]


class _NoRules(TrustAndSplitTextGame):
    """Trust-and-Split without rules."""

    def _intro(self) -> str:
        return ""


class _BareRounds(_NoRules):
    """Trust-and-Split without rules and recaps."""

    def _recap(self, player: int) -> str:
        return ""


def statements(settings: WarmUp, words: PreTrainedTokenizerFast, number: int = 512, each: int = 16) -> list[Transcript]:
    """Chats that only say who has the upper hand."""
    rng, template = Random(settings.seed), ChatTokens(words)
    chats = []
    for _ in range(number):
        pairs = [rng.sample(HANDS, 2) for _ in range(each)]
        said = "".join(f"My hand is {own}. {text_games.hands_named(own, other)}" for own, other in pairs)
        chat = Transcript()
        chat.add_text(template.first("Write your message."), 0)
        for token in words.encode(f"<<message_start>> {said}<<message_end>>", add_special_tokens=False):
            chat.add_sample(token, 0.0, 0)
        chats.append(chat)
    return chats


def warm_up(settings: WarmUp, folder: Path) -> None:
    """Train the embedded model on the prior's transcripts and save it, weights as safetensors, to `folder`."""
    words = tokenizer()
    model = untrained(settings, words)
    said, bare, answered = settings.drill_steps
    # Who has the upper hand depends on both hands, and what that means on who says it: one of the two alone tells
    # nothing, so there is no slope to follow until the model looks at both. Greed, a high claim with the lower hand, is
    # much the same. Whole games show both too rarely.
    honest = replace(settings, games=1024, honesty=1.0, fairness=1.0, fairness_after_greed=1.0)
    if said:
        _fit(model, words, statements(settings, words), settings, said)
    if bare:
        _fit(model, words, transcripts(replace(honest, rounds=6), words, _BareRounds), settings, bare)
    if answered:
        firm = replace(honest, fairness_after_greed=0.0)
        _fit(model, words, transcripts(firm, words, _NoRules), settings, answered)
    _fit(model, words, transcripts(settings, words), settings, settings.steps)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    words.save_pretrained(folder)
    (folder / SETTINGS).write_text(json.dumps(asdict(settings), indent=1) + "\n", encoding="utf-8")


def _fit(
    model: Qwen2ForCausalLM, words: PreTrainedTokenizerFast, chats: list[Transcript], settings: WarmUp, steps: int
) -> None:
    """Supervised steps on what was written in `chats`."""
    rows = {
        "input_ids": [chat.prompt_ids + chat.completion_ids for chat in chats],
        "assistant_masks": [[0] * len(chat.prompt_ids) + chat.mask for chat in chats],
    }
    with tempfile.TemporaryDirectory() as scratch:
        arguments = SFTConfig(
            output_dir=scratch,
            max_steps=steps,
            per_device_train_batch_size=settings.batch,
            learning_rate=settings.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=steps // 10,
            max_length=None,
            seed=settings.seed,
            data_seed=settings.seed,
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            save_strategy="no",
            report_to="none",
            logging_strategy="no",
            disable_tqdm=True,
        )
        SFTTrainer(model, arguments, train_dataset=Dataset.from_dict(rows), processing_class=words).train()


def load(settings: WarmUp | None = None) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]:
    """The warmed-up model and its tokenizer; trained once per configuration and kept in the cache."""
    settings = settings or WarmUp()
    code = code_hash(text_games, rollout, sys.modules[__name__])
    folder = CACHE / f"tiny-{settings.game}-{config_hash(json.loads(json.dumps(asdict(settings))) | {'code': code})}"
    if not (folder / SETTINGS).is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=CACHE))
        try:
            warm_up(settings, scratch)
            scratch.replace(folder)  # complete or not there at all
        except OSError:
            if not (folder / SETTINGS).is_file():  # otherwise another process was faster
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return read(folder)


def read(folder: Path) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]:
    """Model and tokenizer from where `warm_up` saved them."""
    model = Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    # not AutoTokenizer: for a Qwen2 model it would replace the pre-tokenizer by Qwen2's own
    return model, PreTrainedTokenizerFast.from_pretrained(folder)
