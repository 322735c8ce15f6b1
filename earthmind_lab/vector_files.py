"""Features of vector files: names and geometries in lon/lat. Reads, never fetches.

GeoJSON, KML (also zipped: KMZ), GeoPackage and zipped shapefiles, from disk or as bytes.

GDAL chooses its driver by content, whatever a file is called, and some of its formats name other
files and servers: an upload that reached it could read the machine. So we
read them ourselves; see `vector_readers`.

>>> square = "0,0 0.1,0 0.1,0.1 0,0"
>>> ring = f"<LinearRing><coordinates>{square}</coordinates></LinearRing>"
>>> shape = f"<Polygon><outerBoundaryIs>{ring}</outerBoundaryIs></Polygon>"
>>> kml = f"<kml><Placemark><name>Field</name>{shape}</Placemark></kml>".encode()
>>> [(each.name, each.geometry.geom_type) for each in features_of(kml, "a.kml")]
[('Field', 'Polygon')]
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
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
    short,
)
from earthmind_lab.vector_readers import (
    gpkg_features,
    gpkg_layers,
    kml_features,
    kml_of,
    shapefile_features,
    shapefiles,
)

if TYPE_CHECKING:
    from pyproj import CRS

FORMATS = (".geojson", ".json", ".gpkg", ".kml", ".kmz", ".zip")
"""Endings that are read; ``.zip`` holds a shapefile."""
MAX_VERTICES = 20_000
"""Of one feature: a session's file keeps every outline in full."""


def layers_of(source: Path | bytes, filename: str) -> tuple[str, ...]:
    """Names of a file's layers; empty for formats that have none.

    Args:
        source: A file, or its content.
        filename: What it is called: the ending says the format.

    Raises:
        AOIError: It can't be read.
    """
    data, kind = _content(source, filename)
    if kind == ".gpkg":
        return gpkg_layers(data, filename)
    if kind == ".zip":
        return tuple(Path(name).stem for name in shapefiles(data, filename))
    return ()


def features_of(
    source: Path | bytes, filename: str, layer: str | None = None
) -> tuple[VectorFeature, ...]:
    """The features of a file, in its order.

    Args:
        source: A file, or its content.
        filename: What it is called: the ending says the format.
        layer: Which of several; None where there is one.

    Raises:
        AOIError: It can't be read, holds none or too many, says no CRS, or has several layers of
            which none is named.
    """
    data, kind = _content(source, filename)
    if kind in (".geojson", ".json"):
        found = geojson_features(_json(data))
    elif kind == ".kml":
        found = kml_features(data, filename)
    elif kind == ".kmz":
        found = kml_features(kml_of(data, filename), filename)
    elif kind == ".gpkg":
        found = gpkg_features(data, filename, layer)
    else:
        found = shapefile_features(data, filename, layer)
    if not found:
        raise AOIError(f"{short(filename)!r} holds no geometry.", change="draw one polygon")
    if len(found) > MAX_FEATURES:
        raise AOIError(
            f"{short(filename)!r} holds too many features to choose from.",
            found=f"more than {MAX_FEATURES}", change="a file with those that matter",
        )  # fmt: skip
    return tuple(_limited(each) for each in found)


# --- GeoJSON -------------------------------------------------------------------------------------


def geojson_features(data: Mapping[str, Any]) -> list[VectorFeature]:
    """The features of a GeoJSON object: a geometry, a feature or a collection.

    Raises:
        AOIError: It holds none, or one that can't be read.
    """
    from shapely.errors import ShapelyError
    from shapely.geometry import shape

    crs, found = _geojson_crs(data), []
    for each in _objects(data):
        geometry = each.get("geometry") if each.get("type") == "Feature" else each
        if not geometry:
            continue
        try:
            drawn = shape(geometry)
        except (
            ShapelyError, LookupError, TypeError, ValueError, AttributeError, RecursionError,
        ) as error:  # fmt: skip
            raise AOIError("The GeoJSON holds no readable geometry.", found=str(error)) from error
        about = each.get("properties")
        name = name_in(about) if isinstance(about, Mapping) else None
        found.append(VectorFeature(name=name, geometry=lonlat(drawn, crs)))
    if not found:
        raise AOIError("The GeoJSON holds no geometry.", change="draw one polygon")
    return found


def _objects(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The features of a collection, or the one object itself."""
    if data.get("type") != "FeatureCollection":
        return [data]
    features = data.get("features")
    if not isinstance(features, list | tuple):
        raise AOIError(
            "The GeoJSON holds no list of features.", found=f"features: {short(repr(features))}"
        )
    odd = [feature for feature in features if not isinstance(feature, Mapping)]
    if odd:
        raise AOIError("A feature of the GeoJSON is no object.", found=short(repr(odd[0])))
    return list(features)


def _geojson_crs(data: Mapping[str, Any]) -> CRS | None:
    """What older GeoJSON says in ``crs``; None = lon/lat, as the standard has it."""
    about = data.get("crs")
    if about is None:
        return None
    said = str((about.get("properties") or {}).get("name")) if isinstance(about, Mapping) else ""
    if said.upper().endswith(("CRS84", "EPSG::4326", "EPSG:4326")):
        return None
    code = re.fullmatch(r"(?:urn:ogc:def:crs:)?EPSG:[\d.]*:?(\d{4,6})", said, flags=re.IGNORECASE)
    if code is None:
        raise AOIError("The GeoJSON names a CRS that is not known here.", found=short(said))
    return crs_of("EPSG", int(code.group(1)), "")


def geojson_of(source: Mapping[str, Any] | str | Path) -> Mapping[str, Any]:
    """GeoJSON of a mapping, a text, or the path of a file.

    Raises:
        AOIError: It is none.
    """
    if isinstance(source, Mapping):
        return source
    try:
        if isinstance(source, Path) or not source.lstrip().startswith("{"):
            return _json(Path(source).expanduser().read_bytes())
        return _json(source.encode())
    except (OSError, ValueError, RuntimeError) as error:
        found = short(f"{type(error).__name__}: {error}")
        raise AOIError("The AOI can't be read as GeoJSON.", found=found) from error


def _json(data: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise AOIError(
            "The AOI can't be read as GeoJSON.", found=short(f"{type(error).__name__}: {error}")
        ) from error
    if not isinstance(found, dict):
        raise AOIError("The AOI can't be read as GeoJSON.", found=type(found).__name__)
    return found


# --- parts ---------------------------------------------------------------------------------------


def _content(source: Path | bytes, filename: str) -> tuple[bytes, str]:
    """The bytes of a file and its format, both within the limits."""
    kind = Path(filename).suffix.lower()
    if kind not in FORMATS:
        raise AOIError(
            f"{short(filename)!r} is in no format that is read here.",
            found=kind or "no ending", change=", ".join(FORMATS),
        )  # fmt: skip
    try:
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        if size > MAX_BYTES:
            raise AOIError(
                f"{short(filename)!r} is too large to be a drawing.",
                found=f"{size / 1e6:.1f} MB", change=f"at most {MAX_BYTES / 1e6:.0f} MB",
            )  # fmt: skip
        return (source if isinstance(source, bytes) else source.read_bytes()), kind
    except OSError as error:
        raise AOIError(f"{short(filename)!r} can't be read.", found=str(error)) from error


def _limited(feature: VectorFeature) -> VectorFeature:
    from shapely import get_num_coordinates

    count = int(get_num_coordinates(feature.geometry))
    if count > MAX_VERTICES:
        raise AOIError(
            f"{feature.name or 'A feature'!r} has too many points for an area.",
            found=f"{count}", change=f"at most {MAX_VERTICES}: simplify the outline",
        )  # fmt: skip
    return feature
