"""Files and arrays of the user's own as a chip, by the rules that scenes of a catalog are read by.

    chip = open_chip(optical="s2.tif", sar="s1.tif", optical_scale=0.0001, optical_offset=-0.1,
                     sar_quantity="sigma0", sar_scale="dB", datetime="2019-09-17")

Each sensor becomes a STAC item in memory that says what the file and the caller declare; what
neither declares is asked for, never guessed.

open_chip()        the chip
area_of_files()    where it would be, or what is lacking, from the headers alone
sensors_in()       which sensors the names of a file's bands speak of
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from earthmind_lab.aoi import AOI, AOILike
from earthmind_lab.chip import Chip
from earthmind_lab.data.budget import Budget
from earthmind_lab.data.chip_grid import chip_grid
from earthmind_lab.data.files import Reader
from earthmind_lab.data.gaps import gap_of, gap_reason
from earthmind_lab.data.load import load_chip
from earthmind_lab.data.own_bands import NAMES, BandsLike, name_bands, parse_bands
from earthmind_lab.data.own_header import absolute, box_text, outside, overlap, read_header
from earthmind_lab.data.own_items import OPTICAL_WORDS, SAR_WORDS, Declared
from earthmind_lab.data.own_scenes import OwnScene, Source, own_scene
from earthmind_lab.data.plan import MAX_SIDE_PX
from earthmind_lab.errors import AOIError, LoadError, RadiometryUnknown
from earthmind_lab.exchange import Modality
from earthmind_lab.scene import ScenePair


def open_chip(  # noqa: PLR0913  every declaration is one word of the caller
    optical: Source | None = None,
    sar: Source | None = None,
    *,
    aoi: AOILike | None = None,
    bands: BandsLike | None = None,
    optical_scale: float | None = None,
    optical_offset: float | None = None,
    optical_level: Literal["TOA", "SR"] | None = None,
    sar_quantity: Literal["sigma0", "gamma0", "gamma0_rtc"] | None = None,
    sar_scale: Literal["dB", "power", "amplitude"] | None = None,
    nodata: Any = None,
    datetime: Any = None,
    gsd: float | None = None,
    deadline: float = 120.0,
    reader: Reader | None = None,
) -> Chip:
    """Own files or arrays on one grid, as reflectance and dB.

    The grid is the optical file's own where that is an upright UTM one, else `AOI.grid`, as with
    `load_chip`. A file is a GeoTIFF, a JPEG 2000, or a georeferenced PNG or JPEG; a plain picture
    without a place is no chip: `ask("picture.png", …)`.

    Args:
        optical: A file or its address, {band: file}, or an xarray DataArray or Dataset.
        sar: The same for SAR; it may be the same file.
        aoi: The area; None = where the files overlap.
        bands: Which band is which, for both sensors: names in the file's order, or {name: its
            number, or its name in the file}. Names are ``red``, ``nir``, ``vv`` and their like, or
            Sentinel-2's ``B4``. None = by the names in the file: Google Earth Engine's ``B2`` and
            ``VV``, SNAP's ``Sigma0_VV_db``. There, ``B2`` and its like are taken for Sentinel-2's
            only where they can't be Landsat's.
        optical_scale: Reflectance per number in the file; needed for whole numbers where the file
            has no scale itself. Numbers with decimals count as reflectance where nothing is said.
        optical_offset: Added to number x scale; needed with any scale but 1, because Sentinel-2
            since baseline 04.00 and Landsat have one.
        optical_level: ``TOA`` or ``SR`` (surface); None = unknown.
        sar_quantity: Which backscatter; needed where units and names of the bands don't say it.
        sar_scale: ``dB``, ``power`` or ``amplitude``; needed where they don't say it.
        nodata: Stored number without data, beside what the file declares; one for both sensors,
            or {"optical": …, "sar": …}.
        datetime: Acquisition time: an instant, a day, ``"A/B"``, or {"optical": …, "sar": …}.
            None = what the metadata say (one ``time`` coordinate, GDAL's ACQUISITIONDATETIME),
            else unknown.
        gsd: Pixel size in metres; None = the optical file's own, without one the SAR file's.
        deadline: Seconds for all of it.
        reader: Opens the files, by a deadline of its own.

    Raises:
        AOIError: The area can't be used.
        AssetUnavailable: A file is missing, broken or of another format.
        GridMismatch: A file has no place on the Earth.
        LoadError: Nothing says which band is which; files and AOI don't overlap, or are larger
            than one chip.
        NotTerrainCorrected: SAR that only ground control points place.
        RadiometryUnknown: Numbers without a declared meaning, or that contradict it; the message
            says what to pass.
    """
    area = None if aoi is None else AOI.from_any(aoi)
    reader = reader or Reader(budget=Budget(deadline))
    said = {
        "bands": bands, "optical_scale": optical_scale, "optical_offset": optical_offset,
        "optical_level": optical_level, "sar_quantity": sar_quantity, "sar_scale": sar_scale,
        "nodata": nodata,
    }  # fmt: skip
    own = _own({"optical": optical, "sar": sar}, said, datetime, area, gsd, reader)
    said["bands"] = _places(own) if parse_bands(bands) else None
    chip = _load(own, _area(own, area), gsd, whole=area is None, reader=reader)
    return replace(chip, provenance={**chip.provenance, **_origin(own, said)})


def area_of_files(
    optical: Source | None = None, sar: Source | None = None, *, aoi: AOILike | None = None,
    datetime: Any = None, gsd: float | None = None, deadline: float = 120.0, **said: Any,
) -> AOI:  # fmt: skip
    """Where the chip of files would be; only their headers are read.

    Args:
        optical: As `open_chip`.
        sar: As `open_chip`.
        aoi: As `open_chip`.
        datetime: As `open_chip`.
        gsd: As `open_chip`.
        deadline: As `open_chip`.
        said: The other arguments of `open_chip`.

    Raises:
        AOIError: As `open_chip`.
        LoadError: As `open_chip`, and for an argument that it doesn't know.
    """
    if unknown := sorted(set(said) - set(DECLARATIONS)):
        raise LoadError(
            f"{unknown[0]}= says nothing about files.", change=", ".join((*DECLARATIONS, "gsd"))
        )
    area = None if aoi is None else AOI.from_any(aoi)
    reader = Reader(budget=Budget(deadline))
    own = _own({"optical": optical, "sar": sar}, said, datetime, area, gsd, reader)
    found = _area(own, area)
    _check_size(_pair(own, found), found, _gsd(own, gsd), reader)
    return found


def sensors_in(path: str | Path) -> tuple[Modality, ...]:
    """The sensors that the names of a file's bands speak of; empty where they speak of none.

    Raises:
        AssetUnavailable: It can't be read.
        GridMismatch: It has no place on the Earth.
    """
    header = read_header(absolute(path), "optical", Reader(budget=Budget(10.0)))
    found: list[Modality] = []
    for modality in get_args(Modality):
        with suppress(LoadError):
            name_bands(header, modality, ())
            found.append(modality)
    return tuple(found)


DECLARATIONS = (
    "bands", "optical_scale", "optical_offset", "optical_level", "sar_quantity", "sar_scale",
    "nodata", "datetime",
)  # fmt: skip
"""What can be said of files; see `open_chip`."""


def _own(
    sources: Mapping[str, Source | None], said: Mapping[str, Any], time: Any, area: AOI | None,
    gsd: float | None, reader: Reader,
) -> dict[str, OwnScene]:  # fmt: skip
    """Each sensor that was given, as a scene."""
    nodata = said.get("nodata")
    declared = {
        "optical": Declared(
            scale=said.get("optical_scale"), offset=said.get("optical_offset"),
            level=said.get("optical_level"), nodata=_of(nodata, "optical"),
        ),
        "sar": Declared(
            quantity=said.get("sar_quantity"), convention=said.get("sar_scale"),
            nodata=_of(nodata, "sar"),
        ),
    }  # fmt: skip
    given = parse_bands(said.get("bands"))
    same = [absolute(each) for each in sources.values() if isinstance(each, str | Path)]
    shared = len(same) == 2 and same[0] == same[1]
    own = {
        name: own_scene(
            name, source, given, declared[name], time=_of(time, name), aoi=area, gsd=gsd,
            shared=shared, reader=reader,
        )
        for name, source in sources.items() if source is not None
    }  # fmt: skip
    if not own:
        raise LoadError("No file was given.", change="open_chip(optical='s2.tif', sar='s1.tif')")
    return own


def _of(value: Any, modality: str) -> Any:
    """The part of an argument that is about one modality."""
    if isinstance(value, Mapping) and not set(value) <= {"optical", "sar"}:
        raise LoadError(
            "An argument for each sensor names neither.",
            found=", ".join(map(str, value)),
            change="{'optical': …, 'sar': …}",
        )
    return value.get(modality) if isinstance(value, Mapping) else value


def _places(own: Mapping[str, OwnScene]) -> dict[str, int]:
    return {
        name: band.number
        for each in own.values() if not isinstance(each.source, Mapping)
        for file in each.files for name, band in file.bands.items()
    }  # fmt: skip


def _origin(own: Mapping[str, OwnScene], said: Mapping[str, Any]) -> dict[str, Any]:
    """For provenance: the arguments that open the same chip again, and what came from memory."""
    arguments = {name: value for name, value in said.items() if value is not None}
    arguments |= {name: each.source for name, each in own.items()}
    times = {name: each.scene.observed for name, each in own.items() if each.scene.told}
    arguments |= {"datetime": times} if times else {}
    memory = {name: each.sha256 for name, each in own.items() if each.sha256}
    return {"own_files": arguments} | ({"from_memory": memory} if memory else {})


def _load(
    own: Mapping[str, OwnScene], aoi: AOI, gsd: float | None, *, whole: bool, reader: Reader
) -> Chip:
    pair, gsd = _pair(own, aoi), _gsd(own, gsd)
    if whole:
        _check_size(pair, aoi, gsd, reader)
    held = pair.optical.assets if pair.optical else ()
    bands = [name for name in NAMES["optical"] if name in held]
    try:
        chip = load_chip(pair, aoi, gsd=gsd, bands=bands, reader=reader)
    except RadiometryUnknown as error:
        # The rules speak of STAC fields; here arguments take their place.
        sar = "backscatter" in error.asked
        change = SAR_WORDS if sar else OPTICAL_WORDS
        asks = ("sar_quantity", "sar_scale") if sar else ("optical_scale", "optical_offset")
        same = RadiometryUnknown(error.asked, found=error.found, change=change)
        raise same.asking(*asks) from error
    return chip


def _gsd(own: Mapping[str, OwnScene], given: float | None) -> float | None:
    """What was given, else the SAR file's where there is no other; None = the optical scene's."""
    return own["sar"].gsd if given is None and "optical" not in own else given


def _check_size(pair: ScenePair, aoi: AOI, gsd: float | None, reader: Reader) -> None:
    size = chip_grid(pair, aoi, gsd, reader).shape
    if max(size) > MAX_SIDE_PX:
        raise LoadError(
            "The files hold more than one chip.",
            found=f"{size[1]} x {size[0]} px, at most {MAX_SIDE_PX} on a side",
            change="aoi= with a part of them, or a coarser gsd=",
        ).asking("gsd")


def _area(own: Mapping[str, OwnScene], aoi: AOI | None) -> AOI:
    """What was asked for, else where the files overlap.

    Raises:
        LoadError: The files, or the files and the AOI, don't meet, or the whole of them is no AOI.
    """
    for each in own.values():
        if aoi is not None and not each.scene.footprint.intersects(aoi.geometry):
            raise outside(f"file {each.scene.id}", each.scene.footprint, aoi)
    shared = overlap([each.scene.footprint for each in own.values()])
    if shared.is_empty or (aoi is not None and overlap([shared, aoi.geometry]).is_empty):
        found = ", ".join(
            f"{name} {box_text(each.scene.footprint.bounds)}" for name, each in own.items()
        )
        where = f" inside the AOI {aoi.name!r}" if aoi else ""
        raise LoadError(f"The optical and the SAR file don't overlap{where}.", found=found)
    if aoi is not None:
        return aoi
    try:
        return AOI(geometry=shared, name=" and ".join(each.scene.id for each in own.values()))
    except AOIError as error:
        raise LoadError(
            "The files can't be one chip as a whole.",
            found=str(error),
            change="aoi= with a part of them",
        ) from error


def _pair(own: Mapping[str, OwnScene], aoi: AOI) -> ScenePair:
    """The scenes as a pair that nobody ranked: its score is the share of the AOI inside both."""
    scenes = {name: each.scene for name, each in own.items()}
    covered = overlap([aoi.geometry, *(scene.footprint for scene in scenes.values())])
    share = min(1.0, round(covered.area / aoi.geometry.area, 9))
    optical, sar = scenes.get("optical"), scenes.get("sar")
    gap = None
    reasons = ["The files were given, not found: no rank, the score is their share of the AOI."]
    for name, scene in scenes.items():
        if not scene.told:
            reasons.append(f"The time of the {'SAR' if name == 'sar' else name} file is unknown.")
    if optical and sar and optical.told and sar.told:
        gap = gap_of(optical, sar)
        reasons.append(gap_reason(gap))
    return ScenePair(
        optical=optical, sar=sar, gap=gap, overlap=share, cloud_in_aoi=None, score=100 * share,
        factors={"V": share, "T": 1.0, "Q": 1.0}, reasons=tuple(reasons),
    )  # fmt: skip
