"""Readers of KML, GeoPackage and zipped shapefiles; each takes the bytes of a file.

KML and GeoPackage are read here in full, without GDAL: no link is followed, no entity looked up, no
view of a database computed. A shapefile goes to GDAL under a name of ours, when it begins as one.
"""

from __future__ import annotations

import io
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthmind_lab.errors import AOIError
from earthmind_lab.vector_features import (
    MAX_BYTES,
    MAX_FEATURES,
    VectorFeature,
    crs_of,
    lonlat,
    name_in,
    name_of,
    no_crs,
    one_of,
    short,
)

if TYPE_CHECKING:
    import sqlite3
    from xml.etree.ElementTree import Element

    from shapely.geometry.base import BaseGeometry

_SHAPEFILE = (".shp", ".shx", ".dbf", ".prj", ".cpg")
_SHP_MAGIC = struct.pack(">i", 9994)
_SQLITE_MAGIC = b"SQLite format 3\0"
_ENVELOPES = {0: 0, 1: 32, 2: 48, 3: 48, 4: 64}
"""GeoPackage: bytes of the envelope before a geometry, by its indicator."""
_LAYERS = """
SELECT g.table_name, g.column_name, s.organization, s.organization_coordsys_id, s.definition
FROM gpkg_geometry_columns g
JOIN gpkg_spatial_ref_sys s ON s.srs_id = g.srs_id
JOIN sqlite_master m ON m.name = g.table_name AND m.type = 'table'
ORDER BY g.table_name
"""
"""Tables alone: a view can compute for ever."""


# --- KML -----------------------------------------------------------------------------------------


def kml_features(data: bytes, filename: str) -> list[VectorFeature]:
    """Placemarks with a geometry; links to other files are not followed."""
    root = _xml(data, filename)
    found, links = [], 0
    for element in root.iter():
        links += _tag(element) == "NetworkLink"
        if _tag(element) == "Placemark":
            try:
                parts = list(_kml_geometries(element))
            except ValueError as error:
                raise AOIError(
                    f"A place of {short(filename)!r} has coordinates that are none.",
                    found=short(str(error)),
                ) from error
            name = next((each.text for each in element if _tag(each) == "name"), None)
            if parts:
                found.append(VectorFeature(name=name_of(name), geometry=one_of(parts)))
    if not found and links:
        raise AOIError(
            f"{short(filename)!r} only links to other files, which are not fetched.",
            change="save the places themselves as KML",
        )
    return found


def _kml_geometries(place: Element) -> Iterator[BaseGeometry]:
    from shapely.geometry import LineString, Point, Polygon

    for element in place.iter():
        if _tag(element) == "Polygon":
            outer = [_ring(each) for each in element if _tag(each) == "outerBoundaryIs"]
            inner = [_ring(each) for each in element if _tag(each) == "innerBoundaryIs"]
            yield Polygon(outer[0] if outer else [], inner)
        elif _tag(element) == "LineString":
            yield LineString(_ring(element))
        elif _tag(element) == "Point":
            yield Point(_ring(element)[0])


def _ring(element: Element) -> list[tuple[float, float]]:
    """The points of the first ``coordinates`` inside; heights are left out."""
    text = next((each.text or "" for each in element.iter() if _tag(each) == "coordinates"), "")
    points = [point.split(",") for point in text.split()]
    if not points or any(len(point) not in (2, 3) for point in points):
        raise ValueError(text.strip() or "no coordinates")
    return [(float(point[0]), float(point[1])) for point in points]


def _xml(data: bytes, filename: str) -> Element:
    """The document; one that declares a type, and with it entities, is refused."""
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        root: Element = fromstring(data, forbid_dtd=True)
    except (ParseError, DefusedXmlException, LookupError, ValueError) as error:
        raise AOIError(
            f"{short(filename)!r} can't be read as KML.",
            found=short(f"{type(error).__name__}: {error}"), change="save it as KML again",
        ) from error  # fmt: skip
    return root


def _tag(element: Element) -> str:
    """Without its namespace, of which KML has had several."""
    return element.tag.rpartition("}")[2]


def kml_of(data: bytes, filename: str) -> bytes:
    """The document of a KMZ: the first one in it."""
    with _archive(data, filename) as archive:
        for name in archive.namelist():
            if name.lower().endswith(".kml"):
                return _unpacked(archive, name, filename)
    raise AOIError(f"{short(filename)!r} holds no KML.")


# --- GeoPackage ----------------------------------------------------------------------------------


def gpkg_layers(data: bytes, filename: str) -> tuple[str, ...]:
    """Names of the tables with geometry."""
    with closing(_database(data, filename)) as base:
        return tuple(row[0] for row in _rows(base, _LAYERS, filename))


def gpkg_features(data: bytes, filename: str, layer: str | None) -> list[VectorFeature]:
    """The rows with a geometry of one layer."""
    from shapely import from_wkb
    from shapely.errors import ShapelyError

    with closing(_database(data, filename)) as base:
        layers = {row[0]: row[1:] for row in _rows(base, _LAYERS, filename)}
        chosen = _layer(tuple(layers), layer, filename)
        column, *system = layers[chosen]
        crs = crs_of(*system)
        table = '"' + chosen.replace('"', '""') + '"'
        query = f"SELECT * FROM {table} LIMIT {MAX_FEATURES + 1}"  # noqa: S608  a name, quoted
        found = []
        try:
            cursor = base.execute(query)
            names = [each[0] for each in cursor.description]
            for row in cursor:
                about = dict(zip(names, row, strict=True))
                blob = _wkb_in(about.pop(column, None))
                if blob is not None:
                    drawn = lonlat(from_wkb(blob), crs)
                    found.append(VectorFeature(name=name_in(about), geometry=drawn))
        except (ShapelyError, LookupError, ValueError, base.DatabaseError) as error:
            raise AOIError(
                f"A feature of {short(filename)!r} can't be read.", found=short(str(error))
            ) from error
    return found


def _database(data: bytes, filename: str) -> sqlite3.Connection:
    """A GeoPackage in memory: this connection knows no other file."""
    import sqlite3

    if not data.startswith(_SQLITE_MAGIC):
        raise AOIError(f"{short(filename)!r} is no GeoPackage.", found="another kind of file")
    base = sqlite3.connect(":memory:")
    base.text_factory = lambda text: text.decode("utf-8", "replace")
    base.deserialize(data)
    base.execute("PRAGMA trusted_schema = OFF")
    return base


def _rows(base: sqlite3.Connection, query: str, filename: str) -> list[tuple[Any, ...]]:
    try:
        return list(base.execute(query))
    except (base.DatabaseError, ValueError) as error:
        raise AOIError(
            f"{short(filename)!r} can't be read as a GeoPackage.", found=str(error)
        ) from error


def _wkb_in(blob: object) -> bytes | None:
    """The geometry behind a GeoPackage's own header; None where there is none."""
    if blob is None:
        return None
    if not isinstance(blob, bytes) or blob[:2] != b"GP" or len(blob) < 8:
        raise LookupError("a geometry without the GeoPackage's header")
    flags = blob[3]
    if flags & 0b100000:
        raise LookupError("an extended geometry")
    return blob[8 + _ENVELOPES[flags >> 1 & 0b111] :]


# --- zipped shapefile ----------------------------------------------------------------------------


def shapefile_features(data: bytes, filename: str, layer: str | None) -> list[VectorFeature]:
    """The records with a geometry of one of the shapefiles."""
    import pyogrio

    held = {Path(name).stem: name for name in shapefiles(data, filename)}
    chosen = held[_layer(tuple(held), layer, filename)]
    with tempfile.TemporaryDirectory(prefix="earthmind-") as folder:
        path = Path(folder) / "layer.shp"
        with _archive(data, filename) as archive:
            members = {name.lower(): name for name in archive.namelist()}
            for ending in _SHAPEFILE:
                name = members.get(str(Path(chosen).with_suffix(ending)).lower())
                if name is not None:
                    path.with_suffix(ending).write_bytes(_unpacked(archive, name, filename))
        with path.open("rb") as opened:
            if opened.read(4) != _SHP_MAGIC:
                raise AOIError(f"{short(chosen)!r} is no shapefile.", found="another kind of file")
        try:
            frame = pyogrio.read_dataframe(path, max_features=MAX_FEATURES + 1)
        except Exception as error:  # pyogrio's errors share no public base
            raise AOIError(
                f"The shapefile in {short(filename)!r} can't be read.", found=str(error)
            ) from error
    if frame.crs is None:
        raise no_crs()
    return [
        VectorFeature(name=name_in(about), geometry=lonlat(drawn, frame.crs))
        for drawn, about in zip(
            frame.geometry, frame.drop(columns="geometry").to_dict("records"), strict=True
        )
        if drawn is not None
    ]


def shapefiles(data: bytes, filename: str) -> list[str]:
    """Names of the ``.shp`` files in an archive, at least one."""
    with _archive(data, filename) as archive:
        found = [name for name in archive.namelist() if name.lower().endswith(".shp")]
    if not found:
        raise AOIError(
            f"{short(filename)!r} holds no shapefile.",
            change="a .zip with .shp, .shx, .dbf and .prj, or GeoJSON, GeoPackage or KML",
        )
    return found


# --- parts ---------------------------------------------------------------------------------------


def _archive(data: bytes, filename: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise AOIError(f"{short(filename)!r} can't be unpacked.", found=str(error)) from error


def _unpacked(archive: zipfile.ZipFile, name: str, filename: str) -> bytes:
    try:
        with archive.open(name) as member:
            data = member.read(MAX_BYTES + 1)
    # Damage shows as anything: a broken checksum, a password, an unknown method.
    except (zipfile.BadZipFile, zlib.error, RuntimeError, ValueError, OSError, EOFError) as error:
        raise AOIError(f"{short(filename)!r} can't be unpacked.", found=str(error)) from error
    if len(data) > MAX_BYTES:
        raise AOIError(
            f"{short(filename)!r} unpacks to more than {MAX_BYTES / 1e6:.0f} MB.",
            change="a file with those features that matter",
        )
    return data


def _layer(layers: tuple[str, ...], wanted: str | None, filename: str) -> str:
    if wanted is None and len(layers) == 1:
        return layers[0]
    if wanted in layers:
        return str(wanted)
    said = ", ".join(map(repr, layers)) or "none with geometry"
    asked = "has several layers: choose" if wanted is None else f"has no layer {short(wanted)!r}"
    raise AOIError(f"{short(filename)!r} {asked}.", found=said, change="layer=...")
