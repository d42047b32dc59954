"""Players from outside: a person who types, and a model behind an OpenAI-compatible server.

That is OpenAI's, or one of your own (vLLM, llama.cpp, Ollama, ...).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from threading import Event
from typing import Any
from weakref import WeakKeyDictionary

import httpx
from tqdm.auto import tqdm

from aa_core import HEADLESS
from aa_core.checks import check_that
from aa_core.games.text import Turn
from aa_core.llm.players import Seat

OPENAI = "https://api.openai.com/v1"
HERE = ("localhost", "127.0.0.1", "::1")  # hosts to which nobody listens in
LARGEST = 2**22  # bytes of an answer
Message = dict[str, str]


@dataclass
class PersonPlayer:
    """A person who types; `ask` shows a text and returns what was typed (by default `input`)."""

    ask: Callable[[str], str] = input

    def sit(self, seats: Sequence[Seat]) -> None:
        """See `Player.sit`."""
        if len(seats) > 1:
            raise ValueError(f"seats must be one for a person, got {len(seats)}")
        self._seats = list(seats)

    def answer(self, turns: Sequence[Turn | None]) -> list[str | None]:
        """See `Player.answer`; asks again until the reply can be read."""
        (game, _), turn = self._seats[0], turns[0]
        text = None if turn is None else turn.text
        while text is not None:
            reply = self.ask(text)
            text = game.problem(reply)
        return [None if turn is None else reply]


class ApiError(RuntimeError):
    """A server gave no reply; the text names model and server. What was played is kept: the same `play` goes on."""


@dataclass(eq=False)
class ApiPlayer:
    """A model behind a server, in many games at once.

    The key is read from the environment variable OPENAI_API_KEY, at each request, and sent to whatever server `url`
    names, but over https or to this machine only; a server of one's own needs none.
    As in the LLM paper a reply that cannot be read is answered with what is wrong, `tries` times in all; the last one
    counts whatever it is. What goes wrong on the way (time-outs, overload, odd answers) is tried again, too.
    """

    model: str  # name that the server knows
    # of the server, maybe with a password; None: OPENAI_BASE_URL of the environment, or OpenAI's
    url: str | None = field(default=None, repr=False)
    max_new_tokens: int = 400  # of a reply, with what the model thinks
    options: dict[str, Any] = field(default_factory=dict)  # more of a request, as temperature; None takes one out
    timeout: float = 120.0  # seconds until a reply is there in full
    at_once: int = 16  # requests
    tries: int = 3  # of a reply
    retries: int = 2  # of a request that failed, after 1, 2, 4, ... seconds
    longest: int = 4000  # characters of a reply that are kept

    def __post_init__(self) -> None:
        check_that(isinstance(self.model, str) and self.model, "model", "the name that the server knows", self.model)
        check_that(self.url is None or isinstance(self.url, str), "url", "an address or None", self.url)
        check_that(isinstance(self.options, dict), "options", "a dict of more of a request", self.options)
        try:
            json.dumps(self.options, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"options must be what JSON can say ({error}), got {self.options!r}") from None
        for name in ("max_new_tokens", "at_once", "tries", "longest"):
            value = getattr(self, name)
            check_that(isinstance(value, int) and value > 0, name, "a positive integer", value)
        check_that(isinstance(self.retries, int) and self.retries >= 0, "retries", "an integer from 0", self.retries)
        seconds = isinstance(self.timeout, int | float) and 0 < self.timeout < float("inf")
        check_that(seconds, "timeout", "a positive number of seconds", self.timeout)
        self.url = (self.url or os.environ.get("OPENAI_BASE_URL") or OPENAI).rstrip("/")
        if self.url == OPENAI and not _key():
            raise ValueError("OPENAI_API_KEY must be set in the environment for OpenAI's server")
        self._told: Any = WeakKeyDictionary()  # game -> the chats of its seats ...
        self._ready: Any = WeakKeyDictionary()  # ... and replies that are there, but not delivered as others failed

    def sit(self, seats: Sequence[Seat]) -> None:
        """See `Player.sit`."""
        self._seats = list(seats)

    def answer(self, turns: Sequence[Turn | None]) -> list[str | None]:
        """See `Player.answer`; raises `ApiError` after all replies that did come are kept."""
        told, ready = (
            [kept.setdefault(game, {}).setdefault(player, []) for game, player in self._seats]
            for kept in (self._told, self._ready)
        )
        todo = [row for row, turn in enumerate(turns) if turn is not None and not ready[row]]
        pool, stop = ThreadPoolExecutor(self.at_once), Event()
        with (
            httpx.Client(timeout=self.timeout, trust_env=not _is_here(self.url)) as client,
            tqdm(total=len(todo), desc=self.model, leave=False, disable=HEADLESS or len(todo) < 2) as bar,
        ):
            jobs = {pool.submit(self._reply, client, stop, row, told[row], turns[row]): row for row in todo}
            try:
                for job in as_completed(jobs):
                    job.result()
                    bar.update()
            finally:  # an error, or the user's patience: nothing new starts, what is under way is kept
                stop.set()
                pool.shutdown(cancel_futures=True)
                for job, row in jobs.items():
                    if not job.cancelled() and job.exception() is None:
                        ready[row].append(job.result())
        return [ready[row].pop() if turn is not None else None for row, turn in enumerate(turns)]

    def _reply(self, client: httpx.Client, stop: Event, row: int, told: list[Message], turn: Turn) -> str:
        """A reply that can be read, or the last one; what the seat was `told` grows only once it is there."""
        chat = [*told, {"role": "user", "content": turn.text}]
        for count in range(self.tries):
            chat.append({"role": "assistant", "content": self._request(client, stop, chat)})
            problem = self._seats[row][0].problem(chat[-1]["content"])
            if problem is None or count == self.tries - 1:
                break
            chat.append({"role": "user", "content": f"That cannot be read: {problem}. Write it again in that form."})
        told[:] = chat
        return chat[-1]["content"]

    def _request(self, client: httpx.Client, stop: Event, chat: list[Message]) -> str:
        for count in range(self.retries + 1):
            if stop.is_set():  # another game's request failed, or the user has had enough
                raise ApiError(f"model {self.model!r} was not asked any more")
            try:
                return _content(*self._post(client, chat))[: self.longest]
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
                final = isinstance(error, (_RefusalError, httpx.InvalidURL, httpx.UnsupportedProtocol))
                if count == self.retries or final:
                    what = f"{str(error) or type(error).__name__}".replace(_key() or "\0", "***")
                    # without the cause, whose text may show the key
                    raise ApiError(f"model {self.model!r} at {self.url.rpartition('@')[2]}: {what}") from None
                stop.wait(2**count)
        raise AssertionError("the last try returns or raises")

    def _post(self, client: httpx.Client, chat: list[Message]) -> tuple[int, bytes]:
        """Status and body of an answer, which has to be there in time however slowly it trickles."""
        until, body = time.monotonic() + self.timeout, b""
        asked = {"model": self.model, "messages": chat, "max_completion_tokens": self.max_new_tokens} | self.options
        asked = {name: value for name, value in asked.items() if value is not None}
        with client.stream("POST", f"{self.url}/chat/completions", json=asked, headers=self._headers()) as answer:
            for part in answer.iter_bytes():
                body += part
                if time.monotonic() > until:
                    raise ValueError(f"no reply in full within {self.timeout:g} seconds")
                if len(body) > LARGEST:
                    raise ValueError(f"an answer of more than {LARGEST} bytes")
            return answer.status_code, body

    def _headers(self) -> dict[str, str]:
        key, safe = _key(), httpx.URL(self.url).scheme == "https" or _is_here(self.url)
        if not (key.isascii() and key.isprintable()):
            raise _RefusalError("OPENAI_API_KEY holds what no header can, as a line break")
        return {"Authorization": f"Bearer {key}"} if key and safe else {}


def _key() -> str:
    return (os.environ.get("OPENAI_API_KEY") or "").strip()  # files with secrets end in a line break


def _is_here(url: str) -> bool:
    """Whether a server is this machine, which no proxy comes between."""
    try:
        return httpx.URL(url).host in HERE
    except httpx.InvalidURL:
        return False


class _RefusalError(ValueError):
    """An answer that would be the same a second time."""


def _content(status: int, body: bytes) -> str:
    """What the model said, as text that can be sent again."""
    text = body.decode("utf-8-sig", errors="replace")  # some servers begin with a byte order mark
    if status >= 300:
        again = status in (408, 409, 425, 429) or status >= 500
        raise (ValueError if again else _RefusalError)(f"status {status}: {_short(text)}")
    try:
        said = json.loads(text)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"an answer without choices[0].message.content: {_short(text)}") from error
    if isinstance(said, list):  # parts, of which some are no text
        said = "".join(part["text"] for part in said if isinstance(part, dict) and isinstance(part.get("text"), str))
    if not isinstance(said, str | None):
        raise ValueError(f"content that is no text: {_short(text)}")
    said = (said or "").encode(errors="replace").decode()  # half of a surrogate pair could not be sent back
    said = said.rpartition("</think>")[2].strip()
    # marks that do not show go, but spaces of another kind part words, too
    return "".join(mark if mark.isprintable() or mark in "\n\t" else " " if mark.isspace() else "" for mark in said)


def _short(text: str) -> str:
    return repr(text[:200])
