"""A small Sentinel-1 GRD product on a known ground: counts with tie points, and its XML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.control import GroundControlPoint
from shapely.geometry import box

from earthmind_lab.aoi import AOI
from earthmind_lab.grid import placeless
from earthmind_lab.scene import Scene, ScenePair

CRS = "EPSG:32637"
HEIGHT, WIDTH = 300, 400
MIDDLE = (500_000.0, 4_200_000.0)
WHEN = datetime(2019, 9, 17, 3, 30, 12, tzinfo=UTC)
TIE_LINES = np.array([0, 60, 120, 180, 240, HEIGHT - 1])
TIE_PIXELS = np.array([0, 80, 160, 240, 320, WIDTH - 1])
SPLIT = 180
"""First pixel of the second sub-swath."""
Array = NDArray[Any]
Ground = Callable[[Array, Array], Array]
"""Easting and northing to sigma0 in linear power."""
TO_LONLAT = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)


def even(x: Array, _y: Array) -> Array:
    """The same backscatter everywhere."""
    return np.full(np.shape(x), 0.1)


@dataclass(frozen=True, kw_only=True)
class Product:
    """How a product is made; `write` makes it."""

    ground: Ground = even
    ascending: bool = True
    generation: str = "new"
    """Of the noise table: ``old`` (one list of vectors) or ``new`` (range and azimuth)."""
    ipf: str = "003.10"
    height: Callable[[Array, Array], Array] = lambda line, _pixel: 5.0 + 0 * line
    """Line and pixel to the height of a tie point."""
    gcps: bool = True
    denoised: bool = False
    """What the annotation says about thermal noise."""
    border: int = 0
    """Pixels without data at the near range."""
    edit: dict[str, Callable[[str], str | None]] = field(default_factory=dict)
    """Per kind of table, a change of its text; None = the file is not written."""

    def place(self, line: Array, pixel: Array) -> tuple[Array, Array]:
        """Easting and northing of image positions: 10 m steps, tilted and slightly bent.

        Right-looking: going up, near range lies in the west and the first line in the south;
        going down, near range lies in the east and the first line in the north.
        """
        along, across = line - HEIGHT / 2, pixel - WIDTH / 2
        along = along + 2e-5 * across**2
        step, tilt = (10, np.radians(12)) if self.ascending else (-10, np.radians(-12))
        x = step * (across * np.cos(tilt) - along * np.sin(tilt))
        y = step * (across * np.sin(tilt) + along * np.cos(tilt))
        return MIDDLE[0] + x, MIDDLE[1] + y

    def counts(self) -> NDArray[np.uint16]:
        """Counts of the whole raster."""
        line, pixel = np.mgrid[:HEIGHT, :WIDTH].astype(float)
        squared = self.ground(*self.place(line, pixel)) * sigma_nought(line, pixel) ** 2
        squared = squared + self.noise(line, pixel)
        counts = np.rint(np.sqrt(np.maximum(squared, 1))).astype(np.uint16)
        counts[:, : self.border] = 0
        return counts

    def noise(self, line: Array, pixel: Array) -> Array:
        """Squared counts."""
        noise = 20_000 * (1 + pixel / WIDTH)
        if self.generation == "old":
            return noise
        first = pixel < SPLIT
        return noise * np.where(first, 1 + line / (HEIGHT - 1), 0.5)

    def write(self, folder: Path, bands: tuple[str, ...] = ("vv",)) -> Scene:
        """Write everything to a folder, laid out as the catalogs do, and give its scene."""
        tables = folder / "annotation" / "calibration"
        tables.mkdir(parents=True, exist_ok=True)
        assets: dict[str, dict[str, Any]] = {}
        for band in bands:
            path = folder / f"iw-{band}.tiff"
            self._raster(path, other=band != bands[0])
            assets[band] = {"href": str(path), "type": "image/tiff; application=geotiff"}
            for kind, file in (
                ("calibration", tables / f"calibration-iw-{band}.xml"),
                ("noise", tables / f"noise-iw-{band}.xml"),
                ("product", folder / "annotation" / f"iw-{band}.xml"),
            ):
                text = self.edit.get(kind, str)(self.table(kind, band))
                if text is not None:
                    file.write_text(text)
                    assets[f"schema-{kind}-{band}"] = {"href": str(file), "type": "application/xml"}
        return scene_of(assets, bands)

    def tie_points(self) -> list[tuple[int, int, float, float, float]]:
        """Line, pixel, longitude, latitude and height."""
        line, pixel = (each.ravel() for each in np.meshgrid(TIE_LINES, TIE_PIXELS, indexing="ij"))
        lon, lat = TO_LONLAT.transform(*self.place(line, pixel))
        height = self.height(line, pixel) + 0.0 * lon
        return list(zip(line.tolist(), pixel.tolist(), lon, lat, height, strict=True))

    def _raster(self, path: Path, *, other: bool) -> None:
        points = [GroundControlPoint(row=line, col=pixel, x=x, y=y, z=z)
                  for line, pixel, x, y, z in self.tie_points()]  # fmt: skip
        place = {"gcps": points, "crs": "EPSG:4326"} if self.gcps else {}
        with placeless(), rasterio.open(
            path, "w", driver="GTiff", width=WIDTH, height=HEIGHT, count=1, dtype="uint16",
            tiled=True, blockxsize=64, blockysize=64, compress="deflate", **place,
        ) as target:  # fmt: skip
            counts = self.counts()
            counts[:, ::20] -= np.uint16(other) * (counts[:, ::20] > 1)  # no two bands are equal
            target.write(counts, 1)
            target.update_tags(TIFFTAG_SOFTWARE=f"Sentinel-1 IPF {self.ipf}")

    def table(self, kind: str, band: str) -> str:
        """The text of one XML file."""
        body = {"calibration": _calibration, "noise": self._noise, "product": self._annotation}
        return (
            f'<?xml version="1.0" encoding="UTF-8" standalone="no"?>\n<{kind}><adsHeader>'
            f"<missionId>S1A</missionId><productType>GRD</productType>"
            f"<polarisation>{band.upper()}</polarisation><mode>IW</mode><swath>IW</swath>"
            f"<startTime>2019-09-17T03:30:00.000000</startTime>"
            f"<stopTime>2019-09-17T03:30:25.000000</stopTime></adsHeader>{body[kind]()}</{kind}>"
        )

    def _noise(self) -> str:
        lines, pixels = np.array([0, 150, HEIGHT + 10]), np.array([0, 100, 250, WIDTH - 1])
        old = replace(self, generation="old")
        names = ("noiseVector", "noiseLut")
        if self.generation == "new":
            names = ("noiseRangeVector", "noiseRangeLut")
        vectors = "".join(
            f"<{names[0]}><azimuthTime>2019-09-17T03:30:00</azimuthTime><line>{line}</line>"
            f"{_list('pixel', pixels)}{_list(names[1], old.noise(line, pixels))}</{names[0]}>"
            for line in lines
        )
        text = f"<{names[0]}List>{vectors}</{names[0]}List>"
        if self.generation == "old":
            return text
        blocks = [(0, SPLIT - 1, [0, HEIGHT - 1], [1.0, 2.0]), (SPLIT, WIDTH - 1, [0], [0.5])]
        azimuth = "".join(
            f"<noiseAzimuthVector><swath>IW{number}</swath><firstAzimuthLine>0</firstAzimuthLine>"
            f"<firstRangeSample>{first}</firstRangeSample>"
            f"<lastAzimuthLine>{HEIGHT - 1}</lastAzimuthLine>"
            f"<lastRangeSample>{last}</lastRangeSample>{_list('line', at)}"
            f"{_list('noiseAzimuthLut', values)}</noiseAzimuthVector>"
            for number, (first, last, at, values) in enumerate(blocks, 1)
        )
        return f"{text}<noiseAzimuthVectorList>{azimuth}</noiseAzimuthVectorList>"

    def _annotation(self) -> str:
        points = "".join(
            f"<geolocationGridPoint><line>{line}</line><pixel>{pixel}</pixel>"
            f"<latitude>{lat:.15e}</latitude><longitude>{lon:.15e}</longitude>"
            f"<height>{height:.6e}</height><incidenceAngle>{incidence(pixel)}</incidenceAngle>"
            "</geolocationGridPoint>"
            for line, pixel, lon, lat, height in self.tie_points()
        )
        return (
            "<imageAnnotation><imageInformation>"
            f"<numberOfSamples>{WIDTH}</numberOfSamples><numberOfLines>{HEIGHT}</numberOfLines>"
            "</imageInformation><processingInformation><thermalNoiseCorrectionPerformed>"
            f"{str(self.denoised).lower()}</thermalNoiseCorrectionPerformed>"
            "</processingInformation></imageAnnotation><geolocationGrid>"
            f"<geolocationGridPointList>{points}</geolocationGridPointList></geolocationGrid>"
        )


def sigma_nought(line: Array, pixel: Array) -> Array:
    """The calibration look-up table; linear along both axes, as between its vectors."""
    return 1500 + 2 * np.asarray(pixel) + np.asarray(line)


def incidence(pixel: Array) -> Array:
    """Degrees: 30 at near range, 46 at far range."""
    return 30 + 16 * np.asarray(pixel) / (WIDTH - 1)


def _calibration() -> str:
    pixels = np.array([0, 40, 200, 360, WIDTH - 1])
    text = ""
    for line in (0, 100, 200, HEIGHT):
        sigma = sigma_nought(line, pixels)
        beta = sigma * np.sqrt(np.sin(np.radians(incidence(pixels))))
        text += (
            f"<calibrationVector><azimuthTime>2019-09-17T03:30:00</azimuthTime><line>{line}</line>"
            f"{_list('pixel', pixels)}{_list('sigmaNought', sigma)}{_list('betaNought', beta)}"
            "</calibrationVector>"
        )
    return f"<calibrationVectorList>{text}</calibrationVectorList>"


def _list(name: str, values: Any) -> str:
    numbers = " ".join(f"{value:.9g}" for value in values)
    return f'<{name} count="{len(values)}">{numbers}</{name}>'


def scene_of(
    assets: dict[str, dict[str, Any]], bands: tuple[str, ...] = ("vv",), **properties: Any
) -> Scene:
    """A scene of one item, its hrefs absolute."""
    stated = {"datetime": WHEN.isoformat(), **properties}
    return Scene(
        id="S1", sensor="sentinel-1-grd", modality="sar", datetime=WHEN, start=WHEN, end=WHEN,
        footprint=box(38.9, 37.8, 39.1, 38.1), collection="sentinel-1-grd",
        assets={band: assets[band]["href"] for band in bands},
        items=({"id": "S1", "properties": stated, "assets": assets},),
    )  # fmt: skip


def pair_of(scene: Scene) -> ScenePair:
    """The scene alone."""
    return ScenePair(
        optical=None, sar=scene, gap=None, overlap=1.0, cloud_in_aoi=None, score=0.0, factors={}
    )


def aoi_at(west: float, south: float, east: float, north: float) -> AOI:
    """Metres from the middle of the scene."""
    x, y = np.array([west, east, east, west]), np.array([south, south, north, north])
    lon, lat = TO_LONLAT.transform(MIDDLE[0] + x, MIDDLE[1] + y)
    return AOI.from_bbox(lon.min(), lat.min(), lon.max(), lat.max())
