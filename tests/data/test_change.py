from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from shapely.geometry import box

from earthmind_lab.data.change import KEPT, compare_pairs, sar_traits, search_change
from earthmind_lab.data.samples import place
from earthmind_lab.errors import NoPairFound, NoScenesFound, SearchError
from earthmind_lab.scene import Scene, ScenePair

MAY = datetime(2024, 5, 1, 10, tzinfo=UTC)
DAY = timedelta(days=1)


def radar(name, at=MAY, *, relative=22, state="ascending", mode="IW", baseline="003.71", **rest):
    made = {
        "sensor": "sentinel-1-rtc", "assets": {"vv": "vv.tif", "vh": "vh.tif"},
        "orbit": {"relative": relative, "state": state} if relative else {},
        "processing": {"baseline": baseline},
        "items": ({"id": name, "properties": {"sar:instrument_mode": mode} if mode else {}},),
    }  # fmt: skip
    return _scene(name, "sar", at, **(made | rest))


def optical(name, at=MAY, *, sensor="sentinel-2-l2a", **rest):
    return _scene(name, "optical", at, sensor=sensor, assets={"red": "red.tif"}, **rest)


def _scene(name, modality, at, **rest):
    return Scene(id=name, modality=modality, datetime=at, start=at, end=at,
                 footprint=box(9, 44, 11, 46), **rest)  # fmt: skip


def pair(o=None, s=None, score=80.0):
    gap = s.start - o.start if o and s else None
    return ScenePair(optical=o, sar=s, gap=gap, overlap=1.0, cloud_in_aoi=5.0 if o else None,
                     score=score, factors={})  # fmt: skip


def ids(changes):
    return [
        tuple(scene.id for side in (c.before, c.after) for scene in side.scenes) for c in changes
    ]


def test_pairs_of_one_radar_view_are_compared_and_the_worse_side_counts():
    before = [pair(optical("o1"), radar("s1"), 90.0), pair(optical("o1"), radar("x", relative=5))]
    after = [pair(optical("o2", MAY + 20 * DAY), radar("s2", MAY + 20 * DAY), 70.0)]
    (change,) = compare_pairs(before, after)
    assert ids([change]) == [("o1", "s1", "o2", "s2")]
    assert change.score == 70.0
    assert "The SAR orbit is the same: 22 ascending." in change.reasons
    assert "The SAR polarisation is the same: vh and vv." in change.reasons
    assert "The reflectance is SR at both times." in change.reasons
    assert change.reasons[-1].endswith("20 days apart in the year: the same season.")


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("orbit", {"relative": 95}),
        ("orbit", {"state": "descending"}),
        ("mode", {"mode": "EW"}),
        ("polarisation", {"assets": {"vv": "vv.tif"}}),
        ("processing", {"sensor": "sentinel-1-sigma0"}),
        ("processing", {"collection": "another"}),
        ("processing", {"baseline": "004.00"}),
    ],
)
def test_another_view_or_processing_is_refused_unless_it_may_differ(name, other):
    before, after = [pair(s=radar("a"))], [pair(s=radar("b", MAY + DAY, **other))]
    assert compare_pairs(before, after) == []
    others = {"orbit", "mode", "polarisation", "processing"} - {name}
    assert compare_pairs(before, after, may_differ=others) == []
    (change,) = compare_pairs(before, after, may_differ=[name])
    (said,) = (reason for reason in change.reasons if "user's choice" in reason)
    assert said.startswith(f"The SAR {name} is ")
    assert " before and " in said


def test_versions_of_one_processor_are_comparable():
    before, after = [pair(s=radar("a"))], [pair(s=radar("b", MAY + DAY, baseline="003.61"))]
    assert len(compare_pairs(before, after)) == 1


def test_an_orbit_that_nobody_states_is_not_the_same():
    before = [pair(s=radar("a", relative=None))]
    after = [pair(s=radar("b", MAY + DAY, relative=None))]
    assert compare_pairs(before, after) == []
    (change,) = compare_pairs(before, after, may_differ=["orbit"])
    assert "not stated before and not stated after: the user's choice" in " ".join(change.reasons)
    assert sar_traits(before[0].sar)["orbit"] is None


def test_toa_and_surface_reflectance_never_enter_one_comparison():
    before = [pair(optical("toa", sensor="sentinel-2-l1c"))]
    after = [pair(optical("sr", MAY + DAY))]
    assert compare_pairs(before, after) == []
    everything = ("orbit", "mode", "polarisation", "processing")
    assert compare_pairs(before, after, may_differ=everything) == []


def test_another_season_is_said():
    before = [pair(optical("o", datetime(2023, 12, 20, tzinfo=UTC)))]
    near = [pair(optical("near", datetime(2024, 1, 10, tzinfo=UTC)))]
    far = [pair(optical("far", datetime(2024, 5, 10, tzinfo=UTC)))]
    (change,) = compare_pairs(before, near)
    assert change.reasons[-1] == (
        "The optical scenes lie 21 days apart in the year: the same season."
    )
    (change,) = compare_pairs(before, far)
    assert "142 days apart in the year: crops" in change.reasons[-1]


def test_the_best_comparison_comes_first_in_any_order():
    before = [pair(optical(f"o{n}"), radar(f"s{n}"), 50.0 + n) for n in range(4)]
    after = [
        pair(optical(f"p{n}", MAY + 9 * DAY), radar(f"t{n}", MAY + 9 * DAY), 52.0)
        for n in range(2)
    ]  # fmt: skip
    changes = compare_pairs(before, after)
    assert len(changes) == 8
    assert [c.score for c in changes] == sorted((c.score for c in changes), reverse=True)
    assert ids(changes)[:2] == [("o3", "s3", "p0", "t0"), ("o3", "s3", "p1", "t1")]
    assert ids(compare_pairs(before[::-1], after[::-1])) == ids(changes)


def test_of_each_view_the_best_pairs_are_kept():
    before = [pair(s=radar(f"a{n:03d}"), score=n / 2) for n in range(KEPT + 20)]
    before.append(pair(s=radar("rare", relative=5), score=0.5))
    after = [pair(s=radar("b", MAY + DAY)), pair(s=radar("c", MAY + DAY, relative=5))]
    changes = compare_pairs(before, after)
    assert len(changes) == KEPT + 1
    assert ids(changes)[-1] == ("rare", "c")


def test_html_is_escaped():
    (change,) = compare_pairs([pair(s=radar("<b>"))], [pair(s=radar("c", MAY + DAY))])
    assert "&lt;b&gt;" in change._repr_html_() and "<b>" not in change._repr_html_()
    assert change.to_dict()["before"]["sar"] == "<b>"


# --- on the embedded scenes ----------------------------------------------------------------------

PUNJAB = place("punjab").bbox
JUNE, AUGUST = "2020-06-01/2020-06-10", "2020-08-10/2020-09-05"
WIDE = {"max_gap": "25 days", "max_cloud": 100}


def test_two_orbits_of_punjab_are_refused_with_the_way_out():
    with pytest.raises(NoPairFound) as caught:
        search_change(PUNJAB, JUNE, AUGUST, **WIDE)
    assert "107 descending before and 173 ascending after" in str(caught.value)
    assert "may_differ='orbit'" in caught.value.change
    changes = search_change(PUNJAB, JUNE, AUGUST, may_differ="orbit", **WIDE)
    best = changes[0]
    assert best.before.sar.id == "S1_SIGMA0_punjab_2020-06-07"
    assert best.after.sar.id == "S1_SIGMA0_punjab_2020-09-03"
    assert any("the user's choice" in reason for reason in best.reasons)
    levels = {(c.before.optical.sensor, c.after.optical.sensor) for c in changes}
    assert levels == {("sentinel-2-l2a", "sentinel-2-l2a")}


def test_one_sensor_alone_can_be_compared():
    changes = search_change(PUNJAB, JUNE, AUGUST, sensors="optical", max_cloud=100)
    assert changes[0].before.sar is None
    with pytest.raises(NoScenesFound):
        search_change(PUNJAB, "2019-06-01", AUGUST, sensors="optical", max_cloud=100)


@pytest.mark.parametrize(
    ("before", "after", "rest", "text"),
    [
        (AUGUST, JUNE, {}, "must end before"),
        (JUNE, JUNE, {}, "must end before"),
        (JUNE, AUGUST, {"may_differ": "colour"}, "may_differ"),
        (JUNE, AUGUST, {"sensors": "lidar"}, "sensors"),
        ("soon", AUGUST, {}, "not a day"),
    ],
)
def test_what_makes_no_sense_is_refused(before, after, rest, text):
    with pytest.raises(SearchError, match=text):
        search_change(PUNJAB, before, after, **rest)


def test_a_scene_without_items_has_traits():
    bare = replace(radar("a"), items=())
    assert sar_traits(bare)["mode"] is None
