"""Play text games with language models: token in, token out, all games at once.

A chat only grows. Sampled ids are kept as they are and never decoded and encoded again; texts of the game are encoded
once, appended and masked. The key/value cache lives as long as the chat, so each turn processes only new tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from aa_core.checks import check_positive


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

    def _render(self, messages: list[dict[str, str]], prompt: bool = True) -> str:
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def first(self, text: str) -> list[int]:
        """Tokens of a chat that opens with `text` as the user's, up to where the assistant speaks."""
        return self._encode(self._render([{"role": "user", "content": text}]))

    def following(self, text: str, ended: bool) -> list[int]:
        """Tokens from the assistant's last word to where it speaks again, after `text` of the user.

        Args:
            text: of the user.
            ended: whether the assistant's last token was its end token, which is then not repeated.
        """
        known = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "ANSWER"}]
        rendered = self._render([*known, {"role": "user", "content": text}])
        ids = self._encode(rendered[rendered.rindex("ANSWER", 0, rendered.rindex(text)) + len("ANSWER") :])
        return ids[1:] if ended and ids[0] == self.eos else ids


class Chats:
    """A batch of growing chats with one model."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: int, keep_cache: bool = True):
        self.model, self.template, self.keep_cache = model, ChatTokens(tokenizer), keep_cache
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
        """Let the model read a block of tokens per row (left-padded); returns logits of the last position."""
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
        self, rounds: dict[int, int], max_new_tokens: int, generator: Generator | None = None, temperature: float = 1.0
    ) -> dict[int, list[int]]:
        """Let the model answer in some rows.

        Args:
            rounds: row -> index of the round that the answer belongs to.
            max_new_tokens: of one answer.
            generator: source of randomness, on the CPU.
            temperature: 1 samples from the model as it is.

        Returns:
            row -> sampled ids, with the end token if one was sampled.
        """
        check_positive("temperature", temperature)
        if not self.keep_cache:  # read every chat from its start
            self._forget()
            self._pending = [t.prompt_ids + t.completion_ids for t in self.transcripts]
        logits = self._read(self._pending)
        self._pending = [[] for _ in self.transcripts]
        answers: dict[int, list[int]] = {row: [] for row in rounds}
        active = sorted(rounds)
        for length in range(1, max_new_tokens + 1):
            log_probs = (logits[active] / temperature).log_softmax(-1).cpu()
            tokens = torch.multinomial(log_probs.exp(), 1, generator=generator)[:, 0]
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
