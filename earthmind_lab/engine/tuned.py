"""The folder of an adapter, checked against the model that it shall speak with, and read.

A training leaves ``adapter_config.json`` and ``adapter_model.safetensors`` as peft writes them (low
ranks on linear maps of the language model), ``parts.safetensors`` with the parts that were trained
in full, under the model's own names, and ``earthmind.json``, which names the weights that all of
it belongs to. peft itself isn't needed to use them: of its settings only those are taken that are
understood here, and no tensor is left over.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from earthmind_lab.engine.device import require
from earthmind_lab.errors import EngineError, ModelNotFound, UnsafeCheckpoint
from earthmind_lab.exchange import Fusion, Modality, Tuning
from earthmind_lab.model.files import UNSAFE_SUFFIXES, read_header, read_json

ADAPTER, PARTS, ABOUT = "adapter_model.safetensors", "parts.safetensors", "earthmind.json"
CONFIG, INNER = "adapter_config.json", "adapter"
GATE = "query"
"""Of the June training; answering never applies it, so no model holds it."""
_NUMBERS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_LOW = re.compile(
    r"base_model\.model\.(?P<layer>.+)\.(?P<part>lora_A|lora_B|lora_magnitude_vector)(\.weight)?"
)
_ONLY: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "init_lora_weights": (True, False, "gaussian", None),  # others change the base weights
    **dict.fromkeys(
        (
            "rank_pattern", "alpha_pattern", "modules_to_save", "fan_in_fan_out", "lora_bias",
            "layer_replication", "trainable_token_indices", "target_parameters", "use_qalora",
            "alora_invocation_tokens", "use_bdlora", "monteclora_config", "arrow_config",
        ),
        (None, False, {}, [], ()),
    ),
}  # fmt: skip
"""Settings of peft that change what an adapter computes, and what they must be."""
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Low:
    """How low ranks are applied."""

    rank: int
    scale: float
    dora: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Files:
    """An adapter that fits the model: its tensors in main memory, as they were written."""

    name: str
    hash: str
    fusion: Fusion | None
    mask_source: Modality | None
    low: Low
    pairs: Mapping[str, Mapping[str, Tensor]]
    """Name of a linear map in the language model -> ``lora_A`` (r, in), ``lora_B`` (out, r) and,
    with DoRA, ``lora_magnitude_vector`` (out,)."""
    parts: Mapping[str, Tensor]
    """Name of a weight in the model -> itself."""
    nbytes: int
    """That it will take in the model's dtype."""

    def tuning(self, name: str) -> Tuning:
        """What to tell about it under this name."""
        return Tuning(name=name, hash=self.hash, fusion=self.fusion, mask_source=self.mask_source)


@dataclass(kw_only=True)
class _Found:
    """What the headers of the files promise."""

    low: Shapes = field(default_factory=dict)
    parts: Shapes = field(default_factory=dict)


def read_adapter(folder: Path, model: Any, weights: str) -> Files:
    """Read an adapter; the model is only looked at.

    The headers of the files are compared with the model before anything large is read.

    Args:
        folder: Of the adapter, or of the run that it was trained in.
        model: `EarthMindForConditionalGeneration`.
        weights: SHA-256 of the model's weight files.

    Raises:
        ModelNotFound: No adapter there, or a file is cut off.
        UnsafeCheckpoint: It is in a format that can run code.
        EngineError: It belongs to another model or another architecture, is of a kind that isn't
            known here, or was changed since it was written.
        OutOfDeviceMemory: Main memory has no room to read it.
    """
    try:
        return _read(_inner(folder), model, weights)
    except OSError as error:
        raise ModelNotFound(
            f"The adapter {folder} can't be read.", found=str(error), change="its folder, whole"
        ) from error


def _read(folder: Path, model: Any, weights: str) -> Files:
    about = _about(folder, weights)
    found = _Found()
    if (folder / PARTS).is_file():
        found.parts = _header(folder / PARTS)
        found.parts.pop(GATE, None)
    low = Low(rank=0, scale=0.0, dora=False)
    if (folder / ADAPTER).is_file():
        found.low = _header(folder / ADAPTER)
        low = _low(folder / CONFIG, read_json(folder / CONFIG))
    if not (found.low or found.parts):
        raise ModelNotFound(f"The adapter {folder} holds no weights.", change="the one as written")
    _check(folder, found.parts, _own_shapes(model, found.parts))
    _check(folder, found.low, _low_shapes(model.language, found.low, low))
    files = [folder / name for name in (ADAPTER, PARTS) if (folder / name).is_file()]
    require(sum(file.stat().st_size for file in files), what="The weights of the adapter")
    data = [file.read_bytes() for file in files]
    # As the training counts it: over the files' own hashes.
    each = b"".join(hashlib.sha256(one).digest() for one in data)
    if (digest := hashlib.sha256(each).hexdigest()) != about["hash"]:
        raise EngineError(
            f"The adapter {folder} was changed since it was written.",
            found=f"{digest[:12]}, not {about['hash'][:12]}",
            change="copy the whole folder once more",
        )
    tensors = _tensors(folder, data)
    pairs: dict[str, dict[str, Tensor]] = {}
    for name in found.low:
        layer, part = _place(name)
        pairs.setdefault(layer, {})[part] = tensors[name]
    numbers = sum(math.prod(shape) for shape in (*found.low.values(), *found.parts.values()))
    outer = folder.parent if folder.name == INNER else folder
    return Files(
        name=outer.resolve().name,
        hash=digest,
        fusion=about["fusion"],
        mask_source=about["mask_source"],
        low=low,
        pairs=pairs,
        parts={name: tensors[name] for name in found.parts},
        nbytes=numbers * int(model.dtype.itemsize),
    )


def _inner(folder: Path) -> Path:
    """The folder of an adapter, where that of its run was given.

    Raises:
        ModelNotFound: There is none.
        UnsafeCheckpoint: There is one in a format that can run code.
    """
    for each in (folder, folder / INNER):
        if (each / ABOUT).is_file():
            return each
    folders = [each for each in (folder, folder / INNER) if each.is_dir()]
    present = sorted(path.name for each in folders for path in each.iterdir())
    unsafe = [name for name in present if Path(name).suffix.lower() in UNSAFE_SUFFIXES]
    if unsafe and ADAPTER not in present:
        raise UnsafeCheckpoint(
            f"The weights in {folder} are in a format that can run code when opened.",
            found=", ".join(unsafe[:3]),
            change="save them as safetensors on the machine that you trust them on",
        )
    raise ModelNotFound(
        f"There is no adapter in {folder}.",
        found=f"no {ABOUT}, which says what it was trained on",
        change="the folder that the training wrote",
    )


def _about(folder: Path, weights: str) -> dict[str, Any]:
    """What the training wrote down of it.

    Raises:
        EngineError: It was trained on other weights, or the file says something else.
    """
    about = read_json(folder / ABOUT)
    fits = isinstance(about, dict) and all(
        isinstance(about.get(key), str) for key in ("weights", "hash")
    )
    about = {"fusion": None, "mask_source": None, **about} if fits else {}
    if (
        not fits
        or about["fusion"] not in (None, "concatenate", "weighted")
        or about["mask_source"] not in (None, "optical", "sar")
    ):
        raise EngineError(
            f"{folder / ABOUT} does not describe an adapter.", change="the one that was written"
        )
    if about["weights"] != weights:
        raise EngineError(
            f"The adapter {folder} was trained on other weights than those of this model.",
            found=f"{about['weights'][:12]}, not {weights[:12]}",
            change=f"the model that it was trained on ({str(about.get('model', '?'))[:100]})",
        )
    return about


def _header(file: Path) -> Shapes:
    """Shapes of the tensors in a file.

    Raises:
        EngineError: Its numbers are not those of weights.
    """
    header = read_header(file)
    strange = [name for name, each in header.items() if each["dtype"] not in _NUMBERS]
    if strange:
        raise EngineError(
            f"{file} holds other numbers than weights.",
            found=f"{strange[0][:100]}: {header[strange[0]]['dtype']}",
            change=f"weights in {', '.join(_NUMBERS)}",
        )
    return {name: tuple(each["shape"]) for name, each in header.items()}


def _low(file: Path, config: Any) -> Low:
    """How low ranks are applied.

    Raises:
        EngineError: In a way that isn't known here.
    """
    said = config if isinstance(config, dict) else {}
    wrong = [name for name, fits in _ONLY.items() if said.get(name) not in fits]
    rank, alpha = said.get("r"), said.get("lora_alpha")
    wrong += ["peft_type"] if "peft_type" not in said else []
    wrong += ["r"] if type(rank) is not int or rank < 1 else []
    real = type(alpha) in (int, float) and math.isfinite(alpha)  # type: ignore[arg-type]
    wrong += [] if real else ["lora_alpha"]
    wrong += [n for n in ("use_dora", "use_rslora") if type(said.get(n, False)) is not bool]
    if wrong:
        raise EngineError(
            f"{file} describes an adapter of a kind that can't be used here.",
            found=f"{wrong[0]}: {str(said.get(wrong[0]))[:100]}",
            change="LoRA or DoRA with one rank, or a merged model",
        )
    assert isinstance(rank, int)
    assert isinstance(alpha, int | float)
    root = said.get("use_rslora", False)
    return Low(
        rank=rank,
        scale=alpha / (math.sqrt(rank) if root else rank),
        dora=said.get("use_dora", False),
    )


def _place(name: str) -> tuple[str, str]:
    """Linear map and part that a tensor of peft belongs to; two times "" = to none."""
    found = _LOW.fullmatch(name)
    return (found["layer"], found["part"]) if found else ("", "")


def _own_shapes(model: nn.Module, found: Shapes) -> Shapes:
    """What the parts should be."""
    return {name: tuple(p.shape) for name, p in model.named_parameters() if name in found}


def _low_shapes(language: nn.Module, found: Shapes, low: Low) -> Shapes:
    """What the tensors of peft should be."""
    layers = dict(language.named_modules())
    names: dict[tuple[str, str], str] = {}
    for name in found:
        names.setdefault(_place(name), name)  # a second one for the same place is left over
    parts = ("lora_A", "lora_B", *(("lora_magnitude_vector",) if low.dora else ()))
    wanted: Shapes = {}
    for layer in {layer for layer, _ in names}:
        linear = layers.get(layer)
        if not layer or not isinstance(linear, nn.Linear):
            continue  # what is found for it is left over
        rows, columns = linear.out_features, linear.in_features
        shapes = dict(zip(parts, ((low.rank, columns), (rows, low.rank), (rows,)), strict=False))
        for part, shape in shapes.items():
            wanted[names.get((layer, part), f"{layer}.{part}")] = shape
    return wanted


def _check(folder: Path, found: Shapes, wanted: Shapes) -> None:
    """Refuse tensors that are not exactly those that the model has a place for.

    Raises:
        EngineError: The first that isn't.
    """
    for name in sorted({*found, *wanted}):
        if found.get(name) != wanted.get(name):
            there, here = (str(each.get(name, "nothing")) for each in (found, wanted))
            raise EngineError(
                f"The adapter {folder} is one of another architecture.",
                found=f"{name[:100]}: {there} there, {here} in this model",
                change="the model that it was trained on",
            )


def _tensors(folder: Path, data: list[bytes]) -> dict[str, Tensor]:
    """All tensors of the files, from memory: nobody can change these under a running model.

    Raises:
        EngineError: They can't be read, or hold something that is no number.
    """
    tensors: dict[str, Tensor] = {}
    try:
        for one in data:
            tensors |= load(one)
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise EngineError(
            f"The weights of the adapter {folder} can't be read.",
            found=str(error)[:200],
            change="copy the whole folder once more",
        ) from error
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise EngineError(
                f"The adapter {folder} holds values that are no numbers.",
                found=name[:100],
                change="an earlier checkpoint of its training, from before the loss was lost",
            )
    return tensors
