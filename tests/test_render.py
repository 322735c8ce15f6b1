"""Pictures of chips and plain pictures."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image
from shapely.geometry import box

from earthmind_lab import sensors
from earthmind_lab.aoi import AOI
from earthmind_lab.band_groups import group_names
from earthmind_lab.bands import WAVELENGTHS, Band
from earthmind_lab.chip import Chip, Radiometry
from earthmind_lab.errors import PromptError
from earthmind_lab.render import (
    COMPOSITES,
    PICTURE_FORMATS,
    fillable,
    picture_view,
    render,
)
from earthmind_lab.scene import Scene, ScenePair
from earthmind_lab.sensors import Sensor

SHAPE = (8, 12)
GRID = GeoBox(SHAPE, Affine(20, 0, 600000, 0, -20, 4200000), "EPSG:32630")
SAR_TIME = datetime(2019, 9, 18, 6, tzinfo=UTC)
OPTICAL = ("blue", "green", "red", "nir", "swir16")


def make_scene(modality: str, when: datetime | None) -> Scene:
    day = datetime(2019, 9, 17, tzinfo=UTC)
    return Scene(
        id=modality,
        sensor=modality,
        modality=modality,
        datetime=when,
        start=when or day,
        end=when or day.replace(hour=23),
        footprint=box(-2, 37, -1, 38),
        assets={},
    )


def make_chip(
    bands: tuple[str, ...] = OPTICAL, polarisations: tuple[str, ...] = ("vv", "vh")
) -> Chip:
    """Reflectance 0.1, 0.2, ... by band; VV -12.5 dB, VH -19.5 dB, pixel (0, 0) without data."""
    levels = np.arange(1, len(bands) + 1, dtype=np.float32) / 10
    optical = np.tile(levels[:, None, None], (1, *SHAPE)) if bands else None
    decibels = np.array([{"vv": -12.5, "vh": -19.5}.get(p, -10.0) for p in polarisations])
    sar = np.tile(decibels.astype(np.float32)[:, None, None], (1, *SHAPE))
    for stack in (optical, sar):
        if stack is not None:
            stack[:, 0, 0] = np.nan
    return Chip(
        grid=GRID,
        optical=optical,
        sar=sar if polarisations else None,
        bands=bands,
        polarisations=polarisations,
        valid_optical=np.isfinite(optical[0]) if bands else None,
        valid_sar=np.isfinite(sar[0]) if polarisations else None,
        inside=np.ones(SHAPE, dtype=bool),
        radiometry=Radiometry(
            level="SR" if bands else None,
            offset_applied=0.0 if bands else None,
            quantity="sigma0" if polarisations else None,
            geometry="unknown" if polarisations else None,
            noise_floor_db=dict.fromkeys(polarisations, -50.0),
        ),
        pair=ScenePair(
            optical=make_scene("optical", None) if bands else None,
            sar=make_scene("sar", SAR_TIME) if polarisations else None,
            gap=None,
            overlap=1.0,
            cloud_in_aoi=None,
            score=0.0,
            factors={},
        ),
        aoi=AOI.from_bbox(-2, 37, -1.5, 37.5),
    )


def test_default_views_in_order() -> None:
    views = render(make_chip())
    assert [view.name for view in views] == ["vv_vh_ratio", "swir_nir_red", "true_colour"]
    assert [view.modality for view in views] == ["sar", "optical", "optical"]
    assert all(view.shape == SHAPE and view.gsd == 20 for view in views)
    assert views[0].time == "2019-09-18T06:00:00Z"
    assert views[1].time == "2019-09-17T00:00:00Z/2019-09-17T23:00:00Z"


def test_channels_are_stretched_physically() -> None:
    sar, swir, true = render(make_chip())
    # VV -12.5 of -25..0; VH -19.5 of -32..-7; ratio 7 of 0..15.
    assert sar.image[4, 4].tolist() == [128, 128, 119]
    assert sar.bands == ("vv", "vh", "vv-vh")
    assert sar.stretch == ((-25, 0), (-32, -7), (0, 15))
    # swir16 0.5 of 0..0.4 (saturated), nir 0.4 of 0..0.4, red 0.3 of 0..0.3
    assert swir.image[4, 4].tolist() == [255, 255, 255]
    assert swir.stretch == ((0, 0.4), (0, 0.4), (0, 0.3))
    # red 0.3, green 0.2, blue 0.1 of 0..0.3
    assert true.image[4, 4].tolist() == [255, 170, 85]


def test_nodata_is_black() -> None:
    assert all((view.image[0, 0] == 0).all() for view in render(make_chip()))


@pytest.mark.parametrize(
    ("bands", "polarisations", "names"),
    [
        (OPTICAL, (), ["swir_nir_red", "true_colour"]),
        ((), ("vv", "vh"), ["vv_vh_ratio"]),
        (("red", "green", "blue"), ("vv",), ["true_colour", "vv"]),
        (("red", "nir08", "swir16"), ("hh", "hv"), ["hh_hv_ratio", "swir_nir_red"]),
        (("red", "nir"), (), ["nir"]),
    ],
)
def test_defaults_follow_the_bands(
    bands: tuple[str, ...], polarisations: tuple[str, ...], names: list[str]
) -> None:
    assert [view.name for view in render(make_chip(bands, polarisations))] == names


@pytest.mark.parametrize(
    ("polarisations", "names"),
    [(("vv", "vh"), ["vv", "true_colour"]), (("hh",), ["hh", "true_colour"])],
)
def test_a_model_may_prefer_other_pictures(
    polarisations: tuple[str, ...], names: list[str]
) -> None:
    views = render(make_chip(OPTICAL, polarisations), preferred=("vv", "true_colour"))
    assert [view.name for view in views] == names


def test_preferring_what_is_unknown_is_refused() -> None:
    with pytest.raises(PromptError, match=r"natural.*true_colour"):
        render(make_chip(), preferred=("natural",))


def test_nir08_is_named_where_it_is_used() -> None:
    (view,) = render(make_chip(("red", "nir08", "swir16"), ()))
    assert view.bands == ("swir16", "nir08", "red")


@pytest.mark.parametrize(
    ("bands", "name", "filled"),
    [
        (("nir", "red", "green"), "false_colour", ("nir", "red", "green")),
        (("nir08", "red", "green"), "false_colour", ("nir08", "red", "green")),
        (("swir16", "nir", "blue"), "agriculture", ("swir16", "nir", "blue")),
        (("swir22", "swir16", "red"), "urban", ("swir22", "swir16", "red")),
        (("nir", "rededge1", "red"), "red_edge", ("nir", "rededge1", "red")),
        (("nir", "rededge2", "red"), "red_edge", None),  # 36 nm off
        (("nir", "red"), "red_edge", None),  # red is 39 nm off the red edge
        (("coastal", "green", "red"), "true_colour", None),
        (("swir16", "red"), "urban", None),
    ],
)
def test_composites_are_filled_by_wavelength(
    bands: tuple[str, ...], name: str, filled: tuple[str, ...] | None
) -> None:
    chip = make_chip(bands, ())
    if filled is None:
        assert name not in fillable(chip, "optical")
        with pytest.raises(PromptError, match=name):
            render(chip, [name])
    else:
        assert render(chip, [name])[0].bands == filled


def test_a_band_of_another_name_stands_in_by_the_wavelength_its_sensor_declares(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    centres = {"r": 650.0, "g": 552.0, "b": 470.0, "n": 800.0}
    camera = Sensor(
        key="optical-camera", title="", modality="optical",
        bands=tuple(Band(name=n, gsd=1.0, wavelength_nm=w) for n, w in centres.items()),
    )  # fmt: skip
    monkeypatch.setitem(sensors._TABLE, "optical-camera", camera)
    chip = make_chip(tuple(centres), ())
    assert chip.wavelengths == dict.fromkeys(centres)
    assert fillable(chip, "optical") == ()
    assert chip.pair.optical is not None
    scene = replace(chip.pair.optical, sensor="optical-camera")
    chip = replace(chip, pair=replace(chip.pair, optical=scene))
    assert chip.wavelengths == centres
    assert fillable(chip, "optical") == ("true_colour",)
    assert render(chip)[0].bands == ("r", "g", "b")
    assert group_names(chip.wavelengths, "benchmark")[0] == ("r", "g", "b")


def test_hh_and_hv_have_the_pictures_of_vv_and_vh() -> None:
    (view,) = render(make_chip((), ("hh", "hv")))
    assert (view.name, view.bands) == ("hh_hv_ratio", ("hh", "hv", "hh-hv"))
    assert view.stretch == COMPOSITES["vv_vh_ratio"].stretch
    # Both -10 dB: of -25..0, of -32..-7, and no ratio.
    assert view.image[4, 4].tolist() == [153, 224, 0]
    assert fillable(make_chip((), ("hh", "hv")), "sar") == ("hh_hv_ratio", "hh", "hv")


def test_a_model_sees_the_other_polarisation_in_the_place_of_the_one_it_knows() -> None:
    names = [v.name for v in render(make_chip(OPTICAL, ("hh", "hv")), preferred=("vv", "vh"))]
    assert names == ["hh", "hv", "nir"]


def test_brightness_is_shown_as_it_is() -> None:
    chip = make_chip(("red", "green", "blue"), ("vv", "vh"))
    chip = replace(chip, radiometry=replace(chip.radiometry, level="DN"))
    sar, colour = render(chip, ["vv_vh_ratio", "true_colour"])
    assert colour.stretch == ((0.0, 1.0),) * 3
    assert colour.image[4, 4].tolist() == [26, 51, 77]  # 0.1, 0.2, 0.3
    assert sar.stretch[0] == (-25, 0)


def test_every_composite_reads_physical_limits() -> None:
    for name, composite in COMPOSITES.items():
        assert composite.name == name
        unit = range(-40, 16) if composite.modality == "sar" else (0, 0.3, 0.4)
        assert all(low in unit and high in unit and low < high for low, high in composite.stretch)
        if composite.modality == "optical":
            assert set(composite.bands) <= set(WAVELENGTHS)


def test_a_single_polarisation_is_grey() -> None:
    (view,) = render(make_chip((), ("vv",)))
    assert view.image[4, 4].tolist() == [128, 128, 128]


def test_asking_for_what_is_not_there() -> None:
    with pytest.raises(PromptError, match="no composite 'ndvi'"):
        render(make_chip(), ["ndvi"])
    with pytest.raises(PromptError, match="swir16"):
        render(make_chip(("red", "green", "blue")), ["swir_nir_red"])
    with pytest.raises(PromptError, match="no bands for any picture"):
        render(make_chip(("coastal",), ()))


# --- plain pictures -----------------------------------------------------------------------------


def picture(width: int = 5, height: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_plain_pictures_keep_their_pixels(tmp_path: Path) -> None:
    pixels = picture()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for given in (pixels, tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(pixels)):
        view = picture_view(given)
        assert np.array_equal(view.image, pixels)
        assert (view.name, view.gsd, view.time, view.stretch) == ("picture", None, None, ())


def test_grey_and_alpha_become_colour(tmp_path: Path) -> None:
    pixels = picture()
    assert np.array_equal(picture_view(pixels[:, :, 0]).image[:, :, 2], pixels[:, :, 0])
    with_alpha = np.dstack([pixels, np.full(pixels.shape[:2], 9, dtype=np.uint8)])
    assert np.array_equal(picture_view(with_alpha).image, pixels)


def test_camera_orientation_is_applied(tmp_path: Path) -> None:
    pixels = picture()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    view = picture_view(tmp_path / "turned.png")
    assert np.array_equal(view.image, np.rot90(pixels, -1))


@pytest.mark.parametrize("dtype", ["uint16", "float32", "int32"])
def test_numbers_with_units_are_not_pictures(tmp_path: Path, dtype: str) -> None:
    values = (np.arange(12).reshape(3, 4) * 100).astype(dtype)
    Image.fromarray(values).save(tmp_path / "raster.tif")
    for given in (values, tmp_path / "raster.tif"):
        with pytest.raises(PromptError, match="declared units"):
            picture_view(given)


def test_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(picture(90, 90)).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:9000])
    for name, message in (("text", "no picture"), ("half", "damaged"), ("none", "There is no")):
        with pytest.raises(PromptError, match=message):
            picture_view(tmp_path / f"{name}.png")
    with pytest.raises(PromptError, match="no picture"):
        picture_view(np.zeros((2, 3, 5), dtype=np.uint8))


@pytest.mark.parametrize("given", PICTURE_FORMATS)
def test_formats_that_are_taken(tmp_path: Path, given: str) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png", given)
    assert picture_view(tmp_path / "a.png").image.shape == (3, 5, 3)


@pytest.mark.parametrize("given", ["EPS", "PPM"])
def test_no_other_format_is_opened(tmp_path: Path, given: str) -> None:
    """Of EPS, Pillow would have Ghostscript run the program that the file is."""
    Image.fromarray(picture()).save(tmp_path / "a.png", given)
    with pytest.raises(PromptError, match=r"no picture that can be read.*PNG, JPEG, WebP"):
        picture_view(tmp_path / "a.png")


@pytest.mark.parametrize("side", [10_001, 20_000])
def test_huge_pictures_are_refused_before_they_are_decoded(tmp_path: Path, side: int) -> None:
    Image.new("1", (side, 10_000)).save(tmp_path / "huge.png")
    with pytest.raises(PromptError, match="too large"):
        picture_view(tmp_path / "huge.png")
