"""Reading checkpoints in any layout, and writing them in either.

The published layout is what lies on the hub; ours is what transformers' own `save_pretrained`
writes. Both hold the same tensors under other names (`keymap`), so a checkpoint can go there and
back and is the same to the byte. Tensors are mapped from the files, never copied as a whole.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from earthmind_lab.errors import EngineError, ModelNotFound, UnsafeCheckpoint
from earthmind_lab.model import keymap
from earthmind_lab.model.config import EarthMindConfig
from earthmind_lab.model.files import (
    INDEX,
    UNSAFE_SUFFIXES,
    check_folder,
    is_published,
    read_header,
    read_json,
    weight_files,
)

SHARD_BYTES = 5_000_000_000
"""Largest file that is written."""
TEXT_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "generation_config.json",
)
"""What goes beside config and weights, unchanged."""
_ORIGIN = "published.json"
"""In our layout: the published config.json, to the letter, and which text files lay beside it."""
Layout = Literal["ours", "published"]


def is_upstream(folder: str | PathLike[Any]) -> bool:
    """Whether a folder holds a checkpoint in the published layout."""
    path = Path(folder) / "config.json"
    return path.is_file() and is_published(read_json(path))


def read_config(folder: str | PathLike[Any]) -> EarthMindConfig:
    """The configuration of a folder, in either layout.

    Raises:
        ModelNotFound: No config.json, or none of an EarthMind model.
    """
    fields = read_json(Path(folder) / "config.json")
    try:
        if is_published(fields):
            return EarthMindConfig.from_upstream(fields, sam2=fields.get("sam2"))
        config: EarthMindConfig = EarthMindConfig.from_dict(fields)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ModelNotFound(
            f"{Path(folder) / 'config.json'} does not describe an EarthMind model.",
            found=f"{type(error).__name__}: {error}"[:200],
            change="the unchanged config.json of the checkpoint",
        ) from error
    return config


def load_upstream(source: str | PathLike[Any], config: EarthMindConfig) -> dict[str, Tensor]:
    """Read a published checkpoint under our names.

    Args:
        source: A .safetensors file, or a folder of them.
        config: As for `keymap.convert_state`.

    Raises:
        ModelNotFound: Nothing there.
        UnsafeCheckpoint: The weights are in a format that can run code.
    """
    return keymap.convert_state(_tensors(weight_files(source)), config)


def read_upstream(folder: str | PathLike[Any]) -> tuple[EarthMindConfig, dict[str, Tensor]]:
    """Configuration and weights of a published checkpoint folder.

    The stray `local_query` is kept where it exists; its presence says nothing else.
    """
    config = read_config(folder)
    stray = [read_header(file).get("local_query") for file in weight_files(folder)]
    widths = [int(about["shape"][1]) for about in stray if about]
    config.local_query_width = widths[0] if widths else 0
    return config, load_upstream(folder, config)


def convert_checkpoint(
    source: str | PathLike[Any],
    target: str | PathLike[Any],
    *,
    to: Layout = "ours",
    dtype: torch.dtype | str | None = None,
    unsafe_bin: bool = False,
    **changes: Any,
) -> Path:
    """Write a checkpoint folder in our layout or in the published one.

    Args:
        source: Folder with config.json, a tokenizer and weights, in either layout.
        target: Folder to write; complete when this returns, untouched when it fails.
        to: ``ours`` or ``published``.
        dtype: Of the written weights, or its name; default: unchanged.
        unsafe_bin: Also read .bin files, with torch's weights-only loader in a process of its own.
        changes: Config fields to set, for example ``fusion="weighted"`` (to ours only: the
            published layout has no place for them).

    Returns:
        `target`.

    Raises:
        EngineError: The target is not empty, or the model doesn't fit into the layout.
        ModelNotFound: The source is incomplete.
        UnsafeCheckpoint: The weights are in a format that can run code.
    """
    source, target = Path(source), Path(target)
    kind: torch.dtype | None = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise EngineError(
            f"The folder {target} is not empty.", change="a folder that doesn't exist yet"
        )
    if to == "published" and changes:
        raise EngineError(
            "The published layout can't record settings of ours.",
            found=", ".join(sorted(changes)),
            change="leave them out, or to='ours'",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        read_from = _as_safetensors(source, draft / "bin") if unsafe_bin else source
        check_folder(read_from)
        out = draft / "out"
        out.mkdir()
        if to == "ours":
            _write_ours(read_from, out, kind, changes)
        else:
            _write_published(read_from, out, kind)
        if target.exists():
            target.rmdir()
        out.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def _write_ours(
    folder: Path, out: Path, dtype: torch.dtype | None, changes: dict[str, Any]
) -> None:
    from earthmind_lab.model.modeling import EarthMindForConditionalGeneration
    from earthmind_lab.model.processing import EarthMindProcessor

    model: Any = EarthMindForConditionalGeneration.from_pretrained(folder, dtype=dtype or "auto")
    for name, value in changes.items():
        if not hasattr(model.config, name):
            raise EngineError(f"There is no setting {name!r}.", change="a field of EarthMindConfig")
        setattr(model.config, name, value)
    processor = EarthMindProcessor.from_pretrained(folder, model.config)
    model.save_pretrained(out, max_shard_size=SHARD_BYTES)
    processor.save_pretrained(out)
    copy_texts(folder, out)


def copy_texts(folder: Path, out: Path) -> None:
    """What lies beside config and weights, into a folder of our layout."""
    for name in TEXT_FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
    if (origin := _origin(folder)) is not None:
        (out / _ORIGIN).write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")


def _write_published(folder: Path, out: Path, dtype: torch.dtype | None) -> None:
    origin = _origin(folder)
    if origin is None:
        raise EngineError(
            f"{folder} doesn't come from a published checkpoint.",
            found=f"no {_ORIGIN}",
            change="to='ours'",
        )
    state = dict(_tensors(weight_files(folder)))
    if not is_upstream(folder):
        state = keymap.publish_state(state)
    if dtype is not None:
        state = {key: tensor.to(dtype) for key, tensor in state.items()}
    _save(state, out)
    (out / "config.json").write_text(origin["config"], encoding="utf-8", newline="")
    for name in TEXT_FILES:
        if name in origin["files"] and (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)


def _origin(folder: Path) -> dict[str, Any] | None:
    """What a folder was like, or is, in the published layout; None = it never was."""
    if not is_upstream(folder):
        kept = folder / _ORIGIN
        return read_json(kept) if kept.is_file() else None
    with (folder / "config.json").open(encoding="utf-8", newline="") as stream:
        config = stream.read()
    files = [name for name in TEXT_FILES if (folder / name).is_file()]
    return {"config": config, "files": files}


def _save(state: dict[str, Tensor], out: Path) -> None:
    """Safetensors in one file, or in shards of at most `SHARD_BYTES` in the order of the keys."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for key in sorted(state):
        tensor = state[key]
        if shards[-1] and size + tensor.nbytes > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][key] = tensor
        size += tensor.nbytes
    if len(shards) == 1:
        save_file(shards[0], out / "model.safetensors", metadata={"format": "pt"})
        return
    index: dict[str, str] = {}
    for number, shard in enumerate(tqdm(shards, desc="writing", unit="shard"), start=1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_file(shard, out / name, metadata={"format": "pt"})
        index |= dict.fromkeys(shard, name)
    total = sum(tensor.nbytes for tensor in state.values())
    listed = {"metadata": {"total_size": total}, "weight_map": dict(sorted(index.items()))}
    (out / INDEX).write_text(json.dumps(listed, indent=2) + "\n")


def _as_safetensors(folder: Path, out: Path) -> Path:
    """A folder's .bin files as safetensors beside its text files.

    Raises:
        ModelNotFound: No .bin files.
        UnsafeCheckpoint: They hold more than tensors.
    """
    bins = sorted(p for p in folder.iterdir() if p.suffix.lower() in UNSAFE_SUFFIXES[:3])
    if not bins:
        raise ModelNotFound(f"{folder} holds no .bin files.", change="leave out --unsafe-bin")
    out.mkdir()
    for path in tqdm(bins, desc="reading", unit="file"):
        written = out / f"{path.stem}.safetensors"
        # A process of its own: whatever a hostile file manages to do, it does not do it here.
        command = [sys.executable, "-I", "-c", _CHILD, str(path), str(written)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise UnsafeCheckpoint(
                f"{path.name} holds more than tensors, or is damaged; it was not opened further.",
                found=(done.stderr.strip().splitlines() or ["no message"])[-1][:200],
                change="ask for the weights as safetensors",
            )
    for name in ("config.json", *TEXT_FILES):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
    return out


_CHILD = """
import sys, torch
from safetensors.torch import save_file
state = torch.load(sys.argv[1], weights_only=True, map_location="cpu", mmap=True)
state = state.get("state_dict", state) if isinstance(state, dict) else state
wrong = [k for k, v in state.items() if not isinstance(v, torch.Tensor)]
if wrong:
    sys.exit(f"no tensor under {wrong[0]!r}")
save_file({k: v.clone().contiguous() for k, v in state.items()}, sys.argv[2],
          metadata={"format": "pt"})
"""


def _tensors(files: Iterable[Path]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the files, mapped: read from disk when it is first used."""
    seen: dict[str, Path] = {}
    for path in files:
        with safe_open(path, "pt") as handle:
            for key in list(handle.keys()):
                if key in seen:
                    raise EngineError(
                        f"The weights hold {key} twice.",
                        found=f"{seen[key].name} and {path.name}",
                        change="the shards of one checkpoint only",
                    )
                seen[key] = path
                yield key, handle.get_tensor(key)
