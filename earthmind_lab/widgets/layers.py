"""ChipLayer: what a session sees of the active area, on any ipyleaflet map.

Both sensors' pictures lie in panes of their own, and so do those of an earlier date, so that they
can be swiped; the objects of each answer are a layer of features. Everything shown is drawn from
the session's state, on one thread. The switches are a panel of their own:
`layer_panel.LayerPanel`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Any

import ipyleaflet
import ipywidgets

from earthmind_lab.answer import Answer
from earthmind_lab.chip import Chip
from earthmind_lab.errors import EarthMindError
from earthmind_lab.session import Session
from earthmind_lab.session.objects import Selected
from earthmind_lab.session.subject import Note, SaidTurn, Subject
from earthmind_lab.widgets.basemap import (
    ANSWER_PANE,
    ensure_panes,
    fly_to,
    tile_layer,
)
from earthmind_lab.widgets.features import TurnLayer
from earthmind_lab.widgets.later import Later
from earthmind_lab.widgets.layer_panel import LayerPanel
from earthmind_lab.widgets.overlays import KINDS, Kind, picture
from earthmind_lab.widgets.raster import EARLIER, LATER, PANE, Raster, Which, image
from earthmind_lab.widgets.swipe import How, Swipe

OVERLAY_OPACITY = 0.75
"""The picture below stays to be seen."""
_LINE = '<div style="font-size:11px;line-height:1.4;white-space:normal">'
_PATIENCE = 5.0
"""Seconds for a drawing under way to end; then whatever is there counts."""


@dataclass(kw_only=True, eq=False)
class _Overlay:
    """A layer drawn from an answer in memory."""

    layer: ipyleaflet.ImageOverlay
    answer: Answer


class ChipLayer:
    """Pictures of the active area's chip and the objects of its answers.

    Args:
        session: Whose active subject is shown.
        map: Any ipyleaflet or leafmap map. Best made with `make_map`: a map that is shown already
            is built anew once, to get the panes.
    """

    def __init__(self, session: Session, map: ipyleaflet.Map) -> None:  # noqa: A002
        self.session, self.map = session, map
        ensure_panes(map)
        self.rasters = {which: Raster(which=which) for which in (*LATER, *EARLIER)}
        self.turns: dict[str, TurnLayer] = {}
        self.subject: Subject | None = None
        self.chip: Chip | None = None
        self.earlier: Chip | None = None
        self.tiles: ipyleaflet.TileLayer | None = None
        self.faults: list[str] = []
        self._overlays: dict[tuple[str, Kind], _Overlay] = {}
        self._wanted: set[tuple[str, Kind]] = set()
        self._placed: list[ipyleaflet.Layer] = []
        self._flown: Selected | None = session.selected
        self.swipe = Swipe(left_pane=PANE["optical"], right_pane=PANE["sar"])
        # HTML with escaped text, never a Label: that would typeset $...$, links and all.
        self.about = ipywidgets.HTML()
        # A widget control: the swipe finds the map that it lies in, in each view of its own.
        self.controls = (
            ipyleaflet.WidgetControl(widget=self.swipe, position="topright", transparent_bg=True),
            ipyleaflet.WidgetControl(widget=self.about, position="topright", max_width=320),
        )
        self.say("")
        self.map.controls = (*self.map.controls, *self.controls)
        self._later = Later(self._draw, name="chip layer")
        self.panel = LayerPanel(self)
        self.swipe.observe(lambda _: self.panel.refresh(), "how")
        self._unwatch = session.watch(self._on_note)
        self._later.ask()

    subject: Subject | None
    """Whom the map shows."""
    chip: Chip | None
    """Whose pictures the map shows."""
    earlier: Chip | None
    """Of the earlier date that it is compared with; None = with none, or not loaded."""
    turns: dict[str, TurnLayer]
    """Layers of the answers that marked something, by the turn's id, oldest first."""
    tiles: ipyleaflet.TileLayer | None
    """The background from the network; None, as at every start, while nothing is requested."""
    faults: list[str]
    """What could not be drawn, and why."""

    # --- what a user does; any thread ------------------------------------------------------------

    def set_raster(
        self, which: Which, *, visible: bool, opacity: float, composite: str | None = None
    ) -> None:
        """Switch one sensor's picture of one date.

        Args:
            which: Whose.
            visible: Whether it is on the map.
            opacity: 0 to 1.
            composite: Name of one of its composites, for both dates; another name changes nothing.
        """
        raster = self.rasters[which]
        switched = visible != raster.visible
        raster.switch(visible=visible, opacity=opacity)
        leading = self.rasters[raster.modality]
        if composite in raster.names and composite != leading.wanted:
            leading.wanted = composite
            switched = True
        if switched:
            self._later.ask()
        self.panel.refresh()

    def compare(self, how: How) -> None:
        """Swipe two pictures against each other, let them blink, or end that ("")."""
        self.swipe.how = how if self.comparable else ""

    @property
    def comparable(self) -> bool:
        """Whether there are two pictures to compare."""
        return self.sides is not None

    @property
    def sides(self) -> tuple[Raster, Raster] | None:
        """What is compared: two dates of a sensor whose pictures are on, else two sensors.

        Of two sensors SAR comes first.
        """
        pairs = [(self.rasters[a], self.rasters[b]) for a, b in zip(EARLIER, LATER, strict=True)]
        for both in reversed(pairs):
            if all(each.layer is not None and each.visible for each in both):
                return both
        optical, sar = (self.rasters[which] for which in LATER)
        return None if optical.layer is None or sar.layer is None else (optical, sar)

    def set_turn(self, ident: str, *, visible: bool, overlays: Iterable[Kind] = ()) -> None:
        """Switch what an answer shows.

        Args:
            ident: Id of its turn.
            visible: Whether its objects are on the map.
            overlays: Which of `overlays.KINDS` are on the map, as far as it has them.
        """
        if ident in self.turns:
            self.turns[ident].visible = visible
        wanted = set(overlays)
        for kind in KINDS:
            (self._wanted.add if kind in wanted else self._wanted.discard)((ident, kind))
        self._later.ask()

    def shows(self, ident: str, kind: Kind) -> bool:
        """Whether a layer of an answer is on the map."""
        return (ident, kind) in self._overlays

    def set_tiles(self, *, on: bool) -> None:
        """Put a background from the network under everything, or take it away.

        While it is on, the browser requests tiles of what the map shows; off, nothing is.

        Args:
            on: Whether it is on the map; at every start it isn't.
        """
        if on != (self.tiles is not None):
            self.tiles = tile_layer() if on else None
            self._later.ask()
        self.panel.refresh()

    def fit_object(self, ident: str, number: int) -> None:
        """Fly to one object and say what it is."""
        turn = self.turns.get(ident)
        if turn is not None and number in turn.numbers:
            turn.visible = True
            bounds = turn.bounds_of(number)
            if bounds is not None:
                fly_to(self.map, bounds)
            self.say(turn.words(number))

    def choose(self, ident: str, number: int) -> None:
        """Select an object from the map, which need not fly to it.

        Raises:
            PromptError: It is no longer there.
        """
        before, self._flown = self._flown, Selected(turn=ident, number=number)
        try:
            self.session.select_object(ident, number)
        except EarthMindError:
            self._flown = before
            raise

    def fit_features(self) -> None:
        """Fly to the objects that are shown."""
        shown = [turn.bounds for turn in self.turns.values() if turn.visible]
        boxes = [box for box in shown if box is not None]
        if boxes:
            west, south, east, north = zip(*boxes, strict=True)
            fly_to(self.map, (min(west), min(south), max(east), max(north)))

    def fit_turn(self, ident: str) -> None:
        """Show the objects of one answer of the active subject, switched off or not.

        Args:
            ident: Id of the turn. One that marked nothing, or is no longer there, moves nothing.
        """
        self.settle(_PATIENCE)  # the answer may be newer than what is drawn
        turn = self.turns.get(ident)
        if turn is not None and turn.bounds is not None:
            turn.visible = True
            self.panel.refresh()
            fly_to(self.map, turn.bounds)

    def load_again(self) -> None:
        """Load what is shown, and what it is compared with, whose pixels a restart lost.

        Raises:
            EarthMindError: They can't be loaded.
        """
        before = self.session.subject().before
        if before is None:
            self.session.load()
        else:
            self.session.compare(before)

    def say(self, words: str) -> None:
        """Write a line on the map, such as the object under the mouse; "" takes it away."""
        self.about.value = f"{_LINE}{escape(words)}</div>" if words else ""
        self.about.layout.display = None if words else "none"

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until the map shows the session as it is now; False = `timeout` came first."""
        # A note of the session may still be on its way: ask ourselves.
        self._later.ask()
        return self._later.settle(timeout)

    def close(self) -> None:
        """Take everything of ours off the map."""
        self._unwatch()
        self._later.close()
        self.panel.close()
        self.rasters, self.turns, self._overlays, self.tiles = {}, {}, {}, None
        self._place()
        self.map.controls = tuple(c for c in self.map.controls if c not in self.controls)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.panel._repr_mimebundle_(**options)

    # --- what is shown; only on the thread of `Later` --------------------------------------------

    def _on_note(self, note: Note) -> None:
        if note.kind == "changed":
            self._later.ask()

    def _draw(self) -> None:
        self.subject, self.chip, self.earlier = self._seen()
        self.faults = []
        for which, raster in self.rasters.items():
            try:
                if which in LATER:
                    raster.draw(self.chip)
                else:
                    raster.draw(self.earlier, like=self.rasters[raster.modality])
            except EarthMindError as error:
                self.faults.append(str(error))
        self._draw_turns(self.subject)
        self._draw_overlays()
        self._draw_swipe()
        self._place()
        self._draw_selected()
        self.panel.refresh()

    def _place(self) -> None:
        """Put our layers on the map, above those of others, and take away what is no more."""
        ours = self._ours()
        others = [layer for layer in self.map.layers if layer not in (*self._placed, *ours)]
        gone = [layer for layer in self._placed if layer not in ours]
        if [layer for layer in self.map.layers if layer in self._placed] != ours:
            self.map.layers = (*others, *ours)
        self._placed = ours
        for layer in gone:
            layer.close()

    def _seen(self) -> tuple[Subject | None, Chip | None, Chip | None]:
        """The active subject, its chip and the earlier one; the subject may go away meanwhile."""
        try:
            subject = self.session.subject()
            if subject.kind == "picture":
                return subject, None, None
            return subject, self.session.chip(subject.name), self.session.earlier(subject.name)
        except EarthMindError:
            return None, None, None

    def _ours(self) -> list[Any]:
        """Our layers that belong on the map, lowest first."""
        rasters = [raster.layer for raster in self.rasters.values() if raster.layer is not None]
        overlays = [each.layer for each in self._overlays.values()]
        tiles = [] if self.tiles is None else [self.tiles]
        return [*tiles, *rasters, *overlays, *(turn.layer for turn in self.turns.values())]

    def _draw_turns(self, subject: Subject | None) -> None:
        """One layer of features per turn that marked something."""
        said = () if subject is None else subject.talk
        marked = [turn for turn in said if turn.features.get("features")]
        before, self.turns = (
            self.turns,
            {
                turn.id: self._turn_layer(turn, f"answer {number + 1}", number)
                for number, turn in enumerate(marked)
            },
        )
        if [each.title for each in before.values()] != [t.title for t in self.turns.values()]:
            self.say("")

    def _turn_layer(self, turn: SaidTurn, title: str, tint: int) -> TurnLayer:
        """The layer that shows it already, or a new one with the switches of the one before."""
        old = self.turns.get(turn.id)
        if old is not None and old.title == title and old.shows(turn):
            old.turn = turn  # looks the same, but may be cut elsewhere
            return old
        return TurnLayer(
            turn, title, tint, say=self.say, choose=lambda which: self.choose(turn.id, which),
            visible=old is None or old.visible,
        )  # fmt: skip

    def _draw_overlays(self) -> None:
        """Layers of answers in memory, as far as they are wanted."""
        before, self._overlays = self._overlays, {}
        for ident, kind in sorted(self._wanted):
            answer = self.session.answer(ident) if ident in self.turns else None
            if answer is None:
                continue
            old = before.get((ident, kind))
            if old is not None and old.answer is answer:
                self._overlays[ident, kind] = old
            elif (shown := picture(kind, answer)) is not None:
                layer = image(shown, name=kind, pane=ANSWER_PANE, opacity=OVERLAY_OPACITY)
                self._overlays[ident, kind] = _Overlay(layer=layer, answer=answer)

    def _draw_swipe(self) -> None:
        sides = self.sides
        if sides is None:
            self.swipe.how = ""
            return
        left, right = sides
        with self.swipe.hold_sync():
            self.swipe.left_title, self.swipe.right_title = left.title, right.title
            self.swipe.left_pane, self.swipe.right_pane = PANE[left.which], PANE[right.which]
            held = (left.which, right.which)
            self.swipe.hidden_panes = [PANE[which] for which in self.rasters if which not in held]

    def _draw_selected(self) -> None:
        """Draw the selected object as such, and fly to it where it was selected elsewhere."""
        selected = self.session.selected
        for ident, turn in self.turns.items():
            number = selected.number if selected and selected.turn == ident else None
            turn.mark(number if number in turn.numbers else None)
        if selected != self._flown:
            self._flown = selected
            if selected is not None:
                self.fit_object(selected.turn, selected.number)
