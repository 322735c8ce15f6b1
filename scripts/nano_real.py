"""Real scenes of the embedded catalog as pictures with truth, for earthmind-nano's training."""

from __future__ import annotations

from functools import cache

from nano_data import VIEWS, RealScene, Window, resample

from earthmind_lab.evaluate.scenes import CASES, load_case
from earthmind_lab.render import render


@cache
def real_scenes(split: str, most: int | None = None) -> tuple[RealScene, ...]:
    """The first so many scenes of a split, or all."""
    found: list[RealScene] = []
    for case in CASES:
        if case.split == split and (most is None or len(found) < most):
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
