"""The panels of one kernel, written to as a browser does, and what they show."""

from __future__ import annotations

import threading
import time

from earthmind_lab.widgets.areas import AREA, AreaPicker
from earthmind_lab.widgets.basemap import make_map
from earthmind_lab.widgets.chat import ChatPanel
from earthmind_lab.widgets.layers import ChipLayer
from earthmind_lab.widgets.pairs import PairTable
from earthmind_lab.widgets.timeline import Timeline

WAIT = 20.0


class Side:
    """The panels of one kernel, written to as a browser does."""

    def __init__(self, session):
        self.session = session
        self.picker = AreaPicker(session, make_map())
        self.layers = ChipLayer(session, self.picker.map)
        self.table, self.timeline = PairTable(session), Timeline(session)
        self.chat = ChatPanel(session, on_show=lambda turn: self.layers.fit_turn(turn.id))
        self.all = (self.picker.panel, self.layers.panel, self.table, self.timeline, self.chat)

    def tell(self, panel, *messages):
        """Send them, and wait until the panel has heard them."""
        for message in messages:
            panel._handle_custom_msg(message, [])
        heard = threading.Event()
        panel._inbox.put(heard)
        assert heard.wait(WAIT)

    def draws(self, event, geometry, name=None):
        """What the tools of the map send."""
        shape = {"type": "Feature", "geometry": geometry, "properties": {AREA: name}}
        content = {"event": f"draw:{event}", "geo_json": shape}
        self.picker.tools._handle_custom_msg(content, [])

    def idle(self, model):
        """Wait for what ends by itself."""
        assert self.layers.panel._aside.settle(WAIT)
        end = time.monotonic() + WAIT
        while any(
            each.busy not in (None, model.busy(name))
            for name, each in self.session.subjects.items()
        ):
            assert time.monotonic() < end
            time.sleep(0.0005)

    def panels(self):
        """What they show."""
        areas, layers, table, timeline, chat = self.all
        live = chat._snapshot()
        return {
            "areas": (
                [(a["name"], a["kind"], a["version"], [v["version"] for v in a["versions"]])
                 for a in areas.areas],
                areas.active, [each["label"] for each in areas.regions],
            ),
            "pairs": (*(table.about[key] for key in ("name", "kind", "busy")), len(table.pairs),
                      table.chosen, table.before),
            "timeline": (timeline.about["name"], timeline.about["busy"], timeline.chosen),
            "chat": (
                chat.about["name"], chat.about["busy"],
                [[t["question"], t["state"], t["stale"]] for t in chat.turns],
                [each["label"] for each in chat.marks], bool(chat.undo_label),
            ),
            "writes": live["question"] if live["ask"] else None,
            "layers": (
                layers.about["name"], layers.about["busy"],
                [(each["question"], each["threshold"]) for each in layers.answers],
            ),
        }  # fmt: skip

    def close(self):
        for each in (self.picker, self.layers, self.table, self.timeline, self.chat):
            each.close()
