"""The public catalogs that have a name: where they are, what they hold, what their pixels cost.

>>> [known.name for known in KNOWN]
['earth-search', 'planetary-computer', 'copernicus', 'digital-earth-africa', 'opera']
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Known:
    """One public catalog."""

    name: str
    """What users write."""
    title: str
    url: str
    optical: tuple[str, ...] = ()
    """Collections that are searched for optical scenes."""
    sar: tuple[str, ...] = ()
    """Collections that are searched for SAR scenes."""
    more: tuple[str, ...] = ()
    """Collections that are searched where their sensor is asked for by its key."""
    access: Literal["open", "key", "requester-pays"] = "open"
    """What its pixels cost; searching is free everywhere."""
    settings: tuple[str, ...] = ()
    """Environment variables that its pixels need."""


_AWS_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
KNOWN = (
    Known(
        name="earth-search", title="Element 84 Earth Search (optical open, SAR requester-pays)",
        url="https://earth-search.aws.element84.com/v1",
        optical=("sentinel-2-l2a",), sar=("sentinel-1-grd",),
        more=("sentinel-2-l1c", "landsat-c2-l2", "naip"),
        access="requester-pays", settings=_AWS_KEYS,
    ),
    Known(
        name="planetary-computer", title="Microsoft Planetary Computer",
        url="https://planetarycomputer.microsoft.com/api/stac/v1",
        optical=("sentinel-2-l2a",), sar=("sentinel-1-rtc",),
        more=("hls2-l30", "hls2-s30", "landsat-c2-l2", "naip", "sentinel-1-grd"),
    ),
    Known(
        name="copernicus", title="Copernicus Data Space Ecosystem",
        url="https://stac.dataspace.copernicus.eu/v1",
        optical=("sentinel-2-l2a",), sar=("sentinel-1-grd",), more=("sentinel-2-l1c",),
        access="key", settings=("CDSE_S3_ACCESS_KEY", "CDSE_S3_SECRET_KEY"),
    ),
    Known(
        name="digital-earth-africa", title="Digital Earth Africa",
        url="https://explorer.digitalearth.africa/stac",
        optical=("s2_l2a",), sar=("s1_rtc",), more=("ls5_sr", "ls7_sr", "ls8_sr", "ls9_sr"),
    ),
    Known(
        name="opera", title="OPERA RTC-S1 at NASA's Alaska Satellite Facility (SAR)",
        url="https://cmr.earthdata.nasa.gov/stac/ASF",
        sar=("OPERA_L2_RTC-S1_V1_1",),
        access="key", settings=("EARTHDATA_TOKEN",),
    ),
)  # fmt: skip
"""Every catalog that has a name of its own."""
READABLE = (
    "'sample', the path of a static catalog.json, of a frozen search or of a stac-geoparquet file, "
    "the https:// address of either or of a STAC API, or one of "
    + ", ".join(known.name for known in KNOWN)
)
"""What `open_catalog` takes, for messages."""
