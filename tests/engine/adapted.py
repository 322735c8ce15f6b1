"""Adapters as a training leaves them, made by peft with random numbers, and their merged models."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors.torch import load_file, save_file

from earthmind_lab.engine.loading import weight_hash
from earthmind_lab.model import EarthMindForConditionalGeneration, EarthMindProcessor
from earthmind_lab.model.files import check_folder

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
FILES = ("adapter_model.safetensors", "parts.safetensors")


def opened(folder: Path) -> Any:
    return EarthMindForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)


def train(
    model: Path,
    out: Path,
    *,
    seed: int = 1,
    parts: tuple[str, ...] = (),
    low: bool = True,
    merged: Path | None = None,
    about: dict[str, Any] | None = None,
    **lora: Any,
) -> Path:
    """The folder of a run, and a whole model with its adapter in it.

    Args:
        model: Folder of the model.
        out: Of the run.
        seed: Of the numbers.
        parts: Starts of the names of weights that are trained in full.
        low: Whether there are low ranks, too.
        merged: Folder of the merged model to write.
        about: More for ``earthmind.json``.
        lora: For peft.
    """
    whole, folder = opened(model), out / "adapter"
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    own = {n: p for n, p in whole.named_parameters() if n.startswith(parts)} if parts else {}
    with torch.no_grad():
        for weight in own.values():
            weight.mul_(1 + 0.2 * torch.randn_like(weight)).add_(0.02 * torch.randn_like(weight))
    if own:
        held = {name: weight.detach().clone() for name, weight in own.items()}
        save_file({**held, "query": torch.ones(1)}, folder / "parts.safetensors")
    if low:
        settings = {"r": 4, "lora_alpha": 8, "target_modules": list(LINEAR), **lora}
        config = peft.LoraConfig(task_type="CAUSAL_LM", **settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft reads a name that transformers has renamed
            adapted = peft.get_peft_model(whole.language, config)
        with torch.no_grad():
            for name, weight in adapted.named_parameters():
                if "lora_magnitude" in name:
                    weight.mul_(1 + 0.3 * torch.rand_like(weight))
                elif "lora_" in name:
                    weight.copy_(0.2 * torch.randn_like(weight))
        adapted.save_pretrained(str(folder))
        whole.language = adapted.merge_and_unload()
    seal(folder, {"weights": weight_hash(check_folder(model)), "model": "tiny", **(about or {})})
    if merged is not None:
        whole.save_pretrained(merged)
        EarthMindProcessor.from_pretrained(model, whole.config).save_pretrained(merged)
    return out


def seal(folder: Path, about: dict[str, Any]) -> None:
    """Write what it is, with the hash of its files as they are now."""
    digest = hashlib.sha256()
    for name in FILES:
        if (folder / name).is_file():
            digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    full = {"hash": digest.hexdigest(), "fusion": None, "mask_source": None, **about}
    (folder / "earthmind.json").write_text(json.dumps(full))


def about(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "earthmind.json").read_text())


def rewrite(folder: Path, name: str, change: Any) -> None:
    """Change the tensors of a file; it is sealed anew."""
    tensors = load_file(folder / name)
    save_file({key: each.clone() for key, each in change(tensors).items()}, folder / name)
    kept = {key: value for key, value in about(folder).items() if key != "hash"}
    seal(folder, kept)
