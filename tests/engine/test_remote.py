"""An engine behind a wire answers as it does here; what breaks on the way is mended or said."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from earthmind_lab.aoi import AOI
from earthmind_lab.conversation import ask as ask_about
from earthmind_lab.data.load import load_chip
from earthmind_lab.data.search import search_pairs
from earthmind_lab.engine import load_engine
from earthmind_lab.engine.link import Address
from earthmind_lab.engine.remote import RemoteEngine
from earthmind_lab.errors import (
    Cancelled,
    EngineBusy,
    EngineError,
    EngineUnavailable,
    ModelNotFound,
    OutOfDeviceMemory,
    PromptError,
)
from earthmind_lab.exchange import Done, Failed, Object, Options, Prompt, Queued, Token, Turn
from earthmind_lab.render import render
from earthmind_lab.server.serving import Limits
from tests.server.scripted import CAPABILITIES, Scripted, reply_of, view
from tests.server.served import TOKEN, free_port, served
from tests.test_imports import loaded_by

SHORT = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
WATER = Prompt(text="Where is water?", views=(view(),))


@contextlib.contextmanager
def remote(url, **more):
    engine = RemoteEngine(url, **{"token": TOKEN, "retry_seconds": SHORT, **more})
    try:
        yield engine
    finally:
        engine.close()


@contextlib.contextmanager
def both(engine, **more):
    with served(engine, **more) as server, remote(server.url) as client:
        yield server, client


def assert_same(one, other):
    """Two replies, bit by bit; what they cost apart."""
    for field in fields(one):
        if field.name not in ("objects", "usage", "sensor_weights"):
            assert getattr(one, field.name) == getattr(other, field.name), field.name
    assert len(one.objects) == len(other.objects)
    for a, b in zip(one.objects, other.objects, strict=True):
        assert replace(a, mask_logits=None) == replace(b, mask_logits=None) or (
            a.label, a.score, a.box, a.view, a.text_span
        ) == (b.label, b.score, b.box, b.view, b.text_span)  # fmt: skip
        assert a.mask_logits.tobytes() == b.mask_logits.tobytes()


def wait_for(condition, seconds=10.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_reply_over_the_wire_is_the_reply():
    engine = Scripted()
    with both(engine) as (_, client):
        ask = client.submit(WATER, Options(seed=7))
        events = list(ask.events())
        assert_same(ask.result(), reply_of(WATER, Options(seed=7)))
    assert isinstance(events[0], Queued) and isinstance(events[-1], Done)
    assert "".join(each.text for each in events if isinstance(each, Token)).startswith("Sure, the")
    (found,) = [each.found for each in events if isinstance(each, Object)]
    assert found.mask_logits.dtype == np.float32
    assert {each.ask for each in events} == {ask.id}
    prompt, options = engine.asked[0]
    assert prompt.views[0].hash == WATER.views[0].hash and prompt.views[0].gsd == 10
    assert options.seed == 7 and options.deadline == Limits().ask_seconds


def test_what_the_engine_is_is_asked_for_once_and_the_rest_when_wanted(monkeypatch):
    engine = Scripted()
    with both(engine) as (_, client):
        assert client.capabilities == CAPABILITIES
        assert (client.name, client.revision) == ("scripted", "b" * 12)
        assert client.stats() == engine.stats()
        assert client.seen_gsd(view(64)) == 20 and client.seen_gsd(view(16)) == 10
        assert client.seen_gsd(view(64, gsd=None)) is None
        monkeypatch.setattr(engine, "seen_gsd", lambda view: 0 / 0)
        assert client.seen_gsd(view(64, seed=3)) == 20  # known by its size
        views = (view(4), view(4, seed=1, modality="sar"))
        shown = client.pictures(views)
        assert [len(each) for each in shown] == [2, 2]
        assert np.array_equal(shown[1][0], views[1].image[:2])
        assert "at http://127.0.0.1" in repr(client)


@pytest.fixture(scope="module")
def chip():
    aoi = AOI.from_bbox(-0.775, 38.09, -0.745, 38.12)
    return load_chip(search_pairs(aoi, "2019-09-15/2019-09-20", catalog="sample")[0], aoi)


def test_nano_answers_over_the_wire_as_it_does_here(chip):
    local = load_engine("nano")
    pictures = render(chip, preferred=local.capabilities.composites)
    prompts = [
        Prompt(text="Segment the water.", views=pictures),
        Prompt(text="Segment the water.", views=pictures[:1]),
        Prompt(text="Describe the scene.", views=pictures[:1], history=(Turn(
            question="Is there any water? Answer yes or no.", reply="Yes."),)),
    ]  # fmt: skip
    options = Options(max_new_tokens=40)
    with both(local) as (_, client):
        assert client.capabilities == local.capabilities
        for prompt in prompts:
            local.generate(prompt, options)  # from here on each goes on from the same cache
            reply = client.generate(prompt, options)
            assert_same(reply, local.generate(prompt, options))
            assert bool(reply.objects) == prompt.text.startswith("Segment")
        drawn = Options(max_new_tokens=24, temperature=0.8, seed=5)
        assert client.generate(prompts[2], drawn).token_ids == (
            local.generate(prompts[2], drawn).token_ids
        )
        shown, mine = client.pictures(pictures), local.pictures(pictures)
        assert all(
            np.array_equal(a, b)
            for one, other in zip(shown, mine, strict=True)
            for a, b in zip(one, other, strict=True)
        )
        assert [*map(client.seen_gsd, pictures)] == [*map(local.seen_gsd, pictures)]


def test_an_answer_about_the_earth_is_the_same_behind_a_wire(chip):
    """Geography, evidence and record are made here, of what came over the wire."""
    local = load_engine("nano")
    with both(local) as (_, client):
        far = ask_about(chip, "Segment the water.", engine=client)
        near = ask_about(chip, "Segment the water.", engine=local)
    assert far.detections and far.text == near.text
    assert far.to_geojson() == near.to_geojson()
    assert [claim.sentence() for claim in far.evidence] == [
        claim.sentence() for claim in near.evidence
    ]
    assert far.seen_gsd_m == near.seen_gsd_m
    assert far.record.model == near.record.model


def test_nano_answers_many_at_once_as_it_answers_each_alone(chip):
    local = load_engine("nano")
    pictures = render(chip, preferred=local.capabilities.composites)
    kinds = ("water", "trees", "crops", "built-up areas", "bare ground")
    prompts = [
        Prompt(text=f"Segment the {kind}.", views=views)
        for kind in kinds
        for views in (pictures, pictures[:1], pictures[1:], pictures[::-1])
    ]
    alone = [local.generate(prompt) for prompt in prompts]
    with both(local) as (_, client):
        before = client.stats().done
        asks = [client.submit(prompt, Options(seat=str(i % 5))) for i, prompt in enumerate(prompts)]
        for one, other in zip(alone, asks, strict=True):
            assert other.result(60).token_ids == one.token_ids
        assert client.stats().done == before + 20 == local.stats().done


def test_a_socket_of_this_user_alone(tmp_path):
    path = str(tmp_path / "lab.sock")
    with served(Scripted(), uds=path) as server:
        assert Path(path).stat().st_mode & 0o777 == 0o600
        assert server.url == f"unix://{path}"
        with remote(server.url) as client:
            assert client.generate(WATER).text.startswith("Sure")


def test_without_a_token_the_server_answers_whoever_it_should():
    with served(Scripted(), token=None) as server, remote(server.url, token=None) as client:
        assert client.generate(WATER).text


@pytest.mark.parametrize("token", [None, "", "wrong", "a token of the test", "ümläut"])
def test_a_wrong_token_is_said_to_be_so(token):
    with (
        served(Scripted()) as server,
        pytest.raises(EngineUnavailable, match=r"does not know this token.*EARTHMIND_TOKEN"),
    ):
        RemoteEngine(server.url, token=token)


def test_a_token_of_two_lines_is_not_sent_and_not_shown():
    with pytest.raises(EngineUnavailable, match="one line") as caught:
        RemoteEngine("http://127.0.0.1:1", token="secret\nline")
    assert "secret" not in str(caught.value)


def test_nobody_there_is_said_at_once():
    url = f"http://127.0.0.1:{free_port()}"
    started = time.monotonic()
    with pytest.raises(EngineUnavailable, match="earthmind serve"):
        RemoteEngine(url)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    "url",
    ["ftp://x", "http://", "http://a:b@c", "http://x:port", "unix://", "http://[::1", "x://y"],
)
def test_what_is_no_address(url):
    with pytest.raises(EngineUnavailable, match="no address"):
        Address.parse(url)


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/"])
def test_the_address_that_other_clients_take_is_one(path):
    with served(Scripted()) as server, remote(server.url + path) as client:
        assert client.generate(WATER).text
    assert Address.parse("https://lab/earth/v1").url == "https://lab/earth"
    assert Address.parse("https://lab/v12").url == "https://lab/v12"


def answering(data):
    """A server of another kind: says this to whoever comes."""
    listening = socket.create_server(("127.0.0.1", 0))

    def work():
        with listening, contextlib.suppress(OSError):
            while True:
                peer, _ = listening.accept()
                with peer:
                    peer.recv(65536)
                    peer.sendall(data)

    threading.Thread(target=work, daemon=True).start()
    return f"http://127.0.0.1:{listening.getsockname()[1]}", listening


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 401 No\r\ncontent-length: 12\r\n\r\n{\"error\": 1}",
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nearthmind-weights: b\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 503 Away\r\ncontent-length: 0\r\n\r\n",
    ],
)  # fmt: skip
def test_a_server_of_another_kind(data):
    url, listening = answering(data)
    with pytest.raises(EngineError):
        RemoteEngine(url)
    listening.close()


# --- what goes wrong on the way ------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [PromptError("a", found="b", change="c"), EngineBusy("a"), OutOfDeviceMemory("a"),
     EngineError("a"), ValueError("secret")],
)  # fmt: skip
@pytest.mark.parametrize("early", [True, False])
def test_an_error_of_the_engine_arrives_as_itself(error, early, monkeypatch):
    def fail(*_):
        raise error

    engine = Scripted()
    monkeypatch.setattr(engine, "submit" if early else "before_word", fail)
    with both(engine) as (_, client):
        kind = EngineError if isinstance(error, ValueError) else type(error)
        with pytest.raises(kind) as caught:
            client.generate(WATER)
    assert type(caught.value) is kind
    assert "secret" not in str(caught.value) and "Traceback" not in str(caught.value)
    if kind is not EngineError:
        assert str(caught.value) == str(error)


def test_cancel_ends_the_ask_on_the_server():
    engine = Scripted(pause=0.05)
    with both(engine) as (_, client):
        ask = client.submit(replace(WATER, text="word " * 500))
        wait_for(lambda: engine.asked)
        ask.cancel()
        ask.cancel()
        with pytest.raises(Cancelled):
            ask.result(1)
        assert isinstance(list(ask.events())[-1], Failed)
        wait_for(lambda: engine.ended == ["Cancelled"], 3)
        assert client.generate(WATER).text  # and the next one is answered


def test_result_waits_as_long_as_told():
    engine = Scripted(pause=0.1)
    with both(engine) as (_, client):
        ask = client.submit(WATER)
        with pytest.raises(TimeoutError, match="goes on"):
            ask.result(0.05)
        assert ask.result(10).text


def test_a_deadline_holds_on_both_sides():
    engine = Scripted(pause=0.1)
    with both(engine) as (_, client):
        long = replace(WATER, text="word " * 500)
        with pytest.raises(EngineError, match="deadline"):
            client.generate(long, Options(deadline=0.5))
        wait_for(lambda: len(engine.ended) == 1, 3)
        assert engine.asked[0][1].deadline == 0.5


def test_closing_the_client_cancels_its_asks_and_leaves_the_server():
    engine = Scripted(pause=0.05)
    with served(engine) as server, remote(server.url) as other:
        client = RemoteEngine(server.url, token=TOKEN)
        asks = [client.submit(replace(WATER, text="word " * 500)) for _ in range(3)]
        wait_for(lambda: len(engine.asked) == 3)
        client.close()
        client.close()
        for ask in asks:
            with pytest.raises(Cancelled):
                ask.result(1)
        wait_for(lambda: engine.ended == ["Cancelled"] * 3, 5)
        for use in (lambda: client.submit(WATER), client.stats):
            with pytest.raises(EngineUnavailable, match="closed"):
                use()
        assert not engine.closed and other.generate(WATER).text


def test_a_server_that_is_restarted_goes_on_where_it_broke_off():
    port, broke = free_port(), threading.Event()
    counted = itertools.count()

    def stall(ask):
        if not broke.is_set() and next(counted) == 4:
            broke.set()
            ask.stopped.wait(30)

    with served(Scripted(before_word=stall), port=port) as first:
        client = RemoteEngine(first.url, token=TOKEN, retry_seconds=SHORT)
        ask = client.submit(WATER)
        assert broke.wait(10)
        first.stop()  # in the middle of the answer
    second = Scripted()
    with served(second, port=port):
        reply = ask.result(20)
    said = "".join(each.text for each in ask.events() if isinstance(each, Token))
    assert said.strip() == reply.text  # nothing twice, nothing lacks
    assert sum(isinstance(each, Object) for each in ask.events()) == 1
    assert len(second.asked) == 1
    client.close()


def test_a_server_that_stays_away_is_given_up():
    with served(Scripted(pause=0.05)) as server:
        client = RemoteEngine(server.url, token=TOKEN, retry_seconds=(0.01, 0.01))
        ask = client.submit(WATER)
        wait_for(lambda: any(isinstance(each, Token) for each in ask._events))
        server.stop()
        with pytest.raises(EngineUnavailable, match="can't be reached"):
            ask.result(20)
    client.close()


def test_the_tries_end_with_the_deadline():
    with served(Scripted(pause=0.05)) as server:
        client = RemoteEngine(server.url, token=TOKEN, retry_seconds=(0.1,) * 1000)
        ask = client.submit(WATER, Options(deadline=1.0))
        wait_for(lambda: ask._events)
        server.stop()
        with pytest.raises(EngineError, match="deadline of 1 s"):
            ask.result(5)
    client.close()


def test_another_model_behind_the_same_address_is_noticed():
    port = free_port()
    with served(Scripted(), port=port) as first:
        client = RemoteEngine(first.url, token=TOKEN, retry_seconds=SHORT)
    other = Scripted(capabilities=replace(CAPABILITIES, weight_hash="c" * 64))
    with served(other, port=port), pytest.raises(EngineUnavailable, match="another model now"):
        client.generate(WATER)
    client.close()


def test_a_server_that_loads_is_waited_for():
    with served(None) as server:
        with pytest.raises(EngineUnavailable, match="still loading"):
            RemoteEngine(server.url, token=TOKEN, loading_seconds=0)
        threading.Timer(0.5, lambda: server.serving.ready(Scripted())).start()
        with remote(server.url) as client:
            assert client.generate(WATER).text


def test_twenty_asks_at_once_each_get_their_own_answer():
    engine = Scripted(pause=0.01)
    with both(engine) as (_, client):
        prompts = [Prompt(text=f"Question {i}", views=(view(seed=i),)) for i in range(20)]
        asks = [client.submit(prompt) for prompt in prompts]
        for prompt, ask in zip(prompts, asks, strict=True):
            assert_same(ask.result(30), reply_of(prompt, Options()))


def test_a_seat_has_its_limit_and_others_are_not_in_it():
    engine = Scripted(pause=0.05)
    with both(engine, limits=Limits(asks_per_seat=2)) as (_, client):
        asks = [client.submit(WATER, Options(seat="a")) for _ in range(2)]
        wait_for(lambda: len(engine.asked) == 2)
        with pytest.raises(EngineBusy, match="seat"):
            client.generate(WATER, Options(seat="a"))
        assert client.generate(WATER, Options(seat="b")).text
        assert [ask.result(10).text for ask in asks]
        assert client.generate(WATER, Options(seat="a")).text  # both have ended
    seats = [options.seat for _, options in engine.asked]
    assert seats[0] == seats[1] != seats[2] and seats[0].endswith("/a")


def test_engines_without_a_seat_have_one_each():
    engine = Scripted()
    with served(engine) as server, remote(server.url) as one, remote(server.url) as other:
        for client in (one, other, one):
            client.generate(WATER)
    first, second, third = (options.seat for _, options in engine.asked)
    assert first == third != second


# --- by name -------------------------------------------------------------------------------------


def test_load_engine_takes_an_address(monkeypatch):
    with served(Scripted()) as server:
        monkeypatch.setenv("EARTHMIND_TOKEN", TOKEN)
        engine = load_engine(server.url)
        assert load_engine(server.url) is engine
        assert load_engine(server.url, token=TOKEN, revision="BBB") is engine
        assert engine.generate(WATER).text
        with pytest.raises(ModelNotFound, match="bbbb"):
            load_engine(server.url, revision="abc")
        with pytest.raises(EngineError, match="dtype="):
            load_engine(server.url, dtype="float32")
        engine.close()
        fresh = load_engine(server.url)
        assert fresh is not engine and not fresh.closed
        fresh.close()


def test_a_client_needs_no_torch():
    code = "from earthmind_lab.engine import load_engine, wire, remote"
    assert loaded_by(code).isdisjoint(
        {"torch", "transformers", "tokenizers", "fastapi", "rasterio"}
    )


def test_a_client_works_where_there_is_no_torch():
    import subprocess
    import sys

    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "import earthmind_lab as em\n"
        "from earthmind_lab.exchange import Prompt\n"
        "engine = em.load_engine(sys.argv[1])\n"
        "print(engine.generate(Prompt(text='Anything?')).text)\n"
    )
    with served(Scripted()) as server:
        run = subprocess.run(
            [sys.executable, "-c", code, server.url], capture_output=True, text=True, check=True,
            timeout=60, env={**os.environ, "EARTHMIND_TOKEN": TOKEN},
        )  # fmt: skip
    assert run.stdout.strip().endswith("You asked: Anything?")
    assert run.stderr == ""
