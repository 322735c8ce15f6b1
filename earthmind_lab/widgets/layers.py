"""ChipLayer: what a session sees of the active area, on any ipyleaflet map.

Both sensors' pictures lie in panes of their own, so they can be swiped; the objects of each answer
are a layer of features. Everything shown is drawn from the session's state, on one thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import ipyleaflet
import ipywidgets

from earthmind_lab.chip import Chip
from earthmind_lab.errors import EarthMindError
from earthmind_lab.exchange import Modality
from earthmind_lab.render import PREFERRED, fillable, render
from earthmind_lab.session import Session
from earthmind_lab.session.subject import Note, Subject
from earthmind_lab.widgets.basemap import OPTICAL_PANE, SAR_PANE, ensure_panes, fly_to
from earthmind_lab.widgets.features import TurnLayer
from earthmind_lab.widgets.later import Later
from earthmind_lab.widgets.legend import attribution_of, picture_words
from earthmind_lab.widgets.swipe import Swipe
from earthmind_lab.widgets.web_mercator import reproject, shown_url

MODALITIES: tuple[Modality, ...] = ("optical", "sar")
PANE: dict[Modality, str] = {"optical": OPTICAL_PANE, "sar": SAR_PANE}
_LINE = '<div style="font-size:11px;line-height:1.4;white-space:normal">'
WORD: dict[Modality, str] = {"optical": "Optical", "sar": "SAR"}
_PATIENCE = 5.0
"""Seconds for a drawing under way to end; then whatever is there counts."""


@dataclass(kw_only=True, eq=False)
class _Raster:
    """One sensor's picture and its switches."""

    modality: Modality
    composite: ipywidgets.Dropdown
    visible: ipywidgets.Checkbox
    opacity: ipywidgets.FloatSlider
    wanted: str | None = None
    """The composite that the user chose; kept from chip to chip."""
    layer: ipyleaflet.ImageOverlay | None = None
    shown: tuple[Chip, str] | None = None
    """What `layer` shows."""
    words: str = ""
    """Its line of the legend."""


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
        self.rasters = {modality: self._raster(modality) for modality in MODALITIES}
        self._turns: dict[str, TurnLayer] = {}
        self._placed: list[ipyleaflet.Layer] = []
        self._later = Later(self._draw, name="chip layer")
        self._build()
        self._unwatch = session.watch(self._on_note)
        self._later.ask()

    def _raster(self, modality: Modality) -> _Raster:
        raster = _Raster(
            modality=modality,
            composite=ipywidgets.Dropdown(options=[], layout=ipywidgets.Layout(width="150px")),
            visible=ipywidgets.Checkbox(
                value=True, description=WORD[modality], indent=False,
                layout=ipywidgets.Layout(width="80px"),
            ),
            opacity=ipywidgets.FloatSlider(
                value=1.0, min=0.0, max=1.0, step=0.05, readout=False,
                layout=ipywidgets.Layout(width="130px"),
            ),
        )  # fmt: skip

        def choose(change: Mapping[str, Any]) -> None:
            # None comes while the choices change, not from a user.
            if change["new"] is not None and raster.wanted != change["new"]:
                raster.wanted = change["new"]
                self._later.ask()

        raster.composite.observe(choose, "value")
        for switch in (raster.visible, raster.opacity):
            switch.observe(lambda _: self._set_visible(raster), "value")
        return raster

    def _build(self) -> None:
        self.swipe = Swipe(left_pane=OPTICAL_PANE, right_pane=SAR_PANE)
        self.swipe_button = ipywidgets.ToggleButton(
            description="Swipe", tooltip="Optical left of the line, SAR right of it", disabled=True
        )
        self.swipe_button.observe(lambda _: self._set_swipe(), "value")
        self.fit = ipywidgets.Button(description="Fit to objects", disabled=True)
        self.fit.on_click(lambda _: self.fit_features())
        self.load = ipywidgets.Button(
            description="Show the pictures", tooltip="Load the chosen pair again"
        )
        self.load.layout.display = "none"
        self.load.on_click(lambda _: self._load_again())
        # HTML with escaped text, never a Label: that would typeset $...$, links and all.
        self.legend, self.source = ipywidgets.HTML(), ipywidgets.HTML()
        self.about, self.message = ipywidgets.HTML(), ipywidgets.HTML()
        self.turns = ipywidgets.VBox()
        rows = [
            ipywidgets.HBox([raster.visible, raster.composite, raster.opacity])
            for raster in self.rasters.values()
        ]
        buttons = ipywidgets.HBox([self.swipe_button, self.fit, self.load])
        self.panel = ipywidgets.VBox([*rows, buttons, self.turns, self.source, self.message])
        # A widget control: the swipe finds the map that it lies in, in each view of its own.
        self.controls = (
            ipyleaflet.WidgetControl(widget=self.swipe, position="topright", transparent_bg=True),
            ipyleaflet.WidgetControl(widget=self.legend, position="bottomleft", max_width=640),
            ipyleaflet.WidgetControl(widget=self.about, position="topright", max_width=320),
        )
        self.say("")
        self.map.controls = (*self.map.controls, *self.controls)

    # --- what a user does; any thread ------------------------------------------------------------

    def fit_features(self) -> None:
        """Fly to the objects that are shown."""
        shown = [turn.bounds for turn in self._turns.values() if turn.visible.value]
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
        turn = self._turns.get(ident)
        if turn is not None and turn.bounds is not None:
            turn.visible.value = True
            fly_to(self.map, turn.bounds)

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
        self.rasters, self._turns = {}, {}
        self._place()
        self.map.controls = tuple(c for c in self.map.controls if c not in self.controls)
        self.panel.close()

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.panel._repr_mimebundle_(**options)

    def _set_visible(self, raster: _Raster) -> None:
        if raster.layer is not None:
            raster.layer.opacity = raster.opacity.value
            raster.layer.visible = raster.visible.value

    def _set_swipe(self) -> None:
        self.swipe.on = bool(self.swipe_button.value) and not self.swipe_button.disabled

    def _load_again(self) -> None:
        try:
            chosen = self.session.subject().chosen
            if chosen is not None:
                self.session.choose(chosen)
        except EarthMindError as error:
            self.message.value = escape(str(error))

    # --- what is shown; only on the thread of `Later` --------------------------------------------

    def _on_note(self, note: Note) -> None:
        if note.kind == "changed":
            self._later.ask()

    def _draw(self) -> None:
        subject, chip = self._seen()
        try:
            for raster in self.rasters.values():
                self._draw_raster(raster, chip)
        except EarthMindError as error:
            self.message.value = escape(str(error))
        self._draw_turns(subject)
        both = all(raster.layer is not None for raster in self.rasters.values())
        self.swipe_button.disabled = not both
        self._set_swipe()
        self._write(subject, chip)
        self._place()

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

    def _seen(self) -> tuple[Subject | None, Chip | None]:
        """The active subject and its chip; the subject may go away between two questions."""
        try:
            subject = self.session.subject()
            return subject, self.session.chip(subject.name) if subject.kind == "aoi" else None
        except EarthMindError:
            return None, None

    def _ours(self) -> list[Any]:
        """Our layers that belong on the map, lowest first."""
        rasters = [raster.layer for raster in self.rasters.values() if raster.layer is not None]
        return [*rasters, *(turn.layer for turn in self._turns.values())]

    def _draw_raster(self, raster: _Raster, chip: Chip | None) -> None:
        names = [] if chip is None else composites_of(chip, raster.modality)
        if list(raster.composite.options) != names:
            raster.composite.options = names
        for switch in (raster.composite, raster.visible, raster.opacity):
            switch.disabled = not names
        if chip is None or not names:
            raster.layer, raster.shown, raster.words = None, None, ""
            return
        name = raster.wanted if raster.wanted in names else names[0]
        raster.composite.value = name
        if raster.shown is not None and raster.shown[0] is chip and raster.shown[1] == name:
            return
        (view,) = render(chip, [name])
        known = chip.valid_sar if raster.modality == "sar" else chip.valid_optical
        shown = reproject(view.image, chip.grid, known=known)
        # A new layer each time: Leaflet reads the attribution of a layer only when it comes.
        raster.layer = ipyleaflet.ImageOverlay(
            url=shown_url(shown),
            bounds=[list(corner) for corner in shown.bounds],
            name=WORD[raster.modality],
            pane=PANE[raster.modality],
            attribution=escape(attribution_of(chip, raster.modality)),
            opacity=raster.opacity.value,
            visible=raster.visible.value,
        )
        raster.shown, raster.words = (chip, name), picture_words(view, chip)

    def _draw_turns(self, subject: Subject | None) -> None:
        """One layer of features per turn that marked something."""
        said = () if subject is None else subject.talk
        turns = [turn for turn in said if turn.features.get("features")]
        self._turns = {
            turn.id: self._turns.get(turn.id) or TurnLayer(turn, number, self.say)
            for number, turn in enumerate(turns)
        }
        rows = tuple(turn.row for turn in self._turns.values())
        if tuple(self.turns.children) != rows:
            self.turns.children = rows
            self.say("")
        self.fit.disabled = not rows

    def _write(self, subject: Subject | None, chip: Chip | None) -> None:
        """Legend, source of the data, and whether the chosen pair waits to be loaded."""
        lines = [raster.words for raster in self.rasters.values() if raster.words]
        self.legend.value = "".join(f"{_LINE}{escape(line)}</div>" for line in lines)
        self.controls[1].widget.layout.display = None if lines else "none"
        owners = "" if chip is None else attribution_of(chip)
        self.source.value = f"<small>{escape(owners)}</small>" if owners else ""
        waits = subject is not None and subject.chosen is not None and chip is None
        self.load.layout.display = None if waits and subject and not subject.busy else "none"


def composites_of(chip: Chip, modality: Modality) -> list[str]:
    """Names of the composites that a chip has the bands for, the preferred ones first.

    True colour leads for optical: on a map, people look for what they know.
    """
    first = ("true_colour", *PREFERRED)
    names = fillable(chip, modality)
    return sorted(names, key=lambda n: first.index(n) if n in first else len(first))
