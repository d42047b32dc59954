"""The embedded model: a real transformers chat model of about 0.1 million parameters that needs no download.

It is a *model organism*: small enough to see the whole pipeline work on any machine in minutes. SFTTrainer of TRL
warms it up on generated transcripts to a cooperative but imperfect prior, which stands for the manners that a large
instruction-tuned model brings along. What holds for the small model need not hold for a large one.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from random import Random

from datasets import Dataset
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, set_seed
from trl import SFTConfig, SFTTrainer

from aa_core.games.text import SCRIPTED, TextGame, Turn, make_text_game, play_scripted, split, trust_and_split
from aa_core.games.text.base import HIGH, QUANTITY
from aa_core.games.text.ipd import IPDTextGame
from aa_core.games.text.split import SplitTextGame
from aa_core.games.text.trust_and_split import BEATS, HANDS, TrustAndSplitTextGame
from aa_core.llm.players import Seat, play
from aa_core.llm.rollout import ChatTokens, Transcript
from experiments.models import EMBEDDED

USER, ASSISTANT, END, PAD, UNKNOWN = "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>", "<|unknown|>"
# words, tags such as <A> and <<message_start>>, and single marks; white space separates and is not kept
WORDS = r"<\|\w+\|>|<<\w+>>|<\w>|\w+|[^\w\s]"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}" + USER + " {{ message['content'] }} {% else %}"
    + ASSISTANT + " {{ message['content'] }} " + END + " {% endif %}"
    "{% endfor %}{% if add_generation_prompt %}" + ASSISTANT + "{% endif %}"
)  # fmt: skip


@dataclass(frozen=True)
class WarmUp:
    """Settings of the embedded model, its prior and its warm-up.

    The prior cooperates mostly, conditions weakly and is mostly truthful. It is not told the rules of its game, which
    it could not read: its chats begin with the first round. Large words, sharp attention, and rotary frequencies for
    chats of a thousand tokens: 300 steps find what was said where, and which hand beats which.
    """

    game: str = "ipd"
    hidden_size: int = 64
    layers: int = 2
    heads: int = 4
    embedding_range: float = 0.3
    initializer_range: float = 0.1
    rope_theta: float = 300.0
    games: int = 2048  # transcripts
    rounds: int = 10  # of a transcript
    batch: int = 16  # transcripts of one step
    steps: int = 300  # on whole games
    drill_steps: tuple[int, int] = (0, 0)  # Trust-and-Split, before: without recaps; where greed is always answered
    learning_rate: float = 3e-3
    ipd_prior: tuple[float, ...] = (0.85, 0.89, 0.75, 0.86, 0.70)  # P(cooperate | START, CC, CD, DC, DD)
    fairness: float = 0.85  # share of fair claims in Split and Trust-and-Split ...
    fairness_after_greed: float = 0.5  # ... after a round in which the other was greedy
    honesty: float = 0.9  # share of true messages in Trust-and-Split
    seed: int = 0  # of the transcripts, the weights and the order of training


def example_texts(name: str) -> Iterator[str]:
    """Texts that together hold every word, number and mark of a game and its scripted players, to build a tokenizer.

    With the default options of the game. Words that only models or people say are not among them.
    """
    yield " ".join(str(number) for number in range(3 * QUANTITY * HIGH + 1 if name == "split" else QUANTITY + 1))
    for script in SCRIPTED[name]:
        for turn, reply in play_scripted(make_text_game(name, 0, rounds=20), script, "random", Random(0)):
            yield turn.text
            if reply is not None:
                yield reply
    if name == "trust_and_split":
        game = make_text_game(name, 0)
        game.submit({game.awaited[0]: ""})
        yield from (turn.text for turn in game.turns())  # an empty message


def tokenizer_of(game: str) -> PreTrainedTokenizerFast:
    """Word-level tokenizer over every word of a text game; unknown words become one token."""
    words = sorted({word for text in example_texts(game) for word in re.findall(WORDS, text)})
    vocabulary = {word: index for index, word in enumerate([PAD, UNKNOWN, USER, ASSISTANT, END, *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\s+"), "removed"),
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=PAD, unk_token=UNKNOWN, eos_token=END, chat_template=CHAT_TEMPLATE,
        additional_special_tokens=[USER, ASSISTANT], clean_up_tokenization_spaces=False,
    )  # fmt: skip


def untrained(settings: WarmUp, tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """A Qwen2 of `settings`' size with random weights."""
    set_seed(settings.seed)  # transformers initialises from the global generator
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=settings.hidden_size, intermediate_size=2 * settings.hidden_size,
        num_hidden_layers=settings.layers, num_attention_heads=settings.heads, num_key_value_heads=settings.heads,
        max_position_embeddings=4096, tie_word_embeddings=True, initializer_range=settings.initializer_range,
        rope_parameters={"rope_type": "default", "rope_theta": settings.rope_theta},
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config)
    model.model.embed_tokens.weight.data.normal_(0, settings.embedding_range)
    return model


def prior_reply(game: TextGame, player: int, rng: Random, settings: WarmUp) -> str:
    """What the prior says: mostly cooperative, weakly conditional, mostly truthful."""
    return _REPLIES[game.name](game, player, rng, settings)


def _ipd_reply(game: IPDTextGame, player: int, rng: Random, settings: WarmUp) -> str:
    state = 1 + 2 * game.actions[-1][player] + game.actions[-1][1 - player] if game.actions else 0
    return game.labels[int(rng.random() >= settings.ipd_prior[state])]


def _split_reply(game: SplitTextGame, player: int, rng: Random, settings: WarmUp) -> str:
    greed = bool(game.actions) and sum(game.actions[-1][1 - player]) > 2 * QUANTITY
    fair, least = _manners(greed, rng, settings)
    values = game.values[game.round]
    pairs = zip(values[player], values[1 - player], strict=True)
    return split.proposal(tuple(_claim(own, other, fair, least, rng) for own, other in pairs))


def _trust_reply(game: TrustAndSplitTextGame, player: int, rng: Random, settings: WarmUp) -> str:
    other = 1 - player
    greed = bool(game.actions) and game.actions[-1][other] > QUANTITY // 2 and game.upper(game.round - 1) == player
    fair, least = _manners(greed, rng, settings)
    hand, heard = game.hands[game.round][player], trust_and_split.heard_hands(game, player)
    if game.speaking:
        lies = [named for named in HANDS if named != hand and named not in heard]
        named = hand if rng.random() < settings.honesty else rng.choice(lies)
        status = trust_and_split.hands_named(named, heard[0]) if len(heard) == 1 else ""
        return f"<<message_start>> My hand is {named}. {status}<<message_end>>"
    value = 0 if len(heard) != 1 else 1 if BEATS[hand] == heard[0] else -1
    return trust_and_split.proposal(_claim(value, 0, fair, least, rng))


_REPLIES = {"ipd": _ipd_reply, "split": _split_reply, "trust_and_split": _trust_reply}


def _manners(greed: bool, rng: Random, settings: WarmUp) -> tuple[bool, int]:
    """Whether a reply is fair, and the least that an unfair one claims; `greed`: of the other in the last round."""
    fair = rng.random() < (settings.fairness_after_greed if greed else settings.fairness)
    return fair, QUANTITY if rng.random() < 0.5 else QUANTITY // 2


def _claim(own: int, other: int, fair: bool, least: int, rng: Random) -> int:
    """A claim on one item: leaves most of it to who values it more, or anything from `least` upwards."""
    if not fair:
        return rng.randint(least, QUANTITY)
    if own == other:
        return QUANTITY // 2
    return rng.randint(8, 10) if own > other else rng.randint(0, 2)


class Scribe:
    """A player that follows a function and keeps the tokens that a model would have read and written."""

    def __init__(self, reply: Callable[[TextGame, int], str], tokenizer: PreTrainedTokenizerFast) -> None:
        self.reply, self.template = reply, ChatTokens(tokenizer)

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
            transcript.add(self.template.following(text, self.template.end), round_index)
        else:
            transcript.add(self.template.first(text), round_index)
        for token in [*self.template.tokenizer.encode(reply, add_special_tokens=False), self.template.end]:
            transcript.add([token], round_index, 0.0)


def transcripts(
    settings: WarmUp,
    tokenizer: PreTrainedTokenizerFast,
    new: Callable[..., TextGame] | None = None,
) -> list[Transcript]:
    """Chats of the prior with co-players of every kindness, so that it is seen in all states of a game.

    A co-player is the prior with one number drawn per game for its cooperation or fairness. `new` makes a game from a
    seed and the options of a text game; by default the one called `settings.game`.
    """
    rng = Random(settings.seed)
    new = new or partial(make_text_game, settings.game)
    games = [new(seed, rounds=settings.rounds, show_rules=False) for seed in range(settings.games)]
    kindness = {id(game): rng.random() for game in games}

    def co_reply(game: TextGame, player: int) -> str:
        kind = kindness[id(game)]
        co_player = replace(settings, ipd_prior=(kind,) * 5, fairness=kind, fairness_after_greed=kind)
        return prior_reply(game, player, rng, co_player)

    prior = Scribe(lambda game, player: prior_reply(game, player, rng, settings), tokenizer)
    other = Scribe(co_reply, tokenizer)
    play(games, [(prior, other) if index % 2 else (other, prior) for index in range(len(games))])
    return [prior.transcript(game, 1 - index % 2) for index, game in enumerate(games)]


class _NoRecaps(TrustAndSplitTextGame):
    def recap(self, player: int) -> str:
        return ""


def warm_up(settings: WarmUp, folder: Path) -> None:
    """Train the embedded model on the prior's transcripts and save it, weights as safetensors, to `folder`."""
    tokenizer = tokenizer_of(settings.game)
    model = untrained(settings, tokenizer)
    bare, answered = settings.drill_steps
    # Who has the upper hand depends on both hands, and what that means on who says it: one of the two alone tells
    # nothing, so there is no slope to follow until the model looks at both. Greed, a high claim with the lower hand, is
    # much the same. Whole games show both too rarely.
    honest = replace(settings, games=1024, honesty=1.0, fairness=1.0, fairness_after_greed=1.0)
    if bare:
        _fit(model, tokenizer, transcripts(replace(honest, rounds=6), tokenizer, _NoRecaps), settings, bare)
    if answered:
        _fit(model, tokenizer, transcripts(replace(honest, fairness_after_greed=0.0), tokenizer), settings, answered)
    _fit(model, tokenizer, transcripts(settings, tokenizer), settings, settings.steps)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    (folder / EMBEDDED).write_text(json.dumps(asdict(settings), indent=1) + "\n", encoding="utf-8")


def _fit(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    chats: list[Transcript],
    settings: WarmUp,
    steps: int,
) -> None:
    """Supervised steps on what was written in `chats`."""
    rows = {
        "input_ids": [chat.prompt_ids + chat.completion_ids for chat in chats],
        "assistant_masks": [[0] * len(chat.prompt_ids) + chat.mask for chat in chats],
    }
    with tempfile.TemporaryDirectory() as scratch:
        arguments = SFTConfig(
            output_dir=scratch, max_steps=steps, per_device_train_batch_size=settings.batch, max_length=None,
            learning_rate=settings.learning_rate, lr_scheduler_type="cosine", warmup_steps=steps // 10,
            seed=settings.seed, data_seed=settings.seed, use_cpu=True, bf16=False, activation_checkpointing=False,
            save_strategy="no", report_to="none", logging_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        SFTTrainer(model, arguments, train_dataset=Dataset.from_dict(rows), processing_class=tokenizer).train()
