"""Asks on their way into an engine, beside the loop: a long text takes a while to be looked at."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor

from earthmind_lab.engine.base import Engine, Handle
from earthmind_lab.exchange import Options, Prompt


class Submitter:
    """Hands asks to an engine in the order in which they came, on a thread of its own."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="submit")

    async def submit(self, engine: Engine, prompt: Prompt, options: Options) -> Handle:
        """`Engine.submit`; whoever is cancelled meanwhile has asked nothing.

        Raises:
            EarthMindError: As the engine says.
        """
        ahead: Future[Handle] = self._thread.submit(engine.submit, prompt, options)
        try:
            # Cancelling this also takes it out of the line before the thread, if it still waits.
            return await asyncio.wrap_future(ahead)
        except asyncio.CancelledError:
            ahead.add_done_callback(_give_up)
            raise


def _give_up(ahead: Future[Handle]) -> None:
    """Nobody will hear the answer."""
    if not ahead.cancelled() and ahead.exception() is None:
        ahead.result().cancel()
