"""The file with a token: this user's alone, gone with its server, however that ends."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from earthmind_lab.errors import EarthMindError
from earthmind_lab.server import secret
from earthmind_lab.server.secret import secret_file, secret_path
from earthmind_lab.settings import Settings

HOLD = """
import sys, time
from pathlib import Path
from earthmind_lab.server.secret import secret_file
with secret_file(Path(sys.argv[1]), "theirs"):
    print("there", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holding():
    """Processes that have written their token."""
    started = []

    def start(path):
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
            )
        )
        assert started[-1].stdout.readline() == "there\n"
        return started[-1]

    yield start
    for each in started:
        killed(each)


def killed(process):
    process.kill()
    process.wait(20)
    process.stdout.close()


def test_it_is_this_users_alone_and_goes(tmp_path):
    path = tmp_path / "serve" / "a.token"
    with secret_file(path, "mine"):
        assert path.read_text() == "mine\n" and path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
    assert list(path.parent.iterdir()) == []


def test_what_a_killed_server_left_is_removed_and_a_living_ones_stays(tmp_path, holding):
    dead, alive, mine = (tmp_path / f"{name}.token" for name in ("dead", "alive", "mine"))
    holding(alive)
    killed(holding(dead))
    other = tmp_path / "other"
    other.write_text("not ours")
    link = tmp_path / "link.token"
    link.symlink_to(other)
    assert dead.read_text() == "theirs\n"  # nobody could tidy up
    with secret_file(mine, "mine"):
        assert not dead.exists()
        assert alive.read_text() == "theirs\n" and other.read_text() == "not ours"
        assert mine.read_text() == "mine\n"


def test_a_killed_server_at_the_same_address_is_replaced(tmp_path, holding):
    path = tmp_path / "a.token"
    killed(holding(path))
    with secret_file(path, "mine"):
        assert path.read_text() == "mine\n"
        with path.open() as again, pytest.raises(BlockingIOError):  # held in its turn
            secret.fcntl.flock(again, secret.fcntl.LOCK_EX | secret.fcntl.LOCK_NB)


def test_a_living_ones_file_is_never_taken(tmp_path, holding, monkeypatch):
    monkeypatch.setattr(secret, "PATIENCE_SECONDS", 0.2)
    path = tmp_path / "a.token"
    holding(path)
    with pytest.raises(EarthMindError, match="another server holds it"), secret_file(path, "mine"):
        pass
    assert path.read_text() == "theirs\n"


def test_many_that_start_at_once_take_nobodys_file(tmp_path):
    """Each tidies up while the others are just writing theirs."""
    seen, gate = [], threading.Barrier(8)

    def serve(number):
        path = tmp_path / f"{number}.token"
        for _ in range(30):
            gate.wait(20)
            with secret_file(path, str(number)):
                gate.wait(20)
                seen.append(path.exists() and path.read_text() == f"{number}\n")
                gate.wait(20)

    threads = [threading.Thread(target=serve, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert len(seen) == 240 and all(seen) and list(tmp_path.iterdir()) == []


def test_machines_that_share_a_home_do_not_meet(tmp_path, monkeypatch):
    settings = Settings.from_env({"EARTHMIND_HOME": str(tmp_path)})
    here = secret_path(settings, "http://127.0.0.1:8000")
    assert here.suffix == ".token" and Path(tmp_path) in here.parents
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    assert secret_path(settings, "http://127.0.0.1:8000").parent != here.parent


def test_no_two_addresses_have_one_file(tmp_path):
    settings = Settings.from_env({"EARTHMIND_HOME": str(tmp_path)})
    ends = ["a_b.sock", "a/b.sock", f"1{'x' * 99}", f"2{'x' * 99}", "\udcff", "é" * 50]
    paths = [secret_path(settings, f"unix:///{end}") for end in ends]
    assert len(set(paths)) == len(paths)
    for path in paths:  # each can be written beside the others
        with secret_file(path, "mine"):
            assert path.read_text() == "mine\n"


def test_where_files_have_no_locks_it_works_as_well(tmp_path, monkeypatch):
    def none(*_):
        raise OSError("no locks available")

    monkeypatch.setattr(secret.fcntl, "flock", none)
    with secret_file(tmp_path / "a.token", "mine"):
        assert (tmp_path / "a.token").read_text() == "mine\n"
    assert list(tmp_path.iterdir()) == []
