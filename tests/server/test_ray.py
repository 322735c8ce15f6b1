"""``earthmind serve --replicas``: the real command, a real Ray on this machine, nano twice."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from unittest.mock import Mock

import httpx
import psutil
import pytest

from earthmind_lab import cli
from earthmind_lab.engine.loading import load_engine
from earthmind_lab.engine.remote import RemoteEngine
from earthmind_lab.errors import EngineUnavailable
from earthmind_lab.exchange import Options, Prompt, Token, Turn
from tests.engine.test_remote import wait_for
from tests.server.scripted import view
from tests.server.test_serve import LINE

TOKEN = "a token of the tests"
SEATS = ("ann", "bob", "cyd", "dee")
CHIPS = {seat: (view(64, seed=number),) for number, seat in enumerate(SEATS)}
FIRST, LATER = "Where is water?", "Is there a crop?"
GREEDY = Options(max_new_tokens=40)


def folders() -> set[str]:
    return {each.name for each in Path(tempfile.gettempdir()).glob("em-ray-*")}


class Cluster:
    """The command in a process of its own, with all that Ray starts."""

    def __init__(self) -> None:
        self.before = folders()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "earthmind_lab.cli", "serve", "--replicas", "2", "--port", "0"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "EARTHMIND_TOKEN": TOKEN},
        )  # fmt: skip
        self.line = self.process.stderr.readline()  # type: ignore[union-attr]
        found = LINE.fullmatch(self.line)
        assert found, self.line + self.process.communicate()[1]
        self.url = found[2]
        self.all = psutil.Process(self.process.pid).children(recursive=True)

    def replicas(self) -> list[psutil.Process]:
        family = psutil.Process(self.process.pid).children(recursive=True)
        return [each for each in family if "ServeReplica" in " ".join(each.cmdline())]

    def get(self, path: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {TOKEN}"}
        return httpx.get(self.url + path, headers=headers, timeout=20, trust_env=False)

    def visits(self) -> Counter[str]:
        found = re.findall(
            r'earthmind_visits_total{where="(\w+)"} ([\d.]+)', self.get("/metrics").text
        )
        return Counter({where: int(float(count)) for where, count in found})


@pytest.fixture(scope="module")
def cluster():
    found = Cluster()
    yield found
    left = [*found.all, psutil.Process(found.process.pid)] if found.process.poll() is None else []
    for each in left:  # a test has failed before the end
        each.kill()
    found.process.communicate()


@pytest.fixture(scope="module")
def seats(cluster):
    engines = {seat: RemoteEngine(cluster.url, token=TOKEN, seat=seat) for seat in SEATS}
    yield engines
    for engine in engines.values():
        engine.close()


def later(seat: str, first: str) -> Prompt:
    return Prompt(text=LATER, views=CHIPS[seat], history=(Turn(question=FIRST, reply=first),))


@pytest.fixture(scope="module")
def alone():
    """What one engine in this process replies: by seat, to the first question and the later one."""
    engine, found = load_engine("nano"), {}
    for seat in SEATS:
        first = engine.generate(Prompt(text=FIRST, views=CHIPS[seat]), GREEDY)
        found[seat] = (first, engine.generate(later(seat, first.raw), GREEDY))
    return found


def test_ids_are_those_of_one_engine_and_conversations_come_home(cluster, seats, alone):
    firsts = {
        seat: engine.submit(Prompt(text=FIRST, views=CHIPS[seat]), GREEDY)
        for seat, engine in seats.items()
    }
    for seat, ask in firsts.items():
        assert ask.result(60).token_ids == alone[seat][0].token_ids
    assert cluster.visits() == {"first": 4, "home": 0, "away": 0}
    follow = {seat: seats[seat].submit(later(seat, alone[seat][0].raw), GREEDY) for seat in SEATS}
    for seat, ask in follow.items():
        reply = ask.result(60)
        assert reply.token_ids == alone[seat][1].token_ids
        assert reply.usage.views_encoded == 0  # where it went, the picture was known
    visits = cluster.visits()
    rate = visits["home"] / (visits["home"] + visits["away"])
    print(f"\naffinity hit rate of follow-ups: {rate:.0%}")  # noqa: T201
    assert visits["home"] == 4 and rate == 1


def test_all_replicas_are_counted(cluster, seats):
    assert cluster.get("/health").json() == {"status": "ready", "replicas": 2}
    assert "earthmind_replicas 2.0" in cluster.get("/metrics").text
    stats = seats["ann"].stats()
    assert stats.done == 8 and stats.kept["tokens"].entries == len(SEATS)


def test_nothing_listens_to_other_machines(cluster):
    ports = [
        (each.name(), connection.laddr.ip)
        for each in [psutil.Process(cluster.process.pid), *cluster.all]
        for connection in each.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(ports) > 4  # GCS, raylet, replicas, the app
    assert {ip.removeprefix("::ffff:") for _, ip in ports} == {"127.0.0.1"}


def test_a_killed_replica_loses_no_question(cluster, seats, alone):
    victim = cluster.replicas()[0]
    asks = [
        (seat, seats[seat].submit(Prompt(text=FIRST, views=CHIPS[seat]), GREEDY))
        for _ in range(6) for seat in SEATS
    ]  # fmt: skip
    wait_for(lambda: any(isinstance(each, Token) for _, ask in asks for each in ask._events))
    victim.suspend()  # in the middle of its answers: what it hasn't said by now it never says
    left, under_way = -1, [ask for _, ask in asks]
    while left != len(under_way):  # until the other one has answered all of its own
        left = len(under_way)
        time.sleep(1.0)
        under_way = [ask for ask in under_way if not ask.ended]
    assert under_way
    victim.kill()
    for seat, ask in asks:
        reply = ask.result(60)
        assert reply.token_ids == alone[seat][0].token_ids
        assert ask.said == reply.text  # each word once
    print(f"\nkilled over {left} of {len(asks)} questions; all were answered")  # noqa: T201
    # Ray starts another; until that has loaded its model, one takes questions.
    wait_for(lambda: cluster.get("/health").json() == {"status": "ready", "replicas": 1})


def test_ctrl_c_ends_everything(cluster, seats):
    for engine in seats.values():
        engine.close()
    family = psutil.Process(cluster.process.pid).children(recursive=True)
    assert len(family) > 4 and folders() > cluster.before
    cluster.process.send_signal(signal.SIGINT)
    out, err = cluster.process.communicate(timeout=60)
    assert (cluster.process.returncode, out) == (0, "")
    assert "Traceback" not in err and err.count("\n") <= 1  # Ray tells of the one that was killed
    _, left = psutil.wait_procs(family, timeout=10)
    assert left == [] and folders() == cluster.before


# --- without a cluster ----------------------------------------------------------------------------


def test_replicas_without_ray_say_what_to_install(monkeypatch, capsys):
    from earthmind_lab.server import ray_run

    monkeypatch.setattr(ray_run, "find_spec", lambda name: None)
    assert cli.main(["serve", "--replicas", "2"]) == 2
    assert "earthmind_lab[model,ray,serve]" in capsys.readouterr().err


def test_rays_files_are_this_users_alone():
    """It opens its own folder to everybody."""
    from earthmind_lab.server import ray_run

    before = os.environ.get("RAY_AUTH_TOKEN")
    with ray_run._alone() as own:
        around = Path(own["_temp_dir"]).parent
        assert around.stat().st_mode & 0o777 == 0o700
        assert os.environ["RAY_AUTH_TOKEN"] and own["include_dashboard"] is False
    assert not around.exists() and os.environ.get("RAY_AUTH_TOKEN") == before


def test_options_of_replicas_need_replicas(capsys):
    assert cli.main(["serve", "--gpus", "1"]) == 2
    assert "--replicas" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--replicas", "0"], ["--replicas", "4-2"],
                                   ["--replicas", "2", "--gpus", "1.5"]])  # fmt: skip
def test_nonsense_is_refused(words, capsys):
    assert cli.main(["serve", *words]) == 2
    assert words[-1] in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own import
@pytest.mark.parametrize(
    ("address", "said"), [(None, "doesn't start here"), ("10.0.0.1:6379", "no Ray cluster at 10.")]
)
def test_a_ray_that_does_not_start_is_told(monkeypatch, address, said):
    from earthmind_lab.server import ray_app

    ended = []
    # What Ray raises after half a minute on a machine that is too busy.
    late = Mock(side_effect=Exception("The current node timed out during startup."))
    monkeypatch.setattr(ray_app.ray, "init", late)
    monkeypatch.setattr(ray_app.ray, "shutdown", lambda: ended.append(True))
    with (
        pytest.raises(EngineUnavailable, match=rf"{said}.*timed out"),
        ray_app.joined(address, cpus=2, own={}),
    ):
        pytest.fail("nothing runs without Ray")
    assert ended == [True]
