"""A deterministic backend without a model: it writes scripted text, one character per token."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from earthmind_lab.engine.base import Capabilities, Kept, Step, StopRule, seen_gsd
from earthmind_lab.exchange import Found, Options, Prompt, View

CAPABILITIES = Capabilities(
    name="stand-in",
    revision="0" * 12,
    weight_hash="0" * 64,
    notice="not a model",
    max_side_px=64,
    tile_px=32,
    stop=StopRule(strings=("<|end|>",), ids=(0,), hidden=("<eos>",)),
)


@dataclass(frozen=True)
class StandInEncoded:
    views_encoded: int


@dataclass(eq=False)
class StandInState:
    prompt: Prompt
    script: bytes
    tokens_prefilled: int
    written: int = 0
    sam_encodes: int = 0
    sensor_weights: Any = None
    released: bool = False


@dataclass
class StandIn:
    """Answers every question with `reply(prompt)`, byte by byte.

    Args:
        reply: Raw text of the answer, marks and stop string included.
        on_step: Called before each token of each state: to wait, to fail, to count. A step that
            fails leaves all its states as they were.
        on_batch: Called before each step with all its states.
        on_encode, on_prefill, on_segment: Called before, with the views, the prompt, the states.
        needs_bytes: What an ask takes, by prompt.
        room: Bytes for all asks.
    """

    reply: Callable[[Prompt], str] = lambda prompt: f"You asked: {prompt.text}<|end|>"
    on_step: Callable[[StandInState], None] = lambda state: None
    capabilities: Capabilities = CAPABILITIES
    closed: bool = False
    released: int = 0
    answered: list[str] = field(default_factory=list)
    """Text of each prompt that was prefilled, in order."""
    threads: set[int] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    on_batch: Callable[[Sequence[StandInState]], None] = lambda states: None
    on_encode: Callable[[Sequence[View]], None] = lambda views: None
    on_prefill: Callable[[Prompt], None] = lambda prompt: None
    on_segment: Callable[[Sequence[StandInState]], None] = lambda states: None
    needs_bytes: Callable[[Prompt], int] = lambda prompt: 1
    room: int = 1_000_000
    batches: list[int] = field(default_factory=list)
    """How many states each step had that went well."""
    segmented: list[int] = field(default_factory=list)
    alive: set[StandInState] = field(default_factory=set)
    """Prefilled, not released."""
    twice: int = 0
    """Releases of what was released before."""
    heed: Callable[[], None] = lambda: None
    """What `on_...` calls where a model would have come to its next layer."""

    def seen_gsd(self, view: View) -> float | None:
        return seen_gsd(view, tile_px=self.capabilities.tile_px)

    def pictures(self, views: Sequence[View]):
        return tuple((view.image,) for view in views)

    def listen(self, heed: Callable[[], None]) -> None:
        self.heed = heed

    def encode(self, views: Sequence[View], adapter: str | None = None) -> StandInEncoded:
        self.threads.add(threading.get_ident())
        self.on_encode(views)
        fresh = {view.hash for view in views} - self.seen
        self.seen |= fresh
        return StandInEncoded(views_encoded=len(fresh))

    def prefill(self, prompt: Prompt, options: Options, encoded: StandInEncoded) -> StandInState:
        self.on_prefill(prompt)
        self.answered.append(prompt.text)
        state = StandInState(prompt, self.reply(prompt).encode(), tokens_prefilled=0)
        self.alive.add(state)
        return state

    def step(self, states: Sequence[StandInState]) -> list[Step]:
        assert len(set(states)) == len(states) > 0
        assert self.alive.issuperset(states)
        self.threads.add(threading.get_ident())
        self.on_batch(states)
        for state in states:
            self.on_step(state)
        self.batches.append(len(states))
        return [self._one(state) for state in states]

    def _one(self, state: StandInState) -> Step:
        if state.written == 0:
            state.tokens_prefilled += len(state.prompt.text)
        byte = state.script[state.written] if state.written < len(state.script) else 0
        state.written += 1
        return Step(token_id=byte, logprob=-0.5)

    def extend(self, state: StandInState, embeddings: Any) -> None:
        raise NotImplementedError

    def segment(self, states: Sequence[StandInState]) -> list[tuple[Found, ...]]:
        assert self.alive.issuperset(states)
        self.on_segment(states)
        self.segmented.append(len(states))
        return [self._drawn(state) for state in states]

    def _drawn(self, state: StandInState) -> tuple[Found, ...]:
        marks = state.script[: state.written].decode(errors="ignore").count("[SEG]")
        state.sam_encodes = int(marks > 0)
        found = Found(label="", score=0.5, mask_logits=np.ones((4, 4), np.float32))
        return tuple(replace(found, score=index / 10) for index in range(marks))

    def decode(self, token_ids: Sequence[int]) -> str:
        return bytes(token_ids).replace(b"\x00", b"<eos>").decode(errors="replace")

    def release(self, state: StandInState) -> None:
        self.alive.discard(state)  # first: a worker that is killed in here has released it
        self.twice += state.released  # an error here would only be logged
        state.released = True
        self.released += 1

    def abandon(self) -> None:
        for state in list(self.alive):
            self.release(state)

    def needs(self, prompt: Prompt, options: Options) -> int:
        return self.needs_bytes(prompt)

    def capacity(self) -> int:
        return self.room

    def kept(self) -> Mapping[str, Kept]:
        return {"tokens": Kept(entries=len(self.seen), misses=len(self.seen))}

    def close(self) -> None:
        assert not self.alive
        self.closed = True
