"""Vector files as areas: real files of each format, and files that mean harm."""

from __future__ import annotations

import contextlib
import http.server
import json
import sqlite3
import struct
import threading
import zipfile

import geopandas
import pytest
from shapely.geometry import LineString, MultiPolygon, Point, box, mapping

from earthmind_lab.aoi import AOI
from earthmind_lab.errors import AOIError
from earthmind_lab.vector_features import MAX_BYTES, MAX_FEATURES
from earthmind_lab.vector_files import MAX_VERTICES, features_of, layers_of

HOSTILE = "<img src=x onerror=alert(1)>"
SQUARES = [box(x, 45, x + 0.02, 45.02) for x in (15.0, 17.0, 19.0)]
NAMES = ["North field", HOSTILE, "Süd 🌊"]


def frame(names=NAMES, column="name", shapes=SQUARES):
    return geopandas.GeoDataFrame({column: names}, geometry=list(shapes), crs=4326)


def placemark(name, shape, z=""):
    points = " ".join(f"{x},{y}{z}" for x, y in shape.exterior.coords)
    ring = f"<LinearRing><coordinates>{points}</coordinates></LinearRing>"
    escaped = name.replace("<", "&lt;")
    return (
        f"<Placemark><name>{escaped}</name>"
        f"<Polygon><outerBoundaryIs>{ring}</outerBoundaryIs></Polygon></Placemark>"
    )


def kml(*inside, head=""):
    body = "".join(inside)
    text = f'<?xml version="1.0"?>{head}<kml xmlns="http://www.opengis.net/kml/2.2">'
    return f"{text}<Document><Folder>{body}</Folder></Document></kml>".encode()


def collection(shapes, **more):
    features = [
        {"type": "Feature", "properties": {"name": name}, "geometry": mapping(shape)}
        for name, shape in shapes
    ]
    return json.dumps({"type": "FeatureCollection", "features": features, **more}).encode()


def zipped(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def shapefile(folder, **options):
    frame(column="NAME").to_file(folder / "fields.shp", **options)
    held = {p.name: p.read_bytes() for p in folder.glob("fields.*")}
    return zipped(folder / "fields.zip", held)


def agree(aois, names=NAMES):
    assert [aoi.name for aoi in aois] == names
    for aoi, square in zip(aois, SQUARES, strict=True):
        assert aoi.geometry.symmetric_difference(square).area < 1e-9
        assert not aoi.geometry.has_z


@pytest.mark.parametrize("ending", ["geojson", "gpkg", "kml"])
def test_every_feature_is_an_area_of_its_own_name(tmp_path, ending):
    path = tmp_path / f"fields.{ending}"
    if ending == "kml":
        frame(column="Name").to_file(path, driver="KML")  # GDAL's own writer
    else:
        frame().to_file(path)
    agree(AOI.many_from_file(path))
    agree(AOI.many_from_file(str(path)))
    agree(AOI.many_from_file(path.read_bytes(), filename=f"Upload.{ending.upper()}"))


def test_zipped_shapefile_and_kmz(tmp_path):
    agree(AOI.many_from_file(shapefile(tmp_path)))
    places = kml(*map(placemark, NAMES, SQUARES))
    agree(AOI.many_from_file(zipped(tmp_path / "a.kmz", {"doc.kml": places})))


@pytest.mark.parametrize("crs", [32633, 3857, 3035])
def test_coordinates_of_any_crs_become_lon_lat(tmp_path, crs):
    frame().to_crs(crs).to_file(tmp_path / "a.gpkg")
    for aoi, square in zip(AOI.many_from_file(tmp_path / "a.gpkg"), SQUARES, strict=True):
        assert aoi.bounds == pytest.approx(square.bounds, abs=1e-6)
    text = frame().to_crs(crs).to_json(drop_id=True)
    old = {**json.loads(text), "crs": {"properties": {"name": f"urn:ogc:def:crs:EPSG::{crs}"}}}
    for aoi, square in zip(
        AOI.many_from_file(json.dumps(old).encode(), filename="a.json"), SQUARES, strict=True
    ):
        assert aoi.bounds == pytest.approx(square.bounds, abs=1e-6)


def test_a_crs_that_is_not_known_is_refused(tmp_path):
    odd = collection([("a", SQUARES[0])], crs={"properties": {"name": "/vsicurl/http://x/y.prj"}})
    with pytest.raises(AOIError, match="CRS that is not known"):
        AOI.many_from_file(odd, filename="a.geojson")
    with pytest.warns(UserWarning, match="crs"):
        geopandas.GeoDataFrame(geometry=SQUARES).to_file(tmp_path / "a.gpkg")
    with pytest.raises(AOIError, match="no CRS"):
        AOI.many_from_file(tmp_path / "a.gpkg")


def test_heights_are_dropped():
    aois = AOI.many_from_file(kml(placemark("a", SQUARES[0], z=",120.5")), filename="a.kml")
    assert not aois[0].geometry.has_z
    raised = {
        "type": "Polygon",
        "coordinates": [[[0, 0, 9], [0.1, 0, 9], [0.1, 0.1, 9], [0, 0, 9]]],
    }
    assert not AOI.from_geojson(raised).geometry.has_z


@pytest.mark.parametrize("column", ["name", "Name", "NAME", "title", "Title"])
def test_names_come_from_the_attributes(column):
    shapes = json.loads(frame(column=column).to_json())
    aois = AOI.many_from_file(json.dumps(shapes).encode(), filename="f.geojson")
    assert [aoi.name for aoi in aois] == NAMES


def test_features_without_a_name_are_called_after_the_file():
    data = collection([(None, SQUARES[0]), ("\x00\n ", SQUARES[1]), ("b\nc" * 50, SQUARES[2])])
    names = [aoi.name for aoi in AOI.many_from_file(data, filename="plots.geojson")]
    assert names[:2] == ["plots 1", "plots 2"]
    assert names[2].startswith("b cb c")
    assert len(names[2]) <= 80
    one = collection([(None, SQUARES[0])])
    assert AOI.many_from_file(one, filename="plots.geojson")[0].name == "plots"


def test_a_multigeometry_is_one_area_of_its_polygons():
    two = "".join(placemark("x", s).partition("</name>")[2].removesuffix("</Placemark>")
                  for s in [*SQUARES[:1], box(15.1, 45, 15.12, 45.02)])  # fmt: skip
    point = "<Point><coordinates>1,2</coordinates></Point>"
    place = f"<Placemark><name>both</name><MultiGeometry>{two}{point}</MultiGeometry></Placemark>"
    (aoi,) = AOI.many_from_file(kml(place), filename="a.kml")
    assert isinstance(aoi.geometry, MultiPolygon)
    mixed = {"type": "GeometryCollection",
             "geometries": [mapping(Point(1, 2)), mapping(SQUARES[0])]}  # fmt: skip
    assert AOI.from_geojson(mixed).geometry.equals(SQUARES[0])


def test_a_hole_in_kml_stays_a_hole():
    ring = "<LinearRing><coordinates>{}</coordinates></LinearRing>"
    outer = ring.format("0,0 0.1,0 0.1,0.1 0,0.1 0,0")
    inner = ring.format("0.02,0.02 0.08,0.02 0.08,0.08 0.02,0.08 0.02,0.02")
    place = (f"<Placemark><Polygon><outerBoundaryIs>{outer}</outerBoundaryIs>"
             f"<innerBoundaryIs>{inner}</innerBoundaryIs></Polygon></Placemark>")  # fmt: skip
    (aoi,) = AOI.many_from_file(kml(place), filename="ring.kml")
    assert len(aoi.geometry.interiors) == 1
    assert aoi.name == "ring"


# --- several areas, several layers ---------------------------------------------------------------


def test_areas_far_apart_are_to_be_chosen_from(tmp_path):
    path = tmp_path / "fields.geojson"
    frame().to_file(path)
    for value in (path, json.loads(path.read_text())):
        with pytest.raises(AOIError, match=r"several areas far apart: choose.*3 areas: 'North"):
            AOI.from_any(value)
    with pytest.raises(AOIError, match="far apart: choose"):
        AOI.from_gdf(frame())


def test_areas_close_together_stay_one_area(tmp_path):
    near = [box(15, 45, 15.02, 45.02), box(15.1, 45, 15.12, 45.02)]
    path = tmp_path / "near.gpkg"
    frame(["a", "b"], shapes=near).to_file(path)
    assert AOI.from_any(path).name == "near"
    assert AOI.from_any(path).geometry.geom_type == "MultiPolygon"
    assert len(AOI.many_from_file(path)) == 2


@pytest.mark.parametrize("name", ["a, b.geojson", "1,2.zip", "1,2,3,4.kml"])
def test_a_comma_in_a_files_name(tmp_path, monkeypatch, name):
    path = tmp_path / name
    if name.endswith("geojson"):
        path.write_bytes(collection([(None, SQUARES[0])]))
    elif name.endswith("kml"):
        path.write_bytes(kml(placemark("", SQUARES[0])))
    else:
        shapefile(tmp_path).rename(path)
        with pytest.raises(AOIError, match="far apart"):
            AOI.from_any(path)
        return
    monkeypatch.chdir(tmp_path)
    assert AOI.from_any(name).name == path.stem


def test_a_layer_is_chosen_where_there_are_several(tmp_path):
    path = tmp_path / "two.gpkg"
    frame().to_file(path, layer="fields")
    frame(["lake"], shapes=SQUARES[:1]).to_file(path, layer='odd "layer"; --')
    assert layers_of(path, path.name) == ("fields", 'odd "layer"; --')
    with pytest.raises(AOIError, match=r"several layers: choose.*'fields', 'odd"):
        AOI.many_from_file(path)
    assert len(AOI.many_from_file(path, layer="fields")) == 3
    assert AOI.many_from_file(path, layer='odd "layer"; --')[0].name == "lake"
    with pytest.raises(AOIError, match="no layer 'x'"):
        AOI.many_from_file(path, layer="x")


def test_features_that_make_no_area_are_refused_by_name_or_left_out():
    data = collection([
        ("spot", Point(1, 2)), ("road", LineString([(0, 0), (0.1, 0)])),
        ("land", box(0, 0, 5, 5)), ("field", SQUARES[0]),
    ])  # fmt: skip
    with pytest.raises(AOIError, match=r"'spot' of 'a.geojson' makes no AOI.*or skip=True"):
        AOI.many_from_file(data, filename="a.geojson")
    assert [a.name for a in AOI.many_from_file(data, filename="a.geojson", skip=True)] == ["field"]
    with pytest.raises(AOIError, match="no area"):
        AOI.many_from_file(collection([("s", Point(1, 2))]), filename="a.geojson", skip=True)


# --- limits --------------------------------------------------------------------------------------


def test_limits_are_said(tmp_path, monkeypatch):
    many = collection([(None, SQUARES[0])] * (MAX_FEATURES + 1))
    with pytest.raises(AOIError, match="too many features"):
        features_of(many, "a.geojson")
    round_ = Point(15, 45).buffer(0.1, quad_segs=MAX_VERTICES)
    with pytest.raises(AOIError, match=r"'round' has too many points.*simplify"):
        features_of(collection([("round", round_)]), "a.geojson")
    with pytest.raises(AOIError, match=r"too large to be a drawing.*at most 34 MB"):
        features_of(b" " * (MAX_BYTES + 1), "a.geojson")
    big = zipped(tmp_path / "a.kmz", {"doc.kml": b" " * (MAX_BYTES + 1)})
    assert big.stat().st_size < 1_000_000
    with pytest.raises(AOIError, match="unpacks to more"):
        features_of(big, big.name)


# --- files that mean harm ------------------------------------------------------------------------


@pytest.fixture
def trap():
    """A server that should never hear anything."""
    heard = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            heard.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
    assert heard == []


@pytest.mark.parametrize("where", ["{trap}/x.dtd", "{secret}"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_external_entities_of_a_kml_are_not_looked_up(trap, tmp_path, where, encoding):
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    address = where.format(trap=trap, secret=secret.as_uri())
    head = f'<!DOCTYPE kml [<!ENTITY more SYSTEM "{address}">]>'
    text = kml(placemark("x", SQUARES[0]).replace(">x<", ">&more;<"), head=head).decode()
    with pytest.raises(AOIError) as refused:
        features_of(text.encode(encoding), "a.kml")
    assert "the secret" not in str(refused.value)


def test_entities_that_grow_are_refused():
    names = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    head = f'<!DOCTYPE kml [<!ENTITY a0 "ha">{names}]>'
    with pytest.raises(AOIError, match="can't be read as KML"):
        features_of(kml("<Placemark><name>&a9;</name></Placemark>", head=head), "a.kml")


def test_links_of_a_kml_are_not_followed(trap):
    links = (
        f"<NetworkLink><Link><href>{trap}/more.kml</href></Link></NetworkLink>"
        f"<Placemark><styleUrl>{trap}/style.kml#s</styleUrl></Placemark>"
        f"<GroundOverlay><Icon><href>{trap}/x.png</href></Icon></GroundOverlay>"
    )
    with pytest.raises(AOIError, match="only links to other files, which are not fetched"):
        features_of(kml(links), "a.kml")
    assert len(features_of(kml(links, placemark("a", SQUARES[0])), "a.kml")) == 1


@pytest.mark.parametrize("ending", ["geojson", "json", "kml", "gpkg", "zip", "kmz"])
def test_a_format_that_points_elsewhere_is_not_read_under_another_name(trap, tmp_path, ending):
    """GDAL goes by content: these would open another file, or a server."""
    secret = tmp_path / "secret.geojson"
    secret.write_bytes(collection([("the secret", SQUARES[0])]))
    layer = f'<OGRVRTLayer name="secret"><SrcDataSource>{secret}</SrcDataSource></OGRVRTLayer>'
    for text in (
        f"<OGRVRTDataSource>{layer}</OGRVRTDataSource>",
        f"<OGRWFSDataSource><URL>{trap}/wfs</URL></OGRWFSDataSource>",
    ):
        for content in (text.encode(), text.encode() + b"\0" * 4096):
            with pytest.raises(AOIError):
                features_of(content, f"a.{ending}")
    held = zipped(tmp_path / "a.zip", {"a.shp": text, "a.dbf": text, "a.prj": text})
    with pytest.raises(AOIError, match="no shapefile"):
        features_of(held, "a.zip")


@pytest.mark.parametrize(
    "name", ["/vsicurl/http://127.0.0.1/a.geojson", "/vsizip/a.zip/b.kml", "/etc/passwd", "a.vrt",
             "GPKG:a.gpkg", "http://127.0.0.1/a.kml", "", "..", "a.geojson/../../etc/passwd"]
)  # fmt: skip
def test_names_reach_no_file(trap, name):
    for opened in (
        lambda: AOI.many_from_file(name),
        lambda: AOI.many_from_file(b"<OGRVRTDataSource/>", filename=name),
    ):
        with pytest.raises(AOIError):
            opened()


def test_members_of_an_archive_are_unpacked_under_names_of_ours(tmp_path):
    shapefile(tmp_path)
    held = {f"../../{p.name}": p.read_bytes() for p in tmp_path.glob("fields.*")
            if p.suffix != ".zip"}  # fmt: skip
    path = zipped(tmp_path / "up.zip", held)
    before = {p.name for p in tmp_path.parent.iterdir()}
    agree(AOI.many_from_file(path))
    assert {p.name for p in tmp_path.parent.iterdir()} == before


def test_views_and_virtual_tables_of_a_geopackage_are_no_layers(tmp_path):
    path = tmp_path / "a.gpkg"
    frame().to_file(path, layer="fields")
    base = sqlite3.connect(path)
    base.execute("CREATE VIEW endless AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 "
                 "FROM n) SELECT x AS fid, NULL AS geom FROM n")  # fmt: skip
    base.execute("INSERT INTO gpkg_contents(table_name, data_type, identifier, srs_id) "
                 "VALUES('endless', 'features', 'endless', 4326)")  # fmt: skip
    base.execute("INSERT INTO gpkg_geometry_columns VALUES('endless','geom','POLYGON',4326,0,0)")
    base.commit()
    base.close()
    assert layers_of(path, path.name) == ("fields",)
    agree(AOI.many_from_file(path))


@pytest.mark.parametrize("ending", ["geojson", "gpkg", "kml", "kmz", "zip"])
def test_damage_is_an_error_of_ours(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    if ending == "zip":
        path = shapefile(tmp_path)
    elif ending == "kmz":
        zipped(path, {"doc.kml": kml(*map(placemark, NAMES, SQUARES))})
    elif ending == "kml":
        path.write_bytes(kml(*map(placemark, NAMES, SQUARES)))
    else:
        frame().to_file(path)
    whole = path.read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 40)):
        flipped = bytearray(whole)
        flipped[at : at + 8] = bytes(255 - each for each in flipped[at : at + 8])
        for damaged in (whole[:at], bytes(flipped)):
            with contextlib.suppress(AOIError):  # anything else fails the test
                features_of(damaged, path.name)


def test_a_geometry_that_is_none(tmp_path):
    path = tmp_path / "a.gpkg"
    frame().to_file(path)
    for blob in (b"GP\0\x01" + struct.pack("<i", 4326) + b"\x01\x03", b"no", "text"):
        base = sqlite3.connect(path)
        for (trigger,) in base.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            base.execute(f'DROP TRIGGER "{trigger}"')
        base.execute("UPDATE a SET geom = ?", (blob,))
        base.commit()
        base.close()
        with pytest.raises(AOIError, match="can't be read"):
            features_of(path, path.name)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(AOIError, match="no file"):
        AOI.many_from_file(tmp_path / "a.kml")
    with pytest.raises(AOIError, match="doesn't say its format"):
        AOI.many_from_file(b"{}")
