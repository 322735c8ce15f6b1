"""Whole scenes of the embedded catalog with their truth, by item id.

The split is by scene: no window of a held-out scene is ever trained on.

    train   what earthmind-nano's real windows are cut from
    test    never trained on; no checkpoint is chosen by it either

Arable land and pasture of CORINE labels both count as crops: the question is about farmland.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.aoi import AOI
from earthmind_lab.chip import Chip
from earthmind_lab.evaluate.truth import (
    CLASSES,
    LAND_COVER,
    PixelTruth,
    indices,
    spectral_truth,
    with_clouds,
    with_labels,
    with_land_cover,
)
from earthmind_lab.scene import Scene, ScenePair


@dataclass(frozen=True, kw_only=True)
class Case:
    """A scene to train on or to be scored on."""

    name: str
    split: str
    """``train`` or ``test``."""
    optical: str | None
    """Item id."""
    sar: str | None = None
    """Item id; None = optical only."""
    truth: str | None = None
    """Item id of a clear picture of the same ground, where `optical` is cloudy."""
    land_cover: str | None = None
    """Item id of a land-cover map on the same ground."""
    absent: tuple[str, ...] = ()
    """Classes that the scene's own labels leave out."""
    doubted: tuple[str, ...] = ()
    """Classes of the map that the picture visibly contradicts: unknown."""
    bbox: tuple[float, float, float, float] | None = None
    """West, south, east, north, where the scene is more than a small model sees; None = all."""
    vegetation: str | None = None
    """The only vegetated class that the scene's own labels name."""


CASES = (
    Case(
        name="tanzania",
        split="train",
        optical="S2_L2A_tanzania_2023-06-10",
        sar="S1_RTC_tanzania_2023-06-10",
        land_cover="LC_tanzania",
    ),
    Case(
        name="ireland_wexford",
        split="train",
        optical="S2_L2A_ireland_wexford_2017-06-17",
        sar="S1_SIGMA0_ireland_wexford_2017-06-17",
        absent=("water", "trees", "built", "bare", "snow", "flooded vegetation", "rangeland"),
        vegetation="crops",
    ),
    Case(
        name="finland_snow",
        split="train",
        optical="S2_L2A_finland_snow_2018-02-04",
        sar="S1_SIGMA0_finland_snow_2018-02-04",
        absent=("built", "water", "flooded vegetation", "rangeland"),
    ),
    Case(name="lazio_summer", split="train", optical="S2_L1C_lazio_2018-07-20"),
    Case(name="lazio_autumn", split="train", optical="S2_L1C_lazio_2018-10-23"),
    Case(name="songkhram", split="train", optical="S2_L2A_songkhram_2020-02-23"),
    Case(name="bolzano", split="train", optical="S2_L2A_bolzano_2022-06-12", absent=("snow",)),
    Case(
        name="punjab_august",
        split="train",
        optical="S2_L2A_punjab_2020-08-13",
        sar="S1_SIGMA0_punjab_2020-09-03",
        absent=("snow",),
    ),
    Case(
        name="chile",
        split="test",
        optical="S2_L2A_chile_2020-04-08",
        sar="S1_RTC_chile_2020-04-11",
        land_cover="LC_chile",
        doubted=("built",),
    ),
    Case(
        name="ireland_kilkenny",
        split="test",
        optical="S2_L2A_ireland_kilkenny_2017-06-17",
        sar="S1_SIGMA0_ireland_kilkenny_2017-06-17",
        absent=("water", "trees", "built", "bare", "snow", "flooded vegetation", "rangeland"),
        vegetation="crops",
    ),
    Case(
        name="finland_lake",
        split="test",
        optical="S2_L2A_finland_lake_2017-09-24",
        sar="S1_SIGMA0_finland_lake_2017-09-25",
        absent=("built", "snow"),
    ),
    Case(
        name="spain",
        split="test",
        bbox=(-0.775, 38.09, -0.745, 38.12),
        optical="S2_L1C_spain_2019-09-18",
        sar="S1_SIGMA0_spain_2019-09-17",
    ),
    Case(
        name="jiangsu",
        split="test",
        optical="S2_L1C_jiangsu_2018-fall_clear",
        sar="S1_SIGMA0_jiangsu_2018-fall",
    ),
    Case(
        name="jiangsu_cloudy",
        split="test",
        optical="S2_L1C_jiangsu_2018-fall_cloudy",
        sar="S1_SIGMA0_jiangsu_2018-fall",
        truth="S2_L1C_jiangsu_2018-fall_clear",
    ),
    Case(
        name="denmark",
        split="test",
        optical="S2_L2A_denmark_2017-10-30",
        sar="S1_RTC_denmark_2017-10-30",
        land_cover="LC_denmark",
    ),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """A chip with its truth."""

    case: Case
    chip: Chip
    truth: PixelTruth
    """On the chip's grid; of the ground, also where clouds hide it. Its clouds are those of the
    picture that is shown; unknown where no mask tells."""
    cloud: NDArray[np.bool_]
    """(H, W) True where clouds hide the ground in the optical picture, as far as a mask tells."""


def load_case(case: Case) -> Known:
    """Read a case of the embedded catalog on the whole ground that its scenes share.

    Raises:
        LoadError: A file of the catalog is missing or damaged.
    """
    from earthmind_lab.data.catalogs import open_catalog

    found = {scene.id: scene for scene in open_catalog("sample").search()}
    chip = _chip(case, found, case.optical)
    clear = chip if case.truth is None else _chip(case, found, case.truth)
    visible = np.ones(chip.inside.shape, bool)
    if clear.valid_optical is not None:
        visible &= clear.valid_optical
    cloud, over_clear = (_cloud(found, each, chip) for each in (case.optical, case.truth))
    hidden = cloud if case.truth is None else over_clear
    if hidden is not None:
        visible &= ~hidden
    bands = {name: clear.band(name) for name in clear.bands}
    truth = spectral_truth(bands, visible)
    if case.land_cover is not None:
        codes = _land_cover(case.land_cover, chip)
        doubted = [c for c, i in LAND_COVER.items() if CLASSES[i] in case.doubted]
        codes[np.isin(codes, doubted)] = 0
        truth = with_land_cover(truth, codes, indices(bands)["ndvi"])
    truth = with_labels(truth, case.absent, case.vegetation, indices(bands)["ndvi"])
    return Known(
        case=case, chip=chip, truth=with_clouds(truth, cloud),
        cloud=np.zeros_like(visible) if cloud is None else cloud,
    )  # fmt: skip


def _chip(case: Case, found: dict[str, Scene], optical: str | None) -> Chip:
    from shapely.affinity import scale

    from earthmind_lab.data.load import load_chip

    pair = ScenePair(
        optical=found[optical] if optical else None,
        sar=found[case.sar] if case.sar else None,
        gap=None,
        overlap=1.0,
        cloud_in_aoi=None,
        score=0.0,
        factors={},
        catalog="sample",
    )
    if case.bbox is not None:
        return load_chip(pair, AOI.from_bbox(*case.bbox, name=case.name))
    ground = pair.scenes[0].footprint
    for scene in pair.scenes[1:]:
        ground = ground.intersection(scene.footprint)
    # Border pixels of two lattices that don't coincide are no data in one of them.
    aoi = AOI(geometry=scale(ground, 0.97, 0.97), name=case.name)
    return load_chip(pair, aoi)


def _read(href: str, chip: Chip) -> NDArray[Any]:
    """A class raster on the chip's grid, nearest."""
    import rasterio
    from rasterio.warp import Resampling, reproject

    with rasterio.open(href) as source:
        target = np.zeros(chip.inside.shape, source.dtypes[0])
        reproject(
            rasterio.band(source, 1),
            target,
            dst_transform=chip.grid.affine,
            dst_crs=str(chip.grid.crs),
            resampling=Resampling.nearest,
        )
    return target


def _land_cover(item: str, chip: Chip) -> NDArray[Any]:
    from earthmind_lab.data.samples import catalog_path

    (path,) = catalog_path().parent.rglob(f"{item}*.tif")
    return _read(str(path), chip)


def _cloud(found: dict[str, Scene], item: str | None, chip: Chip) -> NDArray[np.bool_] | None:
    return None if item is None else cloud_on(found[item], chip)


def cloud_on(scene: Scene | None, chip: Chip) -> NDArray[np.bool_] | None:
    """(H, W) True under cloud or shadow, by the scene's own mask; None = it has none."""
    from rasterio.warp import Resampling, reproject

    from earthmind_lab.data.clouds import read_mask

    mask = read_mask(scene, chip.aoi) if scene is not None else None
    if mask is None:
        return None
    target = np.zeros(chip.inside.shape, np.uint8)
    reproject(
        mask.cloud.astype(np.uint8), target, src_transform=mask.place[0], src_crs=mask.place[1],
        dst_transform=chip.grid.affine, dst_crs=str(chip.grid.crs), resampling=Resampling.nearest,
    )  # fmt: skip
    return target > 0
