"""The annotation of a Sentinel-1 GRD product: which assets hold it, and what its XML says.

Every product carries, per polarisation, a calibration table, a noise table and a product
annotation. Their XML is written by strangers like anything else of a catalog: it is read under
a limit, by a parser that knows no document types and so no entities.

Source: Sentinel-1 Product Specification, S1-RS-MDA-52-7441, ESA.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.data.assets import AssetRef, beside
from earthmind_lab.data.files import Reader
from earthmind_lab.errors import RadiometryUnknown

Kind = Literal["calibration", "noise", "product"]

MOST = 8 * 2**20
"""Bytes of a table; the largest, product annotations, have 3 MB."""
SLACK = timedelta(seconds=5)
"""Between a table's times and the item's; the next slice of a pass is 25 s away."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """One XML file that was fetched, parsed and found to be of the raster's polarisation."""

    root: Element
    ref: AssetRef
    sha256: str

    def facts(self) -> dict[str, str]:
        """For provenance."""
        return {
            "kind": str(self.root.tag),
            "asset": self.ref.key,
            "href": self.ref.href,
            "sha256": self.sha256,
        }


def find_table(ref: AssetRef, kind: Kind) -> AssetRef | None:
    """The asset of an item that holds a table of a raster's polarisation.

    The file's name outranks the asset's key: catalogs in use give the interference report
    (``rfi-iw-vv.xml``) as ``schema-product-vv``. The annotation then lies beside it.
    """
    assets = ref.item.get("assets")
    for key, asset in assets.items() if isinstance(assets, Mapping) else ():
        href = str(asset.get("href") or "") if isinstance(asset, Mapping) else ""
        path = href.partition("?")[0].lower()
        name = path.rpartition("/")[2]
        words = re.split(r"[^a-z0-9]+", name), re.split(r"[^a-z0-9]+", str(key).lower())
        if path.endswith(".xml") and ref.band in (*words[0], *words[1]):
            found = _kind(words[0][:1], words[1], path.split("/")[-2:-1])
            if found == "rfi" and kind == "product":
                href, found = re.sub(r"rfi/rfi-([^/]+)$", r"\1", href), kind
            if found == kind:
                return beside(ref, str(key), href)
    return None


def _kind(*says: list[str]) -> str | None:
    """What the first of these words, surest first, calls a file."""
    for words in says:
        for kind in ("calibration", "noise", "rfi", "product", "annotation"):
            if kind in words:
                return "product" if kind == "annotation" else kind
    return None


def hinted(ref: AssetRef) -> bool:
    """Whether a table's place was told from that of the interference report."""
    return "/rfi-" in str(ref.asset.get("href"))


def read_table(ref: AssetRef, kind: Kind, reader: Reader) -> Table:
    """Fetch and parse a table, and see that it belongs to the item and the polarisation.

    Raises:
        AssetUnavailable: It can't be had, or is larger than any table.
        RadiometryUnknown: It is no table of this kind, or one of another raster.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    body, sha256 = reader.read(ref, MOST)
    try:
        root: Element = fromstring(body, forbid_dtd=True)
    except (DefusedXmlException, ParseError, ValueError, LookupError) as error:
        raise refused(ref, f"no plain XML ({type(error).__name__})") from error
    if root.tag != kind:
        raise refused(ref, f"a document {str(root.tag)[:40]!r} instead of {kind!r}")
    stated = text(root, "adsHeader/polarisation").lower()
    if stated != ref.band:
        raise refused(ref, f"polarisation {stated[:20]!r} instead of {ref.band!r}")
    _check_time(root, ref)
    return Table(root=root, ref=ref, sha256=sha256)


def _check_time(root: Element, ref: AssetRef) -> None:
    """Refuse the table of another acquisition, as far as both say when they were taken."""
    taken = _moment(ref.properties.get("datetime"))
    start, stop = (_moment(text(root, f"adsHeader/{name}Time")) for name in ("start", "stop"))
    if taken and start and stop and not start - SLACK <= taken <= stop + SLACK:
        raise refused(ref, f"taken {start:%Y-%m-%dT%H:%M:%S}, the item {taken:%Y-%m-%dT%H:%M:%S}")


def _moment(stated: object) -> datetime | None:
    try:
        when = datetime.fromisoformat(str(stated))
    except ValueError:
        return None
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when


def text(element: Element, path: str) -> str:
    """What an element below holds; empty where there is none."""
    return (element.findtext(path) or "").strip()


def number(element: Element, path: str, ref: AssetRef) -> float:
    """The number in an element below.

    Raises:
        RadiometryUnknown: There is none.
    """
    found = numbers(element, path, ref)
    if found.size != 1:
        raise refused(ref, f"{found.size} numbers in {path}")
    return float(found[0])


def numbers(element: Element, path: str, ref: AssetRef) -> NDArray[np.float64]:
    """The numbers in an element below.

    Raises:
        RadiometryUnknown: There are none, or other things among them.
    """
    try:
        found = np.array(text(element, path).split(), dtype=np.float64)
    except ValueError as error:
        raise refused(ref, f"{path} without numbers") from error
    if not found.size or not np.isfinite(found).all():
        raise refused(ref, f"{path} without numbers")
    return found


def refused(ref: AssetRef, found: str) -> RadiometryUnknown:
    """A table that can't be used, as an error to raise."""
    return RadiometryUnknown(
        f"{ref.name[:1].upper()}{ref.name[1:]} is no table of this raster.",
        found=found,
        change="the tables of the same product and polarisation, or a terrain-corrected scene "
        "(collection sentinel-1-rtc)",
    )


def tie_rows(table: Table) -> Iterator[tuple[float, ...]]:
    """Line, pixel, longitude, latitude, height and incidence of each point of the grid."""
    names = ("line", "pixel", "longitude", "latitude", "height", "incidenceAngle")
    points: Iterable[Element] = table.root.iterfind(
        "geolocationGrid/geolocationGridPointList/geolocationGridPoint"
    )
    for point in points:
        yield tuple(number(point, name, table.ref) for name in names)
