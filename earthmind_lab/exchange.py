"""What goes into a model and what comes out: numpy and plain data only.

Geography stops here and tensors start behind it. This file knows no CRS, no dates beyond
text, no torch; anything that can be sent over a wire without loss belongs in it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.errors import PromptError

Modality: TypeAlias = Literal["optical", "sar"]
Fusion: TypeAlias = Literal["concatenate", "weighted"]
Ended: TypeAlias = Literal["stop", "length", "repetition", "empty"]

_REMARKS = {
    "length": "The answer was cut off at its greatest length.",
    "repetition": "The model repeated itself and was stopped.",
    "empty": "The model said nothing.",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """One picture of a chip, as a model sees it."""

    image: NDArray[np.uint8]
    """(H, W, 3), row 0 in the north for a chip."""
    name: str
    """Name of the composite: ``true_colour``, ``swir_nir_red``, ``vv_vh_ratio``, ``picture``."""
    modality: Modality
    """The sensor family that took it."""
    time: str | None = None
    """Acquisition time, ISO 8601 UTC; None when the source lacks it."""
    bands: tuple[str, ...] = ()
    """Band or polarisation behind each of the three channels."""
    gsd: float | None = None
    """Metres per pixel of `image`; None for a plain picture."""
    stretch: tuple[tuple[float, float], ...] = ()
    """(low, high) per channel, in the physical unit of the band (reflectance or dB)."""

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3:
            raise PromptError(
                f"The view {self.name!r} is not an 8-bit colour picture.",
                found=f"{self.image.dtype} with shape {self.image.shape}",
                change="pass a uint8 array of shape (H, W, 3)",
            )
        if 0 in self.image.shape:
            raise PromptError(f"The view {self.name!r} has no pixels.", found=str(self.image.shape))

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def hash(self) -> str:
        """SHA-256 of pixels and modality: equal hash, equal visual tokens."""
        digest = hashlib.sha256(f"{self.modality}|{self.image.shape}|".encode())
        digest.update(np.ascontiguousarray(self.image).data)
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False)
class Region:
    """A place marked on a chip, on the grid of its views."""

    mask: NDArray[np.bool_]
    """(H, W); True inside."""
    label: str = ""
    """How the user named it."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to answer; the defaults answer the same way twice."""

    max_new_tokens: int = 128
    """Longest answer in tokens."""
    temperature: float = 0.0
    """0 = greedy decoding; less than 1e-6 is too, as nothing but ties would be left to chance."""
    seed: int = 0
    """For sampling; unused when greedy."""
    fusion: Fusion | None = None
    """How optical and SAR tokens meet; None = as the model was trained."""
    mask_source: Modality | None = None
    """The sensor whose picture draws the masks; None = as the model was trained."""
    sensor_off: Modality | None = None
    """Switch this sensor off, to see what it contributed: under weighted fusion its weights are
    zero, otherwise its tokens are left out. It draws no masks either."""
    mask_threshold: float = 0.5
    """Probability above which a pixel belongs to an object, between 0 and 1; see `Reply.at`."""
    deadline: float | None = None
    """Seconds after which the ask fails instead of going on; None = no limit."""
    priority: int = 0
    """Higher goes first; 0 = interactive, negative = batch."""
    seat: str = ""
    """Who asks: an engine takes turns between seats, so that none waits behind another's pile."""
    adapter: str | None = None
    """Name or hash of the adapter that answers; None = the engine's default, which is the model as
    it was loaded unless somebody said otherwise; "" = that model in any case."""


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """An adapter: what was trained on top of a model, and can be chosen for each ask."""

    name: str
    hash: str
    """SHA-256 of its weights."""
    fusion: Fusion | None = None
    """How it was trained to join optical and SAR; None = as the model."""
    mask_source: Modality | None = None
    """The sensor whose picture it was trained to draw on; None = as the model."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One earlier question of a conversation with what the model replied."""

    question: str
    reply: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompt:
    """A question in pixels."""

    text: str
    """The question."""
    views: tuple[View, ...] = ()
    """Pictures of one place on one grid; SAR and optical in any order."""
    regions: tuple[Region, ...] = ()
    """Places marked on the views' grid."""
    follow: tuple[View, ...] = ()
    """Later frames of the same place that only the mask tower sees: objects found on the views
    are followed into them."""
    history: tuple[Turn, ...] = ()
    """Earlier turns about the same views, oldest first."""

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise PromptError("The question is empty.", change="ask something")
        frames = {view.shape for view in (*self.views, *self.follow)} if self.follow else set()
        if self.follow and (not self.views or len(frames) > 1):
            raise PromptError(
                "Frames to follow objects into must be of the size of the views.",
                found=", ".join(f"{height} x {width}" for height, width in sorted(frames)),
                change="frames on one grid, and at least one view to find the objects on",
            )
        for region in self.regions:
            shapes = {view.shape for view in self.views}
            if shapes != {region.mask.shape}:
                raise PromptError(
                    f"The region {region.label!r} does not lie on the grid of the views.",
                    found=f"region {region.mask.shape}, views {sorted(shapes)}",
                    change="mark the region on the same chip",
                )
            if not region.mask.any():
                raise PromptError(
                    f"The region {region.label!r} marks no pixel.", change="draw it larger"
                )


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """One object of a reply, in pixels."""

    label: str
    """What the model called it, cut from the reply's text before the mark."""
    score: float
    """The model's own estimate of the mask's IoU, 0 to 1."""
    mask_logits: NDArray[np.float32] | None
    """(H, W) on the grid of the view; above 0 = inside. `Reply.threshold` says what 0 is."""
    box: tuple[float, float, float, float] | None = None
    """(x0, y0, x1, y1) in pixels."""
    view: int = 0
    """Index of the picture that drew it: into `Prompt.views`, then on into `Prompt.follow`."""
    text_span: tuple[int, int] | None = None
    """Where in `Reply.text` it is named."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What an ask cost."""

    views_encoded: int = 0
    """Views that went through the vision tower (0 = all came from the cache)."""
    sam_encodes: int = 0
    """Views that went through the SAM 2 image encoder."""
    tokens_prefilled: int = 0
    """Prompt tokens that the language model had to read."""
    tokens_new: int = 0
    """Tokens written."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds in ``encode``, ``prefill``, ``decode``, ``segment``, ``queue``."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "views_encoded": self.views_encoded,
            "sam_encodes": self.sam_encodes,
            "tokens_prefilled": self.tokens_prefilled,
            "tokens_new": self.tokens_new,
            "seconds": {name: round(value, 4) for name, value in self.seconds.items()},
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Reply:
    """An answer in pixels."""

    text: str
    """What the model said, without its control tokens."""
    raw: str = ""
    """The same with the marks it wrote ([SEG]); what a later turn reads as history."""
    objects: tuple[Found, ...] = ()
    """What it marked, in the order of the text."""
    sensor_weights: NDArray[np.float32] | None = None
    """(2, h, w) optical and SAR weight per token (weighted fusion only)."""
    token_ids: tuple[int, ...] = ()
    """The tokens written, control tokens included."""
    logprobs: tuple[float, ...] = ()
    """Log-probability of each of `token_ids`."""
    ended: Ended = "stop"
    """Why it ended: the model ended it, the longest length was reached, the model went round in a
    circle (the repetition stays in the text), or it said nothing."""
    usage: Usage = field(default_factory=Usage)
    """What it cost."""
    adapter: Tuning | None = None
    """Which one answered; None = the model as it was loaded."""
    threshold: float = 0.5
    """The model's probability where the logits of its masks are 0."""

    def at(self, threshold: float) -> Reply:
        """The same words with masks that are cut at another probability; nothing is asked.

        Raises:
            PromptError: Not a probability between 0 and 1.
        """
        if not 0 < threshold < 1:
            raise PromptError(
                f"A mask can't be cut at the probability {threshold!r}.",
                change="more than 0 and less than 1; the default is 0.5",
            )
        if threshold == self.threshold:
            return self
        shift = np.float32(_logit(threshold) - _logit(self.threshold))
        objects = tuple(
            each if each.mask_logits is None
            else replace(each, mask_logits=each.mask_logits - shift)
            for each in self.objects
        )  # fmt: skip
        return replace(self, objects=objects, threshold=threshold)

    def probability(self, found: Found) -> NDArray[np.float32] | None:
        """(H, W) the model's probability that a pixel belongs to an object of this reply."""
        if found.mask_logits is None:
            return None
        shifted = found.mask_logits + np.float32(_logit(self.threshold))
        # Far from 0 the exponential overflows to infinity, and the quotient to the right 0.
        with np.errstate(over="ignore"):
            return np.asarray(1 / (1 + np.exp(-shifted)), dtype=np.float32)

    @property
    def remark(self) -> str:
        """What to say beside the text where the model did not end it by itself."""
        return _REMARKS.get(self.ended, "")


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


@dataclass(frozen=True, kw_only=True)
class Queued:
    """The ask waits: `position` answers must end before its own begins; again as that changes."""

    ask: str
    position: int


@dataclass(frozen=True, kw_only=True)
class Token:
    """More text was written.

    Whoever shows it shows the reply's text in the end: an answer that had to begin anew may have
    come out otherwise.
    """

    ask: str
    text: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Object:
    """An object was marked."""

    ask: str
    found: Found


@dataclass(frozen=True, kw_only=True, eq=False)
class Done:
    """The reply is complete."""

    ask: str
    reply: Reply


@dataclass(frozen=True, kw_only=True, eq=False)
class Failed:
    """The ask ended without a reply."""

    ask: str
    error: Exception


Event: TypeAlias = Queued | Token | Object | Done | Failed
