"""The worker's turns: let asks in, write one token of every answer, end what is complete.

Nothing in here waits, and no failure of one ask reaches another:

- What was called for beside asks is done first, see `jobs`.
- A turn lets in asks until that has taken 40 ms: one whose pictures have to be read by a large
  model, or several whose pictures are kept. So whoever is being answered waits for the pictures of
  one ask at most, beside a pause that nobody sees.
- A long call is heard between its layers: whoever was stopped or is late ends there, and the call
  itself does where it is for nobody else.
- A step that fails is repeated for each answer alone; only those fail that fail alone.
- Where the device is full, the newest of the answers that shared the call go back into the line
  and start anew later; an ask fails for want of memory only where it had the device to itself.
- The worker's death is nobody's fault at first: everything starts anew, those it died over each
  in steps of their own. Only an ask over which it keeps dying at the same place fails.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from earthmind_lab.engine.answering import Answering
from earthmind_lab.engine.asks import Ask
from earthmind_lab.engine.base import Backend
from earthmind_lab.engine.line import Line
from earthmind_lab.engine.tracebacks import Callers, without_locals
from earthmind_lab.errors import EarthMindError, EngineError, OutOfDeviceMemory
from earthmind_lab.exchange import Event, Failed, Found

logger = logging.getLogger(__name__)

FULL = (OutOfDeviceMemory, MemoryError)
"""What says that memory has ended; numpy says it in Python's own word."""
PAUSE_SECONDS = 0.04
"""A turn lets in no more asks once that has taken so long; batches of text are as far apart."""


class Turns:
    """Answers all asks of a line with one backend; every call comes from one thread at a time.

    Args:
        backend: The model.
        line: Who waits.
        clock: Seconds.
        flush_seconds: Text goes out in batches this far apart.
    """

    def __init__(
        self,
        backend: Backend[Any, Any],
        line: Line,
        *,
        clock: Callable[[], float],
        flush_seconds: float,
    ) -> None:
        self._backend, self._line = backend, line
        self._clock, self._flush_seconds = clock, flush_seconds
        self._running: dict[str, Answering] = {}
        self._callers = Callers()
        self._in_hand: Sequence[Answering] = ()  # whom the backend works for right now
        self.tokens_new = 0
        """Written since the model was loaded, answers that failed included."""
        self.tokens_prefilled = 0
        """Read since then, by answers that have ended."""
        backend.listen(self.heed)

    @property
    def busy(self) -> bool:
        """Whether answers are being written."""
        return bool(self._running)

    def turn(self) -> None:
        """One round: let in, write, end."""
        try:
            self._round()
        finally:
            self._callers.clear()  # of asks that failed; all but this one have ended

    def _round(self) -> None:
        self._line.jobs.work()
        self._line.expire(self._clock())
        self._step(self._let_in())
        self._step(self._writing())
        self._end([answer for answer in self._running.values() if answer.complete])
        self._in_hand = ()

    def heed(self) -> None:
        """Between the parts of a long call: all who were stopped or are late end now.

        The places of those under way are freed when the call is over.

        Raises:
            EarthMindError: Nobody wants any more what the call is for.
        """
        now = self._clock()
        self._line.expire(now)
        for answer in list(self._running.values()):
            if (error := answer.ask.unwanted(now)) is not None:
                answer.ask.fail(error)
        group = self._in_hand
        if group and all(one.ask.unwanted(now) for one in group):
            group[0].ask.check(now)

    def give_up(self) -> None:
        """The engine closes: every answer ends here."""
        for answer in list(self._running.values()):
            answer.ask.cancel()
            self._still_wanted(answer)

    def start_anew(self) -> None:
        """The worker before this one died: all asks under way begin once more."""
        dead, self._in_hand = self._in_hand, ()
        for answer in self._running.values():
            self._give_up_state(answer)
        self._backend.abandon()  # also what no answer got to know of
        for answer in dead:
            if answer.ask.blame(answer.place) and answer.ask.id in self._running:
                stage, token = answer.place
                found = f"it ended the worker each time it came to {stage}, token {token}"
                self._fail(answer, _failure(self._name, found=found))
        self._running.clear()
        self._line.take_back()

    # --- letting in ------------------------------------------------------------------------------

    def _let_in(self) -> list[Answering]:
        """The asks for whom there is room, as far as a turn goes."""
        new: list[Answering] = []
        end = self._clock() + PAUSE_SECONDS
        while (ask := self._line.take()) is not None:
            answer = self._begin(ask)
            if answer is not None:
                new.append(answer)
            if self._clock() >= end:  # whatever came of it: those who write have waited
                break
        return new

    def _begin(self, ask: Ask) -> Answering | None:
        answer = Answering(ask, self._backend, clock=self._clock, flush_seconds=self._flush_seconds)
        self._running[ask.id] = answer
        self._in_hand = (answer,)
        try:
            answer.begin()
        except FULL as error:
            if len(self._running) > 1:
                self._send_back([answer])
            else:
                self._fail(answer, error)
        except Exception as error:  # noqa: BLE001  a broken ask must not stop the others
            # What was done for it by then nobody counted: as much as for an answer, let us say.
            self._line.charge([(ask, ask.expected)])
            self._fail(answer, error)
        else:
            self._line.charge([(ask, answer.cost())])
            return answer
        return None

    # --- writing ---------------------------------------------------------------------------------

    def _writing(self) -> list[Answering]:
        return [answer for answer in self._running.values() if not answer.complete]

    def _step(self, group: Sequence[Answering]) -> None:
        """One more token of each answer that goes on, of all together where that is possible."""
        for part in _apart(group):
            wanted = [one for one in part if not one.complete and self._still_wanted(one)]
            if wanted:
                self._step_together(wanted)

    def _step_together(self, group: Sequence[Answering]) -> None:
        self._in_hand = group
        try:
            steps = self._backend.step([one.state for one in group])
        except FULL as error:
            if len(self._running) > 1:
                self._send_back(group)
                self._step([one for one in group if self._here(one)])
            else:
                self._fail(group[0], error)
        except Exception as error:  # noqa: BLE001  as above
            if len(group) == 1:
                self._fail(group[0], error)
            else:
                for one in group:
                    self._step([one])
        else:
            for one, step in zip(group, steps, strict=True):
                self.tokens_new += 1
                try:
                    one.note(step)
                except Exception as error:  # noqa: BLE001  as above
                    self._fail(one, error)
            self._line.charge([(one.ask, one.cost()) for one in group if self._here(one)])

    def _send_back(self, group: Sequence[Answering]) -> None:
        """The newest half of the group, of the lowest priority first, goes back into the line."""
        back = sorted(group, key=_rank)[: max(1, len(group) // 2)]
        for answer in back:
            self._leave(answer)
        self._line.crowded(len(self._running))
        for answer in reversed(back):  # the first of them is the first to come back
            self._line.put_back(answer.ask)

    # --- ending ----------------------------------------------------------------------------------

    def _end(self, complete: Sequence[Answering]) -> None:
        """Draw the objects of the complete answers, all together, and hand out the replies."""
        for part in _apart(complete):
            wanted = [one for one in part if self._here(one) and self._still_wanted(one)]
            for answer, objects in self._segment(wanted):
                try:
                    events = answer.last_events(objects)
                    answer.ask.check(self._clock())
                except Exception as error:  # noqa: BLE001  as above
                    self._fail(answer, error)
                else:
                    self._leave(answer, *events)

    def _segment(self, group: Sequence[Answering]) -> Iterator[tuple[Answering, tuple[Found, ...]]]:
        """Each with its objects. It is ended before the next one is drawn, which makes room."""
        if not group:
            return
        self._in_hand = group
        try:
            found = self._backend.segment([one.state for one in group])
        except Exception as failure:  # noqa: BLE001  as above
            error = without_locals(failure, module=__name__)
        else:
            yield from zip(group, found, strict=True)
            return
        if len(group) > 1:
            for one in sorted(group, key=_rank, reverse=True):
                if self._here(one) and self._still_wanted(one):
                    yield from self._segment([one])
            return
        others = self._writing() or [one for one in self._running.values() if one is not group[0]]
        if others and isinstance(error, FULL):
            self._send_back(others)
            yield from self._segment(group)
        else:
            self._fail(group[0], error)

    def _here(self, answer: Answering) -> bool:
        """Whether it was neither ended nor sent back."""
        return answer.ask.id in self._running

    def _still_wanted(self, answer: Answering) -> bool:
        """Whether an answer goes on; one that was stopped or is late ends here."""
        try:
            answer.ask.check(self._clock())
        except EarthMindError as error:
            self._fail(answer, error)
            return False
        return True

    def _fail(self, answer: Answering, error: Exception) -> None:
        """End an answer without a reply; the error holds nothing of what the model computed."""
        error = without_locals(error, module=__name__)
        self._callers.add(error)
        if not isinstance(error, EarthMindError):
            wrapped = _failure(self._name, found=f"{type(error).__name__}: {error}")
            wrapped.__cause__ = error
            error = wrapped
        self._leave(answer, Failed(ask=answer.ask.id, error=error))

    def _leave(self, answer: Answering, *last: Event) -> None:
        """An answer gives up its place; with its last events the ask has ended, too."""
        self._release(answer)
        if last:
            self._line.left(answer.ask, *last)
        self._running.pop(answer.ask.id, None)

    def _release(self, answer: Answering) -> None:
        state = self._give_up_state(answer)
        if state is None:
            return
        try:
            self._backend.release(state)
        except Exception:  # the answer itself is right, and the others go on
            logger.exception("%s could not release an answer.", self._name)

    def _give_up_state(self, answer: Answering) -> Any:
        """What the backend knows of an answer, for the last time."""
        state, answer.state = answer.state, None
        if state is not None:
            self.tokens_prefilled += state.tokens_prefilled
        return state

    @property
    def _name(self) -> str:
        return self._backend.capabilities.name


def _rank(answer: Answering) -> tuple[int, int]:
    """Who goes back first where the device is full: the lowest priority, then the newest."""
    return answer.ask.priority, -answer.ask.arrival


def _apart(group: Sequence[Answering]) -> list[list[Answering]]:
    """Those over whom no worker has died, together; the others each alone."""
    together = [one for one in group if not one.ask.strikes]
    return [together, *([one] for one in group if one.ask.strikes)]


def _failure(name: str, *, found: str) -> EngineError:
    return EngineError(f"The model {name!r} failed on this ask.", found=found)
