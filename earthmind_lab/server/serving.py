"""The one engine of an app: asks on it for each request, counted, timed and cancelled with it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import replace
from typing import Literal

from starlette.types import Receive

from earthmind_lab.engine.base import Engine, Handle
from earthmind_lab.errors import Cancelled, EarthMindError, EngineUnavailable, PromptError
from earthmind_lab.exchange import Done, Event, Failed, Options, Prompt, Reply, Token, View
from earthmind_lab.server.admission import Admission, Place
from earthmind_lab.server.faults import Refusal
from earthmind_lab.server.limits import Limits
from earthmind_lab.server.metrics import Metrics
from earthmind_lab.server.submitting import Submitter


class Gone(Exception):
    """Whoever asked has hung up."""


class Serving:
    """An engine, or the wait for one.

    Args:
        engine: Who answers; None = it is still being loaded.
        limits: What a request may take.
    """

    def __init__(self, engine: Engine | None, limits: Limits) -> None:
        self.limits = limits
        self.metrics = Metrics()
        self.admission = Admission(limits)
        self.closing = False
        self._engine: Engine | None = None
        self._submitter = Submitter()
        self._under_way: set[UnderWay] = set()
        self._ended = False
        self._visits, self._visited = 0, False
        if engine is not None:
            self.ready(engine)

    def ready(self, engine: Engine) -> None:
        """The model is loaded."""
        self.metrics.watch(engine)
        self._engine = engine

    @property
    def state(self) -> Literal["loading", "ready", "closing"]:
        """Whether it answers."""
        if self.closing:
            return "closing"
        return "loading" if self._engine is None else "ready"

    @property
    def replicas(self) -> int | None:
        """How many of the model take questions; None where there is but the one."""
        return getattr(self._engine, "replicas", None)

    @property
    def engine(self) -> Engine:
        """Who answers.

        Raises:
            Refusal: It is still being loaded, or the server is being stopped.
        """
        if self._engine is not None and not self.closing:
            return self._engine
        raise self.unavailable()

    def unavailable(self) -> Refusal:
        """Why nobody answers."""
        doing = "is being stopped" if self.closing else "is still loading its model"
        error = EngineUnavailable(f"The server {doing}.", change="ask again a little later")
        return Refusal(503, error, code=self.state)

    @contextlib.contextmanager
    def entering(self, token: str, route: str) -> Iterator[Place]:
        """A place for an ask, from before anything of it is decoded; left again on any error.

        Without one, whoever gets the place leaves it.

        Args:
            token: Whose holder asks.
            route: For the metrics.

        Raises:
            EngineBusy: The token has too many asks under way.
        """
        place = None
        try:
            place = self.admission.enter(token)
            yield place
        except BaseException as error:
            if place is not None:
                place.leave()
            if isinstance(error, EarthMindError):
                self.metrics.refused(route)
            raise

    async def ask(
        self, prompt: Prompt, options: Options, place: Place, receive: Receive, route: str
    ) -> UnderWay:
        """Submit an ask for a request; from now on it has the place, until it has ended.

        Args:
            prompt: What is asked.
            options: How to answer, as the client said.
            place: Of `entering`, with a seat.
            receive: Of the request, whose body has been read: tells when the client has gone.
            route: For the metrics.

        Raises:
            PromptError: The server's limits don't admit it.
            EngineBusy: The queue is full.
            EngineUnavailable: The engine is closed.
            Refusal: The server is being stopped.
        """
        engine = self.engine
        self._check(prompt, options)
        deadline = min(options.deadline or math.inf, self.limits.ask_seconds)
        options = replace(options, seat=place.seat or "", deadline=deadline)
        started = time.monotonic()  # before the engine's own clock: else what is late is not yet
        handle = await self._submitter.submit(engine, prompt, options)
        if self._ended:  # meanwhile
            handle.cancel()
            raise self.unavailable()
        under = UnderWay(self, handle, place, receive, route, started, deadline)
        self._under_way.add(under)
        return under

    def ended(self, under: UnderWay) -> None:
        """An ask has ended, or was given up."""
        self._under_way.discard(under)

    @contextlib.contextmanager
    def visit(self) -> Iterator[None]:
        """While a request is read and answered; a connection without one is nobody's visit."""
        self._visits += 1
        self._visited = True
        try:
            yield
        finally:
            self._visits -= 1

    def visited(self) -> bool:
        """Whether there is a request, or was one since this was asked last."""
        visited, self._visited = self._visited or self._visits > 0, False
        return visited

    @property
    def busy(self) -> bool:
        """Whether asks are under way."""
        return self.admission.asks > 0

    def end(self) -> None:
        """End every ask that is under way; its client is told that the server is being stopped."""
        self._ended = True
        for under in list(self._under_way):
            under.end()

    def check_views(self, views: Sequence[View]) -> None:
        """Refuse too many pictures, or too many pixels of them.

        Raises:
            PromptError: What there is too much of.
        """
        limits = self.limits
        pixels = sum(height * width for height, width in (view.shape for view in views))
        if len(views) > limits.pictures:
            raise _outside(f"{len(views)} pictures, at most {limits.pictures} are taken")
        if pixels > limits.pixels:
            raise _outside(f"{pixels} pixels, at most {limits.pixels} are taken")

    def _check(self, prompt: Prompt, options: Options) -> None:
        """Refuse what no engine should have to look at.

        Raises:
            PromptError: What is outside of the limits.
        """
        self.check_views((*prompt.views, *prompt.follow))
        said = [prompt.text, *(text for turn in prompt.history for text in (turn.question,
                turn.reply)), *(region.label for region in prompt.regions)]  # fmt: skip
        deadline, most = options.deadline, self.limits.new_tokens
        length, longest = sum(map(len, said)), self.limits.characters
        wrong = {
            f"{length} characters, at most {longest} are taken": length > longest,
            "characters without their other half": any(_halved(text) for text in said),
            f"max_tokens or max_new_tokens outside of 1 to {most}": not 1
            <= options.max_new_tokens
            <= most,
            "a temperature outside of 0 to 2": not 0 <= options.temperature <= 2,
            "a seed of more than 63 bits": not -(2**63) <= options.seed < 2**63,
            "a deadline that is no time": deadline is not None and not deadline > 0,
            "a priority outside of -100 to 100": not -100 <= options.priority <= 100,
        }
        found = [words for words, is_so in wrong.items() if is_so]
        if found:
            raise _outside(found[0])


class UnderWay:
    """An ask of one request: its events on the server's loop until it ends or the client leaves.

    Use as ``async with``; leaving it cancels what has not ended.
    """

    def __init__(
        self, serving: Serving, handle: Handle, place: Place, receive: Receive, route: str,
        started: float, deadline: float,
    ) -> None:  # fmt: skip
        self._serving, self._handle, self._place, self._route = serving, handle, place, route
        self._receive, self._started, self._deadline = receive, started, deadline
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()  # None: the client has gone
        self._loop = asyncio.get_running_loop()
        self._tasks: list[asyncio.Task[None]] = []
        self._outcome = "gone"

    @property
    def id(self) -> str:
        """Of the ask."""
        return self._handle.id

    async def __aenter__(self) -> UnderWay:
        try:
            name = f"ask-{self._handle.id}"
            threading.Thread(target=self._pump, name=name, daemon=True).start()
        except BaseException:  # there are no more threads
            await self.__aexit__()
            raise
        self._tasks.append(asyncio.create_task(self._watch()))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._handle.cancel()  # no effect where it has ended
        for task in self._tasks:
            task.cancel()
        # The task's frame holds this ask: without the cycle its pictures go now, not when Python
        # next looks for cycles.
        self._tasks.clear()
        self._serving.ended(self)
        self._place.leave()
        seconds = time.monotonic() - self._started
        self._serving.metrics.ended(self._route, self._outcome, seconds)

    def end(self) -> None:
        """End it although its client is still there."""
        self._handle.cancel()
        self._events.put_nowait(Failed(ask=self._handle.id, error=Cancelled("Stopped.")))

    async def events(self) -> AsyncGenerator[Event | None, None]:
        """Every event up to the last; None where nothing came for a while.

        Raises:
            Gone: The client has hung up.
        """
        first = True
        while True:
            try:
                async with asyncio.timeout(self._serving.limits.alive_seconds):
                    event = await self._events.get()
            except TimeoutError:
                yield None
                continue
            if event is None:
                raise Gone
            if first and isinstance(event, Token):
                first = False
                self._serving.metrics.spoke(self._route, time.monotonic() - self._started)
            yield self._told(event)
            if isinstance(event, Done | Failed):
                return

    async def reply(self) -> Reply:
        """Wait for the reply.

        Raises:
            Gone: The client has hung up.
            Refusal: Why there is none.
        """
        async with self:
            async for event in self.events():
                if isinstance(event, Done):
                    return event.reply
                if isinstance(event, Failed):
                    raise self.refusal(event)
        raise AssertionError("an ask without an end")

    def refusal(self, failed: Failed) -> Refusal:
        """Why there is no reply."""
        late = time.monotonic() - self._started >= self._deadline
        return Refusal.of(failed.error, late=late)

    def _told(self, event: Event) -> Event:
        """The event as the client is told it."""
        if isinstance(event, Failed) and isinstance(event.error, Cancelled):
            # Not by the client: it would not be here any more.
            error = EngineUnavailable("The server is being stopped.", change="ask again")
            event = replace(event, error=error)
        if isinstance(event, Done):
            self._outcome = "done"
        elif isinstance(event, Failed):
            self._outcome = "failed"
        return event

    def _pump(self) -> None:
        """The ask's events, which block, onto the loop; ends with the ask."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            try:
                for event in self._handle.events():
                    self._loop.call_soon_threadsafe(self._events.put_nowait, event)
            except Exception as error:  # noqa: BLE001  whoever waits must not wait for ever
                failed = Failed(ask=self._handle.id, error=error)
                self._loop.call_soon_threadsafe(self._events.put_nowait, failed)

    async def _watch(self) -> None:
        """Wait until the client hangs up."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._events.put_nowait(None)


def _outside(found: str) -> PromptError:
    return PromptError("The question is outside of this server's limits.", found=found)


def _halved(text: str) -> bool:
    """Whether a text holds half of a character, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
