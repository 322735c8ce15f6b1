"""One answer being written: the ask, the backend's state of it, the text so far, what it costs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from earthmind_lab.engine.asks import Ask
from earthmind_lab.engine.base import Backend, Step
from earthmind_lab.engine.degenerate import Circle, ended
from earthmind_lab.engine.service import READ, WRITTEN
from earthmind_lab.engine.transcript import NO_LABEL, Name, Transcript, names
from earthmind_lab.exchange import (
    Done,
    Event,
    Found,
    Object,
    Options,
    Prompt,
    Reply,
    Token,
    Usage,
    View,
)


class Answering:
    """An answer under way.

    An ask that goes back into the line starts anew with another of these; the text that was
    handed out by then is not handed out again.

    Args:
        ask: What is answered.
        backend: The model.
        clock: Seconds.
        flush_seconds: Text goes out in batches this far apart.
    """

    def __init__(
        self,
        ask: Ask,
        backend: Backend[Any, Any],
        *,
        clock: Callable[[], float],
        flush_seconds: float,
    ) -> None:
        self.ask = ask
        self.state: Any = None
        """The backend's; None before it has read anything and after its release."""
        self.stage = "encode"
        """What is done for it now: ``encode``, ``prefill``, ``decode``, ``segment``."""
        self.seconds: dict[str, float] = {}
        self._backend, self._clock, self._flush_seconds = backend, clock, flush_seconds
        self._stop = backend.capabilities.stop
        self._transcript = Transcript(backend.decode, self._stop, handed_out=ask.said)
        self._circle = Circle(backend.decode, self._stop)
        self._logprobs: list[float] = []
        self._flushed = -flush_seconds
        self._views_encoded = self._read = self._written = 0
        self._stopped = self._round = False
        self._since = clock()

    @property
    def place(self) -> tuple[str, int]:
        """How far it got: the stage, and the tokens written."""
        return self.stage, len(self._transcript.ids)

    @property
    def complete(self) -> bool:
        """Whether nothing more is to be written."""
        written = len(self._transcript.ids)
        return self._stopped or self._round or written >= self.ask.options.max_new_tokens

    def begin(self) -> None:
        """Encode the views and read them; the text of the prompt is read by the first step.

        Raises:
            EarthMindError: The ask was stopped, is late, or can't be put to this model.
        """
        ask, backend = self.ask, self._backend
        self.seconds["queue"] = self._since - ask.submitted
        ask.check(self._since)
        seen = _seen(ask.prompt, ask.options, backend.capabilities.fusion)
        encoded = backend.encode(seen, ask.options.adapter)
        self._enter("prefill")
        ask.check(self._since)
        self.state = backend.prefill(ask.prompt, ask.options, encoded)
        self._views_encoded = encoded.views_encoded
        self._enter("segment" if self.complete else "decode")

    def note(self, step: Step) -> None:
        """A token was written; text goes out in batches."""
        self._logprobs.append(step.logprob)
        self._stopped = self._transcript.append(step.token_id)
        self._round = self._circle.closed(step.token_id)
        now = self._clock()
        if now - self._flushed >= self._flush_seconds and (text := self._transcript.increment()):
            self.ask.emit(Token(ask=self.ask.id, text=text))
            self._flushed = now
        if self.complete:
            self._enter("segment")

    def cost(self) -> int:
        """What was read and written for it since this was asked last, as `service` counts."""
        read: int = self.state.tokens_prefilled
        written = len(self._transcript.ids)
        cost = READ * (read - self._read) + WRITTEN * (written - self._written)
        self._read, self._written = read, written
        return cost

    def last_events(self, objects: tuple[Found, ...]) -> list[Event]:
        """The rest of the text, the objects, and the reply.

        Args:
            objects: As the backend drew them; its state is still there.
        """
        self._enter("")
        last, text = self._transcript.finish()
        ask = self.ask.id
        objects = _named(objects, names(self._transcript.raw, self._stop))
        events: list[Event] = [Token(ask=ask, text=last)] if last else []
        events += [Object(ask=ask, found=found) for found in objects]
        return [*events, Done(ask=ask, reply=self._reply(text, objects))]

    def _reply(self, text: str, objects: tuple[Found, ...]) -> Reply:
        transcript, state = self._transcript, self.state
        marks = transcript.raw.count(self._stop.mark)
        return Reply(
            text=text,
            raw=transcript.said,
            objects=objects,
            sensor_weights=state.sensor_weights,
            token_ids=tuple(transcript.ids),
            logprobs=tuple(self._logprobs),
            ended=ended(stopped=self._stopped, circle=self._round, text=text, marks=marks),
            usage=Usage(
                views_encoded=self._views_encoded,
                sam_encodes=state.sam_encodes,
                tokens_prefilled=state.tokens_prefilled,
                tokens_new=len(transcript.ids),
                seconds=self.seconds,
            ),
            adapter=self.ask.tuning,
        )

    def _enter(self, stage: str) -> None:
        """The stage before is over."""
        now = self._clock()
        self.seconds[self.stage] = now - self._since
        self.stage, self._since = stage, now


def _seen(prompt: Prompt, options: Options, fusion: str) -> list[View]:
    """The views to encode: under weighted fusion also those of a sensor that weighs nothing."""
    both = len({view.modality for view in prompt.views}) == 2
    weighted = (options.fusion or fusion) == "weighted" and both
    return [view for view in prompt.views if weighted or view.modality != options.sensor_off]


def _named(objects: tuple[Found, ...], said: tuple[Name, ...]) -> tuple[Found, ...]:
    """Objects with what the text calls them; what it does not name is an ``object``."""
    unnamed = Name(label=NO_LABEL, span=None)
    frames = max(1, len(objects) // len(said)) if said else 1  # a series has each on every frame
    each = [name for name in said for _ in range(frames)]
    pairs = itertools.zip_longest(objects, each[: len(objects)], fillvalue=unnamed)
    return tuple(
        replace(found, label=name.label, text_span=name.span)
        for found, name in pairs
        if isinstance(found, Found) and isinstance(name, Name)
    )
