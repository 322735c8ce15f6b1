from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import box, mapping

from earthmind_lab.aoi import AOI
from earthmind_lab.data.catalogs import open_catalog
from earthmind_lab.data.limits import limits_of
from earthmind_lab.data.samples import place as place_named
from earthmind_lab.data.samples import places
from earthmind_lab.data.search import (
    parse_dates,
    parse_gap,
    parse_sensors,
    search_candidates,
    search_pairs,
    search_scenes,
)
from earthmind_lab.errors import (
    AOIError,
    CatalogUnavailable,
    EarthMindError,
    NoPairFound,
    NoScenesFound,
    SearchError,
)

HERE = (10.0, 45.0, 10.02, 45.02)
PLACE = box(9.9, 44.9, 10.1, 45.1)


def item(name, when, keys, *, place=PLACE, **properties):
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": mapping(place),
        "properties": {"datetime": when, **properties},
        "assets": {key: {"href": f"./{name}_{key}.tif"} for key in keys},
        "links": [],
    }


def s2(name, when, cloud=5.0, **rest):
    return item(name, when, ["red", "green", "blue", "nir"], **{"eo:cloud_cover": cloud}, **rest)


def s1(name, when, **rest):
    return item(name, when, ["vv", "vh"], **{"sar:frequency_band": "C"}, **rest)


@pytest.fixture
def catalog(tmp_path):
    def write(*items):
        links = []
        for each in items:
            (tmp_path / f"{each['id']}.json").write_text(json.dumps(each))
            links.append({"rel": "item", "href": f"./{each['id']}.json"})
        root = {"type": "Catalog", "id": "c", "stac_version": "1.0.0", "links": links}
        path = tmp_path / "catalog.json"
        path.write_text(json.dumps(root))
        return path

    return write


def ids(pairs):
    return [tuple(scene.id for scene in pair.scenes) for pair in pairs]


def test_pairs_come_best_first_with_factors_and_reasons(catalog):
    path = catalog(
        s2("o1", "2024-05-01T10:00:00Z"),
        s1("near", "2024-05-01T17:00:00Z"),
        s1("far", "2024-05-04T17:00:00Z"),
    )
    pairs = search_pairs(HERE, "2024-05-01/2024-05-05", catalog=path)
    assert ids(pairs) == [("o1", "near"), ("o1", "far")]
    best = pairs[0]
    assert best.gap == timedelta(hours=7)
    assert best.factors["V"] == pytest.approx(0.95)
    assert best.score == pytest.approx(100 * 0.95 * 2.718281828 ** (-7 / 24 / 5), rel=1e-6)
    assert best.cloud_in_aoi == 5.0
    assert best.overlap == 1.0
    assert any("7.0 hours after" in reason for reason in best.reasons)
    assert any("whole scene's 5 %" in reason for reason in best.reasons)
    assert best.catalog == str(path)


def test_dates_are_inclusive_utc_days_that_hold_both_scenes(catalog):
    path = catalog(s2("o", "2024-05-01T00:00:00Z"), s1("s", "2024-05-02T23:59:59Z"))
    assert ids(search_pairs(HERE, "2024-05-01/2024-05-02", catalog=path)) == [("o", "s")]
    with pytest.raises(NoScenesFound) as caught:
        search_pairs(HERE, "2024-05-01", catalog=path)
    assert caught.value.found == "nearest SAR scene is s of 2024-05-02, 1 day outside the dates"
    assert caught.value.change == "dates='2024-05-01/2024-05-02'"


def test_an_empty_search_names_the_dates_that_would_admit_the_nearest_scene(catalog):
    path = catalog(
        s2("o", "2019-09-18T10:00:00Z"),
        s2("older", "2019-01-01T10:00:00Z"),
        s1("s", "2019-09-15T10:00:00Z"),
    )
    with pytest.raises(NoScenesFound) as caught:
        search_pairs(HERE, "2019-09-10/2019-09-15", catalog=path)
    assert "nearest optical scene is o of 2019-09-18, 3 days outside" in str(caught.value)
    assert caught.value.change == "dates='2019-09-10/2019-09-18'"
    assert search_pairs(HERE, "2019-09-10/2019-09-18", catalog=path)


def test_a_gap_too_long_names_the_gap_that_would_do(catalog):
    path = catalog(s2("o", "2024-05-01T00:00:00Z"), s1("s", "2024-05-08T04:48:00Z"))
    with pytest.raises(NoPairFound) as caught:
        search_pairs(HERE, "2024-05-01/2024-05-09", catalog=path)
    assert "smallest gap is 7.2 days" in str(caught.value)
    assert caught.value.change == "max_gap='8 days'"
    assert search_pairs(HERE, "2024-05-01/2024-05-09", catalog=path, max_gap="8 days")


def test_a_short_gap_is_named_in_hours(catalog):
    path = catalog(s2("o", "2024-05-01T00:00:00Z"), s1("s", "2024-05-01T03:30:00Z"))
    with pytest.raises(NoPairFound) as caught:
        search_pairs(HERE, "2024-05-01", catalog=path, max_gap="3 hours")
    assert caught.value.change == "max_gap='4 hours'"
    assert search_pairs(HERE, "2024-05-01", catalog=path, max_gap="4 hours")


def test_too_much_cloud_names_the_limit_that_would_do(catalog):
    path = catalog(s2("o", "2024-05-01T00:00:00Z", 63.2), s1("s", "2024-05-01T03:30:00Z"))
    with pytest.raises(NoPairFound) as caught:
        search_pairs(HERE, "2024-05-01", catalog=path)
    assert "cloud is 63.2 %" in str(caught.value)
    assert caught.value.change == "max_cloud=64"
    assert search_pairs(HERE, "2024-05-01", catalog=path, max_cloud=64)


def test_several_broken_limits_are_all_named_and_together_admit(catalog):
    path = catalog(s2("o", "2024-05-01T00:00:00Z", 80), s1("s", "2024-05-20T00:00:00Z"))
    with pytest.raises(NoScenesFound) as caught:
        search_pairs(HERE, "2024-05-02/2024-05-03", catalog=path)
    change = caught.value.change
    assert change == "dates='2024-05-01/2024-05-20', max_gap='19 days', max_cloud=80"
    assert search_pairs(
        HERE, "2024-05-01/2024-05-20", catalog=path, max_gap="19 days", max_cloud=80
    )


def test_the_suggestion_breaks_the_fewest_limits(catalog):
    path = catalog(
        s2("cloudy", "2024-05-01T00:00:00Z", 21),
        s2("clear_but_outside", "2024-05-30T00:00:00Z", 1),
        s1("s", "2024-05-02T00:00:00Z"),
    )
    with pytest.raises(NoPairFound) as caught:
        search_pairs(HERE, "2024-05-01/2024-05-02", catalog=path)
    assert caught.value.change == "max_cloud=21"


def test_an_aoi_outside_all_footprints_names_the_nearest_place(catalog):
    path = catalog(s2("o", "2024-05-01T00:00:00Z"), s1("s", "2024-05-01T03:30:00Z"))
    with pytest.raises(NoScenesFound) as caught:
        search_pairs((12.0, 45.0, 12.01, 45.01), "2024-05-01", catalog=path)
    text = str(caught.value)
    assert "outside all 2 optical and SAR footprints" in text
    assert "150 km away" in text
    assert "9.9000,44.9000,10.1000,45.1000" in text


def test_the_nearest_place_has_both_sensors(catalog):
    path = catalog(
        s2("alone", "2024-05-01T00:00:00Z", place=box(11.5, 44.9, 11.9, 45.1)),
        s2("o", "2024-05-01T00:00:00Z"),
        s1("s", "2024-05-01T03:30:00Z"),
    )
    with pytest.raises(NoScenesFound) as caught:
        search_pairs((12.0, 45.0, 12.01, 45.01), "2024-05-01", catalog=path)
    assert "o + s" in str(caught.value)


def test_a_place_without_one_sensor_offers_the_other(catalog):
    path = catalog(
        s2("o", "2024-05-01T00:00:00Z"),
        s1("s", "2024-05-01T03:30:00Z", place=box(20, 44, 21, 45)),
    )
    with pytest.raises(NoScenesFound) as caught:
        search_pairs(HERE, "2024-05-01", catalog=path)
    assert "outside all 1 SAR footprints" in str(caught.value)
    assert caught.value.change.startswith("sensors='optical'")
    (pair,) = search_pairs(HERE, "2024-05-01", catalog=path, sensors="optical")
    assert pair.sar is None


def test_a_catalog_without_sar_says_so(catalog):
    path = catalog(s2("o", "2024-05-01T00:00:00Z"))
    with pytest.raises(NoScenesFound, match="holds no SAR scene") as caught:
        search_pairs(HERE, "2024-05-01", catalog=path)
    assert caught.value.change == "sensors='optical'"


def test_footprints_that_meet_the_aoi_but_not_each_other_are_no_pair(catalog):
    path = catalog(
        s2("o", "2024-05-01T00:00:00Z", place=box(9.9, 44.9, 10.01, 45.1)),
        s1("s", "2024-05-01T03:30:00Z", place=box(10.01, 44.9, 10.1, 45.1)),
    )
    with pytest.raises(NoPairFound, match="no two footprints meet"):
        search_pairs(HERE, "2024-05-01", catalog=path)


@pytest.mark.parametrize(
    ("sensors", "expected"),
    [("optical", ("o", None)), ("sar", (None, "s")), (["sar"], (None, "s"))],
)
def test_one_sensor_gives_pairs_with_one_scene(catalog, sensors, expected):
    path = catalog(s2("o", "2024-05-01T00:00:00Z"), s1("s", "2024-05-01T03:30:00Z"))
    (pair,) = search_pairs(HERE, "2024-05-01", catalog=path, sensors=sensors)
    data = pair.to_dict()
    assert (data["optical"], data["sar"]) == expected
    assert data["gap_hours"] is None
    assert data["factors"]["T"] == 1
    assert data["score"] == pytest.approx(95 if pair.optical else 100)
    assert (data["cloud_in_aoi"] is None) == (pair.optical is None)


def test_one_sensor_misses_are_no_scenes_with_the_value(catalog):
    path = catalog(s2("o", "2024-05-01T00:00:00Z", 50))
    with pytest.raises(NoScenesFound) as caught:
        search_pairs(HERE, "2024-05-01", catalog=path, sensors="optical")
    assert caught.value.change == "max_cloud=50"
    with pytest.raises(NoScenesFound) as caught:
        search_pairs(HERE, "2024-05-03", catalog=path, sensors="optical", max_cloud=60)
    assert caught.value.change == "dates='2024-05-01/2024-05-03'"


def test_an_unknown_time_must_meet_the_dates(catalog):
    lost = s2("o", None, start_datetime="2024-05-01T00:00:00Z", end_datetime="2024-05-04T00:00:00Z")
    path = catalog(lost, s1("s", "2024-05-06T00:00:00Z"))
    (pair,) = search_pairs(HERE, "2024-05-03/2024-05-06", catalog=path)
    assert pair.gap_hours == [48.0, 120.0]
    with pytest.raises(NoScenesFound):
        search_pairs(HERE, "2024-05-05/2024-05-06", catalog=path)


def test_max_gap_is_compared_with_the_smallest_possible_gap(catalog):
    lost = s2("o", None, start_datetime="2024-05-01T00:00:00Z", end_datetime="2024-05-04T00:00:00Z")
    path = catalog(lost, s1("s", "2024-05-06T00:00:00Z"))
    assert search_pairs(HERE, "2024-05-01/2024-05-06", catalog=path, max_gap="2 days")
    with pytest.raises(NoPairFound) as caught:
        search_pairs(HERE, "2024-05-01/2024-05-06", catalog=path, max_gap="47 hours")
    assert caught.value.change == "max_gap='2 days'"


def test_what_could_not_be_read_is_told_with_an_empty_search(catalog, tmp_path):
    path = catalog(s2("o", "2024-05-01T00:00:00Z"), s1("s", "2024-05-01T03:00:00Z"))
    (tmp_path / "s.json").write_text("{")
    with pytest.raises(NoScenesFound, match=r"1 of its entries can't be read.*s\.json"):
        search_pairs(HERE, "2024-05-01", catalog=path)


@pytest.mark.parametrize(
    "dates",
    ["2024-05-02/2024-05-01", "yesterday", "", "/", "2024-05-01/", "a/b/c", "2024-13-01"],
)
def test_dates_that_make_no_sense_are_refused_with_the_next_step(dates):
    with pytest.raises(SearchError) as caught:
        search_pairs(HERE, dates, catalog="/nowhere")
    assert caught.value.change
    assert "dates=" in caught.value.change


def test_reversed_dates_are_offered_the_right_way_round():
    with pytest.raises(SearchError, match="reversed") as caught:
        parse_dates("2024-05-02/2024-05-01")
    assert caught.value.change == "dates='2024-05-01/2024-05-02'"


@pytest.mark.parametrize(
    "dates",
    [
        "2024-05-01/2024-05-02",
        ("2024-05-01", date(2024, 5, 2)),
        [
            datetime(2024, 5, 1, 23),  # noqa: DTZ001 - naive times are taken as UTC
            datetime(2024, 5, 2, tzinfo=UTC),
        ],
        "2024-05-01T10:00:00Z/2024-05-02T01:00:00Z",
        (datetime.fromisoformat("2024-05-02T01:00:00+05:00"), "2024-05-02"),
    ],
)
def test_dates_in_every_form(dates):
    assert parse_dates(dates) == (date(2024, 5, 1), date(2024, 5, 2))


def test_one_day_is_both_ends():
    assert parse_dates(date(2024, 5, 1)) == (date(2024, 5, 1), date(2024, 5, 1))


@pytest.mark.parametrize("dates", [None, 5, (), ("2024-05-01", None), (1, 2, 3)])
def test_other_things_are_not_dates(dates):
    with pytest.raises(SearchError):
        parse_dates(dates)


@pytest.mark.parametrize(
    ("gap", "hours"),
    [
        ("6 days", 144),
        ("1 day", 24),
        ("36 hours", 36),
        ("36h", 36),
        ("1.5d", 36),
        ("1 day 12 hours", 36),
        ("90 min", 1.5),
        ("2 weeks", 336),
        ("0 hours", 0),
        (timedelta(hours=5), 5),
    ],
)
def test_gaps(gap, hours):
    assert parse_gap(gap) == timedelta(hours=hours)


@pytest.mark.parametrize(
    "gap", ["", "6", "-1 day", "six days", "6 parsecs", 6, None, timedelta(-1), "9e99 days"]
)
def test_gaps_that_make_no_sense(gap):
    with pytest.raises(SearchError) as caught:
        parse_gap(gap)
    assert "6 days" in caught.value.change


def test_a_gap_beyond_all_time_is_refused():
    with pytest.raises(SearchError):
        parse_gap("9" * 30 + " days")


@pytest.mark.parametrize("sensors", ["", "radar", [], "optical,lidar"])
def test_sensors_that_make_no_sense(sensors):
    with pytest.raises(SearchError):
        parse_sensors(sensors)


@pytest.mark.parametrize("cloud", [-1, 101, float("nan"), "20", None, True])
def test_cloud_that_makes_no_sense(cloud):
    with pytest.raises(SearchError, match="max_cloud"):
        search_pairs(HERE, "2024-05-01", catalog="/nowhere", max_cloud=cloud)


def test_an_unknown_purpose_is_refused(catalog):
    path = catalog(s2("o", "2024-05-01T00:00:00Z"), s1("s", "2024-05-01T03:30:00Z"))
    with pytest.raises(SearchError, match="purpose"):
        search_pairs(HERE, "2024-05-01", catalog=path, purpose="war")


def test_a_flood_devalues_a_gap_faster(catalog):
    path = catalog(s2("o", "2024-05-01T00:00:00Z", 0), s1("s", "2024-05-02T00:00:00Z"))

    def score(purpose):
        (pair,) = search_pairs(HERE, "2024-05-01/2024-05-02", catalog=path, purpose=purpose)
        return pair.score

    assert score("flood") == pytest.approx(36.79, abs=0.01)
    assert score("default") == pytest.approx(81.87, abs=0.01)
    assert score("settlement") == pytest.approx(95.12, abs=0.01)


def test_a_bad_aoi_is_an_aoi_error(catalog):
    with pytest.raises(AOIError):
        search_pairs((10, 45, 9, 46), "2024-05-01", catalog=catalog())


def test_catalogs_are_tried_in_order(catalog, tmp_path):
    path = catalog(s2("o", "2024-05-01T00:00:00Z"), s1("s", "2024-05-01T03:30:00Z"))
    assert search_pairs(HERE, "2024-05-01", catalog=["/nowhere.json", path])
    with pytest.raises(CatalogUnavailable):
        search_pairs(HERE, "2024-05-01", catalog=["/nowhere.json"])
    with pytest.raises(SearchError):
        search_pairs(HERE, "2024-05-01", catalog=[])


def test_a_catalog_per_sensor(catalog, tmp_path):
    path = catalog(s2("o", "2024-05-01T00:00:00Z"), s1("s", "2024-05-01T03:30:00Z"))
    source = {"optical": path, "sar": open_catalog(path)}
    assert ids(search_pairs(HERE, "2024-05-01", catalog=source)) == [("o", "s")]
    for odd in ({"optical": [path], "sar": path}, 5):
        with pytest.raises(SearchError, match="is no catalog"):
            search_pairs(HERE, "2024-05-01", catalog=odd)
    with pytest.raises(NoScenesFound, match="No catalog was named for sar"):
        search_pairs(HERE, "2024-05-01", catalog={"optical": path})
    with pytest.raises(SearchError, match="keys"):
        search_pairs(HERE, "2024-05-01", catalog={"radar": path})


def test_scenes_are_ordered_by_time_whatever_their_cloud(catalog):
    path = catalog(
        s2("o", "2024-05-03T00:00:00Z", 99),
        s1("s", "2024-05-01T03:30:00Z"),
        s2("late", "2024-06-03T00:00:00Z"),
    )
    scenes = search_scenes(HERE, "2024-05-01/2024-05-05", catalog=path)
    assert [scene.id for scene in scenes] == ["s", "o"]
    (scene,) = search_scenes(HERE, "2024-05-01/2024-05-05", catalog=path, sensors="sar")
    assert scene.modality == "sar"
    with pytest.raises(NoScenesFound) as caught:
        search_scenes(HERE, "2024-05-10/2024-05-11", catalog=path)
    assert caught.value.change == "dates='2024-05-03/2024-05-11'"
    with pytest.raises(NoScenesFound, match="outside all 3"):
        search_scenes((50, 50, 50.1, 50.1), "2024-05-10", catalog=path)


@pytest.mark.parametrize("place", places(), ids=lambda place: place.name)
def test_every_place_of_the_embedded_catalog_is_found(place):
    gap = place.max_gap or "6 days"
    pairs = search_pairs(place.bbox, place.dates, sensors=place.sensors, max_gap=gap)
    for pair in pairs:
        assert [scene.modality for scene in pair.scenes] == list(place.sensors)
        assert pair.overlap == 1.0
        assert pair.catalog == "sample"
        assert pair.reasons
        json.dumps(pair.to_dict())


def test_unknown_times_and_shifts_of_the_embedded_catalog_are_said():
    spain = search_pairs((-0.775, 38.09, -0.745, 38.12), "2019-09-15/2019-09-20")[0]
    assert isinstance(spain.gap, tuple)
    assert sum("is unknown" in reason for reason in spain.reasons) == 3
    assert spain.cloud_in_aoi < 1
    punjab = place_named("punjab")
    pair = search_pairs(punjab.bbox, punjab.dates)[0]
    assert sum("geolocation error of 4 px" in reason for reason in pair.reasons) == 2


def test_every_error_is_of_our_tree(catalog):
    for catalog_like in ("/nowhere", "https://stac.example.com/v1", "planetary-computer", ""):
        with pytest.raises(EarthMindError):
            search_pairs(AOI.from_bbox(*HERE), "2024-05-01", catalog=catalog_like)


# --- a date, pins and exclusions, candidates -----------------------------------------------------


@pytest.mark.parametrize(("purpose", "days"), [("flood", 3), ("default", 10), ("settlement", 60)])
def test_around_a_date_the_purpose_chooses_the_days(catalog, purpose, days):
    edge = datetime(2024, 5, 1, 10, tzinfo=UTC) - timedelta(days=days)
    path = catalog(
        s2("o", edge.isoformat()), s1("s", edge.isoformat()),
        s2("late", "2024-09-01T10:00:00Z"), s1("later", "2024-09-01T11:00:00Z"),
    )  # fmt: skip
    (pair,) = search_pairs(HERE, around="2024-05-01", purpose=purpose, catalog=path)
    assert ids([pair]) == [("o", "s")]
    assert pair.factors["A"] == pytest.approx(
        2.718281828 ** (-(days - 10 / 24) / {"flood": 1, "default": 5, "settlement": 20}[purpose])
    )
    beside = (edge + timedelta(days=2 * days + 1)).date()
    with pytest.raises(NoScenesFound):
        search_pairs(HERE, around=beside, purpose=purpose, catalog=path)


def test_given_dates_are_the_days_around_a_date(catalog):
    path = catalog(
        s2("o", "2024-05-01T00:00:00Z"), s1("s", "2024-05-01T03:00:00Z"),
        s1("near", "2024-05-03T00:00:00Z"),
    )  # fmt: skip
    dates = "2024-05-01/2024-05-05"
    plain = search_pairs(HERE, dates, catalog=path)
    assert ids(plain) == [("o", "s"), ("o", "near")]
    assert all("A" not in pair.factors for pair in plain)
    asked = search_pairs(HERE, dates, around=datetime(2024, 5, 9, tzinfo=UTC), catalog=path)
    assert ids(asked) == [("o", "s"), ("o", "near")]  # 1 day nearer, but 1.9 days more of gap
    assert asked[0].score < plain[0].score


@pytest.mark.parametrize("around", ["soon", "2024-13-01", "", 5, "0001-01-01", "9999-12-31"])
def test_dates_around_which_nothing_can_be_searched(around):
    with pytest.raises(SearchError):
        search_pairs(HERE, around=around, catalog="/nowhere")


def test_without_any_dates_both_ways_are_offered():
    with pytest.raises(SearchError, match="No dates") as caught:
        search_pairs(HERE)
    assert "around=" in caught.value.change and "dates=" in caught.value.change


def test_pins_and_exclusions_reach_pairs_and_records(catalog):
    path = catalog(
        s2("clear", "2024-05-01T00:00:00Z"),
        s2("cloudy", "2024-05-02T00:00:00Z", 70.0),
        s1("s1", "2024-05-01T03:00:00Z"),
        s1("s2", "2024-05-03T03:00:00Z"),
    )
    dates = "2024-05-01/2024-05-05"
    (pair,) = search_pairs(HERE, dates, catalog=path, pin=["cloudy"], exclude="s1")
    assert ids([pair]) == [("cloudy", "s2")]
    assert pair.overrides == {"pin": ("cloudy",), "exclude": ("s1",)}
    (pair,) = search_pairs(HERE, dates, catalog=path, sensors="optical", pin="cloudy")
    assert pair.cloud_in_aoi == 70


@pytest.mark.parametrize("option", ["pin", "exclude"])
def test_an_unknown_id_names_the_nearest_ones(catalog, option):
    path = catalog(s2("S2A_32TPS_20240501", "2024-05-01T00:00:00Z"),
                   s1("s", "2024-05-01T03:00:00Z"))  # fmt: skip
    with pytest.raises(SearchError) as caught:
        search_pairs(HERE, "2024-05-01", catalog=path, **{option: "S2A_32TPS_20240502"})
    assert caught.value.found == "the nearest ids are S2A_32TPS_20240501"
    assert caught.value.change == f"{option}='S2A_32TPS_20240501'"
    with pytest.raises(SearchError, match="2 scenes with other ids"):
        search_pairs(HERE, "2024-05-01", catalog=path, **{option: "zzz"})


def test_when_everything_is_excluded_that_is_the_reason(catalog):
    path = catalog(s2("o", "2024-05-01T00:00:00Z"), s1("s", "2024-05-01T03:00:00Z"))
    with pytest.raises(NoPairFound, match=r"Every SAR scene .* was excluded") as caught:
        search_pairs(HERE, "2024-05-01", catalog=path, exclude="s")
    assert caught.value.found == "exclude=s"
    with pytest.raises(NoPairFound) as caught:
        search_pairs(HERE, "2024-05-01", catalog=path, exclude=["s", "o"])


def test_a_pinned_scene_without_a_partner_names_the_nearest_one(catalog):
    path = catalog(
        s2("pinned", "2024-05-01T00:00:00Z", 99.0),
        s2("other", "2024-05-03T00:00:00Z"),
        s1("s", "2024-05-03T03:00:00Z"),
    )
    with pytest.raises(NoScenesFound) as caught:
        search_pairs(HERE, "2024-05-01/2024-05-02", catalog=path, pin="pinned")
    assert caught.value.change == "dates='2024-05-01/2024-05-03'"
    assert "cloud" not in caught.value.found


def test_candidates_are_the_pairs_and_the_rejected_ones(catalog):
    path = catalog(
        s2("o", "2024-05-01T00:00:00Z"),
        s2("cloudy", "2024-05-01T00:00:00Z", 70.0),
        s1("s", "2024-05-01T03:00:00Z"),
    )
    found = search_candidates(HERE, "2024-05-01", catalog=path)
    pairs = search_pairs(HERE, "2024-05-01", catalog=path)
    assert [pair.to_dict() for pair in found.pairs] == [pair.to_dict() for pair in pairs]
    (rejected,) = found.rejected
    assert rejected.to_dict() == {
        "optical": "cloudy",
        "sar": "s",
        "reason": "In cloudy, cloud is 70 % in the whole scene, beyond max_cloud of 20.",
    }
    with pytest.raises(NoPairFound, match="max_cloud"):
        search_candidates(HERE, "2024-05-01", catalog=path, exclude="o")


def test_the_suns_zenith_stands_in_for_its_elevation(catalog):
    path = catalog(
        s2("o", "2024-05-01T00:00:00Z", **{"s2:mean_solar_zenith": 75.0}),
        s1("s", "2024-05-01T03:00:00Z"),
    )
    (pair,) = search_pairs(HERE, "2024-05-01", catalog=path)
    assert pair.factors["low_sun"] == 0.9


def test_latitude_before_longitude_is_seen():
    with pytest.raises(NoScenesFound, match="Try: longitude before latitude"):
        search_pairs((38.09, -0.775, 38.12, -0.745), "2019-09-15/2019-09-20", catalog="sample")
    with pytest.raises(NoScenesFound) as elsewhere:
        search_pairs((10, 50, 10.01, 50.01), "2019-09-15/2019-09-20", catalog="sample")
    assert "latitude" not in str(elsewhere.value)


@given(
    st.integers(0, 10**9), st.floats(0, 100),
    st.sampled_from(["sar", "optical,sar", "hls-l30,sar"]),
    st.dates(date(1990, 1, 1), date(2030, 1, 1)), st.sampled_from([None, "2019-09-15T06:00+02:00"]),
)  # fmt: skip
def test_recorded_terms_are_what_was_asked(seconds, cloud, sensors, day, around):
    """One form, in which the same search is asked again."""
    found = limits_of((day, day), sensors, timedelta(seconds=seconds), cloud, around=around)
    again = limits_of(**found.terms)
    assert again.terms == found.terms
    assert abs(again.max_gap - found.max_gap) < timedelta(seconds=0.01)
    assert (again.first, again.last, again.max_cloud) == (day, day, cloud)
    assert (again.modalities, again.sensors) == (found.modalities, found.sensors)
    assert again.around == found.around


def test_every_pair_carries_the_terms_of_its_search_and_its_rank(catalog):
    path = catalog(
        s2("o1", "2020-06-01T10:00:00Z"), s2("o2", "2020-06-02T10:00:00Z"),
        s1("s1", "2020-06-01T18:00:00Z"), s1("s2", "2020-06-04T18:00:00Z"),
    )  # fmt: skip
    wishes = {"catalog": str(path), "exclude": ["s2", "o2"], "max_gap": "1 day"}
    (pair,) = search_pairs(HERE, "2020-06-01/2020-06-05", **wishes)
    assert pair.terms == {
        "dates": "2020-06-01/2020-06-05", "sensors": ["optical", "sar"], "max_gap": "24 hours",
        "max_cloud": 20.0, "purpose": "default", "exclude": ["o2", "s2"], "rank": 1,
    }  # fmt: skip
    found = search_candidates(HERE, "2020-06-01/2020-06-05", catalog=str(path))
    assert [each.terms["rank"] for each in found.pairs] == [1, 2, 3, 4]
