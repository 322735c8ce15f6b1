"""One tokenizer, saved in the older files and in the newer one: the same ids."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from earthmind_lab.errors import ModelNotFound
from earthmind_lab.model.tokenizer import QWEN2_SPLIT, read_tokenizer

WORDS = Path(__file__).parents[1] / "golden" / "parity" / "tiny_a.tokenizer.json"
TEXTS = (
    "Describe the scene.",
    "How many  ships\nare there?\r\n",
    "It's 1234 m² – naïve, e\u0301tang 水 🛰",
    "<|user|>\nSegment [SEG] in <p>it</p>.<|end|>\n",
    "   ",
    "",
)


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """vocab.json, merges.txt (as in InternVL2.5, without its version line), added_tokens.json."""
    words = json.loads(WORDS.read_text())
    (tmp_path / "vocab.json").write_text(json.dumps(words["model"]["vocab"]))
    merges = (m if isinstance(m, str) else " ".join(m) for m in words["model"]["merges"])
    (tmp_path / "merges.txt").write_text("\n".join(merges) + "\n")
    added = {token["content"]: token["id"] for token in words["added_tokens"]}
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    (tmp_path / "special_tokens_map.json").write_text(
        json.dumps({"eos_token": {"content": "<|im_end|>"}, "pad_token": "<|endoftext|>"})
    )
    return tmp_path


def whole() -> Tokenizer:
    """The same by hand, as Qwen2's class of transformers builds it."""
    words = json.loads(WORDS.read_text())
    merges = [
        tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in words["model"]["merges"]
    ]
    core = Tokenizer(models.BPE(vocab=words["model"]["vocab"], merges=merges))
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(t["content"], special=True) for t in words["added_tokens"]])
    return core


@pytest.mark.parametrize("text", TEXTS)
def test_older_files_give_the_ids_of_the_newer_one(
    older: Path, tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    newer = tmp_path_factory.mktemp("newer")
    whole().save(str(newer / "tokenizer.json"))
    first, second = read_tokenizer(older), read_tokenizer(newer)
    assert len(first) == len(second) == 437
    ids = first.encode(text, add_special_tokens=False)
    assert ids == second.encode(text, add_special_tokens=False)
    assert first.decode(ids) == second.decode(ids)


def test_older_files_cut_text_as_transformers_own_class_does(older: Path) -> None:
    from transformers import Qwen2Tokenizer

    library = Qwen2Tokenizer(
        vocab=json.loads((older / "vocab.json").read_text()),
        merges=[tuple(line.split(" ")) for line in (older / "merges.txt").read_text().splitlines()],
    )
    ours = read_tokenizer(older)
    for text in TEXTS:
        if "<" not in text:  # that one knows no control tokens of ours
            assert ours.encode(text, add_special_tokens=False) == library.encode(text)


def test_special_tokens_come_from_whichever_file_has_them(older: Path) -> None:
    found = read_tokenizer(older)
    assert (found.eos_token, found.pad_token) == ("<|im_end|>", "<|endoftext|>")
    (older / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_start|>"}))
    assert read_tokenizer(older).eos_token == "<|im_start|>"


def test_gaps_between_ids_are_refused(older: Path) -> None:
    added = json.loads((older / "added_tokens.json").read_text())
    added["[SEG]"] += 50
    (older / "added_tokens.json").write_text(json.dumps(added))
    with pytest.raises(ModelNotFound, match="gaps"):
        read_tokenizer(older)


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json"])
def test_broken_files_are_refused(older: Path, name: str) -> None:
    (older / name).write_text("{")
    with pytest.raises(ModelNotFound, match="can't be read"):
        read_tokenizer(older)


def test_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="holds no tokenizer"):
        read_tokenizer(tmp_path)
