"""A checkpoint of the published size and layout with random weights, for benchmarks.

    from tests.benchmarks.full_size import write_checkpoint

Written shard by shard, so that writing takes little memory; 7.9 GB of disk in bfloat16.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

PARITY = Path(__file__).parents[1] / "golden" / "parity"
SHARDS = 4


def listed() -> dict[str, object]:
    """Configuration and key list of the published 4B model."""
    found: dict[str, object] = json.loads(
        gzip.decompress((PARITY / "earthmind_4b_keys.json.gz").read_bytes())
    )
    return found


def write_checkpoint(
    folder: Path, *, seed: int = 0, dtype: torch.dtype = torch.bfloat16, shards: int = SHARDS
) -> int:
    """Write config.json, tokenizer.json and weights; returns the bytes of the weights.

    Raises:
        OSError: Not enough room on the disk.
    """
    spec = listed()
    shapes = {key: tuple(entry["shape"]) for key, entry in spec["keys"].items()}  # type: ignore[attr-defined]
    total = sum(_count(shape) for shape in shapes.values()) * dtype.itemsize
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < total * 1.1:
        raise OSError(f"{folder} has {free / 1e9:.1f} GB free; {total * 1.1 / 1e9:.1f} are needed")
    index: dict[str, str] = {}
    generator = torch.Generator().manual_seed(seed)
    for number, keys in enumerate(_shards(shapes, shards), start=1):
        name = f"model-{number:05}-of-{shards:05}.safetensors"
        tensors = {
            key: _weight(key, shapes[key], generator, dtype)
            for key in tqdm(keys, desc=f"writing {name}", leave=False)
        }
        save_file(tensors, folder / name, metadata={"format": "pt"})
        index |= dict.fromkeys(keys, name)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": index})
    )
    config = {**spec["config"], "model_type": "sa2va_chat"}  # type: ignore[dict-item]
    (folder / "config.json").write_text(json.dumps(config))
    _write_tokenizer(folder, int(config["llm_config"]["vocab_size"]))
    return total


def _count(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def _shards(shapes: dict[str, tuple[int, ...]], count: int) -> Iterator[list[str]]:
    """Keys in their order, in `count` parts of about equal size."""
    most = sum(map(_count, shapes.values())) / count
    part: list[str] = []
    size, left = 0, count
    for key, shape in shapes.items():
        if part and left > 1 and size + _count(shape) > most:
            yield part
            part, size, left = [], 0, left - 1
        part.append(key)
        size += _count(shape)
    yield part


def _weight(
    key: str, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype
) -> Tensor:
    """Sizes at which a deep net neither dies out nor overflows."""
    drawn = torch.randn(shape, generator=generator)
    if len(shape) == 1:
        return (drawn * 0.02 + ("norm" in key and key.endswith("weight"))).to(dtype)
    return (drawn * 0.7 / max(1, drawn[0].numel()) ** 0.5).to(dtype)


def _write_tokenizer(folder: Path, rows: int) -> None:
    """The tiny byte-level tokenizer, filled up to `rows` entries; control tokens come last."""
    words = json.loads((PARITY / "tiny_a.tokenizer.json").read_text())
    added, vocabulary = words["added_tokens"], words["model"]["vocab"]
    start = rows - len(added)
    vocabulary |= {f"\u0120unused{n}": n for n in range(len(vocabulary), start)}
    for place, token in enumerate(added):
        token["id"] = start + place
    (folder / "tokenizer.json").write_text(json.dumps(words))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    )
