"""Play text games with language models: token in, token out, all games at once.

A chat only grows. Sampled ids are kept as they are and never decoded and encoded again; texts of the game are encoded
once, appended and masked. The key/value cache lives as long as the chat, so each turn processes only new tokens, and
only those of chats that have some. An engine (vLLM) can sample instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import regex
import torch
from torch import Generator, Tensor
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

from aa_core.checks import check_positive

# Takes chats as token ids; returns the sampled ids and their log-probabilities
Engine = Callable[[list[list[int]]], tuple[list[list[int]], list[list[float]]]]


@dataclass
class Transcript:
    """One player's chat as tokens; the last three are as long as `completion_ids`."""

    prompt_ids: list[int] = field(default_factory=list)  # everything before the first sampled token
    completion_ids: list[int] = field(default_factory=list)  # and from it on, sampled tokens and texts of the game
    mask: list[int] = field(default_factory=list)  # 1 for sampled tokens, 0 for texts of the game
    log_probs: list[float] = field(default_factory=list)  # of sampled tokens as they were drawn, 0 elsewhere
    rounds: list[int] = field(default_factory=list)  # index of the round that a token belongs to

    def add_text(self, ids: Sequence[int], round_index: int) -> None:
        """Append tokens of the game."""
        if not self.completion_ids:
            self.prompt_ids += ids
            return
        self.completion_ids += ids
        self.mask += [0] * len(ids)
        self.log_probs += [0.0] * len(ids)
        self.rounds += [round_index] * len(ids)

    def add_sample(self, token: int, log_prob: float, round_index: int) -> None:
        """Append a sampled token."""
        self.completion_ids.append(token)
        self.mask.append(1)
        self.log_probs.append(log_prob)
        self.rounds.append(round_index)


class ChatTokens:
    """A chat template, turned into the tokens that each new user text adds."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if tokenizer.chat_template is None:
            raise ValueError("tokenizer must have a chat template; use an instruct model")
        self.tokenizer = tokenizer
        self.eos = tokenizer.eos_token_id
        self.first, self._following = cache(self._first), cache(self._following_unended)  # texts of games recur

    def _render(self, messages: list[dict[str, str]], prompt: bool = True) -> str:
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _first(self, text: str) -> tuple[int, ...]:
        """Tokens of a chat that opens with `text` as the user's, up to where the assistant speaks."""
        return tuple(self._encode(self._render([{"role": "user", "content": text}])))

    def following(self, text: str, ended: bool) -> tuple[int, ...]:
        """Tokens from the assistant's last word to where it speaks again, after `text` of the user.

        Args:
            text: of the user.
            ended: whether the assistant's last token was its end token, which is then not repeated.
        """
        ids = self._following(text)
        return ids[1:] if ended and ids[0] == self.eos else ids

    def _following_unended(self, text: str) -> tuple[int, ...]:
        known = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "ANSWER"}]
        rendered = self._render([*known, {"role": "user", "content": text}])
        return tuple(self._encode(rendered[rendered.rindex("ANSWER", 0, rendered.rindex(text)) + len("ANSWER") :]))


class Guide:
    """Which tokens may follow, so that a reply matches a regular expression in full (guided decoding)."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.allows = cache(self._allows)

    def _allows(self, pattern: str, before: tuple[int, ...], token: int) -> bool:
        """Whether `token` may follow the reply so far; the end token may once the pattern is matched."""
        if token == self.tokenizer.eos_token_id:
            text = self.tokenizer.decode(before)
            return regex.fullmatch(pattern, text.strip(), regex.IGNORECASE) is not None
        text = self.tokenizer.decode([*before, token])
        known = text != self.tokenizer.decode(before) and token not in self.tokenizer.all_special_ids
        return known and regex.fullmatch(pattern, text.strip(), regex.IGNORECASE, partial=True) is not None

    def draw(self, log_probs: Tensor, pattern: str, before: list[int], generator: Generator | None) -> int:
        """Draw from `log_probs` `(vocabulary,)`, renormalised over the tokens that may follow.

        The order of all tokens' exponential races is that of drawing without replacement, so the first one that may
        follow has the renormalised distribution; the pattern is tried on as few tokens as possible.
        """
        races = torch.empty_like(log_probs).exponential_(generator=generator).log() - log_probs
        for token in races.argsort().tolist():
            if self.allows(pattern, tuple(before), token):
                return token
        raise ValueError(f"pattern {pattern!r} cannot go on after {self.tokenizer.decode(before)!r}")


class RowCache(Cache):
    """Keys and values of many chats, each row at its own length, without gaps and without copying at every token.

    Column 0 takes what padding writes, and is what padding looks at; tokens stand from column 1 on.
    """

    def __init__(self, rows: int) -> None:
        super().__init__(layers=[])
        self.lengths = torch.zeros(rows, dtype=torch.long)  # tokens of each row
        self._kept: list[tuple[Tensor, Tensor]] = []  # per layer: keys and values (rows, heads, columns, size)

    def place(self, rows: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Make room for `counts` new tokens in each of `rows`, blocks being padded on the left.

        Returns:
            Columns of the block's tokens `(rows, width)`, 0 for padding, and which keys each may look at
            `(rows, width, columns)`.
        """
        width = int(counts.max())
        index = torch.arange(width) - (width - counts[:, None])  # of a token in its block; negative: padding
        self._columns = torch.where(index < 0, 0, self.lengths[rows, None] + index + 1)
        self.lengths[rows] += counts
        self._rows, self._seen = rows, int(self._columns.max()) + 1
        keys = torch.arange(self._seen)
        own = self._columns[..., None]
        return self._columns, (keys <= own) & ((keys > 0) | (own == 0))

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Keep a block's `keys` and `values` `(rows, heads, width, size)`; returns all that its rows have so far."""
        if layer == len(self._kept):
            self._kept.append((keys.new_zeros(len(self.lengths), keys.shape[1], 0, keys.shape[3]),) * 2)
        missing = self._seen - self._kept[layer][0].shape[2]
        if missing > 0:  # half as much again, so that columns are copied now and then only
            room = (0, 0, 0, missing + self._seen // 2)
            self._kept[layer] = tuple(torch.nn.functional.pad(kept, room) for kept in self._kept[layer])
        every = len(self._rows) == len(self.lengths)
        result = []
        for kept, new in zip(self._kept[layer], (keys, values), strict=True):
            kept[self._rows[:, None], :, self._columns] = new.transpose(1, 2)
            result.append(kept[:, :, : self._seen] if every else kept[self._rows, :, : self._seen])
        return result[0], result[1]

    def get_seq_length(self, *_: object) -> int:
        """Columns so far."""
        return int(self.lengths.max())


class Chats:
    """A batch of `rows` growing chats with one model, or with an `engine` that samples in its stead.

    `keep_cache=False` reads each chat anew in every turn, for comparison.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        rows: int,
        keep_cache: bool = True,
        engine: Engine | None = None,
    ) -> None:
        self.model, self.template, self.keep_cache, self.engine = model, ChatTokens(tokenizer), keep_cache, engine
        self.guide = Guide(tokenizer)
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self.transcripts = [Transcript() for _ in range(rows)]
        self._pending: list[list[int]] = [[] for _ in range(rows)]  # tokens that the model has not read yet
        self._cache = RowCache(rows)

    def add_text(self, row: int, text: str, round_index: int) -> None:
        """Append a text of the game to the chat of `row`."""
        transcript = self.transcripts[row]
        if transcript.completion_ids:
            ids = self.template.following(text, ended=transcript.completion_ids[-1] == self.template.eos)
        else:
            ids = self.template.first(text)
        transcript.add_text(ids, round_index)
        self._pending[row] += ids

    def _read(self, blocks: dict[int, list[int]]) -> Tensor:
        """Let the model read a block of tokens in some rows; returns logits of their last position, in that order."""
        device, dtype = self.model.device, self.model.dtype
        counts = torch.tensor([len(block) for block in blocks.values()])
        columns, seen = self._cache.place(torch.tensor(list(blocks)), counts)
        width = columns.shape[1]
        ids = torch.tensor([[self.pad] * (width - len(block)) + block for block in blocks.values()])
        mask = torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
        output = self.model(
            input_ids=ids.to(device),
            attention_mask=mask[:, None].to(device),
            position_ids=(columns - 1).clamp(min=0).to(device),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1].float()

    @torch.no_grad()
    def sample(
        self,
        rounds: dict[int, int],
        max_new_tokens: int,
        generator: Generator | None = None,
        temperature: float = 1.0,
        patterns: dict[int, str] | None = None,
    ) -> dict[int, list[int]]:
        """Let the model answer in some rows; returns row -> sampled ids, with the end token if one was sampled.

        Args:
            rounds: row -> index of the round that the answer belongs to.
            max_new_tokens: of one answer.
            generator: source of randomness, on the CPU.
            temperature: 1 samples from the model as it is.
            patterns: row -> regular expression that the answer has to match (guided decoding). The log-probabilities
                that are kept are those without it: as in the LLM paper, the guide is not corrected for.
        """
        check_positive("temperature", temperature)
        if self.engine is not None:
            return self._sample_by_engine(rounds)
        if not self.keep_cache:  # read every chat from its start
            self._cache = RowCache(len(self.transcripts))
            self._pending = [t.prompt_ids + t.completion_ids for t in self.transcripts]
        blocks = {row: self._pending[row] for row in sorted(rounds)}
        answers: dict[int, list[int]] = {row: [] for row in rounds}
        for length in range(1, max_new_tokens + 1):
            log_probs = (self._read(blocks) / temperature).log_softmax(-1).cpu()
            tokens = self._draw(log_probs, {row: answers[row] for row in blocks}, patterns, generator)
            chosen = log_probs.gather(1, tokens[:, None])[:, 0]
            read, blocks = blocks, {}
            for row, token, log_prob in zip(read, tokens.tolist(), chosen.tolist(), strict=True):
                answers[row].append(token)
                self.transcripts[row].add_sample(token, log_prob, rounds[row])
                self._pending[row] = [token]  # read next, or with the next text
                if token != self.template.eos and length < max_new_tokens:
                    blocks[row] = [token]
            if not blocks:
                break
        return answers

    def _draw(
        self,
        log_probs: Tensor,
        before: dict[int, list[int]],
        patterns: dict[int, str] | None,
        generator: Generator | None,
    ) -> Tensor:
        """The next token of every row `(rows,)`, from `log_probs` `(rows, vocabulary)`."""
        if patterns is None:
            return torch.multinomial(log_probs.exp(), 1, generator=generator)[:, 0]
        drawn = zip(log_probs, before.items(), strict=True)
        return torch.tensor([self.guide.draw(p, patterns[row], said, generator) for p, (row, said) in drawn])

    def _sample_by_engine(self, rounds: dict[int, int]) -> dict[int, list[int]]:
        chats = [self.transcripts[row] for row in rounds]
        answers, log_probs = self.engine([chat.prompt_ids + chat.completion_ids for chat in chats])
        for chat, index, ids, chosen in zip(chats, rounds.values(), answers, log_probs, strict=True):
            for token, log_prob in zip(ids, chosen, strict=True):
                chat.add_sample(token, log_prob, index)
        return dict(zip(rounds, answers, strict=True))
