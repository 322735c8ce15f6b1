"""An answer under way: the engine's events, then what is made of its reply, on a thread of its own.

Nobody who waits for events is held up by what follows them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING

from earthmind_lab.answer import Answer
from earthmind_lab.changing import FurtherAsk
from earthmind_lab.errors import Cancelled
from earthmind_lab.exchange import Event, Options, Prompt, Reply, Token, View
from earthmind_lab.progress import bar, looked_at

if TYPE_CHECKING:
    from earthmind_lab.engine.base import Engine, Handle


class PendingAnswer:
    """An ask under way. Made by `Conversation.submit`."""

    def __init__(
        self, engine: Engine, prompt: Prompt, options: Options,
        finish: Callable[[Reply, FurtherAsk], Answer],
    ) -> None:  # fmt: skip
        self._engine, self._prompt, self._options = engine, prompt, options
        self._finish = finish
        self._handle = engine.submit(prompt, options)
        self._follow_up: Handle | None = None
        self._stop = threading.Event()
        self._future: Future[Answer] = Future()
        threading.Thread(target=self._work, name="earthmind-answer", daemon=True).start()

    def events(self) -> Iterator[Event]:
        """Events of the engine for the question itself; ends with Done or Failed."""
        return self._handle.events()

    def result(self, timeout: float | None = None) -> Answer:
        """Wait for the answer.

        Args:
            timeout: Seconds to wait; None = as long as it takes.

        Raises:
            TimeoutError: Not ready yet; the ask goes on.
            EarthMindError: Why the ask failed.
        """
        return self._future.result(timeout)

    def cancel(self) -> None:
        """Stop before the next token, evidence follow-ups included; no effect once ended."""
        self._stop.set()
        self._handle.cancel()
        if self._follow_up is not None:
            self._follow_up.cancel()

    @property
    def done(self) -> bool:
        """Whether `result` returns or raises at once."""
        return self._future.done()

    def _work(self) -> None:
        try:
            answer = self._finish(self._handle.result(), self._ask_further)
        except BaseException as error:  # noqa: BLE001  every failure belongs to who waits
            self._future.set_exception(error)
        else:
            self._future.set_result(answer)

    def _ask_further(self, question: str, views: tuple[View, ...]) -> Reply:
        """An evidence follow-up: same engine, its own reply and usage."""
        if self._stop.is_set():
            raise Cancelled("The ask was stopped.")
        prompt = Prompt(text=question, views=views)
        options = replace(self._options, temperature=0.0)
        self._follow_up = self._engine.submit(prompt, options)
        if self._stop.is_set():  # cancel() ran between the check and the assignment
            self._follow_up.cancel()
        return self._follow_up.result()


def asked_once(follow_up: FurtherAsk) -> FurtherAsk:
    """The same follow-up, which puts no question about the same views twice."""
    known: dict[tuple[str, ...], Reply] = {}

    def further(question: str, views: tuple[View, ...]) -> Reply:
        key = (question, *(view.hash for view in views))
        if key not in known:
            known[key] = follow_up(question, views)
        return known[key]

    return further


def show_progress(pending: PendingAnswer, options: Options) -> None:
    """Tokens as they come, where somebody looks."""
    if not looked_at():
        return
    with bar(options.max_new_tokens, unit="token") as shown:
        for event in pending.events():
            if isinstance(event, Token):
                shown.update()
                shown.set_postfix_str(event.text.strip()[-40:], refresh=False)
