from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import Affine
from shapely.geometry import Polygon, box

from earthmind_lab.aoi import AOI
from earthmind_lab.data.choices import Choice
from earthmind_lab.data.clouds import clear_share
from earthmind_lab.data.gaps import gap_of
from earthmind_lab.data.limits import parse_around
from earthmind_lab.data.looks import look
from earthmind_lab.data.pairing import candidates_of, pairs_of, rank_pairs, rank_scenes
from earthmind_lab.data.sides import Terms
from earthmind_lab.errors import SearchError
from earthmind_lab.scene import Scene

AREA = AOI.from_bbox(10.0, 44.96, 10.04, 45.0)
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
EVERYWHERE = box(9, 44, 11, 46)
DAY = timedelta(days=1)


def optical(name="o", *, at=NOON, until=None, cloud=0.0, footprint=EVERYWHERE, **rest):
    return _scene(name, "sentinel-2-l2a", "optical", at, until, footprint, cloud,
                  **({"assets": {"red": "red.tif"}} | rest))  # fmt: skip


def sar(name="s", *, at=NOON, until=None, footprint=EVERYWHERE, sensor="sentinel-1-rtc", **rest):
    return _scene(name, sensor, "sar", at, until, footprint, None,
                  **({"assets": {"vv": "vv.tif", "vh": "vh.tif"}} | rest))  # fmt: skip


def _scene(name, sensor, modality, at, until, footprint, cloud, **rest):
    return Scene(
        id=name,
        sensor=sensor,
        modality=modality,
        datetime=None if until else at,
        start=at,
        end=until or at,
        footprint=footprint,
        cloud_cover=cloud,
        **rest,
    )


def one(pairs):
    (pair,) = pairs
    return pair


def names(pairs):
    return [tuple(scene.id for scene in pair.scenes) for pair in pairs]


def scl_file(path, values):
    values = np.asarray(values, np.uint8)
    height, width = values.shape
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "crs": 4326}
    transform = Affine(0.04 / width, 0, 10.0, 0, -0.04 / height, 45.0)
    with rasterio.open(
        path, "w", height=height, width=width, transform=transform, **profile
    ) as target:
        target.write(values, 1)
    return {"red": "red.tif", "scl": str(path)}


# --- score --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("purpose", "tau"), [("flood", 1), ("default", 5), ("settlement", 20)])
def test_the_score_is_clear_share_times_time_times_quality(purpose, tau):
    pair = one(rank_pairs([optical(cloud=10)], [sar(at=NOON + DAY)], AREA, purpose=purpose))
    assert pair.factors == pytest.approx({"V": 0.9, "T": math.exp(-1 / tau), "Q": 1.0})
    assert pair.score == pytest.approx(90 * math.exp(-1 / tau))


def test_an_unknown_purpose():
    with pytest.raises(SearchError, match="purpose"):
        rank_pairs([], [], AREA, purpose="x")


def test_the_gap_is_sar_minus_optical():
    later = one(rank_pairs([optical()], [sar(at=NOON + 2 * DAY)], AREA))
    earlier = one(rank_pairs([optical()], [sar(at=NOON - 2 * DAY)], AREA))
    assert later.gap == 2 * DAY
    assert earlier.gap == -2 * DAY
    assert later.score == earlier.score
    assert "48" not in later.reasons[0]
    assert "2.0 days after" in later.reasons[0]
    assert "2.0 days before" in earlier.reasons[0]


def test_the_longest_gap_is_inclusive():
    assert rank_pairs([optical()], [sar(at=NOON + 6 * DAY)], AREA)
    assert not rank_pairs([optical()], [sar(at=NOON + 6 * DAY + timedelta(seconds=1))], AREA)


@pytest.mark.parametrize(
    ("scene", "name", "factor"),
    [
        (sar(sensor="sentinel-1-grd"), "uncorrected_sar", 0.8),
        (sar(assets={"vv": "vv.tif"}), "single_polarisation", 0.9),
    ],
)
def test_sar_penalties_are_factors_with_a_reason(scene, name, factor):
    pair = one(rank_pairs([optical()], [scene], AREA))
    assert pair.factors[name] == pair.factors["Q"] == factor
    assert pair.score == pytest.approx(100 * factor)
    assert len(pair.reasons) == 3  # gap, cloud, penalty


@pytest.mark.parametrize(("sun", "quality"), [(19.9, 0.9), (20, 1.0), (None, 1.0)])
def test_a_low_sun_is_a_penalty(sun, quality):
    scene = optical(processing={"sun_elevation": sun})
    assert one(rank_pairs([scene], [sar()], AREA)).factors["Q"] == quality


def test_penalties_multiply():
    scene = sar(sensor="sentinel-1-grd", assets={"vv": "vv.tif"})
    low = optical(processing={"sun_elevation": 5})
    assert one(rank_pairs([low], [scene], AREA)).factors["Q"] == pytest.approx(0.8 * 0.9 * 0.9)


def test_a_declared_geolocation_error_is_a_reason():
    pair = one(rank_pairs([optical()], [sar(processing={"geolocation_error_px": 4.0})], AREA))
    assert any("geolocation error of 4 px for s" in reason for reason in pair.reasons)


# --- footprints ---------------------------------------------------------------------------------


def test_overlap_is_the_share_of_the_aoi_inside_both_footprints():
    left = box(9, 44, 10.03, 46)
    right = box(10.01, 44, 11, 46)
    pair = one(rank_pairs([optical(footprint=left)], [sar(footprint=right)], AREA))
    assert pair.overlap == pytest.approx(0.5, abs=1e-6)
    assert pair.factors["V"] == pair.overlap
    assert any("50 % of the AOI lies inside both" in reason for reason in pair.reasons)


def test_footprints_that_share_only_an_edge_are_no_pair():
    left, right = box(9, 44, 10.02, 46), box(10.02, 44, 11, 46)
    assert rank_pairs([optical(footprint=left)], [sar(footprint=right)], AREA) == []


def test_a_footprint_that_touches_the_aoi_and_covers_a_part():
    # The intersection holds a polygon and a stray edge.
    shape = Polygon([(9, 44), (10.02, 44), (10.02, 45), (10.04, 45), (10.04, 46), (9, 46)])
    pair = one(rank_pairs([optical(footprint=shape)], [sar(footprint=shape)], AREA))
    assert pair.overlap == pytest.approx(0.5, abs=1e-6)


# --- cloud --------------------------------------------------------------------------------------


def test_cloud_is_measured_inside_the_aoi_and_beats_the_scenes_percentage(tmp_path):
    values = np.full((40, 40), 4)
    values[:4] = 9
    scene = optical(cloud=99, assets=scl_file(tmp_path / "scl.tif", values))
    pair = one(rank_pairs([scene], [sar()], AREA))
    assert pair.cloud_in_aoi == pytest.approx(10)
    assert pair.factors["V"] == pytest.approx(0.9)
    assert any("90 % of the AOI is clear" in reason for reason in pair.reasons)
    assert not rank_pairs([scene], [sar()], AREA, max_cloud=9.9)
    assert clear_share(scene, AREA).clear == pytest.approx(0.9)


def test_valid_sar_and_clear_optical_are_counted_together(tmp_path):
    values = np.full((40, 40), 4)
    values[:, :10] = 8  # the western quarter is cloud
    scene = optical(assets=scl_file(tmp_path / "scl.tif", values))
    west = sar("west", footprint=box(9, 44, 10.02, 46))
    east = sar("east", footprint=box(10.02, 44, 11, 46))
    pairs = rank_pairs([scene], [west, east], AREA, max_cloud=30)
    assert names(pairs) == [("o", "east"), ("o", "west")]
    assert [pair.factors["V"] for pair in pairs] == pytest.approx([0.5, 0.25])
    assert [pair.cloud_in_aoi for pair in pairs] == pytest.approx([25, 25])


def test_snow_is_clear_and_said(tmp_path):
    scene = optical(assets=scl_file(tmp_path / "scl.tif", np.full((40, 40), 11)))
    pair = one(rank_pairs([scene], [sar()], AREA))
    assert pair.factors["V"] == 1
    assert any("Snow or ice covers 100 %" in reason for reason in pair.reasons)


def test_a_scene_without_data_inside_the_aoi_is_no_candidate(tmp_path):
    scene = optical(assets=scl_file(tmp_path / "scl.tif", np.zeros((40, 40))))
    assert rank_pairs([scene], [sar()], AREA, max_cloud=100) == []
    assert rank_scenes([scene], AREA, max_cloud=100) == []


def test_a_broken_mask_falls_back_to_the_scene_with_a_reason(tmp_path):
    (tmp_path / "scl.tif").write_text("no raster")
    scene = optical(cloud=12, assets={"red": "r.tif", "scl": str(tmp_path / "scl.tif")})
    pair = one(rank_pairs([scene], [sar()], AREA))
    assert pair.cloud_in_aoi == 12
    assert pair.factors["V"] == pytest.approx(0.88)
    assert any("mask can't be read: The asset 'scl'" in reason for reason in pair.reasons)
    assert any("whole scene's 12 %" in reason for reason in pair.reasons)


def test_unknown_cloud_is_admitted_as_half_clear_behind_every_known_one():
    scenes = [optical("unknown", cloud=None), optical("cloudy", cloud=95)]
    pairs = rank_pairs(scenes, [sar()], AREA, max_cloud=95)
    assert names(pairs) == [("cloudy", "s"), ("unknown", "s")]
    last = pairs[-1]
    assert last.cloud_in_aoi is None
    assert last.factors["V"] == 0.5
    assert last.score > pairs[0].score
    assert any("Nothing tells the cloud" in reason for reason in last.reasons)
    assert names(rank_pairs(scenes, [sar()], AREA, max_cloud=0)) == [("unknown", "s")]


def test_the_most_cloud_is_inclusive():
    assert rank_pairs([optical(cloud=20.0)], [sar()], AREA)
    assert not rank_pairs([optical(cloud=20.01)], [sar()], AREA)


# --- time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end", "signed", "possible"),
    [
        (1, 3, (1, 3), (1, 3)),
        (-3, -1, (-3, -1), (1, 3)),
        (-1, 3, (-1, 3), (0, 3)),
        (-4, 2, (-4, 2), (0, 4)),
    ],
)
def test_an_unknown_time_is_an_interval(start, end, signed, possible):
    radar = sar(at=NOON + start * DAY, until=NOON + end * DAY)
    pair = one(rank_pairs([optical()], [radar], AREA))
    assert pair.gap == (signed[0] * DAY, signed[1] * DAY)
    assert pair.factors["T"] == pytest.approx(math.exp(-sum(possible) / 2 / 5))
    assert any("time of the SAR scene is unknown" in reason for reason in pair.reasons)
    least = possible[0] * DAY
    assert rank_pairs([optical()], [radar], AREA, max_gap=least)
    if least:
        assert not rank_pairs([optical()], [radar], AREA, max_gap=least - timedelta(seconds=1))


def test_two_unknown_times():
    pair = one(rank_pairs([optical(until=NOON + DAY)], [sar(until=NOON + 2 * DAY)], AREA))
    assert pair.gap == (-DAY, 2 * DAY)
    assert sum("is unknown" in reason for reason in pair.reasons) == 3


def test_unknown_times_rank_behind_known_ones():
    scenes = [optical("lost", until=NOON + timedelta(minutes=1)), optical("known", cloud=20)]
    assert names(rank_pairs(scenes, [sar()], AREA)) == [("known", "s"), ("lost", "s")]


def test_unknown_cloud_ranks_behind_unknown_time():
    scenes = [optical("no-cloud", cloud=None), optical("no-time", cloud=20, until=NOON + DAY)]
    assert names(rank_pairs(scenes, [sar()], AREA)) == [("no-time", "s"), ("no-cloud", "s")]


def test_ties_go_to_the_shorter_gap_then_the_id():
    # A scene a little cloudier and a little nearer scores the same to the last digits.
    near, far = NOON + DAY, NOON - 2 * DAY
    cloud = 100 * (1 - math.exp(-1 / 5))
    a = rank_pairs([optical("a")], [sar(at=far)], AREA, max_cloud=100)
    b = rank_pairs([optical("b", cloud=cloud)], [sar(at=near)], AREA, max_cloud=100)
    assert a[0].score == pytest.approx(b[0].score, abs=1e-9)
    both = rank_pairs(
        [optical("a"), optical("b", at=NOON + 3 * DAY, cloud=cloud)],
        [sar(at=far, name="x"), sar(at=NOON + 4 * DAY, name="y")],
        AREA,
        max_cloud=100,
        max_gap=3 * DAY,
    )
    assert names(both)[:2] == [("b", "y"), ("a", "x")]
    twins = [optical("b"), optical("a")]
    assert names(rank_pairs(twins, [sar()], AREA)) == [("a", "s"), ("b", "s")]


# --- one sensor ---------------------------------------------------------------------------------


def test_optical_alone_scores_without_time():
    scenes = [optical("cloudy", cloud=15), optical("clear", cloud=1), optical("shut", cloud=90)]
    pairs = rank_scenes(scenes, AREA, catalog="c")
    assert names(pairs) == [("clear",), ("cloudy",)]
    assert pairs[0].factors == pytest.approx({"V": 0.99, "T": 1.0, "Q": 1.0})
    assert pairs[0].score == pytest.approx(99)
    assert pairs[0].gap is None
    assert pairs[0].sar is None
    assert pairs[0].catalog == "c"


def test_sar_alone_scores_its_footprint():
    scenes = [sar("half", footprint=box(9, 44, 10.02, 46)), sar("whole"), sar("lost", until=NOON)]
    pairs = rank_scenes(scenes, AREA)
    assert names(pairs) == [("whole",), ("half",), ("lost",)]
    assert pairs[1].score == pytest.approx(50, abs=1e-4)
    assert pairs[1].cloud_in_aoi is None
    assert any("inside the footprint" in reason for reason in pairs[1].reasons)


# --- against an exhaustive reference ------------------------------------------------------------

FOOTPRINTS = [
    EVERYWHERE,
    box(9, 44, 10.02, 46),
    box(10.01, 44, 11, 46),
    box(20, 20, 21, 21),
    box(9, 44, 10.03, 46),
]  # cut from west to east only: plane shares then equal geodesic ones
hours = st.integers(0, 24 * 20)
clouds = st.one_of(st.none(), st.sampled_from([0.0, 5.0, 20.0, 20.5, 60.0]))


@st.composite
def scenes_of(draw, make, letter):
    scenes = []
    for index in range(draw(st.integers(0, 5))):
        at = NOON + timedelta(hours=draw(hours))
        span = draw(st.sampled_from([0, 0, 0, 12, 96]))
        rest = {"until": at + timedelta(hours=span)} if span else {}
        rest["footprint"] = draw(st.sampled_from(FOOTPRINTS))
        if make is optical:
            rest["cloud"] = draw(clouds)
            rest["processing"] = {"sun_elevation": draw(st.sampled_from([10, 50]))}
        else:
            rest["sensor"] = draw(st.sampled_from(["sentinel-1-rtc", "sentinel-1-grd"]))
            rest["assets"] = draw(st.sampled_from([{"vv": "a", "vh": "b"}, {"vv": "a"}]))
        scenes.append(make(f"{letter}{index}", at=at, **rest))
    return scenes


def reference(optical_scenes, sar_scenes, max_gap, max_cloud, tau):
    """The rules written out once more, plainly; every gap is tried hour by hour."""
    found = []
    for o in optical_scenes:
        for s in sar_scenes:
            overlap = AREA.geometry.intersection(o.footprint).intersection(s.footprint).area
            overlap /= AREA.geometry.area
            gaps = [
                abs(b - a) / 3600
                for a in range(0, int((o.end - o.start).total_seconds()) + 1, 3600)
                for b in (
                    (s.start - o.start).total_seconds() + x
                    for x in range(0, int((s.end - s.start).total_seconds()) + 1, 3600)
                )
            ]
            cloud = o.cloud_cover
            if overlap <= 0 or min(gaps) > max_gap or (cloud is not None and cloud > max_cloud):
                continue
            clear = 0.5 if cloud is None else 1 - cloud / 100
            middle = (min(gaps) + max(gaps)) / 2
            quality = 0.9 if o.processing["sun_elevation"] < 20 else 1.0
            quality *= 0.8 if s.sensor.endswith("grd") else 1.0
            quality *= 0.9 if len(s.assets) < 2 else 1.0
            score = 100 * clear * overlap * math.exp(-middle / 24 / tau) * quality
            lost = len(gaps) > 1
            found.append(((cloud is None, lost, -round(score, 4), middle, o.id, s.id), score))
    return sorted(found)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    optical_scenes=scenes_of(optical, "o"),
    sar_scenes=scenes_of(sar, "s"),
    max_gap=st.sampled_from([0, 6, 48, 144, 500]),
    max_cloud=st.sampled_from([0.0, 20.0, 100.0]),
    purpose=st.sampled_from([("flood", 1), ("default", 5), ("settlement", 20)]),
    seed=st.integers(0, 1000),
)
def test_ranking_equals_an_exhaustive_reference_in_any_order(
    optical_scenes, sar_scenes, max_gap, max_cloud, purpose, seed
):
    limits = {
        "max_gap": timedelta(hours=max_gap), "max_cloud": max_cloud, "purpose": purpose[0]
    }  # fmt: skip
    pairs = rank_pairs(optical_scenes, sar_scenes, AREA, **limits)
    expected = reference(optical_scenes, sar_scenes, max_gap, max_cloud, purpose[1])
    scores = {key[-2:]: score for key, score in expected}
    assert dict(zip(names(pairs), [p.score for p in pairs], strict=True)) == pytest.approx(
        scores, rel=1e-4
    )
    order = [
        (
            p.cloud_in_aoi is None,
            not (p.optical.time_known and p.sar.time_known),
            -round(p.score, 9),
        )
        for p in pairs
    ]
    assert order == sorted(order)
    assert [key[:2] for key in order] == [key[:2] for key, _ in expected]
    shuffle = random.Random(seed)
    again = rank_pairs(
        shuffle.sample(optical_scenes, len(optical_scenes)),
        iter(shuffle.sample(sar_scenes, len(sar_scenes))),
        AREA,
        **limits,
    )
    assert [pair.to_dict() for pair in again] == [pair.to_dict() for pair in pairs]


def test_a_gap_of_known_times_is_one_number():
    assert gap_of(optical(), sar(at=NOON + DAY)) == DAY


def test_looking_at_a_scene_without_anything():
    view = look(optical(cloud=None), AREA)
    assert view.cloud is None
    assert view.mask is None
    assert not view.empty


def test_a_gap_under_an_hour_is_said_in_minutes():
    (pair,) = rank_pairs([optical()], [sar(at=NOON + timedelta(minutes=25))], AREA)
    assert "SAR was taken 25 minutes after the optical scene." in pair.reasons


# --- the order of the contract, exactly ----------------------------------------------------------

steps = st.integers(0, 40)


@st.composite
def plain_scenes(draw, make, letter):
    """Scenes over the whole AOI on a coarse raster of times and clouds: many ties."""
    scenes = []
    for _ in range(draw(st.integers(0, 6))):
        at = NOON + timedelta(hours=6 * draw(steps))
        span = timedelta(hours=draw(st.sampled_from([0, 0, 6, 12])))
        rest = {"until": at + span} if span else {}
        rest["collection"] = draw(st.sampled_from(["c1", "c2"]))
        if make is optical:
            rest["cloud"] = draw(st.sampled_from([None, 0.0, 10.0, 20.0, 30.0]))
        else:
            rest["sensor"] = draw(st.sampled_from(["sentinel-1-rtc", "sentinel-1-grd"]))
        scenes.append(make(f"{letter}{draw(st.integers(0, 3))}", at=at, **rest))
    keys = {(s.id, s.sensor, s.collection): s for s in scenes}  # ids are unique in a collection
    return list(keys.values())


def contract(optical_scenes, sar_scenes, max_gap, max_cloud, tau, day, pin, exclude):
    """Design's rules for scenes over the whole AOI, one sentence a line."""
    rows = []
    for o in optical_scenes:
        for s in sar_scenes:
            known = o.datetime is not None and s.datetime is not None
            ends = [s.start - o.end, s.end - o.start]
            greatest = max(map(abs, ends))
            least = timedelta(0) if ends[0] <= timedelta(0) <= ends[1] else min(map(abs, ends))
            pinned = {scene for scene in (o, s) if scene.id in pin}
            if {o.id, s.id} & exclude:
                continue
            if any(each.id in pin for each in optical_scenes) and o not in pinned:
                continue
            if any(each.id in pin for each in sar_scenes) and s not in pinned:
                continue
            if o.cloud_cover is not None and o.cloud_cover > max_cloud and o not in pinned:
                continue
            if least > max_gap and not pinned:
                continue
            clear = 0.5 if o.cloud_cover is None else 1 - o.cloud_cover / 100
            middle = (least + greatest) / 2
            score = 100 * clear * math.exp(-(middle / tau))
            score *= 0.8 if s.sensor == "sentinel-1-grd" else 1
            if day is not None:
                start, end = (
                    (o.start + (o.end - o.start) / 2).timestamp(),
                    (s.start + (s.end - s.start) / 2).timestamp(),
                )
                at = datetime.fromtimestamp((start + end) / 2, UTC)
                noon = day + DAY / 2
                off = max(timedelta(0), abs(at - noon) - DAY / 2 + timedelta(microseconds=1))
                score *= math.exp(-(off / tau))
            ids = (o.id, o.sensor, o.collection, s.id, s.sensor, s.collection)
            rows.append((o.cloud_cover is None, not known, -round(score, 6), middle, ids))
    return [row[-1] for row in sorted(rows)]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    optical_scenes=plain_scenes(optical, "o"),
    sar_scenes=plain_scenes(sar, "s"),
    max_gap=st.sampled_from([0, 6, 48, 144, 500]),
    max_cloud=st.sampled_from([0.0, 10.0, 25.0, 100.0]),
    purpose=st.sampled_from([("flood", 1), ("default", 5), ("settlement", 20)]),
    around=st.none() | steps,
    pin=st.sets(st.sampled_from(["o0", "o1", "s2"]), max_size=2),
    exclude=st.sets(st.sampled_from(["o2", "s0"]), max_size=1),
    seed=st.integers(0, 1000),
)
def test_the_order_is_the_exhaustive_optimum_and_that_of_the_input_is_not(
    optical_scenes, sar_scenes, max_gap, max_cloud, purpose, around, pin, exclude, seed
):
    day = None if around is None else datetime(2024, 5, 1, tzinfo=UTC) + around * DAY / 4
    day = day and day.replace(hour=0)
    terms = Terms(
        aoi=AREA, max_gap=timedelta(hours=max_gap), max_cloud=max_cloud, purpose=purpose[0],
        around=day and parse_around(day.date()), choice=Choice.of(sorted(pin), sorted(exclude)),
    )  # fmt: skip
    shuffle = random.Random(seed)
    found = {
        "optical": shuffle.sample(optical_scenes, len(optical_scenes)),
        "sar": shuffle.sample(sar_scenes, len(sar_scenes)),
    }
    candidates = candidates_of(found, terms)
    rules = (timedelta(hours=max_gap), max_cloud, purpose[1] * DAY, day, pin, exclude)
    expected = contract(optical_scenes, sar_scenes, *rules)
    assert [_key(pair) for pair in candidates.pairs] == expected
    assert [_key(pair) for pair in pairs_of(found, terms)] == expected
    # Every combination is in one of the two, once.
    every = {(*_key_of(o), *_key_of(s)) for o in optical_scenes for s in sar_scenes}
    rejected = [_key(each) for each in candidates.rejected]
    assert len(rejected) + len(expected) == len(every)
    assert set(rejected) | set(expected) == every
    again = candidates_of({"optical": optical_scenes, "sar": sar_scenes}, terms)
    assert again.to_dict() == candidates.to_dict()


def _key_of(scene):
    return scene.id, scene.sensor, scene.collection


def _key(pair):
    return (*_key_of(pair.optical), *_key_of(pair.sar))


# --- candidates, wishes --------------------------------------------------------------------------


def candidates(optical_scenes, sar_scenes, *, pin=None, exclude=None, around=None, **limits):
    terms = Terms(
        aoi=AREA, choice=Choice.of(pin, exclude),
        around=parse_around(around) if around else None, **limits,
    )  # fmt: skip
    return candidates_of({"optical": optical_scenes, "sar": sar_scenes}, terms)


def test_a_rejected_candidate_has_the_first_reason_only(tmp_path):
    empty = optical("empty", assets=scl_file(tmp_path / "scl.tif", np.zeros((40, 40))))
    far = sar("far", at=NOON + 9 * DAY, footprint=box(20, 20, 21, 21))
    elsewhere = sar("elsewhere", footprint=box(9, 44, 10.02, 46))
    half = optical("half", footprint=box(10.02, 44, 11, 46))
    cloudy = optical("cloudy", cloud=45.0)
    found = candidates([cloudy, half, empty], [far, elsewhere, sar("s")], exclude="s")
    assert not found.pairs
    reasons = {(r.optical.id, r.sar.id): r.reason for r in found.rejected}
    assert len(reasons) == 9
    assert reasons["cloudy", "far"] == (
        "In cloudy, cloud is 45 % in the whole scene, beyond max_cloud of 20."
    )
    assert reasons["half", "far"] == "The gap is 9.0 days, beyond max_gap of 6.0 days."
    assert reasons["half", "elsewhere"] == "The footprints do not meet inside the AOI."
    assert reasons["empty", "far"] == "No pixel of the AOI was observed in empty."
    assert reasons["empty", "s"] == reasons["cloudy", "s"] == "Excluded by the user: s."


def test_one_sensor_has_rejected_candidates_too():
    terms = Terms(aoi=AREA)
    scenes = [
        optical("clear"),
        optical("cloudy", cloud=90),
        optical("off", footprint=FOOTPRINTS[3]),
    ]
    found = candidates_of({"optical": scenes}, terms)
    assert names(found.pairs) == [("clear",)]
    assert {r.optical.id: r.reason.split(",")[0] for r in found.rejected} == {
        "cloudy": "In cloudy",
        "off": "The footprint does not meet inside the AOI.",
    }
    assert found.rejected[0].sar is None


def test_a_pinned_scene_is_admitted_beyond_the_limits_and_that_is_said():
    scenes = [optical("clear"), optical("cloudy", cloud=45.0)]
    radars = [sar("near"), sar("far", at=NOON + 9 * DAY)]
    found = candidates(scenes, radars, pin="cloudy", exclude=["near"])
    (pair,) = found.pairs
    assert names([pair]) == [("cloudy", "far")]
    assert pair.overrides == {"pin": ("cloudy",), "exclude": ("near",)}
    assert "The gap is beyond max_gap of 6.0 days: a scene is pinned." in pair.reasons
    assert (
        "Pinned by the user: cloudy, although cloud is 45 % in the whole scene, beyond max_cloud"
        " of 20." in pair.reasons
    )
    assert pair.reasons[-1] == "Excluded by the user: near."
    assert pair.cloud_in_aoi == 45
    assert {r.reason for r in found.rejected} == {
        "Excluded by the user: near.",
        "Not among the scenes that the user pinned: clear.",
    }


def test_pins_of_both_sensors_leave_their_combinations():
    scenes, radars = [optical(f"o{i}") for i in range(3)], [sar(f"s{i}") for i in range(3)]
    found = candidates(scenes, radars, pin=["o1", "s0", "s2"])
    assert names(found.pairs) == [("o1", "s0"), ("o1", "s2")]
    assert not any("beyond" in reason for pair in found.pairs for reason in pair.reasons)


def test_masks_of_scenes_out_of_question_are_not_read(monkeypatch):
    read = []
    monkeypatch.setattr("earthmind_lab.data.looks.read_mask", lambda s, *_: read.append(s.id))
    scenes = [optical(f"o{i}") for i in range(4)]
    candidates(scenes, [sar()], exclude=["o0", "o1"])
    assert sorted(read) == ["o2", "o3"]
    read.clear()
    candidates(scenes, [sar()], pin="o1")
    assert read == ["o1"]


def test_without_a_wish_nothing_is_recorded():
    (pair,) = rank_pairs([optical()], [sar()], AREA)
    assert pair.overrides == {}
    assert "A" not in pair.factors


def test_around_a_date_the_nearer_pair_wins():
    days = [0, 3, 8]
    scenes = [optical(f"o{d}", at=NOON + d * DAY) for d in days]
    radars = [sar(f"s{d}", at=NOON + d * DAY) for d in days]
    limits = {"max_gap": timedelta(hours=1), "purpose": "flood"}
    found = candidates(scenes, radars, around="2024-05-03", **limits)
    assert names(found.pairs) == [("o3", "s3"), ("o0", "s0"), ("o8", "s8")]
    near, before, _ = found.pairs
    assert near.factors["A"] == pytest.approx(
        math.exp(-0.5)
    )  # noon of the 4th, midnight of the 3rd
    assert near.score == pytest.approx(100 * near.factors["A"])
    assert near.reasons[0] == "The middle of the pair lies 12.0 hours after 2024-05-03."
    assert before.reasons[0] == "The middle of the pair lies 36.0 hours before 2024-05-03."
    (same, *_) = candidates(scenes, radars, around="2024-05-04", **limits).pairs
    assert same.factors["A"] == 1
    assert same.reasons[0] == "The middle of the pair lies within 2024-05-04."
    (instant, *_) = candidates(scenes, radars, around="2024-05-04T18:00+06:00", **limits).pairs
    assert instant.reasons[0] == "The middle of the pair lies within 2024-05-04T12:00:00Z."


def test_the_time_of_a_pair_is_the_middle_of_both():
    found = candidates([optical()], [sar(at=NOON + DAY, until=NOON + 3 * DAY)], around="2024-05-10")
    # (1 May noon + 3 May noon) / 2 = 2 May noon; 10 May begins 7.5 days later.
    assert found.pairs[0].factors["A"] == pytest.approx(math.exp(-7.5 / 5))


@pytest.mark.parametrize(("pin", "exclude"), [("a", "a"), ([1], None), ([""], None), ("", None)])
def test_wishes_that_make_no_sense(pin, exclude):
    with pytest.raises(SearchError):
        Choice.of(pin, exclude)


def test_candidates_are_shown_as_text_never_as_html():
    found = candidates([optical("<b>o</b>"), optical("x", cloud=99)], [sar("<i>")])
    html = found._repr_html_()
    assert "&lt;b&gt;o&lt;/b&gt; + &lt;i&gt;: score 100.0" in html
    assert "<b>" not in html and "<i>" not in html
    assert "beyond max_cloud" in html


def test_many_scenes_of_two_collections_may_share_an_id():
    twins = [optical("o", collection=name) for name in ("b", "a")]
    pairs = rank_pairs(twins, [sar()], AREA)
    assert [pair.optical.collection for pair in pairs] == ["a", "b"]
