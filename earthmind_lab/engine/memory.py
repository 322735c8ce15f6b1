"""How a device's memory is divided, and what an ask takes of it; knows no torch.

What the parts of a model take is `model.memory`'s to know; this file adds up. Stages run one after
the other, whoever they work for, so that one space, as large as the largest stage of a usual ask,
serves all asks. The scratch space of kernels is in no count; a share of the memory is left alone
for that.
"""

from __future__ import annotations

from dataclasses import dataclass

from earthmind_lab.model.memory import (
    QUESTION,
    Sizes,
    activation_bytes,
    kv_bytes_per_token,
    logits_bytes,
)

USED = 0.9
"""Share of the free memory that is planned with."""
KEPT = 0.25
"""Share that what is kept for further questions gets at most."""
SHARE = USED - KEPT
"""Share that asks under way find in any case, the space of their stages included."""


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Bytes that asks of one model take beside its weights."""

    sizes: Sizes
    itemsize: int
    """Bytes of a number."""

    @property
    def position(self) -> int:
        """Keys and values of one position of the language model."""
        return kv_bytes_per_token(self.sizes, self.itemsize)

    @property
    def workspace(self) -> int:
        """What the stages of a pair of views as large as the model takes need at most."""
        tiles = self.sizes.tiles(self.sizes.most_tiles)
        tokens = 2 * tiles * self.sizes.tile_tokens + QUESTION
        return activation_bytes(self.sizes, self.itemsize, tiles=tiles, tokens=tokens)

    @property
    def pair(self) -> int:
        """What an ask about such a pair takes beside that space."""
        tiles = self.sizes.tiles(self.sizes.most_tiles)
        tokens = 2 * tiles * self.sizes.tile_tokens + QUESTION
        return self.ask(tiles=tiles, tokens=tokens, positions=tokens)

    def ask(
        self, *, tiles: int, tokens: int, positions: int, shape: tuple[int, int] | None = None
    ) -> int:
        """What one ask takes: keys and values, logits, and what its stages take over the space.

        Args:
            tiles: Of its largest view.
            tokens: Of its prompt.
            positions: That are set aside for prompt and answer.
            shape: (H, W) of its largest view; None without any.
        """
        peak = activation_bytes(self.sizes, self.itemsize, tiles=tiles, tokens=tokens, shape=shape)
        stays = positions * self.position + logits_bytes(self.sizes, self.itemsize)
        return stays + max(0, peak - self.workspace)


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
        cache: Bytes wanted for what is kept; `KEPT` of all at most.
        workspace: Bytes that the stages share.
    """
    cache = min(cache, int(free * KEPT))
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
