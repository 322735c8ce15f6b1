"""Names, folders and addresses to engines: one per (model, revision, device, dtype) or server."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from earthmind_lab.engine.base import Backend, Capabilities, StopRule
from earthmind_lab.engine.names import State, check_address, state_of, text_files
from earthmind_lab.engine.preflight import Preflight, check_bits, preflight
from earthmind_lab.engine.resident import ResidentEngine
from earthmind_lab.engine.room import room_of, unknown_room
from earthmind_lab.engine.weights import Weights
from earthmind_lab.errors import EngineError, EngineUnavailable, ModelNotFound
from earthmind_lab.exchange import Fusion
from earthmind_lab.model.files import check_folder, is_foreign, weight_files
from earthmind_lab.model.published import EMBEDDED, PublishedModel, local_folder, row_of
from earthmind_lab.settings import Settings

LOG = logging.getLogger(__name__)
if TYPE_CHECKING:
    from earthmind_lab.engine.remote import RemoteEngine

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A model as it was asked for, its files as they are now."""

    files: State
    """The weights."""
    texts: State
    """What says how to read them."""
    device: str
    dtype: str | None
    bits: int | None
    fusion: Fusion | None


@dataclass(frozen=True, kw_only=True)
class _Key:
    """What makes two engines the same one."""

    folder: Path
    weight_hash: str
    device: str
    dtype: str
    texts: State = ()
    bits: int | None = None
    """Of the numbers in the language part; None = as the dtype has."""
    fusion: Fusion | None = None
    """As asked for; None = as the folder says."""


_RESIDENT: dict[_Key, ResidentEngine] = {}
_CHOSEN: dict[_Asked, _Key] = {}
"""What was loaded when something was last asked for."""
_REMOTE: dict[tuple[str, str | None], RemoteEngine] = {}
_LOADING: dict[Path | tuple[str, str | None], threading.Lock] = {}
_HASHES: dict[tuple[str, int, int], str] = {}
_GUARD = threading.Lock()


def load_engine(
    name: str | Path = EMBEDDED,
    *,
    device: str | None = None,
    dtype: str | None = None,
    revision: str | None = None,
    fusion: Fusion | None = None,
    quantize: Literal[8] | None = None,
    token: str | None = None,
    shared: bool = False,
) -> ResidentEngine | RemoteEngine:
    """The engine of a model; the first call loads it, later calls return the same object.

    A model of more than 1 GiB is first compared with the free memory of the device. Where its
    default dtype doesn't fit, a smaller one is taken, then pictures are cut into fewer tiles
    (`capabilities.max_side_px` says what is left), and what was chosen is logged in one line.

    Args:
        name: ``nano`` (comes with the package), a folder holding config.json, tokenizer.json
            and safetensors weights, or a published checkpoint: ``EarthMind-4B``,
            ``EarthMind-4B-multi``. A folder of another image-text-to-text model of transformers
            answers too, without masks. Or the address of ``earthmind serve``:
            ``http://host:8000``, ``https://…`` or ``unix:///path/of/socket``; then nothing is
            loaded here, no torch is needed, and the server has chosen what the rest chooses.
        device: Of torch: ``cpu``, ``cuda``, ``cuda:1``; default: ``EARTHMIND_DEVICE``, else a
            GPU where there is one.
        dtype: ``float32``, ``bfloat16`` or ``float16``; default float32, but bfloat16 for
            weights over 1 GiB on a GPU, and on the CPU where float32 doesn't fit.
        revision: Of a folder: first digits of the weight hash that must be found there; of a
            published checkpoint: the commit to take. Default: any, and the table's.
        fusion: How the checkpoint was trained to join optical and SAR: ``concatenate`` or
            ``weighted``. The weights can't tell; default: what the table or config.json says.
            Each answer records it.
        quantize: 8 = the language part in 8 bits, through torchao: two thirds of the memory of
            bfloat16 for the 4B model. It changes answers, so it's never chosen unasked.
        token: What a server asks for; default: ``EARTHMIND_TOKEN``.
        shared: Load the model into a process of its own, which all of this user's kernels and
            scripts on this machine share, or join the one that has it: a restarted kernel finds
            the model, and what it has seen, where it was. It ends after an hour without an ask
            (``EARTHMIND_IDLE``), or by ``earthmind serve --stop``.

    Raises:
        ModelNotFound: Nothing under this name, an incomplete folder, or another revision.
        UnsafeCheckpoint: The weights are in a format that can run code.
        EngineUnavailable: torch (or torchao, to quantize) is not installed, there is no such
            device, no server answers there to this token, or the shared one didn't start.
        EngineError: The files in the folder do not make a model.
        OutOfDeviceMemory: Weights and one pair do not fit on the device; no weight was read.
    """
    check_address(name)
    if shared:
        from earthmind_lab.engine.shared import shared_engine

        options = {"device": device, "dtype": _dtype(dtype), "fusion": fusion, "quantize": quantize}
        return shared_engine(name, revision=revision, options=options)
    if "://" in str(name):
        chosen = {"device": device, "dtype": dtype, "fusion": fusion}
        return _remote(str(name), token, revision, [key for key, it in chosen.items() if it])
    folder, row = _folder(name, revision), row_of(str(name))
    if fusion not in (None, "concatenate", "weighted"):
        raise EngineError(f"There is no fusion {fusion!r}.", change="'concatenate' or 'weighted'")
    check_bits(quantize, folder)
    try:
        asked = _Asked(
            files=state_of(_files(folder)),
            texts=state_of(text_files(folder)),
            device=_device(device),
            dtype=_dtype(dtype),
            bits=quantize,
            fusion=fusion or (row.fusion if row else None),
        )
        with _GUARD:
            lock = _LOADING.setdefault(folder, threading.Lock())
        with lock:  # the same model waits for the first caller; other models load meanwhile
            return _resident(asked, folder, row, revision)
    except OSError as error:
        raise ModelNotFound(
            f"The folder {folder} can't be read.",
            found=str(error),
            change="the rights of its files, or copy the whole folder once more",
        ) from error


def open_backend(name: str | Path = EMBEDDED, *, device: str | None = None) -> Backend[Any, Any]:
    """The model of a name or folder by itself, as `load_engine` would open it.

    No engine is made or shared: who measures a model lets it go afterwards.

    Args:
        name: As `load_engine` takes it, but for addresses.
        device: Of torch.

    Raises:
        EarthMindError: As `load_engine`.
    """
    folder, row = _folder(name, None), row_of(str(name))
    asked = _Asked(
        files=state_of(_files(folder)),
        texts=state_of(text_files(folder)),
        device=_device(device),
        dtype=None,
        bits=None,
        fusion=row.fusion if row else None,
    )
    plan = _plan(asked, folder, row)
    if not plan.fits:
        raise plan.refused()
    key = _Key(
        folder=folder,
        weight_hash=weight_hash([file for file, *_ in asked.files]),
        texts=asked.texts,
        device=asked.device,
        dtype=plan.dtype,
        fusion=asked.fusion,
    )
    return _load(key, row, plan)


def _resident(
    asked: _Asked, folder: Path, row: PublishedModel | None, revision: str | None
) -> ResidentEngine:
    """The engine that was asked for: one that is there, else a fresh one if it fits.

    Raises:
        ModelNotFound: The folder holds another revision.
        OutOfDeviceMemory: It doesn't fit.
    """
    engine = _standing(asked)
    if engine is not None:
        _check_revision(revision, row, folder, engine.capabilities.weight_hash)
        return engine
    plan = _plan(asked, folder, row)
    asked_so = replace(asked, dtype=plan.dtype)
    engine = _standing(asked_so)
    if engine is None and not plan.fits:
        raise plan.refused()  # before the first weight is read
    digest = weight_hash([file for file, *_ in asked.files])
    _check_revision(revision, row, folder, digest)
    key = _Key(
        folder=folder,
        weight_hash=digest,
        texts=asked.texts,
        device=asked.device,
        dtype=plan.dtype,
        bits=asked.bits,
        fusion=asked.fusion,
    )
    engine = _RESIDENT.get(key)
    if engine is None or engine.closed:
        LOG.log(_level(plan), "%s", plan)
        engine = _RESIDENT[key] = ResidentEngine(_load(key, row, plan))
    _CHOSEN[asked] = _CHOSEN[asked_so] = key
    return engine


def _standing(asked: _Asked) -> ResidentEngine | None:
    """The engine that was loaded when this was asked for before, while it lives."""
    key = _CHOSEN.get(asked)
    engine = None if key is None else _RESIDENT.get(key)
    return None if engine is None or engine.closed else engine


def _plan(asked: _Asked, folder: Path, row: PublishedModel | None) -> Preflight:
    """What to load; a small model costs no look at the device."""
    name = row.alias if row else _shown(folder)
    weights = Weights.of(folder, [file for file, *_ in asked.files], name)
    look = unknown_room if weights.small else room_of
    return preflight(weights, asked.device, dtype=asked.dtype, bits=asked.bits, look=look)


def _level(plan: Preflight) -> int:
    """How loud to say what was chosen: not at all of small models."""
    if plan.weights.small:
        return logging.DEBUG
    return logging.WARNING if plan.compromised else logging.INFO


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


def _remote(
    url: str, token: str | None, revision: str | None, chosen: Sequence[str]
) -> RemoteEngine:
    """The engine of a server; one per address and token."""
    from earthmind_lab.engine.remote import RemoteEngine

    if chosen:
        raise EngineError(
            f"The server at {url} has its model loaded already.",
            found=", ".join(f"{name}=" for name in chosen),
            change="choose that where the server is started",
        )
    key = (url, token or Settings.from_env().token)
    with _GUARD:
        lock = _LOADING.setdefault(key, threading.Lock())
    with lock:
        engine = _REMOTE.get(key)
        if engine is None or engine.closed:
            engine = _REMOTE[key] = RemoteEngine(url, token=key[1])
    if revision is not None and not engine.capabilities.weight_hash.startswith(revision.lower()):
        raise ModelNotFound(
            f"The revision {revision!r} is not what the server at {url} has.",
            found=engine.revision,
            change="revision=None, or the server of that revision",
        )
    return engine


# --- the folder ---------------------------------------------------------------------------------


def _folder(name: str | Path, revision: str | None) -> Path:
    """The folder that a name stands for."""
    commit = revision if row_of(str(name)) is not None else None
    return local_folder(name, commit)


def _files(folder: Path) -> list[Path]:
    """The weight files of a complete, safe folder.

    Raises:
        ModelNotFound: A file is missing or cut off.
        UnsafeCheckpoint: The weights are in a format that can run code.
    """
    return weight_files(folder) if is_foreign(folder) else check_folder(folder)


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


def _dtype(asked: str | None) -> str | None:
    name = None if asked is None else str(asked).removeprefix("torch.")
    if name not in (None, *DTYPES):
        raise EngineError(f"There is no dtype {asked!r}.", change=", ".join(DTYPES))
    return name


def _check_revision(
    revision: str | None, row: PublishedModel | None, folder: Path, digest: str
) -> None:
    """The revision of a folder is the start of its weight hash."""
    if row is None and revision is not None and not digest.startswith(revision.lower()):
        raise ModelNotFound(
            f"The revision {revision!r} of {str(folder)!r} is not in this folder.",
            found=digest[:12],
            change="revision=None, or the folder of that revision",
        )


def _load(
    key: _Key, row: PublishedModel | None = None, plan: Preflight | None = None
) -> Backend[Any, Any]:
    """Read model and tokenizer of a checked folder, with as many tiles as planned."""
    if is_foreign(key.folder):
        return _load_other(key)
    from earthmind_lab.engine.local import LocalBackend
    from earthmind_lab.model.opening import open_model

    model, processor = open_model(
        key.folder, device=key.device, dtype=key.dtype, bits=key.bits, fusion=key.fusion
    )
    config = processor.config
    if row is not None:
        config.display_name, config.licence = row.alias, row.licence
    fewer = plan.squares if plan is not None and plan.lowered else None
    if fewer is not None:
        config.max_dynamic_patch = fewer
    return LocalBackend(model, processor, _capabilities(key, processor, lowered=fewer is not None))


def _load_other(key: _Key) -> Backend[Any, Any]:
    """Read a model of another kind."""
    from earthmind_lab.engine.adapters import open_adapter

    return open_adapter(key.folder, device=key.device, dtype=key.dtype, weight_hash=key.weight_hash)


def _shown(folder: Path) -> str:
    """What to call a model that says no name of its own."""
    return "earthmind-nano" if folder.name == EMBEDDED else folder.name


def _capabilities(key: _Key, processor: Any, *, lowered: bool = False) -> Capabilities:
    """What the folder says about its model."""
    config = processor.config
    side = math.isqrt(config.max_dynamic_patch) * config.image_size
    stated = getattr(config, "max_side_px", None)
    return Capabilities(
        name=getattr(config, "display_name", None) or _shown(key.folder),
        revision=key.weight_hash[:12],
        weight_hash=key.weight_hash,
        licence=config.licence,
        notice=config.notice,
        fusion=config.fusion,
        dtype=key.dtype if key.bits is None else f"{key.dtype}, language int{key.bits}",
        device=key.device,
        max_side_px=min(stated, side) if lowered and stated else stated or side,
        classes=tuple(getattr(config, "classes", None) or ()),
        composites=tuple(config.composites),
        tile_px=config.image_size,
        stop=StopRule.of(processor),
    )
