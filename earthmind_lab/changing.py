"""Two dates of one place: the pictures that are asked about, and what changed, measured by code.

    talk = Conversation(after, before=before)        chips on one grid, as load_series() gives
    talk.ask("What has changed?").evidence           what is said, against masks of both dates
    talk.change("water").gained_m2                   in the later mask and not in the earlier one

A model sees both dates by one sensor, the earlier one first, in one stretch. What changed on the
ground and what differs between two masks aren't the same: each mask has errors of its own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.answer import Claim, Mapped, Verdict, format_area, map_reply
from earthmind_lab.claims import COVERS, canonical, canonical_words
from earthmind_lab.errors import PromptError
from earthmind_lab.exchange import Modality, Reply, View
from earthmind_lab.masks import Ground, Masks
from earthmind_lab.render import default_composites, render

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from earthmind_lab.chip import Chip
    from earthmind_lab.scene import Scene

FurtherAsk = Callable[[str, tuple[View, ...]], Reply]
"""Puts a question about these views to the engine that answered."""
CHANGED_SHARE = 0.01
"""Of the AOI: by less, the difference of two masks is within reach of their edge errors."""
UNCHANGED_SHARE = 0.005
"""Up to here nothing has changed; between the two the masks don't decide."""
_NAME = r"(?:(?!than\b)[\w -])+?"
_END = (
    r"\s*(?=[,.;?!]|$|\b(?:and|in|now)\b"
    r"|\bthan (?:before|in|on|at|then|earlier|the (?:first|earlier))\b)"
)
"""Of a cover's name. "More crops than water" is about one date, and says nothing of change."""
_SAID = {
    "more": re.compile(rf"\bmore\s+({_NAME}){_END}", re.IGNORECASE),
    "less": re.compile(rf"\b(?:fewer|less)\s+({_NAME}){_END}", re.IGNORECASE),
}
_ASKS_MORE = re.compile(
    rf"\b(?:is|are)\s+there\s+more\s+(?P<more>{_NAME}){_END}"
    rf"|\bha(?:s|ve)\s+the\s+(?P<grown>{_NAME})\s+grown\b",
    re.IGNORECASE,
)
_SAYS = re.compile(r"\s*(yes|no)\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, eq=False)
class Change:
    """One label at two dates, by the masks that the model drew of each."""

    label: str
    sensor: Modality
    """Whose pictures both masks were drawn on."""
    observed: tuple[str, str]
    """When, ISO 8601 UTC, the earlier one first."""
    before_m2: float
    """Mapped area at the earlier date: pixels inside the AOI that are valid at both, m²."""
    after_m2: float
    gained: NDArray[np.bool_]
    """(H, W) in the later mask and not in the earlier one."""
    lost: NDArray[np.bool_]
    """(H, W) in the earlier mask and not in the later one."""
    gained_m2: float
    lost_m2: float
    share: float
    """Net change as a share of the ground that both dates see, -1 to 1."""
    grid: GeoBox
    """Of the masks."""

    def sentence(self) -> str:
        """The areas, for people."""
        largest = max(self.before_m2, self.after_m2)
        if not largest:
            return f"{self.label}: none is mapped at either date."
        numbers = (self.before_m2, self.after_m2, self.gained_m2, self.lost_m2)
        before, after, gained, lost = (format_area(each, like=largest) for each in numbers)
        return (
            f"{self.label}: {before} mapped before, {after} after; {gained} in the later mask "
            f"alone, {lost} in the earlier one alone."
        )

    def to_geojson(self) -> dict[str, Any]:
        """What came and went as polygons in EPSG:4326, labelled ``gained`` and ``lost``."""
        from shapely.geometry import mapping

        from earthmind_lab.grid import mask_to_polygons

        about = {"label": self.label, "source": self.sensor, "observed": "/".join(self.observed)}
        features = [
            {
                "type": "Feature",
                "geometry": mapping(polygon),
                "properties": {**about, "change": change},
            }
            for change, mask in (("gained", self.gained), ("lost", self.lost))
            for polygon in mask_to_polygons(mask, self.grid)
        ]
        return {"type": "FeatureCollection", "features": features}

    def numbers(self) -> dict[str, Any]:
        """Plain data without the masks."""
        areas = ("before_m2", "after_m2", "gained_m2", "lost_m2")
        return {
            **{name: round(getattr(self, name), 1) for name in areas},
            "net_share": round(self.share, 4),
            "source": self.sensor,
            "observed": list(self.observed),
        }


# --- pictures ------------------------------------------------------------------------------------


def sensor_of(before: Chip, after: Chip, sensor: Modality | None) -> Modality:
    """By which sensor two dates are seen: the one that is asked for, else SAR, else optical.

    Raises:
        PromptError: The chips can't be compared, or not by that sensor.
    """
    if before.grid != after.grid:
        raise PromptError(
            "The chips of the two dates do not lie on one grid.",
            found=f"{before.grid.shape} and {after.grid.shape} px, or another corner",
            change="load_series([before, after], aoi), which loads both on one grid",
        )
    shared = [kind for kind in _KINDS if _has(before, kind) and _has(after, kind)]
    if (sensor is None and not shared) or (sensor is not None and sensor not in shared):
        raise PromptError(
            f"The two dates have no {sensor or 'sensor'} in common.",
            found=f"in common: {', '.join(shared) or 'nothing'}",
            change="pairs of one sensor at both dates: search_change(...)",
        )
    found = sensor or shared[0]
    _check(before, after, found)
    return found


_KINDS: tuple[Modality, ...] = ("sar", "optical")


_ALIKE: Mapping[Modality, tuple[str, ...]] = {
    "sar": ("quantity", "speckle_filter"),
    "optical": ("level",),
}
"""Of the radiometry: what two dates must have in common."""


def _has(chip: Chip, kind: Modality) -> bool:
    return (chip.sar if kind == "sar" else chip.optical) is not None


def _check(before: Chip, after: Chip, sensor: Modality) -> None:
    """Refuse what would show a change where none need be."""
    for part in _ALIKE[sensor]:
        one, other = (getattr(chip.radiometry, part) for chip in (before, after))
        if one != other:
            raise PromptError(
                f"The {sensor} pixels of the two dates are not of one kind.",
                found=f"{part.replace('_', ' ')} {one} before, {other} after",
                change="search_change(...), which compares only what is alike",
            )
    early, late = (_scene_of(chip, sensor) for chip in (before, after))
    if early.told and late.told and early.start > late.start:
        raise PromptError(
            "The earlier date comes first.",
            found=f"{early.observed} before {late.observed}",
            change="the other way round",
        )


def _scene_of(chip: Chip, sensor: Modality) -> Scene:
    scene = chip.pair.sar if sensor == "sar" else chip.pair.optical
    assert scene is not None  # it has pixels of it
    return scene


def date_views(
    before: Chip, after: Chip, sensor: Modality, preferred: Sequence[str] = ()
) -> tuple[View, View]:
    """The two pictures of a question about change, the earlier one first, in one stretch.

    Args:
        before: The earlier chip.
        after: The later one, on the same grid.
        sensor: Whose pictures.
        preferred: `Capabilities.composites`.

    Raises:
        PromptError: The sensors of the two dates make no picture of the same bands.
    """
    first, second = (sensor_views(chip, sensor, preferred)[0] for chip in (before, after))
    looks = [(view.name, view.bands, view.stretch) for view in (first, second)]
    if looks[0] != looks[1]:
        raise PromptError(
            "The two dates make no picture of the same bands.",
            found=" and ".join(f"{name} of {', '.join(bands)}" for name, bands, _ in looks),
            change="chips with the same bands and polarisations",
        )
    return first, second


def sensor_views(chip: Chip, sensor: Modality, preferred: Sequence[str] = ()) -> tuple[View, ...]:
    """The pictures of one sensor of a chip, as a model is shown them."""
    views = render(chip, default_composites(chip, preferred))
    return tuple(view for view in views if view.modality == sensor)


def map_dates(
    reply: Reply, chips: tuple[Chip, Chip], views: Sequence[View], *, seen_gsd: float
) -> Mapped:
    """Put the objects of a reply on the Earth, each with the date of the picture that drew it.

    Args:
        reply: To a question about `date_views`.
        chips: The earlier one and the later one.
        views: The two pictures.
        seen_gsd: Metres per pixel that the model really saw.
    """
    parts = []
    for date, chip in enumerate(chips):
        # Without its mask an object keeps its number, and is mapped by the other date.
        objects = tuple(
            each if each.view == date else replace(each, mask_logits=None)
            for each in reply.objects
        )  # fmt: skip
        parts.append(map_reply(replace(reply, objects=objects), chip, views, seen_gsd=seen_gsd))
    small = Counter[str]()
    for part in parts:
        small.update(part.unresolved)
    detections = sorted((d for part in parts for d in part.detections), key=lambda d: d.mark)
    return Mapped(detections=tuple(detections), unresolved=dict(small))


# --- what changed --------------------------------------------------------------------------------


class Changes:
    """Masks of both dates, each drawn once when it is first asked for.

    Args:
        before: The earlier chip.
        after: The later one.
        sensor: Whose pictures the masks are drawn on.
        preferred: `Capabilities.composites`.
        seen_gsd: Metres per pixel that the model really sees.
        further: Asks the engine about some views.
    """

    def __init__(
        self, before: Chip, after: Chip, sensor: Modality, *, preferred: Sequence[str],
        seen_gsd: float | None, further: FurtherAsk,
    ) -> None:  # fmt: skip
        chips = (before, after)
        self._sensor, self._grid = sensor, after.grid
        self._observed = tuple(_scene_of(chip, sensor).observed for chip in chips)
        least = Ground.of(after, (), seen_gsd).least
        seen = _valid(before, sensor) & _valid(after, sensor)
        self._ground = Ground(allowed=after.inside & before.inside & seen, chip=after, least=least)
        self._masks = tuple(
            Masks(Reply(text=""), "", views[0].shape, partial(_about, further, views))
            for views in (sensor_views(chip, sensor, preferred) for chip in chips)
        )

    def of(self, label: str) -> Change | None:
        """What changed of a label; None where the model drew no mask of either date."""
        found = [masks.of(label) for masks in self._masks]
        if found[0] is None or found[1] is None:
            return None
        ground, allowed = self._ground, self._ground.allowed
        one, other = (each.mask & allowed for each in found if each is not None)
        gained, lost = other & ~one, one & ~other
        area = {
            name: float(ground.measure(mask, "")["area_m2"])
            for name, mask in (
                ("before", one), ("after", other), ("gained", gained), ("lost", lost),
            )
        }  # fmt: skip
        net = int(gained.sum()) - int(lost.sum())
        return Change(
            label=label, sensor=self._sensor, observed=(self._observed[0], self._observed[1]),
            before_m2=area["before"], after_m2=area["after"], gained=gained, lost=lost,
            gained_m2=area["gained"], lost_m2=area["lost"],
            share=net / max(int(allowed.sum()), 1), grid=self._grid,
        )  # fmt: skip


def _about(further: FurtherAsk, views: tuple[View, ...], question: str) -> Reply:
    return further(question, views)


def _valid(chip: Chip, sensor: Modality) -> NDArray[np.bool_]:
    valid = chip.valid_sar if sensor == "sar" else chip.valid_optical
    return np.ones(chip.grid.shape, dtype=bool) if valid is None else valid


def views_apart(before: Chip, after: Chip, sensor: Modality) -> tuple[Claim, ...]:
    """That two SAR scenes look from two orbits, which `search_change` lets pass only when asked."""
    if sensor != "sar":
        return ()
    one, other = (_scene_of(chip, sensor).orbit.get("relative") for chip in (before, after))
    if one is None or other is None or one == other:
        return ()
    text = (
        f"SAR looks from the relative orbit {one} before and {other} after: backscatter differs "
        "where nothing has changed."
    )
    orbits = {"relative_orbits": [one, other]}
    return (Claim(text=text, kind="change", said={}, measured=orbits, verdict="uncheckable"),)


def change_claims(text: str, question: str, changes: Changes | None) -> tuple[Claim, ...]:
    """What a reply says of change, each against the masks of both dates.

    Args:
        text: Of the reply.
        question: What was asked.
        changes: Draws the masks; None = ask nothing further, and every claim stays uncheckable.
    """
    claims = []
    for label, said in _said(text, question).items():
        found = None if changes is None else changes.of(label)
        measured = found.sentence() if found else f"{label}: no mask of both dates to measure."
        claims.append(
            Claim(
                text=_told(said, label) + measured,
                kind="change",
                said={"label": label, "change": said},
                measured={} if found is None else found.numbers(),
                verdict=_verdict(said, found),
            )
        )
    return tuple(claims)


def _told(said: str | None, label: str) -> str:
    """What was said, in front of a sentence that begins with the label."""
    if said == "less" and label.endswith("s"):
        return "fewer "
    return "" if said is None else f"{said} "


def _said(text: str, question: str) -> dict[str, str | None]:
    """Covers that a reply or its question names: ``more``, ``less``, ``not more``, or unsaid."""
    said: dict[str, str | None] = {}
    asked, answer = _ASKS_MORE.search(question), _SAYS.match(text)
    if asked and answer:
        more = answer[1].lower() == "yes"
        said[_cover(asked["more"] or asked["grown"])] = "more" if more else "not more"
    for change, pattern in _SAID.items():
        said |= {_cover(match[1]): change for match in pattern.finditer(text)}
    named = canonical_words(question) | canonical_words(text)
    return said | {cover: None for cover in COVERS if cover in named and cover not in said}


def _cover(words: str) -> str:
    name = canonical(words)
    return name if name in COVERS else words.strip().lower()


def _verdict(said: str | None, found: Change | None) -> Verdict:
    if said is None or found is None:
        return "uncheckable"
    grown = -found.share if said == "less" else found.share
    if UNCHANGED_SHARE <= grown < CHANGED_SHARE:
        return "uncheckable"
    return "supported" if (grown >= CHANGED_SHARE) == (said != "not more") else "contradicted"
