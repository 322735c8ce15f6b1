"""A panel's other end: what it sent, and a browser that sends back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from earthmind_lab.widgets.base import SessionWidget
from earthmind_lab.widgets.protocol import from_kernel

PATIENCE = 20.0


class BrowserSide:
    """Hears every message and every trait of a class of panels; waits for what should come."""

    def __init__(self, monkeypatch: Any) -> None:
        self.messages: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self.bytes: list[bytes] = []
        """Buffers of all messages, in order."""
        monkeypatch.setattr(
            SessionWidget, "send", lambda _, content, buffers=None: self._hear(content, buffers)
        )

    def _hear(self, content: Any, buffers: Any) -> None:
        with self._changed:
            # What the browser would ignore must never be sent.
            self.messages.append(from_kernel(content))
            self.bytes += buffers or ()
            self._changed.notify_all()

    def tell(self, panel: SessionWidget, content: Any) -> None:
        """A message from the browser, on the caller's thread."""
        panel._handle_custom_msg(content, [])

    def follow(self, panel: SessionWidget) -> None:
        """Wake up on changes of its traits too."""

        def wake(_: object) -> None:
            with self._changed:
                self._changed.notify_all()

        panel.observe(wake)

    def wait(self, holds: Callable[[], Any]) -> Any:
        """What `holds` gives, once it gives something."""
        with self._changed:
            assert self._changed.wait_for(holds, PATIENCE), self.messages
            return holds()

    def kind(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["kind"] == kind]

    def said(self, text: str) -> bool:
        return any(text in message["text"] for message in self.kind("status"))
