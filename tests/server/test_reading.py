"""A body of JSON is read beside the loop, and no more of it than a question needs."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.numpy import save

from earthmind_lab.engine import wire
from earthmind_lab.exchange import Options, Prompt
from earthmind_lab.server import reading
from earthmind_lab.server.chat_form import Ask
from earthmind_lab.server.faults import Refusal
from earthmind_lab.server.limits import Limits
from tests.server.scripted import Scripted, view
from tests.server.served import served
from tests.server.test_chat import part, png, question

CHAT = {"model": "scripted", "messages": [{"role": "user", "content": "x"}]}
PATH = "/v1/chat/completions"


@contextmanager
def posting(server, body):
    """One question from another thread; gives the list that gets its response."""
    found = []

    def ask():
        with server.client() as client:
            found.append(client.post(PATH, json=body))

    thread = threading.Thread(target=ask)
    thread.start()
    yield found
    thread.join(20)


def test_the_loop_goes_on_while_a_body_is_read(monkeypatch):
    inside, go, threads = threading.Event(), threading.Event(), []
    real = reading.read

    def slow(*given):
        threads.append(threading.current_thread())
        inside.set()
        assert go.wait(20)
        return real(*given)

    monkeypatch.setattr(reading, "read", slow)
    with served(Scripted()) as server, server.client() as client, posting(server, CHAT) as found:
        assert inside.wait(10)
        assert client.get("/v1/models").status_code == 200  # answered by the same loop
        assert not found and server.thread not in threads
        go.set()
    assert found[0].status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"{" + b",".join(b'"k%d":1' % i for i in range(200_000)) + b"}",
        json.dumps({**CHAT, "metadata": {"x": "y" * 5_000_000}}).encode(),
        json.dumps({**CHAT, "x": "data:image/png;base64,"}).encode() + b" " * 5_000_000,
        b"[" * 400_001,
        json.dumps({**CHAT, "messages": [question("x", *[part("data:image/png;base64,")] * 64)]
                    * 2000}).encode(),
    ],
    ids=["keys", "words", "blanks", "brackets", "pictures"],
)  # fmt: skip
def test_too_much_is_refused_unread(body, monkeypatch):
    """Too many keys, too many words, too many of anything: no parser ever sees it."""

    def never(*_, **__):
        raise AssertionError("it was parsed")

    with served(Scripted()) as server, server.client() as client:
        with monkeypatch.context() as patch:
            patch.setattr(reading, "json", type("json", (), {"loads": never}))
            response = client.post(PATH, content=body, headers={"content-type": "application/json"})
        assert (response.status_code, response.json()["error"]["code"]) == (413, "too_large")
        assert len(response.text) < 1000
        assert client.post(PATH, json=CHAT).status_code == 200


@pytest.mark.parametrize("slash", ["/", "\\/"])
def test_pictures_do_not_count(slash):
    """Some clients write a slash as JSON's escape."""
    url = png(view(60).image)
    asked = {**CHAT, "messages": [question("x", part(url), part(url))]}
    body = json.dumps(asked).replace("/", slash).encode()
    beside = len(body) - 2 * (len(url.replace("/", slash)) - len("data:image"))
    headers = {"content-type": "application/json"}
    with served(Scripted(), limits=Limits(words_bytes=beside)) as server, server.client() as client:
        assert client.post(PATH, content=body, headers=headers).status_code == 200
        longer = body.replace(b'"x"', b'"xx"')
        assert client.post(PATH, content=longer, headers=headers).status_code == 413


def many(count, key="k"):
    return {f"{key}{i}": 1 for i in range(count)}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({**CHAT, **many(reading.MAX_KEYS)}, None),
        ({**CHAT, "metadata": many(reading.MAX_KEYS + 1)}, None),
        ({**CHAT, **many(5)}, "k0"),
        ({**CHAT, "messages": [many(60)] * 200}, "messages.0"),
    ],
)
def test_unknown_keys_are_refused_in_a_few_words(body, param):
    with served(Scripted()) as server, server.client() as client:
        response = client.post(PATH, json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (422, "malformed")
    assert response.json()["error"]["param"] == param and len(response.text) < 1000


@pytest.mark.parametrize(
    "messages",
    [[{"role": "user", "content": "x", **many(60)}] * 200,
     [{"role": "user", "content": [{"type": "text", "text": "x", **many(60)}] * 64}] * 200,
     [{"role": "system", "content": [{"type": "text", "text": "x", **many(60)}] * 64}] * 200,
     [{"role": "assistant", "content": [{"type": "text", "text": "x", **many(60)}] * 64}] * 200],
)  # fmt: skip
def test_the_first_faulty_message_ends_the_look(messages):
    """Each fault costs an error, and there may be a million of them."""
    with pytest.raises(ValidationError) as refused:
        Ask.model_validate({"model": "x", "messages": messages})
    assert refused.value.error_count() <= reading.MAX_KEYS


@pytest.mark.parametrize(
    ("body", "kind"),
    [(json.dumps(CHAT).encode(), "text/plain"), (json.dumps(CHAT).encode(), ""),
     (json.dumps(CHAT).encode(), "application/jsonp"), (json.dumps(CHAT).encode("utf-16"),
     "application/json"), (b"", "application/json"), (b'{"seed":' + b"9" * 5000 + b"}",
     "application/json")],
)  # fmt: skip
def test_what_is_no_json_here(body, kind):
    with served(Scripted()) as server, server.client() as client:
        response = client.post(PATH, content=body, headers={"content-type": kind})
        assert (response.status_code, response.json()["error"]["code"]) == (422, "malformed")
        kind = "application/problem+json; charset=utf-8"
        asked = client.post(PATH, content=json.dumps(CHAT), headers={"content-type": kind})
        assert asked.status_code == 200


def values(data):
    """How many there are in some data, at any depth."""
    inner = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return sum(1 + values(each) for each in inner)


WORDS = st.text(max_size=5) | st.sampled_from(["data:image", '"data:image', 'a"data:image/png"b'])
DATA = st.recursive(
    st.none() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(WORDS, inner, max_size=6),
)


@settings(max_examples=300, deadline=None)
@given(DATA, st.booleans())
def test_no_value_hides_in_what_is_left_out(data, ascii_only):
    body = json.dumps(data, ensure_ascii=ascii_only).encode()
    reading.check_size(body, Limits(words_bytes=len(body), signs=len(body)))
    if values(data):
        with pytest.raises(Refusal):
            reading.check_size(body, Limits(words_bytes=len(body), signs=values(data) - 1))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=50) | st.lists(st.sampled_from([b'"', b"data:image", b"x,"])).map(
    b"".join), st.integers(0, 60))  # fmt: skip
def test_anything_is_counted_to_its_end(body, most):
    """Or to what is too much; without a picture each byte counts."""
    try:
        reading.check_size(body, Limits(words_bytes=most))
    except Refusal:
        assert len(body) > most
    else:
        assert b'"data:image' in body or len(body) <= most


# --- messages of our own route --------------------------------------------------------------------

ASK = wire.pack(wire.Ask(prompt=Prompt(text="Where?", views=(view(),)), options=Options()))


def message(text, **arrays):
    return save({"json": np.frombuffer(text, np.uint8), **arrays})


@pytest.mark.parametrize(
    "body",
    [
        message(b"{" + b",".join(b'"k%d":1' % i for i in range(200_000)) + b"}"),
        message(b" " * 5_000_000),
        message(b"{}", **{f"{i}": np.zeros(1, np.uint8) for i in range(5_000)}),
        (300_000).to_bytes(8, "little") + b" " * 300_000,
    ],
    ids=["keys", "words", "arrays", "head"],
)
@pytest.mark.parametrize("path", ["/v1/earthmind/ask", "/v1/earthmind/pictures"])
def test_too_long_a_message_is_refused_unread(path, body, monkeypatch):
    def never(*_):
        raise AssertionError("it was read")

    headers = {"content-type": wire.CONTENT_TYPE}
    with served(Scripted()) as server, server.client() as client:
        with monkeypatch.context() as patch:
            patch.setattr(wire, "unpack", never)
            response = client.post(path, content=body, headers=headers)
        assert (response.status_code, response.json()["error"]["code"]) == (413, "too_large")
        assert client.post("/v1/earthmind/ask", content=ASK, headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/v1/earthmind/ask", "/v1/earthmind/pictures"])
def test_nonsense_is_not_called_too_large(path):
    """Its first bytes say that its head is longer than all of it: no parser goes on from there."""
    with served(Scripted()) as server, server.client() as client:
        response = client.post(path, content=b"\xff" * 100)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "bad_prompt")
    assert "can't be read" in response.json()["error"]["message"]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40) | st.integers(0, len(ASK)).map(lambda end: ASK[:end]))
def test_what_is_no_message_is_left_to_who_reads_it(body):
    reading.check_message(body, Limits())
    reading.check_message(ASK, Limits())
