"""What an engine promises its callers, and what a model must offer to run inside one.

This file knows no torch. Callers hold an `Engine`; the in-process engine drives a `Backend`
(one per kind of model) on its own thread; a remote engine keeps the same promises over a wire.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.errors import PromptError
from earthmind_lab.exchange import Event, Found, Fusion, Options, Prompt, Reply, Tuning, View


@dataclass(frozen=True, kw_only=True)
class StopRule:
    """When an answer ends and which of its strings are control marks; data, not code."""

    strings: tuple[str, ...] = ()
    """The answer ends when its text, without newlines at the ends, ends with one of these.
    They are compared as text because their tokens may merge with the character before."""
    ids: tuple[int, ...] = ()
    """Token ids that end the answer."""
    hidden: tuple[str, ...] = ()
    """Further strings that users never see (end of sequence, phrase tags)."""
    mark: str = "[SEG]"
    """What the model writes where it marks an object."""

    @classmethod
    def of(cls, processor: Any) -> StopRule:
        """That of a model.

        Args:
            processor: Of the model. The object mark isn't hidden: it is handled on its own.
        """
        eos = processor.eos_token_id
        hidden = (token for token in processor.tokenizer.added_tokens_encoder if token != cls.mark)
        return cls(
            strings=processor.stop_strings,
            ids=() if eos is None else (eos,),
            hidden=tuple(sorted(hidden, key=len, reverse=True)),
        )


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a loaded model is and what fits into it."""

    name: str
    revision: str
    """First 12 hex digits of `weight_hash`."""
    weight_hash: str
    """SHA-256 over the weight files."""
    licence: str = ""
    notice: str = ""
    """Said beside every answer, never inside its text."""
    fusion: Fusion = "concatenate"
    """How optical and SAR tokens meet unless the options say otherwise."""
    dtype: str = "float32"
    device: str = "cpu"
    max_side_px: int | None = None
    """Longest side of a chip's view at its native GSD; None = unlimited."""
    classes: tuple[str, ...] = ()
    """What the model was trained to name; () = open vocabulary."""
    composites: tuple[str, ...] = ()
    """Names in `render.COMPOSITES` of the pictures it is shown of a chip; () = the usual ones."""
    tile_px: int = 448
    """Side of the square that the vision tower sees at once."""
    stop: StopRule = StopRule()

    def check(self, prompt: Prompt) -> None:
        """Refuse views that would have to be shrunk.

        Plain pictures (no GSD) have no native resolution to lose and pass.

        Raises:
            PromptError: A view is larger than `max_side_px`.
        """
        for view in prompt.views:
            height, width = view.shape
            if self.max_side_px is None or view.gsd is None:
                continue
            if max(height, width) > self.max_side_px:
                raise PromptError(
                    f"The view {view.name!r} is larger than {self.name} sees at its native GSD.",
                    found=f"{width} × {height} px at {view.gsd:g} m",
                    change=f"a chip of at most {self.max_side_px} × {self.max_side_px} px "
                    f"({self.max_side_px * view.gsd / 1000:g} km), or several chips",
                )


class Encoded(Protocol):
    """What the vision tower made of some views; opaque to the engine."""

    @property
    def views_encoded(self) -> int:
        """Views that were not in the cache."""
        ...


class State(Protocol):
    """An answer being written; opaque to the engine but for its counters."""

    @property
    def tokens_prefilled(self) -> int:
        """Prompt tokens that were read, without those found in the cache."""
        ...

    @property
    def sam_encodes(self) -> int:
        """Views that went through the mask encoder so far."""
        ...

    @property
    def sensor_weights(self) -> NDArray[np.float32] | None:
        """(2, h, w) optical and SAR weights (weighted fusion only)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Step:
    """One written token."""

    token_id: int
    logprob: float
    """Natural logarithm, of the model's own distribution (before temperature)."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One kind of thing that a backend keeps on its device."""

    entries: int = 0
    nbytes: int = 0
    hits: int = 0
    """How often it was found since the model was loaded."""
    misses: int = 0


@dataclass(frozen=True, kw_only=True)
class Stats:
    """What an engine is doing, and what it has done since its model was loaded."""

    running: int = 0
    """Answers being written."""
    waiting: int = 0
    done: int = 0
    failed: int = 0
    """Asks that ended without a reply, cancelled ones left out."""
    cancelled: int = 0
    tokens_prefilled: int = 0
    tokens_new: int = 0
    kept: Mapping[str, Kept] = field(default_factory=dict)
    """By kind: ``tokens`` (visual tokens of a view), ``sam`` (mask features of a view), ``read``
    (keys and values of what the language model has read)."""
    adapters: tuple[Tuning, ...] = ()
    """What asks may choose."""


EncodedT = TypeVar("EncodedT", bound=Encoded)
StateT = TypeVar("StateT", bound=State)


class Backend(Protocol[EncodedT, StateT]):
    """What a model offers the engine.

    Every call comes from one thread, but for `capabilities`, `seen_gsd`, `pictures`, `needs`,
    `capacity` and `kept`. One that takes adapters is `Tunable`, too.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What the model is."""
        ...

    def listen(self, heed: Callable[[], None]) -> None:
        """From now on call `heed` between the parts of every long call: views, layers.

        It may raise, which ends the call like any failure: what was computed to its end may stay,
        nothing half done does.
        """
        ...

    def encode(self, views: Sequence[View], adapter: str | None = None) -> EncodedT:
        """Visual tokens of the views, from the cache where it has them.

        Args:
            views: To look at.
            adapter: Who looks; here and in options that a backend gets it's a hash, or None.
        """
        ...

    def prefill(self, prompt: Prompt, options: Options, encoded: EncodedT) -> StateT:
        """Begin an answer: read the pictures of the prompt. The first `step` reads its text.

        Raises:
            PromptError: The prompt can't be put to this model.
            OutOfDeviceMemory: There is no room, perhaps only beside the answers under way.
        """
        ...

    def step(self, states: Sequence[StateT]) -> list[Step]:
        """Write one more token of each answer.

        What an answer hasn't read yet (the text of its prompt, or its last token) is read first,
        that of all answers together. Which answers share a step may change at each step. A step
        that fails leaves every state as it was, so that each may be tried alone.
        """
        ...

    def extend(self, state: StateT, embeddings: Any) -> None:
        """Let the model read further embeddings (1, T, D) in the middle of its answer."""
        ...

    def segment(self, states: Sequence[StateT]) -> list[tuple[Found, ...]]:
        """Of each answer the objects marked so far, in order, drawn together.

        Label and span are filled by the engine.
        """
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of tokens, control tokens included."""
        ...

    def seen_gsd(self, view: View) -> float | None:
        """Metres per pixel that the model really sees of a view; may be called by any thread."""
        ...

    def pictures(self, views: Sequence[View]) -> tuple[tuple[NDArray[np.uint8], ...], ...]:
        """What the vision encoder is given of each view; may be called by any thread."""
        ...

    def release(self, state: StateT) -> None:
        """The answer ended or was given up; keep what serves the next question."""
        ...

    def abandon(self) -> None:
        """Forget every answer under way: the worker before this one died, in whatever call.

        Nothing of them is kept for later questions, as it may be half done. Their states are not
        used again, nor released.
        """
        ...

    def needs(self, prompt: Prompt, options: Options) -> int:
        """Bytes of device memory that an ask takes at most while it is under way.

        Raises:
            PromptError: The prompt can't be put to this model.
            OutOfDeviceMemory: It can't fit even alone; the message says what would.
        """
        ...

    def capacity(self) -> int:
        """Bytes of device memory for all asks under way; changes only with adapters."""
        ...

    def kept(self) -> Mapping[str, Kept]:
        """What is kept on the device for further questions, by kind."""
        ...

    def close(self) -> None:
        """Free the device."""
        ...


class Tunable(Protocol):
    """What a backend has beside that takes adapters."""

    def read_adapter(self, folder: Path) -> AdapterFiles:
        """Check the folder of an adapter and read it; may be called by any thread.

        Raises:
            EarthMindError: It can't be used with this model.
        """
        ...

    def adopt(self, files: Any) -> None:
        """From now on `Options.adapter` may be its hash. If this fails, nothing has changed."""
        ...

    def forget(self, digest: str) -> None:
        """Free an adapter, and what was kept of its answers; none of them is under way."""
        ...


class AdapterFiles(Protocol):
    """An adapter that was read and fits; opaque to the engine but for this."""

    @property
    def name(self) -> str:
        """What to call it unless told otherwise."""
        ...

    @property
    def hash(self) -> str:
        """SHA-256 of its weights."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes that it will take on the device."""
        ...

    def tuning(self, name: str) -> Tuning:
        """What to tell about it under this name."""
        ...


class Handle(Protocol):
    """An ask under way."""

    @property
    def id(self) -> str:
        """Id that every event of this ask carries."""
        ...

    def events(self) -> Iterator[Event]:
        """All events from the first on; ends after the one `Done` or `Failed`."""
        ...

    def result(self, timeout: float | None = None) -> Reply:
        """Wait for the reply.

        Args:
            timeout: Seconds to wait; None = as long as it takes.

        Raises:
            TimeoutError: Not ready yet; the ask goes on.
            EarthMindError: Why the ask failed.
        """
        ...

    def cancel(self) -> None:
        """Stop: at once while queued, else before the next token or layer; no effect once ended."""
        ...


class Engine(Protocol):
    """A resident model that answers prompts."""

    @property
    def name(self) -> str:
        """Name of the model."""
        ...

    @property
    def revision(self) -> str:
        """First 12 hex digits of its weight hash."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What the model is and what fits into it."""
        ...

    def submit(self, prompt: Prompt, options: Options | None = None) -> Handle:
        """Queue an ask and return at once.

        Raises:
            EngineUnavailable: The engine is closed.
            EngineBusy: The queue is full.
        """
        ...

    def generate(self, prompt: Prompt, options: Options | None = None) -> Reply:
        """Ask and wait; an interrupt of the caller cancels the ask."""
        ...

    def seen_gsd(self, view: View) -> float | None:
        """Metres per pixel that the model really sees of a view; None for a plain picture."""
        ...

    def stats(self) -> Stats:
        """What it is doing and what it keeps."""
        ...

    def close(self) -> None:
        """Cancel every ask and free the device."""
        ...


def seen_gsd(view: View, *, tile_px: int, grid: tuple[int, int] = (1, 1)) -> float | None:
    """Metres per pixel that a model really sees of a view after its resize.

    Args:
        view: The view; its `gsd` is in metres per pixel.
        tile_px: Side of the square that the vision tower sees.
        grid: Columns and rows of such squares that the view is spread over.

    Returns:
        The coarser of both axes, never finer than the view's own GSD (enlarging adds no
        detail); None for a plain picture.

    >>> view = View(image=np.zeros((256, 128, 3), np.uint8), name="x", modality="sar", gsd=10.0)
    >>> seen_gsd(view, tile_px=128)
    20.0
    """
    if view.gsd is None:
        return None
    (height, width), (columns, rows) = view.shape, grid
    return view.gsd * max(1.0, width / (columns * tile_px), height / (rows * tile_px))
