"""Code copied from a talk, run in a process of its own, gives the very answer again."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from shapely.geometry import Polygon

from earthmind_lab.as_python import as_python
from earthmind_lab.errors import PromptError
from earthmind_lab.exchange import Options, Region
from earthmind_lab.session import Session
from tests.session_world import SIDE, SlowEngine, made_up

WAIT = 120
HOSTILE = "Is it dry?\n'''\"\"\"\\\nimport os; os.abort()  # {0} \ud83c"


def run(code, tmp_path):
    """The answer hash of the code, in a new process in an empty folder."""
    file = tmp_path / "copied.py"
    file.write_text(f"{code}print(answer.record.answer_hash)\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(file)], cwd=tmp_path, capture_output=True, text=True, timeout=WAIT,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{code}\n{done.stderr}"
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def talk():
    """A branch about a marked region, then one without SAR, by the embedded model."""
    with Session() as session:
        session.open_place("spain")
        session.search(max_cloud=50).result(WAIT)
        session.choose(0).result(WAIT)
        session.ask("Is there water? Answer yes or no.").result(WAIT)
        west, south, east, north = session.subject().aoi.bounds
        session.mark(Polygon([(west, south), (east, south), (east, north)]))
        session.ask("What is region1?", options=Options(max_new_tokens=16)).result(WAIT)
        session.unmark()
        session.ask("Segment the water.").result(WAIT)
        full = session.subject().talk[-1]
        session.again(full.id, without="sar").result(WAIT)
        yield session.subject()


def test_the_copied_code_gives_the_same_answer(talk, tmp_path):
    """Of a branch: with the questions before it, one of them about a region."""
    *_, full, less = talk.turns
    code = as_python(talk, less.id)
    assert code.count("talk.ask(") == as_python(talk, full.id).count("talk.ask(") == 3
    assert "sensor_off='sar'" in code and "sensor_off" not in as_python(talk, full.id)
    assert less.record["answer_hash"] != full.record["answer_hash"]
    assert run(code, tmp_path) == less.record["answer_hash"]


def test_the_code_reads_well(talk):
    code = as_python(talk, talk.turns[0].id)
    assert "aoi = em.AOI.from_bbox(-0.775, 38.09, -0.745, 38.12, name='spain')" in code
    assert "max_cloud=50.0" in code and "catalog='sample'" in code
    assert "regions=" not in code
    assert max(map(len, as_python(talk, talk.turns[-1].id).splitlines())) < 100


def test_a_plain_picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(path)
    with Session() as session:
        session.open_picture(path)
        answer = session.ask("Describe the scene.").result(WAIT)
        subject = session.subject()
    assert run(as_python(subject, subject.turns[0].id), tmp_path) == answer.record.answer_hash


@pytest.fixture
def small(monkeypatch):
    """A session over made-up pixels."""
    made_up(monkeypatch)
    with Session(engine=SlowEngine()) as session:
        session.draw((-0.72, 38.10, -0.71, 38.11))
        session.search(dates="2020-06-01/2020-06-05").result(WAIT)
        session.choose(0).result(WAIT)
        yield session


def test_no_text_becomes_code(small):
    small.ask(HOSTILE).result(WAIT)
    subject, name = small.subject(), "x')\nraise SystemExit('"
    (turn,) = subject.turns
    record = {**turn.record, "aoi": {**turn.record["aoi"], "name": name}}
    code = as_python(replace(subject, turns=(replace(turn, record=record),)), turn.id)
    tree = ast.parse(code.encode())  # as a file has it
    imports = [n.names[0].name for n in ast.walk(tree) if isinstance(n, ast.Import)]
    literals = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    assert imports == ["earthmind_lab"]
    assert HOSTILE in literals and name in literals
    assert not any(isinstance(node, ast.Raise) for node in ast.walk(tree))


def test_two_catalogs_and_another_model(small):
    small.ask("Is it dry?").result(WAIT)
    subject = small.subject()
    (turn,) = subject.turns
    search = {**turn.record["search"], "catalog": ["a", "b"], "overrides": {"pin": ["sar-1"]}}
    record = {**turn.record, "search": search}
    subject = replace(subject, turns=(replace(turn, record=record),))
    code = as_python(subject, turn.id)
    assert "catalog={'optical': 'a', 'sar': 'b'}" in code and "pin=['sar-1']" in code
    assert "em.load_engine('stand-in')" in code


def test_what_cannot_be_copied_says_why(small):
    small.ask("Is it dry?", regions=[Region(mask=np.ones(SIDE, bool))]).result(WAIT)
    small.ask("Is it dry?").result(WAIT)
    subject = small.subject()
    first, second = subject.turns
    for turn in first, second:
        with pytest.raises(PromptError, match=r"given as masks.*polygons"):
            as_python(subject, turn.id)
    with pytest.raises(PromptError, match="Only an answer"):
        as_python(subject, "ask-99")
    with pytest.raises(PromptError, match="Only an answer"):
        as_python(replace(subject, turns=(replace(first, record=None),)), first.id)
    gone = replace(subject, turns=(replace(second, parent=None),), head=second.id)
    with pytest.raises(PromptError, match="no longer there"):
        as_python(gone, second.id)
