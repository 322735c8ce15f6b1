"""One server for all kernels of a user: started once, joined by all, replaced when killed.

Kernels and servers are real processes, the model is nano. ``EARTHMIND_KILLS=20`` kills longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from earthmind_lab import cli
from earthmind_lab.checks import doctor
from earthmind_lab.engine import gate, load_engine, runtime, shared, starting
from earthmind_lab.engine.link import Lost
from earthmind_lab.engine.loading import EMBEDDED
from earthmind_lab.engine.runtime import Place, runtime_folder
from earthmind_lab.errors import (
    EarthMindError,
    EngineError,
    EngineUnavailable,
    ModelNotFound,
)
from earthmind_lab.exchange import Done, Options, Token
from earthmind_lab.model.published import local_folder
from earthmind_lab.server.idle import Idle
from earthmind_lab.settings import Settings
from tests.engine.test_remote import wait_for
from tests.server.kernel import PROMPTS, VIEWS

KILLS = int(os.environ.get("EARTHMIND_KILLS", "3"))


@pytest.fixture
def home(monkeypatch):
    """A short one: pytest's own is too long for the path of a socket. No server outlives it."""
    folder = Path(tempfile.mkdtemp(prefix="em-"))
    monkeypatch.setenv("EARTHMIND_HOME", str(folder))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    yield folder
    for engine in [each for each in shared._ENGINES.values() if not each.closed]:
        engine.close()
    ended = shared.stop(seconds=5)
    wait_for(lambda: not any(is_alive(each.pid) for each in ended))
    shutil.rmtree(folder)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kernel(prompt=0):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.server.kernel", str(prompt)], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def said(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out)


def the_server():
    (server,) = shared.running()
    return server


def texts(events):
    return "".join(event.text for event in events if isinstance(event, Token))


def fresh_settings():
    return Settings.from_env()


# --- real servers ---------------------------------------------------------------------------------


def test_ten_kernels_at_once_one_server_and_a_restarted_one_finds_all_as_it_was(home, capsys):
    together = [kernel() for _ in range(10)]
    found = [said(each) for each in together]
    pid = the_server().pid
    assert [pids for pids, *_ in found] == [[pid]] * 10
    # One of them showed its pictures to the model, and the others asked about the same.
    assert sum(encoded for _, encoded, _ in found) == len(VIEWS)
    assert len({tuple(ids) for *_, ids in found}) == 1
    # All ten are gone. Another one, later: same process, nothing is loaded or looked at again.
    assert said(kernel(1))[:2] == [[pid], 0]

    first = load_engine("nano", shared=True)
    assert load_engine("nano", shared=True) is first
    assert first.capabilities == load_engine("nano").capabilities
    assert list(first.generate(PROMPTS[0]).token_ids) == found[0][2]
    with pytest.raises(ModelNotFound, match="revision 'fff'"):
        load_engine("nano", shared=True, revision="fff")
    assert the_server().pid == pid
    check = next(each for each in doctor().checks if each.name == "shared servers")
    assert check.ok and f"nano (process {pid}, 0." in check.detail and "idle for" in check.detail
    # Whoever hangs up leaves it running; a server that is stuck is stopped all the same.
    first.close()
    assert is_alive(pid)
    os.kill(pid, signal.SIGSTOP)
    monitored = shared.stop(seconds=0.2)
    assert [each.pid for each in monitored] == [pid]
    wait_for(lambda: not is_alive(pid))
    assert cli.main(["serve", "--stop"]) == 0
    assert capsys.readouterr().out == "No shared server is running.\n"


def test_killed_over_and_over_every_ask_ends_and_no_text_comes_twice(home, caplog, capsys):
    local = load_engine("nano")
    right = [local.generate(prompt) for prompt in PROMPTS]
    told = [texts(local.submit(prompt).events()) for prompt in PROMPTS]
    engine = load_engine("nano", shared=True)
    rng, killed = random.Random(3), []

    def kill(times):
        """In the middle of answers; once more at any moment of the next start, or soon after."""
        time.sleep(rng.uniform(0, 0.15))
        for last in range(times):
            wait_for(lambda: any(each.pid not in killed for each in shared.running()), 60)
            time.sleep(rng.uniform(0, 4) if last else 0)
            killed.append(the_server().pid)
            os.kill(killed[-1], signal.SIGKILL)

    while len(killed) < KILLS:
        times = min(KILLS - len(killed), 1 + len(killed) % 2)
        killer = threading.Thread(target=kill, args=(times,))
        killer.start()
        asks = []
        while killer.is_alive() or len(asks) < len(PROMPTS):
            asks += [(i, engine.submit(PROMPTS[i], Options(deadline=100))) for i in range(4)]
            with contextlib.suppress(EarthMindError):
                asks[-1][1].result(120)
        killer.join()
        for i, ask in asks:
            try:
                reply = ask.result(120)
            except EngineUnavailable:  # two losses in a row
                assert times > 1
                continue
            assert reply.token_ids == right[i].token_ids and reply.text == right[i].text
            events = [*ask.events()]
            assert texts(events) == told[i]
            assert sum(isinstance(each, Done) for each in events) == 1
    assert len({*killed}) == KILLS
    assert caplog.text.count("has ended; it is started again") >= KILLS
    assert engine.generate(PROMPTS[0]).token_ids == right[0].token_ids
    killed.append(the_server().pid)
    assert cli.main(["serve", "--stop"]) == 0
    assert capsys.readouterr().out.startswith(f"Ended nano (process {killed[-1]}, ")
    wait_for(lambda: not any(map(is_alive, killed)))


def test_what_keeps_it_from_starting_is_said_as_it_was_there(home):
    """It said why, so nobody tries the same once more."""
    with pytest.raises(EngineError) as alone:
        load_engine("nano", fusion="mixed")
    with pytest.raises(EngineError) as found:
        load_engine("nano", fusion="mixed", shared=True)
    assert type(found.value) is type(alone.value) and str(found.value) == str(alone.value)
    (note,) = found.value.__notes__
    assert "/log:\n" in note and str(found.value) in note
    assert shared.running() == [] and not [*home.rglob("log.old")]


# --- starts that go wrong, without a model --------------------------------------------------------


@pytest.fixture
def place(home):
    return Place(runtime_folder(fresh_settings()) / "0123")


JOB = {"model": "nano", "revision": None, "options": {}, "idle_seconds": 9, "home": "/nowhere"}


def instead(monkeypatch, code):
    """A server that does something else."""
    before = starting._DETACHED.split("from earthmind_lab.server")[0]
    monkeypatch.setattr(starting, "_DETACHED", before + code)


SCRIPTED = """
from earthmind_lab.engine import loading
from tests.server.scripted import Scripted
loading.load_engine = lambda *_, **__: Scripted()
from earthmind_lab.server.shared import main
main()
"""


def test_it_ends_when_nobody_asks_whoever_is_connected(home, monkeypatch, caplog):
    instead(monkeypatch, SCRIPTED)  # the process of a shared server, without the time to load nano
    monkeypatch.setenv("EARTHMIND_IDLE", "1")
    engine = load_engine("nano", shared=True)
    before, first = engine.generate(PROMPTS[0]), the_server()
    log = first.place.log.read_text()
    assert "(token in EARTHMIND_TOKEN or as given; earthmind serve --stop ends it)" in log
    assert engine.stats().running == 0  # leaves a connection open
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(first.place.socket))
        wait_for(lambda: not is_alive(first.pid), 25)  # silence is cut off after 30 s
    assert not shared.running() and not first.place.socket.exists()
    # Whoever still holds the engine does not notice.
    assert engine.generate(PROMPTS[0]).text == before.text
    second = the_server().pid
    assert second != first.pid and "has ended; it is started again" in caplog.text
    # Its files are gone: nobody could find it any more, so it must not go on.
    engine.close()
    shutil.rmtree(first.place.folder)
    wait_for(lambda: not is_alive(second), 60)


def test_a_server_with_another_token_is_asked_with_that(home, monkeypatch, caplog):
    """Its place was removed and made anew, by another kernel."""
    instead(monkeypatch, SCRIPTED)
    engine = load_engine("nano", shared=True)
    pid = the_server().pid
    engine._link.authorize("that of the server before")
    assert engine.generate(PROMPTS[0]).text
    assert the_server().pid == pid and "started again" not in caplog.text
    (the_server().place.folder / "token").write_text("of nobody")
    engine._link.authorize("that of the server before")
    with pytest.raises(EngineUnavailable, match="another token"):
        engine.generate(PROMPTS[0])


def test_a_full_disk_is_said_to_be_so_and_nothing_is_left_on_it(place, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(EngineUnavailable, match="No space left"):
        starting.join(place, JOB)
    assert [each.name for each in place.folder.iterdir()] == ["lock"] and not place.alive


def test_a_server_that_dies_without_a_word_is_tried_twice_and_its_log_told(place, monkeypatch):
    instead(monkeypatch, "print('out of luck', flush=True)\nos.kill(os.getpid(), 9)")
    with pytest.raises(EngineUnavailable, match=r"it ended; the last lines of .*: out of luck"):
        starting.join(place, JOB)
    assert (place.folder / "log.old").read_text() == place.log.read_text() == "out of luck\n"
    assert not place.alive


def test_a_server_that_never_answers_is_waited_for_so_long_and_its_words_are_passed_on(
    place, monkeypatch, caplog
):
    caplog.set_level(logging.INFO)
    line = "2026-01-01 00:00:00,000 WARNING tiny: float32 does not fit"
    instead(monkeypatch, f"print('{line}', flush=True)\nimport time\ntime.sleep(1.5)")
    with pytest.raises(EngineUnavailable, match=r"not ready within 0.3 s"):
        starting.join(place, JOB, limit=0.3)
    said = [(each.levelname, each.message) for each in caplog.records]
    assert ("WARNING", "tiny: float32 does not fit") in said
    assert place.alive and place.take() is None
    with pytest.raises(EngineUnavailable, match="closed"):
        starting.join(place, JOB, stopped=lambda: True)
    wait_for(lambda: not place.alive)


def test_the_libraries_of_a_server_are_asked_for_before_it_starts(place, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineUnavailable, match=r"earthmind_lab\[serve\]"):
        starting.join(place, JOB)
    assert not place.alive


def test_a_system_that_starts_nothing_is_an_error_of_ours(place, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(EngineUnavailable, match="FileNotFoundError"):
        starting.join(place, JOB)
    assert not place.alive


def test_a_server_that_is_lost_twice_in_a_row_is_an_error(tmp_path, monkeypatch):
    found = []
    tokens = iter(("old", "new"))
    monkeypatch.setattr(shared, "join", lambda *_, **__: next(tokens))

    async def lost():
        found.append(link._http.headers["authorization"])
        raise Lost("gone")

    link = shared._Joined("unix:///x", Place(tmp_path), {}, lambda: False)
    with pytest.raises(EngineUnavailable, match="log beside the socket"):
        asyncio.run(link.trying(lost))
    assert found == ["Bearer old", "Bearer new"]


def test_an_address_is_a_server_already():
    with pytest.raises(EngineError, match="server already"):
        load_engine("http://localhost:8000", shared=True)


def test_a_folder_that_can_not_be_read_starts_nothing(home, monkeypatch):
    def refused(folder):
        raise PermissionError("not yours")

    monkeypatch.setattr(shared, "check_folder", refused)
    with pytest.raises(ModelNotFound, match="not yours"):
        load_engine("nano", shared=True)
    with pytest.raises(ModelNotFound, match="no model 'nano2'"):
        load_engine("nano2", shared=True)
    assert not [*home.iterdir()]


def test_other_options_are_other_servers(monkeypatch):
    folder = local_folder(EMBEDDED)
    keys = [
        shared._key(folder, chosen)
        for chosen in ({}, {"dtype": "float16"}, {"device": "cpu"}, {"gpus": "1"})
    ]
    monkeypatch.setattr(shared, "__version__", "0")
    assert len({*keys, shared._key(folder, {})}) == 5


def test_other_words_beside_the_weights_are_another_server(tmp_path):
    folder = shutil.copytree(local_folder(EMBEDDED), tmp_path / "copy")
    before = shared._key(folder, {})
    assert shared._key(folder, {}) == before
    config = folder / "config.json"
    config.write_text(config.read_text() + "\n")
    assert shared._key(folder, {}) != before


# --- who lives ------------------------------------------------------------------------------------


@contextlib.contextmanager
def meanwhile(what, threads=6):
    """Others do that, over and over."""
    over, wrong = threading.Event(), []

    def work():
        try:
            while not over.is_set():
                what()
        except Exception as error:  # noqa: BLE001  told at the end
            wrong.append(error)

    others = [threading.Thread(target=work) for _ in range(threads)]
    for each in others:
        each.start()
    try:
        yield
    finally:
        over.set()
        for each in others:
            each.join(20)
    assert not wrong and not any(each.is_alive() for each in others)


def test_however_many_look_whether_a_server_lives_one_can_start(place, monkeypatch):
    place.prepare()
    os.close(place.take())
    let_go = runtime.let_go  # they look long enough to be met
    monkeypatch.setattr(runtime, "let_go", lambda lock: (time.sleep(0.002), let_go(lock)))
    with meanwhile(lambda: place.alive):
        for _ in range(30):
            lock = place.take()
            assert lock is not None and place.alive
            os.close(lock)
    assert not place.alive


def test_nobody_waits_at_the_gate_for_ever(place, monkeypatch):
    place.prepare()
    os.close(place.take())
    monkeypatch.setattr(gate, "GATE_SECONDS", 0.05)
    with gate.gate(place.folder.parent):
        for look in (place.take, lambda: place.alive):
            with pytest.raises(EngineUnavailable, match="gate"):
                look()
    assert not place.alive


def aged(place):
    """Made and used two days ago."""
    place.prepare()
    os.close(place.take())
    place.make_secret()
    for each in (*place.folder.iterdir(), place.folder):
        os.utime(each, (time.time() - 2 * 86_400,) * 2)
    return place


def test_the_folder_of_a_server_that_is_gone_goes_a_day_later(place, tmp_path, monkeypatch):
    root = place.folder.parent
    old, lives, young, *others = (
        aged(Place(root / name)) for name in ("0" * 16, "1" * 16, "2" * 16, "notes", "A" * 16)
    )
    (root / ("3" * 16)).symlink_to(others[0].folder)
    lock = lives.take()
    os.utime(young.folder / "token")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(EngineUnavailable, match="FileNotFoundError"):
        starting.join(place, JOB)  # whoever starts a server tidies up
    os.close(lock)
    assert not old.folder.exists()
    assert all((each.folder / "token").exists() for each in (lives, young, *others))


def test_no_folder_is_removed_from_under_a_start(place):
    place.prepare()
    with meanwhile(lambda: place.remove(-1.0), threads=3):
        for _ in range(200):
            lock = place.take()
            place.make_secret()
            assert (place.folder / "lock").stat().st_ino == os.fstat(lock).st_ino
            assert place.secret()
            os.close(lock)
        wait_for(lambda: not place.folder.exists())


# --- whose files ----------------------------------------------------------------------------------


def test_everything_is_this_users_alone(place):
    place.prepare()
    place.make_secret()
    place.note("job", JOB)
    os.close(place.take())
    modes = {path.name: path.stat().st_mode & 0o777 for path in place.folder.iterdir()}
    assert modes == {"token": 0o600, "job.json": 0o600, "lock": 0o600}
    assert place.folder.stat().st_mode & 0o777 == 0o700
    assert place.folder.parent.stat().st_mode & 0o777 == 0o700
    token = place.secret()
    place.make_secret()
    assert place.secret() == token and len(token) >= 32
    (place.folder / "token").write_text("")  # the machine went down while it was written
    place.make_secret()
    assert len(place.secret()) >= 32
    (place.folder / "token").write_bytes(b"\xff")
    with pytest.raises(EngineUnavailable, match="no text"):
        place.secret()


@pytest.mark.parametrize("above", [True, False])
@pytest.mark.parametrize("how", ["open", "link", "another's", "file"])
def test_a_folder_that_others_can_open_is_refused(place, monkeypatch, tmp_path, how, above):
    folder = place.folder.parent if above else place.folder
    folder.parent.mkdir(parents=True, mode=0o700)
    if how == "link":
        (tmp_path / "mine").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "mine")
    elif how == "file":
        folder.write_text("")
    else:
        folder.mkdir(mode=0o700)
    if how == "open":
        folder.chmod(0o750)
    if how == "another's":
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(EngineUnavailable, match="can't be kept under"):
        load_engine("nano", shared=True) if above else starting.join(place, JOB)
    if above:
        check = next(each for each in doctor().checks if each.name == "shared servers")
        assert not check.ok and check.remedy
    monkeypatch.undo()
    folder.unlink() if how in ("link", "file") else folder.rmdir()


@pytest.mark.parametrize("name", ["token", "lock"])
def test_a_file_that_is_a_link_is_refused(place, tmp_path, name):
    place.prepare()
    (tmp_path / "theirs").write_text("known to all")
    (place.folder / name).symlink_to(tmp_path / "theirs")
    with pytest.raises(EngineUnavailable, match=name):
        _ = place.secret() if name == "token" else place.take()
    (place.folder / name).unlink()


def test_a_token_that_others_can_read_is_refused(place):
    place.prepare()
    with pytest.raises(EngineUnavailable, match="no such file"):
        place.secret()
    place.make_secret()
    (place.folder / "token").chmod(0o644)
    with pytest.raises(EngineUnavailable, match="open to other users"):
        place.secret()


def test_the_users_runtime_folder_where_it_is_private(tmp_path):
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    env = {"EARTHMIND_HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(run)}
    assert runtime_folder(Settings.from_env(env)) == run / "earthmind"
    elsewhere = runtime_folder(Settings.from_env(env | {"XDG_RUNTIME_DIR": ""}))
    assert elsewhere.parent == tmp_path / "shared"
    run.chmod(0o755)
    assert runtime_folder(Settings.from_env(env)) == elsewhere
    assert not list(runtime.places(Settings.from_env(env))) and not elsewhere.exists()


def test_a_machine_with_a_long_name_leaves_room_for_the_socket(home, monkeypatch):
    found = set()
    for host in ("jupyter-" + "x" * 55, "jupyter-" + "x" * 54 + "y", "lab"):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)
        folder = runtime_folder(Settings(home=Path("/a/long/way/to/.cache/earthmind_lab"),
                                         device=None, catalog=""))  # fmt: skip
        assert len(bytes(Place(folder / ("0" * 16)).socket)) <= runtime.LONGEST_SOCKET
        found.add(folder.name)
    assert len(found) == 3 and "lab" in found


def test_a_path_that_no_socket_can_have(tmp_path):
    with pytest.raises(EngineUnavailable, match="too long"):
        Place(tmp_path / ("long" * 25) / "0123").prepare()


# --- idle -----------------------------------------------------------------------------------------


def test_it_says_that_it_lives_and_notices_that_nobody_can_find_it(place):
    place.prepare()
    place.note("server", {"pid": 1, "model": "nano"})
    os.utime(place.folder / "server.json", (1, 1))
    assert place.beat(active=False) and place.idle_seconds > 1e6
    assert place.beat(active=True) and place.idle_seconds < 60
    shutil.rmtree(place.folder)
    assert not place.beat(active=True) and not place.beat(active=False)


def test_idle_counts_from_the_end_of_the_last_ask():
    now, beats = [0.0], []
    idle = Idle(10, beat=lambda active: beats.append(active) or True, clock=lambda: now[0])
    for second, active in ((1, False), (5, True), (14, False)):
        now[0] = second
        assert not idle.over(active=active)
    now[0] = 15
    assert idle.over(active=False)
    assert beats == [False, True, False, False]
    assert not Idle(None, clock=lambda: 1e9).over(active=False)


def test_a_server_that_nobody_finds_ends_when_nothing_is_asked():
    now = [0.0]
    idle = Idle(None, beat=lambda _: False, clock=lambda: now[0])
    now[0] = 2
    assert not idle.over(active=True)
    now[0] = 4
    assert idle.over(active=False)


@pytest.mark.parametrize("text", ["soon", "-1", "0", "inf"])
def test_no_time_to_be_idle(text):
    with pytest.raises(EarthMindError, match="EARTHMIND_IDLE"):
        Settings.from_env({"EARTHMIND_IDLE": text})
