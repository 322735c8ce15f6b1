"""``earthmind serve``: one line with address and token, a clean end at any time, nothing left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from earthmind_lab import cli
from earthmind_lab.engine.remote import RemoteEngine
from earthmind_lab.errors import EarthMindError, EngineUnavailable
from earthmind_lab.exchange import Options, Prompt, Token
from earthmind_lab.server import run as serving
from earthmind_lab.server.app import create_app
from tests.engine.test_remote import wait_for
from tests.server.scripted import Scripted, view
from tests.server.served import free_port

LINE = re.compile(r"EarthMind serves (\S+) at (\S+) \((.+); Ctrl-C ends it\)\n")
WATER = Prompt(text="Where is water?", views=(view(),))


class Process:
    """The real command, in a process of its own."""

    def __init__(self, home, *words, **env):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "earthmind_lab.cli", "serve", *words], stderr=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
            env={**os.environ, "EARTHMIND_HOME": str(home), **env},
        )  # fmt: skip
        self.line = self.process.stderr.readline()
        found = LINE.fullmatch(self.line)
        assert found, self.line + self.process.stderr.read()
        self.model, self.url, self.where = found.groups()

    def end(self, sign=signal.SIGINT):
        self.process.send_signal(sign)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.fixture
def start(tmp_path):
    started = []

    def start(*words, **env):
        started.append(Process(tmp_path / "home", *words, **env))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.communicate()


def test_a_killed_servers_token_goes_with_the_next_one(start):
    first = start("--port", "0")
    note = Path(first.where.removeprefix("token in "))
    first.process.kill()
    first.process.communicate()
    assert note.exists()
    second = start("--port", "0")
    assert not note.exists() and Path(second.where.removeprefix("token in ")).exists()


def test_the_line_the_token_and_the_end(start, tmp_path):
    server = start("--port", "0")
    assert server.model == "earthmind-nano"
    note = Path(server.where.removeprefix("token in "))
    assert note.stat().st_mode & 0o777 == 0o600 and note.parent.stat().st_mode & 0o777 == 0o700
    with pytest.raises(EngineUnavailable, match="no token"):
        RemoteEngine(server.url)
    engine = RemoteEngine(server.url, token=note.read_text().strip())
    assert engine.generate(WATER, Options(max_new_tokens=4)).token_ids
    engine.close()
    assert server.end(signal.SIGTERM) == (0, "", "")
    assert not note.exists()


def test_an_answer_under_way_may_end_but_not_hold_the_end_up(start):
    server = start("--port", "0", EARTHMIND_TOKEN="mine")
    assert server.where == "token in EARTHMIND_TOKEN or as given"
    engine = RemoteEngine(server.url, token="mine", retry_seconds=(0.05,))
    asks = [engine.submit(WATER, Options(max_new_tokens=10)) for _ in range(3)]
    wait_for(lambda: any(isinstance(each, Token) for each in asks[0]._events))
    assert server.end() == (0, "", "")
    for ask in asks:
        with contextlib.suppress(EngineUnavailable):
            assert ask.result(20).token_ids
    engine.close()


def test_a_server_that_is_killed_loses_no_question(start, tmp_path):
    path = str(tmp_path / "lab.sock")
    first = start("--uds", path, "--no-token")
    assert first.url == f"unix://{path}" and first.where == "no token asked for"
    engine = RemoteEngine(first.url)
    before = engine.generate(WATER, Options(max_new_tokens=40))
    asks = [engine.submit(WATER, Options(max_new_tokens=40)) for _ in range(8)]
    wait_for(lambda: asks[-1]._events)
    first.process.kill()
    first.process.communicate()
    assert Path(path).exists()  # nobody tidied up, and the next one takes it
    assert not all(ask.ended for ask in asks)
    second = start("--uds", path, "--no-token")
    assert {ask.result(40).token_ids for ask in asks} == {before.token_ids}
    engine.close()
    assert second.end() == (0, "", "")
    assert not Path(path).exists()


# --- without a process ---------------------------------------------------------------------------


@pytest.fixture
def scripted(monkeypatch):
    engine = Scripted()
    monkeypatch.setattr("earthmind_lab.engine.loading.load_engine", lambda *_, **__: engine)
    return engine


def serve(*words):
    return cli.main(["serve", *words])


def test_ctrl_c_between_the_line_and_the_wait_ends_it_cleanly(scripted, monkeypatch, capsys):
    """The line itself brings the interrupt: nothing can come closer."""

    class Interrupting(serving._Loader):
        def _load(self, server):
            super()._load(server)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(serving, "_Loader", Interrupting)
    assert serve("--port", "0") == 0
    assert LINE.fullmatch(capsys.readouterr().err) and scripted.closed


@pytest.mark.parametrize("place", ["create_app", "secret_file", "Server"])
def test_ctrl_c_before_it_listens_ends_it_cleanly(scripted, monkeypatch, place, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(serving, place, interrupted)
    assert serve("--port", "0") in (0, cli.STOPPED)
    assert list(tmp_path.rglob("*.token")) == []


def test_ctrl_c_while_the_model_loads(monkeypatch, capsys):
    loading = threading.Event()

    def load(*_, **__):
        os.kill(os.getpid(), signal.SIGINT)
        loading.wait(0.5)
        return Scripted()

    monkeypatch.setattr("earthmind_lab.engine.loading.load_engine", load)
    assert serve("--port", "0") == 0
    assert "EarthMind serves" not in capsys.readouterr().err


def test_health_says_that_it_loads(monkeypatch):
    port, go = free_port(), threading.Event()

    def load(*_, **__):
        go.wait(10)
        return Scripted()

    said = []

    def ask():
        while not said or said[-1] != "ready":
            try:
                url = f"http://127.0.0.1:{port}/health"
                said.append(httpx.get(url, trust_env=False).json()["status"])
            except httpx.TransportError:
                pass
            if said:
                go.set()
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("earthmind_lab.engine.loading.load_engine", load)
    asking = threading.Thread(target=ask)
    asking.start()
    assert serve("--port", str(port)) == 0
    asking.join()
    assert said[0] == "loading"


def fails(capsys, *words):
    assert serve(*words) == cli.ERROR
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_it_ends_when_nobody_asks(scripted, capsys):
    assert serve("--port", "0", "--idle", "0.3") == 0
    assert LINE.fullmatch(capsys.readouterr().err) and scripted.closed
    assert serve("--idle", "0") == cli.ERROR


def test_it_ends_although_somebody_holds_a_silent_connection(scripted):
    port, ended, held = free_port(), threading.Event(), []

    def hold():
        wait_for(lambda: is_ready(f"http://127.0.0.1:{port}"))
        with socket.create_connection(("127.0.0.1", port)):
            held.append(ended.wait(20))  # it would be cut off after 30 s

    thread = threading.Thread(target=hold)
    thread.start()
    assert serve("--port", str(port), "--idle", "1", "--no-token") == 0
    ended.set()
    thread.join()
    assert held == [True]


def is_ready(url):
    try:
        return httpx.get(f"{url}/health", trust_env=False).json()["status"] == "ready"
    except httpx.TransportError:
        return False


def test_a_request_is_noticed_however_short_and_a_strangers_is_not():
    """Most are over before the server next looks whether something goes on."""
    app = create_app(Scripted(), token="mine")
    visited = app.state.serving.visited

    async def ask(path, token):
        headers = {"authorization": f"Bearer {token}"}
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")
        async with client:
            return (await client.get(path, headers=headers)).status_code

    assert not visited()
    assert asyncio.run(ask("/health", "mine")) == 200 and not visited()
    assert asyncio.run(ask("/v1/models", "wrong")) == 401 and not visited()
    assert asyncio.run(ask("/v1/models", "mine")) == 200 and visited()
    assert not visited()


@pytest.mark.parametrize("word", ["--replicas=x", "--replicas=1-", "--replicas=²", "--gpus=x",
                                  "--idle=x"])  # fmt: skip
def test_nonsense_is_said_in_words_and_no_functions_name(word, capsys):
    said = fails(capsys, word)
    assert "_" not in said and word.partition("=")[2] in said


def test_a_model_that_is_not_there_ends_it(capsys):
    assert "'nano2'" in fails(capsys, "--port", "0", "--model", "nano2")


def test_a_port_that_is_taken(scripted, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert "another --port" in fails(capsys, "--port", str(other.getsockname()[1]))
    assert "--port" in fails(capsys, "--port", "99999")
    assert "--host" in fails(capsys, "--host", "192.0.2.1", "--token", "x")


def test_a_socket_that_is_taken_and_a_file_in_its_place(scripted, capsys, tmp_path):
    path = tmp_path / "x.sock"
    path.write_text("mine")
    assert "a file of that name" in fails(capsys, "--uds", str(path))
    assert path.read_text() == "mine"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        assert "another server" in fails(capsys, "--uds", str(path))
        assert path.exists()


def test_a_server_that_ends_leaves_the_next_ones_socket(tmp_path):
    """The first one frees its model when the second one listens already."""
    path, freeing, go = tmp_path / "x.sock", threading.Event(), threading.Event()

    class Large(Scripted):
        def close(self):
            freeing.set()
            assert go.wait(20)

    def serve(model, seconds):
        serving.serve(model=model, uds=path, open_to_all=True, idle_seconds=seconds)

    first = threading.Thread(target=serve, args=(Large, 0.1))
    first.start()
    assert freeing.wait(20)
    second = threading.Thread(target=serve, args=(Scripted, 3.0))
    second.start()
    wait_for(lambda: reached(path))
    go.set()
    first.join(20)
    assert reached(path)
    second.join(20)
    assert not path.exists()


def reached(path):
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.connect(str(path))
        return True
    return False


def test_a_network_is_never_without_a_token(scripted, capsys):
    assert "answer everybody" in fails(capsys, "--host", "0.0.0.0", "--no-token")


def test_a_token_that_can_not_be_written(scripted, capsys, tmp_path, monkeypatch):
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("EARTHMIND_HOME", str(tmp_path / "home"))
    assert "EARTHMIND_TOKEN" in fails(capsys, "--port", "0")


def test_without_the_libraries_it_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "earthmind_lab[serve]" in fails(capsys)


def test_the_token_is_in_no_description():
    from earthmind_lab.settings import Settings

    settings = Settings.from_env({"EARTHMIND_TOKEN": "secret"})
    assert settings.token == "secret" and "secret" not in repr(settings)


def test_serve_in_python_says_why_not(monkeypatch):
    with pytest.raises(EarthMindError, match="answer everybody"):
        serving.serve(host="0.0.0.0", open_to_all=True)
