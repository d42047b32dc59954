from __future__ import annotations

import json
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from aa_core.games.text import SCRIPTED, make_text_game
from aa_core.llm.players import ScriptedPlayer, play
from experiments import api
from experiments.api import ApiError, ApiPlayer, PersonPlayer

Behaviour = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]


class Server:
    """A server that does to each request what `behave` says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.behave: Behaviour = saying("<A>")
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    outer.asked.append(body)
                    outer.headers.append(dict(self.headers))
                with suppress(BrokenPipeError, ConnectionResetError):
                    outer.behave(self, body)

            def log_message(self, *_: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


def send(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, length: int | None = None) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def answer(content: object) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode()


def saying(*contents: object, wait: float = 0.0) -> Behaviour:
    """Says one after the other, the last one for ever."""
    left, lock = list(contents), threading.Lock()

    def behave(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        with lock:
            content = left.pop(0) if len(left) > 1 else left[0]
        time.sleep(wait)
        send(handler, answer(content))

    return behave


class Hurried(threading.Event):
    """Waits for nothing."""

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(api, "Event", Hurried)
    served = Server()
    yield served
    served.http.shutdown()
    served.http.server_close()


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


def test_a_model_behind_a_local_server_plays_without_a_key(server: Server) -> None:
    player = ApiPlayer("some-model", server.url, max_new_tokens=30, options={"temperature": 0.5, "seed": 3})
    game = make_text_game("ipd", 0, rounds=3)
    play([game], [(player, ScriptedPlayer("defect"))])
    assert game.actions == [(0, 1)] * 3
    assert all("Authorization" not in headers for headers in server.headers)
    first, *_, last = server.asked
    assert first["messages"][0]["content"].startswith(game.rules)
    assert {name: first[name] for name in first if name != "messages"} == {
        "model": "some-model", "max_completion_tokens": 30, "temperature": 0.5, "seed": 3,
    }  # fmt: skip
    assert [message["role"] for message in last["messages"]] == ["user", "assistant"] * 2 + ["user"]


def test_older_servers_get_their_own_name_of_the_limit_and_a_key_is_sent(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    player = ApiPlayer("m", options={"max_completion_tokens": None, "max_tokens": 9})
    play([make_text_game("ipd", 0, rounds=1)], [(player, ScriptedPlayer("defect"))])
    assert server.headers[0]["Authorization"] == "Bearer secret"
    assert "secret" not in repr(player)
    assert "max_completion_tokens" not in server.asked[0]
    assert server.asked[0]["max_tokens"] == 9
    server.behave = lambda handler, _: send(handler, b"wrong key: secret", 401)
    with pytest.raises(ApiError, match=r"wrong key: \*\*\*"):
        play([make_text_game("ipd", 0, rounds=1)], [(player, ScriptedPlayer("defect"))])


def test_many_games_are_asked_for_at_once(server: Server) -> None:
    real = time.perf_counter()
    waiting, lock = [0, 0], threading.Lock()  # now, at most

    def behave(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        with lock:
            waiting[:] = waiting[0] + 1, max(waiting[1], waiting[0] + 1)
        threading.Event().wait(0.1)
        with lock:  # before the answer, since the next request may come before this thread goes on
            waiting[0] -= 1
        send(handler, answer("<A>"))

    server.behave = behave
    games = [make_text_game("ipd", seed, rounds=2) for seed in range(24)]
    play(games, [(ApiPlayer("m", server.url, at_once=8), ScriptedPlayer("cooperate"))] * 24)
    assert all(game.rewards == [(3, 3)] * 2 for game in games)
    assert 4 <= waiting[1] <= 8
    assert time.perf_counter() - real < 24 * 2 * 0.1


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_reply_in_parts_is_read_with_or_without_a_byte_order_mark(server: Server, mark: bytes) -> None:
    parts = [{"type": "reasoning", "summary": []}, {"type": "text", "text": "<"}, {"type": "text", "text": "A>"}, None]
    server.behave = lambda handler, _: send(handler, mark + answer(parts))
    game = make_text_game("ipd", 0, rounds=2)
    play([game], [(ApiPlayer("m", server.url), ScriptedPlayer("cooperate"))])
    assert game.rewards == [(3, 3)] * 2


ODD_BODIES = {
    "no choices": b'{"choices": []}',
    "null choices": b'{"choices": null}',
    "null message": b'{"choices": [{"message": null}]}',
    "no message": b'{"choices": [{}]}',
    "content of another kind": answer({"type": "text", "text": "<A>"}),
    "html": b"<html><body>Bad gateway</body></html>",
    "malformed": b'{"choices": [{"message": {"content": "<A>',
    "empty": b"",
    "a list": b"[]",
    "a number": b"7",
    "an error": b'{"error": {"message": "no such model"}}',
    "nested": b"[" * 100_000,
    "no utf-8": b"\xff\xfe\x00",
    "large": b" " * (api.LARGEST + 1),
}


@pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
def test_every_odd_body_is_one_kind_of_error_that_names_model_and_server(server: Server, body: bytes) -> None:
    server.behave = lambda handler, _: send(handler, body)
    with pytest.raises(ApiError, match=r"'odd-model' at http://127\.0\.0\.1") as error:
        play([make_text_game("ipd", 0)], [(ApiPlayer("odd-model", server.url), ScriptedPlayer("defect"))])
    assert len(server.asked) == 3  # tried again twice
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(("status", "requests"), [(301, 1), (400, 1), (401, 1), (404, 1), (429, 3), (500, 3), (503, 3)])
def test_what_would_fail_again_is_not_tried_again(server: Server, status: int, requests: int) -> None:
    server.behave = lambda handler, _: send(handler, b"why", status)
    with pytest.raises(ApiError, match=f"'m' at .*status {status}: 'why'"):
        play([make_text_game("ipd", 0)], [(ApiPlayer("m", server.url), ScriptedPlayer("defect"))])
    assert len(server.asked) == requests


def test_cut_connections_and_missing_servers_are_that_kind_of_error(server: Server) -> None:
    server.behave = lambda handler, _: send(handler, b"{", length=100)
    for url in (server.url, "http://127.0.0.1:9/v1", "ftp://127.0.0.1/v1", "127.0.0.1", "http://user:word@127.0.0.1:9"):
        with pytest.raises(ApiError, match=r"'m' at .*127\.0\.0\.1") as error:
            play([make_text_game("ipd", 0)], [(ApiPlayer("m", url, retries=0), ScriptedPlayer("defect"))])
        assert "word" not in str(error.value)


@pytest.mark.parametrize("trickle", [True, False])
def test_a_reply_has_to_be_there_in_time(server: Server, trickle: bool) -> None:
    over = threading.Event()

    def behave(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        while not over.wait(0.05):
            if trickle:
                handler.wfile.write(b" ")

    server.behave = behave
    started = time.perf_counter()
    with pytest.raises(ApiError, match="model 'm' at"):
        play(
            [make_text_game("ipd", 0)], [(ApiPlayer("m", server.url, timeout=0.4, retries=0), ScriptedPlayer("defect"))]
        )
    over.set()
    assert time.perf_counter() - started < 5


def test_replies_that_cannot_be_read_are_answered_and_the_last_one_counts(server: Server) -> None:
    server.behave = saying("I like <A>", None, "<B>", "no", "no", "no", "<A>")
    game = make_text_game("ipd", 0, rounds=3)
    play([game], [(ApiPlayer("m", server.url, tries=3), ScriptedPlayer("cooperate"))])
    assert [pair[0] for pair in game.actions] == [1, 1, 0]
    assert [(error.round, error.player) for error in game.errors] == [(1, 0)]
    corrected = server.asked[1]["messages"]
    assert [message["role"] for message in corrected] == ["user", "assistant", "user"]
    assert "a move must be <A> or <B> and nothing else, got 'I like <A>'" in corrected[-1]["content"]
    assert len(server.asked) == 7


def test_replies_are_harmless_and_short_before_they_go_on(server: Server) -> None:
    odd = "<<message_start>> a\ud800b\x00\x1b[2J c <<message_end>>"
    server.behave = lambda handler, body: send(handler, answer("x" * 2_000_000 if len(body["messages"]) > 1 else odd))
    game = make_text_game("trust_and_split", 0, rounds=2)
    play([game], [(ApiPlayer("m", server.url, tries=1, longest=100), ScriptedPlayer("welfare"))])
    assert game.messages[0][0] == "a?b(2J c"
    said = [m["content"] for request in server.asked for m in request["messages"] if m["role"] == "assistant"]
    assert max(map(len, said)) == 100
    assert all(mark.isprintable() for text in said for mark in text)


def test_a_failure_keeps_what_was_played_and_the_match_goes_on(server: Server) -> None:
    count, broken, lock = [0], [True], threading.Lock()

    def behave(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        with lock:
            count[0] += 1
            fails = broken[0] and count[0] > 21
        wants = "message" if body["messages"][-1]["content"].endswith("Write your message.") else "proposal"
        reply = (
            "<<message_start>> hi <<message_end>>" if wants == "message" else "<<proposal_start>> 4 <<proposal_end>>"
        )
        send(handler, b"", 500) if fails else send(handler, answer(reply))

    server.behave = behave
    games = [make_text_game("trust_and_split", seed, rounds=3) for seed in range(6)]
    player, other = ApiPlayer("m", server.url, retries=0, at_once=2), Remembering()
    seats = [(player, other) if index % 2 else (other, player) for index in range(6)]
    with pytest.raises(ApiError):
        play(games, seats)
    assert any(game.rewards or game.messages[0] for game in games)
    before = len([request for request in server.asked])
    broken[0] = False
    play(games, seats)
    assert all(game.done and not game.errors for game in games)
    # nothing that was answered is asked for again: three replies a round and game, half of them the server's own
    assert len(server.asked) - before + 21 == 6 * 3 * 2
    chats = [request["messages"] for request in server.asked if len(request["messages"]) == 3 * 2 * 2 - 1]
    assert len(chats) == 6
    for chat in chats:  # each text was told once, the rules first
        texts = "\n".join(message["content"] for message in chat if message["role"] == "user")
        assert texts.count(games[0].rules) == 1
        assert texts.count("A new round starts.") == 3
        assert texts.count("The other player had the") == 2
    assert other.asked == 6 * 3 * 2


@pytest.mark.parametrize("status", [500, 200])
def test_after_a_failure_no_new_request_is_made(server: Server, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setattr(api, "Event", threading.Event)  # which waits
    under_way = threading.Event()

    def behave(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        if body is server.asked[0]:  # it fails as soon as another one is under way, which would be tried again
            under_way.wait(5)
            return send(handler, b"", 400)
        under_way.set()
        time.sleep(0.2)
        return send(handler, answer("what?"), status)

    server.behave = behave
    games, started = [make_text_game("ipd", seed) for seed in range(4)], time.perf_counter()
    with pytest.raises(ApiError, match="status 400"):
        play(games, [(ApiPlayer("m", server.url, at_once=2), ScriptedPlayer("defect"))] * 4)
    assert len(server.asked) <= 3  # two, and perhaps one that was taken up just then
    assert time.perf_counter() - started < 0.9  # it does not wait for a second before a try that will not be made


@pytest.mark.parametrize(
    ("url", "sent"),
    [("https://a.example/v1", True), ("http://localhost:1/v1", True), ("http://[::1]:1", True),
     ("http://a.example/v1", False), ("http://localhost.a.example", False), ("http://10.0.0.3:8000/v1", False)],
)  # fmt: skip
def test_a_key_is_sent_where_nobody_listens_in(url: str, sent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert ApiPlayer("m", url)._headers() == ({"Authorization": "Bearer secret"} if sent else {})


class Remembering:
    """The kind script, which counts how often it is asked."""

    asked = 0

    def sit(self, seats: list) -> None:
        self.seats = seats

    def answer(self, turns: list) -> list:
        self.asked += sum(turn is not None for turn in turns)
        kind = SCRIPTED["trust_and_split"]["welfare"]
        pairs = zip(self.seats, turns, strict=True)
        return [kind(game, player) if turn is not None else None for (game, player), turn in pairs]


def test_bad_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ValueError, match="OPENAI_API_KEY"):
        ApiPlayer("m")


ODD = {
    "model": ("", None, 3),
    "url": (3, b"http://localhost"),
    "options": (None, "temperature=1", 3, {"stop": {1}}, {"temperature": float("nan")}),
    **dict.fromkeys(("max_new_tokens", "at_once", "tries", "longest"), (0, -1, 1.5, float("nan"), "3", None)),
    "retries": (-1, 0.5, float("nan"), "3", None),
    "timeout": (0, -0.5, float("nan"), float("inf"), "3", None),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in ODD.items() for value in values])
def test_odd_settings_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be "):
        ApiPlayer(**{"model": "m", "url": "http://127.0.0.1:9"} | {name: value})


# --- keys, proxies and what servers do to texts


def test_a_key_is_shown_by_no_traceback_and_its_line_break_is_cut(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret\n")
    server.behave = lambda handler, _: send(handler, b"wrong key: secret", 401)
    with pytest.raises(ApiError) as caught:
        play([make_text_game("ipd", 0, rounds=1)], [(ApiPlayer("m", server.url), ScriptedPlayer("defect"))])
    assert server.headers[0]["Authorization"] == "Bearer secret"
    assert "secret" not in "".join(traceback.format_exception(caught.value))
    monkeypatch.setenv("OPENAI_API_KEY", "sec\nret")
    with pytest.raises(ApiError, match="OPENAI_API_KEY holds what no header can") as caught:
        play([make_text_game("ipd", 0, rounds=1)], [(ApiPlayer("m", server.url), ScriptedPlayer("defect"))])
    assert "ret" not in "".join(traceback.format_exception_only(caught.value)).replace("secret", "")


def test_no_proxy_comes_between_this_machine_and_itself(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Server()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
    game = make_text_game("ipd", 0, rounds=1)
    play([game], [(ApiPlayer("m", server.url), ScriptedPlayer("defect"))])
    assert game.actions == [(0, 1)]
    assert (len(server.asked), proxy.asked) == (1, [])
    proxy.http.shutdown()
    proxy.http.server_close()


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("<think>A or B? </A>\n</think>\n\n<A>", "<A>"),
        ("Proposal:\u00a010\u202fhats", "Proposal: 10 hats"),
        ("I have\u2028rock\u200b", "I have rock"),
        (" <A>\n", "<A>"),
    ],
)
def test_thoughts_are_cut_and_odd_spaces_stay_spaces(server: Server, said: str, kept: str) -> None:
    server.behave = saying(said)
    game = make_text_game("ipd", 0, rounds=1)
    player = ApiPlayer("m", server.url, tries=1)
    player.sit([(game, 0)])
    assert player.answer([game.turns()[0]]) == [kept]


def test_an_address_with_a_password_is_shown_nowhere() -> None:
    assert "pass" not in repr(ApiPlayer("m", "http://me:pass@localhost:1/v1"))
