"""The table of renamings: every upstream key once, every weight of ours filled."""

from __future__ import annotations

import gzip
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from earthmind_lab.errors import EngineError, ModelNotFound, UnsafeCheckpoint
from earthmind_lab.model import (
    EarthMindConfig,
    EarthMindForConditionalGeneration,
    EarthMindProcessor,
    convert_checkpoint,
    load_upstream,
)
from earthmind_lab.model.keymap import COPY, JOIN, MEMORY, SPLIT, convert_state, rename

GOLDEN = Path(__file__).parents[1] / "golden" / "parity"


def published(drop: tuple[str, ...] = ()) -> tuple[EarthMindConfig, dict[str, torch.Tensor]]:
    """The full-size model: configuration and upstream tensors without storage."""
    listed = json.loads(gzip.decompress((GOLDEN / "earthmind_4b_keys.json.gz").read_bytes()))
    tensors = {
        key: torch.empty(entry["shape"], device="meta")
        for key, entry in listed["keys"].items()
        if key not in drop
    }
    assert len(tensors) == 1686 - len(drop)
    return EarthMindConfig.from_upstream(listed["config"]), tensors


def shapes(state: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def meta_model(config: EarthMindConfig) -> EarthMindForConditionalGeneration:
    with torch.device("meta"):
        return EarthMindForConditionalGeneration(config)


def test_full_size_model_is_filled_exactly() -> None:
    config, upstream = published()
    state = convert_state(upstream.items(), config)
    assert shapes(state) == shapes(meta_model(config).state_dict())
    names = Counter(rename(key) for key in upstream)
    assert max(names.values()) == 1, "no two upstream keys share a name"
    for name in names:
        used = name in state or SPLIT.match(name) or JOIN.match(name)
        assert used, f"{name} was dropped"


def test_full_size_model_without_the_stray_parameter() -> None:
    config, upstream = published(drop=("local_query",))
    config.local_query_width = 0
    assert shapes(convert_state(upstream.items(), config)) == shapes(
        meta_model(config).state_dict()
    )


def test_full_size_model_without_memory() -> None:
    config, upstream = published()
    config.sam_memory = False
    state = convert_state(upstream.items(), config)
    assert shapes(state) == shapes(meta_model(config).state_dict())
    assert not any(MEMORY.match(name) for name in state)


def test_position_code_is_used_twice() -> None:
    config, upstream = published()
    state = convert_state(upstream.items(), config)
    for ours, second in COPY.items():
        assert state[ours].shape == state[second].shape


def upstream_folder(folder: Path) -> Path:
    """The tiny reference model as a published folder."""
    spec = json.loads((GOLDEN / "tiny_a.json").read_text())
    folder.mkdir()
    fields = {**spec["config"], "sam2": spec["sam2"], "model_type": "sa2va_chat"}
    (folder / "config.json").write_text(json.dumps(fields))
    shutil.copyfile(GOLDEN / "tiny_a.tokenizer.json", folder / "tokenizer.json")
    shutil.copyfile(GOLDEN / "tiny_a.model.safetensors", folder / "model.safetensors")
    return folder


def test_published_folder_loads_directly_and_converts(tmp_path: Path) -> None:
    source = upstream_folder(tmp_path / "published")
    direct = EarthMindForConditionalGeneration.from_pretrained(source)
    assert direct.local_query.shape == (2, 2048)
    raw = load_file(source / "model.safetensors")
    qkv = raw["vision_model.encoder.layers.2.attn.qkv.weight"]
    assert torch.equal(direct.vision.encoder.layer[2].attention.k_proj.weight, qkv[64:128])
    target = convert_checkpoint(source, tmp_path / "ours", fusion="weighted", licence="none")
    again = EarthMindForConditionalGeneration.from_pretrained(target)
    processor = EarthMindProcessor.from_pretrained(target)
    assert (again.config.fusion, processor.config.licence) == ("weighted", "none")
    before, after = direct.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_wrong_sizes_are_refused(tmp_path: Path) -> None:
    source = upstream_folder(tmp_path / "published")
    fields = json.loads((source / "config.json").read_text())
    fields["vision_config"]["num_hidden_layers"] = 2
    (source / "config.json").write_text(json.dumps(fields))
    with pytest.raises(EngineError, match="18 unexpected keys"):
        EarthMindForConditionalGeneration.from_pretrained(source)


def test_only_safetensors_are_read(tmp_path: Path) -> None:
    config, _ = published()
    torch.save({}, tmp_path / "model.pt")
    with pytest.raises(UnsafeCheckpoint, match="can run code"):
        load_upstream(tmp_path / "model.pt", config)
    with pytest.raises(UnsafeCheckpoint, match="can run code"):
        load_upstream(tmp_path, config)
    with pytest.raises(ModelNotFound, match="no checkpoint"):
        load_upstream(tmp_path / "nothing", config)
