"""Play text games with language models: token in, token out, all games at once.

A chat only grows. Sampled ids are kept as they are and never decoded and encoded again; texts of the game are encoded
once, appended and masked. The key/value cache lives as long as the chat, so each turn processes only new tokens, and
only those of chats that have some. An engine (vLLM) can sample instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import regex
import torch
from peft.tuners.lora import LoraLayer
from torch import Generator, Tensor
from torch.nn.functional import pad
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.generation import logits_process

from aa_core.checks import check, check_fields, check_that

# Takes chats as token ids and, if replies are guided, their pattern; returns sampled ids and their log-probabilities
Engine = Callable[..., tuple[list[list[int]], list[list[float]]]]


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn; names, meaning and order of the steps are vLLM's, and GRPOConfig's."""

    temperature: float = 1.0
    top_k: int = 0  # 0: all tokens
    top_p: float = 1.0
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self)

    def log_probs(self, logits: Tensor, chats: Sequence[Sequence[int]]) -> Tensor:
        """Of the distribution to draw from, given `logits` `(rows, vocabulary)` of what follows each of `chats`."""
        if self.repetition_penalty != 1:
            width = max(map(len, chats))  # a chat's own first token pads it: what was said once counts once
            ids = torch.tensor([[*chat, *[chat[0]] * (width - len(chat))] for chat in chats], device=logits.device)
            logits = logits_process.RepetitionPenaltyLogitsProcessor(self.repetition_penalty)(ids, logits)
        logits = logits / self.temperature
        for setting, kind in ((self.min_p, "MinP"), (max(self.top_k, 0), "TopK"), (self.top_p % 1, "TopP")):
            if setting:
                logits = getattr(logits_process, f"{kind}LogitsWarper")(setting)(None, logits)
        return logits.log_softmax(-1)


@dataclass
class Transcript:
    """One player's chat as tokens; the last three are as long as `completion_ids`."""

    prompt_ids: list[int] = field(default_factory=list)  # everything before the first sampled token
    completion_ids: list[int] = field(default_factory=list)  # and from it on, sampled tokens and texts of the game
    mask: list[int] = field(default_factory=list)  # 1 for sampled tokens, 0 for texts of the game
    log_probs: list[float] = field(default_factory=list)  # of sampled tokens as they were drawn, 0 elsewhere
    rounds: list[int] = field(default_factory=list)  # index of the round that a token belongs to

    def add(self, ids: Sequence[int], round_index: int, log_prob: float | None = None) -> None:
        """Append tokens of the game, or a sampled one with its log-probability."""
        if log_prob is None and not self.completion_ids:
            self.prompt_ids += ids
            return
        self.completion_ids += ids
        self.mask += [int(log_prob is not None)] * len(ids)
        self.log_probs += [log_prob or 0.0] * len(ids)
        self.rounds += [round_index] * len(ids)

    @property
    def ids(self) -> list[int]:
        """All tokens."""
        return self.prompt_ids + self.completion_ids

    def retract(self, count: int) -> None:
        """Forget the last `count` sampled tokens."""
        for kept in (self.completion_ids, self.mask, self.log_probs, self.rounds):
            del kept[len(kept) - count :]


class ChatTokens:
    """A chat template, turned into the tokens that each new user text adds.

    Args:
        tokenizer: with a chat template.
        ends: tokens that end a reply, besides the tokenizer's and the template's own.
        options: of the template; models that can think aloud do not, unless told to by `enable_thinking=True`.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, ends: Sequence[int] = (), options: dict[str, Any] | None = None
    ) -> None:
        check(tokenizer=tokenizer, ends=ends, options=options)
        check_that(all(isinstance(token, int) for token in ends), "ends", "ids of tokens", ends)
        check_that(tokenizer.chat_template, "tokenizer", "of an instruct model, with a chat template", tokenizer)
        self.tokenizer, self.options = tokenizer, {"enable_thinking": False} | (options or {})
        encode = lru_cache(2**12)(self._encode)  # texts of games recur
        self.first, self._following = partial(encode, opens=True), partial(encode, opens=False)
        known = tokenizer.added_tokens_decoder
        special = (token for token in self._following("x") if token in known and known[token].special)
        self.end = next(special, tokenizer.eos_token_id)  # closes a turn; Gemma's eos is another
        self.ends = {*ends, self.end, tokenizer.eos_token_id} - {None}

    def _encode(self, text: str, opens: bool) -> tuple[int, ...]:
        """Tokens of a chat that the user's `text` opens, or of what follows an answer, until the assistant speaks."""
        said = [] if opens else [{"role": "user", "content": "x"}, {"role": "assistant", "content": "@ANSWER@"}]
        chat = [*said, {"role": "user", "content": text}]
        raw = self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **self.options)
        return tuple(self.tokenizer.encode(raw if opens else raw.partition("@ANSWER@")[2], add_special_tokens=False))

    def following(self, text: str, last: int) -> tuple[int, ...]:
        """Tokens from the assistant's `last` one, which may be an end, to where it speaks after `text` of the user."""
        ids = self._following(text)
        return ids[ids.index(self.end) + 1 :] if last in self.ends and self.end in ids else ids

    def text(self, ids: Sequence[int]) -> str:
        """What sampled tokens say, without special ones."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)


class Guide:
    """Which tokens may follow, so that a reply matches a regular expression in full (guided decoding)."""

    def __init__(self, template: ChatTokens) -> None:
        self.template, self.text = template, lru_cache(2**18)(template.text)  # decoding is what takes time
        self.allows = lru_cache(2**16)(self._allows)

    def _allows(self, pattern: str, before: tuple[int, ...], token: int) -> bool:
        """Whether `token` may follow the reply so far; an end token may once the pattern is matched."""
        said, piece = self.text(before), self.text((token,))
        if token in self.template.ends:
            return regex.fullmatch(pattern, said) is not None
        # what follows without or after a space can be told before decoding, but for parts of characters
        likely = [said + piece, f"{said} {piece}"] if "\ufffd" not in said + piece else []
        if not piece or (likely and not any(regex.fullmatch(pattern, text, partial=True) for text in likely)):
            return False
        return regex.fullmatch(pattern, self.template.text([*before, token]), partial=True) is not None

    def draw(self, log_probs: Tensor, pattern: str, before: list[int], generator: Generator | None) -> int:
        """Draw from `log_probs` `(vocabulary,)`, renormalised over the tokens that may follow."""
        # exponential races of all tokens: who wins among some is distributed as they are, renormalised
        races = torch.empty_like(log_probs).exponential_(generator=generator).log() - log_probs
        for count in (512, len(races)):  # sorting a large vocabulary takes longer than all else
            for token in races.topk(min(count, len(races)), largest=False).indices.tolist():
                if self.allows(pattern, tuple(before), token):
                    return token
        raise ValueError(f"pattern {pattern!r} cannot go on after {self.template.text(before)!r}")


class RowCache(Cache):
    """Keys and values of many chats, each row at its own length.

    Rows that are read together end in the same column, so that a mask of two dimensions and sliding windows mean in
    columns what they mean in tokens; a row that sat out is moved when it is read again, not at every token.
    """

    def __init__(self, rows: int) -> None:
        super().__init__(layers=[])
        self.lengths = torch.zeros(rows, dtype=torch.long)  # tokens of each row
        self._ends = torch.zeros(rows, dtype=torch.long)  # column after its last one
        self._kept: list[tuple[Tensor, Tensor]] = []  # per layer: keys and values (rows, heads, columns, size)

    def place(self, rows: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Make room for `counts` new tokens in each of `rows`, blocks being padded on the left.

        Returns the tokens' positions in their chats `(rows, width)`, and which columns hold one `(rows, columns)`.
        """
        self._rows, self._width = rows, int(counts.max())
        starts = self._ends[rows] + counts
        self.lengths[rows] += counts
        lengths = self.lengths[rows]
        self._seen = int(lengths.max())
        aligned = bool((starts == starts[0]).all()) and bool((counts == self._width).all())
        self._end = int(starts[0]) if aligned else self._seen
        self._shift = None if aligned else self._end - starts
        self._real = torch.arange(self._width) >= self._width - counts[:, None]  # no padding
        self._ends[rows] = self._end
        positions = lengths[:, None] - self._width + torch.arange(self._width)
        return positions.clamp(min=0), torch.arange(self._seen) >= self._seen - lengths[:, None]

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Keep a block's `keys` and `values` `(rows, heads, width, size)`; returns all that its rows have so far."""
        if layer == len(self._kept):
            self._kept.append((keys.new_zeros(len(self.lengths), keys.shape[1], 0, keys.shape[3]),) * 2)
        missing = self._end - self._kept[layer][0].shape[2]
        if missing > 0:  # half as much again, so that columns are copied now and then only
            self._kept[layer] = tuple(pad(kept, (0, 0, 0, missing + self._end // 2)) for kept in self._kept[layer])
        if self._shift is not None:
            return tuple(map(self._align, self._kept[layer], (keys, values)))
        rows = slice(None) if len(self._rows) == len(self.lengths) else self._rows  # a slice copies nothing
        for kept, new in zip(self._kept[layer], (keys, values), strict=True):
            kept[rows, :, self._end - self._width : self._end] = new
        return tuple(kept[rows, :, self._end - self._seen : self._end] for kept in self._kept[layer])

    def _align(self, kept: Tensor, new: Tensor) -> Tensor:
        """Move what rows have, so that their blocks without padding can follow; returns both."""
        columns = torch.arange(self._end - self._seen, self._end)
        sources = (columns - self._shift[:, None]).clamp(0, kept.shape[2] - 1)
        moved = kept[self._rows[:, None], :, sources]
        block, new = moved[:, self._seen - self._width :], new.transpose(1, 2)
        block.copy_(torch.where(self._real[..., None, None].to(new.device), new, block))
        kept[self._rows[:, None], :, columns] = moved
        return moved.transpose(1, 2)

    def retract(self, row: int, count: int) -> None:
        """Forget the last `count` tokens of a row."""
        self.lengths[row] -= count
        self._ends[row] -= count

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns that the present block looks at, without its own."""
        return self._seen - self._width

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Columns that the present block looks at, and where they begin."""
        return self._seen, 0


class Chats:
    """A batch of growing chats with one model, or with an `engine` that samples in its stead; see `ModelPlayer`."""

    def __init__(
        self, model: PreTrainedModel, template: ChatTokens, transcripts: list[Transcript], keep_cache: bool = True,
        engine: Engine | None = None, adapters: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        self.adapters = adapters  # PEFT adapter of each row, all rows in one pass; None: the active one
        self.model, self.template, self.keep_cache, self.engine = model, template, keep_cache, engine
        self.guide, self.transcripts = Guide(template), transcripts
        self.forget()

    def forget(self) -> None:
        """Forget keys and values, so that what was said is read again."""
        self._pending = [chat.ids for chat in self.transcripts]  # tokens that the model has not read yet
        self._cache = RowCache(len(self.transcripts))

    def add_text(self, row: int, text: str, round_index: int) -> None:
        """Append a text of the game to the chat of `row`."""
        said = self.transcripts[row].completion_ids
        ids = self.template.following(text, said[-1]) if said else self.template.first(text)
        self.transcripts[row].add(ids, round_index)
        self._pending[row] += ids

    def retract(self, row: int, count: int) -> None:
        """Take a reply of `count` tokens back, so that another can be sampled."""
        self.transcripts[row].retract(count)
        if self.engine is None:
            self._cache.retract(row, count)  # the last of them was not read, the last one before them is read again
        self._pending[row] = self.transcripts[row].ids[-1:]

    def _read(self, blocks: dict[int, list[int]]) -> Tensor:
        """Let the model read a block of tokens in some rows; returns logits of their last position, in that order."""
        device = self.model.device
        counts = torch.tensor([len(block) for block in blocks.values()])
        positions, seen = self._cache.place(torch.tensor(list(blocks)), counts)
        width = positions.shape[1]
        ids = torch.tensor([[0] * (width - len(block)) + block for block in blocks.values()])
        named = {"adapter_names": [self.adapters[row] for row in blocks]} if self.adapters else {}
        try:
            logits = self.model(
                input_ids=ids.to(device), attention_mask=seen.to(device), position_ids=positions.to(device),
                past_key_values=self._cache, use_cache=True, logits_to_keep=1, **named,
            ).logits  # fmt: skip
        except BaseException:  # PEFT would let the names of these rows stay in its layers
            for layer in self.model.modules():
                if named and isinstance(layer, LoraLayer):
                    layer._forward_pre_hooks.clear()
            raise
        return logits[:, -1].float()

    @torch.no_grad()
    def sample(
        self, rounds: dict[int, int], max_new_tokens: int, generator: Generator | None = None,
        sampling: Sampling = Sampling(), patterns: dict[int, str] | None = None,
    ) -> dict[int, list[int]]:  # fmt: skip
        """Let the model answer in some rows; returns row -> sampled ids, with the end token if one was sampled.

        Args:
            rounds: row -> index of the round that the answer belongs to.
            max_new_tokens: of one answer.
            generator: source of randomness, on the CPU.
            sampling: how tokens are drawn; an engine has settings of its own.
            patterns: row -> regular expression that the answer has to match (guided decoding). The log-probabilities
                that are kept are those without it: as in the LLM paper, the guide is not corrected for.
        """
        if self.engine is not None:
            return self._sample_by_engine(rounds, patterns)
        if not self.keep_cache:  # read every chat from its start
            self.forget()
        blocks = {row: self._pending[row] for row in sorted(rounds)}
        answers: dict[int, list[int]] = {row: [] for row in rounds}
        for length in range(1, max_new_tokens + 1):
            said = [self.transcripts[row].ids for row in blocks] if sampling.repetition_penalty != 1 else []
            log_probs = sampling.log_probs(self._read(blocks), said)
            if log_probs.device.type == "cpu":
                tokens = torch.multinomial(log_probs.exp(), 1, generator=generator)[:, 0]
            else:
                tokens = invert(log_probs.exp(), torch.rand(len(log_probs), generator=generator))
            for index, (row, token) in enumerate(zip(blocks, tokens.tolist(), strict=True)) if patterns else ():
                pattern, before = patterns[row], answers[row]
                if not self.guide.allows(pattern, tuple(before), token):  # or it stays: the same distribution
                    tokens[index] = self.guide.draw(log_probs[index].cpu(), pattern, before, generator)
            chosen = log_probs.gather(1, tokens[:, None])[:, 0]
            read, blocks = blocks, {}
            for row, token, log_prob in zip(read, tokens.tolist(), chosen.tolist(), strict=True):
                answers[row].append(token)
                self.transcripts[row].add([token], rounds[row], log_prob)
                self._pending[row] = [token]  # read next, or with the next text
                if token not in self.template.ends and length < max_new_tokens:
                    blocks[row] = [token]
            if not blocks:
                break
        return answers

    def _sample_by_engine(self, rounds: dict[int, int], patterns: dict[int, str] | None) -> dict[int, list[int]]:
        answers: dict[int, list[int]] = {}
        for pattern in dict.fromkeys(patterns.values()) if patterns else [None]:  # an engine knows one at a time
            rows = [row for row in rounds if pattern is None or patterns[row] == pattern]
            chats = [self.transcripts[row].ids for row in rows]
            sampled = self.engine(chats) if pattern is None else self.engine(chats, pattern)
            for row, ids, log_probs in zip(rows, *sampled, strict=True):
                answers[row] = list(ids)
                for token, log_prob in zip(ids, log_probs, strict=True):
                    check_that(log_prob is not None, "engine", "one that says how probable each token was", None)
                    self.transcripts[row].add([token], rounds[row], log_prob)
        return answers


def invert(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """The inverse of the distribution function of each row at `uniform` `(rows,)`; stays on the device."""
    sums = probabilities.double().cumsum(-1)  # the last one is 1 but for rounding; "right" hits no probability of 0
    found = torch.searchsorted(sums, uniform.to(sums)[:, None] * sums[:, -1:], right=True)[:, 0]
    return found.clamp(max=probabilities.shape[-1] - 1)
