"""What an ask takes of a device's memory, and what there is of it; knows no torch.

What an ask holds while it is under way, its keys and values, is exact. What a stage needs on top
while it runs is an estimate: the largest sum of tensors alive at once, counted over the model at
several sizes (`tests/engine/test_memory.py` counts again). The scratch space of kernels is not in
it; a share of the memory is left alone for that. Stages run one after the other, whoever they
work for, so that one space serves all asks.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

USED = 0.9
"""Share of the free memory that is planned with."""
OBJECTS = 16
"""Objects that one call of the mask decoder draws at most."""


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Bytes that a model takes beside its weights.

    Letters: P vision patches of a tile with the class token; C and F width of the vision tower and
    of its MLP; D and M the same of the language model; S side of the mask tower's input, W width
    of its decoder.
    """

    config: Any
    """`EarthMindConfig`."""
    itemsize: int
    """Bytes of a number."""

    @property
    def position(self) -> int:
        """Keys and values of one position of the language model."""
        text = self.config.text_config
        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        return int(2 * text.num_hidden_layers * text.num_key_value_heads * width * self.itemsize)

    @property
    def next_token(self) -> int:
        """Choosing the next token of one answer: its logits, a few times, in float32."""
        return 4 * 4 * int(self.config.text_config.vocab_size)

    def encoding(self, tiles: int) -> int:
        """The vision tower over the tiles of one view: P (5 C + 2 F) per tile."""
        vision = self.config.vision_config
        patches = (self.config.image_size // vision.patch_size[0]) ** 2 + 1
        each = 5 * vision.hidden_size + 2 * vision.intermediate_size
        return int(tiles * patches * each * self.itemsize)

    def reading(self, positions: int, seen: int) -> int:
        """The language model over some positions that see `seen`: T (4 D + 3 M) + 2 K D + T K."""
        text = self.config.text_config
        each = 4 * text.hidden_size + 3 * text.intermediate_size
        keys = 2 * seen * text.hidden_size  # keys and values repeated for every head
        return int((positions * each + keys + positions * seen) * self.itemsize)

    @property
    def viewing(self) -> int:
        """The mask encoder over one view: (S/4)² times 12 widths of its first stage, or the joint.

        The joint: where the features of all stages become those of the pyramid.
        """
        vision = self.config.sam_config.vision_config
        first, joint = vision.backbone_config.embed_dim_per_stage[0], vision.fpn_hidden_size
        each = max(12 * first, 2 * first + 6 * joint)
        return int(self._cells * each * self.itemsize)

    def drawing(self, objects: int) -> int:
        """The mask decoder: (S/4)² W per object, or two float32 masks of side S.

        A quarter of it are the features of its picture.
        """
        width = self.config.sam_config.mask_decoder_config.hidden_size
        decoder = self._cells * width * self.itemsize
        return int(objects * max(decoder, 2 * 4 * self.config.sam_image_size**2))

    @property
    def _cells(self) -> int:
        return int((self.config.sam_image_size // 4) ** 2)

    @property
    def workspace(self) -> int:
        """What the stages of a pair of views as large as the model takes need at most."""
        tiles = self.config.max_dynamic_patch
        tiles += tiles > 1 and self.config.use_thumbnail
        positions = 2 * tiles * self.config.tokens_per_tile
        return self.peak(tiles=tiles, positions=positions)

    def peak(self, *, tiles: int, positions: int) -> int:
        """The largest stage of an ask.

        Args:
            tiles: Of its largest view.
            positions: Of its prompt, or of the longer part of it.
        """
        return max(
            self.encoding(tiles),
            self.reading(positions, positions),
            self.viewing,
            self.drawing(OBJECTS),
        )


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How the free memory of a device is divided."""

    free: int
    """Bytes free beside the weights."""
    cache: int
    """Bytes for what is kept for further questions."""
    asks: int
    """Bytes for asks under way."""


def divided(free: int, *, cache: int, workspace: int) -> Budget:
    """Divide the free memory.

    Args:
        free: Bytes.
        cache: Bytes wanted for what is kept; a quarter of all at most.
        workspace: Bytes that the stages share.
    """
    cache = min(cache, free // 4)
    return Budget(free=free, cache=cache, asks=max(0, int(free * USED) - cache - workspace))


def plan(*, over: int, tiles: int, per_tile: int, dtype: str) -> str:
    """What would make an ask fit.

    Args:
        over: Bytes that are missing.
        tiles: Squares that its pictures are cut into.
        per_tile: Bytes of each.
        dtype: In which the model is loaded.

    >>> plan(over=250, tiles=7, per_tile=100, dtype="float32")
    "smaller or fewer views (at most 4 of its 7 tiles), or dtype='bfloat16'"
    """
    ways = []
    if (most := tiles - -(-over // per_tile)) > 0:
        ways.append(f"smaller or fewer views (at most {most} of its {tiles} tiles)")
    else:
        ways.append("a shorter prompt, fewer new tokens")
    if dtype == "float32":
        ways.append("dtype='bfloat16'")
    return ", or ".join(ways)


def main_memory(root: Path = Path("/")) -> int:
    """Bytes of main memory that this process may still take: of the machine, and of its container.

    Args:
        root: Where ``proc`` and ``sys`` are.
    """
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if "MemAvailable" in line)
    except (OSError, StopIteration):  # not Linux: half of what is built in
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    group = root / "sys/fs/cgroup"
    for limit, used in (
        (group / "memory.max", group / "memory.current"),
        (group / "memory/memory.limit_in_bytes", group / "memory/memory.usage_in_bytes"),
    ):
        try:
            most, now = int(limit.read_text()), int(used.read_text())
            lines = (used.parent / "memory.stat").read_text().splitlines()
            stat = dict(line.split() for line in lines)
        except (OSError, ValueError):  # no such group, or no limit ("max")
            continue
        # Files that nobody reads just now are counted as used, and given up when needed.
        free = min(free, most - now + int(stat.get("inactive_file", 0)))
    return max(0, free)
