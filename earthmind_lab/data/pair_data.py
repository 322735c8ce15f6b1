"""A pair with its scenes as plain data, and back: times, outlines and gaps in forms JSON has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from earthmind_lab.scene import Scene, ScenePair

_Form: TypeAlias = Callable[[Any], Any]
_TIMES = ("datetime", "start", "end")


def pair_data(pair: ScenePair) -> dict[str, Any]:
    """A pair as plain data, its items included; the numbers of its score unrounded."""
    return _fields(pair, {"optical": scene_data, "sar": scene_data, "gap": _gap_data})


def pair_of(data: Mapping[str, Any]) -> ScenePair:
    """The pair that `pair_data` wrote.

    Raises:
        SearchError: No scene.
        TypeError, ValueError, LookupError: Not written by it.
    """
    forms: dict[str, _Form] = {
        "optical": scene_of,
        "sar": scene_of,
        "gap": _gap_of,
        "reasons": tuple,
    }
    return ScenePair(**_formed(data, forms))


def scene_data(scene: Scene) -> dict[str, Any]:
    """A scene as plain data."""
    times: dict[str, _Form] = dict.fromkeys(_TIMES, datetime.isoformat)
    return _fields(scene, {**times, "footprint": lambda shape: shape.wkb_hex})


def scene_of(data: Mapping[str, Any]) -> Scene:
    """The scene that `scene_data` wrote.

    Raises:
        TypeError, ValueError, LookupError: Not written by it.
    """
    from shapely import from_wkb

    times: dict[str, _Form] = dict.fromkeys(_TIMES, datetime.fromisoformat)
    return Scene(**_formed(data, {**times, "footprint": from_wkb, "items": tuple}))


def _fields(value: Any, forms: Mapping[str, _Form]) -> dict[str, Any]:
    return _formed({each.name: getattr(value, each.name) for each in fields(value)}, forms)


def _formed(data: Mapping[str, Any], forms: Mapping[str, _Form]) -> dict[str, Any]:
    """The fields, each in its form; None stays None."""
    return {
        name: forms[name](value) if name in forms and value is not None else value
        for name, value in data.items()
    }


def _gap_data(gap: timedelta | tuple[timedelta, timedelta]) -> float | list[float]:
    return [part.total_seconds() for part in gap] if isinstance(gap, tuple) else gap.total_seconds()


def _gap_of(gap: float | list[float]) -> timedelta | tuple[timedelta, timedelta]:
    if isinstance(gap, list):
        least, greatest = gap
        return timedelta(seconds=least), timedelta(seconds=greatest)
    return timedelta(seconds=gap)
