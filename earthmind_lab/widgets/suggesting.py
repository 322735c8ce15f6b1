"""Questions to offer: those that the model can answer about what is loaded, and were not asked yet.

>>> suggest(("water", "clouds"), sensors={"sar"}, asked=["describe the scene"])
('Segment the water.', 'What is the main cover?')
>>> suggest(("water",), sensors={"sar"}, regions=1)[0]
'What is region1?'
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from earthmind_lab.session.two_dates import dates_of

if TYPE_CHECKING:
    from earthmind_lab.session import Session
    from earthmind_lab.session.subject import Subject

MOST = 5
"""More than a line or two of them is a list to read."""
CLOUDS = "clouds"
"""No radar sees them, and a pair's masks are drawn on the radar's picture."""
OPEN = ("water",)
"""What a model of an open vocabulary is asked to mark."""


def suggest(
    classes: Collection[str],
    *,
    sensors: Collection[str],
    regions: int = 0,
    asked: Iterable[str] = (),
    dates: bool = False,
    most: int = MOST,
) -> tuple[str, ...]:
    """Questions in the order of use.

    Args:
        classes: `Capabilities.classes`; empty = an open vocabulary.
        sensors: ``optical``, ``sar`` or both: what is loaded.
        regions: How many are marked.
        asked: Questions that need no second offer.
        dates: Whether they are about two dates.
        most: How many at most.
    """
    first, *others = [each for each in classes or OPEN if each != CLOUDS] or [""]
    known = not classes or CLOUDS in classes
    found = [f"What is region{number}?" for number in range(1, regions + 1)][:2]
    found += ["Describe the scene.", f"Segment the {first}." if first else ""]
    found += ["What is the main cover?"]
    found += ["Are there clouds?"] if known and "optical" in sensors else []
    found += [f"Segment the {each}." for each in others]
    found = _of_two_dates([first, *others]) if dates else found
    put = {_plain(question) for question in asked}
    return tuple(each for each in found if each and _plain(each) not in put)[:most]


def _of_two_dates(covers: list[str]) -> list[str]:
    """A cover that is named is measured by masks of both dates."""
    grown = [each for each in covers if each and not each.endswith("s")]
    more = [f"Is there more {each} in the second picture?" for each in grown]
    return ["What has changed?", "Has anything changed?", *more]


def suggestions_for(session: Session, subject: Subject | None) -> tuple[str, ...]:
    """Those for a subject as it is now; none where nothing can be asked yet."""
    if subject is None or (subject.kind == "aoi" and subject.row is None):
        return ()
    scenes = subject.row.scenes if subject.row else ()
    sensors = {str(scene.get("modality")) for scene in scenes}
    if subject.files is not None:
        sensors = {"optical", "sar"} & set(subject.files["arguments"])
    engine, dates = session.engine, dates_of(subject)
    return suggest(
        embedded_classes() if engine is None else engine.capabilities.classes,
        sensors=sensors or {"optical"},
        regions=len(subject.regions),
        asked=[
            turn.question for turn in subject.talk
            if turn.state == "done" and not turn.stale and turn.before == dates
        ],
        dates=dates is not None,
    )  # fmt: skip


@cache
def embedded_classes() -> tuple[str, ...]:
    """Those of the embedded model, which answers where no other was given, without loading it."""
    text = files("earthmind_lab").joinpath("weights/nano/config.json").read_text("utf-8")
    return tuple(map(str, json.loads(text)["classes"]))


def _plain(question: str) -> str:
    return question.strip().rstrip(".?!").casefold()
