"""Real scenes of the embedded catalog as pictures with truth, for earthmind-nano's training."""

from __future__ import annotations

from functools import cache

from nano_data import VIEWS, RealScene, Window, resample

from earthmind_lab.evaluate.scenes import CASES, Case, load_case
from earthmind_lab.render import render


def place_of(case: Case) -> str:
    """What two dates of one ground have in common."""
    for date in ("_cloudy", "_summer", "_autumn", "_august"):
        if case.name.endswith(date):
            return case.name.removesuffix(date)
    return case.name


WATCHED = ("chile", "ireland_kilkenny", "finland_lake")
"""Held-out scenes whose scores are printed on the way for whoever watches; they choose nothing."""
PLACES = tuple(dict.fromkeys(place_of(case) for case in CASES))


def cases(split: str, without: str | None = None) -> list[Case]:
    """Scenes of a split, or ``watched``; with a place to leave out, those of all other places."""
    if split == "watched":
        return [case for case in CASES if case.name in WATCHED]
    if without is None:
        return [case for case in CASES if case.split == split]
    if without not in PLACES:
        raise SystemExit(f"no place {without}; there are {', '.join(PLACES)}")
    return [case for case in CASES if place_of(case) != without]


@cache
def real_scenes(
    split: str, most: int | None = None, without: str | None = None
) -> tuple[RealScene, ...]:
    """The first so many of `cases`, or all."""
    found: list[RealScene] = []
    for case in cases(split, without):
        if most is None or len(found) < most:
            known = load_case(case)
            views = {VIEWS.index(v.name): v.image for v in render(known.chip) if v.name in VIEWS}
            found.append(
                RealScene(
                    name=case.name,
                    views=views,
                    yes=known.truth.yes,
                    no=known.truth.no,
                    cloud=known.cloud,
                )
            )
    return tuple(found)


def whole(scene: RealScene) -> Window:
    """A scene as one window, without any change."""
    height, width = scene.cloud.shape
    return resample(scene, slice(0, height), slice(0, width))
