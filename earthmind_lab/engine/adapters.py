"""Other models in EarthMind's seat: any image-text-to-text model of transformers, text only.

The model brings its own processor, chat template and way of putting pictures into a prompt. What
it can't do is said and never imitated: it draws no masks, takes no regions, and knows nothing of
sensors; a pair is two pictures with their names. Pictures go through it again with every question,
because each architecture places them in its own way; what an ask reads stays until it ends. For
the same reason answers under way are written one after the other, step by step.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor, DynamicCache

from earthmind_lab.engine.base import Capabilities, Kept, Step, StopRule
from earthmind_lab.engine.device import device_memory, free_memory
from earthmind_lab.engine.layers import heard_between
from earthmind_lab.engine.memory import divided
from earthmind_lab.engine.sampling import chosen
from earthmind_lab.errors import EngineError, OutOfDeviceMemory, PromptError
from earthmind_lab.exchange import Found, Options, Prompt, View

PICTURES = 24
"""What a vision tower holds at its peak in multiples of its input, about. By the widths of CLIP's
ViT-L it is 22, of Qwen2-VL 14, summed as in `model.memory.encode_bytes`."""

_SENSORS = {"optical": "Optical picture", "sar": "SAR picture"}


@dataclass(frozen=True, kw_only=True, eq=False)
class AdapterEncoded:
    """Views on their way to the model's own processor."""

    views_encoded: int


@dataclass(kw_only=True, eq=False)
class AdapterState:
    """An answer being written."""

    inputs: dict[str, Any]
    """What the model is handed at the next step, but for the ids."""
    ids: Tensor
    """(1, L) prompt and answer."""
    logits: Tensor
    """(vocabulary,) float32, of the next token."""
    temperature: float
    generator: torch.Generator
    tokens_prefilled: int
    read: int = 0
    """Positions of `ids` that have been read; 0 = the prompt has to be read, or read anew."""
    turned: list[Any] = field(default_factory=list)
    """Where the model counts on from, for models that keep that in themselves."""
    sam_encodes: int = 0
    sensor_weights: NDArray[np.float32] | None = None


class TransformersBackend:
    """A `Backend` over a model and processor of transformers.

    Args:
        model: From `AutoModelForImageTextToText`, on its device.
        processor: Of the same folder, with a chat template.
        capabilities: What to tell about it.
        free: Bytes of the device's memory beside the weights; default: what is free now.
    """

    def __init__(
        self, model: Any, processor: Any, capabilities: Capabilities, *, free: int | None = None
    ) -> None:
        self.model, self.processor, self._capabilities = model, processor, capabilities
        self._device: torch.device = model.device
        budget = divided(free_memory(self._device) if free is None else free, cache=0, workspace=0)
        self._capacity = budget.asks
        self._processing = threading.Lock()  # a tokenizer is not safe for several threads
        # Qwen's models keep where an answer counts on from in themselves, as if there were one.
        self._counters = [part for part in model.modules() if hasattr(part, "rope_deltas")]
        self._unheard: Callable[[], None] = lambda: None

    @property
    def capabilities(self) -> Capabilities:
        """What the model is."""
        return self._capabilities

    def listen(self, heed: Callable[[], None]) -> None:
        """From now on call `heed` between the layers of the model, as far as it calls them so."""
        self._unheard()
        self._unheard = heard_between(self.model, heed)

    def encode(self, views: Sequence[View], adapter: str | None = None) -> AdapterEncoded:  # noqa: ARG002  takes none
        """Nothing yet: the model encodes pictures as part of its prompt pass."""
        return AdapterEncoded(views_encoded=len(views))

    @torch.inference_mode()
    def prefill(self, prompt: Prompt, options: Options, encoded: AdapterEncoded) -> AdapterState:  # noqa: ARG002 - the protocol's form
        """Read pictures and text.

        Raises:
            PromptError: The prompt needs what such a model has not: regions or weighted fusion.
        """
        _check(prompt, options, self._capabilities.name)
        with self._device_memory():
            inputs = {
                name: value.to(self._device) if isinstance(value, Tensor) else value
                for name, value in self._inputs(prompt, options).items()
            }
            ids = inputs.pop("input_ids")
            for name, value in inputs.items():
                if isinstance(value, Tensor) and value.is_floating_point():
                    inputs[name] = value.to(self.model.dtype)
            state = AdapterState(
                inputs=inputs,
                ids=ids,
                logits=ids.new_zeros(0),
                temperature=options.temperature,
                generator=torch.Generator().manual_seed(options.seed),
                tokens_prefilled=ids.shape[1],
                turned=[None] * len(self._counters),
            )
            self._read(state)
        return state

    @torch.inference_mode()
    def step(self, states: Sequence[AdapterState]) -> list[Step]:
        """One more token of each answer; should one fail, none has taken a token."""
        with self._device_memory():
            for state in states:
                self._read(state)
            steps, generators = chosen(
                torch.stack([state.logits for state in states]),
                [state.temperature for state in states],
                [state.generator for state in states],
            )
            longer = [
                torch.cat([state.ids, state.ids.new_tensor([[step.token_id]])], dim=1)
                for state, step in zip(states, steps, strict=True)
            ]
        for state, ids, generator in zip(states, longer, generators, strict=True):
            state.ids, state.generator = ids, generator
        return steps

    def extend(self, state: AdapterState, embeddings: Any) -> None:  # noqa: ARG002 - as above
        """Not possible: where a foreign model counts positions is its own affair.

        Raises:
            EngineError: Always.
        """
        raise EngineError(
            f"{self._capabilities.name} can't read embeddings in the middle of its answer.",
            change="an EarthMind model",
        )

    def segment(self, states: Sequence[AdapterState]) -> list[tuple[Found, ...]]:
        """No masks."""
        return [()] * len(states)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of tokens, control tokens included."""
        text: str = self._tokenizer.decode(list(token_ids), skip_special_tokens=False)
        return text

    def seen_gsd(self, view: View) -> float | None:
        """The view's own: how far such a model shrinks a picture is not known here."""
        return view.gsd

    def pictures(self, views: Sequence[View]) -> tuple[tuple[NDArray[np.uint8], ...], ...]:
        """The views as they are handed over: what such a model's processor makes is its own."""
        return tuple((view.image,) for view in views)

    def release(self, state: AdapterState) -> None:
        """Drop what was read."""
        state.inputs.clear()

    def abandon(self) -> None:
        """Nothing to do: an answer's state is all there is of it."""

    def needs(self, prompt: Prompt, options: Options) -> int:
        """Bytes that an ask takes at most while it is under way; any thread may ask.

        Keys and values of prompt and answer, and an estimate of what reading it takes beside: that
        of `model.memory.read_bytes`, and `PICTURES` times the pictures. Stages share no space
        here.

        Raises:
            PromptError: The prompt needs what such a model has not.
            OutOfDeviceMemory: It can't fit even alone.
        """
        _check(prompt, options, self._capabilities.name)
        inputs = self._inputs(prompt, options)
        text = self.model.config.get_text_config()
        length = inputs["input_ids"].shape[1]
        heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        kept = 2 * text.num_hidden_layers * heads * width * (length + options.max_new_tokens)
        inner = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
        read = length * (6 * text.hidden_size + 3 * inner + length) + 4 * text.vocab_size
        shown = sum(
            value.numel()
            for name, value in inputs.items()
            if isinstance(value, Tensor) and name.startswith("pixel_values")
        )
        nbytes = int((kept + max(read, PICTURES * shown)) * self.model.dtype.itemsize)
        if nbytes > self._capacity:
            raise OutOfDeviceMemory(
                f"The ask does not fit into the memory of {self._device}, even alone.",
                found=f"{nbytes >> 20} MiB needed, {self._capacity >> 20} MiB for all asks",
                change="fewer or smaller views, a shorter prompt, fewer new tokens",
            )
        return nbytes

    def capacity(self) -> int:
        """Bytes for all asks under way, as they were free when the model was loaded."""
        return self._capacity

    def kept(self) -> Mapping[str, Kept]:
        """Nothing is kept from one question to the next."""
        return {}

    def close(self) -> None:
        """Free the device."""
        self._unheard()
        del self.model, self._counters
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def _tokenizer(self) -> Any:
        return getattr(self.processor, "tokenizer", self.processor)

    def _inputs(self, prompt: Prompt, options: Options) -> dict[str, Any]:
        """What the model's processor makes of a prompt, on the CPU."""
        views = [view for view in prompt.views if view.modality != options.sensor_off]
        with self._processing:
            return dict(
                self.processor.apply_chat_template(
                    _messages(prompt, views),
                    add_generation_prompt=True,
                    tokenize=True,
                    return_dict=True,
                    return_tensors="pt",
                )
            )

    def _read(self, state: AdapterState) -> None:
        """Whatever has not been read: the prompt, and after it what was written."""
        if not state.read:
            config = self.model.config.get_text_config()
            state.inputs["past_key_values"] = DynamicCache(config=config)
            self._pass(state, state.tokens_prefilled)
        if state.read < state.ids.shape[1]:
            self._pass(state, state.ids.shape[1])

    def _pass(self, state: AdapterState, until: int) -> None:
        """One pass, prepared by the model itself as its `generate` would."""
        # Should it fail, some layers have read more than others, and everything is read anew.
        read, state.read = state.read, 0
        inputs = dict(state.inputs)
        if (mask := inputs.get("attention_mask")) is not None:
            grown = mask.new_ones((1, until - mask.shape[1]))
            inputs["attention_mask"] = torch.cat([mask, grown], dim=1)
        for part, turned in zip(self._counters, state.turned, strict=True):
            part.rope_deltas = turned if read else None
        prepared = self.model.prepare_inputs_for_generation(
            state.ids[:, :until],
            next_sequence_length=until - read if read else None,
            is_first_iteration=not read,
            use_cache=True,
            **inputs,
        )
        output = self.model(**prepared, return_dict=True)
        state.logits = output.logits[0, -1].float()
        state.turned = [part.rope_deltas for part in self._counters]
        state.read = until

    def _device_memory(self) -> AbstractContextManager[None]:
        return device_memory(self._device, lambda: None)


def open_adapter(
    folder: str | Path, *, device: str = "cpu", dtype: str = "float32", weight_hash: str = ""
) -> TransformersBackend:
    """Load a model folder of transformers; no remote code, safetensors only.

    Args:
        folder: config.json, processor files and safetensors weights.
        device: Torch device.
        dtype: Name of a torch dtype.
        weight_hash: SHA-256 over the weight files; computed when empty.

    Raises:
        EngineError: The files make no image-text-to-text model.
    """
    folder = Path(folder)
    try:
        model = AutoModelForImageTextToText.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
        processor = AutoProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # whatever is wrong in the files, the user needs the folder's name
        raise EngineError(
            f"The files in {folder} make no model that takes pictures and text.",
            found=f"{type(error).__name__}: {error}".splitlines()[0],
            change="a folder of an image-text-to-text model of transformers, with its processor",
        ) from error
    if not getattr(processor, "chat_template", None):
        raise EngineError(
            f"The processor in {folder} has no chat template, so its prompts can't be written.",
            change="add chat_template.jinja of the published model",
        )
    digest = weight_hash or _digest(sorted(folder.glob("*.safetensors")))
    tokenizer = getattr(processor, "tokenizer", processor)
    ends = model.generation_config.eos_token_id
    ids = ends if isinstance(ends, list) else [tokenizer.eos_token_id if ends is None else ends]
    capabilities = Capabilities(
        name=folder.name,
        revision=digest[:12],
        weight_hash=digest,
        notice=f"{folder.name}: a general model in EarthMind's place; it draws no masks.",
        dtype=dtype,
        device=device,
        stop=StopRule(
            ids=tuple(i for i in ids if i is not None), hidden=tuple(tokenizer.all_special_tokens)
        ),
    )
    return TransformersBackend(model.eval().to(device), processor, capabilities)


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _messages(prompt: Prompt, views: Sequence[View]) -> list[dict[str, Any]]:
    """The conversation in the form of chat templates; pictures come with the first question."""
    shown: list[dict[str, Any]] = []
    for view in views:
        if len(views) > 1:
            shown.append({"type": "text", "text": f"{_SENSORS[view.modality]} ({view.name}): "})
        shown.append({"type": "image", "image": Image.fromarray(view.image)})
    messages = []
    for turn in prompt.history:
        asked = [*shown, {"type": "text", "text": turn.question}]
        messages.append({"role": "user", "content": asked})
        said = [{"type": "text", "text": turn.reply}]
        messages.append({"role": "assistant", "content": said})
        shown = []
    asked = [*shown, {"type": "text", "text": prompt.text}]
    return [*messages, {"role": "user", "content": asked}]


def _check(prompt: Prompt, options: Options, name: str) -> None:
    if prompt.regions:
        raise PromptError(
            f"{name} takes no regions.", change="ask about the whole view, or an EarthMind model"
        )
    if options.fusion == "weighted":
        raise PromptError(
            f"{name} can't fuse sensors by weight.", change="fusion=None, or an EarthMind model"
        )
