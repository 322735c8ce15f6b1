"""The tokenizer of a checkpoint folder, whichever way it was saved."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from earthmind_lab.errors import ModelNotFound
from earthmind_lab.model.files import read_json

_NAMED = ("eos_token", "pad_token", "bos_token", "unk_token")
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Where Qwen2 cuts text before its merges apply; part of the tokenizer, not of its files."""


def read_tokenizer(folder: str | PathLike[Any]) -> PreTrainedTokenizerFast:
    """Read tokenizer.json, or vocab.json with merges.txt and added_tokens.json.

    Args:
        folder: Of a checkpoint.

    Raises:
        ModelNotFound: No tokenizer, or one that can't be read.
    """
    folder = Path(folder)
    settings = _json(folder / "tokenizer_config.json")
    special = _json(folder / "special_tokens_map.json")
    named = {name: _content(settings.get(name) or special.get(name)) for name in _NAMED}
    core = _core(folder, settings)
    known = {name: token for name, token in named.items() if token}
    return PreTrainedTokenizerFast(tokenizer_object=core, **known)


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> dict[str, str]:
    """Write tokenizer.json; returns what tokenizer_config.json should say."""
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    return {name: getattr(tokenizer, name) for name in _NAMED if getattr(tokenizer, name)}


def _core(folder: Path, settings: dict[str, Any]) -> Tokenizer:
    whole = folder / "tokenizer.json"
    try:
        if whole.is_file():
            return Tokenizer.from_str(whole.read_text(encoding="utf-8"))
        if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            return _from_parts(folder, settings)
    except ModelNotFound:
        raise
    except Exception as error:  # the Rust side raises plain Exception
        raise ModelNotFound(
            f"The tokenizer in {folder} can't be read.",
            found=str(error)[:200],
            change="copy the file once more",
        ) from error
    raise ModelNotFound(
        f"{folder} holds no tokenizer.",
        change="pass a folder with tokenizer.json, or with vocab.json and merges.txt",
    )


def _from_parts(folder: Path, settings: dict[str, Any]) -> Tokenizer:
    """Qwen2's byte-level BPE from the files of its older class."""
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    pairs = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    core = Tokenizer(
        models.BPE(
            vocab=read_json(folder / "vocab.json"),
            merges=[(pair[0], pair[1]) for pair in pairs if len(pair) == 2],
            fuse_unk=False,
            byte_fallback=False,
        )
    )
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    for number, token in _added(folder, settings):
        core.add_special_tokens([token]) if token.special else core.add_tokens([token])
        if core.token_to_id(token.content) != number:
            raise ModelNotFound(
                f"The tokenizer in {folder} has gaps.",
                found=f"{token.content} would be {core.token_to_id(token.content)}, not {number}",
                change="copy vocab.json and added_tokens.json of one checkpoint",
            )
    return core


def _added(folder: Path, settings: dict[str, Any]) -> list[tuple[int, AddedToken]]:
    """Tokens beside the vocabulary with their ids, in order."""
    listed = settings.get("added_tokens_decoder") or {}
    by_id = {int(number): about for number, about in listed.items()}
    for content, number in _json(folder / "added_tokens.json").items():
        by_id.setdefault(int(number), {"content": content, "special": True})
    flags = ("normalized", "lstrip", "rstrip", "single_word")
    return [
        (
            number,
            AddedToken(
                about["content"],
                special=bool(about.get("special", True)),
                **{flag: bool(about.get(flag, False)) for flag in flags},
            ),
        )
        for number, about in sorted(by_id.items())
    ]


def _json(path: Path) -> dict[str, Any]:
    found = read_json(path) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def _content(token: Any) -> str | None:
    """A token of the settings, written as text or as a dict."""
    if isinstance(token, dict):
        token = token.get("content")
    return str(token) if token else None
