"""The sections of a recipe; each refuses what can't be trained with. Knows no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from earthmind_lab.errors import EarthMindError
from earthmind_lab.finetune.plain import unknown

if TYPE_CHECKING:
    from earthmind_lab.model.losses import LossWeights

PARTS = (
    "language", "embeddings", "projector", "text_head", "mask_decoder", "gate", "vision",
    "mask_encoder",
)  # fmt: skip
"""What a recipe can train: the decoder layers (adapters on them, or all of them with ``full``); the
embedding table and the head; the visual tokens' projector; the head of [SEG]; SAM 2's mask decoder;
the gate of the June training; the vision tower; the rest of SAM 2."""
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Every linear map of a decoder layer."""


FORMS = ("llava", "messages", "refer", "regions")
"""Of files of examples, as `opening.open_examples` takes them."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where examples come from."""

    path: str
    """File or folder."""
    form: str | None = None
    """``llava``, ``messages``, ``refer`` or ``regions``; None = as its content looks."""
    images: str | None = None
    """Folder of its pictures; None = beside the file."""
    split: str | None = None
    """Only this one of a REFER index: ``train``, ``val``, …"""
    licence: str = ""
    """Of the data set, for entries that don't say their own."""
    repeats: float = 1.0
    """How often an epoch sees each of them; 0.5 = a half of them, drawn by the seed."""

    def __post_init__(self) -> None:
        positive(self.repeats, "data: repeats")
        if self.form not in (None, *FORMS):
            raise unknown(self.form, FORMS, "data: form")


@dataclass(frozen=True, kw_only=True)
class Areas:
    """How labelled areas (.geojson, .gpkg) among the data become examples: `labelled_areas`."""

    column: str = "class"
    """Holds the class of each area."""
    dates: str = ""
    """``A/B``, as a search takes them; needed."""
    catalog: str | None = None
    """None = the one that searches use."""
    complete: bool = False
    """Whether everything of these classes was drawn around the areas."""
    side_km: float = 2.5
    """Side of the chip around an area."""
    block_km: float = 5.0
    """Side of the blocks that go to one side of the split, whole."""
    max_gap: str | None = None
    """Between the optical and the SAR scene; None = as searches have it."""
    max_cloud: float | None = None
    """Per cent of the chip; None = as searches have it."""

    def __post_init__(self) -> None:
        positive(self.side_km, "areas: side_km")
        positive(self.block_km, "areas: block_km")


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Adapters on the language model."""

    rank: int = 128
    """Width of an adapter: more learns more, and takes more."""
    alpha: float = 256.0
    """Their output is multiplied by alpha / rank."""
    dropout: float = 0.05
    """Share of its inputs that is left out, drawn anew in each pass."""
    targets: tuple[str, ...] = LINEAR
    """Names of the linear maps that get one."""

    def __post_init__(self) -> None:
        positive(self.rank, "lora: rank")
        positive(self.alpha, "lora: alpha")
        share(self.dropout, "lora: dropout")
        for name in self.targets:
            if name not in LINEAR:
                raise unknown(name, LINEAR, "lora: targets")
        if not self.targets:
            raise EarthMindError("lora: targets is empty.", change=f"some of {', '.join(LINEAR)}")


@dataclass(frozen=True, kw_only=True)
class Losses:
    """How much each loss counts; 0 leaves it out. See `model.losses`."""

    text: float = 1.0
    """Of the answer's tokens."""
    mask: float = 2.0
    """Of single points of a mask."""
    dice: float = 0.5
    """Of the overlap of masks."""
    alignment: float = 0.0
    """Between the tokens of the two pictures of a pair."""
    attention: float = 0.0
    """Of where the attention of a [SEG] goes."""
    points: int = 12544
    """Points that a mask is compared at."""

    def __post_init__(self) -> None:
        positive(self.points, "losses: points")
        weights = [value for name, value in vars(self).items() if name != "points"]
        if min(weights) < 0 or not any(weights) or not all(map(math.isfinite, weights)):
            raise EarthMindError("losses must be 0 or more, one of them more than 0.")

    def weights(self) -> LossWeights:
        """As `EarthMindTraining` takes them."""
        from earthmind_lab.model.losses import LossWeights

        return LossWeights(**{k: v for k, v in vars(self).items() if k != "points"})


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """AdamW and its course."""

    rate: float = 4e-5
    """The full learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """How long AdamW remembers gradients, and their squares."""
    decay: float = 0.05
    """How fast weights shrink that nothing holds."""
    decay_vectors: bool = True
    """Also decay norms and biases, as published."""
    clip: float = 1.0
    """Longest gradient; longer ones are shortened to it."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """After the warm-up; the first two go down to 0."""
    warmup: float = 0.05
    """Share of all steps."""
    warmup_from: float = 1e-5
    """Rate of the first step, in the full one."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """Of single parts, in `rate`."""
    waits: Mapping[str, float] = field(default_factory=dict)
    """Of single parts the share of all steps for which they stay as they are."""

    def __post_init__(self) -> None:
        positive(self.rate, "optimiser: rate")
        positive(self.clip, "optimiser: clip")
        for value in (*self.betas, self.warmup, self.warmup_from):
            share(value, "optimiser: betas, warmup and warmup_from")
        if not 0 <= self.decay < math.inf:
            raise EarthMindError(f"optimiser: decay can't be {self.decay}.", change="0.05")
        for name, factor in self.rates.items():
            if name not in PARTS:
                raise unknown(name, PARTS, "optimiser: rates")
            positive(factor, f"optimiser: rates: {name}")
        for name, part in self.waits.items():
            if name not in PARTS:
                raise unknown(name, PARTS, "optimiser: waits")
            share(part, f"optimiser: waits: {name}")


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """Old questions among the new ones, with the answers of the model before: `rehearsal`."""

    share: float = 0.0
    """How many per example that is learned; 0 = none."""

    def __post_init__(self) -> None:
        if not 0 <= self.share < math.inf:
            raise EarthMindError(f"rehearsal: share can't be {self.share}.", change="0.5")


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Vision features of frozen towers, kept instead of computed anew."""

    where: Literal["none", "memory", "disk"] = "memory"
    """Where they are kept; ``disk`` keeps them for further trainings of the same model."""
    bytes: float = 2e9
    """Most bytes; what no longer fits is computed each time."""
    folder: str | None = None
    """Of ``disk``; None = ``features`` in the folder of caches."""

    def __post_init__(self) -> None:
        if not 0 <= self.bytes < math.inf:
            raise EarthMindError(f"cache: bytes can't be {self.bytes}.", change="2e9")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The loss on examples that nothing is learned from."""

    every: int = 0
    """Steps between two; 0 = after each epoch."""
    patience: int = 0
    """Stop after so many without a smaller loss; 0 = never."""
    answers: int = 200
    """Most examples of a set that both models answer for the card; 0 = none."""
    samples: int = 4
    """Examples that are asked at each validation while somebody watches; 0 = none."""

    def __post_init__(self) -> None:
        count(self.every, "evaluation: every")
        count(self.samples, "evaluation: samples")
        count(self.answers, "evaluation: answers")
        count(self.patience, "evaluation: patience")


@dataclass(frozen=True, kw_only=True)
class Saving:
    """Checkpoints to go on from."""

    every: int = 1000
    """Steps between two."""
    keep: int = 2
    """How many of the newest, beside the one with the smallest validation loss."""

    def __post_init__(self) -> None:
        positive(self.every, "saving: every")
        positive(self.keep, "saving: keep")


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """Several processes, started by ``torchrun``."""

    kind: Literal["none", "ddp", "fsdp2", "deepspeed", "ray"] = "none"
    """A copy of the model per process, its layers spread over all of them, or the library's own."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Passed on: of FSDP as `TrainingArguments.fsdp_config`, of DeepSpeed its own file's content,
    of Ray its ``ScalingConfig``."""


def positive(value: float, name: str) -> None:
    """Refuse what isn't a number above 0."""
    if not (math.isfinite(value) and value > 0):
        raise EarthMindError(f"{name} can't be {value:g}.", change="more than 0")


def share(value: float, name: str) -> None:
    """Refuse what isn't a share of something."""
    if not 0 <= value < 1:
        raise EarthMindError(f"{name} can't be {value:g}.", change="0 or more, less than 1")


def count(value: int, name: str) -> None:
    """Refuse negative numbers."""
    if value < 0:
        raise EarthMindError(f"{name} can't be {value}.", change="0 or more")
