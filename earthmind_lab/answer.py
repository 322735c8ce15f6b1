"""Answer: what the model said, put back on the Earth.

A reply is in pixels; `mapping.map_reply` makes the detections of it. Here they become tables and
files, with the notice, the licences and the record that go with them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.errors import EarthMindError
from earthmind_lab.exchange import Reply
from earthmind_lab.feature_files import COLUMNS, write_geojson, write_gpkg
from earthmind_lab.mapping import (
    RESOLVABLE_PX,
    Detection,
    Mapped,
    components,
    map_reply,
    mask_of,
    observable,
    resolvable_pixels,
)
from earthmind_lab.record import Record
from earthmind_lab.whole_file import whole_file

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from odc.geo.geobox import GeoBox
    from shapely.geometry.base import BaseGeometry

    from earthmind_lab.chip import Chip
    from earthmind_lab.citing import Citation

__all__ = [
    "COLUMNS",
    "RESOLVABLE_PX",
    "Answer",
    "Claim",
    "Detection",
    "Mapped",
    "Verdict",
    "answer_hash",
    "components",
    "format_area",
    "map_reply",
    "mask_of",
    "observable",
    "resolvable_pixels",
]

Verdict: TypeAlias = Literal["supported", "contradicted", "uncheckable"]

COORDINATE_DIGITS = 7
"""1e-7 degrees is about a centimetre, far below a pixel and above float noise."""
_SHARES = (("share", "the AOI"), ("share_of_region", "the region"))


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One checkable statement, beside what the masks say."""

    text: str
    """The words, as the model wrote them; for a baseline or a change, what is compared."""
    kind: str
    """``presence``, ``count``, ``area``, ``share``, ``cover``, ``resolution``, ``baseline``,
    ``answer``, ``change``."""
    said: Mapping[str, Any]
    """``label`` with ``present``, ``count``, ``area_m2`` or ``share``."""
    measured: Mapping[str, Any]
    """Numbers from masks: ``share`` (0 to 1), ``area_m2``, ``count``, ``source`` of the mask."""
    verdict: Verdict

    def sentence(self) -> str:
        """For people: what was said, and what the masks say."""
        if self.kind in ("baseline", "resolution", "change"):
            return self.text
        found = self.measured
        parts = [f"{found[key]:.1%} of {what}" for key, what in _SHARES if key in found]
        if found.get("area_m2") is not None:
            parts.append(format_area(found["area_m2"]))
        if "count" in found:
            parts.append("1 object" if found["count"] == 1 else f"{found['count']} objects")
        measured = ", ".join(parts) or "no mask to measure"
        return f"{self.text!r} ({self.kind} of {self.said.get('label') or 'nothing'}): {measured}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        said, measured = dict(self.said), dict(self.measured)
        return {
            "text": self.text, "kind": self.kind, "said": said, "measured": measured,
            "verdict": self.verdict,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What the model said, where it is, and how far the pixels bear it out."""

    text: str
    """Only what the model said."""
    notice: str
    """What to know about the model that spoke."""
    detections: tuple[Detection, ...]
    """Features clipped to the AOI; empty for a plain picture."""
    evidence: tuple[Claim, ...]
    """Claims of the text against masks."""
    seen_gsd_m: float | None
    """Metres per pixel that the model really saw; None for a plain picture."""
    reply: Reply
    """To the question alone; an evidence follow-up has its own reply and usage."""
    grid: GeoBox | None
    """Grid of the masks in `reply`; None for a plain picture: objects stay in pixels."""
    record: Record
    """How it came about."""
    cut: Callable[[float], Answer] | None = field(default=None, repr=False)
    """What `at` calls."""
    chips: tuple[Chip, ...] = field(default=(), repr=False)
    """The pixels that `cut` keeps in memory, of two dates both."""

    @property
    def area_m2(self) -> float | None:
        """Mapped area of all detections, overlaps counted once; None for a plain picture."""
        return None if self.grid is None else _united(self.detections)

    @property
    def areas(self) -> dict[str, float]:
        """Mapped area per label in square metres, overlaps within a label counted once."""
        labels = dict.fromkeys(item.label for item in self.detections)
        return {
            label: _united([item for item in self.detections if item.label == label])
            for label in labels
        }

    def at(self, threshold: float) -> Answer:
        """The same words with masks that are cut at another probability.

        Objects, areas and evidence are measured anew, and the record says the threshold; the model
        is asked only where a claim needs a mask that nobody has drawn yet.

        Args:
            threshold: Probability above which a pixel belongs to an object, 0 to 1, both excluded.

        Raises:
            PromptError: No such probability.
            EarthMindError: The answer doesn't come from a conversation.
        """
        if self.cut is None:
            raise EarthMindError(
                "This answer was put together by hand, so it can't be cut elsewhere.",
                change="one of ask() or Conversation.ask()",
            )
        return self.cut(threshold)

    def masks(self) -> tuple[NDArray[np.bool_], ...]:
        """The masks of the reply, (H, W) each, in its order."""
        return tuple(mask for mask in map(mask_of, self.reply.objects) if mask is not None)

    def to_geojson(self) -> dict[str, Any]:
        """A FeatureCollection in EPSG:4326 (RFC 7946) as plain data."""
        about = self.about()
        features = [
            {
                "type": "Feature",
                "geometry": _rounded(item.geometry),
                "properties": _properties(item, about),
            }
            for item in self.detections
        ]
        return {"type": "FeatureCollection", **about, "features": features}

    def to_gdf(self) -> GeoDataFrame:
        """The detections as a table in EPSG:4326, one row per object."""
        from geopandas import GeoDataFrame

        about = self.about()
        rows = [_properties(item, about) for item in self.detections]
        shapes = [item.geometry for item in self.detections]
        columns = {name: [row[name] for row in rows] for name in COLUMNS}
        frame = GeoDataFrame(columns, geometry=shapes, crs="EPSG:4326")
        # An empty table has no row to carry them.
        frame.attrs.update(about)
        return frame

    def save(self, path: str | Path) -> Path:
        """Write the detections; the file appears complete or not at all.

        Args:
            path: Ends in .geojson, .gpkg or .parquet; or in .tif for a cloud-optimised GeoTIFF of
                classes and objects (`cogs.mask_bands`).

        Raises:
            EarthMindError: Another ending, a plain picture, or the file can't be written.
        """
        path = Path(path)
        writer = _WRITERS.get(path.suffix.lower())
        if writer is None:
            raise EarthMindError(
                f"An answer can't be saved as {path.name!r}.",
                found=path.suffix or "no file ending",
                change="a name ending in .geojson, .gpkg, .parquet or .tif",
            )
        if self.grid is None:
            raise EarthMindError(
                "A plain picture has no place on the Earth, so there is no feature to save.",
                change="answer.record.save('record.json'), or ask about a chip",
            )
        with whole_file(path) as draft:
            writer(self, draft)
        return path

    def cite(self) -> Citation:
        """A methods paragraph, references and acknowledgements, from the record alone."""
        from earthmind_lab.citing import cite

        return cite(self.record)

    def to_dict(self) -> dict[str, Any]:
        """Plain data: the part of the command line's JSON that is the answer's own.

        ``ended`` is in it only where the model did not end the answer by itself.
        """
        ended = self.reply.ended
        return {
            **({} if ended == "stop" else {"ended": ended}),
            "text": self.text,
            "notice": self.notice,
            "detections": self.to_geojson(),
            "evidence": [claim.to_dict() for claim in self.evidence],
            "usage": self.reply.usage.to_dict(),
        }

    def about(self) -> dict[str, str]:
        """What every exported file carries: notice, model, licence and attribution."""
        inputs = self.record.inputs
        return {
            "notice": self.notice,
            "model": str(self.record.model.get("name", "")),
            "licence": _joined(item.get("licence") for item in inputs),
            "attribution": _joined(item.get("attribution") for item in inputs),
        }

    def _repr_html_(self) -> str:
        # Text of models and catalogs is data: escaped, never HTML.
        remark = f"<p><i>{escape(self.reply.remark)}</i></p>" if self.reply.remark else ""
        area = "" if self.grid is None else f"{format_area(self.area_m2 or 0.0)} mapped"
        claims = "".join(
            f"<li>{escape(claim.text)}: <b>{escape(claim.verdict)}</b></li>"
            for claim in self.evidence
        )
        objects = "1 object" if len(self.detections) == 1 else f"{len(self.detections)} objects"
        return (
            f"<p>{escape(self.text)}</p>{remark}<p>{objects} {area}</p>"
            f"<ul>{claims}</ul><p><small>{escape(self.notice)}</small></p>"
        )


def answer_hash(
    token_ids: Iterable[int],
    masks: Iterable[NDArray[np.bool_]],
    geometries: Iterable[BaseGeometry] = (),
) -> str:
    """SHA-256 over token ids, thresholded masks and geometry rounded to 1e-7 degrees."""
    digest = hashlib.sha256(json.dumps([int(token) for token in token_ids]).encode())
    for mask in masks:
        digest.update(f"|mask {mask.shape}|".encode())
        digest.update(np.packbits(mask).tobytes())
    for geometry in geometries:
        digest.update(b"|geometry|")
        digest.update(json.dumps(_rounded(geometry), sort_keys=True).encode())
    return digest.hexdigest()


def format_area(area_m2: float, *, like: float | None = None) -> str:
    """A mapped area for people: three digits in the unit that suits it.

    Args:
        area_m2: Square metres.
        like: Take the unit that suits this area instead, so that two can be compared.

    >>> format_area(80), format_area(301_000), format_area(12_340_000)
    ('80 m²', '30.1 ha', '12.3 km²')
    """
    for unit, size in (("km²", 1e6), ("ha", 1e4)):
        if (area_m2 if like is None else like) >= size:
            value = area_m2 / size
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
    return f"{area_m2:.0f} m²"


def _united(detections: Sequence[Detection]) -> float:
    """Area of the ground that any of the detections covers, square metres."""
    from shapely import area, union_all

    shapes = [item.geometry for item in detections]
    apart = float(area(shapes).sum()) if shapes else 0.0
    # Pixels are exact; the share that overlaps is a ratio, which degrees give as well.
    ratio = min(1.0, float(union_all(shapes).area) / apart) if apart else 0.0
    return sum(item.area_m2 for item in detections) * ratio


def _properties(item: Detection, about: Mapping[str, str]) -> dict[str, Any]:
    own = {
        "label": item.label,
        "score": _number(item.score),
        "probability": _number(item.probability),
        "area_m2": round(item.area_m2, 1),
        "source": item.source,
        "observed": item.observed,
    }
    return {**own, **about}


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return round(value, 4) if math.isfinite(value) else None


def _rounded(geometry: BaseGeometry) -> dict[str, Any]:
    """GeoJSON of a geometry: lists, 1e-7 degrees, outer rings counter-clockwise."""
    from shapely import orient_polygons
    from shapely.geometry import mapping

    def plain(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [plain(part) for part in value]
        # + 0.0 turns -0.0 into 0.0, so that equal places give equal text.
        return round(float(value), COORDINATE_DIGITS) + 0.0

    data = mapping(orient_polygons(geometry.normalize()))
    return {"type": data["type"], "coordinates": plain(data["coordinates"])}


def _joined(values: Iterable[Any]) -> str:
    return "; ".join(dict.fromkeys(str(value) for value in values if value))


def _write_geojson(answer: Answer, path: Path) -> None:
    write_geojson(answer.to_geojson(), path)


def _write_gpkg(answer: Answer, path: Path) -> None:
    write_gpkg(answer.to_gdf(), path, about=answer.about())


def _write_parquet(answer: Answer, path: Path) -> None:
    answer.to_gdf().to_parquet(path)


def _write_tif(answer: Answer, path: Path) -> None:
    from earthmind_lab.cogs import write_mask

    write_mask(answer, path)


_WRITERS = {
    ".geojson": _write_geojson, ".gpkg": _write_gpkg, ".parquet": _write_parquet,
    ".tif": _write_tif,
}  # fmt: skip
