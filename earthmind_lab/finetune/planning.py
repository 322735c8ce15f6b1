"""What a training takes, before its first step: memory from file headers, time from one step.

Weights, gradients and the optimiser's two moments are exact. What a pass keeps for the way back is
a bound, counted in the widths of the model (`tests/finetune/test_planning.py` counts the tensors
that torch really keeps).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from earthmind_lab.engine.preflight import KERNELS
from earthmind_lab.engine.room import Room, room_of, short
from earthmind_lab.errors import OutOfDeviceMemory
from earthmind_lab.finetune import zero
from earthmind_lab.finetune.building import part_of
from earthmind_lab.finetune.recipe import Recipe
from earthmind_lab.model.memory import (
    ITEMSIZE,
    Sizes,
    draw_bytes,
    encode_bytes,
    features_pass_bytes,
)
from earthmind_lab.progress import duration

MOMENTS = 8
"""Bytes per trained number that AdamW keeps."""
QUESTION, REPLY = 192, 64
"""Tokens of an example beside its pictures, and those of them that are learned."""
DRAWN = 5
"""Objects of an example."""
_LAYER = re.compile(r"^language\.model\.layers\.\d+\..*\.(\w+)\.weight$")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a recipe takes on a device."""

    recipe: Recipe
    room: Room
    frozen: int
    """Numbers that stay."""
    trained: int
    """Numbers that are trained."""
    weights: int
    """Bytes, as `gradients`, `optimiser` and `activations`."""
    gradients: int
    optimiser: int
    activations: int
    processes: int = 1
    examples: int | None = None
    """How many are drawn in an epoch; with packing rows of them."""
    seconds_per_step: float | None = None
    """Measured; None = not."""
    parts: dict[str, int] = field(default_factory=dict)
    """Trained numbers of each part."""

    @property
    def needs(self) -> int:
        """Bytes in all, per process."""
        kernels = KERNELS.get(self.room.device.partition(":")[0], 0)
        held = self.weights + self.gradients + self.optimiser
        if self.recipe.parallel.kind == "fsdp2":
            held = math.ceil(held / self.processes)
        if self.recipe.parallel.kind == "deepspeed":
            held = self.weights + zero.held_bytes(self.recipe, self.trained, self.processes)
        return held + self.activations + kernels

    @property
    def fits(self) -> bool:
        """Whether there is room; what nobody can tell is tried."""
        return self.room.free is None or self.needs <= self.room.free

    @property
    def steps(self) -> int | None:
        """Of the optimiser; None = the number of examples isn't known."""
        if self.recipe.steps or self.examples is None:
            return self.recipe.steps or None
        recipe = self.recipe
        passes = math.ceil(self.examples / (recipe.batch * self.processes))
        return math.ceil(math.ceil(passes / recipe.accumulation) * recipe.epochs)

    @property
    def seconds(self) -> float | None:
        """Of all steps, about."""
        if self.seconds_per_step is None or self.steps is None:
            return None
        return self.steps * self.seconds_per_step

    def check(self) -> None:
        """Refuse what doesn't fit.

        Raises:
            OutOfDeviceMemory: With what would need less.
        """
        if self.fits:
            return
        changes = [] if self.recipe.checkpointing else ["checkpointing=true"]
        changes += ["batch=1"] if self.recipe.batch > 1 else []
        changes += ["packing=1"] if self.recipe.packing > 1 else []
        changes += ["precision=bfloat16"] if self.recipe.precision == "float32" else []
        if "embeddings" in self.recipe.train:
            changes += ["train without embeddings"]
        changes += ["method=lora"] if self.recipe.method == "full" else ["lora.rank=8"]
        raise OutOfDeviceMemory(
            f"Training {self.recipe.model} by {self.recipe.name} does not fit on "
            f"{self.room.device}.",
            found=f"{short(self.needs)} needed, {self.room}",
            change=", or ".join(changes),
        )

    def explain(self) -> tuple[str, ...]:
        """The numbers, each in a sentence."""
        parts = ", ".join(f"{name} {count:,}" for name, count in self.parts.items())
        held = f"weights {short(self.weights)}, gradients {short(self.gradients)}"
        beside = f"optimiser {short(self.optimiser)}, one pass {short(self.activations)} at most"
        lines = [
            f"Trained: {self.trained:,} of {self.trained + self.frozen:,} numbers ({parts}).",
            f"Memory: {held}, {beside}.",
            f"In all {short(self.needs)} on {self.room.device}; {self.room}: "
            + ("fits." if self.fits else "does not fit."),
        ]
        if self.seconds_per_step is not None:
            each = f"Time: {self.seconds_per_step:.3g} s per step"
            all_of = "" if self.seconds is None else f", {duration(self.seconds)} for {self.steps}"
            lines.append(f"{each}{all_of} (measured by one step).")
        return tuple(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        names = ("frozen", "trained", "weights", "gradients", "optimiser", "activations", "parts",
                 "needs", "fits", "steps", "seconds_per_step", "seconds")  # fmt: skip
        return {name: getattr(self, name) for name in names} | {
            "device": self.room.device, "free": self.room.free, "recipe": self.recipe.name,
        }  # fmt: skip


def plan(
    recipe: Recipe,
    *,
    examples: int | None = None,
    processes: int | None = None,
    look: Callable[[str], Room] = room_of,
) -> Plan:
    """What a recipe takes; reads no weight, and of a published checkpoint no file.

    Args:
        recipe: Of the training.
        examples: How many there are, or packed rows of them, for the number of steps.
        processes: That it is spread over; default: as ``torchrun`` says.
        look: Tells the memory of a device.

    Raises:
        ModelNotFound: No such model.
    """
    from earthmind_lab.finetune import parallel
    from earthmind_lab.model.keymap import rename
    from earthmind_lab.model.opening import choose_device
    from earthmind_lab.settings import Settings

    config, tensors = _outline(recipe.model)
    itemsize = ITEMSIZE[recipe.precision]
    frozen = quarter = adapters = 0
    parts = dict.fromkeys(recipe.train, 0)
    for name, shape in tensors:
        name = rename(name)
        numbers, part = math.prod(shape), part_of(name)
        layer = _LAYER.match(name)
        if layer and recipe.method != "full":
            if layer[1] in recipe.lora.targets:
                adapters += recipe.lora.rank * sum(shape)
                adapters += shape[0] if recipe.method == "dora" else 0
            if recipe.method == "qlora" and len(shape) == 2:
                quarter += numbers
                continue
        if part in parts and not (part == "language" and recipe.method != "full"):
            parts[part] += numbers
        else:
            frozen += numbers
    sizes = Sizes.of(config.to_dict())
    if recipe.method != "full":
        parts["language"] = adapters
    if "gate" in parts:
        parts["gate"] = 2 * sizes.width
    trained = sum(parts.values())
    return Plan(
        recipe=recipe,
        room=look(choose_device(recipe.device or Settings.from_env().device)),
        frozen=frozen + quarter,
        trained=trained,
        # Four bits and the scales of their blocks.
        weights=frozen * itemsize + math.ceil(0.55 * quarter) + 4 * trained,
        gradients=4 * trained,
        optimiser=MOMENTS * trained,
        activations=pass_bytes(recipe, sizes),
        processes=processes or parallel.processes(),
        examples=examples,
        parts=parts,
    )


def pass_bytes(recipe: Recipe, sizes: Sizes) -> int:
    """What one pass takes at its heaviest moment, with the largest pictures that there can be.

    Args:
        recipe: Its batch, packing, precision, checkpointing, adapters and forms.
        sizes: Of the model.
    """
    itemsize = ITEMSIZE[recipe.precision]
    views = 1 if recipe.forms == "image" else 2
    tiles = views * sizes.tiles(sizes.most_tiles) * recipe.batch
    rows = _rows(recipe, tiles // recipe.batch * sizes.tile_tokens)
    each = sum(rows)
    asked = recipe.batch * recipe.packing
    held = kept_bytes(
        recipe,
        sizes,
        tiles=tiles,
        tokens=recipe.batch * each,
        learned=asked * REPLY,
        objects=asked * DRAWN,
    )
    if recipe.packing > 1:  # what each token sees, as yes or no and as a number
        held += recipe.batch * len(rows) * max(rows) ** 2 * (1 + itemsize)
    towers = max(
        encode_bytes(sizes, tiles, itemsize), recipe.batch * features_pass_bytes(sizes, itemsize)
    )
    if {"vision", "mask_encoder"} & {*recipe.train}:
        towers *= 64  # every block of a tower keeps what a frozen one drops
    again = recipe.batch * each * _layer_bytes(recipe, sizes, itemsize)
    return int(held + max(towers, again if recipe.checkpointing else 0))


def _rows(recipe: Recipe, shown: int) -> list[int]:
    """Tokens of the rows that one scene of `shown` visual tokens takes.

    >>> recipe = Recipe.load("lora").replace(packing=10, max_length=4096)
    >>> _rows(recipe, 3584), _rows(recipe, 512)
    ([3968, 3968, 3968, 3968, 3968], [2432])
    """
    room = max(1, (recipe.max_length - shown) // QUESTION)
    counts = [min(room, recipe.packing - first) for first in range(0, recipe.packing, room)]
    return [min(recipe.max_length, shown + count * QUESTION) for count in counts]


def kept_bytes(
    recipe: Recipe, sizes: Sizes, *, tiles: int, tokens: int, learned: int, objects: int
) -> int:
    """What a pass with frozen towers keeps for the way back.

    Args:
        recipe: Its precision, checkpointing and adapters.
        sizes: Of the model.
        tiles: Squares of all pictures of a batch.
        tokens: Of all its examples.
        learned: Those of them that are.
        objects: That are drawn.
    """
    itemsize = ITEMSIZE[recipe.precision]
    between = 4 * tokens * sizes.width
    layer = between if recipe.checkpointing else tokens * _layer_bytes(recipe, sizes, itemsize)
    head = learned * (12 * sizes.vocabulary + 4 * sizes.width) + 3 * between
    shape = (sizes.mask_px // 4, sizes.mask_px // 4)
    levels = 4 * sizes.mask_width * sizes.mask_cells * 21 // 16
    drawn = 4 * draw_bytes(sizes, objects, shape, 4) + min(objects, recipe.batch) * levels
    seen = tiles * sizes.tile_tokens * 4 * (6 * sizes.width + 5 * sizes.vision_width)
    return int(sizes.layers * layer + head + drawn + seen)


def _layer_bytes(recipe: Recipe, sizes: Sizes, itemsize: int) -> int:
    """What a decoder layer keeps of one token."""
    norms = 2 * (12 + itemsize) * sizes.width
    attention = (5 * sizes.query_width + 6 * sizes.key_width) * itemsize
    inner = 5 * sizes.inner * itemsize
    kept = norms + attention + inner
    if recipe.method == "full":
        return kept
    wide = {"o_proj": sizes.query_width, "down_proj": sizes.inner}
    # Each adapter keeps its input in float32, once more where it drops some, and which.
    copies = 9 if recipe.lora.dropout else 4
    inputs = sum(wide.get(name, sizes.width) for name in recipe.lora.targets)
    if recipe.method == "dora":
        # The output of the frozen map, and the weight with its new length.
        inputs += sum(
            2 * {"gate_proj": sizes.inner, "up_proj": sizes.inner}.get(name, sizes.width)
            for name in recipe.lora.targets
        )
    ranks = 4 * recipe.lora.rank * len(recipe.lora.targets)
    return kept + copies * inputs + ranks


def measured(found: Plan, trainer: Any) -> Plan:
    """With the time of a step, from one pass forth and back that teaches nothing.

    Args:
        found: Memory.
        trainer: A `LabTrainer`.
    """
    import time

    import torch

    step, recipe = trainer.model, found.recipe
    points, drawn = step.generator.get_state(), torch.get_rng_state()
    took = []
    for _, inputs in zip(range(2), trainer.get_train_dataloader(), strict=False):
        inputs.pop("names", None)
        began = time.perf_counter()
        with trainer.casting():
            loss = step(**trainer._prepare_inputs(inputs)).loss  # noqa: SLF001 - the library's door
        loss.backward()
        if loss.device.type == "cuda":
            torch.cuda.synchronize()
        took.append(time.perf_counter() - began)
    step.zero_grad(set_to_none=True)
    step.generator.set_state(points)
    torch.set_rng_state(drawn)
    # The first pass also loads kernels.
    return replace(found, seconds_per_step=took[-1] * recipe.accumulation)


def _outline(model: str) -> tuple[Any, list[tuple[str, tuple[int, ...]]]]:
    """Configuration of a model, and name and shape of each of its weights."""
    from earthmind_lab.model.convert import read_config
    from earthmind_lab.model.files import check_folder, read_header
    from earthmind_lab.model.outline import published_outline
    from earthmind_lab.model.published import local_folder, row_of

    if row_of(model) is not None:
        config, shapes = published_outline()
        return config, list(shapes.items())
    folder = local_folder(model)
    return read_config(folder), [
        (name, tuple(about["shape"]))
        for file in check_folder(folder)
        for name, about in read_header(file).items()
    ]
