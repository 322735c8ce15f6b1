"""Two answers to one question, with both sensors and without one of them: what differs.

    told = compare(Told.of(with_both), Told.of(without_sar), "sar")
    told.sentences        ("Depends on SAR: without it no water is marked.",)

Facts of these two answers only: what a model says without a sensor needs not be what the sensor
would have told it. No truth of the ground is in here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from earthmind_lab.answer import Answer
from earthmind_lab.exchange import Modality
from earthmind_lab.sensors import MODALITY_WORDS

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

_SAYS = re.compile(r"\s*(yes|no)\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a comparison needs of an answer, as plain data that a file keeps."""

    text: str
    features: Mapping[str, Any]
    """`Answer.to_geojson`: objects in EPSG:4326 with ``label``, ``source`` and ``area_m2``."""
    record: Mapping[str, Any]
    """`Record.to_dict`."""

    @classmethod
    def of(cls, answer: Answer) -> Told:
        """That of an answer."""
        return cls(
            text=answer.text, features=answer.to_geojson(), record=answer.record.to_dict()
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Marked:
    """One label in both answers."""

    label: str
    with_m2: float
    """Mapped area with both sensors, square metres, overlaps counted once; 0 = not marked."""
    without_m2: float
    """The same without the sensor."""
    with_count: int
    """Objects."""
    without_count: int
    iou: float
    """Intersection over union of the two masks, 0 to 1, of the objects large enough to be
    resolved."""

    def sentence(self, sensor: str) -> str:
        """What taking the sensor away did to this label."""
        if not self.without_count:
            return f"Depends on {sensor}: without it no {self.label} is marked."
        if not self.with_count:
            return f"Depends on {sensor}: only without it {self.label} is marked."
        return f"{self.label} is marked with and without {sensor}: IoU {self.iou:.2f}."


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What differs between an answer with both sensors and one without a sensor."""

    without: Modality
    """The sensor that was taken away."""
    marked: tuple[Marked, ...]
    """Labels that either answer marks, those of the first one first."""
    same_words: bool
    said: tuple[str, str]
    """The two texts, with both sensors first."""
    sentences: tuple[str, ...]
    """The facts, for people."""


def compare(both: Told, less: Told, without: Modality) -> Comparison | None:
    """Set two answers side by side.

    Args:
        both: With both sensors.
        less: To the same question about the same pixels, without one of them.
        without: The one.

    Returns:
        What differs; None where they aren't about the same pixels, or the same question.
    """
    if not all(_read(both.record, *keys) == _read(less.record, *keys) for keys in _SAME):
        return None
    sensor = MODALITY_WORDS[without]
    one, other = (_by_label(told.features) for told in (both, less))
    marked = tuple(
        _marked(label, one.get(label, ()), other.get(label, ())) for label in {**one, **other}
    )
    sentences = [_words(both.text, less.text, sensor)]
    sentences += [each.sentence(sensor) for each in marked]
    return Comparison(
        without=without, marked=marked, same_words=both.text == less.text,
        said=(both.text, less.text), sentences=tuple(sentences),
    )  # fmt: skip


_SAME = (("question",), ("chip", "pixel_hash"), ("prompt", "regions"))
"""What both records must agree on: else another thing may be why the answers differ."""


def _read(record: Mapping[str, Any], *keys: str) -> Any:
    found: Any = record
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _words(both: str, less: str, sensor: str) -> str:
    one, other = (_SAYS.match(text) for text in (both, less))
    if one and other and one[1].lower() != other[1].lower():
        said = f"the answer is {one[1].lower()} with it and {other[1].lower()} without it"
        return f"Depends on {sensor}: {said}."
    same = "The same words" if both == less else "Other words"
    return f"{same} with and without {sensor}."


def _by_label(features: Mapping[str, Any]) -> dict[str, Sequence[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for feature in features.get("features", ()):
        found.setdefault(str(feature["properties"].get("label", "")), []).append(feature)
    return {**found}


def _marked(
    label: str, one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]
) -> Marked:
    a, b = _covered(one), _covered(other)
    # Ratios of areas a chip's size across are the same in degrees as in metres.
    union = float(a.union(b).area)
    return Marked(
        label=label, with_m2=_area(one, a), without_m2=_area(other, b), with_count=len(one),
        without_count=len(other), iou=float(a.intersection(b).area) / union if union else 0.0,
    )  # fmt: skip


def _covered(features: Sequence[Mapping[str, Any]]) -> BaseGeometry:
    from shapely import make_valid, union_all
    from shapely.geometry import shape

    return union_all([make_valid(shape(each["geometry"])) for each in features])


def _area(features: Sequence[Mapping[str, Any]], covered: BaseGeometry) -> float:
    """Square metres, what two objects share counted once."""
    from shapely.geometry import shape

    total = sum(float(each["properties"].get("area_m2") or 0.0) for each in features)
    apart = sum(float(shape(each["geometry"]).area) for each in features)
    return total * min(1.0, float(covered.area) / apart) if apart else total
