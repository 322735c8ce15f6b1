"""Answers from elsewhere: how they were asked goes with them, into code, files and history."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import rasterio

import earthmind_lab as em
from earthmind_lab.as_notebook import as_notebook
from earthmind_lab.as_python import as_python
from earthmind_lab.cogs import mask_bands
from earthmind_lab.conversation import Conversation, ask, ask_change
from earthmind_lab.errors import PromptError
from earthmind_lab.exchange import Options, Region
from earthmind_lab.session import Session
from tests.session_world import BOX, CHIP, DATES, SIDE, SlowEngine, made_up, pairs
from tests.stand_in_engine import StandInEngine, make_chip, square
from tests.tiny_catalog import AOI as PLACE
from tests.tiny_catalog import DATES as PLACE_DATES
from tests.tiny_catalog import write_catalog

WAIT, WATER, DRY = 30, "Segment the water.", "Is it dry?"
GONE = (
    "A question before this one is no longer there as the model had read it, so the code would "
    "ask others."
)
HOSTILE = "<img src=x onerror=alert(1)> `code`"


@pytest.fixture
def small(monkeypatch):
    """A session whose pair 1 is of the later date, and chosen; each pair has pixels of its own."""
    made_up(monkeypatch)
    monkeypatch.setattr(
        "earthmind_lab.data.load.load_chip",
        lambda pair, *_, **__: replace(
            CHIP if pair.sar.id == "sar-1" else EARLY, pair=pair, aoi=CHIP.aoi
        ),
    )
    with Session(engine=SlowEngine()) as session:
        session.draw(BOX)
        session.search(dates=DATES).result(WAIT)
        session.choose(0).result(WAIT)
        yield session


EARLY = make_chip(16, water=square(SIDE, (0, 4, 0, 4)))


def two_dates(session, question=WATER):
    """An answer about the chosen pair's pixels and those of the earlier one, and their turn."""
    early = session.compare(1).result(WAIT)
    session.compare(None).result(WAIT)
    answer = ask_change(early, session.chip(), question, engine=session.engine)
    kept = session.keep_answer(answer, "area 1")
    return session.subject().turn(kept)


def run(code, engine):
    """The names that the code leaves, asked of an engine at hand."""
    names = {"engine": engine}
    exec(code.replace("em.load_engine('stand-in')", "engine"), names)  # our own code
    return names


# --- how it was asked ----------------------------------------------------------------------------


def test_what_the_record_says_is_in_the_turn(small):
    mask = np.zeros(SIDE, bool)
    mask[:8] = True
    talk = Conversation(make_chip(16), small.engine)
    talk.ask(DRY)
    options = Options(mask_threshold=0.7, temperature=0.5, seed=4, seat="mine")
    answer = talk.ask(WATER, regions=[Region(mask=mask)] * 2, options=options)
    kept = small.keep_answer(answer, "area 1")
    turn = small.subject().turn(kept)
    assert turn.options == {"mask_threshold": 0.7, "temperature": 0.5, "seed": 4}
    assert turn.regions == (None, None)
    assert turn.before is None
    assert small.keep_answer(answer, "area 1") == kept
    with pytest.raises(PromptError, match="given as masks"):
        small.again(kept)
    with pytest.raises(PromptError, match="no longer there as the model had read it"):
        as_python(small.subject(), kept)


def test_the_adapter_that_answered_is_asked_again(small):
    answer = ask(make_chip(16), WATER, engine=small.engine)
    model = {**answer.record.model, "adapter": {"name": "a", "hash": "b" * 64}}
    answer = replace(answer, record=replace(answer.record, model=model))
    kept = small.keep_answer(answer, "area 1")
    assert small.subject().turn(kept).options == {"adapter": "b" * 64}


def test_the_same_words_about_other_pixels_are_another_answer(small):
    one, other = (ask(chip, DRY, engine=small.engine) for chip in (make_chip(16), EARLY))
    assert one.record.answer_hash == other.record.answer_hash
    kept = [small.keep_answer(each, "area 1") for each in (one, other, one)]
    assert kept[0] == kept[2] != kept[1]


def test_a_raster_is_cut_where_the_answer_was(small, tmp_path):
    ramp = np.broadcast_to(np.linspace(-4, 4, SIDE[1], dtype=np.float32), SIDE)
    talk = Conversation(make_chip(16), StandInEngine({"water": np.ones(SIDE, bool)}))
    drawn = talk.engine._reply

    def reply(prompt):
        said = drawn(prompt)
        return replace(said, objects=tuple(replace(e, mask_logits=ramp) for e in said.objects))

    talk.engine._reply = reply
    answer = talk.ask(WATER, options=Options(mask_threshold=0.9))
    assert (mask_bands(answer)[0] != mask_bands(answer.at(0.5))[0]).any()
    kept = small.keep_answer(answer, "area 1")
    with rasterio.open(small.export(kept, tmp_path / "mask.tif")) as file:
        assert (file.read() == mask_bands(answer)[0]).all()


# --- two dates -----------------------------------------------------------------------------------


def test_two_dates_are_those_of_the_session(small):
    kept = two_dates(small)
    small.compare(1).result(WAIT)
    small.ask(DRY).result(WAIT)
    asked = small.subject().talk[-1]
    assert kept.before == asked.before == json.loads(json.dumps(kept.before))
    assert small.engine.prompts[-1].history[0].question == WATER
    small.compare(None).result(WAIT)
    small.ask(DRY).result(WAIT)
    assert [turn.question for turn in small.engine.prompts[-1].history] == []
    small.again(kept.id).result(WAIT)
    assert small.subject().talk[-1].before == kept.before
    with pytest.raises(PromptError, match="each date alone"):
        small.sample_points(kept.id, "points.gpkg")


def test_two_dates_are_no_history_unless_both_are_loaded(small):
    """The later pixels alone don't make it one."""
    early = replace(EARLY, pair=pairs()[1], aoi=CHIP.aoi)
    stale = []
    for loaded, before in ((False, early), (True, early), (True, CHIP)):
        if loaded:
            small.compare(1).result(WAIT)
        answer = ask_change(before, small.chip(), f"{WATER} {len(stale)}", engine=small.engine)
        kept = small.keep_answer(answer, "area 1")
        stale.append(small.subject().turn(kept).stale)
    assert stale == [True, False, True]


# --- as code -------------------------------------------------------------------------------------


@pytest.fixture
def real(tmp_path):
    """A session about a place whose scenes are files, and one of its pairs."""
    catalog = str(write_catalog(tmp_path / "catalog"))
    engine = StandInEngine({"water": lambda shape: square(shape, (3, 9, 3, 12))})
    aoi = em.AOI.from_bbox(*map(float, PLACE.split(",")), name="lake")
    (pair,) = em.search_pairs(aoi, PLACE_DATES, catalog=catalog)
    with Session(engine=engine) as session:
        yield session, pair, aoi


def test_the_code_loads_the_pixels_of_the_answer(real):
    """Not those that the defaults give."""
    session, pair, aoi = real
    chip = em.load_chip(pair, aoi, gsd=20, bands=["green", "nir"], speckle="lee")
    answer = ask(chip, WATER, engine=session.engine, options=Options(mask_threshold=0.6))
    kept = session.keep_answer(answer)
    code = as_python(session.subject(), kept)
    # But for the path of the catalog, which is as long as it is.
    assert max(len(line) for line in code.splitlines() if "catalog=" not in line) < 100
    again = run(code, session.engine)["answer"].record
    assert again.answer_hash == answer.record.answer_hash
    for part in ("pixel_hash", "grid", "bands"):
        assert again.chip[part] == answer.record.chip[part]
    assert again.options["mask_threshold"] == 0.6


def test_the_code_of_two_dates_asks_about_both():
    """Of one search, and of two."""
    place = next(each for each in em.places() if each.name == "lazio")
    engine = StandInEngine({"crops": lambda shape: square(shape, (3, 30, 3, 40))})
    aoi = em.AOI.from_bbox(*place.bbox, name="lazio")
    listed = em.search_pairs(aoi, place.dates, sensors="optical", max_cloud=100)
    later = next(pair for pair in listed if pair.optical.id.endswith("2018-10-23"))
    early = next(pair for pair in listed if pair.optical.id.endswith("2018-07-20"))
    found = em.search_pairs(aoi, "2018-07-01/2018-07-31", sensors="optical", max_cloud=100)
    alone = next(pair for pair in found if pair.optical.id == early.optical.id)
    for before, searches in ((early, 1), (alone, 2)):
        chips = em.load_series([before, later], aoi, gsd=20)
        answer = ask_change(chips[0], chips[1], "Segment the crops.", engine=engine)
        with Session(engine=engine) as session:
            kept = session.keep_answer(answer)
            code = as_python(session.subject(), kept)
        assert code.count("em.search_pairs") == searches
        again = run(code, engine)["answer"].record
        assert again.answer_hash == answer.record.answer_hash
        assert again.chip["before"]["pixel_hash"] == answer.record.chip["before"]["pixel_hash"]
        assert again.search["before"]["ids"] == answer.record.search["before"]["ids"]


def test_what_no_search_gives_is_refused(small):
    kept = small.keep_answer(ask(make_chip(16), WATER, engine=small.engine), "area 1")
    with pytest.raises(PromptError, match=r"no search of a catalog.*search_pairs\(\)"):
        as_python(small.subject(), kept)


def test_arrays_are_refused(small):
    chip = make_chip(16)
    own = {"own_files": {"optical": "array"}, "from_memory": {"optical": "0" * 64}}
    chip = replace(chip, provenance={**chip.provenance, **own})
    kept = small.keep_answer(ask(chip, WATER, engine=small.engine), "area 1")
    with pytest.raises(PromptError, match=r"arrays in memory.*as files"):
        as_python(small.subject(), kept)


def test_a_question_that_had_read_others_is_refused(small):
    """The session's answer goes on from a kept one whose own history isn't in the talk."""
    talk = Conversation(small.chip(), small.engine)
    talk.ask(DRY)
    small.keep_answer(talk.ask(WATER), "area 1")
    small.ask("And now?").result(WAIT)
    assert [turn.question for turn in small.engine.prompts[-1].history] == [WATER]
    with pytest.raises(PromptError, match=f"as the model had read it.*{WATER}"):
        as_python(small.subject(), small.subject().head)


def test_questions_about_other_pixels_were_not_read(small):
    """The same words were replied to the same question, of another place."""
    small.ask(DRY).result(WAIT)
    talk = Conversation(make_chip(16), small.engine)
    talk.ask(DRY)
    kept = small.keep_answer(talk.ask(WATER), "area 1")
    with pytest.raises(PromptError, match="no longer there"):
        as_python(small.subject(), kept)


def test_a_notebook_leaves_out_what_has_no_code_and_says_so(real):
    session, pair, aoi = real
    chip = em.load_chip(pair, aoi)
    region = Region(mask=np.ones(chip.grid.shape, bool), label=HOSTILE)
    talk = Conversation(chip, session.engine)
    talk.ask(f"{HOSTILE} again")
    answers = [
        ask(chip, HOSTILE, engine=session.engine, regions=[region]),
        ask(chip, WATER, engine=session.engine),
        talk.ask(HOSTILE + WATER),
    ]
    first = session.keep_answer(answers[0])
    with pytest.raises(PromptError, match="given as masks"):
        as_notebook(session.subject())
    for answer in answers[1:]:
        session.keep_answer(answer)
    cells = as_notebook(session.subject())["cells"]
    words = [cell["source"] for cell in cells if cell["cell_type"] == "markdown"]
    code = "\n".join(cell["source"] for cell in cells if cell["cell_type"] == "code")
    assert [each for each in words if "left out" in each] == [
        "Answer 1 is left out. Regions were given as masks, which aren't kept.",
        f"Answer 3 is left out. {GONE}",
    ]
    assert "1 answer;" in words[0] and "the catalogs named below" in words[0]
    assert not any("img" in each or "code`" in each for each in words)
    assert code.count("talk.ask(") == 1 and '"Answer 2:"' in code
    names = run(code, session.engine)
    assert names["answer"].record.answer_hash == answers[1].record.answer_hash
    assert session.subject().turns[0].id == first


def test_the_first_words_of_a_notebook_name_files(tmp_path, real):
    session, pair, aoi = real
    folder = tmp_path / "catalog"
    bands = ("blue", "green", "red", "nir")
    said = {"optical": {band: folder / f"{band}.tif" for band in bands}, "optical_scale": 1e-4}
    own = em.open_chip(**said, optical_offset=0.0, aoi=aoi, datetime="2020-06-01")
    session.keep_answer(ask(own, WATER, engine=session.engine))
    assert "the files named below" in as_notebook(session.subject())["cells"][0]["source"]
    session.keep_answer(ask(em.load_chip(pair, aoi), WATER, engine=session.engine))
    words = as_notebook(session.subject())["cells"][0]["source"]
    assert "the catalogs and files named below" in words and "2 answers" in words
