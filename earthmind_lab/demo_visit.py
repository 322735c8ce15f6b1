"""One visitor of the demo: what each click does to the session, and what the page shows of it.

    visit = Visit(session)                 one visitor's session, pictures and masks
    shown = choose_place(visit, "spain")   handlers yield part -> properties, step by step

No Gradio in here: `demo` puts these parts on a page. What models, catalogs and visitors write is
text; the only HTML comes from `demo_picture`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from earthmind_lab.answer import format_area
from earthmind_lab.data.samples import place, places
from earthmind_lab.demo_picture import Masks, link, seen, talk, when
from earthmind_lab.errors import EarthMindError, PromptError
from earthmind_lab.exchange import Queued, Token, View
from earthmind_lab.render import picture_view, render
from earthmind_lab.sensors import MODALITY_WORDS
from earthmind_lab.session import Session
from earthmind_lab.session.subject import PairRow, SaidTurn, Subject

MAX_PIXELS = 16_000_000
"""Each visitor's picture stays in memory while the page is open."""
MARKS = {
    "supported": "✔ supported",
    "contradicted": "✘ contradicted",
    "uncheckable": "? uncheckable",
}
"""Verdicts by sign and word."""
READY = "Ready."
LOG = logging.getLogger(__name__)
TICK = 0.05
"""Seconds between two pieces of a streamed answer."""

Shown: TypeAlias = dict[str, dict[str, Any]]
"""Part of the page to its new properties."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """What the last answer on a subject marked."""

    turn: str
    """Id of its turn."""
    masks: Masks = ()
    areas: Mapping[str, float] = field(default_factory=dict)
    """Mapped area per label in square metres, overlaps counted once."""


@dataclass(eq=False)
class Visit:
    """What belongs to one visitor."""

    session: Session
    pictures: dict[str, View] = field(default_factory=dict)
    """Uploaded pictures by the subject's name."""
    drawn: dict[str, Drawn] = field(default_factory=dict)
    """By the subject's name."""

    def close(self) -> None:
        """The visitor left."""
        self.session.close()


def start(visit: Visit) -> Iterator[Shown]:
    """A page was opened: it begins at the best known place."""
    yield from choose_place(visit, places()[0].name)


def choose_place(visit: Visit, name: str | None) -> Iterator[Shown]:
    """Go to a sample place; its best pair is searched and loaded."""
    session = visit.session
    if not name:
        yield page(visit)
        return
    name = session.open_place(name)
    if session.subject(name).pairs is None:
        yield page(visit, "Searching the catalog …")
        session.search(name).result()
    if session.subject(name).chosen is None or session.chip(name) is None:
        yield page(visit, "Loading the pixels …")
        session.choose(session.subject(name).chosen or 0, name).result()
    yield page(visit)


def choose_pair(visit: Visit, rank: int | None) -> Iterator[Shown]:
    """Load another pair of the place."""
    if rank is None:
        yield page(visit)
        return
    task = visit.session.choose(rank)
    yield page(visit, "Loading the pixels …")
    task.result()
    yield page(visit)


def upload(visit: Visit, path: str | None) -> Iterator[Shown]:
    """A plain picture."""
    if path is None:
        yield page(visit)
        return
    view = picture_view(path)
    height, width = view.shape
    if height * width > MAX_PIXELS:
        raise PromptError(
            "The picture is too large for this page.",
            found=f"{width} x {height} px",
            change=f"at most {MAX_PIXELS // 1_000_000} megapixels",
        )
    # The array, not the file: the record then names no path of this server.
    name = visit.session.open_picture(view.image)
    visit.pictures[name] = view
    yield page(visit)


def ask(visit: Visit, question: str) -> Iterator[Shown]:
    """Ask about what is shown; the answer comes as it is written."""
    session = visit.session
    if session.active is None:
        raise EarthMindError(
            "Nothing is open: this page was away, and what it showed was put away.",
            change="choose a place, or give a picture",
        )
    task = session.ask(question)
    head, text, shown = said(session.subject(task.subject).talk), "", 0.0
    head.append(("asked", question))
    waits = "The model reads the question …"
    yield {**_talk(head, ""), "status": {"value": waits}, "question": {"value": ""}}
    for event in task.events():
        if isinstance(event, Queued) and event.position:
            waits = f"{event.position} questions of other visitors come first …"
        if isinstance(event, Token):
            text, waits = text + event.text, "The model writes …"
        # Another place may be on the screen by now: the answer waits in its own talk.
        if session.active == task.subject and time.monotonic() - shown > TICK:
            shown = time.monotonic()
            yield {**_talk(head, text), "status": {"value": waits}}
    try:
        answer = task.result()
    except EarthMindError as error:
        yield page(visit, str(error))
        return
    marked = [found for found in answer.reply.objects if found.mask_logits is not None]
    masks = [(found.label, mask) for found, mask in zip(marked, answer.masks(), strict=True)]
    visit.drawn[task.subject] = Drawn(turn=task.id, masks=masks, areas=answer.areas)
    yield page(visit)


def stop(visit: Visit) -> Iterator[Shown]:
    """Stop what runs for what is shown; over at once."""
    if visit.session.active is not None and visit.session.cancel():
        yield page(visit, "Stopped.")
    else:
        yield {"status": {"value": "Nothing is running."}}


def told(visit: Visit, steps: Iterator[Shown]) -> Iterator[Shown]:
    """The steps of a handler; an error ends them as the page's state, never as a traceback."""
    try:
        yield from steps
    except EarthMindError as error:
        yield page(visit, str(error))
    except Exception:
        # A defect of ours: the log has it all, the visitor nothing of this machine.
        LOG.exception("A click on the demo's page failed.")
        yield page(visit, "Something went wrong inside the demo. Try: once more.")


def page(visit: Visit, status: str = READY) -> Shown:
    """The whole page as the session has it now."""
    if visit.session.active is None:
        return {"status": {"value": status}}
    subject = visit.session.subject()
    rows, turn = subject.pairs or (), subject.talk[-1] if subject.talk else None
    drawn = _drawn(visit, subject, turn)
    return {
        "place": {"value": subject.place},
        "why": {"value": place(subject.place).why if subject.place else ""},
        "pairs": {
            "choices": [(line(row, rank), rank) for rank, row in enumerate(rows, start=0)],
            "value": subject.chosen,
            "visible": bool(rows),
        },
        "reasons": {
            "value": "\n".join(subject.row.pair["reasons"]) if subject.row else "",
            "visible": bool(rows),
        },
        "seen": {"value": _seen(visit, subject, turn)},
        "talk": {"value": talk(said(subject.talk))},
        "notice": {"value": turn.notice} if turn and turn.notice else {},
        "evidence": {"value": "\n".join(evidence(turn, drawn.areas)) if turn else ""},
        "file": {"value": link(turn.features if turn else {}, subject.name)},
        "status": {"value": status},
    }


def line(row: PairRow, rank: int) -> str:
    """A pair in one sentence: both dates, gap, score."""
    scenes = " and ".join(
        f"{MODALITY_WORDS[s['modality']]} {when(s['observed'])}" for s in row.scenes
    )
    gap = row.pair["gap_hours"]
    hours = " to ".join(f"{each:g}" for each in (gap if isinstance(gap, list) else [gap])
                        if each is not None)  # fmt: skip
    apart = f", gap {hours} h" if hours else ""
    return f"{rank + 1}. {scenes}{apart}, score {row.pair['score']:.0f}"


def said(turns: Sequence[SaidTurn]) -> list[tuple[str, str]]:
    """The talk as kind and text; what is not the model's own words stands apart."""
    lines = []
    for turn in turns:
        lines += [("asked", turn.question), ("said", turn.text)]
        head = "" if turn.state == "done" else f"{turn.state}: "
        lines += [("note", head + turn.message)] if turn.message else []
    return [line for line in lines if line[1]]


def evidence(turn: SaidTurn, areas: Mapping[str, float]) -> list[str]:
    """Mapped areas and what the pixels say to the claims, a line each.

    Args:
        turn: The answer.
        areas: Mapped area per label in square metres.
    """
    lines = []
    for label, area in areas.items():
        found = [each["properties"] for each in turn.features["features"]]
        found = [each for each in found if each["label"] == label]
        objects = "1 object" if len(found) == 1 else f"{len(found)} objects"
        seen_by = {
            f"{MODALITY_WORDS.get(p['source'], p['source'])} {when(p['observed'])}" for p in found
        }
        sources = " and ".join(sorted(seen_by))
        lines.append(f"▣ {label}: {format_area(area)} mapped in {objects}, from {sources}")
    return [*lines, *(f"{MARKS[c['verdict']]}: {c['sentence']}" for c in turn.evidence)]


def _seen(visit: Visit, subject: Subject, turn: SaidTurn | None) -> str:
    """The pictures of a subject, with the masks of its last turn."""
    masks = _drawn(visit, subject, turn).masks
    if subject.kind == "picture":
        view = visit.pictures.get(subject.name)
        return "" if view is None else seen([view], masks)
    chip = visit.session.chip()
    if chip is None:
        return ""
    views = render(chip)
    # Per sensor one: true colour, which people know, and the SAR picture.
    best = {view.modality: view for view in sorted(views, key=lambda v: v.name == "true_colour")}
    pair = [best[modality] for modality in ("optical", "sar") if modality in best]
    return seen(pair, masks, "; ".join(chip.provenance.get("attribution", ())))


def _drawn(visit: Visit, subject: Subject, turn: SaidTurn | None) -> Drawn:
    """What the turn marked on the pixels that are shown now."""
    drawn = visit.drawn.get(subject.name)
    if drawn is None or turn is None or turn.id != drawn.turn or turn.stale:
        return Drawn(turn="")
    return drawn


def _talk(head: Sequence[tuple[str, str]], text: str) -> Shown:
    return {"talk": {"value": talk([*head, ("said", text or "…")])}}
