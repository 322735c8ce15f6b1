"""A talk saved as a notebook, run in a kernel of its own, gives the very answers again."""

from __future__ import annotations

import ast
import json
import os
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image
from shapely.geometry import Polygon

from earthmind_lab.as_notebook import as_notebook, save_notebook
from earthmind_lab.errors import PromptError
from earthmind_lab.exchange import Options, Region
from earthmind_lab.session import Session
from tests.session_world import BOX, CHIP, DATES, SIDE, SlowEngine, made_up

WAIT, WATER = 120, "Segment the water."
ROOT = str(Path(__file__).parents[1])
HOSTILE = "Is it dry?\n'''\"\"\"\\\n<img src=x onerror=alert(1)> `[x](javascript:1)` \ud83c"


def sources(notebook, kind="code"):
    return [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == kind]


def run(path, folder, monkeypatch):
    """What each cell printed, in a new kernel in an empty folder."""
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (ROOT, os.getenv("PYTHONPATH")))))
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    client = NotebookClient(
        notebook, timeout=WAIT, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "".join(each["text"] for each in outputs if each.get("name") == "stdout").splitlines()


@pytest.fixture(scope="module")
def talk():
    """Questions that go on, one about a region, by the embedded model; then another pair's."""
    with Session() as session:
        session.open_place("spain")
        session.search(max_cloud=50).result(WAIT)
        session.choose(0).result(WAIT)
        session.ask("Is there water? Answer yes or no.").result(WAIT)
        west, south, east, north = session.subject().aoi.bounds
        session.mark(Polygon([(west, south), (east, south), (east, north)]))
        session.ask("What is region1?", options=Options(max_new_tokens=16)).result(WAIT)
        session.unmark()
        session.ask(WATER).result(WAIT)
        session.again(session.subject().head, without="sar").result(WAIT)
        session.edit("spain", (west, south, (west + east) / 2, north))
        session.restore("spain", 1)
        yield session.subject()


def test_a_fresh_process_gives_the_same_answers(talk, tmp_path, monkeypatch):
    path = save_notebook(talk, tmp_path / "spain.ipynb")
    answered = [turn for turn in talk.talk if turn.state == "done"]
    # Once more the last cell, that waits for another hash: it doesn't say the same whatever comes.
    notebook = json.loads(path.read_text("utf-8"))
    other = notebook["cells"][-1]["source"].replace(answered[-1].record["answer_hash"], "0" * 64)
    notebook["cells"].append({**notebook["cells"][-1], "id": "other", "source": other})
    path.write_text(json.dumps(notebook), encoding="utf-8")
    printed = run(path, tmp_path / "empty", monkeypatch)
    assert printed == [
        "Answer 1: as recorded", "Answer 2: as recorded", "Answer 3: as recorded",
        "Answer 3: not as recorded",
    ]  # fmt: skip
    assert len(answered) == 3


def test_the_notebook_reads_well(talk):
    notebook = as_notebook(talk)
    cells = sources(notebook)
    assert sum("em.search_pairs" in cell for cell in cells) == 1
    assert sum("talk = em.Conversation" in cell for cell in cells) == 1
    assert sum("talk.ask(" in cell for cell in cells) == 3
    assert "sensor_off='sar'" in cells[-1]
    assert sum("region1 = shape(" in cell for cell in cells) == 1
    assert notebook == as_notebook(talk)
    (intro, *_) = sources(notebook, "markdown")
    assert intro.startswith("# spain: asked again") and "3 answers" in intro
    for cell in cells:
        assert len(cell.splitlines()) < 15
        assert max(map(len, cell.splitlines())) < 100


def test_a_picture(tmp_path, monkeypatch):
    file = tmp_path / "picture.png"
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(file)
    with Session() as session:
        session.open_picture(file)
        session.ask("Describe the scene.").result(WAIT)
        path = session.notebook(tmp_path / "picture.ipynb")
        assert run(path, tmp_path / "empty", monkeypatch) == ["Answer 1: as recorded"]
        session.open_picture(np.zeros((8, 8, 3), np.uint8), name="an array")
        session.ask("Describe the scene.").result(WAIT)
        with pytest.raises(PromptError, match=r"picture is no file.*save it"):
            session.notebook(tmp_path / "array.ipynb")


@pytest.fixture
def small(monkeypatch):
    """A session over made-up pixels, those of each pair its own."""
    made_up(monkeypatch)
    monkeypatch.setattr(
        "earthmind_lab.data.load.load_chip", lambda pair, *_, **__: replace(CHIP, pair=pair)
    )
    with Session(engine=SlowEngine()) as session:
        session.draw(BOX)
        session.search(dates=DATES).result(WAIT)
        session.choose(0).result(WAIT)
        yield session


def test_another_pair_is_another_talk(small):
    """Each is asked of its own pixels, with the questions that the model had read."""
    small.ask(WATER).result(WAIT)
    small.choose(1).result(WAIT)
    small.ask("Is it dry?").result(WAIT)
    small.ask(WATER).result(WAIT)
    cells = sources(as_notebook(small.subject()))
    begun = [at for at, cell in enumerate(cells) if "talk = em.Conversation" in cell]
    loaded = [at for at, cell in enumerate(cells) if "em.load_chip" in cell]
    asked = [at for at, cell in enumerate(cells) if "talk.ask(" in cell]
    assert len(loaded) == len(begun) == 2 and len(asked) == 3
    assert loaded[0] < begun[0] < asked[0] < loaded[1] < begun[1] < asked[1] < asked[2]
    assert "sar-1" in cells[loaded[0]] and "sar-2" in cells[loaded[1]]


def test_a_question_that_brought_no_answer_is_left_out(small):
    task = small.ask("Slow?")
    task.cancel()
    with pytest.raises(PromptError, match="Nothing was answered about 'area 1' yet"):
        as_notebook(small.subject())
    small.ask(WATER).result(WAIT)
    assert sum("talk.ask(" in cell for cell in sources(as_notebook(small.subject()))) == 1


def test_text_of_others_is_a_literal(small, tmp_path):
    small.ask(HOSTILE).result(WAIT)
    small.rename("area 1", name := "x'`</h1><script>alert(1)</script> www.x.y")
    path = small.notebook(tmp_path / "talk.ipynb")
    notebook = json.loads(path.read_text("utf-8"))
    nbformat.validate(nbformat.from_dict(notebook))
    text = "".join(sources(notebook, "markdown"))
    assert not set("<>[]()!`*&") & set(text.partition("\n")[0])
    assert "script" in text and "<script" not in text
    code = "\n".join(sources(notebook))
    literals = [n.value for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Constant)]
    assert HOSTILE in literals
    assert all(name not in each for each in sources(notebook, "markdown"))


def test_regions_that_were_masks_are_refused(small, tmp_path):
    small.ask("Is it dry?", regions=[Region(mask=np.ones(SIDE, bool))]).result(WAIT)
    with pytest.raises(PromptError, match="given as masks"):
        small.notebook(tmp_path / "talk.ipynb")
    subject = small.subject()
    gone = replace(subject, turns=(), head=None)
    with pytest.raises(PromptError, match="Nothing was answered"):
        as_notebook(gone)
    assert not list(tmp_path.glob("*.ipynb*"))
