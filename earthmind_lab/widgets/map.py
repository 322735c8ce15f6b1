"""EarthMap: the steps of the work at the left, the map and the talk in sight beside them.

    m = EarthMap()
    m                       # as the last line of a cell

Each part also works alone, on any ipyleaflet or leafmap map: `AreaPicker` with its `AreaPanel`,
`FilePanel`, `PairTable`, `Timeline`, `ChipLayer`, `ProbePanel`, `ChatPanel`, `KeepPanel`. All of
them are skins over one `Session`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets

from earthmind_lab.errors import EarthMindError
from earthmind_lab.session import Session
from earthmind_lab.session.subject import SaidTurn
from earthmind_lab.widgets.areas import AreaPicker
from earthmind_lab.widgets.basemap import make_map
from earthmind_lab.widgets.chat import ChatPanel
from earthmind_lab.widgets.file_panel import FilePanel
from earthmind_lab.widgets.keep import KeepPanel
from earthmind_lab.widgets.layers import ChipLayer
from earthmind_lab.widgets.pairs import PairTable
from earthmind_lab.widgets.probe import ProbePanel
from earthmind_lab.widgets.timeline import Timeline

if TYPE_CHECKING:
    import ipyleaflet

    from earthmind_lab.answer import Answer
    from earthmind_lab.engine.base import Engine

_SESSION = "map"
_MOST_SESSIONS = 20


class EarthMap:
    """A map to ask: pick or draw an area, choose a pair, ask.

    Args:
        session: What it shows; default: the session "map", kept over kernel restarts. Where
            another notebook has it open, "map 2" and so on.
        map: Any ipyleaflet or leafmap map; default: one that needs no network.
        engine: Who answers; default: the embedded model.

    Raises:
        EarthMindError: The session can't be opened, or the browser side was never built.
    """

    def __init__(
        self,
        session: Session | None = None,
        *,
        map: ipyleaflet.Map | None = None,  # noqa: A002
        engine: Engine | None = None,
    ) -> None:
        self.session, said = _free_session(engine) if session is None else (session, "")
        if session is not None and engine is not None:
            session.engine = engine
        self.map = make_map(host="leafmap") if map is None else map
        self.areas = AreaPicker(self.session, self.map)
        self.layers = ChipLayer(self.session, self.map)
        self.files = FilePanel(self.session)
        self.probe = ProbePanel(self.session, self.map)
        self.pairs = PairTable(self.session)
        self.timeline = Timeline(self.session)
        self.chat = ChatPanel(self.session, on_show=self._show, alone=False)
        self.keep = KeepPanel(self.session)
        if said:
            self.chat.fault = f"{said} {self.chat.fault}".strip()
        for part in (self.files, self.timeline, self.probe, self.keep):
            part.unfolded = False  # wanted by some, in some of the steps
        steps = (self.areas, self.files, self.pairs, self.timeline, self.layers, self.probe,
                 self.keep)  # fmt: skip
        self._parts = (*steps, self.chat)
        panels = [getattr(step, "panel", step) for step in steps]  # some are of the map as well
        self.panel = _workspace(panels, self.map, self.chat)

    def add(self, answer: Answer) -> None:
        """Keep an answer made in Python as a turn of the talk, and fly to its objects.

        It is about the active area where the two meet, else about a new one. Undo takes it back.

        Raises:
            PromptError: The answer is about a plain picture: its objects have no place.
        """
        self.layers.fit_turn(self.session.keep_answer(answer))

    def close(self) -> None:
        """Take everything off the screen; the session stays open."""
        for part in self._parts:
            part.close()
        # A box that is left and holds a closed part stops ipywidgets from telling a page that
        # opens of any widget.
        (grid,) = self.panel.children
        for each in (*grid.children[:2], grid, self.panel):
            each.close()

    def _show(self, turn: SaidTurn) -> None:
        """The chat's "show on map"."""
        self.layers.fit_turn(turn.id)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.panel._repr_mimebundle_(**options)


def _free_session(engine: Engine | None) -> tuple[Session, str]:
    """The session "map", or the first numbered one that no other process holds.

    Returns:
        It, and what the user should hear where it is not the first; else "".

    Raises:
        EarthMindError: There is none; the reason of the first.
    """
    refused: EarthMindError | None = None
    for number in range(1, _MOST_SESSIONS + 1):
        name = _SESSION if number == 1 else f"{_SESSION} {number}"
        try:
            session = Session.open(name, engine=engine)
        except EarthMindError as error:
            refused = refused or error
        else:
            return session, f"{refused} This map keeps {name!r} instead." if refused else ""
    assert refused is not None
    raise refused


def _workspace(steps: list[Any], shown: ipyleaflet.Map, chat: ChatPanel) -> ipywidgets.Widget:
    """The steps in their order, which scroll; map and talk stay. panel.css says where they are."""
    boxes = {"em-steps": ipywidgets.VBox(steps), "em-map": ipywidgets.Box([shown])}
    grid = ipywidgets.GridBox([*boxes.values(), chat])
    panel = ipywidgets.Box([grid])
    for name, each in {**boxes, "em-talk": chat, "em-grid-work": grid, "em-work": panel}.items():
        each.add_class(name)
    return panel
