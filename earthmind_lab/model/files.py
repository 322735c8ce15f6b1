"""The files of a checkpoint folder, checked before anything opens them; knows no torch.

A folder holds config.json, a tokenizer (tokenizer.json, or vocab.json with merges.txt) and
safetensors weights in one file or in shards that model.safetensors.index.json lists.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from earthmind_lab.errors import EngineError, ModelNotFound, UnsafeCheckpoint

UNSAFE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
INDEX = "model.safetensors.index.json"
LARGEST_JSON = 64 << 20
"""Bytes; the index of a 4B model takes 0.2 MB, its tokenizer 7 MB."""


def check_folder(folder: str | PathLike[Any]) -> list[Path]:
    """The weight files of a complete, safe folder of an EarthMind model.

    Raises:
        ModelNotFound: A file is missing, cut off, or of another architecture.
        UnsafeCheckpoint: The weights are in a format that can run code.
    """
    folder = Path(folder)
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    weights = [name for name in present if name.endswith(".safetensors")]
    unsafe = [name for name in sorted(present) if Path(name).suffix.lower() in UNSAFE_SUFFIXES]
    if unsafe and not weights:
        raise _unsafe(f"The weights in {folder}", ", ".join(unsafe[:3]))
    missing = [] if "config.json" in present else ["config.json"]
    missing += [] if has_tokenizer(folder) else ["tokenizer.json"]
    missing += [] if weights else ["*.safetensors"]
    if missing:
        raise ModelNotFound(
            f"The folder {folder} holds no complete model.",
            found=f"no {', no '.join(missing)}",
            change="copy the whole folder of the model, or install the package once more",
        )
    _check_config(folder / "config.json")
    return weight_files(folder)


def weight_files(source: str | PathLike[Any]) -> list[Path]:
    """The safetensors files of a checkpoint (a folder, or one file), checked to be such.

    Raises:
        ModelNotFound: Nothing there, or a shard is missing or cut off.
        UnsafeCheckpoint: Another format, whatever the file is called.
    """
    source = Path(source)
    if not source.exists():
        raise ModelNotFound(f"There is no checkpoint at {source}.")
    if source.is_file():
        if source.suffix.lower() in UNSAFE_SUFFIXES:
            raise _unsafe(f"The weights {str(source)!r}", source.name)
        files = [source]
    elif (source / INDEX).is_file():
        files = _indexed(source)
    else:
        files = sorted(source.glob("*.safetensors"))
    unsafe = [] if source.is_file() else [p.name for p in source.iterdir() if _is_unsafe(p)]
    if not files and unsafe:
        raise _unsafe(f"The weights in {source}", ", ".join(sorted(unsafe)[:3]))
    if not files:
        raise ModelNotFound(f"{source} holds no weights.", change="expected *.safetensors")
    for file in files:
        read_header(file)
    return files


def read_header(file: Path) -> dict[str, dict[str, Any]]:
    """Names, dtypes and shapes in a safetensors file.

    A file is eight bytes of header length (little endian), a JSON header, the data. So a cut-off
    download and a renamed pickle are told from weights without opening them.

    Returns:
        Tensor name -> ``dtype``, ``shape``, ``data_offsets``.

    Raises:
        ModelNotFound: The file is cut off.
        UnsafeCheckpoint: The file is something else.
    """
    with file.open("rb") as stream:
        start = stream.read(9)
        length, size = int.from_bytes(start[:8], "little"), file.stat().st_size
        if len(start) == 9 and start[8:9] != b"{":
            raise UnsafeCheckpoint(
                f"{file} is called safetensors but is something else: not a safetensors file.",
                found=f"it begins with {start[:4]!r}",
                change="save the weights as safetensors",
            )
        header = stream.read(length - 1) if 8 + length <= size else b""
    tensors: dict[str, dict[str, Any]] = {}
    end = size + 1
    try:
        tensors = json.loads(b"{" + header)
        tensors.pop("__metadata__", None)
        end = 8 + length + max((t["data_offsets"][1] for t in tensors.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass  # a header that can't be read is one more way of being cut off
    if end > size:
        raise ModelNotFound(
            f"The weights {file} are cut off.",
            found=f"{size} bytes",
            change="copy or download the file once more",
        )
    return tensors


def read_json(file: Path) -> Any:
    """Content of a JSON file of a checkpoint.

    Raises:
        ModelNotFound: Not there, too large, or no JSON.
    """
    try:
        size = file.stat().st_size
        if size > LARGEST_JSON:
            raise ModelNotFound(
                f"{file} can't be what its name says.",
                found=f"{size} bytes",
                change="copy the file once more",
            )
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelNotFound(
            f"{file.parent} holds no model.", change="pass a folder with config.json"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelNotFound(
            f"{file} can't be read.", found=str(error)[:200], change="copy the file once more"
        ) from error


def is_published(fields: Any) -> bool:
    """Whether the content of a config.json is in the published layout."""
    return isinstance(fields, dict) and "llm_config" in fields


def is_foreign(folder: Path) -> bool:
    """Whether a folder holds a whole model of another kind, with its own processor.

    Its config names an architecture of transformers; those without a processor of pictures, such
    as plain language models, don't count.
    """
    if not (folder / "config.json").is_file():
        return False
    config = read_json(folder / "config.json")
    pictures = (folder / "processor_config.json", folder / "preprocessor_config.json")
    kind = config.get("model_type") if isinstance(config, dict) else None
    return (
        isinstance(kind, str)
        and kind not in ("earthmind", "sa2va_chat")
        and not is_published(config)
        and any(path.is_file() for path in pictures)
    )


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer, in one file or in the older two."""
    older = (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    return older or (folder / "tokenizer.json").is_file()


def not_a_folder(file: Path) -> EngineError:
    """Why a file is no model: a pickle is told apart, since its remedy is another."""
    if _is_unsafe(file):
        return _unsafe(f"The weights {str(file)!r}", file.name)
    return ModelNotFound(
        f"{str(file)!r} is a file, not the folder of a model.", change=f"{file.parent}"
    )


def _is_unsafe(path: Path) -> bool:
    return path.suffix.lower() in UNSAFE_SUFFIXES


def _unsafe(what: str, found: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f"{what} are in a format that can run code when opened.",
        found=found,
        change="save them as safetensors on the machine that you trust them on, or "
        "earthmind convert --unsafe-bin",
    )


def _check_config(file: Path) -> None:
    """Refuse the config of another architecture: its missing sizes would become EarthMind-4B's."""
    config = read_json(file)
    ours = isinstance(config, dict) and ("text_config" in config or "llm_config" in config)
    if not ours or "vision_config" not in config:
        kind = config.get("model_type") if isinstance(config, dict) else None
        raise ModelNotFound(
            f"{file} does not describe an EarthMind model.",
            found=f"model_type {kind!r}" if kind else "no sizes of its parts",
            change="the folder of a converted EarthMind checkpoint",
        )


def _indexed(folder: Path) -> list[Path]:
    """The shards that the index lists; it may name nothing outside the folder."""
    index = read_json(folder / INDEX)
    listed = index.get("weight_map") if isinstance(index, dict) else None
    names: Sequence[Any] = (
        sorted(set(map(str, listed.values()))) if isinstance(listed, dict) else []
    )
    if not names:
        raise ModelNotFound(f"{folder / INDEX} lists no weights.", change="copy the file once more")
    for name in names:
        if Path(name).suffix.lower() in UNSAFE_SUFFIXES:
            raise _unsafe(f"The weights that {folder / INDEX} lists", name)
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise UnsafeCheckpoint(
                f"{folder / INDEX} names a file that is no shard of this folder.",
                found=repr(name),
                change="use the index that was published with the shards",
            )
        if not (folder / name).is_file():
            raise ModelNotFound(
                f"The folder {folder} lacks a part of its weights.",
                found=f"no {name}, which {INDEX} lists",
                change="download the missing file",
            )
    return [folder / name for name in names]
