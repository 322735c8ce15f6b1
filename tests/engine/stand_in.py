"""A deterministic backend without a model: it writes scripted text, one character per token."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from earthmind_lab.engine.base import Capabilities, Step, StopRule, seen_gsd
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


@dataclass
class StandInState:
    prompt: Prompt
    script: bytes
    tokens_prefilled: int
    written: int = 0
    sam_encodes: int = 0
    sensor_weights: Any = None


@dataclass
class StandIn:
    """Answers every question with `reply(prompt)`, byte by byte.

    Args:
        reply: Raw text of the answer, marks and stop string included.
        on_step: Called before each token with the state: to wait, to fail, to count.
    """

    reply: Callable[[Prompt], str] = lambda prompt: f"You asked: {prompt.text}<|end|>"
    on_step: Callable[[StandInState], None] = lambda state: None
    capabilities: Capabilities = CAPABILITIES
    closed: bool = False
    released: int = 0
    answered: list[str] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)

    def seen_gsd(self, view: View) -> float | None:
        return seen_gsd(view, tile_px=self.capabilities.tile_px)

    def pictures(self, views: Sequence[View]):
        return tuple((view.image,) for view in views)

    def encode(self, views: Sequence[View]) -> StandInEncoded:
        self.threads.add(threading.get_ident())
        fresh = {view.hash for view in views} - self.seen
        self.seen |= fresh
        return StandInEncoded(views_encoded=len(fresh))

    def prefill(self, prompt: Prompt, options: Options, encoded: StandInEncoded) -> StandInState:
        self.answered.append(prompt.text)
        return StandInState(prompt, self.reply(prompt).encode(), len(prompt.text))

    def step(self, states: Sequence[StandInState]) -> list[Step]:
        steps = []
        for state in states:
            self.on_step(state)
            self.threads.add(threading.get_ident())
            byte = state.script[state.written] if state.written < len(state.script) else 0
            state.written += 1
            steps.append(Step(token_id=byte, logprob=-0.5))
        return steps

    def extend(self, state: StandInState, embeddings: Any) -> None:
        raise NotImplementedError

    def segment(self, states: Sequence[StandInState]) -> list[tuple[Found, ...]]:
        return [self._marked(state) for state in states]

    def _marked(self, state: StandInState) -> tuple[Found, ...]:
        marks = state.script[: state.written].decode(errors="ignore").count("[SEG]")
        state.sam_encodes = int(marks > 0)
        found = Found(label="", score=0.5, mask_logits=np.ones((4, 4), np.float32))
        return tuple(replace(found, score=index / 10) for index in range(marks))

    def decode(self, token_ids: Sequence[int]) -> str:
        return bytes(token_ids).replace(b"\x00", b"<eos>").decode(errors="replace")

    def release(self, state: StandInState) -> None:
        self.released += 1

    def close(self) -> None:
        self.closed = True
