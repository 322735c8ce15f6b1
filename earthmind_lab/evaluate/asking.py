"""Putting the questions of an evaluation to an engine, and reading its answers.

What a view shows is decided here, once for every task: which sensors, and what a control takes
away. An answer is read by its first word or by the classes that it names, and never guessed at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.engine.base import Engine
from earthmind_lab.errors import LoadError, NoScenesFound, PromptError
from earthmind_lab.evaluate.controls import (
    OTHER_PLACES,
    Control,
    blank,
    options_of,
    other_places,
    swapped,
)
from earthmind_lab.evaluate.ground import SIDE_PX, Looked, look
from earthmind_lab.evaluate.legends import CLASSES, key_of, named
from earthmind_lab.evaluate.walk import Site
from earthmind_lab.exchange import Options, Prompt, Reply, View
from earthmind_lab.progress import bar
from earthmind_lab.render import render

SENSORS = ("optical", "sar", "both")
SAR_OFF = "both, SAR off"
"""The pair with its SAR views switched off: what a pair gains by SAR, on the same pixels."""
ForPlace: TypeAlias = "Engine | Callable[[str], Engine]"
"""An engine, or what gives the engine of a place: the one that never saw it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """What one engine is shown of one site."""

    looked: Looked
    sensors: str
    """One of `SENSORS`, or `SAR_OFF`."""
    views: tuple[View, ...]
    options: Options
    engine: Engine
    away: str = ""
    """The site whose pictures these are, under the control ``other``; empty = its own."""
    blindly: dict[tuple[str, str], str] = field(default_factory=dict)
    """What was said without a picture, by revision and question: one for a whole walk."""
    heard: dict[str, Reply] = field(default_factory=dict)
    """No question is put twice to the same pictures."""

    def said(self, label: str) -> bool | None:
        """The answer to "Is there …?"; None = neither yes nor no."""
        return yes_or_no(self._ask(presence_question(label)).text)

    def blind(self, label: str) -> bool | None:
        """The same without a picture; None also where the engine refuses that."""
        return yes_or_no(self._blind(presence_question(label)))

    def mask(self, label: str) -> NDArray[np.bool_]:
        """(H, W) what the engine marks as a class; empty where it says that there is none."""
        mask = np.zeros(self.looked.chip.inside.shape, bool)
        for found in self._ask(f"Segment the {label}.").objects:
            if found.mask_logits is not None:
                mask |= found.mask_logits > 0
        return mask

    def dominant(self) -> str | None:
        """The class that it calls the main cover: the first that it names."""
        return (named(self._ask(DOMINANT).text) or (None,))[0]

    def blind_dominant(self) -> str | None:
        """The same without a picture."""
        return (named(self._blind(DOMINANT)) or (None,))[0]

    def _ask(self, text: str) -> Reply:
        if text not in self.heard:
            prompt = Prompt(text=text, views=self.views)
            self.heard[text] = self.engine.generate(prompt, self.options)
        return self.heard[text]

    def _blind(self, text: str) -> str:
        key = (self.engine.revision, text)
        if key not in self.blindly:
            try:
                self.blindly[key] = self.engine.generate(Prompt(text=text), Options()).text
            except PromptError:
                self.blindly[key] = ""
        return self.blindly[key]


DOMINANT = "What is the main cover?"


def presence_question(label: str) -> str:
    """Whether a class is there, as it is asked."""
    return f"Is there {label} here? Answer yes or no."


def yes_or_no(text: str) -> bool | None:
    """The first word of an answer.

    >>> yes_or_no("Yes."), yes_or_no(" no, there is none."), yes_or_no("Nothing is known.")
    (True, False, None)
    """
    words = "".join(c if c.isalpha() else " " for c in text.lower()).split()
    return {"yes": True, "no": False}.get(words[0]) if words else None


def known_classes(engine: Engine) -> tuple[str, ...]:
    """The classes that an engine can be asked about: all, unless it says what it knows."""
    own = {key_of(name) for name in engine.capabilities.classes}
    return tuple(name for name in CLASSES if name in own) if own else CLASSES


def show(
    engine: ForPlace,
    sites: Sequence[Site],
    *,
    sensors: Sequence[str],
    control: Control | None,
    skipped: list[str],
    deadline: float,
) -> Iterator[Shown]:
    """Every site by every choice of sensors, in order, with a bar that counts sites.

    Args:
        engine: An engine, or what gives the one of a place.
        sites: From `walk.walk`.
        sensors: Of `SENSORS`.
        control: What is taken away.
        skipped: Takes a sentence for each site that can't be read.
        deadline: Seconds for each load.

    Raises:
        PromptError: An unknown choice of sensors.
        NoScenesFound: Not one site can be read.
        EarthMindError: The engine can't answer; ``other`` with one place only.
    """
    unknown = set(sensors) - set(SENSORS)
    if unknown or not sensors:
        raise PromptError(
            f"There is no choice of sensors {', '.join(sorted(unknown))!r}.",
            change=", ".join(SENSORS),
        )
    places = [site.place for site in sites]
    read: dict[int, Looked | None] = {}
    blindly: dict[tuple[str, str], str] = {}

    def of_place(index: int) -> Engine:
        return engine(sites[index].place) if callable(engine) else engine

    def held(index: int) -> Looked | None:
        """A site, read once; only ``other`` reads one twice, so only the last few are kept."""
        if index not in read:
            while len(read) >= _KEPT:
                read.pop(next(iter(read)))
            try:
                most = of_place(index).capabilities.max_side_px or SIDE_PX
                read[index] = look(sites[index], side_px=min(SIDE_PX, most), deadline=deadline)
            except LoadError as error:
                if (said := f"{sites[index].name}: {error}") not in skipped:
                    skipped.append(said)
                read[index] = None
        return read[index]

    def pictures(index: int, looked: Looked) -> Iterator[tuple[str, tuple[View, ...]]]:
        """What is shown of a site: its own views, or those of other places, each by its name."""
        wanted = of_place(index).capabilities.composites
        views = render(looked.chip, preferred=wanted)
        if control != "other":
            yield "", blank(views) if control == "blank" else views
            return
        drawn = other_places(index, places, _alike(sites[index], sites))
        away = ((sites[i].name, other) for i in drawn if (other := held(i)) is not None)
        for name, other in islice(away, OTHER_PLACES):
            yield name, swapped(views, render(other.chip, preferred=wanted))

    with bar(len(sites), unit="scene", desc="Evaluating") as done:
        for index in range(len(sites)):
            looked = held(index)
            if looked is not None:
                for away, views in pictures(index, looked):
                    shown = Shown(
                        looked=looked, sensors="both", views=views, options=options_of(control),
                        engine=of_place(index), away=away, blindly=blindly,
                    )  # fmt: skip
                    yield from _choices(shown, sensors)
            done.update()
    if len(skipped) >= len(sites):
        raise NoScenesFound(
            "Not one scene of the catalog can be read.", found=skipped[0] if skipped else "nothing"
        )


_KEPT = 16


def _alike(site: Site, sites: Sequence[Site]) -> set[int]:
    """Sites whose pictures show their ground to the sensors of one."""
    wanted = {scene.modality for scene in site.pair.scenes}
    return {
        i for i, other in enumerate(sites)
        if other.clear is None and wanted <= {scene.modality for scene in other.pair.scenes}
    }  # fmt: skip


def _choices(whole: Shown, sensors: Sequence[str]) -> Iterator[Shown]:
    """A site with all its views, by choice of sensors."""
    off = whole.options.sensor_off
    for choice in sensors:
        views = tuple(v for v in whole.views if choice in ("both", v.modality))
        pair = {v.modality for v in views}
        if len(pair) < (2 if choice == "both" else 1):
            continue
        # What a control switches off must not be all that there is.
        if off is not None and pair == {off}:
            continue
        yield replace(whole, sensors=choice, views=views, heard={})
        if choice == "both" and off is None and whole.looked.twin:
            without = Options(sensor_off="sar")
            yield replace(whole, sensors=SAR_OFF, views=views, options=without, heard={})
