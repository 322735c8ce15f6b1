"""What tests of the layers share: a session set by hand, turns with objects, waiting."""

from __future__ import annotations

import time
from dataclasses import replace

from earthmind_lab.session import Selected
from earthmind_lab.session.subject import Note, SaidTurn, Subject

HOSTILE = "<img src=x onerror=alert(1)></script>"


class FakeSession:
    """The part of a session that a layer reads, set by hand."""

    def __init__(self):
        self.active, self.subjects, self.chips, self.loaded = None, {}, {}, []
        self.before, self.compared = {}, []
        self.listeners, self.answers, self.selected, self.engine = [], {}, None, None

    def subject(self, name=None):
        from earthmind_lab.errors import AOIError

        if (name or self.active) not in self.subjects:
            raise AOIError("There is no area yet.")
        return self.subjects[name or self.active]

    def chip(self, name=None):
        return self.chips.get(name or self.active)

    def earlier(self, name=None):
        return self.before.get(name or self.active)

    def load(self, name=None):
        self.loaded.append(name or self.active)

    def discard(self, turn):
        self.discarded.append(turn)

    def compare(self, rank, name=None):
        self.compared.append(rank)

    def answer(self, turn):
        return self.answers.get(turn)

    def select_object(self, turn, number=0):
        self.selected = None if turn is None else Selected(turn=turn, number=number)
        for listener in self.listeners:
            listener(Note(kind="changed", subject=self.active, what="selected"))

    def watch(self, listener):
        self.listeners.append(listener)
        return lambda: listener in self.listeners and self.listeners.remove(listener)

    def show(self, subject, chip=None, earlier=None):
        self.active = subject.name
        self.subjects[subject.name], self.chips[subject.name] = subject, chip
        self.before[subject.name] = earlier
        for listener in self.listeners:
            listener(Note(kind="changed", subject=subject.name, what="turns"))


def turn(number=1, west=-0.77, label="water", **changes):
    ring = [[west, 38.1], [west + 0.01, 38.1], [west + 0.01, 38.11], [west, 38.11], [west, 38.1]]
    about = {"label": label, "score": 0.9, "probability": 0.97, "area_m2": 301_000.0,
             "source": "sar", "observed": "2019-09-17T00:00:00Z",
             "style": {"color": "url(x)"}}  # fmt: skip
    shape = {"type": "Polygon", "coordinates": [ring]}
    features = [{"type": "Feature", "geometry": shape, "properties": about}]
    fields = {
        "id": f"ask-{number}", "question": "Segment the water.", "state": "done", "text": "Sure.",
        "features": {"type": "FeatureCollection", "features": features},
        "record": {"inputs": [{"modality": "sar", "sensor": "sentinel-1-rtc"}]},
    }  # fmt: skip
    return SaidTurn(**{**fields, **changes})


def area(*turns, **changes):
    led = [None, *(each.id for each in turns)]
    turns = tuple(replace(each, parent=led[n]) for n, each in enumerate(turns))
    return Subject(name="a", kind="aoi", turns=turns, head=led[-1], **changes)


def names(m):
    return [each.name for each in m.layers]


def row(shown, sensor):
    return next(each for each in shown.panel.rasters if each["sensor"] == sensor)


def shows(shown, subject, chip=None, earlier=None):
    """Show it, and wait for the map and its panel."""
    shown.session.show(subject, chip, earlier)
    assert shown.layer.settle(10)
    settled(shown)


def settled(shown):
    """Wait until the panel has said all that it was told."""
    asked(shown)
    while shown.panel._due is not None:
        time.sleep(0.01)
    asked(shown)  # what was due then is done
    assert shown.panel.fault == ""


def asked(shown):
    """Wait until the panel has taken all that was put to it."""
    count = len(shown.browser.messages)
    shown.tell(kind="hello")
    shown.browser.wait(lambda: len(shown.browser.messages) > count)


def touch(layer, event, number=0):
    feature = layer.data["features"][number]
    layer._handle_mouse_events(
        None, {"event": event, "feature": feature, "properties": feature["properties"]}, None
    )


WORDS = "water, 30.1 ha mapped, score 0.90, probability 0.97, from Sentinel-1, 17 Sep 2019"
