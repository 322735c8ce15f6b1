"""What a training leaves: an adapter, a model with it merged in, the same as published.

The adapter's folder holds ``adapter_config.json`` and ``adapter_model.safetensors`` as peft writes
them (not with ``method: full``), ``parts.safetensors`` with the parts that were trained in full
under the model's own names, and ``earthmind.json``: which weights it belongs to.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

from earthmind_lab.errors import EngineError
from earthmind_lab.finetune import checkpoints
from earthmind_lab.finetune.building import canonical, is_adapter, no_bars

ADAPTER, PARTS, ABOUT = "adapter_model.safetensors", "parts.safetensors", "earthmind.json"
GATE = "query"
"""Of the June training; answering never applies it, so no model holds it."""


def save_adapter(
    folder: Path, step: Any, state: Mapping[str, Tensor], about: Mapping[str, Any]
) -> str:
    """Write what was trained.

    Args:
        folder: To write; replaced as a whole.
        step: The trained `EarthMindTraining`.
        state: Its trained weights by their names in it.
        about: For ``earthmind.json``: ``weights``, ``model``, ``fusion``, ``mask_source``, ...

    Returns:
        Its hash: SHA-256 of the two weight files.
    """
    draft = folder.with_name(f".draft-{folder.name}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    parts = {canonical(name): tensor for name, tensor in state.items() if not is_adapter(name)}
    language = step.model.language
    if hasattr(language, "peft_config"):
        import peft

        adapters = {n.removeprefix("model.language."): t for n, t in state.items() if is_adapter(n)}
        held = peft.get_peft_model_state_dict(
            language, state_dict=adapters, save_embedding_layers=False
        )
        checkpoints.save_weights(draft / ADAPTER, held)
        config = language.peft_config["default"]
        # Published with the adapter, so no path.
        config.base_model_name_or_path, config.inference_mode = Path(about["model"]).name, True
        config.save_pretrained(str(draft))
        config.inference_mode = False
    if parts:
        checkpoints.save_weights(draft / PARTS, parts)
    digest = adapter_hash(draft)
    checkpoints.write_json(draft / ABOUT, {**about, "hash": digest})
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    return digest


def adapter_hash(folder: Path) -> str:
    """SHA-256 of an adapter's weights."""
    digest = hashlib.sha256()
    for name in (ADAPTER, PARTS):
        if (folder / name).is_file():
            with (folder / name).open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def merge(
    adapter: str | PathLike[Any],
    target: str | PathLike[Any],
    *,
    model: str | PathLike[Any] | None = None,
    dtype: str | None = None,
    to: Literal["ours", "published"] = "ours",
) -> Path:
    """A whole model with an adapter in it, as `load_engine` opens it or as published.

    Args:
        adapter: Folder of an adapter.
        target: Folder to write; complete when this returns, untouched when it fails.
        model: The one it was trained on; default: as the adapter says.
        dtype: Of the written weights; default: that of the model.
        to: Layout; ``published`` needs a model that came from there.

    Returns:
        `target`.

    Raises:
        EngineError: The adapter is that of other weights, or the target isn't empty.
    """
    from earthmind_lab.engine.loading import weight_hash
    from earthmind_lab.model.convert import convert_checkpoint, copy_texts
    from earthmind_lab.model.files import check_folder
    from earthmind_lab.model.modeling import EarthMindForConditionalGeneration
    from earthmind_lab.model.processing import EarthMindProcessor
    from earthmind_lab.model.published import local_folder

    adapter, target = Path(adapter), Path(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise EngineError(
            f"The folder {target} is not empty.", change="a folder that doesn't exist yet"
        )
    about = checkpoints.read_json(adapter / ABOUT)
    folder = local_folder(model or about["model"])
    if (found := weight_hash(check_folder(folder))) != about["weights"]:
        raise EngineError(
            f"The adapter {adapter} was trained on other weights than those of {folder}.",
            found=f"{found[:12]}, not {about['weights'][:12]}",
            change="model= the one that it was trained on",
        )
    with no_bars():
        whole: Any = EarthMindForConditionalGeneration.from_pretrained(folder, dtype="auto")
    kind = whole.dtype if dtype is None else getattr(torch, dtype)
    apply(whole.float(), adapter)
    for name in ("fusion", "mask_source"):
        if about.get(name):
            setattr(whole.config, name, about[name])
    processor = EarthMindProcessor.from_pretrained(folder, whole.config)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        out = draft / "ours"
        with no_bars():
            whole.to(kind).save_pretrained(out)
        processor.save_pretrained(out)
        copy_texts(folder, out)
        if to == "published":
            out = convert_checkpoint(out, draft / "published", to="published")
        if target.exists():
            target.rmdir()
        out.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def apply(model: Any, adapter: Path) -> None:
    """Put an adapter into a model of float32, for good.

    Raises:
        EngineError: It is one of another architecture.
    """
    if (adapter / PARTS).is_file():
        parts = load_file(adapter / PARTS)
        parts.pop(GATE, None)
        own = dict(model.named_parameters())
        wanted = {name: tuple(own[name].shape) for name in parts if name in own}
        found = {name: tuple(tensor.shape) for name, tensor in parts.items()}
        checkpoints.check_shapes(adapter, found, wanted)
        with torch.no_grad():
            for name, tensor in parts.items():
                own[name].copy_(tensor)
    if (adapter / ADAPTER).is_file():
        import peft

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft reads a name that transformers has renamed
            language = peft.PeftModel.from_pretrained(model.language, str(adapter))
        model.language = language.merge_and_unload()
