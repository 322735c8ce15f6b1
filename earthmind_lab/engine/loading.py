"""Names and folders to resident engines: one engine per (model, revision, device, dtype)."""

from __future__ import annotations

import hashlib
import importlib.resources
import importlib.util
import json
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthmind_lab.engine.base import Capabilities, StopRule
from earthmind_lab.engine.resident import ResidentEngine
from earthmind_lab.errors import (
    EngineError,
    EngineUnavailable,
    ModelNotFound,
    UnsafeCheckpoint,
)
from earthmind_lab.settings import Settings

if TYPE_CHECKING:
    from earthmind_lab.engine.local import LocalBackend

EMBEDDED = "nano"
"""The name of the model that comes with the package."""
DTYPES = ("float32", "bfloat16", "float16")
UNSAFE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
HALF_PRECISION_FROM = 1 << 30
"""Bytes of weights from which a GPU takes bfloat16 unless asked; below, exact repetition is
worth more than the memory."""


@dataclass(frozen=True, kw_only=True)
class _Key:
    """What makes two engines the same one."""

    folder: Path
    weight_hash: str
    device: str
    dtype: str


_RESIDENT: dict[_Key, ResidentEngine] = {}
_LOADING: dict[_Key, threading.Lock] = {}
_HASHES: dict[tuple[str, int, int], str] = {}
_GUARD = threading.Lock()


def load_engine(
    name: str | Path = EMBEDDED,
    *,
    device: str | None = None,
    dtype: str | None = None,
    revision: str | None = None,
) -> ResidentEngine:
    """The engine of a model; the first call loads it, later calls return the same object.

    Args:
        name: ``nano`` (comes with the package) or a folder holding config.json, tokenizer.json
            and safetensors weights.
        device: Of torch: ``cpu``, ``cuda``, ``cuda:1``; default: ``EARTHMIND_DEVICE``, else a
            GPU where there is one.
        dtype: ``float32``, ``bfloat16`` or ``float16``; default float32, but bfloat16 for
            weights over 1 GiB on a GPU.
        revision: First digits of the weight hash that must be found there; default: any.

    Raises:
        ModelNotFound: Nothing under this name, an incomplete folder, or another revision.
        UnsafeCheckpoint: The weights are in a format that can run code.
        EngineUnavailable: torch is not installed, or there is no such device.
        EngineError: The files in the folder do not make a model.
        OutOfDeviceMemory: The weights do not fit on the device.
    """
    folder = _folder(name)
    try:
        files = _files(folder)
        digest = weight_hash(files)
    except OSError as error:
        raise ModelNotFound(
            f"The folder {folder} can't be read.",
            found=str(error),
            change="the rights of its files, or copy the whole folder once more",
        ) from error
    if revision is not None and not digest.startswith(revision.lower()):
        raise ModelNotFound(
            f"The revision {revision!r} of {str(name)!r} is not in this folder.",
            found=digest[:12],
            change="revision=None, or the folder of that revision",
        )
    device = _device(device)
    key = _Key(
        folder=folder,
        weight_hash=digest,
        device=device,
        dtype=_dtype(dtype, device, sum(file.stat().st_size for file in files)),
    )
    with _GUARD:
        lock = _LOADING.setdefault(key, threading.Lock())
    with lock:  # the same model waits for the first caller; other models load meanwhile
        engine = _RESIDENT.get(key)
        if engine is None or engine.closed:
            engine = ResidentEngine(_load(key))
            _RESIDENT[key] = engine
    return engine


def weight_hash(files: Sequence[Path]) -> str:
    """SHA-256 over the content of weight files, in order; remembered while a file is unchanged."""
    parts = []
    for file in files:
        about = file.stat()
        key = (str(file), about.st_size, about.st_mtime_ns)
        if key not in _HASHES:
            with file.open("rb") as stream:
                _HASHES[key] = hashlib.file_digest(stream, "sha256").hexdigest()
        parts.append(_HASHES[key])
    return parts[0] if len(parts) == 1 else hashlib.sha256("".join(parts).encode()).hexdigest()


# --- the folder ---------------------------------------------------------------------------------


def _folder(name: str | Path) -> Path:
    """The folder that a name stands for."""
    if str(name) == EMBEDDED:
        return Path(str(importlib.resources.files("earthmind_lab"))) / "weights" / EMBEDDED
    if "://" in str(name):
        raise ModelNotFound(
            f"The engine at {str(name)!r} can't be reached: this version has no remote engine.",
            change=f"{EMBEDDED!r}, or the folder of a model",
        )
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            return path.resolve()
        is_file = path.is_file()
    except (OSError, RuntimeError):  # too long for a name; a user who does not exist
        is_file = False
    if is_file:
        raise _no_folder(path)
    shown = str(name) if len(str(name)) <= 200 else f"{str(name)[:197]}..."
    raise ModelNotFound(
        f"There is no model {shown!r}.",
        found="neither a name this version knows nor a folder",
        change=f"{EMBEDDED!r}, or a folder holding a converted checkpoint "
        "(config.json, tokenizer.json, *.safetensors)",
    )


def _no_folder(file: Path) -> EngineError:
    """Why a file is no model: a pickle is told apart, since its remedy is another."""
    if file.suffix.lower() in UNSAFE_SUFFIXES:
        return _unsafe(f"The weights {str(file)!r}", file.name)
    return ModelNotFound(
        f"{str(file)!r} is a file, not the folder of a model.", change=f"{file.parent}"
    )


def _unsafe(what: str, found: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f"{what} are in a format that can run code when opened.",
        found=found,
        change="save them as safetensors on the machine that you trust them on",
    )


def _files(folder: Path) -> list[Path]:
    """The weight files of a complete, safe folder.

    Raises:
        ModelNotFound: A file is missing or cut off.
        UnsafeCheckpoint: The weights are in a format that can run code.
    """
    present = sorted(folder.iterdir()) if folder.is_dir() else []
    files = [file for file in present if file.suffix == ".safetensors"]
    unsafe = [file.name for file in present if file.suffix.lower() in UNSAFE_SUFFIXES]
    if unsafe and not files:
        raise _unsafe(f"The weights in {folder}", ", ".join(unsafe[:3]))
    names = {file.name for file in present}
    missing = [file for file in ("config.json", "tokenizer.json") if file not in names]
    missing += [] if files else ["*.safetensors"]
    if missing:
        raise ModelNotFound(
            f"The folder {folder} holds no complete model.",
            found=f"no {', no '.join(missing)}",
            change="copy the whole folder of the model, or install the package once more",
        )
    _check_config(folder / "config.json")
    for file in files:
        _check_header(file)
    return files


def _check_config(file: Path) -> None:
    """Refuse the config of another architecture: its missing sizes would become EarthMind-4B's."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelNotFound(
            f"{file} can't be read.", found=str(error), change="copy the file once more"
        ) from error
    ours = isinstance(config, dict) and ("text_config" in config or "llm_config" in config)
    if not ours or "vision_config" not in config:
        kind = config.get("model_type") if isinstance(config, dict) else None
        raise ModelNotFound(
            f"{file} does not describe an EarthMind model.",
            found=f"model_type {kind!r}" if kind else "no sizes of its parts",
            change="the folder of a converted EarthMind checkpoint",
        )


def _check_header(file: Path) -> None:
    """Tell a cut-off download and a renamed pickle from weights before anything opens them.

    A safetensors file is eight bytes of header length (little endian), a JSON header, the data.
    """
    with file.open("rb") as stream:
        start = stream.read(9)
        length, size = int.from_bytes(start[:8], "little"), file.stat().st_size
        if len(start) == 9 and start[8:9] != b"{":
            raise UnsafeCheckpoint(
                f"{file} is called safetensors but is something else.",
                found=f"it begins with {start[:4]!r}",
                change="save the weights as safetensors",
            )
        header = stream.read(length - 1) if 8 + length <= size else b""
    end = size + 1
    try:
        tensors = json.loads(b"{" + header)
        offsets = [v["data_offsets"][1] for k, v in tensors.items() if k != "__metadata__"]
        end = 8 + length + max(offsets, default=0)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass  # a header that can't be read is one more way of being cut off
    if end > size:
        raise ModelNotFound(
            f"The weights {file} are cut off.",
            found=f"{size} bytes",
            change="copy or download the file once more",
        )


# --- device and model ---------------------------------------------------------------------------


def _device(asked: str | None) -> str:
    """The device to use; the only thing asked of torch before the folder is opened."""
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise EngineUnavailable(
                "A model on this machine needs torch and transformers.",
                found=f"no {package}",
                change="pip install 'earthmind-lab[model]'",
            )
    from earthmind_lab.model.opening import choose_device

    return choose_device(asked or Settings.from_env().device)


def _dtype(asked: str | None, device: str, nbytes: int) -> str:
    if asked is None:
        return "bfloat16" if device != "cpu" and nbytes > HALF_PRECISION_FROM else "float32"
    name = str(asked).removeprefix("torch.")
    if name not in DTYPES:
        raise EngineError(f"There is no dtype {asked!r}.", change=", ".join(DTYPES))
    return name


def _load(key: _Key) -> LocalBackend:
    """Read model and tokenizer of a checked folder."""
    from earthmind_lab.engine.local import LocalBackend
    from earthmind_lab.model.opening import open_model

    model, processor = open_model(key.folder, device=key.device, dtype=key.dtype)
    return LocalBackend(model, processor, _capabilities(key, processor))


def _capabilities(key: _Key, processor: Any) -> Capabilities:
    """What the folder says about its model."""
    config = processor.config
    most = config.max_dynamic_patch
    named = "earthmind-nano" if key.folder.name == EMBEDDED else key.folder.name
    eos = processor.eos_token_id
    return Capabilities(
        name=getattr(config, "display_name", None) or named,
        revision=key.weight_hash[:12],
        weight_hash=key.weight_hash,
        licence=config.licence,
        notice=config.notice,
        fusion=config.fusion,
        dtype=key.dtype,
        device=key.device,
        max_side_px=getattr(config, "max_side_px", None) or math.isqrt(most) * config.image_size,
        classes=tuple(getattr(config, "classes", None) or ()),
        tile_px=config.image_size,
        stop=StopRule(
            strings=processor.stop_strings,
            ids=() if eos is None else (eos,),
            hidden=_hidden(processor),
        ),
    )


def _hidden(processor: Any) -> tuple[str, ...]:
    """Control tokens that no user should see; the object mark is handled on its own."""
    from earthmind_lab.model.text import SEG

    added = processor.tokenizer.added_tokens_encoder
    return tuple(sorted((token for token in added if token != SEG), key=len, reverse=True))
