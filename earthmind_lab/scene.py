"""Scenes and pairs as values: what a catalog knows before a pixel is read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from html import escape
from typing import TYPE_CHECKING, Any, overload

from earthmind_lab.errors import SearchError

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry


ANY_TIME = (
    dt.datetime.min.replace(tzinfo=dt.UTC),
    dt.datetime.max.replace(tzinfo=dt.UTC),
)
"""Start and end of a scene of which nothing tells the time: a file of the user's own."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """One acquisition (one datatake or pass) from one or more STAC items."""

    id: str
    """Id of the STAC item, or ids joined by ``+``."""
    sensor: str
    """Key of the sensor table, such as ``sentinel-2-l2a`` or ``sentinel-1-rtc``."""
    modality: str
    """``optical`` or ``sar``."""
    datetime: dt.datetime | None
    """Acquisition time in UTC, of several items the middle of the pass; None when the source only
    gives an interval."""
    start: dt.datetime
    """Earliest possible acquisition time in UTC (= `datetime` when that is known)."""
    end: dt.datetime
    """Latest possible acquisition time in UTC (= `datetime` when that is known)."""
    footprint: BaseGeometry
    """Outline in lon/lat (EPSG:4326)."""
    assets: Mapping[str, str]
    """Band name (``red``, ``nir``, ``vv``, ``scl``, ...) to unsigned href."""
    cloud_cover: float | None = None
    """Cloud in per cent of the whole scene, as the catalog says; None when it doesn't."""
    orbit: Mapping[str, Any] = field(default_factory=dict)
    """``state`` and ``relative`` orbit, platform."""
    processing: Mapping[str, Any] = field(default_factory=dict)
    """Processing level, baseline, declared geolocation error."""
    collection: str | None = None
    """Id of the STAC collection."""
    items: tuple[Mapping[str, Any], ...] = ()
    """The original STAC items as plain data."""

    @property
    def time_known(self) -> bool:
        """Whether the source gives a time and not just an interval."""
        return self.datetime is not None

    @property
    def told(self) -> bool:
        """Whether anything tells the time, be it an interval."""
        return (self.start, self.end) != ANY_TIME

    @property
    def observed(self) -> str:
        """The time as text: an instant, start/end, or ``unknown``."""
        if self.datetime is not None:
            return _iso(self.datetime)
        if not self.told:
            return "unknown"
        return f"{_iso(self.start)}/{_iso(self.end)}"

    def __repr__(self) -> str:
        return f"Scene({self.id}, {self.sensor}, {self.observed})"


@dataclass(frozen=True, kw_only=True, eq=False)
class ScenePair:
    """An optical and a SAR scene of one AOI, with the reasons for their rank."""

    optical: Scene | None
    """None only where optical wasn't asked for."""
    sar: Scene | None
    """None only where SAR wasn't asked for."""
    gap: timedelta | tuple[timedelta, timedelta] | None
    """SAR minus optical; (least, greatest) when a time is unknown; None for one sensor, or
    where nothing at all tells a time."""
    overlap: float
    """Share of the AOI inside both footprints, 0 to 1."""
    cloud_in_aoi: float | None
    """Cloud and shadow inside the AOI in per cent; None when nothing tells."""
    score: float
    """100 x V x T x Q, and x A where a date was named; see `factors`."""
    factors: Mapping[str, float]
    """V (valid and clear share), T (time), Q (product of penalties), A (nearness to a date that
    was named), and each penalty."""
    reasons: tuple[str, ...] = ()
    """Sentences: why this rank, what is unknown."""
    catalog: str = ""
    """Where it was found, for the record."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """What the user decided in place of the ranking, for the record: ids under ``pin`` and
    ``exclude``."""
    terms: Mapping[str, Any] = field(default_factory=dict)
    """What the search asked for, under the names that `search_pairs` has for it, and ``rank``, the
    place among its pairs from 1; empty where none was made."""

    def __post_init__(self) -> None:
        if self.optical is None and self.sar is None:
            raise SearchError("A pair needs at least one scene.")

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """The scenes there are, optical first."""
        return tuple(scene for scene in (self.optical, self.sar) if scene is not None)

    @property
    def gap_hours(self) -> float | list[float] | None:
        """The gap for JSON: a number, [least, greatest], or None."""
        if self.gap is None:
            return None
        if isinstance(self.gap, tuple):
            return [_hours(part) for part in self.gap]
        return _hours(self.gap)

    @property
    def gap_words(self) -> str:
        """The gap for people."""
        hours = self.gap_hours
        if hours is None:
            return "unknown" if self.optical and self.sar else "none, one sensor"
        return f"{hours[0]:g} to {hours[1]:g} h" if isinstance(hours, list) else f"{hours:g} h"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the shape of the command line's ``pairs``."""
        return {
            "optical": self.optical.id if self.optical else None,
            "sar": self.sar.id if self.sar else None,
            "gap_hours": self.gap_hours,
            "overlap": round(self.overlap, 4),
            "cloud_in_aoi": None if self.cloud_in_aoi is None else round(self.cloud_in_aoi, 2),
            "score": round(self.score, 2),
            "factors": {name: round(value, 4) for name, value in self.factors.items()},
            "reasons": list(self.reasons),
        }

    def __repr__(self) -> str:
        # A list of pairs is what a search gives: one line each, not the items of a catalog.
        return f"ScenePair({_named(self.scenes)}: score {self.score:.1f}, gap {self.gap_words})"

    def _repr_html_(self) -> str:
        rows = [("score", f"{self.score:.1f}"), ("gap", self.gap_words)]
        rows += [(scene.modality, f"{scene.id}, {scene.observed}") for scene in self.scenes]
        rows += [("why", reason) for reason in self.reasons]
        return html_table(rows)


@dataclass(frozen=True, kw_only=True, eq=False)
class Rejected:
    """A candidate of a search that is no pair of it."""

    optical: Scene | None
    sar: Scene | None
    reason: str
    """The first limit that it breaks, as a sentence."""

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """The scenes there are, optical first."""
        return tuple(scene for scene in (self.optical, self.sar) if scene is not None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the shape of the command line's ``rejected``."""
        return {
            "optical": self.optical.id if self.optical else None,
            "sar": self.sar.id if self.sar else None,
            "reason": self.reason,
        }

    def __repr__(self) -> str:
        return f"Rejected({_named(self.scenes)}: {self.reason})"


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """Every candidate of a search: each is in one of the two."""

    pairs: tuple[ScenePair, ...]
    """Admitted, best first."""
    rejected: tuple[Rejected, ...]
    """The others, by time."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data: ``pairs`` and ``rejected``."""
        return {
            "pairs": [pair.to_dict() for pair in self.pairs],
            "rejected": [each.to_dict() for each in self.rejected],
        }

    def __repr__(self) -> str:
        return f"Candidates({len(self.pairs)} pairs, {len(self.rejected)} rejected)"

    def _repr_html_(self) -> str:
        rows = [
            (f"{number}.", f"{_named(pair.scenes)}: score {pair.score:.1f}")
            for number, pair in enumerate(self.pairs, start=1)
        ]
        return html_table(rows + [("–", f"{_named(r.scenes)}: {r.reason}") for r in self.rejected])


@dataclass(frozen=True, kw_only=True, eq=False)
class ChangePair:
    """Two pairs of one place that can be compared: before and after."""

    before: ScenePair
    after: ScenePair
    score: float
    """The lower of the two scores: a comparison is as good as its worse side."""
    reasons: tuple[str, ...] = ()
    """Sentences: what is the same, what differs and who allowed it."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data: two pairs, score and reasons."""
        return {
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "score": round(self.score, 2),
            "reasons": list(self.reasons),
        }

    def __repr__(self) -> str:
        return f"ChangePair({self.before!r}, {self.after!r})"

    def _repr_html_(self) -> str:
        rows = [("score", f"{self.score:.1f}")]
        sides = (("before", self.before), ("after", self.after))
        rows += [(name, f"{_named(pair.scenes)}, {pair.score:.1f}") for name, pair in sides]
        return html_table(rows + [("why", reason) for reason in self.reasons])


@dataclass(frozen=True, kw_only=True, eq=False)
class SceneSeries:
    """Pairs of one place, ordered by time."""

    pairs: tuple[ScenePair, ...]

    def __post_init__(self) -> None:
        starts = [min(scene.start for scene in pair.scenes) for pair in self.pairs]
        if starts != sorted(starts):
            raise SearchError("The pairs of a series must be ordered by time.")

    def __len__(self) -> int:
        return len(self.pairs)

    @overload
    def __getitem__(self, index: int) -> ScenePair: ...
    @overload
    def __getitem__(self, index: slice) -> SceneSeries: ...
    def __getitem__(self, index: int | slice) -> ScenePair | SceneSeries:
        if isinstance(index, slice):
            return SceneSeries(pairs=self.pairs[index])
        return self.pairs[index]

    def __iter__(self) -> Iterator[ScenePair]:
        return iter(self.pairs)


def _named(scenes: Iterable[Scene]) -> str:
    return " + ".join(scene.id for scene in scenes)


def html_table(rows: Iterable[tuple[str, str]]) -> str:
    """Rows of a name and a text; both may come from a catalog: escaped, never HTML."""
    cells = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in rows)
    return f"<table>{cells}</table>"


def _hours(gap: timedelta) -> float:
    # Adding 0.0 turns a rounded -0.0 into 0.0.
    return round(gap.total_seconds() / 3600, 2) + 0.0


def _iso(when: dt.datetime) -> str:
    return when.isoformat().replace("+00:00", "Z")
