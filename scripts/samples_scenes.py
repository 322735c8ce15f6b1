"""What the embedded catalog holds: places, pictures, what is known about each, licences.

Everything here is known from the sources' own metadata or their data papers. What isn't known
(platform, orbit, time of day) is left out. Coordinates were checked: the Major TOM cell lies in
Thailand, 45 km south of the Mekong and the border to Laos.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BANDS_12 = ("coastal", "blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08",
            "nir09", "swir16", "swir22")  # fmt: skip
BANDS_13 = (*BANDS_12[:10], "cirrus", *BANDS_12[10:])
DROPPED = ("coastal", "nir09", "cirrus")
"""60 m bands about the air; read to measure offset and cloud, not shipped."""
RED_EDGE = ("rededge1", "rededge2", "rededge3")
"""Left out too where the source resampled them to 10 m: large, and nothing here reads them."""
CC_BY, CC_BY_SA, CDLA = "CC-BY-4.0", "CC-BY-SA-4.0", "CDLA-Permissive-1.0"
COPERNICUS = "LicenseRef-Copernicus-Sentinel"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One item of the catalog and where its pixels come from."""

    id: str
    place: str
    collection: str
    file: str
    """Source below the source folder, or a pattern with ``{band}`` for one file per band."""
    bands: tuple[str, ...]
    """Names of the source's bands in order."""
    time: str | tuple[str, str]
    """UTC instant, or (start, end) where the source has only a day or a season."""
    licence: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Properties known about this picture."""
    window: tuple[int, int, int, int] | None = None
    """(row, column, rows, columns) cut from the source, at its finest pixels."""
    sibling: str | None = None
    """L1C file of the same acquisition: supports the offset and gives the cloud mask."""
    drop: tuple[str, ...] = DROPPED
    """Bands that are not shipped."""
    clear: str | None = None
    """L1C file of the clear twin, on the same pixels: tells clouds from bright ground."""
    made_up: tuple[float, float, int] | None = None
    """(west, north, EPSG code) of a grid of 10 m for pixels that come without a place."""


@dataclass(frozen=True, kw_only=True)
class Spot:
    """A place to ask about."""

    name: str
    title: str
    dates: str
    why: str
    sensors: tuple[str, ...] = ("optical", "sar")
    bbox: tuple[float, float, float, float] | None = None
    """(west, south, east, north); None = the inside of all its footprints."""
    max_gap: str | None = None


IW: dict[str, Any] = {
    "constellation": "sentinel-1", "instruments": ["c-sar"], "sar:instrument_mode": "IW",
    "sar:frequency_band": "C", "sar:center_frequency": 5.405, "sar:polarizations": ["VV", "VH"],
    "sar:product_type": "GRD", "sar:observation_direction": "right",
    "sar:pixel_spacing_range": 10, "sar:pixel_spacing_azimuth": 10,
    "card4l:measurement_convention": "linear power",
}  # fmt: skip
RTC = IW | {
    "card4l:measurement_type": "gamma0",
    "earthmind:sar_geometry": "terrain_corrected", "processing:level": "L1",
    "processing:facility": "Microsoft Planetary Computer (sentinel-1-rtc), by way of TerraMesh",
    "processing:lineage": "calibration, radiometric terrain correction, dB",
    "earthmind:geolocation_error_px": 3,
    "earthmind:geolocation_note": "SAR and optical of the TerraMesh cells lie 1 to 3 pixels apart.",
}  # fmt: skip
SIGMA0 = IW | {
    "card4l:measurement_type": "sigma0", "card4l:noise_removal_applied": True,
    "earthmind:sar_geometry": "terrain_corrected", "processing:level": "L1",
}  # fmt: skip
SNAP_STEPS = (
    "orbit file, border and thermal noise removal, calibration to sigma0, Range-Doppler terrain "
    "correction (Sentinel-1 Toolbox), dB"
)
GEE = SIGMA0 | {
    "card4l:speckle_filtering": None,
    "processing:facility": "Google Earth Engine (COPERNICUS/S1_GRD)",
    "processing:lineage": SNAP_STEPS,
}
SNAP = SIGMA0 | {
    "processing:facility": "TU Berlin, BigEarthNet-MM",
    "processing:lineage": SNAP_STEPS,
    "platform": "sentinel-1a",
}
S2: dict[str, Any] = {"constellation": "sentinel-2", "instruments": ["msi"]}
L2A = S2 | {"processing:level": "L2", "s2:product_type": "S2MSI2A"}
L1C = S2 | {"processing:level": "L1", "s2:product_type": "S2MSI1C"}
VV_VH = ("vv", "vh")


def day(date: str) -> tuple[str, str]:
    """The UTC day as an interval."""
    return f"{date}T00:00:00Z", f"{date}T23:59:59Z"


SPOTS = (
    Spot(
        name="spain", title="Flooded fields near Orihuela, Spain", dates="2019-09-15/2019-09-20",
        bbox=(-0.775, 38.09, -0.745, 38.12),
        why="Open water over fields days after the storm of September 2019, beside towns and "
        "citrus groves; optical and SAR disagree under vegetation. Both times are known to the "
        "day only.",
    ),
    Spot(
        name="chile", title="River and fields south-east of Temuco, Chile",
        dates="2020-04-05/2020-04-15",
        why="A winding river between fields, trees and a village; the numbers carry the +1000 "
        "offset; the land-cover map shows the river much wider than the picture does.",
    ),
    Spot(
        name="denmark", title="Strip fields in Vendsyssel, Denmark", dates="2017-10-28/2017-11-01",
        why="Long fields in low autumn light, a road with farms, no water: asking for water must "
        "give none.",
    ),
    Spot(
        name="tanzania", title="Dry river bed in Simiyu, Tanzania", dates="2023-06-08/2023-06-12",
        why="A sandy river bed without water in rangeland and small fields: looks like a river, "
        "holds none.",
    ),
    Spot(
        name="jiangsu", title="Canal and villages near Huai'an, Jiangsu, China",
        dates="2018-09-01/2018-11-30",
        why="A wide straight canal with levees and rows of houses; one clear and one cloudy "
        "picture. Exact times are unknown (a season). The cloudy picture needs max_cloud=100.",
    ),
    Spot(
        name="ireland_wexford", title="Cereal fields in County Wexford, Ireland",
        dates="2017-06-16/2017-06-18", why="Arable land and pasture with hedges; same day.",
    ),
    Spot(
        name="ireland_kilkenny", title="Pastures in County Kilkenny, Ireland",
        dates="2017-06-16/2017-06-18", why="Pasture with hedges and a farm; same day.",
    ),
    Spot(
        name="finland_snow", title="Snow and forest in North Karelia, Finland",
        dates="2018-02-03/2018-02-06", why="Snow on clearings and fields under a low sun.",
    ),
    Spot(
        name="finland_lake", title="Lake in North Karelia, Finland",
        dates="2017-09-23/2017-09-26", why="A dark lake in forest and peat; calm water in SAR.",
    ),
    Spot(
        name="punjab", title="Irrigated fields near Pakpattan, Punjab, Pakistan",
        dates="2020-06-01/2020-09-05",
        why="Small fields, villages and a canal road through a growing season: two SAR and three "
        "optical dates, one half cloudy. Its geotransforms are about 4 pixels off.",
    ),
    Spot(
        name="lazio", title="Hills with olive groves in the Sabina, Lazio, Italy",
        dates="2018-01-01/2018-12-31", sensors=("optical",),
        why="Four dates of one year: thin cloud, closed cloud, summer, autumn. Optical only. "
        "The two cloudy dates need max_cloud=100.",
    ),
    Spot(
        name="bolzano", title="City of Bolzano, Italy", dates="2022-06-12/2022-06-12",
        sensors=("optical",),
        why="A dense town where two rivers meet between forest slopes and vineyards. Optical "
        "only, no SWIR band.",
    ),
    Spot(
        name="songkhram", title="Wetland by the Songkhram river, Thailand, south of Laos",
        dates="2020-02-20/2020-02-25", sensors=("optical",),
        bbox=(103.726, 17.9265, 103.756, 17.9545),
        why="A shallow lake with floating plants, a river, rice fields after harvest. Optical "
        "only.",
    ),
)  # fmt: skip


def pictures() -> tuple[Picture, ...]:
    """Every item, ordered by collection and place."""
    return (*_terramesh(), *_spain(), *_jiangsu(), *_bigearthnet(), *_punjab(), *_optical_only())


def _terramesh() -> list[Picture]:
    rows = (
        ("chile", "433D_629L_3_1", "2020-04-11T23:43:09Z", "2020-04-08T14:37:29Z"),
        ("denmark", "637U_59R_1_3", "2017-10-30T05:32:30Z", "2017-10-30T10:41:51Z"),
        ("tanzania", "38D_378R_2_3", "2023-06-10T16:04:18Z", "2023-06-10T07:46:21Z"),
    )
    found = []
    for place, cell, sar_time, optical_time in rows:
        folder = f"pairs/terramesh_{cell}"
        found += [
            Picture(
                id=f"S1_RTC_{place}_{sar_time[:10]}", place=place, collection="sentinel-1-rtc",
                file=f"{folder}/s1_rtc.tif", bands=VV_VH, time=sar_time, licence=CC_BY_SA,
                facts=RTC,
            ),
            Picture(
                id=f"S2_L2A_{place}_{optical_time[:10]}", place=place,
                collection="sentinel-2-l2a", file=f"{folder}/s2_l2a.tif", bands=BANDS_12,
                time=optical_time, licence=CC_BY_SA, facts=L2A, sibling=f"{folder}/s2_l1c.tif",
            ),
            Picture(
                id=f"LC_{place}", place=place, collection="land-cover",
                file=f"{folder}/lulc.tif", bands=("data",), licence=CC_BY_SA,
                # TerraMesh spans these years; which one a cell's map shows isn't in the files.
                time=("2017-01-01T00:00:00Z", "2023-12-31T23:59:59Z"),
                facts={"earthmind:map": "Impact Observatory/Esri 10 m annual land cover"},
            ),
        ]  # fmt: skip
    return found


def _spain() -> list[Picture]:
    folder = "pairs/sen1floods11_Spain_7370579"
    return [
        Picture(
            id="S1_SIGMA0_spain_2019-09-17", place="spain", collection="sentinel-1-sigma0",
            file=f"{folder}/s1_grd.tif", bands=VV_VH, time=day("2019-09-17"),
            licence=COPERNICUS, facts=GEE,
        ),
        Picture(
            id="S2_L1C_spain_2019-09-18", place="spain", collection="sentinel-2-l1c",
            file=f"{folder}/s2_l1c.tif", bands=BANDS_13, time=day("2019-09-18"),
            licence=COPERNICUS, facts=L1C, drop=DROPPED + RED_EDGE,
        ),
    ]  # fmt: skip


def _jiangsu() -> list[Picture]:
    folder = "pairs/sen12mscr_ROIs1970_fall_139_p839"
    season = ("2018-09-01T00:00:00Z", "2018-11-30T23:59:59Z")
    note = {
        "earthmind:datetime_note": "Only the season (fall) is in the source's name; SEN12MS-CR "
        "covers 2018. The order of the pictures within the season is unknown."
    }
    rows = (
        ("S1_SIGMA0_jiangsu_2018-fall", "sentinel-1-sigma0", "s1_grd", VV_VH, GEE),
        ("S2_L1C_jiangsu_2018-fall_clear", "sentinel-2-l1c", "s2_l1c", BANDS_13, L1C),
        ("S2_L1C_jiangsu_2018-fall_cloudy", "sentinel-2-l1c", "s2_l1c_cloudy", BANDS_13, L1C),
    )
    return [
        Picture(
            id=name, place="jiangsu", collection=collection, file=f"{folder}/{file}.tif",
            bands=bands, time=season, licence=CC_BY, facts=dict(facts) | note,
        )
        for name, collection, file, bands, facts in rows
    ]  # fmt: skip


def _bigearthnet() -> list[Picture]:
    rows = (
        ("ireland_wexford", "29UPU_36_85", "2017-06-17T06:47:24Z", "2017-06-17T11:33:21Z", "a", 80),
        ("ireland_kilkenny", "29UPU_4_55", "2017-06-17T06:47:24Z", "2017-06-17T11:33:21Z", "a", 80),
        ("finland_snow", "35VPK_57_38", "2018-02-04T04:32:53Z", "2018-02-04T09:41:56Z", "b", 36),
        ("finland_lake", "35VPK_69_24", "2017-09-25T04:32:56Z", "2017-09-24T09:30:20Z", "b", 136),
    )
    found = []
    for place, cell, sar_time, optical_time, unit, orbit in rows:
        folder = f"pairs/ben_{cell}"
        msi = L2A | {
            "platform": f"sentinel-2{unit}", "sat:relative_orbit": orbit,
            "s2:mgrs_tile": cell[:5], "processing:facility": "TU Berlin, BigEarthNet (Sen2Cor)",
        }  # fmt: skip
        found += [
            Picture(
                id=f"S1_SIGMA0_{place}_{sar_time[:10]}", place=place,
                collection="sentinel-1-sigma0", file=f"{folder}/s1_grd.tif", bands=VV_VH,
                time=sar_time, licence=CDLA, facts=SNAP,
            ),
            Picture(
                id=f"S2_L2A_{place}_{optical_time[:10]}", place=place,
                collection="sentinel-2-l2a", file=f"{folder}/s2_l2a.tif", bands=BANDS_12,
                time=optical_time, licence=CDLA, facts=msi,
            ),
            Picture(
                id=f"LC_{place}", place=place, collection="land-cover",
                file=f"{folder}/labels.json", bands=(), licence=CDLA,
                # CORINE Land Cover 2018 was mapped from pictures of 2017 and 2018.
                time=("2017-01-01T00:00:00Z", "2018-12-31T23:59:59Z"),
                facts={"earthmind:map": "CORINE Land Cover 2018, classes present, no pixels"},
            ),
        ]  # fmt: skip
    return found


def _punjab() -> list[Picture]:
    folder = "pairs/ssl4eo_0000200"
    shift = {
        "earthmind:geolocation_error_px": 4,
        "earthmind:geolocation_note": "SAR and optical of this place lie about 4 pixels apart by "
        "their geotransforms and about 1 by array index; the geotransforms are the wrong part.",
    }
    sar = (
        ("2020-06-07T01:08:00Z", "20200607", "descending", 107, 32904,
         "S1A_IW_GRDH_1SDV_20200607T010800_20200607T010825_032904_03CFBA_D457"),
        ("2020-09-03T13:12:12Z", "20200903", "ascending", 173, 34195,
         "S1A_IW_GRDH_1SDV_20200903T131212_20200903T131237_034195_03F8F5_AC1C"),
    )  # fmt: skip
    optical = (
        ("2020-06-04T06:00:41.044Z", "l2a", "02.14", 4.184628, 16.212, 114.738,
         "S2B_MSIL2A_20200604T054639_N0214_R048_T43RCP_20200604T094332"),
        ("2020-08-13T06:00:42.610Z", "l2a", "02.14", 1.948562, 22.519, None,
         "S2B_MSIL2A_20200813T054639_N0214_R048_T43RCP_20200813T083230"),
        ("2020-08-23T06:00:42.657Z", "l1c", "02.09", 9.9194, 24.654, None,
         "S2B_MSIL1C_20200823T054639_N0209_R048_T43RCP_20200823T074854"),
    )  # fmt: skip
    found = [
        Picture(
            id=f"S1_SIGMA0_punjab_{time[:10]}", place="punjab", collection="sentinel-1-sigma0",
            file=f"{folder}/s1_grd_{date}.tif", bands=VV_VH, time=time, licence=CC_BY,
            facts=GEE | shift | {
                "platform": "sentinel-1a", "sat:orbit_state": state, "sat:relative_orbit": relative,
                "sat:absolute_orbit": absolute, "s1:product_identifier": product,
                "sat:platform_international_designator": "2014-016A",
            },
        )
        for time, date, state, relative, absolute, product in sar
    ]  # fmt: skip
    for time, level, baseline, cloud, zenith, azimuth, product in optical:
        facts = (L1C if level == "l1c" else L2A) | shift | {
            "platform": "sentinel-2b", "sat:orbit_state": "descending", "sat:relative_orbit": 48,
            "s2:processing_baseline": baseline, "s2:product_uri": f"{product}.SAFE",
            "s2:mgrs_tile": "43RCP", "view:sun_elevation": round(90 - zenith, 3),
            "earthmind:granule_cloud_cover": cloud, "eo:cloud_cover": cloud,
        }  # fmt: skip
        if azimuth is not None:
            facts["view:sun_azimuth"] = azimuth
        date = time[:10].replace("-", "")
        same = f"{folder}/s2_l1c_20200604.tif" if date == "20200604" and level == "l2a" else None
        found.append(
            Picture(
                id=f"S2_{level.upper()}_punjab_{time[:10]}", place="punjab",
                collection=f"sentinel-2-{level}", file=f"{folder}/s2_{level}_{date}.tif",
                bands=BANDS_13 if level == "l1c" else BANDS_12, time=time, licence=CC_BY,
                facts=facts, sibling=same, drop=DROPPED + RED_EDGE,
            )
        )  # fmt: skip
    return found


def _optical_only() -> list[Picture]:
    lazio = [
        Picture(
            id=f"S2_L1C_lazio_{date}", place="lazio", collection="sentinel-2-l1c",
            file=f"optical/sen12mscrts_ROIs2017_146_p0/{date}.tif", bands=BANDS_13,
            time=day(date), licence=CC_BY, facts=L1C, drop=DROPPED + RED_EDGE,
        )
        for date in ("2018-01-06", "2018-04-11", "2018-07-20", "2018-10-23")
    ]  # fmt: skip
    bolzano = Picture(
        id="S2_L2A_bolzano_2022-06-12", place="bolzano", collection="sentinel-2-l2a",
        file="optical/openeo_bolzano_s2_l2a.tif", bands=("red", "green", "blue", "nir", "scl"),
        time=day("2022-06-12"), licence=COPERNICUS, window=(192, 129, 512, 512),
        facts=L2A | {"processing:facility": "openEO Platform"},
    )  # fmt: skip
    songkhram = Picture(
        id="S2_L2A_songkhram_2020-02-23", place="songkhram", collection="sentinel-2-l2a",
        file="optical/majortom_199U_1099R/{band}.tif", bands=BANDS_12, licence=CC_BY_SA,
        time="2020-02-23T03:27:39Z", window=(128, 224, 512, 512),
        facts=L2A | {
            "platform": "sentinel-2b", "sat:relative_orbit": 18, "s2:mgrs_tile": "48QUE",
            # N9999 in the product's name: a reprocessing whose baseline says nothing.
            "s2:processing_baseline": "99.99",
            "s2:product_uri":
                "S2B_MSIL2A_20200223T032739_N9999_R018_T48QUE_20230924T183543.SAFE",
        },
    )  # fmt: skip
    return [*lazio, bolzano, songkhram]
