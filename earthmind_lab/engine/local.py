"""EarthMind on this machine: the `Backend` over the model, with what it saw kept in memory.

Three things are kept per engine, under one byte limit: visual tokens per view, SAM 2 features per
view, and the keys and values of what the language model has read. Answers under way share the
passes of the language model (`slots`). Three rules make an answer the same whatever is kept and
whoever else is asking:

- every view is encoded alone, never in a batch with its neighbours;
- a prompt is always read in two parts, the pictures (alone) and then the rest, so that a first
  question that finds its pictures in the cache computes exactly what it would have computed
  anyway. Only a follow-up (a prompt with history) may go on from wherever an earlier ask has ended;
- before masks are drawn, all that follows the pictures is read once more, alone and in one pass:
  what was read together with others differs in the last bits, which can move a mask's edge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earthmind_lab.engine.base import Capabilities, Kept, Step, seen_gsd
from earthmind_lab.engine.cache import ByteCache
from earthmind_lab.engine.composing import LocalEncoded, compose, laid_out
from earthmind_lab.engine.device import device_memory, free_memory
from earthmind_lab.engine.drawing import Drawer, Drawing
from earthmind_lab.engine.layers import heard_between
from earthmind_lab.engine.memory import Footprint, divided, plan
from earthmind_lab.engine.slots import Slots, rounded
from earthmind_lab.engine.switch import Tuned
from earthmind_lab.engine.tuned import Files, read_adapter
from earthmind_lab.engine.voices import Voices
from earthmind_lab.engine.writing import LocalState, Writer
from earthmind_lab.errors import OutOfDeviceMemory, PromptError
from earthmind_lab.exchange import Found, Options, Prompt, View
from earthmind_lab.model.memory import Sizes
from earthmind_lab.model.modeling import EarthMindForConditionalGeneration
from earthmind_lab.model.processing import EarthMindProcessor

CACHE_BYTES = {"cuda": 2 << 30, "cpu": 1 << 30}
"""Default limit of all that an engine keeps, per kind of device."""


class LocalBackend:
    """An EarthMind model on one device.

    Args:
        model: In evaluation mode, on its device.
        processor: Of the same folder.
        capabilities: What to tell about it.
        cache_bytes: Limit of all that is kept; default by device.
        free: Bytes of the device's memory beside the weights; default: what is free now.
    """

    def __init__(
        self,
        model: EarthMindForConditionalGeneration,
        processor: EarthMindProcessor,
        capabilities: Capabilities,
        *,
        cache_bytes: int | None = None,
        free: int | None = None,
    ) -> None:
        self.model, self.processor, self._capabilities = model, processor, capabilities
        self._device, self._dtype = model.device, model.dtype
        self._footprint = Footprint(
            sizes=Sizes.of(model.config.to_dict()), itemsize=self._dtype.itemsize
        )
        wanted = CACHE_BYTES.get(self._device.type, CACHE_BYTES["cpu"])
        budget = divided(
            free_memory(self._device) if free is None else free,
            cache=wanted if cache_bytes is None else cache_bytes,
            workspace=self._footprint.workspace,
        )
        self._capacity = budget.asks
        self.cache = ByteCache(budget.cache if cache_bytes is None else cache_bytes)
        self._voices = Voices(model, self.cache)
        self._writer = Writer(model, self._voices.speak)
        self._drawer = Drawer(model, processor, self.cache)
        self._unheard: Callable[[], None] = lambda: None

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

    def listen(self, heed: Callable[[], None]) -> None:
        """From now on call `heed` between the layers of all towers, so also between views."""
        self._unheard()
        self._unheard = heard_between(self.model, heed)

    @torch.inference_mode()
    def encode(self, views: Sequence[View], adapter: str | None = None) -> LocalEncoded:
        """Visual tokens of the views that the language model will read."""
        voice = self._voices.of(Options(adapter=adapter))
        self._voices.speak(voice)
        single = self._single(views)
        tokens: dict[str, Tensor] = {}
        fresh = 0
        with self._device_memory():
            for view in views:
                key = view.hash
                kept = tokens.get(key, self.cache.get("tokens", (key, single, voice.tokens)))
                if kept is None:
                    fresh += 1
                    pixels = self._tensor(self.processor.pixel_values(view, single=single))
                    kept = self.model.encode_views(pixels)  # (tiles, T, D)
                    place = (key, single, voice.tokens)
                    self.cache.put("tokens", place, kept, nbytes=kept.nbytes)
                tokens[key] = kept
        return LocalEncoded(tokens=tokens, views_encoded=fresh, single=single)

    @torch.inference_mode()
    def prefill(self, prompt: Prompt, options: Options, encoded: LocalEncoded) -> LocalState:
        """Begin an answer: read its pictures, or find them read; the text waits for `step`.

        Raises:
            PromptError: The prompt can't be put to this model.
            OutOfDeviceMemory: There is no room, perhaps only beside the answers under way.
        """
        self._check(prompt)
        generator = torch.Generator().manual_seed(options.seed)
        voice = self._voices.of(options)
        self._voices.speak(voice)
        with self._device_memory():
            composed = compose(self.model, self.processor, prompt, options, encoded)
            state = LocalState(
                prompt=prompt,
                options=options,
                row=None,
                content=composed.content,
                start=composed.start,
                text=composed.embeds[0, composed.start :].clone(),  # the pictures' needn't stay
                generator=generator,
                voice=voice,
                sensor_weights=composed.sensor_weights,
            )
            self._begin(state, composed.embeds)  # last: nobody would know of its row
        return state

    @torch.inference_mode()
    def step(self, states: Sequence[LocalState]) -> list[Step]:
        """One more token of each answer, greedy or drawn with the ask's own seed."""
        with self._device_memory():
            return self._writer.step(states) if states else []

    def extend(self, state: LocalState, embeddings: Tensor) -> None:
        """Let the model read embeddings (1, T, D) after what it has written, at the next step."""
        state.said += list(embeddings[0])
        state.logits = None

    @torch.inference_mode()
    def segment(self, states: Sequence[LocalState]) -> list[tuple[Found, ...]]:
        """Of each answer the masks of every [SEG] written.

        An object of a series of frames is found on each; its frames follow each other.

        The state of a mark is the one at which the model reads it. A mark that is the very last
        token (the answer was cut off there) is read here so that it has its mask; the published
        code drops it.
        """
        found: list[tuple[Found, ...]] = [()] * len(states)
        with self._device_memory():
            drawings = {}
            for number, state in enumerate(states):
                if state.prompt.views and self.processor.seg_token_id in state.ids:
                    drawings[number] = self._drawing(state)
            for voice in dict.fromkeys(states[number].voice for number in drawings):
                self._voices.speak(voice)
                own = [d for number, d in drawings.items() if states[number].voice is voice]
                self._drawer.draw(own)
            for number, drawing in drawings.items():
                found[number] = self._drawer.found(drawing)
        for number, drawing in drawings.items():
            states[number].sam_encodes += drawing.sam_encodes
        return found

    @torch.inference_mode()
    def release(self, state: LocalState) -> None:
        """Keep what was read for the next question on these views, and free its row."""
        if (row := state.row) is None:
            return
        state.row = None
        try:
            if state.prompt.views:
                content = np.concatenate([state.content, state.ids])[: row.length]
                state.voice.readings.keep(row, content, state.pictures)
        finally:
            state.voice.slots.close(row)

    def abandon(self) -> None:
        """Forget every answer under way, and rows that nobody got to know of."""
        self._voices.clear()
        self.cache.recount()

    # --- adapters ---------------------------------------------------------------------------

    def read_adapter(self, folder: Path) -> Files:
        """Check the folder of an adapter and read it; any thread may call this.

        Raises:
            EarthMindError: It can't be used with this model; see `tuned.read_adapter`.
            OutOfDeviceMemory: With it no pair as large as the model takes would fit.
        """
        files = read_adapter(folder, self.model, self._capabilities.weight_hash)
        if files.nbytes + self._footprint.pair > self._capacity:
            raise OutOfDeviceMemory(
                f"The adapter {folder} does not fit beside the model on {self._device}.",
                found=f"{files.nbytes >> 20} MiB needed, {self._capacity >> 20} MiB for all asks",
                change="drop another adapter, or load a merged model in its place",
            )
        return files

    def adopt(self, files: Files) -> None:
        """Put an adapter on the device; if this fails, nothing has changed.

        Raises:
            OutOfDeviceMemory: There is no room.
        """
        self.forget(files.hash)  # a worker may have died before anybody knew of it
        self._voices.speak(self._voices.base)
        with self._device_memory():
            tuned = Tuned.of(files, self.model)
        self._voices.add(tuned)
        self._capacity -= tuned.nbytes

    def forget(self, digest: str) -> None:
        """Free an adapter, and what was kept of its answers; none of them is under way."""
        tuned = self._voices.remove(digest)
        if tuned is not None:
            self._capacity += tuned.nbytes

    def needs(self, prompt: Prompt, options: Options) -> int:
        """Bytes that an ask takes at most while it is under way; any thread may ask.

        Its keys and values, its logits, and what its largest stage takes beyond the space that all
        share; see `memory`.

        Raises:
            PromptError: The prompt can't be put to this model.
            OutOfDeviceMemory: It can't fit even alone; says what would.
        """
        self._check(prompt)
        single = self.processor.arrange(prompt, options).single_tile
        layout = laid_out(self.processor, prompt, options, single=single)
        length, shapes = layout.input_ids.shape[1], [view.shape for view in prompt.views]
        longest = self.processor.config.text_config.max_position_embeddings
        if length > longest:
            raise PromptError(
                "The ask is longer than the model reads.",
                found=f"{length} tokens with pictures and history, at most {longest}",
                change="a shorter question, fewer pictures, or a new conversation",
            )
        tiles = [self.processor.tile_count(shape, single=single) for shape in shapes]
        nbytes = self._footprint.ask(
            tiles=max(tiles, default=0),
            tokens=length,
            positions=rounded(length + options.max_new_tokens),
            shape=max(shapes, key=math.prod, default=None),
        )
        if nbytes > self._capacity:
            blocks = len(layout.blocks)
            raise OutOfDeviceMemory(
                f"The ask does not fit into the memory of {self._device}, even alone.",
                found=f"{nbytes >> 20} MiB needed, {self._capacity >> 20} MiB for all asks",
                change=plan(
                    over=nbytes - self._capacity,
                    tiles=blocks,
                    per_tile=self.processor.config.tokens_per_tile * self._footprint.position,
                    dtype=self._capabilities.dtype,
                ),
            )
        return nbytes

    def capacity(self) -> int:
        """Bytes for all asks under way: those free when the model was loaded, less adapters."""
        return self._capacity

    def kept(self) -> Mapping[str, Kept]:
        """What is kept on the device for further questions, by kind; any thread may ask."""
        return self.cache.kept()

    def close(self) -> None:
        """Free the device: drops the model and all that was kept."""
        self.cache.clear()
        self._unheard()
        self._voices.rest()
        del self.model, self._voices, self._writer, self._drawer
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

    @property
    def _slots(self) -> Slots:
        """The rows of answers of the model as it was loaded."""
        return self._voices.base.slots

    # --- reading ----------------------------------------------------------------------------

    def _begin(self, state: LocalState, embeds: Tensor) -> None:
        """Give an answer a row that has read its pictures, now or before."""
        content, start = state.content, state.start
        slots, readings = state.voice.slots, state.voice.readings
        follow_up = bool(state.prompt.history)
        known, length = readings.find(content, start, follow_up=follow_up)
        room = len(content) + state.options.max_new_tokens
        under_way, others = self._voices.beside(state.voice)
        if under_way and others + slots.nbytes_with(room) > self._capacity:
            # Rows are as long as the longest, so that many short ones may not fit beside it.
            raise OutOfDeviceMemory(
                "There is no room for the ask beside those under way.",
                found=f"{under_way} answers",
                change="ask again when one of them has ended",
            )
        row = slots.open(room, known.layers if known else (), length)
        pictures = known.pictures if known else start
        try:
            if length < start:
                slots.read([row], embeds[:, :start], [start])
                row.length = start
                # At once: others may be asking about them too.
                readings.keep(row, content[:start], pictures)
        except BaseException:
            slots.close(row)
            raise
        state.row, state.pictures = row, pictures
        state.tokens_prefilled = len(content) - length

    def _drawing(self, state: LocalState) -> Drawing:
        """The marks of an answer and where they are drawn."""
        every = (*state.prompt.views, *state.prompt.follow)
        frames = self.processor.arrange(state.prompt, state.options).mask_views
        return Drawing(
            marks=self._writer.marked(state, self.processor.seg_token_id),
            frames={index: every[index] for index in frames},
            prompted=sum(index < len(state.prompt.views) for index in frames),
            scope=state.voice.features,
        )

    # --- the device -------------------------------------------------------------------------

    def _tensor(self, array: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(array).to(self._device, self._dtype)

    def _device_memory(self) -> AbstractContextManager[None]:
        return device_memory(self._device, self.cache.clear)
