"""What is written about an answer: what the record says, for people, and nothing beside it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from earthmind_lab.citing import cite, record_of
from earthmind_lab.conversation import Conversation, ask
from earthmind_lab.data.load import load_chip
from earthmind_lab.data.own_files import open_chip
from earthmind_lab.data.samples import place
from earthmind_lab.data.search import search_pairs
from earthmind_lab.errors import EarthMindError
from earthmind_lab.exchange import Options, View
from earthmind_lab.methods import day_words
from earthmind_lab.record import Record
from earthmind_lab.recording import file_sha256
from tests import own_rasters
from tests.stand_in_engine import StandInEngine, make_chip, make_scene, square

WATER = square((40, 40), (0, 10, 0, 20))


def lake(shape: tuple[int, int]) -> Any:
    return square(shape, (5, 40, 5, 60))


@pytest.fixture(scope="module")
def spain() -> Record:
    """Real scenes: of one the time is known to the day only."""
    bbox = place("spain").bbox
    pair = search_pairs(bbox, place("spain").dates, catalog="sample", purpose="flood")[0]
    return ask(
        load_chip(pair, bbox), "Segment the water.", engine=StandInEngine({"water": lake})
    ).record


def test_a_methods_paragraph(spain: Record) -> None:
    said = cite(spain).methods
    for part in (
        "The optical input was the Sentinel-2 L1C scene S2_L1C_spain_2019-09-18, observed on ",
        "on 18 September 2019 (top-of-atmosphere reflectance",
        "The SAR input was the Sentinel-1 sigma0 scene S1_SIGMA0_spain_2019-09-17, observed on ",
        "on 17 September 2019 (sigma nought in dB",
        "to 0 h after the optical scene (negative: before it), as far as the times are known.",
        "a search (rank 1) of sample from 2019-09-15 to 2019-09-20 (sensors optical and sar; ",
        "; longest gap 144 hours; at most 20 % cloud inside the area of interest; purpose flood).",
        "All pixels lie on one grid of",
        f"px of 10 m in {spain.chip['grid']['crs']}",
        f"SHA-256 of its weights {'a' * 64}",
        'It was asked "Segment the water.", and said "Sure, the water."',
        "It marked 1 mask, cut to the observed pixels",
        "mapped areas: the geodesic area of the mask's pixels, not a statistical estimate",
        f"answer hash {spain.answer_hash}.",
    ):
        assert part in said, part
    assert "\n" not in said and "None" not in said


def test_the_copernicus_line_licences_and_attributions(spain: Record) -> None:
    said = cite(spain).acknowledgements
    assert said[0] == "Contains modified Copernicus Sentinel data 2019."
    for given in spain.inputs:
        assert any(given["id"] in each and given["licence"] in each for each in said)
    assert said[-1] == "Model stand-in: licence: Apache-2.0."


def test_no_copernicus_line_for_the_data_of_others(spain: Record) -> None:
    mine = [
        {**given, "sensor": "landsat-c2-l2", "platform": "landsat-8", "items": []}
        for given in spain.inputs
    ]
    assert (
        "Copernicus Sentinel data 2019."
        not in cite(replace(spain, inputs=tuple(mine))).acknowledgements[0]
    )
    hls = [{**mine[0], "sensor": "hls-s30", "platform": None}]
    assert (
        cite(replace(spain, inputs=tuple(hls))).acknowledgements[0].startswith("Contains modified")
    )


def test_nothing_that_the_record_does_not_say(spain: Record) -> None:
    bare = tuple(
        {"id": given["id"], "modality": given["modality"], "sensor": given["sensor"],
         "collection": None, "observed": "unknown", "platform": None, "orbit": {}, "processing": {},
         "items": [], "assets": {}, "reads": [], "licence": None, "attribution": None}
        for given in spain.inputs
    )  # fmt: skip
    known = {**spain.chip, "radiometry": {}, "cloud_method": "unknown"}
    said = cite(replace(spain, inputs=bare, chip=known, search={}, evidence=(), versions={}))
    for word in ("orbit", "baseline", "reflectance", "nought", "platform", "rank", "Cloud", "gap"):
        assert word not in said.methods, word
    assert said.methods.count("observed at an unknown time") == 2
    assert said.acknowledgements[0] == "Contains modified Copernicus Sentinel data."
    assert "version" not in said.bibtex.partition("@misc")[0]


def test_a_baseline_that_says_nothing_is_not_named(spain: Record) -> None:
    first = {**spain.inputs[0], "processing": {"level": "L2A", "baseline": "99.99"}}
    assert "baseline" not in cite(replace(spain, inputs=(first,))).methods
    first["processing"] = {"level": "L2A", "baseline": "05.09"}
    first["orbit"] = {"state": "descending", "relative": 51}
    said = cite(replace(spain, inputs=(first,))).methods
    assert (
        "processing level L2A, processing baseline 05.09, descending orbit, relative orbit 51"
        in said
    )


def test_references_carry_what_the_items_ask_for(spain: Record) -> None:
    item = {
        **spain.inputs[0]["items"][0], "sci:doi": "10.5270/S2_-742ikth",
        "sci:citation": "Ann & Bo {2020}",
        "sci:publications": [{"doi": "10.1/x", "citation": "Cy, 100% \\input{it}"}],
    }  # fmt: skip
    first = {**spain.inputs[0], "items": [item]}
    text = cite(replace(spain, inputs=(first, first))).bibtex
    assert text.count("@misc{data_") == 1
    assert r"doi = {10.5270/S2\_-742ikth}" in text
    assert r"Ann \& Bo \{2020\}; Cy, 100\% \textbackslash{}input\{it\}" in text
    for entry in text.split("\n\n"):
        assert re.fullmatch(r"@(software|misc)\{[\w.-]+,\n(  \w+ = \{.*\},\n)+\}", entry), entry
    assert text.count("year = {2019}") == 1


@pytest.mark.parametrize("options", [Options(), Options(temperature=0.7, seed=3)])
def test_the_same_from_an_answer_a_record_and_a_turn(options: Options) -> None:
    answer = ask(
        make_chip(water=WATER), "Segment the water.", engine=StandInEngine({"water": WATER}),
        options=options,
    )  # fmt: skip
    data = json.loads(json.dumps(answer.record.to_dict()))
    turn = {"question": "Segment the water.", "record": data}
    assert cite(answer) == cite(answer.record) == cite(data) == cite(turn) == answer.cite()
    how = "temperature 0.7, seed 3" if options.temperature else "greedy decoding"
    assert how in answer.cite().methods
    assert answer.cite().bibtex in str(answer.cite())


def two_years() -> Record:
    """Water by SAR, of which the earlier pair is of another year; optical is the same in both."""
    chips = [make_chip(40, water=WATER) for _ in range(2)]
    terms = {"dates": "2019-06-01/2020-06-30", "max_cloud": 20.0}
    for number, (year, rank) in enumerate(((2019, 3), (2020, 1))):
        when = datetime(year, 6, 2, 10, tzinfo=UTC)
        items = ({"id": f"sar-{year}", "collection": "sentinel-1-rtc"},)
        sar = make_scene("sar", id=f"sar-{year}", datetime=when, start=when, end=when, items=items)
        pair = replace(chips[number].pair, sar=sar, terms={**terms, "rank": rank})
        text = json.dumps(chips[number].provenance).replace("sar-1", f"sar-{year}")
        chips[number] = replace(chips[number], pair=pair, provenance=json.loads(text))
    engine = StandInEngine({"water": WATER})
    return Conversation(chips[1], engine, before=chips[0]).ask("Segment the water.").record


def test_two_dates_by_the_sensor_that_saw_them() -> None:
    said = cite(two_years())
    for part in (
        "The earlier SAR input was the Sentinel-1 RTC scene sar-2019, observed on 2 June 2019",
        "The later SAR input was the Sentinel-1 RTC scene sar-2020, observed on 2 June 2020",
        "The two dates were compared by SAR pictures alone",
        "the earlier one first, on one grid and in one stretch",
        "was shown vv_vh_ratio of each date",
        "a search (ranks 3 and 1) of",
    ):
        assert part in said.methods, part
    assert said.methods.count("The scenes come from a search") == 1
    for part in ("optical", "h after", "Cloud inside"):
        assert part not in said.methods.replace("at most 20 % cloud", ""), part


def test_what_both_dates_share_is_listed_once() -> None:
    record = two_years()
    said = cite(record)
    assert said.acknowledgements[0] == "Contains modified Copernicus Sentinel data 2019 and 2020."
    assert len(set(said.acknowledgements)) == len(said.acknowledgements)
    for scene in {given["id"] for given in record.inputs}:
        assert sum(line.startswith(f"{scene}:") for line in said.acknowledgements) == 1
    entries = [line for line in said.bibtex.splitlines() if line.startswith("@misc{data_")]
    assert len(entries) == len(set(entries)) == 3


def test_searches_of_their_own_have_sentences_of_their_own() -> None:
    record = two_years()
    early = {**record.search["before"], "dates": "2019-06-01/2019-06-30"}
    said = cite(replace(record, search={**record.search, "before": early})).methods
    assert "a search (rank 3) of" in said
    assert "from 2019-06-01 to 2019-06-30" in said
    assert "a search (rank 1) of" in said


def test_a_sensor_that_was_switched_off_was_not_shown() -> None:
    engine = StandInEngine({"water": WATER})
    chip = make_chip(40, water=WATER)
    both, less = (
        ask(chip, "Segment the water.", engine=engine, options=Options(sensor_off=off)).cite()
        for off in (None, "sar")
    )
    assert "SAR was observed" in both.methods
    assert "not shown" not in both.methods
    assert "was shown vv_vh_ratio and true_colour and" in both.methods
    assert "SAR was observed" not in less.methods
    assert less.methods.count("; the model was not shown it.") == 1
    assert "was shown true_colour and" in less.methods
    assert less.acknowledgements == both.acknowledgements  # its pixels were read all the same
    told = replace(ask(chip, "Water?", engine=engine).record, prompt={})
    assert "not shown" not in cite(told).methods  # nobody knows


def test_own_files_are_of_no_search(tmp_path: Path) -> None:
    path = own_rasters.optical(tmp_path / "own.tif")
    chip = open_chip(optical=path, **own_rasters.SCALE)
    said = ask(chip, "Segment the water.", engine=StandInEngine({"water": lake})).cite()
    told = f"(Sentinel-2 of unknown level, SHA-256 {file_sha256(path)})"
    assert said.methods.startswith(
        f"The optical input was the analyst's own file own.tif, observed at an unknown time {told}."
    )
    for word in ("search", "scene", "collection", "None"):
        assert word not in said.methods.partition(" The model")[0], word
    assert said.acknowledgements[0] == "Contains modified Copernicus Sentinel data."
    assert said.bibtex.count("@misc{data_own.tif,") == 1


def test_a_picture_has_no_place_and_no_area() -> None:
    view = View(
        image=WATER[..., None].repeat(3, -1).astype("uint8"), name="picture", modality="optical"
    )
    said = ask(view, "Segment the water.", engine=StandInEngine({"water": WATER})).cite()
    assert said.methods.startswith("The input was a plain picture without georeference")
    assert "area" not in said.methods.partition("About the model")[0]


def test_hostile_text_stays_on_its_line(spain: Record) -> None:
    said = cite(replace(spain, question="a\n@misc{x,\u202e}", text="\x1b[31m}"))
    assert '"a @misc{x, }"' in said.methods
    assert not re.search(r"[\x00-\x1f\x7f\u202e]", said.methods)


@pytest.mark.parametrize(
    ("search", "words"),
    [({"dates": "2019-09-15/2019-09-20", "sensors": "optical,sar", "max_gap": "6 days",
       "max_cloud": 20.0, "purpose": "default", "gsd": None, "rank": 1, "catalog": "sample"},
      "(rank 1) of sample from 2019-09-15 to 2019-09-20 (sensors optical and sar; longest gap 6"),
     ({"dates": "2019-09-15", "sensors": ["sar"], "max_gap": "144.000000 hours", "rank": 2},
      "(rank 2) of a catalog from 2019-09-15 (sensors sar; longest gap 144.000000 hours)"),
     ({"dates": None, "around": "2019-09-16"}, "All pixels lie")],
)  # fmt: skip
def test_records_of_the_first_format_are_cited(spain: Record, search: Any, words: str) -> None:
    """The command line and the session each had words of their own."""
    data = replace(spain, search=search, format=1).to_dict()
    assert "digests" not in data
    assert words in cite(data).methods


def test_what_has_no_record_is_refused(spain: Record) -> None:
    for nothing in (None, 3, {"record": None}, {"question": "?"}, "record.json"):
        with pytest.raises(EarthMindError):
            cite(nothing)
    with pytest.raises(EarthMindError, match="damaged"):
        cite(replace(spain, model={}))
    assert record_of(spain) is spain


@pytest.mark.parametrize(
    ("observed", "words"),
    [("2020-01-31T00:00:00Z/2020-02-01T00:00:00Z", "between 31 January 2020 and 1 February 2020"),
     ("unknown", "at an unknown time"), ("None", "at an unknown time")],
)  # fmt: skip
def test_times_for_people(observed: str, words: str) -> None:
    assert day_words(observed) == words
