"""Putting the questions of an evaluation to an engine, and reading its answers.

What a view shows is decided here, once for every task: which sensors, and what a control takes
away. An answer is read by its first word or by the classes that it names, and never guessed at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.engine.base import Engine
from earthmind_lab.errors import EarthMindError, LoadError, NoScenesFound, PromptError
from earthmind_lab.evaluate.controls import Control, blank, options_of, other_place, swapped
from earthmind_lab.evaluate.ground import SIDE_PX, Looked, look
from earthmind_lab.evaluate.legends import CLASSES, key_of, named
from earthmind_lab.evaluate.walk import Site
from earthmind_lab.exchange import Options, Prompt, Reply, View
from earthmind_lab.progress import bar
from earthmind_lab.render import render

SENSORS = ("optical", "sar", "both")
SAR_OFF = "both, SAR off"
"""The pair with its SAR views switched off: what a pair gains by SAR, on the same pixels."""
TWIN_CLOUD = 0.1
"""Share under cloud from which a site with a clear twin counts as cloudy."""
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

    def said(self, label: str) -> bool | None:
        """The answer to "Is there …?"; None = neither yes nor no."""
        return yes_or_no(self._ask(presence_question(label), self.views).text)

    def blind(self, label: str) -> bool | None:
        """The same without a picture; None also where the engine refuses that."""
        return yes_or_no(self._blind(presence_question(label)))

    def mask(self, label: str) -> NDArray[np.bool_]:
        """(H, W) what the engine marks as a class; empty where it says that there is none."""
        mask = np.zeros(self.looked.chip.inside.shape, bool)
        for found in self._ask(f"Segment the {label}.", self.views).objects:
            if found.mask_logits is not None:
                mask |= found.mask_logits > 0
        return mask

    def dominant(self) -> str | None:
        """The class that it calls the main cover: the first that it names."""
        return (named(self._ask(DOMINANT, self.views).text) or (None,))[0]

    def blind_dominant(self) -> str | None:
        """The same without a picture."""
        return (named(self._blind(DOMINANT)) or (None,))[0]

    def _ask(self, text: str, views: tuple[View, ...]) -> Reply:
        return self.engine.generate(Prompt(text=text, views=views), self.options)

    def _blind(self, text: str) -> str:
        try:
            return self.engine.generate(Prompt(text=text), Options()).text
        except PromptError:
            return ""


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

    with bar(len(sites), unit="scene", desc="Evaluating") as done:
        for index in range(len(sites)):
            looked = held(index)
            if looked is not None:
                chosen = of_place(index)
                views = render(looked.chip, preferred=chosen.capabilities.composites)
                if control == "blank":
                    views = blank(views)
                elif control == "other":
                    away = held(other_place(index, places))
                    if away is None:
                        done.update()
                        continue
                    wanted = chosen.capabilities.composites
                    views = swapped(views, render(away.chip, preferred=wanted))
                yield from _choices(chosen, looked, views, sensors, options_of(control))
            done.update()
    if len(skipped) >= len(sites):
        raise NoScenesFound(
            "Not one scene of the catalog can be read.", found=skipped[0] if skipped else "nothing"
        )


_KEPT = 8


def _choices(
    engine: Engine, looked: Looked, views: tuple[View, ...], sensors: Iterable[str],
    options: Options,
) -> Iterator[Shown]:  # fmt: skip
    for choice in sensors:
        shown = tuple(v for v in views if choice in ("both", v.modality))
        pair = {v.modality for v in shown}
        if len(pair) < (2 if choice == "both" else 1):
            continue
        # What a control switches off must not be all that there is.
        if options.sensor_off is not None and pair == {options.sensor_off}:
            continue
        yield Shown(
            looked=looked, sensors=choice, views=shown, options=options, engine=engine
        )  # fmt: skip
        if choice == "both" and options.sensor_off is None and is_twin(looked):
            off = Options(sensor_off="sar")
            yield Shown(looked=looked, sensors=SAR_OFF, views=shown, options=off, engine=engine)


def is_twin(looked: Looked) -> bool:
    """Whether clouds hide ground that a clear twin shows."""
    return looked.site.clear is not None and (looked.cloud or 0.0) >= TWIN_CLOUD


def sites_for(engine: ForPlace, sites: Sequence[Site]) -> list[Site]:
    """Sites as an engine sees them: what a place's own engine is asked was never trained on."""
    if not callable(engine):
        return list(sites)
    return [replace(site, training="no") for site in sites]


def check_asked(rows: Sequence[object], sites: Sequence[Site]) -> None:
    """Refuse a table of nothing.

    Raises:
        NoScenesFound: No truth decided anything that could be asked.
    """
    if not rows:
        raise NoScenesFound(
            "Nothing could be asked: no truth decides a class that the model knows and is shown.",
            found=f"{len(sites)} scenes",
            change="other sensors, another control, or a catalog with labels",
        )


def engine_of(engine: ForPlace, sites: Sequence[Site]) -> Engine:
    """The engine that names a table: the one, or that of the first place.

    Raises:
        EarthMindError: There is no site.
    """
    if not callable(engine):
        return engine
    if not sites:
        raise EarthMindError("There is no place to take an engine for.")
    return engine(sites[0].place)
