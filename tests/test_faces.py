"""One analysis by Python, by the command line and by a session leaves one and the same record.

Each face is given the terms of a search in words of its own: what is recorded is their meaning.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from shapely.geometry import box

from earthmind_lab import cli
from earthmind_lab.aoi import AOI
from earthmind_lab.conversation import ask
from earthmind_lab.data.limits import parse_dates
from earthmind_lab.data.load import load_chip
from earthmind_lab.data.samples import place
from earthmind_lab.data.search import search_pairs
from earthmind_lab.engine.loading import load_engine
from earthmind_lab.record import Record
from earthmind_lab.session import Session
from tests.stand_in_engine import StandInEngine, square

SEGMENT = "Segment the water."
PLACE_QUESTION = "What is region1?"


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """One question about one pair of a sample place."""

    place: str
    question: str = SEGMENT
    sensors: str = ""
    """As the command line takes them; empty = what the place has."""
    gap_hours: int = 144
    max_cloud: float = 100.0
    dates: str = ""
    """Empty = those of the place."""
    rank: int = 1
    wishes: tuple[tuple[str, str], ...] = ()
    """``purpose``, ``around``, ``pin``, ``exclude``."""
    regions: tuple[tuple[float, float, float, float], ...] = ()
    """Shares of the AOI's width and height: west, south, east, north."""

    @property
    def bbox(self) -> tuple[float, float, float, float]:
        return place(self.place).bbox

    @property
    def days(self) -> str:
        return self.dates or place(self.place).dates

    @property
    def kinds(self) -> str:
        return self.sensors or ",".join(place(self.place).sensors)

    def boxes(self) -> list[tuple[float, float, float, float]]:
        """The regions in degrees."""
        west, south, east, north = self.bbox
        wide, high = east - west, north - south
        return [
            (west + a * wide, south + b * high, west + c * wide, south + d * high)
            for a, b, c, d in self.regions
        ]

    def __str__(self) -> str:
        parts = [self.place, self.question, self.sensors, self.dates, *map("=".join, self.wishes)]
        numbers = [f"gap{self.gap_hours}", f"cloud{self.max_cloud:g}", f"rank{self.rank}"]
        return " ".join(filter(None, [*parts, *numbers, *["region"] * len(self.regions)]))


PAIRED = (
    "spain", "chile", "denmark", "tanzania", "jiangsu", "ireland_wexford", "ireland_kilkenny",
    "finland_snow", "finland_lake", "punjab",
)  # fmt: skip
OPTICAL_ONLY = ("lazio", "bolzano", "songkhram")
LEFT, RIGHT = (0.1, 0.1, 0.4, 0.9), (0.6, 0.1, 0.9, 0.9)
ANALYSES = [
    *(Analysis(place=name) for name in (*PAIRED, *OPTICAL_ONLY)),
    *(Analysis(place=name, sensors="optical", question="Describe it.") for name in PAIRED[:5]),
    *(Analysis(place=name, sensors="sar", question="Segment the road.") for name in PAIRED[:5]),
    *(Analysis(place=name, gap_hours=hours) for name, hours in
      (("chile", 96), ("punjab", 80), ("denmark", 36), ("spain", 72))),
    *(Analysis(place=name, max_cloud=most) for name, most in
      (("spain", 20.0), ("chile", 0.5), ("denmark", 33.3))),
    *(Analysis(place=name, question=PLACE_QUESTION, regions=(LEFT,)) for name in PAIRED[:3]),
    Analysis(place="lazio", question=PLACE_QUESTION, regions=(LEFT, RIGHT)),
    Analysis(place="songkhram", question="Is region1 like region2?", regions=(RIGHT, LEFT)),
    Analysis(place="chile", sensors="sentinel-2-l2a,sentinel-1-rtc"),
    Analysis(place="spain", sensors="sentinel-1-sigma0"),
    Analysis(place="chile", dates="2020-04-08/2020-04-11"),
    Analysis(place="bolzano", dates="2022-06-12"),
    *(Analysis(place="lazio", rank=rank) for rank in (2, 3, 4)),
    *(Analysis(place=name, wishes=(("purpose", purpose),)) for name, purpose in
      (("spain", "flood"), ("punjab", "settlement"), ("chile", "default"))),
    *(Analysis(place=name, wishes=(("around", day), ("purpose", "flood"))) for name, day in
      (("spain", "2019-09-16"), ("lazio", "2018-07-20T10:00"))),
    Analysis(place="lazio", wishes=(("pin", "S2_L1C_lazio_2018-07-20"),)),
    Analysis(place="chile", wishes=(("pin", "S1_RTC_chile_2020-04-11"),)),
    Analysis(place="lazio", wishes=(("exclude", "S2_L1C_lazio_2018-07-20"),)),
]  # fmt: skip


@pytest.fixture(scope="module")
def engine() -> StandInEngine:
    def lake(shape: tuple[int, int]) -> Any:
        return square(shape, (5, 40, 5, 60))

    return StandInEngine({"water": lake}, {"Describe it.": "Fields and 2 roads."})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faces")


@pytest.fixture(autouse=True)
def _one_cache(_own_home: None, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The faces share their chips, as they do on a user's machine."""
    monkeypatch.setenv("EARTHMIND_HOME", str(home))
    monkeypatch.setenv("EARTHMIND_CACHE_BYTES", "2000000000")


def by_python(asked: Analysis, engine: Any) -> Record:
    aoi = AOI.from_bbox(*asked.bbox)
    first, last = parse_dates(asked.days)
    wishes: dict[str, Any] = {
        name: [value] if name in ("pin", "exclude") else value for name, value in asked.wishes
    }
    pairs = search_pairs(
        aoi, (first, last), catalog="sample", sensors=asked.kinds.split(",")[::-1],
        max_gap=timedelta(hours=asked.gap_hours), max_cloud=asked.max_cloud, **wishes,
    )  # fmt: skip
    chip = load_chip(pairs[asked.rank - 1], aoi)
    regions = [box(*each) for each in asked.boxes()]
    return ask(chip, asked.question, engine=engine, regions=regions).record


def words_of(asked: Analysis, out: Path) -> list[str]:
    """The command line of an analysis."""
    days, rest = divmod(asked.gap_hours, 24)
    words = [
        "ask", asked.question, "--aoi", ",".join(map(str, asked.bbox)), "--dates", asked.days,
        "--sensors", asked.kinds, "--max-gap", f"{days} days {rest} hours",
        "--max-cloud", str(asked.max_cloud), "--pair", str(asked.rank), "--out", str(out), "--json",
    ]  # fmt: skip
    for name, value in asked.wishes:
        words += [f"--{name}", value]
    for west, south, east, north in asked.boxes():
        words += ["--region", f"{west!r},{south!r},{east!r},{north!r}"]
    return words


def by_command_line(
    asked: Analysis, engine: Any, out: Path, monkeypatch: pytest.MonkeyPatch
) -> Record:
    with monkeypatch.context() as patch:
        patch.setattr("earthmind_lab.engine.loading.load_engine", lambda *_, **__: engine)
        assert cli.main(words_of(asked, out)) == 0
    return Record.load(out / "record.json")


def by_session(asked: Analysis, engine: Any) -> Record:
    """What the map calls when somebody draws, searches, chooses, marks and asks."""
    with Session(engine=engine) as session:
        session.draw(asked.bbox)
        session.search(
            dates=asked.days, catalog="sample", sensors=asked.kinds, max_cloud=asked.max_cloud,
            max_gap=f"{asked.gap_hours} hours", **dict(asked.wishes),
        ).result(60)  # fmt: skip
        session.choose(asked.rank - 1).result(60)
        for each in asked.boxes():
            session.mark(each)
        session.ask(asked.question).result(60)
        (turn,) = session.subject().turns
        return Record.from_dict(json.loads(json.dumps(turn.record)))


def test_fifty_different_analyses() -> None:
    assert len(set(ANALYSES)) == len(ANALYSES) >= 50


@pytest.mark.parametrize("asked", ANALYSES, ids=str)
def test_one_record_from_three_faces(
    asked: Analysis, engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = by_python(asked, engine)
    for other in (
        by_command_line(asked, engine, tmp_path / "out", monkeypatch), by_session(asked, engine),
    ):  # fmt: skip
        assert other.analysis() == python.analysis()
    assert python.search["rank"] == asked.rank
    assert python.search["max_gap"] == f"{asked.gap_hours} hours"
    assert python.search["sensors"] == asked.kinds.split(",")


def test_what_was_asked_is_enough_to_search_again(engine: Any) -> None:
    """The terms are those of `search_pairs`, whatever words they came in."""
    asked = Analysis(place="lazio", wishes=(("around", "2018-07-20"), ("purpose", "settlement")))
    record = by_python(replace(asked, rank=2), engine)
    names = set(inspect.signature(search_pairs).parameters) - {"catalog"}
    terms = {name: value for name, value in record.search.items() if name in names}
    assert set(terms) == {
        "dates", "around", "sensors", "max_gap", "max_cloud", "purpose",
    }  # fmt: skip
    (catalog,) = record.search["catalog"]
    again = search_pairs(asked.bbox, catalog=catalog, **terms)[record.search["rank"] - 1]
    assert again.to_dict() == record.search["pair"]
    assert again.terms == search_pairs(
        asked.bbox, (date(2018, 1, 1), "2018-12-31"), sensors={"optical"}, purpose="settlement",
        around=date(2018, 7, 20), max_cloud=100, catalog="sample",
    )[1].terms  # fmt: skip


def test_dates_around_a_day_are_recorded_as_the_days_they_are() -> None:
    (pair, *_) = search_pairs(
        place("spain").bbox, around="2019-09-18", purpose="flood", catalog="sample"
    )
    assert pair.terms["dates"] == "2019-09-15/2019-09-21"
    assert pair.terms["around"] == "2019-09-18"


@pytest.fixture(scope="module")
def nano() -> Iterator[Any]:
    engine = load_engine("nano")
    yield engine
    engine.close()


@pytest.mark.parametrize(
    "asked",
    [Analysis(place="spain", max_cloud=20.0),
     Analysis(place="songkhram", question="Is there water?", regions=(LEFT,))],
    ids=str,
)  # fmt: skip
def test_one_record_from_three_real_faces(asked: Analysis, nano: Any, tmp_path: Path) -> None:
    """The command line as a process of its own, the embedded model everywhere."""
    told = subprocess.run(
        [sys.executable, "-m", "earthmind_lab.cli", *words_of(asked, tmp_path / "out")],
        capture_output=True, text=True, timeout=120, env={**os.environ}, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    python = by_python(asked, nano).analysis()
    assert Record.load(json.loads(told.stdout)["record"]).analysis() == python
    assert by_session(asked, nano).analysis() == python
