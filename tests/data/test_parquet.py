"""stac-geoparquet: the same scenes as from the catalog on disk, read no further than needed."""

from __future__ import annotations

import builtins
import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from earthmind_lab.aoi import AOI
from earthmind_lab.data import parquet
from earthmind_lab.data.catalogs import open_catalog
from earthmind_lab.data.parquet import ParquetCatalog
from earthmind_lab.data.search import search_pairs
from earthmind_lab.errors import CatalogUnavailable, NoScenesFound
from tests.sample_items import SAMPLES, sample_items, write_parquet

SPAIN = AOI.from_bbox(-0.775, 38.09, -0.745, 38.12)
DATES = "2019-09-15/2019-09-20"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The embedded catalog in one file, three rows to a row group."""
    path = tmp_path_factory.mktemp("parquet") / "items.parquet"
    table = pq.read_table(write_parquet(sample_items(str(SAMPLES)), path))
    pq.write_table(table, path, row_group_size=3)
    return path


def ids(scenes):
    return [(scene.id, scene.sensor) for scene in scenes]


@pytest.mark.parametrize("aoi", [None, SPAIN])
@pytest.mark.parametrize("start", [None, datetime(2018, 1, 1, tzinfo=UTC)])
@pytest.mark.parametrize("end", [None, datetime(2019, 12, 31, tzinfo=UTC)])
@pytest.mark.parametrize("modality", [None, "sar", "sentinel-2-l2a"])
def test_it_finds_what_the_catalog_on_disk_finds(file, aoi, start, end, modality):
    here = open_catalog("sample").search(aoi, start, end, modality)
    there = open_catalog(file).search(aoi, start, end, modality)
    assert ids(there) == ids(here)
    assert [s.assets for s in there] == [s.assets for s in here]
    assert [(s.start, s.end, s.orbit, s.processing, s.cloud_cover) for s in there] == [
        (s.start, s.end, s.orbit, s.processing, s.cloud_cover) for s in here
    ]


def test_it_gives_the_pairs_of_the_catalog_on_disk(file):
    here, there = (search_pairs(SPAIN, DATES, catalog=each) for each in ("sample", file))
    assert [pair.to_dict() for pair in there] == [pair.to_dict() for pair in here]
    assert there[0].catalog == str(file)


def test_only_rows_that_can_match_become_items(file, monkeypatch):
    seen = []

    def count(self, batch):
        seen.append(batch.num_rows)
        return read(self, batch)

    read, _ = ParquetCatalog._batch, monkeypatch.setattr(ParquetCatalog, "_batch", count)
    found = open_catalog(file).search(SPAIN, *(datetime(2019, 9, d, tzinfo=UTC) for d in (15, 20)))
    assert sum(seen) == len({scene.id for scene in found}) == 2


def test_a_scene_is_found_by_its_id(file):
    (scene,) = open_catalog("sample").search(SPAIN, modality="sar")
    assert ids(open_catalog(file).find(scene.id)) == ids([scene])
    assert open_catalog(file).find("nowhere") == []


def test_hrefs_start_at_the_folder_of_the_file(tmp_path):
    file = write_parquet([item("i", href="./red.tif")], tmp_path / "items.geoparquet")
    (scene,) = open_catalog(file).search()
    assert scene.assets == {"red": str(tmp_path / "red.tif")}


def test_a_column_of_the_others_says_nothing_of_an_item(tmp_path):
    """A table gives every row every column: `sar:…` of one item must not make radar of another."""
    both = [
        item("optical"),
        item("sar", band="vv", **{"sar:frequency_band": "C", "constellation": "sentinel-1"}),
    ]
    found = open_catalog(write_parquet(both, tmp_path / "items.parquet")).search()
    assert [(scene.id, scene.modality) for scene in found] == [
        ("optical", "optical"),
        ("sar", "sar"),
    ]
    assert "sar:frequency_band" not in found[0].items[0]["properties"]


def test_a_box_across_the_antimeridian_is_looked_at(tmp_path):
    """Its bbox runs from 179 to -179, and says xmin > xmax."""
    east = [[[179, -17], [180, -17], [180, -16], [179, -16], [179, -17]]]
    west = [[[-180, -17], [-179, -17], [-179, -16], [-180, -16], [-180, -17]]]
    fiji = item("fiji") | {
        "bbox": [179, -17, -179, -16],
        "geometry": {"type": "MultiPolygon", "coordinates": [east, west]},
    }
    catalog = open_catalog(write_parquet([fiji], tmp_path / "items.parquet"))
    for lon in (-179.6, 179.4):
        assert catalog.search(AOI.from_bbox(lon, -16.8, lon + 0.2, -16.6))
    assert not catalog.search(AOI.from_bbox(10, -16.8, 10.2, -16.6))


def test_an_unknown_time_is_an_interval(tmp_path):
    span = {"datetime": None, "start_datetime": "2024-05-01T00:00:00Z",
            "end_datetime": "2024-05-31T00:00:00Z"}  # fmt: skip
    rows = [item("day"), item("month", **span)]
    catalog = open_catalog(write_parquet(rows, tmp_path / "items.parquet"))
    start, end = datetime(2024, 5, 20, tzinfo=UTC), datetime(2024, 5, 21, tzinfo=UTC)
    assert [scene.id for scene in catalog.search(start=start, end=end)] == ["month"]


def test_one_broken_row_costs_nothing_else(tmp_path, caplog):
    table = pq.read_table(
        write_parquet([item("a"), item("b"), item("c")], tmp_path / "whole.parquet")
    )
    outlines = table["geometry"].to_pylist()
    outlines[1] = b"\x01\x03\x00"
    place = table.schema.get_field_index("geometry")
    broken = table.set_column(place, "geometry", pa.array(outlines, pa.binary()))
    pq.write_table(broken, tmp_path / "items.parquet")
    catalog = open_catalog(tmp_path / "items.parquet")
    assert [scene.id for scene in catalog.search()] == ["a", "c"]
    assert "A row of items.parquet is left out" in catalog.problems[0]
    assert "left out" in caplog.text


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\xff" * 64 + b"PAR1", b"{}"])
def test_files_that_are_no_parquet(tmp_path, content):
    path = tmp_path / "items.parquet"
    path.write_bytes(content)
    with pytest.raises(CatalogUnavailable, match="can't be read"):
        open_catalog(path)


def test_a_file_cut_short_is_unavailable(tmp_path, file):
    body = file.read_bytes()
    path = tmp_path / "items.parquet"
    path.write_bytes(body[: len(body) // 2] + bytes(len(body) // 2 - 4000) + body[-4000:])
    with pytest.raises(CatalogUnavailable, match="can't be read"):
        open_catalog(path).search()


def test_a_table_of_something_else(tmp_path):
    pq.write_table(pa.table({"id": ["a"], "price": [5]}), tmp_path / "prices.parquet")
    with pytest.raises(CatalogUnavailable, match="no STAC items") as caught:
        open_catalog(tmp_path / "prices.parquet")
    assert caught.value.found == "no column assets or geometry"


def test_a_table_of_other_types_is_no_crash(tmp_path):
    rows = {"id": [5], "geometry": ["POINT (1 2)"], "assets": ["red"], "datetime": ["2024-05-01"],
            "bbox": [[1.0, 2.0, 3.0, 4.0]]}  # fmt: skip
    pq.write_table(pa.table(rows), tmp_path / "odd.parquet")
    catalog = open_catalog(tmp_path / "odd.parquet")
    assert catalog.search(SPAIN, datetime(2024, 1, 1, tzinfo=UTC)) == []
    assert len(catalog.problems) == 1


def test_what_to_install_is_named(file, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("stac_geoparquet"):
            raise ImportError(f"No module named {name!r}")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CatalogUnavailable) as caught:
        open_catalog(file)
    assert caught.value.change == "pip install 'earthmind-lab[parquet]'"


def test_a_large_file_is_not_read_whole_for_the_nearest_place(file, monkeypatch):
    elsewhere = AOI.from_bbox(100, -5, 100.02, -4.98)
    with pytest.raises(NoScenesFound, match="km away"):
        search_pairs(elsewhere, DATES, catalog=file)
    monkeypatch.setattr(parquet, "LISTED", 10)
    with pytest.raises(NoScenesFound, match="has no optical and SAR scenes of the AOI"):
        search_pairs(elsewhere, DATES, catalog=file)


def item(name, *, band="red", href="https://x.org/a.tif", **properties):
    ring = [[10, 45], [11, 45], [11, 46], [10, 46], [10, 45]]
    data = {
        "type": "Feature", "stac_version": "1.0.0", "id": name, "collection": "c",
        "bbox": [10, 45, 11, 46], "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"datetime": "2024-05-01T10:00:00Z", **properties},
        "assets": {band: {"href": href, "roles": ["data"]}}, "links": [],
    }  # fmt: skip
    return json.loads(json.dumps(data))
