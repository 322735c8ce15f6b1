from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from shapely.geometry import box

from earthmind_lab.errors import SearchError
from earthmind_lab.scene import ANY_TIME, Scene, ScenePair, SceneSeries

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def scene(name="o", modality="optical", when=NOON, hours=0):
    return Scene(
        id=name,
        sensor="sentinel-2-l2a" if modality == "optical" else "sentinel-1-rtc",
        modality=modality,
        datetime=None if hours else when,
        start=when,
        end=when + timedelta(hours=hours),
        footprint=box(0, 0, 1, 1),
        assets={},
    )


def pair(optical=None, sar=None, **rest):
    given = {"gap": None, "overlap": 1.0, "cloud_in_aoi": None, "score": 1.0, "factors": {}}
    return ScenePair(optical=optical, sar=sar, **(given | rest))


def test_a_time_is_an_instant_or_an_interval():
    assert scene().time_known
    assert scene().observed == "2024-05-01T12:00:00Z"
    assert not scene(hours=2).time_known
    assert scene(hours=2).observed == "2024-05-01T12:00:00Z/2024-05-01T14:00:00Z"
    assert scene(hours=2).told
    first, last = ANY_TIME
    never = replace(scene(hours=2), start=first, end=last)
    assert (never.told, never.time_known, never.observed) == (False, False, "unknown")


def test_a_pair_needs_a_scene():
    with pytest.raises(SearchError):
        pair()
    assert [each.id for each in pair(scene(), scene("s", "sar")).scenes] == ["o", "s"]
    assert [each.id for each in pair(None, scene("s", "sar")).scenes] == ["s"]


@pytest.mark.parametrize(
    ("gap", "hours"),
    [
        (None, None),
        (timedelta(hours=-7, minutes=-30), -7.5),
        ((timedelta(hours=-24), timedelta(hours=24)), [-24.0, 24.0]),
    ],
)
def test_the_gap_in_hours(gap, hours):
    assert pair(scene(), scene("s", "sar"), gap=gap).gap_hours == hours


def test_a_pair_as_plain_data():
    given = pair(
        scene(),
        None,
        cloud_in_aoi=12.3456,
        score=77.777,
        overlap=0.123456,
        factors={"V": 0.88888, "T": 1.0},
        reasons=("because",),
    )
    assert given.to_dict() == {
        "optical": "o",
        "sar": None,
        "gap_hours": None,
        "overlap": 0.1235,
        "cloud_in_aoi": 12.35,
        "score": 77.78,
        "factors": {"V": 0.8889, "T": 1.0},
        "reasons": ["because"],
    }


def test_html_never_carries_a_catalogs_markup():
    html = pair(scene("<script>"), None, reasons=("<b>",))._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "<b>" not in html


def test_a_series_is_ordered_by_time():
    early, late = pair(scene()), pair(scene(when=NOON + timedelta(days=1)))
    assert SceneSeries(pairs=(early, late)).pairs[1] is late
    with pytest.raises(SearchError, match="ordered"):
        SceneSeries(pairs=(late, early))


def test_a_series_of_pairs_is_cut_like_a_list():
    pairs = tuple(pair(scene(when=NOON + timedelta(days=day))) for day in range(3))
    series = SceneSeries(pairs=pairs)
    assert (len(series), series[-1], tuple(series)) == (3, pairs[2], pairs)
    assert isinstance(series[1:], SceneSeries) and series[1:].pairs == pairs[1:]
    assert len(series[:0]) == 0
    with pytest.raises(IndexError):
        series[3]
    with pytest.raises(SearchError, match="ordered"):
        series[::-1]


@pytest.mark.parametrize(
    ("gap", "words"),
    [(None, "unknown"), (timedelta(hours=-7.5), "-7.5 h"),
     ((timedelta(hours=-48), timedelta(0)), "-48 to 0 h")],
)  # fmt: skip
def test_a_list_of_pairs_is_a_line_each(gap, words):
    heavy = replace(scene(), items=({"assets": {"red": {"href": "x" * 5000}}},))
    shown = repr([pair(heavy, scene("s", "sar"), gap=gap, score=81.77)])
    assert shown == f"[ScenePair(o + s: score 81.8, gap {words})]"
    assert "gap none, one sensor" in repr(pair(heavy))
    assert f"<td>{words}</td>" in pair(heavy, scene("s", "sar"), gap=gap)._repr_html_()
