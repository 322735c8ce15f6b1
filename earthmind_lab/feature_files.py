"""Features as files: GeoJSON, GeoPackage, GeoParquet.

    save_features(answer.to_geojson(), "water.gpkg")

The features of an answer, or of a turn of a session, which needs no answer in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthmind_lab.errors import EarthMindError
from earthmind_lab.whole_file import whole_file

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

COLUMNS = (
    "label", "score", "probability", "area_m2", "source", "observed", "notice", "model", "licence",
    "attribution",
)  # fmt: skip
"""Properties of every exported feature."""


def save_features(collection: Mapping[str, Any], path: str | Path) -> Path:
    """Write features; the file appears complete or not at all.

    Args:
        collection: FeatureCollection in EPSG:4326 with `COLUMNS` in each feature, and with notice,
            model, licence and attribution of its own.
        path: Ends in .geojson, .gpkg or .parquet.

    Raises:
        EarthMindError: Another ending, or the file can't be written.
    """
    path = Path(path)
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise EarthMindError(
            f"Features can't be saved as {path.name!r}.",
            found=path.suffix or "no file ending",
            change=f"a name ending in {', '.join(_WRITERS)}",
        )
    with whole_file(path) as draft:
        writer(_exported(collection), draft)
    return path


def write_geojson(collection: Mapping[str, Any], path: Path) -> None:
    """Write a FeatureCollection as it is.

    Raises:
        OSError: The file can't be written.
    """
    path.write_text(json.dumps(collection, ensure_ascii=False) + "\n", encoding="utf-8")


def write_gpkg(
    frame: GeoDataFrame, path: Path, *, about: Mapping[str, str], layer: str = "answer",
    kind: str = "MultiPolygon",
) -> None:  # fmt: skip
    """Write a table as a GeoPackage of one layer.

    Args:
        frame: With its CRS.
        path: The file.
        about: Metadata of the layer: they keep notice and licence where no row does.
        layer: Its name.
        kind: Of its geometries.

    Raises:
        OSError: The file can't be written.
    """
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError, FeatureError

    try:
        pyogrio.write_dataframe(
            frame, path, driver="GPKG", layer=layer, geometry_type=kind,
            layer_metadata=dict(about), promote_to_multi=kind.startswith("Multi"),
        )  # fmt: skip
    except (DataSourceError, DataLayerError, FeatureError) as error:
        raise OSError(str(error)) from error


def frame_of(collection: Mapping[str, Any]) -> GeoDataFrame:
    """A table in EPSG:4326 of `COLUMNS`, one row per feature."""
    from geopandas import GeoDataFrame
    from shapely.geometry import shape

    features = collection["features"]
    shapes = [shape(feature["geometry"]) for feature in features]
    columns = {name: [each["properties"].get(name) for each in features] for name in COLUMNS}
    return GeoDataFrame(columns, geometry=shapes, crs="EPSG:4326")


def _exported(collection: Mapping[str, Any]) -> dict[str, Any]:
    """The same with `COLUMNS` alone: what a session knows of a feature beside them is its own."""
    features = [
        {**each, "properties": {k: v for k, v in each["properties"].items() if k in COLUMNS}}
        for each in collection["features"]
    ]
    return {**collection, "features": features}


def _about(collection: Mapping[str, Any]) -> dict[str, str]:
    return {k: str(v) for k, v in collection.items() if k not in ("type", "features")}


_WRITERS: Mapping[str, Callable[[Mapping[str, Any], Path], None]] = {
    ".geojson": write_geojson,
    ".gpkg": lambda held, path: write_gpkg(frame_of(held), path, about=_about(held)),
    ".parquet": lambda held, path: frame_of(held).to_parquet(path),
}
