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

import earthmind_lab
from earthmind_lab.cli import main
from earthmind_lab.errors import EngineError, ModelNotFound, UnsafeCheckpoint
from earthmind_lab.model import (
    EarthMindConfig,
    EarthMindForConditionalGeneration,
    EarthMindProcessor,
    convert_checkpoint,
    load_upstream,
)
from earthmind_lab.model.convert import read_config
from earthmind_lab.model.keymap import (
    COPY,
    JOIN,
    MEMORY,
    SPLIT,
    convert_state,
    publish_state,
    published_name,
    rename,
)

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


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("shards", [1, 3])
def test_there_and_back_is_the_same_to_the_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    """published -> ours -> published, and once more."""
    source = upstream_folder(tmp_path / "published")
    if shards > 1:
        monkeypatch.setattr("earthmind_lab.model.convert.SHARD_BYTES", 5_000_000)
    first = convert_checkpoint(source, tmp_path / "first", to="published")
    ours = convert_checkpoint(first, tmp_path / "ours", fusion="weighted")
    back = convert_checkpoint(ours, tmp_path / "back", to="published")
    assert len(list(back.glob("*.safetensors"))) == shards
    assert contents(back) == contents(first)
    again = convert_checkpoint(back, tmp_path / "again", fusion="weighted")
    assert contents(again) == contents(ours)
    raw = load_file(source / "model.safetensors")
    tensors = {k: v for f in back.glob("*.safetensors") for k, v in load_file(f).items()}
    assert tensors.keys() == raw.keys()
    assert all(torch.equal(raw[key], tensors[key]) for key in raw)
    assert read_config(ours).fusion == "weighted"


def test_every_key_of_the_full_size_model_comes_back() -> None:
    config, upstream = published()
    there = convert_state(upstream.items(), config)
    back = publish_state(there)
    assert shapes(back) == shapes(upstream)
    assert [published_name(rename(key)) for key in upstream] == list(upstream)


def test_half_precision_by_wish(tmp_path: Path) -> None:
    source = upstream_folder(tmp_path / "published")
    for layout in ("ours", "published"):
        target = tmp_path / f"half-{layout}"
        half = convert_checkpoint(source, target, to=layout, dtype=torch.bfloat16)  # type: ignore[arg-type]
        dtypes = {v.dtype for f in half.glob("*.safetensors") for v in load_file(f).values()}
        assert dtypes == {torch.bfloat16}


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    source = upstream_folder(tmp_path / "published")
    before = sorted(tmp_path.iterdir())
    (source / "tokenizer.json").write_text("{")
    with pytest.raises(ModelNotFound, match="tokenizer"):
        convert_checkpoint(source, tmp_path / "ours")
    with pytest.raises(EngineError, match="no setting 'colour'"):
        convert_checkpoint(upstream_folder(tmp_path / "b"), tmp_path / "ours", colour="red")
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "b"])


def test_a_folder_in_use_is_not_overwritten(tmp_path: Path) -> None:
    source = upstream_folder(tmp_path / "published")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(EngineError, match="not empty"):
        convert_checkpoint(source, tmp_path / "full")
    (tmp_path / "empty").mkdir()
    assert convert_checkpoint(source, tmp_path / "empty") == tmp_path / "empty"
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine"


def test_settings_of_ours_have_no_place_in_the_published_layout(tmp_path: Path) -> None:
    source = upstream_folder(tmp_path / "published")
    with pytest.raises(EngineError, match="can't record"):
        convert_checkpoint(source, tmp_path / "x", to="published", fusion="weighted")


def test_a_model_of_another_form_stays_ours(tmp_path: Path) -> None:
    nano = Path(earthmind_lab.__file__).parent / "weights" / "nano"
    with pytest.raises(EngineError, match="doesn't come from a published checkpoint"):
        convert_checkpoint(nano, tmp_path / "x", to="published")
    with pytest.raises(EngineError, match="mask tower of another form"):
        publish_state({"sam.fpn_norms.0.weight": torch.zeros(1)})


class Hostile:
    """A pickle that runs code when it is opened the usual way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def as_bin(folder: Path, content: object) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin")


def test_bin_files_are_read_only_when_asked(tmp_path: Path) -> None:
    source = upstream_folder(tmp_path / "published")
    safe = convert_checkpoint(source, tmp_path / "safe")
    as_bin(source, load_file(source / "model.safetensors"))
    with pytest.raises(UnsafeCheckpoint, match="unsafe-bin"):
        convert_checkpoint(source, tmp_path / "x")
    converted = convert_checkpoint(source, tmp_path / "ours", unsafe_bin=True)
    first, second = (load_file(f / "model.safetensors") for f in (safe, converted))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("where", ["alone", "beside tensors"])
def test_a_hostile_bin_file_does_nothing(tmp_path: Path, where: str) -> None:
    source = upstream_folder(tmp_path / "published")
    evil = Hostile(tmp_path / "ran")
    state = load_file(source / "model.safetensors")
    as_bin(source, evil if where == "alone" else state | {"evil": evil})
    with pytest.raises(UnsafeCheckpoint, match=r"pytorch_model\.bin holds more than tensors"):
        convert_checkpoint(source, tmp_path / "ours", unsafe_bin=True)
    assert not (tmp_path / "ran").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["published"]


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = upstream_folder(tmp_path / "published")
    words = ["convert", str(source), str(tmp_path / "ours"), "--fusion", "weighted", "--json"]
    assert main(words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["folder"] == str(tmp_path / "ours")
    assert "model.safetensors" in printed["files"]
    assert main(words) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "not empty" in output.err
