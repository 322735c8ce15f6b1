"""Who may ask, how much and how slowly; what the server says of itself."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import replace

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from earthmind_lab.engine import wire
from earthmind_lab.errors import EngineError
from earthmind_lab.exchange import Failed, Options, Prompt, Queued
from earthmind_lab.server import run
from earthmind_lab.server.chat_form import MAX_PARTS
from earthmind_lab.server.serving import Limits
from tests.server.scripted import Scripted, reply_of, view
from tests.server.served import TOKEN, served

PATHS = [
    ("GET", "/metrics"), ("GET", "/openapi.json"), ("GET", "/v1/models"),
    ("GET", "/v1/earthmind/capabilities"), ("GET", "/v1/earthmind/stats"),
    ("POST", "/v1/chat/completions"), ("POST", "/v1/earthmind/ask"),
    ("POST", "/v1/earthmind/pictures"), ("GET", "/nowhere"),
]  # fmt: skip
LIMITS = Limits(body_bytes=100_000, bodies_bytes=150_000, body_seconds=0.5)
ASK = wire.pack(wire.Ask(prompt=Prompt(text="Where?", views=(view(),)), options=Options()))
CHAT = {"model": "scripted", "messages": [{"role": "user", "content": "x"}]}


@pytest.fixture(scope="module")
def server():
    with served(Scripted(), limits=LIMITS) as found:
        yield found


def code_of(response):
    error = response.json()["error"]
    assert error["message"] and error["earthmind"]["kind"] and "Traceback" not in response.text
    return response.status_code, error["code"]


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize(
    "given", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN]
)
def test_without_the_token_nothing_is_said(server, method, path, given):
    headers = {} if given is None else {"authorization": given}
    response = httpx.request(method, server.url + path, headers=headers, trust_env=False)
    assert code_of(response) == (401, "invalid_token")
    assert response.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in response.text


def test_health_needs_none(server):
    response = httpx.get(f"{server.url}/health", trust_env=False)
    assert (response.status_code, response.json()) == (200, {"status": "ready"})


def test_a_server_that_loads_says_so():
    with served(None) as server, server.client() as client:
        assert client.get("/health").json() == {"status": "loading"}
        assert client.get("/health").status_code == 503
        for method, path in PATHS[2:-1]:
            body = {"json": CHAT} if "chat" in path else {"content": ASK}
            response = client.request(method, path, **(body if method == "POST" else {}))
            assert code_of(response) == (503, "loading") and response.headers["retry-after"] == "1"
        assert client.get("/metrics").status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "localhost.", "[::x]"]
)
def test_another_name_is_refused(server, host):
    with server.client(headers={"host": host}) as client:
        assert code_of(client.get("/v1/models")) == (403, "foreign")
        assert client.get("/health").status_code == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9", "127.0.0.1", "[::1]:80"])
def test_names_of_this_server(server, host):
    with server.client(headers={"host": host}) as client:
        assert client.get("/v1/models").status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", "http://localhost:8888"])
def test_pages_of_other_sites_may_not_ask(server, origin):
    with server.client(headers={"origin": origin}) as client:
        response = client.post("/v1/chat/completions", json=CHAT)
        assert code_of(response) == (403, "foreign")
        assert client.options("/v1/chat/completions").status_code == 403  # nor ask whether
    with server.client(headers={"origin": server.url}) as client:
        response = client.post("/v1/chat/completions", json=CHAT)
        assert response.status_code == 200
        assert not [name for name in response.headers if name.startswith("access-control")]


def test_too_large_a_body_is_refused_before_it_is_sent(server):
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as raw:
        raw.sendall(head("content-length: 100000000"))
        assert b" 413 " in raw.recv(4096)


def head(*lines, path="/v1/chat/completions"):
    first = [f"POST {path} HTTP/1.1", "host: localhost", f"authorization: Bearer {TOKEN}", *lines]
    return ("\r\n".join(first) + "\r\n\r\n").encode()


def test_too_large_a_body_is_refused_while_it_comes(server):
    with server.client() as client:
        assert code_of(client.post("/v1/earthmind/ask", content=iter([b"x" * 9999] * 99))) == (
            413, "too_large",
        )  # fmt: skip
        assert client.post("/v1/earthmind/ask", content=ASK).status_code == 200


@pytest.mark.parametrize("length", ["-1", "1e9", "x", "9" * 30])
def test_a_length_that_is_none(server, length):
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as raw:
        raw.sendall(head(f"content-length: {length}"))
        assert raw.recv(4096).split()[1] in (b"400", b"413")


def test_a_slow_body_is_not_waited_for(server):
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as raw:
        raw.sendall(head("content-length: 50"))
        for _ in range(20):
            try:
                raw.sendall(b"x")
            except OSError:
                break
            time.sleep(0.05)
        raw.settimeout(5)
        assert b" 408 " in raw.recv(4096)
    assert time.monotonic() - started < 3


def test_a_server_that_ends_says_so_to_whoever_still_sends(caplog):
    """Who reads that asks the next one; who reads of a fault gives up."""
    with socket.socket() as raw:
        with served(Scripted()) as server:
            raw.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
            raw.sendall(head("content-length: 50") + b"x")
            time.sleep(0.2)
        raw.settimeout(5)
        reply = b"".join(iter(lambda: raw.recv(4096), b""))
    assert reply.split()[1] == b"503" and json.loads(reply.partition(b"\r\n\r\n")[2])
    assert b'"code":"closing"' in reply and "Traceback" not in caplog.text


def test_bodies_share_a_limit(server):
    """Two that are nearly whole fill it; the third is told to come again."""
    port = int(server.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as one:
        one.sendall(head("content-length: 90000") + b"x" * 89_999)
        time.sleep(0.1)
        with server.client() as client:
            assert code_of(client.post("/v1/earthmind/ask", content=b"x" * 90_000)) == (429, "busy")
    time.sleep(0.1)
    with server.client() as client:  # the one that hung up holds nothing any more
        assert client.post("/v1/earthmind/ask", content=b"x" * 90_000).status_code == 400


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_without_a_token_no_room_for_bodies_is_taken(server, method):
    """Else anybody could shut out those who have one."""
    first = f"{method} /health HTTP/1.1\r\nhost: localhost\r\ncontent-length: 90000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as raw:
        raw.settimeout(5)
        raw.sendall(first.encode() + b"x" * 89_999)
        assert raw.recv(4096).split()[1] == {"GET": b"200", "POST": b"405"}[method]
        with server.client() as client:
            assert client.post("/v1/earthmind/ask", content=b"x" * 90_000).status_code == 400


def test_a_body_that_ends_early_is_forgotten(server):
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as raw:
        raw.sendall(head("content-length: 50") + b"x")
    with server.client() as client:
        assert client.get("/health").json() == {"status": "ready"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/docs", 404), ("GET", "/v1/../etc/passwd", 404),
     ("GET", "/v1/chat/completions", 405), ("PUT", "/v1/models", 405), ("GET", "/health/", 404),
     ("GET", "/v1/earthmind/seen_gsd?height=0&width=1&gsd=1", 422),
     ("GET", "/v1/earthmind/seen_gsd?height=1&width=1&gsd=nan", 422),
     ("GET", "/v1/earthmind/seen_gsd?height=99999999999&width=1&gsd=1", 422)],
)  # fmt: skip
def test_what_is_not_served_is_said_in_the_same_form(server, method, path, status):
    with server.client() as client:
        assert code_of(client.request(method, path))[0] == status


def test_websockets_are_not_served(server):
    upgrade = {"upgrade": "websocket", "connection": "upgrade", "sec-websocket-version": "13",
               "sec-websocket-key": "eHh4eHh4eHh4eHh4eHh4eA=="}  # fmt: skip
    with server.client(headers=upgrade) as client:
        assert client.get("/v1/models").status_code in (200, 400, 403, 426)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"), ({"max_new_tokens": 10**9}, "max_new_tokens"),
        ({"temperature": float("nan")}, "temperature"), ({"temperature": -1.0}, "temperature"),
        ({"seed": 2**64}, "seed"), ({"deadline": 0.0}, "deadline"),
        ({"priority": 10**9}, "priority"),
        ({"deadline": float("nan")}, "deadline"), ({"deadline": -5.0}, "deadline"),
    ],
)  # fmt: skip
def test_options_outside_of_the_limits(server, changes, says):
    body = wire.pack(wire.Ask(prompt=Prompt(text="x"), options=Options(**changes)))
    with server.client() as client:
        response = client.post("/v1/earthmind/ask", content=body)
    assert code_of(response) == (400, "bad_prompt") and says in response.text


def test_half_characters_reach_no_tokenizer(server):
    body = wire.pack(wire.Ask(prompt=Prompt(text="a\ud800"), options=Options()))
    with server.client() as client:
        assert "other half" in client.post("/v1/earthmind/ask", content=body).text


def test_what_can_not_be_sent_is_an_error_and_no_hang():
    def odd(prompt, options):
        return replace(reply_of(prompt, options), token_ids=("x",))

    with served(Scripted(odd)) as server, server.client() as client:
        data = client.post("/v1/earthmind/ask", content=ASK).content
    *_, last = wire.Frames().feed(data)
    assert isinstance(wire.unpack(last, Failed).error, EngineError)


def test_signs_of_life_while_there_is_nothing_to_say():
    with (
        served(Scripted(pause=0.4), limits=Limits(alive_seconds=0.1)) as server,
        server.client() as client,
    ):
        frames = list(wire.Frames().feed(client.post("/v1/earthmind/ask", content=ASK).content))
    assert isinstance(wire.unpack(frames[0], Queued), Queued)
    assert frames.count(b"") > 5


def test_metrics():
    with served(Scripted()) as server, server.client() as client:
        client.post("/v1/earthmind/ask", content=ASK)
        client.post("/v1/chat/completions", json=CHAT)
        client.post("/v1/chat/completions", json={**CHAT, "max_tokens": 10**6})
        text = client.get("/metrics").text
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["earthmind_requests_total", "binary", "done"] == 1
    assert samples["earthmind_requests_total", "chat", "done"] == 1
    assert samples["earthmind_requests_total", "chat", "refused"] == 1
    assert samples["earthmind_asks_total", "done"] == 2
    assert samples["earthmind_running",] == 0 and samples["earthmind_waiting",] == 0
    assert samples["earthmind_tokens_total", "new"] == 7
    assert samples["earthmind_kept_hits_total", "tokens"] == 3
    assert samples["earthmind_kept_nbytes", "tokens"] == 2
    assert samples["earthmind_ask_seconds_count", "chat"] == 1
    assert samples["earthmind_first_text_seconds_count", "binary"] == 1


def test_two_apps_in_one_process_count_apart():
    with served(Scripted()) as one, served(Scripted()) as other:
        with one.client() as client:
            client.post("/v1/chat/completions", json=CHAT)
        with other.client() as client:
            assert 'outcome="done",route="chat"' not in client.get("/metrics").text


def test_a_reply_is_data_and_never_a_page():
    bad = "<script>alert(1)</script>\u2028"
    engine = Scripted(lambda prompt, options: replace(reply_of(prompt, options), text=bad))
    with served(engine) as server, server.client() as client:
        response = client.post("/v1/chat/completions", json=CHAT)
    assert response.headers["content-type"] == "application/json"
    assert json.loads(response.text)["choices"][0]["message"]["content"] == bad
    assert response.headers["x-content-type-options"] == "nosniff"


def test_more_words_than_the_limit_are_refused():
    history = [{"role": "user", "content": "x" * 60}, {"role": "assistant", "content": "y" * 60}]
    asked = {**CHAT, "messages": [*history, {"role": "user", "content": "z"}]}
    with served(Scripted(), limits=Limits(characters=120)) as server, server.client() as client:
        refused = client.post("/v1/chat/completions", json=asked)
        assert code_of(refused)[0] == 400
        assert "121 characters, at most 120" in refused.text
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 200


def test_a_message_has_so_many_parts_at_most(server):
    parts = [{"type": "text", "text": "x"}] * (MAX_PARTS + 1)
    with server.client() as client:
        for content, code in ((parts, 422), (parts[1:], 200)):
            asked = {**CHAT, "messages": [{"role": "user", "content": content}]}
            assert client.post("/v1/chat/completions", json=asked).status_code == code


def test_blanks_around_the_token_are_no_part_of_it(tmp_path, monkeypatch):
    monkeypatch.setenv("EARTHMIND_HOME", str(tmp_path))
    seen = []
    monkeypatch.setattr(run, "create_app", lambda *_, token, **__: seen.append(token) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run.serve(token=" tok \n", port=0)
    assert seen == ["tok"]
