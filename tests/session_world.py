"""A session's surroundings for unit tests: made-up scenes, and an engine that can be held up."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from shapely.geometry import box

from earthmind_lab.aoi import AOI
from earthmind_lab.chip import LoadPlan
from earthmind_lab.errors import LoadError
from earthmind_lab.scene import Candidates, Rejected, ScenePair
from tests.stand_in_engine import StandInEngine, make_chip, make_scene, square

SIDE = (16, 16)
CHIP = make_chip(16, water=square(SIDE, (0, 8, 0, 8)))
DATES = "2020-06-01/2020-06-05"
BOX = (-0.72, 38.10, -0.71, 38.11)
OTHER = (-0.75, 38.10, -0.74, 38.11)


def pairs():
    """Two pairs, the better one first; SAR of the other is a day earlier."""
    optical = make_scene("optical", footprint=box(-1, 38, 0, 39))
    early = datetime(2020, 6, 1, 10, tzinfo=UTC)
    earlier = make_scene("sar", id="sar-2", datetime=early, start=early, end=early)
    made = [(make_scene("sar", id="sar-1"), 80.0), (earlier, 60.0)]
    return [
        ScenePair(
            optical=optical, sar=sar, gap=timedelta(days=1), overlap=1.0, cloud_in_aoi=0.0,
            score=score, factors={"V": 1.0}, reasons=("made up",), catalog="sample",
        )
        for sar, score in made
    ]  # fmt: skip


def found(*_, **__):
    """A search: the pairs, and one that is none."""
    far = make_scene("sar", id="sar-3")
    rejected = Rejected(optical=None, sar=far, reason="Too far away in time.")
    return Candidates(pairs=tuple(pairs()), rejected=(rejected,))


class SlowEngine(StandInEngine):
    """Answers at once, but for questions that begin with ``Slow``: they wait for `gate`."""

    def __init__(self) -> None:
        super().__init__(
            {"water": square(SIDE, (0, 8, 0, 8))}, {"Slow?": "Slowly.", "Is it dry?": "Maybe."}
        )
        self.gate = threading.Event()
        self.asked = threading.Event()

    def submit(self, prompt, options=None):
        handle = super().submit(prompt, options)
        if prompt.text.startswith("Slow"):
            handle._gate = self.gate
            self.asked.set()
        return handle


def no_plan(pair, aoi, *, grid=None, **_):
    """What a load costs nobody knows; on the grid of another chip it can be had."""
    if grid is None:
        raise LoadError("Too large.", change="a smaller AOI")
    return LoadPlan(
        pair=pair, aoi=aoi, grid=grid, bands=(), polarisations=("vv",), reads=1, bytes=1
    )


def made_up(patch: pytest.MonkeyPatch) -> None:
    """Searches and loads come from memory."""
    patch.setattr("earthmind_lab.data.search.search_candidates", found)
    # These first: with the others patched already, the module would be imported with them.
    patch.setattr("earthmind_lab.data.own_files.area_of_files", lambda **_: AOI.from_bbox(*BOX))
    patch.setattr("earthmind_lab.data.own_files.open_chip", lambda **_: CHIP)
    patch.setattr("earthmind_lab.data.load.load_chip", lambda *_, **__: CHIP)
    patch.setattr("earthmind_lab.data.load.plan_chip", no_plan)
