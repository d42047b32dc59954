"""Play text games with language models: token in, token out, all games at once.

A chat only grows. Sampled ids are kept as they are and never decoded and encoded again; texts of the game are encoded
once, appended and masked. The key/value cache lives as long as the chat, so each turn processes only new tokens, and
an opening that several chats share is read once. An engine (vLLM) can sample instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import regex
import torch
from torch import Generator, Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from aa_core.checks import check_positive

# Takes chats as token ids; returns the sampled ids and their log-probabilities
Engine = Callable[[list[list[int]]], tuple[list[list[int]], list[list[float]]]]


@dataclass
class Transcript:
    """One player's chat as tokens.

    Attributes:
        prompt_ids: everything before the first sampled token.
        completion_ids: everything from it on, sampled tokens and texts of the game.
        mask: 1 for sampled tokens, 0 for texts of the game; as long as completion_ids.
        log_probs: of sampled tokens under the distribution that they were drawn from, 0 elsewhere.
        rounds: index of the round that a token belongs to.
    """

    prompt_ids: list[int] = field(default_factory=list)
    completion_ids: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)

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


class Chats:
    """A batch of growing chats with one model.

    Args:
        model: causal language model of transformers.
        tokenizer: with a chat template.
        rows: number of chats.
        keep_cache: keep the key/value cache between turns; False reads each chat anew every time (for comparison).
        engine: samples in the model's stead.
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
        self._forget()

    def _forget(self) -> None:
        self._cache = DynamicCache(config=self.model.config)
        self._valid = torch.zeros(len(self.transcripts), 0, dtype=torch.bool, device=self.model.device)

    def add_text(self, row: int, text: str, round_index: int) -> None:
        """Append a text of the game to the chat of `row`."""
        transcript = self.transcripts[row]
        if transcript.completion_ids:
            ids = self.template.following(text, ended=transcript.completion_ids[-1] == self.template.eos)
        else:
            ids = self.template.first(text)
        transcript.add_text(ids, round_index)
        self._pending[row] += ids

    def _read(self, blocks: list[list[int]]) -> Tensor:
        """Let the model read a block of tokens per row; returns logits of the last position."""
        if not self._valid.shape[1]:  # an opening that several chats share is read once
            openings = {opening: row for row, opening in enumerate(dict.fromkeys(map(tuple, blocks)))}
            if len(openings) < len(blocks):
                rows = torch.tensor([openings[tuple(block)] for block in blocks], device=self.model.device)
                self._valid = self._valid[: len(openings)]
                logits = self._read_all([list(opening) for opening in openings])
                self._cache.batch_select_indices(rows)
                self._valid = self._valid[rows]
                return logits[rows]
        return self._read_all(blocks)

    def _read_all(self, blocks: list[list[int]]) -> Tensor:
        """Read blocks, padded on the left."""
        device, width = self.model.device, max(map(len, blocks))
        ids = torch.tensor([[self.pad] * (width - len(b)) + b for b in blocks], device=device)
        real = torch.tensor([[False] * (width - len(b)) + [True] * len(b) for b in blocks], device=device)
        before = self._valid.shape[1]
        self._valid = torch.cat([self._valid, real], 1)
        keys = torch.arange(before + width, device=device)
        queries = keys[before:, None]
        # a key is seen if it is real and not later; every query sees itself, so that padding yields no NaN
        seen = (self._valid[:, None] & (keys <= queries)) | (keys == queries)  # (rows, width, keys)
        dtype = self.model.dtype
        mask = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill(~seen, torch.finfo(dtype).min)
        positions = (self._valid.cumsum(1) - 1).clamp(min=0)[:, before:]
        output = self.model(
            input_ids=ids,
            attention_mask=mask[:, None],
            position_ids=positions,
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
        """Let the model answer in some rows.

        Args:
            rounds: row -> index of the round that the answer belongs to.
            max_new_tokens: of one answer.
            generator: source of randomness, on the CPU.
            temperature: 1 samples from the model as it is.
            patterns: row -> regular expression that the answer has to match (guided decoding). The log-probabilities
                that are kept are those without it: as in the LLM paper, the guide is not corrected for.

        Returns:
            row -> sampled ids, with the end token if one was sampled.
        """
        check_positive("temperature", temperature)
        if self.engine is not None:
            return self._sample_by_engine(rounds)
        if not self.keep_cache:  # read every chat from its start
            self._forget()
            self._pending = [t.prompt_ids + t.completion_ids for t in self.transcripts]
        logits = self._read(self._pending)
        self._pending = [[] for _ in self.transcripts]
        answers: dict[int, list[int]] = {row: [] for row in rounds}
        active = sorted(rounds)
        for length in range(1, max_new_tokens + 1):
            log_probs = (logits[active] / temperature).log_softmax(-1).cpu()
            if patterns is None:
                tokens = torch.multinomial(log_probs.exp(), 1, generator=generator)[:, 0]
            else:
                drawn = [
                    self.guide.draw(log_probs[index], patterns[row], answers[row], generator)
                    for index, row in enumerate(active)
                ]
                tokens = torch.tensor(drawn)
            chosen = log_probs.gather(1, tokens[:, None])[:, 0]
            blocks: list[list[int]] = [[] for _ in self.transcripts]
            going = []
            for row, token, log_prob in zip(active, tokens.tolist(), chosen.tolist(), strict=True):
                answers[row].append(token)
                self.transcripts[row].add_sample(token, log_prob, rounds[row])
                if token == self.template.eos or length == max_new_tokens:
                    self._pending[row] = [token]  # read with the next text
                else:
                    blocks[row] = [token]
                    going.append(row)
            active = going
            if not active:
                break
            logits = self._read(blocks)
        return answers

    def _sample_by_engine(self, rounds: dict[int, int]) -> dict[int, list[int]]:
        chats = [self.transcripts[row] for row in rounds]
        answers, log_probs = self.engine([chat.prompt_ids + chat.completion_ids for chat in chats])
        for chat, index, ids, chosen in zip(chats, rounds.values(), answers, log_probs, strict=True):
            for token, log_prob in zip(ids, chosen, strict=True):
                chat.add_sample(token, log_prob, index)
        return dict(zip(rounds, answers, strict=True))
