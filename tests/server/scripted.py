"""An engine that says what a test tells it, at the pace the test sets; no model."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

from earthmind_lab.engine.base import Capabilities, Kept, Stats
from earthmind_lab.errors import Cancelled, EarthMindError, EngineError, EngineUnavailable
from earthmind_lab.exchange import (
    Done,
    Event,
    Failed,
    Found,
    Object,
    Options,
    Prompt,
    Queued,
    Reply,
    Token,
    Usage,
    View,
)

WORDS = "Sure, the water lies in the north. "
CAPABILITIES = Capabilities(
    name="scripted", revision="b" * 12, weight_hash="b" * 64, notice="not a model", max_side_px=64
)


def reply_of(prompt: Prompt, options: Options) -> Reply:
    """The same for the same prompt: text, and one mask where there is a view."""
    text = f"{WORDS}You asked: {prompt.text}"
    ids = tuple(text.encode())[: options.max_new_tokens]
    text = bytes(ids).decode(errors="replace")
    objects: tuple[Found, ...] = ()
    if prompt.views:
        seed = int(prompt.views[0].hash[:8], 16) + options.seed
        logits = np.random.default_rng(seed).normal(size=prompt.views[0].shape).astype(np.float32)
        objects = (
            Found(label="water", score=0.75, mask_logits=logits, box=(1.0, 2.0, 3.0, 4.5),
                  text_span=(10, 15)),
        )  # fmt: skip
    return Reply(
        text=text, raw=text + "[SEG]", objects=objects, token_ids=ids,
        logprobs=tuple(-0.1 * (i % 7) for i in range(len(ids))),
        ended="length" if len(ids) == options.max_new_tokens else "stop",
        usage=Usage(tokens_prefilled=len(prompt.text), tokens_new=len(ids)),
    )  # fmt: skip


class ScriptedAsk:
    def __init__(self, engine: Scripted, prompt: Prompt, options: Options) -> None:
        self.id = f"a{next(engine.numbers)}"
        self.engine, self.prompt, self.options = engine, prompt, options
        self.stopped = threading.Event()

    def events(self) -> Iterator[Event]:
        due = None if self.options.deadline is None else time.monotonic() + self.options.deadline
        yield Queued(ask=self.id, position=0)
        try:
            reply = self.engine.reply(self.prompt, self.options)
            for word in (each + " " for each in reply.text.split(" ")):
                self.engine.before_word(self)
                self.check(due)
                yield Token(ask=self.id, text=word)
        except EarthMindError as error:
            self.engine.ended.append(type(error).__name__)
            yield Failed(ask=self.id, error=error)
            return
        for found in reply.objects:
            yield Object(ask=self.id, found=found)
        self.engine.ended.append("Done")
        yield Done(ask=self.id, reply=reply)

    def check(self, due: float | None) -> None:
        if self.stopped.wait(self.engine.pause):
            raise Cancelled("The ask was stopped.")
        if due is not None and time.monotonic() >= due:
            raise EngineError("No answer within the deadline.")

    def result(self, timeout: float | None = None) -> Reply:
        *_, last = self.events()
        if isinstance(last, Failed):
            raise last.error
        return last.reply

    def cancel(self) -> None:
        self.stopped.set()


class Scripted:
    """Args: how to reply, seconds before each word, and what else happens before it."""

    def __init__(
        self,
        reply: Callable[[Prompt, Options], Reply] = reply_of,
        *,
        pause: float = 0.0,
        before_word: Callable[[ScriptedAsk], None] = lambda ask: None,
        capabilities: Capabilities = CAPABILITIES,
    ) -> None:
        self.reply, self.pause, self.before_word = reply, pause, before_word
        self.capabilities = capabilities
        self.name, self.revision = capabilities.name, capabilities.revision
        self.numbers = itertools.count(1)
        self.asked: list[tuple[Prompt, Options]] = []
        self.ended: list[str] = []
        self.closed = False

    def submit(self, prompt: Prompt, options: Options | None = None) -> ScriptedAsk:
        if self.closed:
            raise EngineUnavailable("closed")
        options = options or Options()
        self.capabilities.check(prompt)
        self.asked.append((prompt, options))
        return ScriptedAsk(self, prompt, options)

    def generate(self, prompt: Prompt, options: Options | None = None) -> Reply:
        return self.submit(prompt, options).result()

    def seen_gsd(self, view: View) -> float | None:
        return None if view.gsd is None else view.gsd * max(1.0, max(view.shape) / 32)

    def pictures(self, views):
        return tuple((view.image[:2], view.image[2:]) for view in views)

    def stats(self) -> Stats:
        done = self.ended.count("Done")
        return Stats(
            running=len(self.asked) - len(self.ended), done=done, tokens_new=7,
            kept={"tokens": Kept(entries=1, nbytes=2, hits=3, misses=4)},
        )  # fmt: skip

    def close(self) -> None:
        self.closed = True


def view(side: int = 8, *, seed: int = 0, modality: str = "optical", gsd: float | None = 10.0):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return View(image=pixels, name="true_colour", modality=modality, gsd=gsd)  # type: ignore[arg-type]
