"""Other models in EarthMind's seat: any image-text-to-text model of transformers, text only.

The model brings its own processor, chat template and way of putting pictures into a prompt. What
it can't do is said and never imitated: it draws no masks, takes no regions, and knows nothing of
sensors; a pair is two pictures with their names. Pictures go through it again with every question,
because each architecture places them in its own way; what an ask reads stays until it ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
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
from earthmind_lab.errors import EngineError, PromptError
from earthmind_lab.exchange import Found, Options, Prompt, View

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
    pending: bool = False
    """Whether the last of `ids` has not been read yet."""
    sam_encodes: int = 0
    sensor_weights: NDArray[np.float32] | None = None
    written: list[int] = field(default_factory=list)


class TransformersBackend:
    """A `Backend` over a model and processor of transformers.

    Args:
        model: From `AutoModelForImageTextToText`, on its device.
        processor: Of the same folder, with a chat template.
        capabilities: What to tell about it.
    """

    def __init__(self, model: Any, processor: Any, capabilities: Capabilities) -> None:
        self.model, self.processor, self._capabilities = model, processor, capabilities

    @property
    def capabilities(self) -> Capabilities:
        """What the model is."""
        return self._capabilities

    def encode(self, views: Sequence[View]) -> AdapterEncoded:
        """Nothing yet: the model encodes pictures as part of its prompt pass."""
        return AdapterEncoded(views_encoded=len(views))

    @torch.inference_mode()
    def prefill(self, prompt: Prompt, options: Options, encoded: AdapterEncoded) -> AdapterState:  # noqa: ARG002 - the protocol's form
        """Read pictures and text.

        Raises:
            PromptError: The prompt needs what such a model has not: regions or weighted fusion.
        """
        _check(prompt, options, self._capabilities.name)
        views = [view for view in prompt.views if view.modality != options.sensor_off]
        inputs = dict(
            self.processor.apply_chat_template(
                _messages(prompt, views),
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            ).to(self.model.device)
        )
        ids = inputs.pop("input_ids")
        for name, value in inputs.items():
            if isinstance(value, Tensor) and value.is_floating_point():
                inputs[name] = value.to(self.model.dtype)
        inputs["past_key_values"] = DynamicCache(config=self.model.config.get_text_config())
        state = AdapterState(
            inputs=inputs,
            ids=ids,
            logits=ids.new_zeros(0),
            temperature=options.temperature,
            generator=torch.Generator().manual_seed(options.seed),
            tokens_prefilled=ids.shape[1],
        )
        self._read(state, first=True)
        return state

    @torch.inference_mode()
    def step(self, states: Sequence[AdapterState]) -> list[Step]:
        """One more token of each answer."""
        return [self._step(state) for state in states]

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
        return [() for _ in states]

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

    def needs(self, prompt: Prompt, options: Options) -> int:  # noqa: ARG002 - as above
        """Not known: how such a model keeps what it reads is its own affair."""
        return 0

    def capacity(self) -> int:
        """Not known; a full device is found out when it happens."""
        return 0

    def kept(self) -> Mapping[str, Kept]:
        """Nothing."""
        return {}

    def close(self) -> None:
        """Free the device."""
        del self.model

    @property
    def _tokenizer(self) -> Any:
        return getattr(self.processor, "tokenizer", self.processor)

    def _step(self, state: AdapterState) -> Step:
        if state.pending:
            self._read(state, first=False)
        logprobs = torch.log_softmax(state.logits, dim=-1)
        if state.temperature > 0:
            # Drawn on the CPU: the same seed gives the same draws on every device.
            odds = torch.softmax(state.logits.cpu() / state.temperature, dim=-1)
            token = int(torch.multinomial(odds, 1, generator=state.generator))
        else:
            token = int(state.logits.argmax())
        state.ids = torch.cat([state.ids, state.ids.new_tensor([[token]])], dim=1)
        state.written.append(token)
        state.pending = True
        return Step(token_id=token, logprob=float(logprobs[token]))

    def _read(self, state: AdapterState, *, first: bool) -> None:
        """One pass, prepared by the model itself as its `generate` would."""
        mask = state.inputs.get("attention_mask")
        if mask is not None and mask.shape[1] < state.ids.shape[1]:
            grown = mask.new_ones((1, state.ids.shape[1] - mask.shape[1]))
            state.inputs["attention_mask"] = torch.cat([mask, grown], dim=1)
        prepared = self.model.prepare_inputs_for_generation(
            state.ids,
            next_sequence_length=None if first else 1,
            is_first_iteration=first,
            use_cache=True,
            **state.inputs,
        )
        output = self.model(**prepared, return_dict=True)
        state.logits = output.logits[0, -1].float()
        state.inputs["past_key_values"] = output.past_key_values
        state.pending = False


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
