"""What frozen towers see of a picture, computed once and kept.

Where the vision tower isn't trained, an epoch's second look at a picture costs a look-up: of the
vision tower's output, or of the visual tokens where the projector stays too, and of SAM 2's
pyramid. Keys are the hash of the view and that of the weights, so a cache serves many trainings.

What is there stays while there is no room: an epoch comes round in a circle, and what was used
longest ago is what it needs next.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from earthmind_lab.exchange import View
from earthmind_lab.finetune.sections import Cache

Held = tuple[Tensor, ...]
STALE = 3600.0
"""Seconds after which nobody writes a draft any more."""


class Store(Protocol):
    """Keeps tensors on the CPU by a key."""

    def get(self, key: str) -> Held | None:
        """What is there; None = nothing."""
        ...

    def put(self, key: str, held: Held) -> None:
        """Keep it if there is room."""
        ...


class MemoryStore:
    """In main memory.

    Args:
        limit: Most bytes.
    """

    def __init__(self, limit: float) -> None:
        self.limit, self.nbytes = limit, 0
        self._held: dict[str, Held] = {}

    def get(self, key: str) -> Held | None:
        """What is there; None = nothing."""
        return self._held.get(key)

    def put(self, key: str, held: Held) -> None:
        """Keep it if there is room."""
        size = sum(tensor.nbytes for tensor in held)
        if key not in self._held and self.nbytes + size <= self.limit:
            self._held[key] = held
            self.nbytes += size


class DiskStore:
    """One safetensors file per key, in a folder per model.

    Several processes may use it; a file that goes or is damaged is computed anew.

    Args:
        folder: Of all models.
        model: Name of this one's folder; those of others go first when room is needed.
        limit: Most bytes of all.
    """

    def __init__(self, folder: Path, model: str, limit: float) -> None:
        self.folder, self.own, self.limit = folder, folder / model, limit
        self.own.mkdir(parents=True, exist_ok=True)
        for draft in self.own.glob("*.part"):
            with suppress(OSError):  # gone meanwhile
                if time.time() - draft.stat().st_mtime > STALE:
                    draft.unlink()
        self.nbytes = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))

    def get(self, key: str) -> Held | None:
        """What is there; None = nothing."""
        path = self._path(key)
        if not path.exists():
            return None
        try:
            held = load_file(path)
        except (OSError, SafetensorError):
            path.unlink(missing_ok=True)
            return None
        return tuple(held[str(index)] for index in range(len(held)))

    def put(self, key: str, held: Held) -> None:
        """Keep it if there is room; a disk that is full keeps nothing and stops nothing."""
        path, size = self._path(key), sum(tensor.nbytes for tensor in held)
        if path.exists() or not self._room(size):
            return
        draft = path.with_suffix(f".{os.getpid()}.part")  # another may write the same just now
        try:
            save_file({str(n): tensor.contiguous() for n, tensor in enumerate(held)}, draft)
            draft.replace(path)
            self.nbytes += size
        except (OSError, SafetensorError):
            with suppress(OSError):
                draft.unlink(missing_ok=True)

    def _room(self, size: int) -> bool:
        """Whether it fits, if need be after the features of other models have gone."""
        others = sorted(
            (path for path in self.folder.iterdir() if path.is_dir() and path != self.own),
            key=lambda path: path.stat().st_mtime,
        )
        while self.nbytes + size > self.limit and size <= self.limit and others:
            gone = others.pop(0)
            self.nbytes -= sum(file.stat().st_size for file in gone.glob("*.safetensors"))
            shutil.rmtree(gone, ignore_errors=True)
        return self.nbytes + size <= self.limit

    def _path(self, key: str) -> Path:
        return self.own / f"{key}.safetensors"


class FrozenFeatures:
    """Encodes views with the towers that a training leaves as they are; see `batch.Encoded`.

    Args:
        step: The model that is trained.
        processor: Of the model.
        store: Keeps what was seen.

    Attributes:
        key: ``visual_tokens`` or ``vision_features``; ``pixel_values`` where the tower is trained.
        encoded: How many times a tower was used.
    """

    def __init__(self, step: Any, processor: Any, store: Store) -> None:
        self._model, self._processor, self._store = step.model, processor, store
        step.train(step.training)  # frozen towers see as they do when they answer
        sam = self._model.sam
        self._masks = _frozen(sam.sam2.vision_encoder) and _frozen(sam.fpn_norms)
        self.key = "pixel_values"
        if _frozen(self._model.vision):
            self.key = "visual_tokens" if _frozen(self._model.projector) else "vision_features"
        self.encoded = 0

    def squares(self, view: View, *, single: bool) -> Tensor:
        """What the vision tower makes of each square, as `key` says."""

        def pixels() -> Tensor:
            return torch.from_numpy(self._processor.pixel_values(view, single=single))

        def encode() -> Held:
            seen = self._model.vision_features(self._ready(pixels()))
            return (self._model.project(seen) if self.key == "visual_tokens" else seen,)

        if self.key == "pixel_values":
            return pixels()
        name = "tokens" if self.key == "visual_tokens" else "vision"
        return self._kept(f"{name}{'-single' if single else ''}-{view.hash}", encode)[0]

    def levels(self, view: View) -> tuple[Tensor, Tensor, Tensor] | None:
        """SAM 2's pyramid; None where that is trained."""
        if not self._masks:
            return None

        def encode() -> Held:
            pixels = torch.from_numpy(self._processor.sam_pixel_values(view))
            held: Held = self._model.sam.pyramid(self._ready(pixels))
            return held

        fine, middle, coarse = self._kept(f"sam-{view.hash}", encode)
        return fine, middle, coarse

    def _kept(self, key: str, encode: Callable[[], Held]) -> Held:
        held = self._store.get(key)
        if held is None:
            with torch.no_grad():
                held = tuple(tensor.cpu() for tensor in encode())
            self.encoded += 1
            self._store.put(key, held)
        return held

    def _ready(self, pixels: Tensor) -> Tensor:
        return pixels.to(self._model.device, self._model.dtype)


def open_store(cache: Cache, step: Any, weights: str, home: Path) -> Store | None:
    """Where features are kept; None where nothing can be kept.

    Args:
        cache: Of the recipe.
        step: The model that is trained.
        weights: Hash of the weights that it began from.
        home: Folder for caches.
    """
    if cache.where == "none" or not cache.bytes:
        return None
    if cache.where == "memory":
        return MemoryStore(cache.bytes)
    config = step.model.config
    sizes = [config.image_size, config.sam_image_size, config.max_dynamic_patch]
    read = [weights, str(step.model.dtype), *map(str, sizes)]
    model = hashlib.sha256("|".join(read).encode()).hexdigest()[:16]
    folder = Path(cache.folder).expanduser() if cache.folder else home / "features"
    return DiskStore(folder, model, cache.bytes)


def _frozen(part: nn.Module) -> bool:
    return not any(weight.requires_grad for weight in part.parameters())
