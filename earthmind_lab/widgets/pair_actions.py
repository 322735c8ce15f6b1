"""What a click on a pair, or on a scene of one, does: the same in the table and on the timeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from earthmind_lab.widgets.protocol import FromBrowser

if TYPE_CHECKING:
    from earthmind_lab.session import Session

_PICKED = {
    "pin": "Searching with this scene…",
    "exclude": "Searching without this scene…",
    "free": "Searching, with this scene left to the ranking…",
}


def act(session: Session, message: FromBrowser) -> str | None:
    """Do it.

    Returns:
        What to say about it; None where it is for the panel itself.

    Raises:
        EarthMindError: It can't be done now.
    """
    kind = message["kind"]
    if kind == "choose":
        session.choose(message["rank"])
        return "Loading…"
    if kind == "dates":
        session.compare(message["rank"])
        return "About one date again." if message["rank"] is None else "Loading…"
    if kind == "pick":
        session.pick(message["scene"], message["how"])
        return _PICKED[message["how"]]
    if kind in ("cancel", "stop"):
        return "Stopped." if session.cancel() else "Nothing runs here."
    if kind == "undo":
        return "Nothing to undo." if session.undo() is None else "Undone."
    return None
