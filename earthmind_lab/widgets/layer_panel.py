"""LayerPanel: the switches of a map's pictures and answers, their legend, objects and origin.

`ChipLayer.panel` is one; as the last line of a cell it shows itself.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import traitlets

from earthmind_lab.answer import Answer, format_area
from earthmind_lab.changing import date_views
from earthmind_lab.exchange import View
from earthmind_lab.record_parts import BEFORE
from earthmind_lab.session.subject import Note
from earthmind_lab.session.two_dates import dates_of
from earthmind_lab.widgets.base import SessionWidget
from earthmind_lab.widgets.basemap import TILE_HOST
from earthmind_lab.widgets.legend import attribution_of, composite_title, share_ramp
from earthmind_lab.widgets.origin import origin_of
from earthmind_lab.widgets.overlays import KINDS, LEAST, MOST, RAMPS, STEP, area_curve
from earthmind_lab.widgets.protocol import FromBrowser, clean
from earthmind_lab.widgets.raster import LATER, WORD, Raster
from earthmind_lab.widgets.squares import squares_of
from earthmind_lab.widgets.words import NO_PIXELS

if TYPE_CHECKING:
    from earthmind_lab.chip import Chip
    from earthmind_lab.engine.base import Engine
    from earthmind_lab.widgets.features import TurnLayer
    from earthmind_lab.widgets.layers import ChipLayer

DRAWN = "drawn"
"""`Note.what` of a note that is the map's own: it has drawn."""
FORGOTTEN = "The probabilities are no longer in memory: ask again to change them."
ASKS_NOBODY = "Off: the map asks nobody for anything."
ASKING = f"On: this page asks {TILE_HOST} for the tiles that the map shows."
MOST_LISTED = 200
"""Objects of an answer in the list; the others are on the map only."""


class LayerPanel(SessionWidget):
    """What is on the map and how.

    Args:
        layers: The map side, which draws; its session is this panel's.

    Raises:
        EarthMindError: The browser side was never built.
    """

    rasters: traitlets.List[Any] = traitlets.List().tag(sync=True)
    """A row per sensor: its switches, its composites, its legend."""
    answers: traitlets.List[Any] = traitlets.List().tag(sync=True)
    """A row per answer that marked something, the newest first, with its objects."""
    about = traitlets.Dict().tag(sync=True)
    """``name``, ``how`` (pictures are compared), ``comparable``, ``sides`` (titles of
    the two, left first), ``waits`` (pixels are to be loaded), ``busy``, ``attribution``,
    ``message``, ``tiles`` (they are on), ``asks`` (what that means), and of the slider ``least``,
    ``most``, ``step``."""
    origin: traitlets.List[Any] = traitlets.List().tag(sync=True)
    """`origin.origin_of` what is shown."""
    squares: traitlets.List[Any] = traitlets.List().tag(sync=True)
    """`squares.squares_of` what is shown; empty until asked for."""

    def __init__(self, layers: ChipLayer) -> None:
        super().__init__(layers.session, "layers")
        self._layers = layers
        self._curves: dict[str, tuple[Answer, Chip | None, list[str]]] = {}
        self._origin: tuple[tuple[Chip, ...], list[Any]] = ((), [])
        self._seen: tuple[tuple[Chip, ...], list[Any]] = ((), [])
        """Chips and what the model sees of them."""
        self._begin()

    def refresh(self) -> None:
        """The map has changed; any thread."""
        self._inbox.put(Note(kind="changed", what=DRAWN))

    def _note(self, note: Note) -> None:
        # Notes of the session come by the map: what is said here is what is drawn there.
        if note.what == DRAWN:
            self._soon()

    def _message(self, message: FromBrowser) -> str | None:
        kind, layers = message["kind"], self._layers
        if kind == "hello":
            return ""
        if kind == "raster":
            layers.set_raster(
                message["sensor"], visible=message["visible"], opacity=message["opacity"],
                composite=message["composite"],
            )  # fmt: skip
            return ""
        if kind == "compare":
            layers.compare(message["how"])
            return ""
        if kind == "switch":
            overlays = [each for each in KINDS if message[each]]
            layers.set_turn(message["turn"], visible=message["visible"], overlays=overlays)
            return ""
        if kind == "object":
            return self._select(message["turn"], message["number"])
        if kind == "remove":
            self.session.discard(message["turn"])
            return "The answer was removed; Undo brings it back."
        if kind == "tiles":
            layers.set_tiles(on=message["on"])
            return ""
        if kind == "cut":
            work = partial(self._cut, message["turn"], message["probability"], self.session.active)
            self._aside.do((kind, message["turn"]), work)
            return "Cutting the masks…"
        if kind == "fit":
            layers.fit_features()
            return ""
        if kind == "reload":
            layers.load_again()
            return "Loading…"
        if kind == "squares":
            return self._show_squares()
        return f"A panel of layers has nothing to {kind}."

    def _select(self, turn: str | None, number: int) -> str:
        self.session.select_object(turn, number)
        return ""

    def _show_squares(self) -> str:
        chip, engine = self._layers.chip, self.session.engine
        if chip is None:
            return f"There are no pixels yet: {NO_PIXELS}."
        if engine is None:
            return "The model is loaded with the first question: ask something first."
        self._aside.do("squares", partial(self._look, _chips(self._layers), chip, engine))
        return "Asking the model what it sees…"

    # A claim may need a mask that nobody has drawn yet, and an engine may be far away: beside the
    # panel's thread.

    def _cut(self, turn: str, probability: float, name: str | None) -> str:
        self.session.set_threshold(turn, probability, name)
        return f"Masks are cut at {probability:.2f}."

    def _look(self, held: tuple[Chip, ...], chip: Chip, engine: Engine) -> str:
        self._seen = held, squares_of(chip, engine, _date_views(self._layers, engine))
        return ""

    def _flush(self) -> None:
        layers = self._layers
        subject = layers.subject
        held = _chips(layers)
        self.squares = self._seen[1] if self._seen[0] == held else []
        if self._origin[0] != held:
            self._origin = held, origin_of(*held) if held else []
        self.origin = self._origin[1]
        shown = LATER if layers.earlier is None else layers.rasters
        self.rasters = [_raster_row(layers.rasters[which]) for which in shown]
        turns = list(layers.turns.values())
        self._curves = {t.turn.id: self._curves[t.turn.id] for t in turns
                        if t.turn.id in self._curves}  # fmt: skip
        self.answers = [self._answer_row(turn) for turn in reversed(turns)]
        self.about = {
            "name": "" if subject is None else clean(subject.name),
            "how": layers.swipe.how,
            "comparable": layers.comparable,
            "sides": [clean(each.title) for each in layers.sides or ()],
            "waits": _waits(layers) and not (subject and subject.busy),
            "busy": (subject.busy or "") if subject else "",
            "attribution": clean(" ".join(dict.fromkeys(map(attribution_of, held)))),
            "message": clean(" ".join(layers.faults)),
            "tiles": layers.tiles is not None,
            "asks": ASKING if layers.tiles is not None else ASKS_NOBODY,
            "least": LEAST, "most": MOST, "step": STEP,
        }  # fmt: skip
        self.unfolded = bool(held or turns or self.about["waits"] or self.about["message"])

    def _answer_row(self, shown: TurnLayer) -> dict[str, Any]:
        turn = shown.turn
        answer = self.session.answer(turn.id)
        return {
            "id": clean(turn.id),
            "title": shown.title.capitalize(),
            "colour": shown.colour,
            "question": clean(turn.question),
            "dates": clean(shown.dates),
            "visible": shown.visible,
            "stale": turn.stale,
            "area": format_area(shown.area_m2) + (" (either date)" if turn.before else ""),
            # Of the answer in memory, which may be ahead of an undo, nothing counts here.
            "threshold": round(float(turn.options.get("mask_threshold", 0.5)), 2),
            "added": turn.kept,
            "reason": FORGOTTEN if answer is None else "",
            "areas": self._curve(turn.id, answer),
            "overlays": self._overlay_rows(turn.id, answer),
            "objects": [
                {"words": clean(shown.words(n)), "selected": n == shown.chosen}
                for n in shown.numbers[:MOST_LISTED]
            ],
            "more": max(0, len(shown.numbers) - MOST_LISTED),
        }

    def _curve(self, ident: str, answer: Answer | None) -> list[str]:
        """Mapped areas by threshold; made once per answer. None of two dates added up."""
        if answer is None or BEFORE in answer.record.chip:
            return []
        chip, held = self._layers.chip, self._curves.get(ident)
        if held is None or held[0] is not answer or held[1] is not chip:
            held = self._curves[ident] = (answer, chip, area_curve(answer, chip))
        return held[2]

    def _overlay_rows(self, ident: str, answer: Answer | None) -> list[dict[str, Any]]:
        """The layers that an answer has beside its outlines."""
        if answer is None or answer.grid is None or BEFORE in answer.record.chip:
            return []  # of two dates, nothing would tell whose probability it is
        return [
            {
                "kind": kind,
                "title": RAMPS[kind].title,
                "visible": self._layers.shows(ident, kind),
                "ramp": share_ramp(RAMPS[kind].name, RAMPS[kind].stops),
            }
            for kind in KINDS
            if kind == "probability" or answer.reply.sensor_weights is not None
        ]


def _chips(layers: ChipLayer) -> tuple[Chip, ...]:
    """What is shown, the later date first."""
    return tuple(chip for chip in (layers.chip, layers.earlier) if chip is not None)


def _waits(layers: ChipLayer) -> bool:
    """Whether pixels of what is chosen, or of files, are to be loaded."""
    subject = layers.subject
    if subject is None or (subject.chosen is None and subject.files is None):
        return False
    return layers.chip is None or (subject.before is not None and layers.earlier is None)


def _date_views(layers: ChipLayer, engine: Engine) -> tuple[View, View] | None:
    """What a question about two dates would hand over now; None where it concerns one."""
    dates = None if layers.subject is None else dates_of(layers.subject)
    if dates is None or layers.earlier is None or layers.chip is None:
        return None
    return date_views(layers.earlier, layers.chip, dates["sensor"], engine.capabilities.composites)


def _raster_row(raster: Raster) -> dict[str, Any]:
    return {
        "sensor": raster.which,
        "name": WORD[raster.which],
        "title": clean(raster.title),
        "visible": raster.visible,
        "opacity": raster.opacity,
        "composite": raster.shown[1] if raster.shown else "",
        "composites": [{"name": name, "title": composite_title(name)} for name in raster.names],
        "words": clean(raster.words),
        "ramps": raster.ramps,
    }
