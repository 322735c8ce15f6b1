"""How much is let in at once, and that all of it comes back however an ask ends."""

from __future__ import annotations

import gc
import json
import threading
import weakref
from contextlib import ExitStack, contextmanager, suppress
from types import SimpleNamespace

import httpx
import pytest

from earthmind_lab.engine import wire
from earthmind_lab.errors import Cancelled, EngineBusy, OutOfDeviceMemory, PromptError
from earthmind_lab.exchange import Options, Prompt
from earthmind_lab.server import binary, chat, serving
from earthmind_lab.server.admission import DECODING_BYTES, PIXEL_BYTES, Admission
from earthmind_lab.server.limits import Limits
from tests.engine.test_remote import wait_for
from tests.server.scripted import Scripted, view
from tests.server.served import served
from tests.server.test_chat import bomb, data_url, part, png, question

SIDE = 50
PIXELS = SIDE * SIDE * 3
PICTURE = png(view(SIDE).image)
ROUTES = ["/v1/chat/completions", "/v1/earthmind/ask"]
VIEWS = (view(SIDE, gsd=None),)


def chat_body(url=PICTURE, **more):
    asked = {"model": "scripted", "messages": [question("Where?", part(url))], **more}
    return json.dumps(asked).encode()


def raw_body(**options):
    return wire.pack(
        wire.Ask(prompt=Prompt(text="Where?", views=VIEWS), options=Options(**options))
    )


BODIES = dict(zip(ROUTES, (chat_body(), raw_body()), strict=True))
NBYTES = dict(zip(ROUTES, (PIXELS, len(raw_body())), strict=True))
"""What an ask is counted with: its pictures decoded; a message whose arrays are raw, whole."""


def post(client, route, body=None, **headers):
    kind = "application/json" if "chat" in route else wire.CONTENT_TYPE
    body = BODIES[route] if body is None else body
    return client.post(route, content=body, headers={"content-type": kind, **headers})


class Held(Scripted):
    """Answers when it is told to."""

    def __init__(self, **more):
        self.go = threading.Semaphore(0)
        super().__init__(before_word=self.wait, **more)
        self.begun = set()

    def wait(self, ask):
        if ask.id not in self.begun:
            self.begun.add(ask.id)
            while not self.go.acquire(timeout=0.01) and not ask.stopped.is_set():
                pass


@contextmanager
def asking(server, route, **headers):
    """An ask under way, which ends with the engine's leave; gives its response, at last."""
    found = []

    def ask():
        with server.client() as client:
            found.append(post(client, route, **headers))

    thread = threading.Thread(target=ask)
    thread.start()
    yield found
    thread.join(20)


def given_back(server):
    admission = server.serving.admission
    wait_for(lambda: (admission.asks, admission.held) == (0, 0))
    assert not admission._seats and not admission._tokens and not server.serving._under_way


# --- how much -------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ROUTES)
def test_pictures_that_fit_are_taken_and_the_next_one_when_there_is_room(route, monkeypatch):
    engine, decoded, admission = Held(), [], []

    def noting(real):
        return lambda *given: decoded.append(admission[0].held) or real(*given)

    for module, name in ((chat, "pixels_of"), (binary.wire, "unpack")):
        monkeypatch.setattr(module, name, noting(getattr(module, name)))
    # Decoding takes some more for a while.
    more = {ROUTES[0]: DECODING_BYTES * SIDE * SIDE, ROUTES[1]: NBYTES[ROUTES[1]]}[route]
    limits = Limits(decoded_bytes=2 * NBYTES[route] + more + 100)
    with served(engine, limits=limits) as server, server.client() as client:
        admission.append(server.serving.admission)
        # One after the other: there is room to decode one of them at a time.
        with ExitStack() as stack:
            found = []
            for number in (1, 2):
                found.append(stack.enter_context(asking(server, route)))
                wait_for(lambda number=number: len(engine.begun) == number)
            assert server.serving.admission.held == 2 * NBYTES[route] and len(decoded) == 2
            assert NBYTES[route] + more in decoded  # of the first of them
            refused = post(client, route)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "busy")
            assert refused.headers["retry-after"] == "1"
            assert len(decoded) == 2  # it was not even looked at
            engine.go.release()
            wait_for(lambda: any(found))
            with asking(server, route) as third:
                wait_for(lambda: len(engine.begun) == 3)
                engine.go.release(2)
            assert third[0].status_code == 200
        assert [each.status_code for (each,) in found] == [200, 200]
        given_back(server)


def test_a_small_file_counts_with_what_it_becomes():
    file = bomb(4000)
    assert len(file) < 1000
    limits = Limits(decoded_bytes=(PIXEL_BYTES + DECODING_BYTES) * 4000 * 4000 - 1)
    with served(Scripted(), limits=limits) as server, server.client() as client:
        refused = post(client, ROUTES[0], chat_body(data_url(file)))
        assert refused.status_code == 400  # it would not fit even alone: no use in waiting
        assert "288000000 bytes decoded" in refused.text
        given_back(server)


def test_pictures_for_a_look_are_counted_while_they_are_looked_at():
    inside, go = threading.Event(), threading.Event()

    class Looking(Scripted):
        def pictures(self, views):
            inside.set()
            assert go.wait(20)
            return super().pictures(views)

    route, body = "/v1/earthmind/pictures", wire.pack(wire.Views(views=VIEWS))
    limits = Limits(decoded_bytes=3 * len(body) - 1)
    with served(Looking(), limits=limits) as server, server.client() as client:
        found = []
        thread = threading.Thread(target=lambda: found.append(post(client, route, body)))
        thread.start()
        assert inside.wait(10)
        with server.client() as other:
            assert post(other, route, body).status_code == 429
        go.set()
        thread.join(20)
        assert found[0].status_code == 200
        assert post(client, route, b"x").status_code == 400
        given_back(server)


@pytest.mark.parametrize("route", ROUTES)
def test_a_token_has_a_limit_however_many_seats_it_names(route):
    engine = Held()
    limits = Limits(asks_per_token=3, asks_per_seat=2)
    with served(engine, limits=limits) as server, server.client() as client, ExitStack() as stack:
        found = [
            stack.enter_context(asking(server, route, **{"earthmind-seat": f"seat {i}"}))
            for i in range(3)
        ]
        wait_for(lambda: len(engine.begun) == 3)
        refused = post(client, route, **{"earthmind-seat": "seat 4"})
        assert refused.status_code == 429 and "All seats of this token" in refused.text
        engine.go.release(4)
        wait_for(lambda: all(found))
        assert post(client, route).status_code == 200
        given_back(server)


def test_a_seat_has_its_limit_before_its_pictures_are_decoded(monkeypatch):
    engine = Held()
    with (
        served(engine, limits=Limits(asks_per_seat=1)) as server,
        server.client() as client,
        asking(server, ROUTES[0], **{"earthmind-seat": "ann"}),
    ):
        wait_for(lambda: engine.begun)
        monkeypatch.setattr(chat, "pixels_of", lambda file: 1 / 0)
        refused = post(client, ROUTES[0], **{"earthmind-seat": "ann"})
        assert refused.status_code == 429 and "This seat" in refused.text
        engine.go.release()
    given_back(server)


def test_names_that_are_cut_are_still_different_seats():
    engine = Scripted()
    with served(engine) as server, server.client() as client:
        for name in ("a" * 100 + "1", "a" * 100 + "2", "a" * 100 + "1", "ann"):
            assert post(client, ROUTES[0], chat_body(user=name)).status_code == 200
        odd = raw_body(seat="\ud800" * 100)
        assert post(client, ROUTES[1], odd).status_code == 200
    first, second, third, short, _ = (options.seat for _, options in engine.asked)
    assert first == third != second and short.endswith("/ann")
    assert all(len(options.seat) <= 12 + 1 + 64 for _, options in engine.asked)


# --- what comes back ------------------------------------------------------------------------------


def refusing(error):
    engine = Scripted()

    def submit(prompt, options=None):
        raise error

    engine.submit = submit
    return engine


def failing(error):
    def fail(*_):
        raise error

    return Scripted(fail)


CUT = data_url(bomb(300))
"""Has pixels for a third of it."""
WAYS = {
    "done": (Scripted, chat_body(), raw_body(), 200, 200),
    "failed": (lambda: failing(OutOfDeviceMemory("no")), chat_body(), raw_body(), 507, 200),
    "crashed": (lambda: failing(RuntimeError("no")), chat_body(), raw_body(), 500, 200),
    "refused by the engine": (
        lambda: refusing(EngineBusy("no")), chat_body(), raw_body(), 429, 429,
    ),
    "a crash of the engine's door": (
        lambda: refusing(RuntimeError("no")), chat_body(), raw_body(), 500, 500,
    ),
    "refused by a limit": (
        Scripted, chat_body(max_tokens=10**6), raw_body(max_new_tokens=10**6), 400, 400,
    ),
    "damaged": (Scripted, chat_body(CUT), raw_body()[:-1], 400, 400),
    "no picture": (Scripted, chat_body("data:image/png;base64,xx"), b"", 400, 400),
    "no question": (Scripted, chat_body(messages=[question(" ")]), b"{}", 400, 400),
}  # fmt: skip


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("stream", [False, True])
def test_everything_comes_back(name, stream):
    make, asked, raw, status, of_raw = WAYS[name]
    if stream:
        asked = json.dumps({**json.loads(asked), "stream": True}).encode()
        status = 200 if name in ("failed", "crashed") else status
    with served(make()) as server:
        for route, body, code in ((ROUTES[0], asked, status), (ROUTES[1], raw, of_raw)):
            with server.client() as client:  # after a crash the connection is closed
                assert post(client, route, body).status_code == code
            given_back(server)


def test_it_comes_back_from_a_decoder_that_finds_no_memory(monkeypatch):
    def full(file):
        raise MemoryError

    monkeypatch.setattr(chat, "pixels_of", full)
    with served(Scripted()) as server, server.client() as client:
        assert post(client, ROUTES[0]).status_code == 500
        given_back(server)


def hung_up(server, route, body):
    """A client that asks and goes away; gives what to call for it to go."""
    kind = "application/json" if "chat" in route else wire.CONTENT_TYPE
    stack = ExitStack()
    client = stack.enter_context(server.client())
    stack.enter_context(
        client.stream("POST", route, content=body, headers={"content-type": kind})
    )  # fmt: skip
    return stack.close


@pytest.mark.parametrize(
    ("route", "body"),
    [(ROUTES[0], chat_body(stream=True)), (ROUTES[1], raw_body())],
)
def test_it_comes_back_from_a_client_that_hangs_up(route, body):
    engine = Held()
    with served(engine) as server:
        leave = hung_up(server, route, body)
        wait_for(lambda: engine.begun)
        assert server.serving.admission.held == NBYTES[route]
        leave()
        given_back(server)
        wait_for(lambda: engine.ended == ["Cancelled"])


@pytest.mark.parametrize("route", ROUTES)
def test_it_comes_back_when_the_server_is_stopped(route):
    engine = Held()
    with served(engine) as server, asking(server, route):
        wait_for(lambda: engine.begun)
        server.stop()
        given_back(server)


@pytest.mark.parametrize("route", ROUTES)
def test_it_comes_back_when_the_server_is_stopped_over_a_decoder(route, monkeypatch):
    """Its task is cancelled, and the thread still decodes: it counts nothing any more."""
    inside, go, tried = threading.Event(), threading.Event(), []
    module, name = (chat, "size_of") if "chat" in route else (binary.wire, "unpack")
    real = getattr(module, name)

    def slow(*given):
        inside.set()
        assert go.wait(20)
        tried.append(1)
        return real(*given)

    monkeypatch.setattr(module, name, slow)
    with served(Scripted()) as server, asking_in_vain(server, route):
        assert inside.wait(10)
        assert server.serving.admission.asks == 1
        server.server.should_exit = server.server.force_exit = True
        threading.Timer(3.0, go.set).start()
        server.thread.join(20)
        wait_for(lambda: tried)
        given_back(server)


@contextmanager
def asking_in_vain(server, route):
    def ask():
        with server.client() as client, suppress(httpx.TransportError):
            assert post(client, route).status_code == 500

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    yield
    thread.join(20)


def test_a_place_that_was_left_holds_nothing():
    admission = Admission(Limits())
    place = admission.enter("token")
    place.leave()
    place.leave()
    with pytest.raises(Cancelled):
        place.hold(1)
    with pytest.raises(Cancelled):
        place.sit("ann")
    assert (admission.asks, admission.held) == (0, 0)


def test_what_is_held_for_a_while_is_given_back_once():
    admission = Admission(Limits())
    for leaves in (False, True):
        place = admission.enter("token")
        place.hold(5)
        with place.holding(7):
            assert admission.held == 12
            if leaves:
                place.leave()
        assert admission.held == (0 if leaves else 5)
        place.leave()
    assert admission.held == 0


@pytest.mark.parametrize("route", ROUTES)
def test_it_comes_back_where_no_thread_can_be_had(route, monkeypatch):
    def none(**_):
        raise RuntimeError("can't start new thread")

    with served(Scripted()) as server:
        with monkeypatch.context() as patch, server.client() as client:
            patch.setattr(serving, "threading", SimpleNamespace(Thread=none))
            assert post(client, route).status_code == 500
        given_back(server)


def test_more_than_the_server_has_is_refused_for_good():
    place = Admission(Limits(decoded_bytes=10)).enter("token")
    place.hold(6)
    with pytest.raises(PromptError, match="11 bytes decoded, at most 10"):
        place.hold(5)
    assert place.held == 6


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("end", ["done", "gone"])
def test_finished_asks_keep_no_pictures(route, end):
    """Not even until Python next looks for cycles."""
    seen = []

    class Forgetful(Held):
        def submit(self, prompt, options=None):
            seen.append(weakref.ref(prompt.views[0].image))
            ask = super().submit(prompt, options)
            self.asked.clear()
            return ask

    engine = Forgetful()
    gc.collect()
    gc.disable()
    try:
        with served(engine) as server:
            if end == "done":
                with asking(server, route):
                    wait_for(lambda: engine.begun)
                    assert seen[0]() is not None
                    engine.go.release()
            else:
                body = chat_body(stream=True) if "chat" in route else raw_body()
                leave = hung_up(server, route, body)
                wait_for(lambda: engine.begun)
                assert seen[0]() is not None
                leave()
            wait_for(lambda: seen[0]() is None)
            given_back(server)
    finally:
        gc.enable()
