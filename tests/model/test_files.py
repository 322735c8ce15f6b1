"""Folders of checkpoints: what is read, what is refused, and what the message says."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from earthmind_lab.errors import EngineError, ModelNotFound, UnsafeCheckpoint
from earthmind_lab.model import EarthMindForConditionalGeneration
from earthmind_lab.model.files import INDEX, check_folder, read_header, read_json, weight_files
from tests.model.test_convert import upstream_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return upstream_folder(tmp_path / "published")


def shard(folder: Path, count: int = 3) -> list[str]:
    """Cut the weights of a folder into shards with an index."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = [f"model-{n:05}-of-{count:05}.safetensors" for n in range(1, count + 1)]
    parts: list[dict[str, torch.Tensor]] = [{} for _ in names]
    for number, key in enumerate(sorted(state)):
        parts[number % count][key] = state[key]
    weight_map = {}
    for name, part in zip(names, parts, strict=True):
        save_file(part, folder / name)
        weight_map |= dict.fromkeys(part, name)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return names


def load(folder: Path) -> EarthMindForConditionalGeneration:
    return EarthMindForConditionalGeneration.from_pretrained(folder)


def test_shards_equal_one_file(folder: Path) -> None:
    whole = load(folder).state_dict()
    whole = {key: value.clone() for key, value in whole.items()}
    names = shard(folder)
    assert [file.name for file in check_folder(folder)] == names
    parts = load(folder).state_dict()
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_dtype_of_the_files_is_kept(folder: Path, dtype: torch.dtype) -> None:
    state = load_file(folder / "model.safetensors")
    save_file({k: v.to(dtype) for k, v in state.items()}, folder / "model.safetensors")
    model = EarthMindForConditionalGeneration.from_pretrained(folder, dtype="auto")
    assert {p.dtype for p in model.parameters()} == {dtype}


def test_without_the_stray_parameter(folder: Path) -> None:
    """The layout of the newer repository; the fusion is still what it was told to be."""
    state = load_file(folder / "model.safetensors")
    del state["local_query"]
    save_file(state, folder / "model.safetensors")
    model = EarthMindForConditionalGeneration.from_pretrained(folder, fusion="weighted")
    assert not hasattr(model, "local_query")
    assert model.config.fusion == "weighted"
    assert load(folder).config.fusion == "concatenate"


def test_a_shard_that_is_missing_is_named(folder: Path) -> None:
    names = shard(folder)
    (folder / names[1]).unlink()
    with pytest.raises(ModelNotFound, match=names[1]):
        load(folder)


@pytest.mark.parametrize("keep", [4, 200, 2_000_000])
def test_a_shard_that_is_cut_off_is_named(folder: Path, keep: int) -> None:
    names = shard(folder)
    file = folder / names[2]
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ModelNotFound, match=rf"{names[2]} are cut off"):
        load(folder)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("../model.safetensors", "no shard of this folder"),
        ("/etc/passwd.safetensors", "no shard of this folder"),
        ("pytorch_model-00001-of-00002.bin", "can run code"),
    ],
)
def test_an_index_that_points_elsewhere_is_refused(folder: Path, name: str, error: str) -> None:
    names = shard(folder)
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"] = {
        key: name if value == names[0] else value for key, value in index["weight_map"].items()
    }
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(UnsafeCheckpoint, match=error):
        load(folder)


@pytest.mark.parametrize("content", ["[]", "{", '{"weight_map": {}}', '{"weight_map": 3}'])
def test_a_broken_index_is_refused(folder: Path, content: str) -> None:
    shard(folder)
    (folder / INDEX).write_text(content)
    with pytest.raises(ModelNotFound, match="index"):
        load(folder)


def test_a_tensor_of_another_shape_is_named(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state["mlp1.1.weight"] = torch.zeros(3, 5)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(EngineError, match=r"projector\.1\.weight \(3, 5\) instead of \(64, 256\)"):
        load(folder)


@pytest.mark.parametrize(("change", "named"), [("drop", "1 missing"), ("add", "1 unexpected")])
def test_a_missing_or_extra_tensor_is_named(folder: Path, change: str, named: str) -> None:
    state = load_file(folder / "model.safetensors")
    if change == "drop":
        del state["text_hidden_fcs.0.bias"]
    else:
        state["text_hidden_fcs.7.bias"] = torch.zeros(2)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(EngineError, match=rf"{named} keys.*text_head\.\d\.bias"):
        load(folder)


def test_a_tensor_in_two_shards_is_refused(folder: Path) -> None:
    names = shard(folder)
    save_file(load_file(folder / names[0]) | load_file(folder / names[1]), folder / names[1])
    with pytest.raises(EngineError, match="twice"):
        load(folder)


def test_a_renamed_pickle_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(UnsafeCheckpoint, match="something else"):
        load(folder)


def test_remote_code_is_never_run(folder: Path) -> None:
    fields = json.loads((folder / "config.json").read_text())
    fields["auto_map"] = {"AutoModel": "modeling_evil.Evil"}
    (folder / "config.json").write_text(json.dumps(fields))
    (folder / "modeling_evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    load(folder)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("content", ["", "[" * 100_000, "null", "[1]", '{"llm_config": 3}'])
def test_a_broken_config_is_refused(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(EngineError):
        load(folder)


def test_huge_text_files_are_not_read(tmp_path: Path) -> None:
    with (tmp_path / "config.json").open("wb") as stream:
        stream.truncate(1 << 30)
    with pytest.raises(ModelNotFound, match="1073741824 bytes"):
        read_json(tmp_path / "config.json")


def test_header_lists_the_tensors(folder: Path) -> None:
    (file,) = weight_files(folder)
    state = load_file(file)
    header = read_header(file)
    assert {key: tuple(about["shape"]) for key, about in header.items()} == {
        key: tuple(value.shape) for key, value in state.items()
    }
