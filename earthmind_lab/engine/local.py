"""EarthMind on this machine: the `Backend` over the model, with what it saw kept in memory.

Three things are kept per engine, under one byte limit: visual tokens per view, SAM 2 features per
view, and the keys and values of what the language model has read. Two rules make an answer from
the cache the same as one without it:

- every view is encoded alone, never in a batch with its neighbours;
- a prompt is always read in two parts, the pictures and then the rest, so that a first question
  that finds its pictures in the cache computes exactly what it would have computed anyway. Only a
  follow-up (a prompt with history) may go on from wherever an earlier ask has ended.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from earthmind_lab.engine.base import Capabilities, Kept, Step, seen_gsd
from earthmind_lab.engine.cache import ByteCache
from earthmind_lab.errors import OutOfDeviceMemory, PromptError
from earthmind_lab.exchange import Found, Options, Prompt, View
from earthmind_lab.model.arrangement import FUSED
from earthmind_lab.model.fusion import weighted
from earthmind_lab.model.modeling import EarthMindForConditionalGeneration
from earthmind_lab.model.processing import EarthMindProcessor, PromptLayout
from earthmind_lab.model.segmentation import SamFeatures
from earthmind_lab.model.tracking import track

CACHE_BYTES = {"cuda": 2 << 30, "cpu": 1 << 30}
"""Default limit of all that an engine keeps, per kind of device."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalEncoded:
    """Visual tokens of some views."""

    tokens: dict[str, Tensor]
    """View hash -> (tiles, T, D)."""
    views_encoded: int
    single: bool
    """Whether each view was read as one square whatever its shape."""


@dataclass(kw_only=True, eq=False)
class LocalState:
    """An answer being written."""

    prompt: Prompt
    options: Options
    cache: DynamicCache
    content: NDArray[np.int64]
    """What each position of `cache` was computed from: a token id, or a negative number that
    stands for one visual token of one view."""
    logits: Tensor
    """(vocabulary,) float32, of the next token."""
    generator: torch.Generator
    tokens_prefilled: int
    sensor_weights: NDArray[np.float32] | None = None
    sam_encodes: int = 0
    fed: list[int] = field(default_factory=list)
    """Written tokens that the model has read back."""
    pending: int | None = None
    """The last written token, not read back yet."""
    marks: list[Tensor] = field(default_factory=list)
    """(D,) last hidden state at each [SEG] that was read back."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Read:
    """Keys and values of something the language model has read."""

    content: NDArray[np.int64]
    layers: tuple[tuple[Tensor, Tensor], ...]

    @property
    def nbytes(self) -> int:
        return sum(_nbytes(tensor) for layer in self.layers for tensor in layer)


class LocalBackend:
    """An EarthMind model on one device.

    Args:
        model: In evaluation mode, on its device.
        processor: Of the same folder.
        capabilities: What to tell about it.
        cache_bytes: Limit of all that is kept; default by device.
    """

    def __init__(
        self,
        model: EarthMindForConditionalGeneration,
        processor: EarthMindProcessor,
        capabilities: Capabilities,
        *,
        cache_bytes: int | None = None,
    ) -> None:
        self.model, self.processor, self._capabilities = model, processor, capabilities
        self._device, self._dtype = model.device, model.dtype
        kind = self._device.type
        self.cache = ByteCache(
            CACHE_BYTES.get(kind, CACHE_BYTES["cpu"]) if cache_bytes is None else cache_bytes
        )

    @property
    def capabilities(self) -> Capabilities:
        """What the model is."""
        return self._capabilities

    def seen_gsd(self, view: View) -> float | None:
        """Metres per pixel that the vision tower sees; exact for a view asked about alone."""
        grid = self.processor.grid(view.shape)
        return seen_gsd(view, tile_px=self.processor.config.image_size, grid=grid)

    def pictures(self, views: Sequence[View]) -> tuple[tuple[NDArray[np.uint8], ...], ...]:
        """The squares that the vision tower reads of each view, before they are normalised."""
        single = self._single(views)
        return tuple(tuple(self.processor.tiles(v.image, single=single)) for v in views)

    @staticmethod
    def _single(views: Sequence[View]) -> bool:
        """Whether each view is one square: several of one sensor are read like frames."""
        return len(views) > 1 and len({view.modality for view in views}) == 1

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of tokens, control tokens included."""
        return self.processor.decode(list(token_ids))

    @torch.inference_mode()
    def encode(self, views: Sequence[View]) -> LocalEncoded:
        """Visual tokens of the views that the language model will read."""
        single = self._single(views)
        tokens: dict[str, Tensor] = {}
        fresh = 0
        with self._device_memory():
            for view in views:
                key = view.hash
                kept = tokens.get(key, self.cache.get("tokens", (key, single)))
                if kept is None:
                    fresh += 1
                    pixels = self._tensor(self.processor.pixel_values(view, single=single))
                    kept = self.model.encode_views(pixels)  # (tiles, T, D)
                    self.cache.put("tokens", (key, single), kept, nbytes=_nbytes(kept))
                tokens[key] = kept
        return LocalEncoded(tokens=tokens, views_encoded=fresh, single=single)

    @torch.inference_mode()
    def prefill(self, prompt: Prompt, options: Options, encoded: LocalEncoded) -> LocalState:
        """Read the prompt, going on from what was read before."""
        self._check(prompt)
        counts = [
            self.processor.tile_count(view.shape, single=encoded.single) for view in prompt.views
        ]
        layout = self.processor.layout(prompt, counts, options)
        with self._device_memory():
            ids = torch.from_numpy(layout.input_ids).to(self._device)  # (1, L)
            tokens, weights = self._block_tokens(prompt, options, layout, encoded, ids)
            embeds = self.model.embed(ids, layout.slots(tokens))  # (1, L, D)
            content = self._content(prompt, layout, encoded, options)
            limit = len(content) - 1 if prompt.history else layout.question_start
            cache, start = self._resume(content, limit)
            cuts = sorted({start, max(start, layout.question_start), len(content)})
            for first, last in itertools.pairwise(cuts):
                output = self.model(
                    inputs_embeds=embeds[:, first:last],
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
        return LocalState(
            prompt=prompt,
            options=options,
            cache=cache,
            content=content,
            logits=output.logits[0, -1].float(),
            generator=torch.Generator().manual_seed(options.seed),
            tokens_prefilled=len(content) - start,
            sensor_weights=weights,
        )

    @torch.inference_mode()
    def step(self, states: Sequence[LocalState]) -> list[Step]:
        """One more token of each answer, greedy or drawn with the ask's own seed."""
        return [self._step(state) for state in states]

    @torch.inference_mode()
    def extend(self, state: LocalState, embeddings: Tensor) -> None:
        """Let the model read embeddings (1, T, D) after what it has written."""
        self._feed_pending(state)
        self._feed(state, embeddings)
        # Their origin is unknown here, so nothing read from now on can serve another ask.
        unknown = np.full(embeddings.shape[1], np.iinfo(np.int64).min)
        state.content = np.concatenate([state.content, state.fed, unknown])
        state.fed = []

    def segment(self, states: Sequence[LocalState]) -> list[tuple[Found, ...]]:
        """The objects of each answer."""
        return [self._segment(state) for state in states]

    @torch.inference_mode()
    def _segment(self, state: LocalState) -> tuple[Found, ...]:
        """Masks of every [SEG] written, all in one call of the mask decoder per frame.

        An object of a series of frames is found on each; its frames follow each other.

        The state of a mark is the one at which the model reads it. A mark that is the very last
        token (the answer was cut off there) is read once more here so that it has its mask; the
        published code drops it.
        """
        if state.pending == self.processor.seg_token_id:
            self._feed_pending(state)
        if not state.marks or not state.prompt.views:
            return ()
        frames = self.processor.arrange(state.prompt, state.options).mask_views
        with self._device_memory():
            drawn = [self._drawn(*frame) for frame in self._masks(state, frames)]
        return tuple(found for of_one_mark in zip(*drawn, strict=True) for found in of_one_mark)

    def release(self, state: LocalState) -> None:
        """Keep what was read for the next question on these views."""
        content = np.concatenate([state.content, np.array(state.fed, np.int64)])
        kept: list[Any] = state.cache.layers  # Qwen2 has plain attention layers only
        layers = tuple((layer.keys, layer.values) for layer in kept)
        lengths = {tensor.shape[2] for layer in layers for tensor in layer}
        if not state.prompt.views or lengths != {len(content)}:
            return  # the second: an ask that broke off in the middle of a pass
        for key, older in self.cache.items("read"):
            if _common(older.content, content) == len(older.content):
                self.cache.drop("read", key)
        read = _Read(content=content, layers=layers)
        key = hashlib.sha256(content.tobytes()).hexdigest()
        self.cache.put("read", key, read, nbytes=read.nbytes)

    def needs(self, prompt: Prompt, options: Options) -> int:  # noqa: ARG002 - the protocol's form
        """Not known here; a full device is found out when it happens."""
        return 0

    def capacity(self) -> int:
        """Not known here, either."""
        return 0

    def kept(self) -> Mapping[str, Kept]:
        """Not counted here."""
        return {}

    def close(self) -> None:
        """Free the device: drops the model and all that was kept."""
        self.cache.clear()
        del self.model
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _check(self, prompt: Prompt) -> None:
        """Refuse what upstream gets wrong without a word.

        Raises:
            PromptError: Views of a pair on different grids; frames to follow without a memory.
        """
        sizes = {view.modality: view.shape for view in prompt.views}
        if (
            len({view.modality for view in prompt.views}) == 2
            and len({view.shape for view in prompt.views}) > 1
        ):
            raise PromptError(
                "The optical and the SAR view do not lie on one grid.",
                found=", ".join(f"{name} {h} x {w}" for name, (h, w) in sizes.items()),
                change="bring both to one grid first",
            )
        if prompt.follow and not self.processor.config.sam_memory:
            raise PromptError(
                "This model can't follow objects into further frames: it has no memory.",
                change="ask about each frame on its own",
            )

    # --- reading ----------------------------------------------------------------------------

    def _block_tokens(
        self,
        prompt: Prompt,
        options: Options,
        layout: PromptLayout,
        encoded: LocalEncoded,
        ids: Tensor,
    ) -> tuple[dict[tuple[int, int], Tensor], NDArray[np.float32] | None]:
        """(T, D) of each picture block, and the sensors' weights where they are fused."""
        if not any(view == FUSED for view, _ in layout.blocks):
            views = {view for view, _ in layout.blocks}
            tokens = {view: encoded.tokens[prompt.views[view].hash] for view in views}
            return {(view, tile): tokens[view][tile] for view, tile in layout.blocks}, None
        sar = next(view for view in prompt.views if view.modality == "sar")
        optical = [view for view in prompt.views if view.modality == "optical"]
        text = self.model.embed(ids[:, layout.question_start :])[0]  # (M, D)
        fused, w_optical, w_sar = weighted(
            torch.cat([encoded.tokens[view.hash] for view in optical]),
            encoded.tokens[sar.hash],
            text,
            composites=len(optical),
            off=options.sensor_off,
        )
        both = torch.stack([w_optical, w_sar]).cpu().numpy()  # (2, tiles, T)
        return {(FUSED, tile): fused[tile] for tile in range(len(fused))}, self._map(both, sar)

    def _map(self, weights: NDArray[np.float32], view: View) -> NDArray[np.float32]:
        """(2, tiles, T) weights as a map (2, h, w); the thumbnail is left out."""
        columns, rows = self.processor.grid(view.shape)
        side = self.processor.config.grid_side
        squares = weights[:, : columns * rows].reshape(2, rows, columns, side, side)
        return squares.transpose(0, 1, 3, 2, 4).reshape(2, rows * side, columns * side)

    def _content(
        self, prompt: Prompt, layout: PromptLayout, encoded: LocalEncoded, options: Options
    ) -> NDArray[np.int64]:
        """(L,) what each position of the prompt holds; see `LocalState.content`."""
        content: NDArray[np.int64] = layout.input_ids[0].copy()
        if not layout.blocks:
            return content
        each = self.processor.config.tokens_per_tile
        # What decides the fused tokens beside the pictures.
        after = f"{options.sensor_off}|".encode() + content[layout.question_start :].tobytes()
        blocks = []
        for view, tile in layout.blocks:
            names = prompt.views if view == FUSED else (prompt.views[view],)
            text = "|".join(one.hash for one in names) + f"|{tile}|{encoded.single}"
            digest = hashlib.sha256(text.encode() + (after if view == FUSED else b"")).digest()
            start = int.from_bytes(digest[:8], "big") >> 2  # room for `each` without overflow
            blocks.append(-1 - start - np.arange(each, dtype=np.int64))
        slots = list(blocks)
        if layout.region_block is not None:
            slots += [blocks[layout.region_block][cells] for cells in layout.region_cells]
        content[content == self.processor.image_token_id] = np.concatenate(slots)
        return content

    def _resume(self, content: NDArray[np.int64], limit: int) -> tuple[DynamicCache, int]:
        """A cache that has read the first positions of `content`, and how many.

        Args:
            content: (L,) of the whole prompt.
            limit: Positions that may come from the cache.
        """
        best, length = None, 0
        for key, read in self.cache.items("read"):
            common = min(_common(read.content, content), limit)
            if common > length:
                best, length = key, common
        cache = DynamicCache()
        # Between the start and `limit` a first question would be cut where no uncached one is.
        if best is None or length < limit < len(content) - 1:
            return cache, 0
        read = self.cache.get("read", best)
        assert read is not None
        for index, (keys, values) in enumerate(read.layers):
            cache.update(keys[:, :, :length], values[:, :, :length], index)
        return cache, length

    # --- writing ----------------------------------------------------------------------------

    def _step(self, state: LocalState) -> Step:
        self._feed_pending(state)
        logprobs = torch.log_softmax(state.logits, dim=-1)
        if state.options.temperature > 0:
            # Drawn on the CPU: the same seed gives the same draws on every device.
            odds = torch.softmax(state.logits.cpu() / state.options.temperature, dim=-1)
            token = int(torch.multinomial(odds, 1, generator=state.generator))
        else:
            token = int(state.logits.argmax())
        state.pending = token
        return Step(token_id=token, logprob=float(logprobs[token]))

    def _masks(
        self, state: LocalState, frames: Sequence[int]
    ) -> Iterator[tuple[int, View, Tensor, Tensor]]:
        """(index, view, logits (N, h, w), IoU (N,)) of each frame, one after the other."""
        views = (*state.prompt.views, *state.prompt.follow)
        prompts = self.model.text_head(torch.stack(state.marks))
        prompted = sum(index < len(state.prompt.views) for index in frames)
        if prompted == len(frames):  # nothing is followed, so nothing need be remembered
            for index in frames:
                logits, iou, _ = self.model.sam(self._sam_features(state, views[index]), prompts)
                yield index, views[index], logits, iou
            return
        followed = track(
            self.model.sam,
            len(frames),
            lambda number: self._sam_features(state, views[frames[number]]),
            prompts,
            prompted=prompted,
        )
        for index, (logits, iou, _) in zip(frames, followed, strict=True):
            yield index, views[index], logits, iou

    def _drawn(self, index: int, view: View, logits: Tensor, iou: Tensor) -> list[Found]:
        """The objects of one frame, in the order of their marks."""
        masks = self.model.resize_logits(logits, view.shape).cpu().numpy()  # (N, H, W)
        return [
            Found(label="", score=score, mask_logits=mask.astype(np.float32), view=index)
            for mask, score in zip(masks, iou.float().clamp(0, 1).tolist(), strict=True)
        ]

    def _feed_pending(self, state: LocalState) -> None:
        """Let the model read its last token, so that what follows can be computed."""
        if state.pending is None:
            return
        token = state.pending
        ids = torch.tensor([[token]], device=self._device)
        hidden = self._feed(state, self.model.embed(ids))
        state.fed.append(token)
        state.pending = None
        if token == self.processor.seg_token_id:
            state.marks.append(hidden)

    def _feed(self, state: LocalState, embeds: Tensor) -> Tensor:
        """One pass over embeddings (1, T, D); the last hidden state (D,)."""
        with self._device_memory():
            output = self.model(
                inputs_embeds=embeds,
                past_key_values=state.cache,
                use_cache=True,
                logits_to_keep=1,
            )
        state.logits = output.logits[0, -1].float()
        hidden: Tensor = output.last_hidden_state[0, -1]
        return hidden

    def _sam_features(self, state: LocalState, view: View) -> SamFeatures:
        key = view.hash
        features: SamFeatures | None = self.cache.get("sam", key)
        if features is None:
            state.sam_encodes += 1
            pixels = self._tensor(self.processor.sam_pixel_values(view))
            features = self.model.segment_features(pixels)
            self.cache.put("sam", key, features, nbytes=features.nbytes)
        return features

    def _tensor(self, array: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(array).to(self._device, self._dtype)

    @contextmanager
    def _device_memory(self) -> Iterator[None]:
        """Turn a full device into our error, and make room for the next ask."""
        try:
            yield
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not _is_memory(error):
                raise
            self.cache.clear()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            raise OutOfDeviceMemory(
                f"The ask does not fit into the memory of {self._device}.",
                found=str(error).splitlines()[0],
                change="fewer or smaller views, or a device with more memory",
            ) from error


def _is_memory(error: Any) -> bool:
    """A full GPU has a class of its own in torch, full main memory only a sentence."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _common(first: NDArray[np.int64], second: NDArray[np.int64]) -> int:
    """Length of the common start."""
    shorter = min(len(first), len(second))
    differs = np.flatnonzero(first[:shorter] != second[:shorter])
    return int(differs[0]) if len(differs) else shorter


def _nbytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
