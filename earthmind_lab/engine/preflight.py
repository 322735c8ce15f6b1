"""Before a model is loaded: what it needs on this device, what fits, and what was chosen.

Worked out from config.json and the headers of the weight files, in milliseconds; no weight is
read and torch is asked for nothing but the free memory of a GPU.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from earthmind_lab.engine.memory import SHARE
from earthmind_lab.engine.room import Room, room_of, short
from earthmind_lab.engine.weights import Weights, dtypes_for
from earthmind_lab.errors import EngineError, EngineUnavailable, OutOfDeviceMemory
from earthmind_lab.model.files import is_foreign
from earthmind_lab.model.memory import (
    ITEMSIZE,
    NEW,
    OBJECTS,
    QUESTION,
    activation_bytes,
    kv_bytes_per_token,
    pair_bytes,
)

KERNELS = {"cuda": 512 << 20}
"""Bytes that kernels and their workspaces take, per kind of device."""


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """What a model needs on a device, and whether that is there."""

    weights: Weights
    room: Room
    dtype: str
    bits: int | None = None
    """Of the numbers in the language part, where they have fewer than the dtype."""
    squares: int | None = None
    """Most tiles that a picture is cut into; None: a model of another kind."""
    usual: str | None = None
    """The dtype that a device with room gets; None = it was asked for."""
    remedies: tuple[str, ...] = ()
    """What would fit, best first; empty where it fits as it is."""

    @property
    def ask(self) -> int:
        """Bytes that one pair takes; 0 where nobody knows."""
        if self.weights.sizes is None or self.squares is None:
            return 0
        return pair_bytes(self.weights.sizes, ITEMSIZE[self.dtype], self.squares)

    @property
    def needs(self) -> int:
        """Bytes in all: weights, one pair, and what has to be left beside them."""
        kernels = KERNELS.get(self.room.device.partition(":")[0], 0)
        return self._held + math.ceil(self.ask / SHARE) + kernels

    @property
    def fits(self) -> bool:
        """Whether it does; what nobody can tell is tried."""
        return self.room.free is None or self.needs <= self.room.free

    @property
    def lowered(self) -> bool:
        """Whether pictures are cut into fewer tiles than the model could read."""
        sizes = self.weights.sizes
        return sizes is not None and self.squares is not None and self.squares < sizes.most_tiles

    @property
    def compromised(self) -> bool:
        """Whether less was taken than a larger device would have got unasked."""
        return self.lowered or self.usual not in (None, self.dtype)

    @property
    def max_side_px(self) -> int | None:
        """Longest side that is read without shrinking, where the limit is lowered."""
        if not self.lowered or self.squares is None or self.weights.sizes is None:
            return None
        return math.isqrt(self.squares) * self.weights.sizes.tile_px

    def __str__(self) -> str:
        """One line."""
        parts = [f"weights {short(self._held)} in {self._form}"]
        if self.squares is not None:
            parts.append(f"{short(self.ask)} for a pair of {_tiles(self.squares)}")
        line = f"{self.weights.name} on {self.room.device}: {', '.join(parts)}; {self.room}: "
        if not self.fits:
            line += f"does not fit, {short(self.needs - (self.room.free or 0))} short"
            return line + (f"; {self.remedies[0]} would" if self.remedies else "")
        line += "fits" if self.usual in (None, self.dtype) else f"fits, {self.usual} would not"
        return line + (f"; views of at most {self.max_side_px} px" if self.lowered else "")

    def explain(self) -> tuple[str, ...]:
        """The numbers behind the line, each in a sentence."""
        weights, sizes, itemsize = self.weights, self.weights.sizes, ITEMSIZE[self.dtype]
        each = ", ".join(f"{short(weights.nbytes(d))} in {d}" for d in ("float32", "bfloat16"))
        eight = f", {short(weights.nbytes(self.dtype, 8))} with an 8-bit language part"
        lines = [f"Weights: {each}{eight if weights.language else ''}."]
        if sizes is None or self.squares is None:
            lines.append("A question: not known for a model of another kind.")
        else:
            tiles = sizes.tiles(self.squares)
            tokens = 2 * tiles * sizes.tile_tokens + QUESTION
            kept = kv_bytes_per_token(sizes, itemsize)
            peak = activation_bytes(sizes, itemsize, tiles=tiles, tokens=tokens)
            lines.append(
                f"A pair: {2 * tiles} tiles of {sizes.tile_tokens} tokens, {tokens} with the "
                f"question, {NEW} written; {kept / 1000:.1f} kB each."
            )
            lines.append(f"Heaviest moment of a pass, with {OBJECTS} masks: {short(peak)}.")
        beside = self.needs - self.ask - self._held
        lines.append(f"Left for what is kept between questions, kernels and gaps: {short(beside)}.")
        lines.append(f"In all {short(self.needs)} on {self.room.device}; {self.room}.")
        if self.remedies:
            lines.append(f"What would fit: {'; or '.join(self.remedies)}.")
        return tuple(lines)

    def refused(self) -> OutOfDeviceMemory:
        """The error of a model that does not fit."""
        return OutOfDeviceMemory(
            f"{self.weights.name} does not fit on {self.room.device} in {self._form}.",
            found=f"{short(self.needs)} needed, {self.room}",
            change=", or ".join(self.remedies),
        )

    @property
    def _held(self) -> int:
        return self.weights.nbytes(self.dtype, self.bits)

    @property
    def _form(self) -> str:
        return (
            self.dtype
            if self.bits is None
            else f"{self.dtype} with a {self.bits}-bit language part"
        )


def preflight(
    weights: Weights,
    device: str,
    *,
    dtype: str | None = None,
    bits: int | None = None,
    look: Callable[[str], Room] = room_of,
) -> Preflight:
    """Choose what fits.

    In this order: all tiles in the best dtype, all tiles in a smaller one, fewer tiles. What was
    asked for stays. Fewer bits come only when asked for: they change answers.

    Args:
        weights: Of the model.
        device: Of torch.
        dtype: Asked for; None = choose.
        bits: Asked for.
        look: Tells the memory of a device.
    """
    room = look(device)
    plan = _best(weights, room, dtype, bits)
    return plan if plan.fits else replace(plan, remedies=tuple(_remedies(plan, dtype, look)))


def check_bits(bits: int | None, folder: Path) -> None:
    """Refuse what can't be quantized, before anything is read.

    Args:
        bits: Asked for; None = as many as the dtype has.
        folder: Of the model.

    Raises:
        EngineError: Not 8, or a model of another kind.
        EngineUnavailable: torchao is not installed.
    """
    if bits is None:
        return
    if bits != 8:
        # Of torchao's 4-bit forms the one that runs on every device keeps a byte per number.
        raise EngineError(f"There is no quantize={bits!r}.", change="quantize=8, or None")
    if is_foreign(folder):
        raise EngineError(
            f"{folder.name} is a model of another kind; only EarthMind's language part can be "
            "quantized here.",
            change="quantize=None",
        )
    if importlib.util.find_spec("torchao") is None:
        raise EngineUnavailable(
            "A language part of 8 bits needs torchao.",
            found="no torchao",
            change="pip install torchao, or quantize=None",
        )


def _best(weights: Weights, room: Room, dtype: str | None, bits: int | None) -> Preflight:
    """The first that fits, else the least that was tried."""
    dtypes = dtypes_for(weights, room.device) if dtype is None else (dtype,)
    most = None if weights.sizes is None else weights.sizes.most_tiles
    tries = [(one, most) for one in dtypes]
    tries += [(dtypes[-1], fewer) for fewer in range((most or 1) - 1, 0, -1)]
    plans = [
        Preflight(
            weights=weights,
            room=room,
            dtype=one,
            bits=bits,
            squares=squares,
            usual=dtypes[0] if dtype is None else None,
        )
        for one, squares in tries
    ]
    return next((plan for plan in plans if plan.fits), plans[-1])


def _remedies(plan: Preflight, asked: str | None, look: Callable[[str], Room]) -> Iterator[str]:
    """What the user could ask for instead; the last is always possible."""
    weights, room = plan.weights, plan.room
    if asked == "float32" and _best(weights, room, "bfloat16", plan.bits).fits:
        yield "dtype='bfloat16'"
    dtype = "bfloat16" if plan.dtype == "float32" else plan.dtype
    if plan.bits is None and weights.language and _best(weights, room, dtype, 8).fits:
        yield "quantize=8" if asked in (None, dtype) else f"dtype={dtype!r} with quantize=8"
    if room.device != "cpu" and _best(weights, look("cpu"), asked, plan.bits).fits:
        yield "device='cpu'"
    yield f"a device with {math.ceil(plan.needs / 1e8) / 10:.1f} GB free"


def _tiles(count: int) -> str:
    return "one tile each" if count == 1 else f"{count} tiles each"
